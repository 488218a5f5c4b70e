//! Where things lie in a PVH guest's physical memory.
//!
//! ```text
//! 0                      RAM (low)
//! min(memory, 0xfc000000)
//! 0xfc000000             ACPI tables
//! 0xfee00000             local APIC (emulated, no memory behind it)
//! 0xfeff8000             special pages: store, console, identity page table
//! 0xff000000
//! 4 GiB                  RAM (high), what did not fit below
//! ```
//! The special pages are where Xen's own toolstack puts them (`xenguest.h`); tools that look into a guest expect that.

use radon_kernel::{MemType, Region};
use serde::{Deserialize, Serialize};

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// Pages of a superpage.
pub const SUPERPAGE: u64 = 512;
const GIB4: u64 = 1 << 32;
/// First byte of the hole below 4 GiB, and of the ACPI tables in it.
pub const ACPI_START: u64 = 0xfc00_0000;
/// First byte after the special pages.
const SPECIAL_END: u64 = 0xff00_0000;
/// How many special pages there are.
const SPECIAL_COUNT: u64 = 8;
/// Where firmware leaves the ACPI root pointer for kernels that do not take it from the start info.
pub const LEGACY_RSDP: u64 = 0x10_0000 - 64;
/// Least memory of a guest: what lies at the fixed addresses above, a kernel, and some air.
pub const LEAST_KIB: u64 = 4 * 1024;
/// Most memory of a guest: 16 TiB, the reach of grant entries of version 1.
pub const MOST_KIB: u64 = 1 << 34;

/// Frames of the special pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecialPages {
    /// First of all of them.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// The store's ring.
    pub store: u64,
    /// The console's ring.
    pub console: u64,
    /// The page directory for processors that need paging in real mode.
    pub identity: u64,
}

/// The special pages: the same in every guest.
pub const SPECIAL: SpecialPages = {
    let first = SPECIAL_END / PAGE - SPECIAL_COUNT;
    SpecialPages { first, count: SPECIAL_COUNT, store: first + 4, console: first + 7, identity: first + 6 }
};

/// Memory of a guest, in KiB: a multiple of 4, between [`LEAST_KIB`] and [`MOST_KIB`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "u64", try_from = "u64")]
pub struct Kib(u64);

impl Kib {
    /// Rounds down to whole pages; `None` outside the limits.
    pub fn new(kib: u64) -> Option<Self> {
        (LEAST_KIB..=MOST_KIB).contains(&kib).then_some(Self(kib & !3))
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// In pages.
    pub const fn pages(self) -> u64 {
        self.0 / 4
    }

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.0 * 1024
    }
}

impl From<Kib> for u64 {
    fn from(kib: Kib) -> Self {
        kib.0
    }
}

impl TryFrom<u64> for Kib {
    type Error = OutOfRange;

    fn try_from(kib: u64) -> Result<Self, OutOfRange> {
        Self::new(kib).ok_or(OutOfRange(kib))
    }
}

/// Less memory than a guest can start with, or more than it can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} KiB of memory: {LEAST_KIB} to {MOST_KIB}")]
pub struct OutOfRange(u64);

/// A run of frames to be populated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extents {
    /// Frames of each: 2 to this power.
    pub order: u32,
    /// First frame of each.
    pub first: Vec<u64>,
}

/// A guest's physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// First byte after the RAM below 4 GiB.
    pub low_end: u64,
    /// First byte after the RAM above 4 GiB; 4 GiB if there is none.
    pub high_end: u64,
    /// Pages of ACPI tables.
    pub acpi_pages: u64,
    /// The root pointer is in low memory too.
    pub legacy_rsdp: bool,
}

impl Layout {
    /// The layout of a guest with so much memory.
    pub fn new(memory: Kib, acpi_pages: u64, legacy_rsdp: bool) -> Self {
        let low_end = memory.bytes().min(ACPI_START);
        Self { low_end, high_end: GIB4 + (memory.bytes() - low_end), acpi_pages, legacy_rsdp }
    }

    /// Runs of frames that are RAM, from low to high.
    pub fn ram(&self) -> impl Iterator<Item = std::ops::Range<u64>> {
        let low = 0..self.low_end / PAGE;
        let high = GIB4 / PAGE..self.high_end / PAGE;
        [low, high].into_iter().filter(|r| !r.is_empty())
    }

    /// RAM in extents: superpages where they fit, single pages at the ends.
    pub fn extents(&self) -> Vec<Extents> {
        let (mut large, mut small) = (Vec::new(), Vec::new());
        for range in self.ram() {
            let aligned = range.start.next_multiple_of(SUPERPAGE)..range.end & !(SUPERPAGE - 1);
            if aligned.is_empty() {
                small.extend(range);
            } else {
                large.extend(aligned.clone().step_by(SUPERPAGE as usize));
                small.extend(range.start..aligned.start);
                small.extend(aligned.end..range.end);
            }
        }
        let all = [Extents { order: 9, first: large }, Extents { order: 0, first: small }];
        all.into_iter().filter(|e| !e.first.is_empty()).collect()
    }

    /// Frames besides RAM that need memory.
    pub fn extra_frames(&self) -> Vec<u64> {
        let acpi = ACPI_START / PAGE;
        (acpi..acpi + self.acpi_pages).chain(SPECIAL.first..SPECIAL.first + SPECIAL.count).collect()
    }

    /// The memory map that the guest is told, sorted, without overlap.
    pub fn map(&self) -> Vec<Region> {
        let region = |start, end, kind| Region { start, end, kind };
        let mut map = Vec::new();
        if self.legacy_rsdp {
            let page = LEGACY_RSDP & !(PAGE - 1);
            map.push(region(0, page, MemType::Ram));
            map.push(region(page, page + PAGE, MemType::Acpi));
            map.push(region(page + PAGE, self.low_end, MemType::Ram));
        } else {
            map.push(region(0, self.low_end, MemType::Ram));
        }
        map.push(region(ACPI_START, ACPI_START + self.acpi_pages * PAGE, MemType::Acpi));
        map.push(region(SPECIAL_END - SPECIAL_COUNT * PAGE, SPECIAL_END, MemType::Reserved));
        map.push(region(GIB4, self.high_end, MemType::Ram));
        map.retain(|r| !r.is_empty());
        map
    }
}

/// Memory for a guest's nested page tables in bytes: 1 MiB for each vCPU, and a page for each MiB of its memory, as Xen's
/// own toolstack computes it.
pub fn paging_pool(memory: Kib, vcpus: u32) -> u64 {
    let pages = 256 * u64::from(vcpus) + memory.get().div_ceil(1024);
    (pages * PAGE).next_multiple_of(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn special_pages_are_xens() {
        assert_eq!(SPECIAL.first, 0xfeff8);
        assert_eq!((SPECIAL.store, SPECIAL.console, SPECIAL.identity), (0xfeffc, 0xfefff, 0xfeffe));
    }

    #[test]
    fn memory_has_limits() {
        assert_eq!(Kib::new(LEAST_KIB - 1), None);
        assert_eq!(Kib::new(MOST_KIB + 1), None);
        assert_eq!(Kib::new(262_147).map(Kib::get), Some(262_144));
    }

    proptest! {
        #[test]
        fn extents_cover_the_ram_and_nothing_else(kib in LEAST_KIB..64 << 20, legacy: bool) {
            let memory = Kib::new(kib).unwrap();
            let layout = Layout::new(memory, 3, legacy);
            let mut frames: Vec<(u64, u64)> = Vec::new();
            for extents in layout.extents() {
                for first in extents.first {
                    prop_assert_eq!(first & ((1 << extents.order) - 1), 0);
                    frames.push((first, first + (1 << extents.order)));
                }
            }
            frames.sort_unstable();
            let mut merged: Vec<(u64, u64)> = Vec::new();
            for (start, end) in frames {
                match merged.last_mut() {
                    Some(last) if last.1 == start => last.1 = end,
                    Some(last) => { prop_assert!(last.1 < start); merged.push((start, end)); }
                    None => merged.push((start, end)),
                }
            }
            let ram: Vec<(u64, u64)> = layout.ram().map(|r| (r.start, r.end)).collect();
            prop_assert_eq!(&merged, &ram);
            prop_assert_eq!(ram.iter().map(|r| r.1 - r.0).sum::<u64>(), memory.pages());
        }

        #[test]
        fn the_map_is_sorted_and_holds_every_frame(kib in LEAST_KIB..64 << 20, legacy: bool) {
            let layout = Layout::new(Kib::new(kib).unwrap(), 3, legacy);
            let map = layout.map();
            for pair in map.windows(2) {
                prop_assert!(pair[0].end <= pair[1].start);
            }
            let told: u64 = map.iter().map(|r| r.len()).sum();
            let has = layout.ram().map(|r| r.end - r.start).sum::<u64>() + layout.extra_frames().len() as u64;
            prop_assert_eq!(told, has * PAGE);
        }
    }
}
