//! Whole systems: the scenarios of `tests/system` on machines of several shapes.

use super::boots::{BOOTS, Boot, Medium, ON_REQUEST};
use super::{Report, devices};
use crate::scenario::{self, Event, Options, Outcome};
use crate::store::Store;
use crate::{iso, paths, qemu};
use anyhow::Result;
use std::collections::BTreeMap;
use std::time::Duration;

/// Runs every boot that has a wanted scenario.
pub fn run(report: &mut Report, options: &Options) -> Result<()> {
    if options.hypervisor == qemu::Hypervisor::Xen
        && let Some(why) = qemu::no_stock_xen(&options.qemu)
    {
        report.add("system", "control", &Outcome::Skip(why));
        return Ok(());
    }
    for boot in BOOTS {
        let asked = report.filter.as_ref().is_some_and(|f| f.contains(boot.name));
        if ON_REQUEST.contains(&boot.name) && !asked {
            println!("not run: system-{0} (ask for it: cargo xtask test {0})", boot.name);
            continue;
        }
        let scenarios: Vec<&str> = boot
            .scenarios
            .iter()
            .copied()
            .filter(|s| report.wants(&format!("system-{}", boot.name), s))
            .collect();
        if !scenarios.is_empty() {
            let mut results = one(options, boot, &scenarios)?;
            if emulator_fault(boot, &results) {
                println!(
                    "note system-{}: QEMU lost track of a #VMEXIT (docs/decisions/0008-qemu-vmexit.md): run again",
                    boot.name
                );
                results = one(options, boot, &scenarios)?;
            }
            for (name, outcome) in results {
                report.add(&format!("system-{}", boot.name), &name, &outcome);
            }
        }
    }
    Ok(())
}

/// Names and outcomes of one boot, in order.
type Results = Vec<(String, Outcome)>;

/// The one fault of the emulated processor that ends a machine now and then, see the decision record: the log says so; or, with
/// several processors, the emulator leaves without a report of the hypervisor's.
fn emulator_fault(boot: &Boot, results: &Results) -> bool {
    let is_fault = |why: &str| {
        why.contains(FAULT)
            || boot.cpus > 1
                && why.contains("the machine stopped before dom0")
                && !why.contains("Panic on CPU")
    };
    results.iter().any(|(_, o)| matches!(o, Outcome::Fail(why) if is_fault(why)))
}

/// What the hypervisor logs when it finds the processor's own state in the control block.
const FAULT: &str = "host state in control block";

/// Two lists of arguments; the second last, because of a text behind `--`.
fn join(one: &str, two: &str) -> String {
    format!("{one} {two}").trim().to_owned()
}

fn one(options: &Options, boot: &Boot, scenarios: &[&str]) -> Result<Results> {
    let mut results = Results::new();
    let options = Options {
        cpus: boot.cpus,
        dom0_cpus: Some(boot.dom0_cpus),
        guest_cpus: boot.guest_cpus,
        store: if boot.store == Store::Radon { boot.store } else { options.store },
        xen_args: join(&options.xen_args, boot.xen_args),
        dom0_args: join(&options.dom0_args, boot.dom0_args),
        qemu_args: boot.qemu.iter().map(|a| (*a).to_owned()).chain(options.qemu_args.clone()).collect(),
        kernel: boot.kernel,
        ..options.clone()
    };
    let mut machine = options.prepare(&scenarios.join(","), &[])?;
    if boot.devices {
        machine.extra.extend(devices::arguments()?);
    }
    if boot.medium != Medium::Direct {
        let image = paths::cache().join(format!("{}.iso", boot.name));
        iso::make(&options, &scenarios.join(","), &image)?;
        machine.boot = qemu::Boot::Iso { image, uefi: boot.medium == Medium::UefiCd };
    }
    let layer = format!("system-{}", boot.name);
    let log = format!("{layer}-{}", options.hypervisor.name());
    let limit = Duration::from_secs(options.limit.max(120 * scenarios.len() as u64 + 120));
    let mut current: Option<String> = None;
    // Scenario to the number of verdicts seen; one that ends without any, or does not end, has crashed.
    let mut ended: BTreeMap<String, u32> = BTreeMap::new();
    let mut verdicts = 0;
    let result = scenario::watch(&machine, &log, limit, |event, at| match event {
        Event::Milestone(name) => {
            if let Some(begun) = name.strip_prefix("scenario-begin ") {
                (current, verdicts) = (Some(begun.to_owned()), 0);
            } else if let Some(done) = name.strip_prefix("scenario-end ") {
                ended.insert(done.to_owned(), verdicts);
                current = None;
            } else {
                println!("{at:7.1} s  {layer}: {name}");
            }
        }
        Event::Verdict { name, outcome } => {
            verdicts += 1;
            let scenario = current.as_deref().unwrap_or("dom0");
            results.push((format!("{scenario}/{name}"), outcome));
        }
        Event::Figure { .. } | Event::Failed(_) => {}
    });
    let boot_name = format!("{}-power-off", scenarios.join("+"));
    let cause = match result {
        Ok(()) => {
            results.push((boot_name, Outcome::Pass));
            None
        }
        Err(error) => {
            let written =
                std::fs::read_to_string(paths::logs().join(format!("{log}.log"))).unwrap_or_default();
            let fault = written.lines().find(|l| l.contains(FAULT)).unwrap_or_default();
            let text = format!("{error:#} {fault}");
            results.push((boot_name, Outcome::Fail(text.clone())));
            Some(text)
        }
    };
    for scenario in scenarios {
        match ended.get(*scenario) {
            Some(1..) => {}
            Some(0) => {
                results.push(((*scenario).to_owned(), Outcome::Fail("ended without one verdict".into())))
            }
            None => {
                let why = if cause.is_some() { "the machine ended first" } else { "it was not run" };
                results.push(((*scenario).to_owned(), Outcome::Fail(why.into())));
            }
        }
    }
    Ok(results)
}
