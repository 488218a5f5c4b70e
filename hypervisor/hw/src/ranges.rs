//! A table of address ranges, longest first, that can be read without a lock.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

/// Most ranges kept.
pub(crate) const MAX_RANGES: usize = 128;

struct Range {
    start: AtomicU64,
    end: AtomicU64,
}

/// Ranges `[start, end)`. Changed only while a single CPU runs; the longest comes first, where most look-ups end.
pub(crate) struct Ranges {
    all: [Range; MAX_RANGES],
    count: AtomicUsize,
}

impl Ranges {
    pub const fn new() -> Ranges {
        let all = [const { Range { start: AtomicU64::new(0), end: AtomicU64::new(0) } }; MAX_RANGES];
        Ranges { all, count: AtomicUsize::new(0) }
    }

    pub fn clear(&self) {
        self.count.store(0, Relaxed);
        self.all[0].end.store(0, Relaxed);
    }

    /// Adds `[start, start + len)`; when the table is full the shortest is lost.
    pub fn insert(&self, start: u64, len: u64) {
        let (mut start, mut end) = (start, start.saturating_add(len));
        let used = self.count.load(Relaxed).min(MAX_RANGES);
        for r in &self.all[..used] {
            let (s, e) = (r.start.load(Relaxed), r.end.load(Relaxed));
            if end - start > e - s {
                r.start.store(start, Relaxed);
                r.end.store(end, Relaxed);
                (start, end) = (s, e);
            }
        }
        if let Some(r) = self.all.get(used) {
            r.start.store(start, Relaxed);
            r.end.store(end, Relaxed);
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

    /// Does the longest range hold all of `[addr, addr + len)`?
    #[inline]
    pub fn longest_holds(&self, addr: u64, len: u64) -> bool {
        let longest = &self.all[0];
        longest.start.load(Relaxed) <= addr
            && addr.checked_add(len).is_some_and(|end| end <= longest.end.load(Relaxed))
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
        assert!(r.longest_holds(137_000, 237) && !r.longest_holds(137_000, 238));
        r.clear();
        assert!(r.end_of(137_000).is_none() && !r.longest_holds(137_000, 1));
        assert!(!r.longest_holds(u64::MAX, 2));
    }

    proptest! {
        #[test]
        fn finds_what_was_inserted(
            lens in prop::collection::vec((0u64..50, 0u64..50), 0..40),
            probes in prop::collection::vec(0u64..4000, 50),
        ) {
            let (table, mut model, mut at) = (Ranges::new(), Vec::new(), 0);
            for (gap, len) in lens {
                at += gap;
                table.insert(at, len);
                model.push((at, at + len));
                at += len;
            }
            let longest = model.iter().map(|(s, e)| e - s).max().unwrap_or(0);
            for p in probes {
                let holder = model.iter().find(|(s, e)| (*s..*e).contains(&p));
                prop_assert_eq!(table.end_of(p), holder.map(|r| r.1));
                if table.longest_holds(p, 1) {
                    prop_assert_eq!(holder.map(|(s, e)| e - s), Some(longest));
                }
            }
        }
    }
}
