//! The MSI-X capability and its table.

use alloc::vec;
use alloc::vec::Vec;

use radon_addr::Maddr;

use crate::bars::Bar;
use crate::pages::Pages;
use crate::{ConfigAccess, Effect, Effects, MsiSlot, Sbdf};

pub(crate) const CAPABILITY: u8 = 0x11;
const ENABLE: u32 = 1 << 15;
const MASK_ALL: u32 = 1 << 14;
const TABLE_SIZE: u32 = 0x7ff;
const ENTRY_SIZE: u64 = 16;
const ENTRY_MASKED: u32 = 1;

#[derive(Clone, Copy, Debug)]
struct Entry {
    address: u64,
    data: u32,
    masked: bool,
    /// The core was told to keep a vector for it.
    bound: bool,
}

/// Virtual state of a function's MSI-X capability.
#[derive(Debug)]
pub(crate) struct Msix {
    position: u16,
    bar: u8,
    offset: u64,
    enabled: bool,
    mask_all: bool,
    entries: Vec<Entry>,
    /// Where the table is now, when memory decoding is on.
    table: Option<u64>,
}

impl Msix {
    pub(crate) fn probe(hw: &mut dyn ConfigAccess, sbdf: Sbdf, position: u16) -> Self {
        let register = position.wrapping_add(2);
        let control = hw.read(sbdf, register, 2);
        if control & (ENABLE | MASK_ALL) != 0 {
            hw.write(sbdf, register, 2, control & !(ENABLE | MASK_ALL));
        }
        let table = hw.read(sbdf, position.wrapping_add(4), 4);
        let entry = Entry { address: 0, data: 0, masked: true, bound: false };
        Msix {
            position,
            bar: (table & 7) as u8,
            offset: u64::from(table & !7),
            enabled: false,
            mask_all: false,
            entries: vec![entry; (control & TABLE_SIZE) as usize + 1],
            table: None,
        }
    }

    /// Offset of the (2-byte) control register.
    pub(crate) fn control_register(&self) -> u16 {
        self.position.wrapping_add(2)
    }

    pub(crate) fn control(&self) -> u32 {
        (self.entries.len().saturating_sub(1) as u32 & TABLE_SIZE)
            | if self.enabled { ENABLE } else { 0 }
            | if self.mask_all { MASK_ALL } else { 0 }
    }

    pub(crate) fn write_control(
        &mut self,
        hw: &mut dyn ConfigAccess,
        sbdf: Sbdf,
        value: u32,
        effects: Effects<'_>,
    ) {
        let enable = value & ENABLE != 0;
        let changed = enable != self.enabled;
        self.enabled = enable;
        self.mask_all = value & MASK_ALL != 0;
        // The machine's entries are masked until the core programs them, so it may be enabled first.
        hw.write(sbdf, self.control_register(), 2, self.control());
        if changed {
            for index in 0..self.entries.len() {
                self.update(sbdf, index, effects);
            }
        }
    }

    /// Tells the core about an entry, if it is or was of interest.
    fn update(&mut self, sbdf: Sbdf, index: usize, effects: Effects<'_>) {
        let enabled = self.enabled;
        let Some(slot) = self.slot(index) else { return };
        let Some(entry) = self.entries.get_mut(index) else { return };
        let active = enabled && (entry.bound || !entry.masked);
        if !active && !entry.bound {
            return;
        }
        entry.bound = active;
        let Entry { address, data, masked, .. } = *entry;
        effects(Effect::MsiUpdate { sbdf, slot, active, masked, address, data });
    }

    fn slot(&self, index: usize) -> Option<MsiSlot> {
        let offset = (index as u64).checked_mul(ENTRY_SIZE)?;
        let entry = self.table.and_then(|table| table.checked_add(offset)).map(Maddr::new);
        Some(MsiSlot::Msix { index: u16::try_from(index).ok()?, entry })
    }

    fn size(&self) -> u64 {
        (self.entries.len() as u64).saturating_mul(ENTRY_SIZE)
    }

    /// Memory decoding was switched on with these BARs, or off (`None`).
    pub(crate) fn place(&mut self, bars: Option<&[Bar]>) {
        let bar = bars.and_then(|bars| bars.iter().find(|bar| bar.index == self.bar));
        self.table = bar.and_then(|bar| {
            let end = self.offset.checked_add(self.size())?;
            (end <= bar.size).then(|| bar.address.checked_add(self.offset))?
        });
    }

    /// The pages to trap.
    pub(crate) fn pages(&self) -> Option<Pages> {
        Pages::covering(self.table?, self.size())
    }

    /// Offset into the table of an access at `address`; `None`: it shares a page with the table, but is not in it.
    pub(crate) fn table_offset(&self, address: u64) -> Option<u64> {
        let offset = address.checked_sub(self.table?)?;
        (offset < self.size()).then_some(offset)
    }

    /// Reads `size` bytes of the table; anything but aligned 4 or 8 bytes reads all ones.
    pub(crate) fn read_table(&self, offset: u64, size: u8) -> u64 {
        let Some((index, field)) = locate(offset, size) else { return u64::MAX };
        let Some(entry) = self.entries.get(index) else { return u64::MAX };
        let control = u64::from(if entry.masked { ENTRY_MASKED } else { 0 });
        let word = match field {
            0 => entry.address,
            4 => entry.address >> 32,
            8 => u64::from(entry.data) | control << 32,
            _ => control,
        };
        if size == 8 { word } else { word & 0xffff_ffff }
    }

    /// Writes `size` bytes of the table; anything but aligned 4 or 8 bytes is ignored.
    ///
    /// A new address or datum counts from the next write that leaves the entry unmasked (the specification allows such
    /// changes only while masked).
    pub(crate) fn write_table(
        &mut self,
        sbdf: Sbdf,
        offset: u64,
        size: u8,
        value: u64,
        effects: Effects<'_>,
    ) {
        let Some((index, field)) = locate(offset, size) else { return };
        let Some(entry) = self.entries.get_mut(index) else { return };
        let (low, high) = (value & 0xffff_ffff, value >> 32);
        let control = match field {
            0 if size == 8 => {
                entry.address = value;
                None
            }
            0 => {
                entry.address = (entry.address & !0xffff_ffff) | low;
                None
            }
            4 => {
                entry.address = (entry.address & 0xffff_ffff) | low << 32;
                None
            }
            8 => {
                entry.data = low as u32;
                (size == 8).then_some(high)
            }
            _ => Some(low),
        };
        if let Some(control) = control {
            let masked = control & u64::from(ENTRY_MASKED) != 0;
            // Repeated unmasking is passed on: the device may have been reset in between.
            let worth_telling = masked != entry.masked || !masked;
            entry.masked = masked;
            if worth_telling && self.enabled {
                self.update(sbdf, index, effects);
            }
        }
    }
}

/// Entry number and offset within the entry of a legal table access.
fn locate(offset: u64, size: u8) -> Option<(usize, u64)> {
    let aligned = matches!(size, 4 | 8) && offset.is_multiple_of(u64::from(size));
    aligned.then(|| (usize::try_from(offset / ENTRY_SIZE).unwrap_or(usize::MAX), offset % ENTRY_SIZE))
}
