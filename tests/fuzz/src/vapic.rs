//! A virtual local APIC and a virtual IO-APIC under whatever a guest, its time and a saved state make of them.

use radon_addr::Ns;
use radon_vapic::{
    Destination, Effect, IoApic, LocalApic, MSR_X2APIC_FIRST, SavedHidden, WriteEffect, msi_message,
};

use crate::random::source::Source;

const STEPS: u32 = 512;
const PINS: u8 = 24;

pub fn run(data: &[u8]) {
    let s = &mut Source::of_bytes(data);
    let mut apic = LocalApic::new(s.below(4) as u32 * 2, s.chance(50), s.chance(80));
    let mut io = IoApic::new(0, 0, PINS, s.pick(&[0x11, 0x20]), s.chance(50));
    let mut now = Ns::new(s.odd_word() >> 1);
    for _ in 0..STEPS {
        if s.done() {
            break;
        }
        now = now.saturating_add(s.odd_word() >> 8);
        match s.below(16) {
            0..=4 => local(s, &mut apic, now),
            5..=7 => drop(apic.write_msr(MSR_X2APIC_FIRST + s.below(0x100) as u32, s.odd_word(), now)),
            8 => drop(apic.write_base(s.pick(&[0xfee0_0800, 0xfee0_0c00, 0xfee0_0000, 0xfee0_0d00]))),
            9 => drop(apic.write_base(s.odd_word())),
            10 => interrupts(s, &mut apic),
            11 => apic.set_tsc_deadline(s.odd_word(), s.odd_word(), s.odd_word(), now),
            12 => saved(s, &mut apic, now),
            _ => pins(s, &mut io),
        }
        holds(&mut apic, now);
    }
}

/// The xAPIC page.
fn local(s: &mut Source<'_>, apic: &mut LocalApic, now: Ns) {
    let offset = if s.chance(90) { s.below(0x40) as u32 * 16 } else { s.below(0x1000) as u32 };
    let size = s.pick(&[4, 4, 4, 1, 2, 8, 0]);
    let read = apic.read(offset, size, now);
    assert!(size >= 8 || read >> (8 * u32::from(size)) == 0, "{offset:#x} {size}: {read:#x}");
    if let Effect::SendIpi(message) = apic.write(offset, size, s.odd_word(), now) {
        let _ = apic.matches(message.destination, true);
    }
}

fn interrupts(s: &mut Source<'_>, apic: &mut LocalApic) {
    let vector = s.word() as u8;
    match s.below(6) {
        0 => drop(apic.accept_irq(vector, s.chance(50))),
        1 => drop(apic.post(vector)),
        2 => apic.set_tpr(vector),
        3 => drop(apic.eoi()),
        4 => apic.init(),
        _ => {
            let message = msi_message(0xfee0_0000 | s.below(1 << 20), s.word() as u32);
            let to = message.map_or(Destination::Logical(s.odd_word() as u32), |m| m.destination);
            let _ = apic.matches(to, s.chance(50));
        }
    }
}

/// What was saved comes back the same; what a toolstack made up is refused or taken.
fn saved(s: &mut Source<'_>, apic: &mut LocalApic, now: Ns) {
    if s.chance(50) {
        let (hidden, page) = apic.export(now);
        let mut copy = apic.clone();
        assert_eq!(copy.import(&hidden, &page, now), Ok(()));
        assert_eq!(copy.export(now).0.apic_base_msr, hidden.apic_base_msr);
        return;
    }
    let hidden = SavedHidden {
        apic_base_msr: s.odd_word(),
        disabled: s.below(5) as u32,
        timer_divisor: s.odd_word() as u32,
        tdt_msr: s.odd_word(),
    };
    let mut page = [0; 1024];
    for _ in 0..s.below(16) {
        page[s.below(1024) as usize] = s.word() as u8;
    }
    let _ = apic.import(&hidden, &page, now);
}

fn pins(s: &mut Source<'_>, io: &mut IoApic) {
    let offset = if s.chance(90) { s.pick(&[0, 0x10, 0x40]) } else { s.odd_word() };
    match s.below(5) {
        0 => drop(io.set_line(s.below(30) as u8, s.chance(50))),
        1 => drop(io.pulse(s.below(30) as u8)),
        2 => io.eoi(s.word() as u8, |ended| assert!(ended.pin < PINS)),
        _ => {
            let value = if offset == 0 { s.below(0x45) } else { s.odd_word() };
            if let WriteEffect::Pin(change) = io.write(offset, value as u32) {
                assert!(change.pin < PINS && !(change.unmasked && change.newly_masked));
            }
            let _ = io.read(offset);
        }
    }
}

/// A deadline lies ahead once what is due has fired, and what can be delivered can be acknowledged and ended.
fn holds(apic: &mut LocalApic, now: Ns) {
    if apic.timer_deadline().is_some_and(|d| d <= now) {
        apic.timer_expired(now);
        assert!(
            apic.timer_deadline().is_none_or(|d| d > now),
            "fires for ever: {:?} at {now:?}",
            apic.timer_deadline()
        );
    }
    let mut copy = apic.clone();
    let mut last = 256;
    while let Some(vector) = copy.highest_pending() {
        assert!(usize::from(vector) < last, "{vector:#x} again");
        last = usize::from(vector);
        copy.ack(vector);
        assert_eq!(copy.eoi().map(|e| e.0), Some(vector));
    }
}
