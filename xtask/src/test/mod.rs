//! `cargo xtask test`: every layer, from formatting to whole systems, in one report.

mod alone;
mod block;
mod boots;
pub mod devices;
mod gates;
mod host;
mod interactive;
mod licence;
mod miri;
mod options;
mod store;
mod system;
mod up;
pub mod verdict;
pub mod volumes;
mod xenapi;

use crate::scenario::{Options, Outcome};
use anyhow::{Result, bail};
use std::time::Instant;

/// Arguments of `test`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Only tests whose `layer/name` contains this (layers: gates, host, differential, xenapi, block, miri, alone, options, verdict,
    /// system-BOOT, volumes)
    filter: Option<String>,
    /// Skip the layers that need an emulated machine
    #[arg(long)]
    no_machine: bool,
    /// Also run the verdict guests on stock Xen and write docs/abi-status.md
    #[arg(long)]
    abi_status: bool,
    #[command(flatten)]
    options: Options,
}

/// Collects results and prints each as it comes.
pub struct Report {
    filter: Option<String>,
    passed: u32,
    failed: Vec<String>,
    skipped: u32,
}

impl Report {
    fn new(filter: Option<String>) -> Self {
        Self { filter, passed: 0, failed: Vec::new(), skipped: 0 }
    }

    /// Whether the filter lets `layer/name` run.
    fn wants(&self, layer: &str, name: &str) -> bool {
        self.filter.as_ref().is_none_or(|f| format!("{layer}/{name}").contains(f.as_str()))
    }

    /// One test's result.
    fn add(&mut self, layer: &str, name: &str, outcome: &Outcome) {
        match outcome {
            Outcome::Pass => {
                self.passed += 1;
                println!("pass {layer}/{name}");
            }
            Outcome::Skip(why) => {
                self.skipped += 1;
                println!("skip {layer}/{name}: {why}");
            }
            Outcome::Fail(why) => {
                println!("FAIL {layer}/{name}: {why}");
                self.failed.push(format!("{layer}/{name}"));
            }
        }
    }

    /// Runs one test of a layer, unless the filter leaves it out.
    fn run(&mut self, layer: &str, name: &str, test: impl FnOnce() -> Result<()>) {
        if self.wants(layer, name) {
            let outcome = match test() {
                Ok(()) => Outcome::Pass,
                Err(error) => Outcome::Fail(format!("{error:#}")),
            };
            self.add(layer, name, &outcome);
        }
    }
}

/// Runs the layers, cheapest first.
pub fn run(args: &Args) -> Result<()> {
    let started = Instant::now();
    let mut report = Report::new(args.filter.clone());
    let step = |name: &str| println!("== {name} ({} s)", started.elapsed().as_secs());
    crate::setup::run()?;
    step("gates");
    gates::run(&mut report);
    step("host tests");
    host::run(&mut report);
    step("the store against Debian's");
    store::run(&mut report);
    step("XenAPI");
    xenapi::run(&mut report);
    step("clones of disks");
    block::run(&mut report);
    step("miri");
    miri::run(&mut report);
    if !args.no_machine {
        step("the hypervisor alone");
        alone::run(&mut report, &args.options);
        options::run(&mut report, &args.options);
        step("verdict guests");
        verdict::run(&mut report, &args.options, args.abi_status)?;
        step("whole systems");
        system::run(&mut report, &args.options)?;
        interactive::run(&mut report, &args.options);
        xenapi::machine(&mut report, &args.options);
        up::run(&mut report, &args.options);
        step("volumes on NFS");
        volumes::run(&mut report);
    }
    println!("== {} s in all", started.elapsed().as_secs());
    for name in &report.failed {
        println!("failed: {name}");
    }
    let skipped = if report.skipped > 0 { format!(", {} skipped", report.skipped) } else { String::new() };
    println!("{} passed, {} failed{skipped}", report.passed, report.failed.len());
    if report.passed + report.skipped == 0 && report.failed.is_empty() {
        bail!("no test is called so: {}", args.filter.as_deref().unwrap_or_default());
    }
    if !report.failed.is_empty() {
        bail!("{} tests failed", report.failed.len());
    }
    Ok(())
}
