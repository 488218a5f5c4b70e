//! `XENMEM_acquire_resource`: maps frames of the hypervisor that belong to another domain (its grant table) into the
//! control domain.

use radon_addr::Gfn;
use radon_frames::frames;
use radon_p2m::Kind;
use xen_abi::Errno;
use xen_abi::memory::{
    MemAcquireResource, XENMEM_ACQUIRE_RESOURCE, XENMEM_RESOURCE_GRANT_TABLE,
    XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED, XENMEM_RESOURCE_GRANT_TABLE_ID_STATUS,
};

use super::super::{Caller, OK, Reply, Width};
use super::resume;
use crate::{grants, physmap};

/// Maps `nr_frames` frames from `frame` on at the gfns of the list; a null list asks for the size.
pub fn call(caller: &mut Caller<'_>, start: u64, arg: u64) -> Reply {
    let (r, long) = match caller.width {
        Width::Long => (caller.read::<MemAcquireResource>(arg)?, true),
        Width::Compat => (caller.read::<xen_abi::compat::CompatMemAcquireResource>(arg)?.into(), false),
    };
    caller.require_privilege()?;
    let target = caller.target(r.domid)?;
    if r._pad != 0 {
        return Err(Errno::EINVAL);
    }
    if u32::from(r.kind) != XENMEM_RESOURCE_GRANT_TABLE {
        return Err(Errno::EOPNOTSUPP);
    }
    let status = match r.id {
        XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED => false,
        XENMEM_RESOURCE_GRANT_TABLE_ID_STATUS => true,
        _ => return Err(Errno::EINVAL),
    };
    if r.frame_list.is_null() {
        if r.nr_frames != 0 {
            return Err(Errno::EINVAL);
        }
        // `nr_frames` is the third word of the structure in both widths.
        caller.write(arg.wrapping_add(8), &grants::max_frames(&target, status))?;
        return OK;
    }
    let mut i = start;
    while i < u64::from(r.nr_frames) {
        if i > start && caller.should_yield() {
            return resume(XENMEM_ACQUIRE_RESOURCE, i, arg);
        }
        let list = r.frame_list.raw();
        let gfn = if long {
            caller.read::<u64>(caller.element::<u64>(list, i)?)?
        } else {
            u64::from(caller.read::<u32>(caller.element::<u32>(list, i)?)?)
        };
        let index = r.frame.checked_add(i).and_then(|n| u32::try_from(n).ok()).ok_or(Errno::EINVAL)?;
        let mfn = grants::table_frame(&target, index, status)?;
        let frame = frames().get(mfn, target.id).map_err(|_| Errno::EINVAL)?;
        physmap::place_referenced(caller.domain, Gfn::new(gfn), frame, Kind::Foreign)?;
        i += 1;
    }
    OK
}
