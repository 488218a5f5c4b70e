//! `XEN_DOMCTL_getdomaininfo`: the record that `xl list` shows a line of.

use alloc::sync::Arc;

use radon_addr::{DOMID_FIRST_RESERVED, DomId};
use radon_frames::frames;
use radon_hw::time;
use xen_abi::Errno;
use xen_abi::domctl::{
    ArchDomainconfig, Domctl, DomctlGetdomaininfo, XEN_DOMCTL_CDF_XS_DOMAIN, XEN_DOMINF_BLOCKED,
    XEN_DOMINF_DEBUGGED, XEN_DOMINF_DYING, XEN_DOMINF_HAP, XEN_DOMINF_HVM_GUEST, XEN_DOMINF_PAUSED,
    XEN_DOMINF_RUNNING, XEN_DOMINF_SHUTDOWN, XEN_DOMINF_SHUTDOWNSHIFT, XEN_DOMINF_XS_DOMAIN,
    XEN_INVALID_MAX_VCPU_ID,
};

use super::{Outcome, Result};
use crate::create::GPA_BITS;
use crate::domain::{Domain, Dying};
use crate::{destroy, domains, physmap};

/// "Nowhere" as a guest frame number.
const NO_GFN: u64 = u64::MAX;

/// Of the domain named or, as Xen does it, of the next one: the tools compare the id.
pub fn get(op: &mut Domctl) -> Result {
    destroy::reap();
    if op.domain >= DOMID_FIRST_RESERVED {
        return Err(Errno::EINVAL);
    }
    let domain = domains::first_from(DomId::new(op.domain)).ok_or(Errno::ESRCH)?;
    let info = info(&domain);
    op.domain = info.domain;
    op.set_payload(&info);
    Ok(Outcome::Back)
}

/// The record of one domain.
pub fn info(domain: &Arc<Domain>) -> DomctlGetdomaininfo {
    let counts = frames().domain(domain.id);
    let toolstack = *domain.toolstack.lock();
    let vcpus = vcpu_summary(domain);
    let shared_info = physmap::shared_place(domain, domain.shared_info).map_or(NO_GFN, |g| g.raw());
    let flag = |on: bool, bit: u32| if on { bit } else { 0 };
    let (shut_down, code) = match domain.shutdown_code() {
        Some(code) => (true, u32::from(code)),
        // SHUTDOWN_CODE_INVALID: the tools look at it only when the flag is set.
        None => (false, u32::MAX),
    };
    DomctlGetdomaininfo {
        domain: domain.id.raw(),
        _pad1: 0,
        flags: vcpus.flags
            | flag(domain.dying() == Dying::Dead, XEN_DOMINF_DYING)
            | flag(shut_down, XEN_DOMINF_SHUTDOWN)
            | flag(
                domain.controller_pauses.load(core::sync::atomic::Ordering::SeqCst) != 0,
                XEN_DOMINF_PAUSED,
            )
            | flag(toolstack.debugged, XEN_DOMINF_DEBUGGED)
            | flag(domain.config.flags & XEN_DOMCTL_CDF_XS_DOMAIN != 0, XEN_DOMINF_XS_DOMAIN)
            | XEN_DOMINF_HVM_GUEST
            | XEN_DOMINF_HAP
            | code << XEN_DOMINF_SHUTDOWNSHIFT,
        tot_pages: u64::from(counts.tot_pages),
        max_pages: u64::from(counts.max_pages),
        outstanding_pages: u64::from(counts.outstanding),
        shr_pages: 0,
        paged_pages: 0,
        shared_info_frame: shared_info,
        cpu_time: vcpus.cpu_time_ns,
        nr_online_vcpus: vcpus.online,
        max_vcpu_id: vcpus.max_id,
        ssidref: domain.config.ssidref,
        handle: *domain.handle.lock(),
        cpupool: super::scheduler::pool_of(domain),
        gpaddr_bits: GPA_BITS,
        _pad2: [0; 7],
        arch_config: ArchDomainconfig { emulation_flags: domain.config.emulation_flags, misc_flags: 0 },
    }
}

struct VcpuSummary {
    flags: u32,
    cpu_time_ns: u64,
    online: u32,
    max_id: u32,
}

/// A domain is blocked when all its vCPUs are, and runs when one does.
fn vcpu_summary(domain: &Domain) -> VcpuSummary {
    let now = time::now();
    let mut s =
        VcpuSummary { flags: XEN_DOMINF_BLOCKED, cpu_time_ns: 0, online: 0, max_id: XEN_INVALID_MAX_VCPU_ID };
    for v in domain.vcpus() {
        let [running, ..] = v.runstate.lock().at(now).2;
        s.cpu_time_ns = s.cpu_time_ns.saturating_add(running);
        s.max_id = v.id.raw();
        if v.is_up() {
            s.online = s.online.saturating_add(1);
            if !v.is_blocked() {
                s.flags &= !XEN_DOMINF_BLOCKED;
            }
            if v.running_on().is_some() {
                s.flags |= XEN_DOMINF_RUNNING;
            }
        }
    }
    if s.online == 0 {
        s.flags = 0;
    }
    s
}
