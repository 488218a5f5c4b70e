//! HLT: wait for an interrupt. With interrupts off and no other vCPU up, that is how a PVH guest powers off.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use radon_cpu::rflags;
use radon_decode::Kind;
use xen_abi::sched::SHUTDOWN_POWEROFF;

use crate::context::Context;
use crate::domain::Domain;
use crate::vcpu::Vcpu;
use crate::{run, shutdown};

/// Handles HLT.
pub fn handle(domain: &Arc<Domain>, vcpu: &Arc<Vcpu>, context: &mut Context) {
    super::advance(domain, vcpu, context, Kind::Hlt);
    if context.pending.is_some() {
        return;
    }
    if context.backend.rflags() & rflags::IF == 0 && !vcpu.nmi_pending.load(Ordering::Relaxed) {
        // Nothing can wake it but INIT or NMI: it is offline.
        vcpu.set_up(false);
        run::reschedule(vcpu);
        if !domain.vcpus().iter().any(|v| v.is_up()) {
            shutdown::shutdown(domain, SHUTDOWN_POWEROFF as u8);
        }
        return;
    }
    context.halted = true;
}
