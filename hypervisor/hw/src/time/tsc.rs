//! The real machine's clock: TSC for time, local APIC for the deadline.
#![allow(unsafe_code)] // RDTSC

use super::Scale;
use crate::{apic, cpuid, mmio, percpu::PerCpu, port};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use radon_addr::{Maddr, Ns};

/// How long the TSC is compared with a reference clock.
const CALIBRATION_NS: u64 = 10_000_000;
const PM_TIMER_HZ: u64 = 3_579_545;
const PIT_HZ: u64 = 1_193_182;
/// A reference that stands still ends the comparison after this many readings.
const MAX_POLLS: u32 = 100_000;
const NOT_ARMED: u64 = u64::MAX;

/// Set once by `calibrate`, before other CPUs run. Before that, one tick counts as a nanosecond.
static BASE: AtomicU64 = AtomicU64::new(0);
static KHZ: AtomicU64 = AtomicU64::new(1_000_000);
/// A `Scale` packed as `mul | shift << 32`: ticks to nanoseconds, nanoseconds to TSC ticks and to timer counts.
static TO_NS: AtomicU64 = AtomicU64::new(1 << 31 | 1 << 32);
static TO_TSC: AtomicU64 = AtomicU64::new(1 << 31 | 1 << 32);
static TO_TIMER: AtomicU64 = AtomicU64::new(1 << 31 | 1 << 32);
static TSC_DEADLINE: AtomicBool = AtomicBool::new(false);
static WALL_OFFSET: AtomicU64 = AtomicU64::new(0);
/// The deadline each CPU's timer is programmed for, to skip programming it again.
static ARMED: PerCpu<AtomicU64> = crate::per_cpu!(AtomicU64::new(NOT_ARMED));

fn pack(s: Scale) -> u64 {
    u64::from(s.mul) | u64::from(s.shift as u8) << 32
}

#[inline]
fn unpack(cell: &AtomicU64) -> Scale {
    let raw = cell.load(Relaxed);
    Scale { mul: raw as u32, shift: (raw >> 32) as i8 }
}

#[inline]
pub fn tsc() -> u64 {
    // SAFETY: reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[inline]
pub fn at_tsc(tsc: u64) -> Ns {
    Ns::new(unpack(&TO_NS).apply(tsc.saturating_sub(BASE.load(Relaxed))))
}

#[inline]
pub fn now() -> Ns {
    at_tsc(tsc())
}

pub fn tsc_khz() -> u64 {
    KHZ.load(Relaxed)
}

pub fn scale() -> Scale {
    unpack(&TO_NS)
}

pub fn wall_offset() -> u64 {
    WALL_OFFSET.load(Relaxed)
}

pub fn set_wall_offset(ns: u64) {
    WALL_OFFSET.store(ns, Relaxed);
}

pub fn timer_fired() {
    ARMED.this().store(NOT_ARMED, Relaxed);
}

pub fn arm(deadline: Option<Ns>) {
    let armed = ARMED.this();
    let wanted = deadline.map_or(NOT_ARMED, Ns::raw);
    if armed.load(Relaxed) == wanted {
        return;
    }
    armed.store(wanted, Relaxed);
    let use_tsc = TSC_DEADLINE.load(Relaxed);
    match deadline {
        None => apic::set_timer(use_tsc, 0),
        Some(at) if use_tsc => {
            let ticks = unpack(&TO_TSC).apply(at.raw());
            // 0 would disarm; the past fires at once.
            apic::set_timer(true, ticks.saturating_add(BASE.load(Relaxed)).max(1));
        }
        Some(at) => {
            // Rounded up: a count too few would cost another interrupt for the rest.
            let counts = unpack(&TO_TIMER).apply(at.since(now())).saturating_add(1);
            apic::set_timer(false, counts.min(u64::from(u32::MAX)));
        }
    }
}

/// Finds out the TSC's and the local APIC timer's frequency and reads the wall clock. On the boot CPU, after
/// `apic::init_this_cpu`. `pm_timer_port`: the ACPI PM timer's I/O port; `hpet`: the HPET's registers. Without either the PIT
/// is used.
pub fn calibrate(pm_timer_port: Option<u16>, hpet: Option<Maddr>) {
    let reference = Reference::choose(pm_timer_port, hpet);
    crate::info!("Platform timer: {}", reference.name());
    apic::start_timer_count();
    let start = reference.sample();
    let count0 = apic::timer_count();
    let mut end = reference.sample();
    while reference.elapsed_ns(&start, &end) < CALIBRATION_NS && end.polls < MAX_POLLS {
        crate::cpu::pause();
        let polls = end.polls + 1;
        end = Sample { polls, ..reference.sample() };
    }
    let counts = u64::from(count0.wrapping_sub(apic::timer_count()));
    let ns = reference.elapsed_ns(&start, &end).max(1);
    let ticks = end.tsc.saturating_sub(start.tsc).max(1);
    apic::set_timer(false, 0);

    let khz = exact_khz().unwrap_or_else(|| muldiv(ticks, 1_000_000, ns)).max(1);
    KHZ.store(khz, Relaxed);
    TO_NS.store(pack(Scale::from_khz(khz)), Relaxed);
    TO_TSC.store(pack(Scale::ratio(khz, 1_000_000)), Relaxed);
    TO_TIMER.store(pack(Scale::ratio(counts.max(1), ns)), Relaxed);
    TSC_DEADLINE.store(cpuid::leaf(1, 0).ecx >> 24 & 1 != 0, Relaxed);
    BASE.store(tsc(), Relaxed);
    apic::use_tsc_deadline(TSC_DEADLINE.load(Relaxed));
    if let Some(seconds) = crate::rtc::read() {
        set_wall_offset(seconds.saturating_mul(1_000_000_000));
    }
}

/// True when `calibrate` chose the TSC-deadline mode, which every CPU's APIC must then use.
pub(crate) fn deadline_mode() -> bool {
    TSC_DEADLINE.load(Relaxed)
}

/// The TSC's frequency as the processor or the hypervisor below says, if one does.
fn exact_khz() -> Option<u64> {
    let crystal = cpuid::checked(0x15, 0);
    if crystal.eax != 0 && crystal.ebx != 0 && crystal.ecx != 0 {
        return Some(muldiv(u64::from(crystal.ecx), u64::from(crystal.ebx), u64::from(crystal.eax)) / 1000);
    }
    let virtual_machine = cpuid::leaf(1, 0).ecx >> 31 != 0;
    let khz = if virtual_machine && cpuid::leaf(0x4000_0000, 0).eax >= 0x4000_0010 {
        cpuid::leaf(0x4000_0010, 0).eax
    } else {
        0
    };
    (khz != 0).then_some(u64::from(khz))
}

fn muldiv(a: u64, b: u64, c: u64) -> u64 {
    u64::try_from(u128::from(a) * u128::from(b) / u128::from(c.max(1))).unwrap_or(u64::MAX)
}

/// A clock of known frequency.
enum Reference {
    PmTimer(u16),
    Hpet(mmio::MmioRegion, u64),
    Pit,
}

/// Reading of the reference and the TSC at that moment.
struct Sample {
    tsc: u64,
    clock: u64,
    polls: u32,
}

impl Reference {
    fn choose(pm_timer_port: Option<u16>, hpet: Option<Maddr>) -> Reference {
        if let Some(regs) = hpet.and_then(|at| mmio::map(at, 0x400)) {
            let period_fs = regs.read64(0) >> 32;
            // The specification allows at most 100 ns.
            if (1..=100_000_000).contains(&period_fs) {
                regs.write64(0x10, regs.read64(0x10) | 1);
                return Reference::Hpet(regs, period_fs);
            }
        }
        if let Some(port) = pm_timer_port.filter(|&p| port::in32(p) != u32::MAX) {
            return Reference::PmTimer(port);
        }
        // Channel 2: gate on, speaker off, mode 0 counting down from 0xffff once.
        port::out8(0x61, port::in8(0x61) & !2 | 1);
        port::out8(0x43, 0xb0);
        port::out8(0x42, 0xff);
        port::out8(0x42, 0xff);
        Reference::Pit
    }

    fn name(&self) -> &'static str {
        match self {
            Reference::PmTimer(_) => "ACPI PM timer",
            Reference::Hpet(..) => "HPET",
            Reference::Pit => "PIT",
        }
    }

    fn clock(&self) -> u64 {
        match self {
            Reference::PmTimer(port) => u64::from(port::in32(*port) & 0xff_ffff),
            Reference::Hpet(regs, _) => u64::from(regs.read32(0xf0)),
            Reference::Pit => {
                port::out8(0x43, 0x80);
                let low = port::in8(0x42);
                u64::from(0xffff - (u16::from(port::in8(0x42)) << 8 | u16::from(low)))
            }
        }
    }

    /// The quickest of a few readings, so that a delay between the two clocks does not count.
    fn sample(&self) -> Sample {
        let mut best: Option<(u64, Sample)> = None;
        for _ in 0..3 {
            let before = tsc();
            let clock = self.clock();
            let took = tsc().saturating_sub(before);
            if best.as_ref().is_none_or(|(t, _)| took < *t) {
                best = Some((took, Sample { tsc: before.saturating_add(took / 2), clock, polls: 0 }));
            }
        }
        best.map_or(Sample { tsc: tsc(), clock: self.clock(), polls: 0 }, |(_, s)| s)
    }

    fn elapsed_ns(&self, a: &Sample, b: &Sample) -> u64 {
        let delta = b.clock.wrapping_sub(a.clock);
        match self {
            Reference::PmTimer(_) => muldiv(delta & 0xff_ffff, 1_000_000_000, PM_TIMER_HZ),
            Reference::Hpet(_, period_fs) => muldiv(delta & 0xffff_ffff, *period_fs, 1_000_000),
            Reference::Pit => muldiv(delta & 0xffff, 1_000_000_000, PIT_HZ),
        }
    }
}
