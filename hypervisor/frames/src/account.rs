//! What each domain owns and may own.
//!
//! The counters lie behind the frame table, one slot for every domain id, so that the last `put` of a frame
//! (often by another domain) needs nothing of the owner's `Domain`. They change only under the allocator's
//! lock; reading needs no lock.

use crate::alloc::FrameAllocator;
use crate::table::Table;
use core::sync::atomic::Ordering;
use radon_addr::DomId;

/// Why [`FrameAllocator::claim`] refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClaimError {
    /// A claim is active already, or the target does not exceed what is owned, or exceeds `max_pages`
    /// (`EINVAL`).
    Invalid,
    /// Not enough unclaimed free memory (`ENOMEM`).
    NoMemory,
}

/// One domain's page counts, a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Domain {
    /// Frames of guest RAM owned (Xen's `tot_pages`).
    pub tot_pages: u32,
    /// Limit on `tot_pages`; 0 for a domain nobody has set up.
    pub max_pages: u32,
    /// Frames claimed but not yet allocated.
    pub outstanding: u32,
    /// Page tables and shared pages held for the domain.
    pub overhead: u32,
}

const TOT: u64 = 0;
const MAX: u64 = 1;
const OUTSTANDING: u64 = 2;
const OVERHEAD: u64 = 3;

/// Counter access under the allocator's lock.
#[derive(Clone, Copy)]
pub(crate) struct Counters {
    pub(crate) table: Table,
    pub(crate) dom: DomId,
}

impl Counters {
    fn get(self, index: u64) -> u32 {
        self.table.counter(self.dom, index).load(Ordering::Relaxed)
    }
    fn set(self, index: u64, value: u32) {
        self.table.counter(self.dom, index).store(value, Ordering::Relaxed);
    }
    pub(crate) fn snapshot(self) -> Domain {
        Domain {
            tot_pages: self.get(TOT),
            max_pages: self.get(MAX),
            outstanding: self.get(OUTSTANDING),
            overhead: self.get(OVERHEAD),
        }
    }
    /// `n` frames of RAM arrived; returns by how much the claim shrank.
    pub(crate) fn add_ram(self, n: u32) -> u32 {
        self.set(TOT, self.get(TOT).saturating_add(n));
        let used = self.get(OUTSTANDING).min(n);
        self.set(OUTSTANDING, self.get(OUTSTANDING) - used);
        used
    }
    /// `n` frames of RAM went; returns by how much an active claim grew back (as Xen's
    /// `domain_adjust_tot_pages`).
    pub(crate) fn sub_ram(self, n: u32) -> u32 {
        debug_assert!(self.get(TOT) >= n);
        self.set(TOT, self.get(TOT).saturating_sub(n));
        let before = self.get(OUTSTANDING);
        if before == 0 {
            return 0;
        }
        let after = before.saturating_add(n);
        self.set(OUTSTANDING, after);
        after - before
    }
    pub(crate) fn add_overhead(self, n: u32) {
        self.set(OVERHEAD, self.get(OVERHEAD).saturating_add(n));
    }
    pub(crate) fn sub_overhead(self, n: u32) {
        debug_assert!(self.get(OVERHEAD) >= n);
        self.set(OVERHEAD, self.get(OVERHEAD).saturating_sub(n));
    }
}

impl FrameAllocator {
    /// `dom`'s page counts.
    pub fn domain(&self, dom: DomId) -> Domain {
        Counters { table: self.table(), dom }.snapshot()
    }

    /// Sets `dom`'s limit (`XEN_DOMCTL_max_mem`), clamped to 2^32 - 1 frames. May be below what it owns: then
    /// it only cannot grow. A dying domain's limit is set to 0 so that nothing is allocated for it any more.
    pub fn set_max_pages(&self, dom: DomId, pages: u64) {
        let pages = u32::try_from(pages).unwrap_or(u32::MAX);
        let inner = self.lock();
        Counters { table: self.table(), dom }.set(MAX, pages);
        drop(inner);
    }

    /// `XENMEM_claim_pages`: reserves free memory so that `dom` can grow to `pages` in all; 0 gives the
    /// claim up.
    pub fn claim(&self, dom: DomId, pages: u64) -> Result<(), ClaimError> {
        let mut inner = self.lock();
        let counters = Counters { table: self.table(), dom };
        let now = counters.snapshot();
        if pages == 0 {
            inner.claims = inner.claims.saturating_sub(u64::from(now.outstanding));
            counters.set(OUTSTANDING, 0);
            self.publish(&inner);
            return Ok(());
        }
        let target = u32::try_from(pages).map_err(|_| ClaimError::Invalid)?;
        if now.outstanding != 0 || target <= now.tot_pages || target > now.max_pages {
            return Err(ClaimError::Invalid);
        }
        let claim = target - now.tot_pages;
        if u64::from(claim) > inner.free.saturating_sub(inner.claims + inner.floor()) {
            return Err(ClaimError::NoMemory);
        }
        counters.set(OUTSTANDING, claim);
        inner.claims += u64::from(claim);
        self.publish(&inner);
        Ok(())
    }

    /// Does `dom` own nothing any more, so that its id may be given to another domain?
    pub fn domain_is_empty(&self, dom: DomId) -> bool {
        let now = self.domain(dom);
        now.tot_pages == 0 && now.overhead == 0
    }
}
