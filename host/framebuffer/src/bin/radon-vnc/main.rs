//! `radon-vnc`: serves guests' framebuffers. Runs in dom0; `docs/consoles.md`.
#![forbid(unsafe_code)]

mod forward;

use clap::{Parser, Subcommand};
use radon_console::client;
use radon_framebuffer::device::Devices;
use radon_framebuffer::machine::Xen;
use radon_framebuffer::server::{self, Screens};
use radon_linux::messages::Messages;
use radon_linux::service;
use radon_store::client::Xenstore;
use radon_xen::privcmd::Privcmd;
use std::error::Error;
use std::fs::DirBuilder;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Shows guests' framebuffers to VNC viewers, and gives guests what is typed there.
///
/// Goes to the background when it is ready, unless told otherwise. A successor goes on where this process was killed.
#[derive(Clone, Debug, Parser)]
#[command(name = "radon-vnc", version)]
struct Options {
    /// Stay in the foreground, and log to standard error
    #[arg(short = 'i', long)]
    interactive: bool,
    /// Log more
    #[arg(short = 'v', long)]
    verbose: bool,
    /// Write the daemon's process number to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Folder of socket and lock
    #[arg(long, value_name = "DIR", default_value = "/run/radon")]
    run_dir: PathBuf,
    /// In the background already
    #[arg(long, hide = true)]
    background: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// UUID, domain and name of each VM with a framebuffer
    List,
    /// Let viewers reach a VM's framebuffer at an address of this host, until ended. Whoever can connect there, sees it and types
    Forward {
        /// UUID, name or domain
        vm: String,
        /// The address
        #[arg(long, default_value = "127.0.0.1:5901")]
        listen: SocketAddr,
    },
}

fn main() -> ExitCode {
    let options = Options::parse();
    let socket = options.run_dir.join("framebuffer.sock");
    let result = match &options.command {
        None => serve(&options, &socket),
        Some(Command::List) => list(&socket),
        Some(Command::Forward { vm, listen }) => forward::run(&socket, vm, *listen),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("radon-vnc: {error}");
            ExitCode::FAILURE
        }
    }
}

fn list(socket: &std::path::Path) -> Result<()> {
    let mut stream = client::request(socket, "list")?;
    io::copy(&mut stream, &mut io::stdout().lock())?;
    Ok(())
}

fn serve(options: &Options, socket: &std::path::Path) -> Result<()> {
    if !options.interactive && !options.background {
        service::go_to_background("--background")?;
        return Ok(());
    }
    static MESSAGES: OnceLock<Messages> = OnceLock::new();
    let messages = MESSAGES.get_or_init(|| Messages::open("radon-vnc", options.interactive));
    let _ = log::set_logger(messages);
    log::set_max_level(if options.verbose { log::LevelFilter::Trace } else { log::LevelFilter::Warn });
    service::raise_file_limit();
    let folder = DirBuilder::new().recursive(true).mode(0o700).create(&options.run_dir);
    folder.map_err(|e| format!("{}: {e}", options.run_dir.display()))?;
    let _lock = service::lock(&options.run_dir.join("framebuffer.lock"))?;
    let privcmd =
        Privcmd::open().map_err(|e| format!("/dev/xen/privcmd: {e} (is this dom0, and are you root?)"))?;
    let privcmd = Arc::new(privcmd);
    let screens = Arc::new(Screens::default());
    let mut devices = Devices::new(Xen::open(privcmd.clone())?, privcmd, screens.clone());
    let listener = service::listen(socket)?;
    std::thread::Builder::new().name("server".into()).spawn(move || {
        if let Err(error) = server::run(&listener, &screens) {
            // Without viewers there is no use in going on; whoever supervises starts it again.
            log::error!("viewers cannot be taken: {error}");
            std::process::exit(1);
        }
    })?;
    service::ready(options.pid_file.as_deref(), options.background)?;
    let mut told = String::new();
    loop {
        let ended = Xenstore::open().and_then(|mut store| devices.follow(&mut store));
        if let Err(error) = ended.map_err(|e| e.to_string()) {
            if error != told {
                log::warn!("{error}; trying again");
            }
            told = error;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_makes_sense() {
        <super::Options as clap::CommandFactory>::command().debug_assert();
    }
}
