//! Debian packages as data: fetched with the machine's own apt, unpacked under `target/cache`, never installed.

use crate::foreign::{self, Source};
use crate::{elf, paths, shell};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What dom0 needs; libraries follow from their dependencies.
const DOM0: &[&str] = &[
    "linux-image-amd64",
    "linux-image-cloud-amd64",
    "xen-hypervisor-4.17-amd64",
    "xen-utils-4.17",
    "xen-utils-common",
    "xenstore-utils",
    "busybox-static",
    "bash",
    "coreutils",
    "util-linux",
    "mount",
    "iproute2",
    "ncurses-base",
    "bsdutils",
];

/// What a guest's root disk holds: a small Debian with System V init.
pub const GUEST: &[&str] = &[
    "base-files",
    "base-passwd",
    "bash",
    "dash",
    "coreutils",
    "sysvinit-core",
    "sysvinit-utils",
    "initscripts",
    "util-linux",
    "mount",
    "hostname",
    "sed",
    "grep",
    "gzip",
    "debianutils",
    "busybox-static",
    "ncurses-base",
    "bsdutils",
];

/// What the networks of the host layer need in dom0 besides, and a second DHCP client to test them with.
const NETWORKS: &[&str] = &["nftables", "isc-dhcp-client"];

/// A VNC client, and what reads its pictures.
const VIEWER: &[&str] = &["vncsnapshot", "libjpeg-turbo-progs"];

/// What the host image has besides dom0's: rules of networks, the data partition's file system, GRUB for guests.
const HOST: &[&str] = &["nftables", "xfsprogs", "grub-xen-host"];

/// QEMU as a back end of disks (qdisk), to compare ours with.
const QDISK: &[&str] = &["qemu-system-xen"];

/// Never followed: large, and of no use without a package manager or a device manager.
const SKIP: &[&str] = &[
    "python3",
    "python3-minimal",
    "python3.11",
    "python3.11-minimal",
    "udev",
    "dpkg",
    "perl-base",
    "debconf",
    "ucf",
    "systemd",
    "initramfs-tools",
    "linux-initramfs-tool",
    "libc6-dev",
    "adduser",
    "passwd",
    "mime-support",
    "media-types",
    "libdb5.3",
    "libpython3-stdlib",
    "libpython3.11-stdlib",
    "libpython3.11-minimal",
    "libsystemd-shared",
    "gcc-12-base",
    "insserv",
    "startpar",
];

/// Linux's version, of dom0 and of guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kernel {
    /// Debian 12's own.
    #[value(name = "6.1")]
    Own,
    /// Of its backports.
    #[value(name = "6.12")]
    Backports,
}

/// Kernels of Debian 12's backports.
const BACKPORTS: Source = Source {
    name: "linux-backports",
    suite: "-backports",
    architecture: "amd64",
    roots: &["linux-image-amd64", "linux-image-cloud-amd64"],
};

/// What a 32-bit guest boots.
const I386: Source = Source {
    name: "i386",
    suite: "",
    architecture: "i386",
    roots: &["linux-image-686-pae", "busybox-static"],
};

/// Unpacked packages.
pub struct Packages {
    /// Everything for dom0, in one tree.
    pub dom0: PathBuf,
    /// The tree of the kernels in use and their modules.
    pub kernels: PathBuf,
    /// Everything for a guest's disk, in one tree.
    pub guest: PathBuf,
    /// Says which packages and versions the trees hold.
    pub fingerprint: String,
}

impl Packages {
    /// Fetches and unpacks whatever is not there yet.
    pub fn fetch() -> Result<Self> {
        Self::with_kernel(Kernel::Own)
    }

    /// The same with these kernels.
    pub fn with_kernel(kernel: Kernel) -> Result<Self> {
        let cache = paths::cache();
        let debs = cache.join("debs");
        std::fs::create_dir_all(&debs).with_context(|| format!("cannot make {}", debs.display()))?;
        let (dom0, dom0_print) = tree("dom0", DOM0, &debs)?;
        let (guest, guest_print) = tree("guest", GUEST, &debs)?;
        let (kernels, kernel_print) = match kernel {
            Kernel::Own => (dom0.clone(), String::new()),
            Kernel::Backports => foreign::tree(&BACKPORTS)?,
        };
        Ok(Self { dom0, kernels, guest, fingerprint: format!("{dom0_print} {guest_print}{kernel_print}") })
    }

    /// Version string of a kernel in dom0's tree: `cloud` picks the guests' kernel.
    pub fn kernel_version(&self, cloud: bool) -> Result<String> {
        version(&self.kernels, |name| name.contains("cloud") == cloud)
    }

    /// The kernel image itself.
    pub fn kernel(&self, cloud: bool) -> Result<PathBuf> {
        Ok(self.kernels.join(format!("boot/vmlinuz-{}", self.kernel_version(cloud)?)))
    }

    /// Stock Xen, the control.
    pub fn xen(&self) -> PathBuf {
        self.dom0.join("boot/xen-4.17-amd64.gz")
    }
}

/// What a 32-bit guest boots: a tree with kernel, modules and busybox, and the kernel's version.
pub fn i386() -> Result<(PathBuf, String)> {
    let (tree, _) = foreign::tree(&I386)?;
    let version = version(&tree, |_| true)?;
    Ok((tree, version))
}

/// Files for dom0 with which networks are made and tested: programs and their libraries, as (path in dom0, content).
pub fn networks() -> Result<Vec<(String, Vec<u8>)>> {
    programs("networks", NETWORKS, &["usr/sbin/nft", "usr/sbin/dhclient"])
}

/// The same with which a framebuffer is looked at.
pub fn viewer() -> Result<Vec<(String, Vec<u8>)>> {
    programs("viewer", VIEWER, &["usr/bin/vncsnapshot", "usr/bin/djpeg"])
}

/// Files for dom0 with which QEMU serves disks, where `xl` looks for them.
pub fn qdisk() -> Result<Vec<(String, Vec<u8>)>> {
    let keys = "usr/share/qemu/keymaps/en-us"; // It does not start without, nor has it a screen.
    programs("qdisk", QDISK, &["usr/libexec/xen-qemu-system-i386", keys])
}

/// Programs and their libraries from a tree of packages, as (path in dom0, content).
fn programs(name: &str, roots: &[&str], programs: &[&str]) -> Result<Vec<(String, Vec<u8>)>> {
    let debs = paths::cache().join("debs");
    std::fs::create_dir_all(&debs).with_context(|| format!("cannot make {}", debs.display()))?;
    let (tree, _) = tree(name, roots, &debs)?;
    let mut all: Vec<PathBuf> = programs.iter().map(PathBuf::from).collect();
    all.extend(elf::libraries(&tree, &all)?);
    // A library is found by the name that programs were linked with, which is a link to the file.
    all.iter().map(|path| Ok((path.display().to_string(), std::fs::read(tree.join(path))?))).collect()
}

/// The packages of the host image that are not dom0's.
pub struct HostTree {
    /// Where they are unpacked.
    pub dir: PathBuf,
}

/// Fetches and unpacks them.
pub fn host() -> Result<HostTree> {
    let debs = paths::cache().join("debs");
    std::fs::create_dir_all(&debs).with_context(|| format!("cannot make {}", debs.display()))?;
    Ok(HostTree { dir: tree("host", HOST, &debs)?.0 })
}

/// The kernel of a tree whose version string is wanted.
fn version(tree: &Path, wanted: impl Fn(&str) -> bool) -> Result<String> {
    let dir = tree.join("lib/modules");
    for entry in std::fs::read_dir(&dir).with_context(|| format!("no {}", dir.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if wanted(&name) {
            return Ok(name);
        }
    }
    bail!("no kernel in {}; cure: delete {} and run again", dir.display(), paths::cache().display())
}

/// One unpacked tree and the fingerprint of what is in it.
fn tree(name: &str, roots: &[&str], debs: &Path) -> Result<(PathBuf, String)> {
    let dir = paths::cache().join("trees").join(name);
    let stamp = paths::cache().join(format!("trees/{name}.packages"));
    let wanted = format!("roots: {}\nskip: {}\n", roots.join(" "), SKIP.join(" "));
    if let Ok(found) = std::fs::read_to_string(&stamp)
        && found.starts_with(&wanted)
    {
        return Ok((dir, shell::fingerprint([found.as_bytes()])));
    }
    println!("packages: finding what {name} needs");
    let closure = closure(roots)?;
    println!("packages: fetching {} packages for {name}", closure.len());
    let mut apt = shell::command("apt-get");
    apt.args(["-q", "-o", "APT::Sandbox::User=root", "download"]);
    let files = download(apt, &closure, debs)?;
    println!("packages: unpacking for {name}");
    unpack(&files, &dir)?;
    let names: Vec<_> = files.iter().filter_map(|f| f.file_name()).map(|n| n.to_string_lossy()).collect();
    let content = format!("{wanted}{}\n", names.join("\n"));
    std::fs::write(&stamp, &content)?;
    Ok((dir, shell::fingerprint([content.as_bytes()])))
}

/// Unpacks packages into a fresh tree.
pub fn unpack(files: &[PathBuf], dir: &Path) -> Result<()> {
    if dir.exists() {
        std::fs::remove_dir_all(dir)?;
    }
    // Debian 12 has one /usr; packages still ship files under both names.
    for (link, to) in [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        std::fs::create_dir_all(dir.join(to))?;
        std::os::unix::fs::symlink(to, dir.join(link))?;
    }
    for file in files {
        let script =
            "dpkg-deb --fsys-tarfile \"$1\" | tar -x --keep-directory-symlink --no-same-owner -C \"$2\"";
        shell::quiet(shell::command("bash").args(["-o", "pipefail", "-c", script, "-"]).arg(file).arg(dir))?;
    }
    Ok(())
}

/// Makes sure that apt has Debian's package lists.
pub fn ensure_lists() -> Result<()> {
    if shell::quiet(shell::command("apt-cache").args(["show", "xen-utils-4.17"])).is_err() {
        shell::quiet(shell::command("apt-get").args(["-q", "update"])).context(
            "Debian's package lists are missing and could not be fetched; cure: `apt-get update` as root, on Debian 12",
        )?;
    }
    Ok(())
}

/// The packages themselves and everything they depend on, but for [`SKIP`].
fn closure(roots: &[&str]) -> Result<BTreeSet<String>> {
    ensure_lists()?;
    let mut found: BTreeSet<String> = BTreeSet::new();
    let mut next: Vec<String> = roots.iter().map(|r| (*r).to_owned()).collect();
    while !next.is_empty() {
        let text = shell::output(shell::command("apt-cache").args(["depends", "--important"]).args(&next))?;
        found.extend(next.drain(..));
        // A `|` marks the first of several alternatives: that one is taken, as apt does.
        let mut alternative = false;
        for line in text.lines() {
            let taken = !alternative;
            let Some((kind, package)) = line.trim_start().split_once("Depends: ") else { continue };
            alternative = kind.starts_with('|');
            let package = package.split(':').next().unwrap_or(package);
            let known = found.contains(package) || next.iter().any(|n| n == package);
            if taken && !known && !package.starts_with('<') && !SKIP.contains(&package) {
                next.push(package.to_owned());
            }
        }
    }
    Ok(found)
}

/// Brings the packages' files into `debs`, by an `apt-get download` command, and returns them.
pub fn download(mut apt: Command, packages: &BTreeSet<String>, debs: &Path) -> Result<Vec<PathBuf>> {
    shell::quiet(apt.current_dir(debs).args(packages))
        .context("packages could not be fetched; cure: check the network, run `apt-get update` as root")?;
    let mut files = Vec::new();
    for package in packages {
        let prefix = format!("{package}_");
        let newest = std::fs::read_dir(debs)?
            .filter_map(|e| e.ok())
            .filter(|e| e.file_name().to_string_lossy().starts_with(&prefix))
            .max_by_key(|e| e.metadata().and_then(|m| m.modified()).ok());
        match newest {
            Some(entry) => files.push(entry.path()),
            None => bail!("apt-get did not bring package {package}"),
        }
    }
    Ok(files)
}
