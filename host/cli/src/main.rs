//! `radon`: hosts, VMs and volumes from the command line, over XenAPI (JSON-RPC).
#![forbid(unsafe_code)]

mod arguments;
mod client;
mod commands;
mod http;
mod known;
mod names;
mod pin;
mod show;
mod task;

use arguments::{Arguments, Command};
use clap::{CommandFactory, Parser};
use std::path::Path;
use std::process::ExitCode;

/// What went wrong, for people to read.
type Failed = Box<dyn std::error::Error>;
/// Result of a command.
type Done = Result<(), Failed>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Hosts' answers are in it, and names that other users chose.
            eprintln!("radon: {}", show::plain(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Done {
    match &arguments.command {
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Arguments::command(), "radon", &mut std::io::stdout());
            Ok(())
        }
        Command::Man { folder } => man(folder),
        Command::Login => known::login(&arguments.reach),
        command => commands::run(arguments, command),
    }
}

/// A page for `radon` and for each of its commands.
fn man(folder: &Path) -> Done {
    std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    Ok(clap_mangen::generate_to(Arguments::command(), folder)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_makes_sense() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn pages_and_completions_are_made_for_every_command() {
        let folder = tempfile::tempdir().unwrap();
        man(folder.path()).unwrap();
        let page = std::fs::read_to_string(folder.path().join("radon-vm-start.1")).unwrap();
        assert!(page.contains("radon"), "{page}");
        let mut script = Vec::new();
        clap_complete::generate(clap_complete::Shell::Bash, &mut Arguments::command(), "radon", &mut script);
        assert!(String::from_utf8(script).unwrap().contains("radon__subcmd__vm__subcmd__start"));
    }
}
