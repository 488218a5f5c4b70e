//! `HYPERVISOR_domctl` (36): the toolstack's operations on one domain (`domctl.h`).
//!
//! The argument is copied in once. Each operation works on that copy and says in its [`Outcome`] whether the copy goes back
//! to the caller. Operations that change a domain run one at a time under [`LOCK`]; who finds it taken gives way and calls
//! again, so that nobody waits for a lock whose holder may want to pause the caller.

use alloc::sync::Arc;

use radon_addr::{DomId, VcpuId};
use radon_hw::lock::{Guard, SpinLock, rank};
use xen_abi::Errno;
use xen_abi::domctl::{self as d, Domctl};

use crate::domain::Domain;
use crate::domains;
use crate::hypercall::{Answer, Caller, Continuation, Reply};
use crate::vcpu::Vcpu;

mod affinity;
mod bitmap;
pub mod cpu_policy;
mod create;
mod device;
mod frame_info;
pub mod hvm_context;
mod info;
mod log_dirty;
mod memory;
mod misc;
mod pause;
pub mod scheduler;
mod state;
mod tsc;
mod vcpu_context;
mod vcpu_info;

pub use bitmap::{first, online, read_bitmap, write_bitmap};
pub use info::info;
pub use state::ToolstackState;

/// One operation that changes a domain at a time.
static LOCK: SpinLock<()> = SpinLock::new(rank::DOMCTL, ());

/// What becomes of an operation that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Done,
    /// Done; the caller gets the structure back.
    Back,
    /// Failed; the caller gets the structure back all the same.
    Refused(Errno),
    /// Interrupted: call again.
    Again,
}

/// Result of one operation.
pub type Result<T = Outcome> = core::result::Result<T, Errno>;

/// Keeps other toolstack operations out while the guard lives; `None`: one is running.
pub fn exclusive() -> Option<Guard<'static, ()>> {
    LOCK.try_lock()
}

/// `args`: pointer to `struct xen_domctl`.
pub fn call(caller: &mut Caller<'_>, args: [u64; 6]) -> Reply {
    let [arg, ..] = args;
    let mut op: Domctl = caller.read(arg)?;
    if op.interface_version != d::XEN_DOMCTL_INTERFACE_VERSION {
        return Err(Errno::EACCES);
    }
    caller.require_privilege()?;
    let outcome = if op.cmd == d::XEN_DOMCTL_GETDOMAININFO {
        info::get(&mut op)?
    } else {
        let domain = match op.cmd {
            d::XEN_DOMCTL_CREATEDOMAIN => None,
            _ => Some(domains::find(DomId::new(op.domain)).ok_or(Errno::ESRCH)?),
        };
        let Some(_lock) = exclusive() else { return Ok(Answer::Continue(Continuation::SAME)) };
        match &domain {
            None => create::create(&mut op)?,
            Some(domain) => run(caller, domain, &mut op)?,
        }
    };
    if matches!(outcome, Outcome::Back | Outcome::Refused(_)) {
        caller.write(arg, &op)?;
    }
    match outcome {
        Outcome::Done | Outcome::Back => Ok(Answer::Done(0)),
        Outcome::Refused(e) => Err(e),
        Outcome::Again => Ok(Answer::Continue(Continuation::SAME)),
    }
}

/// The operation on a domain that exists.
fn run(caller: &mut Caller<'_>, domain: &Arc<Domain>, op: &mut Domctl) -> Result {
    match op.cmd {
        d::XEN_DOMCTL_MAX_VCPUS => create::max_vcpus(caller, domain, op),
        d::XEN_DOMCTL_DESTROYDOMAIN => pause::destroy(caller, domain),
        d::XEN_DOMCTL_PAUSEDOMAIN => pause::pause(caller, domain),
        d::XEN_DOMCTL_UNPAUSEDOMAIN => pause::unpause(domain),
        d::XEN_DOMCTL_RESUMEDOMAIN => pause::resume(caller, domain),
        d::XEN_DOMCTL_SOFT_RESET => pause::soft_reset(caller, domain),
        d::XEN_DOMCTL_SETVCPUAFFINITY => affinity::set(caller, domain, op),
        d::XEN_DOMCTL_GETVCPUAFFINITY => affinity::get(caller, domain, op),
        d::XEN_DOMCTL_SETNODEAFFINITY => affinity::set_node(caller, domain, op),
        d::XEN_DOMCTL_GETNODEAFFINITY => affinity::get_node(caller, domain, op),
        d::XEN_DOMCTL_SCHEDULER_OP => scheduler::call(domain, op),
        d::XEN_DOMCTL_GETVCPUINFO => vcpu_info::get(domain, op),
        d::XEN_DOMCTL_GETVCPUCONTEXT => vcpu_context::get(caller, domain, op),
        d::XEN_DOMCTL_SETVCPUCONTEXT => vcpu_context::set(caller, domain, op),
        d::XEN_DOMCTL_GETVCPUEXTSTATE => vcpu_context::get_extended(domain, op),
        d::XEN_DOMCTL_GET_VCPU_MSRS | d::XEN_DOMCTL_SET_VCPU_MSRS => vcpu_context::msrs(domain, op),
        d::XEN_DOMCTL_MAX_MEM => memory::max_mem(domain, op),
        d::XEN_DOMCTL_SHADOW_OP => memory::shadow_op(caller, domain, op),
        d::XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE => memory::set_pool(domain, op),
        d::XEN_DOMCTL_GET_PAGING_MEMPOOL_SIZE => memory::get_pool(domain, op),
        d::XEN_DOMCTL_GETPAGEFRAMEINFO3 => frame_info::get(caller, domain, op),
        d::XEN_DOMCTL_GETHVMCONTEXT => hvm_context::get(caller, domain, op),
        d::XEN_DOMCTL_SETHVMCONTEXT => hvm_context::set(caller, domain, op),
        d::XEN_DOMCTL_GETHVMCONTEXT_PARTIAL => hvm_context::get_one(caller, domain, op),
        d::XEN_DOMCTL_GET_CPU_POLICY => cpu_policy::get(caller, domain, op),
        d::XEN_DOMCTL_SET_CPU_POLICY => cpu_policy::set(caller, domain, op),
        d::XEN_DOMCTL_GETTSCINFO => tsc::get(domain, op),
        d::XEN_DOMCTL_SETTSCINFO => tsc::set(domain, op),
        d::XEN_DOMCTL_IRQ_PERMISSION => device::irq_permission(domain, op),
        d::XEN_DOMCTL_IOMEM_PERMISSION => device::iomem_permission(domain, op),
        d::XEN_DOMCTL_IOPORT_PERMISSION => device::ioport_permission(domain, op),
        d::XEN_DOMCTL_MEMORY_MAPPING => device::memory_mapping(op),
        d::XEN_DOMCTL_ASSIGN_DEVICE
        | d::XEN_DOMCTL_TEST_ASSIGN_DEVICE
        | d::XEN_DOMCTL_DEASSIGN_DEVICE
        | d::XEN_DOMCTL_GET_DEVICE_GROUP => device::no_iommu(),
        _ => misc::call(caller, domain, op),
    }
}

/// A vCPU that an operation names.
fn vcpu(domain: &Arc<Domain>, id: u32) -> Result<&Arc<Vcpu>> {
    if id >= domain.config.max_vcpus {
        return Err(Errno::EINVAL);
    }
    domain.vcpu(VcpuId::new(id)).ok_or(Errno::ESRCH)
}

/// `-EINVAL` for the caller's own domain, which it cannot pause.
fn not_myself(caller: &Caller<'_>, domain: &Arc<Domain>) -> Result<()> {
    if Arc::ptr_eq(caller.domain, domain) { Err(Errno::EINVAL) } else { Ok(()) }
}
