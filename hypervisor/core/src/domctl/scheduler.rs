//! `XEN_DOMCTL_scheduler_op`: a domain's weight and cap, and the cpupool it is in.

use alloc::sync::Arc;

use xen_abi::Errno;
use xen_abi::domctl::{
    Domctl, DomctlSchedCredit2, DomctlSchedulerOp, XEN_DOMCTL_SCHEDOP_GETINFO, XEN_DOMCTL_SCHEDOP_PUTINFO,
    XEN_SCHEDULER_CREDIT2,
};

use super::{Outcome, Result};
use crate::domain::Domain;
use crate::run;

/// Per cent of one CPU.
const WHOLE_CPU: u32 = 100;

/// Credit2's parameters of a domain.
pub fn call(domain: &Arc<Domain>, op: &mut Domctl) -> Result {
    let mut asked: DomctlSchedulerOp = op.payload();
    if asked.sched_id != XEN_SCHEDULER_CREDIT2 {
        return Err(Errno::EINVAL);
    }
    let mut scheduler = run::SCHEDULER.lock();
    match asked.cmd {
        XEN_DOMCTL_SCHEDOP_PUTINFO => {
            let p: DomctlSchedCredit2 = asked.payload();
            if u32::from(p.cap) > WHOLE_CPU.saturating_mul(domain.vcpus().len() as u32) {
                return Err(Errno::EINVAL);
            }
            scheduler.set_params(domain.id, p.weight, p.cap)?;
        }
        XEN_DOMCTL_SCHEDOP_GETINFO => {
            let (weight, cap) = scheduler.params(domain.id).ok_or(Errno::ESRCH)?;
            asked.set_payload(&DomctlSchedCredit2 { weight, cap });
            op.set_payload(&asked);
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(Outcome::Back)
}

/// The cpupool a domain is in; a dead one counts to the first.
pub fn pool_of(domain: &Domain) -> u32 {
    run::SCHEDULER.lock().pool_of(domain.id).unwrap_or(0)
}
