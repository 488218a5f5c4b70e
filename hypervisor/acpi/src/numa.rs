//! SRAT and SLIT: which CPUs and memory are close to each other (ACPI 6.5 §5.2.16, §5.2.17).

use alloc::vec::Vec;
use radon_addr::Maddr;

use crate::Error;
use crate::le::{Layout, Records, u8_at, u32_at, u64_at};
use crate::tables::HEADER_LEN;

/// Proximity domain of one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuAffinity {
    /// APIC id.
    pub apic_id: u32,
    /// Proximity domain.
    pub domain: u32,
}

/// Proximity domain of one memory range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryAffinity {
    /// First byte.
    pub start: Maddr,
    /// Bytes.
    pub len: u64,
    /// Proximity domain.
    pub domain: u32,
    /// The range may be empty now and filled later.
    pub hotplug: bool,
}

/// The enabled entries of a SRAT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Srat {
    /// CPUs.
    pub cpus: Vec<CpuAffinity>,
    /// Memory ranges, never wrapping.
    pub memory: Vec<MemoryAffinity>,
}

impl Srat {
    /// Parses a whole table.
    pub fn parse(b: &[u8]) -> Result<Srat, Error> {
        let bad = Error::BadLength(*b"SRAT");
        // Revision 1 had an 8-bit domain; the other three bytes were reserved and may hold garbage.
        let wide = u8_at(b, 8).ok_or(bad)? >= 2;
        let mut srat = Srat::default();
        for record in Records::new(b.get(HEADER_LEN + 12..).ok_or(bad)?, Layout::Byte) {
            let (kind, e) = record.ok_or(bad)?;
            srat.entry(kind, e, wide).ok_or(bad)?;
        }
        if srat.memory.iter().any(|m| m.start.checked_add(m.len).is_none()) {
            return Err(Error::BadValue(*b"SRAT"));
        }
        Ok(srat)
    }

    fn entry(&mut self, kind: u16, e: &[u8], wide: bool) -> Option<()> {
        let narrow = |d: u32| if wide { d } else { d & 0xff };
        match kind {
            0 if u32_at(e, 4)? & 1 != 0 => {
                let domain = narrow(u32::from(u8_at(e, 2)?) | (u32_at(e, 8)? & 0xffff_ff00));
                self.cpus.push(CpuAffinity { apic_id: u8_at(e, 3)?.into(), domain });
            }
            1 if u32_at(e, 28)? & 1 != 0 => self.memory.push(MemoryAffinity {
                start: Maddr::new(u64_at(e, 8)?),
                len: u64_at(e, 16)?,
                domain: narrow(u32_at(e, 2)?),
                hotplug: u32_at(e, 28)? & 2 != 0,
            }),
            2 if u32_at(e, 12)? & 1 != 0 => {
                self.cpus.push(CpuAffinity { apic_id: u32_at(e, 8)?, domain: u32_at(e, 4)? });
            }
            _ => {}
        }
        Some(())
    }
}

/// Distance matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slit {
    localities: usize,
    matrix: Vec<u8>,
}

impl Slit {
    /// Parses a whole table.
    pub fn parse(b: &[u8]) -> Result<Slit, Error> {
        let bad = Error::BadLength(*b"SLIT");
        let localities = usize::try_from(u64_at(b, HEADER_LEN).ok_or(bad)?).map_err(|_| bad)?;
        let cells = localities.checked_mul(localities).ok_or(bad)?;
        let matrix = b.get(HEADER_LEN + 8..).and_then(|m| m.get(..cells)).ok_or(bad)?;
        Ok(Slit { localities, matrix: matrix.into() })
    }

    /// How many proximity domains the matrix covers.
    pub fn localities(&self) -> usize {
        self.localities
    }

    /// Relative distance (10 = local, 255 = unreachable); `None` outside the matrix.
    pub fn distance(&self, from: usize, to: usize) -> Option<u8> {
        if to >= self.localities {
            return None;
        }
        self.matrix.get(from.checked_mul(self.localities)?.checked_add(to)?).copied()
    }
}
