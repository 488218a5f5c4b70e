//! Changing a domain's guest-physical memory: the p2m entry, the reference that it stands for, and the TLBs, in the
//! right order.
//!
//! An entry owns one reference per frame: a RAM entry the allocation's own, any other kind a counted one. A reference is
//! given back only after no pCPU can use a stale translation.

use alloc::vec::Vec;
use core::ops::ControlFlow;

use radon_addr::{Gfn, Mfn};
use radon_frames::{AllocError, FrameRef, Kind as FrameKind, Request, frames};
use radon_p2m::{Entry, Flush, Kind, P2m, P2mError};
use xen_abi::Errno;

use crate::domain::{Domain, Dying};
use crate::run;

/// A p2m error as the guest sees it.
pub fn p2m_errno(e: P2mError) -> Errno {
    match e {
        P2mError::OutOfRange | P2mError::BadOrder | P2mError::Misaligned => Errno::EINVAL,
        P2mError::NoMemory => Errno::ENOMEM,
        P2mError::Dying => Errno::ESRCH,
    }
}

/// Gives back what an entry that was removed held. After the flush only.
pub(crate) fn release(domain: &Domain, entry: Entry) {
    for i in 0..1u64 << entry.order {
        let Some(mfn) = entry.mfn.checked_add(i) else { return };
        match entry.kind {
            Kind::Ram | Kind::RamRo | Kind::RamLogdirty => {
                let released = frames().release_allocated(mfn, domain.id);
                debug_assert!(released.is_ok(), "{mfn:?} of {} was not allocated", domain.id);
            }
            Kind::Foreign | Kind::GrantRw | Kind::GrantRo | Kind::XenShared => {
                let put = frames().put(mfn);
                debug_assert!(put.is_ok(), "{mfn:?} had no reference");
            }
            Kind::MmioDirect | Kind::None | Kind::Broken => {}
        }
    }
}

/// Is a grant of another domain mapped in `2^order` pages from `gfn` on? Only unmapping by its handle ends that: the entry
/// holds the frame for the grant as well, which the granter is shown as in use.
fn holds_grant(p2m: &P2m, gfn: Gfn, order: u8) -> bool {
    let is_grant = |kind| matches!(kind, Kind::GrantRw | Kind::GrantRo);
    if order == 0 {
        return p2m.lookup(gfn).is_some_and(|e| is_grant(e.kind));
    }
    let end = gfn.raw().saturating_add(1 << order);
    let mut found = false;
    let _ = p2m.walk(gfn, u32::MAX, |at, entry| {
        found = at.raw() < end && is_grant(entry.kind);
        if found || at.raw() >= end { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    found
}

/// Maps `2^order` frames at `gfn`; whatever was there is released, but for grants (`EPERM`, as on Xen, which crashes the
/// domain besides). The caller hands over one reference per frame (or fresh allocations for RAM); on an error it keeps
/// them.
pub fn place(domain: &Domain, gfn: Gfn, mfn: Mfn, order: u8, kind: Kind) -> Result<(), Errno> {
    // Most often nothing was there: no allocation then.
    let mut first: Option<Entry> = None;
    let mut more: Vec<Entry> = Vec::new();
    {
        let mut p2m = domain.p2m.write();
        if holds_grant(&p2m, gfn, order) {
            return Err(Errno::EPERM);
        }
        let flush = p2m
            .set(gfn, mfn, order, kind, |_, entry| {
                if first.is_none() {
                    first = Some(entry);
                } else {
                    more.push(entry);
                }
            })
            .map_err(p2m_errno)?;
        if flush == Flush::Needed {
            run::flush_domain_tlb(domain);
            p2m.reclaim();
        }
    }
    for entry in first.into_iter().chain(more) {
        release(domain, entry);
    }
    Ok(())
}

/// Unmaps one page and releases what it held. `Ok(None)`: nothing was there.
pub fn remove(domain: &Domain, gfn: Gfn) -> Result<Option<Entry>, Errno> {
    remove_if(domain, gfn, |_| true)
}

/// Unmaps one page if its entry is as the caller wants it, and releases what it held.
pub fn remove_if(
    domain: &Domain,
    gfn: Gfn,
    wanted: impl FnOnce(&Entry) -> bool,
) -> Result<Option<Entry>, Errno> {
    let old = take_if(domain, gfn, wanted)?;
    if let Some(entry) = old {
        release(domain, entry);
    }
    Ok(old)
}

/// Unmaps one page if its entry is as the caller wants it. What the entry held is the caller's then.
pub(crate) fn take_if(
    domain: &Domain,
    gfn: Gfn,
    wanted: impl FnOnce(&Entry) -> bool,
) -> Result<Option<Entry>, Errno> {
    let mut p2m = domain.p2m.write();
    match p2m.lookup(gfn) {
        Some(entry) if wanted(&entry) => {}
        _ => return Ok(None),
    }
    let replaced = p2m.remove_page(gfn).map_err(p2m_errno)?;
    if replaced.flush == Flush::Needed {
        run::flush_domain_tlb(domain);
        p2m.reclaim();
    }
    Ok(replaced.old)
}

/// Unmaps `2^order` pages of the domain's own RAM and frees them. Returns how many 4 KiB pages went.
pub fn free_ram(domain: &Domain, gfn: Gfn, order: u8) -> Result<u64, Errno> {
    let mut gone: Vec<Entry> = Vec::new();
    {
        let mut p2m = domain.p2m.write();
        let flush = p2m.remove(gfn, order, |_, entry| gone.push(entry)).map_err(p2m_errno)?;
        if flush == Flush::Needed {
            run::flush_domain_tlb(domain);
            p2m.reclaim();
        }
    }
    let pages = gone.iter().map(|e| 1u64 << e.order).sum();
    for entry in gone {
        release(domain, entry);
    }
    Ok(pages)
}

/// Allocates `2^order` zeroed frames for the domain and maps them at `gfn`.
pub fn populate(domain: &Domain, gfn: Gfn, order: u8, max_addr_bits: u8) -> Result<(), Errno> {
    if domain.dying() != Dying::No {
        return Err(Errno::ESRCH);
    }
    let request = Request::new(order, domain.id, FrameKind::GuestRam).below(max_addr_bits);
    let mfn = frames().alloc(request).map_err(|e| match e {
        AllocError::BadRequest => Errno::EINVAL,
        _ => Errno::ENOMEM,
    })?;
    place(domain, gfn, mfn, order, Kind::Ram).inspect_err(|_| {
        for i in 0..1u64 << order {
            if let Some(m) = mfn.checked_add(i) {
                let _ = frames().release_allocated(m, domain.id);
            }
        }
    })
}

/// A counted reference to the RAM frame behind `gfn`; `write` demands a writable entry. The frame is the domain's own, or
/// one that the control domain mapped as foreign: a granted one is refused (as by Xen's `get_page_from_gfn`), because the
/// granter must get it back when the grant is unmapped.
pub fn get_frame(domain: &Domain, gfn: Gfn, write: bool) -> Result<FrameRef, Errno> {
    if domain.lookup(gfn).is_none() {
        crate::pod::populate(domain, gfn);
    }
    let (_p2m, entry) = crate::log_dirty::settled(domain, gfn).ok_or(Errno::EINVAL)?;
    let ok = if write { entry.kind.is_writable_ram() } else { entry.kind.is_ram() };
    if !ok {
        return Err(Errno::EINVAL);
    }
    let frame = match entry.kind {
        Kind::Foreign => frames().get_any(entry.mfn),
        _ => frames().get(entry.mfn, domain.id),
    };
    frame.map_err(|_| Errno::EINVAL)
}

/// Maps a frame of which the caller holds a counted reference, which the entry takes over.
pub fn place_referenced(domain: &Domain, gfn: Gfn, frame: FrameRef, kind: Kind) -> Result<(), Errno> {
    let mfn = frame.mfn();
    place(domain, gfn, mfn, 0, kind)?;
    let _ = frame.into_raw();
    Ok(())
}

/// Where the domain has a page of the hypervisor's (shared info, grant frames), if it still has it there.
pub fn shared_place(domain: &Domain, mfn: Mfn) -> Option<Gfn> {
    let place = domain.shared_places.lock().get(&mfn).copied();
    place.filter(|gfn| domain.lookup(*gfn).is_some_and(|e| e.kind == Kind::XenShared && e.mfn == mfn))
}

/// Moves one page of the domain's own RAM to another gfn; what was there is released.
pub fn relocate(domain: &Domain, from: Gfn, to: Gfn) -> Result<(), Errno> {
    crate::log_dirty::touch(domain, from);
    let old = {
        let mut p2m = domain.p2m.write();
        let entry = p2m.lookup(from).filter(|e| e.kind == Kind::Ram).ok_or(Errno::EINVAL)?;
        if holds_grant(&p2m, to, 0) {
            return Err(Errno::EPERM);
        }
        // Set to itself first: that splits a large leaf, so that taking the page out cannot fail any more for want of a
        // table. A page left in two places would be freed while it is still mapped.
        let split = p2m.set_page(from, entry.mfn, Kind::Ram).map_err(p2m_errno)?;
        // The page is reachable twice for a moment, both times by its owner.
        let replaced = p2m.set_page(to, entry.mfn, Kind::Ram);
        let removed = match &replaced {
            Ok(_) => p2m.remove_page(from).map_err(p2m_errno)?.flush,
            Err(_) => Flush::None,
        };
        let flush = split.flush | removed | replaced.as_ref().map_or(Flush::None, |r| r.flush);
        if flush == Flush::Needed {
            run::flush_domain_tlb(domain);
            p2m.reclaim();
        }
        replaced.map_err(p2m_errno)?.old
    };
    if let Some(entry) = old {
        release(domain, entry);
    }
    Ok(())
}
