//! E820 maps: a domain's own (`XENMEM_memory_map`), set by the toolstack (`set_memory_map`), and the machine's.

use alloc::vec::Vec;

use xen_abi::Errno;
use xen_abi::memory::{ForeignMemoryMap, MemoryMap};

use super::super::{Caller, OK, Reply, Width};
use crate::machine;

/// Bytes of one E820 entry.
const ENTRY: usize = 20;
/// Entries a toolstack may set (`E820MAX`).
const MAX_ENTRIES: u32 = 1024;

fn read_map(caller: &Caller<'_>, at: u64) -> Result<(u32, u64), Errno> {
    match caller.width {
        Width::Long => caller.read::<MemoryMap>(at).map(|m| (m.nr_entries, m.buffer.raw())),
        Width::Compat => caller
            .read::<xen_abi::compat::CompatMemoryMap>(at)
            .map(|m| (m.nr_entries, u64::from(m.buffer.raw()))),
    }
}

fn answer(caller: &Caller<'_>, arg: u64, map: &[[u8; ENTRY]]) -> Reply {
    let (room, buffer) = read_map(caller, arg)?;
    let n = map.len().min(room as usize);
    if buffer != 0 {
        for (i, entry) in map.iter().take(n).enumerate() {
            caller.copy_out(caller.element::<[u8; ENTRY]>(buffer, i as u64)?, entry)?;
        }
    }
    let count = if buffer == 0 { map.len() } else { n };
    caller.write(arg, &(count as u32))?;
    OK
}

/// The caller's own map.
pub fn get(caller: &mut Caller<'_>, arg: u64) -> Reply {
    let map = caller.domain.memory_map.lock().clone();
    if map.is_empty() {
        return Err(Errno::ENOSYS);
    }
    answer(caller, arg, &map)
}

/// The machine's map, for the control domain.
pub fn machine(caller: &mut Caller<'_>, arg: u64) -> Reply {
    caller.require_privilege()?;
    answer(caller, arg, machine::e820())
}

/// Sets another domain's map.
pub fn set(caller: &mut Caller<'_>, arg: u64) -> Reply {
    caller.require_privilege()?;
    let (domid, count, buffer) = match caller.width {
        Width::Long => {
            let f: ForeignMemoryMap = caller.read(arg)?;
            (f.domid, f.map.nr_entries, f.map.buffer.raw())
        }
        Width::Compat => {
            let f: xen_abi::compat::CompatForeignMemoryMap = caller.read(arg)?;
            (f.domid, f.map.nr_entries, u64::from(f.map.buffer.raw()))
        }
    };
    if count > MAX_ENTRIES {
        return Err(Errno::EINVAL);
    }
    let domain = caller.target(domid)?;
    let mut map = Vec::with_capacity(count as usize);
    for i in 0..u64::from(count) {
        let mut entry = [0u8; ENTRY];
        caller.copy_in(caller.element::<[u8; ENTRY]>(buffer, i)?, &mut entry)?;
        map.push(entry);
    }
    *domain.memory_map.lock() = map;
    OK
}
