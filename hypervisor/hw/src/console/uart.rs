//! A 16550 serial port, polled.

use crate::port::{in8, out8};

/// COM1's I/O port.
pub const COM1: u16 = 0x3f8;
/// COM2's I/O port.
pub const COM2: u16 = 0x2f8;

const DATA: u16 = 0;
const IER: u16 = 1;
const FCR: u16 = 2;
const LCR: u16 = 3;
const MCR: u16 = 4;
const LSR: u16 = 5;
const LSR_RX_READY: u8 = 1;
const LSR_TX_EMPTY: u8 = 1 << 5;
const FIFO_BYTES: u8 = 16;
/// Polls before a byte is given up: longer than 16 bytes take at 1200 baud, but not for ever (a dead line must not
/// hang the machine).
const PATIENCE: u32 = 1_000_000;

/// Input clock of most UARTs, divided by 16: the highest speed.
const BASE_BAUD: u32 = 115_200;
/// Line control: 8 data bits, no parity, 1 stop bit.
const LCR_8N1: u8 = 3;
/// Line control: the first two registers are the divisor.
const LCR_DIVISOR: u8 = 0x80;

/// How a serial line is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Bits per second; 0: as the firmware left it.
    pub baud: u32,
    /// Input clock divided by 16.
    pub base_baud: u32,
    /// Line control register: data bits, parity, stop bits.
    pub control: u8,
}

impl Line {
    /// 8n1 at a speed (0: as it is).
    pub const fn plain(baud: u32) -> Line {
        Line { baud, base_baud: BASE_BAUD, control: LCR_8N1 }
    }
}

/// A UART that was there when it was set up.
#[derive(Clone, Copy, Debug)]
pub struct Uart {
    base: u16,
    /// Bytes that certainly fit into the transmit FIFO.
    room: u8,
}

impl Uart {
    /// Sets the port up without interrupts. `None` if there is no UART.
    pub fn init(base: u16, line: Line) -> Option<Uart> {
        if in8(base + LSR) == 0xff {
            return None;
        }
        out8(base + IER, 0);
        let control = line.control & !LCR_DIVISOR;
        if let Some(divisor) = line.base_baud.checked_div(line.baud) {
            let divisor = divisor.clamp(1, 0xffff) as u16;
            out8(base + LCR, control | LCR_DIVISOR);
            out8(base + DATA, divisor as u8);
            out8(base + IER, (divisor >> 8) as u8);
        }
        out8(base + LCR, control);
        out8(base + FCR, 7);
        // DTR, RTS, OUT2.
        out8(base + MCR, 0xb);
        Some(Uart { base, room: 0 })
    }

    /// Sends one byte, waiting for room.
    pub fn send(&mut self, byte: u8) {
        if self.room == 0 {
            for _ in 0..PATIENCE {
                if in8(self.base + LSR) & LSR_TX_EMPTY != 0 {
                    break;
                }
                crate::cpu::pause();
            }
            self.room = FIFO_BYTES;
        }
        self.room -= 1;
        out8(self.base + DATA, byte);
    }

    /// A received byte, if there is one.
    pub fn receive(&mut self) -> Option<u8> {
        let lsr = in8(self.base + LSR);
        (lsr != 0xff && lsr & LSR_RX_READY != 0).then(|| in8(self.base + DATA))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim;

    #[test]
    fn absent_uart_is_noticed() {
        assert!(Uart::init(COM2, Line::plain(115_200)).is_none());
    }

    #[test]
    fn divisor_and_bytes_reach_the_port() {
        sim::set_port(COM1 + LSR, u32::from(LSR_TX_EMPTY));
        let mut u = Uart::init(COM1, Line::plain(9600)).unwrap();
        let setup = sim::take_port_writes();
        assert!(setup.contains(&(COM1, 1, 12)) && setup.contains(&(COM1 + LCR, 1, 3)));
        u.send(b'x');
        assert_eq!(sim::take_port_writes(), [(COM1, 1, u32::from(b'x'))]);
        assert_eq!(u.receive(), None);
        sim::set_port(COM1 + LSR, 0x21);
        sim::set_port(COM1, u32::from(b'y'));
        assert_eq!(u.receive(), Some(b'y'));
        // 7e2 with a faster clock; the speed left alone writes no divisor.
        Uart::init(COM1, Line { baud: 57_600, base_baud: 921_600, control: 0x1e }).unwrap();
        let setup = sim::take_port_writes();
        assert!(setup.contains(&(COM1, 1, 16)) && setup.contains(&(COM1 + LCR, 1, 0x1e)));
        Uart::init(COM1, Line::plain(0)).unwrap();
        assert!(!sim::take_port_writes().contains(&(COM1 + LCR, 1, 0x83)));
    }
}
