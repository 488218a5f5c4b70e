//! The hypervisor alone: its start-up checked by itself, and the reports of its own crashes, on machines of several shapes.

use super::Report;
use crate::monitor::Monitor;
use crate::qemu::{Boot, Hypervisor, Run};
use crate::scenario::Options;
use crate::{image, paths};
use anyhow::{Result, bail, ensure};
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
            in_order(&boot(options, 2, &format!("={}", crash.name))?, crash.lines)
        });
    }
    report.run("alone", "machine-check", || machine_check(options));
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
    monitor.command("mce 0 2 0xb400000000000135 0x5 0x12340 0")?;
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
    let options = Options { cpus, memory: 256, hypervisor: Hypervisor::Radon, ..options.clone() };
    let boot = Boot::Multiboot {
        kernel: image::build()?,
        args: format!("console=com1 com1=115200,8n1 loglvl=all radon-selftest{test}"),
        modules: Vec::new(),
    };
    let mut machine = options.machine(boot);
    machine.extra.extend(DEBUG_EXIT.map(str::to_owned));
    let log = format!("alone-{cpus}cpu{}", test.replace('=', "-"));
    machine.extra.extend(more);
    machine.start(&log, Duration::from_secs(30 * u64::from(options.patience)))
}

/// Whether each of `wanted` stands in a line of its own, in this order.
fn in_order(lines: &[String], wanted: &[&str]) -> Result<()> {
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
