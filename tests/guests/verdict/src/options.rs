//! Numbers from the command line.

use core::sync::atomic::{AtomicU64, Ordering};

static CALLS: AtomicU64 = AtomicU64::new(20_000);
static SEED: AtomicU64 = AtomicU64::new(0x5eed);

pub(crate) fn parse(command_line: &str) {
    for word in command_line.split_whitespace() {
        let number = |key: &str| word.strip_prefix(key).and_then(|n| n.parse().ok());
        if let Some(n) = number("calls=") {
            CALLS.store(n, Ordering::Relaxed);
        }
        if let Some(n) = number("seed=") {
            SEED.store(n, Ordering::Relaxed);
        }
    }
}

/// Random calls to make in each isolation test.
pub fn calls() -> u64 {
    CALLS.load(Ordering::Relaxed)
}

/// Where their random numbers start.
pub fn seed() -> u64 {
    SEED.load(Ordering::Relaxed)
}
