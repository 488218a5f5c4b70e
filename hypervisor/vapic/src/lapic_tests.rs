extern crate std;
use std::collections::BTreeSet;

use proptest::prelude::*;
use radon_addr::Ns;

use crate::*;

const NOW: Ns = Ns::new(0);
const X2APIC: u64 = 1 << 10;

fn enabled() -> LocalApic {
    let mut apic = LocalApic::new(4, true, true);
    assert_eq!(apic.write(0xf0, 4, 0x1ff, NOW), Effect::Enabled);
    apic
}

fn x2apic() -> LocalApic {
    let mut apic = enabled();
    assert_eq!(apic.write_base(apic.base_msr() | X2APIC), Ok(Effect::None));
    apic
}

#[derive(Clone, Debug)]
enum Op {
    Accept(u8, bool),
    Deliver,
    Eoi,
    Tpr(u8),
}

fn ops() -> impl Strategy<Value = std::vec::Vec<Op>> {
    let op = prop_oneof![
        4 => (16u8..=255, any::<bool>()).prop_map(|(v, l)| Op::Accept(v, l)),
        3 => Just(Op::Deliver),
        3 => Just(Op::Eoi),
        1 => any::<u8>().prop_map(Op::Tpr),
    ];
    prop::collection::vec(op, 0..200)
}

proptest! {
    #[test]
    fn priorities_follow_the_naive_model(ops in ops(), use_msr: bool) {
        let mut apic = if use_msr { x2apic() } else { enabled() };
        let (mut irr, mut isr, mut level) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut tpr = 0u8;
        for op in ops {
            let in_service = isr.last().map_or(0, |v: &u8| v & 0xf0);
            let ppr = if tpr & 0xf0 >= in_service { tpr } else { in_service };
            let deliverable = irr.last().copied().filter(|v: &u8| v >> 4 > ppr >> 4);
            match op {
                Op::Accept(vector, is_level) => {
                    prop_assert_eq!(apic.accept_irq(vector, is_level), irr.insert(vector));
                    if is_level { level.insert(vector); } else { level.remove(&vector); }
                }
                Op::Deliver => {
                    prop_assert_eq!(apic.highest_pending(), deliverable);
                    if let Some(vector) = deliverable {
                        apic.ack(vector);
                        irr.remove(&vector);
                        isr.insert(vector);
                    }
                }
                Op::Eoi => {
                    let effect = if use_msr {
                        apic.write_msr(0x80b, 0, NOW).unwrap()
                    } else {
                        apic.write(0xb0, 4, 0, NOW)
                    };
                    let expected = isr.pop_last().map_or(Effect::None, |vector| Effect::Eoi {
                        vector,
                        level: level.contains(&vector),
                    });
                    prop_assert_eq!(effect, expected);
                }
                Op::Tpr(value) => {
                    tpr = value;
                    apic.set_tpr(value);
                }
            }
            let bits = |set: &BTreeSet<u8>, word: u32| {
                set.iter().filter(|v| u32::from(**v) / 32 == word).fold(0u64, |acc, v| acc | 1 << (v % 32))
            };
            for word in 0..8 {
                let read = |register: u32| if use_msr {
                    apic.read_msr(0x800 + register + word, NOW).unwrap()
                } else {
                    apic.read((register + word) << 4, 4, NOW)
                };
                prop_assert_eq!(read(0x10), bits(&isr, word));
                prop_assert_eq!(read(0x18), bits(&level, word));
                prop_assert_eq!(read(0x20), bits(&irr, word));
            }
        }
    }

    #[test]
    fn any_access_is_safe_and_saves(
        accesses in prop::collection::vec((0u32..0x1100, 0u8..9, any::<u64>(), any::<u32>()), 0..60),
        x2: bool,
    ) {
        let mut apic = if x2 { x2apic() } else { enabled() };
        let mut now = 0u64;
        for (at, size, value, step) in accesses {
            now += u64::from(step);
            let now = Ns::new(now);
            let _ = apic.write(at, size, value, now);
            apic.read(at, size, now);
            let _ = apic.write_msr(at, value, now);
            let _ = apic.read_msr(at, now);
            apic.set_tsc_deadline(value, u64::from(step), 1000, now);
            apic.timer_expired(now);
            if let Some(vector) = apic.highest_pending() {
                apic.ack(vector);
            }
        }
        let now = Ns::new(now);
        let (hidden, page) = apic.export(now);
        let mut copy = LocalApic::new(4, true, true);
        copy.import(&hidden, &page, now).unwrap();
        let (again, mut page_again) = copy.export(now);
        prop_assert_eq!(hidden, again);
        // The counter restarts.
        page_again[0x390..0x394].copy_from_slice(&page[0x390..0x394]);
        prop_assert_eq!(page, page_again);
    }
}

#[test]
fn reset_state() {
    let apic = LocalApic::new(6, true, true);
    let read = |offset| apic.read(offset, 4, NOW);
    assert_eq!(apic.base_msr(), 0xfee0_0900);
    assert_eq!(read(0x20), 6 << 24);
    assert_eq!(read(0x30), 0x5_0014);
    assert_eq!((read(0xd0), read(0xe0), read(0xf0)), (0, 0xffff_ffff, 0xff));
    for lvt in 0x32..=0x37 {
        assert_eq!(read(lvt << 4), 0x1_0000);
    }
    assert!(!apic.enabled());
}

#[test]
fn disabled_apics_take_no_bus_interrupts_but_upcalls_wait() {
    let mut apic = LocalApic::new(0, false, false);
    assert!(!apic.accept_irq(0x40, false));
    assert!(apic.post(0xf3));
    assert_eq!(apic.highest_pending(), None);
    assert_eq!(apic.write(0xf0, 4, 0x1ff, NOW), Effect::Enabled);
    assert_eq!(apic.write(0xf0, 4, 0x1ff, NOW), Effect::None);
    assert_eq!(apic.highest_pending(), Some(0xf3));
}

fn ipi(destination: Destination, mode: DeliveryMode, vector: u8) -> Effect {
    Effect::SendIpi(Message { destination, mode, vector, level: false })
}

#[test]
fn icr_forms() {
    use DeliveryMode::{Fixed, Init, LowestPriority, Nmi, Startup};
    let cases = [
        (0x0000_00fbu64, ipi(Destination::Physical(2), Fixed, 0xfb)),
        (0x0000_08fb, ipi(Destination::Logical(2), Fixed, 0xfb)),
        (0x0000_0940, ipi(Destination::Logical(2), LowestPriority, 0x40)),
        (0x0000_0400, ipi(Destination::Physical(2), Nmi, 0)),
        (0x0000_c500, ipi(Destination::Physical(2), Init, 0)),
        (0x0000_8500, Effect::None),
        (0x0000_0699, ipi(Destination::Physical(2), Startup, 0x99)),
        (0x0008_00fd, ipi(Destination::All, Fixed, 0xfd)),
        (0x000c_00fd, ipi(Destination::Others, Fixed, 0xfd)),
        (0x0000_0700, Effect::None),
        (0x0000_000f, Effect::None),
    ];
    for (icr, expected) in cases {
        let mut apic = enabled();
        assert_eq!(apic.write(0x310, 4, 2 << 24, NOW), Effect::None);
        assert_eq!(apic.write(0x300, 4, icr | 1 << 12, NOW), expected, "{icr:#x}");
        assert_eq!(apic.read(0x300, 4, NOW), icr);
        let mut apic = x2apic();
        assert_eq!(apic.write_msr(0x830, icr | 2 << 32, NOW), Ok(expected), "{icr:#x}");
        assert_eq!(apic.read_msr(0x830, NOW), Ok(icr | 2 << 32));
    }
    let mut apic = x2apic();
    assert_eq!(
        apic.write_msr(0x830, 0xffff_ffff_0000_00fb, NOW),
        Ok(ipi(Destination::Physical(u32::MAX), Fixed, 0xfb))
    );
    assert_eq!(apic.write_msr(0x830, 1 << 12, NOW), Err(GeneralProtection));
    // To itself: pending at once.
    assert_eq!(apic.write_msr(0x83f, 0x81, NOW), Ok(Effect::None));
    assert_eq!(apic.highest_pending(), Some(0x81));
    let mut apic = enabled();
    assert_eq!(apic.write(0x310, 4, 0xff << 24, NOW), Effect::None);
    assert_eq!(apic.write(0x300, 4, 0xfb, NOW), ipi(Destination::Physical(u32::MAX), Fixed, 0xfb));
    assert_eq!(apic.write(0x300, 4, 0x4_0082, NOW), Effect::None);
    assert_eq!(apic.highest_pending(), Some(0x82));
}

#[test]
fn illegal_vectors_are_errors() {
    let mut apic = enabled();
    let _ = apic.write(0x370, 4, 0xfe, NOW);
    let _ = apic.write(0x300, 4, 0x05, NOW);
    assert_eq!(apic.highest_pending(), Some(0xfe));
    assert_eq!(apic.read(0x280, 4, NOW), 0);
    let _ = apic.write(0x280, 4, 0, NOW);
    assert_eq!(apic.read(0x280, 4, NOW), 0x20);
    let _ = apic.write(0x280, 4, 0, NOW);
    assert_eq!(apic.read(0x280, 4, NOW), 0);
    assert!(!apic.accept_irq(3, false));
    let _ = apic.write(0x280, 4, 0, NOW);
    assert_eq!(apic.read(0x280, 4, NOW), 0x40);
}

#[test]
fn destinations() {
    let mut apic = enabled();
    assert!(apic.matches(Destination::Physical(4), false));
    assert!(!apic.matches(Destination::Physical(2), false));
    assert!(apic.matches(Destination::from_field(0xff, false), false));
    // Flat.
    let _ = apic.write(0xd0, 4, 0x0400_0000, NOW);
    assert!(apic.matches(Destination::Logical(0x0c), false));
    assert!(!apic.matches(Destination::Logical(0x0b), false));
    // Cluster 2, member 1.
    let _ = apic.write(0xe0, 4, 0, NOW);
    let _ = apic.write(0xd0, 4, 0x2200_0000, NOW);
    assert!(apic.matches(Destination::Logical(0x23), false));
    assert!(!apic.matches(Destination::Logical(0x33), false));
    assert!(!apic.matches(Destination::Logical(0x21), false));
    assert!(apic.matches(Destination::Others, false) && !apic.matches(Destination::Others, true));
    assert!(apic.matches(Destination::Myself, true) && !apic.matches(Destination::Myself, false));

    let mut apic = LocalApic::new(0x25, false, true);
    let _ = apic.write_base(apic.base_msr() | X2APIC).unwrap();
    assert_eq!(apic.read_msr(0x80d, NOW), Ok(0x0002_0020));
    assert_eq!(apic.read_msr(0x802, NOW), Ok(0x25));
    assert!(apic.matches(Destination::Logical(0x0002_0021), false));
    assert!(!apic.matches(Destination::Logical(0x0001_0020), false));
    apic.init();
    assert_eq!(apic.read_msr(0x80d, NOW), Ok(0x0002_0020));
}

#[test]
fn modes() {
    let mut apic = LocalApic::new(0, true, true);
    let xapic = apic.base_msr();
    assert!(apic.claims(0xfee0_0080) && !apic.claims(0xfee0_1000));
    assert_eq!(apic.read_msr(0x802, NOW), Err(GeneralProtection));
    assert_eq!(apic.write_base(xapic | 1), Err(GeneralProtection));
    assert_eq!(apic.write_base(xapic + 0x1000), Err(GeneralProtection));
    assert!(apic.write_base(xapic | X2APIC).is_ok());
    assert!(!apic.claims(0xfee0_0080));
    assert_eq!(apic.write_base(xapic), Err(GeneralProtection));
    assert!(apic.write_base(xapic & !(1 << 11)).is_ok());
    assert_eq!(apic.write_base(xapic | X2APIC), Err(GeneralProtection));
    assert!(apic.write_base(xapic).is_ok());
    assert!(apic.claims(0xfee0_0080));
    let mut plain = LocalApic::new(0, true, false);
    assert_eq!(plain.write_base(xapic | X2APIC), Err(GeneralProtection));
}

#[test]
fn x2apic_faults() {
    let mut apic = x2apic();
    for (msr, value) in [
        (0x802, 0),
        (0x803, 0),
        (0x80d, 0),
        (0x80e, 0),
        (0x80a, 0),
        (0x831, 0),
        (0x839, 0),
        (0x8ff, 0),
        (0x80b, 1),
        (0x828, 1),
        (0x808, 0x100),
        (0x80f, 0x400),
        (0x832, 1 << 19),
        (0x83e, 4),
        (0x83f, 0x100),
        (0x837, 0x700),
    ] {
        assert_eq!(apic.write_msr(msr, value, NOW), Err(GeneralProtection), "{msr:#x}");
    }
    for msr in [0x800, 0x801, 0x809, 0x80b, 0x80e, 0x831, 0x83a, 0x83f, 0x8ff] {
        assert_eq!(apic.read_msr(msr, NOW), Err(GeneralProtection), "{msr:#x}");
    }
}

#[test]
fn partial_accesses() {
    let mut apic = enabled();
    let _ = apic.write(0x82, 2, 0xffff, NOW);
    assert_eq!(apic.read(0x80, 4, NOW), 0);
    let _ = apic.write(0x80, 1, 0x30, NOW);
    assert_eq!(apic.read(0x80, 4, NOW), 0x30);
    assert_eq!(apic.read(0x32, 1, NOW), 5);
    assert_eq!(apic.read(0x33, 2, NOW), 0);
    assert_eq!(apic.read(0x400, 4, NOW), 0);
}
