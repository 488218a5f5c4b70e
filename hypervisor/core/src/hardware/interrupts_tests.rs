use alloc::collections::BTreeSet;

use super::*;

fn cpu_id(n: u32) -> CpuId {
    CpuId::new(n)
}

fn three() -> Vectors {
    // The last cannot be addressed by a device.
    Vectors::new([(cpu_id(0), 4), (cpu_id(1), 6), (cpu_id(2), 0xff)])
}

#[test]
fn every_vector_once() {
    let mut v = three();
    let mut seen = BTreeSet::new();
    for gsi in 0..2 * VECTORS as u32 {
        let (at, apic_id) = v.bind(Source::Line(gsi), cpu_id(1)).unwrap();
        assert!((FIRST_DEVICE_VECTOR..=LAST_DEVICE_VECTOR).contains(&at.vector));
        assert_eq!(at.cpu, cpu_id(u32::from(gsi < VECTORS as u32)), "the near one first");
        assert_eq!(apic_id, if at.cpu == cpu_id(0) { 4 } else { 6 });
        assert!(seen.insert(at));
        assert_eq!(v.source(at), Some(Source::Line(gsi)));
    }
    assert_eq!(v.bind(Source::Line(999), cpu_id(2)), None);
    let at = Arrival { cpu: cpu_id(1), vector: 0x42 };
    v.release(at);
    assert_eq!(v.source(at), None);
    assert_eq!(v.bind(Source::Line(999), cpu_id(0)), Some((at, 6)));
    for outside in [0, FIRST_DEVICE_VECTOR - 1, LAST_DEVICE_VECTOR + 1, 0xff] {
        assert_eq!(v.source(Arrival { cpu: cpu_id(0), vector: outside }), None);
    }
    assert_eq!(Vectors::new([]).bind(Source::Line(0), cpu_id(0)), None);
}

#[test]
fn a_released_vector_rests() {
    let mut v = three();
    let (first, _) = v.bind(Source::Line(1), cpu_id(0)).unwrap();
    v.release(first);
    for gsi in 2..VECTORS as u32 + 1 {
        assert_ne!(v.bind(Source::Line(gsi), cpu_id(0)).unwrap().0, first);
    }
    assert_eq!(v.bind(Source::Line(0), cpu_id(0)).unwrap().0, first);
}

#[test]
fn messages_keep_their_vector_while_bound() {
    let mut i = Interrupts::new(Vec::new());
    i.vectors = three();
    let disk = (Sbdf::new(0, 3, 0, 0), Some(1));
    let nic = (Sbdf::new(0, 4, 0, 0), None);
    let first = i.bind_message(disk, 0xfee0_2000, 0x4055, cpu_id(1)).unwrap();
    assert_eq!(first, MachineMessage { address: 0xfee0_6000, data: u16::from(FIRST_DEVICE_VECTOR) });
    let other = i.bind_message(nic, 0xfee0_1000, 0x66, cpu_id(1)).unwrap();
    assert_ne!(other, first);
    let at = Arrival { cpu: cpu_id(1), vector: first.data as u8 };
    assert_eq!(i.arrived(at), msi_message(0xfee0_2000, 0x4055));
    // Moved to another vCPU: the machine's message stays.
    assert_eq!(i.bind_message(disk, 0xfee0_4000, 0x77, cpu_id(0)), Some(first));
    assert_eq!(i.arrived(at), msi_message(0xfee0_4000, 0x77));
    // An address that is no interrupt's delivers nothing.
    assert_eq!(i.bind_message(disk, 0x1000, 0x77, cpu_id(0)), Some(first));
    assert_eq!(i.arrived(at), None);
    i.release_message(disk);
    assert_eq!((i.arrived(at), i.vectors.source(at)), (None, None));
    assert_eq!(
        i.arrived(Arrival { cpu: cpu_id(1), vector: other.data as u8 }),
        msi_message(0xfee0_1000, 0x66)
    );
}

#[test]
fn noted_interrupts_are_drained() {
    listen();
    for vector in [0x31, 0x7f, 0x80, LAST_DEVICE_VECTOR] {
        radon_hw::sim::raise(vector);
    }
    irq::window();
    let noted = || NOTED.this().iter().map(|w| w.load(Ordering::Relaxed).count_ones()).sum::<u32>();
    assert_eq!(noted(), 4);
    forward_interrupts();
    assert_eq!(noted(), 0);
}
