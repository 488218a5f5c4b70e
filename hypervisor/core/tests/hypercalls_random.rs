//! A guest may call what it likes with what it likes: nothing panics, nothing hangs, nobody reaches pages that are not
//! theirs, and every page is free again at the end. `RADON_SEED` repeats a run, `RADON_STEPS` lengthens it.

mod random;

use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use random::Watch;
use random::source::Source;

/// A step that takes longer than this hangs.
const HANG: Duration = Duration::from_secs(30);

static STEP: AtomicU64 = AtomicU64::new(0);
static LAST: Mutex<String> = Mutex::new(String::new());

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Ends the process when the test makes no progress: a lock taken twice cannot be unwound.
fn watch() {
    std::thread::spawn(|| {
        let mut seen = u64::MAX;
        loop {
            std::thread::sleep(HANG);
            let now = STEP.load(Ordering::Relaxed);
            if now == seen {
                eprintln!("hangs in: {}", LAST.lock().unwrap());
                std::process::abort();
            }
            seen = now;
        }
    });
}

/// The last steps, and how often each call succeeded and failed.
#[derive(Default)]
struct Log {
    history: VecDeque<String>,
    calls: BTreeMap<(bool, u64, u64), [u64; 2]>,
}

impl Watch for Log {
    fn begins(&mut self, what: String) {
        STEP.fetch_add(1, Ordering::Relaxed);
        LAST.lock().unwrap().clone_from(&what);
        self.history.push_back(what);
        if self.history.len() > 12 {
            self.history.pop_front();
        }
    }
    fn called(&mut self, privileged: bool, number: u64, sub_operation: u64, ok: bool) {
        if sub_operation < 2000 {
            self.calls.entry((privileged, number, sub_operation)).or_default()[usize::from(!ok)] += 1;
        }
    }
}

fn run(log: &mut Log, seed: u64, rounds: u64, steps: u64, control: bool) {
    for round in 0..rounds {
        let seed = seed.wrapping_add(round);
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| {
            random::play(&mut Source::seeded(seed), steps, control, log);
        }));
        if let Err(e) = result {
            eprintln!("RADON_SEED={seed} control {control}; last steps:");
            log.history.iter().for_each(|h| eprintln!("  {h}"));
            std::panic::resume_unwind(e);
        }
    }
}

#[test]
fn random_guests() {
    watch();
    let seed = number("RADON_SEED", 1);
    let steps = number("RADON_STEPS", 2_000);
    let rounds = number("RADON_ROUNDS", 8);
    println!("seed {seed}, {rounds} rounds of {steps} steps, without and with the control domain");
    let mut log = Log::default();
    run(&mut log, seed, rounds, steps, false);
    run(&mut log, seed, rounds, steps, true);
    for ((privileged, number, sub_operation), [ok, failed]) in &log.calls {
        println!(
            "privileged {privileged} call {number} op {sub_operation}: {ok} succeeded, {failed} refused"
        );
    }
}
