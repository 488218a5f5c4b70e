//! Ways to restart the machine that need no tables.
#![allow(unsafe_code)] // takes the processor's descriptors away

use crate::port;

/// Port of the chipset's reset control register.
const RESET_CONTROL: u16 = 0xcf9;
/// Command port of the keyboard controller.
const KEYBOARD: u16 = 0x64;
const PULSE_RESET: u8 = 0xfe;

/// The reset control register: a hard reset, with a power cycle if wanted.
pub fn pci(power_cycle: bool) {
    let kind: u8 = if power_cycle { 0xe } else { 6 };
    port::out8(RESET_CONTROL, kind & !4);
    port::out8(RESET_CONTROL, kind);
}

/// The keyboard controller's line to the processor's reset.
pub fn keyboard() {
    port::out8(KEYBOARD, PULSE_RESET);
}

/// A processor that cannot deliver an exception shuts down, and the machine resets.
#[cfg(target_os = "none")]
pub fn triple_fault() -> ! {
    let no_idt = [0u16; 5];
    // SAFETY: the breakpoint cannot be delivered without descriptors, so nothing runs after it.
    unsafe { core::arch::asm!("lidt [{}]", "int3", in(reg) &raw const no_idt, options(noreturn)) }
}

/// Ends the simulated machine.
#[cfg(not(target_os = "none"))]
pub fn triple_fault() -> ! {
    crate::cpu::halt_forever()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::take_port_writes;

    #[test]
    fn the_kind_is_set_before_the_trigger() {
        pci(false);
        assert_eq!(take_port_writes(), [(0xcf9, 1, 2), (0xcf9, 1, 6)]);
        pci(true);
        assert_eq!(take_port_writes(), [(0xcf9, 1, 0xa), (0xcf9, 1, 0xe)]);
        keyboard();
        assert_eq!(take_port_writes(), [(0x64, 1, 0xfe)]);
    }
}
