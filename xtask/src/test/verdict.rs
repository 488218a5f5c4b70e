//! Verdict guests: small images that each test promises of the ABI, booted as a PVH dom0 of their own.
//!
//! `tests/guests` is a workspace of its own; each of its binaries is one boot. A guest prints
//! `VERDICT name SUCCESS|FAILURE|SKIP|ERROR reason` lines; first, it may announce the verdicts to come with
//! `VERDICT-PLAN name name ...`. What was announced and not judged is a CRASH; so is a guest without any verdict.
//! `VERDICT-END` ends the machine early. When a machine crashes (stock Xen has such a promise), the next boot goes on after
//! the verdict that was due. Options of a guest stand in its package's manifest: `[package.metadata.verdict.<binary>]` with
//! `args`, `xen-args`, `cpus`, `memory`, `limit` (seconds), `icount` (time is instructions executed). A further boot of a
//! binary is a table with a name of its own and `binary`.

use super::Report;
use crate::packages::Packages;
use crate::qemu::{Boot, Hypervisor, Machine};
use crate::scenario::{Options, Outcome};
use crate::{image, paths, qemu, setup, shell};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// One bootable guest.
pub struct Guest {
    /// Name of the boot: the binary's, or one of its own.
    pub name: String,
    /// Its image, made bootable for [`Hypervisor`]s as a dom0 kernel.
    pub path: PathBuf,
    settings: Value,
}

/// Boots of one guest until its machine is given up.
const MAX_BOOTS: usize = 5;

impl Guest {
    /// Measures instead of judging: run by `cargo xtask bench`.
    pub fn is_bench(&self) -> bool {
        self.name.starts_with("bench")
    }
}

/// Name to outcome, in order of names. The outcome of `SUCCESS` is `Pass`; all others keep their word in the reason.
pub type Verdicts = BTreeMap<String, Outcome>;

/// Builds the guests; none is no error, for they live in a workspace of their own.
pub fn build() -> Result<Vec<Guest>> {
    let manifest = paths::root().join("tests/guests/Cargo.toml");
    if !manifest.exists() {
        return Ok(Vec::new());
    }
    let cargo = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO"));
        // From inside, so that the guests' own .cargo/config.toml (link arguments) counts.
        command.current_dir(paths::root().join("tests/guests")).args(args);
        command.env("CARGO_TARGET_DIR", paths::target().join("guests"));
        command
    };
    shell::loud(&mut cargo(&["build", "--quiet", "--release", "--target", setup::TARGET]))
        .context("the verdict guests do not build")?;
    let metadata: Value = serde_json::from_str(&shell::output(&mut cargo(&[
        "metadata",
        "--no-deps",
        "--format-version",
        "1",
    ]))?)?;
    let mut guests = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        for target in package["targets"].as_array().into_iter().flatten() {
            let is_binary = target["kind"].as_array().is_some_and(|k| k.iter().any(|k| k == "bin"));
            let Some(name) = target["name"].as_str().filter(|_| is_binary) else { continue };
            let path = paths::target().join("guests").join(setup::TARGET).join("release").join(name);
            let all = &package["metadata"]["verdict"];
            for (boot, settings) in all.as_object().into_iter().flatten() {
                if settings["binary"] == name {
                    guests.push(Guest { name: boot.clone(), path: path.clone(), settings: settings.clone() });
                }
            }
            guests.push(Guest { name: name.to_owned(), path, settings: all[name].clone() });
        }
    }
    guests.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(guests)
}

/// Runs all wanted guests on Radon; with `both`, on stock Xen too, and writes the table of both.
pub fn run(report: &mut Report, options: &Options, both: bool) -> Result<()> {
    let mut columns: Vec<BTreeMap<String, Outcome>> = Vec::new();
    // The filter may name the guest, not its verdicts: these are known only after the run.
    let mut guests = build()?;
    guests.retain(|g| !g.is_bench() && ["verdict", "verdict-xen"].iter().any(|l| report.wants(l, &g.name)));
    if guests.is_empty() {
        return Ok(());
    }
    let packages = Packages::fetch()?;
    let mut hypervisors =
        if both { vec![Hypervisor::Radon, Hypervisor::Xen] } else { vec![options.hypervisor] };
    if let Some(why) = qemu::no_stock_xen(&options.qemu).filter(|_| hypervisors.contains(&Hypervisor::Xen)) {
        report.add("verdict-xen", "control", &Outcome::Skip(why));
        hypervisors.retain(|h| *h != Hypervisor::Xen);
    }
    for hypervisor in hypervisors {
        let options = Options { hypervisor, ..options.clone() };
        let image =
            if both { image::hypervisor(hypervisor, &packages)? } else { options.image(&packages)? };
        let layer = if hypervisor == Hypervisor::Radon { "verdict" } else { "verdict-xen" };
        let mut column = BTreeMap::new();
        for guest in &guests {
            let verdicts = match one(guest, &options, &image) {
                Ok(verdicts) => verdicts,
                Err(error) => {
                    Verdicts::from([(guest.name.clone(), Outcome::Fail(format!("CRASH {error:#}")))])
                }
            };
            for (name, outcome) in verdicts {
                let outcome = known_gap(hypervisor, &name, outcome)?;
                // Stock Xen is the control: what it fails tells about the test or about Xen, not about us.
                if hypervisor == options.hypervisor && layer == "verdict" || !both {
                    report.add(layer, &name, &outcome);
                } else if let Outcome::Fail(why) = &outcome {
                    println!("note {layer}/{name}: {why}");
                }
                column.insert(name, outcome);
            }
        }
        columns.push(column);
    }
    if let [radon, xen] = &columns[..] {
        let notes = std::fs::read_to_string(paths::root().join("tests/guests/abi-notes.txt"))?;
        shell::write(&paths::root().join("docs/abi-status.md"), table(radon, xen, &notes).as_bytes())?;
    }
    Ok(())
}

/// A failure listed in `tests/guests/known-gaps.txt` (`name reason`) is a skip with that reason: the list says what is not
/// there yet, and a verdict that passes should leave it.
fn known_gap(hypervisor: Hypervisor, name: &str, outcome: Outcome) -> Result<Outcome> {
    if hypervisor != Hypervisor::Radon {
        return Ok(outcome);
    }
    let list = std::fs::read_to_string(paths::root().join("tests/guests/known-gaps.txt"))?;
    let gap = list.lines().filter_map(|l| l.split_once(' ')).find(|(n, _)| *n == name);
    Ok(match (gap, outcome) {
        (Some((_, why)), Outcome::Fail(saw)) => Outcome::Skip(format!("known gap: {why} ({saw})")),
        (Some(_), Outcome::Pass) => {
            println!("note verdict/{name} passes: take it off tests/guests/known-gaps.txt");
            Outcome::Pass
        }
        (_, outcome) => outcome,
    })
}

/// Boots one guest and collects its verdicts; a crash costs the verdict that was due, and the next boot goes on after that.
fn one(guest: &Guest, options: &Options, image: &Path) -> Result<Verdicts> {
    let mut verdicts = Verdicts::new();
    let mut after = None;
    for boot in 1..=MAX_BOOTS {
        let (missing, end) = boot_once(guest, options, image, after.as_deref(), &mut verdicts)?;
        let Some(due) = missing.first() else { return Ok(verdicts) };
        verdicts.insert(due.clone(), Outcome::Fail(format!("CRASH {end}")));
        if boot == MAX_BOOTS {
            let no_boot = Outcome::Fail(format!("CRASH not run after {MAX_BOOTS} boots that ended early"));
            verdicts.extend(missing[1..].iter().map(|name| (name.clone(), no_boot.clone())));
        }
        if missing.len() == 1 {
            break;
        }
        after = Some(due.clone());
    }
    Ok(verdicts)
}

/// What a machine says that will say no more: stock Xen's words and ours.
const DEAD: &[&str] = &["Manual reset required", "RADON PANIC", "Panic on CPU", "'noreboot' set"];

/// One boot. Returns the promises announced but not judged, and why it ended.
fn boot_once(
    guest: &Guest,
    options: &Options,
    image: &Path,
    after: Option<&str>,
    verdicts: &mut Verdicts,
) -> Result<(Vec<String>, String)> {
    let number = |key: &str, default: u64| guest.settings[key].as_u64().unwrap_or(default);
    let text = |key: &str| guest.settings[key].as_str().unwrap_or_default().to_owned();
    let cpus = u32::try_from(number("cpus", 1))?;
    let options = Options {
        cpus,
        dom0_cpus: Some(cpus),
        dom0_memory: 256,
        memory: u32::try_from(number("memory", 1024))?,
        xen_args: format!("{} {}", options.xen_args, text("xen-args")),
        ..options.clone()
    };
    let (args, place) = match after {
        Some(name) => (format!("{} after={name}", text("args")), format!("-after-{name}")),
        None => (text("args"), String::new()),
    };
    let boot = Boot::Multiboot {
        kernel: image.to_path_buf(),
        args: options.hypervisor_args(),
        modules: vec![(guest.path.clone(), args)],
    };
    let log = format!("verdict-{}-{}{place}", guest.name, options.hypervisor.name());
    let limit = Duration::from_secs(number("limit", 60) * u64::from(options.patience));
    let icount = guest.settings["icount"].as_bool().unwrap_or_default();
    let one_host_cpu = !guest.settings["at-once"].as_bool().unwrap_or_default();
    let mut run = Machine { icount, one_host_cpu, ..options.machine(boot) }.start(&log, limit)?;
    let mut planned: Vec<String> = Vec::new();
    let end = loop {
        let line = match run.line() {
            Ok(Some(line)) => line,
            Ok(None) => break "the machine stopped".to_owned(),
            Err(error) => break error.to_string(),
        };
        if let Some((_, names)) = line.split_once("VERDICT-PLAN ") {
            planned.extend(names.split_whitespace().map(str::to_owned));
        } else if line.contains("VERDICT-END") {
            break String::new();
        } else if let Some((name, outcome)) = verdict(&line) {
            verdicts.insert(name, outcome);
        } else if DEAD.iter().any(|s| line.contains(s)) {
            break line;
        }
        if !planned.is_empty() && planned.iter().all(|p| verdicts.contains_key(p)) {
            break String::new();
        }
    };
    planned.retain(|name| !verdicts.contains_key(name));
    if verdicts.is_empty() && planned.is_empty() {
        bail!("no verdict: {end}; {}", run.last_words());
    }
    Ok((planned, end))
}

/// A guest's `VERDICT name WORD reason` line, behind whatever prefix.
fn verdict(line: &str) -> Option<(String, Outcome)> {
    let (_, rest) = line.split_once("VERDICT ")?;
    let mut words = rest.trim().splitn(3, ' ');
    let (name, word, reason) = (words.next()?, words.next()?, words.next().unwrap_or_default());
    let outcome = match word {
        "SUCCESS" => Outcome::Pass,
        "SKIP" => Outcome::Skip(reason.to_owned()),
        "FAILURE" | "ERROR" => Outcome::Fail(format!("{word} {reason}")),
        _ => return None,
    };
    Some((name.to_owned(), outcome))
}

/// `docs/abi-status.md`: one row for each verdict, one column for each hypervisor. `notes` has `name note` lines.
fn table(radon: &Verdicts, xen: &Verdicts, notes: &str) -> String {
    let word = |outcome: Option<&Outcome>| match outcome {
        None => "-".to_owned(),
        Some(Outcome::Pass) => "success".to_owned(),
        Some(Outcome::Skip(why)) => format!("skip: {why}"),
        Some(Outcome::Fail(why)) => why.lines().next().unwrap_or_default().replace('|', "/"),
    };
    let passed = |column: &Verdicts| column.values().filter(|o| **o == Outcome::Pass).count();
    let names: BTreeSet<&String> = radon.keys().chain(xen.keys()).collect();
    let mut text = format!(
        "# ABI status\n\nWritten by `cargo xtask test verdict --abi-status`; notes are in `tests/guests/abi-notes.txt`. Each row is one\n\
         promise of the Xen ABI, tested by the same guest (`tests/guests`) on Radon and on stock Xen 4.17 in the same emulated\n\
         machine. Of {} promises Radon keeps {}, stock Xen {}.\n\n| promise | Radon | stock Xen | note |\n|---|---|---|---|\n",
        names.len(),
        passed(radon),
        passed(xen)
    );
    for name in names {
        let note =
            notes.lines().filter_map(|l| l.split_once(' ')).find(|(n, _)| n == name).map_or("", |n| n.1);
        text.push_str(&format!(
            "| {name} | {} | {} | {note} |\n",
            word(radon.get(name)),
            word(xen.get(name))
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdict_lines_are_read_behind_prefixes() {
        assert_eq!(
            verdict("(XEN) d0v0 VERDICT cpuid-leaf SUCCESS"),
            Some(("cpuid-leaf".into(), Outcome::Pass))
        );
        let failed = Outcome::Fail("FAILURE got 3".into());
        assert_eq!(verdict("VERDICT evtchn-send FAILURE got 3"), Some(("evtchn-send".into(), failed)));
        assert_eq!(verdict("VERDICT x PERHAPS"), None);
    }

    #[test]
    fn the_table_has_both_columns() {
        let radon = Verdicts::from([("a".to_owned(), Outcome::Pass)]);
        let xen = Verdicts::from([("a".to_owned(), Outcome::Fail("CRASH x|y".into()))]);
        let text = table(&radon, &xen, "b other\na Xen's own\n");
        assert!(text.contains("| a | success | CRASH x/y | Xen's own |"));
        assert!(text.contains("Of 1 promises Radon keeps 1, stock Xen 0."));
    }
}
