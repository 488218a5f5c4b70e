//! What guests boot: an initramfs of their own and a root disk with a small Debian.

use crate::cpio::Cpio;
use crate::packages::Packages;
use crate::{modules, packages, paths, shell};
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Size of the root disk: room for a small Debian and some megabytes to write.
const DISK_MIB: u64 = 64;

/// The guests' initramfs, uncompressed: static busybox, the front-end modules and `guest/init`.
pub fn initramfs(packages: &Packages) -> Result<Vec<u8>> {
    let version = packages.kernel_version(true)?;
    initramfs_of(&packages.dom0.join("usr/bin/busybox"), &packages.kernels, &version)
}

/// What the 32-bit guest boots, as files of dom0: kernel and initramfs.
pub fn i386() -> Result<Vec<(String, Vec<u8>)>> {
    let (tree, version) = packages::i386()?;
    let kernel = read(&tree.join(format!("boot/vmlinuz-{version}")))?;
    let initramfs = initramfs_of(&tree.join("usr/bin/busybox"), &tree, &version)?;
    Ok(vec![("srv/guest/vmlinuz-i386".to_owned(), kernel), ("srv/guest/initrd-i386".to_owned(), initramfs)])
}

/// What a guest with a keyboard boots, as files of dom0: Debian's whole kernel, because the cloud's has no driver for it, and initramfs.
pub fn whole(packages: &Packages) -> Result<Vec<(String, Vec<u8>)>> {
    let version = packages.kernel_version(false)?;
    let initramfs = initramfs_of(&packages.dom0.join("usr/bin/busybox"), &packages.kernels, &version)?;
    let kernel = read(&packages.kernel(false)?)?;
    Ok(vec![("srv/guest/vmlinuz-whole".to_owned(), kernel), ("srv/guest/initrd-whole".to_owned(), initramfs)])
}

fn initramfs_of(busybox: &Path, kernels: &Path, version: &str) -> Result<Vec<u8>> {
    let mut cpio = Cpio::new();
    base(&mut cpio);
    cpio.copy("usr/bin/busybox", busybox)?;
    for name in ["sh", "mount", "modprobe", "insmod", "switch_root"] {
        cpio.link(&format!("usr/bin/{name}"), "busybox");
    }
    modules::add(&mut cpio, kernels, version, modules::GUEST)?;
    let assets = paths::assets().join("guest");
    for (name, path) in [
        ("init", "init"),
        ("actions", "etc/actions"),
        ("udhcpc.sh", "etc/udhcpc.sh"),
        ("stop", "usr/sbin/poweroff"),
        ("stop", "usr/sbin/reboot"),
    ] {
        cpio.file(path, 0o755, &read(&assets.join(name))?);
    }
    Ok(cpio.finish())
}

/// Folders, links and nodes that every root file system here starts from.
pub fn base(cpio: &mut Cpio) {
    for (link, to) in [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        cpio.link(link, to);
        cpio.dir(to);
    }
    for dir in [
        "proc",
        "sys",
        "dev",
        "run",
        "tmp",
        "etc",
        "root",
        "mnt",
        "var/log",
        "var/lib",
        "usr/local/bin",
        "usr/local/sbin",
    ] {
        cpio.dir(dir);
    }
    cpio.link("var/run", "../run");
    cpio.link("usr/bin/sh", "busybox");
    cpio.node("dev/console", 5, 1);
    cpio.node("dev/null", 1, 3);
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The root disk: an ext4 file system holding Debian's packages. Cached by what goes into it.
pub fn disk(packages: &Packages) -> Result<PathBuf> {
    let assets = paths::assets().join("guest");
    let ours = ["inittab", "rc", "udhcpc.sh", "actions"];
    let mut parts = vec![
        packages.fingerprint.clone().into_bytes(),
        DISK_MIB.to_le_bytes().to_vec(),
        include_bytes!("guest.rs").to_vec(),
    ];
    for name in ours {
        parts.push(read(&assets.join(name))?);
    }
    let print = shell::fingerprint(parts.iter().map(Vec::as_slice));
    let image = paths::cache().join(format!("guest-{print}.ext4"));
    if image.exists() {
        return Ok(image);
    }
    println!("images: making the guests' root disk");
    let root = paths::cache().join("guest-root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    shell::quiet(shell::command("cp").arg("-a").arg(&packages.guest).arg(&root))?;
    slim(&root)?;
    for (name, path, mode) in [
        ("inittab", "etc/inittab", 0o644),
        ("rc", "etc/init.d/radon", 0o755),
        ("udhcpc.sh", "etc/udhcpc.sh", 0o755),
        ("actions", "etc/actions", 0o644),
    ] {
        shell::write(&root.join(path), &read(&assets.join(name))?)?;
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode))?;
    }
    shell::write(&root.join("etc/passwd"), b"root::0:0:root:/root:/bin/bash\n")?;
    shell::write(&root.join("etc/group"), b"root:x:0:\ntty:x:5:\n")?;
    shell::write(&root.join("etc/hostname"), b"guest\n")?;
    for dir in [
        "proc",
        "sys",
        "dev",
        "run",
        "tmp",
        "root",
        "mnt",
        "var/log",
        "var/lib",
        "usr/local/bin",
        "usr/local/sbin",
    ] {
        fs::create_dir_all(root.join(dir))?;
    }
    let made = image.with_extension("part");
    drop(fs::remove_file(&made));
    shell::quiet(
        shell::command("mke2fs")
            .args(["-q", "-t", "ext4", "-L", "radon-guest", "-E", "root_owner=0:0", "-m", "0", "-d"])
            .args([root.as_os_str(), made.as_os_str()])
            .arg(format!("{DISK_MIB}M")),
    )?;
    fs::rename(&made, &image)?;
    fs::remove_dir_all(&root)?;
    Ok(image)
}

/// Takes out what a test guest never reads, and does the little that packages' install scripts would.
fn slim(root: &Path) -> Result<()> {
    for junk in [
        "usr/share/doc",
        "usr/share/man",
        "usr/share/locale",
        "usr/share/info",
        "usr/share/lintian",
        "usr/share/bug",
        "usr/share/bash-completion",
        "usr/share/base-files",
        "usr/lib/x86_64-linux-gnu/gconv",
        "usr/share/zoneinfo",
        "usr/share/perl5",
        "usr/share/bug",
        "usr/share/common-licenses",
    ] {
        let path = root.join(junk);
        if path.exists() {
            fs::remove_dir_all(path)?;
        }
    }
    for (link, to) in [("usr/bin/sh", "dash"), ("usr/bin/awk", "busybox"), ("usr/bin/wget", "busybox")] {
        let path = root.join(link);
        drop(fs::remove_file(&path));
        symlink(to, path)?;
    }
    Ok(())
}
