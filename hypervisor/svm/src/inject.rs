//! Events on their way into the guest, in the control block: EVENTINJ, the virtual interrupt, and the window.
//!
//! An external interrupt goes in as the *virtual interrupt* (APM vol. 2, 15.21.4): the processor takes it at the first
//! instruction, as the guest's IF and shadow are known to allow it. EVENTINJ would do the same, but QEMU delivers an
//! external interrupt from there a second time when the emulated processor is kicked before it has begun to run
//! (docs/decisions/0013-one-emulator-thread.md). The window needs the virtual interrupt for itself: with both wanted, the
//! interrupt goes through EVENTINJ.

use radon_cpu::{Event, EventKind};

use crate::exitcode;
use crate::vmcb::{Vmcb, intercept1};

const V_IRQ: u64 = 1 << 8;
const V_INTR_PRIO: u64 = 15 << 16;
const V_IGN_TPR: u64 = 1 << 20;
const VECTOR_SHIFT: u32 = 32;
const V_INTR_VECTOR: u64 = 0xff << VECTOR_SHIFT;
/// All that describes one virtual interrupt.
const V_INTERRUPT: u64 = V_IRQ | V_INTR_PRIO | V_IGN_TPR | V_INTR_VECTOR;
const EVENT_VALID: u64 = 1 << 31;

/// Is the intercept set that turns a virtual interrupt into an exit?
#[inline]
fn has_window(vmcb: &Vmcb) -> bool {
    vmcb.intercept1() & intercept1::VINTR != 0
}

/// Vector of the virtual interrupt that the guest has not taken yet, if it is for the guest.
#[inline]
fn waiting(vmcb: &Vmcb) -> Option<u8> {
    let vintr = vmcb.vintr();
    (vintr & V_IRQ != 0 && !has_window(vmcb)).then_some((vintr >> VECTOR_SHIFT) as u8)
}

/// Queues an event for the next entry. An interrupt must be one that the guest can take at once.
#[inline]
pub fn inject(vmcb: &mut Vmcb, event: Event) {
    if event.kind != EventKind::Interrupt {
        vmcb.set_event_inject(exitcode::encode_event(event));
        return;
    }
    if has_window(vmcb) {
        vmcb.set_intercept1(vmcb.intercept1() & !intercept1::VINTR);
    }
    let vector = u64::from(event.vector) << VECTOR_SHIFT;
    vmcb.set_vintr(vmcb.vintr() & !V_INTERRUPT | V_IRQ | V_INTR_PRIO | V_IGN_TPR | vector);
}

/// Takes back what is queued.
pub fn cancel(vmcb: &mut Vmcb) {
    vmcb.set_event_inject(0);
    if waiting(vmcb).is_some() {
        vmcb.set_vintr(vmcb.vintr() & !V_INTERRUPT);
    }
}

/// Is an event queued?
#[inline]
pub fn injecting(vmcb: &Vmcb) -> bool {
    vmcb.event_inject() & EVENT_VALID != 0 || waiting(vmcb).is_some()
}

/// After an exit: the event that did not reach the guest's handler. It is the caller's from now on.
#[inline]
pub fn take_interrupted(vmcb: &mut Vmcb) -> Option<Event> {
    let untaken = waiting(vmcb);
    if untaken.is_some() {
        vmcb.set_vintr(vmcb.vintr() & !V_INTERRUPT);
    }
    // One whose delivery was interrupted may still be marked as untaken: it is the same one.
    exitcode::decode_event(vmcb.exit_int_info()).or(untaken.map(Event::interrupt))
}

/// Asks for an exit when the guest can take an interrupt, or no longer.
#[inline]
pub fn request_window(vmcb: &mut Vmcb, want: bool) {
    if want == has_window(vmcb) {
        return;
    }
    if want {
        if let Some(vector) = waiting(vmcb) {
            vmcb.set_event_inject(exitcode::encode_event(Event::interrupt(vector)));
        }
        // A dummy virtual interrupt that ignores TPR: the intercept fires when it would be taken.
        vmcb.set_intercept1(vmcb.intercept1() | intercept1::VINTR);
        vmcb.set_vintr(vmcb.vintr() & !V_INTERRUPT | V_IRQ | V_IGN_TPR);
    } else {
        vmcb.set_intercept1(vmcb.intercept1() & !intercept1::VINTR);
        vmcb.set_vintr(vmcb.vintr() & !V_INTERRUPT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vmcb() -> Vmcb {
        let frame = radon_hw::sim::fresh_ram(1).maddr();
        radon_hw::mem::write(frame, &0u32);
        Vmcb::new(frame).expect("a frame of RAM")
    }

    #[test]
    fn an_interrupt_is_virtual_until_taken() {
        let mut v = vmcb();
        v.set_vintr(1 << 24 | 5);
        inject(&mut v, Event::interrupt(0xf3));
        assert!(injecting(&v));
        assert_eq!((v.event_inject(), v.vintr()), (0, 0xf3 << 32 | 1 << 24 | 0x1f << 16 | 1 << 8 | 5));
        assert_eq!(take_interrupted(&mut v), Some(Event::interrupt(0xf3)));
        assert_eq!(v.vintr(), 1 << 24 | 5);
        assert_eq!(take_interrupted(&mut v), None);
    }

    #[test]
    fn one_the_processor_took_is_not_given_back() {
        let mut v = vmcb();
        inject(&mut v, Event::interrupt(0x31));
        v.set_vintr(v.vintr() & !V_IRQ);
        assert!(!injecting(&v));
        assert_eq!(take_interrupted(&mut v), None);
    }

    #[test]
    fn a_delivery_that_faulted_is_given_back_once() {
        let mut v = vmcb();
        inject(&mut v, Event::interrupt(0x31));
        v.set_exit_int_info(exitcode::encode_event(Event::interrupt(0x31)));
        assert_eq!(take_interrupted(&mut v), Some(Event::interrupt(0x31)));
        assert!(!injecting(&v));
    }

    #[test]
    fn a_window_and_an_interrupt_exclude_each_other() {
        let mut v = vmcb();
        request_window(&mut v, true);
        assert!(has_window(&v) && !injecting(&v));
        assert_eq!(take_interrupted(&mut v), None, "the window's own is nobody's");
        inject(&mut v, Event::interrupt(0x40));
        assert!(injecting(&v) && !has_window(&v));
        request_window(&mut v, false);
        assert!(injecting(&v), "no window to take back");
        request_window(&mut v, true);
        assert!(has_window(&v) && injecting(&v));
        assert_eq!(v.event_inject(), exitcode::encode_event(Event::interrupt(0x40)));
        request_window(&mut v, false);
        assert_eq!(v.vintr() & V_INTERRUPT, 0);
        assert!(injecting(&v));
    }

    #[test]
    fn what_is_queued_can_be_taken_back() {
        let mut v = vmcb();
        for event in [Event::interrupt(0x40), Event::NMI, Event::PROTECTION] {
            inject(&mut v, event);
            assert!(injecting(&v));
            cancel(&mut v);
            assert!(!injecting(&v));
        }
    }
}
