//! `HYPERVISOR_memory_op` (12). Bits 6 and up of the command are where a continued operation goes on.

use xen_abi::Errno;
use xen_abi::memory as m;

use super::{Answer, Caller, Continuation, OK, Reply};

mod acquire_resource;
mod add_to_physmap;
mod exchange;
mod extents;
mod memory_map;
mod reservation;

/// Low bits of the command: the sub-operation (`MEMOP_EXTENT_SHIFT`).
const COMMAND_BITS: u32 = 6;

/// Continue `command` at element `next`.
fn resume(command: u32, next: u64, arg: u64) -> Reply {
    Ok(Answer::Continue(Continuation::two(u64::from(command) | next << COMMAND_BITS, arg)))
}

/// `args`: command, pointer.
pub fn call(caller: &mut Caller<'_>, args: [u64; 6]) -> Reply {
    let [command, arg, ..] = args;
    let start = command >> COMMAND_BITS;
    let op = (command & ((1 << COMMAND_BITS) - 1)) as u32;
    match op {
        m::XENMEM_POPULATE_PHYSMAP | m::XENMEM_INCREASE_RESERVATION | m::XENMEM_DECREASE_RESERVATION => {
            reservation::call(caller, op, start, arg)
        }
        m::XENMEM_EXCHANGE => exchange::call(caller, start, arg),
        m::XENMEM_ADD_TO_PHYSMAP => add_to_physmap::one(caller, start, arg),
        m::XENMEM_ADD_TO_PHYSMAP_BATCH => add_to_physmap::batch(caller, start, arg),
        m::XENMEM_REMOVE_FROM_PHYSMAP => add_to_physmap::remove(caller, arg),
        m::XENMEM_ACQUIRE_RESOURCE => acquire_resource::call(caller, start, arg),
        m::XENMEM_MEMORY_MAP => memory_map::get(caller, arg),
        m::XENMEM_SET_MEMORY_MAP => memory_map::set(caller, arg),
        m::XENMEM_MACHINE_MEMORY_MAP => memory_map::machine(caller, arg),
        m::XENMEM_CLAIM_PAGES => reservation::claim(caller, arg),
        m::XENMEM_CURRENT_RESERVATION | m::XENMEM_MAXIMUM_RESERVATION | m::XENMEM_MAXIMUM_GPFN => {
            reservation::query(caller, op, arg)
        }
        m::XENMEM_MAXIMUM_RAM_PAGE => {
            Ok(Answer::Done(radon_frames::frames().max_mfn().raw().saturating_sub(1) as i64))
        }
        m::XENMEM_GET_SHARING_FREED_PAGES | m::XENMEM_GET_SHARING_SHARED_PAGES => OK,
        m::XENMEM_SET_POD_TARGET | m::XENMEM_GET_POD_TARGET => reservation::pod_target(caller, op, arg),
        // The domain was built without virtual NUMA.
        m::XENMEM_GET_VNUMAINFO => Err(Errno::EOPNOTSUPP),
        m::XENMEM_RESERVED_DEVICE_MEMORY_MAP => Err(Errno::ENOENT),
        _ => Err(Errno::ENOSYS),
    }
}
