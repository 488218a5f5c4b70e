//! Rate limits for messages that a guest can cause.

use crate::lock::SpinLock;
use radon_addr::Ns;

/// Lets `burst` events through at once and one more per `interval`.
pub struct RateLimit {
    interval: u64,
    burst: u32,
    state: SpinLock<State>,
}

struct State {
    tokens: u32,
    /// Up to when tokens have been added.
    filled: Ns,
    missed: u32,
}

impl RateLimit {
    /// Ten events at once and two per second in the long run, as Xen limits messages.
    #[expect(clippy::new_without_default, reason = "a limit is chosen, not a default state")]
    pub const fn new() -> RateLimit {
        RateLimit::with_rate(500_000_000, 10)
    }

    /// A full bucket: `burst` events at once, one more every `interval` nanoseconds (not 0).
    pub const fn with_rate(interval: u64, burst: u32) -> RateLimit {
        let state = State { tokens: burst, filled: Ns::new(0), missed: 0 };
        // No lock is ever taken while holding this one.
        RateLimit { interval, burst, state: SpinLock::new(crate::lock::Rank(255), state) }
    }

    /// May an event pass now?
    pub fn allow(&self) -> bool {
        self.check(crate::time::now()).is_some()
    }

    /// May an event pass at `now`? If so, says how many were suppressed since the last that did.
    pub fn check(&self, now: Ns) -> Option<u32> {
        let mut s = self.state.lock();
        let gained = now.since(s.filled).checked_div(self.interval).unwrap_or(0);
        s.filled = s.filled.saturating_add(gained.saturating_mul(self.interval));
        s.tokens = u32::try_from(gained).unwrap_or(u32::MAX).saturating_add(s.tokens).min(self.burst);
        if s.tokens == 0 {
            s.missed = s.missed.saturating_add(1);
            return None;
        }
        s.tokens -= 1;
        Some(core::mem::take(&mut s.missed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_then_one_per_interval() {
        let l = RateLimit::with_rate(100, 3);
        assert!((0..3).all(|_| l.check(Ns::new(50)) == Some(0)));
        assert_eq!((l.check(Ns::new(60)), l.check(Ns::new(99))), (None, None));
        assert_eq!(l.check(Ns::new(100)), Some(2));
        assert_eq!(l.check(Ns::new(150)), None);
        assert_eq!(l.check(Ns::new(250)), Some(1));
        // A long silence fills the bucket, no more.
        assert_eq!((0..10).filter(|_| l.check(Ns::new(1_000_000)).is_some()).count(), 3);
    }
}
