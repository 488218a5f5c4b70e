//! Our store's daemon, built to run anywhere: linked statically, so that any dom0 takes it.

use crate::{paths, program, shell};
use anyhow::Result;
use clap::ValueEnum;
use std::path::{Path, PathBuf};

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

/// Debian's xenstored, made to run where there is no Xen.
pub struct WithoutXen {
    /// The daemon.
    pub program: PathBuf,
    /// To be preloaded: libraries that pretend (`xtask/store/no-xen.c`).
    pub shim: PathBuf,
    /// Folder of the libraries that it is linked with.
    pub libraries: PathBuf,
}

impl WithoutXen {
    /// Builds the shim in `dir`, for the daemon of Debian's packages unpacked below `tree`.
    pub fn build(tree: &Path, dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let shim = dir.join("no-xen.so");
        let source = paths::assets().join("store/no-xen.c");
        shell::quiet(
            shell::command("gcc").args(["-O2", "-w", "-shared", "-fPIC", "-o"]).arg(&shim).arg(source),
        )?;
        let libraries = tree.join("usr/lib/x86_64-linux-gnu");
        Ok(Self { program: tree.join("usr/lib/xen-4.17/bin/xenstored"), shim, libraries })
    }
}
