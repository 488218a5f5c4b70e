//! Which scheduler there is, and its parameters.

use xen_abi::Errno;
use xen_abi::domctl::XEN_SCHEDULER_CREDIT2;
use xen_abi::sysctl::{
    Sysctl, SysctlCredit2Schedule, SysctlSchedId, SysctlSchedulerOp, XEN_SYSCTL_SCHED_RATELIMIT_MAX,
    XEN_SYSCTL_SCHED_RATELIMIT_MIN, XEN_SYSCTL_SCHEDOP_GETINFO, XEN_SYSCTL_SCHEDOP_PUTINFO,
};

use super::Result;
use crate::run;

/// `XEN_SYSCTL_sched_id`.
pub fn id(op: &mut Sysctl) -> Result {
    op.set_payload(&SysctlSchedId { sched_id: XEN_SCHEDULER_CREDIT2 });
    Ok(())
}

/// `XEN_SYSCTL_scheduler_op`: the rate limit, one for all cpupools.
pub fn call(op: &mut Sysctl) -> Result {
    let mut asked: SysctlSchedulerOp = op.payload();
    let mut scheduler = run::SCHEDULER.lock();
    if !matches!(asked.cmd, XEN_SYSCTL_SCHEDOP_PUTINFO | XEN_SYSCTL_SCHEDOP_GETINFO) {
        return Err(Errno::EINVAL);
    }
    scheduler.pool_cpus(asked.cpupool_id).ok_or(Errno::ESRCH)?;
    if asked.sched_id != XEN_SCHEDULER_CREDIT2 {
        return Err(Errno::EINVAL);
    }
    if asked.cmd == XEN_SYSCTL_SCHEDOP_PUTINFO {
        let us = asked.payload::<SysctlCredit2Schedule>().ratelimit_us;
        if us != 0 && !(XEN_SYSCTL_SCHED_RATELIMIT_MIN..=XEN_SYSCTL_SCHED_RATELIMIT_MAX).contains(&us) {
            return Err(Errno::EINVAL);
        }
        scheduler.set_ratelimit_us(us);
    }
    asked.set_payload(&SysctlCredit2Schedule { ratelimit_us: scheduler.ratelimit_us() });
    op.set_payload(&asked);
    Ok(())
}
