//! Operations on the caller's (or, for the toolstack, another domain's) table itself.

use radon_addr::GrantRef;
use radon_grant::{FrameKind, GntStatus, check_cache_flush};
use xen_abi::Errno;
use xen_abi::grant_table::{
    GNTST_OKAY, GnttabCacheFlush, GnttabGetStatusFrames, GnttabGetVersion, GnttabQuerySize, GnttabSetVersion,
    GnttabSetupTable, GnttabSwapGrantRef,
};

use super::super::{Caller, OK, Reply, Width};
use super::{resolve, status};
use crate::{domains, grants, physmap};

/// A domain a caller may ask about, as a grant status.
fn subject(caller: &Caller<'_>, id: u16) -> Result<alloc::sync::Arc<crate::domain::Domain>, GntStatus> {
    let id = resolve(caller, id);
    if id != caller.domain.id && !caller.domain.privileged() {
        return Err(GntStatus::PERMISSION_DENIED);
    }
    domains::find(id).ok_or(GntStatus::BAD_DOMAIN)
}

/// `GNTTABOP_setup_table`: grows the table and lists where its frames are in the domain's memory.
pub fn setup(caller: &mut Caller<'_>, at: u64) -> Reply {
    let (mut op, status_at): (GnttabSetupTable, u64) = match caller.width {
        Width::Long => (caller.read(at)?, 8),
        Width::Compat => (caller.read::<xen_abi::compat::CompatGnttabSetupTable>(at)?.into(), 8),
    };
    let result = setup_frames(caller, &op);
    op.status = match result {
        Ok(()) => GNTST_OKAY,
        Err(Ok(e)) => e.raw(),
        Err(Err(errno)) => return Err(errno),
    };
    caller.write(at.wrapping_add(status_at), &op.status)?;
    OK
}

/// `Err(Ok(status))` goes to the status field, `Err(Err(errno))` to the caller.
fn setup_frames(caller: &Caller<'_>, op: &GnttabSetupTable) -> Result<(), Result<GntStatus, Errno>> {
    let domain = subject(caller, op.dom).map_err(Ok)?;
    domain
        .grants
        .lock()
        .grow(op.nr_frames, || grants::new_frame(&domain))
        .map_err(|_| Ok(GntStatus::GENERAL_ERROR))?;
    let mut result = Ok(());
    for i in 0..op.nr_frames {
        let gfn = grants::frame_place(&domain, FrameKind::Shared, i).map_or(u64::MAX, |g| g.raw());
        if write_frame(caller, op.frame_list.raw(), u64::from(i), gfn).is_err() {
            result = Err(Ok(GntStatus::BAD_VIRT_ADDR));
        }
    }
    result
}

fn write_frame(caller: &Caller<'_>, list: u64, i: u64, gfn: u64) -> Result<(), Errno> {
    match caller.width {
        Width::Long => caller.write(caller.element::<u64>(list, i)?, &gfn),
        Width::Compat => caller.write(caller.element::<u32>(list, i)?, &(gfn as u32)),
    }
}

/// `GNTTABOP_query_size`.
pub fn query_size(caller: &mut Caller<'_>, at: u64) -> Reply {
    let mut op: GnttabQuerySize = caller.read(at)?;
    let result = subject(caller, op.dom).map(|domain| {
        let table = domain.grants.lock();
        op.nr_frames = table.nr_frames();
        op.max_nr_frames = table.max_frames();
    });
    op.status = status(result);
    caller.write(at, &op)?;
    OK
}

/// `GNTTABOP_set_version`.
pub fn set_version(caller: &mut Caller<'_>, at: u64) -> Reply {
    let mut op: GnttabSetVersion = caller.read(at)?;
    let domain = caller.domain;
    let (result, version) = {
        let mut table = domain.grants.lock();
        let result = table.set_version(op.version, || grants::new_frame(domain));
        (result, table.version())
    };
    op.version = version;
    caller.write(at, &op)?;
    for frame in result? {
        let place = domain.shared_places.lock().remove(&frame);
        if let Some(gfn) = place {
            let _ = physmap::remove_if(domain, gfn, |e| e.mfn == frame);
        }
        let _ = radon_frames::frames().release_allocated(frame, domain.id);
    }
    OK
}

/// `GNTTABOP_get_version`.
pub fn get_version(caller: &mut Caller<'_>, at: u64) -> Reply {
    let mut op: GnttabGetVersion = caller.read(at)?;
    let domain = caller.target(op.dom)?;
    op.version = domain.grants.lock().version();
    caller.write(at, &op)?;
    OK
}

/// `GNTTABOP_get_status_frames`: where the status words are in the domain's memory (64-bit numbers in both widths).
pub fn get_status_frames(caller: &mut Caller<'_>, at: u64) -> Reply {
    let op: GnttabGetStatusFrames = match caller.width {
        Width::Long => caller.read(at)?,
        Width::Compat => caller.read::<xen_abi::compat::CompatGnttabGetStatusFrames>(at)?.into(),
    };
    let result = match subject(caller, op.dom) {
        Err(e) => e.raw(),
        Ok(domain) if op.nr_frames > domain.grants.lock().nr_status_frames() => {
            GntStatus::GENERAL_ERROR.raw()
        }
        Ok(domain) => {
            let mut result = GNTST_OKAY;
            for i in 0..op.nr_frames {
                let gfn = grants::frame_place(&domain, FrameKind::Status, i).map_or(u64::MAX, |g| g.raw());
                let at = caller.element::<u64>(op.frame_list.raw(), u64::from(i));
                if at.and_then(|at| caller.write(at, &gfn)).is_err() {
                    result = GntStatus::BAD_VIRT_ADDR.raw();
                }
            }
            result
        }
    };
    caller.write(at.wrapping_add(6), &result)?;
    OK
}

/// `GNTTABOP_swap_grant_ref`.
pub fn swap(caller: &Caller<'_>, op: &mut GnttabSwapGrantRef) -> Result<(), Errno> {
    op.status = status(caller.domain.grants.lock().swap(GrantRef::new(op.ref_a), GrantRef::new(op.ref_b)));
    Ok(())
}

/// `GNTTABOP_cache_flush`: memory is coherent; only the arguments are checked.
pub fn cache_flush(_caller: &Caller<'_>, op: &mut GnttabCacheFlush) -> Result<(), Errno> {
    check_cache_flush(op.offset, op.length, op.op)
}
