//! The machine's memory at start-up: what is RAM, what is taken, and who gets the rest.
//!
//! dom0's RAM is 1:1 and taken from low addresses, so everything the hypervisor keeps is carved from the top.

use alloc::vec::Vec;
use core::ops::Range;
use radon_addr::{Maddr, Mfn, PAGE_SIZE};
use radon_bootproto::{MemKind, MemRegion, Module, normalise};
use radon_frames::Extent;
use radon_hw::mem::RangeKind;

const PAGE: u64 = PAGE_SIZE as u64;
/// Below this nothing is allocated: dom0 sees the machine's own low memory.
pub const LOW_MEMORY: u64 = 1 << 20;
const FOUR_GIB: u64 = 1 << 32;
/// RAM above is not used: frames have 32-bit numbers, the last of which means none.
const FRAME_LIMIT: u64 = (u32::MAX as u64 - 1) * PAGE;

/// Page tables that map these ranges (page-aligned start and end) need at most, with pages of 1 GiB or of 2 MiB and smaller ones
/// at the ends: the upper levels are full at worst, and each end needs a table of its own per level.
pub fn table_pages(ranges: &[(Maddr, Maddr)], one_gib: bool) -> u64 {
    let covering = |start: u64, end: u64, shift: u32| (end.saturating_sub(1) >> shift) - (start >> shift) + 1;
    let of_range = |&(start, end): &(Maddr, Maddr)| {
        let (start, end) = (start.raw(), end.raw().max(start.raw() + 1));
        let (top, upper) = (covering(start, end, 48), covering(start, end, 39));
        let middle = if one_gib { 2 } else { covering(start, end, 30) };
        top + upper + middle + 2
    };
    ranges.iter().map(of_range).sum()
}

/// Reserved memory below 4 GiB that touches RAM or ACPI memory: on many machines ACPI tables lie there. What stands
/// alone is taken for device registers.
fn is_firmware(region: &MemRegion, all: &[MemRegion]) -> bool {
    match region.kind {
        MemKind::AcpiReclaim | MemKind::AcpiNvs => true,
        MemKind::Reserved if region.end().raw() <= FOUR_GIB => all.iter().any(|n| {
            matches!(n.kind, MemKind::Ram | MemKind::AcpiReclaim | MemKind::AcpiNvs)
                && (n.end() == region.start || region.end() == n.start)
        }),
        _ => false,
    }
}

#[derive(Clone)]
/// The memory map and the parts of it that are in use.
pub struct Memory {
    /// RAM that may be used, and what is not RAM.
    regions: Vec<MemRegion>,
    /// Where the firmware's tables may lie.
    firmware: Vec<MemRegion>,
    used: Vec<Range<u64>>,
}

impl Memory {
    /// `regions` is normalised; RAM above `limit` bytes is left alone.
    pub fn new(regions: &[MemRegion], limit: Option<u64>) -> Self {
        let limit = limit.unwrap_or(u64::MAX).min(FRAME_LIMIT);
        let clipped = regions.iter().filter_map(|r| match r.kind {
            MemKind::Ram if r.start.raw() >= limit => None,
            MemKind::Ram => Some(MemRegion { len: r.len.min(limit - r.start.raw()), ..*r }),
            _ => Some(*r),
        });
        let firmware = regions.iter().filter(|r| is_firmware(r, regions)).copied().collect();
        let regions = normalise(&clipped.collect::<Vec<_>>());
        Self { regions, firmware, used: alloc::vec![0..LOW_MEMORY] }
    }

    fn ram(&self) -> impl DoubleEndedIterator<Item = &MemRegion> {
        self.regions.iter().filter(|r| r.kind == MemKind::Ram)
    }

    /// Bytes of RAM.
    pub fn ram_bytes(&self) -> u64 {
        self.ram().map(|r| r.len).sum()
    }

    /// The frames that the frame table must describe.
    pub fn extent(&self) -> Extent {
        let frames: Vec<_> = self.ram().map(|r| r.start.mfn()..r.end().mfn()).collect();
        Extent::of(&frames)
    }

    /// Takes a place for the frame table, whose size for an extent `bytes` tells. Where holes make it larger than a quarter of the
    /// RAM, the highest RAM is given up; `lost` is told what.
    pub fn place_frame_table(
        &mut self,
        bytes: impl Fn(Extent) -> u64,
        mut lost: impl FnMut(&MemRegion),
    ) -> Option<(Extent, Maddr)> {
        loop {
            let extent = self.extent();
            let size = bytes(extent);
            let highest = self.regions.iter().rposition(|r| r.kind == MemKind::Ram)?;
            let lone = self.ram().count() == 1;
            if (size <= self.ram_bytes() / 4 || lone)
                && let Some(at) = self.carve_top(size)
            {
                return Some((extent, at));
            }
            if lone {
                return None;
            }
            lost(&self.regions.remove(highest));
        }
    }

    /// These bytes are in use.
    pub fn reserve(&mut self, start: Maddr, len: u64) {
        let end = start.raw().saturating_add(len).checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
        self.used.push(start.raw() & !(PAGE - 1)..end);
    }

    /// These bytes, reserved before with the same arguments, are free again.
    pub fn release(&mut self, start: Maddr, len: u64) {
        let mut probe = Memory { regions: Vec::new(), firmware: Vec::new(), used: Vec::new() };
        probe.reserve(start, len);
        if let Some(at) = self.used.iter().position(|r| probe.used.contains(r)) {
            self.used.swap_remove(at);
        }
    }

    /// Takes whole pages for `bytes` from the highest free RAM.
    pub fn carve_top(&mut self, bytes: u64) -> Option<Maddr> {
        self.carve_below(u64::MAX, bytes)
    }

    /// Takes whole pages for `bytes` from the highest free RAM below a limit.
    pub fn carve_below(&mut self, limit: u64, bytes: u64) -> Option<Maddr> {
        let bytes = bytes.checked_next_multiple_of(PAGE)?;
        let found = self.ram().rev().find_map(|r| {
            let floor = r.start.raw().checked_next_multiple_of(PAGE)?;
            let mut end = r.end().raw().min(limit) & !(PAGE - 1);
            loop {
                let start = end.checked_sub(bytes).filter(|s| *s >= floor)?;
                match self.used.iter().find(|u| u.start < end && start < u.end) {
                    Some(used) => end = used.start & !(PAGE - 1),
                    None => return Some(Maddr::new(start)),
                }
            }
        })?;
        self.reserve(found, bytes);
        Some(found)
    }

    /// Moves the loader's modules to the top of RAM, so that dom0's RAM can begin right above the image. A module for
    /// which there is no room stays where it is.
    pub fn move_modules_up(&mut self, modules: &mut [Module], copy: impl Fn(Maddr, Maddr, u64)) {
        for module in modules.iter_mut().filter(|m| m.len > 0) {
            if let Some(to) = self.carve_top(module.len).filter(|to| *to > module.start) {
                copy(to, module.start, module.len);
                self.release(module.start, module.len);
                module.start = to;
            }
        }
    }

    /// A free page of RAM below 640 KiB, for the start-up code of further CPUs.
    pub fn low_page(&self) -> Option<Maddr> {
        let free = |page: u64| {
            let (start, end) = (page * PAGE, (page + 1) * PAGE);
            self.ram().any(|r| r.start.raw() <= start && end <= r.end().raw())
                && !self.used.iter().skip(1).any(|u| u.start < end && start < u.end)
        };
        (1..0xa0).rev().find(|page| free(*page)).map(|page| Maddr::new(page * PAGE))
    }

    /// What `hw::mem` may touch.
    pub fn accessible(&self) -> Vec<(Maddr, u64, RangeKind)> {
        let mut ranges: Vec<_> = self.ram().map(|r| (r.start, r.len, RangeKind::Ram)).collect();
        ranges.extend(self.firmware.iter().map(|r| (r.start, r.len, RangeKind::Firmware)));
        ranges.push((Maddr::new(0), LOW_MEMORY, RangeKind::Firmware));
        ranges
    }

    /// The same, rounded outwards to pages, sorted and merged: what the direct map holds.
    pub fn mapped(&self) -> Vec<(Maddr, Maddr)> {
        let rounded = self.accessible().into_iter().map(|(start, len, _)| {
            let from = start.raw() & !(PAGE - 1);
            let end = start.raw().saturating_add(len).next_multiple_of(PAGE);
            MemRegion { start: Maddr::new(from), len: end - from, kind: MemKind::Ram }
        });
        normalise(&rounded.collect::<Vec<_>>()).iter().map(|r| (r.start, r.end())).collect()
    }

    /// Byte ranges (start, end) above the first MiB that are in use.
    pub fn used(&self) -> Vec<(u64, u64)> {
        self.used.iter().filter(|r| r.start >= LOW_MEMORY).map(|r| (r.start, r.end)).collect()
    }

    /// Whole frames of RAM that nobody uses.
    pub fn free(&self) -> Vec<Range<Mfn>> {
        let mut free: Vec<Range<u64>> =
            self.ram().map(|r| r.start.raw().next_multiple_of(PAGE)..r.end().raw() & !(PAGE - 1)).collect();
        for used in &self.used {
            free = free
                .into_iter()
                .flat_map(|f| [f.start..f.end.min(used.start), f.start.max(used.end)..f.end])
                .filter(|f| f.start < f.end)
                .collect();
        }
        free.iter().map(|f| Maddr::new(f.start).mfn()..Maddr::new(f.end).mfn()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn region(start: u64, end: u64, kind: MemKind) -> MemRegion {
        MemRegion { start: Maddr::new(start), len: end - start, kind }
    }

    /// QEMU's q35 with 2 GiB.
    fn q35() -> Vec<MemRegion> {
        normalise(&[
            region(0, 0x9fc00, MemKind::Ram),
            region(0x9fc00, 0xa0000, MemKind::Reserved),
            region(0xf0000, 0x100000, MemKind::Reserved),
            region(0x100000, 0x7ffdf000, MemKind::Ram),
            region(0x7ffdf000, 0x80000000, MemKind::Reserved),
            region(0xb0000000, 0xc0000000, MemKind::Reserved),
        ])
    }

    #[test]
    fn tables_are_mapped_and_device_memory_is_not() {
        let memory = Memory::new(&q35(), None);
        assert_eq!(memory.mapped(), [(Maddr::new(0), Maddr::new(0x80000000))]);
        assert_eq!(memory.low_page(), Some(Maddr::new(0x9e000)));
        assert_eq!(memory.extent(), Extent::from(Mfn::new(0x7ffdf)));
        let half = Memory::new(&q35(), Some(0x40000000));
        assert_eq!(half.extent(), Extent::from(Mfn::new(0x40000)));
        assert_eq!(half.ram_bytes(), 0x9fc00 + 0x3ff00000);
        // `mem=` concerns RAM: the firmware's tables at its end stay readable.
        assert!(half.mapped().contains(&(Maddr::new(0x7ffdf000), Maddr::new(0x80000000))));
    }

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    const TIB: u64 = 1 << 40;

    /// What start-up does with a map: where the frame table goes, what is free, what is lost.
    fn start(map: &[MemRegion]) -> (Memory, Option<(Extent, Maddr)>, Vec<u64>) {
        let mut memory = Memory::new(&normalise(map), None);
        memory.reserve(Maddr::new(2 * MIB), 2 * MIB);
        let mut lost = Vec::new();
        let table =
            memory.place_frame_table(radon_frames::FrameAllocator::table_bytes, |r| lost.push(r.start.raw()));
        (memory, table, lost)
    }

    #[test]
    fn five_mib_are_enough_to_start() {
        let map = [
            region(0, 0x9fc00, MemKind::Ram),
            region(0xf0000, MIB, MemKind::Reserved),
            region(MIB, 5 * MIB - 0x20000, MemKind::Ram),
            region(5 * MIB - 0x20000, 5 * MIB, MemKind::Reserved),
        ];
        let (memory, table, lost) = start(&map);
        let (extent, at) = table.unwrap();
        assert_eq!((extent, lost.len()), (Extent::from(Mfn::new(0x4e0)), 0));
        assert!(at.raw() > 4 * MIB);
        assert!(memory.free().iter().map(|r| r.end.raw() - r.start.raw()).sum::<u64>() > 256);
    }

    #[test]
    fn many_tib_with_holes() {
        // A big server: device holes below 4 GiB and at 1 TiB, then RAM without end.
        let map = [
            region(0, 0xa0000, MemKind::Ram),
            region(MIB, 0x7000_0000, MemKind::Ram),
            region(0x7000_0000, 0x7100_0000, MemKind::AcpiNvs),
            region(0x8000_0000, 0x9000_0000, MemKind::Reserved),
            region(4 * GIB, TIB - 12 * GIB, MemKind::Ram),
            region(TIB - 12 * GIB, TIB, MemKind::Reserved),
            region(TIB, 64 * TIB, MemKind::Ram),
        ];
        let (memory, table, lost) = start(&map);
        let (extent, at) = table.unwrap();
        assert!(lost.is_empty());
        assert_eq!(memory.ram().next_back().unwrap().end().raw(), FRAME_LIMIT);
        assert_eq!(
            extent,
            Extent::of(&[
                Mfn::new(0)..Mfn::new(0xa0),
                Mfn::new(0x100)..Mfn::new(0x70000),
                Mfn::new(0x10_0000)..Mfn::new((TIB - 12 * GIB) / PAGE),
                Mfn::new(TIB / PAGE)..Mfn::new(FRAME_LIMIT / PAGE),
            ])
        );
        // 8 bytes a frame: 32 GiB for 16 TiB, all at the top.
        let bytes = radon_frames::FrameAllocator::table_bytes(extent);
        assert!(bytes < 33 * GIB && at.raw() + bytes + PAGE > FRAME_LIMIT);
        let free: u64 = memory.free().iter().map(|r| (r.end.raw() - r.start.raw()) * PAGE).sum();
        assert!(free > memory.ram_bytes() - bytes - 8 * MIB);
        // Tables of the direct map: few with 1 GiB pages, 4 KiB for each GiB without, in front of which there is enough RAM.
        assert!(table_pages(&memory.mapped(), true) * PAGE < MIB);
        assert!(table_pages(&memory.mapped(), false) * PAGE < 66 * MIB);
    }

    #[test]
    fn ram_behind_too_large_a_hole_is_given_up() {
        let far = |at: u64| region(at, at + 4 * GIB, MemKind::Ram);
        // One hole costs nothing, however large.
        let (_, table, lost) = start(&[region(0, 2 * GIB, MemKind::Ram), far(12 * TIB)]);
        assert!(table.is_some() && lost.is_empty());
        // Two holes: the smaller one would need entries of 12 GiB.
        let (memory, table, lost) = start(&[region(0, 2 * GIB, MemKind::Ram), far(6 * TIB), far(12 * TIB)]);
        assert!(table.is_some());
        assert_eq!(lost, [12 * TIB]);
        assert_eq!(memory.ram_bytes(), 6 * GIB);
        // No RAM at all, or too little for the table.
        assert!(start(&[]).1.is_none());
        assert!(start(&[region(2 * MIB, 4 * MIB + 0x40000, MemKind::Ram)]).1.is_none());
    }

    proptest! {
        /// Whatever the map: the table lies in RAM that is not otherwise used, and free memory is RAM.
        #[test]
        fn any_map_is_survived(
            spans in proptest::collection::vec((0u64..1 << 47, 1u64..1 << 42, 0u8..4), 0..8),
            low in 0u64..64,
        ) {
            let mut map = alloc::vec![region(0, 0xa0000, MemKind::Ram), region(MIB, (6 + low) * MIB, MemKind::Ram)];
            map.extend(spans.iter().map(|&(start, len, kind)| {
                let kind = [MemKind::Ram, MemKind::Ram, MemKind::Reserved, MemKind::AcpiNvs][usize::from(kind)];
                region(start, start + len, kind)
            }));
            let (memory, table, _) = start(&map);
            if let Some((extent, at)) = table {
                let end = at.raw() + radon_frames::FrameAllocator::table_bytes(extent);
                prop_assert!(memory.ram().any(|r| r.start <= at && end <= r.end().raw()));
                prop_assert!(at.raw() >= 4 * MIB || end <= 2 * MIB, "not over the image");
                for free in memory.free() {
                    let (from, to) = (free.start.maddr().raw(), free.end.maddr().raw());
                    prop_assert!(memory.ram().any(|r| r.start.raw() <= from && to <= r.end().raw()));
                    prop_assert!(to <= at.raw() || end <= from);
                    prop_assert!(to <= FRAME_LIMIT);
                }
            }
        }
    }

    #[test]
    fn modules_move_up() {
        let mut memory = Memory::new(&q35(), None);
        let mut modules = [Module { start: Maddr::new(0x300000), len: 0x1234, cmdline: Default::default() }];
        memory.reserve(modules[0].start, modules[0].len);
        let moves = core::cell::RefCell::new(Vec::new());
        memory.move_modules_up(&mut modules, |to, from, len| moves.borrow_mut().push((to, from, len)));
        assert_eq!(modules[0].start, Maddr::new(0x7ffdd000));
        assert_eq!(*moves.borrow(), [(Maddr::new(0x7ffdd000), Maddr::new(0x300000), 0x1234)]);
        assert_eq!(memory.free(), [Mfn::new(0x100)..Mfn::new(0x7ffdd)]);
    }

    proptest! {
        #[test]
        fn carved_memory_is_free_ram_and_never_given_twice(
            reserved in proptest::collection::vec((0u64..0x900, 1u64..0x20_0000), 0..6),
            carved in proptest::collection::vec(1u64..0x4000_0000, 0..8),
        ) {
            let mut memory = Memory::new(&q35(), None);
            for (start, len) in &reserved {
                memory.reserve(Maddr::new(start << 20), *len);
            }
            let before = memory.free();
            let mut taken: Vec<Range<Mfn>> = Vec::new();
            for bytes in carved {
                let Some(at) = memory.carve_top(bytes) else { continue };
                let range = at.mfn()..Maddr::new(at.raw() + bytes.next_multiple_of(PAGE)).mfn();
                prop_assert!(before.iter().any(|f| f.start <= range.start && range.end <= f.end));
                prop_assert!(taken.iter().all(|t| t.end <= range.start || range.end <= t.start));
                taken.push(range);
            }
            let pages = |ranges: &[Range<Mfn>]| ranges.iter().map(|r| r.end.raw() - r.start.raw()).sum::<u64>();
            prop_assert_eq!(pages(&memory.free()) + pages(&taken), pages(&before));
        }
    }
}
