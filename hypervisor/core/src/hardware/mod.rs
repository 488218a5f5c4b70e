//! The hardware domain's devices: which ports and pages it reaches directly, its virtual IO-APICs and PCI configuration
//! space, and the way of physical interrupts to it.
//!
//! Locks: `pci` is taken first and held while its effects are carried out (the p2m and `interrupts` are taken inside);
//! `interrupts` is never held while a message is delivered, since that takes local APICs' locks of the same rank.

use alloc::sync::Arc;
use alloc::vec::Vec;

use radon_acpi::{PhysReader, Tables};
use radon_addr::{Gpa, Maddr, PAGE_SIZE};
use radon_hw::ioapic as machine_ioapic;
use radon_hw::lock::{SpinLock, rank};
use radon_p2m::Kind;
use radon_vapic::IoApic;
use radon_vpci::{Ecam, Sbdf};
use spin::Once;

use crate::domain::Domain;
use crate::{apic, machine, physmap};

mod interrupts;
mod ioapic;
mod pci;
mod ports;

pub use interrupts::forward_interrupts;
pub use ports::{port_is_kept, port_read, port_write};

use interrupts::Interrupts;
use pci::Pci;

/// State of the hardware domain's devices.
pub struct HardwareState {
    /// Physical vectors and the virtual interrupts behind them.
    interrupts: SpinLock<Interrupts>,
    /// PCI configuration space.
    pci: SpinLock<Pci>,
    /// Guest-physical ranges that are emulated or hidden, whatever PCI devices do (start, bytes).
    trapped: Vec<(Gpa, u64)>,
}

/// Widest machine address a device can have.
const MAX_MADDR: u64 = 1 << 46;
/// Where interrupt messages are written to: local APICs, never plain device memory (bytes).
const MESSAGE_SPACE: u64 = 1 << 20;
/// Version of the virtual IO-APICs: without an EOI register.
const IOAPIC_VERSION: u8 = 0x11;

/// The domain that gets the machine's interrupts. It lives as long as the machine does.
static OWNER: Once<Arc<Domain>> = Once::new();

/// Makes `domain` the hardware domain: virtual IO-APICs like the machine's own, PCI configuration space as the machine's
/// tables describe it. Its vCPUs do not exist yet.
pub fn attach(domain: &Arc<Domain>, acpi: Option<(&Tables, &dyn PhysReader)>) {
    let mut trapped = alloc::vec![(Gpa::new(radon_vapic::LAPIC_ADDRESS), MESSAGE_SPACE)];
    let mut ioapics = Vec::new();
    while let Some((at, gsi_base, pins)) = machine_ioapic::describe(ioapics.len()) {
        let id = ioapics.len() as u8;
        let model = IoApic::new(id, gsi_base, pins.min(240) as u8, IOAPIC_VERSION, true);
        trapped.push((Gpa::new(at.raw()), PAGE_SIZE as u64));
        ioapics.push((at, model));
    }
    let mut windows = Vec::new();
    if let Some((tables, reader)) = acpi {
        if let Ok(Some(hpet)) = tables.hpet(&reader) {
            trapped.push((Gpa::new(hpet.base.raw()), PAGE_SIZE as u64));
        }
        let segments = tables.mcfg(&reader).unwrap_or_default();
        trapped.extend(segments.iter().filter_map(|s| s.range()).map(|(at, n)| (Gpa::new(at.raw()), n)));
        windows.extend(segments.iter().map(|s| Ecam {
            base: s.base.raw(),
            segment: s.segment,
            first_bus: s.start_bus,
            last_bus: s.end_bus,
        }));
    }
    interrupts::listen();
    let hardware = domain.hardware.call_once(|| HardwareState {
        interrupts: SpinLock::new(rank::VAPIC, Interrupts::new(ioapics)),
        pci: SpinLock::new(rank::LIFECYCLE, Pci::new(&windows)),
        trapped,
    });
    OWNER.call_once(|| domain.clone());
    let found = pci::enumerate(domain, hardware, &windows);
    radon_hw::info!("dom0: {found} PCI functions, {} ECAM windows", windows.len());
}

/// The PCI functions found at start-up, with their class codes.
pub fn pci_classes(domain: &Domain) -> Vec<(Sbdf, u32)> {
    domain.hardware.get().map(pci::classes).unwrap_or_default()
}

/// `PHYSDEVOP_pci_device_add`: a function that was not there at start-up, or whose bus got its number since. False: it
/// does not answer.
pub fn pci_device_added(domain: &Arc<Domain>, sbdf: Sbdf) -> bool {
    domain.hardware.get().is_some_and(|h| pci::device_added(domain, h, sbdf))
}

/// `PHYSDEVOP_pci_device_remove`: the function is gone; its interrupts and memory are released.
pub fn pci_device_removed(domain: &Arc<Domain>, sbdf: Sbdf) {
    if let Some(hardware) = domain.hardware.get() {
        pci::device_removed(domain, hardware, sbdf);
    }
}

/// Is this an emulated register page of the hardware domain?
pub fn claims(domain: &Domain, gpa: Gpa) -> bool {
    domain.hardware.get().is_some_and(|h| h.traps(gpa) || h.pci.lock().claims_mmio(gpa.raw()))
}

impl HardwareState {
    fn traps(&self, gpa: Gpa) -> bool {
        self.trapped.iter().any(|&(start, n)| start <= gpa && gpa.raw() - start.raw() < n)
    }
}

/// Maps the device page behind `gpa` 1:1 into the hardware domain, unless it is RAM or trapped.
pub fn map_device_memory(domain: &Arc<Domain>, gpa: Gpa) -> bool {
    let Some(hardware) = domain.hardware.get() else { return false };
    let page = Maddr::new(gpa.raw() & !(PAGE_SIZE as u64 - 1));
    if gpa.raw() >= MAX_MADDR || hardware.traps(gpa) || machine::is_host_ram(page) {
        return false;
    }
    // Under the lock, so that the page cannot become an MSI-X table's between the question and the entry.
    let pci = hardware.pci.lock();
    !pci.claims_mmio(gpa.raw()) && physmap::place(domain, gpa.gfn(), page.mfn(), 0, Kind::MmioDirect).is_ok()
}

/// Reads a trapped register; `None`: nobody answers.
pub fn mmio_read(domain: &Domain, gpa: Gpa, size: u8) -> Option<u64> {
    let hardware = domain.hardware.get()?;
    if let Some(value) = hardware.interrupts.lock().lines.read(gpa) {
        return Some(u64::from(value));
    }
    hardware.pci.lock().mmio_read(gpa.raw(), size)
}

/// Writes a trapped register.
pub fn mmio_write(domain: &Arc<Domain>, gpa: Gpa, size: u8, value: u64) {
    let Some(hardware) = domain.hardware.get() else { return };
    let written = hardware.interrupts.lock().write_ioapic(gpa, value as u32);
    match written {
        Some(Some(message)) => apic::deliver(domain, None, message),
        Some(None) => {}
        None => pci::mmio_write(domain, hardware, gpa.raw(), size, value),
    }
}

/// A level-triggered interrupt ended in a vCPU's local APIC.
pub fn end_of_interrupt(domain: &Arc<Domain>, vector: u8) {
    let Some(hardware) = domain.hardware.get() else { return };
    let again = hardware.interrupts.lock().lines.end_of_interrupt(vector);
    for message in again {
        apic::deliver(domain, None, message);
    }
}
