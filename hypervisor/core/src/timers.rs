//! Timers of a vCPU: `VCPUOP_set_singleshot_timer`, the periodic timer, the local APIC's timer and poll time-outs.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use radon_addr::Ns;
use xen_abi::xen::VIRQ_TIMER;

use crate::vcpu::Vcpu;
use crate::{events, run};

/// "No deadline".
pub const NEVER: u64 = u64::MAX;

/// Fires every timer of the vCPU that is due at `now`.
pub fn fire(vcpu: &Arc<Vcpu>, now: Ns) {
    let mut tick = take_due(&vcpu.singleshot, now);
    let next = vcpu.periodic_next.load(Ordering::Relaxed);
    if next <= now.raw() {
        let period = vcpu.periodic_ns.load(Ordering::Relaxed);
        let again = if period == 0 { NEVER } else { now.raw().saturating_add(period) };
        vcpu.periodic_next.store(again, Ordering::Relaxed);
        tick = true;
    }
    if tick && let Some(domain) = vcpu.domain() {
        events::send_virq(&domain, vcpu.id, VIRQ_TIMER);
    }
    if vcpu.apic_deadline.load(Ordering::Relaxed) <= now.raw() {
        let deadline = {
            let mut apic = vcpu.apic.lock();
            apic.timer_expired(now);
            apic.timer_deadline()
        };
        vcpu.apic_deadline.store(deadline.map_or(NEVER, Ns::raw), Ordering::Relaxed);
        run::kick(vcpu);
    }
    if vcpu.poll_deadline.load(Ordering::Relaxed) <= now.raw() {
        vcpu.end_poll();
        run::kick(vcpu);
    }
}

/// Clears a one-shot deadline that has come.
fn take_due(deadline: &core::sync::atomic::AtomicU64, now: Ns) -> bool {
    let due = deadline.load(Ordering::Relaxed) <= now.raw();
    if due {
        deadline.store(NEVER, Ordering::Relaxed);
    }
    due
}

/// The local APIC's timer was programmed: takes its deadline over.
pub fn apic_timer_changed(vcpu: &Arc<Vcpu>, deadline: Option<Ns>) {
    vcpu.apic_deadline.store(deadline.map_or(NEVER, Ns::raw), Ordering::Relaxed);
}
