//! The hardware domain's PCI configuration space: access to the machine's, and what its effects do to memory and
//! interrupts.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use radon_addr::{Gfn, Maddr, PAGE_SIZE};
use radon_hw::mmio::{self, MmioRegion};
use radon_hw::port;
use radon_p2m::{Entry, Flush, Kind};
use radon_vpci::{ConfigAccess, Ecam, Effect, MmioRead, MmioWrite, MsiSlot, Pages, Sbdf, VirtualPci};

use super::HardwareState;
use super::interrupts::MachineMessage;
use crate::domain::Domain;
use crate::{machine, physmap, run};

const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;
/// Registers that the ports reach.
const PORT_REGISTERS: u16 = 0x100;
const PAGE_MASK: u64 = PAGE_SIZE as u64 - 1;

/// Mask bit in the control word of an MSI-X entry.
const ENTRY_MASKED: u32 = 1;

/// The machine's configuration space: ports for what they reach, else ECAM. Whoever holds it has the ports to itself.
struct MachineConfig {
    windows: Vec<(Ecam, MmioRegion)>,
}

impl MachineConfig {
    fn new(windows: &[Ecam]) -> MachineConfig {
        let map = |w: &Ecam| {
            let first = w.base.checked_add(u64::from(w.first_bus) << 20)?;
            let buses = u64::from(w.last_bus.checked_sub(w.first_bus)?) + 1;
            Some((*w, mmio::map(Maddr::new(first), buses << 20)?))
        };
        MachineConfig { windows: windows.iter().filter_map(map).collect() }
    }

    /// The window of a function and the register's offset in it.
    fn window(&self, sbdf: Sbdf, register: u16) -> Option<(&MmioRegion, u64)> {
        let (window, region) = self
            .windows
            .iter()
            .find(|(w, _)| w.segment == sbdf.segment() && (w.first_bus..=w.last_bus).contains(&sbdf.bus()))?;
        let bus = u64::from(sbdf.bus().checked_sub(window.first_bus)?);
        let devfn = u64::from(sbdf.device() << 3 | sbdf.function());
        Some((region, bus << 20 | devfn << 12 | u64::from(register)))
    }

    fn select(sbdf: Sbdf, register: u16) -> Option<u16> {
        if sbdf.segment() != 0 || register >= PORT_REGISTERS {
            return None;
        }
        port::out32(CONFIG_ADDRESS, 1 << 31 | sbdf.raw() << 8 | u32::from(register & 0xfc));
        Some(CONFIG_DATA + (register & 3))
    }
}

impl ConfigAccess for MachineConfig {
    fn read(&mut self, sbdf: Sbdf, register: u16, size: u8) -> u32 {
        if let Some(data) = Self::select(sbdf, register) {
            return match size {
                1 => u32::from(port::in8(data)),
                2 => u32::from(port::in16(data)),
                _ => port::in32(data),
            };
        }
        match (self.window(sbdf, register), size) {
            (None, _) => u32::MAX,
            (Some((region, at)), 1) => u32::from(region.read8(at)),
            (Some((region, at)), 2) => u32::from(region.read16(at)),
            (Some((region, at)), _) => region.read32(at),
        }
    }

    fn write(&mut self, sbdf: Sbdf, register: u16, size: u8, value: u32) {
        if let Some(data) = Self::select(sbdf, register) {
            return match size {
                1 => port::out8(data, value as u8),
                2 => port::out16(data, value as u16),
                _ => port::out32(data, value),
            };
        }
        match (self.window(sbdf, register), size) {
            (None, _) => {}
            (Some((region, at)), 1) => region.write8(at, value as u8),
            (Some((region, at)), 2) => region.write16(at, value as u16),
            (Some((region, at)), _) => region.write32(at, value),
        }
    }
}

/// Configuration space and what is needed to reach the devices behind it.
pub struct Pci {
    space: VirtualPci,
    config: MachineConfig,
    /// Pages of devices' memory that the hypervisor reaches: MSI-X tables and what shares a page with them.
    pages: BTreeMap<u64, MmioRegion>,
}

impl Pci {
    /// No devices yet.
    pub fn new(windows: &[Ecam]) -> Pci {
        let mut space = VirtualPci::new();
        windows.iter().for_each(|w| space.add_ecam(*w));
        Pci { space, config: MachineConfig::new(windows), pages: BTreeMap::new() }
    }

    /// Whether accesses at this address are emulated.
    pub fn claims_mmio(&self, address: u64) -> bool {
        self.space.claims_mmio(address)
    }

    /// Reads configuration ports.
    pub fn port_read(&mut self, port: u16, size: u8) -> u32 {
        self.space.port_read(&mut self.config, port, size)
    }

    /// Reads a trapped page.
    pub fn mmio_read(&mut self, address: u64, size: u8) -> Option<u64> {
        match self.space.mmio_read(&mut self.config, address, size) {
            MmioRead::Unclaimed => None,
            MmioRead::Value(value) => Some(value),
            MmioRead::Hardware => {
                let (region, at) = self.device_memory(address)?;
                Some(match size {
                    1 => u64::from(region.read8(at)),
                    2 => u64::from(region.read16(at)),
                    4 => u64::from(region.read32(at)),
                    _ => region.read64(at),
                })
            }
        }
    }

    fn write_device(&mut self, address: u64, size: u8, value: u64) {
        if let Some((region, at)) = self.device_memory(address) {
            match size {
                1 => region.write8(at, value as u8),
                2 => region.write16(at, value as u16),
                4 => region.write32(at, value as u32),
                _ => region.write64(at, value),
            }
        }
    }

    /// The mapping of a device's page (kept for ever) and the offset in it. `None` for RAM: BARs are where the domain
    /// put them.
    fn device_memory(&mut self, address: u64) -> Option<(MmioRegion, u64)> {
        let page = address & !PAGE_MASK;
        if machine::is_host_ram(Maddr::new(page)) {
            return None;
        }
        let region = match self.pages.get(&page) {
            Some(region) => *region,
            None => {
                let region = mmio::map(Maddr::new(page), PAGE_SIZE as u64)?;
                self.pages.insert(page, region);
                region
            }
        };
        Some((region, address & PAGE_MASK))
    }

    /// Programs an entry of an MSI-X table, masked while it changes.
    fn program_entry(&mut self, entry: Maddr, message: Option<MachineMessage>, masked: bool) {
        let Some((region, at)) = self.device_memory(entry.raw()) else { return };
        region.write32(at + 12, ENTRY_MASKED);
        let Some(message) = message else { return };
        region.write32(at, message.address as u32);
        region.write32(at + 4, (message.address >> 32) as u32);
        region.write32(at + 8, u32::from(message.data));
        if !masked {
            region.write32(at + 12, 0);
        }
    }
}

/// Runs an access under the PCI lock and carries out its effects before the next one.
fn with<R>(
    domain: &Arc<Domain>,
    hardware: &HardwareState,
    access: impl FnOnce(&mut VirtualPci, &mut MachineConfig, &mut dyn FnMut(Effect)) -> R,
) -> R {
    let mut pci = hardware.pci.lock();
    let mut effects = Vec::new();
    let Pci { space, config, .. } = &mut *pci;
    let result = access(space, config, &mut |effect| effects.push(effect));
    for effect in effects {
        apply(domain, hardware, &mut pci, effect);
    }
    result
}

/// Finds the machine's functions; how many there are.
pub fn enumerate(domain: &Arc<Domain>, hardware: &HardwareState, windows: &[Ecam]) -> usize {
    with(domain, hardware, |space, config, effects| {
        if !windows.iter().any(|w| w.segment == 0) {
            space.enumerate(config, 0, 0..=255, effects);
        }
        for w in windows {
            space.enumerate(config, w.segment, w.first_bus..=w.last_bus, effects);
        }
        space.devices().count()
    })
}

/// Class codes (class, subclass, interface) of the functions found.
pub fn classes(hardware: &HardwareState) -> Vec<(Sbdf, u32)> {
    const CLASS_REVISION: u16 = 0x08;
    let mut pci = hardware.pci.lock();
    let Pci { space, config, .. } = &mut *pci;
    space.devices().map(|sbdf| (sbdf, config.read(sbdf, CLASS_REVISION, 4) >> 8)).collect()
}

/// See [`super::pci_device_added`].
pub fn device_added(domain: &Arc<Domain>, hardware: &HardwareState, sbdf: Sbdf) -> bool {
    with(domain, hardware, |space, config, effects| space.add_device(config, sbdf, effects))
}

/// See [`super::pci_device_removed`].
pub fn device_removed(domain: &Arc<Domain>, hardware: &HardwareState, sbdf: Sbdf) {
    with(domain, hardware, |space, config, effects| space.remove_device(config, sbdf, effects));
}

/// Writes configuration ports.
pub fn port_write(domain: &Arc<Domain>, hardware: &HardwareState, port: u16, size: u8, value: u32) {
    with(domain, hardware, |space, config, effects| space.port_write(config, port, size, value, effects));
}

/// Writes a trapped page.
pub fn mmio_write(domain: &Arc<Domain>, hardware: &HardwareState, address: u64, size: u8, value: u64) {
    let outcome = with(domain, hardware, |space, config, effects| {
        space.mmio_write(config, address, size, value, effects)
    });
    if outcome == MmioWrite::Hardware {
        hardware.pci.lock().write_device(address, size, value);
    }
}

fn apply(domain: &Arc<Domain>, hardware: &HardwareState, pci: &mut Pci, effect: Effect) {
    match effect {
        Effect::Map(pages) => map(domain, pages),
        Effect::Unmap(pages) | Effect::Trap(pages) => unmap(domain, pages),
        Effect::MsiUpdate { sbdf, slot, active, masked, address, data } => {
            let index = match slot {
                MsiSlot::Msi => None,
                MsiSlot::Msix { index, .. } => Some(index),
            };
            let id = (sbdf, index);
            let message = if active { hardware.bind_message(domain, id, address, data) } else { None };
            if active && message.is_none() {
                radon_hw::warn!("{sbdf}: all interrupt vectors are in use");
            }
            match (slot, message) {
                (MsiSlot::Msi, Some(m)) => pci.space.program_msi(&mut pci.config, sbdf, m.address, m.data),
                (MsiSlot::Msi, None) => {}
                (MsiSlot::Msix { entry, .. }, message) => {
                    if let Some(entry) = entry {
                        pci.program_entry(entry, message, masked);
                    }
                }
            }
            if !active {
                hardware.interrupts.lock().release_message(id);
            }
        }
    }
}

/// Maps device memory 1:1, unless RAM lies there.
fn map(domain: &Domain, pages: Pages) {
    let (first, count) = (pages.first(), pages.count());
    if machine::host_ram_overlaps(first, count) {
        radon_hw::warn!(
            "dom0: device memory at {:x} ({count} pages) overlaps RAM: not mapped",
            first.maddr()
        );
        return;
    }
    let mut evicted: Vec<Entry> = Vec::new();
    {
        let mut p2m = domain.p2m.write();
        let flush = p2m.set_range(Gfn::new(first.raw()), first, count, Kind::MmioDirect, |_, entry| {
            if entry.kind != Kind::MmioDirect {
                evicted.push(entry);
            }
        });
        // What could not be mapped now comes with the first access to it.
        if flush != Ok(Flush::None) {
            run::flush_domain_tlb(domain);
            p2m.reclaim();
        }
    }
    for entry in evicted {
        physmap::release(domain, entry);
    }
}

/// Takes device memory away; what else may have been put there stays.
fn unmap(domain: &Domain, pages: Pages) {
    let mut p2m = domain.p2m.write();
    let mut needed = Flush::None;
    let end = pages.first().raw().saturating_add(pages.count());
    let mut at = pages.first().raw();
    while at < end {
        let gfn = Gfn::new(at);
        let Some(entry) = p2m.lookup(gfn) else {
            at += 1;
            continue;
        };
        let leaf = 1u64 << entry.order;
        let whole = at.is_multiple_of(leaf) && end - at >= leaf;
        let order = if whole { entry.order } else { 0 };
        if entry.kind == Kind::MmioDirect
            && let Ok(flush) = p2m.remove(gfn, order, |_, _| {})
        {
            needed = needed | flush;
        }
        at += 1 << order;
    }
    if needed == Flush::Needed {
        run::flush_domain_tlb(domain);
        p2m.reclaim();
    }
}
