//! The hypervisor image: ours is built, the control is Debian's.

use crate::packages::Packages;
use crate::qemu::Hypervisor;
use crate::{paths, setup, shell, symbols};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// Path of the image to boot. Building is quick when nothing changed.
pub fn hypervisor(which: Hypervisor, packages: &Packages) -> Result<PathBuf> {
    match which {
        Hypervisor::Radon => build(),
        // QEMU's multiboot loader takes no packed image.
        Hypervisor::Xen => unpacked(packages),
    }
}

/// `cargo build` of the image, for the bare-metal target.
pub fn build() -> Result<PathBuf> {
    shell::loud(Command::new(env!("CARGO")).current_dir(paths::root()).args([
        "build",
        "--quiet",
        "--release",
        "-p",
        "radon",
        "--target",
        setup::TARGET,
    ]))
    .context("the hypervisor does not build")?;
    let path = paths::target().join(setup::TARGET).join("release/radon");
    if !path.exists() {
        bail!("cargo built no image at {}", path.display());
    }
    symbols::embed(&path)?;
    Ok(path)
}

fn unpacked(packages: &Packages) -> Result<PathBuf> {
    let path = paths::cache().join(format!("xen-{}", shell::fingerprint([packages.fingerprint.as_bytes()])));
    if !path.exists() {
        let out =
            shell::command("gzip").arg("-dc").arg(packages.xen()).output().context("cannot start gzip")?;
        std::fs::write(&path, out.stdout)?;
    }
    Ok(path)
}
