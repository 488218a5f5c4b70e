//! `com1=` and `com2=`: `<baud>|auto[/<base-baud>][,[DPS][,[<io-base>|pci|amt][,[<irq>|msi][,...]]]]`.

use crate::Problem;
use crate::value::parse_int;

/// Parity of a serial line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    /// No parity bit.
    None,
    /// Odd.
    Odd,
    /// Even.
    Even,
    /// Always one.
    Mark,
    /// Always zero.
    Space,
}

/// Settings of a serial port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serial {
    /// Bits per second; `None` = leave what the firmware set (`auto`).
    pub baud: Option<u32>,
    /// Input clock of the divisor in Hz / 16, when not the usual 115200.
    pub base_baud: Option<u32>,
    /// 5 to 8.
    pub data_bits: u8,
    /// Parity.
    pub parity: Parity,
    /// 1 or 2.
    pub stop_bits: u8,
    /// First port, when not the usual one.
    pub io_base: Option<u16>,
    /// Interrupt line; 0 = poll.
    pub irq: Option<u8>,
}

impl Default for Serial {
    fn default() -> Self {
        Self {
            baud: None,
            base_baud: None,
            data_bits: 8,
            parity: Parity::None,
            stop_bits: 1,
            io_base: None,
            irq: None,
        }
    }
}

impl Serial {
    /// The 16550's line control register for these settings.
    pub fn line_control(&self) -> u8 {
        let parity = match self.parity {
            Parity::None => 0,
            Parity::Odd => 1,
            Parity::Even => 3,
            Parity::Mark => 5,
            Parity::Space => 7,
        };
        self.data_bits.saturating_sub(5) & 3 | u8::from(self.stop_bits == 2) << 2 | parity << 3
    }
}

pub(crate) fn serial(value: Option<&str>) -> Result<Serial, Problem> {
    let mut fields = value.ok_or(Problem::BadValue)?.split(',');
    let mut port = Serial::default();
    let speed = fields.next().unwrap_or("");
    let (baud, base) = match speed.split_once('/') {
        Some((baud, base)) => (baud, Some(base)),
        None => (speed, None),
    };
    if !matches!(baud, "auto" | "") {
        port.baud = Some(positive(baud)?);
    }
    port.base_baud = base.map(positive).transpose()?;
    if let Some(format) = fields.next().filter(|f| !f.is_empty()) {
        (port.data_bits, port.parity, port.stop_bits) = line_format(format).ok_or(Problem::BadValue)?;
    }
    if let Some(base) = fields.next().filter(|f| !f.is_empty()) {
        if matches!(base, "pci" | "amt") {
            return Err(Problem::Ignored("no PCI serial ports"));
        }
        let base = parse_int(base).and_then(|n| u16::try_from(n).ok()).ok_or(Problem::BadValue)?;
        port.io_base = Some(base);
    }
    if let Some(irq) = fields.next().filter(|f| !matches!(*f, "" | "msi")) {
        port.irq = Some(parse_int(irq).and_then(|n| u8::try_from(n).ok()).ok_or(Problem::BadValue)?);
    }
    Ok(port)
}

fn positive(text: &str) -> Result<u32, Problem> {
    let n = parse_int(text).and_then(|n| u32::try_from(n).ok());
    n.filter(|n| *n > 0).ok_or(Problem::BadValue)
}

fn line_format(text: &str) -> Option<(u8, Parity, u8)> {
    let &[data, parity, stop] = text.as_bytes() else { return None };
    let parity = match parity {
        b'n' => Parity::None,
        b'o' => Parity::Odd,
        b'e' => Parity::Even,
        b'm' => Parity::Mark,
        b's' => Parity::Space,
        _ => return None,
    };
    if !(b'5'..=b'8').contains(&data) || !(b'1'..=b'2').contains(&stop) {
        return None;
    }
    Some((data.wrapping_sub(b'0'), parity, stop.wrapping_sub(b'0')))
}
