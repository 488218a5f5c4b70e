use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;
use radon_addr::Gpa;

use super::elf;
use crate::dom0_memory::*;
use crate::elf::LoadPlan;

const K: u64 = 1 << 10;
const M: u64 = 1 << 20;
const G: u64 = 1 << 30;
const T: u64 = 1 << 40;

fn map(list: &[(u64, u64, MemType)]) -> Vec<Region> {
    list.iter().map(|&(start, end, kind)| Region { start, end, kind }).collect()
}

/// What QEMU's q35 with SeaBIOS reports for 4 GiB.
fn q35() -> Vec<Region> {
    use MemType::*;
    map(&[
        (0, 0x9fc00, Ram),
        (0x9fc00, 0xa0000, Reserved),
        (0xf0000, 0x10_0000, Reserved),
        (0x10_0000, 0x7ffd_d000, Ram),
        (0x7ffd_d000, 0x8000_0000, Reserved),
        (0xb000_0000, 0xc000_0000, Reserved),
        (4 * G, 6 * G, Ram),
    ])
}

fn kernel(start: u64, end: u64) -> Vec<u8> {
    let n = elf::notes(start as u32);
    let len = n.len() as u64;
    elf::elf(true, &[(1, 0x1000, start, 0x400, end - start), (4, 0x800, 0, len, len)], &n, false, 0x2000)
}

fn kind_at(map: &[Region], at: u64) -> Option<MemType> {
    map.iter().find(|r| r.start <= at && at < r.end).map(|r| r.kind)
}

#[test]
fn typical_machine() {
    let radon = (2 * M, 6 * M);
    let m = dom0_memory_layout(&q35(), &[radon, (0x8_0000, 0x8_1000)], G >> 12).unwrap();
    assert_eq!(m.pages, G >> 12);
    let first = RamRange { start: radon_addr::Mfn::new(0), pages: 0x80 };
    assert_eq!(m.ram[0], first);
    assert_eq!(m.ram[1].start.raw(), 0x81);
    let last = m.ram.last().unwrap();
    // 0x80 + 0x1e pages lie below 1 MiB, 0x100 between 1 and 2 MiB.
    assert_eq!((last.start.raw(), last.pages), ((6 * M) >> 12, (G >> 12) - 0x9e - 0x100));
    let kinds: Vec<_> = m.e820.iter().map(|r| r.kind.e820()).collect();
    assert_eq!(kinds, [1, 2, 1, 2, 2, 1, 2, 1, 5, 2, 2, 5]);
    assert_eq!(kind_at(&m.e820, 3 * M), Some(MemType::Reserved));
    assert_eq!(kind_at(&m.e820, 5 * G), Some(MemType::Unusable));
    assert_eq!(kind_at(&m.e820, 0x9f000), None); // the page that is only half RAM
}

#[test]
fn placement_goes_high_and_carves_acpi() {
    let image = kernel(16 * M, 74 * M);
    let plan = LoadPlan::parse(&image).unwrap();
    for pages in [(256 * M) >> 12, (5 * G) >> 12] {
        let mut m = dom0_memory_layout(&q35(), &[(2 * M, 6 * M)], pages).unwrap();
        let top =
            m.e820.iter().filter(|r| r.kind == MemType::Ram && r.end <= 4 * G).map(|r| r.end).max().unwrap();
        let before = m.pages;
        let request =
            Dom0Request { kernel: &plan, initrd_len: 30 * M + 1, acpi_len: 5000, start_info_len: 100 };
        let p = m.place(&request).unwrap();
        assert_eq!(p.acpi, Some(Gpa::new(top - 8 * K)));
        assert_eq!(p.initrd, Some(Gpa::new(top - 8 * K - 30 * M - 4 * K)));
        let below_initrd = top - 8 * K - 30 * M - 8 * K;
        assert_eq!(p.start_info, Gpa::new(below_initrd.min(G - 4 * K)));
        assert_eq!(kind_at(&m.e820, top - 1), Some(MemType::Acpi));
        assert_eq!(kind_at(&m.e820, top - 8 * K - 1), Some(MemType::Ram));
        assert_eq!(m.pages, before);
    }
}

#[test]
fn refusals() {
    let image = kernel(16 * M, 74 * M);
    let plan = LoadPlan::parse(&image).unwrap();
    let request = Dom0Request { kernel: &plan, initrd_len: 30 * M, acpi_len: 1, start_info_len: 100 };
    let layout = |taken: &[(u64, u64)], mib: u64| dom0_memory_layout(&q35(), taken, (mib * M) >> 12).unwrap();
    let does_not_fit = Err(Error::KernelDoesNotFit(16 * M, 74 * M));
    assert_eq!(layout(&[(20 * M, 20 * M + 1)], 512).place(&request), does_not_fit);
    assert_eq!(layout(&[], 64).place(&request), does_not_fit);
    assert_eq!(layout(&[], 80).place(&request), Err(Error::DoesNotFit(30 * M)));
    assert!(layout(&[], 120).place(&request).is_ok());
    assert_eq!(dom0_memory_layout(&[], &[], 10).err(), Some(Error::NoRam));
    assert_eq!(dom0_memory_layout(&q35(), &[(0, u64::MAX)], 10).err(), Some(Error::NoRam));
    let unsorted = map(&[(M, 2 * M, MemType::Ram), (M + 1, 3 * M, MemType::Ram)]);
    assert_eq!(dom0_memory_layout(&unsorted, &[], 10).err(), Some(Error::BadHostMap));
}

#[test]
fn sizes_from_tiny_to_huge() {
    use MemType::*;
    let tiny = map(&[(0, 640 * K, Ram), (M, 5 * M, Ram)]);
    let m = dom0_memory_layout(&tiny, &[(2 * M, 3 * M)], u64::MAX).unwrap();
    assert_eq!(m.pages, (640 * K + 3 * M) >> 12);
    let huge = map(&[
        (0, 640 * K, Ram),
        (M, 3 * G, Ram),
        (3 * G, 4 * G, Reserved),
        (4 * G, 8 * T, Ram),
        (9 * T, 64 * T, Ram),
    ]);
    let m = dom0_memory_layout(&huge, &[(2 * M, 64 * M), (5 * T, 5 * T + 1)], (10 * T) >> 12).unwrap();
    assert_eq!(m.pages, (10 * T) >> 12);
    assert_eq!(m.ram.len(), 6);
    assert_eq!(m.ram.iter().map(|r| r.pages).sum::<u64>(), m.pages);
    let wrapping = map(&[(0, u64::MAX, Ram)]);
    assert_eq!(dom0_memory_layout(&wrapping, &[], u64::MAX).unwrap().pages, (1 << 52) - 1);
}

/// Page by page, what dom0 must see. `None`: nothing.
fn model(host: &[Region], taken: &[(u64, u64)], pages: u64, frames: u64) -> (Vec<Option<MemType>>, u64) {
    let mut left = pages;
    let mut seen = vec![None; frames as usize];
    for (f, out) in seen.iter_mut().enumerate() {
        let (s, e) = ((f as u64) << 12, ((f as u64) + 1) << 12);
        let Some(r) = host.iter().find(|r| r.start <= s && e <= r.end) else { continue };
        *out = Some(r.kind);
        if r.kind == MemType::Ram {
            if taken.iter().any(|&(a, b)| a < e && s < b && a < b) {
                *out = Some(MemType::Reserved);
            } else if left == 0 {
                *out = Some(MemType::Unusable);
            } else {
                left -= 1;
            }
        }
    }
    (seen, pages - left)
}

proptest! {
    #[test]
    fn matches_the_page_model(
        lengths in prop::collection::vec((1u64..0x40_000, 0u64..0x3000, 0u32..5), 1..10),
        taken in prop::collection::vec((0u64..M, 0u64..0x8000), 0..6),
        pages in 0u64..300,
        kernel_at in 0u64..300,
        acpi_len in 0u64..9000,
        initrd_len in 0u64..40_000,
    ) {
        let mut at = 0;
        let mut host = Vec::new();
        for (len, gap, kind) in lengths {
            let kind = MemType::from_e820(kind.max(1));
            host.push(Region { start: at, end: at + len, kind });
            at += len + gap;
        }
        // Shift everything so that the interesting part straddles 1 MiB.
        let base = M - 0x2_0000;
        for r in &mut host { r.start += base; r.end += base; }
        let taken: Vec<_> = taken.iter().map(|&(s, n)| (base + s, base + s + n)).collect();
        let frames = (base + at) / 4096 + 2;
        let (want, total) = model(&host, &taken, pages, frames);
        let mut m = match dom0_memory_layout(&host, &taken, pages) {
            Ok(m) => m,
            Err(e) => { prop_assert_eq!((e, total), (Error::NoRam, 0)); return Ok(()); }
        };
        prop_assert_eq!(m.pages, total);
        prop_assert!(m.e820.windows(2).all(|w| w[0].end <= w[1].start));
        let mut ram = vec![false; frames as usize];
        for r in &m.ram {
            for f in r.start.raw()..r.start.raw() + r.pages {
                prop_assert!(!core::mem::replace(&mut ram[f as usize], true));
            }
        }
        for f in 0..frames {
            let page = want[f as usize];
            prop_assert_eq!(ram[f as usize], page == Some(MemType::Ram));
            if page.is_some() {
                prop_assert_eq!(kind_at(&m.e820, f << 12), page, "frame {:#x}", f);
            }
        }

        let start = base + (kernel_at << 12) + 0x10;
        let image = kernel(start, start + 0x3000);
        let plan = LoadPlan::parse(&image).unwrap();
        let old = m.clone();
        let request = Dom0Request { kernel: &plan, initrd_len, acpi_len, start_info_len: 60 };
        let Ok(p) = m.place(&request) else { return Ok(()) };
        let info_len = 60 + 24 * m.e820.len() as u64;
        let up = |n: u64| n.next_multiple_of(4096);
        let mut pieces = vec![(start & !0xfff, (start + 0x3000 + 0xfff) & !0xfff, true), (p.start_info.raw(), p.start_info.raw() + up(info_len), true)];
        prop_assert_eq!((p.acpi.is_some(), p.initrd.is_some()), (acpi_len != 0, initrd_len != 0));
        pieces.extend(p.acpi.map(|a| (a.raw(), a.raw() + up(acpi_len), false)));
        pieces.extend(p.initrd.map(|a| (a.raw(), a.raw() + up(initrd_len), true)));
        pieces.sort_unstable();
        prop_assert!(pieces.windows(2).all(|w| w[0].1 <= w[1].0), "overlap {:x?}", pieces);
        for &(s, e, still_ram) in &pieces {
            prop_assert!(s >= M || s == start & !0xfff);
            for page in (s..e).step_by(4096) {
                prop_assert_eq!(kind_at(&old.e820, page), Some(MemType::Ram));
                prop_assert_eq!(kind_at(&m.e820, page), Some(if still_ram { MemType::Ram } else { MemType::Acpi }));
            }
        }
    }
}
