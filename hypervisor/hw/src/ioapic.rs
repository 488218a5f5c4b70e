//! The machine's IO-APICs: redirection entries by global system interrupt (GSI).

use crate::lock::{Rank, SpinLock};
use crate::mmio::{self, MmioRegion};
use radon_addr::Maddr;

/// Most IO-APICs that are used.
pub const MAX_IOAPICS: usize = 16;

const SELECT: u64 = 0x00;
const WINDOW: u64 = 0x10;
const VERSION: u8 = 1;
const FIRST_ENTRY: u8 = 0x10;

/// A redirection entry (IO-APIC datasheet, 3.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Vector at the destination.
    pub vector: u8,
    /// Local APIC id (8 bits) of the destination, physical mode.
    pub destination: u8,
    /// Level (true) or edge triggered.
    pub level: bool,
    /// Active low (true) or high.
    pub active_low: bool,
    /// No interrupts are delivered.
    pub masked: bool,
}

impl Route {
    const LEVEL: u64 = 1 << 15;
    const LOW: u64 = 1 << 13;
    const MASKED: u64 = 1 << 16;

    /// The entry's 64 bits: fixed delivery, physical destination.
    pub const fn to_raw(self) -> u64 {
        self.vector as u64
            | if self.active_low { Self::LOW } else { 0 }
            | if self.level { Self::LEVEL } else { 0 }
            | if self.masked { Self::MASKED } else { 0 }
            | (self.destination as u64) << 56
    }

    /// Reads an entry's 64 bits.
    pub const fn from_raw(raw: u64) -> Route {
        Route {
            vector: raw as u8,
            destination: (raw >> 56) as u8,
            level: raw & Self::LEVEL != 0,
            active_low: raw & Self::LOW != 0,
            masked: raw & Self::MASKED != 0,
        }
    }
}

#[derive(Clone, Copy)]
struct IoApic {
    registers: MmioRegion,
    maddr: Maddr,
    gsi_base: u32,
    pins: u32,
}

impl IoApic {
    fn read(&self, register: u8) -> u32 {
        self.registers.write32(SELECT, u32::from(register));
        self.registers.read32(WINDOW)
    }
    fn write(&self, register: u8, value: u32) {
        self.registers.write32(SELECT, u32::from(register));
        self.registers.write32(WINDOW, value);
    }
    fn entry(&self, pin: u8) -> u64 {
        let low = FIRST_ENTRY + 2 * pin;
        u64::from(self.read(low + 1)) << 32 | u64::from(self.read(low))
    }
    /// Writes an entry without ever showing a mixture of old and new: masked first, the low half last.
    fn set_entry(&self, pin: u8, raw: u64) {
        let low = FIRST_ENTRY + 2 * pin;
        self.write(low, Route::MASKED as u32);
        self.write(low + 1, (raw >> 32) as u32);
        self.write(low, raw as u32);
    }
}

/// Leaf lock: nothing is taken while holding it.
static IOAPICS: SpinLock<[Option<IoApic>; MAX_IOAPICS]> = SpinLock::new(Rank(128), [None; MAX_IOAPICS]);

/// Adds an IO-APIC and masks all its pins. Returns the number of pins, or `None` if it cannot be mapped or there
/// are too many.
pub fn add(maddr: Maddr, gsi_base: u32) -> Option<u32> {
    let registers = mmio::map(maddr, 0x20)?;
    let mut all = IOAPICS.lock();
    let slot = all.iter_mut().find(|s| s.is_none())?;
    let mut chip = IoApic { registers, maddr, gsi_base, pins: 0 };
    // The largest entry number has 8 bits, but only 120 entries fit into the register numbers.
    chip.pins = (chip.read(VERSION) >> 16 & 0xff).min(119) + 1;
    for pin in 0..chip.pins as u8 {
        chip.set_entry(pin, Route::MASKED);
    }
    *slot = Some(chip);
    Some(chip.pins)
}

fn with<R>(gsi: u32, f: impl FnOnce(&IoApic, u8) -> R) -> Option<R> {
    let all = IOAPICS.lock();
    let chip = all.iter().flatten().find(|c| gsi.checked_sub(c.gsi_base).is_some_and(|pin| pin < c.pins))?;
    Some(f(chip, (gsi - chip.gsi_base) as u8))
}

/// One more than the highest GSI.
pub fn gsi_count() -> u32 {
    IOAPICS.lock().iter().flatten().map(|c| c.gsi_base.saturating_add(c.pins)).max().unwrap_or(0)
}

/// Machine address, first GSI and pins of the `index`th IO-APIC.
pub fn describe(index: usize) -> Option<(Maddr, u32, u32)> {
    let all = IOAPICS.lock();
    let chip = all.get(index)?.as_ref()?;
    Some((chip.maddr, chip.gsi_base, chip.pins))
}

/// The redirection entry of a GSI, if it exists.
pub fn route(gsi: u32) -> Option<Route> {
    with(gsi, |chip, pin| Route::from_raw(chip.entry(pin)))
}

/// Sets the redirection entry of a GSI; `None` if it does not exist.
pub fn set_route(gsi: u32, route: Route) -> Option<()> {
    with(gsi, |chip, pin| chip.set_entry(pin, route.to_raw()))
}

/// Masks or unmasks a GSI, leaving the rest of its entry alone; `None` if it does not exist.
pub fn set_masked(gsi: u32, masked: bool) -> Option<()> {
    with(gsi, |chip, pin| {
        let low = FIRST_ENTRY + 2 * pin;
        let old = chip.read(low);
        let bit = Route::MASKED as u32;
        chip.write(low, if masked { old | bit } else { old & !bit });
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_round_trip() {
        let r = Route { vector: 0x41, destination: 3, level: true, active_low: true, masked: false };
        assert_eq!(r.to_raw(), 0x0300_0000_0000_a041);
        assert_eq!(Route::from_raw(r.to_raw()), r);
        assert!(Route::from_raw(Route::MASKED).masked);
    }

    #[test]
    fn pins_are_found_by_gsi() {
        // Plain memory stands for the chip: SELECT and WINDOW are two words, so WINDOW holds the last value written.
        let at = crate::sim::fresh_ram(1).maddr();
        assert_eq!(add(at, 24), Some(1));
        assert_eq!((gsi_count(), describe(0)), (25, Some((at, 24, 1))));
        assert!(route(23).is_none() && route(25).is_none());
        assert!(set_masked(24, true).is_some());
        assert_eq!(crate::mem::read::<u32>(at), 0x10);
        assert!(route(24).is_some_and(|r| r.masked));
    }
}
