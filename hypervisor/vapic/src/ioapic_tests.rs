extern crate std;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::msi_message;

fn program(apic: &mut IoApic, pin: u32, entry: u64) -> Option<Message> {
    let mut message = None;
    for (index, value) in [(0x11, (entry >> 32) as u32), (0x10, entry as u32)] {
        let _ = apic.write(0, index + 2 * pin);
        if let WriteEffect::Pin(change) = apic.write(0x10, value) {
            assert_eq!(u32::from(change.pin), pin);
            message = message.or(change.message);
        }
    }
    message
}

#[test]
fn registers() {
    let mut apic = IoApic::new(2, 24, 24, 0x11, false);
    let read = |apic: &mut IoApic, index| {
        let _ = apic.write(0, index);
        apic.read(0x10)
    };
    assert_eq!(read(&mut apic, 0), 2 << 24);
    assert_eq!(read(&mut apic, 1), 0x17_0011);
    assert_eq!(read(&mut apic, 0x10), 0x1_0000);
    assert_eq!(read(&mut apic, 0x10 + 48), 0);
    let _ = apic.write(0, 0x12);
    assert_eq!(apic.read(0), 0x12);
    let effect = apic.write(0x10, 0xffff_f0a1);
    let WriteEffect::Pin(change) = effect else { panic!("{effect:?}") };
    assert_eq!((change.pin, change.gsi, change.unmasked), (1, 25, false));
    assert_eq!(
        read(&mut apic, 0x12),
        0x1_a0a1,
        "remote IRR, delivery status and reserved bits are not written"
    );
    assert_eq!(apic.write(0x40, 5), WriteEffect::None);
    assert_eq!(IoApic::new(0, 0, 24, 0x20, false).write(0x40, 5), WriteEffect::Eoi(5));
    assert_eq!(
        (apic.pin_of(24), apic.pin_of(47), apic.pin_of(48), apic.pin_of(3)),
        (Some(0), Some(23), None, None)
    );
}

#[test]
fn edges() {
    let mut apic = IoApic::new(0, 0, 24, 0x11, false);
    assert_eq!(apic.pulse(4), None, "masked");
    program(&mut apic, 4, 0x30 | 2 << 56);
    let message = Message {
        destination: Destination::Physical(2),
        mode: DeliveryMode::Fixed,
        vector: 0x30,
        level: false,
    };
    assert_eq!(apic.set_line(4, true), Some(message));
    assert_eq!(apic.set_line(4, true), None);
    assert_eq!(apic.pulse(4), Some(message));
    assert_eq!(apic.set_line(99, true), None);
}

#[test]
fn physical_lines_fall_at_eoi() {
    for physical in [false, true] {
        let mut apic = IoApic::new(0, 16, 8, 0x11, physical);
        program(&mut apic, 1, 0xa041 | 1 << 11 | 3 << 56);
        let message = apic.set_line(1, true).unwrap();
        assert_eq!((message.destination, message.level), (Destination::Logical(3), true));
        assert!(apic.entry(1).unwrap().remote_irr());
        let mut ended = Vec::new();
        apic.eoi(0x42, |pin| ended.push(pin));
        assert!(ended.is_empty());
        apic.eoi(0x41, |pin| ended.push(pin));
        assert_eq!(ended, [PinEoi { pin: 1, gsi: 17, message: (!physical).then_some(message) }]);
        // The edge trick ends it too.
        apic.set_line(1, true);
        let _ = apic.write(0, 0x12);
        let WriteEffect::Pin(change) = apic.write(0x10, 0x1_0041) else { panic!() };
        assert!(change.ended && change.newly_masked && change.message.is_none());
    }
}

#[test]
fn msi_messages() {
    let fixed =
        |destination, vector, level| Some(Message { destination, mode: DeliveryMode::Fixed, vector, level });
    assert_eq!(msi_message(0xfee0_2000, 0x41), fixed(Destination::Physical(2), 0x41, false));
    assert_eq!(msi_message(0xfee0_2004, 0xc041), fixed(Destination::Logical(2), 0x41, true));
    assert_eq!(msi_message(0xfeef_f000, 0x41), fixed(Destination::Physical(u32::MAX), 0x41, false));
    assert_eq!(msi_message(0xfee0_2020, 0x41), fixed(Destination::Physical(0x102), 0x41, false));
    assert_eq!(msi_message(0xfee0_0000, 0x400).unwrap().mode, DeliveryMode::Nmi);
    assert_eq!(msi_message(0xfed0_0000, 0x41), None);
    assert_eq!(msi_message(0x1_fee0_0000, 0x41), None);
}

#[derive(Clone, Copy, Default)]
struct Model {
    vector: u8,
    level: bool,
    masked: bool,
    line: bool,
    in_service: bool,
}

impl Model {
    fn level_fires(&mut self) -> bool {
        let fires = self.level && self.line && !self.masked && !self.in_service;
        self.in_service |= fires;
        fires
    }
}

proptest! {
    #[test]
    fn pins_follow_the_naive_model(
        ops in prop::collection::vec((0u8..3, 0u8..4, 0x20u8..0x24, any::<bool>(), any::<bool>()), 0..100),
    ) {
        let mut apic = IoApic::new(0, 0, 4, 0x11, false);
        let mut model = [Model { masked: true, ..Model::default() }; 4];
        for (op, pin, vector, a, b) in ops {
            let state = &mut model[usize::from(pin)];
            match op {
                0 => {
                    let rose = a && !state.line;
                    state.line = a;
                    let fires = if state.level { state.level_fires() } else { rose && !state.masked };
                    let message = apic.set_line(pin, a);
                    prop_assert_eq!(message.map(|m| (m.vector, m.level)), fires.then_some((state.vector, state.level)));
                }
                1 => {
                    state.vector = vector;
                    state.level = a;
                    state.masked = b;
                    state.in_service &= a;
                    let fires = state.level_fires();
                    let entry = u64::from(vector) | u64::from(a) << 15 | u64::from(b) << 16;
                    let _ = apic.write(0, 0x10 + 2 * u32::from(pin));
                    let WriteEffect::Pin(change) = apic.write(0x10, entry as u32) else { panic!() };
                    prop_assert_eq!(change.message.is_some(), fires);
                }
                _ => {
                    let mut ended = Vec::new();
                    apic.eoi(vector, |pin| ended.push((pin.pin, pin.message.is_some())));
                    let mut expected = Vec::new();
                    for (pin, state) in (0u8..).zip(&mut model) {
                        if state.vector == vector && state.in_service {
                            state.in_service = false;
                            expected.push((pin, state.level_fires()));
                        }
                    }
                    prop_assert_eq!(ended, expected);
                }
            }
        }
    }
}
