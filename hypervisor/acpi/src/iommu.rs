//! DMAR (Intel) and IVRS (AMD): where the DMA remapping units are, and memory that devices use behind our back.

use alloc::vec::Vec;
use radon_addr::Maddr;

use crate::Error;
use crate::le::{Layout, Records, u8_at, u16_at, u32_at, u64_at};

/// Offset of the first record in both tables.
const RECORDS_AT: usize = 48;

/// Maker of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IommuKind {
    /// VT-d DRHD.
    Intel,
    /// AMD-Vi IVHD.
    Amd,
}

/// One remapping unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IommuUnit {
    /// Maker.
    pub kind: IommuKind,
    /// Register block.
    pub base: Maddr,
    /// PCI segment group.
    pub segment: u16,
    /// PCI requester id of the unit itself (AMD; 0 on Intel).
    pub device_id: u16,
    /// Record type (IVHD 0x10/0x11/0x40, DRHD 0).
    pub record_type: u16,
    /// Record flags (DRHD bit 0: all remaining devices of the segment).
    pub flags: u8,
    /// The whole record as stored, for its device scopes.
    pub record: Vec<u8>,
}

/// Memory a device uses without asking (Intel RMRR, AMD IVMD): must stay identity-mapped for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservedRange {
    /// First byte.
    pub start: Maddr,
    /// Bytes.
    pub len: u64,
}

/// What a DMAR or IVRS table says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remapping {
    /// Units, one per register block (of several AMD records for a block, the one with the highest type).
    pub units: Vec<IommuUnit>,
    /// Device-owned memory.
    pub reserved: Vec<ReservedRange>,
    /// DMAR flags (bit 0: interrupt remapping) or IVRS `IVinfo`, as stored.
    pub info: u32,
}

impl Remapping {
    /// Parses a whole DMAR table (VT-d specification §8).
    pub fn parse_dmar(b: &[u8]) -> Result<Remapping, Error> {
        let bad = Error::BadLength(*b"DMAR");
        let mut out = Remapping { info: u8_at(b, 37).ok_or(bad)?.into(), ..Remapping::default() };
        for record in Records::new(b.get(RECORDS_AT..).ok_or(bad)?, Layout::Word) {
            let (kind, e) = record.ok_or(bad)?;
            out.dmar_record(kind, e).ok_or(bad)?;
        }
        out.checked(*b"DMAR")
    }

    fn dmar_record(&mut self, kind: u16, e: &[u8]) -> Option<()> {
        match kind {
            0 => self.units.push(IommuUnit {
                kind: IommuKind::Intel,
                base: Maddr::new(u64_at(e, 8)?),
                segment: u16_at(e, 6)?,
                device_id: 0,
                record_type: kind,
                flags: u8_at(e, 4)?,
                record: e.into(),
            }),
            1 => {
                let (start, last) = (u64_at(e, 8)?, u64_at(e, 16)?);
                let len = last.checked_sub(start)?.checked_add(1)?;
                self.reserved.push(ReservedRange { start: Maddr::new(start), len });
            }
            _ => {}
        }
        Some(())
    }

    /// Parses a whole IVRS table (AMD I/O Virtualization Technology specification §5.2).
    pub fn parse_ivrs(b: &[u8]) -> Result<Remapping, Error> {
        let bad = Error::BadLength(*b"IVRS");
        let mut out = Remapping { info: u32_at(b, 36).ok_or(bad)?, ..Remapping::default() };
        for record in Records::new(b.get(RECORDS_AT..).ok_or(bad)?, Layout::Ivrs) {
            let (kind, e) = record.ok_or(bad)?;
            out.ivrs_record(kind, e).ok_or(bad)?;
        }
        out.checked(*b"IVRS")
    }

    fn ivrs_record(&mut self, kind: u16, e: &[u8]) -> Option<()> {
        match kind {
            0x10 | 0x11 | 0x40 => {
                let unit = IommuUnit {
                    kind: IommuKind::Amd,
                    base: Maddr::new(u64_at(e, 8)?),
                    segment: u16_at(e, 16)?,
                    device_id: u16_at(e, 4)?,
                    record_type: kind,
                    flags: u8_at(e, 1)?,
                    record: e.into(),
                };
                match self.units.iter_mut().find(|u| u.base == unit.base) {
                    Some(u) if u.record_type < kind => *u = unit,
                    Some(_) => {}
                    None => self.units.push(unit),
                }
            }
            0x20..=0x22 => {
                self.reserved.push(ReservedRange { start: Maddr::new(u64_at(e, 16)?), len: u64_at(e, 24)? });
            }
            _ => {}
        }
        Some(())
    }

    fn checked(self, sig: [u8; 4]) -> Result<Remapping, Error> {
        let wraps = |r: &ReservedRange| r.start.checked_add(r.len).is_none();
        let no_base = self.units.iter().any(|u| u.base.raw() == 0);
        if no_base || self.reserved.iter().any(wraps) { Err(Error::BadValue(sig)) } else { Ok(self) }
    }
}
