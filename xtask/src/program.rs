//! Programs of the host layer, for dom0.

use crate::{paths, setup, shell};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// Builds a program of one of this workspace's packages, linked statically, and returns its path.
pub fn build(package: &str, name: &str) -> Result<PathBuf> {
    const TARGET: &str = "x86_64-unknown-linux-musl";
    setup::rust_target(TARGET)?;
    shell::loud(Command::new(env!("CARGO")).current_dir(paths::root()).args([
        "build",
        "--quiet",
        "--profile",
        "host",
        "-p",
        package,
        "--target",
        TARGET,
    ]))
    .with_context(|| format!("{name} does not build"))?;
    let path = paths::target().join(TARGET).join("host").join(name);
    if !path.exists() {
        bail!("cargo built no program at {}", path.display());
    }
    Ok(path)
}
