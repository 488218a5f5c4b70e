//! Ranks held by this CPU; does nothing in release builds.

use super::Rank;

#[inline(always)]
#[track_caller]
pub fn check(rank: Rank) {
    if cfg!(debug_assertions)
        && let Some(top) = imp::highest()
    {
        assert!(top < rank.0, "lock order: taking rank {} while holding rank {top}", rank.0);
    }
}

#[inline(always)]
pub fn push(rank: Rank) {
    if cfg!(debug_assertions) {
        imp::push(rank.0);
    }
}

#[inline(always)]
pub fn pop(rank: Rank) {
    if cfg!(debug_assertions) {
        imp::pop(rank.0);
    }
}

#[cfg(not(target_os = "none"))]
mod imp {
    use crate::sim::thread::with;
    pub fn highest() -> Option<u8> {
        with(|t| t.ranks.borrow().iter().copied().max())
    }
    pub fn push(rank: u8) {
        with(|t| t.ranks.borrow_mut().push(rank));
    }
    pub fn pop(rank: u8) {
        with(|t| {
            let mut ranks = t.ranks.borrow_mut();
            if let Some(i) = ranks.iter().rposition(|&r| r == rank) {
                ranks.remove(i);
            }
        });
    }
}

#[cfg(target_os = "none")]
mod imp {
    use crate::percpu::PerCpu;
    use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

    /// How many locks of each rank this CPU holds, in steps of ten (the ranks of `super::super::rank`).
    static HELD: PerCpu<[AtomicU32; 26]> = crate::per_cpu!([const { AtomicU32::new(0) }; 26]);

    pub fn highest() -> Option<u8> {
        HELD.this().iter().rposition(|n| n.load(Relaxed) != 0).map(|i| (i * 10) as u8)
    }
    pub fn push(rank: u8) {
        HELD.this()[usize::from(rank) / 10].fetch_add(1, Relaxed);
    }
    pub fn pop(rank: u8) {
        // A lock that was seized may leave one release too many.
        let slot = &HELD.this()[usize::from(rank) / 10];
        slot.store(slot.load(Relaxed).saturating_sub(1), Relaxed);
    }
}
