//! The hypervisor image: ours is built, the control is Debian's.

use crate::packages::Packages;
use crate::qemu::Hypervisor;
use crate::{paths, program, setup, shell, symbols};
use anyhow::{Context, Result, bail};
use object::Endianness;
use object::elf::FileHeader64;
use object::read::elf::{FileHeader, ProgramHeader};
use std::path::{Path, PathBuf};

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
    shell::loud(program::cargo().args([
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
    strip(&path)
}

/// What boots: the image without its debug information, which is not loaded anyhow (gdb takes the other file).
fn strip(path: &Path) -> Result<PathBuf> {
    let stripped = path.with_file_name("radon-stripped");
    let image =
        loaded_part(&std::fs::read(path)?).with_context(|| format!("cannot read {}", path.display()))?;
    if std::fs::read(&stripped).ok().as_ref() != Some(&image) {
        std::fs::write(&stripped, image)?;
    }
    Ok(stripped)
}

/// An ELF file up to the end of its last segment, with no section headers.
fn loaded_part(file: &[u8]) -> Result<Vec<u8>> {
    let header = FileHeader64::<Endianness>::parse(file)?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, file)?;
    let end = segments.iter().map(|s| s.p_offset(endian) + s.p_filesz(endian)).max().unwrap_or(0);
    let mut image = file.get(..usize::try_from(end)?).context("a segment lies outside the file")?.to_vec();
    // e_shoff; e_shnum and e_shstrndx.
    for field in [0x28..0x30, 0x3c..0x40] {
        image.get_mut(field).context("no room for the header")?.fill(0);
    }
    Ok(image)
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
