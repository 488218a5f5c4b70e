//! When a service that ended is started again: soon, later each time, soon again once it has run for a while. Pure.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);
/// A service that ran for so long has got over what ended it before.
const SETTLED: Duration = Duration::from_secs(60);

/// How long one service waits.
#[derive(Clone, Copy, Debug)]
pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Backoff {
    /// The wait after a run of this length.
    pub fn next(&mut self, ran: Duration) -> Duration {
        if ran >= SETTLED {
            self.0 = FIRST;
        }
        let wait = self.0;
        self.0 = (wait * 2).min(LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn waits_double_up_to_a_limit_and_begin_anew_after_a_long_run() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..12).map(|_| backoff.next(Duration::ZERO).as_millis()).collect();
        assert_eq!(waits[..4], [100, 200, 400, 800]);
        assert_eq!(waits[11], 30_000);
        assert_eq!(backoff.next(SETTLED), FIRST);
    }

    proptest! {
        #[test]
        fn a_service_is_never_given_up_and_never_started_in_a_rush(runs in proptest::collection::vec(0u64..200, 0..60)) {
            let mut backoff = Backoff::default();
            for seconds in runs {
                let wait = backoff.next(Duration::from_secs(seconds));
                prop_assert!((FIRST..=LONGEST).contains(&wait));
            }
        }
    }
}
