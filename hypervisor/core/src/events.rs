//! Raising events: from guests, from the hypervisor (VIRQs), from timers; and telling the vCPU.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use radon_addr::{Port, VcpuId};
use radon_evtchn::{Notify, Sent};
use xen_abi::Errno;

use crate::domain::Domain;
use crate::vcpu::Vcpu;
use crate::{domains, run};

/// Acts on what raising an event asked for. Must be called without the event-channel lock.
pub fn notify(domain: &Arc<Domain>, n: Notify) {
    if let Some(vcpu) = n.upcall.and_then(|v| domain.vcpu(v)) {
        upcall(vcpu);
    }
    if n.pollers.is_some() {
        for v in domain.vcpus() {
            if v.polling.load(Ordering::Acquire) {
                v.end_poll();
                run::kick(v);
            }
        }
    }
}

/// Makes the event upcall reach a vCPU: by the vector of `HVMOP_set_evtchn_upcall_vector` through its local APIC,
/// otherwise by the domain's callback vector, which is looked at before each entry.
pub fn upcall(vcpu: &Arc<Vcpu>) {
    let vector = vcpu.upcall_vector.load(Ordering::Relaxed);
    if vector != 0 {
        vcpu.apic.lock().post(vector);
    }
    run::kick(vcpu);
}

/// `EVTCHNOP_send`.
pub fn send(domain: &Arc<Domain>, port: Port) -> Result<(), Errno> {
    let sent = domain.events.lock().send(port)?;
    deliver(domain, port, sent);
    Ok(())
}

/// Brings a sent event to its other end.
pub fn deliver(domain: &Arc<Domain>, from_port: Port, sent: Sent) {
    match sent {
        Sent::Local(n) => notify(domain, n),
        Sent::Remote { dom, port } => {
            let Some(remote) = domains::find(dom) else { return };
            let n = remote.events.lock().receive(domain.id, from_port, port);
            notify(&remote, n);
        }
    }
}

/// Raises a VIRQ on one vCPU.
pub fn send_virq(domain: &Arc<Domain>, vcpu: VcpuId, virq: u32) {
    let n = domain.events.lock().send_virq(virq, vcpu);
    notify(domain, n);
}

/// Raises a VIRQ of the control domain (console input, domain death, ...).
pub fn send_global_virq(virq: u32) {
    if let Some(dom0) = domains::dom0() {
        send_virq(&dom0, VcpuId::new(0), virq);
    }
}
