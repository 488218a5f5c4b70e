//! Hand-made guest tables.

use crate::guest_walk::{Access, Registers, Translation, WalkError, translate};
use radon_addr::{Gpa, Gva};
use std::collections::BTreeMap;

const P: u64 = 1;
const RW: u64 = 2;
const US: u64 = 4;
const PS: u64 = 0x80;
const NX: u64 = 1 << 63;
const ALL: u64 = P | RW | US;

const WP: u64 = 1 << 16;
const PG: u64 = 1 << 31;
const PSE: u64 = 1 << 4;
const PAE: u64 = 1 << 5;
const LA57: u64 = 1 << 12;
const SMEP: u64 = 1 << 20;
const LMA: u64 = 1 << 10;
const NXE: u64 = 1 << 11;

/// 8-byte words by address; a page that holds one is RAM and otherwise zero.
struct Memory(BTreeMap<u64, u64>);

impl Memory {
    fn of<const N: usize>(words: [(u64, u64); N]) -> Memory {
        Memory(words.into())
    }
    fn walk(&self, registers: &Registers, va: u64, access: Access) -> Result<(u64, u8), WalkError> {
        let read = |gpa: Gpa| {
            let at = gpa.raw();
            assert_eq!(at % 8, 0);
            let page = at & !0xfff;
            self.0.range(page..page + 0x1000).next()?;
            Some(self.0.get(&at).copied().unwrap_or(0))
        };
        translate(registers, Gva::new(va), access, read).map(|Translation { gpa, order }| (gpa.raw(), order))
    }
}

fn fault(error_code: u32) -> Result<(u64, u8), WalkError> {
    Err(WalkError::PageFault { error_code })
}

fn long(root: u64) -> Registers {
    Registers { cr0: PG | WP | 1, cr3: root | 0x18, cr4: PAE, efer: LMA | NXE | 0x101 }
}

/// A kernel-half address: PML4 index 511, then 510, 2, 3.
const VA: u64 = 0xffff_ffff_8040_3456;

fn four_levels(leaf: u64) -> Memory {
    Memory::of([
        (0x1000 + 511 * 8, 0x2000 | ALL),
        (0x2000 + 510 * 8, 0x3000 | ALL),
        (0x3000 + 2 * 8, 0x4000 | ALL),
        (0x4000 + 3 * 8, leaf),
    ])
}

#[test]
fn without_paging_addresses_are_physical() {
    let m = Memory::of([]);
    let r = Registers { cr0: 1, ..Registers::default() };
    assert_eq!(m.walk(&r, 0x1_1234_5678, Access::WRITE), Ok((0x1234_5678, 18)));
}

#[test]
fn four_level_pages_of_each_size() {
    let m = four_levels(0x12_3456_7000 | ALL);
    assert_eq!(m.walk(&long(0x1000), VA, Access::WRITE), Ok((0x12_3456_7456, 0)));
    let large = Memory::of([
        (0x1000 + 511 * 8, 0x2000 | ALL),
        (0x2000 + 510 * 8, 0x3000 | ALL),
        // PAT of a large page is bit 12.
        (0x3000 + 2 * 8, 0x4060_0000 | 0x1000 | PS | ALL),
    ]);
    assert_eq!(large.walk(&long(0x1000), VA, Access::READ), Ok((0x4060_3456, 9)));
    let huge = Memory::of([(0x1000 + 511 * 8, 0x2000 | ALL), (0x2000 + 510 * 8, 0x1_8000_0000 | PS | ALL)]);
    assert_eq!(huge.walk(&long(0x1000), VA, Access::READ), Ok((0x1_8000_0000 + 0x40_3456, 18)));
}

#[test]
fn four_level_reserved_bits_fault() {
    let walk = |m: Memory, r: &Registers| m.walk(r, VA, Access::READ);
    let top = Memory::of([(0x1000 + 511 * 8, 0x2000 | PS | ALL)]);
    assert_eq!(walk(top, &long(0x1000)), fault(9));
    let huge = Memory::of([(0x1000 + 511 * 8, 0x2000 | ALL), (0x2000 + 510 * 8, 0x1_8020_0000 | PS | ALL)]);
    assert_eq!(walk(huge, &long(0x1000)), fault(9));
    let m = four_levels(0x5000 | NX | ALL);
    assert_eq!(m.walk(&long(0x1000), VA, Access::READ), Ok((0x5456, 0)));
    let no_nx = Registers { efer: LMA, ..long(0x1000) };
    assert_eq!(m.walk(&no_nx, VA, Access::READ), fault(9));
}

#[test]
fn rights_are_those_of_all_levels() {
    let r = long(0x1000);
    let ro = four_levels(0x5000 | P | US);
    assert_eq!(ro.walk(&r, VA, Access::WRITE), fault(3));
    assert_eq!(ro.walk(&r, VA, Access::WRITE.by(true)), fault(7));
    assert_eq!(ro.walk(&r, VA, Access::READ.by(true)), Ok((0x5456, 0)));
    let no_wp = Registers { cr0: PG, ..r };
    assert_eq!(ro.walk(&no_wp, VA, Access::WRITE), Ok((0x5456, 0)));
    assert_eq!(ro.walk(&no_wp, VA, Access::WRITE.by(true)), fault(7));
    let kernel = four_levels(0x5000 | P | RW);
    assert_eq!(kernel.walk(&r, VA, Access::READ.by(true)), fault(5));
    let nx = four_levels(0x5000 | NX | ALL);
    assert_eq!(nx.walk(&r, VA, Access::FETCH), fault(0x11));
    let mut upper = four_levels(0x5000 | ALL);
    upper.0.insert(0x2000 + 510 * 8, 0x3000 | P | NX);
    assert_eq!(upper.walk(&r, VA, Access::WRITE), fault(3));
    assert_eq!(upper.walk(&r, VA, Access::READ.by(true)), fault(5));
    assert_eq!(upper.walk(&r, VA, Access::FETCH), fault(0x11));
    let user = four_levels(0x5000 | ALL);
    let smep = Registers { cr4: PAE | SMEP, ..r };
    assert_eq!(user.walk(&r, VA, Access::FETCH), Ok((0x5456, 0)));
    assert_eq!(user.walk(&smep, VA, Access::FETCH), fault(0x11));
    assert_eq!(user.walk(&smep, VA, Access::FETCH.by(true)), Ok((0x5456, 0)));
}

#[test]
fn missing_tables_and_strange_addresses() {
    let m = four_levels(0);
    assert_eq!(m.walk(&long(0x1000), VA, Access::WRITE), fault(2));
    assert_eq!(m.walk(&long(0x1000), VA, Access::FETCH), fault(0x10));
    assert_eq!(m.walk(&long(0x1000), 0, Access::READ), fault(0));
    assert_eq!(m.walk(&long(0x1000), 0x8000_0000_0000, Access::READ), Err(WalkError::NonCanonical));
    assert_eq!(m.walk(&long(0x1000), 0xffff_7fff_ffff_ffff, Access::READ), Err(WalkError::NonCanonical));
    let nowhere = Gpa::new(0x9000 + 511 * 8);
    assert_eq!(m.walk(&long(0x9000), VA, Access::READ), Err(WalkError::NoTable(nowhere)));
    let five = Registers { cr4: PAE | LA57, ..long(0x1000) };
    assert_eq!(m.walk(&five, VA, Access::READ), Err(WalkError::Unsupported));
}

#[test]
fn pae_has_four_pointers_without_rights() {
    let r = Registers { cr0: PG | WP, cr3: 0x1020, cr4: PAE, efer: NXE };
    let m = Memory::of([
        (0x1020 + 3 * 8, 0x2000 | P),
        (0x2000 + 5 * 8, 0x3000 | ALL),
        (0x2000 + 6 * 8, 0x8_0000_0000 | PS | P | US),
        (0x3000 + 7 * 8, 0xf_0000_0000 | ALL),
        (0x1020 + 2 * 8, 0x2000 | ALL),
        (0x1020 + 8, 0x2000 | P | 1 << 5),
    ]);
    assert_eq!(m.walk(&r, 0xffff_ffff_c0a0_7123, Access::WRITE.by(true)), Ok((0xf_0000_0123, 0)));
    assert_eq!(m.walk(&r, 0xc0c1_2345, Access::READ.by(true)), Ok((0x8_0001_2345, 9)));
    assert_eq!(m.walk(&r, 0xc0c1_2345, Access::WRITE), fault(3));
    assert_eq!(m.walk(&r, 0x80a0_7123, Access::READ), fault(9), "RW and US of a pointer are reserved");
    assert_eq!(m.walk(&r, 0x40a0_7123, Access::READ), Ok((0xf_0000_0123, 0)), "marked as accessed");
    assert_eq!(m.walk(&r, 0x10, Access::READ), fault(0));
}

#[test]
fn two_levels_with_and_without_4m_pages() {
    let r = Registers { cr0: PG | WP, cr3: 0x1000, cr4: PSE, efer: 0 };
    let m = Memory::of([
        // Entries 2 (a table) and 3 (4 MiB at 0x2_0080_0000 by PSE-36).
        (0x1008, (0x3000 | ALL) | (0x0080_0000 | 2 << 13 | PS | ALL) << 32),
        // Entry 4: bit 21 is reserved.
        (0x1010, 0x0020_0000 | PS | ALL),
        // Entries 0 and 1 of the table.
        (0x3000, (0x7000 | P) << 32 | (0x6000 | ALL)),
    ]);
    assert_eq!(m.walk(&r, 0x0080_0010, Access::WRITE.by(true)), Ok((0x6010, 0)));
    assert_eq!(m.walk(&r, 0x0080_1020, Access::READ), Ok((0x7020, 0)));
    assert_eq!(m.walk(&r, 0x0080_1020, Access::WRITE), fault(3));
    assert_eq!(m.walk(&r, 0x0080_1020, Access::READ.by(true)), fault(5));
    assert_eq!(m.walk(&r, 0x0080_2020, Access::READ), fault(0));
    assert_eq!(m.walk(&r, 0x00c1_2345, Access::WRITE), Ok((0x2_0081_2345, 10)));
    assert_eq!(m.walk(&r, 0x0100_0000, Access::READ), fault(9));
    assert_eq!(m.walk(&r, 0x0100_0000, Access::FETCH), fault(9), "no NX, no SMEP: no fetch bit");
    // Without PSE the bit means nothing: entry 3 points to a table at 0x80_4000.
    let no_pse = Registers { cr4: 0, ..r };
    assert_eq!(m.walk(&no_pse, 0x00c0_0345, Access::READ), Err(WalkError::NoTable(Gpa::new(0x80_4000))));
}
