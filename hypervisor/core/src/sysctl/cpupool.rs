//! `XEN_SYSCTL_cpupool_op`: sets of CPUs with domains of their own.

use alloc::sync::Arc;

use radon_addr::{CpuId, DomId};
use radon_hw::cpu;
use radon_sched::CpuSet;
use xen_abi::Errno;
use xen_abi::domctl::XEN_SCHEDULER_CREDIT2;
use xen_abi::sysctl::{self as s, Sysctl, SysctlCpupoolOp, XEN_SYSCTL_CPUPOOL_PAR_ANY};

use super::Result;
use crate::domctl::write_bitmap;
use crate::hypercall::Caller;
use crate::{domains, run};

pub fn call(caller: &Caller<'_>, op: &mut Sysctl) -> Result {
    let mut p: SysctlCpupoolOp = op.payload();
    let some = |v: u32| (v != XEN_SYSCTL_CPUPOOL_PAR_ANY).then_some(v);
    match p.op {
        s::XEN_SYSCTL_CPUPOOL_OP_CREATE => {
            if p.sched_id != XEN_SCHEDULER_CREDIT2 {
                return Err(Errno::ENOENT);
            }
            p.cpupool_id = run::SCHEDULER.lock().pool_create(some(p.cpupool_id))?;
        }
        s::XEN_SYSCTL_CPUPOOL_OP_DESTROY => run::SCHEDULER.lock().pool_destroy(p.cpupool_id)?,
        s::XEN_SYSCTL_CPUPOOL_OP_INFO => {
            let info = run::SCHEDULER.lock().pool_info(p.cpupool_id)?;
            (p.cpupool_id, p.n_dom, p.sched_id) = (info.id, info.domains, XEN_SCHEDULER_CREDIT2);
            write_bitmap(caller, &p.cpumap, &info.cpus, cpu::count())?;
        }
        s::XEN_SYSCTL_CPUPOOL_OP_ADDCPU => {
            let cpu = checked_cpu(some(p.cpu))?;
            let added = run::SCHEDULER.lock().pool_add_cpu(p.cpupool_id, cpu)?;
            run::poke(added);
        }
        s::XEN_SYSCTL_CPUPOOL_OP_RMCPU => {
            let cpu = checked_cpu(some(p.cpu))?;
            let poke = run::SCHEDULER.lock().pool_remove_cpu(p.cpupool_id, cpu)?;
            poke_all(&poke);
        }
        s::XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN => {
            let id = u16::try_from(p.domid).map_err(|_| Errno::ESRCH)?;
            let domain = domains::find(DomId::new(id)).ok_or(Errno::ESRCH)?;
            if Arc::ptr_eq(&domain, caller.domain) {
                return Err(Errno::EPERM);
            }
            let poke = run::SCHEDULER.lock().pool_move_domain(domain.id, p.cpupool_id)?;
            poke_all(&poke);
        }
        s::XEN_SYSCTL_CPUPOOL_OP_FREEINFO => {
            let free = run::SCHEDULER.lock().free_cpus();
            write_bitmap(caller, &p.cpumap, &free, cpu::count())?;
        }
        _ => return Err(Errno::ENOSYS),
    }
    op.set_payload(&p);
    Ok(())
}

/// A CPU of this machine; `EINVAL` for a number beyond.
fn checked_cpu(cpu: Option<u32>) -> Result<Option<CpuId>> {
    match cpu {
        Some(n) if n as usize >= cpu::count() => Err(Errno::EINVAL),
        other => Ok(other.map(CpuId::new)),
    }
}

fn poke_all(cpus: &CpuSet) {
    for cpu in cpus.iter().filter(|c| c.index() < cpu::count()) {
        run::poke(cpu);
    }
}
