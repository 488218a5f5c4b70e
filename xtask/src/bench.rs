//! `cargo xtask bench`: Radon against stock Xen, in instructions, on the same emulated machine in one run.

use crate::monitor::{Clock, Monitor};
use crate::packages::Packages;
use crate::qemu::{Boot, Hypervisor, Machine};
use crate::scenario::{self, Event, Options};
use crate::test::verdict::{self, Guest};
use crate::{image, initramfs, paths, setup, shell};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Arguments of `bench`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Only the paths measured by bare guests, without booting Linux
    #[arg(long)]
    paths_only: bool,
    /// Measure one hypervisor alone
    #[arg(long)]
    only: Option<Hypervisor>,
    #[command(flatten)]
    options: Options,
}

/// Figure name to value and unit.
type Figures = BTreeMap<String, (f64, String)>;

/// Largest good ratio to stock Xen, by the beginning of the figure's name; the first that fits counts.
const TARGETS: &[(&str, f64)] = &[
    ("hypercall", 0.15),
    ("cpuid", 0.15),
    ("x2apic", 0.15),
    ("apic", 0.15),
    ("port", 0.6),
    ("event", 0.25),
    ("grant", 0.35),
    ("populate", 0.3),
    ("decrease", 0.3),
    ("boot-hypervisor-unpacked", 0.3),
    ("boot-hypervisor", 0.9),
    ("memory", 0.4),
    ("", 0.8),
];

/// Measures both and prints the table.
pub fn run(args: &Args) -> Result<()> {
    setup::run()?;
    let packages = Packages::fetch()?;
    let guests = verdict::build()?;
    let benches: Vec<&Guest> = guests.iter().filter(|g| g.is_bench()).collect();
    let mut columns = BTreeMap::new();
    for hypervisor in [Hypervisor::Xen, Hypervisor::Radon] {
        if args.only.is_some_and(|only| only != hypervisor) {
            continue;
        }
        let options =
            Options { hypervisor, cpus: 1, dom0_cpus: Some(1), patience: 20, ..args.options.clone() };
        let mut figures = sizes(hypervisor, &packages)?;
        for guest in &benches {
            println!("bench: {} on {}", guest.name, hypervisor.name());
            bare(guest, &options, &packages, &mut figures)?;
        }
        if !args.paths_only {
            println!("bench: Debian on {}", hypervisor.name());
            whole(&options, &packages, &benches, true, &mut figures)?;
            println!("bench: Debian on {}, kernel unpacked beforehand", hypervisor.name());
            whole(&options, &packages, &[], false, &mut figures)?;
        }
        columns.insert(hypervisor.name(), figures);
    }
    print!("{}", table(&columns));
    Ok(())
}

/// The table of all figures, with ratio and target where both hypervisors have one.
fn table(columns: &BTreeMap<&str, Figures>) -> String {
    let empty = Figures::new();
    let (radon, xen) = (columns.get("radon").unwrap_or(&empty), columns.get("xen").unwrap_or(&empty));
    let mut text =
        format!("{:<34} {:>14} {:>14} {:>7} {:>7}\n", "figure", "Radon", "stock Xen", "ratio", "target");
    let names: std::collections::BTreeSet<&String> = radon.keys().chain(xen.keys()).collect();
    for name in names {
        let show =
            |f: Option<&(f64, String)>| f.map_or("-".to_owned(), |(v, unit)| format!("{} {unit}", round(*v)));
        let (ours, theirs) = (radon.get(name), xen.get(name));
        let mut end = String::new();
        if let (Some((ours, _)), Some((theirs, _))) = (ours, theirs)
            && *theirs != 0.0
        {
            let ratio = ours / theirs;
            let target = target(name);
            end = format!("{ratio:>7.2} {target:>7.2}{}", if ratio > target { "  missed" } else { "" });
        }
        text.push_str(&format!("{name:<34} {:>14} {:>14} {end}\n", show(ours), show(theirs)));
    }
    text
}

fn round(value: f64) -> String {
    if value < 100.0 && value.fract() != 0.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

fn target(name: &str) -> f64 {
    TARGETS.iter().find(|(start, _)| name.starts_with(start)).map_or(0.8, |(_, t)| *t)
}

/// Size of the image on disk, packed as Xen's is; lines of our code.
fn sizes(hypervisor: Hypervisor, packages: &Packages) -> Result<Figures> {
    let mut figures = Figures::new();
    let image = image::hypervisor(hypervisor, packages)?;
    let unpacked = std::fs::metadata(&image)?.len();
    if hypervisor == Hypervisor::Radon {
        let lines: usize = ["abi", "hypervisor"].iter().map(|d| count_lines(&paths::root().join(d))).sum();
        figures.insert("size-lines".into(), (lines as f64, "lines".into()));
    }
    figures.insert("size-image".into(), (unpacked as f64 / 1024.0, "KiB".into()));
    Ok(figures)
}

fn count_lines(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|e| e.path())
        .map(|path| {
            if path.is_dir() {
                count_lines(&path)
            } else if path.extension().is_some_and(|e| e == "rs" || e == "S") {
                std::fs::read_to_string(&path).map_or(0, |t| t.lines().count())
            } else {
                0
            }
        })
        .sum()
}

/// A measuring guest booted in dom0's place: its `FIGURE` lines are the figures.
fn bare(guest: &Guest, options: &Options, packages: &Packages, figures: &mut Figures) -> Result<()> {
    let options = Options { dom0_memory: 256, memory: 1024, ..options.clone() };
    let boot = Boot::Multiboot {
        kernel: options.image(packages)?,
        args: options.hypervisor_args(),
        modules: vec![(guest.path.clone(), "bench".into())],
    };
    let machine = Machine { icount: true, ..options.machine(boot) };
    let log = format!("bench-{}-{}", guest.name, options.hypervisor.name());
    let mut run = machine.start(&log, Duration::from_secs(120))?;
    let mut found = 0;
    while let Some(line) = run.line()? {
        if let Some(Event::Figure { name, value, unit }) = scenario::parse(&line) {
            figures.insert(name, (value, unit));
            found += 1;
        } else if line.contains("VERDICT-END") || line.contains("Manual reset required") {
            break;
        }
    }
    if found == 0 {
        bail!("{} printed no figure; {}", guest.name, run.last_words());
    }
    Ok(())
}

/// Debian booted whole: the stages of the start by the machine's clock; then, if `all`, the figures of `tests/system/bench.sh`.
fn whole(
    options: &Options,
    packages: &Packages,
    benches: &[&Guest],
    all: bool,
    figures: &mut Figures,
) -> Result<()> {
    let mut extra = Vec::new();
    for guest in benches {
        extra.push((format!("srv/guest/{}", guest.name), std::fs::read(&guest.path)?));
    }
    let socket = paths::cache().join(format!("monitor-{}", std::process::id()));
    let scenario = if all { "bench" } else { "nothing" };
    let kernel = if all { packages.kernel(false)? } else { unpacked_kernel(packages)? };
    let boot = Boot::Multiboot {
        kernel: options.image(packages)?,
        args: options.hypervisor_args(),
        modules: vec![
            (kernel, options.dom0_kernel_args(scenario)),
            (initramfs::dom0(packages, &extra)?, String::new()),
        ],
    };
    let mut machine = Machine { icount: true, ..options.machine(boot) };
    machine.extra.extend(Monitor::arguments(&socket));
    let log = format!("bench-{scenario}-{}", options.hypervisor.name());
    let mut run = machine.start(&log, Duration::from_secs(1500))?;
    let mut clock = Clock::new(Monitor::connect(&socket)?);
    let mut stages: BTreeMap<String, u64> = BTreeMap::new();
    while !stages.contains_key("dom0-userspace") {
        let line = run.line_or_pause(Duration::from_millis(50))?;
        let now = clock.now()?;
        let Some(line) = line else { continue };
        match scenario::parse(&line) {
            Some(Event::Milestone(name)) => drop(stages.entry(name).or_insert(now)),
            Some(Event::Failed(cause)) => bail!("{cause}; {}", run.last_words()),
            _ => {}
        }
    }
    let mut stage = |name: &str, from: &str, to: &str| {
        if let (Some(from), Some(to)) = (stages.get(from), stages.get(to)) {
            figures.insert(name.into(), (to.saturating_sub(*from) as f64 / 1e6, "M".into()));
        }
    };
    if !all {
        stage("boot-hypervisor-unpacked", "hypervisor", "dom0-kernel");
        return Ok(());
    }
    stage("boot-hypervisor", "hypervisor", "dom0-kernel");
    stage("boot-dom0", "dom0-kernel", "dom0-userspace");
    while let Some(line) = run.line()? {
        match scenario::parse(&line) {
            Some(Event::Figure { name, value, unit }) => drop(figures.insert(name, (value, unit))),
            Some(Event::Failed(cause)) => bail!("{cause}; {}", run.last_words()),
            Some(Event::Milestone(name)) if name == "poweroff" => return Ok(()),
            _ => {}
        }
    }
    bail!("the machine stopped before its figures were complete; {}", run.last_words())
}

/// dom0's kernel as plain ELF, so that unpacking it is not measured.
fn unpacked_kernel(packages: &Packages) -> Result<PathBuf> {
    let packed = packages.kernel(false)?;
    let path = paths::cache().join(format!("vmlinux-{}", packages.kernel_version(false)?));
    if path.exists() {
        return Ok(path);
    }
    let data = std::fs::read(&packed)?;
    let magic = b"\xfd7zXZ\0";
    let at =
        data.windows(magic.len()).position(|w| w == magic).context("dom0's kernel is not packed with xz")?;
    let part = path.with_extension("xz");
    std::fs::write(&part, &data[at..])?;
    // What follows the packed kernel in its file makes xz complain after it has done its work.
    let out = shell::command("xz")
        .args(["-dc", "--single-stream"])
        .arg(&part)
        .output()
        .context("cannot start xz")?;
    if !out.stdout.starts_with(b"\x7fELF") {
        bail!("{} holds no ELF kernel", packed.display());
    }
    std::fs::write(&path, out.stdout)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_marks_what_is_missed() {
        let figure = |v: f64| Figures::from([("hypercall-empty".to_owned(), (v, "i".to_owned()))]);
        let columns = BTreeMap::from([("radon", figure(1000.0)), ("xen", figure(5000.0))]);
        assert!(table(&columns).contains("0.20    0.15  missed"), "{}", table(&columns));
        let columns = BTreeMap::from([("radon", figure(500.0)), ("xen", figure(5000.0))]);
        assert!(!table(&columns).contains("missed"));
    }
}
