//! The hardware domain's PCI buses: routes accesses to functions, keeps the maps of their memory.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use crate::bars::Bar;
use crate::device::{Decoding, Device};
use crate::pages::{Pages, subtract};
use crate::{ConfigAccess, Effect, Effects, Sbdf};

const PORT_ADDRESS: u16 = 0xcf8;
const PORT_DATA: RangeInclusive<u16> = 0xcfc..=0xcff;
const CONFIG_SPACE: u16 = 0x1000;

/// An ECAM (MMCONFIG) window: an entry of the ACPI MCFG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ecam {
    /// Address of bus 0 (whether or not `first_bus` is 0), as in the MCFG.
    pub base: u64,
    /// Segment group.
    pub segment: u16,
    /// First bus decoded.
    pub first_bus: u8,
    /// Last bus decoded.
    pub last_bus: u8,
}

impl Ecam {
    fn decode(&self, address: u64) -> Option<(Sbdf, u16)> {
        let offset = address.checked_sub(self.base)?;
        let bus = u8::try_from(offset >> 20).ok()?;
        if !(self.first_bus..=self.last_bus).contains(&bus) {
            return None;
        }
        let sbdf = Sbdf::from_devfn(self.segment, bus, (offset >> 12) as u8);
        Some((sbdf, offset as u16 & 0xfff))
    }
}

/// How much of a function dom0 may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// Reads see the machine; writes are dropped, memory is not mapped (the hypervisor's serial port, an IOMMU).
    ReadOnly,
    /// Reads all ones. Not for function 0 of a device with others: without it they are not found.
    Hidden,
}

/// Outcome of a read of trapped memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MmioRead {
    /// Not this crate's.
    Unclaimed,
    /// The value.
    Value(u64),
    /// Perform it on the machine at the same address: a register that shares a page with an MSI-X table.
    Hardware,
}

/// Outcome of a write of trapped memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MmioWrite {
    /// Not this crate's.
    Unclaimed,
    /// Done.
    Done,
    /// Perform it on the machine at the same address.
    Hardware,
}

/// The hardware domain's PCI configuration space.
#[derive(Debug, Default)]
pub struct VirtualPci {
    devices: BTreeMap<Sbdf, Device>,
    restricted: BTreeMap<Sbdf, Exposure>,
    windows: Vec<Ecam>,
    /// Last value written to port 0xcf8.
    address: u32,
}

impl VirtualPci {
    /// No devices, no windows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves an ECAM window.
    pub fn add_ecam(&mut self, window: Ecam) {
        self.windows.push(window);
    }

    /// Restricts a function; before [`Self::enumerate`], so that it is not touched at all.
    pub fn restrict(&mut self, sbdf: Sbdf, exposure: Exposure) {
        self.restricted.insert(sbdf, exposure);
        self.devices.remove(&sbdf);
    }

    /// Finds every function on the given buses: their MSI and MSI-X are switched off, and the memory they decode is reported.
    pub fn enumerate(
        &mut self,
        hw: &mut dyn ConfigAccess,
        segment: u16,
        buses: RangeInclusive<u8>,
        effects: Effects<'_>,
    ) {
        const HEADER_TYPE: u16 = 0x0e;
        for bus in buses {
            for device in 0..32 {
                let first = Sbdf::new(segment, bus, device, 0);
                if matches!(hw.read(first, 0, 4) & 0xffff, 0 | 0xffff) {
                    continue;
                }
                let functions = if hw.read(first, HEADER_TYPE, 1) & 0x80 != 0 { 8 } else { 1 };
                for function in 0..functions {
                    self.add_device(hw, Sbdf::new(segment, bus, device, function), effects);
                }
            }
        }
    }

    /// Starts virtualising a function (also hot-plugged ones, from PHYSDEVOP_pci_device_add). Whether it is there and not
    /// restricted; a function already known stays as it is.
    pub fn add_device(&mut self, hw: &mut dyn ConfigAccess, sbdf: Sbdf, effects: Effects<'_>) -> bool {
        if self.restricted.contains_key(&sbdf) {
            return false;
        }
        if self.devices.contains_key(&sbdf) {
            return true;
        }
        let Some(device) = Device::probe(hw, sbdf) else { return false };
        let decoding = device.current_decoding(hw, sbdf);
        self.devices.insert(sbdf, device);
        self.apply(sbdf, decoding, effects);
        true
    }

    /// Forgets a function that was removed (PHYSDEVOP_pci_device_remove): its interrupts and memory are released.
    pub fn remove_device(&mut self, hw: &mut dyn ConfigAccess, sbdf: Sbdf, effects: Effects<'_>) {
        if let Some(mut device) = self.devices.remove(&sbdf) {
            device.shut_down(hw, sbdf, effects);
        }
    }

    /// The functions found.
    pub fn devices(&self) -> impl Iterator<Item = Sbdf> + '_ {
        self.devices.keys().copied()
    }

    /// After an active [`Effect::MsiUpdate`] of [`crate::MsiSlot::Msi`]: puts the machine's message into the capability and enables it.
    pub fn program_msi(&self, hw: &mut dyn ConfigAccess, sbdf: Sbdf, address: u64, data: u16) {
        if let Some(msi) = self.devices.get(&sbdf).and_then(Device::msi) {
            msi.program(hw, sbdf, address, data);
        }
    }

    /// Whether a port access is for configuration space (0xcf8 only as a whole: 0xcf9 is the reset port).
    pub fn claims_port(port: u16, size: u8) -> bool {
        (port == PORT_ADDRESS && size == 4) || PORT_DATA.contains(&port)
    }

    /// Reads a claimed port.
    pub fn port_read(&self, hw: &mut dyn ConfigAccess, port: u16, size: u8) -> u32 {
        if port == PORT_ADDRESS {
            return self.address;
        }
        match self.port_target(port, size) {
            Some((sbdf, register)) => self.read(hw, sbdf, register, size),
            None => u32::MAX,
        }
    }

    /// Writes a claimed port.
    pub fn port_write(
        &mut self,
        hw: &mut dyn ConfigAccess,
        port: u16,
        size: u8,
        value: u32,
        effects: Effects<'_>,
    ) {
        if port == PORT_ADDRESS {
            self.address = value;
        } else if let Some((sbdf, register)) = self.port_target(port, size) {
            self.write(hw, sbdf, register, size, value, effects);
        }
    }

    fn port_target(&self, port: u16, size: u8) -> Option<(Sbdf, u16)> {
        const ENABLED: u32 = 1 << 31;
        let register = self.address as u16 & 0xfc | port & 3;
        let target = Sbdf::from_devfn(0, (self.address >> 16) as u8, (self.address >> 8) as u8);
        (self.address & ENABLED != 0 && legal(register, size)).then_some((target, register))
    }

    /// Whether a guest-physical address is in an ECAM window or on an MSI-X table's page.
    pub fn claims_mmio(&self, address: u64) -> bool {
        self.ecam_target(address).is_some() || self.table_at(address).is_some()
    }

    fn ecam_target(&self, address: u64) -> Option<(Sbdf, u16)> {
        self.windows.iter().find_map(|window| window.decode(address))
    }

    fn table_at(&self, address: u64) -> Option<Sbdf> {
        let on_page = |device: &Device| device.trapped().is_some_and(|pages| pages.contains(address));
        self.devices.iter().find_map(|(sbdf, device)| on_page(device).then_some(*sbdf))
    }

    /// Reads `size` (1, 2, 4, 8) bytes of trapped memory.
    pub fn mmio_read(&self, hw: &mut dyn ConfigAccess, address: u64, size: u8) -> MmioRead {
        if let Some((sbdf, register)) = self.ecam_target(address) {
            if !legal(register, size) {
                return MmioRead::Value(u64::MAX);
            }
            let low = u64::from(self.read(hw, sbdf, register, size.min(4)));
            if size < 8 {
                return MmioRead::Value(low);
            }
            let high = self.read(hw, sbdf, register.wrapping_add(4), 4);
            return MmioRead::Value(low | u64::from(high) << 32);
        }
        let Some(msix) = self.table_at(address).and_then(|sbdf| self.devices.get(&sbdf)?.msix()) else {
            return MmioRead::Unclaimed;
        };
        match msix.table_offset(address) {
            Some(offset) => MmioRead::Value(msix.read_table(offset, size)),
            None => MmioRead::Hardware,
        }
    }

    /// Writes `size` (1, 2, 4, 8) bytes of trapped memory.
    pub fn mmio_write(
        &mut self,
        hw: &mut dyn ConfigAccess,
        address: u64,
        size: u8,
        value: u64,
        effects: Effects<'_>,
    ) -> MmioWrite {
        if let Some((sbdf, register)) = self.ecam_target(address) {
            if legal(register, size) {
                self.write(hw, sbdf, register, size.min(4), value as u32, effects);
                if size == 8 {
                    self.write(hw, sbdf, register.wrapping_add(4), 4, (value >> 32) as u32, effects);
                }
            }
            return MmioWrite::Done;
        }
        let Some(sbdf) = self.table_at(address) else { return MmioWrite::Unclaimed };
        let Some(msix) = self.devices.get_mut(&sbdf).and_then(Device::msix_mut) else {
            return MmioWrite::Unclaimed;
        };
        match msix.table_offset(address) {
            Some(offset) => {
                msix.write_table(sbdf, offset, size, value, effects);
                MmioWrite::Done
            }
            None => MmioWrite::Hardware,
        }
    }

    /// Reads configuration space: `size` 1, 2 or 4, aligned.
    pub fn read(&self, hw: &mut dyn ConfigAccess, sbdf: Sbdf, register: u16, size: u8) -> u32 {
        if self.restricted.get(&sbdf) == Some(&Exposure::Hidden) || !legal(register, size) || size > 4 {
            return u32::MAX;
        }
        match self.devices.get(&sbdf) {
            Some(device) => device.read(hw, sbdf, register, size),
            None => hw.read(sbdf, register, size),
        }
    }

    /// Writes configuration space: `size` 1, 2 or 4, aligned.
    pub fn write(
        &mut self,
        hw: &mut dyn ConfigAccess,
        sbdf: Sbdf,
        register: u16,
        size: u8,
        value: u32,
        effects: Effects<'_>,
    ) {
        if self.restricted.contains_key(&sbdf) || !legal(register, size) || size > 4 {
            return;
        }
        let Some(device) = self.devices.get_mut(&sbdf) else {
            // Not known (yet): its bus may just have been given its number.
            hw.write(sbdf, register, size, value);
            return;
        };
        if Device::is_command(register, size) {
            let decoding = device.write_command(hw, sbdf, register, size, value);
            self.apply(sbdf, decoding, effects);
        } else if device.is_decoded_bar(hw, sbdf, register) {
            let decoding = device.move_bar(hw, sbdf, register, size, value);
            self.apply(sbdf, decoding, effects);
        } else if device.is_rom(register, size) {
            let new = device.write_rom(hw, sbdf, value);
            let old = core::mem::replace(&mut device.rom, new);
            if old != new {
                self.unmap(Vec::from_iter(old), effects);
                self.map(Vec::from_iter(new), effects);
            }
        } else {
            device.write(hw, sbdf, register, size, value, effects);
        }
    }

    /// Reports what memory decoding now covers.
    fn apply(&mut self, sbdf: Sbdf, decoding: Decoding, effects: Effects<'_>) {
        let (bars, rom) = match decoding {
            Decoding::Unchanged => return,
            Decoding::Off => (None, None),
            Decoding::On(bars, rom) => (Some(bars), rom),
        };
        let Some(device) = self.devices.get_mut(&sbdf) else { return };
        let old: Vec<Pages> = device.mapped.drain(..).chain(device.rom.take()).collect();
        if let Some(msix) = device.msix_mut() {
            msix.place(bars.as_deref());
        }
        let ranges: Vec<Pages> = bars.iter().flatten().filter_map(bar_pages).collect();
        let new: Vec<Pages> = ranges.iter().copied().chain(rom).collect();
        (device.mapped, device.rom) = (ranges, rom);
        let trapped = device.trapped();
        if old != new {
            self.unmap(old, effects);
        }
        if let Some(pages) = trapped {
            effects(Effect::Trap(pages));
        }
        self.map(new, effects);
    }

    /// Maps all but the pages of MSI-X tables.
    fn map(&self, mut ranges: Vec<Pages>, effects: Effects<'_>) {
        for pages in self.devices.values().filter_map(Device::trapped) {
            subtract(&mut ranges, pages);
        }
        ranges.into_iter().for_each(|pages| effects(Effect::Map(pages)));
    }

    /// Unmaps all but the pages that are still decoded by something.
    fn unmap(&self, mut ranges: Vec<Pages>, effects: Effects<'_>) {
        for device in self.devices.values() {
            for pages in device.mapped.iter().copied().chain(device.rom) {
                subtract(&mut ranges, pages);
            }
        }
        ranges.into_iter().for_each(|pages| effects(Effect::Unmap(pages)));
    }
}

fn bar_pages(bar: &Bar) -> Option<Pages> {
    // An address of 0 was never assigned.
    if bar.address == 0 { None } else { Pages::covering(bar.address, bar.size) }
}

fn legal(register: u16, size: u8) -> bool {
    matches!(size, 1 | 2 | 4 | 8)
        && register.is_multiple_of(u16::from(size))
        && register.checked_add(u16::from(size)).is_some_and(|end| end <= CONFIG_SPACE)
}

#[cfg(test)]
#[path = "vpci_tests.rs"]
mod tests;
