//! An I/O APIC: pins, redirection table, remote IRR.

use alloc::vec;
use alloc::vec::Vec;

use crate::message::{DeliveryMode, Destination, Message};

const REG_SELECT: u64 = 0x00;
const REG_WINDOW: u64 = 0x10;
const REG_EOI: u64 = 0x40;

const INDEX_ID: u8 = 0;
const INDEX_VERSION: u8 = 1;
const INDEX_ARBITRATION: u8 = 2;
const INDEX_FIRST_ENTRY: u8 = 0x10;

const DELIVERY_STATUS: u64 = 1 << 12;
const ACTIVE_LOW: u64 = 1 << 13;
const REMOTE_IRR: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;

/// A redirection table entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirection(u64);

impl Redirection {
    /// The 64-bit register pair.
    pub const fn raw(self) -> u64 {
        self.0
    }
    /// Interrupt vector.
    pub const fn vector(self) -> u8 {
        self.0 as u8
    }
    /// Level-triggered.
    pub const fn level(self) -> bool {
        self.0 & LEVEL != 0
    }
    /// Active low.
    pub const fn active_low(self) -> bool {
        self.0 & ACTIVE_LOW != 0
    }
    /// Masked.
    pub const fn masked(self) -> bool {
        self.0 & MASKED != 0
    }
    /// A level-triggered interrupt was sent and has not ended.
    pub const fn remote_irr(self) -> bool {
        self.0 & REMOTE_IRR != 0
    }
    /// The message it sends.
    pub const fn message(self) -> Message {
        Message {
            destination: Destination::from_field((self.0 >> 56) as u8, self.0 & 1 << 11 != 0),
            mode: DeliveryMode::from_register(self.0 as u32),
            vector: self.vector(),
            level: self.level(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Pin {
    entry: Redirection,
    asserted: bool,
}

/// A redirection entry was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinChange {
    /// Pin number.
    pub pin: u8,
    /// Global system interrupt: pin + the I/O APIC's base.
    pub gsi: u32,
    /// Entry after the write.
    pub entry: Redirection,
    /// The write has unmasked the pin: the hardware domain's physical pin is to be bound now.
    pub unmasked: bool,
    /// The write has masked the pin.
    pub newly_masked: bool,
    /// The write has ended the level-triggered interrupt in service, by going to edge mode.
    pub ended: bool,
    /// Deliver this: the pin was waiting.
    pub message: Option<Message>,
}

/// What a register write asks of the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum WriteEffect {
    /// Nothing.
    None,
    /// A pin was reprogrammed.
    Pin(PinChange),
    /// The EOI register was written: call [`IoApic::eoi`] with this vector.
    Eoi(u8),
}

/// A level-triggered pin whose interrupt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinEoi {
    /// Pin number.
    pub pin: u8,
    /// Global system interrupt.
    pub gsi: u32,
    /// The line is still asserted: deliver again.
    pub message: Option<Message>,
}

/// A virtual I/O APIC.
#[derive(Clone, Debug)]
pub struct IoApic {
    id: u8,
    version: u8,
    gsi_base: u32,
    select: u8,
    /// Lines are driven by the machine's own I/O APIC: an EOI lets the line fall, and it interrupts again if still high.
    physical: bool,
    pins: Vec<Pin>,
}

impl IoApic {
    /// `pins` (at most 240) edge-triggered masked pins from `gsi_base` up. `version` is 0x11, or 0x20 to have an EOI register.
    /// `physical`: this one stands for a machine I/O APIC (hardware domain), so lines fall by themselves at EOI.
    pub fn new(id: u8, gsi_base: u32, pins: u8, version: u8, physical: bool) -> Self {
        let pin = Pin { entry: Redirection(MASKED), asserted: false };
        let pins = vec![pin; usize::from(pins.clamp(1, 240))];
        IoApic { id, version, gsi_base, select: 0, physical, pins }
    }

    /// First global system interrupt.
    pub fn gsi_base(&self) -> u32 {
        self.gsi_base
    }

    /// The pin of a global system interrupt.
    pub fn pin_of(&self, gsi: u32) -> Option<u8> {
        let pin = gsi.checked_sub(self.gsi_base)?;
        u8::try_from(pin).ok().filter(|pin| usize::from(*pin) < self.pins.len())
    }

    /// The redirection entry of a pin.
    pub fn entry(&self, pin: u8) -> Option<Redirection> {
        self.pins.get(usize::from(pin)).map(|pin| pin.entry)
    }

    /// Reads the register at `offset` of the page (32 bits).
    pub fn read(&self, offset: u64) -> u32 {
        match offset & 0xff {
            REG_SELECT => u32::from(self.select),
            REG_WINDOW => self.read_window(),
            _ => 0,
        }
    }

    fn read_window(&self) -> u32 {
        match self.select {
            INDEX_ID | INDEX_ARBITRATION => u32::from(self.id) << 24,
            INDEX_VERSION => (self.pins.len().saturating_sub(1) as u32) << 16 | u32::from(self.version),
            select => {
                let entry = self.selected().and_then(|pin| self.entry(pin)).map_or(0, Redirection::raw);
                (if select & 1 != 0 { entry >> 32 } else { entry }) as u32
            }
        }
    }

    fn selected(&self) -> Option<u8> {
        self.select.checked_sub(INDEX_FIRST_ENTRY).map(|index| index >> 1)
    }

    /// Writes the register at `offset` of the page (32 bits).
    pub fn write(&mut self, offset: u64, value: u32) -> WriteEffect {
        match offset & 0xff {
            REG_SELECT => self.select = value as u8,
            REG_EOI if self.version >= 0x20 => return WriteEffect::Eoi(value as u8),
            REG_WINDOW if self.select == INDEX_ID => self.id = (value >> 24) as u8 & 0xf,
            REG_WINDOW => {
                if let Some(pin) = self.selected() {
                    return self.write_entry(pin, self.select & 1 != 0, value);
                }
            }
            _ => {}
        }
        WriteEffect::None
    }

    fn write_entry(&mut self, number: u8, high: bool, value: u32) -> WriteEffect {
        let gsi = self.gsi_base.saturating_add(u32::from(number));
        let Some(pin) = self.pins.get_mut(usize::from(number)) else { return WriteEffect::None };
        let old = pin.entry;
        let mut raw = if high {
            (old.0 & 0xffff_ffff) | u64::from(value) << 32
        } else {
            const READ_ONLY: u64 = REMOTE_IRR | DELIVERY_STATUS;
            (old.0 & (!0xffff_ffff | READ_ONLY)) | (u64::from(value) & 0x1_ffff & !READ_ONLY)
        };
        if raw & LEVEL == 0 {
            // Going to edge mode is a known way to end an interrupt.
            raw &= !REMOTE_IRR;
        }
        pin.entry = Redirection(raw);
        let ended = old.remote_irr() && !pin.entry.remote_irr();
        if ended && self.physical {
            pin.asserted = false;
        }
        let message = if pin.entry.level() { pin.raise() } else { None };
        WriteEffect::Pin(PinChange {
            pin: number,
            gsi,
            entry: pin.entry,
            unmasked: old.masked() && !pin.entry.masked(),
            newly_masked: !old.masked() && pin.entry.masked(),
            ended,
            message,
        })
    }

    /// Sets a pin's line (asserted, whatever its polarity); the message to deliver, if any. An edge on a masked pin is lost.
    pub fn set_line(&mut self, pin: u8, asserted: bool) -> Option<Message> {
        let pin = self.pins.get_mut(usize::from(pin))?;
        let rose = asserted && !pin.asserted;
        if pin.entry.level() {
            pin.asserted = asserted;
            return pin.raise();
        }
        pin.asserted = asserted;
        (rose && !pin.entry.masked()).then(|| pin.entry.message())
    }

    /// A pulse on an edge-triggered pin.
    pub fn pulse(&mut self, pin: u8) -> Option<Message> {
        self.set_line(pin, false);
        let message = self.set_line(pin, true);
        self.set_line(pin, false);
        message
    }

    /// A local APIC ended a level-triggered interrupt with this vector: `ended` is called for each pin it was in service on.
    pub fn eoi(&mut self, vector: u8, mut ended: impl FnMut(PinEoi)) {
        for (number, pin) in (0u8..).zip(&mut self.pins) {
            if pin.entry.vector() != vector || !pin.entry.remote_irr() {
                continue;
            }
            pin.entry.0 &= !REMOTE_IRR;
            if self.physical {
                pin.asserted = false;
            }
            let gsi = self.gsi_base.saturating_add(u32::from(number));
            ended(PinEoi { pin: number, gsi, message: pin.raise() });
        }
    }
}

impl Pin {
    /// Sends a level-triggered interrupt if the line is asserted and none is in service.
    fn raise(&mut self) -> Option<Message> {
        if !self.asserted || self.entry.masked() || self.entry.remote_irr() {
            return None;
        }
        self.entry.0 |= REMOTE_IRR;
        Some(self.entry.message())
    }
}

#[cfg(test)]
#[path = "ioapic_tests.rs"]
mod tests;
