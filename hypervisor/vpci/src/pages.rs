//! Ranges of page frames.

use alloc::vec::Vec;

use radon_addr::{Mfn, PAGE_SHIFT};

/// Page frames `first .. first + count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    first: u64,
    end: u64,
}

impl Pages {
    /// The pages that hold bytes `address .. address + size`; `None` when that is empty or wraps.
    pub fn covering(address: u64, size: u64) -> Option<Pages> {
        let last = address.checked_add(size.checked_sub(1)?)?;
        Some(Pages { first: address >> PAGE_SHIFT, end: (last >> PAGE_SHIFT).saturating_add(1) })
    }

    /// First frame.
    pub fn first(&self) -> Mfn {
        Mfn::new(self.first)
    }

    /// Number of frames, never 0.
    pub fn count(&self) -> u64 {
        self.end.saturating_sub(self.first)
    }

    /// Whether it holds the byte at `address`.
    pub fn contains(&self, address: u64) -> bool {
        (self.first..self.end).contains(&(address >> PAGE_SHIFT))
    }

    fn new(first: u64, end: u64) -> Option<Pages> {
        (first < end).then_some(Pages { first, end })
    }
}

/// Takes `hole` out of every range.
pub(crate) fn subtract(ranges: &mut Vec<Pages>, hole: Pages) {
    let pieces = |range: &Pages| {
        let before = Pages::new(range.first, range.end.min(hole.first));
        let after = Pages::new(range.first.max(hole.end), range.end);
        before.into_iter().chain(after)
    };
    *ranges = ranges.iter().flat_map(pieces).collect();
}
