//! `XENMEM_add_to_physmap`, its batch form, and `XENMEM_remove_from_physmap`: the shared-info page, grant frames, own
//! pages moved, and other domains' pages, each put at a gfn of the caller's choice.

use alloc::sync::Arc;

use radon_addr::{DomId, Gfn, Mfn};
use radon_frames::{FrameRef, frames};
use radon_p2m::Kind;
use xen_abi::Errno;
use xen_abi::memory::{
    AddToPhysmap, AddToPhysmapBatch, RemoveFromPhysmap, XENMAPIDX_GRANT_TABLE_STATUS, XENMAPSPACE_DEV_MMIO,
    XENMAPSPACE_GMFN, XENMAPSPACE_GMFN_FOREIGN, XENMAPSPACE_GMFN_RANGE, XENMAPSPACE_GRANT_TABLE,
    XENMAPSPACE_SHARED_INFO, XENMEM_ADD_TO_PHYSMAP, XENMEM_ADD_TO_PHYSMAP_BATCH,
};

use super::super::{Caller, OK, Reply, Width};
use super::resume;
use crate::domain::Domain;
use crate::{domains, grants, physmap, pod};

/// One page (or, for `GMFN_RANGE`, `size` pages from `start` on).
pub fn one(caller: &mut Caller<'_>, start: u64, arg: u64) -> Reply {
    let a: AddToPhysmap = match caller.width {
        Width::Long => caller.read(arg)?,
        Width::Compat => caller.read::<xen_abi::compat::CompatAddToPhysmap>(arg)?.into(),
    };
    let domain = caller.target(a.domid)?;
    match a.space {
        XENMAPSPACE_GMFN_FOREIGN => Err(Errno::ENOSYS),
        XENMAPSPACE_GMFN_RANGE => {
            let mut i = start;
            while i < u64::from(a.size) {
                if i > start && caller.should_yield() {
                    return resume(XENMEM_ADD_TO_PHYSMAP, i, arg);
                }
                let from = a.idx.checked_add(i).ok_or(Errno::EINVAL)?;
                let to = a.gpfn.checked_add(i).ok_or(Errno::EINVAL)?;
                add(caller, &domain, XENMAPSPACE_GMFN, from, Gfn::new(to), None)?;
                i += 1;
            }
            OK
        }
        space => add(caller, &domain, space, a.idx, Gfn::new(a.gpfn), None).and(OK),
    }
}

/// Many pages, each with its own errno.
pub fn batch(caller: &mut Caller<'_>, start: u64, arg: u64) -> Reply {
    let (b, long) = match caller.width {
        Width::Long => (caller.read::<AddToPhysmapBatch>(arg)?, true),
        Width::Compat => (caller.read::<xen_abi::compat::CompatAddToPhysmapBatch>(arg)?.into(), false),
    };
    let space = u32::from(b.space);
    let domain = caller.target(b.domid)?;
    let foreign =
        if space == XENMAPSPACE_GMFN_FOREIGN { Some(foreign_domain(caller, b.foreign_domid)?) } else { None };
    if matches!(space, XENMAPSPACE_GMFN_RANGE | XENMAPSPACE_DEV_MMIO) {
        return Err(Errno::EINVAL);
    }
    let word = |list: u64, i: u64| -> Result<u64, Errno> {
        if long {
            caller.read::<u64>(caller.element::<u64>(list, i)?)
        } else {
            caller.read::<u32>(caller.element::<u32>(list, i)?).map(u64::from)
        }
    };
    let mut i = start;
    while i < u64::from(b.size) {
        if i > start && caller.should_yield() {
            return resume(XENMEM_ADD_TO_PHYSMAP_BATCH, i, arg);
        }
        let idx = word(b.idxs.raw(), i)?;
        let gfn = Gfn::new(word(b.gpfns.raw(), i)?);
        let status = match add(caller, &domain, space, idx, gfn, foreign.as_ref()) {
            Ok(()) => 0,
            Err(e) => e.to_ret32(),
        };
        caller.write(caller.element::<i32>(b.errs.raw(), i)?, &status)?;
        i += 1;
    }
    OK
}

/// The domain whose pages are to be mapped: only the control domain may look into others.
fn foreign_domain(caller: &Caller<'_>, id: u16) -> Result<Arc<Domain>, Errno> {
    caller.require_privilege()?;
    if id == DomId::SELF.raw() || DomId::new(id) == caller.domain.id {
        return Err(Errno::EINVAL);
    }
    domains::find(DomId::new(id)).ok_or(Errno::ESRCH)
}

fn add(
    caller: &Caller<'_>,
    domain: &Arc<Domain>,
    space: u32,
    idx: u64,
    gfn: Gfn,
    foreign: Option<&Arc<Domain>>,
) -> Result<(), Errno> {
    match space {
        XENMAPSPACE_SHARED_INFO => {
            if idx != 0 {
                return Err(Errno::EINVAL);
            }
            place_shared(domain, gfn, domain.shared_info)
        }
        XENMAPSPACE_GRANT_TABLE => {
            let status = idx & XENMAPIDX_GRANT_TABLE_STATUS != 0;
            let index = u32::try_from(idx & !XENMAPIDX_GRANT_TABLE_STATUS).map_err(|_| Errno::EINVAL)?;
            let mfn = grants::table_frame(domain, index, status)?;
            place_shared(domain, gfn, mfn)
        }
        XENMAPSPACE_GMFN => move_own(domain, Gfn::new(idx), gfn),
        XENMAPSPACE_GMFN_FOREIGN => {
            let foreign = foreign.ok_or(Errno::EINVAL)?;
            let frame = foreign_frame(foreign, Gfn::new(idx))?;
            physmap::place_referenced(domain, gfn, frame, Kind::Foreign)
        }
        XENMAPSPACE_DEV_MMIO => {
            let _ = caller;
            Err(Errno::EOPNOTSUPP)
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// A page of the hypervisor's that the domain may see; where it stood before, it disappears.
fn place_shared(domain: &Arc<Domain>, gfn: Gfn, mfn: Mfn) -> Result<(), Errno> {
    let frame = frames().get(mfn, domain.id).map_err(|_| Errno::EINVAL)?;
    let before = domain.shared_places.lock().insert(mfn, gfn);
    if let Some(old) = before.filter(|&g| g != gfn) {
        physmap::remove_if(domain, old, |e| e.kind == Kind::XenShared && e.mfn == mfn)?;
    }
    physmap::place_referenced(domain, gfn, frame, Kind::XenShared)
}

/// A page of another domain: RAM it owns itself.
fn foreign_frame(foreign: &Domain, gfn: Gfn) -> Result<FrameRef, Errno> {
    if foreign.lookup(gfn).is_none() {
        pod::populate(foreign, gfn);
    }
    let p2m = foreign.p2m.read();
    let entry = p2m.lookup(gfn).ok_or(Errno::EINVAL)?;
    if entry.kind != Kind::Ram && entry.kind != Kind::RamLogdirty {
        return Err(Errno::EINVAL);
    }
    frames().get(entry.mfn, foreign.id).map_err(|_| Errno::EINVAL)
}

/// Moves one page of the domain's RAM from one gfn to another.
fn move_own(domain: &Domain, from: Gfn, to: Gfn) -> Result<(), Errno> {
    if from == to {
        return Ok(());
    }
    physmap::relocate(domain, from, to)
}

/// `XENMEM_remove_from_physmap`.
pub fn remove(caller: &mut Caller<'_>, arg: u64) -> Reply {
    let r: RemoveFromPhysmap = match caller.width {
        Width::Long => caller.read(arg)?,
        Width::Compat => caller.read::<xen_abi::compat::CompatRemoveFromPhysmap>(arg)?.into(),
    };
    let domain = caller.target(r.domid)?;
    // Grant mappings go by unmap_grant_ref; device memory is not a guest's to give away.
    let removed = physmap::remove_if(&domain, Gfn::new(r.gpfn), |e| {
        e.kind.is_own_ram() || matches!(e.kind, Kind::Foreign | Kind::XenShared)
    })?;
    let entry = removed.ok_or(Errno::ENOENT)?;
    domain.shared_places.lock().remove(&entry.mfn);
    OK
}
