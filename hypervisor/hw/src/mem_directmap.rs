//! The real machine's memory: ranges that lie in the direct map.

use super::{DIRECTMAP_BASE, IMAGE_BASE, RangeKind};
use crate::ranges::Ranges;
use radon_addr::Maddr;

static RAM: Ranges = Ranges::new();
static FIRMWARE: Ranges = Ranges::new();

/// Everything below `mapped_end` is in the direct map and may be read and written until [`init`] says better.
pub fn init_early(mapped_end: Maddr) {
    FIRMWARE.insert(0, mapped_end.raw());
}

/// Sets the ranges `(base, bytes, kind)` that may be touched from now on. All must lie in the direct map. Ranges beyond
/// the table's size (128 of each kind, longest first) are ignored. Call on the boot CPU before the others start.
pub fn init(ranges: &[(Maddr, u64, RangeKind)]) {
    RAM.clear();
    FIRMWARE.clear();
    for &(base, len, kind) in ranges {
        match kind {
            RangeKind::Ram => RAM.insert(base.raw(), len),
            RangeKind::Firmware => FIRMWARE.insert(base.raw(), len),
        }
    }
}

#[inline]
pub(super) fn is_ram(maddr: Maddr) -> bool {
    RAM.end_of(maddr.raw()).is_some()
}

/// Pointer to `len` bytes in one of the longest ranges of RAM, where they nearly always are.
#[inline]
pub(super) fn locate_quickly(maddr: Maddr, len: usize) -> Option<*mut u8> {
    RAM.longest_hold(maddr.raw(), len as u64).then(|| directmap_ptr(maddr))
}

/// Pointer to the byte and how many of the `len` bytes (> 0) follow it in one piece.
pub(super) fn locate(maddr: Maddr, len: usize) -> Option<(*mut u8, usize)> {
    let addr = maddr.raw();
    let end = RAM.end_of(addr).or_else(|| FIRMWARE.end_of(addr))?;
    Some((directmap_ptr(maddr), usize::try_from(end - addr).unwrap_or(usize::MAX).min(len)))
}

/// The direct map's virtual address of `maddr`. Says nothing of whether it is mapped.
#[inline]
pub const fn directmap_ptr(maddr: Maddr) -> *mut u8 {
    DIRECTMAP_BASE.wrapping_add(maddr.raw()) as *mut u8
}

/// Machine address of an object inside the image (code, data, bss), or of direct-map memory.
#[inline]
pub fn image_maddr<T: ?Sized>(object: *const T) -> Maddr {
    let va = object.cast::<u8>() as u64;
    Maddr::new(if va >= IMAGE_BASE { va - IMAGE_BASE } else { va.wrapping_sub(DIRECTMAP_BASE) })
}
