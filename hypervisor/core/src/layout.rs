//! Word size of the memory shared with a guest: `shared_info`, `vcpu_info` and the run-state area.
//!
//! A guest may change between 32-bit and 64-bit mode. As in Xen, its mode is looked at when it does what kernels do first of
//! all (fills the hypercall page, sets the callback interrupt), and holds until it does that again. What is already in the
//! shared page is not converted, but for the wall clock. Hypercall arguments follow the mode of the call itself.

use core::sync::atomic::Ordering;

use radon_cpu::Mode;
use radon_evtchn::Layout;

use crate::clock;
use crate::domain::Domain;

/// Takes the layout of the mode that a vCPU of this domain is in now.
pub fn latch(domain: &Domain, mode: Mode) {
    let compat = mode != Mode::Long;
    {
        let mut events = domain.events.lock();
        events.set_layout(if compat { Layout::Compat32 } else { Layout::Native64 });
        domain.is_32bit.store(compat, Ordering::Relaxed);
    }
    clock::publish_wall_clock(domain);
}

/// Does the shared memory have the 32-bit layout?
pub fn is_compat(domain: &Domain) -> bool {
    domain.is_32bit.load(Ordering::Relaxed)
}
