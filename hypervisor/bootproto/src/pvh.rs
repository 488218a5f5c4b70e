//! PVH start information (`struct hvm_start_info`, arch-x86/hvm/start_info.h).

use crate::reader::Reader;
use crate::{BootInfo, Error, MAX_MODULES, MAX_REGIONS, MemKind, MemRegion, Module, PVH_MAGIC};
use alloc::string::String;
use radon_addr::Maddr;

const MODULE_ENTRY: u64 = 32;
const MEMMAP_ENTRY: u64 = 24;

pub(crate) fn parse(info: Maddr, reader: &Reader<'_>) -> Result<BootInfo, Error> {
    let magic = reader.u32(info, 0)?;
    if magic != PVH_MAGIC {
        return Err(Error::BadMagic(magic));
    }
    let version = reader.u32(info, 4)?;
    let mut boot = BootInfo { loader: String::from("PVH"), ..BootInfo::default() };
    boot.cmdline = optional_string(reader.u64(info, 24)?, reader)?;
    boot.rsdp = Some(reader.u64(info, 32)?).filter(|at| *at != 0).map(Maddr::new);
    let list = Maddr::new(reader.u64(info, 16)?);
    for i in 0..u64::from(reader.u32(info, 12)?).min(MAX_MODULES as u64) {
        let at = entry(list, i, MODULE_ENTRY)?;
        boot.modules.push(Module {
            start: Maddr::new(reader.u64(at, 0)?),
            len: reader.u64(at, 8)?,
            cmdline: optional_string(reader.u64(at, 16)?, reader)?,
        });
    }
    // Version 0 has no memory map; it would have to be asked for by hypercall.
    if version >= 1 {
        let map = Maddr::new(reader.u64(info, 40)?);
        for i in 0..u64::from(reader.u32(info, 48)?).min(MAX_REGIONS as u64) {
            let at = entry(map, i, MEMMAP_ENTRY)?;
            boot.memory.push(MemRegion {
                start: Maddr::new(reader.u64(at, 0)?),
                len: reader.u64(at, 8)?,
                kind: MemKind::from_e820(reader.u32(at, 16)?),
            });
        }
    }
    Ok(boot)
}

fn entry(list: Maddr, index: u64, size: u64) -> Result<Maddr, Error> {
    index.checked_mul(size).and_then(|o| list.checked_add(o)).ok_or(Error::Unreadable(list))
}

fn optional_string(at: u64, reader: &Reader<'_>) -> Result<String, Error> {
    if at == 0 { Ok(String::new()) } else { reader.string(Maddr::new(at)) }
}
