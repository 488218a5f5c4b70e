//! The hypervisor alone: its start-up checked by itself, and the reports of its own crashes, on machines of several shapes.

use super::Report;
use crate::monitor::Monitor;
use crate::qemu::{Boot, Hypervisor, Machine, Run};
use crate::scenario::Options;
use crate::{image, paths};
use anyhow::{Context, Result, bail, ensure};
use std::path::PathBuf;
use std::time::Duration;

/// QEMU's `isa-debug-exit`, by which a self-test leaves the emulator.
const DEBUG_EXIT: [&str; 2] = ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"];

/// A crash on purpose, and what its report must say.
struct Crash {
    name: &'static str,
    /// Each must stand in some line, the lines in this order.
    lines: &'static [&'static str],
}

const CRASHES: &[Crash] = &[
    Crash {
        name: "panic",
        lines: &[
            "Panic on CPU 0:",
            "as asked for",
            "at hypervisor/image/src/selftest.rs:",
            "Call trace:",
            "selftest::run+",
        ],
    },
    Crash {
        name: "fault",
        lines: &[
            "RIP: ",
            "rax: ",
            "cr2: 0000000000000008",
            "Call trace:",
            "selftest::run+",
            "FATAL TRAP: vector = 14 page fault (#PF), error code 0x0002",
            "Faulting linear address: 0000000000000008",
        ],
    },
    // CPU 1 hangs with its interrupts off; CPU 0 notices, CPU 1 reports where.
    Crash {
        name: "hang",
        lines: &[
            "CPU 1 has not been heard of for 2 s",
            "CPU:    1",
            "Call trace:",
            "selftest::hangs_here+",
            "Panic on CPU 1:",
            "the watchdog found that this CPU hangs",
        ],
    },
    // Found only when the double fault has a stack of its own, below which no stack's page is mapped.
    Crash {
        name: "overflow",
        lines: &[
            "RIP: ",
            "Call trace:",
            "selftest::endless+",
            "selftest::endless+",
            "FATAL TRAP: vector = 8 double fault (#DF)",
        ],
    },
];

/// Runs all of them.
pub fn run(report: &mut Report, options: &Options) {
    for cpus in [1, 2, 4] {
        report.run("alone", &format!("start-up-{cpus}cpu"), || {
            let lines = boot(options, cpus, "")?;
            let brought = format!("Brought up {cpus} CPU");
            ensure!(lines.iter().any(|l| l.contains(&brought)), "no line says: {brought}");
            if !lines.iter().any(|l| l.ends_with("selftest: SUCCESS")) {
                let failed: Vec<_> = lines.iter().filter(|l| l.contains("selftest: FAIL")).collect();
                bail!("start-up checks: {failed:?}; last line: {:?}", lines.last());
            }
            Ok(())
        });
    }
    for crash in CRASHES {
        report.run("alone", &format!("crash-report-{}", crash.name), || {
            let more = if crash.name == "hang" { " watchdog_timeout=2" } else { "" };
            in_order(&boot(options, 2, &format!("={}{more}", crash.name))?, crash.lines)
        });
    }
    report.run("alone", "pvh-entry", || pvh_entry(options));
    for mib in [5, 6, 8, 16, 32, 64] {
        report.run("alone", &format!("memory-{mib}MiB"), || small(options, mib));
    }
    report.run("alone", "memory-256GiB", || large(options));
    report.run("alone", "machine-check", || machine_check(options));
}

/// The PVH entry: QEMU takes it when there is no Multiboot header, with a module and its arguments as a PVH loader passes them.
fn pvh_entry(options: &Options) -> Result<()> {
    let mut bytes = std::fs::read(image::build()?)?;
    let magic = 0x1bad_b002u32.to_le_bytes();
    let at = bytes.windows(4).take(8192).position(|w| w == magic).context("no Multiboot header")?;
    bytes[at..at + 4].fill(0);
    let image = paths::target().join("radon-pvh");
    std::fs::write(&image, &bytes)?;
    let modules = vec![(image.clone(), String::new())];
    let shape = Shape { cpus: 2, image: Some(image), modules, ..Shape::of("pvh") };
    let lines = shape.lines(options, None)?;
    // The module arrived whole.
    let module = lines.iter().find_map(|l| l.split_once("Module 0: [")?.1.split_once(')'));
    let size = module.and_then(|(range, _)| {
        let (from, to) = range.split_once(", ")?;
        Some(u64::from_str_radix(to, 16).ok()? - u64::from_str_radix(from, 16).ok()?)
    });
    ensure!(size == Some(bytes.len() as u64), "a module of {} bytes, and {size:?} arrived", bytes.len());
    in_order(&lines, &["Bootloader: PVH", "RAM map:", "Brought up 2 CPUs", "selftest: SUCCESS"])
}

/// With so little memory the hypervisor starts and says, not crashes for want of, what is missing: dom0.
fn small(options: &Options, mib: u32) -> Result<()> {
    let log = format!("memory-{mib}");
    let shape = Shape { memory: mib, args: "", ..Shape::of(&log) };
    let lines = shape.lines(options, Some("Radon stops here."))?;
    in_order(
        &lines,
        &["System RAM: ", "Free memory: ", "cannot build dom0: no dom0 kernel", "Radon stops here."],
    )
}

/// A quarter of a TiB of memory, of which the host has only what is touched: the start touches the frame table and little more.
fn large(options: &Options) -> Result<()> {
    let backend = "memory-backend-ram,id=ram,size=256G,reserve=off,prealloc=off";
    let cpu = "EPYC,+svm,+npt,-rdtscp,-monitor,-xsave,phys-bits=44";
    let more =
        ["-object", backend, "-machine", "memory-backend=ram", "-cpu", cpu].map(str::to_owned).to_vec();
    let shape = Shape { memory: 256 << 10, args: "", more, limit: 60, ..Shape::of("memory-256G") };
    let lines = shape.lines(options, Some("Radon stops here."))?;
    in_order(&lines, &["System RAM: 26214", "Free memory: 26", "cannot build dom0: no dom0 kernel"])
}

/// From outside: an NMI for which there is no reason changes nothing, a machine check is fatal and its bank is in the report.
fn machine_check(options: &Options) -> Result<()> {
    let socket = paths::target().join("alone-monitor");
    let _ = std::fs::remove_file(&socket);
    let mut run = start(options, 2, "=wait", Monitor::arguments(&socket))?;
    let mut monitor = Monitor::connect(&socket)?;
    while let Some(line) = run.line()? {
        if line.ends_with("selftest: waiting") {
            break;
        }
    }
    monitor.command("nmi")?;
    // Bank 2 of CPU 0: valid, uncorrected, address valid; resumable, in progress.
    // The machine may be gone before the monitor has said that it did it.
    drop(monitor.command("mce 0 2 0xb400000000000135 0x5 0x12340 0"));
    let mut lines = Vec::new();
    while let Ok(Some(line)) = run.line() {
        lines.push(line);
        if lines.last().is_some_and(|l| l.contains("FATAL TRAP")) {
            break;
        }
    }
    ensure!(lines.iter().filter(|l| l.contains("Panic on CPU")).count() == 1, "not one panic: {lines:?}");
    let wanted = [
        "RIP: ",
        "machine check: status 0x5",
        "bank 2: status b400000000000135, address Some(12340)",
        "FATAL TRAP: vector = 18 machine check (#MC)",
    ];
    in_order(&lines, &wanted)
}

/// All lines of the console, until the machine stops.
fn boot(options: &Options, cpus: u32, test: &str) -> Result<Vec<String>> {
    let mut run = start(options, cpus, test, Vec::new())?;
    let mut lines = Vec::new();
    while let Some(line) = run.line()? {
        lines.push(line);
    }
    Ok(lines)
}

fn start(options: &Options, cpus: u32, test: &str, more: Vec<String>) -> Result<Run> {
    let args = format!("radon-selftest{test}");
    let log = format!("{cpus}cpu{}", test.replace(['=', ' '], "-"));
    Shape { cpus, args: &args, more, ..Shape::of(&log) }.start(options)
}

/// A machine with the hypervisor and nothing else.
pub(super) struct Shape<'a> {
    /// Part of the log file's name.
    pub log: &'a str,
    pub cpus: u32,
    /// MiB.
    pub memory: u32,
    /// Arguments of the hypervisor beside those for its console.
    pub args: &'a str,
    /// Further arguments for QEMU.
    pub more: Vec<String>,
    /// Seconds that it may run.
    pub limit: u64,
    /// Boot this instead of the image as built.
    pub image: Option<PathBuf>,
    /// A module and its arguments.
    pub modules: Vec<(PathBuf, String)>,
}

impl<'a> Shape<'a> {
    pub fn of(log: &'a str) -> Self {
        Shape {
            log,
            cpus: 1,
            memory: 256,
            args: "radon-selftest",
            more: Vec::new(),
            limit: 30,
            image: None,
            modules: Vec::new(),
        }
    }

    pub fn start(self, options: &Options) -> Result<Run> {
        let options = Options {
            cpus: self.cpus,
            memory: self.memory,
            hypervisor: Hypervisor::Radon,
            ..options.clone()
        };
        let args = format!("console=com1 com1=115200,8n1 loglvl=all {}", self.args);
        let kernel = self.image.map_or_else(image::build, Ok)?;
        let boot = Boot::Multiboot { kernel, args, modules: self.modules };
        // No guest runs: what processors do at the same time can be tested here.
        let mut machine = Machine { one_host_cpu: false, ..options.machine(boot) };
        machine.extra.extend(DEBUG_EXIT.map(str::to_owned));
        machine.extra.extend(self.more);
        let limit = Duration::from_secs(self.limit * u64::from(options.patience));
        machine.start(&format!("alone-{}", self.log), limit)
    }

    /// All lines until the machine stops by itself, or until one contains `last`.
    pub fn lines(self, options: &Options, last: Option<&str>) -> Result<Vec<String>> {
        let mut run = self.start(options)?;
        let mut lines = Vec::new();
        while let Some(line) = run.line()? {
            let enough = last.is_some_and(|text| line.contains(text));
            lines.push(line);
            if enough {
                break;
            }
        }
        Ok(lines)
    }
}

/// Whether each of `wanted` stands in a line of its own, in this order.
pub(super) fn in_order(lines: &[String], wanted: &[&str]) -> Result<()> {
    let mut rest = lines.iter();
    for text in wanted {
        ensure!(
            rest.any(|line| line.contains(text)),
            "the report lacks \"{text}\" (in its place); it ends: {:?}",
            lines.iter().rev().take(12).rev().collect::<Vec<_>>()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_in_the_wrong_order_is_refused() {
        let lines = ["one", "two", "three"].map(str::to_owned);
        assert!(in_order(&lines, &["one", "three"]).is_ok());
        assert!(in_order(&lines, &["three", "one"]).is_err());
        assert!(in_order(&lines, &["two", "two"]).is_err());
        assert!(in_order(&lines, &["four"]).is_err());
    }
}
