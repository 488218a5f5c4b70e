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
    /// A full bucket: `burst` events at once, one more every `interval` nanoseconds (not 0).
    pub const fn new(interval: u64, burst: u32) -> RateLimit {
        let state = State { tokens: burst, filled: Ns::new(0), missed: 0 };
        // No lock is ever taken while holding this one.
        RateLimit { interval, burst, state: SpinLock::new(crate::lock::Rank(255), state) }
    }

    /// May this event pass? If so, says how many were suppressed since the last that did.
    pub fn allow(&self, now: Ns) -> Option<u32> {
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
        let l = RateLimit::new(100, 3);
        assert!((0..3).all(|_| l.allow(Ns::new(50)) == Some(0)));
        assert_eq!((l.allow(Ns::new(60)), l.allow(Ns::new(99))), (None, None));
        assert_eq!(l.allow(Ns::new(100)), Some(2));
        assert_eq!(l.allow(Ns::new(150)), None);
        assert_eq!(l.allow(Ns::new(250)), Some(1));
        // A long silence fills the bucket, no more.
        assert_eq!((0..10).filter(|_| l.allow(Ns::new(1_000_000)).is_some()).count(), 3);
    }
}
