use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;
use radon_addr::Gpa;

use crate::elf::{Error, LoadPlan, note};

/// (type, offset, paddr, file length, memory length)
pub type Header = (u32, u64, u64, u64, u64);

pub fn xen_note(kind: u32, desc: &[u8]) -> Vec<u8> {
    let mut n = Vec::new();
    for v in [4, desc.len() as u32, kind] {
        n.extend_from_slice(&v.to_le_bytes());
    }
    n.extend_from_slice(b"Xen\0");
    n.extend_from_slice(desc);
    n.resize(n.len().next_multiple_of(4), 0);
    n
}

/// An ELF with these program headers; `notes` lie at file offset 0x800 and, with `sections`, in a SHT_NOTE section.
pub fn elf(wide: bool, headers: &[Header], notes: &[u8], sections: bool, len: usize) -> Vec<u8> {
    let mut b = vec![0u8; len];
    let mut put = |at: usize, v: u64, n: usize| b[at..at + n].copy_from_slice(&v.to_le_bytes()[..n]);
    let word = if wide { 8 } else { 4 };
    put(0, u64::from(u32::from_le_bytes(*b"\x7fELF")), 4);
    put(4, if wide { 2 } else { 1 }, 1);
    put(5, 1, 1);
    put(16, 2, 2);
    put(18, if wide { 62 } else { 3 }, 2);
    let (phoff, shoff, counts) = if wide { (32, 40, 54) } else { (28, 32, 42) };
    put(phoff, 0x100, word);
    put(counts, if wide { 56 } else { 32 }, 2);
    put(counts + 2, headers.len() as u64, 2);
    for (i, &(kind, offset, paddr, file, mem)) in headers.iter().enumerate() {
        let at = 0x100 + i * if wide { 56 } else { 32 };
        put(at, kind.into(), 4);
        let fields: [(usize, u64); 4] = if wide {
            [(8, offset), (24, paddr), (32, file), (40, mem)]
        } else {
            [(4, offset), (12, paddr), (16, file), (20, mem)]
        };
        fields.iter().for_each(|&(o, v)| put(at + o, v, word));
    }
    if sections {
        put(shoff, 0x600, word);
        put(counts + 4, if wide { 64 } else { 40 }, 2);
        put(counts + 6, 2, 2);
        let at = 0x600 + if wide { 64 } else { 40 };
        put(at + 4, 7, 4);
        let (o, l) = if wide { (24, 32) } else { (16, 20) };
        put(at + o, 0x800, word);
        put(at + l, notes.len() as u64, word);
    }
    b[0x800..0x800 + notes.len()].copy_from_slice(notes);
    b
}

pub fn notes(entry: u32) -> Vec<u8> {
    let mut n = Vec::new();
    // A note of another owner with an odd name length comes first.
    n.extend_from_slice(&[6, 0, 0, 0, 3, 0, 0, 0, 18, 0, 0, 0]);
    n.extend_from_slice(b"Linux\0\0\0abc\0");
    n.extend_from_slice(&xen_note(note::GUEST_OS, b"linux\0"));
    n.extend_from_slice(&xen_note(note::SUPPORTED_FEATURES, &0x8801u32.to_le_bytes()));
    n.extend_from_slice(&xen_note(note::PHYS32_ENTRY, &entry.to_le_bytes()));
    n
}

const LOADS: [Header; 2] = [(1, 0x1400, 0x20_0000, 0x100, 0x3000), (1, 0x1000, 0x10_0000, 0x400, 0x400)];

fn with_note_segment(n: &[u8]) -> Vec<Header> {
    let mut h = LOADS.to_vec();
    h.push((4, 0x800, 0, n.len() as u64, n.len() as u64));
    h
}

#[test]
fn parses_both_widths_and_both_places_of_notes() {
    let n = notes(0x10_0020);
    for wide in [true, false] {
        for sections in [true, false] {
            let headers = if sections { LOADS.to_vec() } else { with_note_segment(&n) };
            let image = elf(wide, &headers, &n, sections, 0x2000);
            let plan = LoadPlan::parse(&image).unwrap();
            assert_eq!(plan.entry, Gpa::new(0x10_0020));
            assert_eq!(plan.is_64bit, wide);
            assert_eq!(plan.segments.len(), 2);
            assert_eq!(
                (plan.segments[0].gpa, plan.segments[0].file.clone()),
                (Gpa::new(0x10_0000), 0x1000..0x1400)
            );
            assert_eq!((plan.segments[1].gpa, plan.segments[1].mem_len), (Gpa::new(0x20_0000), 0x3000));
            assert_eq!(plan.extent(), (Gpa::new(0x10_0000), Gpa::new(0x20_3000)));
            assert_eq!(plan.notes.len(), 3);
            assert_eq!(plan.note(note::GUEST_OS).unwrap().text(), Some("linux"));
            assert_eq!(plan.note(note::SUPPORTED_FEATURES).unwrap().number(), Some(0x8801));
        }
    }
}

#[test]
fn refuses_bad_files() {
    let n = notes(0x10_0020);
    let good = with_note_segment(&n);
    let parse = |headers: &[Header], n: &[u8]| LoadPlan::parse(&elf(true, headers, n, false, 0x2000)).err();
    let with = |i: usize, h: Header| {
        let mut v = good.clone();
        v[i] = h;
        parse(&v, &n)
    };
    assert_eq!(parse(&good, &n), None);
    assert_eq!(with(0, (1, 0x1000, 0x10_03ff, 1, 1)), Some(Error::BadSegments)); // overlap by a byte
    assert_eq!(with(0, (1, 0x1000, 0x10_0400, 1, 1)), None); // touching is fine
    assert_eq!(with(0, (1, 0x1000, 0x20_0000, 2, 1)), Some(Error::BadSegments));
    assert_eq!(with(0, (1, 0x1000, u64::MAX, 1, 1)), Some(Error::BadSegments));
    assert_eq!(with(0, (1, 0x2000, 0x20_0000, 1, 1)), Some(Error::Truncated));
    assert_eq!(with(0, (1, u64::MAX, 0x20_0000, 1, 1)), Some(Error::Truncated));
    assert_eq!(parse(&good[2..], &n), Some(Error::NothingToLoad));
    assert_eq!(parse(&LOADS, &n), Some(Error::NotPvh));
    assert_eq!(parse(&good, &notes(0x10_0400)), Some(Error::BadEntry));
    assert_eq!(LoadPlan::parse(b"MZ").err(), Some(Error::NotElf));
    assert_eq!(LoadPlan::parse(b"\x7fELF").err(), Some(Error::WrongMachine));
    let mut arm = elf(true, &good, &n, false, 0x2000);
    arm[18] = 183;
    assert_eq!(LoadPlan::parse(&arm).err(), Some(Error::WrongMachine));
}

proptest! {
    #[test]
    fn damaged_elf_never_panics(
        wide in any::<bool>(),
        flips in prop::collection::vec((0usize..0x900, any::<u8>()), 0..20),
        cut in 0usize..0x2000,
    ) {
        let n = notes(0x10_0020);
        let mut image = elf(wide, &with_note_segment(&n), &n, true, 0x2000);
        for (at, v) in flips { image[at] = v; }
        for b in [&image[..], &image[..cut]] {
            if let Ok(plan) = LoadPlan::parse(b) {
                for s in &plan.segments {
                    prop_assert!(s.file.end <= b.len() && s.file.len() as u64 <= s.mem_len);
                    prop_assert!(s.gpa.checked_add(s.mem_len).is_some());
                }
                prop_assert!(plan.segments.windows(2).all(|w| w[0].end() <= w[1].gpa.raw()));
            }
        }
    }
}
