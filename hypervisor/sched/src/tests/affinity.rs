//! Hard and soft affinity, CPU sets.

use proptest::prelude::*;
use radon_addr::{CpuId, Ns};

use super::sim::{Habit, Sim, cpus};
use crate::{CpuSet, Error};

#[test]
fn hard_affinity_moves_a_running_unit() {
    let mut sim = Sim::new(2);
    sim.add(100, Habit::Hog);
    sim.run(5);
    for target in [1, 0, 1] {
        let poke = sim.s.set_affinity(100, &cpus(&[target]), &CpuSet::ALL, Ns::new(sim.now)).unwrap();
        sim.poke(poke.into_iter().collect());
        sim.run(5);
        assert_eq!(sim.s.units[&100].on, Some(CpuId::new(target)));
    }
    assert_eq!(sim.s.set_affinity(100, &cpus(&[7]), &CpuSet::ALL, Ns::new(sim.now)), Err(Error::Invalid));
}

#[test]
fn pinned_units_share_their_cpu_only() {
    let mut sim = Sim::new(2);
    for key in [100, 200, 300] {
        sim.add(key, Habit::Hog);
        let cpu = u32::from(key == 300);
        sim.s.set_affinity(key, &cpus(&[cpu]), &CpuSet::ALL, Ns::new(sim.now)).unwrap();
    }
    sim.run(2_000);
    assert!(sim.domain_us(3) > 1_990_000);
    for dom in [1, 2] {
        assert!(sim.domain_us(dom).abs_diff(1_000_000) < 50_000, "{}", sim.domain_us(dom));
    }
}

#[test]
fn soft_affinity_is_a_preference() {
    let mut sim = Sim::new(2);
    sim.add(100, Habit::Periodic { period: 4_000_000, work: 1_000_000 });
    sim.s.set_affinity(100, &CpuSet::ALL, &cpus(&[1]), Ns::new(sim.now)).unwrap();
    sim.run(100);
    assert_eq!(sim.s.units[&100].last_cpu, Some(CpuId::new(1)));
    // With its favourite taken by a pinned hog of great weight it runs elsewhere.
    sim.add(200, Habit::Hog);
    sim.s.set_affinity(200, &cpus(&[1]), &CpuSet::ALL, Ns::new(sim.now)).unwrap();
    sim.ran.clear();
    sim.run(400);
    assert!(sim.domain_us(1) > 95_000);
}

proptest! {
    #[test]
    fn sets_are_bitmaps(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let set = CpuSet::from_le_bytes(&bytes);
        let bit = |n: usize| n < 256 && bytes.get(n / 8).is_some_and(|b| b & 1 << (n % 8) != 0);
        for n in 0..300 {
            prop_assert_eq!(set.contains(CpuId::new(n as u32)), bit(n));
        }
        let members: std::vec::Vec<usize> = set.iter().map(|c| c.index()).collect();
        let wanted: std::vec::Vec<usize> = (0..300).filter(|&n| bit(n)).collect();
        prop_assert_eq!(set.len(), wanted.len());
        prop_assert_eq!(set.first().map(|c| c.index()), wanted.first().copied());
        prop_assert_eq!(set.last().map(|c| c.index()), wanted.last().copied());
        prop_assert_eq!(members, wanted);
        prop_assert_eq!(CpuSet::from_le_bytes(&set.to_le_bytes()), set);
    }
}
