//! The commands of `radon-volume`. [`Command`] is a subcommand that another program can take in.

mod bytes;
mod copy;
mod serve;
mod show;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use radon_image::Format;

use crate::repository::Shrink;
use crate::{Repository, Sharing};

/// Why a command failed: for people.
pub type Error = Box<dyn std::error::Error>;

/// Thin volumes, snapshots and clones as files on XFS.
///
/// A volume is named by its number, or by its name if that is the only one of it. Exit status: 0 done; 1 failed, or `check` found
/// something; 2 wrong usage. Killed at any moment, nothing is left half done.
#[derive(Debug, Parser)]
#[command(name = "radon-volume", version)]
pub struct Options {
    /// The repository: a folder on XFS (or NFS 4.2)
    #[arg(short, long, env = "RADON_REPOSITORY", global = true, default_value = "/var/lib/radon/volumes")]
    pub repository: PathBuf,
    /// Write JSON, for programs
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a repository in a folder
    Init,
    /// List volumes and snapshots
    List,
    /// Show one, and the room it takes up
    Show {
        /// Which
        volume: String,
    },
    /// Show the repository's size and free space
    Info,
    /// Make an empty volume; it takes up no room until it is written
    Create {
        /// What to call it
        name: String,
        /// Bytes, or with K, M, G, T (1024 each)
        #[arg(value_parser = bytes::parse)]
        size: u64,
    },
    /// Keep a volume's present state under a name
    Snapshot {
        /// Which
        volume: String,
        /// What to call the snapshot
        name: String,
    },
    /// Make a volume with the content of a volume or snapshot
    Clone {
        /// Which
        volume: String,
        /// What to call the new volume
        name: String,
    },
    /// Change a volume's size
    Resize {
        /// Which
        volume: String,
        /// Bytes, or with K, M, G, T
        #[arg(value_parser = bytes::parse)]
        size: u64,
        /// It may become smaller: what is beyond is lost
        #[arg(long)]
        shrink: bool,
    },
    /// Give a volume another name
    Rename {
        /// Which
        volume: String,
        /// The new name
        name: String,
    },
    /// Delete volumes or snapshots; nothing else depends on them
    Delete {
        /// Which
        #[arg(required = true)]
        volumes: Vec<String>,
    },
    /// Make a volume of a disk image
    Import {
        /// What to call it
        name: String,
        /// The image; `-` reads standard input (VHD or raw)
        file: PathBuf,
        /// raw, vhd, vhd-fixed or qcow2; if not given, what the image appears to be
        #[arg(short, long)]
        format: Option<Format>,
    },
    /// Write a volume's present state as a disk image
    Export {
        /// Which
        volume: String,
        /// The image; `-` writes standard output
        file: PathBuf,
        /// raw, vhd (dynamic), vhd-fixed or qcow2; if not given, by the file's extension
        #[arg(short, long)]
        format: Option<Format>,
        /// The file may be there already
        #[arg(long)]
        force: bool,
    },
    /// List the ranges of bytes that changed since a snapshot (or all that hold data)
    Changed {
        /// Which
        volume: String,
        /// The older state
        #[arg(long)]
        since: Option<String>,
    },
    /// Serve volumes as network block devices (NBD), unencrypted; volumes in their present state and read-only, if not said otherwise
    Nbd(serve::Args),
    /// Compare the database with the files
    Check,
}

/// Carries out a command.
pub fn run(options: &Options) -> Result<ExitCode, Error> {
    let dir = &options.repository;
    if let Command::Init = options.command {
        Repository::init(dir)?;
        if !options.json {
            println!("{} is a repository now", dir.display());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let repository = Repository::open(dir, Sharing::Turns)?;
    let show = show::Show { json: options.json };
    let long = matches!(options.command, Command::Import { .. } | Command::Export { .. } | Command::Nbd(_));
    let kept = (!long).then(|| repository.keep());
    match &options.command {
        Command::Init => {}
        Command::List => show.list(&repository)?,
        Command::Show { volume } => show.one(&repository, &repository.find(volume)?)?,
        Command::Info => show.info(dir, &repository)?,
        Command::Create { name, size } => show.made(&repository.create(name, *size)?)?,
        Command::Snapshot { volume, name } => {
            show.made(&repository.snapshot(repository.find(volume)?.id, name)?)?;
        }
        Command::Clone { volume, name } => {
            show.made(&repository.clone_volume(repository.find(volume)?.id, name)?)?;
        }
        Command::Resize { volume, size, shrink } => {
            let shrink = if *shrink { Shrink::Yes } else { Shrink::No };
            show.made(&repository.resize(repository.find(volume)?.id, *size, shrink)?)?;
        }
        Command::Rename { volume, name } => {
            show.made(&repository.rename(repository.find(volume)?.id, name)?)?;
        }
        Command::Delete { volumes } => {
            for volume in volumes {
                repository.delete(repository.find(volume)?.id)?;
            }
        }
        Command::Import { name, file, format } => {
            show.made(&copy::import(&repository, name, file, *format, &options_bar(options))?)?;
        }
        Command::Export { volume, file, format, force } => {
            let overwrite = if *force { copy::Overwrite::Yes } else { copy::Overwrite::No };
            let volume = repository.find(volume)?;
            copy::export(&repository, &volume, file, *format, overwrite, &options_bar(options))?;
        }
        Command::Changed { volume, since } => {
            let since = since.as_deref().map(|s| repository.find(s)).transpose()?;
            let volume = repository.find(volume)?;
            show.ranges(&repository.changed(since.map(|s| s.id), volume.id)?)?;
        }
        Command::Nbd(args) => serve::run(&repository, args, options.json)?,
        Command::Check => return check(&repository, &show, dir),
    }
    drop(kept);
    Ok(ExitCode::SUCCESS)
}

/// A bar on the terminal, if standard error is one and nobody wants JSON.
fn options_bar(options: &Options) -> indicatif::ProgressBar {
    if options.json { indicatif::ProgressBar::hidden() } else { copy::bar() }
}

fn check(repository: &Repository, show: &show::Show, dir: &Path) -> Result<ExitCode, Error> {
    let wrong = repository.check()?;
    show.problems(dir, &wrong)?;
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
