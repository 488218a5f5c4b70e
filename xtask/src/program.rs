//! Programs of the host layer, for dom0.

use crate::{paths, setup, shell};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// Cargo in the workspace, as a person would start it: what an outer cargo tells of the package that it runs makes build
/// scripts run again (ring's, and with it half of all programs).
pub fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(paths::root());
    for (name, _) in std::env::vars_os() {
        let told = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
        if told.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Builds a program of one of this workspace's packages, linked statically, and returns its path.
pub fn build(package: &str, name: &str) -> Result<PathBuf> {
    const TARGET: &str = "x86_64-unknown-linux-musl";
    setup::rust_target(TARGET)?;
    shell::loud(cargo().args(["build", "--quiet", "--profile", "host", "-p", package, "--target", TARGET]))
        .with_context(|| format!("{name} does not build"))?;
    let path = paths::target().join(TARGET).join("host").join(name);
    if !path.exists() {
        bail!("cargo built no program at {}", path.display());
    }
    Ok(path)
}
