//! Miri: the crates with `unsafe`, and those whose data several CPUs share, interpreted with every rule of Rust's memory
//! model checked. Threads are interleaved anew for each seed, and loads may see any store that the model allows.

use super::Report;
use crate::{nightly, paths, shell};
use anyhow::Result;
use std::time::Duration;

/// A suite that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(420);

/// One run of `cargo miri test`.
struct Suite {
    name: &'static str,
    /// Package and kind of target.
    target: &'static [&'static str],
    /// Names of tests.
    tests: &'static [&'static str],
    /// How many interleavings of the threads are tried.
    seeds: u32,
}

/// What fits into a few minutes on two cores; docs/testing.md says what else has been run.
const SUITES: &[Suite] = &[
    Suite { name: "locks", target: &["-p", "radon-hw", "--lib"], tests: &["lock::"], seeds: 4 },
    Suite { name: "memory", target: &["-p", "radon-hw", "--lib"], tests: &["mem::"], seeds: 1 },
    Suite { name: "events", target: &["-p", "radon-evtchn", "--test", "races"], tests: &[], seeds: 4 },
    Suite {
        name: "fifo-events",
        target: &["-p", "radon-evtchn", "--test", "fifo_guest"],
        tests: &["concurrent_consumer"],
        seeds: 1,
    },
    Suite { name: "fifo", target: &["-p", "radon-evtchn", "--lib"], tests: &[], seeds: 1 },
    Suite { name: "addresses", target: &["-p", "radon-addr", "--lib"], tests: &[], seeds: 1 },
    Suite { name: "guest-walk", target: &["-p", "radon-p2m", "--lib"], tests: &["guest_walk"], seeds: 1 },
    Suite { name: "boot-loader", target: &["-p", "radon-bootproto", "--lib"], tests: &[], seeds: 1 },
    Suite { name: "command-line", target: &["-p", "radon-cmdline", "--lib"], tests: &[], seeds: 1 },
];

/// Runs all suites.
pub fn run(report: &mut Report) {
    if !SUITES.iter().any(|s| report.wants("miri", s.name)) {
        return;
    }
    let ready = nightly::require(&["miri", "rust-src", "rustc"]);
    if let Err(error) = ready {
        report.run("miri", "toolchain", || Err(error));
        return;
    }
    for suite in SUITES {
        report.run("miri", suite.name, || one(suite));
    }
}

fn one(suite: &Suite) -> Result<()> {
    // Simulated RAM is leaked on purpose, and kept as addresses.
    let mut flags = String::from("-Zmiri-disable-isolation -Zmiri-ignore-leaks -Zmiri-permissive-provenance");
    if suite.seeds > 1 {
        flags += &format!(" -Zmiri-many-seeds=0..{}", suite.seeds);
    }
    let mut cargo = nightly::cargo();
    cargo.current_dir(paths::root()).env("MIRIFLAGS", flags).env("PROPTEST_CASES", "2");
    cargo.args(["miri", "test", "--quiet"]).args(suite.target).arg("--").args(suite.tests);
    shell::within(LIMIT, &cargo, shell::quiet)
}
