//! What a vCPU gets at its next entry: a pending exception, an NMI, or the highest interrupt it can take.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use radon_cpu::{Event, rflags};
use radon_vapic::LocalApic;

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

/// [`highest`] under the priority that the guest has set, and whether its local APIC holds any request at all.
fn look(domain: &Domain, vcpu: &Vcpu, context: &Context) -> (Option<Source>, bool) {
    let callback = callback_pending(domain, vcpu).map(Source::Callback);
    let mut apic = vcpu.apic.lock();
    follow_tpr(&mut apic, context);
    let requested = apic.highest_requested().is_some();
    (callback.or_else(|| apic.highest_pending().map(Source::Apic)), requested)
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
#[inline]
pub fn prepare(domain: &Arc<Domain>, vcpu: &Arc<Vcpu>, context: &mut Context) -> bool {
    // Nothing arrived and nothing was left waiting: most exits end here.
    let nothing_new = !vcpu.attention.load(Ordering::SeqCst) && context.pending.is_none();
    nothing_new && context.settled && !context.halted || prepare_anew(domain, vcpu, context)
}

#[inline(never)]
fn prepare_anew(domain: &Arc<Domain>, vcpu: &Arc<Vcpu>, context: &mut Context) -> bool {
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
    let (source, requested) = look(domain, vcpu, context);
    let b = &mut context.backend;
    if b.injecting() {
        // Prepared before, but the entry was called off: it must not be overwritten.
        b.request_interrupt_window(source.is_some());
        return true;
    }
    if let Some(event) = context.pending.take() {
        b.inject(event);
        context.halted = false;
        b.request_interrupt_window(source.is_some());
        return true;
    }
    if vcpu.nmi_pending.swap(false, Ordering::SeqCst) {
        b.inject(Event::NMI);
        context.halted = false;
        return true;
    }
    let Some(source) = source else {
        b.request_interrupt_window(false);
        // A request that waits for a lower priority can become deliverable without any notice.
        context.settled = !context.halted && !requested;
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
    let (vector, more) = match source {
        Source::Callback(vector) => (vector, false),
        Source::Apic(vector) => {
            let mut apic = vcpu.apic.lock();
            apic.ack(vector);
            (vector, apic.highest_pending().is_some())
        }
    };
    b.inject(Event::interrupt(vector));
    context.halted = false;
    b.request_interrupt_window(more);
    true
}

/// Reads or writes a register of the guest's local APIC, whose TPR is CR8: what the guest made of it before, and what becomes
/// of it now. After a write the caller has it looked at again what can be delivered ([`Context::settled`]).
#[inline]
pub fn with_apic<R>(vcpu: &Vcpu, context: &mut Context, f: impl FnOnce(&mut LocalApic) -> R) -> R {
    let mut apic = vcpu.apic.lock();
    follow_tpr(&mut apic, context);
    let result = f(&mut apic);
    context.backend.set_tpr_class(apic.tpr() >> 4);
    result
}

/// CR8 is virtualised by the processor; the local APIC's TPR follows it.
pub fn sync_tpr_from_guest(vcpu: &Vcpu, context: &mut Context) {
    follow_tpr(&mut vcpu.apic.lock(), context);
}

fn follow_tpr(apic: &mut LocalApic, context: &Context) {
    let class = context.backend.tpr_class();
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
