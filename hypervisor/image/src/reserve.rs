//! A map of pages set aside for the heap: what it falls back on when guests (or their claims) have all other memory, because a
//! heap that runs dry takes the whole machine down.

/// log2 of the number of pages set aside: 4 MiB.
pub const ORDER: u8 = 10;
const PAGES: usize = 1 << ORDER;
const WORDS: usize = PAGES / 64;

/// Which of the pages are in use, one bit each.
pub struct PageMap([u64; WORDS]);

impl PageMap {
    /// All free.
    pub const fn new() -> Self {
        Self([0; WORDS])
    }

    /// Takes `2^order` pages aligned to their number; the index of the first.
    pub fn take(&mut self, order: u8) -> Option<usize> {
        if order > ORDER {
            return None;
        }
        let pages = 1usize << order;
        let first = (0..PAGES)
            .step_by(pages)
            .find(|at| self.words(*at, pages).all(|(i, mask)| self.0[i] & mask == 0))?;
        for (i, mask) in self.words(first, pages) {
            self.0[i] |= mask;
        }
        Some(first)
    }

    /// Gives pages back that `take` returned.
    pub fn give(&mut self, first: usize, order: u8) {
        for (i, mask) in self.words(first, 1usize << order.min(ORDER)) {
            if let Some(word) = self.0.get_mut(i) {
                debug_assert!(*word & mask == mask, "page {first} was not taken");
                *word &= !mask;
            }
        }
    }

    /// The words and bits of an aligned run.
    fn words(&self, first: usize, pages: usize) -> impl Iterator<Item = (usize, u64)> + use<> {
        let bits = if pages >= 64 { u64::MAX } else { ((1 << pages) - 1) << (first % 64) };
        (first / 64..(first + pages).div_ceil(64)).map(move |i| (i, bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_at_once_and_page_by_page() {
        let mut map = PageMap::new();
        assert_eq!(map.take(ORDER), Some(0));
        assert_eq!(map.take(0), None);
        map.give(0, ORDER);
        assert!((0..PAGES).all(|i| map.take(0) == Some(i)));
        assert_eq!((map.take(0), map.take(ORDER + 1)), (None, None));
    }

    proptest::proptest! {
        #[test]
        fn runs_are_aligned_and_disjoint(steps in proptest::collection::vec((0u8..=ORDER, 0usize..9), 1..120)) {
            let mut map = PageMap::new();
            let mut used = vec![false; PAGES];
            let mut live: Vec<(usize, u8)> = Vec::new();
            for (order, free) in steps {
                if free > 5 && !live.is_empty() {
                    let (first, order) = live.swap_remove(free % live.len());
                    map.give(first, order);
                    used[first..first + (1 << order)].fill(false);
                }
                let pages = 1 << order;
                let fits = used.chunks(pages).position(|run| run.iter().all(|u| !u)).map(|run| run * pages);
                proptest::prop_assert_eq!(map.take(order), fits);
                if let Some(first) = fits {
                    used[first..first + pages].fill(true);
                    live.push((first, order));
                }
            }
        }
    }
}
