//! Cpupools: disjoint sets of CPUs, each scheduling its own domains (`XEN_SYSCTL_CPUPOOL_OP`).

use alloc::collections::BTreeSet;

use radon_addr::{CpuId, DomId};

use crate::scheduler::Scheduler;
use crate::unit::Place;
use crate::{CpuSet, Error, MAX_CPUS};

/// A pool and its run queue.
pub(crate) struct Pool {
    pub cpus: CpuSet,
    pub queue: BTreeSet<Place>,
    /// Heaviest weight of its units.
    pub heaviest: u16,
}

impl Pool {
    pub const fn new() -> Pool {
        Pool { cpus: CpuSet::EMPTY, queue: BTreeSet::new(), heaviest: 1 }
    }
}

/// What `XEN_SYSCTL_CPUPOOL_OP_INFO` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolInfo {
    /// Id.
    pub id: u32,
    /// Domains in it.
    pub domains: u32,
    /// CPUs in it.
    pub cpus: CpuSet,
}

impl<P: Clone> Scheduler<P> {
    /// Creates a pool without CPUs; `None`: any free id. Returns its id.
    pub fn pool_create(&mut self, id: Option<u32>) -> Result<u32, Error> {
        if self.pools.len() >= 2 * self.online.len() {
            return Err(Error::TooManyPools);
        }
        let id = match id {
            Some(id) if self.pools.contains_key(&id) => return Err(Error::PoolExists),
            Some(id) => id,
            None => (0..u32::MAX).find(|id| !self.pools.contains_key(id)).ok_or(Error::TooManyPools)?,
        };
        self.pools.insert(id, Pool::new());
        Ok(id)
    }

    /// Destroys a pool without CPUs and domains.
    pub fn pool_destroy(&mut self, id: u32) -> Result<(), Error> {
        let pool = self.pools.get(&id).ok_or(Error::NoSuchPool)?;
        if id == 0 || !pool.cpus.is_empty() || self.pool_domains(id) != 0 {
            return Err(Error::Busy);
        }
        self.pools.remove(&id);
        Ok(())
    }

    fn pool_domains(&self, id: u32) -> u32 {
        self.domains.values().filter(|d| d.pool == id).count() as u32
    }

    /// The pool with the lowest id from `from` on.
    pub fn pool_info(&self, from: u32) -> Result<PoolInfo, Error> {
        let (&id, pool) = self.pools.range(from..).next().ok_or(Error::NoSuchPool)?;
        Ok(PoolInfo { id, domains: self.pool_domains(id), cpus: pool.cpus })
    }

    /// Adds a free CPU to a pool; `None`: any. Poke the CPU that is returned.
    pub fn pool_add_cpu(&mut self, id: u32, cpu: Option<CpuId>) -> Result<CpuId, Error> {
        let free = self.free_cpus();
        let pool = self.pools.get_mut(&id).ok_or(Error::NoSuchPool)?;
        let cpu = cpu.or(free.first()).ok_or(Error::CpuNotFree)?;
        if cpu.index() >= MAX_CPUS {
            return Err(Error::Invalid);
        }
        if !free.contains(cpu) {
            return Err(Error::CpuNotFree);
        }
        pool.cpus.insert(cpu);
        if let Some(c) = self.cpus.get_mut(cpu.index()) {
            c.pool = Some(id);
        }
        self.tickled.insert(cpu);
        Ok(cpu)
    }

    /// Takes a CPU out of a pool; `None`: the last. CPU 0 stays in pool 0, and a pool with domains keeps one CPU.
    /// Poke the CPUs that are returned: the one removed, and those left, which may run what was bound to it.
    pub fn pool_remove_cpu(&mut self, id: u32, cpu: Option<CpuId>) -> Result<CpuSet, Error> {
        let domains = self.pool_domains(id);
        let online = self.online;
        let pool = self.pools.get_mut(&id).ok_or(Error::NoSuchPool)?;
        let cpu = cpu.or(pool.cpus.last()).filter(|&c| online.contains(c)).ok_or(Error::Invalid)?;
        if id == 0 && cpu.raw() == 0 {
            return Err(Error::Invalid);
        }
        if !pool.cpus.contains(cpu) {
            return Err(Error::CpuNotInPool);
        }
        if domains != 0 && pool.cpus.len() == 1 {
            return Err(Error::Busy);
        }
        let poke = pool.cpus;
        pool.cpus.remove(cpu);
        if let Some(c) = self.cpus.get_mut(cpu.index()) {
            c.pool = None;
        }
        self.tickled.insert(cpu);
        Ok(poke)
    }

    /// CPUs in no pool.
    pub fn free_cpus(&self) -> CpuSet {
        self.pools.values().fold(self.online, |free, p| free.without(&p.cpus))
    }

    /// The pool of a domain.
    pub fn pool_of(&self, dom: DomId) -> Option<u32> {
        self.domains.get(&dom).map(|d| d.pool)
    }

    /// CPUs of a pool.
    pub fn pool_cpus(&self, id: u32) -> Option<CpuSet> {
        self.pools.get(&id).map(|p| p.cpus)
    }

    /// Moves a domain to another pool; its units' affinities are reset. Poke the CPUs that are returned: those that
    /// run its units and those that shall.
    pub fn pool_move_domain(&mut self, dom: DomId, id: u32) -> Result<CpuSet, Error> {
        let to = self.pools.get(&id).ok_or(Error::NoSuchPool)?.cpus;
        if to.is_empty() {
            return Err(Error::NoSuchPool); // as Xen
        }
        let domain = self.domains.get_mut(&dom).ok_or(Error::NoSuchUnit)?;
        let from = core::mem::replace(&mut domain.pool, id);
        if from == id {
            return Ok(CpuSet::EMPTY);
        }
        let keys: alloc::vec::Vec<u64> =
            self.units.iter().filter(|(_, u)| u.dom == dom).map(|(&k, _)| k).collect();
        let mut poke = to;
        for key in keys {
            self.dequeue(key);
            if let Some(unit) = self.units.get_mut(&key) {
                unit.pool = id;
                (unit.hard, unit.soft) = (CpuSet::ALL, CpuSet::ALL);
                if let Some(cpu) = unit.on {
                    poke.insert(cpu);
                }
            }
            if !self.units.get(&key).is_some_and(|u| u.parked) {
                self.enqueue(key);
            }
        }
        self.weigh(from);
        self.weigh(id);
        Ok(poke)
    }
}
