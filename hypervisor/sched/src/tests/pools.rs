//! Cpupools.

use radon_addr::{CpuId, DomId, Ns};

use super::sim::{Habit, Sim, cpus};
use crate::{CpuSet, Error};

fn cpu(n: u32) -> Option<CpuId> {
    Some(CpuId::new(n))
}

#[test]
fn life_of_a_pool() {
    let mut sim = Sim::new(4);
    sim.add(100, Habit::Hog);
    sim.add(200, Habit::Hog);
    let s = &mut sim.s;
    assert_eq!(s.pool_info(0).unwrap().cpus, cpus(&[0, 1, 2, 3]));
    assert_eq!(s.pool_info(0).unwrap().domains, 2);
    assert_eq!(s.pool_info(1), Err(Error::NoSuchPool));
    assert_eq!(s.pool_create(None), Ok(1));
    assert_eq!(s.pool_create(Some(1)), Err(Error::PoolExists));
    assert_eq!(s.pool_create(Some(7)), Ok(7));
    assert_eq!(s.pool_info(2).unwrap().id, 7);
    // Moving to a pool without CPUs.
    assert_eq!(s.pool_move_domain(DomId::new(1), 7), Err(Error::NoSuchPool));
    assert_eq!(s.add_domain(DomId::new(9), 7), Err(Error::NoCpus));
    // A CPU must be free before it is given to another pool.
    assert_eq!(s.pool_add_cpu(7, cpu(3)), Err(Error::CpuNotFree));
    assert_eq!(s.pool_remove_cpu(0, cpu(0)), Err(Error::Invalid));
    assert_eq!(s.pool_remove_cpu(7, cpu(2)), Err(Error::CpuNotInPool));
    assert!(s.pool_remove_cpu(0, None).unwrap().contains(CpuId::new(3)));
    assert_eq!(s.free_cpus(), cpus(&[3]));
    assert_eq!(s.pool_add_cpu(7, None), Ok(CpuId::new(3)));
    assert_eq!(s.pool_add_cpu(7, None), Err(Error::CpuNotFree));
    assert!(s.pool_move_domain(DomId::new(1), 7).is_ok());
    assert_eq!(s.pool_of(DomId::new(1)), Some(7));
    assert_eq!(s.pool_remove_cpu(7, cpu(3)), Err(Error::Busy));
    assert_eq!(s.pool_destroy(7), Err(Error::Busy));
    assert_eq!(s.pool_destroy(0), Err(Error::Busy));
    assert_eq!(s.pool_destroy(1), Ok(()));
    assert_eq!(s.pool_destroy(1), Err(Error::NoSuchPool));
}

#[test]
fn domains_run_in_their_pool_only() {
    let mut sim = Sim::new(2);
    for key in [100, 101, 200] {
        sim.add(key, Habit::Hog);
    }
    sim.run(20);
    sim.s.pool_create(Some(1)).unwrap();
    let poke = sim.s.pool_remove_cpu(0, cpu(1)).unwrap();
    sim.poke(poke);
    let added = sim.s.pool_add_cpu(1, None).unwrap();
    sim.poke(CpuSet::only(added));
    let poke = sim.s.pool_move_domain(DomId::new(1), 1).unwrap();
    // Whatever order the pokes arrive in.
    for c in poke.iter() {
        sim.poke(CpuSet::only(c));
    }
    sim.ran.clear();
    let from = sim.now;
    for ms in 0..200u64 {
        let now = Ns::new(from + ms * 1_000_000);
        let zero = sim.s.schedule(CpuId::new(0), now).next;
        let one = sim.s.schedule(CpuId::new(1), now).next;
        assert_eq!(zero, Some(200));
        assert!(matches!(one, Some(100 | 101)));
    }
    let run = |key| sim.s.cpu_time(key, Ns::new(from + 200_000_000)).unwrap();
    assert!(run(100).abs_diff(run(101)) < 40_000_000, "{} {}", run(100), run(101));
}

#[test]
fn affinity_to_a_removed_cpu_is_suspended() {
    let mut sim = Sim::new(2);
    sim.add(100, Habit::Hog);
    sim.s.set_affinity(100, &cpus(&[1]), &CpuSet::ALL, Ns::new(sim.now)).unwrap();
    let now = Ns::new(sim.now);
    assert_eq!(sim.s.wake(100, now), cpu(1));
    assert_eq!(sim.s.schedule(CpuId::new(1), now).next, Some(100));
    let poke = sim.s.pool_remove_cpu(0, cpu(1)).unwrap();
    assert_eq!(poke, cpus(&[0, 1]));
    // CPU 0 looks first: the unit is still current on CPU 1.
    assert_eq!(sim.s.schedule(CpuId::new(0), now).next, None);
    let d = sim.s.schedule(CpuId::new(1), now);
    assert_eq!((d.next, d.poke), (None, cpus(&[0])));
    assert_eq!(sim.s.schedule(CpuId::new(0), now).next, Some(100));
}

#[test]
fn units_and_domains_come_and_go() {
    let mut sim = Sim::new(1);
    let dom = DomId::new(1);
    assert_eq!(sim.s.params(dom), None);
    sim.s.add_domain(dom, 0).unwrap();
    assert_eq!(sim.s.params(dom), Some((256, 0)));
    sim.s.set_params(dom, 512, 80).unwrap();
    sim.s.add(100, dom, 100);
    sim.s.set_params(dom, 0, 20).unwrap();
    assert_eq!(sim.s.params(dom), Some((512, 20)));
    let now = Ns::new(sim.now);
    sim.s.wake(100, now);
    assert_eq!(sim.s.schedule(CpuId::new(0), now).next, Some(100));
    sim.s.remove_domain(dom);
    assert_eq!(sim.s.params(dom), None);
    assert_eq!(sim.s.wake(100, now), None);
    assert_eq!(sim.s.schedule(CpuId::new(0), now).next, None);
    assert_eq!(sim.s.set_params(dom, 1, 0), Err(Error::NoSuchUnit));
}
