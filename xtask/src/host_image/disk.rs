//! The disk: a table of partitions, GRUB, what boots, and an empty partition for all that is kept.
//!
//! | partition | what |
//! |---|---|
//! | 1 | GRUB's core image for the BIOS |
//! | 2 | EFI system partition: GRUB for UEFI, its menu, hypervisor, kernel, initramfs |
//! | 3 | `RADON-DATA`: grown to the disk's end, and made an XFS, at the first start |

use super::{Parts, grub};
use crate::shell;
use anyhow::{Context, Result, ensure};
use radon_medium::gpt::{Guid, Partition, Table, kind};
use radon_medium::{SECTOR, fat};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::ops::RangeInclusive;
use std::path::Path;

/// Sectors of the partitions. XFS takes 300 MiB at least; the disk that it is written to is larger.
const GRUB: RangeInclusive<u64> = 34..=2047;
const BOOT: RangeInclusive<u64> = 2048..=2048 + (192 << 11) - 1;
const DATA: RangeInclusive<u64> = BOOT_END..=BOOT_END + (1 << 11) - 1;
const BOOT_END: u64 = 2048 + (192 << 11);
const SECTORS: u64 = BOOT_END + (1 << 11) + (1 << 11);

/// A number made of the content: another image has others, the same image the same.
fn guid(print: &str, what: &str) -> Guid {
    let half = |salt: &str| shell::fingerprint([print.as_bytes(), what.as_bytes(), salt.as_bytes()]);
    let mut out = [0; 16];
    let text = half("a") + &half("b");
    for (n, byte) in out.iter_mut().enumerate() {
        *byte = text.get(2 * n..2 * n + 2).and_then(|t| u8::from_str_radix(t, 16).ok()).unwrap_or(0);
    }
    // Version 8: made by a rule of one's own (RFC 9562).
    out[6] = out[6] & 0x0f | 0x80;
    out[8] = out[8] & 0x3f | 0x80;
    out
}

/// Writes the disk's file; it is there when all of it is.
pub fn write(parts: &Parts, path: &Path) -> Result<()> {
    let print = shell::fingerprint([parts.hypervisor.as_slice(), &parts.kernel, &parts.initramfs]);
    let partition = |kind, name: &str, sectors: RangeInclusive<u64>| Partition {
        kind,
        guid: guid(&print, name),
        sectors,
        name: name.to_owned(),
    };
    let table = Table {
        guid: guid(&print, "disk"),
        partitions: vec![
            partition(kind::BIOS_BOOT, "RADON-GRUB", GRUB),
            partition(kind::ESP, "RADON-BOOT", BOOT),
            partition(kind::LINUX, "RADON-DATA", DATA),
        ],
    };
    let part = path.with_extension("part");
    let mut disk = File::create(&part).with_context(|| format!("cannot write {}", part.display()))?;
    disk.set_len(SECTORS * SECTOR)?;
    let (boot, core) = grub::bios(*GRUB.start())?;
    ensure!(core.len() as u64 <= (GRUB.end() - GRUB.start() + 1) * SECTOR, "GRUB's core image is too large");
    disk.write_all(&boot)?;
    disk.seek(SeekFrom::Start(GRUB.start() * SECTOR))?;
    disk.write_all(&core)?;
    table.write(&mut disk, SECTORS)?;
    let (efi, menu) = (grub::efi()?, grub::menu(&parts.hypervisor_args));
    let files: Vec<fat::File<'_>> = vec![
        ("EFI/BOOT/BOOTX64.EFI".into(), &efi),
        ("grub/grub.cfg".into(), menu.as_bytes()),
        ("radon/hypervisor".into(), &parts.hypervisor),
        ("radon/initrd".into(), &parts.initramfs),
        ("radon/vmlinuz".into(), &parts.kernel),
    ];
    let serial = u32::from_str_radix(&print[..8], 16)?;
    let sectors = BOOT.end() - BOOT.start() + 1;
    fat::write(&mut disk, BOOT.start() * SECTOR, sectors, "RADON-BOOT", serial, &files)
        .context("the boot partition")?;
    drop(disk);
    std::fs::rename(part, path)?;
    Ok(())
}
