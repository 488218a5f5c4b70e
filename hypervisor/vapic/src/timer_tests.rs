use radon_addr::Ns;

use crate::*;

fn at(ns: u64) -> Ns {
    Ns::new(ns)
}

/// Enabled, timer vector 0xec in `mode`, divide by 1.
fn apic(mode: u64) -> LocalApic {
    let mut apic = LocalApic::new(0, true, true);
    let _ = apic.write(0xf0, 4, 0x1ff, at(0));
    assert_eq!(apic.write(0x3e0, 4, 0xb, at(0)), Effect::TimerChanged);
    assert_eq!(apic.write(0x320, 4, 0xec | mode << 17, at(0)), Effect::TimerChanged);
    apic
}

#[test]
fn one_shot() {
    let mut apic = apic(0);
    assert_eq!(apic.write(0x380, 4, 100, at(5000)), Effect::TimerChanged);
    assert_eq!(apic.timer_deadline(), Some(at(6000)));
    assert_eq!(apic.read(0x390, 4, at(5000)), 100);
    assert_eq!(apic.read(0x390, 4, at(5250)), 75);
    assert!(!apic.timer_expired(at(5999)));
    assert!(apic.timer_expired(at(6000)));
    assert_eq!(apic.highest_pending(), Some(0xec));
    assert_eq!((apic.timer_deadline(), apic.read(0x390, 4, at(6000))), (None, 0));
    assert_eq!(apic.read(0x390, 4, at(7000)), 0);
    let _ = apic.write(0x380, 4, 0, at(7000));
    assert_eq!(apic.timer_deadline(), None);
}

#[test]
fn periodic_keeps_its_phase() {
    let mut apic = apic(1);
    let _ = apic.write(0x380, 4, 100_000, at(0));
    assert_eq!(apic.timer_deadline(), Some(at(1_000_000)));
    assert!(apic.timer_expired(at(1_200_000)));
    assert_eq!(apic.timer_deadline(), Some(at(2_000_000)));
    assert_eq!(apic.read(0x390, 4, at(1_500_000)), 50_000);
    // Missed periods are skipped.
    apic.ack(0xec);
    assert!(apic.timer_expired(at(7_300_000)));
    assert_eq!(apic.timer_deadline(), Some(at(8_000_000)));
}

#[test]
fn tiny_periods_are_limited() {
    let mut apic = apic(1);
    let _ = apic.write(0x380, 4, 1, at(0));
    assert!(apic.timer_expired(at(10)));
    assert!(apic.timer_deadline() >= Some(at(100_000)));
}

#[test]
fn divisors_and_changes() {
    for (code, divisor) in [(0u64, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (10, 128), (11, 1)] {
        let mut apic = apic(0);
        let _ = apic.write(0x3e0, 4, code, at(0));
        let _ = apic.write(0x380, 4, 10, at(0));
        assert_eq!(apic.timer_deadline(), Some(at(100 * divisor)), "{code}");
    }
    let mut apic = apic(0);
    let _ = apic.write(0x380, 4, 100, at(0));
    // Half way, the count goes on at half the speed.
    let _ = apic.write(0x3e0, 4, 0, at(500));
    assert_eq!(apic.timer_deadline(), Some(at(1500)));
    assert_eq!(apic.read(0x390, 4, at(500)), 50);
    assert_eq!(apic.read(0x390, 4, at(1000)), 25);
}

#[test]
fn masked_timers_count_silently() {
    let mut apic = apic(0);
    let _ = apic.write(0x320, 4, 0xec | 1 << 16, at(0));
    let _ = apic.write(0x380, 4, 100, at(0));
    assert!(!apic.timer_expired(at(1000)));
    assert_eq!(apic.highest_pending(), None);
}

#[test]
fn tsc_deadline() {
    let mut apic = apic(2);
    apic.set_tsc_deadline(3_000_000, 1_000_000, 2_000_000, at(50));
    assert_eq!(apic.tsc_deadline(), 3_000_000);
    assert_eq!(apic.timer_deadline(), Some(at(50 + 1_000_000)));
    assert!(apic.timer_expired(at(1_000_050)));
    assert_eq!((apic.tsc_deadline(), apic.timer_deadline()), (0, None));
    // In the past: at once.
    apic.ack(0xec);
    apic.set_tsc_deadline(5, 1_000_000, 2_000_000, at(60));
    assert!(apic.timer_expired(at(60)));
    apic.set_tsc_deadline(u64::MAX, 0, 1, at(60));
    apic.set_tsc_deadline(0, 0, 1, at(60));
    assert_eq!(apic.timer_deadline(), None);
    // Another mode forgets it, and ignores writes and the count registers obey theirs.
    apic.set_tsc_deadline(u64::MAX, 0, 1, at(60));
    assert_eq!(apic.write(0x380, 4, 7, at(60)), Effect::TimerChanged);
    assert_eq!(apic.read(0x380, 4, at(60)), 0);
    let _ = apic.write(0x320, 4, 0xec, at(70));
    assert_eq!((apic.tsc_deadline(), apic.timer_deadline()), (0, None));
    apic.set_tsc_deadline(u64::MAX, 0, 1, at(80));
    assert_eq!(apic.timer_deadline(), None);
}

#[test]
fn restore_counts_again() {
    let mut apic = apic(1);
    let _ = apic.write(0x380, 4, 100_000, at(0));
    let (hidden, page) = apic.export(at(400_000));
    let mut copy = LocalApic::new(0, true, true);
    copy.import(&hidden, &page, at(9_000_000)).unwrap();
    assert_eq!(copy.timer_deadline(), Some(at(10_000_000)));
    assert!(copy.timer_expired(at(10_000_000)));
}
