//! The MSI capability.

use crate::{ConfigAccess, Effect, Effects, MsiSlot, Sbdf};

pub(crate) const CAPABILITY: u8 = 0x05;
const ENABLE: u32 = 1;
const MULTIPLE: u32 = 0x7e;
const ADDRESS_64: u32 = 1 << 7;

/// Virtual state of a function's MSI capability.
#[derive(Debug)]
pub(crate) struct Msi {
    position: u16,
    /// Read-only bits of the control register: 64-bit addresses, mask bits. One message is offered.
    fixed: u32,
    enabled: bool,
    address: u64,
    data: u32,
}

/// A virtual register of the capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MsiRegister {
    Control,
    Address,
    AddressHigh,
    Data,
}

impl Msi {
    pub(crate) fn probe(hw: &mut dyn ConfigAccess, sbdf: Sbdf, position: u16) -> Self {
        let control = hw.read(sbdf, position.wrapping_add(2), 2);
        if control & ENABLE != 0 {
            hw.write(sbdf, position.wrapping_add(2), 2, control & !ENABLE);
        }
        Msi { position, fixed: control & !(ENABLE | MULTIPLE), enabled: false, address: 0, data: 0 }
    }

    fn is_64(&self) -> bool {
        self.fixed & ADDRESS_64 != 0
    }

    /// The virtual registers: kind, offset, size.
    pub(crate) fn registers(&self) -> impl Iterator<Item = (MsiRegister, u16, u8)> + use<> {
        let at = |offset| self.position.wrapping_add(offset);
        let (high, data) = if self.is_64() { (4, at(12)) } else { (0, at(8)) };
        [
            (MsiRegister::Control, at(2), 2),
            (MsiRegister::Address, at(4), 4),
            (MsiRegister::AddressHigh, at(8), high),
            (MsiRegister::Data, data, 2),
        ]
        .into_iter()
        .filter(|(_, _, size)| *size != 0)
    }

    pub(crate) fn read(&self, register: MsiRegister) -> u32 {
        match register {
            MsiRegister::Control => self.fixed | if self.enabled { ENABLE } else { 0 },
            MsiRegister::Address => self.address as u32,
            MsiRegister::AddressHigh => (self.address >> 32) as u32,
            MsiRegister::Data => self.data,
        }
    }

    pub(crate) fn write(
        &mut self,
        hw: &mut dyn ConfigAccess,
        sbdf: Sbdf,
        register: MsiRegister,
        value: u32,
        effects: Effects<'_>,
    ) {
        match register {
            MsiRegister::Control => {
                let enable = value & ENABLE != 0;
                if !enable && !self.enabled {
                    return;
                }
                self.enabled = enable;
                if !enable {
                    // Enabling waits for `program`: the machine's address is not known yet.
                    hw.write(sbdf, self.position.wrapping_add(2), 2, self.fixed);
                }
                effects(self.update(sbdf));
                return;
            }
            MsiRegister::Address => self.address = (self.address & !0xffff_ffff) | u64::from(value & !3),
            MsiRegister::AddressHigh => self.address = (self.address & 0xffff_ffff) | u64::from(value) << 32,
            MsiRegister::Data => self.data = value,
        }
        if self.enabled {
            effects(self.update(sbdf));
        }
    }

    fn update(&self, sbdf: Sbdf) -> Effect {
        Effect::MsiUpdate {
            sbdf,
            slot: MsiSlot::Msi,
            active: self.enabled,
            masked: false,
            address: self.address,
            data: self.data,
        }
    }

    /// Puts the machine's message into the capability and enables it.
    pub(crate) fn program(&self, hw: &mut dyn ConfigAccess, sbdf: Sbdf, address: u64, data: u16) {
        if !self.enabled {
            return;
        }
        let at = |offset| self.position.wrapping_add(offset);
        hw.write(sbdf, at(4), 4, address as u32);
        if self.is_64() {
            hw.write(sbdf, at(8), 4, (address >> 32) as u32);
        }
        hw.write(sbdf, at(if self.is_64() { 12 } else { 8 }), 2, u32::from(data));
        hw.write(sbdf, at(2), 2, self.fixed | ENABLE);
    }
}
