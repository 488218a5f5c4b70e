//! Tests and their verdicts.

use crate::{boot, console, cpu, event, memory, say, trap};
use alloc::string::String;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use xen_abi::Errno;

/// Why a test does not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The promise is broken.
    Failure(String),
    /// It does not apply here.
    Skip(String),
    /// It could not be tested.
    Error(String),
}

/// What a test returns.
pub type Verdict = Result<(), Outcome>;

impl From<Errno> for Outcome {
    fn from(e: Errno) -> Self {
        Self::Failure(alloc::format!("a hypercall returned -{e}"))
    }
}

impl From<trap::Fault> for Outcome {
    fn from(fault: trap::Fault) -> Self {
        Self::Failure(alloc::format!("unexpected {fault}"))
    }
}

impl Outcome {
    /// Verdict word and reason.
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Failure(why) => ("FAILURE", why),
            Self::Skip(why) => ("SKIP", why),
            Self::Error(why) => ("ERROR", why),
        }
    }
}

/// Where a test runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the guest that was booted.
    Here,
    /// In a child domain of its own, with that many vCPUs.
    Child(u32),
}

/// One promise.
#[derive(Clone, Copy)]
pub struct Test {
    /// Name, with underscores for hyphens.
    pub name: &'static str,
    /// Where it runs.
    pub place: Place,
    /// The test.
    pub run: fn() -> Verdict,
}

/// A name as it is printed.
pub struct Name(pub &'static str);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| f.write_char(if c == '_' { '-' } else { c }))
    }
}

/// Lists test functions: `tests!(here: a, b; child: c; child_smp: d)`.
#[macro_export]
macro_rules! tests {
    ($($place:ident: $($run:ident),* $(,)?);* $(;)?) => {
        /// The promises tested here.
        pub const TESTS: &[$crate::Test] = &[$($($crate::Test {
            name: stringify!($run),
            place: $crate::tests!(@$place),
            run: $run,
        }),*),*];
    };
    (@here) => { $crate::verdict::Place::Here };
    (@child) => { $crate::verdict::Place::Child(1) };
    (@child_smp) => { $crate::verdict::Place::Child(2) };
    (@child_128) => { $crate::verdict::Place::Child(128) };
}

/// Ends a test with a failure unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($arg:tt)+) => {
        if !$condition {
            return Err($crate::Outcome::Failure($crate::verdict::text(format_args!($($arg)+))));
        }
    };
}

/// Ends a test with a failure unless both are equal.
#[macro_export]
macro_rules! ensure_eq {
    ($left:expr, $right:expr, $($arg:tt)+) => {
        match (&$left, &$right) {
            (left, right) => $crate::ensure!(left == right, "{}: {left:x?}, not {right:x?}", format_args!($($arg)+)),
        }
    };
}

/// Formats.
pub fn text(args: fmt::Arguments<'_>) -> String {
    alloc::fmt::format(args)
}

static ABANDON: AtomicU64 = AtomicU64::new(0);
static LAST_WORDS_LEN: AtomicUsize = AtomicUsize::new(0);
static LAST_WORDS: [AtomicU64; 32] = [const { AtomicU64::new(0) }; 32];

struct LastWords(usize);

impl Write for LastWords {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for byte in s.bytes() {
            if let Some(word) = LAST_WORDS.get(self.0 / 8) {
                word.fetch_or(u64::from(byte) << (self.0 % 8 * 8), Ordering::Relaxed);
                self.0 += 1;
            }
        }
        Ok(())
    }
}

/// Ends the running test from anywhere with a failure.
pub fn abandon(why: fmt::Arguments<'_>) -> ! {
    let stack = ABANDON.load(Ordering::Relaxed);
    if stack == 0 {
        say!("VERDICT harness ERROR {why}");
        console::drain();
        crate::hypercall::shutdown(xen_abi::sched::SHUTDOWN_CRASH);
        loop {
            cpu::cli();
            cpu::halt();
        }
    }
    LAST_WORDS.iter().for_each(|w| w.store(0, Ordering::Relaxed));
    let mut words = LastWords(0);
    let _ = words.write_fmt(why);
    LAST_WORDS_LEN.store(words.0, Ordering::Relaxed);
    trap::leave(stack)
}

/// Runs a test function; a panic or an unexpected exception in it is a failure.
pub fn run(test: fn() -> Verdict) -> Verdict {
    let mut verdict = None;
    if trap::guarded(&ABANDON, || verdict = Some(test())) {
        ABANDON.store(0, Ordering::Relaxed);
    } else {
        ABANDON.store(0, Ordering::Relaxed);
        let bytes: alloc::vec::Vec<u8> =
            LAST_WORDS.iter().flat_map(|w| w.load(Ordering::Relaxed).to_le_bytes()).collect();
        let len = LAST_WORDS_LEN.load(Ordering::Relaxed).min(bytes.len());
        verdict = Some(Err(Outcome::Failure(String::from_utf8_lossy(&bytes[..len]).into_owned())));
    }
    cpu::cli();
    trap::reset_catch();
    verdict.unwrap_or_else(|| Err(Outcome::Error("no verdict".into())))
}

/// Runs something like a test, and cleans up behind it.
pub fn run_part(part: fn() -> Verdict) -> Verdict {
    let mark = memory::mark();
    let outcome = run(part);
    crate::domain::destroy_leftovers();
    event::close_leftovers();
    memory::release(mark);
    outcome
}

/// Runs the tests one after the other and prints their verdicts; `child` runs one in a child domain.
pub fn run_all(tests: &[Test], child: fn(&Test) -> Verdict) {
    for part in tests.chunks(12) {
        let mut names = String::new();
        for test in part {
            let _ = write!(names, " {}", Name(test.name));
        }
        say!("VERDICT-PLAN{names}");
    }
    for test in tests {
        let mark = memory::mark();
        let verdict = match test.place {
            Place::Child(_) if boot::is_dom0() => child(test),
            Place::Child(_) => Err(Outcome::Skip("only dom0 makes child domains".into())),
            Place::Here => run(test.run),
        };
        let name = Name(test.name);
        match &verdict {
            Ok(()) => say!("VERDICT {name} SUCCESS"),
            Err(outcome) => {
                let (word, why) = outcome.parts();
                say!("VERDICT {name} {word} {}", why.lines().next().unwrap_or_default());
            }
        }
        crate::domain::destroy_leftovers();
        event::close_leftovers();
        memory::release(mark);
    }
    say!("VERDICTS DONE {}", tests.len());
    say!("VERDICT-END");
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    match info.location() {
        Some(at) => abandon(format_args!("panic at {}:{}: {}", at.file(), at.line(), info.message())),
        None => abandon(format_args!("panic: {}", info.message())),
    }
}
