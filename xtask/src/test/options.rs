//! Options of the command line whose effect the hypervisor alone shows. (Those that need dom0: scenario `options`; the parser and
//! what can be computed: host tests.)

use super::Report;
use super::alone::{Shape, in_order};
use crate::scenario::Options;
use anyhow::{Result, ensure};

/// One boot: arguments, and what must or must not be said.
struct Case {
    name: &'static str,
    cpus: u32,
    args: &'static str,
    qemu: &'static [&'static str],
    says: &'static [&'static str],
    never: &'static str,
}

const CASE: Case =
    Case { name: "", cpus: 1, args: "", qemu: &[], says: &["selftest: SUCCESS"], never: "selftest: FAIL" };

const CASES: &[Case] = &[
    Case {
        name: "clocksource-hpet",
        args: "radon-selftest clocksource=hpet",
        says: &["Platform timer: HPET", "selftest: SUCCESS"],
        ..CASE
    },
    Case {
        name: "clocksource-acpi",
        args: "radon-selftest clocksource=acpi",
        says: &["Platform timer: ACPI PM timer", "selftest: SUCCESS"],
        ..CASE
    },
    Case {
        name: "clocksource-pit",
        args: "radon-selftest clocksource=pit",
        says: &["Platform timer: PIT", "selftest: SUCCESS"],
        ..CASE
    },
    Case {
        name: "no-smt",
        cpus: 4,
        args: "radon-selftest no-smt",
        qemu: &["-smp", "4,sockets=1,cores=2,threads=2"],
        says: &["Brought up 2 CPUs", "selftest: SUCCESS"],
        ..CASE
    },
    Case {
        name: "maxcpus",
        cpus: 4,
        args: "radon-selftest maxcpus=3",
        says: &["Brought up 3 CPUs", "selftest: SUCCESS"],
        ..CASE
    },
    Case {
        name: "mem",
        args: "radon-selftest mem=64M",
        says: &["System RAM: 63MB", "selftest: SUCCESS"],
        ..CASE
    },
    Case {
        name: "watchdog-one-cpu",
        args: "radon-selftest watchdog",
        says: &["watchdog: with one CPU there is nobody to watch it", "selftest: SUCCESS"],
        ..CASE
    },
    Case { name: "console-none", args: "console=none radon-selftest", says: &[], never: "(XEN)", ..CASE },
    Case {
        name: "iommu-force",
        args: "iommu=force",
        says: &["iommu=force: Radon does not use IOMMUs yet", "Radon stops here."],
        never: "cannot build dom0",
        ..CASE
    },
    // The machine stops instead of starting again: QEMU was told so.
    Case {
        name: "reboot-triple",
        args: "radon-selftest=reboot reboot=t",
        says: &["restarting: Triple"],
        ..CASE
    },
    Case {
        name: "reboot-keyboard",
        args: "radon-selftest=reboot reboot=k",
        says: &["restarting: Keyboard"],
        ..CASE
    },
    Case { name: "reboot-pci", args: "radon-selftest=reboot reboot=p", says: &["restarting: Pci"], ..CASE },
    Case {
        name: "reboot-power",
        args: "radon-selftest=reboot reboot=P",
        says: &["restarting: Power"],
        ..CASE
    },
];

/// Runs all of them.
pub fn run(report: &mut Report, options: &Options) {
    for case in CASES {
        report.run("options", case.name, || one(case, options));
    }
}

fn one(case: &Case, options: &Options) -> Result<()> {
    let log = format!("option-{}", case.name);
    let more = case.qemu.iter().map(|a| (*a).to_owned()).collect();
    let shape = Shape { cpus: case.cpus, args: case.args, more, ..Shape::of(&log) };
    let lines = shape.lines(options, Some("Radon stops here."))?;
    ensure!(!lines.iter().any(|l| l.contains(case.never)), "says \"{}\": {lines:?}", case.never);
    in_order(&lines, case.says)
}
