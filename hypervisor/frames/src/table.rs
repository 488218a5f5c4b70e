//! Where the frame table lies in machine memory.
//!
//! ```text
//! base:  entry of frame 0, 1, ...   16 bytes each: state word, link word (next:32 | prev:32)
//!        counters of domain 0 ...   16 bytes each: tot_pages, max_pages, outstanding, overhead
//! ```

use crate::state::State;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use radon_addr::{DomId, Maddr, Mfn};
use radon_hw::mem;

const ENTRY: u64 = 16;
/// Domain ids with counters: every id the ABI can express.
const DOMAINS: u64 = 0x8000;

/// End of a list.
pub(crate) const NIL: u32 = u32::MAX;

/// Bytes needed for `frames` frames.
pub(crate) const fn bytes(frames: u64) -> u64 {
    frames.saturating_add(DOMAINS).saturating_mul(ENTRY)
}

#[derive(Clone, Copy)]
pub(crate) struct Table {
    pub(crate) base: u64,
    /// Entries; indices at or above are not RAM.
    pub(crate) frames: u32,
}

impl Table {
    pub(crate) const fn contains(self, frame: u32) -> bool {
        frame < self.frames
    }
    /// The table index of `mfn`, if it has one.
    #[inline]
    pub(crate) fn index(self, mfn: Mfn) -> Option<u32> {
        u32::try_from(mfn.raw()).ok().filter(|frame| self.contains(*frame))
    }
    /// State word of `frame`; the caller has checked [`Table::contains`].
    #[inline]
    pub(crate) fn state(self, frame: u32) -> &'static AtomicU64 {
        debug_assert!(self.contains(frame));
        mem::atomic_u64(Maddr::new(self.base + u64::from(frame) * ENTRY))
    }
    #[inline]
    fn link(self, frame: u32) -> &'static AtomicU64 {
        debug_assert!(self.contains(frame));
        mem::atomic_u64(Maddr::new(self.base + u64::from(frame) * ENTRY + 8))
    }
    #[inline]
    pub(crate) fn load(self, frame: u32) -> State {
        State(self.state(frame).load(Ordering::Acquire))
    }
    #[inline]
    pub(crate) fn store(self, frame: u32, state: State) {
        self.state(frame).store(state.0, Ordering::Release);
    }
    /// (next, prev) of a linked frame. Under the allocator's lock.
    pub(crate) fn links(self, frame: u32) -> (u32, u32) {
        let raw = self.link(frame).load(Ordering::Relaxed);
        (raw as u32, (raw >> 32) as u32)
    }
    pub(crate) fn set_links(self, frame: u32, next: u32, prev: u32) {
        self.link(frame).store(u64::from(next) | u64::from(prev) << 32, Ordering::Relaxed);
    }
    /// The counter number `index` (0..4) of `dom`; ids beyond the ABI's share the last slot.
    pub(crate) fn counter(self, dom: DomId, index: u64) -> &'static AtomicU32 {
        let slot = u64::from(dom.raw()).min(DOMAINS - 1);
        mem::atomic_u32(Maddr::new(self.base + (u64::from(self.frames) + slot) * ENTRY + index * 4))
    }
    /// Forgets everything: all frames reserved, all counters zero.
    pub(crate) fn clear(self) {
        for frame in 0..self.frames {
            self.store(frame, State::RESERVED);
            self.set_links(frame, NIL, NIL);
        }
        for slot in 0..DOMAINS {
            for index in 0..4 {
                self.counter(DomId::new(slot as u16), index).store(0, Ordering::Relaxed);
            }
        }
    }
}
