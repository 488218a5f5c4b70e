//! `HYPERVISOR_vm_assist` (21): of its types only the run-state update flag concerns PVH.

use xen_abi::Errno;
use xen_abi::hypercall::{VMASST_CMD_DISABLE, VMASST_CMD_ENABLE, VMASST_TYPE_RUNSTATE_UPDATE_FLAG};

use super::{Caller, OK, Reply};

/// `args`: command, type.
pub fn call(caller: &mut Caller<'_>, args: [u64; 6]) -> Reply {
    let [command, kind, ..] = args.map(|a| a as u32);
    if kind != VMASST_TYPE_RUNSTATE_UPDATE_FLAG {
        return Err(Errno::EINVAL);
    }
    let on = match command {
        VMASST_CMD_ENABLE => true,
        VMASST_CMD_DISABLE => false,
        _ => return Err(Errno::ENOSYS),
    };
    caller.domain.runstate_update_flag.store(on, core::sync::atomic::Ordering::Relaxed);
    OK
}
