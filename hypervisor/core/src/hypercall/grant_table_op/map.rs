//! `GNTTABOP_map_grant_ref`, `unmap_grant_ref`, `unmap_and_replace`.

use alloc::sync::Arc;

use radon_addr::{Gfn, Gpa, GrantRef};
use radon_grant::{Access, GntStatus, Handle, Mapping, Mode, Purpose, map_access};
use radon_p2m::Kind;
use xen_abi::Errno;
use xen_abi::grant_table::{GnttabMapGrantRef, GnttabUnmapAndReplace, GnttabUnmapGrantRef};

use super::super::Caller;
use super::{resolve, status};
use crate::domain::Domain;
use crate::{domains, grants, physmap};

/// Maps one grant at a guest-physical address of the caller's.
pub fn map(caller: &Caller<'_>, op: &mut GnttabMapGrantRef) -> Result<(), Errno> {
    let result = map_one(caller, op);
    op.status = status(result);
    Ok(())
}

fn map_one(caller: &Caller<'_>, op: &mut GnttabMapGrantRef) -> Result<(), GntStatus> {
    let access = map_access(caller.domain.id, op.flags)?;
    let granter = domains::find(resolve(caller, op.dom)).ok_or(GntStatus::BAD_DOMAIN)?;
    let handle = caller.domain.maptrack.lock().reserve()?;
    let gref = GrantRef::new(op.gref);
    let gfn = Gpa::new(op.host_addr).gfn();
    match map_pinned(caller.domain, &granter, gref, access, gfn) {
        Ok(bus_address) => {
            let mapping = Mapping { granter: granter.id, gref, gfn, access };
            caller.domain.maptrack.lock().commit(handle, mapping);
            op.handle = handle.0;
            op.dev_bus_addr = bus_address;
            Ok(())
        }
        Err(e) => {
            caller.domain.maptrack.lock().cancel(handle);
            Err(e)
        }
    }
}

/// Pins the grant and puts its frame into the mapper's memory. Returns the frame's machine address.
fn map_pinned(
    mapper: &Arc<Domain>,
    granter: &Arc<Domain>,
    gref: GrantRef,
    access: Access,
    gfn: Gfn,
) -> Result<u64, GntStatus> {
    let pinned =
        granter.grants.lock().pin(gref, access, Purpose::Map, |request| grants::acquire(granter, request))?;
    let kind = if access.mode == Mode::Write { Kind::GrantRw } else { Kind::GrantRo };
    match physmap::place(mapper, gfn, pinned.mfn, 0, kind) {
        Ok(()) => Ok(pinned.mfn.maddr().raw()),
        Err(_) => {
            grants::unpin(granter, gref, access, true);
            Err(GntStatus::GENERAL_ERROR)
        }
    }
}

/// Undoes one mapping.
pub fn unmap(caller: &Caller<'_>, op: &mut GnttabUnmapGrantRef) -> Result<(), Errno> {
    op.status = status(unmap_one(caller, op.handle, op.host_addr));
    Ok(())
}

fn unmap_one(caller: &Caller<'_>, handle: u32, host_addr: u64) -> Result<(), GntStatus> {
    let taken = caller.domain.maptrack.lock().take_at(Handle(handle), Gpa::new(host_addr))?;
    if let Some(mapping) = taken {
        grants::undo(caller.domain, &mapping);
    }
    Ok(())
}

/// `unmap_and_replace` exists for PV domains; a translated caller may only ask for plain unmapping.
pub fn unmap_and_replace(caller: &Caller<'_>, op: &mut GnttabUnmapAndReplace) -> Result<(), Errno> {
    op.status = if op.new_addr == 0 {
        status(unmap_one(caller, op.handle, op.host_addr))
    } else {
        GntStatus::GENERAL_ERROR.raw()
    };
    Ok(())
}
