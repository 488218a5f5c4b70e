//! What is scheduled: one vCPU.

use radon_addr::{CpuId, DomId, Ns};

use crate::{CREDIT_INIT, CpuSet};

/// A unit.
pub(crate) struct Unit<P> {
    pub payload: P,
    pub dom: DomId,
    /// Pool of its domain.
    pub pool: u32,
    pub weight: u16,
    pub runnable: bool,
    /// Gives way to others at the next decision.
    pub yielded: bool,
    /// Runnable, but its domain has spent its budget.
    pub parked: bool,
    /// CPU whose current unit it is.
    pub on: Option<CpuId>,
    /// Its entry in the run queue.
    pub queued: Option<Place>,
    pub credit: i64,
    pub last_cpu: Option<CpuId>,
    pub hard: CpuSet,
    pub soft: CpuSet,
    /// Time run, accounted up to `running_since` if that is set.
    pub cpu_time: u64,
    /// Burns credit since then.
    pub running_since: Option<Ns>,
}

/// Position in a run queue: most credit first, then first come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Place {
    pub debt: i64,
    pub turn: u64,
    pub key: u64,
}

impl<P> Unit<P> {
    pub fn new(payload: P, dom: DomId, pool: u32, weight: u16) -> Unit<P> {
        Unit {
            payload,
            dom,
            pool,
            weight,
            runnable: false,
            yielded: false,
            parked: false,
            on: None,
            queued: None,
            credit: CREDIT_INIT,
            last_cpu: None,
            hard: CpuSet::ALL,
            soft: CpuSet::ALL,
            cpu_time: 0,
            running_since: None,
        }
    }

    /// Time run since the last accounting.
    pub fn unaccounted(&self, now: Ns) -> u64 {
        self.running_since.map_or(0, |since| now.since(since))
    }

    /// Credit that this much running burns: the heaviest weight of the pool burns one per nanosecond.
    pub fn burn(&self, time: u64, heaviest: u16) -> i64 {
        let cost = u128::from(time) * u128::from(heaviest) / u128::from(self.weight.max(1));
        cost.min(i64::MAX as u128 / 4) as i64
    }

    /// Time in which it burns this much credit.
    pub fn lasts(&self, credit: i64, heaviest: u16) -> u64 {
        let time = u128::from(credit.max(0) as u64) * u128::from(self.weight) / u128::from(heaviest.max(1));
        time.min(u128::from(u64::MAX)) as u64
    }

    /// Credit as it is now.
    pub fn credit_at(&self, now: Ns, heaviest: u16) -> i64 {
        self.credit.saturating_sub(self.burn(self.unaccounted(now), heaviest))
    }

    /// Books the time run up to now. Returns it.
    pub fn account(&mut self, now: Ns, heaviest: u16) -> u64 {
        let time = self.unaccounted(now);
        self.credit = self.credit_at(now, heaviest);
        self.cpu_time = self.cpu_time.saturating_add(time);
        if self.running_since.is_some() {
            self.running_since = Some(now);
        }
        time
    }

    /// A reset of the pool's credit: `times` portions, without hoarding.
    pub fn refill(&mut self, times: i64) {
        let portion = CREDIT_INIT.saturating_mul(times);
        self.credit = self.credit.saturating_add(portion).min(CREDIT_INIT + crate::CARRY_OVER);
    }

    /// CPUs of the pool it may run on. Affinity that excludes the whole pool (its CPUs were taken away) is suspended,
    /// since every unit must be able to run.
    pub fn allowed(&self, pool_cpus: &CpuSet) -> CpuSet {
        let both = self.hard.and(pool_cpus);
        if both.is_empty() { *pool_cpus } else { both }
    }
}
