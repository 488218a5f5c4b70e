//! Where the heap's pages come from: a fixed arena in the image until the frame allocator works (which then gets the rest of it),
//! then that, and when that has none left, a reserve taken from it at start-up.
#![allow(unsafe_code)] // hands out a static arena

use crate::heap::{Heap, PageSource};
use crate::reserve::{self, PageMap};
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use radon_addr::{DomId, Maddr, PAGE_SIZE};
use radon_frames::{Kind, Request, frames};
use radon_hw::lock::{SpinLock, rank};
use radon_hw::mem::{directmap_ptr, image_maddr};

#[global_allocator]
static HEAP: Heap<Pages> = Heap::new(Pages);

/// Enough for the memory map, the boot CPU's tables, and the direct map's page tables of most machines. For more than
/// [`ENOUGH_FOR_TABLES`] of these, there is [`extend`].
const ARENA_BYTES: usize = 512 << 10;
/// Bytes of direct map's page tables that the arena has room for.
pub const ENOUGH_FOR_TABLES: u64 = 256 << 10;

// No more than page alignment: a greater one would tear the file's flat range apart (see link.ld).
#[repr(C, align(4096))]
struct Arena(UnsafeCell<[u8; ARENA_BYTES]>);

// SAFETY: the arena is only ever touched through the disjoint blocks that `Pages::alloc_early` hands out.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena(UnsafeCell::new([0; ARENA_BYTES]));
static ARENA_USED: AtomicUsize = AtomicUsize::new(0);
/// Machine addresses of what is left of the extension, in whole pages.
static MORE: AtomicU64 = AtomicU64::new(0);
static MORE_END: AtomicU64 = AtomicU64::new(0);
static EARLY_BYTES: AtomicUsize = AtomicUsize::new(0);
static RESERVE: SpinLock<PageMap> = SpinLock::new(rank::HEAP, PageMap::new());
/// Machine address of the reserve, 0 when there is none.
static RESERVE_BASE: AtomicU64 = AtomicU64::new(0);
static RESERVE_TOUCHED: AtomicBool = AtomicBool::new(false);
static FRAMES_READY: AtomicBool = AtomicBool::new(false);

/// The heap's page source.
struct Pages;

impl Pages {
    /// Bump allocation; only the boot CPU runs yet.
    fn alloc_early(order: u8) -> Option<NonNull<u8>> {
        let bytes = PAGE_SIZE.checked_shl(u32::from(order))?;
        if order == 0 && MORE.load(Relaxed) < MORE_END.load(Relaxed) {
            let page = MORE.fetch_add(PAGE_SIZE as u64, Relaxed);
            return NonNull::new(directmap_ptr(Maddr::new(page)));
        }
        let base = ARENA.0.get() as usize;
        let start = (base + ARENA_USED.load(Relaxed)).checked_next_multiple_of(bytes)? - base;
        let end = start.checked_add(bytes).filter(|end| *end <= ARENA_BYTES)?;
        ARENA_USED.store(end, Relaxed);
        // SAFETY: start..end lies in the arena.
        NonNull::new(unsafe { ARENA.0.get().cast::<u8>().add(start) })
    }

    fn alloc_reserve(order: u8) -> Option<NonNull<u8>> {
        let base = RESERVE_BASE.load(Acquire);
        if base == 0 {
            return None;
        }
        if !RESERVE_TOUCHED.swap(true, Relaxed) {
            radon_hw::warn!("No free memory for the hypervisor: using its reserve");
        }
        let page = RESERVE.lock().take(order)?;
        NonNull::new(directmap_ptr(Maddr::new(base + (page * PAGE_SIZE) as u64)))
    }

    /// The number of the reserve's page at `at`, if it is one.
    fn reserve_page(at: Maddr) -> Option<usize> {
        let base = RESERVE_BASE.load(Acquire);
        let page = at.raw().checked_sub(base).filter(|_| base != 0)? / PAGE_SIZE as u64;
        (page < 1 << reserve::ORDER).then_some(page as usize)
    }

    /// From before the frame allocator: not a frame that could be given back to it.
    fn in_arena(block: NonNull<u8>) -> bool {
        let base = ARENA.0.get() as usize;
        (base..base + ARENA_BYTES).contains(&(block.as_ptr() as usize))
    }
}

impl PageSource for Pages {
    fn alloc(&self, order: u8) -> Option<NonNull<u8>> {
        if !FRAMES_READY.load(Acquire) {
            return Self::alloc_early(order);
        }
        let request = Request::new(order, DomId::XEN, Kind::Heap).overwritten();
        match frames().alloc(request) {
            Ok(mfn) => NonNull::new(directmap_ptr(mfn.maddr())),
            Err(_) => Self::alloc_reserve(order),
        }
    }

    fn free(&self, block: NonNull<u8>, order: u8) -> bool {
        let at = image_maddr(block.as_ptr());
        if let Some(page) = Self::reserve_page(at) {
            RESERVE.lock().give(page, order);
            return true;
        }
        // The arena does not take back; a slab from it stays with its class, larger blocks are lost (there are few).
        !Self::in_arena(block) && frames().free(at.mfn(), order).is_ok()
    }
}

/// More room for single pages until then: RAM that nobody else uses, below what the boot page tables map.
pub fn extend(start: Maddr, bytes: u64) {
    MORE.store(start.raw(), Relaxed);
    MORE_END.store(start.raw() + bytes, Relaxed);
}

/// From now on pages come from the frame allocator, which gets what is left of the arena, and of which the reserve is taken.
pub fn use_frames() {
    // Full: nothing will be taken from it any more.
    let used = ARENA_USED.swap(ARENA_BYTES, Relaxed);
    EARLY_BYTES.store(used, Relaxed);
    let (more, more_end) = (MORE.load(Relaxed), MORE_END.swap(0, Relaxed));
    if more < more_end {
        frames().add_range(Maddr::new(more).mfn()..Maddr::new(more_end).mfn());
    }
    let (start, end) = (image_maddr(&raw const ARENA).raw(), ARENA_BYTES as u64);
    frames().add_range(Maddr::new(start + used as u64).mfn()..Maddr::new(start + end).mfn());
    let request = Request::new(reserve::ORDER, DomId::XEN, Kind::Heap).overwritten();
    match frames().alloc(request) {
        Ok(mfn) => {
            RESERVE_BASE.store(mfn.maddr().raw(), Release);
            radon_hw::debug!("Heap reserve: {}kB at {:#x}", 4 << reserve::ORDER, mfn.maddr());
        }
        Err(_) => radon_hw::warn!("No memory to set aside for the heap"),
    }
    FRAMES_READY.store(true, Release);
}

/// Bytes of the early arena that were used.
pub fn early_bytes() -> usize {
    EARLY_BYTES.load(Relaxed)
}
