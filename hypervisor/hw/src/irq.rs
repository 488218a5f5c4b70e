//! External interrupts of the hypervisor: vectors, handlers, the window in which they are taken.
#![allow(unsafe_code)] // STI/CLI and function pointers kept in atomics

use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

/// First vector for devices (the IO-APIC's pins and MSIs).
pub const FIRST_DEVICE_VECTOR: u8 = 0x30;
/// Last vector for devices.
pub const LAST_DEVICE_VECTOR: u8 = 0xdf;
/// The local APIC's timer.
pub const VECTOR_TIMER: u8 = 0xf0;
/// Nothing to do but leave guest mode.
pub const VECTOR_KICK: u8 = 0xf1;
/// The local APIC's error interrupt.
pub const VECTOR_ERROR: u8 = 0xfe;
/// The local APIC's spurious interrupt (never acknowledged).
pub const VECTOR_SPURIOUS: u8 = 0xff;

/// What to do on an interrupt: set flags (atomics), no locks, no allocation.
pub type Handler = fn(u8);

static HANDLERS: [AtomicPtr<()>; 256] = [const { AtomicPtr::new(core::ptr::null_mut()) }; 256];
/// Vectors whose handler acknowledges by itself, one bit each.
static SELF_EOI: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];
static UNEXPECTED: AtomicU64 = AtomicU64::new(0);

/// Installs the handler of a vector; `dispatch` acknowledges the local APIC after it returned.
pub fn set_handler(vector: u8, handler: Handler) {
    SELF_EOI[usize::from(vector) / 64].fetch_and(!(1 << (vector % 64)), Relaxed);
    HANDLERS[usize::from(vector)].store(handler as *mut (), Release);
}

/// Like [`set_handler`], but the handler, or somebody later on the same CPU, calls [`eoi`].
pub fn set_handler_without_eoi(vector: u8, handler: Handler) {
    SELF_EOI[usize::from(vector) / 64].fetch_or(1 << (vector % 64), Relaxed);
    HANDLERS[usize::from(vector)].store(handler as *mut (), Release);
}

/// Removes the handler of a vector.
pub fn clear_handler(vector: u8) {
    HANDLERS[usize::from(vector)].store(core::ptr::null_mut(), Release);
}

/// Acknowledges the interrupt in service with the highest priority.
#[inline]
pub fn eoi() {
    crate::apic::eoi();
}

/// Interrupts that arrived without a handler, since boot.
pub fn unexpected() -> u64 {
    UNEXPECTED.load(Relaxed)
}

/// Called by the IDT stubs for vectors 0x20-0xff, interrupts off.
pub fn dispatch(vector: u8) {
    if vector == VECTOR_SPURIOUS {
        return;
    }
    if vector == VECTOR_TIMER {
        crate::time::timer_fired();
    }
    let i = usize::from(vector);
    let handler = HANDLERS[i].load(Acquire);
    if !handler.is_null() {
        // SAFETY: only `set_handler*` stores here, and only `Handler`s.
        let handler = unsafe { core::mem::transmute::<*mut (), Handler>(handler) };
        handler(vector);
    } else if vector == VECTOR_ERROR {
        crate::apic::clear_error();
    } else if vector != VECTOR_KICK && vector != VECTOR_TIMER {
        UNEXPECTED.fetch_add(1, Relaxed);
    }
    if SELF_EOI[i / 64].load(Relaxed) >> (vector % 64) & 1 == 0 {
        eoi();
    }
}

/// Takes the interrupts that are pending now.
#[inline]
pub fn window() {
    #[cfg(target_os = "none")]
    // SAFETY: handlers touch only atomics, so they may run between any two instructions. STI takes effect after NOP.
    unsafe {
        core::arch::asm!("sti", "nop", "cli", options(nostack));
    }
    #[cfg(not(target_os = "none"))]
    while let Some(v) = crate::sim::thread::with(|t| t.pending.borrow_mut().pop_front()) {
        dispatch(v);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_run_in_the_window() {
        static SEEN: AtomicU64 = AtomicU64::new(0);
        set_handler(0x40, |v| {
            SEEN.fetch_add(u64::from(v), Relaxed);
        });
        crate::sim::raise(0x40);
        crate::sim::raise(0x40);
        assert_eq!(SEEN.load(Relaxed), 0);
        window();
        assert_eq!(SEEN.load(Relaxed), 0x80);
        clear_handler(0x40);
        let before = unexpected();
        crate::sim::raise(0x40);
        window();
        assert_eq!((SEEN.load(Relaxed), unexpected()), (0x80, before + 1));
    }
}
