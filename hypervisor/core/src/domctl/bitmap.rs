//! CPU and node bitmaps in the caller's memory (`struct xenctl_bitmap`).

use radon_addr::CpuId;
use radon_hw::cpu;
use radon_sched::{CpuSet, MAX_CPUS};
use xen_abi::Errno;
use xen_abi::xen::XenctlBitmap;

use crate::hypercall::Caller;

/// Bits a caller may ask for: what is beyond is a mistake, not a machine.
const MOST_BITS: u32 = 1 << 16;

/// The pCPUs there are.
pub fn online() -> CpuSet {
    first(cpu::count())
}

/// The first `n` members.
pub fn first(n: usize) -> CpuSet {
    (0..n.min(MAX_CPUS) as u32).map(CpuId::new).collect()
}

/// Reads a bitmap; members from `limit` on are dropped.
pub fn read_bitmap(caller: &Caller<'_>, from: &XenctlBitmap, limit: usize) -> Result<CpuSet, Errno> {
    let bits = (from.nr_bits as usize).min(limit).min(MAX_CPUS);
    let mut bytes = [0u8; MAX_CPUS / 8];
    if let Some(buf) = bytes.get_mut(..bits.div_ceil(8)).filter(|b| !b.is_empty()) {
        caller.copy_in(from.bitmap.raw(), buf)?;
    }
    Ok(CpuSet::from_le_bytes(&bytes).and(&first(bits)))
}

/// Writes the members below `limit`; the rest of the caller's bitmap becomes zero.
pub fn write_bitmap(caller: &Caller<'_>, to: &XenctlBitmap, set: &CpuSet, limit: usize) -> Result<(), Errno> {
    if to.nr_bits > MOST_BITS {
        return Err(Errno::EINVAL);
    }
    let mut bytes = alloc::vec![0u8; (to.nr_bits as usize).div_ceil(8)];
    let shown = set.and(&first(limit)).to_le_bytes();
    bytes.iter_mut().zip(shown).for_each(|(to, from)| *to = from);
    if !bytes.is_empty() {
        caller.copy_out(to.bitmap.raw(), &bytes)?;
    }
    Ok(())
}
