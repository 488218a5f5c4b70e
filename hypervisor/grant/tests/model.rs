//! Random use by three domains, and a granter that rewrites its entries at any time, against a naive model.
mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use common::*;
use proptest::prelude::*;
use radon_addr::Mfn;
use radon_grant::*;
use xen_abi::Errno;
use xen_abi::grant_table::*;

const IN_USE: u16 = GTF_READING | GTF_WRITING;
const ENTRIES: u32 = 12;

/// An entry as the guest wrote it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Entry {
    flags: u16,
    domid: u16,
    gfn: u64,
    start: u16,
    length: u16,
}

#[derive(Clone, Debug)]
enum Op {
    Rewrite(u32, Entry),
    /// Pin; the entry is rewritten after the hypervisor has read it.
    Pin(u32, Access, Purpose, Option<Entry>),
    Unpin(usize),
    SetVersion(u32),
    Swap(u32, u32),
}

fn entry() -> impl Strategy<Value = Entry> {
    let types =
        prop::sample::select(vec![GTF_INVALID, GTF_PERMIT_ACCESS, GTF_ACCEPT_TRANSFER, GTF_TRANSITIVE]);
    let types = prop_oneof![5 => Just(GTF_PERMIT_ACCESS), 1 => types];
    let readonly = prop::sample::select(vec![0, 0, GTF_READONLY]);
    let sub_page = prop::sample::select(vec![0, 0, 0, GTF_SUB_PAGE]);
    let gfn = prop_oneof![8 => 0..4u64, 1 => Just(RAM), 1 => Just(1u64 << 32)];
    (types, readonly, sub_page, 1..3u16, gfn, 0..3u16, 0..3u16).prop_map(
        |(t, r, s, domid, gfn, start, length)| Entry {
            flags: t | r | s,
            domid,
            gfn,
            start: start * 1000,
            length: length * 3000,
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    let gref = || prop_oneof![20 => 0..ENTRIES, 1 => Just(5000u32)];
    let mode = prop::sample::select(vec![Mode::Read, Mode::Write]);
    let via = prop::sample::select(vec![Via::Host, Via::Host, Via::Device]);
    let access = (1..4u16, mode, via).prop_map(|(by, mode, via)| Access { by: d(by), mode, via });
    let purpose = prop::sample::select(vec![Purpose::Map, Purpose::Copy]);
    let meanwhile = prop::option::weighted(0.2, entry());
    prop_oneof![
        4 => (0..ENTRIES, entry()).prop_map(|(gref, e)| Op::Rewrite(gref, e)),
        8 => (gref(), access, purpose, meanwhile).prop_map(|(gref, a, p, m)| Op::Pin(gref, a, p, m)),
        6 => any::<usize>().prop_map(Op::Unpin),
        1 => (1..3u32).prop_map(Op::SetVersion),
        1 => (gref(), gref()).prop_map(|(a, b)| Op::Swap(a, b)),
    ]
}

/// What one entry's pins share.
#[derive(Clone, Debug)]
struct Held {
    accesses: Vec<Access>,
    domid: u16,
    /// Frame, sub-page, start, length.
    target: (u64, bool, u16, u16),
    pinned: Pinned,
}

struct World {
    t: Granter,
    version: u32,
    entries: BTreeMap<u32, Entry>,
    held: BTreeMap<u32, Held>,
}

/// Writes an entry, leaving the bits that belong to the hypervisor alone.
fn write(t: &mut Granter, gref: u32, e: Entry) {
    let in_use = if t.gt.version() == 1 { t.flags(gref) & IN_USE } else { 0 };
    if t.gt.version() == 1 {
        t.grant(gref, e.flags | in_use, e.domid, e.gfn);
    } else {
        t.grant_part(gref, e.flags, e.domid, e.gfn, e.start, e.length);
    }
}

impl World {
    fn entry(&self, gref: u32) -> Entry {
        self.entries.get(&gref).copied().unwrap_or_default()
    }

    /// What the table in its version can hold of an entry.
    fn seen(&self, e: Entry) -> Entry {
        if self.version == 1 { Entry { gfn: u64::from(e.gfn as u32), start: 0, length: 0, ..e } } else { e }
    }

    fn grants(e: Entry, access: Access, purpose: Purpose) -> bool {
        let kind = if purpose == Purpose::Map { e.flags & (3 | GTF_SUB_PAGE) } else { e.flags & 3 };
        let readonly = e.flags & GTF_READONLY != 0;
        kind == GTF_PERMIT_ACCESS && d(e.domid) == access.by && !(readonly && access.mode == Mode::Write)
    }

    /// The part of an entry that must not change between a reader and a later writer.
    fn target(&self, e: Entry) -> (u64, bool, u16, u16) {
        let sub = self.version == 2 && e.flags & GTF_SUB_PAGE != 0;
        if sub { (e.gfn, true, e.start, e.length) } else { (e.gfn, false, 0, 4096) }
    }

    fn expect(&self, gref: u32, access: Access, purpose: Purpose) -> Result<Pinned, GntStatus> {
        if gref >= ENTRIES {
            return Err(GntStatus::BAD_GNTREF);
        }
        let e = self.entry(gref);
        let (gfn, sub, start, length) = self.target(e);
        match self.held.get(&gref) {
            None if !Self::grants(e, access, purpose) => Err(GntStatus::GENERAL_ERROR),
            None if gfn >= RAM => Err(GntStatus::BAD_PAGE),
            None => Ok(Pinned { mfn: self.t.mfn(gfn), start, length }),
            Some(held) => {
                let writer = held.accesses.iter().any(|a| a.mode == Mode::Write);
                let upgrade = access.mode == Mode::Write && !writer;
                let ok = d(held.domid) == access.by
                    && !(held.target.1 && purpose == Purpose::Map)
                    && (!upgrade
                        || Self::grants(e, access, purpose) && (gfn, sub, start, length) == held.target);
                if ok { Ok(held.pinned) } else { Err(GntStatus::GENERAL_ERROR) }
            }
        }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Rewrite(gref, e) => {
                let e = self.seen(e);
                write(&mut self.t, gref, e);
                self.entries.insert(gref, e);
            }
            Op::Pin(gref, access, purpose, meanwhile) => {
                let want = self.expect(gref, access, purpose);
                let before = self.entry(gref);
                let meanwhile = meanwhile.map(|e| self.seen(e));
                let mut rewritten = false;
                let got = {
                    // The closure writes through the memory, as a vCPU of the granter would.
                    let words = (gref < ENTRIES).then(|| (self.t.header(gref), self.t.frame32(gref)));
                    let wide = (gref < ENTRIES && self.version == 2).then(|| self.t.frame64(gref));
                    let version = self.version;
                    self.t.pin_then(gref, access, purpose, || {
                        let (Some(e), Some((header, low))) = (meanwhile, words) else { return };
                        rewritten = true;
                        let in_use = if version == 1 { header.load(SeqCst) & u32::from(IN_USE) } else { 0 };
                        header.store(u32::from(e.flags) | u32::from(e.domid) << 16 | in_use, SeqCst);
                        match wide {
                            Some(wide) => {
                                wide.store(e.gfn, SeqCst);
                                low.store(u32::from(e.start) | u32::from(e.length) << 16, SeqCst);
                            }
                            None => low.store(e.gfn as u32, SeqCst),
                        }
                    })
                };
                if rewritten {
                    self.entries.insert(gref, meanwhile.unwrap());
                }
                assert_eq!(
                    got,
                    want,
                    "entry {gref} {before:?} {access:?} {purpose:?} held {:?}",
                    self.held.get(&gref)
                );
                if let Ok(pinned) = got {
                    let target = self.target(before);
                    let fresh = || Held { accesses: Vec::new(), domid: before.domid, target, pinned };
                    self.held.entry(gref).or_insert_with(fresh).accesses.push(access);
                }
            }
            Op::Unpin(n) => {
                let all: Vec<(u32, usize)> = self
                    .held
                    .iter()
                    .flat_map(|(&gref, h)| (0..h.accesses.len()).map(move |i| (gref, i)))
                    .collect();
                if all.is_empty() {
                    assert_eq!(self.t.unpin(n as u32 % ENTRIES, access(1, Mode::Read)), None);
                    return;
                }
                let (gref, i) = all[n % all.len()];
                let held = self.held.get_mut(&gref).unwrap();
                let access = held.accesses.swap_remove(i);
                assert_eq!(self.t.unpin(gref, access), Some(held.pinned.mfn));
                if held.accesses.is_empty() {
                    self.held.remove(&gref);
                }
            }
            Op::SetVersion(version) => {
                let busy = self.held.keys().any(|&gref| gref >= 8);
                let sub = self.held.values().any(|h| h.target.1);
                let reserved: Vec<Entry> = (0..8).map(|gref| self.entry(gref)).collect();
                let wide = |e: &Entry| match e.flags & 3 {
                    GTF_PERMIT_ACCESS => e.gfn >> 32 != 0,
                    kind => kind == GTF_TRANSITIVE,
                };
                let want = match version {
                    v if v == self.version => None,
                    _ if busy => Some(Errno::EBUSY),
                    1 if sub => Some(Errno::EAGAIN),
                    1 if reserved.iter().any(wide) => Some(Errno::ERANGE),
                    _ => None,
                };
                assert_eq!(self.t.set_version(version).err(), want);
                if want.is_none() && version != self.version {
                    self.version = version;
                    let kept =
                        reserved.into_iter().zip(0..).filter(|(e, _)| version == 2 || e.flags & 3 == 1);
                    self.entries = kept.map(|(e, gref)| (gref, Entry { start: 0, length: 0, ..e })).collect();
                }
            }
            Op::Swap(a, b) => {
                let want = if a >= ENTRIES || b >= ENTRIES {
                    Err(GntStatus::BAD_GNTREF)
                } else if a != b && (self.held.contains_key(&a) || self.held.contains_key(&b)) {
                    Err(GntStatus::EAGAIN)
                } else {
                    let (ea, eb) = (self.entry(a), self.entry(b));
                    self.entries.insert(a, eb);
                    self.entries.insert(b, ea);
                    Ok(())
                };
                assert_eq!(self.t.gt.swap(g(a), g(b)), want);
            }
        }
    }

    fn check(&mut self) {
        let mut refs: BTreeMap<Mfn, u32> = BTreeMap::new();
        for gref in 0..ENTRIES {
            let e = self.entry(gref);
            let held = self.held.get(&gref);
            let writer = held.is_some_and(|h| h.accesses.iter().any(|a| a.mode == Mode::Write));
            let in_use = if held.is_some() { GTF_READING } else { 0 } | if writer { GTF_WRITING } else { 0 };
            assert_eq!(self.t.gt.is_pinned(g(gref)), held.is_some());
            assert_eq!(self.t.domid(gref), e.domid);
            let (flags, status) = (self.t.flags(gref), self.t.status(gref).load(SeqCst));
            if self.version == 1 {
                assert_eq!(flags, e.flags | in_use, "entry {gref}");
            } else {
                assert_eq!((flags, status), (e.flags, in_use), "entry {gref}");
            }
            if let Some(held) = held {
                *refs.entry(held.pinned.mfn).or_default() += held.accesses.len() as u32;
            }
        }
        assert_eq!(*self.t.refs.borrow(), refs, "one frame reference for each pin");
        assert_eq!(self.t.gt.pinned_entries() as usize, self.held.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]
    #[test]
    fn matches_the_model(ops in prop::collection::vec(op(), 1..200)) {
        let t = Granter::new(2, 1);
        let mut w = World { t, version: 1, entries: BTreeMap::new(), held: BTreeMap::new() };
        for op in &ops {
            w.apply(op);
            w.check();
        }
    }
}

/// A granter on another CPU that grants and revokes as Linux does: once it has revoked, nobody uses the
/// frame; and an entry in use cannot be revoked.
#[test]
fn revoking_races_with_pinning() {
    for version in [1, 2] {
        let mut t = Granter::new(2, 1);
        t.set_version(version).unwrap();
        let (header, status) = (t.header(0), t.status(0));
        t.grant(0, 0, 1, 3);
        let (in_use, stop, pins) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU32::new(0));
        let granted = u32::from(GTF_PERMIT_ACCESS) | 1 << 16;
        let revocations = AtomicU32::new(0);
        std::thread::scope(|s| {
            s.spawn(|| {
                let mut count = 0;
                while !stop.load(SeqCst) {
                    header.store(granted, SeqCst);
                    for _ in 0..count % 50 {
                        std::hint::spin_loop();
                    }
                    if version == 1 {
                        // One exchange from "granted and not in use" to nothing.
                        while header.compare_exchange(granted, 0, SeqCst, SeqCst).is_err() {
                            std::thread::yield_now();
                        }
                    } else {
                        header.store(0, SeqCst);
                        while status.load(SeqCst) & IN_USE != 0 {
                            std::thread::yield_now();
                        }
                    }
                    for _ in 0..300 {
                        assert!(!in_use.load(SeqCst), "version {version}: used after it was revoked");
                    }
                    count += 1;
                    revocations.store(count, SeqCst);
                }
            });
            let limit = std::time::Instant::now() + std::time::Duration::from_secs(60);
            let enough = || pins.load(SeqCst) >= 2000 && revocations.load(SeqCst) >= 2000;
            let mut round = 0u32;
            while !enough() && std::time::Instant::now() < limit {
                round += 1;
                let who = access(
                    1 + (round.is_multiple_of(3)) as u16,
                    if round.is_multiple_of(2) { Mode::Read } else { Mode::Write },
                );
                if t.pin(0, who, Purpose::Map).is_ok() {
                    in_use.store(true, SeqCst);
                    (0..round % 64).for_each(|_| std::hint::spin_loop());
                    assert_eq!(who.by, d(1));
                    pins.fetch_add(1, SeqCst);
                    in_use.store(false, SeqCst);
                    t.unpin(0, who).unwrap();
                }
            }
            stop.store(true, SeqCst);
        });
        assert!(pins.load(SeqCst) > 0 && revocations.load(SeqCst) > 0, "both sides must make progress");
        assert_eq!(status.load(SeqCst) & IN_USE, 0);
    }
}
