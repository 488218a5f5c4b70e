//! Random operations against the rules that must always hold.

use std::collections::{BTreeMap, BTreeSet};
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use radon_addr::{CpuId, DomId, Ns};

use crate::{CpuSet, Scheduler};

#[derive(Clone, Debug)]
enum Op {
    Add(u64),
    Remove(u64),
    Wake(u64),
    Sleep(u64),
    Yield(u64),
    Schedule(u32),
    Advance(u64),
    Affinity(u64, u8, u8),
    Params(u16, u16, u16),
    PoolCreate,
    PoolAdd(u32, u32),
    PoolRemove(u32, u32),
    PoolMove(u16, u32),
    PoolDestroy(u32),
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0u64..8;
    let cpu = 0u32..4;
    prop_oneof![
        2 => key.clone().prop_map(Op::Add),
        1 => key.clone().prop_map(Op::Remove),
        8 => key.clone().prop_map(Op::Wake),
        4 => key.clone().prop_map(Op::Sleep),
        1 => key.clone().prop_map(Op::Yield),
        8 => cpu.clone().prop_map(Op::Schedule),
        4 => (0u64..20_000_000).prop_map(Op::Advance),
        2 => (key, 0u8..16, 0u8..16).prop_map(|(k, h, s)| Op::Affinity(k, h, s)),
        1 => (0u16..4, 0u16..1000, prop_oneof![Just(0u16), 1u16..200]).prop_map(|(d, w, c)| Op::Params(d, w, c)),
        1 => Just(Op::PoolCreate),
        1 => (0u32..3, cpu.clone()).prop_map(|(p, c)| Op::PoolAdd(p, c)),
        1 => (0u32..3, cpu).prop_map(|(p, c)| Op::PoolRemove(p, c)),
        2 => (0u16..4, 0u32..3).prop_map(|(d, p)| Op::PoolMove(d, p)),
        1 => (0u32..3).prop_map(Op::PoolDestroy),
    ]
}

/// What the core would know.
struct World {
    s: Scheduler<u64>,
    now: u64,
    runnable: BTreeSet<u64>,
    exist: BTreeSet<u64>,
    current: BTreeMap<u32, u64>,
    until: BTreeMap<u32, u64>,
    /// Pokes not yet acted upon.
    pokes: BTreeSet<u32>,
}

impl World {
    fn new() -> World {
        let mut s = Scheduler::new();
        (0..4).for_each(|c| s.add_cpu(CpuId::new(c)));
        // Two pools from the start, units in both, and a capped domain: what matters is seldom reached at random.
        s.pool_create(Some(1)).unwrap();
        for c in [2, 3] {
            s.pool_remove_cpu(0, Some(CpuId::new(c))).unwrap();
            s.pool_add_cpu(1, Some(CpuId::new(c))).unwrap();
        }
        for key in 0..4 {
            s.add(key, dom(key), key);
        }
        s.set_params(dom(0), 256, 15).unwrap();
        s.pool_move_domain(dom(2), 1).unwrap();
        World {
            s,
            now: 1,
            runnable: BTreeSet::new(),
            exist: (0..4).collect(),
            current: BTreeMap::new(),
            until: BTreeMap::new(),
            pokes: (0..4).collect(),
        }
    }

    fn schedule(&mut self, c: u32) {
        self.pokes.remove(&c);
        let before = self.current.remove(&c);
        let d = self.s.schedule(CpuId::new(c), Ns::new(self.now));
        assert!(d.until.raw() > self.now);
        self.until.insert(c, d.until.raw());
        self.pokes.extend(d.poke.iter().map(|c| c.raw()));
        let Some(key) = d.next else { return };
        assert!(self.runnable.contains(&key), "{key} sleeps");
        assert!(self.current.values().all(|&k| k != key), "{key} runs elsewhere");
        let cpus = self.s.pool_cpus(self.s.pool_of(dom(key)).unwrap()).unwrap();
        assert!(cpus.contains(CpuId::new(c)), "{key} outside its pool");
        let hard = self.s.affinity(key).unwrap().0;
        assert!(hard.contains(CpuId::new(c)) || hard.and(&cpus).is_empty(), "{key} against its affinity");
        if before != Some(key) {
            assert!(before.is_none_or(|b| self.s.units.get(&b).is_none_or(|u| u.on.is_none())));
        }
        self.current.insert(c, key);
    }

    /// Acts on all pokes and ends of slices.
    fn settle(&mut self) {
        for _ in 0..100 {
            let late = self.until.iter().find(|(_, t)| **t <= self.now).map(|(c, _)| *c);
            match self.pokes.pop_first().or(late) {
                Some(c) => self.schedule(c),
                None => return,
            }
        }
        panic!("pokes without end");
    }

    /// No lost wake-up: what waits has no idle CPU to run on, and what waits for budget has a CPU that will look.
    fn check_waiting(&self) {
        for &key in &self.runnable {
            if self.current.values().any(|&k| k == key) {
                continue;
            }
            let unit = &self.s.units[&key];
            let cpus = self.s.pool_cpus(unit.pool).unwrap();
            if unit.parked {
                let due = self.s.domains[&unit.dom].period_end.raw();
                assert!(
                    cpus.iter().any(|c| self.until[&c.raw()] <= due.max(self.now)),
                    "{key} waits for budget and nobody looks"
                );
                continue;
            }
            assert!(unit.queued.is_some(), "{key} forgotten");
            for c in unit.allowed(&cpus).iter() {
                assert!(self.current.contains_key(&c.raw()), "{key} waits, {c:?} idles");
            }
        }
        for (pool, p) in &self.s.pools {
            for place in &p.queue {
                let unit = &self.s.units[&place.key];
                assert_eq!((unit.queued, unit.pool, unit.on), (Some(*place), *pool, None));
                assert_eq!(place.debt, -unit.credit);
            }
        }
        for d in self.s.domains.iter() {
            let parked = self.s.units.values().filter(|u| u.dom == *d.0 && u.parked).count();
            assert_eq!(parked as u32, d.1.parked);
        }
    }

    fn poke(&mut self, set: impl IntoIterator<Item = CpuId>) {
        self.pokes.extend(set.into_iter().map(|c| c.raw()));
    }

    fn apply(&mut self, op: Op) {
        let now = Ns::new(self.now);
        match op {
            Op::Add(k) => {
                if self.exist.insert(k) {
                    self.s.add(k, dom(k), k);
                }
            }
            Op::Remove(k) => {
                // As the core: a vCPU is made to leave its CPU before it goes.
                self.s.sleep(k, now);
                self.runnable.remove(&k);
                if let Some(c) = self.current.iter().find(|e| *e.1 == k).map(|e| *e.0) {
                    self.schedule(c);
                }
                self.s.remove(k);
                self.exist.remove(&k);
            }
            Op::Wake(k) => {
                let target = self.s.wake(k, now);
                if self.exist.contains(&k) {
                    self.runnable.insert(k);
                }
                self.poke(target);
            }
            Op::Sleep(k) => {
                self.s.sleep(k, now);
                self.runnable.remove(&k);
                let on = self.current.iter().find(|e| *e.1 == k).map(|e| CpuId::new(*e.0));
                self.poke(on);
            }
            Op::Yield(k) => self.s.yield_now(k),
            Op::Schedule(c) => self.schedule(c),
            Op::Advance(ns) => self.now += ns,
            Op::Affinity(k, hard, soft) => {
                let set = |b| CpuSet::from_le_bytes(&[b]);
                if let Ok(target) = self.s.set_affinity(k, &set(hard), &set(soft), now) {
                    self.poke(target);
                }
            }
            Op::Params(d, w, c) => {
                let _ = self.s.set_params(DomId::new(d), w, c);
                self.poke((0..4).map(CpuId::new));
            }
            Op::PoolCreate => {
                let _ = self.s.pool_create(None);
            }
            Op::PoolAdd(p, c) => {
                let added = self.s.pool_add_cpu(p, Some(CpuId::new(c))).ok();
                self.poke(added);
            }
            Op::PoolRemove(p, c) => {
                if let Ok(set) = self.s.pool_remove_cpu(p, Some(CpuId::new(c))) {
                    self.poke(set.iter());
                }
            }
            Op::PoolMove(d, p) => {
                if let Ok(set) = self.s.pool_move_domain(DomId::new(d), p) {
                    self.poke(set.iter());
                }
            }
            Op::PoolDestroy(p) => {
                let _ = self.s.pool_destroy(p);
            }
        }
        let pools: CpuSet = self.s.pools.values().flat_map(|p| p.cpus.iter().collect::<Vec<_>>()).collect();
        assert!(pools.and(&self.s.free_cpus()).is_empty());
        for d in self.s.domains.values() {
            assert!(!self.s.pools[&d.pool].cpus.is_empty(), "a domain without CPUs");
        }
    }
}

fn dom(key: u64) -> DomId {
    DomId::new((key / 2) as u16)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn rules_hold(ops in prop::collection::vec((op(), prop::bool::weighted(0.4)), 1..120)) {
        let mut w = World::new();
        for (op, settle) in ops {
            w.apply(op);
            if settle {
                w.settle();
                w.check_waiting();
            }
        }
        w.settle();
        w.check_waiting();
    }
}
