//! What the writes of one vCPU's local APIC do to others: IPIs, INIT and start-up, EOI broadcasts.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use radon_vapic::{DeliveryMode, Effect, Message};

use crate::domain::Domain;
use crate::vcpu::Vcpu;
use crate::{events, run, timers};

/// Carries out an effect. Must be called without the vCPU's APIC lock.
pub fn apply(domain: &Arc<Domain>, vcpu: &Arc<Vcpu>, effect: Effect) {
    match effect {
        Effect::None => {}
        Effect::SendIpi(message) => send_ipi(domain, vcpu, message),
        Effect::Eoi { vector, level } => {
            if level {
                crate::hardware::end_of_interrupt(domain, vector);
            }
        }
        Effect::TimerChanged => {
            let deadline = vcpu.apic.lock().timer_deadline();
            timers::apic_timer_changed(vcpu, deadline);
        }
        Effect::Enabled => {
            let pending = domain.events.lock().upcall_pending(vcpu.id);
            if pending {
                events::upcall(vcpu);
            }
        }
    }
}

/// Delivers an interrupt message to the vCPUs it names. `sender`: for "all but me" and the like.
pub fn deliver(domain: &Arc<Domain>, sender: Option<&Arc<Vcpu>>, message: Message) {
    let mut lowest: Option<&Arc<Vcpu>> = None;
    for target in domain.vcpus() {
        let own = sender.is_some_and(|s| Arc::ptr_eq(s, target));
        if !target.apic.lock().matches(message.destination, own) {
            continue;
        }
        match message.mode {
            DeliveryMode::LowestPriority => {
                // One of those named: the first that is up will do.
                if lowest.is_none() && target.is_up() {
                    lowest = Some(target);
                }
            }
            DeliveryMode::Fixed => accept(target, message.vector, message.level),
            DeliveryMode::Nmi => {
                target.nmi_pending.store(true, Ordering::SeqCst);
                run::kick(target);
            }
            DeliveryMode::Init => init(target),
            DeliveryMode::Startup => startup(target, message.vector),
            DeliveryMode::Smi | DeliveryMode::Reserved | DeliveryMode::ExtInt => {}
        }
    }
    if let Some(target) = lowest {
        accept(target, message.vector, message.level);
    }
}

fn accept(target: &Arc<Vcpu>, vector: u8, level: bool) {
    let fresh = target.apic.lock().accept_irq(vector, level);
    if fresh {
        run::kick(target);
    }
}

fn send_ipi(domain: &Arc<Domain>, sender: &Arc<Vcpu>, message: Message) {
    deliver(domain, Some(sender), message);
}

/// INIT: a vCPU that runs stops and waits for a start-up IPI.
fn init(target: &Arc<Vcpu>) {
    target.waiting_for_startup.store(true, Ordering::SeqCst);
    target.set_startup(None);
    if target.is_up() {
        target.set_up(false);
        run::reschedule(target);
    }
    target.apic.lock().init();
}

/// Start-up IPI: runs from the page with that number, if it waits for one.
fn startup(target: &Arc<Vcpu>, page: u8) {
    if target.is_up() || !target.waiting_for_startup.swap(false, Ordering::SeqCst) {
        return;
    }
    // The pCPU that runs the target next sets its registers. Its last one may still hold its context, and vCPUs that
    // waited here for each other's would wait forever.
    target.set_startup(Some(page));
    target.end_poll();
    target.attention.store(true, Ordering::SeqCst);
    target.clear_blocked();
    target.set_up(true);
    run::reschedule(target);
}
