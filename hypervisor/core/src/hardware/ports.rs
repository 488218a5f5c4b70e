//! I/O ports that the hardware domain does not reach directly.

use alloc::sync::Arc;

use radon_cmdline::ConsoleDevice;
use radon_hw::{console, port};
use radon_vpci::VirtualPci;

use super::pci;
use crate::domain::Domain;
use crate::machine;

/// Ports of a UART.
const UART_PORTS: u16 = 8;

/// First port of the UART that the hypervisor's console uses.
fn console_uart() -> Option<u16> {
    let Some(facts) = machine::facts() else { return Some(console::COM1) };
    facts.options.console.iter().find_map(|device| {
        let (usual, settings) = match device {
            ConsoleDevice::Com1 => (console::COM1, facts.options.com1),
            ConsoleDevice::Com2 => (console::COM2, facts.options.com2),
            _ => return None,
        };
        Some(settings.and_then(|s| s.io_base).unwrap_or(usual))
    })
}

/// Ports whose accesses exit: interrupt controllers and PIT (hidden), the console's UART (hidden), PCI configuration.
pub fn port_is_kept(port: u16) -> bool {
    matches!(port, 0x20 | 0x21 | 0xa0 | 0xa1 | 0x40..=0x43 | 0x61 | 0x4d0 | 0x4d1 | 0xcf8..=0xcff)
        || console_uart().is_some_and(|uart| port.checked_sub(uart).is_some_and(|n| n < UART_PORTS))
}

/// The reset control register and its neighbours share the ports of PCI configuration.
fn passes_through(port: u16) -> bool {
    (0xcf8..=0xcfb).contains(&port)
}

/// A port read that exited; the caller truncates it to `size` bytes.
pub fn port_read(domain: &Domain, port: u16, size: u8) -> u64 {
    let Some(hardware) = domain.hardware.get() else { return u64::MAX };
    if VirtualPci::claims_port(port, size) {
        return u64::from(hardware.pci.lock().port_read(port, size));
    }
    match size {
        _ if !passes_through(port) => u64::MAX,
        1 => u64::from(port::in8(port)),
        2 => u64::from(port::in16(port)),
        _ => u64::from(port::in32(port)),
    }
}

/// A port write that exited.
pub fn port_write(domain: &Arc<Domain>, port: u16, size: u8, value: u64) {
    let Some(hardware) = domain.hardware.get() else { return };
    if VirtualPci::claims_port(port, size) {
        pci::port_write(domain, hardware, port, size, value as u32);
        return;
    }
    match size {
        _ if !passes_through(port) => {}
        1 => port::out8(port, value as u8),
        2 => port::out16(port, value as u16),
        _ => port::out32(port, value as u32),
    }
}
