//! The local APIC timer: one-shot, periodic, TSC deadline.

use radon_addr::Ns;

use crate::lapic::{LVT_MASKED, LVT_TIMER, LocalApic};

/// Length of a bus cycle: the timer counts at 100 MHz divided by the divide configuration (as Xen's does).
pub const BUS_CYCLE_NS: u64 = 10;
/// A periodic timer interrupts at most once in this time (Xen's limit).
const MIN_PERIOD_NS: u64 = 100_000;
pub(crate) const TIMER_MODE: u32 = 3 << 17;
const DIVIDE_MASK: u32 = 0b1011;

/// LVT timer bits 18:17.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimerMode {
    OneShot,
    Periodic,
    TscDeadline,
    Reserved,
}

impl TimerMode {
    pub(crate) fn from_lvt(entry: u32) -> Self {
        match entry >> 17 & 3 {
            0 => TimerMode::OneShot,
            1 => TimerMode::Periodic,
            2 => TimerMode::TscDeadline,
            _ => TimerMode::Reserved,
        }
    }

    pub(crate) fn counts(self) -> bool {
        matches!(self, TimerMode::OneShot | TimerMode::Periodic)
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Timer {
    /// Initial count register.
    pub(crate) initial: u32,
    /// Divide configuration register.
    pub(crate) divide: u32,
    /// IA32_TSC_DEADLINE, 0 when disarmed.
    pub(crate) tsc_deadline: u64,
    /// When the count was last at its initial value (wrapping; it can lie before time 0); `None`: not counting.
    start: Option<u64>,
    /// When to interrupt next.
    deadline: Option<Ns>,
}

impl Timer {
    /// Bus cycles per count: 1, 2, 4 .. 128.
    pub(crate) fn divisor(&self) -> u64 {
        let code = (self.divide & 3) | (self.divide & 8) >> 1;
        1 << (code.wrapping_add(1) & 7)
    }

    fn period(&self) -> u64 {
        u64::from(self.initial).saturating_mul(BUS_CYCLE_NS).saturating_mul(self.divisor())
    }

    fn elapsed(&self, now: Ns) -> Option<u64> {
        self.start.map(|start| now.raw().wrapping_sub(start))
    }

    /// Nanoseconds until the count reaches 0; `None` when it is there.
    fn remaining(&self, mode: TimerMode, now: Ns) -> Option<u64> {
        let period = self.period();
        let elapsed = self.elapsed(now)?;
        let elapsed = if mode == TimerMode::Periodic { elapsed.checked_rem(period)? } else { elapsed };
        period.checked_sub(elapsed).filter(|left| *left != 0)
    }

    fn stop(&mut self) {
        self.start = None;
        self.deadline = None;
    }

    /// Counts on in `mode` with `left` ns to go.
    fn resume(&mut self, mode: TimerMode, left: Option<u64>, now: Ns) {
        match left {
            Some(left) if mode.counts() => {
                self.start = Some(now.raw().wrapping_sub(self.period().wrapping_sub(left)));
                self.deadline = Some(now.saturating_add(left));
            }
            _ => self.stop(),
        }
    }
}

impl LocalApic {
    pub(crate) fn timer_mode(&self) -> TimerMode {
        TimerMode::from_lvt(self.timer_entry())
    }

    fn timer_entry(&self) -> u32 {
        self.lvt.get(LVT_TIMER).copied().unwrap_or(LVT_MASKED)
    }

    /// The current count register.
    pub(crate) fn timer_count(&self, now: Ns) -> u32 {
        let mode = self.timer_mode();
        if !mode.counts() {
            return 0;
        }
        let left = self.timer.remaining(mode, now).unwrap_or(0);
        let tick = BUS_CYCLE_NS.saturating_mul(self.timer.divisor());
        u32::try_from(left.div_ceil(tick)).unwrap_or(u32::MAX)
    }

    pub(crate) fn write_initial_count(&mut self, value: u32, now: Ns) {
        let mode = self.timer_mode();
        if !mode.counts() {
            return;
        }
        self.timer.initial = value;
        let period = self.timer.period();
        self.timer.resume(mode, (period != 0).then_some(period), now);
    }

    pub(crate) fn write_divide(&mut self, value: u32, now: Ns) {
        let mode = self.timer_mode();
        let (left, before) = (self.timer.remaining(mode, now), self.timer.divisor());
        self.timer.divide = value & DIVIDE_MASK;
        let after = self.timer.divisor();
        if mode.counts() && after != before {
            let left = left.map(|left| left.saturating_mul(after) / before.max(1));
            self.timer.resume(mode, left, now);
        }
    }

    /// The LVT timer entry is about to become `entry`.
    pub(crate) fn change_timer_mode(&mut self, entry: u32, now: Ns) {
        let (old, new) = (self.timer_mode(), TimerMode::from_lvt(entry));
        if old == new {
            return;
        }
        let left = self.timer.remaining(old, now);
        if (old == TimerMode::TscDeadline) != (new == TimerMode::TscDeadline) {
            self.timer.initial = 0;
            self.timer.tsc_deadline = 0;
            self.timer.stop();
        } else {
            self.timer.resume(new, left, now);
        }
    }

    /// Reads IA32_TSC_DEADLINE: 0 when disarmed or in another mode.
    pub fn tsc_deadline(&self) -> u64 {
        if self.timer_mode() == TimerMode::TscDeadline { self.timer.tsc_deadline } else { 0 }
    }

    /// Writes IA32_TSC_DEADLINE; ignored in other timer modes. `guest_tsc` is the vCPU's TSC at `now`, ticking at
    /// `guest_khz`. [`Self::timer_deadline`] has changed afterwards.
    pub fn set_tsc_deadline(&mut self, value: u64, guest_tsc: u64, guest_khz: u64, now: Ns) {
        if !self.hardware_enabled() || self.timer_mode() != TimerMode::TscDeadline {
            return;
        }
        self.timer.stop();
        self.timer.tsc_deadline = value;
        if value == 0 {
            return;
        }
        let ticks = u128::from(value.saturating_sub(guest_tsc));
        let ns = ticks.saturating_mul(1_000_000).checked_div(u128::from(guest_khz)).unwrap_or(u128::MAX);
        self.timer.deadline = Some(now.saturating_add(u64::try_from(ns).unwrap_or(u64::MAX)));
    }

    /// After [`LocalApic::import`] of a TSC-deadline timer: computes its deadline anew.
    pub fn rearm_tsc_deadline(&mut self, guest_tsc: u64, guest_khz: u64, now: Ns) {
        self.set_tsc_deadline(self.timer.tsc_deadline, guest_tsc, guest_khz, now);
    }

    /// Counts from the initial value again (after restore).
    pub(crate) fn restart_timer(&mut self, now: Ns) {
        let period = self.timer.period();
        self.timer.resume(self.timer_mode(), (period != 0).then_some(period), now);
    }

    /// When [`Self::timer_expired`] wants to be called next.
    pub fn timer_deadline(&self) -> Option<Ns> {
        self.timer.deadline
    }

    /// Time has come to `now`: if the deadline has passed, requests the timer's vector (unless masked) and sets the next deadline.
    /// Returns whether a vector became pending.
    pub fn timer_expired(&mut self, now: Ns) -> bool {
        if self.timer.deadline.is_none_or(|deadline| deadline > now) {
            return false;
        }
        self.timer.deadline = None;
        match self.timer_mode() {
            TimerMode::Periodic => {
                let period = self.timer.period();
                // Missed periods are not made up for; the phase stays.
                let phase =
                    self.timer.elapsed(now).and_then(|elapsed| elapsed.checked_rem(period)).unwrap_or(0);
                self.timer.start = Some(now.raw().wrapping_sub(phase));
                let left = period.saturating_sub(phase).max(MIN_PERIOD_NS.saturating_sub(phase));
                self.timer.deadline = Some(now.saturating_add(left.max(1)));
            }
            TimerMode::TscDeadline => self.timer.tsc_deadline = 0,
            TimerMode::OneShot | TimerMode::Reserved => {}
        }
        let entry = self.timer_entry();
        entry & LVT_MASKED == 0 && self.accept_irq(entry as u8, false)
    }
}

#[cfg(test)]
#[path = "timer_tests.rs"]
mod tests;
