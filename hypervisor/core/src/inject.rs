//! What a vCPU gets at its next entry: a pending exception, an NMI, or the highest interrupt it can take.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use radon_cpu::{Event, rflags};

use crate::context::Context;
use crate::domain::Domain;
use crate::vcpu::Vcpu;
use crate::vcpu_state;

/// Source of an interrupt about to be delivered.
enum Source {
    /// The domain-wide callback vector: no APIC involved, no EOI.
    Callback(u8),
    /// The local APIC.
    Apic(u8),
}

/// Is the event upcall waiting for delivery by the domain-wide callback vector?
fn callback_pending(domain: &Domain, vcpu: &Vcpu) -> Option<u8> {
    let vector = domain.callback_vector.load(Ordering::Relaxed);
    if vector == 0 || vcpu.upcall_vector.load(Ordering::Relaxed) != 0 {
        return None;
    }
    let info = vcpu.vcpu_info()?;
    (radon_hw::mem::atomic_u8(info).load(Ordering::Acquire) != 0).then_some(vector)
}

/// The interrupt with the highest priority, not yet taken.
fn highest(domain: &Domain, vcpu: &Vcpu) -> Option<Source> {
    if let Some(vector) = callback_pending(domain, vcpu) {
        return Some(Source::Callback(vector));
    }
    vcpu.apic.lock().highest_pending().map(Source::Apic)
}

/// Would anything wake this vCPU from HLT, or from a blocking hypercall?
pub fn deliverable(domain: &Domain, vcpu: &Vcpu, context: &Context) -> bool {
    if vcpu.nmi_pending.load(Ordering::SeqCst) || context.pending.is_some() {
        return true;
    }
    let interrupts_on = context.backend.rflags() & rflags::IF != 0;
    interrupts_on && highest(domain, vcpu).is_some()
}

/// Is anything waiting for the vCPU, whether it can take it now or not?
pub fn waiting(domain: &Domain, vcpu: &Vcpu, context: &Context) -> bool {
    vcpu.nmi_pending.load(Ordering::SeqCst) || context.pending.is_some() || highest(domain, vcpu).is_some()
}

/// Prepares the next entry. False: the vCPU is halted and there is nothing to wake it.
pub fn prepare(domain: &Arc<Domain>, vcpu: &Arc<Vcpu>, context: &mut Context) -> bool {
    // Nothing arrived and nothing was left waiting: most exits end here.
    let nothing_new = !vcpu.attention.load(Ordering::SeqCst) && context.pending.is_none();
    if nothing_new && context.settled && !context.halted {
        return true;
    }
    vcpu.attention.store(false, Ordering::SeqCst);
    context.settled = false;
    vcpu_state::settle_startup(vcpu, context);
    if vcpu.polling.load(Ordering::Acquire) {
        if !deliverable(domain, vcpu, context) {
            return false;
        }
        // As on Xen, whatever the vCPU can take ends its poll, too.
        vcpu.end_poll();
    }
    sync_tpr_from_guest(vcpu, context);
    let b = &mut context.backend;
    if b.injecting() {
        // Prepared before, but the entry was called off: it must not be overwritten.
        let more = highest(domain, vcpu).is_some();
        context.backend.request_interrupt_window(more);
        return true;
    }
    if let Some(event) = context.pending.take() {
        b.inject(event);
        context.halted = false;
        let more = highest(domain, vcpu).is_some();
        context.backend.request_interrupt_window(more);
        return true;
    }
    if vcpu.nmi_pending.swap(false, Ordering::SeqCst) {
        b.inject(Event::NMI);
        context.halted = false;
        return true;
    }
    let Some(source) = highest(domain, vcpu) else {
        b.request_interrupt_window(false);
        // A request that waits for a lower priority can become deliverable without any notice.
        context.settled = !context.halted && vcpu.apic.lock().highest_requested().is_none();
        return !context.halted;
    };
    if b.rflags() & rflags::IF == 0 {
        b.request_interrupt_window(true);
        return !context.halted;
    }
    if b.interrupt_shadow() {
        b.request_interrupt_window(true);
        return true;
    }
    let vector = match source {
        Source::Callback(vector) => vector,
        Source::Apic(vector) => {
            vcpu.apic.lock().ack(vector);
            vector
        }
    };
    b.inject(Event::interrupt(vector));
    context.halted = false;
    let more = highest(domain, vcpu).is_some_and(|s| !matches!(s, Source::Callback(_)));
    context.backend.request_interrupt_window(more);
    true
}

/// CR8 is virtualised by the processor; the local APIC's TPR follows it.
pub fn sync_tpr_from_guest(vcpu: &Vcpu, context: &mut Context) {
    let class = context.backend.tpr_class();
    let mut apic = vcpu.apic.lock();
    if apic.tpr() >> 4 != class {
        apic.set_tpr(class << 4);
    }
}

/// The guest wrote a register of its local APIC: CR8 follows its TPR, and what can be delivered may have changed.
pub fn apic_written(vcpu: &Vcpu, context: &mut Context) {
    let class = vcpu.apic.lock().tpr() >> 4;
    context.backend.set_tpr_class(class);
    context.settled = false;
}
