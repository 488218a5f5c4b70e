//! Our block back end beside dom0's kernel's and QEMU's: instructions of the whole machine for each request, and eight clones that start
//! at once. Each boot is short; `--part` takes some of them.

use super::{Figures, counted, note};
use crate::packages;
use crate::qemu::{Hypervisor, Machine};
use crate::scenario::{self, Event, Options, Outcome};
use crate::test::devices;
use anyhow::{Result, bail};
use std::fmt::Write;
use std::time::Duration;

/// Sizes and depths that a guest asks for (`load` in `xtask/guest/actions`).
const SHAPES: &[(u32, u32)] = &[
    (4096, 1),
    (4096, 8),
    (4096, 32),
    (65536, 1),
    (65536, 8),
    (65536, 32),
    (1_048_576, 1),
    (1_048_576, 8),
    (1_048_576, 32),
];
/// Largest good ratio of ours to the kernel's, and to QEMU's.
const TARGETS: (f64, f64) = (1.0, 0.8);

/// One boot of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Requests of all sizes and depths, to all three back ends.
    Load,
    /// Eight clones start on `radon-block`.
    Shared,
    /// The same without the shared cache.
    Alone,
    /// The same on dom0's kernel.
    Kernel,
    /// The same on QEMU.
    Qdisk,
}

/// All boots.
const PARTS: [Part; 5] = [Part::Load, Part::Shared, Part::Alone, Part::Kernel, Part::Qdisk];

impl Part {
    /// Its name in the scenario and in figures.
    fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Shared => "shared",
            Self::Alone => "alone",
            Self::Kernel => "kernel",
            Self::Qdisk => "qdisk",
        }
    }
}

/// Measures, and prints the tables. An error if a figure is missing.
pub fn run(options: &Options, only: Option<Hypervisor>, parts: &[Part]) -> Result<()> {
    let parts = if parts.is_empty() { &PARTS } else { parts };
    let mut missing = Vec::new();
    let mut text = String::new();
    for options in counted(options, only)? {
        let hypervisor = options.hypervisor;
        let mut all = Figures::new();
        for &part in parts {
            println!("bench: {} on {}", part.name(), hypervisor.name());
            all.extend(boot(&options, part)?);
        }
        if parts.contains(&Part::Load) {
            text += &requests(hypervisor, &all, &mut missing);
        }
        text += &storm(hypervisor, &all, parts, &mut missing);
    }
    print!("{text}");
    if missing.is_empty() { Ok(()) } else { bail!("no figure of {}", missing.join(", ")) }
}

/// One boot's figures.
fn boot(options: &Options, part: Part) -> Result<Figures> {
    let scenario = if part == Part::Load { "own-block-bench" } else { "own-block-storm" };
    let dom0_args = format!("{} radon.storm={}", options.dom0_args, part.name());
    let patience = if part == Part::Load { options.patience } else { 4 };
    let mut machine =
        Options { dom0_args, patience, ..options.clone() }.prepare(scenario, &packages::qdisk()?)?;
    // What is counted of the clones is what is read; counting instructions of eight guests takes many minutes.
    machine.icount = part == Part::Load;
    if part != Part::Load {
        machine.extra.extend(devices::xfs(&format!("storm-{}", part.name()), options.hypervisor)?);
    }
    figures(&machine, &format!("bench-block-{}-{}", part.name(), options.hypervisor.name()))
}

/// The table of requests.
fn requests(hypervisor: Hypervisor, figures: &Figures, missing: &mut Vec<String>) -> String {
    let name = hypervisor.name();
    let mut text = format!(
        "\n| on {name} | bytes | depth | blkback | radon-block | ratio | qdisk | ratio | radon-block, MiB per G |  |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|---|\n"
    );
    for kind in ["read", "write"] {
        for (bytes, depth) in SHAPES {
            let of = |disk: &str| figures.get(&format!("{disk}-{kind}-{bytes}-{depth}")).map(|f| f.0);
            let (Some(kernel), Some(ours), Some(qdisk)) = (of("xvdb"), of("xvdc"), of("xvdd")) else {
                missing.push(format!("{kind} {bytes} {depth} on {name}"));
                continue;
            };
            let ratios = (ours / kernel, ours / qdisk);
            let mark = if ratios.0 > TARGETS.0 || ratios.1 > TARGETS.1 { "**missed**" } else { "" };
            let throughput = f64::from(*bytes) / f64::from(1 << 20) / ours * 1e9;
            let _ = writeln!(
                text,
                "| {kind} | {bytes} | {depth} | {kernel:.0} | {ours:.0} | {:.2} | {qdisk:.0} | {:.2} | {throughput:.0} | {mark} |",
                ratios.0, ratios.1
            );
        }
    }
    let _ = writeln!(text, "\ntargets: {} of blkback's, {} of qdisk's", TARGETS.0, TARGETS.1);
    text
}

/// What the storms came to.
fn storm(hypervisor: Hypervisor, figures: &Figures, parts: &[Part], missing: &mut Vec<String>) -> String {
    let mut text = String::new();
    for part in parts.iter().filter(|part| **part != Part::Load) {
        match figures.get(&format!("storm-read-{}", part.name())) {
            Some((read, _)) => {
                let (name, on) = (part.name(), hypervisor.name());
                let _ = writeln!(text, "eight clones on {on}, {name}: {read:.0} KiB read");
            }
            None => missing.push(format!("{} on {}", part.name(), hypervisor.name())),
        }
    }
    text
}

/// What a scenario measures. An error if one of its verdicts fails.
pub fn figures(machine: &Machine, log: &str) -> Result<Figures> {
    let mut figures = Figures::new();
    let mut failed = Vec::new();
    scenario::watch(machine, log, Duration::from_secs(3000), |event, _| match event {
        Event::Figure { name, value, unit } => note(&name, value, &unit, &mut figures),
        Event::Verdict { name, outcome: Outcome::Fail(why) } => failed.push(format!("{name}: {why}")),
        _ => {}
    })?;
    if failed.is_empty() { Ok(figures) } else { bail!("{}", failed.join("; ")) }
}
