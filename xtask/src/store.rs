//! Our store's daemon, built to run anywhere: linked statically, so that any dom0 takes it.

use crate::{paths, setup, shell};
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use std::path::PathBuf;
use std::process::Command;

/// Which store dom0 runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Store {
    /// Debian's xenstored, in C.
    Xenstored,
    /// Ours.
    Radon,
}

impl Store {
    /// Its name on the command line, dom0's kernel's included.
    pub fn name(self) -> &'static str {
        match self {
            Self::Xenstored => "xenstored",
            Self::Radon => "radon",
        }
    }
}

/// Where dom0 finds it.
pub const PATH: &str = "usr/lib/radon/radon-stored";

/// Builds `radon-stored` for dom0 and returns its path.
pub fn build() -> Result<PathBuf> {
    const TARGET: &str = "x86_64-unknown-linux-musl";
    setup::rust_target(TARGET)?;
    shell::loud(Command::new(env!("CARGO")).current_dir(paths::root()).args([
        "build",
        "--quiet",
        "--profile",
        "host",
        "-p",
        "radon-store",
        "--target",
        TARGET,
    ]))
    .context("the store does not build")?;
    let path = paths::target().join(TARGET).join("host/radon-stored");
    if !path.exists() {
        bail!("cargo built no program at {}", path.display());
    }
    Ok(path)
}
