//! System time, wall clock, and the running CPU's one-shot timer.
//!
//! System time is nanoseconds since `calibrate`, derived from the TSC, which must run at one rate and in step on all CPUs.

mod scale;
#[cfg(target_os = "none")]
mod tsc;

pub use scale::Scale;

use radon_addr::Ns;

#[cfg(target_os = "none")]
use tsc as backend;
#[cfg(target_os = "none")]
pub use tsc::calibrate;
#[cfg(target_os = "none")]
pub(crate) use tsc::deadline_mode;

/// Nanoseconds since the hypervisor started.
#[inline]
pub fn now() -> Ns {
    backend::now()
}

/// The time-stamp counter now.
#[inline]
pub fn tsc() -> u64 {
    backend::tsc()
}

/// System time and the TSC value it was computed from.
#[inline]
pub fn now_and_tsc() -> (Ns, u64) {
    let tsc = tsc();
    (at_tsc(tsc), tsc)
}

/// The TSC's frequency in kHz.
pub fn tsc_khz() -> u64 {
    backend::tsc_khz()
}

/// How to turn TSC ticks into nanoseconds (`tsc_to_system_mul` and `tsc_shift` of `vcpu_time_info`).
pub fn scale() -> Scale {
    backend::scale()
}

/// System time at a TSC value.
pub fn at_tsc(tsc: u64) -> Ns {
    backend::at_tsc(tsc)
}

/// Asks for a [`VECTOR_TIMER`](crate::irq::VECTOR_TIMER) interrupt on this CPU at `deadline`, replacing the last request; `None`
/// takes it back. It may come early when the deadline is further away than the timer can count (seconds): arm again.
#[inline]
pub fn arm(deadline: Option<Ns>) {
    backend::arm(deadline);
}

/// The timer's interrupt has arrived: the next `arm` must program it again.
#[inline]
pub(crate) fn timer_fired() {
    backend::timer_fired();
}

/// Nanoseconds since 1970 (UTC).
pub fn wall_clock_ns() -> u64 {
    backend::wall_offset().saturating_add(now().raw())
}

/// Nanoseconds since 1970 at which system time was 0 (`wc_sec`, `wc_nsec` of `shared_info`).
pub fn wall_clock_at_boot_ns() -> u64 {
    backend::wall_offset()
}

/// Sets the wall clock: it was `utc_ns` after 1970 when system time was `at` (`XENPF_settime64`).
pub fn set_wall_clock(utc_ns: u64, at: Ns) {
    backend::set_wall_offset(utc_ns.saturating_sub(at.raw()));
}

/// Spins for at least `ns`.
pub fn busy_wait(ns: u64) {
    #[cfg(target_os = "none")]
    {
        let end = now().saturating_add(ns);
        while now() < end {
            crate::cpu::pause();
        }
    }
    #[cfg(not(target_os = "none"))]
    crate::sim::advance(ns);
}

#[cfg(not(target_os = "none"))]
mod backend {
    use super::Scale;
    use crate::sim::thread::with;
    use radon_addr::Ns;

    pub fn now() -> Ns {
        with(|t| t.clock.get().map_or_else(|| Ns::new(t.now.get()), |clock| clock()))
    }
    /// The simulated TSC runs at 1 GHz.
    pub fn tsc() -> u64 {
        now().raw()
    }
    pub fn tsc_khz() -> u64 {
        1_000_000
    }
    pub fn scale() -> Scale {
        Scale::from_khz(tsc_khz())
    }
    pub fn at_tsc(tsc: u64) -> Ns {
        Ns::new(tsc)
    }
    pub fn arm(deadline: Option<Ns>) {
        with(|t| t.armed.set(deadline));
    }
    pub fn timer_fired() {
        with(|t| t.armed.set(None));
    }
    pub fn wall_offset() -> u64 {
        with(|t| t.wall_offset.get())
    }
    pub fn set_wall_offset(ns: u64) {
        with(|t| t.wall_offset.set(ns));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simulated_clock_is_settable() {
        crate::sim::set_now(Ns::new(500));
        busy_wait(20);
        assert_eq!((now(), tsc()), (Ns::new(520), 520));
        set_wall_clock(1_000_000, Ns::new(20));
        assert_eq!((wall_clock_ns(), wall_clock_at_boot_ns()), (1_000_500, 999_980));
        arm(Some(Ns::new(700)));
        assert_eq!(crate::sim::armed(), Some(Ns::new(700)));
    }
}
