//! Where the frame table lies in machine memory.
//!
//! ```text
//! base:  entry of each frame that has one     8 bytes each: the state word
//!        counters of domain 0 ...             16 bytes each: tot_pages, max_pages, outstanding, overhead
//! ```
//!
//! The links of a free block (next:32 | prev:32) lie in the first word of the block itself, which nobody else may touch: they
//! cost nothing. A frame off the lists has that word zeroed again, so that a clean frame stays clean.

use crate::state::State;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use radon_addr::{DomId, Maddr, Mfn};
use radon_hw::mem;

const ENTRY: u64 = 8;
/// Bytes of one domain's counters.
const COUNTERS: u64 = 16;
/// Domain ids with counters: every id the ABI can express. (Miri, which clears them byte by byte, gets few.)
const DOMAINS: u64 = if cfg!(miri) { 8 } else { 0x8000 };
/// log2 of the frames in the unit that a hole is counted in: the largest block, so that no block touches a hole.
const UNIT: u32 = crate::MAX_ORDER as u32;

/// End of a list.
pub(crate) const NIL: u32 = u32::MAX;

/// Which frames the table describes: all below a limit but for the largest hole between RAM ranges (on PCs: the
/// addresses of devices below 4 GiB), for which no entries are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    max_mfn: u64,
    /// In units of 1 GiB.
    hole_start: u16,
    hole_len: u16,
}

impl From<Mfn> for Extent {
    /// Every frame below `max_mfn`.
    fn from(max_mfn: Mfn) -> Extent {
        Extent { max_mfn: max_mfn.raw(), hole_start: 0, hole_len: 0 }
    }
}

impl Extent {
    /// What is needed for these ranges of RAM, which are sorted and disjoint.
    pub fn of(ram: &[Range<Mfn>]) -> Extent {
        let mut extent = Extent::from(ram.last().map_or(Mfn::new(0), |r| r.end));
        for pair in ram.windows(2) {
            let [below, above] = pair else { continue };
            let start = below.end.raw().div_ceil(1 << UNIT);
            let len = (above.start.raw() >> UNIT).saturating_sub(start);
            if let (Ok(start), Ok(len)) = (u16::try_from(start), u16::try_from(len))
                && len > extent.hole_len
            {
                (extent.hole_start, extent.hole_len) = (start, len);
            }
        }
        extent
    }

    /// Frames that have an entry.
    const fn entries(self) -> u64 {
        self.max_mfn.saturating_sub((self.hole_len as u64) << UNIT)
    }

    /// Bytes needed for the table.
    pub(crate) const fn bytes(self) -> u64 {
        self.entries().saturating_mul(ENTRY).saturating_add(DOMAINS * COUNTERS)
    }

    /// As one word for an atomic; 0 stands for no frame at all. `None` when there are more frames than a table can have.
    pub(crate) fn pack(self) -> Option<u64> {
        let frames = u32::try_from(self.max_mfn).ok().filter(|f| *f != 0 && *f != NIL)?;
        Some(u64::from(frames) | u64::from(self.hole_start) << 32 | u64::from(self.hole_len) << 48)
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Table {
    pub(crate) base: u64,
    /// Frame numbers at or above are not RAM.
    pub(crate) frames: u32,
    /// Nor are these.
    hole_start: u32,
    hole_len: u32,
}

impl Table {
    /// The table at `base` of an extent that was packed into a word.
    #[inline]
    pub(crate) fn new(base: u64, extent: u64) -> Table {
        let unit = |shift: u32| ((extent >> shift) as u32 & 0xffff) << UNIT;
        Table { base, frames: extent as u32, hole_start: unit(32), hole_len: unit(48) }
    }
    #[inline]
    pub(crate) const fn contains(self, frame: u32) -> bool {
        frame < self.frames && frame.wrapping_sub(self.hole_start) >= self.hole_len
    }
    /// The number by which the table knows `mfn`, if it does.
    #[inline]
    pub(crate) fn index(self, mfn: Mfn) -> Option<u32> {
        u32::try_from(mfn.raw()).ok().filter(|frame| self.contains(*frame))
    }
    /// State word of `frame`; the caller has checked [`Table::contains`].
    #[inline]
    pub(crate) fn state(self, frame: u32) -> &'static AtomicU64 {
        debug_assert!(self.contains(frame));
        let entry = if frame >= self.hole_start { frame.wrapping_sub(self.hole_len) } else { frame };
        mem::atomic_u64(Maddr::new(self.base.wrapping_add(u64::from(entry) * ENTRY)))
    }
    #[inline]
    pub(crate) fn load(self, frame: u32) -> State {
        State(self.state(frame).load(Ordering::Acquire))
    }
    #[inline]
    pub(crate) fn store(self, frame: u32, state: State) {
        self.state(frame).store(state.0, Ordering::Release);
    }
    /// Has every frame of the range an entry?
    pub(crate) fn covers(self, range: &Range<Mfn>) -> bool {
        let (start, end) = (range.start.raw(), range.end.raw());
        let (hole, after) =
            (u64::from(self.hole_start), u64::from(self.hole_start) + u64::from(self.hole_len));
        start < end && end <= u64::from(self.frames) && (end <= hole || start >= after || hole == after)
    }
    /// The same state for `count` frames from `frame` on, none of which lies in the hole, and of which nobody else knows yet.
    pub(crate) fn fill(self, frame: u32, count: u32, state: State) {
        debug_assert!(self.contains(frame) && self.contains(frame + count - 1));
        let entry = if frame >= self.hole_start { frame.wrapping_sub(self.hole_len) } else { frame };
        let at = Maddr::new(self.base.wrapping_add(u64::from(entry) * ENTRY));
        mem::fill_words(at, state.0, count as usize);
    }
    #[inline]
    fn link(self, frame: u32) -> &'static AtomicU64 {
        debug_assert!(self.contains(frame));
        mem::atomic_u64(Mfn::new(u64::from(frame)).maddr())
    }
    /// (next, prev) of a linked frame. Under the allocator's lock. Free memory that something other than the allocator wrote
    /// to (a device that went on with a transfer) is found out here: no entry of the table is reached through it.
    pub(crate) fn links(self, frame: u32) -> (u32, u32) {
        let raw = self.link(frame).load(Ordering::Relaxed);
        let (next, prev) = (raw as u32, (raw >> 32) as u32);
        let valid = |f: u32| f == NIL || self.contains(f) && self.load(f).head_order().is_some();
        assert!(valid(next) && valid(prev), "free frame {frame:#x} was written to: {raw:#x}");
        (next, prev)
    }
    pub(crate) fn set_links(self, frame: u32, next: u32, prev: u32) {
        self.link(frame).store(u64::from(next) | u64::from(prev) << 32, Ordering::Relaxed);
    }
    /// The frame is on no list any more.
    pub(crate) fn clear_links(self, frame: u32) {
        self.link(frame).store(0, Ordering::Relaxed);
    }
    /// The counter number `index` (0..4) of `dom`; ids beyond the ABI's share the last slot.
    #[inline]
    pub(crate) fn counter(self, dom: DomId, index: u64) -> &'static AtomicU32 {
        let slot = u64::from(dom.raw()).min(DOMAINS - 1);
        let counters = self.base + u64::from(self.frames - self.hole_len) * ENTRY;
        mem::atomic_u32(Maddr::new(counters + slot * COUNTERS + index * 4))
    }
    /// Forgets everything: all frames reserved, all counters zero.
    pub(crate) fn clear(self) {
        let entries = u64::from(self.frames - self.hole_len) * ENTRY;
        mem::fill(Maddr::new(self.base), 0, (entries + DOMAINS * COUNTERS) as usize);
    }
}

const _: () = assert!(State::RESERVED.0 == 0, "a table of zeros is a table of reserved frames");

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(of: &[(u64, u64)]) -> std::vec::Vec<Range<Mfn>> {
        of.iter().map(|(start, end)| Mfn::new(*start)..Mfn::new(*end)).collect()
    }

    #[test]
    fn the_hole_below_four_gib_costs_nothing() {
        let ram = ranges(&[(0, 0x9f), (0x100, 0x7ffe0), (0x10_0000, 0x14_0000)]);
        let extent = Extent::of(&ram);
        assert_eq!(extent, Extent { max_mfn: 0x14_0000, hole_start: 2, hole_len: 2 });
        assert_eq!(extent.bytes(), 0xc_0000 * 8 + 0x8000 * 16);
        let table = Table::new(0, extent.pack().unwrap());
        for inside in [0, 0x7ffe0, 0x7_ffff, 0x10_0000, 0x13_ffff] {
            assert_eq!(table.index(Mfn::new(inside)), Some(inside as u32));
        }
        for outside in [0x8_0000, 0xf_ffff, 0x14_0000, u64::MAX] {
            assert_eq!(table.index(Mfn::new(outside)), None);
        }
        // A hole that shares its 1 GiB blocks with RAM is part of the table.
        let small = Extent::of(&ranges(&[(0, 0x7_0000), (0xb_ffff, 0xc_0000)]));
        assert_eq!(small, Extent::from(Mfn::new(0xc_0000)));
    }

    #[test]
    fn too_many_frames_are_refused() {
        assert_eq!(Extent::from(Mfn::new(0)).pack(), None);
        assert_eq!(Extent::from(Mfn::new(u64::from(u32::MAX))).pack(), None);
        assert!(Extent::from(Mfn::new(u64::from(u32::MAX) - 1)).pack().is_some());
    }
}
