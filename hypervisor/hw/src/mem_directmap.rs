//! The real machine's memory: a table of ranges that lie in the direct map.

use super::{DIRECTMAP_BASE, IMAGE_BASE, RangeKind};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::Release};
use radon_addr::Maddr;

const MAX_RANGES: usize = 128;

struct Range {
    start: AtomicU64,
    end: AtomicU64,
}

/// Longest first, so that nearly every look-up ends at the first entry. Written only while one CPU runs.
static RAM: [Range; MAX_RANGES] =
    [const { Range { start: AtomicU64::new(0), end: AtomicU64::new(0) } }; MAX_RANGES];
static FIRMWARE: [Range; MAX_RANGES] =
    [const { Range { start: AtomicU64::new(0), end: AtomicU64::new(0) } }; MAX_RANGES];
static RAM_COUNT: AtomicUsize = AtomicUsize::new(0);
static FIRMWARE_COUNT: AtomicUsize = AtomicUsize::new(0);

/// Everything below `mapped_end` is in the direct map and may be read and written until [`init`] says better.
pub fn init_early(mapped_end: Maddr) {
    FIRMWARE[0].start.store(0, Relaxed);
    FIRMWARE[0].end.store(mapped_end.raw(), Relaxed);
    FIRMWARE_COUNT.store(1, Release);
}

/// Sets the ranges `(base, bytes, kind)` that may be touched from now on. All must lie in the direct map. Ranges beyond
/// the table's size (128 of each kind, longest first) are ignored. Call on the boot CPU before the others start.
pub fn init(ranges: &[(Maddr, u64, RangeKind)]) {
    RAM_COUNT.store(0, Relaxed);
    RAM[0].end.store(0, Relaxed);
    FIRMWARE_COUNT.store(0, Relaxed);
    for &(base, len, kind) in ranges {
        match kind {
            RangeKind::Ram => insert(&RAM, &RAM_COUNT, base, len),
            RangeKind::Firmware => insert(&FIRMWARE, &FIRMWARE_COUNT, base, len),
        }
    }
}

fn insert(table: &[Range; MAX_RANGES], count: &AtomicUsize, base: Maddr, len: u64) {
    let (mut start, mut end) = (base.raw(), base.raw().saturating_add(len));
    let used = count.load(Relaxed).min(MAX_RANGES);
    for r in &table[..used] {
        let (s, e) = (r.start.load(Relaxed), r.end.load(Relaxed));
        if end - start > e - s {
            r.start.store(start, Relaxed);
            r.end.store(end, Relaxed);
            (start, end) = (s, e);
        }
    }
    if let Some(r) = table.get(used) {
        r.start.store(start, Relaxed);
        r.end.store(end, Relaxed);
        count.store(used + 1, Release);
    }
}

#[inline]
fn find(table: &[Range; MAX_RANGES], count: &AtomicUsize, addr: u64) -> Option<u64> {
    table
        .iter()
        .take(count.load(Relaxed))
        .find(|r| r.start.load(Relaxed) <= addr && addr < r.end.load(Relaxed))
        .map(|r| r.end.load(Relaxed))
}

#[inline]
pub(super) fn is_ram(maddr: Maddr) -> bool {
    find(&RAM, &RAM_COUNT, maddr.raw()).is_some()
}

/// Pointer to `len` bytes in the longest range of RAM, where they nearly always are.
#[inline]
pub(super) fn locate_quickly(maddr: Maddr, len: usize) -> Option<*mut u8> {
    let last = maddr.raw().checked_add(len as u64)?;
    (RAM[0].start.load(Relaxed) <= maddr.raw() && last <= RAM[0].end.load(Relaxed))
        .then(|| directmap_ptr(maddr))
}

/// Pointer to the byte and how many of the `len` bytes (> 0) follow it in one piece.
#[inline]
pub(super) fn locate(maddr: Maddr, len: usize) -> Option<(*mut u8, usize)> {
    let addr = maddr.raw();
    let end = find(&RAM, &RAM_COUNT, addr).or_else(|| find(&FIRMWARE, &FIRMWARE_COUNT, addr))?;
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
