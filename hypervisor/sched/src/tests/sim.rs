//! A machine that runs the scheduler's decisions: CPUs decide when their slice ends or when they are poked.

use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

use radon_addr::{CpuId, DomId, Ns};

use crate::{CpuSet, Scheduler};

/// What a unit does with its time.
#[derive(Clone, Copy)]
pub enum Habit {
    /// Computes for ever.
    Hog,
    /// Every `period` ns it wakes up and computes for `work` ns.
    Periodic { period: u64, work: u64 },
}

struct Task {
    habit: Habit,
    runnable: bool,
    left: u64,
    woken: u64,
    next_wake: u64,
    latency: u64,
    waited: u64,
    wakes: u64,
}

#[derive(Default)]
struct Core {
    current: Option<u64>,
    /// Runs since.
    from: u64,
    until: u64,
}

/// The machine.
pub struct Sim {
    pub s: Scheduler<u64>,
    pub now: u64,
    cores: Vec<Core>,
    tasks: BTreeMap<u64, Task>,
    pub ran: BTreeMap<u64, u64>,
    pub switches: u64,
}

pub fn cpus(list: &[u32]) -> CpuSet {
    list.iter().map(|&c| CpuId::new(c)).collect()
}

impl Sim {
    pub fn new(count: u32) -> Sim {
        let mut s = Scheduler::new();
        (0..count).for_each(|c| s.add_cpu(CpuId::new(c)));
        let cores = (0..count).map(|_| Core::default()).collect();
        Sim { s, now: 1_000_000, cores, tasks: BTreeMap::new(), ran: BTreeMap::new(), switches: 0 }
    }

    /// A unit of a domain; key = domain * 100 + n.
    pub fn add(&mut self, key: u64, habit: Habit) {
        self.s.add(key, DomId::new((key / 100) as u16), key);
        let now = self.now;
        let next_wake = match habit {
            Habit::Hog => now,
            Habit::Periodic { period, .. } => now + key % 7 * period / 7,
        };
        self.tasks.insert(
            key,
            Task { habit, runnable: false, left: 0, woken: 0, next_wake, latency: 0, waited: 0, wakes: 0 },
        );
    }

    /// Longest and mean time from waking to running.
    pub fn latency(&self, key: u64) -> (u64, u64) {
        let t = &self.tasks[&key];
        (t.latency, t.waited / t.wakes.max(1))
    }

    fn decide(&mut self, cpu: u32) {
        let mut queue = BTreeSet::from([cpu]);
        while let Some(c) = queue.pop_first() {
            let d = self.s.schedule(CpuId::new(c), Ns::new(self.now));
            let core = &mut self.cores[c as usize];
            if core.current != d.next {
                self.switches += 1;
            }
            (core.current, core.from, core.until) = (d.next, self.now, d.until.raw());
            assert!(d.until.raw() > self.now, "a slice of no length");
            if let Some(key) = d.next {
                let t = self.tasks.get_mut(&key).unwrap();
                assert!(t.runnable, "{key} given a CPU though it sleeps");
                if t.woken != 0 {
                    t.latency = t.latency.max(self.now - t.woken);
                    t.waited += self.now - t.woken;
                    t.wakes += 1;
                    t.woken = 0;
                }
            }
            queue.extend(d.poke.iter().map(|c| c.raw()));
        }
        self.check();
    }

    /// No unit on two CPUs; no CPU idle while a unit that may run there waits.
    fn check(&self) {
        let running: Vec<u64> = self.cores.iter().filter_map(|c| c.current).collect();
        let distinct: BTreeSet<u64> = running.iter().copied().collect();
        assert_eq!(running.len(), distinct.len(), "a unit on two CPUs");
        for (i, core) in self.cores.iter().enumerate() {
            let cpu = CpuId::new(i as u32);
            if let Some(key) = core.current {
                assert!(self.s.affinity(key).unwrap().0.contains(cpu), "{key} where it must not run");
                continue;
            }
            for (key, t) in &self.tasks {
                let unit = &self.s.units[key];
                let fits = unit.allowed(&self.s.pools[&unit.pool].cpus).contains(cpu);
                let waits = t.runnable && !unit.parked && !distinct.contains(key);
                assert!(!(waits && fits), "{cpu:?} idles, {key} waits at {}", self.now);
            }
        }
    }

    /// Lets units run to `self.now` and go to sleep if their work is done.
    fn progress(&mut self, to: u64) {
        let mut idle = Vec::new();
        for (i, core) in self.cores.iter_mut().enumerate() {
            if let Some(key) = core.current {
                let time = to - core.from;
                core.from = to;
                *self.ran.entry(key).or_default() += time;
                let t = self.tasks.get_mut(&key).unwrap();
                if let Habit::Periodic { .. } = t.habit {
                    t.left -= time;
                    if t.left == 0 {
                        t.runnable = false;
                        self.s.sleep(key, Ns::new(to));
                        idle.push(i as u32);
                    }
                }
            }
        }
        self.now = to;
        idle.into_iter().for_each(|c| self.decide(c));
    }

    fn next_event(&self) -> u64 {
        let slices = self.cores.iter().map(|c| c.until);
        let works = self.cores.iter().filter_map(|c| {
            let t = &self.tasks[&c.current?];
            matches!(t.habit, Habit::Periodic { .. }).then_some(c.from + t.left)
        });
        let wakes = self.tasks.values().filter(|t| !t.runnable).map(|t| t.next_wake);
        slices.chain(works).chain(wakes).min().unwrap_or(u64::MAX)
    }

    /// Runs for so many milliseconds.
    pub fn run(&mut self, ms: u64) {
        let end = self.now + ms * 1_000_000;
        loop {
            let at = self.next_event().max(self.now);
            self.progress(at.min(end));
            if at >= end {
                return;
            }
            let due: Vec<u64> = self
                .tasks
                .iter()
                .filter(|(_, t)| !t.runnable && t.next_wake <= self.now)
                .map(|t| *t.0)
                .collect();
            for key in due {
                let t = self.tasks.get_mut(&key).unwrap();
                t.runnable = true;
                t.woken = self.now;
                if let Habit::Periodic { period, work } = t.habit {
                    t.left = work;
                    t.next_wake += period;
                }
                if let Some(c) = self.s.wake(key, Ns::new(self.now)) {
                    self.decide(c.raw());
                }
                self.check();
            }
            for c in 0..self.cores.len() {
                if self.cores[c].until <= self.now {
                    self.decide(c as u32);
                }
            }
        }
    }

    /// Time run by the units of a domain, in microseconds, and forgets it.
    pub fn domain_us(&self, dom: u64) -> u64 {
        self.ran.iter().filter(|(k, _)| **k / 100 == dom).map(|(_, v)| v / 1000).sum()
    }

    /// Pokes the CPUs.
    pub fn poke(&mut self, set: CpuSet) {
        self.progress(self.now);
        set.iter().for_each(|c| self.decide(c.raw()));
    }
}
