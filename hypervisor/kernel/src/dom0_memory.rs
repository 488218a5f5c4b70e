//! Where dom0's memory is: which machine RAM it gets (1:1, so that its DMA works without an IOMMU), the memory map it
//! sees, and where kernel, initrd, ACPI tables and start info go in it.
//!
//! ```text
//! machine   | RAM  |hole| RAM |radon| RAM ....................... | hole | RAM ......|
//! dom0 sees | RAM  |hole| RAM |resvd| RAM kernel .. info initrd A | hole | unusable  |
//! ```
//! RAM which dom0 does not get is `Unusable` in its map, as under Xen: Linux then puts neither BARs nor foreign mappings there,
//! but above the end of the map.

use alloc::vec::Vec;
use radon_addr::{Gpa, Mfn, PAGE_SHIFT, PAGE_SIZE};

use crate::elf::LoadPlan;

const PAGE: u64 = PAGE_SIZE as u64;
const MIB: u64 = 1 << 20;
/// PVH data must lie below (start_info.h: "Xen on x86 will always try to place all the data below the 4GiB boundary").
const LIMIT: u64 = 1 << 32;
/// Linux's early page tables map this much, and it reads the start info's memory map through them.
const EARLY_MAPPED: u64 = 1 << 30;

/// What a range of addresses is, in the memory maps of firmware and of `XENMEM_memory_map`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemType {
    /// Usable.
    Ram,
    /// Not to be touched.
    Reserved,
    /// ACPI tables.
    Acpi,
    /// ACPI non-volatile storage.
    Nvs,
    /// RAM that must not be used.
    Unusable,
    /// Any other type number.
    Other(u32),
}

impl MemType {
    /// From the E820 (and PVH start info) type number.
    pub const fn from_e820(kind: u32) -> Self {
        match kind {
            1 => Self::Ram,
            2 => Self::Reserved,
            3 => Self::Acpi,
            4 => Self::Nvs,
            5 => Self::Unusable,
            n => Self::Other(n),
        }
    }

    /// The E820 (and PVH start info) type number.
    pub const fn e820(self) -> u32 {
        match self {
            Self::Ram => 1,
            Self::Reserved => 2,
            Self::Acpi => 3,
            Self::Nvs => 4,
            Self::Unusable => 5,
            Self::Other(n) => n,
        }
    }
}

/// Bytes `start..end` of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First byte.
    pub start: u64,
    /// First byte after it.
    pub end: u64,
    /// What it is.
    pub kind: MemType,
}

impl Region {
    /// Bytes.
    pub const fn len(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// No byte at all.
    pub const fn is_empty(&self) -> bool {
        self.end <= self.start
    }
}

/// A run of machine frames that dom0 gets at the same guest frame numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RamRange {
    /// First frame.
    pub start: Mfn,
    /// Frames.
    pub pages: u64,
}

/// Why dom0 cannot be laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The host map is not sorted, or regions overlap.
    BadHostMap,
    /// The host has no RAM to give.
    NoRam,
    /// This part of the kernel (first byte, first byte after) is not in dom0's RAM: taken by the hypervisor or by firmware, or
    /// dom0 has too little memory.
    KernelDoesNotFit(u64, u64),
    /// No room of this many bytes below 4 GiB.
    DoesNotFit(u64),
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Error::BadHostMap => write!(f, "host memory map is not sorted"),
            Error::NoRam => write!(f, "no RAM for dom0"),
            Error::KernelDoesNotFit(s, e) => {
                write!(f, "dom0 has no RAM at {s:#x}-{e:#x}, where its kernel must go")
            }
            Error::DoesNotFit(n) => write!(f, "dom0 has no {n} free bytes below 4 GiB: raise dom0_mem"),
        }
    }
}

impl core::error::Error for Error {}

/// dom0's memory, chosen; then [`Dom0Memory::place`] fills it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dom0Memory {
    /// Machine RAM to map 1:1, sorted, disjoint; ranges split at 2 MiB boundaries only where something else begins.
    pub ram: Vec<RamRange>,
    /// The map dom0 sees, sorted, disjoint.
    pub e820: Vec<Region>,
    /// Sum of `ram`; less than asked for when the host has less.
    pub pages: u64,
    used: Vec<Region>,
}

/// What has to go into dom0's RAM.
#[derive(Clone, Copy, Debug)]
pub struct Dom0Request<'a> {
    /// The kernel.
    pub kernel: &'a LoadPlan<'a>,
    /// Bytes of the initrd, 0 for none.
    pub initrd_len: u64,
    /// Bytes of the ACPI blob (`radon_acpi::build_dom0`), 0 for none.
    pub acpi_len: u64,
    /// Bytes the start info needs besides the memory map: `StartInfo::len` with an empty `memmap`.
    pub start_info_len: u64,
}

/// Where it went; all page-aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// ACPI blob; its pages are `Acpi` in the map (and still RAM in the p2m).
    pub acpi: Option<Gpa>,
    /// Initrd.
    pub initrd: Option<Gpa>,
    /// Start info with the final memory map.
    pub start_info: Gpa,
}

/// Chooses dom0's RAM: the lowest free pages of the host, below 1 MiB as the host map says.
///
/// `host`: sorted and disjoint. `taken`: machine byte ranges (start, end) the hypervisor keeps, in any order; where they
/// cover RAM dom0 sees them as reserved. `pages`: dom0_mem in 4 KiB pages, clamped to what there is.
pub fn dom0_memory_layout(host: &[Region], taken: &[(u64, u64)], pages: u64) -> Result<Dom0Memory, Error> {
    if host.windows(2).any(|w| matches!(w, [a, b] if a.end > b.start)) || host.iter().any(|r| r.end < r.start)
    {
        return Err(Error::BadHostMap);
    }
    // Frames touched by a taken range belong to it as a whole.
    let mut taken: Vec<(u64, u64)> = taken
        .iter()
        .filter(|(s, e)| s < e)
        .map(|&(s, e)| (s & !(PAGE - 1), e.checked_next_multiple_of(PAGE).unwrap_or(!(PAGE - 1))))
        .collect();
    taken.sort_unstable();

    let mut out = Dom0Memory { ram: Vec::new(), e820: Vec::new(), pages: 0, used: Vec::new() };
    for r in host {
        if r.kind != MemType::Ram {
            push(&mut out.e820, *r);
            continue;
        }
        let mut at = r.start.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
        let end = r.end & !(PAGE - 1);
        for &(s, e) in taken.iter().filter(|&&(s, e)| s < end && e > r.start) {
            out.give(at, s, pages);
            let (s, e) = (s.max(at), e.min(end));
            push(&mut out.e820, Region { start: s, end: e, kind: MemType::Reserved });
            at = at.max(e);
        }
        out.give(at, end, pages);
    }
    if out.pages == 0 { Err(Error::NoRam) } else { Ok(out) }
}

impl Dom0Memory {
    /// Free RAM `start..end` (page-aligned): dom0's while it has less than `want` pages, else unusable.
    fn give(&mut self, start: u64, end: u64, want: u64) {
        if start >= end {
            return;
        }
        let pages = ((end - start) >> PAGE_SHIFT).min(want.saturating_sub(self.pages));
        let split = start + (pages << PAGE_SHIFT);
        if pages != 0 {
            self.ram.push(RamRange { start: Mfn::new(start >> PAGE_SHIFT), pages });
            self.pages += pages;
        }
        push(&mut self.e820, Region { start, end: split, kind: MemType::Ram });
        push(&mut self.e820, Region { start: split, end, kind: MemType::Unusable });
    }

    /// Checks that the kernel lies in RAM and finds room, from the top of RAM below 4 GiB downwards, for the ACPI
    /// tables, the initrd and, below 1 GiB, the start info. Nothing goes below 1 MiB.
    pub fn place(&mut self, request: &Dom0Request<'_>) -> Result<Placement, Error> {
        // Linux takes everything from its first to its last segment for its own, gaps included.
        let (start, end) = request.kernel.extent();
        let (start, end) = (start.raw(), end.raw());
        if !self.is_ram(start, end) {
            return Err(Error::KernelDoesNotFit(start, end));
        }
        let end = end.checked_next_multiple_of(PAGE).unwrap_or(end);
        self.used.push(Region { start: start & !(PAGE - 1), end, kind: MemType::Ram });
        let acpi = match request.acpi_len {
            0 => None,
            len => Some(self.take(len, LIMIT)?),
        };
        if let Some(at) = acpi {
            self.retype(at.raw(), at.raw().saturating_add(pages_up(request.acpi_len)?), MemType::Acpi);
        }
        let initrd = match request.initrd_len {
            0 => None,
            len => Some(self.take(len, LIMIT)?),
        };
        let memmap_len = (self.e820.len() as u64).saturating_mul(24);
        let start_info_len = request.start_info_len.saturating_add(memmap_len).max(1);
        let start_info = self.take(start_info_len, EARLY_MAPPED)?;
        Ok(Placement { acpi, initrd, start_info })
    }

    /// All of `start..end` is RAM in dom0's map.
    pub fn is_ram(&self, start: u64, end: u64) -> bool {
        let mut at = start;
        for r in self.e820.iter().filter(|r| r.kind == MemType::Ram) {
            if r.start <= at && at < r.end {
                at = r.end;
            }
        }
        at >= end
    }

    /// Marks whole pages of dom0's RAM below `limit` and above 1 MiB as used, the highest that are free.
    fn take(&mut self, len: u64, limit: u64) -> Result<Gpa, Error> {
        let len = pages_up(len)?;
        let mut best = None;
        for r in self.e820.iter().filter(|r| r.kind == MemType::Ram) {
            let floor = r.start.max(MIB);
            let mut end = r.end.min(limit);
            // Each collision moves the candidate below what it hit, so this ends.
            let found = loop {
                let Some(start) = end.checked_sub(len).filter(|s| *s >= floor) else { break None };
                match self.used.iter().find(|u| u.start < end && start < u.end) {
                    Some(u) => end = u.start,
                    None => break Some(start),
                }
            };
            best = found.or(best);
        }
        let start = best.ok_or(Error::DoesNotFit(len))?;
        self.used.push(Region { start, end: start + len, kind: MemType::Ram });
        Ok(Gpa::new(start))
    }

    /// Gives `start..end`, which lies in one region of the map, another type.
    fn retype(&mut self, start: u64, end: u64, kind: MemType) {
        let mut map = Vec::with_capacity(self.e820.len() + 2);
        for r in self.e820.drain(..) {
            if r.start <= start && end <= r.end {
                push(&mut map, Region { start: r.start, end: start, kind: r.kind });
                push(&mut map, Region { start, end, kind });
                push(&mut map, Region { start: end, end: r.end, kind: r.kind });
            } else {
                push(&mut map, r);
            }
        }
        self.e820 = map;
    }
}

/// Appends a region unless it is empty; joins it with the last one if they touch and are alike.
fn push(map: &mut Vec<Region>, r: Region) {
    if r.is_empty() {
        return;
    }
    match map.last_mut() {
        Some(last) if last.kind == r.kind && last.end == r.start => last.end = r.end,
        _ => map.push(r),
    }
}

fn pages_up(len: u64) -> Result<u64, Error> {
    len.checked_next_multiple_of(PAGE).ok_or(Error::DoesNotFit(len))
}
