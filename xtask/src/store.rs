//! Our store's daemon, built to run anywhere: linked statically, so that any dom0 takes it.

use crate::program;
use anyhow::Result;
use clap::ValueEnum;
use std::path::PathBuf;

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
    program::build("radon-store", "radon-stored")
}
