//! The promises, by theme.

mod apic;
mod compat;
mod cpuid;
mod domains;
mod events;
mod fifo;
mod grants;
mod hypercalls;
mod isolation;
mod many;
mod memory;
mod processor;
mod sched;
mod smp;
mod time;
mod toolstack;

pub use isolation::hostile;
pub use memory::physinfo;

use alloc::vec::Vec;
use harness::Test;

/// Whether this is stock Xen, by the extra version (`.17` or so: a number; other peers carry a name).
fn is_stock_xen() -> bool {
    let page = harness::Page::new();
    let args = [u64::from(xen_abi::version::XENVER_EXTRAVERSION), page.at(0), 0, 0, 0];
    harness::hypercall::raw(u64::from(xen_abi::hypercall::HYPERVISOR_XEN_VERSION), args);
    let text: Vec<u8> = (0..16).map(|at| page.get(at)).take_while(|b| *b != 0).collect();
    !text.windows(5).any(|w| w.eq_ignore_ascii_case(b"radon"))
}

/// All of them.
pub fn all() -> Vec<Test> {
    [
        cpuid::TESTS,
        hypercalls::TESTS,
        processor::TESTS,
        apic::TESTS,
        time::TESTS,
        events::TESTS,
        fifo::TESTS,
        memory::TESTS,
        grants::TESTS,
        smp::TESTS,
        toolstack::TESTS,
        domains::TESTS,
        compat::TESTS,
        sched::TESTS,
        isolation::TESTS,
    ]
    .concat()
}

/// Those for a machine with two CPUs.
pub fn on_two_cpus() -> Vec<Test> {
    many::TESTS.to_vec()
}
