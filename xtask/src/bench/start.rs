//! From the command to a guest that is of use: radon-domain with our store and consoles, and xl with Debian's, on the same hypervisor.

use super::block::figures;
use super::{Figures, counted};
use crate::qemu::{Hypervisor, Machine};
use crate::scenario::Options;
use crate::store::Store;
use anyhow::{Result, bail};
use std::collections::BTreeMap;

/// Figures of `tests/system/domains-start.sh`, and the largest good ratio of ours to xl's.
const ROWS: &[(&str, &str, f64)] = &[
    ("start-command", "the command itself", 0.5),
    ("start-userspace", "command to the guest's userspace", 1.0),
    ("start-useful", "command to disk written and page fetched", 1.0),
    ("start-end", "asked to shut down, to nothing left", 1.0),
    ("start-minimal", "minimal guest, start to end", 0.5),
    ("start-useful-four", "four at a time, each", 1.0),
];

/// Measures, and prints the table. An error if a figure is missing; not if a target is missed.
pub fn run(options: &Options, only: Option<Hypervisor>) -> Result<()> {
    let mut columns = BTreeMap::new();
    for options in counted(options, only)? {
        let hypervisor = options.hypervisor;
        for (scenario, store) in [("domains-start", Store::Radon), ("start-xl", Store::Xenstored)] {
            println!("bench: {scenario} on {}", hypervisor.name());
            let options = Options { store, ..options.clone() };
            let machine = Machine { icount: true, ..options.prepare(scenario, &[])? };
            let log = format!("bench-{scenario}-{}", hypervisor.name());
            columns.insert((hypervisor.name(), scenario), figures(&machine, &log)?);
        }
    }
    print(&columns)
}

fn print(columns: &BTreeMap<(&str, &str), Figures>) -> Result<()> {
    let hypervisors: Vec<&str> = columns.keys().filter(|k| k.1 == "start-xl").map(|k| k.0).collect();
    let header = |h: &&str| format!("Radon's on {h} | xl on {h} | ratio");
    println!(
        "\n| from the command | {} | target |",
        hypervisors.iter().map(header).collect::<Vec<_>>().join(" | ")
    );
    println!("| --- | {}--: |", "--: | --: | --: | ".repeat(hypervisors.len()));
    let mut missing = Vec::new();
    for (name, what, target) in ROWS {
        let mut line = format!("| {what} |");
        for hypervisor in &hypervisors {
            let of = |scenario| columns.get(&(*hypervisor, scenario)).and_then(|f| f.get(*name)).map(|f| f.0);
            match (of("domains-start"), of("start-xl")) {
                (Some(ours), Some(xl)) => {
                    let ratio = ours / xl;
                    let miss = if ratio > *target { " **missed**" } else { "" };
                    line += &format!(" {ours:.0} M | {xl:.0} M | {ratio:.2}{miss} |");
                }
                _ => missing.push(format!("{name} on {hypervisor}")),
            }
        }
        println!("{line} {target:.2} |");
    }
    if missing.is_empty() { Ok(()) } else { bail!("no figure of {}", missing.join(", ")) }
}
