//! Multiboot 1 information (Multiboot Specification 0.6.96, 3.3).

use crate::reader::Reader;
use crate::{BootInfo, Error, MAX_MODULES, MAX_REGIONS, MemKind, MemRegion, Module};
use radon_addr::Maddr;

const FLAG_MEMORY: u32 = 1 << 0;
const FLAG_CMDLINE: u32 = 1 << 2;
const FLAG_MODULES: u32 = 1 << 3;
const FLAG_MEMORY_MAP: u32 = 1 << 6;
const FLAG_LOADER_NAME: u32 = 1 << 9;

fn maddr(raw: u32) -> Maddr {
    Maddr::new(u64::from(raw))
}

pub(crate) fn parse(info: Maddr, reader: &Reader<'_>) -> Result<BootInfo, Error> {
    let flags = reader.u32(info, 0)?;
    let field = |offset| reader.u32(info, offset);
    let mut boot = BootInfo::default();
    if flags & FLAG_CMDLINE != 0 {
        boot.cmdline = reader.string(maddr(field(16)?))?;
    }
    if flags & FLAG_LOADER_NAME != 0 {
        boot.loader = reader.string(maddr(field(64)?))?;
    }
    if flags & FLAG_MODULES != 0 {
        modules(field(20)?, maddr(field(24)?), reader, &mut boot)?;
    }
    if flags & FLAG_MEMORY_MAP != 0 {
        memory_map(maddr(field(48)?), u64::from(field(44)?), reader, &mut boot)?;
    } else if flags & FLAG_MEMORY != 0 {
        let kib = |n: u32| u64::from(n) << 10;
        let ram = |start, len| MemRegion { start: Maddr::new(start), len, kind: MemKind::Ram };
        boot.memory.push(ram(0, kib(field(4)?)));
        boot.memory.push(ram(1 << 20, kib(field(8)?)));
    }
    Ok(boot)
}

fn modules(count: u32, list: Maddr, reader: &Reader<'_>, boot: &mut BootInfo) -> Result<(), Error> {
    for i in 0..u64::from(count).min(MAX_MODULES as u64) {
        let at = list.checked_add(i << 4).ok_or(Error::Unreadable(list))?;
        let (start, end, text) = (reader.u32(at, 0)?, reader.u32(at, 4)?, reader.u32(at, 8)?);
        boot.modules.push(Module {
            start: maddr(start),
            len: u64::from(end.saturating_sub(start)),
            cmdline: if text == 0 { Default::default() } else { reader.string(maddr(text))? },
        });
    }
    Ok(())
}

fn memory_map(map: Maddr, len: u64, reader: &Reader<'_>, boot: &mut BootInfo) -> Result<(), Error> {
    let mut offset = 0u64;
    // Each entry is preceded by its own size, which does not count itself.
    while offset.saturating_add(24) <= len && boot.memory.len() < MAX_REGIONS {
        let at = map.checked_add(offset).ok_or(Error::Unreadable(map))?;
        let size = u64::from(reader.u32(at, 0)?);
        if size < 20 {
            break;
        }
        boot.memory.push(MemRegion {
            start: Maddr::new(reader.u64(at, 4)?),
            len: reader.u64(at, 12)?,
            kind: MemKind::from_e820(reader.u32(at, 20)?),
        });
        offset = offset.saturating_add(size).saturating_add(4);
    }
    Ok(())
}
