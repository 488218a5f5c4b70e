//! `HYPERVISOR_grant_table_op` (20): arrays of operations, each with a status of its own. A long array is continued by
//! moving the pointer and lowering the count in the arguments.

use radon_addr::DomId;
use radon_grant::GntStatus;
use xen_abi::Errno;
use xen_abi::grant_table as g;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Answer, Caller, Continuation, OK, Reply};

mod copy;
mod map;
mod table;

/// Operations between two looks at the clock.
const BATCH: u64 = 16;

/// `args`: sub-operation, pointer, count.
pub fn call(caller: &mut Caller<'_>, args: [u64; 6]) -> Reply {
    let [op, list, count, ..] = args;
    if count as i32 as i64 != count as i64 || (count as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    match op as u32 {
        g::GNTTABOP_MAP_GRANT_REF => each(caller, args, map::map),
        g::GNTTABOP_UNMAP_GRANT_REF => each(caller, args, map::unmap),
        g::GNTTABOP_UNMAP_AND_REPLACE => each(caller, args, map::unmap_and_replace),
        g::GNTTABOP_COPY => copy::call(caller, args),
        g::GNTTABOP_SETUP_TABLE if count == 1 => table::setup(caller, list),
        g::GNTTABOP_QUERY_SIZE if count == 1 => table::query_size(caller, list),
        g::GNTTABOP_SET_VERSION if count == 1 => table::set_version(caller, list),
        g::GNTTABOP_GET_VERSION if count == 1 => table::get_version(caller, list),
        g::GNTTABOP_GET_STATUS_FRAMES => table::get_status_frames(caller, list),
        g::GNTTABOP_SWAP_GRANT_REF => each(caller, args, table::swap),
        g::GNTTABOP_CACHE_FLUSH => each(caller, args, table::cache_flush),
        g::GNTTABOP_SETUP_TABLE
        | g::GNTTABOP_QUERY_SIZE
        | g::GNTTABOP_SET_VERSION
        | g::GNTTABOP_GET_VERSION => Err(Errno::EINVAL),
        // Not for translated domains: Xen answers HVM and PVH callers the same (`hvm_grant_table_op`).
        g::GNTTABOP_TRANSFER | g::GNTTABOP_DUMP_TABLE => Err(Errno::ENOSYS),
        _ => Err(Errno::ENOSYS),
    }
}

/// Runs `one` over the array, writing each structure back.
fn each<T: FromBytes + IntoBytes + Immutable>(
    caller: &mut Caller<'_>,
    args: [u64; 6],
    one: fn(&Caller<'_>, &mut T) -> Result<(), Errno>,
) -> Reply {
    let [op, list, count, ..] = args;
    for i in 0..count {
        if i > 0 && i % BATCH == 0 && caller.should_yield() {
            return Ok(Answer::Continue(Continuation::three(op, caller.element::<T>(list, i)?, count - i)));
        }
        let at = caller.element::<T>(list, i)?;
        let mut item: T = caller.read(at)?;
        one(caller, &mut item)?;
        caller.write(at, &item)?;
    }
    OK
}

/// The status field of an outcome.
fn status(result: Result<(), GntStatus>) -> i16 {
    match result {
        Ok(()) => g::GNTST_OKAY,
        Err(e) => e.raw(),
    }
}

/// `DOMID_SELF` resolved.
fn resolve(caller: &Caller<'_>, id: u16) -> DomId {
    if id == DomId::SELF.raw() { caller.domain.id } else { DomId::new(id) }
}
