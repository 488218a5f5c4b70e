//! The guest's memory: volatile access by address, pages to share with Xen, unused frame numbers, a heap.

use crate::boot;
use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicU64, Ordering};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Size of a page.
pub const PAGE: u64 = 4096;
/// Guest frames from here on have no memory behind them at the start: place for mappings of all kinds.
pub const SCRATCH_GFN: u64 = 0x10_0000;
/// The first scratch frames are the mini toolstack's windows, used again for each child.
pub const RESERVED: u64 = 64;
/// End of the scratch frames, which is the end of what the page tables map.
pub const SCRATCH_END: u64 = 0x20_0000;
/// End of the pool: every guest that runs this image has RAM at least so far.
pub const POOL_END: u64 = 22 << 20;
const HEAP_LEN: u64 = 2 << 20;

static HEAP: AtomicU64 = AtomicU64::new(0);
static HEAP_END: AtomicU64 = AtomicU64::new(0);
static POOL: AtomicU64 = AtomicU64::new(0);
static SCRATCH: AtomicU64 = AtomicU64::new(SCRATCH_GFN + RESERVED);

/// Allocates powers of two from the top of the heap; what is freed goes to a list of its size.
struct Heap;

/// First free block of each power of two; a free block starts with the address of the next.
static FREE: [AtomicU64; 32] = [const { AtomicU64::new(0) }; 32];

fn class(layout: Layout) -> usize {
    layout.size().max(layout.align()).max(16).next_power_of_two().trailing_zeros() as usize
}

// SAFETY: blocks are disjoint parts of RAM that nothing else uses, aligned to their size; only one vCPU allocates.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let class = class(layout);
        let free = FREE[class & 31].load(Ordering::Relaxed);
        if free != 0 {
            FREE[class & 31].store(read(free), Ordering::Relaxed);
            return free as *mut u8;
        }
        let at = HEAP.load(Ordering::Relaxed).next_multiple_of(1 << class);
        let end = at + (1 << class);
        if end > HEAP_END.load(Ordering::Relaxed) {
            return core::ptr::null_mut();
        }
        HEAP.store(end, Ordering::Relaxed);
        at as *mut u8
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let list = &FREE[class(layout) & 31];
        write(at as u64, list.swap(at as u64, Ordering::Relaxed));
    }
}

#[global_allocator]
static ALLOCATOR: Heap = Heap;

pub(crate) fn init() {
    let heap = boot::image().end.next_multiple_of(PAGE);
    HEAP.store(heap, Ordering::Relaxed);
    HEAP_END.store(heap + HEAP_LEN, Ordering::Relaxed);
    POOL.store(heap + HEAP_LEN, Ordering::Relaxed);
}

/// Place of the pool, to return to after a test; pages taken since must not be used again.
pub(crate) fn mark() -> u64 {
    POOL.load(Ordering::Relaxed)
}

/// Returns the pool to a [`mark`]. Scratch frames are used once only: a test may have left something there. (What an
/// abandoned test had on the heap is lost.)
pub(crate) fn release(mark: u64) {
    POOL.store(mark, Ordering::Relaxed);
}

/// Reads from an address of the guest. Faults if nothing is mapped there.
pub fn read<T: FromBytes>(address: u64) -> T {
    // SAFETY: all bit patterns are valid; what is not memory faults, which tests expect or fail by.
    unsafe { (address as *const T).read_volatile() }
}

/// Writes to an address of the guest; see [`read`]. Tests write only pages they allocated or mapped.
pub fn write<T: IntoBytes>(address: u64, value: T) {
    // SAFETY: as documented.
    unsafe { (address as *mut T).write_volatile(value) };
}

/// A 32-bit word to be changed atomically.
pub fn atomic_u32(address: u64) -> &'static core::sync::atomic::AtomicU32 {
    // SAFETY: aligned memory of the guest that is accessed by volatile or atomic operations only.
    unsafe { core::sync::atomic::AtomicU32::from_ptr(address as *mut u32) }
}

/// A 64-bit word to be changed atomically.
pub fn atomic_u64(address: u64) -> &'static AtomicU64 {
    // SAFETY: as in `atomic_u32`.
    unsafe { AtomicU64::from_ptr(address as *mut u64) }
}

/// Copies memory of the guest.
pub fn copy(to: u64, from: u64, len: u64) {
    // SAFETY: callers name memory of their own.
    unsafe { core::ptr::copy(from as *const u8, to as *mut u8, len as usize) };
}

/// A page of RAM, or a mapping in a scratch frame. Valid until the test ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    /// Its frame number.
    pub gfn: u64,
}

impl Page {
    /// A zeroed page of RAM.
    #[allow(clippy::new_without_default, reason = "not a value but a resource")]
    pub fn new() -> Self {
        let at = POOL.fetch_add(PAGE, Ordering::Relaxed);
        assert!(at + PAGE <= POOL_END, "the pool of pages is empty");
        let page = Self { gfn: at >> 12 };
        page.fill(0);
        page
    }

    /// A frame number without memory behind it.
    pub fn scratch() -> Self {
        Self { gfn: scratch(1) }
    }

    /// The address of byte `offset`.
    pub fn at(self, offset: u64) -> u64 {
        (self.gfn << 12) + offset
    }

    /// Reads at `offset`.
    pub fn get<T: FromBytes>(self, offset: u64) -> T {
        read(self.at(offset))
    }

    /// Writes at `offset`.
    pub fn set<T: IntoBytes>(self, offset: u64, value: T) {
        write(self.at(offset), value);
    }

    /// Fills the page with a 64-bit word.
    pub fn fill(self, word: u64) {
        for offset in (0..PAGE).step_by(8) {
            self.set(offset, word);
        }
    }

    /// Reads a structure at `offset`, byte by byte as it may be unaligned.
    pub fn structure<T: FromBytes + IntoBytes>(self, offset: u64) -> T {
        let mut value = T::new_zeroed();
        for (byte, at) in value.as_mut_bytes().iter_mut().zip(offset..) {
            *byte = self.get(at);
        }
        value
    }

    /// Writes a structure at `offset`.
    pub fn set_structure<T: IntoBytes + Immutable>(self, offset: u64, value: &T) {
        for (byte, at) in value.as_bytes().iter().zip(offset..) {
            self.set(at, *byte);
        }
    }
}

/// `count` unused frame numbers in a row.
pub fn scratch(count: u64) -> u64 {
    scratch_aligned(count, 1)
}

/// [`scratch`] from a multiple of `align`.
pub fn scratch_aligned(count: u64, align: u64) -> u64 {
    let at = SCRATCH.load(Ordering::Relaxed).next_multiple_of(align);
    assert!(at + count <= SCRATCH_END, "out of scratch frames");
    SCRATCH.store(at + count, Ordering::Relaxed);
    at
}
