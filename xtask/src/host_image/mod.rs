//! `cargo xtask image`: the host image, as initramfs and as a disk to install (docs/image.md).
//!
//! The same sources and packages give the same bytes: nothing in it has a time, an order of chance, or a random number.

mod disk;
mod grub;
mod tree;

use crate::packages::{self, Packages};
use crate::qemu::Hypervisor;
use crate::scenario::Options;
use crate::{paths, program, setup, shell};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Arguments of `image`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Which hypervisor boots the host
    #[arg(long, value_enum, default_value_t = Hypervisor::Radon)]
    hypervisor: Hypervisor,
    /// Memory of dom0 in MiB
    #[arg(long, default_value_t = 1024)]
    dom0_memory: u32,
    /// vCPUs of dom0
    #[arg(long, default_value_t = 2)]
    dom0_cpus: u32,
    /// Folder for the files
    #[arg(long, short, default_value = "radon-image")]
    output: PathBuf,
}

/// Programs of the host layer in the image: package and name.
const PROGRAMS: &[(&str, &str)] = &[
    ("radon-init", "radon-init"),
    ("radon-store", "radon-stored"),
    ("radon-console", "radon-consoled"),
    ("radon-framebuffer", "radon-vnc"),
    ("radon-network", "radon-network"),
    ("radon-block", "radon-block"),
    ("radon-daemon", "radond"),
];

/// What was made.
#[derive(Clone, Debug)]
pub struct Built {
    /// The initramfs, packed.
    pub initramfs: PathBuf,
    /// The disk.
    pub disk: PathBuf,
}

/// Makes the image where the user wants it.
pub fn run(args: &Args) -> Result<()> {
    let plain = Options::plain(args.hypervisor, args.dom0_memory);
    let options = Options { dom0_cpus: Some(args.dom0_cpus), ..plain };
    let built = build(&options, &args.output)?;
    for path in [&built.initramfs, &built.disk] {
        let meta = fs::metadata(path)?;
        let used = std::os::unix::fs::MetadataExt::blocks(&meta) * 512;
        println!("{}: {} MiB, of them {} MiB not empty", path.display(), meta.len() >> 20, used >> 20);
    }
    println!("install: write {} onto the server's disk; more: docs/image.md", built.disk.display());
    Ok(())
}

/// Makes the image in a folder: what is there and up to date stays.
pub fn build(options: &Options, output: &Path) -> Result<Built> {
    setup::run()?;
    let packages = Packages::fetch()?;
    let parts = Parts {
        hypervisor: fs::read(options.image(&packages)?)?,
        // A test's machine is to show its crash; a server is to come back after it.
        hypervisor_args: options.hypervisor_args().replace(" noreboot", ""),
        kernel: fs::read(packages.kernel(false)?)?,
        initramfs: tree::initramfs(&packages, &packages::host()?, &programs()?)?,
    };
    fs::create_dir_all(output).with_context(|| format!("cannot make {}", output.display()))?;
    let name = options.hypervisor.name();
    let built = Built {
        initramfs: output.join(format!("{name}-initramfs.zst")),
        disk: output.join(format!("{name}-host.img")),
    };
    let print = shell::fingerprint([
        parts.hypervisor.as_slice(),
        parts.hypervisor_args.as_bytes(),
        &parts.kernel,
        &parts.initramfs,
        include_bytes!("disk.rs"),
        include_bytes!("grub.rs"),
    ]);
    let stamp = output.join(format!("{name}.fingerprint"));
    if built.disk.exists() && fs::read_to_string(&stamp).is_ok_and(|old| old == print) {
        return Ok(built);
    }
    let _ = fs::remove_file(&stamp);
    fs::write(&built.initramfs, &parts.initramfs)?;
    disk::write(&parts, &built.disk)?;
    fs::write(stamp, print)?;
    Ok(built)
}

/// What boots.
struct Parts {
    hypervisor: Vec<u8>,
    hypervisor_args: String,
    kernel: Vec<u8>,
    /// Packed.
    initramfs: Vec<u8>,
}

/// dom0's command line. Its disks and network cards get copies of what is a guest's: there is no IOMMU in use.
pub const KERNEL_ARGS: &str = "console=hvc0 rdinit=/init panic=10 quiet swiotlb=force";

/// The host's programs, built: name and content.
fn programs() -> Result<Vec<(String, Vec<u8>)>> {
    let build = |(package, name): &(&str, &str)| {
        let path = program::build(package, name)?;
        Ok(((*name).to_owned(), fs::read(path)?))
    };
    PROGRAMS.iter().map(build).collect()
}

/// The same image made twice, in two folders: every byte must be the same.
pub fn reproducible(options: &Options) -> Result<()> {
    let folder = paths::cache().join("image-twice");
    let _ = fs::remove_dir_all(&folder);
    let (one, two) = (build(options, &folder.join("1"))?, build(options, &folder.join("2"))?);
    for (a, b) in [(&one.initramfs, &two.initramfs), (&one.disk, &two.disk)] {
        shell::quiet(shell::command("cmp").arg(a).arg(b)).context("two builds of the host image differ")?;
    }
    fs::remove_dir_all(&folder)?;
    Ok(())
}

/// The image of the hypervisor under test, cached below the target directory.
pub fn cached(options: &Options) -> Result<Built> {
    build(options, &paths::cache().join("image"))
}
