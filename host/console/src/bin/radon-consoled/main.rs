//! `radon-consoled`: serves guests' consoles. See `docs/consoles.md`.

#![forbid(unsafe_code)]

mod attach;
mod options;
mod start;

use clap::Parser;
use options::{Command, Options};
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = Options::parse();
    let socket = options.socket();
    let result = match &options.command {
        None => start::run(&options),
        Some(Command::Attach { vm }) => attach::attach(&socket, vm),
        Some(Command::History { vm }) => attach::print(&socket, &format!("history {vm}")),
        Some(Command::List) => attach::print(&socket, "list"),
        Some(Command::Forget { uuid }) => attach::print(&socket, &format!("forget {uuid}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("radon-consoled: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_makes_sense() {
        <super::Options as clap::CommandFactory>::command().debug_assert();
    }
}
