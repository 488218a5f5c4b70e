//! What the host must have: Debian packages and Rust's bare-metal target.

use crate::shell;
use anyhow::{Context, Result, bail};
use std::path::Path;

/// A file that proves a package is there, and the package that brings it.
const TOOLS: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("gcc", "gcc"),
    ("mke2fs", "e2fsprogs"),
    ("xz", "xz-utils"),
    ("gzip", "gzip"),
    ("grub-mkrescue", "grub-common"),
    ("xorriso", "xorriso"),
    ("mformat", "mtools"),
    ("grub-mkimage", "grub-common"),
    ("zstd", "zstd"),
    ("/usr/lib/grub/i386-pc/multiboot2.mod", "grub-pc-bin"),
    ("/usr/lib/grub/x86_64-efi/multiboot2.mod", "grub-efi-amd64-bin"),
    ("/usr/share/ovmf/OVMF.fd", "ovmf"),
    // The ABI crate is compared with these headers by its tests.
    ("/usr/include/xen/xen.h", "libxen-dev"),
    // Disk images and volumes are tested with them.
    ("qemu-img", "qemu-utils"),
    ("mkfs.xfs", "xfsprogs"),
    // Templates are made by it.
    ("mmdebstrap", "mmdebstrap"),
    ("nbdinfo", "libnbd-bin"),
    // The store is tested with them.
    ("xenstore-read", "xenstore-utils"),
    // Networks are made and tested with them.
    ("nft", "nftables"),
    ("tc", "iproute2"),
    // Guests' ACPI tables are read by it.
    ("iasl", "acpica-tools"),
    // XenAPI is tested with its SDK for Python.
    ("python3", "python3"),
    ("/usr/share/doc/python3-venv", "python3-venv"),
    // The host daemon's cryptography has C and assembly in it.
    ("musl-gcc", "musl-tools"),
];

/// The target the hypervisor and the verdict guests are built for.
pub const TARGET: &str = "x86_64-unknown-none";

/// Installs what is missing; quick and silent when all is there.
pub fn run() -> Result<()> {
    packages()?;
    rust_target(TARGET)
}

fn present(tool: &str) -> bool {
    if tool.starts_with('/') { Path::new(tool).exists() } else { shell::which(tool).is_some() }
}

fn packages() -> Result<()> {
    let missing: Vec<&str> = TOOLS.iter().filter(|(tool, _)| !present(tool)).map(|(_, p)| *p).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("setup: installing {}", missing.join(" "));
    if shell::which("apt-get").is_none() {
        bail!(
            "this machine has no apt-get: Radon's tools expect Debian 12. Install by hand: {}",
            missing.join(" ")
        );
    }
    let mut wanted = vec!["install", "-y", "--no-install-recommends"];
    wanted.extend(&missing);
    as_root(&["update"]).context("the package lists could not be refreshed (is the network up?)")?;
    as_root(&wanted).with_context(|| {
        format!("cure: run `apt-get install {}` as root, then try again", missing.join(" "))
    })?;
    let still: Vec<_> = TOOLS.iter().filter(|(tool, _)| !present(tool)).collect();
    if !still.is_empty() {
        bail!("apt-get succeeded, but these are still missing (tool, package): {still:?}");
    }
    Ok(())
}

/// Runs `apt-get` with the arguments, through `sudo` for an ordinary user.
fn as_root(args: &[&str]) -> Result<()> {
    let uid = shell::output(shell::command("id").arg("-u"))?;
    let mut command = if uid.trim() == "0" {
        shell::command("apt-get")
    } else if shell::which("sudo").is_some() {
        let mut sudo = shell::command("sudo");
        sudo.arg("apt-get");
        sudo
    } else {
        bail!(
            "packages must be installed, but you are not root and there is no sudo: run `apt-get {}` as root",
            args.join(" ")
        );
    };
    shell::quiet(command.env("DEBIAN_FRONTEND", "noninteractive").arg("-q").args(args))
}

/// Has Rust's libraries for a target.
pub fn rust_target(target: &str) -> Result<()> {
    let sysroot = shell::output(shell::command("rustc").args(["--print", "sysroot"]))?;
    if Path::new(sysroot.trim()).join("lib/rustlib").join(target).exists() {
        return Ok(());
    }
    println!("setup: rustup target add {target}");
    shell::quiet(shell::command("rustup").args(["target", "add", target])).with_context(|| {
        format!("Rust's libraries for {target}; cure: install Rust through rustup, with network access")
    })
}
