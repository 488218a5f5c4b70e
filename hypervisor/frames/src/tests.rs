//! Against a naive model, and the corners by name.

#![allow(clippy::single_range_in_vec_init)]
use crate::{
    AllocError, ClaimError, Contents, FrameAllocator, FreeError, GetError, Kind, MAX_ORDER, Put, Request,
};
use core::sync::atomic::Ordering;
use proptest::prelude::*;
use radon_addr::{DomId, Maddr, Mfn};
use radon_hw::{mem, sim};
use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

const A: DomId = DomId::new(1);
const B: DomId = DomId::new(2);

/// Test RAM is far up; tables are indexed from 0, so tests share one low window of RAM, whose frames are told
/// apart by the test's own `FrameAllocator`, and take turns.
static WINDOW: std::sync::Mutex<()> = std::sync::Mutex::new(());
/// Frames in the window.
const FRAMES: u64 = 1 << 12;

struct Machine {
    frames: &'static FrameAllocator,
    ram: Vec<core::ops::Range<u64>>,
    _turn: std::sync::MutexGuard<'static, ()>,
}

fn machine(ram: &[core::ops::Range<u64>], contents: Contents) -> Machine {
    let turn = WINDOW.lock().unwrap_or_else(|e| e.into_inner());
    sim::add_ram(Maddr::new(0), FRAMES << 12);
    let frames: &'static FrameAllocator = Box::leak(Box::new(FrameAllocator::new()));
    let max = Mfn::new(FRAMES);
    let table = sim::fresh_ram(FrameAllocator::table_bytes(max).div_ceil(4096));
    let ranges: Vec<_> = ram.iter().map(|r| Mfn::new(r.start)..Mfn::new(r.end)).collect();
    let all = ram.iter().flat_map(|r| r.clone()).map(Mfn::new);
    match contents {
        Contents::Overwritten => all.for_each(scribble),
        Contents::Zeroed => all.for_each(mem::zero_frame),
    }
    frames.init(&ranges, max, table.maddr(), contents).unwrap();
    for dom in [A, B] {
        frames.set_max_pages(dom, FRAMES);
    }
    Machine { frames, ram: ram.to_vec(), _turn: turn }
}

fn ram(owner: DomId, order: u8) -> Request {
    Request::new(order, owner, Kind::GuestRam)
}

fn scribble(mfn: Mfn) {
    mem::fill(mfn.maddr(), 0xa5, 4096);
}

fn is_zero(mfn: Mfn) -> bool {
    let mut page = [1; 4096];
    mem::read_bytes(mfn.maddr(), &mut page);
    page.iter().all(|b| *b == 0)
}

#[test]
fn high_addresses_first_and_limits_are_kept() {
    let m = machine(&[0..FRAMES], Contents::Zeroed);
    let high = m.frames.alloc(ram(A, 0)).unwrap();
    assert_eq!(high, Mfn::new(FRAMES - 1));
    // Below 1 MiB: 256 frames, although frame 0 heads a block that reaches far beyond.
    let low = m.frames.alloc(ram(A, 4).below(20)).unwrap();
    assert!(low.raw() + 16 <= 256, "{low:?}");
    assert_eq!(low.raw() % 16, 0);
    for _ in 0..15 {
        assert!(m.frames.alloc(ram(A, 4).below(20)).unwrap().raw() < 256);
    }
    assert_eq!(m.frames.alloc(ram(A, 4).below(20)), Err(AllocError::NoMemory));
    assert_eq!(m.frames.alloc(ram(A, MAX_ORDER + 1)), Err(AllocError::BadRequest));
    assert_eq!(m.frames.alloc(Request::new(0, A, Kind::Free)), Err(AllocError::BadRequest));
}

#[test]
fn last_reference_frees_whoever_holds_it() {
    let m = machine(&[16..64], Contents::Zeroed);
    let mfn = m.frames.alloc(ram(A, 0)).unwrap();
    assert_eq!(m.frames.get(mfn, B).unwrap_err(), GetError::WrongOwner);
    let guard = m.frames.get(mfn, A).unwrap();
    assert_eq!(m.frames.release_allocated(mfn, B).ok(), None);
    assert_eq!(m.frames.release_allocated(mfn, A), Ok(Put::Live));
    assert!(m.frames.release_allocated(mfn, A).is_err(), "released twice");
    assert_eq!((m.frames.domain(A).tot_pages, m.frames.free_pages()), (1, 47));
    assert!(!m.frames.domain_is_empty(A));
    drop(guard);
    assert_eq!((m.frames.domain(A).tot_pages, m.frames.free_pages()), (0, 48));
    assert!(m.frames.domain_is_empty(A));
    assert_eq!(m.frames.get(mfn, A).unwrap_err(), GetError::NotMappable);
    assert!(m.frames.put(mfn).is_err());
    assert_eq!(m.frames.get(Mfn::new(3), A).unwrap_err(), GetError::NotRam);
    assert_eq!(m.frames.get(Mfn::new(u64::MAX), A).unwrap_err(), GetError::NotRam);
}

#[test]
fn the_allocations_reference_cannot_be_put() {
    let m = machine(&[16..64], Contents::Zeroed);
    let mfn = m.frames.alloc(ram(A, 0)).unwrap();
    assert!(m.frames.put(mfn).is_err());
    m.frames.get_raw(mfn, None).unwrap();
    assert_eq!(m.frames.put(mfn), Ok(Put::Live));
    assert!(m.frames.put(mfn).is_err());
    assert_eq!(m.frames.info(mfn).unwrap().count, 1);
}

#[test]
fn private_frames_cannot_be_mapped_and_are_freed_whole_and_once() {
    let m = machine(&[0..64], Contents::Zeroed);
    let heap = m.frames.alloc(Request::new(2, DomId::XEN, Kind::Heap)).unwrap();
    let table = m.frames.alloc(Request::new(0, A, Kind::PageTable)).unwrap();
    assert_eq!(m.frames.domain(A).overhead, 1);
    assert_eq!(m.frames.get_any(heap).unwrap_err(), GetError::NotMappable);
    assert_eq!(m.frames.get(table, A).unwrap_err(), GetError::NotMappable);
    assert!(m.frames.release_allocated(table, A).is_err());
    assert_eq!(m.frames.free(heap, 3), Err(FreeError));
    assert_eq!(m.frames.free(heap, 2), Ok(()));
    assert_eq!(m.frames.free(heap, 2), Err(FreeError));
    assert_eq!(m.frames.free(Mfn::new(heap.raw() + 1), 0), Err(FreeError));
    assert_eq!(m.frames.free(table, 0), Ok(()));
    let guest = m.frames.alloc(ram(A, 0)).unwrap();
    assert_eq!(m.frames.free(guest, 0), Err(FreeError));
    assert_eq!(m.frames.domain(A).overhead, 0);
    assert_eq!(m.frames.free_pages(), 63);
}

#[test]
fn claims_keep_others_out() {
    let m = machine(&[0..100], Contents::Zeroed);
    let own = m.frames.alloc(ram(A, 0)).unwrap();
    m.frames.set_max_pages(A, 80);
    assert_eq!(m.frames.claim(A, 81), Err(ClaimError::Invalid));
    assert_eq!(m.frames.claim(A, 1), Err(ClaimError::Invalid));
    assert_eq!(m.frames.claim(A, 80), Ok(()));
    assert_eq!(m.frames.claim(A, 80), Err(ClaimError::Invalid));
    assert_eq!(m.frames.claim(B, 30), Err(ClaimError::NoMemory));
    assert_eq!(m.frames.outstanding_claims(), 79);
    // 99 free, 79 claimed: 20 for everyone else.
    for _ in 0..20 {
        m.frames.alloc(ram(B, 0)).unwrap();
    }
    assert_eq!(m.frames.alloc(ram(B, 0)), Err(AllocError::NoMemory));
    assert_eq!(m.frames.alloc(Request::new(0, A, Kind::PageTable)), Err(AllocError::NoMemory));
    let more = m.frames.alloc(ram(A, 3)).unwrap();
    assert_eq!((m.frames.domain(A).outstanding, m.frames.outstanding_claims()), (71, 71));
    // What goes back while the claim is active is claimed again.
    m.frames.release_allocated(more, A).unwrap();
    assert_eq!((m.frames.domain(A).outstanding, m.frames.outstanding_claims()), (72, 72));
    assert_eq!(m.frames.claim(A, 0), Ok(()));
    assert_eq!((m.frames.domain(A).outstanding, m.frames.outstanding_claims()), (0, 0));
    m.frames.release_allocated(own, A).unwrap();
    assert_eq!(m.frames.outstanding_claims(), 0);
    m.frames.set_max_pages(B, 20);
    assert_eq!(m.frames.alloc(ram(B, 0)), Err(AllocError::OverMax));
}

#[test]
fn dirty_memory_is_scrubbed_unless_the_caller_overwrites_it() {
    let m = machine(&[0..8], Contents::Overwritten);
    assert_eq!(m.frames.scrub_pending(), 8);
    let block = m.frames.alloc(ram(A, 3)).unwrap();
    assert!((0..8).all(|n| is_zero(Mfn::new(n))));
    assert_eq!(m.frames.scrub_pending(), 0);
    for n in 0..8 {
        scribble(Mfn::new(n));
        m.frames.release_allocated(Mfn::new(n), A).unwrap();
    }
    assert_eq!(m.frames.scrub_pending(), 8);
    let raw = m.frames.alloc(ram(B, 0).overwritten()).unwrap();
    assert!(!is_zero(raw));
    assert_eq!(m.frames.scrub_pending(), 7);
    assert!(m.frames.scrub_some(3), "four left");
    assert_eq!(m.frames.scrub_pending(), 4);
    while m.frames.scrub_some(1) {}
    assert_eq!(m.frames.scrub_pending(), 0);
    // A head's first word links it to its list; it is zero again for whoever gets the frame.
    let rest: Vec<Mfn> = (0..7).map(|_| m.frames.alloc(ram(B, 0)).unwrap()).collect();
    assert!(rest.into_iter().all(is_zero) && block == Mfn::new(0));
}

#[test]
#[should_panic(expected = "was written to")]
fn writing_to_free_memory_is_noticed() {
    let m = machine(&[0..8], Contents::Zeroed);
    let one = m.frames.alloc(ram(A, 0)).unwrap();
    (0..8).map(Mfn::new).filter(|mfn| *mfn != one).for_each(scribble);
    while m.frames.alloc(ram(A, 0)).is_ok() {}
}

#[test]
fn exact_ranges_are_all_or_nothing() {
    let m = machine(&[3..50, 60..100], Contents::Overwritten);
    let take = |start, n| m.frames.alloc_range_exact(Mfn::new(start), n, A, Kind::GuestRam, Contents::Zeroed);
    scribble(Mfn::new(20));
    assert_eq!(take(45, 10), Err(AllocError::InUse));
    assert_eq!(take(FRAMES - 1, 2), Err(AllocError::InUse));
    assert_eq!(take(1, u64::MAX), Err(AllocError::InUse));
    assert_eq!(m.frames.domain(A).tot_pages, 0);
    assert_eq!(take(5, 40), Ok(()));
    assert!(is_zero(Mfn::new(20)));
    assert_eq!(take(44, 1), Err(AllocError::InUse));
    assert_eq!((m.frames.domain(A).tot_pages, m.frames.free_pages()), (40, 47));
    assert_eq!(m.frames.find_allocated(A, Mfn::new(0), 5), Err(Mfn::new(5)));
    assert_eq!(m.frames.find_allocated(A, Mfn::new(5), 1), Ok(Some(Mfn::new(5))));
    assert_eq!(m.frames.find_allocated(B, Mfn::new(0), u32::MAX), Ok(None));
    let before = m.frames.free_blocks();
    (5..45).for_each(|n| assert_eq!(m.frames.release_allocated(Mfn::new(n), A), Ok(Put::Freed)));
    assert_ne!(m.frames.free_blocks(), before);
    // 3 | 4..8 | 8..16 | 16..32 | 32..48 | 48..50 | 60..64 | 64..96 | 96..100
    assert_eq!(m.frames.free_blocks()[..6], [1, 1, 3, 1, 2, 1]);
}

#[test]
fn guests_leave_a_floor_to_the_hypervisor() {
    let m = machine(&[0..2048], Contents::Zeroed);
    m.frames.set_max_pages(A, 4096);
    assert_eq!(m.frames.claim(A, 2041), Err(ClaimError::NoMemory));
    assert_eq!((0..4096).take_while(|_| m.frames.alloc(ram(A, 0)).is_ok()).count(), 2040);
    assert_eq!(m.frames.alloc(ram(A, 0)), Err(AllocError::NoMemory));
    assert_eq!((0..9).take_while(|_| m.frames.alloc(Request::new(0, A, Kind::PageTable)).is_ok()).count(), 8);
}

#[test]
fn largest_blocks_merge_and_split() {
    let _turn = WINDOW.lock().unwrap_or_else(|e| e.into_inner());
    let frames: &'static FrameAllocator = Box::leak(Box::new(FrameAllocator::new()));
    let max = Mfn::new(2 << 18);
    sim::add_ram(Maddr::new(0), 2 << 30);
    let table = sim::fresh_ram(FrameAllocator::table_bytes(max).div_ceil(4096));
    frames.init(&[Mfn::new(1)..max], max, table.maddr(), Contents::Zeroed).unwrap();
    frames.set_max_pages(A, u64::MAX);
    assert_eq!(frames.free_blocks(), core::array::from_fn(|_| 1));
    let big = frames.alloc(ram(A, MAX_ORDER)).unwrap();
    assert_eq!(big, Mfn::new(1 << 18));
    assert_eq!(frames.alloc(ram(A, MAX_ORDER)), Err(AllocError::NoMemory));
    assert_eq!(frames.free_pages(), (1 << 18) - 1);
    frames.add_range(Mfn::new(0)..Mfn::new(1));
    assert_eq!(frames.free_blocks()[MAX_ORDER as usize], 1);
    assert_eq!(frames.total_pages(), 2 << 18);
    assert!(frames.init(&[], max, table.maddr(), Contents::Zeroed).is_err());
}

#[test]
fn references_survive_concurrent_release() {
    let m = machine(&[0..64], Contents::Zeroed);
    let frames = m.frames;
    let (rounds, tries) = if cfg!(miri) { (4, 3) } else { (200, 20) };
    for _ in 0..rounds {
        let mfn = frames.alloc(ram(A, 0)).unwrap();
        std::thread::scope(|s| {
            for _ in 0..2 {
                s.spawn(|| {
                    for _ in 0..tries {
                        if let Ok(held) = frames.get(mfn, A) {
                            assert_ne!(frames.info(held.mfn()).unwrap().kind, Kind::Free);
                        }
                    }
                });
            }
            s.spawn(|| frames.release_allocated(mfn, A).unwrap());
        });
        assert_eq!(frames.free_pages(), 64);
    }
}

/// A frame is in a p2m and another CPU maps it once more (a grant, a foreign mapping) while its owner gives it up and takes a
/// new one: the mapping holds the old frame, or there is none; nobody sees the frame with another owner's contents.
#[test]
fn a_mapping_races_with_giving_up() {
    let m = machine(&[0..8], Contents::Zeroed);
    let frames = m.frames;
    let rounds = if cfg!(miri) { 4 } else { 500 };
    for _ in 0..rounds {
        let mfn = frames.alloc(ram(A, 0)).unwrap();
        let word = mem::atomic_u64(mfn.maddr());
        word.store(0xa, Ordering::SeqCst);
        std::thread::scope(|s| {
            s.spawn(|| {
                let Ok(held) = frames.get(mfn, A) else { return };
                assert_eq!(held.owner(), A);
                // Perhaps it is A's again already, zeroed; it is never B's while it is held.
                assert_ne!(word.load(Ordering::SeqCst), 0xb);
                frames.put(held.into_raw()).unwrap();
            });
            frames.release_allocated(mfn, A).unwrap();
            // All the others' memory: whatever is free now.
            let taken: Vec<_> = std::iter::from_fn(|| frames.alloc(ram(B, 0)).ok()).collect();
            for &b in &taken {
                assert_eq!(mem::atomic_u64(b.maddr()).load(Ordering::SeqCst), 0, "A's data");
                mem::atomic_u64(b.maddr()).store(0xb, Ordering::SeqCst);
            }
            for b in taken {
                frames.release_allocated(b, B).unwrap();
            }
        });
        assert_eq!(frames.free_pages(), 8);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Alloc(bool, u8, bool),
    Exact(u64, u64),
    Private(u8),
    Get(usize, bool),
    Put(usize),
    Release(usize, bool),
    FreePrivate(usize),
    Claim(bool, u64),
    Scrub(u32),
    MaxPages(bool, u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (any::<bool>(), 0..6_u8, any::<bool>()).prop_map(|(d, o, z)| Op::Alloc(d, o, z)),
        1 => (0..200_u64, 1..40_u64).prop_map(|(s, n)| Op::Exact(s, n)),
        1 => (0..4_u8).prop_map(Op::Private),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(i, d)| Op::Get(i, d)),
        3 => any::<usize>().prop_map(Op::Put),
        6 => (any::<usize>(), any::<bool>()).prop_map(|(i, d)| Op::Release(i, d)),
        1 => any::<usize>().prop_map(Op::FreePrivate),
        1 => (any::<bool>(), prop_oneof![Just(0), 1..200_u64]).prop_map(|(d, n)| Op::Claim(d, n)),
        1 => (1..20_u32).prop_map(Op::Scrub),
        1 => (any::<bool>(), 0..300_u64).prop_map(|(d, n)| Op::MaxPages(d, n)),
    ]
}

/// What a frame in use must be.
#[derive(Clone, Debug)]
struct Used {
    owner: DomId,
    count: u32,
    allocated: bool,
}

#[derive(Default)]
struct Model {
    free: BTreeSet<u64>,
    used: BTreeMap<u64, Used>,
    private: Vec<(u64, u8)>,
    max: BTreeMap<u16, u64>,
    claim: BTreeMap<u16, u64>,
}

impl Model {
    fn tot(&self, dom: DomId) -> u64 {
        self.used.values().filter(|u| u.owner == dom).count() as u64
    }
    fn claims(&self) -> u64 {
        self.claim.values().sum()
    }
    fn claim_of(&mut self, dom: DomId) -> &mut u64 {
        self.claim.entry(dom.raw()).or_default()
    }
    fn may(&self, dom: DomId, n: u64) -> bool {
        self.tot(dom) + n <= self.max[&dom.raw()]
            && (self.claims() + n <= self.free.len() as u64
                || self.claim.get(&dom.raw()).is_some_and(|c| *c >= n))
    }
    fn has_block(&self, order: u8) -> bool {
        let n = 1 << order;
        self.free.iter().any(|f| f % n == 0 && (*f..f + n).all(|g| self.free.contains(&g)))
    }
    fn take(&mut self, dom: DomId, start: u64, n: u64) {
        for f in start..start + n {
            assert!(self.free.remove(&f), "frame {f} owned by two");
            self.used.insert(f, Used { owner: dom, count: 1, allocated: true });
        }
        let claim = self.claim_of(dom);
        *claim = claim.saturating_sub(n);
    }
    fn unref(&mut self, f: u64) {
        let used = self.used.get_mut(&f).unwrap();
        used.count -= 1;
        if used.count == 0 {
            let owner = used.owner;
            self.used.remove(&f);
            self.free.insert(f);
            let claim = self.claim_of(owner);
            *claim += u64::from(*claim != 0);
        }
    }
}

fn step(m: &Machine, model: &mut Model, op: &Op) {
    let dom = |a: bool| if a { A } else { B };
    let pick = |model: &Model, i: usize| {
        let n = model.used.len().max(1);
        model.used.keys().nth(i % n).copied().unwrap_or(0)
    };
    match *op {
        Op::Alloc(d, order, zeroed) => {
            let request = if zeroed { ram(dom(d), order) } else { ram(dom(d), order).overwritten() };
            let want = model.may(dom(d), 1 << order) && model.has_block(order);
            let got = m.frames.alloc(request);
            assert_eq!(got.is_ok(), want, "{got:?}");
            if let Ok(mfn) = got {
                assert_eq!(mfn.raw() % (1 << order), 0);
                for f in mfn.raw()..mfn.raw() + (1 << order) {
                    assert!(!zeroed || is_zero(Mfn::new(f)), "dirty frame {f} handed out");
                    scribble(Mfn::new(f));
                }
                model.take(dom(d), mfn.raw(), 1 << order);
            }
        }
        Op::Exact(start, n) => {
            let want = model.may(A, n) && (start..start + n).all(|f| model.free.contains(&f));
            let got = m.frames.alloc_range_exact(Mfn::new(start), n, A, Kind::GuestRam, Contents::Zeroed);
            assert_eq!(got.is_ok(), want, "{got:?}");
            if want {
                for f in start..start + n {
                    assert!(is_zero(Mfn::new(f)));
                    scribble(Mfn::new(f));
                }
                model.take(A, start, n);
            }
        }
        Op::Private(order) => {
            let want = model.claims() + (1 << order) <= model.free.len() as u64 && model.has_block(order);
            let got = m.frames.alloc(Request::new(order, DomId::XEN, Kind::Heap));
            assert_eq!(got.is_ok(), want, "{got:?}");
            if let Ok(mfn) = got {
                for f in mfn.raw()..mfn.raw() + (1 << order) {
                    assert!(is_zero(Mfn::new(f)));
                    assert!(model.free.remove(&f));
                }
                model.private.push((mfn.raw(), order));
            }
        }
        Op::Get(i, d) => {
            let f = pick(model, i);
            let want = model.used.get(&f).is_some_and(|u| u.owner == dom(d));
            assert_eq!(m.frames.get_raw(Mfn::new(f), Some(dom(d))).is_ok(), want);
            if want {
                model.used.get_mut(&f).unwrap().count += 1;
            }
        }
        Op::Put(i) => {
            let f = pick(model, i);
            let want = model.used.get(&f).is_some_and(|u| u.count > u32::from(u.allocated));
            assert_eq!(m.frames.put(Mfn::new(f)).is_ok(), want);
            if want {
                model.unref(f);
            }
        }
        Op::Release(i, d) => {
            let f = pick(model, i);
            let want = model.used.get(&f).is_some_and(|u| u.allocated && u.owner == dom(d));
            assert_eq!(m.frames.release_allocated(Mfn::new(f), dom(d)).is_ok(), want);
            if want {
                model.used.get_mut(&f).unwrap().allocated = false;
                model.unref(f);
            }
        }
        Op::FreePrivate(i) => {
            if !model.private.is_empty() {
                let (f, order) = model.private.swap_remove(i % model.private.len());
                assert_eq!(m.frames.free(Mfn::new(f), order), Ok(()));
                model.free.extend(f..f + (1 << order));
            }
        }
        Op::Claim(d, pages) => {
            let (tot, max) = (model.tot(dom(d)), model.max[&dom(d).raw()]);
            let spare = (model.free.len() as u64).saturating_sub(model.claims());
            let ok = *model.claim_of(dom(d)) == 0 && pages > tot && pages <= max && pages - tot <= spare;
            assert_eq!(m.frames.claim(dom(d), pages).is_ok(), ok || pages == 0);
            if ok || pages == 0 {
                *model.claim_of(dom(d)) = pages.saturating_sub(tot);
            }
        }
        Op::Scrub(n) => {
            m.frames.scrub_some(n);
        }
        Op::MaxPages(d, n) => {
            m.frames.set_max_pages(dom(d), n);
            model.max.insert(dom(d).raw(), n);
        }
    }
}

fn compare(m: &Machine, model: &Model) {
    assert_eq!(m.frames.free_pages(), model.free.len() as u64);
    assert_eq!(m.frames.outstanding_claims(), model.claims());
    for dom in [A, B] {
        let now = m.frames.domain(dom);
        assert_eq!(u64::from(now.tot_pages), model.tot(dom));
        assert_eq!(u64::from(now.outstanding), model.claim.get(&dom.raw()).copied().unwrap_or(0));
    }
    let blocks: u64 = m.frames.free_blocks().iter().enumerate().map(|(o, n)| u64::from(*n) << o).sum();
    assert_eq!(blocks, model.free.len() as u64);
    for f in m.ram.iter().flat_map(|r| r.clone()) {
        let info = m.frames.info(Mfn::new(f)).unwrap();
        match model.used.get(&f) {
            Some(u) => {
                assert_eq!((info.kind, info.owner), (Kind::GuestRam, u.owner));
                assert_eq!((info.count, info.allocated), (u.count, u.allocated));
            }
            None => assert_eq!(info.kind == Kind::Free, model.free.contains(&f)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn behaves_as_the_model(ops in prop::collection::vec(op(), 1..120)) {
        let m = machine(&[5..140, 150..256], Contents::Overwritten);
        let fresh = m.frames.free_blocks();
        let mut model = Model {
            free: m.ram.iter().flat_map(|r| r.clone()).collect(),
            max: [(A.raw(), FRAMES), (B.raw(), FRAMES)].into(),
            ..Model::default()
        };
        for op in &ops {
            step(&m, &mut model, op);
            compare(&m, &model);
        }
        for (f, u) in &model.used {
            if u.allocated {
                m.frames.release_allocated(Mfn::new(*f), u.owner).unwrap();
            }
            for _ in u32::from(u.allocated)..u.count {
                m.frames.put(Mfn::new(*f)).unwrap();
            }
        }
        for (f, order) in &model.private {
            m.frames.free(Mfn::new(*f), *order).unwrap();
        }
        prop_assert_eq!(m.frames.free_pages(), m.frames.total_pages());
        prop_assert_eq!(m.frames.free_blocks(), fresh);
        while m.frames.scrub_some(8) {}
        prop_assert_eq!(m.frames.scrub_pending(), 0);
        [A, B].into_iter().for_each(|dom| m.frames.claim(dom, 0).unwrap());
        let zeroed = Request::new(0, DomId::XEN, Kind::Heap);
        let all = std::iter::from_fn(|| m.frames.alloc(zeroed).ok());
        prop_assert_eq!(all.filter(|mfn| is_zero(*mfn)).count() as u64, m.frames.total_pages());
    }
}
