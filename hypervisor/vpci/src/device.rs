//! One PCI function: which bytes of its configuration space are virtual.

use alloc::vec::Vec;

use crate::bars::{self, Bar, COMMAND, COMMAND_MEMORY, ROM_ENABLE};
use crate::msi::{self, Msi, MsiRegister};
use crate::msix::{self, Msix};
use crate::pages::Pages;
use crate::{ConfigAccess, Effect, Effects, Sbdf};

const STATUS: u16 = 0x06;
const STATUS_CAPABILITIES: u32 = 1 << 4;
const HEADER_TYPE: u16 = 0x0e;
const CAPABILITIES: u16 = 0x34;

/// A register whose writes do not simply go to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    Msi(MsiRegister),
    MsixControl,
}

/// A function's virtual state.
#[derive(Debug)]
pub(crate) struct Device {
    bar_count: u8,
    rom_register: u16,
    msi: Option<Msi>,
    msix: Option<Msix>,
    /// Pages dom0 has because memory decoding is on.
    pub(crate) mapped: Vec<Pages>,
    pub(crate) rom: Option<Pages>,
}

impl Device {
    /// Looks at the function's header and capabilities and switches its MSI and MSI-X off. `None`: nothing there.
    pub(crate) fn probe(hw: &mut dyn ConfigAccess, sbdf: Sbdf) -> Option<Device> {
        if matches!(hw.read(sbdf, 0, 4) & 0xffff, 0 | 0xffff) {
            return None;
        }
        let (bar_count, rom_register) = match hw.read(sbdf, HEADER_TYPE, 1) & 0x7f {
            0 => (6, 0x30),
            1 => (2, 0x38),
            _ => (0, 0),
        };
        let mut device =
            Device { bar_count, rom_register, msi: None, msix: None, mapped: Vec::new(), rom: None };
        if hw.read(sbdf, STATUS, 2) & STATUS_CAPABILITIES != 0 {
            device.probe_capabilities(hw, sbdf);
        }
        Some(device)
    }

    fn probe_capabilities(&mut self, hw: &mut dyn ConfigAccess, sbdf: Sbdf) {
        let mut position = hw.read(sbdf, CAPABILITIES, 1) as u16 & 0xfc;
        // At most 48 fit, so a loop in the list ends.
        for _ in 0..48 {
            if position < 0x40 {
                return;
            }
            match hw.read(sbdf, position, 1) as u8 {
                0xff => return,
                msi::CAPABILITY if self.msi.is_none() => self.msi = Some(Msi::probe(hw, sbdf, position)),
                msix::CAPABILITY if self.msix.is_none() => self.msix = Some(Msix::probe(hw, sbdf, position)),
                _ => {}
            }
            position = hw.read(sbdf, position.wrapping_add(1), 1) as u16 & 0xfc;
        }
    }

    pub(crate) fn msi(&self) -> Option<&Msi> {
        self.msi.as_ref()
    }

    pub(crate) fn msix(&self) -> Option<&Msix> {
        self.msix.as_ref()
    }

    pub(crate) fn msix_mut(&mut self) -> Option<&mut Msix> {
        self.msix.as_mut()
    }

    pub(crate) fn trapped(&self) -> Option<Pages> {
        self.msix.as_ref()?.pages()
    }

    /// Reads `size` (1, 2, 4) bytes: the machine's, overlaid with the virtual ones.
    pub(crate) fn read(&self, hw: &mut dyn ConfigAccess, sbdf: Sbdf, register: u16, size: u8) -> u32 {
        let mut value = hw.read(sbdf, register, size);
        for (kind, at, width) in self.virtual_registers() {
            value = overlay(value, register, size, self.value(kind), at, width);
        }
        value
    }

    fn virtual_registers(&self) -> impl Iterator<Item = (Register, u16, u8)> + use<> {
        let msi = self.msi.as_ref().map(Msi::registers);
        let msix = self.msix.as_ref().map(|msix| (Register::MsixControl, msix.control_register(), 2));
        let msi = msi.into_iter().flatten().map(|(kind, at, width)| (Register::Msi(kind), at, width));
        msi.chain(msix)
    }

    fn value(&self, register: Register) -> u32 {
        match register {
            Register::Msi(register) => self.msi.as_ref().map_or(0, |msi| msi.read(register)),
            Register::MsixControl => self.msix.as_ref().map_or(0, Msix::control),
        }
    }

    /// Writes `size` (1, 2, 4) bytes, but for the command register.
    pub(crate) fn write(
        &mut self,
        hw: &mut dyn ConfigAccess,
        sbdf: Sbdf,
        register: u16,
        size: u8,
        value: u32,
        effects: Effects<'_>,
    ) {
        let mut left = byte_mask(size);
        let touched: Vec<_> = self
            .virtual_registers()
            .filter(|(_, at, width)| intersects(register, size, *at, *width))
            .collect();
        for (kind, at, width) in touched {
            left &= !overlay(0, register, size, u32::MAX, at, width);
            let merged = overlay(self.value(kind), at, width, value, register, size);
            match kind {
                Register::Msi(register) => {
                    if let Some(msi) = &mut self.msi {
                        msi.write(hw, sbdf, register, merged, effects);
                    }
                }
                Register::MsixControl => {
                    if let Some(msix) = &mut self.msix {
                        msix.write_control(hw, sbdf, merged, effects);
                    }
                }
            }
        }
        if left == byte_mask(size) {
            hw.write(sbdf, register, size, value);
            return;
        }
        for byte in 0..size.min(4) {
            let shift = u32::from(byte).wrapping_mul(8);
            if left >> shift & 0xff != 0 {
                hw.write(sbdf, register.wrapping_add(u16::from(byte)), 1, value >> shift & 0xff);
            }
        }
    }

    /// Whether a write is of a memory BAR that is decoded.
    pub(crate) fn is_decoded_bar(&self, hw: &mut dyn ConfigAccess, sbdf: Sbdf, register: u16) -> bool {
        let end = bars::bar_register(self.bar_count);
        if register < bars::FIRST_BAR || register >= end || !decoding(hw, sbdf) {
            return false;
        }
        let at = register & !3;
        let is_io = hw.read(sbdf, at, 4) & 1 != 0;
        // The upper half of a 64-bit BAR can have bit 0 set too: look whether the register before it claims it.
        let upper = at > bars::FIRST_BAR && {
            let before = hw.read(sbdf, at.wrapping_sub(4), 4);
            before & 7 == 4
        };
        !is_io || upper
    }

    /// Writes such a BAR. The machine takes it at once, so its pages move at once: Linux writes BARs so where firmware has put them on
    /// something of its own.
    pub(crate) fn move_bar(
        &self,
        hw: &mut dyn ConfigAccess,
        sbdf: Sbdf,
        register: u16,
        size: u8,
        value: u32,
    ) -> Decoding {
        hw.write(sbdf, register, size, value);
        self.current_decoding(hw, sbdf)
    }

    /// Whether a write touches the low byte of the command register.
    pub(crate) fn is_command(register: u16, size: u8) -> bool {
        intersects(register, size, COMMAND, 1)
    }

    /// Whether a write is of the ROM address register.
    pub(crate) fn is_rom(&self, register: u16, size: u8) -> bool {
        self.rom_register != 0 && register == self.rom_register && size == 4
    }

    /// Writes the ROM address register: the pages it decodes afterwards.
    pub(crate) fn write_rom(&self, hw: &mut dyn ConfigAccess, sbdf: Sbdf, value: u32) -> Option<Pages> {
        let size = self.rom_size(hw, sbdf);
        hw.write(sbdf, self.rom_register, 4, value);
        if !decoding(hw, sbdf) {
            return None;
        }
        bars::rom_pages(hw.read(sbdf, self.rom_register, 4), size)
    }

    fn rom_size(&self, hw: &mut dyn ConfigAccess, sbdf: Sbdf) -> u32 {
        let old = hw.read(sbdf, self.rom_register, 4);
        if old & ROM_ENABLE != 0 {
            hw.write(sbdf, self.rom_register, 4, old & !ROM_ENABLE);
        }
        let size = bars::rom_size(hw, sbdf, self.rom_register);
        if old & ROM_ENABLE != 0 {
            hw.write(sbdf, self.rom_register, 4, old);
        }
        size
    }

    /// Performs a write that touches the command register. When memory decoding is on afterwards, the BARs it decodes and the
    /// ROM's pages.
    pub(crate) fn write_command(
        &self,
        hw: &mut dyn ConfigAccess,
        sbdf: Sbdf,
        register: u16,
        size: u8,
        value: u32,
    ) -> Decoding {
        let old = hw.read(sbdf, COMMAND, 2);
        let wanted = overlay(old, COMMAND, 2, value, register, size);
        if (old ^ wanted) & COMMAND_MEMORY == 0 {
            hw.write(sbdf, register, size, value);
            return Decoding::Unchanged;
        }
        let layout = (wanted & COMMAND_MEMORY != 0).then(|| self.layout(hw, sbdf));
        hw.write(sbdf, register, size, value);
        match layout {
            Some((bars, rom)) if decoding(hw, sbdf) => Decoding::On(bars, rom),
            None if !decoding(hw, sbdf) => Decoding::Off,
            _ => Decoding::Unchanged,
        }
    }

    /// What is decoded now: sizes the BARs with decoding off for a moment.
    pub(crate) fn current_decoding(&self, hw: &mut dyn ConfigAccess, sbdf: Sbdf) -> Decoding {
        let command = hw.read(sbdf, COMMAND, 2);
        if command & COMMAND_MEMORY == 0 {
            return Decoding::Off;
        }
        hw.write(sbdf, COMMAND, 2, command & !COMMAND_MEMORY);
        let (bars, rom) = self.layout(hw, sbdf);
        hw.write(sbdf, COMMAND, 2, command);
        Decoding::On(bars, rom)
    }

    fn layout(&self, hw: &mut dyn ConfigAccess, sbdf: Sbdf) -> (Vec<Bar>, Option<Pages>) {
        let bars = bars::memory_bars(hw, sbdf, self.bar_count);
        let rom = if self.rom_register == 0 { 0 } else { hw.read(sbdf, self.rom_register, 4) };
        let rom = if rom & ROM_ENABLE == 0 { None } else { bars::rom_pages(rom, self.rom_size(hw, sbdf)) };
        (bars, rom)
    }

    /// Releases every message-signalled interrupt.
    pub(crate) fn shut_down(&mut self, hw: &mut dyn ConfigAccess, sbdf: Sbdf, effects: Effects<'_>) {
        if let Some(msi) = &mut self.msi {
            msi.write(hw, sbdf, MsiRegister::Control, 0, effects);
        }
        if let Some(msix) = &mut self.msix {
            msix.write_control(hw, sbdf, 0, effects);
        }
        for pages in self.mapped.drain(..).chain(self.rom.take()) {
            effects(Effect::Unmap(pages));
        }
    }
}

/// What became of memory decoding.
pub(crate) enum Decoding {
    Unchanged,
    Off,
    On(Vec<Bar>, Option<Pages>),
}

fn decoding(hw: &mut dyn ConfigAccess, sbdf: Sbdf) -> bool {
    let command = hw.read(sbdf, COMMAND, 2);
    // All ones: the device is gone.
    command != 0xffff && command & COMMAND_MEMORY != 0
}

fn byte_mask(size: u8) -> u32 {
    u32::MAX.checked_shr(32u32.saturating_sub(u32::from(size).saturating_mul(8))).unwrap_or(0)
}

fn intersects(at: u16, size: u8, other: u16, other_size: u8) -> bool {
    let (at, other) = (u32::from(at), u32::from(other));
    at < other.wrapping_add(u32::from(other_size)) && other < at.wrapping_add(u32::from(size))
}

/// `value` (of `size` bytes at offset `at`) with the bytes it shares with `new` (of `new_size` bytes at `new_at`) replaced.
fn overlay(value: u32, at: u16, size: u8, new: u32, new_at: u16, new_size: u8) -> u32 {
    let mut value = value;
    for byte in 0..size.min(4) {
        let offset = at.wrapping_add(u16::from(byte)).wrapping_sub(new_at);
        if offset < u16::from(new_size) {
            let (to, from) = (8 * u32::from(byte), 8 * u32::from(offset));
            value = (value & !(0xff << to)) | (new >> (from & 31) & 0xff) << to;
        }
    }
    value
}
