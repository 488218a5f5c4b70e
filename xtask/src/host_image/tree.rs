//! The host's file system: everything in memory, made new at each start, but for the data partition.

use crate::cpio::{Cpio, normalise};
use crate::packages::{HostTree, Packages};
use crate::{elf, modules, paths, shell};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Programs of Debian's, by the tree that they are in. Their libraries follow.
const FROM_DOM0: &[&str] = &["usr/bin/busybox"];
const FROM_HOST: &[&str] = &["usr/sbin/nft", "usr/sbin/mkfs.xfs"];
/// glibc opens this one by itself, when a thread is cancelled.
const LIBGCC: &str = "usr/lib/x86_64-linux-gnu/libgcc_s.so.1";
/// GRUB for guests: it boots the kernel on the guest's own disk.
const GRUB_PVH: &str = "usr/lib/grub-xen/grub-i386-xen_pvh.bin";
/// The name that VMs have it by (`PV_kernel`).
pub const GUEST_GRUB: &str = "grub-pvh";

/// Makes the initramfs, packed.
pub fn initramfs(packages: &Packages, host: &HostTree, programs: &[(String, Vec<u8>)]) -> Result<Vec<u8>> {
    let mut cpio = Cpio::new();
    crate::guest::base(&mut cpio);
    for dir in ["var/lib/radon", "etc"] {
        cpio.dir(dir);
    }
    for (name, content) in programs {
        let path = if name == "radon-init" { "init".to_owned() } else { format!("usr/sbin/{name}") };
        cpio.file(&path, 0o755, content);
    }
    debian(&mut cpio, &packages.dom0, &[FROM_DOM0, &[LIBGCC]].concat())?;
    debian(&mut cpio, &host.dir, FROM_HOST)?;
    let grub = host.dir.join(GRUB_PVH);
    let grub = fs::read(&grub).with_context(|| format!("cannot read {}", grub.display()))?;
    cpio.file(&format!("usr/lib/radon/kernels/{GUEST_GRUB}"), 0o644, &grub);
    cpio.file("usr/lib/radon/modules", 0o644, (modules::DOM0.join("\n") + "\n").as_bytes());
    cpio.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/usr/bin/sh\n");
    cpio.file("etc/group", 0o644, b"root:x:0:\n");
    let wanted = [modules::DOM0, modules::MACHINES].concat();
    modules::add(&mut cpio, &packages.kernels, &packages.kernel_version(false)?, &wanted)?;
    pack(&cpio.finish())
}

/// Programs from a tree of packages, and their libraries.
fn debian(cpio: &mut Cpio, tree: &Path, programs: &[&str]) -> Result<()> {
    let mut all: Vec<PathBuf> = programs.iter().map(PathBuf::from).collect();
    all.extend(elf::libraries(tree, &all)?);
    all.sort();
    for path in all {
        let from = tree.join(&path);
        let content =
            fs::read(&from).with_context(|| format!("{} is not in the packages", path.display()))?;
        // What is a link in the package is a file here: under the name that it is looked for by.
        cpio.file(&normalise(&path), 0o755, &content);
    }
    Ok(())
}

/// zstd packs the same bytes into the same bytes with one thread.
fn pack(archive: &[u8]) -> Result<Vec<u8>> {
    let plain = paths::cache().join("host-initramfs.cpio");
    fs::write(&plain, archive)?;
    let mut zstd = shell::command("zstd");
    let packed = shell::bytes(zstd.args(["-q", "-c", "--single-thread", "-12", "--no-progress"]).arg(&plain));
    fs::remove_file(&plain)?;
    packed
}
