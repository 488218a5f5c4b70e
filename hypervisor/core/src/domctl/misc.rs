//! The small ones: identity, time, triggers, notes of the toolstack.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use radon_addr::{DomId, Gfn, Port};
use xen_abi::Errno;
use xen_abi::domctl::{
    self as d, Domctl, DomctlGdbsxDomstatus, DomctlGdbsxPauseunpVcpu, DomctlHypercallInit, DomctlSendtrigger,
    DomctlSetTarget, DomctlSetdebugging, DomctlSetdomainhandle, DomctlSettimeoffset, DomctlSubscribe,
};

use super::{Outcome, Result, not_myself};
use crate::domain::{Domain, Dying};
use crate::hypercall::Caller;
use crate::{clock, domains, hypercall_page, layout, run};

pub fn call(caller: &mut Caller<'_>, domain: &Arc<Domain>, op: &mut Domctl) -> Result {
    match op.cmd {
        d::XEN_DOMCTL_SETDOMAINHANDLE => {
            *domain.handle.lock() = op.payload::<DomctlSetdomainhandle>().handle;
            Ok(Outcome::Done)
        }
        d::XEN_DOMCTL_SETDEBUGGING => {
            not_myself(caller, domain)?;
            domain.toolstack.lock().debugged = op.payload::<DomctlSetdebugging>().enable != 0;
            Ok(Outcome::Done)
        }
        d::XEN_DOMCTL_HYPERCALL_INIT => {
            let gfn = Gfn::new(op.payload::<DomctlHypercallInit>().gmfn);
            hypercall_page::fill(domain, gfn.gpa().raw())?;
            if Arc::ptr_eq(caller.domain, domain) {
                layout::latch(domain, caller.context.backend.mode());
            }
            Ok(Outcome::Done)
        }
        d::XEN_DOMCTL_SETTIMEOFFSET => {
            let offset = op.payload::<DomctlSettimeoffset>().time_offset_seconds;
            domain.time_offset_s.store(offset as u64, Ordering::Relaxed);
            if domain.dying() == Dying::No {
                clock::publish_wall_clock(domain);
            }
            Ok(Outcome::Done)
        }
        d::XEN_DOMCTL_SENDTRIGGER => trigger(domain, &op.payload()),
        d::XEN_DOMCTL_SUBSCRIBE => {
            domain.toolstack.lock().suspend_port = Some(Port::new(op.payload::<DomctlSubscribe>().port));
            Ok(Outcome::Done)
        }
        d::XEN_DOMCTL_SET_TARGET => set_target(domain, DomId::new(op.payload::<DomctlSetTarget>().target)),
        // VIRQs go to dom0 and nowhere else.
        d::XEN_DOMCTL_SET_VIRQ_HANDLER => {
            if domain.config.hardware {
                Ok(Outcome::Done)
            } else {
                Err(Errno::EOPNOTSUPP)
            }
        }
        d::XEN_DOMCTL_SET_ADDRESS_SIZE | d::XEN_DOMCTL_GET_ADDRESS_SIZE => Err(Errno::EOPNOTSUPP),
        d::XEN_DOMCTL_PSR_CMT_OP | d::XEN_DOMCTL_PSR_ALLOC => Err(Errno::ENODEV),
        d::XEN_DOMCTL_VM_EVENT_OP
        | d::XEN_DOMCTL_MONITOR_OP
        | d::XEN_DOMCTL_VMTRACE_OP
        | d::XEN_DOMCTL_SETVNUMAINFO
        | d::XEN_DOMCTL_DEBUG_OP
        | d::XEN_DOMCTL_SET_EXT_VCPUCONTEXT
        | d::XEN_DOMCTL_GET_EXT_VCPUCONTEXT => Err(Errno::EOPNOTSUPP),
        d::XEN_DOMCTL_GDBSX_PAUSEVCPU | d::XEN_DOMCTL_GDBSX_UNPAUSEVCPU => debugger_pause(caller, domain, op),
        d::XEN_DOMCTL_GDBSX_DOMSTATUS => {
            let paused = domain.controller_pauses.load(Ordering::SeqCst) != 0;
            let status =
                DomctlGdbsxDomstatus { paused: paused.into(), _pad: [0; 3], vcpu_id: u32::MAX, vcpu_ev: 0 };
            op.set_payload(&status);
            Ok(Outcome::Back)
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// `xl trigger`. Buttons are ACPI's, which a PVH guest has none of; as in Xen pressing them does nothing.
fn trigger(domain: &Arc<Domain>, t: &DomctlSendtrigger) -> Result {
    let v = super::vcpu(domain, t.vcpu).map_err(|_| Errno::ESRCH)?;
    match t.trigger {
        d::XEN_DOMCTL_SENDTRIGGER_NMI => {
            v.nmi_pending.store(true, Ordering::SeqCst);
            run::kick(v);
            Ok(Outcome::Done)
        }
        d::XEN_DOMCTL_SENDTRIGGER_POWER | d::XEN_DOMCTL_SENDTRIGGER_SLEEP => Ok(Outcome::Done),
        _ => Err(Errno::ENOSYS),
    }
}

/// `domain` is the device model of `target`; once.
fn set_target(domain: &Arc<Domain>, target: DomId) -> Result {
    domains::find(target).ok_or(Errno::ESRCH)?;
    let mut toolstack = domain.toolstack.lock();
    if target == domain.id || toolstack.target.is_some() {
        return Err(Errno::EINVAL);
    }
    toolstack.target = Some(target);
    Ok(Outcome::Done)
}

/// A debugger stops one vCPU.
fn debugger_pause(caller: &Caller<'_>, domain: &Arc<Domain>, op: &Domctl) -> Result {
    not_myself(caller, domain).map_err(|_| Errno::EBUSY)?;
    let v = super::vcpu(domain, op.payload::<DomctlGdbsxPauseunpVcpu>().vcpu).map_err(|_| Errno::EINVAL)?;
    if op.cmd == d::XEN_DOMCTL_GDBSX_PAUSEVCPU {
        run::pause_vcpu(v);
    } else {
        run::unpause_vcpu(v);
    }
    Ok(Outcome::Done)
}
