//! How often a guest may keep the daemon busy: so many looks at its ring in each period, as `xenconsoled` has it. A guest that
//! writes faster waits for room in its ring; the others do not wait for it.

use std::time::{Duration, Instant};

/// Length of a period.
pub const PERIOD: Duration = Duration::from_millis(200);
/// Looks in a period.
pub const ALLOWANCE: u32 = 30;

/// One guest's allowance.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    end: Instant,
    used: u32,
}

impl Pace {
    /// Begins a period.
    pub fn new(now: Instant) -> Self {
        Self { end: now + PERIOD, used: 0 }
    }

    /// Uses up one look, if there is one left.
    pub fn take(&mut self, now: Instant) -> bool {
        if now >= self.end {
            *self = Self::new(now);
        }
        if self.used == ALLOWANCE {
            return false;
        }
        self.used += 1;
        true
    }

    /// When there are looks again.
    pub fn next(&self) -> Instant {
        self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_in_each_period() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let looks = |pace: &mut Pace, at: Instant| (0..100).filter(|_| pace.take(at)).count();
        assert_eq!(looks(&mut pace, start), 30);
        assert_eq!(looks(&mut pace, start + PERIOD / 2), 0);
        assert_eq!(pace.next(), start + PERIOD);
        assert_eq!(looks(&mut pace, start + PERIOD), 30);
        assert_eq!(looks(&mut pace, start + 10 * PERIOD), 30);
    }
}
