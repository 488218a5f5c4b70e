//! Verdict guests: each test proves one promise of the Xen ABI. One file per theme in [`tests`], one function per promise.
//!
//! Command line: `tests=all` or `tests=name,name` (a name may be a beginning of names), `except=name,name` for all but
//! these (whole names), `after=name` for what follows that one, `two-cpus` for the tests of a machine with two CPUs,
//! `calls=N seed=S` for the random calls of the isolation tests, `bench` for the figures of [`bench`],
//! `bench=name,name` for some of its parts.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod bench;
pub mod options;
pub mod services;
pub mod tests;

use alloc::vec::Vec;
use harness::verdict::Name;
use harness::{Test, boot, domain, hypercall, mailbox, say, time, verdict};

/// Runs what the command line says.
pub fn main(command_line: &str) {
    options::parse(command_line);
    let word = |key: &str| command_line.split_whitespace().find_map(|w| w.strip_prefix(key));
    let all = if word("two-cpus").is_some() { tests::on_two_cpus() } else { tests::all() };
    if let Some(name) = word("test=") {
        child(all.iter().chain(&tests::on_two_cpus()).find(|t| is_named(t, name)));
    } else if word("serve").is_some() {
        mailbox::serve(services::SERVICES);
    } else if let Some(kind) = word("hostile=") {
        tests::hostile(kind);
    } else if let Some(parts) = word("bench") {
        bench::run(parts.strip_prefix('=').unwrap_or("all"));
    } else {
        let wanted = word("tests=").unwrap_or("all");
        let mut chosen: Vec<Test> = all.into_iter().filter(|t| is_wanted(t, wanted)).collect();
        let except = word("except=").unwrap_or("");
        chosen.retain(|t| !except.split(',').any(|name| is_named(t, name)));
        if let Some(at) = word("after=").and_then(|name| chosen.iter().position(|t| is_named(t, name))) {
            chosen.drain(..=at);
        }
        say!("NOTE {} tests, start information magic {:#x}", chosen.len(), boot::start_magic());
        verdict::run_all(&chosen, domain::run_test);
    }
}

fn child(test: Option<&Test>) {
    let outcome = match test {
        Some(test) => verdict::run(test.run),
        None => Err(harness::Outcome::Error("the child knows no such test".into())),
    };
    mailbox::post(&outcome);
    loop {
        hypercall::sleep_until(time::now() + 1_000_000_000);
    }
}

fn is_named(test: &Test, name: &str) -> bool {
    test.name.len() == name.len() && starts(test, name)
}

/// Whether the test's name, as printed, starts with `start`.
fn starts(test: &Test, start: &str) -> bool {
    let same = |(a, b): (u8, u8)| a == b || (a == b'_' && b == b'-');
    test.name.len() >= start.len() && test.name.bytes().zip(start.bytes()).all(same)
}

fn is_wanted(test: &Test, wanted: &str) -> bool {
    wanted == "all" || wanted.split(',').any(|w| !w.is_empty() && starts(test, w))
}

/// Prints a note about the running test.
pub fn note(test: &'static str, text: core::fmt::Arguments<'_>) {
    say!("NOTE {}: {text}", Name(test));
}
