//! Whole systems: the scenarios of `tests/system` on machines of several shapes.

use super::boots::{BOOTS, Boot, Medium};
use super::{Report, devices};
use crate::qemu::Machine;
use crate::scenario::{self, Event, Options, Outcome};
use crate::store::Store;
use crate::{iso, paths, qemu};
use anyhow::Result;
use std::collections::{BTreeMap, VecDeque};
use std::num::NonZero;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

/// Runs every boot that has a wanted scenario.
pub fn run(report: &mut Report, options: &Options) -> Result<()> {
    if options.hypervisor == qemu::Hypervisor::Xen
        && let Some(why) = qemu::no_stock_xen(&options.qemu)
    {
        report.add("system", "control", &Outcome::Skip(why));
        return Ok(());
    }
    let mut wanted = VecDeque::new();
    for boot in BOOTS {
        let scenarios: Vec<&'static str> = boot
            .scenarios
            .iter()
            .copied()
            .filter(|s| report.wants(&format!("system-{}", boot.name), s))
            .collect();
        if !scenarios.is_empty() {
            wanted.push_back((boot, scenarios));
        }
    }
    side_by_side(options, wanted, |boot, results| {
        for (name, outcome) in results {
            report.add(&format!("system-{}", boot.name), &name, &outcome);
        }
    })
}

/// Emulated machines that run at the same time at most: each keeps one processor of the host busy.
const AT_ONCE: usize = 2;

/// How many there is memory for (each with what the emulator needs for itself).
fn memory_for(options: &Options) -> usize {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"));
    let kib: usize = available.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    kib / 1024 / (options.memory as usize + 1024)
}

/// Runs the boots, in order, as many at a time as there are processors for; `see` gets the results of each when it has ended.
fn side_by_side(
    options: &Options,
    wanted: VecDeque<(&'static Boot, Vec<&'static str>)>,
    mut see: impl FnMut(&Boot, Results),
) -> Result<()> {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let queue = Mutex::new(wanted);
    let preparing = Mutex::new(());
    let (send, receive) = mpsc::channel();
    std::thread::scope(|s| {
        for _ in 0..AT_ONCE.min(processors).min(memory_for(options)).max(1) {
            let (queue, preparing, send) = (&queue, &preparing, send.clone());
            s.spawn(move || {
                let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                while let Some((boot, scenarios)) = next() {
                    let results = one(options, boot, &scenarios, preparing);
                    let _ = send.send((boot, results));
                }
            });
        }
        drop(send);
        // One that could not be prepared is an error of its own, and the others go on.
        while let Ok((boot, results)) = receive.recv() {
            let failed = |e: anyhow::Error| vec![("prepare".to_owned(), Outcome::Fail(format!("{e:#}")))];
            see(boot, results.unwrap_or_else(failed));
        }
    });
    Ok(())
}

/// Names and outcomes of one boot, in order.
type Results = Vec<(String, Outcome)>;

/// What the hypervisor logs when it finds the processor's own state in the control block (docs/decisions/0008-qemu-vmexit.md).
const FAULT: &str = "host state in control block";

/// Two lists of arguments; the second last, because of a text behind `--`.
fn join(one: &str, two: &str) -> String {
    format!("{one} {two}").trim().to_owned()
}

/// Makes what a boot needs; the caches are for one at a time.
fn prepare(options: &Options, boot: &Boot, scenarios: &[&str]) -> Result<Machine> {
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
    if boot.after.is_some() {
        machine.extra.extend(devices::xfs(boot.name, options.hypervisor)?);
    }
    if boot.medium != Medium::Direct {
        let image = paths::cache().join(format!("{}.iso", boot.name));
        iso::make(&options, &scenarios.join(","), &image)?;
        machine.boot = qemu::Boot::Iso { image, uefi: boot.medium == Medium::UefiCd };
    }
    Ok(machine)
}

fn one(options: &Options, boot: &Boot, scenarios: &[&str], preparing: &Mutex<()>) -> Result<Results> {
    let machine = {
        let _alone = preparing.lock().unwrap_or_else(PoisonError::into_inner);
        prepare(options, boot, scenarios)?
    };
    let mut results = watched(options, boot.name, &machine, scenarios);
    if let Some(after) = boot.after {
        let second = {
            let _alone = preparing.lock().unwrap_or_else(PoisonError::into_inner);
            let with =
                Options { qemu_args: boot.qemu.iter().map(|a| (*a).to_owned()).collect(), ..options.clone() };
            let mut second = with.prepare(after, &[])?;
            second.extra = machine.extra;
            second
        };
        results.extend(watched(options, &format!("{}-after", boot.name), &second, &[after]));
    }
    Ok(results)
}

/// Boots a machine and judges what it says.
fn watched(options: &Options, name: &str, machine: &Machine, scenarios: &[&str]) -> Results {
    let mut results = Results::new();
    let layer = format!("system-{name}");
    let log = format!("{layer}-{}", options.hypervisor.name());
    let seconds = options.limit.max(120 * scenarios.len() as u64 + 120);
    let limit = Duration::from_secs(seconds * u64::from(options.patience));
    let mut current: Option<String> = None;
    // Scenario to the number of verdicts seen; one that ends without any, or does not end, has crashed.
    let mut ended: BTreeMap<String, u32> = BTreeMap::new();
    let mut verdicts = 0;
    let result = scenario::watch(machine, &log, limit, |event, at| match event {
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
    results
}
