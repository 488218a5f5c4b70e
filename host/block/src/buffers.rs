//! Pages of dom0's own for data on their way: the kernel may do DMA from and to them, which it must not with pages that a guest grants.

use radon_xen::PAGE_SIZE;

/// Pages in a row: where they begin, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First byte.
    pub at: usize,
    pages: usize,
}

/// Which pages are in use.
#[derive(Debug)]
pub struct Buffers {
    used: Vec<bool>,
    free: usize,
    /// Where to look first: behind the last find.
    next: usize,
}

impl Buffers {
    /// So many pages, all free.
    pub fn new(pages: usize) -> Self {
        Self { used: vec![false; pages], free: pages, next: 0 }
    }

    /// Whether no page is in use.
    pub fn is_unused(&self) -> bool {
        self.free == self.used.len()
    }

    /// Room for so many bytes, at least one page. `None`: not now; when all are free, there is room for all of them.
    pub fn take(&mut self, bytes: usize) -> Option<Run> {
        let pages = bytes.div_ceil(PAGE_SIZE).max(1);
        if pages > self.free {
            return None;
        }
        let first = self.find(self.next, pages).or_else(|| self.find(0, pages))?;
        self.mark(first, pages, true);
        self.free -= pages;
        self.next = first + pages;
        Some(Run { at: first * PAGE_SIZE, pages })
    }

    /// Gives pages back.
    pub fn give(&mut self, run: Run) {
        self.mark(run.at / PAGE_SIZE, run.pages, false);
        self.free += run.pages;
    }

    fn mark(&mut self, first: usize, pages: usize, used: bool) {
        for page in self.used.iter_mut().skip(first).take(pages) {
            debug_assert_ne!(*page, used);
            *page = used;
        }
    }

    fn find(&self, from: usize, pages: usize) -> Option<usize> {
        let mut length = 0;
        for (page, used) in self.used.iter().enumerate().skip(from) {
            length = if *used { 0 } else { length + 1 };
            if length == pages {
                return Some(page + 1 - pages);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_page_twice_and_none_lost(steps in proptest::collection::vec((any::<bool>(), 0usize..12 * PAGE_SIZE), 0..200)) {
            let mut buffers = Buffers::new(40);
            let mut taken: Vec<Run> = Vec::new();
            for (take, n) in steps {
                if take {
                    if let Some(run) = buffers.take(n) {
                        prop_assert!(run.at + n <= 40 * PAGE_SIZE && run.at % PAGE_SIZE == 0);
                        for other in &taken {
                            prop_assert!(run.at >= other.at + other.pages * PAGE_SIZE || other.at >= run.at + run.pages * PAGE_SIZE);
                        }
                        taken.push(run);
                    } else {
                        prop_assert!(!taken.is_empty());
                    }
                } else if !taken.is_empty() {
                    buffers.give(taken.swap_remove(n % taken.len()));
                }
            }
            for run in taken {
                buffers.give(run);
            }
            prop_assert!(buffers.is_unused());
            prop_assert!(buffers.take(40 * PAGE_SIZE).is_some());
        }
    }
}
