//! Simulated RAM: a two-level table from frame number to a leaked host page, created when first touched.
#![allow(unsafe_code)] // host pages stand in for machine frames

use radon_addr::{Maddr, Mfn, PAGE_SIZE};
use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Small under Miri, which would spend its time on making tables.
const LEAF_BITS: u32 = if cfg!(miri) { 6 } else { 15 };
const TOP_BITS: u32 = if cfg!(miri) { 10 } else { 14 };
/// Frames handed out by `fresh` start here (1 TiB); the table ends at 2 TiB.
static NEXT_FRESH: AtomicU64 = AtomicU64::new(1 << (LEAF_BITS + TOP_BITS - 1));

/// Entry of the table: no RAM here.
const ABSENT: usize = 0;
/// RAM that has no host page yet.
const UNTOUCHED: usize = 1;

type Leaf = Box<[AtomicUsize]>;
static TOP: [OnceLock<Leaf>; 1 << TOP_BITS] = [const { OnceLock::new() }; 1 << TOP_BITS];

fn entry(mfn: u64, create: bool) -> Option<&'static AtomicUsize> {
    let slot = TOP.get(usize::try_from(mfn >> LEAF_BITS).ok()?)?;
    let leaf = if create {
        slot.get_or_init(|| (0..1usize << LEAF_BITS).map(|_| AtomicUsize::new(ABSENT)).collect())
    } else {
        slot.get()?
    };
    leaf.get(mfn as usize & ((1 << LEAF_BITS) - 1))
}

pub(super) fn add(base: Maddr, len: u64) {
    let end = base.raw().checked_add(len).expect("RAM wraps around");
    assert!((base.raw() | len).is_multiple_of(PAGE_SIZE as u64), "RAM comes in whole pages");
    for mfn in base.mfn().raw()..Maddr::new(end).mfn().raw() {
        let e = entry(mfn, true).expect("simulated RAM ends at 2 TiB");
        let _ = e.compare_exchange(ABSENT, UNTOUCHED, Ordering::AcqRel, Ordering::Acquire);
    }
}

pub(super) fn fresh(pages: u64) -> Mfn {
    // A gap after each piece catches accesses beyond its end.
    let first = Mfn::new(NEXT_FRESH.fetch_add(pages + 1, Ordering::Relaxed));
    add(first.maddr(), pages * PAGE_SIZE as u64);
    first
}

pub(crate) fn is_ram(maddr: Maddr) -> bool {
    entry(maddr.mfn().raw(), false).is_some_and(|e| e.load(Ordering::Acquire) != ABSENT)
}

/// Pointer to `len` bytes if they are in one page.
pub(crate) fn locate_quickly(maddr: Maddr, len: usize) -> Option<*mut u8> {
    locate(maddr, len).filter(|(_, n)| *n == len).map(|(p, _)| p)
}

/// Pointer to the byte and how many of the `len` bytes (> 0) follow it in one piece.
pub(crate) fn locate(maddr: Maddr, len: usize) -> Option<(*mut u8, usize)> {
    let e = entry(maddr.mfn().raw(), false)?;
    let mut page = e.load(Ordering::Acquire);
    if page == UNTOUCHED {
        let layout = Layout::from_size_align(PAGE_SIZE, PAGE_SIZE).ok()?;
        // SAFETY: the layout's size is not zero. The page is leaked on purpose: references to it are 'static.
        let new = unsafe { alloc_zeroed(layout) };
        if new.is_null() {
            handle_alloc_error(layout);
        }
        page =
            match e.compare_exchange(UNTOUCHED, new.expose_provenance(), Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => new.expose_provenance(),
                Err(other) => other,
            };
    }
    if page == ABSENT {
        return None;
    }
    let p = std::ptr::with_exposed_provenance_mut::<u8>(page);
    Some((p.wrapping_add(maddr.offset()), len.min(PAGE_SIZE - maddr.offset())))
}
