//! `low_mem_virq_limit`: tells dom0 by `VIRQ_ENOMEM` that free memory runs out: once when it falls below the limit, again at each
//! halving, and anew after it has recovered. What Xen does, with limits that are powers of two pages.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use radon_addr::PAGE_SIZE;
use radon_frames::frames;
use radon_hw::lock::{Rank, SpinLock, rank};
use xen_abi::xen::VIRQ_ENOMEM;

use crate::events;

/// Where the alarm stands, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Alarm {
    /// log2 of the limit that the command line gave.
    original: u32,
    /// log2 of the limit in force.
    order: u32,
    /// The alarm goes off at or below this; `None`: never.
    low: Option<u64>,
    /// At or above this the limit is raised again; `u64::MAX`: it is back where it was.
    high: u64,
}

impl Alarm {
    const OFF: Alarm = Alarm { original: 0, order: 0, low: None, high: u64::MAX };

    fn at(limit: u64) -> Alarm {
        match limit / PAGE_SIZE as u64 {
            0 => Self::OFF,
            pages => {
                let order = pages.ilog2();
                Alarm { original: order, order, low: Some(1 << order), high: u64::MAX }
            }
        }
    }

    /// Takes note of the number of free pages; whether the alarm goes off.
    fn look(&mut self, free: u64) -> bool {
        let Some(low) = self.low else { return false };
        let fires = free <= low;
        if fires {
            self.high = 2 << self.order;
            self.order = self.order.saturating_sub(1);
            self.low = Some(1 << self.order);
        }
        if free >= self.high {
            self.order = (self.order + 1).min(self.original);
            self.low = Some(1 << self.order);
            self.high = if self.order == self.original { u64::MAX } else { 4 << self.order };
        }
        fires
    }
}

static ALARM: SpinLock<Alarm> = SpinLock::new(Rank(rank::TIMER.0 + 2), Alarm::OFF);
/// Copies of the limits, to be looked at without the lock: nothing to do strictly between them.
static LOW: AtomicU64 = AtomicU64::new(0);
static HIGH: AtomicU64 = AtomicU64::new(u64::MAX);

/// Sets the limit in bytes; 0: no alarm. Half of what is free at most, so that a small machine does not begin in alarm.
pub fn set_limit(bytes: u64) {
    let free = frames().free_pages().saturating_mul(PAGE_SIZE as u64);
    let mut alarm = ALARM.lock();
    *alarm = Alarm::at(bytes.min(free / 2));
    publish(&alarm);
}

fn publish(alarm: &Alarm) {
    LOW.store(alarm.low.unwrap_or(0), Relaxed);
    HIGH.store(alarm.high, Relaxed);
}

/// Called when memory has been allocated or may have been freed.
pub fn check() {
    let free = frames().free_pages().saturating_sub(frames().outstanding_claims());
    if free > LOW.load(Relaxed) && free < HIGH.load(Relaxed) {
        return;
    }
    let fires = {
        let mut alarm = ALARM.lock();
        let fires = alarm.look(free);
        publish(&alarm);
        fires
    };
    if fires {
        radon_hw::info!("Free memory is low: {} MiB", free >> 8);
        events::send_global_virq(VIRQ_ENOMEM);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_at_the_limit_and_at_each_halving() {
        let mut alarm = Alarm::at(64 << 20);
        assert_eq!(alarm.low, Some(16384));
        assert!(!alarm.look(16385));
        assert!(alarm.look(16384));
        assert!(!alarm.look(16000) && !alarm.look(8193));
        assert!(alarm.look(8192));
        assert!(alarm.look(1000) && alarm.look(1000) && !alarm.look(1500));
    }

    #[test]
    fn again_after_it_has_recovered() {
        let mut alarm = Alarm::at(64 << 20);
        assert!(alarm.look(16000));
        // Back above the limit, but not by far.
        assert!(!alarm.look(20000) && !alarm.look(16000));
        assert!(!alarm.look(32768));
        assert!(alarm.look(16000));
    }

    #[test]
    fn zero_is_off() {
        let mut alarm = Alarm::at(0);
        assert!(!alarm.look(0) && !alarm.look(u64::MAX) && !alarm.look(0));
        assert_eq!(alarm, Alarm::OFF);
        // Down to the last page without running out of orders.
        let mut alarm = Alarm::at(8192);
        assert!((0..5).all(|_| alarm.look(0)));
    }
}
