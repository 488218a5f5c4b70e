//! Which CPU to poke when a unit waits.

use radon_addr::{CpuId, Ns};

use crate::scheduler::Scheduler;
use crate::{CpuSet, US};

impl<P: Clone> Scheduler<P> {
    /// Finds a CPU for a unit that has just been queued (or parked): an idle one, else the one that runs the unit with
    /// least credit, if that is less than this one's. The CPU is marked as poked.
    pub(crate) fn tickle(&mut self, key: u64, now: Ns) -> Option<CpuId> {
        let unit = self.units.get(&key).filter(|u| u.queued.is_some() || u.parked)?;
        let allowed = unit.allowed(&self.pools.get(&unit.pool)?.cpus);
        let liked = allowed.and(&unit.soft);
        let idle = allowed.and(&self.idle).without(&self.tickled);
        let target = if let Some(cpu) = pick_idle(&idle, &liked, unit.last_cpu) {
            cpu
        } else if unit.parked {
            // Somebody has to look again when the budget is replenished.
            let wake_at = self.next_replenishment(unit.pool);
            let late = |c: &CpuId| self.cpus.get(c.index()).is_some_and(|c| c.until > wake_at);
            if allowed.iter().all(|c| late(&c)) { allowed.first()? } else { return None }
        } else {
            self.victim(key, &allowed, now)?
        };
        self.tickled.insert(target);
        Some(target)
    }

    /// The running unit to preempt: least credit, less than the new unit's.
    fn victim(&self, key: u64, allowed: &CpuSet, now: Ns) -> Option<CpuId> {
        let new = self.units.get(&key)?;
        let heaviest = self.heaviest(new.pool);
        let mut found: Option<(CpuId, i64)> = None;
        for cpu in allowed.without(&self.tickled).iter() {
            let Some(c) = self.cpus.get(cpu.index()) else { continue };
            let Some(unit) = c.current.and_then(|k| self.units.get(&k)) else { continue };
            // Protected by the rate limit, and its slice ends with it: nothing to gain by a poke.
            let protected_to = c.since.saturating_add(u64::from(self.ratelimit_us) * US);
            if now < protected_to && c.until <= protected_to {
                continue;
            }
            let stays = if new.last_cpu.is_none_or(|l| l == cpu) { 0 } else { self.migrate_resist };
            let credit = if unit.runnable { unit.credit_at(now, heaviest) } else { i64::MIN / 2 };
            let handicapped = credit.saturating_add(stays);
            if handicapped < new.credit && found.is_none_or(|f| handicapped < f.1) {
                found = Some((cpu, handicapped));
            }
        }
        found.map(|f| f.0)
    }

    /// An idle CPU for which there is work in the queue.
    pub(crate) fn tickle_idle(&mut self, pool: u32) -> Option<CpuId> {
        let p = self.pools.get(&pool)?;
        let idle = p.cpus.and(&self.idle).without(&self.tickled);
        if idle.is_empty() {
            return None;
        }
        let target = p.queue.iter().find_map(|place| {
            let unit = self.units.get(&place.key)?;
            let allowed = unit.allowed(&p.cpus);
            pick_idle(&allowed.and(&idle), &allowed.and(&unit.soft), unit.last_cpu)
        })?;
        self.tickled.insert(target);
        Some(target)
    }
}

/// Best of the idle CPUs: the last one if liked, any liked one, the last one, any.
fn pick_idle(idle: &CpuSet, liked: &CpuSet, last: Option<CpuId>) -> Option<CpuId> {
    let good = idle.and(liked);
    last.filter(|&l| good.contains(l))
        .or(good.first())
        .or(last.filter(|&l| idle.contains(l)))
        .or(idle.first())
}
