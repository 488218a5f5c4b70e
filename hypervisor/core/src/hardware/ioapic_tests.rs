use alloc::vec;

use proptest::prelude::*;

use super::super::interrupts::Arrival;
use super::*;

const BASE: u64 = 0xfec0_0000;
const PINS: u8 = 4;
/// The first two pins are used level-triggered, active low; the others edge-triggered.
const LEVEL_PINS: u8 = 2;

/// One pin of the machine's IO-APIC, as the data sheet has it.
#[derive(Clone, Copy)]
struct Pin {
    route: Route,
    asserted: bool,
    remote_irr: bool,
    /// An edge came while unmasked, or a level is to be sent.
    request: bool,
}

/// The machine's IO-APIC.
struct Chip([Pin; PINS as usize]);

impl Chip {
    fn new() -> Chip {
        let route = Route { vector: 0, destination: 0, level: false, active_low: false, masked: true };
        Chip([Pin { route, asserted: false, remote_irr: false, request: false }; PINS as usize])
    }
    /// Sends what can be sent; the vectors.
    fn send(&mut self) -> Vec<u8> {
        let mut sent = vec![];
        for pin in &mut self.0 {
            let level = pin.route.level && pin.asserted && !pin.remote_irr;
            if pin.route.masked || !(level || pin.request) {
                continue;
            }
            pin.request = false;
            pin.remote_irr = pin.route.level;
            sent.push(pin.route.vector);
        }
        sent
    }
    fn acknowledge(&mut self, vector: u8) {
        self.0
            .iter_mut()
            .filter(|p| p.route.level && p.route.vector == vector)
            .for_each(|p| p.remote_irr = false);
    }
}

impl Pins for Chip {
    fn set_route(&mut self, gsi: u32, route: Route) {
        let pin = &mut self.0[gsi as usize];
        assert!(!pin.remote_irr || pin.route.vector == route.vector, "its acknowledgement would be lost");
        pin.route = route;
    }
    fn set_masked(&mut self, gsi: u32, masked: bool) {
        self.0[gsi as usize].route.masked = masked;
    }
}

struct Bench {
    lines: Lines<Chip>,
    vectors: Vectors,
    /// Messages delivered, by pin's virtual vector.
    delivered: Vec<u8>,
}

fn virtual_vector(pin: u8) -> u8 {
    0x50 + pin
}

impl Bench {
    fn new() -> Bench {
        let model = IoApic::new(0, 0, PINS, 0x11, true);
        let vectors = Vectors::new([(CpuId::new(0), 7)]);
        Bench { lines: Lines::new(vec![(Maddr::new(BASE), model)], Chip::new()), vectors, delivered: vec![] }
    }
    fn register(&mut self, index: u8, value: u32) {
        for (offset, value) in [(0, u32::from(index)), (0x10, value)] {
            let message = self.lines.write(Gpa::new(BASE + offset), value, &mut self.vectors).unwrap();
            self.delivered.extend(message.map(|m| m.vector));
        }
    }
    fn program(&mut self, pin: u8, masked: bool) {
        let level = if pin < LEVEL_PINS { 0xa000 } else { 0 };
        let masked = u32::from(masked) << 16;
        self.register(0x10 + 2 * pin, u32::from(virtual_vector(pin)) | level | masked);
    }
    fn entry(&self, pin: u8) -> radon_vapic::Redirection {
        self.lines.ioapics[0].1.entry(pin).unwrap()
    }
    fn chip(&mut self) -> &mut Chip {
        &mut self.lines.pins
    }
    fn set(&mut self, pin: u8, asserted: bool) {
        let pin = &mut self.chip().0[usize::from(pin)];
        pin.request |= asserted && !pin.asserted && !pin.route.level && !pin.route.masked;
        pin.asserted = asserted;
    }
    /// Takes one round of interrupts; how many there were.
    fn take(&mut self) -> usize {
        let sent = self.chip().send();
        for vector in &sent {
            let at = Arrival { cpu: CpuId::new(0), vector: *vector };
            let Some(Source::Line(gsi)) = self.vectors.source(at) else { panic!("{vector:x} is nobody's") };
            let message = self.lines.arrived(gsi);
            self.chip().acknowledge(*vector);
            self.delivered.extend(message.map(|m| m.vector));
        }
        sent.len()
    }
    fn end(&mut self, pin: u8) {
        let again = self.lines.end_of_interrupt(virtual_vector(pin));
        self.delivered.extend(again.iter().map(|m| m.vector));
    }
    /// Takes interrupts until there are no more.
    fn settle(&mut self) {
        let rounds = (0..20).take_while(|_| self.take() != 0).count();
        assert!(rounds < 20, "an interrupt storm");
    }
    fn delivered(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.delivered)
    }
}

#[test]
fn a_level_interrupt_is_quiet_until_its_end() {
    let mut b = Bench::new();
    b.set(0, true);
    b.settle();
    assert_eq!(b.delivered(), []);
    b.program(0, false);
    let route = b.chip().0[0].route;
    assert!((route.level, route.active_low, route.destination, route.masked) == (true, true, 7, false));
    b.settle();
    assert_eq!(b.delivered(), [virtual_vector(0)]);
    assert!(b.chip().0[0].route.masked);
    // Still asserted at its end: again. Not asserted: no more.
    b.end(0);
    b.settle();
    assert_eq!(b.delivered(), [virtual_vector(0)]);
    b.set(0, false);
    b.end(0);
    b.settle();
    assert_eq!(b.delivered(), []);
    assert!(!b.chip().0[0].route.masked);
}

#[test]
fn masked_between_arrival_and_forwarding() {
    let mut b = Bench::new();
    b.program(0, false);
    b.set(0, true);
    let sent = b.chip().send();
    b.program(0, true);
    let at = Arrival { cpu: CpuId::new(0), vector: sent[0] };
    assert_eq!(b.vectors.source(at), Some(Source::Line(0)));
    assert!(b.lines.arrived(0).is_none());
    b.chip().acknowledge(sent[0]);
    b.settle();
    assert_eq!(b.delivered(), []);
    b.program(0, false);
    b.settle();
    assert_eq!(b.delivered(), [virtual_vector(0)]);
}

#[test]
fn going_to_edge_mode_ends_an_interrupt() {
    let mut b = Bench::new();
    b.program(0, false);
    b.set(0, true);
    b.settle();
    b.set(0, false);
    // Linux's way without an EOI register: masked and edge, then as before.
    b.register(0x10, u32::from(virtual_vector(0)) | 1 << 16);
    b.program(0, false);
    assert!(!b.chip().0[0].route.masked && !b.entry(0).remote_irr());
    b.set(0, true);
    b.settle();
    assert_eq!(b.delivered(), [virtual_vector(0); 2]);
}

#[test]
fn a_pin_keeps_its_vector() {
    let mut b = Bench::new();
    b.program(3, false);
    let vector = b.chip().0[3].route.vector;
    b.program(3, true);
    assert!(b.chip().0[3].route.masked);
    b.program(2, false);
    b.program(3, false);
    assert_eq!(b.chip().0[3].route.vector, vector);
    assert_ne!(b.chip().0[2].route.vector, vector);
}

#[derive(Clone, Debug)]
enum Step {
    Program(u8, bool),
    Line(u8, bool),
    Take,
    End(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..PINS, any::<bool>()).prop_map(|(p, m)| Step::Program(p, m)),
        (0..PINS, any::<bool>()).prop_map(|(p, a)| Step::Line(p, a)),
        Just(Step::Take),
        (0..LEVEL_PINS).prop_map(Step::End),
    ]
}

proptest! {
    /// Nothing is lost, nothing storms, the machine's pins are masked exactly when they must be.
    #[test]
    fn pins_against_their_data_sheet(steps in prop::collection::vec(step(), 1..120)) {
        let mut b = Bench::new();
        let mut edges = [0usize; PINS as usize];
        let mut seen = [0usize; PINS as usize];
        for step in steps {
            match step {
                Step::Program(pin, masked) => {
                    // An edge on its way while the pin is masked may be lost, here as on the machine.
                    b.settle();
                    b.program(pin, masked);
                }
                Step::Line(pin, asserted) => {
                    let state = b.chip().0[usize::from(pin)];
                    edges[usize::from(pin)] +=
                        usize::from(asserted && !state.asserted && !state.route.masked && !state.request);
                    b.set(pin, asserted);
                }
                Step::Take => { b.take(); }
                // Only an interrupt in service ends.
                Step::End(pin) => if b.entry(pin).remote_irr() { b.end(pin) },
            }
            for vector in b.delivered() {
                seen[usize::from(vector - 0x50)] += 1;
            }
            for pin in 0..LEVEL_PINS {
                let entry = b.entry(pin);
                let state = b.chip().0[usize::from(pin)];
                prop_assert_eq!(state.route.masked, entry.masked() || entry.remote_irr());
            }
        }
        b.settle();
        for vector in b.delivered() {
            seen[usize::from(vector - 0x50)] += 1;
        }
        for pin in 0..PINS {
            let entry = b.entry(pin);
            let state = b.chip().0[usize::from(pin)];
            if pin < LEVEL_PINS {
                prop_assert!(entry.remote_irr() || entry.masked() || !state.asserted, "pin {} is lost", pin);
            } else {
                prop_assert_eq!(seen[usize::from(pin)], edges[usize::from(pin)]);
            }
        }
    }
}
