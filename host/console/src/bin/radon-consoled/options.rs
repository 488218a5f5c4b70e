//! The command line: xenconsoled's, as far as it means something here, and our own.

use clap::{Parser, Subcommand, ValueEnum};
use radon_console::history::MOST;
use std::path::PathBuf;

/// Serves the consoles of a Xen host's guests.
///
/// Takes the place of xenconsoled: `xl console` works with it. Goes to the background when it is ready, unless told otherwise. What
/// guests say is kept, across their restarts and this daemon's.
#[derive(Clone, Debug, Parser)]
#[command(name = "radon-consoled", version)]
pub struct Options {
    /// Stay in the foreground, and log to standard error
    #[arg(short = 'i', long)]
    pub interactive: bool,
    /// Log more
    #[arg(short = 'v', long)]
    pub verbose: bool,
    /// What to copy into files: guests' output, the hypervisor's
    #[arg(long, value_enum, default_value_t = Log::None)]
    pub log: Log,
    /// Folder of these files
    #[arg(long, value_name = "DIR", default_value = "/var/log/xen/console")]
    pub log_dir: PathBuf,
    /// Write the daemon's process number to this file
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Folder of socket and lock
    #[arg(long, value_name = "DIR", default_value = "/run/radon")]
    pub run_dir: PathBuf,
    /// Folder of histories
    #[arg(long, value_name = "DIR", default_value = "/var/lib/radon/consoles")]
    pub history_dir: PathBuf,
    /// Bytes that are kept of each VM
    #[arg(long, value_name = "BYTES", default_value_t = MOST as u32, value_parser = clap::value_parser!(u32).range(4096..=64 << 20))]
    pub history_size: u32,
    /// In the background already
    #[arg(long, hide = true)]
    pub background: bool,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What is copied into files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Log {
    /// Nothing
    None,
    /// Guests' output: guest-NAME.log
    Guest,
    /// The hypervisor's: hypervisor.log
    Hv,
    /// Both
    All,
}

/// What is asked of a running daemon.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// See a console, its history first, and type; Ctrl-] leaves
    Attach {
        /// UUID, name or domain
        vm: String,
    },
    /// Print what a console said
    History {
        /// UUID, name or domain
        vm: String,
    },
    /// UUID, domain and name of each VM with a console
    List,
    /// Remove the history of a VM that is not running
    Forget {
        /// The VM
        uuid: String,
    },
}

impl Options {
    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("console.sock")
    }

    /// Whether guests' output is copied.
    pub fn logs_guests(&self) -> bool {
        matches!(self.log, Log::Guest | Log::All)
    }

    /// Whether the hypervisor's is.
    pub fn logs_hypervisor(&self) -> bool {
        matches!(self.log, Log::Hv | Log::All)
    }
}
