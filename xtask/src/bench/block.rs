//! Our block back end beside dom0's kernel's: instructions of the whole machine for each request, and what clones read.

use super::{Figures, note};
use crate::qemu::{Hypervisor, Machine};
use crate::scenario::{self, Event, Options, Outcome};
use crate::test::devices;
use anyhow::{Result, bail};
use std::collections::BTreeMap;
use std::time::Duration;

/// Kinds, sizes and depths that a guest asks for (`load` in `xtask/guest/actions`).
const SHAPES: &[(u32, u32)] =
    &[(4096, 1), (4096, 32), (65536, 1), (65536, 32), (1_048_576, 1), (1_048_576, 8)];

/// Measures, and prints both tables. An error if a figure is missing.
pub fn run(options: &Options, only: Option<Hypervisor>) -> Result<()> {
    let mut columns = BTreeMap::new();
    for hypervisor in [Hypervisor::Radon, Hypervisor::Xen] {
        if only.is_some_and(|only| only != hypervisor) {
            continue;
        }
        let mut options =
            Options { hypervisor, cpus: 1, dom0_cpus: Some(1), patience: 20, ..options.clone() };
        if hypervisor == Hypervisor::Xen {
            options.image = None; // another image of ours was meant
        }
        options.check_control()?;
        let machine = Machine { icount: true, ..options.prepare("own-block-bench", &[])? };
        columns.insert(hypervisor.name(), figures(&machine, &format!("bench-block-{}", hypervisor.name()))?);
    }
    println!("\n| request | bytes | depth | {} |", header(&columns));
    println!("|---|---|---|{}", "---|---|---|".repeat(columns.len()));
    let mut missing = Vec::new();
    for kind in ["read", "write"] {
        for (bytes, depth) in SHAPES {
            let mut line = format!("| {kind} | {bytes} | {depth} |");
            for (name, figures) in &columns {
                let of = |disk: &str| figures.get(&format!("{disk}-{kind}-{bytes}-{depth}")).map(|f| f.0);
                match (of("xvdb"), of("xvdc")) {
                    (Some(kernel), Some(ours)) => {
                        line += &format!(" {kernel:.0} | {ours:.0} | {:.2} |", ours / kernel);
                    }
                    _ => missing.push(format!("{kind} {bytes} {depth} on {name}")),
                }
            }
            println!("{line}");
        }
    }
    let mut machine = Options { patience: 4, ..options.clone() }.prepare("own-block-storm", &[])?;
    machine.extra.extend(devices::xfs("storm", options.hypervisor)?);
    let read = figures(&machine, "bench-block-storm")?;
    match (read.get("storm-read-shared"), read.get("storm-read-alone")) {
        (Some(shared), Some(alone)) => {
            println!("\nfour clones start: {} KiB read, {} KiB without the shared cache", shared.0, alone.0);
        }
        _ => missing.push("clones".to_owned()),
    }
    if missing.is_empty() { Ok(()) } else { bail!("no figure of {}", missing.join(", ")) }
}

fn header(columns: &BTreeMap<&str, Figures>) -> String {
    let column = |name: &&str| format!("blkback on {name} | radon-block on {name} | ratio");
    columns.keys().map(column).collect::<Vec<_>>().join(" | ")
}

fn figures(machine: &Machine, log: &str) -> Result<Figures> {
    let mut figures = Figures::new();
    let mut failed = Vec::new();
    scenario::watch(machine, log, Duration::from_secs(3000), |event, _| match event {
        Event::Figure { name, value, unit } => note(&name, value, &unit, &mut figures),
        Event::Verdict { name, outcome: Outcome::Fail(why) } => failed.push(format!("{name}: {why}")),
        _ => {}
    })?;
    if failed.is_empty() { Ok(figures) } else { bail!("{}", failed.join("; ")) }
}
