//! The memory map: kinds, regions, and putting a loader's list in order.

use alloc::vec::Vec;
use radon_addr::Maddr;

/// What a range of machine memory is. Ordered: where ranges overlap, the greater (more restrictive) kind wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MemKind {
    /// Free for use.
    Ram,
    /// ACPI tables; RAM again once they are read.
    AcpiReclaim,
    /// Belongs to the firmware, must be preserved.
    AcpiNvs,
    /// Not to be touched.
    Reserved,
    /// Broken memory.
    Unusable,
}

impl MemKind {
    const ALL: [MemKind; 5] =
        [MemKind::Ram, MemKind::AcpiReclaim, MemKind::AcpiNvs, MemKind::Reserved, MemKind::Unusable];

    /// From an address range type of the E820 interface (ACPI 6.4, table 15-4); unknown types are reserved.
    pub const fn from_e820(kind: u32) -> Self {
        match kind {
            1 => MemKind::Ram,
            3 => MemKind::AcpiReclaim,
            4 => MemKind::AcpiNvs,
            5 => MemKind::Unusable,
            _ => MemKind::Reserved,
        }
    }

    /// The E820 type of this kind.
    pub const fn e820(self) -> u32 {
        match self {
            MemKind::Ram => 1,
            MemKind::Reserved => 2,
            MemKind::AcpiReclaim => 3,
            MemKind::AcpiNvs => 4,
            MemKind::Unusable => 5,
        }
    }

    /// The name printed in the memory map.
    pub const fn name(self) -> &'static str {
        match self {
            MemKind::Ram => "usable",
            MemKind::Reserved => "reserved",
            MemKind::AcpiReclaim => "ACPI data",
            MemKind::AcpiNvs => "ACPI NVS",
            MemKind::Unusable => "unusable",
        }
    }
}

/// `len` bytes of one kind from `start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemRegion {
    /// First byte.
    pub start: Maddr,
    /// Bytes; never 0 in a normalised map.
    pub len: u64,
    /// What it is.
    pub kind: MemKind,
}

impl MemRegion {
    /// One past the last byte.
    pub const fn end(&self) -> Maddr {
        Maddr::new(self.start.raw().saturating_add(self.len))
    }
}

/// End of the architectural physical address space (52 bits); whatever lies above is cut off.
const PHYS_END: u64 = 1 << 52;

/// Sorts, resolves overlaps (the more restrictive kind wins), merges neighbours of the same kind.
pub fn normalise(regions: &[MemRegion]) -> Vec<MemRegion> {
    // A sweep over region ends, with a count of open regions per kind.
    let mut edges: Vec<(u64, MemKind, bool)> = Vec::with_capacity(regions.len().saturating_mul(2));
    for region in regions {
        let (start, end) = (region.start.raw(), region.end().raw().min(PHYS_END));
        if start < end {
            edges.push((start, region.kind, true));
            edges.push((end, region.kind, false));
        }
    }
    edges.sort_unstable();
    let mut open = [0usize; MemKind::ALL.len()];
    let mut map: Vec<MemRegion> = Vec::new();
    let mut from = 0;
    for (at, kind, opens) in edges {
        if let Some(current) = MemKind::ALL.into_iter().rev().find(|k| open[*k as usize] > 0)
            && from < at
        {
            push_merged(&mut map, from, at, current);
        }
        from = at;
        let count = &mut open[kind as usize];
        *count = if opens { count.saturating_add(1) } else { count.saturating_sub(1) };
    }
    map
}

fn push_merged(map: &mut Vec<MemRegion>, from: u64, to: u64, kind: MemKind) {
    let len = to.saturating_sub(from);
    match map.last_mut() {
        Some(last) if last.kind == kind && last.end().raw() == from => {
            last.len = last.len.saturating_add(len)
        }
        _ => map.push(MemRegion { start: Maddr::new(from), len, kind }),
    }
}
