//! The scheduler's state and its decision.

use alloc::collections::{BTreeMap, BTreeSet};

use radon_addr::{CpuId, DomId, Ns};

use crate::cpupool::Pool;
use crate::domain::Domain;
use crate::unit::{Place, Unit};
use crate::{
    CAP_PERIOD, CREDIT_INIT, CpuSet, DEFAULT_RATELIMIT_US, MAX_CPUS, MAX_SLICE, MIGRATE_RESIST,
    MIN_CAP_SLICE, MIN_SLICE, SOFT_RESIST, US,
};

/// Schedules units, each standing for a `P`.
pub struct Scheduler<P> {
    pub(crate) units: BTreeMap<u64, Unit<P>>,
    pub(crate) domains: BTreeMap<DomId, Domain>,
    pub(crate) pools: BTreeMap<u32, Pool>,
    pub(crate) cpus: [Cpu; MAX_CPUS],
    /// CPUs in the machine.
    pub(crate) online: CpuSet,
    /// CPUs with no current unit.
    pub(crate) idle: CpuSet,
    /// CPUs poked that have not decided since.
    pub(crate) tickled: CpuSet,
    /// Number of the next turn in a queue.
    turn: u64,
    pub(crate) ratelimit_us: u32,
    /// Credit by which a unit must be ahead to leave the CPU it ran on.
    pub(crate) migrate_resist: i64,
    /// Period of new domains' caps.
    pub(crate) cap_period: u64,
}

/// One physical CPU.
#[derive(Clone, Copy)]
pub(crate) struct Cpu {
    pub pool: Option<u32>,
    pub current: Option<u64>,
    /// Start of the current unit's stint.
    pub since: Ns,
    /// End of its slice.
    pub until: Ns,
}

/// What a CPU shall do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<P> {
    /// Run this; `None`: idle.
    pub next: Option<P>,
    /// Decide again at this time at the latest, also when idle (`u64::MAX`: no need).
    pub until: Ns,
    /// Other CPUs that should decide now: they idle and there is work for them, or they run something less urgent.
    pub poke: CpuSet,
}

const NEVER: Ns = Ns::new(u64::MAX);

impl<P: Clone> Default for Scheduler<P> {
    fn default() -> Self {
        Scheduler::new()
    }
}

impl<P: Clone> Scheduler<P> {
    /// No CPUs, no units. Pool 0 comes with the first CPU.
    pub const fn new() -> Scheduler<P> {
        let cpu = Cpu { pool: None, current: None, since: Ns::new(0), until: NEVER };
        Scheduler {
            units: BTreeMap::new(),
            domains: BTreeMap::new(),
            pools: BTreeMap::new(),
            cpus: [cpu; MAX_CPUS],
            online: CpuSet::EMPTY,
            idle: CpuSet::EMPTY,
            tickled: CpuSet::EMPTY,
            turn: 0,
            ratelimit_us: DEFAULT_RATELIMIT_US,
            migrate_resist: MIGRATE_RESIST,
            cap_period: CAP_PERIOD,
        }
    }

    /// A CPU of the machine; it joins pool 0. Numbers from [`MAX_CPUS`] on are ignored.
    pub fn add_cpu(&mut self, cpu: CpuId) {
        let Some(c) = self.cpus.get_mut(cpu.index()).filter(|_| !self.online.contains(cpu)) else { return };
        c.pool = Some(0);
        self.online.insert(cpu);
        self.idle.insert(cpu);
        self.pools.entry(0).or_insert_with(Pool::new).cpus.insert(cpu);
    }

    /// The CPU leaves the machine. It must not call [`Scheduler::schedule`] afterwards; its current unit is queued. Poke
    /// the CPUs that are returned.
    pub fn remove_cpu(&mut self, cpu: CpuId, now: Ns) -> CpuSet {
        self.put_current(cpu, now);
        let pool = self.cpus.get(cpu.index()).and_then(|c| c.pool);
        self.pools.values_mut().for_each(|p| p.cpus.remove(cpu));
        for set in [&mut self.online, &mut self.idle, &mut self.tickled] {
            set.remove(cpu);
        }
        if let Some(c) = self.cpus.get_mut(cpu.index()) {
            c.pool = None;
        }
        pool.and_then(|p| self.pool_cpus(p)).unwrap_or(CpuSet::EMPTY)
    }

    /// A new unit, not runnable. The key must be new; the domain joins pool 0 unless it has been added before.
    pub fn add(&mut self, key: u64, dom: DomId, payload: P) {
        self.remove(key);
        let period = self.cap_period;
        let d = self.domains.entry(dom).or_insert_with(|| Domain::new(0, period));
        d.units += 1;
        let (pool, weight) = (d.pool, d.weight);
        self.units.insert(key, Unit::new(payload, dom, pool, weight));
        self.weigh(pool);
    }

    /// Forgets a unit, and its domain with the last one. If it is current somewhere, that CPU must have been made to
    /// leave it.
    pub fn remove(&mut self, key: u64) {
        self.dequeue(key);
        self.set_parked(key, false);
        let Some(unit) = self.units.remove(&key) else { return };
        if let Some(c) = unit.on.and_then(|cpu| self.cpus.get_mut(cpu.index())) {
            c.current = None;
        }
        if let Some(d) = self.domains.get_mut(&unit.dom) {
            d.units = d.units.saturating_sub(1);
            if d.units == 0 {
                self.domains.remove(&unit.dom);
            }
        }
        self.weigh(unit.pool);
    }

    /// The unit can run. Returns the CPU that should decide anew, if any. Idempotent.
    pub fn wake(&mut self, key: u64, now: Ns) -> Option<CpuId> {
        let unit = self.units.get_mut(&key).filter(|u| !u.runnable)?;
        unit.runnable = true;
        if unit.on.is_some() {
            // Its CPU has not decided since it slept: it simply goes on.
            unit.running_since = Some(now);
            return None;
        }
        self.replenish(now);
        self.enqueue(key);
        self.tickle(key, now)
    }

    /// The unit cannot run. Idempotent. If it is current on a CPU, that CPU should decide soon.
    pub fn sleep(&mut self, key: u64, now: Ns) {
        let Some(unit) = self.units.get_mut(&key).filter(|u| u.runnable) else { return };
        unit.runnable = false;
        unit.yielded = false;
        self.account(key, now);
        if let Some(unit) = self.units.get_mut(&key) {
            unit.running_since = None;
        }
        self.dequeue(key);
        self.set_parked(key, false);
    }

    /// The unit lets others run first, once.
    pub fn yield_now(&mut self, key: u64) {
        if let Some(unit) = self.units.get_mut(&key) {
            unit.yielded = true;
        }
    }

    /// What `cpu` does from now on. The unit that was current there no longer is, unless it is returned again.
    pub fn schedule(&mut self, cpu: CpuId, now: Ns) -> Decision<P> {
        self.tickled.remove(cpu);
        let previous = self.cpus.get(cpu.index()).and_then(|c| c.current);
        if let Some(key) = previous {
            self.account(key, now);
        }
        self.replenish(now);
        let since = self.cpus.get(cpu.index()).map_or(now, |c| c.since);
        let pool = self.cpus.get(cpu.index()).and_then(|c| c.pool);
        let next = pool.and_then(|pool| self.choose(cpu, pool, previous, now));
        let mut poke = CpuSet::EMPTY;
        if previous != next {
            self.put_current(cpu, now);
            poke.extend(previous.and_then(|key| self.tickle(key, now)));
        }
        let since = if previous == next { since } else { now };
        let until = match (next, pool) {
            (Some(key), Some(pool)) => self.take(cpu, pool, key, since, now),
            _ => {
                self.idle.insert(cpu);
                pool.map_or(NEVER, |p| self.next_replenishment(p))
            }
        };
        if let Some(c) = self.cpus.get_mut(cpu.index()) {
            (c.current, c.since, c.until) = (next, since, until);
        }
        poke.extend(core::iter::from_fn(|| self.tickle_idle(pool?)));
        let next = next.and_then(|key| self.units.get(&key)).map(|u| u.payload.clone());
        Decision { next, until, poke }
    }

    /// The unit to run: the current one, or the best of the queue.
    fn choose(&mut self, cpu: CpuId, pool: u32, previous: Option<u64>, now: Ns) -> Option<u64> {
        let best = self.best_queued(cpu, pool);
        let stays = previous.filter(|&key| self.may_stay(cpu, pool, key));
        let (Some(key), Some((rival, credit))) = (stays, best) else {
            return stays.or(best.map(|b| b.0));
        };
        let unit = self.units.get_mut(&key)?;
        if core::mem::take(&mut unit.yielded) {
            return Some(rival);
        }
        let ran = self.cpus.get(cpu.index()).map_or(0, |c| now.since(c.since));
        let keep = ran < u64::from(self.ratelimit_us) * US || unit.credit >= credit;
        Some(if keep { key } else { rival })
    }

    /// May the current unit go on?
    fn may_stay(&self, cpu: CpuId, pool: u32, key: u64) -> bool {
        let Some(unit) = self.units.get(&key) else { return false };
        let cpus = self.pools.get(&pool).map_or(CpuSet::EMPTY, |p| p.cpus);
        unit.runnable && unit.pool == pool && unit.allowed(&cpus).contains(cpu) && !self.spent(unit.dom)
    }

    fn spent(&self, dom: DomId) -> bool {
        self.domains.get(&dom).is_some_and(Domain::spent)
    }

    /// The queued unit with most credit for this CPU, less what it loses by running here.
    fn best_queued(&self, cpu: CpuId, pool: u32) -> Option<(u64, i64)> {
        let p = self.pools.get(&pool)?;
        let mut best: Option<(u64, i64)> = None;
        for place in &p.queue {
            let credit = -place.debt;
            if best.is_some_and(|(_, b)| b >= credit) {
                break; // no later one can be better
            }
            let Some(unit) = self.units.get(&place.key) else { continue };
            let allowed = unit.allowed(&p.cpus);
            if !allowed.contains(cpu) {
                continue;
            }
            let moves = unit.last_cpu.is_some_and(|last| last != cpu && allowed.contains(last));
            let disliked = !unit.soft.contains(cpu) && !unit.soft.and(&allowed).is_empty();
            let loss = if moves { self.migrate_resist } else { 0 } + if disliked { SOFT_RESIST } else { 0 };
            let value = credit.saturating_sub(loss);
            if best.is_none_or(|(_, b)| value > b) {
                best = Some((place.key, value));
            }
        }
        best
    }

    /// Makes the unit current on the CPU. Returns the end of its slice.
    fn take(&mut self, cpu: CpuId, pool: u32, key: u64, since: Ns, now: Ns) -> Ns {
        self.dequeue(key);
        self.idle.remove(cpu);
        if self.units.get(&key).is_some_and(|u| u.credit <= 0) {
            self.reset_credit(pool, key, now);
        }
        if let Some(unit) = self.units.get_mut(&key) {
            unit.on = Some(cpu);
            unit.last_cpu = Some(cpu);
            unit.yielded = false;
            unit.running_since = Some(now);
        }
        let slice = self.slice(cpu, pool, key, now.since(since));
        now.saturating_add(slice).min(self.next_replenishment(pool))
    }

    /// How long the unit may run: until the next in the queue has more credit than it.
    fn slice(&self, cpu: CpuId, pool: u32, key: u64, ran: u64) -> u64 {
        let Some(unit) = self.units.get(&key) else { return MIN_SLICE };
        let heaviest = self.heaviest(pool);
        let next_credit = self.best_queued(cpu, pool).map_or(0, |b| b.1.max(0));
        let ahead = unit.lasts(unit.credit.saturating_sub(next_credit), heaviest);
        let limit = (u64::from(self.ratelimit_us) * US).saturating_sub(ran);
        let slice = ahead.max(limit).clamp(MIN_SLICE, MAX_SLICE);
        let Some(domain) = self.domains.get(&unit.dom).filter(|d| d.cap != 0) else { return slice };
        // The domain's units share its budget.
        let sharers = self.units.values().filter(|u| u.dom == unit.dom && u.on.is_some()).count().max(1);
        slice.min((domain.budget.max(0) as u64 / sharers as u64).max(MIN_CAP_SLICE))
    }

    /// Gives all units of the pool credit anew, enough that `key` has some.
    fn reset_credit(&mut self, pool: u32, key: u64, now: Ns) {
        let current = self.units.iter().filter(|(_, u)| u.pool == pool && u.running_since.is_some());
        let current: alloc::vec::Vec<u64> = current.map(|(&k, _)| k).collect();
        current.into_iter().for_each(|k| self.account(k, now));
        let credit = self.units.get(&key).map_or(0, |u| u.credit);
        let times = credit.min(0).unsigned_abs() / CREDIT_INIT as u64 + 1;
        let times = i64::try_from(times).unwrap_or(i64::MAX);
        let mut queue = BTreeSet::new();
        for unit in self.units.values_mut().filter(|u| u.pool == pool) {
            unit.refill(times);
            if let Some(place) = &mut unit.queued {
                place.debt = -unit.credit;
                queue.insert(*place);
            }
        }
        if let Some(p) = self.pools.get_mut(&pool) {
            p.queue = queue;
        }
    }

    /// Books the time a unit has run.
    pub(crate) fn account(&mut self, key: u64, now: Ns) {
        let Some(unit) = self.units.get_mut(&key) else { return };
        let heaviest = self.pools.get(&unit.pool).map_or(1, |p| p.heaviest);
        let time = unit.account(now, heaviest);
        if let Some(d) = self.domains.get_mut(&unit.dom).filter(|d| d.cap != 0) {
            d.budget = d.budget.saturating_sub(i64::try_from(time).unwrap_or(i64::MAX));
        }
    }

    /// Takes its current unit off a CPU; if it can run, it is queued.
    fn put_current(&mut self, cpu: CpuId, now: Ns) {
        let Some(key) = self.cpus.get_mut(cpu.index()).and_then(|c| c.current.take()) else { return };
        self.account(key, now);
        if let Some(unit) = self.units.get_mut(&key) {
            unit.on = None;
            unit.running_since = None;
        }
        self.enqueue(key);
    }

    /// Puts a unit into its pool's queue if it can run and is not current; without budget it is parked instead.
    pub(crate) fn enqueue(&mut self, key: u64) {
        let Some(unit) = self.units.get(&key) else { return };
        if !unit.runnable || unit.on.is_some() || unit.queued.is_some() {
            return;
        }
        if self.spent(unit.dom) {
            self.set_parked(key, true);
            return;
        }
        self.turn = self.turn.wrapping_add(1);
        let place = Place { debt: unit.credit.saturating_neg(), turn: self.turn, key };
        let pool = unit.pool;
        if let Some(p) = self.pools.get_mut(&pool) {
            p.queue.insert(place);
        }
        if let Some(unit) = self.units.get_mut(&key) {
            unit.queued = Some(place);
        }
    }

    /// Takes a unit out of its queue.
    pub(crate) fn dequeue(&mut self, key: u64) {
        let Some(unit) = self.units.get_mut(&key) else { return };
        if let (Some(place), Some(p)) = (unit.queued.take(), self.pools.get_mut(&unit.pool)) {
            p.queue.remove(&place);
        }
    }

    /// Heaviest weight in the pool.
    pub(crate) fn heaviest(&self, pool: u32) -> u16 {
        self.pools.get(&pool).map_or(1, |p| p.heaviest)
    }

    /// Finds the heaviest weight of the pool anew.
    pub(crate) fn weigh(&mut self, pool: u32) {
        let heaviest = self.units.values().filter(|u| u.pool == pool).map(|u| u.weight).max();
        if let Some(p) = self.pools.get_mut(&pool) {
            p.heaviest = heaviest.unwrap_or(1);
        }
    }
}
