//! Event channels: the shared-info page, the upcall, the operations.

use crate::hypercall::{Result, event_op, memory_op, set_param};
use crate::{memory, smp, trap};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use xen_abi::event_channel::*;
use xen_abi::hvm_op::{HVM_PARAM_CALLBACK_IRQ, HVM_PARAM_CALLBACK_TYPE_VECTOR};
use xen_abi::memory::{AddToPhysmap, XENMAPSPACE_SHARED_INFO, XENMEM_ADD_TO_PHYSMAP};
use xen_abi::xen::DOMID_SELF;
use zerocopy::FromZeros;

/// Vector of the upcall.
pub const UPCALL: u8 = 0xf3;
/// Offsets in the shared-info page.
#[allow(missing_docs, reason = "fields of `SharedInfo`")]
pub mod shared {
    pub const PENDING: u64 = 2048;
    pub const MASK: u64 = 2560;
    pub const WALL_CLOCK: u64 = 3072;
}

static SHARED_GFN: AtomicU64 = AtomicU64::new(0);
static VCPU_INFO: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
/// How often each port's event was handled.
static PORTS: [AtomicU32; 4096] = [const { AtomicU32::new(0) }; 4096];
/// Ports opened by the running test.
static OPEN: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];
static ORDER: AtomicU32 = AtomicU32::new(0);

pub(crate) fn init() {
    let gfn = memory::scratch(1);
    let mapped = map_shared_info(gfn);
    if mapped.is_err() {
        // Without it there are no time and no events: a RAM page keeps the guest itself going.
        SHARED_GFN.store(memory::Page::new().gfn, Ordering::Relaxed);
    }
    for word in 0..64 {
        memory::write(shared_page().at(shared::MASK + 8 * word), 0_u64);
    }
    trap::handle(UPCALL, upcall);
    let callback = HVM_PARAM_CALLBACK_TYPE_VECTOR << 56 | u64::from(UPCALL);
    let set = set_param(DOMID_SELF, HVM_PARAM_CALLBACK_IRQ, callback);
    if mapped.is_err() || set.is_err() {
        crate::say!("NOTE shared_info {mapped:?}, callback vector {set:?}");
    }
}

/// Maps the shared-info page at `gfn` and uses it there.
pub fn map_shared_info(gfn: u64) -> Result<u64> {
    let mut map = AddToPhysmap {
        domid: DOMID_SELF,
        space: XENMAPSPACE_SHARED_INFO,
        gpfn: gfn,
        ..AddToPhysmap::new_zeroed()
    };
    let done = memory_op(XENMEM_ADD_TO_PHYSMAP, &mut map)?;
    SHARED_GFN.store(gfn, Ordering::Relaxed);
    for (vcpu, at) in VCPU_INFO.iter().enumerate() {
        at.store((gfn << 12) + 64 * vcpu as u64, Ordering::Relaxed);
    }
    Ok(done)
}

/// The shared-info page.
pub fn shared_page() -> memory::Page {
    memory::Page { gfn: SHARED_GFN.load(Ordering::Relaxed) }
}

/// Address of a vCPU's information.
pub fn vcpu_info(vcpu: u32) -> u64 {
    match VCPU_INFO[vcpu as usize & 1].load(Ordering::Relaxed) {
        0 => shared_page().at(64 * u64::from(vcpu)),
        address => address,
    }
}

/// The vCPU's information is at `address` from now on.
pub fn set_vcpu_info(vcpu: u32, address: u64) {
    VCPU_INFO[vcpu as usize & 1].store(address, Ordering::Relaxed);
}

/// Takes all pending events of the 2-level ABI, as the upcall does.
pub fn take() {
    let info = vcpu_info(if smp::several() { smp::vcpu_id() } else { 0 });
    // The byte beside it is the mask byte of PV guests, unused here.
    memory::write(info, 0_u8);
    let selector = memory::atomic_u64(info + 8).swap(0, Ordering::SeqCst);
    for word in (0..64).filter(|w| selector >> w & 1 != 0) {
        let mask: u64 = memory::read(shared_page().at(shared::MASK + 8 * word));
        let pending = memory::atomic_u64(shared_page().at(shared::PENDING + 8 * word));
        let taken = pending.fetch_and(mask, Ordering::SeqCst) & !mask;
        for bit in (0..64).filter(|b| taken >> b & 1 != 0) {
            PORTS[(64 * word + bit) as usize].fetch_add(1, Ordering::SeqCst);
            ORDER.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn upcall(_: &mut trap::Frame) {
    take();
}

/// How often the event of `port` was handled.
pub fn handled(port: u32) -> u32 {
    PORTS[port as usize & 4095].load(Ordering::SeqCst)
}

/// Whether the 2-level ABI's pending bit of a port is set.
pub fn is_pending(port: u32) -> bool {
    let word: u64 = memory::read(shared_page().at(shared::PENDING + 8 * u64::from(port / 64)));
    word >> (port % 64) & 1 != 0
}

/// Clears the 2-level ABI's pending bit.
pub fn clear_pending(port: u32) {
    let word = memory::atomic_u64(shared_page().at(shared::PENDING + 8 * u64::from(port / 64)));
    word.fetch_and(!(1 << (port % 64)), Ordering::SeqCst);
}

/// Sets the 2-level ABI's mask bit.
pub fn mask(port: u32, masked: bool) {
    let word = memory::atomic_u64(shared_page().at(shared::MASK + 8 * u64::from(port / 64)));
    if masked {
        word.fetch_or(1 << (port % 64), Ordering::SeqCst);
    } else {
        word.fetch_and(!(1 << (port % 64)), Ordering::SeqCst);
    }
}

fn opened(port: u32) -> u32 {
    PORTS[port as usize & 4095].store(0, Ordering::SeqCst);
    OPEN[(port / 64) as usize & 63].fetch_or(1 << (port % 64), Ordering::Relaxed);
    port
}

/// Closes what a test left open.
pub(crate) fn close_leftovers() {
    for (word, open) in OPEN.iter().enumerate() {
        let ports = open.swap(0, Ordering::Relaxed);
        for bit in (0..64).filter(|b| ports >> b & 1 != 0) {
            let port = 64 * word as u32 + bit;
            let _ = close(port);
            mask(port, false);
            clear_pending(port);
        }
    }
}

/// `alloc_unbound` of a port of this domain for `remote`.
pub fn alloc_unbound(remote: u16) -> Result<u32> {
    let mut op = EvtchnAllocUnbound { dom: DOMID_SELF, remote_dom: remote, port: 0 };
    event_op(EVTCHNOP_ALLOC_UNBOUND, &mut op).map(|_| opened(op.port))
}

/// `bind_interdomain`.
pub fn bind_interdomain(remote_dom: u16, remote_port: u32) -> Result<u32> {
    let mut op = EvtchnBindInterdomain { remote_dom, remote_port, ..EvtchnBindInterdomain::new_zeroed() };
    event_op(EVTCHNOP_BIND_INTERDOMAIN, &mut op).map(|_| opened(op.local_port))
}

/// A pair of ports of this domain, connected to each other.
pub fn loopback() -> Result<(u32, u32)> {
    let first = alloc_unbound(DOMID_SELF)?;
    let second = bind_interdomain(DOMID_SELF, first)?;
    // Binding to a port marks it as pending.
    clear_pending(first);
    clear_pending(second);
    take();
    Ok((first, second))
}

/// `bind_virq`.
pub fn bind_virq(virq: u32, vcpu: u32) -> Result<u32> {
    let mut op = EvtchnBindVirq { virq, vcpu, port: 0 };
    event_op(EVTCHNOP_BIND_VIRQ, &mut op).map(|_| opened(op.port))
}

/// `bind_ipi`.
pub fn bind_ipi(vcpu: u32) -> Result<u32> {
    let mut op = EvtchnBindIpi { vcpu, port: 0 };
    event_op(EVTCHNOP_BIND_IPI, &mut op).map(|_| opened(op.port))
}

/// `bind_vcpu`.
pub fn bind_vcpu(port: u32, vcpu: u32) -> Result<u64> {
    event_op(EVTCHNOP_BIND_VCPU, &mut EvtchnBindVcpu { port, vcpu })
}

/// `close`.
pub fn close(port: u32) -> Result<u64> {
    OPEN[(port / 64) as usize & 63].fetch_and(!(1 << (port % 64)), Ordering::Relaxed);
    event_op(EVTCHNOP_CLOSE, &mut EvtchnClose { port })
}

/// `send`.
pub fn send(port: u32) -> Result<u64> {
    event_op(EVTCHNOP_SEND, &mut EvtchnSend { port })
}

/// [`send`], whatever comes of it.
pub fn send_quietly(port: u32) {
    let _ = send(port);
}

/// `unmask`.
pub fn unmask(port: u32) -> Result<u64> {
    event_op(EVTCHNOP_UNMASK, &mut EvtchnUnmask { port })
}

/// `status` of a port of this domain.
pub fn status(port: u32) -> Result<EvtchnStatus> {
    let mut op = EvtchnStatus { dom: DOMID_SELF, port, ..EvtchnStatus::new_zeroed() };
    event_op(EVTCHNOP_STATUS, &mut op).map(|_| op)
}
