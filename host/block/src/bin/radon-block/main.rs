//! `radon-block`: serves guests' disks. Runs in dom0; `docs/block.md`.
#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use radon_block::device::Settings;
use radon_block::load::Load;
use radon_block::server::Server;
use radon_block::share::Shares;
use radon_linux::messages::Messages;
use radon_linux::service;
use radon_store::client::Xenstore;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

#[derive(Parser)]
#[command(version, about = "Guests' disks from files and block devices of dom0, in user space")]
struct Arguments {
    /// Folder for what outlives this process, but not the machine
    #[arg(long, default_value = "/run/radon-block", global = true)]
    folder: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve every disk below backend/rdisk in the store, until killed; a successor goes on where this one stopped
    Serve {
        /// Rings that a guest may use for one disk
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=16))]
        rings: u32,
        /// Pages of a ring at most, as a power of two
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=4))]
        ring_order: u32,
        /// Memory for data of each ring, in MiB
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
        buffer: u32,
        /// Read what clones have in common once for each of them
        #[arg(long)]
        no_share: bool,
        /// Log more
        #[arg(long, short)]
        verbose: bool,
    },
    /// What has been done for each connected disk
    List,
    /// Put a load on a block device, in a guest, and print how many nanoseconds it took. With --write, what it holds is lost
    Load {
        device: PathBuf,
        /// Bytes of a request: whole pages
        #[arg(long, default_value_t = 4096)]
        bytes: u32,
        /// Requests at a time
        #[arg(long, default_value_t = 1)]
        depth: u32,
        /// Requests in all
        #[arg(long, default_value_t = 1000)]
        requests: u32,
        /// Write instead of read
        #[arg(long)]
        write: bool,
    },
}

static MESSAGES: Messages = Messages::to_standard_error("radon-block");

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Serve { rings, ring_order, buffer, no_share, verbose } => {
            let _ = log::set_logger(&MESSAGES);
            log::set_max_level(if verbose { log::LevelFilter::Debug } else { log::LevelFilter::Info });
            let shares = (!no_share).then(|| Arc::new(Shares::default()));
            let buffer = (buffer as usize) << 20;
            serve(Settings { folder: arguments.folder, rings, ring_order, buffer, shares })
        }
        Command::List => list(&arguments.folder),
        Command::Load { device, bytes, depth, requests, write } => {
            let took = Load { bytes, depth, requests, write }.run(&device);
            took.map(|took| println!("{}", took.as_nanos())).map_err(|e| format!("{}: {e}", device.display()))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("radon-block: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(settings: Settings) -> Result<(), String> {
    let said = |e: std::io::Error| format!("{}: {e}", settings.folder.display());
    std::fs::create_dir_all(&settings.folder).map_err(said)?;
    let _lock = service::lock(&settings.folder.join("lock")).map_err(|e| e.to_string())?;
    let mut server = Server::new(settings);
    loop {
        match Xenstore::open() {
            Ok(mut store) => {
                log::info!("serving");
                if let Err(error) = server.follow(&mut store) {
                    log::warn!("{error}; trying again");
                }
            }
            Err(error) => log::warn!("{error}; trying again"),
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn list(folder: &Path) -> Result<(), String> {
    let entries =
        std::fs::read_dir(folder).map_err(|e| format!("{}: {e} (does it serve?)", folder.display()))?;
    let mut lines = Vec::new();
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.extension().is_some_and(|e| e == "counters") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            lines.push(format!("{name} {}", std::fs::read_to_string(&path).unwrap_or_default()));
        }
    }
    lines.sort();
    lines.iter().for_each(|line| println!("{line}"));
    Ok(())
}
