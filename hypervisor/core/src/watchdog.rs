//! `SCHEDOP_watchdog`: a domain that does not re-arm its timer in time is shut down with `SHUTDOWN_watchdog`.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use radon_addr::Ns;
use radon_hw::time;
use xen_abi::Errno;
use xen_abi::sched::SHUTDOWN_WATCHDOG;

use crate::domain::{Domain, Dying};
use crate::{domains, run, shutdown};

/// Timers a domain may have.
const COUNT: u32 = 2;

/// Deadlines of one domain's watchdogs; 0 = free, `u64::MAX` = allocated but stopped.
pub struct Watchdogs([AtomicU64; COUNT as usize]);

impl Watchdogs {
    /// None in use.
    pub const fn new() -> Watchdogs {
        Watchdogs([const { AtomicU64::new(0) }; COUNT as usize])
    }
}

impl Default for Watchdogs {
    fn default() -> Self {
        Self::new()
    }
}

/// Earliest deadline of any watchdog in the machine (a hint: never later than the true one).
static EARLIEST: AtomicU64 = AtomicU64::new(u64::MAX);

/// Sets a watchdog: `id` 0 allocates one and returns its number; timeout 0 stops it. Seconds.
pub fn set(domain: &Arc<Domain>, id: u32, timeout_s: u32) -> Result<u32, Errno> {
    let slots = &domain.watchdogs.0;
    let deadline = time::now().saturating_add(u64::from(timeout_s).saturating_mul(1_000_000_000)).raw();
    if id == 0 {
        if timeout_s == 0 {
            return Err(Errno::EINVAL);
        }
        for (i, slot) in slots.iter().enumerate() {
            if slot.compare_exchange(0, deadline, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                expect(deadline);
                return Ok(i as u32 + 1);
            }
        }
        return Err(Errno::ENOSPC);
    }
    let slot = slots.get(id.wrapping_sub(1) as usize).ok_or(Errno::EINVAL)?;
    if slot.load(Ordering::Acquire) == 0 {
        return Err(Errno::EINVAL);
    }
    let value = if timeout_s == 0 { 0 } else { deadline };
    slot.store(value, Ordering::Release);
    if timeout_s != 0 {
        expect(deadline);
    }
    Ok(0)
}

/// This pCPU will look in time; others take part when they next look at their own sleepers.
fn expect(deadline: u64) {
    EARLIEST.fetch_min(deadline, Ordering::SeqCst);
    run::look_at(Ns::new(deadline));
}

/// Earliest watchdog deadline, for arming the idle timer.
pub fn next_deadline() -> Ns {
    Ns::new(EARLIEST.load(Ordering::Relaxed))
}

/// Shuts down every domain whose watchdog has expired.
pub fn check(now: Ns) {
    if EARLIEST.load(Ordering::Relaxed) > now.raw() {
        return;
    }
    // Before the look at the slots: a deadline that is set meanwhile lowers the hint after us.
    EARLIEST.store(u64::MAX, Ordering::SeqCst);
    for domain in domains::all() {
        for slot in &domain.watchdogs.0 {
            let deadline = slot.load(Ordering::SeqCst);
            if deadline == 0 || domain.dying() != Dying::No {
                continue;
            }
            if deadline > now.raw() {
                EARLIEST.fetch_min(deadline, Ordering::SeqCst);
            // Unless it was armed anew this very moment.
            } else if slot.compare_exchange(deadline, 0, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                radon_hw::warn!("{} watchdog expired", domain.id);
                shutdown::shutdown(&domain, SHUTDOWN_WATCHDOG as u8);
            }
        }
    }
}
