//! Where vCPUs may run and where they like to; and on which node memory should lie, of which there is one.

use alloc::sync::Arc;

use radon_hw::{cpu, time};
use radon_sched::CpuSet;
use xen_abi::Errno;
use xen_abi::domctl::{
    Domctl, DomctlNodeaffinity, DomctlVcpuaffinity, XEN_VCPUAFFINITY_FORCE, XEN_VCPUAFFINITY_HARD,
    XEN_VCPUAFFINITY_SOFT,
};

use super::{Outcome, Result, first, online, read_bitmap, vcpu, write_bitmap};
use crate::domain::Domain;
use crate::hypercall::Caller;
use crate::run;
use crate::vcpu::Vcpu;

/// Nodes of the machine.
const NODES: usize = 1;

fn parse<'a>(domain: &'a Arc<Domain>, op: &Domctl) -> Result<(DomctlVcpuaffinity, &'a Arc<Vcpu>)> {
    let a: DomctlVcpuaffinity = op.payload();
    let v = vcpu(domain, a.vcpu)?;
    let known = XEN_VCPUAFFINITY_HARD | XEN_VCPUAFFINITY_SOFT | XEN_VCPUAFFINITY_FORCE;
    let missing = |flag, null: bool| a.flags & flag != 0 && null;
    if a.flags == 0
        || a.flags & !known != 0
        || missing(XEN_VCPUAFFINITY_HARD, a.cpumap_hard.bitmap.is_null())
        || missing(XEN_VCPUAFFINITY_SOFT, a.cpumap_soft.bitmap.is_null())
    {
        return Err(Errno::EINVAL);
    }
    Ok((a, v))
}

/// `XEN_DOMCTL_setvcpuaffinity`; what is in effect (with the cpupool's CPUs) is written to the caller's bitmaps.
pub fn set(caller: &Caller<'_>, domain: &Arc<Domain>, op: &Domctl) -> Result {
    let (a, v) = parse(domain, op)?;
    let (mut hard, mut soft) = run::SCHEDULER.lock().affinity(v.key()).ok_or(Errno::ESRCH)?;
    if a.flags & XEN_VCPUAFFINITY_HARD != 0 {
        hard = widened(read_bitmap(caller, &a.cpumap_hard, cpu::count())?);
    }
    if a.flags & XEN_VCPUAFFINITY_SOFT != 0 {
        soft = widened(read_bitmap(caller, &a.cpumap_soft, cpu::count())?);
        if soft.is_empty() {
            return Err(Errno::EINVAL);
        }
    }
    let (poke, pool) = {
        let mut scheduler = run::SCHEDULER.lock();
        let poke = scheduler.set_affinity(v.key(), &hard, &soft, time::now())?;
        let pool = scheduler.pool_of(domain.id).and_then(|p| scheduler.pool_cpus(p)).unwrap_or_else(online);
        (poke, pool)
    };
    if let Some(cpu) = poke {
        run::poke(cpu);
    }
    if a.flags & XEN_VCPUAFFINITY_HARD != 0 {
        write_bitmap(caller, &a.cpumap_hard, &hard.and(&pool), cpu::count())?;
    }
    if a.flags & XEN_VCPUAFFINITY_SOFT != 0 {
        write_bitmap(caller, &a.cpumap_soft, &soft.and(&pool).and(&hard), cpu::count())?;
    }
    Ok(Outcome::Done)
}

/// All CPUs there are means no restriction, also in a cpupool that gets other CPUs later.
fn widened(set: CpuSet) -> CpuSet {
    if online().without(&set).is_empty() { CpuSet::ALL } else { set }
}

/// `XEN_DOMCTL_getvcpuaffinity`.
pub fn get(caller: &Caller<'_>, domain: &Arc<Domain>, op: &Domctl) -> Result {
    let (a, v) = parse(domain, op)?;
    let (hard, soft) = run::SCHEDULER.lock().affinity(v.key()).ok_or(Errno::ESRCH)?;
    if a.flags & XEN_VCPUAFFINITY_HARD != 0 {
        write_bitmap(caller, &a.cpumap_hard, &hard, cpu::count())?;
    }
    if a.flags & XEN_VCPUAFFINITY_SOFT != 0 {
        write_bitmap(caller, &a.cpumap_soft, &soft, cpu::count())?;
    }
    Ok(Outcome::Done)
}

/// `XEN_DOMCTL_setnodeaffinity`: must name the one node.
pub fn set_node(caller: &Caller<'_>, _domain: &Arc<Domain>, op: &Domctl) -> Result {
    let a: DomctlNodeaffinity = op.payload();
    let nodes = read_bitmap(caller, &a.nodemap, NODES)?;
    if nodes.is_empty() { Err(Errno::EINVAL) } else { Ok(Outcome::Done) }
}

/// `XEN_DOMCTL_getnodeaffinity`.
pub fn get_node(caller: &Caller<'_>, _domain: &Arc<Domain>, op: &Domctl) -> Result {
    let a: DomctlNodeaffinity = op.payload();
    write_bitmap(caller, &a.nodemap, &first(NODES), NODES)?;
    Ok(Outcome::Done)
}
