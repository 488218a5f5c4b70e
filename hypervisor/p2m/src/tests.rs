//! Against a flat map of pages, and against a walker that reads the tables as the hardware does.

use crate::{Entry, Flush, Kind, P2m, P2mError, Walk};
use core::ops::ControlFlow;
use proptest::prelude::*;
use radon_addr::{DomId, Gfn, Maddr, Mfn};
use radon_frames::{Contents, FrameAllocator};
use radon_hw::{mem, sim};
use std::boxed::Box;
use std::collections::BTreeMap;
use std::vec::Vec;

const DOM: DomId = DomId::new(7);
/// Each test gets its own piece of low memory: tables of the allocator are indexed from frame 0.
const PIECE: u64 = 4096;

fn frames() -> &'static FrameAllocator {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let start = NEXT.fetch_add(PIECE, std::sync::atomic::Ordering::Relaxed);
    sim::add_ram(Mfn::new(start).maddr(), PIECE << 12);
    let max = Mfn::new(start + PIECE);
    let table = sim::fresh_ram(FrameAllocator::table_bytes(max).div_ceil(4096));
    let frames: &'static FrameAllocator = Box::leak(Box::new(FrameAllocator::new()));
    frames.init(&[Mfn::new(start)..max], max, table.maddr(), Contents::Zeroed).unwrap();
    frames
}

/// What AMD's nested walker makes of `gfn`: (mfn, writable, executable, uncached).
fn hardware(root: Mfn, gfn: u64) -> Option<(u64, bool, bool, bool)> {
    let (mut table, mut rw, mut nx) = (root.maddr().raw(), true, false);
    for level in (0..4).rev() {
        let e: u64 = mem::read(Maddr::new(table + (gfn >> (9 * level) & 511) * 8));
        if e & 1 == 0 {
            return None;
        }
        assert_ne!(e & 4, 0, "nested walks are user accesses");
        rw &= e & 2 != 0;
        nx |= e >> 63 != 0;
        let address = e & 0x000f_ffff_ffff_f000;
        if level == 0 || e & 0x80 != 0 {
            assert_ne!(level, 3);
            assert_eq!(e & 0x60, 0x60, "accessed and dirty must be set");
            let size = 1 << (9 * level);
            assert_eq!((address >> 12) & (size - 1), 0, "reserved bits in a large page");
            return Some(((address >> 12) | (gfn & (size - 1)), rw, !nx, e & 0x18 != 0));
        }
        table = address;
    }
    unreachable!()
}

fn no_removal(gfn: Gfn, entry: Entry) {
    panic!("unexpected removal of {gfn:?} {entry:?}");
}

#[test]
fn maps_splits_and_reports() {
    let frames = frames();
    let before = frames.free_pages();
    let mut p2m = P2m::new(frames, DOM, 40).unwrap();
    let (g, m) = (Gfn::new(0x4_0000), Mfn::new(0x8_0000));
    assert_eq!(p2m.set(g, m, 18, Kind::Ram, no_removal), Ok(Flush::None));
    assert_eq!(p2m.tables(), 2);
    let at = Gfn::new(g.raw() + 0x1_2345);
    assert_eq!(p2m.lookup(at), Some(Entry { mfn: Mfn::new(0x9_2345), kind: Kind::Ram, order: 18 }));
    assert_eq!((p2m.ram_pages(), p2m.max_gfn()), (1 << 18, Gfn::new(0x7_ffff)));

    let replaced = p2m.set_page(at, Mfn::new(5), Kind::GrantRo).unwrap();
    assert_eq!(replaced.old, Some(Entry { mfn: Mfn::new(0x9_2345), kind: Kind::Ram, order: 0 }));
    assert_eq!(replaced.flush, Flush::Needed);
    assert_eq!((p2m.ram_pages(), p2m.tables()), ((1 << 18) - 1, 4));
    assert_eq!(p2m.lookup(Gfn::new(at.raw() + 1)).unwrap().mfn, Mfn::new(0x9_2346));
    assert_eq!(p2m.lookup(Gfn::new(at.raw() + 512)).unwrap().order, 9);

    // A superpage over tables: they wait for the flush.
    let mut gone = Vec::new();
    let flush = p2m.set(g, m, 18, Kind::Ram, |gfn, e| gone.push((gfn, e))).unwrap();
    assert_eq!((flush, gone.len()), (Flush::Needed, 512 + 511));
    assert!(gone.contains(&(at, Entry { mfn: Mfn::new(5), kind: Kind::GrantRo, order: 0 })));
    assert_eq!((p2m.tables(), p2m.ram_pages()), (4, 1 << 18));
    p2m.reclaim();
    assert_eq!(p2m.tables(), 2);
    assert_eq!(before - frames.free_pages(), 2);

    assert_eq!(p2m.remove(Gfn::new(0), 18, no_removal), Ok(Flush::None));
    assert_eq!(p2m.tables(), 2, "removing nothing builds nothing");
    p2m.free_tables();
    assert_eq!(frames.free_pages(), before);
    assert_eq!((p2m.root(), p2m.lookup(at)), (None, None));
    assert_eq!(p2m.set_page(at, m, Kind::Ram), Err(P2mError::Dying));
}

#[test]
fn a_reader_finds_what_a_lookup_does() {
    let mut p2m = P2m::new(frames(), DOM, 40).unwrap();
    for (gfn, mfn, order) in
        [(0x4_0000, 0x8_0000, 18), (0x200, 0x400, 9), (0x400, 0x1000, 9), (7, 9, 0), (8, 3, 0)]
    {
        assert_eq!(p2m.set(Gfn::new(gfn), Mfn::new(mfn), order, Kind::Ram, no_removal), Ok(Flush::None));
    }
    let _ = p2m.set_page(Gfn::new(0x3ff), Mfn::new(1), Kind::GrantRo).unwrap();
    let edges = [0x4_0000, 0x7_ffff, 0x200, 0x3fe, 0x3ff, 0x400, 0x5ff, 7, 8];
    let probes: Vec<u64> = edges.iter().flat_map(|e| [e - 1, *e, e + 1]).chain([0, u64::MAX]).collect();
    for first in &probes {
        // Whatever was found before.
        let mut reader = p2m.reader();
        let _ = reader.lookup(Gfn::new(*first));
        for gfn in probes.iter().map(|g| Gfn::new(*g)) {
            assert_eq!(reader.lookup(gfn), p2m.lookup(gfn), "{gfn:?} after {first:#x}");
        }
    }
}

#[test]
fn refuses_nonsense() {
    let frames = frames();
    let mut p2m = P2m::new(frames, DOM, 36).unwrap();
    let mut set = |g, m, o| p2m.set(Gfn::new(g), Mfn::new(m), o, Kind::Ram, |_, _| {}).map(drop);
    assert_eq!(set(1 << 24, 0, 0), Err(P2mError::OutOfRange));
    assert_eq!(set(u64::MAX, 0, 0), Err(P2mError::OutOfRange));
    assert_eq!(set(!0x3_ffff, 0, 18), Err(P2mError::OutOfRange));
    assert_eq!(set(1, 0, 9), Err(P2mError::Misaligned));
    assert_eq!(set(0, 1, 9), Err(P2mError::Misaligned));
    assert_eq!(set(0, 1 << 40, 0), Err(P2mError::Misaligned));
    assert_eq!(set(0, 0, 1), Err(P2mError::BadOrder));
    assert_eq!(set((1 << 24) - 1, 0, 0), Ok(()));
    assert_eq!(p2m.lookup(Gfn::new(u64::MAX)), None);
    p2m.set_max_order(9);
    assert_eq!(p2m.set(Gfn::new(0), Mfn::new(0), 18, Kind::Ram, |_, _| {}), Err(P2mError::BadOrder));
    p2m.set_table_limit(p2m.tables() + 1);
    assert_eq!(p2m.set_page(Gfn::new(0), Mfn::new(0), Kind::Ram), Err(P2mError::NoMemory));
    assert_eq!(p2m.lookup(Gfn::new(0)), None);
}

#[test]
fn rights_decide_whether_to_flush() {
    let frames = frames();
    let mut p2m = P2m::new(frames, DOM, 40).unwrap();
    let mut set = |m, kind| p2m.set_page(Gfn::new(9), Mfn::new(m), kind).unwrap().flush;
    assert_eq!(set(1, Kind::Broken), Flush::None);
    assert_eq!(set(1, Kind::RamLogdirty), Flush::None);
    assert_eq!(set(1, Kind::Ram), Flush::None, "gained the right to write");
    assert_eq!(set(1, Kind::Ram), Flush::None);
    assert_eq!(set(1, Kind::RamLogdirty), Flush::Needed);
    assert_eq!(set(2, Kind::RamLogdirty), Flush::Needed);
    assert_eq!(set(2, Kind::GrantRo), Flush::Needed, "lost the right to execute");
    assert_eq!(set(2, Kind::GrantRw), Flush::None);
    assert_eq!(set(2, Kind::MmioDirect), Flush::Needed, "caching changed");
    assert_eq!(p2m.ram_pages(), 0);
    assert_eq!(p2m.remove_page(Gfn::new(9)).unwrap().flush, Flush::Needed);
    assert_eq!(p2m.remove_page(Gfn::new(9)).unwrap().flush, Flush::None);
}

#[test]
fn ranges_use_the_largest_leaves() {
    let frames = frames();
    let mut p2m = P2m::new(frames, DOM, 40).unwrap();
    let (start, n) = (0x3_fdff, 1 + 512 + (1 << 18) + 512 + 3);
    assert_eq!(p2m.set_range(Gfn::new(start), Mfn::new(start), n, Kind::Ram, no_removal), Ok(Flush::None));
    assert_eq!(p2m.ram_pages(), n);
    let mut leaves = Vec::new();
    let end = p2m.walk(Gfn::new(0), u32::MAX, |gfn, e| {
        assert_eq!(gfn.raw(), e.mfn.raw());
        leaves.push((gfn.raw(), e.order));
        ControlFlow::Continue(())
    });
    let at = 0x4_0000 + (1 << 18);
    assert_eq!(end, Walk::Done);
    let tail = [(at + 512, 0), (at + 513, 0), (at + 514, 0)];
    assert_eq!(leaves[..4], [(start, 0), (0x3_fe00, 9), (0x4_0000, 18), (at, 9)]);
    assert_eq!(leaves[4..], tail);
    // From the middle of nothing, and from the middle of a leaf.
    for (from, first) in [(5, start), (0x4_0003, 0x4_0000), (0x4_0000 - 1, 0x3_fe00)] {
        let mut seen = None;
        let stopped = p2m.walk(Gfn::new(from), 2000, |gfn, _| {
            seen = Some(gfn.raw());
            ControlFlow::Break(())
        });
        assert!(matches!(stopped, Walk::Resume(_)));
        assert_eq!(seen, Some(first));
    }
    assert_eq!(p2m.walk(Gfn::new(at + 515), u32::MAX, |_, _| unreachable!()), Walk::Done);
}

#[test]
fn broken_superpages_keep_their_mark_when_split() {
    let frames = frames();
    let mut p2m = P2m::new(frames, DOM, 40).unwrap();
    let _ = p2m.set(Gfn::new(512), Mfn::new(0), 9, Kind::Broken, no_removal).unwrap();
    let _ = p2m.set_page(Gfn::new(600), Mfn::new(3), Kind::Ram).unwrap();
    assert_eq!((p2m.kind(Gfn::new(601)), p2m.lookup(Gfn::new(601))), (Kind::Broken, None));
    assert_eq!((p2m.kind(Gfn::new(600)), p2m.kind(Gfn::new(511))), (Kind::Ram, Kind::None));
    // A walk from the middle of the gap below must not step over it.
    let end = p2m.walk(Gfn::new(100), u32::MAX, |gfn, _| {
        assert_eq!(gfn, Gfn::new(600));
        ControlFlow::Break(())
    });
    assert_eq!(end, Walk::Resume(Gfn::new(601)));
}

#[derive(Clone, Debug)]
enum Op {
    Set(u64, u64, u8, Kind),
    Remove(u64, u8),
    Flush,
}

fn order() -> impl Strategy<Value = u8> {
    prop_oneof![6 => Just(0_u8), 3 => Just(9), 1 => Just(18)]
}

/// gfns that collide often: around the corners of superpages, in three gigabytes and high up.
fn gfn() -> impl Strategy<Value = u64> {
    (
        prop_oneof![3 => 0..2_u64, 1 => Just((1 << 28) / (1 << 18) - 1)],
        0..3_u64,
        prop_oneof![0..3_u64, 510..512_u64],
    )
        .prop_map(|(giga, mega, page)| (giga << 18) + (mega << 9) + page)
}

fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(std::vec![
        Kind::Ram,
        Kind::RamRo,
        Kind::RamLogdirty,
        Kind::MmioDirect,
        Kind::Foreign,
        Kind::GrantRw,
        Kind::GrantRo,
        Kind::XenShared,
        Kind::Broken
    ])
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (gfn(), 0..1_u64 << 22, order(), kind()).prop_map(|(g, m, o, k)| Op::Set(g, m, o, k)),
        3 => (gfn(), order()).prop_map(|(g, o)| Op::Remove(g, o)),
        1 => Just(Op::Flush),
    ]
}

/// Present pages, as runs that never overlap: start -> (length, mfn, kind).
#[derive(Default)]
struct Model(BTreeMap<u64, (u64, u64, Kind)>);

impl Model {
    fn get(&self, gfn: u64) -> Option<(u64, Kind)> {
        let (start, (n, mfn, kind)) = self.0.range(..=gfn).next_back()?;
        (gfn < start + n).then(|| (mfn + (gfn - start), *kind))
    }
    /// Cuts `[start, start + n)` out; returns the pages that were there.
    fn cut(&mut self, start: u64, n: u64) -> u64 {
        let end = start + n;
        let hit: Vec<_> =
            self.0.range(..end).filter(|(s, r)| **s + r.0 > start).map(|(s, r)| (*s, *r)).collect();
        let mut pages = 0;
        for (s, (len, mfn, kind)) in hit {
            self.0.remove(&s);
            let (from, to) = (s.max(start), (s + len).min(end));
            pages += to - from;
            if s < from {
                self.0.insert(s, (from - s, mfn, kind));
            }
            if to < s + len {
                self.0.insert(to, (s + len - to, mfn + (to - s), kind));
            }
        }
        pages
    }
    fn ram(&self) -> u64 {
        self.0.values().filter(|r| r.2.is_own_ram()).map(|r| r.0).sum()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn behaves_as_the_model(ops in prop::collection::vec(op(), 1..40)) {
        let frames = frames();
        let before = frames.free_pages();
        let mut p2m = P2m::new(frames, DOM, 40).unwrap();
        let mut model = Model::default();
        for op in &ops {
            let mut gone = Vec::new();
            let removed = |gfn: Gfn, e: Entry| gone.push((gfn.raw(), e));
            let (g, o, new) = match *op {
                Op::Flush => {
                    p2m.reclaim();
                    continue;
                }
                Op::Remove(g, o) => (g >> o << o, o, None),
                Op::Set(g, m, o, k) => (g >> o << o, o, Some((m >> o << o, k))),
            };
            let flush = match new {
                None => p2m.remove(Gfn::new(g), o, removed),
                Some((m, k)) => p2m.set(Gfn::new(g), Mfn::new(m), o, k, removed),
            }.unwrap();
            let mut pages = 0;
            let mut lost = false;
            for (gfn, e) in &gone {
                prop_assert!(*gfn >= g && gfn + (1 << e.order) <= g + (1 << o));
                prop_assert_eq!(model.get(*gfn), Some((e.mfn.raw(), e.kind)));
                let last = (1 << e.order) - 1;
                prop_assert_eq!(model.get(gfn + last), Some((e.mfn.raw() + last, e.kind)));
                pages += 1 << e.order;
                lost |= new.is_none_or(|(m, k)| !k.present() || m + (gfn - g) != e.mfn.raw());
            }
            prop_assert_eq!(model.cut(g, 1 << o), pages, "every removed page is reported once");
            prop_assert!(!lost || flush == Flush::Needed);
            if let Some((m, k)) = new.filter(|n| n.1.present()) {
                model.0.insert(g, (1 << o, m, k));
            }
            prop_assert_eq!(p2m.ram_pages(), model.ram());
            let root = p2m.root().unwrap();
            let edges: Vec<u64> = model.0.iter().flat_map(|(s, r)| [*s, s + r.0 - 1, s + r.0]).collect();
            for gfn in edges.into_iter().chain([0, g, g + 1, g + 511, g + 512]) {
                let entry = p2m.lookup(Gfn::new(gfn));
                let want = model.get(gfn);
                prop_assert_eq!(entry.map(|e| (e.mfn.raw(), e.kind)), want);
                let seen = want.map(|(m, k)| (m, k.writable(), k.executable(), k == Kind::MmioDirect));
                prop_assert_eq!(hardware(root, gfn), seen);
            }
        }
        // A walk in small steps sees every page once, in order.
        let (mut from, mut seen, mut steps) = (Gfn::new(0), Vec::new(), 0);
        while let Walk::Resume(next) = p2m.walk(from, 7, |g, e| {
            seen.push((g.raw(), e));
            if seen.len() % 3 == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }) {
            prop_assert!(next > from);
            (from, steps) = (next, steps + 1);
        }
        prop_assert!(seen.len() < 3 || steps > 0);
        prop_assert!(seen.windows(2).all(|w| w[0].0 + (1 << w[0].1.order) <= w[1].0));
        prop_assert_eq!(seen.iter().map(|s| 1_u64 << s.1.order).sum::<u64>(), model.0.values().map(|r| r.0).sum());
        // So does a teardown in small steps, and it leaves nothing behind.
        let mut torn = Vec::new();
        while !p2m.teardown(5, |g, e| torn.push((g.raw(), e))) {}
        prop_assert_eq!(torn, seen);
        prop_assert_eq!((p2m.tables(), p2m.ram_pages()), (0, 0));
        prop_assert_eq!(frames.free_pages(), before);
        prop_assert_eq!(frames.domain(DOM).overhead, 0);
    }
}
