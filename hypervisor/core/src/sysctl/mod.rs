//! `HYPERVISOR_sysctl` (35): the toolstack's operations on the machine (`sysctl.h`).
//!
//! The argument is copied in once; an operation that succeeds gives it back as it has become.

use xen_abi::Errno;
use xen_abi::sysctl::{self as s, Sysctl};

use crate::hypercall::{Caller, OK, Reply};

mod console;
mod cpu_policy;
mod cpu_time;
mod cpupool;
mod debug_keys;
mod domain_list;
mod memory;
mod physinfo;
mod scheduler;
pub mod topology;

type Result<T = ()> = core::result::Result<T, Errno>;

/// `args`: pointer to `struct xen_sysctl`.
pub fn call(caller: &mut Caller<'_>, args: [u64; 6]) -> Reply {
    let [arg, ..] = args;
    let mut op: Sysctl = caller.read(arg)?;
    if op.interface_version != s::XEN_SYSCTL_INTERFACE_VERSION {
        return Err(Errno::EACCES);
    }
    caller.require_privilege()?;
    match run(caller, &mut op) {
        // The one refusal that tells something: how many entries the caller's array should have had.
        result @ (Ok(()) | Err(Errno::ENOBUFS)) => {
            caller.write(arg, &op)?;
            result.and(OK)
        }
        Err(e) => Err(e),
    }
}

fn run(caller: &Caller<'_>, op: &mut Sysctl) -> Result {
    match op.cmd {
        s::XEN_SYSCTL_READCONSOLE => console::read(caller, op),
        s::XEN_SYSCTL_PHYSINFO => physinfo::get(op),
        s::XEN_SYSCTL_SCHED_ID => scheduler::id(op),
        s::XEN_SYSCTL_SCHEDULER_OP => scheduler::call(op),
        s::XEN_SYSCTL_GETDOMAININFOLIST => domain_list::get(caller, op),
        s::XEN_SYSCTL_DEBUG_KEYS => debug_keys::press(caller, op),
        s::XEN_SYSCTL_GETCPUINFO => cpu_time::get(caller, op),
        s::XEN_SYSCTL_AVAILHEAP => memory::avail_heap(op),
        s::XEN_SYSCTL_CPUTOPOINFO => topology::cpus(caller, op),
        s::XEN_SYSCTL_NUMAINFO => topology::nodes(caller, op),
        s::XEN_SYSCTL_PCITOPOINFO => topology::pci_devices(caller, op),
        s::XEN_SYSCTL_CPUPOOL_OP => cpupool::call(caller, op),
        s::XEN_SYSCTL_GET_CPU_FEATURESET => cpu_policy::featureset(caller, op),
        s::XEN_SYSCTL_GET_CPU_POLICY => cpu_policy::policy(caller, op),
        s::XEN_SYSCTL_GET_CPU_LEVELLING_CAPS => cpu_policy::levelling_caps(op),
        // No frequency or idle-state driver.
        s::XEN_SYSCTL_GET_PMSTAT | s::XEN_SYSCTL_PM_OP => Err(Errno::ENODEV),
        s::XEN_SYSCTL_CPU_HOTPLUG | s::XEN_SYSCTL_COVERAGE_OP | s::XEN_SYSCTL_PAGE_OFFLINE_OP => {
            Err(Errno::EOPNOTSUPP)
        }
        s::XEN_SYSCTL_PSR_CMT_OP | s::XEN_SYSCTL_PSR_ALLOC => Err(Errno::ENODEV),
        // Trace buffers, performance counters, lock profile, live patches.
        _ => Err(Errno::ENOSYS),
    }
}
