//! Iteration over present leaves in bounded steps, and the teardown built on it.

use crate::entry::{Entry, Format, Slot};
use crate::p2m::{ENTRIES, P2m, TOP, order_of, slot};
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicU64, Ordering};
use radon_addr::{Gfn, Mfn};

/// How far an iteration came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Walk {
    /// To the end.
    Done,
    /// Budget used up or told to stop: go on from this gfn.
    Resume(Gfn),
}

enum Next {
    Leaf(&'static AtomicU64, u64, Entry),
    OutOfBudget(u64),
    End,
}

impl<F: Format> P2m<F> {
    /// The first present leaf that ends after `from`. Costs one unit of `budget` per slot looked at.
    fn next_leaf(&self, mut from: u64, budget: &mut u32) -> Next {
        let Some(root) = self.root else { return Next::End };
        while from < self.gfn_limit {
            let Some(left) = budget.checked_sub(1) else { return Next::OutOfBudget(from) };
            *budget = left;
            let (mut table, mut level) = (root, TOP);
            let (at, found) = loop {
                let at = slot(table, from, level);
                match F::decode(at.load(Ordering::Relaxed), level) {
                    Slot::Table(next) if level > 0 => {
                        table = next;
                        level -= 1;
                    }
                    found => break (at, found),
                }
            };
            let order = order_of(level);
            let start = from >> order << order;
            if let Slot::Leaf(mfn, kind) = found {
                return Next::Leaf(at, start, Entry { mfn, kind, order });
            }
            from = start + (1 << order);
        }
        Next::End
    }

    /// Calls `visit` with the first gfn and the entry of each present leaf from `from` on, in order, looking
    /// at no more than `budget` slots. `Break` stops after that leaf.
    pub fn walk(
        &self,
        from: Gfn,
        mut budget: u32,
        mut visit: impl FnMut(Gfn, Entry) -> ControlFlow<()>,
    ) -> Walk {
        let mut from = from.raw();
        loop {
            match self.next_leaf(from, &mut budget) {
                Next::End => return Walk::Done,
                Next::OutOfBudget(gfn) => return Walk::Resume(Gfn::new(gfn)),
                Next::Leaf(_, gfn, entry) => {
                    from = gfn + (1 << entry.order);
                    if visit(Gfn::new(gfn), entry).is_break() {
                        return Walk::Resume(Gfn::new(from));
                    }
                }
            }
        }
    }

    /// One step of a dead domain's teardown: reports and removes leaves, then frees the tables and the root,
    /// looking at no more than `budget` slots in all. Call until it returns `true`. The domain's vCPUs no
    /// longer run and its TLB entries are gone: no flush is needed. From the first call on `set` refuses.
    pub fn teardown(&mut self, mut budget: u32, mut removed: impl FnMut(Gfn, Entry)) -> bool {
        self.dying = true;
        loop {
            match self.next_leaf(self.cursor, &mut budget) {
                Next::OutOfBudget(gfn) => {
                    self.cursor = gfn;
                    return false;
                }
                Next::Leaf(at, gfn, entry) => {
                    at.store(0, Ordering::Relaxed);
                    self.cursor = gfn + (1 << entry.order);
                    self.report(gfn, entry, &mut removed);
                }
                Next::End => break,
            }
        }
        self.cursor = self.gfn_limit;
        self.reclaim();
        let Some(root) = self.root else { return true };
        if !self.free_below(root, TOP, &mut budget) {
            return false;
        }
        self.root = None;
        self.free_table(root);
        true
    }

    /// Frees all tables and the root without reporting any leaf; what [`P2m::teardown`] has not reported yet
    /// is forgotten. Dropping the p2m does it too.
    pub fn free_tables(&mut self) {
        while !self.teardown(u32::MAX, |_, _| {}) {}
    }

    /// Frees the tables under `table`, whose entries are of `level`. `false`: out of budget.
    fn free_below(&mut self, table: Mfn, level: u32, budget: &mut u32) -> bool {
        for index in 0..ENTRIES {
            let at = slot(table, index, 0);
            let Slot::Table(next) = F::decode(at.load(Ordering::Relaxed), level) else { continue };
            let Some(left) = budget.checked_sub(1) else { return false };
            *budget = left;
            // A table of 4 KiB entries has no tables below.
            if level > 1 && !self.free_below(next, level - 1, budget) {
                return false;
            }
            at.store(0, Ordering::Relaxed);
            self.free_table(next);
        }
        true
    }
}
