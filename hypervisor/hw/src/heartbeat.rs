//! The watchdog of physical CPUs (`watchdog`, `watchdog_timeout`): each CPU says regularly that it is alive and looks after the
//! next one. One that has been silent for too long is sent an NMI, whose handler reports where it hangs.
//!
//! A CPU that hangs has its interrupts off, so only an NMI reaches it; that it hangs is for another one to notice. A machine with
//! one CPU cannot be watched this way.

use crate::percpu::PerCpu;
use crate::{apic, cpu, per_cpu, time};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use radon_addr::{CpuId, Ns};

/// How often a CPU must come by, at the latest.
const INTERVAL_NS: u64 = 1_000 * Ns::MS;
const NS_PER_S: u64 = 1_000_000_000;

/// Silence after which a CPU is reported, in nanoseconds; 0: off.
static TIMEOUT: AtomicU64 = AtomicU64::new(0);
/// When each CPU last said that it is alive; 0: not yet.
static BEATS: PerCpu<AtomicU64> = per_cpu!(AtomicU64::new(0));
/// 1 + the CPU that was found hanging.
static ACCUSED: AtomicU32 = AtomicU32::new(0);

/// Switches the watchdog on (off with 0). False if nobody could watch: a single CPU.
pub fn enable(timeout_s: u32) -> bool {
    let useful = cpu::count() > 1;
    let timeout = if useful { u64::from(timeout_s).saturating_mul(NS_PER_S) } else { 0 };
    TIMEOUT.store(timeout, Relaxed);
    useful
}

/// When this CPU must call [`beat`] again at the latest.
#[inline]
pub fn next_deadline(now: Ns) -> Ns {
    if TIMEOUT.load(Relaxed) == 0 { Ns::new(u64::MAX) } else { now.saturating_add(INTERVAL_NS) }
}

/// The running CPU is alive; it looks after the next one that had its first beat.
#[inline]
pub fn beat(now: Ns) {
    let timeout = TIMEOUT.load(Relaxed);
    if timeout != 0 {
        // Looked at every time, but told once in a while, to keep others' cache lines still.
        let own = BEATS.this();
        let last = own.load(Relaxed);
        if last == 0 || now.raw().saturating_sub(last) >= INTERVAL_NS / 4 {
            own.store(now.raw().max(1), Relaxed);
            look_after_others(now, timeout);
        }
    }
}

#[cold]
fn look_after_others(now: Ns, timeout: u64) {
    let me = cpu::this();
    let others = (0..cpu::count() as u32).map(CpuId::new).filter(|&c| c != me);
    let beats = others.map(|c| (c, BEATS.of(c).load(Relaxed)));
    let Some(silent) = first_silent(beats, now, timeout) else { return };
    if ACCUSED.compare_exchange(0, silent.raw() + 1, Relaxed, Relaxed).is_ok() {
        crate::error!("CPU {} has not been heard of for {} s", silent.raw(), timeout / NS_PER_S);
        if let Some(id) = cpu::apic_id(silent) {
            apic::send_nmi(id);
        }
        // It reports and ends the machine. If it does not even take an NMI, this CPU does.
        let until = now.saturating_add(2 * INTERVAL_NS);
        while time::now() < until {
            cpu::pause();
        }
        panic!("watchdog: CPU {} hangs and takes no NMI", silent.raw());
    }
}

/// Is the running CPU the one that was found hanging?
pub fn accuses_me() -> bool {
    ACCUSED.load(Relaxed) == cpu::this().raw() + 1
}

/// The first that had a beat (0: none yet), but not in time.
fn first_silent(mut beats: impl Iterator<Item = (CpuId, u64)>, now: Ns, timeout: u64) -> Option<CpuId> {
    beats.find(|&(_, last)| last != 0 && now.raw().saturating_sub(last) > timeout).map(|(c, _)| c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_silence_beyond_the_timeout_counts() {
        let cpus = |beats: [u64; 3]| (1..).map(CpuId::new).zip(beats);
        let found = |beats, now| first_silent(cpus(beats), Ns::new(now), 5 * NS_PER_S);
        assert_eq!(found([1, 1, 1], 5 * NS_PER_S), None);
        assert_eq!(found([0, 0, 0], u64::MAX), None);
        assert_eq!(found([9 * NS_PER_S, 1, 9 * NS_PER_S], 10 * NS_PER_S), Some(CpuId::new(2)));
        // A beat that is later than our own clock.
        assert_eq!(found([20 * NS_PER_S, 20 * NS_PER_S, 0], 10 * NS_PER_S), None);
    }

    #[test]
    fn off_means_no_deadline() {
        assert_eq!(next_deadline(Ns::new(7)), Ns::new(u64::MAX));
    }
}
