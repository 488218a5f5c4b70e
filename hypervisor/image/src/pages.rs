//! Where the heap's pages come from: a fixed arena in the image until the frame allocator works, then that.
#![allow(unsafe_code)] // hands out a static arena

use crate::heap::{Heap, PageSource};
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use radon_addr::{DomId, PAGE_SIZE};
use radon_frames::{Kind, Request, frames};
use radon_hw::mem::{directmap_ptr, image_maddr};

#[global_allocator]
static HEAP: Heap<Pages> = Heap::new(Pages);

/// Enough for the memory map, the direct map's page tables and the boot CPU's tables.
const ARENA_BYTES: usize = 2 << 20;

// No more than page alignment: a greater one would tear the file's flat range apart (see link.ld).
#[repr(C, align(4096))]
struct Arena(UnsafeCell<[u8; ARENA_BYTES]>);

// SAFETY: the arena is only ever touched through the disjoint blocks that `Pages::alloc_early` hands out.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena(UnsafeCell::new([0; ARENA_BYTES]));
static ARENA_USED: AtomicUsize = AtomicUsize::new(0);
static FRAMES_READY: AtomicBool = AtomicBool::new(false);

/// The heap's page source.
struct Pages;

impl Pages {
    /// Bump allocation; only the boot CPU runs yet.
    fn alloc_early(order: u8) -> Option<NonNull<u8>> {
        let bytes = PAGE_SIZE.checked_shl(u32::from(order))?;
        let base = ARENA.0.get() as usize;
        let start = (base + ARENA_USED.load(Relaxed)).checked_next_multiple_of(bytes)? - base;
        let end = start.checked_add(bytes).filter(|end| *end <= ARENA_BYTES)?;
        ARENA_USED.store(end, Relaxed);
        // SAFETY: start..end lies in the arena.
        NonNull::new(unsafe { ARENA.0.get().cast::<u8>().add(start) })
    }

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
        let mfn = frames().alloc(request).ok()?;
        NonNull::new(directmap_ptr(mfn.maddr()))
    }

    fn free(&self, block: NonNull<u8>, order: u8) -> bool {
        // The arena does not take back; a slab from it stays with its class, larger blocks are lost (there are few).
        !Self::in_arena(block) && frames().free(image_maddr(block.as_ptr()).mfn(), order).is_ok()
    }
}

/// From now on pages come from the frame allocator.
pub fn use_frames() {
    FRAMES_READY.store(true, Release);
}

/// Bytes of the early arena in use.
pub fn early_bytes() -> usize {
    ARENA_USED.load(Relaxed)
}
