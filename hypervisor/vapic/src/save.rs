//! The HVM save records LAPIC and LAPIC_REGS (xen/arch-x86/hvm/save.h).

use radon_addr::Ns;

use crate::base::{BASE_ENABLE, BASE_X2APIC};
use crate::lapic::{LVT_MASKED, LocalApic, SVR_ENABLED};
use crate::registers::reg;

const HW_DISABLED: u32 = 1;
const SW_DISABLED: u32 = 2;

/// `struct hvm_hw_lapic`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedHidden {
    /// IA32_APIC_BASE.
    pub apic_base_msr: u64,
    /// Bit 0: disabled in APIC_BASE; bit 1: disabled in the SVR.
    pub disabled: u32,
    /// Bus cycles per timer count: 1 .. 128.
    pub timer_divisor: u32,
    /// IA32_TSC_DEADLINE.
    pub tdt_msr: u64,
}

/// The saved state cannot be a local APIC's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidState;

impl LocalApic {
    /// Both records: the hidden state and the register page.
    pub fn export(&self, now: Ns) -> (SavedHidden, [u8; 1024]) {
        let mut page = [0; 1024];
        for register in 0..=reg::DIVIDE {
            let at = (register << 4) as usize;
            if let Some(bytes) = page.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<4>()) {
                *bytes = self.register(register, now).to_le_bytes();
            }
        }
        let off = if self.hardware_enabled() { 0 } else { HW_DISABLED };
        let software_off = if self.svr & SVR_ENABLED != 0 { 0 } else { SW_DISABLED };
        let hidden = SavedHidden {
            apic_base_msr: self.base_msr,
            disabled: off | software_off,
            timer_divisor: self.timer.divisor() as u32,
            tdt_msr: self.timer.tsc_deadline,
        };
        (hidden, page)
    }

    /// Takes over both records. A counting timer starts anew at `now`; a TSC-deadline timer needs
    /// [`LocalApic::rearm_tsc_deadline`]. The APIC id stays the one of this vCPU.
    pub fn import(&mut self, hidden: &SavedHidden, page: &[u8; 1024], now: Ns) -> Result<(), InvalidState> {
        if hidden.apic_base_msr & (BASE_ENABLE | BASE_X2APIC) == BASE_X2APIC {
            return Err(InvalidState);
        }
        let get = |register: u32| {
            let at = (register << 4) as usize;
            let bytes = page.get(at..).and_then(|rest| rest.first_chunk::<4>());
            bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
        };
        self.init();
        self.base_msr = hidden.apic_base_msr;
        self.tpr = get(reg::TPR) as u8;
        self.ldr = get(reg::LDR);
        self.dfr = get(reg::DFR) | 0x0fff_ffff;
        self.svr = get(reg::SVR) & 0x3ff;
        self.esr = get(reg::ESR);
        self.icr = get(reg::ICR);
        self.icr_high = get(reg::ICR_HIGH);
        for index in 0..8 {
            // Vectors below 16 cannot be pending or in service.
            let legal = if index == 0 { !0xffff } else { !0 };
            self.irr.set_register(index, get(reg::IRR | index) & legal);
            self.isr.set_register(index, get(reg::ISR | index) & legal);
            self.tmr.set_register(index, get(reg::TMR | index) & legal);
        }
        for (index, entry) in (0u32..).zip(&mut self.lvt) {
            let value = get(reg::LVT_TIMER.wrapping_add(index));
            *entry = if self.svr & SVR_ENABLED == 0 { value | LVT_MASKED } else { value };
        }
        self.timer.divide = get(reg::DIVIDE) & 0b1011;
        self.timer.initial = get(reg::INITIAL_COUNT);
        self.timer.tsc_deadline = hidden.tdt_msr;
        self.restart_timer(now);
        Ok(())
    }
}
