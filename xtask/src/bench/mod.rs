//! `cargo xtask bench`: Radon against stock Xen, in instructions, on the same emulated machine in one run.

use crate::monitor::{Clock, Monitor};
use crate::packages::Packages;
use crate::qemu::{Boot, Hypervisor, Machine};
use crate::scenario::{self, Event, Options};
use crate::test::verdict::{self, Guest};
use crate::{initramfs, paths, setup, shell};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use table::{Figures, Wanted};

mod block;
mod start;
mod store;
mod table;
mod volumes;

/// Arguments of `bench`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to compare
    #[arg(value_enum, default_value_t = What::Hypervisor)]
    what: What,
    /// Only the paths measured by bare guests, without booting Linux
    #[arg(long)]
    paths_only: bool,
    /// Measure one hypervisor alone
    #[arg(long)]
    only: Option<Hypervisor>,
    /// Of `block`: this boot alone (may be repeated)
    #[arg(long = "part", value_enum)]
    parts: Vec<block::Part>,
    #[command(flatten)]
    options: Options,
}

/// What is compared with its counterpart in C.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Radon and stock Xen, in instructions, in an emulated machine.
    Hypervisor,
    /// Our store and Debian's xenstored, over their sockets on this host.
    Store,
    /// Requests to a guest's disk through our block back end and the kernel's, in instructions; clones that start together.
    Block,
    /// From the command to a guest that is of use and its end: `radon-domain` and `xl`, in instructions, on the same hypervisor.
    Start,
    /// The host layer: `store`, `start` and `block`, one after the other.
    Host,
    /// Volumes small and large; images in and out beside `qemu-img convert`.
    Volumes,
}

/// Measures both and prints the table. An error if a figure is missing; not if a target is missed.
pub fn run(args: &Args) -> Result<()> {
    match args.what {
        What::Hypervisor => hypervisors(args),
        What::Store => store::run(),
        What::Volumes => volumes::run(),
        What::Block => block::run(&args.options, args.only, &args.parts),
        What::Start => start::run(&args.options, args.only),
        What::Host => {
            store::run()?;
            start::run(&args.options, args.only)?;
            block::run(&args.options, args.only, &args.parts)
        }
    }
}

/// Radon and stock Xen.
fn hypervisors(args: &Args) -> Result<()> {
    setup::run()?;
    let packages = Packages::fetch()?;
    let guests = verdict::build()?;
    let benches: Vec<&Guest> = guests.iter().filter(|g| g.is_bench()).collect();
    let boots = counted(&args.options, args.only)?;
    let stages = boots.len() * if args.paths_only { 1 } else { 3 };
    let mut progress = Progress { stages, done: 0, start: Instant::now() };
    let mut columns = BTreeMap::new();
    let mut missing = Vec::new();
    for options in boots {
        let hypervisor = options.hypervisor;
        let mut figures = sizes(&options, &packages)?;
        progress.next(&format!("bare guests on {}", hypervisor.name()));
        for guest in &benches {
            bare(guest, &options, &packages, &mut figures)?;
        }
        if !args.paths_only {
            progress.next(&format!("Debian on {}", hypervisor.name()));
            whole(&options, &packages, &benches, true, &mut figures)?;
            progress.next(&format!("Debian on {}, its kernel unpacked beforehand", hypervisor.name()));
            whole(&options, &packages, &[], false, &mut figures)?;
        }
        let wanted = Wanted { paths_only: args.paths_only };
        missing.extend(
            table::missing(hypervisor, &figures, &wanted)
                .into_iter()
                .map(|name| format!("{name} on {}", hypervisor.name())),
        );
        columns.insert(hypervisor.name(), figures);
    }
    print!("{}", table::render(&columns));
    if !missing.is_empty() {
        bail!("no figure of {}", missing.join(", "));
    }
    Ok(())
}

/// The machines in which something is counted: one processor, so that the count is that of the work; the control first.
fn counted(options: &Options, only: Option<Hypervisor>) -> Result<Vec<Options>> {
    let mut all = Vec::new();
    for hypervisor in [Hypervisor::Xen, Hypervisor::Radon] {
        if only.is_some_and(|only| only != hypervisor) {
            continue;
        }
        let mut options =
            Options { hypervisor, cpus: 1, dom0_cpus: Some(1), patience: 20, ..options.clone() };
        if hypervisor == Hypervisor::Xen {
            options.image = None; // another image of ours was meant
        }
        options.check_control()?;
        all.push(options);
    }
    Ok(all)
}

/// Tells how far the command is.
struct Progress {
    stages: usize,
    done: usize,
    start: Instant,
}

impl Progress {
    fn next(&mut self, what: &str) {
        self.done += 1;
        println!("bench: {}/{} ({} s) {what}", self.done, self.stages, self.start.elapsed().as_secs());
    }
}

/// Size of the image on disk, packed as Xen's is; lines of our code.
fn sizes(options: &Options, packages: &Packages) -> Result<Figures> {
    let mut figures = Figures::new();
    let unpacked = std::fs::metadata(options.image(packages)?)?.len();
    if options.hypervisor == Hypervisor::Radon {
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
            note(&name, value, &unit, figures);
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

/// Shows and keeps a figure.
fn note(name: &str, value: f64, unit: &str, figures: &mut Figures) {
    let unit = if unit == "instructions" { "i" } else { unit };
    println!("  {name} {value} {unit}");
    figures.insert(name.to_owned(), (value, unit.to_owned()));
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
            (initramfs::dom0(packages, &options.extra(&extra)?)?, String::new()),
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
            Some(Event::Milestone(name)) => {
                println!("  {name}");
                stages.entry(name).or_insert(now);
            }
            Some(Event::Failed(cause)) => bail!("{cause}; {}", run.last_words()),
            _ => {}
        }
    }
    let mut stage = |name: &str, from: &str, to: &str| {
        if let (Some(from), Some(to)) = (stages.get(from), stages.get(to)) {
            note(name, to.saturating_sub(*from) as f64 / 1e6, "M", figures);
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
            Some(Event::Figure { name, value, unit }) => note(&name, value, &unit, figures),
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
