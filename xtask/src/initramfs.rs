//! dom0's initramfs: Debian's own Xen tools, what they call, and our start-up script.
//!
//! Two archives in a row (the kernel unpacks both): one made of packages, cached; one of our scripts and the guests'
//! files, made anew each time.

use crate::cpio::{Cpio, normalise};
use crate::packages::Packages;
use crate::{elf, guest, minimal, modules, paths, shell};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Programs from the packages, by path below the tree's root. Their libraries follow.
const PROGRAMS: &[&str] = &[
    "usr/bin/busybox",
    "usr/bin/bash",
    "usr/bin/stat",
    "usr/bin/flock",
    "usr/bin/sort",
    "usr/bin/date",
    "usr/bin/script",
    "usr/sbin/losetup",
    "usr/bin/ip",
    "usr/sbin/bridge",
    "usr/bin/xenstore",
    "usr/sbin/xentop",
];

/// The toolstack's own programs, in `usr/lib/xen-4.17/bin`.
const XEN_PROGRAMS: &[&str] = &[
    "xl",
    "xenstored",
    "xenstore-control",
    "xenconsoled",
    "xenconsole",
    "xen-init-dom0",
    "xentop",
    "libxl-save-helper",
    "xenctx",
    "xen-diag",
    "xenperf",
    "lsevtchn",
];

/// Where dom0's initramfs keeps what guests boot from.
const GUEST_DIR: &str = "srv/guest";

/// Makes dom0's initramfs and returns its path. `extra` files are added as (path in dom0, content).
pub fn dom0(packages: &Packages, extra: &[(String, Vec<u8>)]) -> Result<PathBuf> {
    let base = base(packages)?;
    let disk = guest::disk(packages)?;
    let mut image = fs::read(&base)?;
    image.extend(overlay(packages, &disk, extra)?);
    // By what makes it differ: machines of several kinds start side by side.
    let names = extra.iter().map(|(name, _)| name.as_bytes());
    let print = shell::fingerprint([packages.fingerprint.as_bytes()].into_iter().chain(names));
    let path = paths::cache().join(format!("dom0-{print}.cpio"));
    shell::write(&path, &image)?;
    Ok(path)
}

/// The archive made of packages alone.
fn base(packages: &Packages) -> Result<PathBuf> {
    let makers: [&[u8]; 4] = [
        include_bytes!("initramfs.rs"),
        include_bytes!("modules.rs"),
        include_bytes!("guest.rs"),
        include_bytes!("cpio.rs"),
    ];
    let print = shell::fingerprint([packages.fingerprint.as_bytes()].into_iter().chain(makers));
    let path = paths::cache().join(format!("dom0-base-{print}.cpio"));
    if path.exists() {
        return Ok(path);
    }
    println!("images: making dom0's initramfs");
    let tree = &packages.dom0;
    let mut cpio = Cpio::new();
    guest::base(&mut cpio);
    let mut programs: Vec<PathBuf> = PROGRAMS.iter().map(PathBuf::from).collect();
    programs.extend(XEN_PROGRAMS.iter().map(|p| Path::new("usr/lib/xen-4.17/bin").join(p)));
    // glibc opens this one by itself, when a thread is cancelled.
    programs.push("usr/lib/x86_64-linux-gnu/libgcc_s.so.1".into());
    let libraries = elf::libraries(tree, &programs)?;
    for path in programs.iter().chain(&libraries) {
        add(&mut cpio, tree, path)?;
    }
    for entry in fs::read_dir(tree.join("usr/bin"))?.chain(fs::read_dir(tree.join("usr/sbin"))?) {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ours =
            name.starts_with("xenstore") || ["xl", "xen", "xenconsole", "xentop"].contains(&name.as_str());
        if ours {
            add(&mut cpio, tree, path.strip_prefix(tree)?)?;
        }
    }
    for dir in ["usr/lib/xen-common", "etc/xen"] {
        add_dir(&mut cpio, tree, Path::new(dir))?;
    }
    add(&mut cpio, tree, Path::new("usr/share/terminfo")).or_else(|_| anyhow::Ok(()))?;
    for terminfo in ["l/linux", "v/vt100", "d/dumb", "x/xterm"] {
        let path = Path::new("usr/lib/terminfo").join(terminfo);
        if tree.join(&path).exists() {
            add(&mut cpio, tree, &path)?;
        }
    }
    modules::add(&mut cpio, &packages.kernels, &packages.kernel_version(false)?, modules::DOM0)?;
    fs::write(&path, cpio.finish())?;
    Ok(path)
}

/// Our scripts, the scenarios and the guests' files.
fn overlay(packages: &Packages, disk: &Path, extra: &[(String, Vec<u8>)]) -> Result<Vec<u8>> {
    let mut cpio = Cpio::new();
    let assets = paths::assets().join("dom0");
    for (name, path) in [
        ("init", "init"),
        ("poweroff", "usr/local/sbin/poweroff"),
        ("lib.sh", "usr/lib/radon/lib.sh"),
        ("domains-lib.sh", "usr/lib/radon/domains-lib.sh"),
        ("networks-lib.sh", "usr/lib/radon/networks-lib.sh"),
    ] {
        let data = fs::read(assets.join(name)).with_context(|| format!("xtask/dom0/{name} is missing"))?;
        cpio.file(path, 0o755, &data);
    }
    for entry in fs::read_dir(paths::scenarios()).context("tests/system is missing")? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "sh") {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            cpio.file(&format!("usr/lib/radon/scenarios/{name}"), 0o755, &fs::read(&path)?);
        }
    }
    cpio.copy(&format!("{GUEST_DIR}/vmlinuz"), &packages.kernel(true)?)?;
    cpio.file(&format!("{GUEST_DIR}/initrd"), 0o644, &guest::initramfs(packages)?);
    cpio.copy(&format!("{GUEST_DIR}/disk.img"), disk)?;
    cpio.file(&format!("{GUEST_DIR}/minimal"), 0o644, &minimal::ending());
    cpio.file(&format!("{GUEST_DIR}/waiting"), 0o644, &minimal::waiting());
    for (path, data) in extra {
        cpio.file(path, 0o755, data);
    }
    Ok(cpio.finish())
}

/// Adds a file; for a symbolic link, the link and what it points to.
fn add(cpio: &mut Cpio, tree: &Path, path: &Path) -> Result<()> {
    let full = tree.join(path);
    let meta =
        fs::symlink_metadata(&full).with_context(|| format!("{} is not in the packages", path.display()))?;
    let name = normalise(path);
    if !meta.is_symlink() {
        return if meta.is_file() { cpio.copy(&name, &full) } else { Ok(()) };
    }
    let to = fs::read_link(&full)?;
    cpio.link(&name, &to.to_string_lossy());
    let parent = path.parent().unwrap_or(Path::new(""));
    let target = normalise(&if to.is_absolute() { to } else { parent.join(to) });
    if tree.join(&target).is_file() { add(cpio, tree, Path::new(&target)) } else { Ok(()) }
}

fn add_dir(cpio: &mut Cpio, tree: &Path, dir: &Path) -> Result<()> {
    for entry in
        fs::read_dir(tree.join(dir)).with_context(|| format!("{} is not in the packages", dir.display()))?
    {
        let path = dir.join(entry?.file_name());
        if tree.join(&path).is_dir() {
            add_dir(cpio, tree, &path)?;
        } else {
            add(cpio, tree, &path)?;
        }
    }
    Ok(())
}
