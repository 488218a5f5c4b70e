//! Which pages a domain's guest changes: log-dirty mode, for whoever copies its memory while it runs.
//!
//! The record is the p2m itself. While the mode is on, an own page of kind `RamLogdirty` is clean and write-protected, one of
//! kind `Ram` is dirty. Switching on protects all; the first write makes a page `Ram` again, whoever writes: the guest (a nested
//! fault), or the hypervisor for it ([`touch`]). A page of which anybody holds a counted reference (a grant in use, `vcpu_info`,
//! event words) may be written without either, so it is never protected: it counts as dirty each time. As on Xen, what the
//! control domain writes through a foreign mapping is not seen.

use alloc::vec::Vec;
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use radon_addr::{Gfn, Mfn};
use radon_frames::frames;
use radon_hw::lock::ReadGuard;
use radon_p2m::{Entry, Flush, Kind, P2m, Walk};

use crate::domain::Domain;
use crate::run;

/// State of one domain's log. Changed under the toolstack's lock, but for the count of faults.
#[derive(Default)]
pub struct LogDirty {
    on: AtomicBool,
    /// Pages made dirty since the log was last cleaned.
    faults: AtomicU32,
    /// Where an interrupted operation goes on, and which it is (0: none).
    next: AtomicU64,
    unfinished: AtomicU64,
    /// Dirty pages that it has seen so far.
    seen: AtomicU32,
}

impl LogDirty {
    /// Is the mode on (or being switched)?
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }
    /// Begins an operation, or goes on with it: the frame to go on from. `None`: another one is unfinished.
    pub fn begin(&self, op: u32) -> Option<u64> {
        match self.unfinished.load(Ordering::Relaxed) {
            0 => {
                self.next.store(0, Ordering::Relaxed);
                self.seen.store(0, Ordering::Relaxed);
                Some(0)
            }
            this if this == u64::from(op) + 1 => Some(self.next.load(Ordering::Relaxed)),
            _ => None,
        }
    }
    /// Remembers how far an operation came.
    pub fn interrupt(&self, op: u32, next: u64) {
        self.next.store(next, Ordering::Relaxed);
        self.unfinished.store(u64::from(op) + 1, Ordering::Relaxed);
    }
    /// The operation is over.
    pub fn finish(&self) {
        self.unfinished.store(0, Ordering::Relaxed);
    }
    /// Counts dirty pages; all since the operation began.
    pub fn count(&self, more: u32) -> u32 {
        self.seen.fetch_add(more, Ordering::Relaxed).saturating_add(more)
    }
    /// Faults since the log was last cleaned.
    pub fn faults(&self) -> u32 {
        self.faults.load(Ordering::Relaxed)
    }
    /// Forgets the faults.
    pub fn forget_faults(&self) {
        self.faults.store(0, Ordering::Relaxed);
    }
    /// Switches the mode.
    pub fn set(&self, on: bool) {
        self.on.store(on, Ordering::Release);
    }
}

/// Somebody is about to write to a page on the guest's behalf: makes it dirty. True if it was clean, and is writable now.
pub fn touch(domain: &Domain, gfn: Gfn) -> bool {
    if !domain.log_dirty.is_on() {
        return false;
    }
    let mut p2m = domain.p2m.write();
    let Some(entry) = p2m.lookup(gfn).filter(|e| e.kind == Kind::RamLogdirty) else { return false };
    // Rights are only gained: nothing to flush, nothing goes away. Without memory to split a large page, all of it is dirty.
    if p2m.set_page(gfn, entry.mfn, Kind::Ram).is_err() && !set_leaf(&mut p2m, gfn, entry, Kind::Ram).0 {
        return false;
    }
    domain.log_dirty.faults.fetch_add(1, Ordering::Relaxed);
    true
}

/// The entry of a page of which somebody is about to take a reference, with the p2m locked. It is not a protected one: whoever
/// has a reference may write without notice, now or (a grant pinned once more) later.
pub fn settled(domain: &Domain, gfn: Gfn) -> Option<(ReadGuard<'_, P2m>, Entry)> {
    loop {
        let p2m = domain.p2m.read();
        let entry = p2m.lookup(gfn)?;
        if entry.kind != Kind::RamLogdirty {
            return Some((p2m, entry));
        }
        drop(p2m);
        if !touch(domain, gfn) {
            return None;
        }
    }
}

/// Gives the whole leaf in which `gfn` lies another kind; whether that worked, and what the TLBs need.
fn set_leaf(p2m: &mut P2m, gfn: Gfn, entry: Entry, kind: Kind) -> (bool, Flush) {
    let start = |n: u64| n >> entry.order << entry.order;
    match p2m.set(Gfn::new(start(gfn.raw())), Mfn::new(start(entry.mfn.raw())), entry.order, kind, |_, _| {})
    {
        Ok(flush) => (true, flush),
        Err(_) => (false, Flush::None),
    }
}

/// Leaves of one kind that begin in `[from, end)`, at most `most`; and where to go on, if that was not all.
fn leaves(domain: &Domain, kind: Kind, from: u64, end: u64, most: usize) -> (Vec<(Gfn, Entry)>, Option<u64>) {
    let mut found = Vec::new();
    let walk = domain.p2m.read().walk(Gfn::new(from), SLOTS, |gfn, entry| {
        if gfn.raw() >= end {
            return ControlFlow::Break(());
        }
        if entry.kind == kind {
            found.push((gfn, entry));
        }
        if found.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    match walk {
        Walk::Resume(next) if next.raw() < end => (found, Some(next.raw())),
        _ => (found, None),
    }
}

/// Table slots looked at under one hold of the p2m's lock.
const SLOTS: u32 = 4096;
/// Leaves changed under one hold.
const BATCH: usize = 128;

/// Makes pages from `from` on (up to `end`) clean or, with `Kind::Ram`, ordinary again; returns where to go on.
pub fn change(domain: &Domain, from: u64, end: u64, to: Kind) -> Option<u64> {
    let old = if to == Kind::Ram { Kind::RamLogdirty } else { Kind::Ram };
    let (found, next) = leaves(domain, old, from, end, BATCH);
    let mut p2m = domain.p2m.write();
    let mut flush = Flush::None;
    for (gfn, _) in found {
        // It may have changed since it was looked at.
        let Some(entry) = p2m.lookup(gfn).filter(|e| e.kind == old) else { continue };
        flush = flush
            | match to {
                Kind::Ram => set_leaf(&mut p2m, gfn, entry, to).1,
                _ => protect(&mut p2m, gfn, entry),
            };
    }
    if flush == Flush::Needed {
        run::flush_domain_tlb(domain);
        p2m.reclaim();
    }
    next
}

/// Write-protects a leaf; of a large one that somebody holds pages of, only the others.
fn protect(p2m: &mut P2m, gfn: Gfn, entry: Entry) -> Flush {
    let pages = 1u64 << entry.order;
    let free = |mfn: Mfn| !frames().is_referenced(mfn);
    let all = (0..pages).all(|i| entry.mfn.checked_add(i).is_some_and(free));
    if all {
        return set_leaf(p2m, gfn, entry, Kind::RamLogdirty).1;
    }
    let mut flush = Flush::None;
    for i in 0..pages {
        let (Some(gfn), Some(mfn)) = (gfn.checked_add(i), entry.mfn.checked_add(i)) else { break };
        if free(mfn) {
            // Without memory for the split a page stays dirty, which is never wrong.
            flush = flush | p2m.set_page(gfn, mfn, Kind::RamLogdirty).map_or(Flush::None, |r| r.flush);
        }
    }
    flush
}

/// Sets the bits of dirty pages in `[from, from + 8 * bits.len())`; returns how many there are.
pub fn read(domain: &Domain, from: u64, bits: &mut [u8]) -> u32 {
    let end = from.saturating_add(8 * bits.len() as u64);
    let (mut at, mut count) = (from, 0);
    loop {
        let (found, next) = leaves(domain, Kind::Ram, at, end, usize::MAX);
        for (gfn, entry) in found {
            let first = gfn.raw().max(from);
            for page in first..gfn.raw().saturating_add(1 << entry.order).min(end) {
                let bit = page - from;
                if let Some(byte) = bits.get_mut((bit / 8) as usize) {
                    *byte |= 1 << (bit % 8);
                    count += 1;
                }
            }
        }
        match next {
            Some(next) => at = next,
            None => return count,
        }
    }
}

/// Makes clean what [`read`] showed as dirty, from page `from` on; what became dirty since stays so.
pub fn clean(domain: &Domain, from: u64, bits: &[u8]) {
    let mut p2m = domain.p2m.write();
    let mut flush = Flush::None;
    for (i, byte) in (0u64..).zip(bits) {
        for bit in (0..8).filter(|b| byte >> b & 1 == 1) {
            let Some(gfn) = from.checked_add(8 * i + bit).map(Gfn::new) else { break };
            let Some(entry) = p2m.lookup(gfn).filter(|e| e.kind == Kind::Ram) else { continue };
            // A large leaf is taken as a whole, at its first page.
            let aligned = gfn.raw() & ((1 << entry.order) - 1) == 0;
            let one = Entry { order: 0, ..entry };
            let whole =
                aligned && entry.order != 0 && gfn.raw() + (1 << entry.order) <= from + 8 * bits.len() as u64;
            flush = flush | protect(&mut p2m, gfn, if whole { entry } else { one });
        }
    }
    if flush == Flush::Needed {
        run::flush_domain_tlb(domain);
        p2m.reclaim();
    }
}
