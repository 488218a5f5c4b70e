//! Scheduling parameters of domains, caps, affinities.

use radon_addr::{CpuId, DomId, Ns};

use crate::scheduler::Scheduler;
use crate::unit::Unit;
use crate::{CpuSet, Error, MS, US};

/// Weight of a new domain.
pub const DEFAULT_WEIGHT: u16 = 256;

/// One domain.
pub(crate) struct Domain {
    pub pool: u32,
    pub weight: u16,
    /// Per cent of one CPU; 0: no cap.
    pub cap: u16,
    /// Units.
    pub units: u32,
    /// Units waiting for budget.
    pub parked: u32,
    /// Nanoseconds left to run in this period; negative: overrun.
    pub budget: i64,
    /// End of the period.
    pub period_end: Ns,
    /// Length of a period.
    pub period: u64,
}

impl Domain {
    pub fn new(pool: u32, period: u64) -> Domain {
        Domain {
            pool,
            weight: DEFAULT_WEIGHT,
            cap: 0,
            units: 0,
            parked: 0,
            budget: 0,
            period_end: Ns::new(0),
            period,
        }
    }

    /// Budget of one period.
    fn allowance(&self) -> i64 {
        (self.period / 100 * u64::from(self.cap)) as i64
    }

    /// Has nothing left to run on.
    pub fn spent(&self) -> bool {
        self.cap != 0 && self.budget <= 0
    }

    /// Starts a new period if the old one is over. An overrun is paid back; what was saved is lost.
    pub fn replenish(&mut self, now: Ns) {
        if self.cap == 0 || now < self.period_end {
            return;
        }
        if self.period_end == Ns::new(0) {
            self.budget = self.allowance();
            self.period_end = now.saturating_add(self.period);
            return;
        }
        let periods = now.since(self.period_end) / self.period + 1;
        let gain = self.allowance().saturating_mul(i64::try_from(periods).unwrap_or(i64::MAX));
        self.budget = self.budget.saturating_add(gain).min(self.allowance());
        self.period_end = self.period_end.saturating_add(periods.saturating_mul(self.period));
    }
}

impl<P: Clone> Scheduler<P> {
    /// A new domain in a pool, with default parameters. [`Scheduler::add`] does this for pool 0 where it was not done.
    pub fn add_domain(&mut self, dom: DomId, pool: u32) -> Result<(), Error> {
        let p = self.pools.get(&pool).ok_or(Error::NoSuchPool)?;
        if p.cpus.is_empty() {
            return Err(Error::NoCpus);
        }
        let period = self.cap_period;
        self.domains.entry(dom).or_insert_with(|| Domain::new(pool, period));
        Ok(())
    }

    /// Forgets a domain and its units.
    pub fn remove_domain(&mut self, dom: DomId) {
        while let Some(key) = self.units.iter().find(|(_, u)| u.dom == dom).map(|(&k, _)| k) {
            self.remove(key);
        }
        self.domains.remove(&dom);
    }

    /// Weight and cap (per cent of one CPU, 0: none) of a domain.
    pub fn params(&self, dom: DomId) -> Option<(u16, u16)> {
        self.domains.get(&dom).map(|d| (d.weight, d.cap))
    }

    /// Sets weight (0: as it was) and cap of a domain.
    pub fn set_params(&mut self, dom: DomId, weight: u16, cap: u16) -> Result<(), Error> {
        let d = self.domains.get_mut(&dom).ok_or(Error::NoSuchUnit)?;
        if weight != 0 {
            d.weight = weight;
        }
        if d.cap != cap {
            d.cap = cap;
            // The period begins with the next decision.
            d.budget = 0;
            d.period_end = Ns::new(0);
        }
        let (pool, weight) = (d.pool, d.weight);
        // A stint under way is charged wholly at the new weight: at most one slice.
        for u in self.units.values_mut().filter(|u| u.dom == dom) {
            u.weight = weight;
        }
        self.weigh(pool);
        if cap == 0 {
            self.unpark(dom);
        }
        Ok(())
    }

    /// Hard and soft affinity of a unit.
    pub fn affinity(&self, key: u64) -> Option<(CpuSet, CpuSet)> {
        self.units.get(&key).map(|u| (u.hard, u.soft))
    }

    /// Sets where a unit may run and where it likes to. Returns the CPU to poke, if it now runs where it must not or could
    /// run where it could not.
    pub fn set_affinity(
        &mut self,
        key: u64,
        hard: &CpuSet,
        soft: &CpuSet,
        now: Ns,
    ) -> Result<Option<CpuId>, Error> {
        let unit = self.units.get_mut(&key).ok_or(Error::NoSuchUnit)?;
        let cpus = self.pools.get(&unit.pool).map_or(CpuSet::EMPTY, |p| p.cpus);
        if hard.and(&cpus).is_empty() {
            return Err(Error::Invalid);
        }
        (unit.hard, unit.soft) = (*hard, *soft);
        Ok(match unit.on {
            Some(cpu) if !hard.contains(cpu) => Some(cpu),
            Some(_) => None,
            None => self.tickle(key, now),
        })
    }

    /// Time the unit has run, in nanoseconds, its present stint included.
    pub fn cpu_time(&self, key: u64, now: Ns) -> Option<u64> {
        self.units.get(&key).map(|u| u.cpu_time.saturating_add(u.unaccounted(now)))
    }

    /// Shortest time in microseconds that a unit runs before another may preempt it.
    pub fn ratelimit_us(&self) -> u32 {
        self.ratelimit_us
    }

    /// Sets the rate limit; 0: none. The caller checks the ABI's bounds (100 to 500000).
    pub fn set_ratelimit_us(&mut self, us: u32) {
        self.ratelimit_us = us;
    }

    /// Microseconds of credit by which a unit must be ahead to leave the CPU it ran on.
    pub fn set_migrate_resist_us(&mut self, us: u32) {
        self.migrate_resist = i64::from(us).saturating_mul(US as i64);
    }

    /// Milliseconds over which the caps of domains that are yet to come hold; at least 1.
    pub fn set_cap_period_ms(&mut self, ms: u32) {
        self.cap_period = u64::from(ms.max(1)).saturating_mul(MS);
    }

    /// New periods for capped domains; units that got budget are queued.
    pub(crate) fn replenish(&mut self, now: Ns) {
        for d in self.domains.values_mut() {
            d.replenish(now);
        }
        let freed = |(&dom, d): (&DomId, &Domain)| (d.parked != 0 && !d.spent()).then_some(dom);
        while let Some(dom) = self.domains.iter().find_map(freed) {
            self.unpark(dom);
        }
    }

    /// Queues the units of a domain that waited for budget.
    fn unpark(&mut self, dom: DomId) {
        let waiting = |(&key, u): (&u64, &Unit<P>)| (u.dom == dom && u.parked).then_some(key);
        while let Some(key) = self.units.iter().find_map(waiting) {
            self.set_parked(key, false);
            self.enqueue(key);
        }
        if let Some(d) = self.domains.get_mut(&dom) {
            d.parked = 0;
        }
    }

    /// Marks a unit as waiting for budget, or not.
    pub(crate) fn set_parked(&mut self, key: u64, parked: bool) {
        let Some(unit) = self.units.get_mut(&key) else { return };
        if core::mem::replace(&mut unit.parked, parked) == parked {
            return;
        }
        if let Some(d) = self.domains.get_mut(&unit.dom) {
            d.parked = if parked { d.parked.saturating_add(1) } else { d.parked.saturating_sub(1) };
        }
    }

    /// When the next unit that waits for budget in this pool gets it.
    pub(crate) fn next_replenishment(&self, pool: u32) -> Ns {
        let waiting = self.domains.values().filter(|d| d.pool == pool && d.parked != 0);
        waiting.map(|d| d.period_end).min().unwrap_or(Ns::new(u64::MAX))
    }
}
