//! Register access: the xAPIC page and the x2APIC MSRs.

use radon_addr::Ns;

use crate::lapic::{ESR_SEND_ILLEGAL, LVT_COUNT, LVT_MASKED, LVT_TIMER, LocalApic, SVR_ENABLED};
use crate::message::{DeliveryMode, Destination, Message};
use crate::timer::TIMER_MODE;

/// Version register: version 0x14, six LVT entries, no EOI-broadcast suppression (Xen's value).
const VERSION: u32 = 0x0005_0014;

const LVT_MASK: u32 = LVT_MASKED | 1 << 12 | 0xff;
const DELIVERY_MODE: u32 = 7 << 8;
const LINT_MASK: u32 = LVT_MASK | DELIVERY_MODE | 1 << 13 | 1 << 14 | 1 << 15;
/// Writable bits of each LVT entry.
const LVT_WRITABLE: [u32; LVT_COUNT] = [
    LVT_MASK | TIMER_MODE,
    LVT_MASK | DELIVERY_MODE,
    LVT_MASK | DELIVERY_MODE,
    LINT_MASK,
    LINT_MASK,
    LVT_MASK,
];
const SVR_WRITABLE: u32 = 0x3ff;
const DIVIDE_WRITABLE: u32 = 0b1011;

/// MMIO offset / 16 of each register, which is the x2APIC MSR - 0x800.
#[allow(missing_docs)]
pub(crate) mod reg {
    pub const ID: u32 = 0x02;
    pub const VERSION: u32 = 0x03;
    pub const TPR: u32 = 0x08;
    pub const PPR: u32 = 0x0a;
    pub const EOI: u32 = 0x0b;
    pub const LDR: u32 = 0x0d;
    pub const DFR: u32 = 0x0e;
    pub const SVR: u32 = 0x0f;
    pub const ISR: u32 = 0x10;
    pub const ISR_LAST: u32 = 0x17;
    pub const TMR: u32 = 0x18;
    pub const TMR_LAST: u32 = 0x1f;
    pub const IRR: u32 = 0x20;
    pub const IRR_LAST: u32 = 0x27;
    pub const ESR: u32 = 0x28;
    pub const CMCI: u32 = 0x2f;
    pub const ICR: u32 = 0x30;
    pub const ICR_HIGH: u32 = 0x31;
    pub const LVT_TIMER: u32 = 0x32;
    pub const LVT_ERROR: u32 = 0x37;
    pub const INITIAL_COUNT: u32 = 0x38;
    pub const CURRENT_COUNT: u32 = 0x39;
    pub const DIVIDE: u32 = 0x3e;
    pub const SELF_IPI: u32 = 0x3f;
}

/// What a register write asks of the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Effect {
    /// Nothing (an own interrupt may have become pending: always look at `highest_pending` before entry).
    None,
    /// Deliver an inter-processor interrupt.
    SendIpi(Message),
    /// An interrupt ended: when `level`, broadcast to the I/O APICs.
    Eoi {
        /// Its vector.
        vector: u8,
        /// It was level-triggered.
        level: bool,
    },
    /// `timer_deadline` has changed.
    TimerChanged,
    /// The guest has software-enabled the APIC: raise a pending event-channel upcall again.
    Enabled,
}

/// The access raises #GP(0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneralProtection;

impl LocalApic {
    /// Reads `size` bytes at `offset` of the xAPIC page. Accesses that cross a register or are beyond the last one read 0.
    pub fn read(&self, offset: u32, size: u8, now: Ns) -> u64 {
        let (register, shift) = (offset >> 4, (offset & 0xf).saturating_mul(8));
        if size == 0 || (offset & 0xf).saturating_add(u32::from(size)) > 4 || register > reg::DIVIDE {
            return 0;
        }
        let value = u64::from(self.register(register, now)) >> shift;
        value & (1u64 << (8 * u32::from(size.min(4)))).wrapping_sub(1)
    }

    /// Writes `size` bytes at `offset` of the xAPIC page; partial writes change part of the register.
    pub fn write(&mut self, offset: u32, size: u8, value: u64, now: Ns) -> Effect {
        let (register, shift) = (offset >> 4, (offset & 0xf).saturating_mul(8));
        if size == 0 || (offset & 0xf).saturating_add(u32::from(size)) > 4 || register > reg::DIVIDE {
            return Effect::None;
        }
        if register == reg::EOI {
            return self.eoi_effect();
        }
        let mut value = value as u32;
        if size < 4 {
            let mask = (1u32 << (8 * u32::from(size))).wrapping_sub(1) << shift;
            value = (self.register(register, now) & !mask) | (value << shift & mask);
        }
        match register {
            reg::LDR => self.ldr = value & 0xff00_0000,
            reg::DFR => self.dfr = value | 0x0fff_ffff,
            reg::ICR_HIGH => self.icr_high = value & 0xff00_0000,
            reg::ICR => return self.send(value),
            _ => return self.write_common(register, value, now),
        }
        Effect::None
    }

    /// Reads x2APIC register MSR `msr` (0x800..=0x8ff).
    pub fn read_msr(&self, msr: u32, now: Ns) -> Result<u64, GeneralProtection> {
        let register = msr.wrapping_sub(crate::MSR_X2APIC_FIRST);
        let readable = matches!(register,
            reg::ID | reg::VERSION | reg::TPR | reg::PPR | reg::LDR | reg::SVR | reg::ISR..=reg::ESR | reg::ICR
            | reg::CMCI | reg::LVT_TIMER..=reg::CURRENT_COUNT | reg::DIVIDE);
        if !self.x2apic_mode() || !readable {
            return Err(GeneralProtection);
        }
        let low = u64::from(self.register(register, now));
        Ok(if register == reg::ICR { low | u64::from(self.icr_high) << 32 } else { low })
    }

    /// Writes x2APIC register MSR `msr` (0x800..=0x8ff).
    #[inline]
    pub fn write_msr(&mut self, msr: u32, value: u64, now: Ns) -> Result<Effect, GeneralProtection> {
        if !self.x2apic_mode() {
            return Err(GeneralProtection);
        }
        let register = msr.wrapping_sub(crate::MSR_X2APIC_FIRST);
        if register == reg::EOI && value == 0 {
            return Ok(self.eoi_effect());
        }
        let writable: u64 = match register {
            reg::TPR => 0xff,
            reg::SVR => u64::from(SVR_WRITABLE),
            reg::ESR => 0,
            // Not implemented, but Xen takes the write.
            reg::CMCI => u64::from(LVT_MASK | DELIVERY_MODE),
            reg::LVT_TIMER..=reg::LVT_ERROR => u64::from(lvt_writable(register)),
            reg::INITIAL_COUNT => 0xffff_ffff,
            reg::DIVIDE => u64::from(DIVIDE_WRITABLE),
            reg::ICR => 0xffff_ffff_000c_cfff,
            reg::SELF_IPI => 0xff,
            _ => return Err(GeneralProtection),
        };
        if value & !writable != 0 {
            return Err(GeneralProtection);
        }
        let low = value as u32;
        Ok(match register {
            reg::ICR => {
                self.icr_high = (value >> 32) as u32;
                self.send(low)
            }
            reg::SELF_IPI => self.send(low | 1 << 18),
            _ => self.write_common(register, low, now),
        })
    }

    fn eoi_effect(&mut self) -> Effect {
        match self.eoi() {
            Some((vector, level)) => Effect::Eoi { vector, level },
            None => Effect::None,
        }
    }

    /// A register's 32 bits (the low half of an ICR).
    pub(crate) fn register(&self, register: u32, now: Ns) -> u32 {
        let within = register & 7;
        match register {
            reg::ID => {
                if self.x2apic_mode() {
                    self.apic_id
                } else {
                    self.apic_id << 24
                }
            }
            reg::VERSION => VERSION,
            reg::TPR => u32::from(self.tpr),
            reg::PPR => u32::from(self.ppr()),
            reg::LDR => self.ldr,
            reg::DFR => self.dfr,
            reg::SVR => self.svr,
            reg::ISR..=reg::ISR_LAST => self.isr.register(within),
            reg::TMR..=reg::TMR_LAST => self.tmr.register(within),
            reg::IRR..=reg::IRR_LAST => self.irr.register(within),
            reg::ESR => self.esr,
            reg::ICR => self.icr,
            reg::ICR_HIGH => self.icr_high,
            reg::LVT_TIMER..=reg::LVT_ERROR => self.lvt.get(lvt_index(register)).copied().unwrap_or(0),
            reg::INITIAL_COUNT => self.timer.initial,
            reg::CURRENT_COUNT => self.timer_count(now),
            reg::DIVIDE => self.timer.divide,
            _ => 0,
        }
    }

    /// Writes that mean the same in both modes.
    fn write_common(&mut self, register: u32, value: u32, now: Ns) -> Effect {
        match register {
            reg::TPR => self.tpr = value as u8,
            reg::SVR => return self.write_svr(value & SVR_WRITABLE),
            reg::ESR => self.esr = core::mem::take(&mut self.esr_pending),
            reg::LVT_TIMER..=reg::LVT_ERROR => return self.write_lvt(register, value, now),
            reg::INITIAL_COUNT => {
                self.write_initial_count(value, now);
                return Effect::TimerChanged;
            }
            reg::DIVIDE => {
                self.write_divide(value, now);
                return Effect::TimerChanged;
            }
            _ => {}
        }
        Effect::None
    }

    fn write_svr(&mut self, value: u32) -> Effect {
        let was = self.svr & SVR_ENABLED != 0;
        self.svr = value;
        if value & SVR_ENABLED == 0 {
            for entry in &mut self.lvt {
                *entry |= LVT_MASKED;
            }
            return Effect::None;
        }
        if was { Effect::None } else { Effect::Enabled }
    }

    fn write_lvt(&mut self, register: u32, value: u32, now: Ns) -> Effect {
        let mut value = value & lvt_writable(register);
        if self.svr & SVR_ENABLED == 0 {
            value |= LVT_MASKED;
        }
        let index = lvt_index(register);
        if index == LVT_TIMER {
            self.change_timer_mode(value, now);
        }
        if let Some(entry) = self.lvt.get_mut(index) {
            *entry = value;
        }
        if index == LVT_TIMER { Effect::TimerChanged } else { Effect::None }
    }

    /// A write of the ICR's low half, with the destination in `icr_high`.
    fn send(&mut self, icr: u32) -> Effect {
        // The delivery status is never pending.
        let icr = icr & !(1 << 12);
        self.icr = icr;
        let (mode, vector) = (DeliveryMode::from_register(icr), icr as u8);
        let destination = match (icr >> 18 & 3, icr >> 11 & 1 != 0) {
            (1, _) => Destination::Myself,
            (2, _) => Destination::All,
            (3, _) => Destination::Others,
            (_, true) if self.x2apic_mode() => Destination::Logical(self.icr_high),
            (_, false) if self.x2apic_mode() => Destination::Physical(self.icr_high),
            (_, logical) => Destination::from_field((self.icr_high >> 24) as u8, logical),
        };
        match mode {
            DeliveryMode::Fixed | DeliveryMode::LowestPriority if vector < 16 => {
                self.error(ESR_SEND_ILLEGAL);
                Effect::None
            }
            DeliveryMode::Fixed | DeliveryMode::LowestPriority if destination == Destination::Myself => {
                self.accept_irq(vector, false);
                Effect::None
            }
            // INIT level de-assert has no work to do.
            DeliveryMode::Init if icr & (1 << 15 | 1 << 14) == 1 << 15 => Effect::None,
            // Reserved, or meaningless for an IPI.
            DeliveryMode::Reserved | DeliveryMode::ExtInt | DeliveryMode::Smi => Effect::None,
            _ => Effect::SendIpi(Message { destination, mode, vector, level: false }),
        }
    }
}

fn lvt_index(register: u32) -> usize {
    register.wrapping_sub(reg::LVT_TIMER) as usize
}

fn lvt_writable(register: u32) -> u32 {
    LVT_WRITABLE.get(lvt_index(register)).copied().unwrap_or(0)
}
