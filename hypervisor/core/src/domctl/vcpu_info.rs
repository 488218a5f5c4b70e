//! `XEN_DOMCTL_getvcpuinfo`: a line of `xl vcpu-list`.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use radon_hw::time;
use xen_abi::domctl::{Domctl, DomctlGetvcpuinfo};

use super::{Outcome, Result, vcpu};
use crate::domain::Domain;

pub fn get(domain: &Arc<Domain>, op: &mut Domctl) -> Result {
    let mut info: DomctlGetvcpuinfo = op.payload();
    let v = vcpu(domain, info.vcpu)?;
    let [running, ..] = v.runstate.lock().at(time::now()).2;
    info.online = v.is_up().into();
    info.blocked = v.is_blocked().into();
    info.running = v.running_on().is_some().into();
    info.cpu_time = running;
    info.cpu = v.last_cpu.load(Ordering::Relaxed);
    op.set_payload(&info);
    Ok(Outcome::Back)
}
