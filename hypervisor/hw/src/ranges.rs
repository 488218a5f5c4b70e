//! A table of address ranges, longest first, that can be read without a lock.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

/// Most ranges kept.
pub(crate) const MAX_RANGES: usize = 128;

struct Range {
    start: AtomicU64,
    end: AtomicU64,
    /// At how many addresses from `start` on `PIECE` bytes may start that lie in the range.
    starts: AtomicU64,
}

/// Most bytes of a quick look-up.
const PIECE: u64 = 4096;

impl Range {
    fn set(&self, start: u64, end: u64) {
        self.start.store(start, Relaxed);
        self.end.store(end, Relaxed);
        self.starts.store((end - start).saturating_sub(PIECE - 1), Relaxed);
    }
}

/// Ranges `[start, end)`. Changed only while a single CPU runs; the longest comes first, where most look-ups end.
pub(crate) struct Ranges {
    all: [Range; MAX_RANGES],
    count: AtomicUsize,
}

impl Ranges {
    pub const fn new() -> Ranges {
        let all = [const { Range { start: AtomicU64::new(0), end: AtomicU64::new(0), starts: AtomicU64::new(0) } };
            MAX_RANGES];
        Ranges { all, count: AtomicUsize::new(0) }
    }

    pub fn clear(&self) {
        self.count.store(0, Relaxed);
        self.all.iter().take(2).for_each(|r| r.set(0, 0));
    }

    /// Adds `[start, start + len)`; when the table is full the shortest is lost.
    pub fn insert(&self, start: u64, len: u64) {
        let (mut start, mut end) = (start, start.saturating_add(len));
        let used = self.count.load(Relaxed).min(MAX_RANGES);
        for r in &self.all[..used] {
            let (s, e) = (r.start.load(Relaxed), r.end.load(Relaxed));
            if end - start > e - s {
                r.set(start, end);
                (start, end) = (s, e);
            }
        }
        if let Some(r) = self.all.get(used) {
            r.set(start, end);
            self.count.store(used + 1, Release);
        }
    }

    /// Where the range that holds `addr` ends.
    #[inline]
    pub fn end_of(&self, addr: u64) -> Option<u64> {
        self.all
            .iter()
            .take(self.count.load(Acquire))
            .find(|r| r.start.load(Relaxed) <= addr && addr < r.end.load(Relaxed))
            .map(|r| r.end.load(Relaxed))
    }

    /// Does one of the two longest ranges (on most machines RAM below and above 4 GiB) hold all of `[addr, addr + len)`?
    /// A false "no" is possible for the last page of a range and for more than a page.
    #[inline(always)]
    pub fn longest_hold(&self, addr: u64, len: u64) -> bool {
        let holds = |r: &Range| addr.wrapping_sub(r.start.load(Relaxed)) < r.starts.load(Relaxed);
        len <= PIECE && (holds(&self.all[0]) || holds(&self.all[1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn full_table_keeps_the_longest() {
        let r = Ranges::new();
        for i in 0..MAX_RANGES as u64 + 10 {
            r.insert(i * 1000, 100 + i);
        }
        assert_eq!((r.end_of(137_000), r.end_of(10_000), r.end_of(0)), (Some(137_237), Some(10_110), None));
        r.insert(1 << 20, 5 * PIECE);
        r.insert(1 << 21, 6 * PIECE);
        for (start, pages) in [(1 << 20, 5), (1 << 21, 6)] {
            assert!(r.longest_hold(start, PIECE) && r.longest_hold(start + (pages - 1) * PIECE, 8));
            assert!(!r.longest_hold(start - 1, 1) && !r.longest_hold(start + pages * PIECE, 1));
            assert!(
                !r.longest_hold(start + (pages - 1) * PIECE + 1, PIECE) && !r.longest_hold(start, PIECE + 1)
            );
        }
        assert!(!r.longest_hold(135_000, 1));
        r.clear();
        assert!(r.end_of(137_000).is_none() && !r.longest_hold(1 << 20, 1) && !r.longest_hold(1 << 21, 1));
        assert!(!r.longest_hold(u64::MAX, 2));
    }

    proptest! {
        #[test]
        fn finds_what_was_inserted(
            lens in prop::collection::vec((0u64..50, 0u64..50), 0..40),
            probes in prop::collection::vec(0u64..4000, 50),
        ) {
            let (table, mut model, mut at) = (Ranges::new(), Vec::new(), 0);
            for (gap, len) in lens {
                let (gap, len) = (gap * PIECE, len * PIECE);
                at += gap;
                table.insert(at, len);
                model.push((at, at + len));
                at += len;
            }
            let mut lens: Vec<u64> = model.iter().map(|(s, e)| e - s).collect();
            lens.sort_by_key(|len| std::cmp::Reverse(*len));
            for p in probes.into_iter().map(|p| p * PIECE + p % 8) {
                let holder = model.iter().find(|(s, e)| (*s..*e).contains(&p));
                prop_assert_eq!(table.end_of(p), holder.map(|r| r.1));
                if table.longest_hold(p, 1) {
                    let len = holder.map_or(0, |(s, e)| e - s);
                    prop_assert!(lens.iter().take(2).any(|longest| *longest == len));
                }
            }
        }
    }
}
