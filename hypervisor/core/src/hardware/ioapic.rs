//! The hardware domain's virtual IO-APICs and the machine's pins behind them.
//!
//! A pin gets a physical vector when the domain first unmasks it and keeps it for ever, so that no remote IRR bit of the
//! machine can lose the vector whose acknowledgement clears it. The machine's pin is masked while the virtual one is, and
//! while a level-triggered interrupt is in service in the domain.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry as Slot;
use alloc::vec::Vec;

use radon_addr::{CpuId, Gpa, Maddr, PAGE_SIZE};
use radon_hw::ioapic::{self, Route};
use radon_vapic::{IoApic, Message, PinChange, WriteEffect};

use super::interrupts::{Source, Vectors};

/// The machine's IO-APIC pins, by global system interrupt.
pub trait Pins {
    /// Programs a pin.
    fn set_route(&mut self, gsi: u32, route: Route);
    /// Masks or unmasks a pin.
    fn set_masked(&mut self, gsi: u32, masked: bool);
}

/// The real ones.
pub struct MachinePins;

impl Pins for MachinePins {
    fn set_route(&mut self, gsi: u32, route: Route) {
        let _ = ioapic::set_route(gsi, route);
    }
    fn set_masked(&mut self, gsi: u32, masked: bool) {
        let _ = ioapic::set_masked(gsi, masked);
    }
}

/// A pin that has a physical vector.
struct Line {
    /// The machine's entry as it is now.
    route: Route,
    /// The virtual pin is masked.
    masked: bool,
    /// A level-triggered interrupt was delivered and has not ended.
    in_service: bool,
}

impl Line {
    /// Brings the machine's entry up to date.
    fn sync(&mut self, gsi: u32, wanted: Route, pins: &mut impl Pins) {
        let wanted = Route { masked: self.masked || self.in_service, ..wanted };
        if wanted == self.route {
            return;
        }
        if (Route { masked: wanted.masked, ..self.route }) == wanted {
            pins.set_masked(gsi, wanted.masked);
        } else {
            pins.set_route(gsi, wanted);
        }
        self.route = wanted;
    }

    fn sync_mask(&mut self, gsi: u32, pins: &mut impl Pins) {
        self.sync(gsi, self.route, pins);
    }
}

/// Virtual IO-APICs and bound pins.
pub struct Lines<P> {
    ioapics: Vec<(Maddr, IoApic)>,
    bound: BTreeMap<u32, Line>,
    pins: P,
}

impl<P: Pins> Lines<P> {
    /// Nothing bound. `ioapics`: virtual ones by machine address.
    pub fn new(ioapics: Vec<(Maddr, IoApic)>, pins: P) -> Lines<P> {
        Lines { ioapics, bound: BTreeMap::new(), pins }
    }

    fn at(&mut self, gpa: Gpa) -> Option<(&mut IoApic, u64)> {
        self.ioapics.iter_mut().find_map(|(at, model)| {
            let offset = gpa.raw().checked_sub(at.raw()).filter(|&o| o < PAGE_SIZE as u64)?;
            Some((model, offset))
        })
    }

    /// Reads a register of the IO-APIC at `gpa`, if one is there.
    pub fn read(&mut self, gpa: Gpa) -> Option<u32> {
        self.at(gpa).map(|(model, offset)| model.read(offset))
    }

    /// Writes a register of the IO-APIC at `gpa`, if one is there; the interrupt to deliver now.
    pub fn write(&mut self, gpa: Gpa, value: u32, vectors: &mut Vectors) -> Option<Option<Message>> {
        let (model, offset) = self.at(gpa)?;
        match model.write(offset, value) {
            WriteEffect::None => Some(None),
            // Versions with an EOI register are not offered.
            WriteEffect::Eoi(_) => Some(None),
            WriteEffect::Pin(change) => {
                self.changed(change, vectors);
                Some(change.message)
            }
        }
    }

    fn changed(&mut self, change: PinChange, vectors: &mut Vectors) {
        let (gsi, entry) = (change.gsi, change.entry);
        let line = match self.bound.entry(gsi) {
            Slot::Occupied(known) => known.into_mut(),
            Slot::Vacant(_) if entry.masked() => return,
            Slot::Vacant(new) => {
                // Lines are few and shared: they go to the boot CPU, as long as it has vectors.
                let Some((at, destination)) = vectors.bind(Source::Line(gsi), CpuId::new(0)) else {
                    radon_hw::warn!("GSI {gsi}: all interrupt vectors are in use");
                    return;
                };
                let (level, active_low) = (false, false);
                let route = Route { vector: at.vector, destination, level, active_low, masked: true };
                self.pins.set_route(gsi, route);
                new.insert(Line { route, masked: true, in_service: false })
            }
        };
        line.masked = entry.masked();
        if change.ended {
            line.in_service = false;
        }
        if change.message.is_some() && entry.level() {
            line.in_service = true;
        }
        let wanted = Route { level: entry.level(), active_low: entry.active_low(), ..line.route };
        line.sync(gsi, wanted, &mut self.pins);
    }

    /// The machine's pin has interrupted: quiets it if it is level-triggered; the interrupt to deliver.
    pub fn arrived(&mut self, gsi: u32) -> Option<Message> {
        let line = self.bound.get_mut(&gsi)?;
        let (model, pin) = self.ioapics.iter_mut().find_map(|(_, m)| m.pin_of(gsi).map(|pin| (m, pin)))?;
        if !line.route.level {
            return model.pulse(pin);
        }
        let message = model.set_line(pin, true);
        line.in_service = message.is_some() || model.entry(pin).is_some_and(|e| e.remote_irr());
        if !line.in_service {
            // Masked since it was sent: it comes again when it is unmasked, if the line is still up then.
            let _ = model.set_line(pin, false);
        }
        line.sync_mask(gsi, &mut self.pins);
        message
    }

    /// A local APIC ended a level-triggered interrupt: lets its pins loose; interrupts to deliver again.
    pub fn end_of_interrupt(&mut self, vector: u8) -> Vec<Message> {
        let Lines { ioapics, bound, pins } = self;
        let mut again = Vec::new();
        for (_, model) in ioapics {
            model.eoi(vector, |ended| {
                if let Some(line) = bound.get_mut(&ended.gsi) {
                    line.in_service = ended.message.is_some();
                    line.sync_mask(ended.gsi, pins);
                }
                again.extend(ended.message);
            });
        }
        again
    }
}

#[cfg(test)]
#[path = "ioapic_tests.rs"]
mod tests;
