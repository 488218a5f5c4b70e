//! Multiboot 2 information: a list of tags (Multiboot2 Specification 2.0, 3.6).

use crate::reader::Reader;
use crate::{BootInfo, EfiInfo, Error, MAX_MODULES, MAX_REGIONS, MemKind, MemRegion, Module};
use radon_addr::Maddr;

const TAG_END: u32 = 0;
const TAG_CMDLINE: u32 = 1;
const TAG_LOADER_NAME: u32 = 2;
const TAG_MODULE: u32 = 3;
const TAG_MEMORY_MAP: u32 = 6;
const TAG_EFI64: u32 = 12;
const TAG_ACPI_OLD: u32 = 14;
const TAG_ACPI_NEW: u32 = 15;
const TAG_EFI_MEMORY_MAP: u32 = 17;
const TAG_EFI_BOOT_SERVICES: u32 = 18;

/// No loader's information is larger; a greater size is a lie.
const MAX_INFO: u64 = 1 << 20;

pub(crate) fn parse(info: Maddr, reader: &Reader<'_>) -> Result<BootInfo, Error> {
    let total = u64::from(reader.u32(info, 0)?).min(MAX_INFO);
    let mut boot = BootInfo::default();
    boot.loader_data.push((info, total));
    let mut efi = EfiInfo::default();
    let mut offset = 8u64;
    while offset.saturating_add(8) <= total {
        let at = info.checked_add(offset).ok_or(Error::Unreadable(info))?;
        let (kind, size) = (reader.u32(at, 0)?, u64::from(reader.u32(at, 4)?));
        if kind == TAG_END || size < 8 || offset.saturating_add(size) > total {
            break;
        }
        tag(kind, at, size, reader, &mut boot, &mut efi)?;
        // `size` is at most 1 MiB here.
        offset = offset.saturating_add(size.next_multiple_of(8));
    }
    if efi.system_table != Maddr::default() {
        boot.efi = Some(efi);
    }
    Ok(boot)
}

fn tag(
    kind: u32,
    at: Maddr,
    size: u64,
    reader: &Reader<'_>,
    boot: &mut BootInfo,
    efi: &mut EfiInfo,
) -> Result<(), Error> {
    let body = |offset: u64| at.checked_add(offset).ok_or(Error::Unreadable(at));
    let rest = |offset: u64| size.saturating_sub(offset) as usize;
    match kind {
        TAG_CMDLINE => boot.cmdline = reader.string_within(body(8)?, rest(8))?,
        TAG_LOADER_NAME => boot.loader = reader.string_within(body(8)?, rest(8))?,
        TAG_MODULE if boot.modules.len() < MAX_MODULES && size >= 16 => {
            let (start, end) = (reader.u32(at, 8)?, reader.u32(at, 12)?);
            boot.modules.push(Module {
                start: Maddr::new(u64::from(start)),
                len: u64::from(end.saturating_sub(start)),
                cmdline: reader.string_within(body(16)?, rest(16))?,
            });
        }
        TAG_MEMORY_MAP if size >= 16 => memory_map(at, size, reader, boot)?,
        TAG_EFI64 if size >= 16 => efi.system_table = Maddr::new(reader.u64(at, 8)?),
        TAG_EFI_BOOT_SERVICES => efi.boot_services = true,
        TAG_EFI_MEMORY_MAP if size >= 16 => {
            efi.descriptor_size = reader.u32(at, 8)?;
            efi.descriptor_version = reader.u32(at, 12)?;
            efi.memory_map = reader.bytes(body(16)?, rest(16))?;
        }
        // The tag carries a copy of the root pointer. Prefer the one with the 64-bit table address.
        TAG_ACPI_NEW => boot.rsdp = Some(body(8)?),
        TAG_ACPI_OLD if boot.rsdp.is_none() => boot.rsdp = Some(body(8)?),
        _ => {}
    }
    Ok(())
}

fn memory_map(at: Maddr, size: u64, reader: &Reader<'_>, boot: &mut BootInfo) -> Result<(), Error> {
    let entry = u64::from(reader.u32(at, 8)?);
    if entry < 24 {
        return Ok(());
    }
    let mut offset = 16u64;
    while offset.saturating_add(entry) <= size && boot.memory.len() < MAX_REGIONS {
        boot.memory.push(MemRegion {
            start: Maddr::new(reader.u64(at, offset)?),
            len: reader.u64(at, offset.saturating_add(8))?,
            kind: MemKind::from_e820(reader.u32(at, offset.saturating_add(16))?),
        });
        offset = offset.saturating_add(entry);
    }
    Ok(())
}
