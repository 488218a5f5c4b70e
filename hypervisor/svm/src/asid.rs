//! Address-space ids: a vCPU takes a fresh one whenever its cached translations must be forgotten, which is cheaper
//! than flushing. When a pCPU has run through all its ids, everything is flushed once and a new generation begins.

use core::sync::atomic::{AtomicU64, Ordering};

/// Allocator of one pCPU. Only that pCPU uses it, so plain loads and stores suffice.
pub struct AsidPool {
    generation: AtomicU64,
    next: AtomicU64,
}

/// An id that is valid on one pCPU as long as its generation is the pool's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Asid {
    generation: u64,
    id: u32,
}

/// Result of [`AsidPool::ensure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The id still holds.
    Same,
    /// A new id, nothing to flush.
    Fresh,
    /// A new id in a new generation: flush all of this pCPU's translations.
    FlushAll,
}

impl AsidPool {
    /// An empty pool. Id 0 is the host's.
    pub const fn new() -> AsidPool {
        AsidPool { generation: AtomicU64::new(1), next: AtomicU64::new(1) }
    }

    /// Makes `asid` valid on this pCPU; `max` is the number of ids the processor has (at least 2).
    pub fn ensure(&self, asid: &mut Asid, max: u32) -> Taken {
        let generation = self.generation.load(Ordering::Relaxed);
        if asid.generation == generation {
            return Taken::Same;
        }
        let next = self.next.load(Ordering::Relaxed);
        if next < u64::from(max.max(2)) {
            self.next.store(next.saturating_add(1), Ordering::Relaxed);
            *asid = Asid { generation, id: next as u32 };
            Taken::Fresh
        } else {
            let generation = generation.wrapping_add(1);
            self.generation.store(generation, Ordering::Relaxed);
            self.next.store(2, Ordering::Relaxed);
            *asid = Asid { generation, id: 1 };
            Taken::FlushAll
        }
    }
}

impl Default for AsidPool {
    fn default() -> Self {
        Self::new()
    }
}

impl Asid {
    /// The number for the VMCB.
    pub const fn id(self) -> u32 {
        self.id
    }
    /// Forgets the id: the next `ensure` takes a new one.
    pub fn invalidate(&mut self) {
        self.generation = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_the_same_id_for_two_holders_in_one_generation() {
        let pool = AsidPool::new();
        let mut live: std::vec::Vec<Asid> = std::vec::Vec::new();
        for round in 0..100 {
            let mut a = Asid::default();
            let taken = pool.ensure(&mut a, 16);
            assert_ne!(a.id(), 0);
            assert!(a.id() < 16);
            if taken == Taken::FlushAll {
                live.clear();
                assert!(round > 0);
            }
            assert!(!live.contains(&a), "{a:?} given twice");
            live.push(a);
        }
    }

    #[test]
    fn an_invalidated_id_is_replaced() {
        let pool = AsidPool::new();
        let mut a = Asid::default();
        pool.ensure(&mut a, 16);
        let before = a;
        assert_eq!(pool.ensure(&mut a, 16), Taken::Same);
        a.invalidate();
        assert_eq!(pool.ensure(&mut a, 16), Taken::Fresh);
        assert_ne!(a, before);
    }
}
