//! HPET and MCFG.

use alloc::vec::Vec;
use radon_addr::Maddr;

use crate::le::{u8_at, u16_at, u32_at, u64_at};
use crate::tables::HEADER_LEN;
use crate::{AddressSpace, Error, Register};

/// High-precision event timer (IA-PC HPET 1.0a §3.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hpet {
    /// Register block.
    pub base: Maddr,
    /// Event timer block id (PCI vendor in bits 16-31, comparator count - 1 in 8-12).
    pub id: u32,
    /// Which HPET this is.
    pub number: u8,
    /// Smallest period without lost interrupts, in ticks.
    pub min_tick: u16,
}

impl Hpet {
    /// Parses a whole table; only a memory-mapped block is accepted.
    pub fn parse(b: &[u8]) -> Result<Hpet, Error> {
        let bad = Error::BadLength(*b"HPET");
        let base = Register::at(b, 40).ok_or(bad)?;
        if base.space != AddressSpace::Memory || base.address == 0 {
            return Err(Error::BadValue(*b"HPET"));
        }
        Ok(Hpet {
            base: Maddr::new(base.address),
            id: u32_at(b, 36).ok_or(bad)?,
            number: u8_at(b, 52).ok_or(bad)?,
            min_tick: u16_at(b, 53).ok_or(bad)?,
        })
    }
}

/// One memory-mapped PCI configuration window (PCI Firmware 3.3 §4.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct McfgSegment {
    /// Address of bus 0 (not of `start_bus`): a function lies at `base + (bus << 20 | devfn << 12)`.
    pub base: Maddr,
    /// PCI segment group.
    pub segment: u16,
    /// First bus decoded.
    pub start_bus: u8,
    /// Last bus decoded.
    pub end_bus: u8,
}

impl McfgSegment {
    /// The decoded machine range as (first byte, length).
    pub fn range(&self) -> Option<(Maddr, u64)> {
        let len = (u64::from(self.end_bus) - u64::from(self.start_bus) + 1) << 20;
        let start = self.base.checked_add(u64::from(self.start_bus) << 20)?;
        start.checked_add(len)?;
        Some((start, len))
    }
}

/// Parses a whole MCFG table. A window at address 0, or with `end_bus < start_bus`, or a partial entry is an error.
pub fn parse_mcfg(b: &[u8]) -> Result<Vec<McfgSegment>, Error> {
    let bad = Error::BadLength(*b"MCFG");
    let entries = b.get(HEADER_LEN + 8..).ok_or(bad)?;
    let mut list = Vec::new();
    for e in entries.chunks(16) {
        if e.len() < 16 {
            return Err(bad);
        }
        let s = McfgSegment {
            base: Maddr::new(u64_at(e, 0).ok_or(bad)?),
            segment: u16_at(e, 8).ok_or(bad)?,
            start_bus: u8_at(e, 10).ok_or(bad)?,
            end_bus: u8_at(e, 11).ok_or(bad)?,
        };
        if s.base.raw() == 0 || s.end_bus < s.start_bus || s.range().is_none() {
            return Err(Error::BadValue(*b"MCFG"));
        }
        list.push(s);
    }
    Ok(list)
}
