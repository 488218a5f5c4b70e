//! The hardware domain's devices: which ports and pages it reaches directly, its virtual IO-APICs and PCI configuration
//! space, and the way of physical interrupts to it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use radon_addr::{Gpa, Maddr, PAGE_SIZE};
use radon_hw::lock::SpinLock;
use radon_p2m::Kind;
use radon_vapic::IoApic;

use crate::domain::Domain;
use crate::{machine, physmap};

/// State of the hardware domain's devices.
pub struct HardwareState {
    /// Virtual IO-APICs: machine address and model.
    pub ioapics: SpinLock<Vec<(Maddr, IoApic)>>,
    /// Guest-physical ranges that are emulated or hidden (start, bytes).
    pub trapped: Vec<(Gpa, u64)>,
}

/// Widest machine address a device can have.
const MAX_MADDR: u64 = 1 << 46;

/// Physical interrupts noted by their handlers since the last call go to the hardware domain.
pub fn forward_interrupts() {}

/// Is this an emulated register page of the hardware domain?
pub fn claims(domain: &Domain, gpa: Gpa) -> bool {
    domain.hardware.get().is_some_and(|h| h.trapped.iter().any(|&(s, n)| s <= gpa && gpa.raw() - s.raw() < n))
}

/// Maps the device page behind `gpa` 1:1 into the hardware domain, unless it is RAM or trapped.
pub fn map_device_memory(domain: &Arc<Domain>, gpa: Gpa) -> bool {
    if domain.hardware.get().is_none() || gpa.raw() >= MAX_MADDR || claims(domain, gpa) {
        return false;
    }
    let page = Maddr::new(gpa.raw() & !(PAGE_SIZE as u64 - 1));
    if machine::is_host_ram(page) {
        return false;
    }
    physmap::place(domain, gpa.gfn(), page.mfn(), 0, Kind::MmioDirect).is_ok()
}

/// Reads a trapped register; `None`: nobody answers.
pub fn mmio_read(domain: &Domain, gpa: Gpa, _size: u8) -> Option<u64> {
    let hardware = domain.hardware.get()?;
    for (at, ioapic) in hardware.ioapics.lock().iter_mut() {
        if let Some(offset) = gpa.raw().checked_sub(at.raw()).filter(|&o| o < PAGE_SIZE as u64) {
            return Some(u64::from(ioapic.read(offset)));
        }
    }
    None
}

/// Writes a trapped register.
pub fn mmio_write(domain: &Domain, gpa: Gpa, _size: u8, value: u64) {
    let Some(hardware) = domain.hardware.get() else { return };
    for (at, ioapic) in hardware.ioapics.lock().iter_mut() {
        if let Some(offset) = gpa.raw().checked_sub(at.raw()).filter(|&o| o < PAGE_SIZE as u64) {
            let _ = ioapic.write(offset, value as u32);
            return;
        }
    }
}

/// A level-triggered interrupt ended in a vCPU's local APIC.
pub fn end_of_interrupt(_domain: &Domain, _vector: u8) {}

/// Ports that the hypervisor keeps for itself: PIC, PIT, CMOS index is shared, PCI configuration, the console's UART.
pub fn port_is_kept(port: u16) -> bool {
    matches!(port, 0x20 | 0x21 | 0xa0 | 0xa1 | 0x40..=0x43 | 0x61 | 0x4d0 | 0x4d1 | 0xcf8..=0xcff | 0x3f8..=0x3ff)
}

/// A port read that exited.
pub fn port_read(_domain: &Domain, _port: u16, _size: u8) -> u64 {
    u64::MAX
}

/// A port write that exited.
pub fn port_write(_domain: &Domain, _port: u16, _size: u8, _value: u64) {}
