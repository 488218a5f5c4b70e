//! IA32_APIC_BASE: modes of the local APIC.

use crate::LAPIC_ADDRESS;
use crate::lapic::LocalApic;
use crate::registers::{Effect, GeneralProtection};

pub(crate) const BASE_BSP: u64 = 1 << 8;
pub(crate) const BASE_X2APIC: u64 = 1 << 10;
pub(crate) const BASE_ENABLE: u64 = 1 << 11;
const BASE_ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// The x2APIC logical id: cluster in bits 31:16, one bit of 16 below.
pub(crate) fn x2apic_ldr(apic_id: u32) -> u32 {
    (apic_id & !0xf) << 12 | 1 << (apic_id & 0xf)
}

impl LocalApic {
    /// Reads IA32_APIC_BASE.
    pub fn base_msr(&self) -> u64 {
        self.base_msr
    }

    /// Writes IA32_APIC_BASE. Legal moves: disabled ↔ xAPIC → x2APIC → disabled; the page cannot move.
    pub fn write_base(&mut self, value: u64) -> Result<Effect, GeneralProtection> {
        let x2apic = if self.x2apic_allowed { BASE_X2APIC } else { 0 };
        if value & !(BASE_ADDRESS | BASE_ENABLE | BASE_BSP | x2apic) != 0 {
            return Err(GeneralProtection);
        }
        let enabled = value & BASE_ENABLE != 0;
        let xapic = value & (BASE_ENABLE | BASE_X2APIC) == BASE_ENABLE;
        if xapic && value & BASE_ADDRESS != LAPIC_ADDRESS {
            return Err(GeneralProtection);
        }
        let changed = self.base_msr ^ value;
        let mut effect = Effect::None;
        if changed & BASE_ENABLE != 0 {
            if value & BASE_X2APIC != 0 {
                return Err(GeneralProtection);
            }
            if enabled {
                self.reset();
            }
            effect = Effect::TimerChanged;
        } else if changed & BASE_X2APIC != 0 && (!self.hardware_enabled() || self.x2apic_mode()) {
            // Only from xAPIC mode.
            return Err(GeneralProtection);
        }
        self.base_msr = value;
        if !enabled {
            // A disabled APIC forgets everything.
            self.init();
        }
        if self.x2apic_mode() && changed & BASE_X2APIC != 0 {
            self.ldr = x2apic_ldr(self.apic_id);
        }
        Ok(effect)
    }
}
