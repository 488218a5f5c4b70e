//! Populate on demand: a domain that starts with less memory than its map shows (`memory` < `maxmem`).
//!
//! The toolstack marks gfns as populate-on-demand, then fills a *cache* of frames (`XENMEM_set_pod_target`). The first
//! touch of such a gfn, by the guest or on its behalf, takes a frame from the cache. The guest's balloon driver gives
//! back the difference early on by decreasing its reservation: of a marked gfn that removes the mark; the frame of a
//! populated one goes to the cache for as long as that is short of what is marked (Linux scrubs, and so populates,
//! every page before it gives it up). A domain that touches more than its cache holds before its balloon has worked is
//! crashed, as on Xen (which first looks for zeroed pages to take back; Linux does not need that).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use radon_addr::{Gfn, Mfn};
use radon_frames::{Contents, Kind as FrameKind, Request, frames};
use radon_hw::mem;
use radon_p2m::{Entry, Kind};
use xen_abi::Errno;

use crate::create::GPA_BITS;
use crate::domain::{Domain, Dying};
use crate::physmap;

/// Order of the blocks in which the cache is kept if possible: 2 MiB.
const BLOCK: u8 = 9;

/// Populate-on-demand state of one domain.
#[derive(Default)]
pub struct Pod {
    /// Marked gfns: first -> one past the last; disjoint, merged.
    ranges: BTreeMap<u64, u64>,
    /// Gfns marked.
    entries: u64,
    /// Frames ready to be mapped (first frame, order 9 or 0), owned by the domain.
    cache: Vec<(Mfn, u8)>,
    /// 4 KiB frames in `cache`.
    cached: u64,
}

impl Pod {
    /// Marks `[start, end)`; what was marked already stays so.
    fn mark(&mut self, start: u64, end: u64) {
        self.unmark(start, end);
        let (mut start, mut end) = (start, end);
        self.entries = self.entries.saturating_add(end - start);
        if let Some((&s, &e)) = self.ranges.range(..start).next_back()
            && e == start
        {
            self.ranges.remove(&s);
            start = s;
        }
        if let Some(&e) = self.ranges.get(&end) {
            self.ranges.remove(&end);
            end = e;
        }
        self.ranges.insert(start, end);
    }

    /// Takes marks away from `[start, end)`; returns how many there were.
    fn unmark(&mut self, start: u64, end: u64) -> u64 {
        let mut gone = 0;
        while let Some((&s, &e)) = self.ranges.range(..end).next_back() {
            if e <= start {
                break;
            }
            self.ranges.remove(&s);
            if s < start {
                self.ranges.insert(s, start);
            }
            if e > end {
                self.ranges.insert(end, e);
            }
            gone += e.min(end) - s.max(start);
        }
        self.entries = self.entries.saturating_sub(gone);
        gone
    }

    fn is_marked(&self, gfn: u64) -> bool {
        self.ranges.range(..=gfn).next_back().is_some_and(|(_, &e)| gfn < e)
    }

    /// All of a 2 MiB block is marked.
    fn block_is_marked(&self, start: u64) -> bool {
        self.ranges.range(..=start).next_back().is_some_and(|(_, &e)| start + (1 << BLOCK) <= e)
    }

    /// Takes frames out of the cache: a block if `block` and there is one, otherwise a page.
    fn take(&mut self, block: bool) -> Option<(Mfn, u8)> {
        let wanted = if block { BLOCK } else { 0 };
        let at =
            self.cache.iter().rposition(|c| c.1 == wanted).or_else(|| self.cache.len().checked_sub(1))?;
        if self.cache.get(at)?.1 == BLOCK && !block {
            self.cache.try_reserve(1 << BLOCK).ok()?;
        }
        let (mfn, order) = self.cache.swap_remove(at);
        if order == BLOCK && !block {
            for i in 1..1u64 << BLOCK {
                self.cache.push((Mfn::new(mfn.raw() + i), 0));
            }
            self.cached -= 1;
            return Some((mfn, 0));
        }
        self.cached -= 1 << order;
        Some((mfn, order))
    }
}

/// Marks `2^order` gfns (`XENMEMF_populate_on_demand`).
pub fn mark(domain: &Domain, gfn: Gfn, order: u8) -> Result<(), Errno> {
    let end =
        gfn.raw().checked_add(1 << order).filter(|&end| end <= 1 << (GPA_BITS - 12)).ok_or(Errno::EINVAL)?;
    let mut pod = domain.pod.lock();
    if domain.dying() != Dying::No {
        return Err(Errno::ESRCH);
    }
    pod.mark(gfn.raw(), end);
    Ok(())
}

/// Takes the marks of `2^order` gfns away (the guest gives them back, or something else is put there). A cache that is
/// larger than what is left to populate shrinks.
pub fn unmark(domain: &Domain, gfn: Gfn, order: u8) -> u64 {
    let mut pod = domain.pod.lock();
    if pod.entries == 0 {
        return 0;
    }
    let gone = pod.unmark(gfn.raw(), gfn.raw().saturating_add(1 << order));
    while pod.cached > pod.entries {
        let Some((mfn, order)) = pod.take(false) else { break };
        release(domain, mfn, order);
    }
    gone
}

/// The domain gave up a populated page: takes its frame for the cache if more is marked than cached. False: the frame
/// stays the caller's, to be released. `entry` is out of the p2m and of all TLBs.
pub fn keep(domain: &Domain, entry: &Entry) -> bool {
    let mut pod = domain.pod.lock();
    // A frame that somebody else still refers to (a grant, a foreign mapping) must not come back under another gfn. No
    // new reference can turn up: the p2m does not lead to it any more.
    let alone = || frames().info(entry.mfn).is_some_and(|f| f.allocated && f.count == 1);
    let wanted = pod.entries > pod.cached && domain.dying() == Dying::No;
    if !wanted || entry.order != 0 || entry.kind != Kind::Ram || !alone() {
        return false;
    }
    if pod.cache.try_reserve(1).is_err() {
        return false;
    }
    mem::zero_frame(entry.mfn);
    pod.cache.push((entry.mfn, 0));
    pod.cached += 1;
    true
}

/// Gives `gfn` a frame if it is marked. True: it has one now. False: it is not marked, or the cache is empty.
pub fn populate(domain: &Domain, gfn: Gfn) -> bool {
    let mut pod = domain.pod.lock();
    if !pod.is_marked(gfn.raw()) {
        // Another vCPU may have touched it first and waited for nobody.
        return domain.lookup(gfn).is_some();
    }
    if domain.lookup(gfn).is_some() {
        // Something else has been put there since it was marked.
        pod.unmark(gfn.raw(), gfn.raw().saturating_add(1));
        return true;
    }
    let block = gfn.raw() & !((1 << BLOCK) - 1);
    let whole = pod.block_is_marked(block) && is_empty(domain, block);
    let Some((mfn, order)) = pod.take(whole) else {
        return false;
    };
    let at = if order == BLOCK { block } else { gfn.raw() };
    pod.unmark(at, at + (1 << order));
    let placed = physmap::place(domain, Gfn::new(at), mfn, order, Kind::Ram).is_ok();
    drop(pod);
    if !placed {
        release(domain, mfn, order);
    }
    placed
}

/// Is nothing mapped in a 2 MiB block?
fn is_empty(domain: &Domain, block: u64) -> bool {
    let mut empty = true;
    let _ = domain.p2m.read().walk(Gfn::new(block), u32::MAX, |at, _| {
        empty = at.raw() >= block.saturating_add(1 << BLOCK);
        ControlFlow::Break(())
    });
    empty
}

/// Is `gfn` still waiting for a frame?
pub fn is_marked(domain: &Domain, gfn: Gfn) -> bool {
    domain.pod.lock().is_marked(gfn.raw())
}

fn release(domain: &Domain, mfn: Mfn, order: u8) {
    for i in 0..1u64 << order {
        let _ = frames().release_allocated(Mfn::new(mfn.raw() + i), domain.id);
    }
}

/// Sizes of [`Pod`] for `XENMEM_{set,get}_pod_target`: frames cached, gfns marked.
pub fn counts(domain: &Domain) -> (u64, u64) {
    let pod = domain.pod.lock();
    (pod.cached, pod.entries)
}

/// `XENMEM_set_pod_target`: the domain shall own `target` frames in all, populated and cached. `Ok(false)`: `due` asked to
/// stop; call again.
pub fn set_target(domain: &Domain, target: u64, due: impl Fn() -> bool) -> Result<bool, Errno> {
    loop {
        let total = u64::from(frames().domain(domain.id).tot_pages);
        let mut pod = domain.pod.lock();
        let populated = total.saturating_sub(pod.cached);
        // While the domain is built the cache comes before the marks; later it never holds more than could be
        // populated from it, and a smaller target is left to the balloon.
        let wanted = match populated {
            0 => target,
            _ if pod.entries == 0 || target < total => return Ok(true),
            _ => target.saturating_sub(populated).min(pod.entries),
        };
        if wanted == pod.cached {
            return Ok(true);
        }
        if wanted > pod.cached {
            let order = if wanted - pod.cached >= 1 << BLOCK { BLOCK } else { 0 };
            let (mfn, order) = allocate(domain, order)?;
            pod.cache.push((mfn, order));
            pod.cached += 1 << order;
        } else if let Some((mfn, order)) = pod.take(false) {
            release(domain, mfn, order);
        }
        drop(pod);
        if due() {
            return Ok(false);
        }
    }
}

fn allocate(domain: &Domain, order: u8) -> Result<(Mfn, u8), Errno> {
    let request =
        |order| Request { contents: Contents::Zeroed, ..Request::new(order, domain.id, FrameKind::GuestRam) };
    if let Ok(mfn) = frames().alloc(request(order)) {
        return Ok((mfn, order));
    }
    frames().alloc(request(0)).map(|mfn| (mfn, 0)).map_err(|_| Errno::ENOMEM)
}

/// The domain is ending: its cache is freed.
pub fn drain(domain: &Domain) {
    let mut pod = domain.pod.lock();
    pod.ranges.clear();
    pod.entries = 0;
    pod.cached = 0;
    let cache = core::mem::take(&mut pod.cache);
    drop(pod);
    for (mfn, order) in cache {
        release(domain, mfn, order);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn marks_agree_with_a_set(ops in proptest::collection::vec((any::<bool>(), 0u64..200, 1u64..60), 1..60)) {
            let (mut pod, mut model) = (Pod::default(), BTreeSet::new());
            for (mark, start, len) in ops {
                if mark {
                    pod.mark(start, start + len);
                    model.extend(start..start + len);
                } else {
                    let gone = pod.unmark(start, start + len);
                    let before = model.len();
                    model.retain(|g| !(start..start + len).contains(g));
                    prop_assert_eq!(gone, (before - model.len()) as u64);
                }
                prop_assert_eq!(pod.entries, model.len() as u64);
                for g in 0..300 {
                    prop_assert_eq!(pod.is_marked(g), model.contains(&g));
                }
            }
        }
    }

    #[test]
    fn a_block_is_split_when_a_page_is_wanted() {
        let mut pod = Pod { cache: alloc::vec![(Mfn::new(512), BLOCK)], cached: 512, ..Pod::default() };
        assert_eq!(pod.take(false), Some((Mfn::new(512), 0)));
        assert_eq!((pod.cached, pod.cache.len()), (511, 511));
        let mut seen = BTreeSet::new();
        while let Some((m, order)) = pod.take(true) {
            assert_eq!(order, 0);
            assert!(seen.insert(m));
        }
        assert_eq!((seen.len(), pod.cached), (511, 0));
    }
}
