//! The local APIC, by MMIO or by MSR, whichever mode it is in.

use crate::{cpu, memory};

/// Register numbers: MSR = 0x800 + number, MMIO = base + 16 * number.
#[allow(missing_docs, reason = "the architecture's names")]
pub mod register {
    pub const ID: u32 = 0x2;
    pub const VERSION: u32 = 0x3;
    pub const TPR: u32 = 0x8;
    pub const PPR: u32 = 0xa;
    pub const EOI: u32 = 0xb;
    pub const LDR: u32 = 0xd;
    pub const DFR: u32 = 0xe;
    pub const SPURIOUS: u32 = 0xf;
    pub const ISR: u32 = 0x10;
    pub const TMR: u32 = 0x18;
    pub const IRR: u32 = 0x20;
    pub const ERROR: u32 = 0x28;
    pub const ICR: u32 = 0x30;
    pub const ICR_HIGH: u32 = 0x31;
    pub const TIMER: u32 = 0x32;
    pub const LINT0: u32 = 0x35;
    pub const TIMER_INITIAL: u32 = 0x38;
    pub const TIMER_CURRENT: u32 = 0x39;
    pub const TIMER_DIVIDE: u32 = 0x3e;
    pub const SELF_IPI: u32 = 0x3f;
}

/// MSR that says where the APIC is and in which mode.
pub const APIC_BASE: u32 = 0x1b;
/// Bits of [`APIC_BASE`].
#[allow(missing_docs, reason = "the architecture's names")]
pub mod base {
    pub const BSP: u64 = 1 << 8;
    pub const X2APIC: u64 = 1 << 10;
    pub const ENABLE: u64 = 1 << 11;
    pub const ADDRESS: u64 = 0xfee0_0000;
}

/// APIC id by CPUID leaf 1.
pub fn initial_id() -> u32 {
    cpu::cpuid(1, 0)[1] >> 24
}

/// Whether this CPU's APIC is in x2APIC mode.
pub fn is_x2apic() -> bool {
    cpu::rdmsr(APIC_BASE) & base::X2APIC != 0
}

/// Switches this CPU to x2APIC mode.
pub fn enable_x2apic() {
    cpu::wrmsr(APIC_BASE, cpu::rdmsr(APIC_BASE) | base::X2APIC | base::ENABLE);
}

/// Switches this CPU from x2APIC to xAPIC mode, through off.
pub fn enable_xapic() {
    let value = cpu::rdmsr(APIC_BASE) & !(base::X2APIC | base::ENABLE);
    cpu::wrmsr(APIC_BASE, value);
    cpu::wrmsr(APIC_BASE, value | base::ENABLE);
}

/// Reads a register through MMIO.
#[inline(always)]
pub fn mmio_read(register: u32) -> u32 {
    memory::read(base::ADDRESS + 16 * u64::from(register))
}

/// Writes a register through MMIO.
#[inline(always)]
pub fn mmio_write(register: u32, value: u32) {
    memory::write(base::ADDRESS + 16 * u64::from(register), value);
}

/// Reads a register in the APIC's mode.
pub fn get(register: u32) -> u32 {
    if is_x2apic() { cpu::rdmsr(0x800 + register) as u32 } else { mmio_read(register) }
}

/// Writes a register in the APIC's mode.
pub fn set(register: u32, value: u32) {
    if is_x2apic() {
        cpu::wrmsr(0x800 + register, u64::from(value));
    } else {
        mmio_write(register, value);
    }
}

/// Enables the APIC by software, all vectors welcome.
pub fn enable() {
    set(register::SPURIOUS, 0x1ff);
    set(register::TPR, 0);
}

/// End of interrupt.
pub fn eoi() {
    set(register::EOI, 0);
}

/// Sends an interrupt command: `low` as in the ICR, to the APIC with id `destination`.
pub fn command(destination: u32, low: u32) {
    if is_x2apic() {
        cpu::wrmsr(0x800 + register::ICR, u64::from(destination) << 32 | u64::from(low));
    } else {
        mmio_write(register::ICR_HIGH, destination << 24);
        mmio_write(register::ICR, low);
    }
}

/// Whether the bit of `vector` is set in the 256-bit register that starts at `first` (ISR, IRR, TMR).
pub fn bit(first: u32, vector: u8) -> bool {
    get(first + u32::from(vector / 32)) >> (vector % 32) & 1 != 0
}
