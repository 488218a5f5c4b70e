//! Grant tables between domains: frames of the table as pages, and pins with the references they stand for.

use alloc::sync::Arc;

use radon_addr::{Gfn, GrantRef, Mfn};
use radon_frames::{Kind as FrameKind, Request, frames};
use radon_grant::{Access, FrameKind as TableKind, FrameRequest, GntStatus, Mapping, Mode};
use radon_p2m::Kind;
use xen_abi::Errno;

use crate::domain::{Domain, Dying};
use crate::{domains, physmap};

/// A frame for a domain's grant table, whose lock is held: a dying domain's must not grow behind its tear-down.
pub fn new_frame(domain: &Domain) -> Option<Mfn> {
    if domain.dying() != Dying::No {
        return None;
    }
    frames().alloc(Request::new(0, domain.id, FrameKind::XenShared)).ok()
}

fn kind(status: bool) -> TableKind {
    if status { TableKind::Status } else { TableKind::Shared }
}

/// Frame `index` of a domain's grant table (or of its status words); the table grows as needed.
pub fn table_frame(domain: &Arc<Domain>, index: u32, status: bool) -> Result<Mfn, Errno> {
    domain.grants.lock().frame(kind(status), index, || new_frame(domain))
}

/// Where the domain has frame `index` of its table in its memory.
pub fn frame_place(domain: &Domain, kind: TableKind, index: u32) -> Option<Gfn> {
    let mfn = domain.grants.lock().frame(kind, index, || None).ok()?;
    physmap::shared_place(domain, mfn)
}

/// Most frames there can ever be.
pub fn max_frames(domain: &Domain, status: bool) -> u32 {
    domain.grants.lock().resource_max_frames(kind(status))
}

/// What [`GrantTable::pin`](radon_grant::GrantTable::pin) asks for: the frame, with one reference taken.
pub fn acquire(granter: &Domain, request: FrameRequest) -> Result<Mfn, GntStatus> {
    match request {
        FrameRequest::Translate(gfn, mode) => {
            if granter.lookup(gfn).is_none() {
                crate::pod::populate(granter, gfn);
            }
            let (_p2m, entry) = crate::log_dirty::settled(granter, gfn).ok_or(GntStatus::BAD_PAGE)?;
            let ordinary = match mode {
                Mode::Read => entry.kind.is_own_ram(),
                Mode::Write => entry.kind == Kind::Ram,
            };
            if !ordinary {
                return Err(GntStatus::BAD_PAGE);
            }
            frames().get(entry.mfn, granter.id).map(|f| f.into_raw()).map_err(|_| GntStatus::BAD_PAGE)
        }
        FrameRequest::Again(mfn) => {
            frames().get(mfn, granter.id).map(|f| f.into_raw()).map_err(|_| GntStatus::GENERAL_ERROR)
        }
    }
}

/// Ends a pin; `drop_frame`: the pin's frame reference goes too (it was not handed to a p2m entry).
pub fn unpin(granter: &Domain, gref: GrantRef, access: Access, drop_frame: bool) {
    let frame = granter.grants.lock().unpin(gref, access);
    if let Some(mfn) = frame
        && drop_frame
    {
        let _ = frames().put(mfn);
    }
}

/// Undoes a mapping whose handle has been taken: out of the mapper's memory (the entry's reference, which is the pin's,
/// goes with it), then the pin.
pub fn undo(mapper: &Domain, mapping: &Mapping) {
    let removed =
        physmap::remove_if(mapper, mapping.gfn, |e| matches!(e.kind, Kind::GrantRw | Kind::GrantRo));
    // If the guest had put something else there, the entry's reference went then.
    let _ = removed;
    if let Some(granter) = domains::find(mapping.granter) {
        unpin(&granter, mapping.gref, mapping.access, false);
    }
}
