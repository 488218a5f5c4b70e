//! One arm per option name (with `_` already written as `-`).

use crate::value::{number, parse_bool, size, threshold};
use crate::{
    ClockSource, ConsoleDevice, CpuidChange, Options, Problem, RebootMethod, SelfTest, Timestamps, dom0,
    serial,
};
use alloc::string::ToString;
use alloc::vec::Vec;

const NO_PV: &str = "there are no PV guests";
const NOT_NEEDED: &str = "not needed here";
const NOT_YET: &str = "not implemented yet";
const NOT_AMD: &str = "for Intel processors";
const NO_SCREEN: &str = "messages go to serial ports only";
const NO_IOMMU: &str = "no IOMMU is used";

/// Options of Xen's that are known, and why they do nothing.
#[rustfmt::skip]
const IGNORED: &[(&str, &str)] = &[
    ("acpi-skip-timer-override", NOT_NEEDED), ("allow-unsafe", NOT_NEEDED), ("apic", NOT_NEEDED),
    ("apic-verbosity", NOT_NEEDED), ("apicv", NOT_AMD), ("argo", NOT_YET), ("asid", NOT_NEEDED), ("ats", NOT_YET),
    ("cet", NOT_YET), ("cmos-rtc-probe", NOT_NEEDED), ("conswitch", NOT_YET),
    ("core-parking", NOT_YET), ("cpufreq", NOT_YET), ("cpuinfo", NOT_NEEDED),
    ("crashkernel", NOT_YET), ("credit2-balance-over", NOT_YET), ("credit2-balance-under", NOT_YET),
    ("credit2-load-precision-shift", NOT_YET), ("credit2-load-window-shift", NOT_YET), ("credit2-runqueue", NOT_YET),
    ("dbgp", "no USB debug port"), ("dma-bits", NO_PV), ("dom0-iommu", NOT_YET),
    ("dom0-ioports-disable", NOT_YET), ("dom0-nodes", NOT_YET), ("e820-mtrr-clip", NOT_NEEDED),
    ("e820-verbose", NOT_NEEDED), ("edd", "no real-mode code"), ("edid", "no real-mode code"), ("efi", NOT_YET),
    ("ept", NOT_AMD), ("extra-guest-irqs", NOT_NEEDED), ("force-ept", NOT_AMD), ("global-pages", NO_PV),
    ("gnttab", NOT_YET), ("hap", "guests always use nested paging"), ("hpet", NOT_NEEDED), ("hvm-debug", NOT_YET),
    ("flask", NOT_YET), ("hvm-fep", NOT_YET), ("invpcid", NOT_NEEDED), ("ioapic-ack", NOT_NEEDED), ("lapic", NOT_NEEDED), ("ler", NOT_YET),
    ("max-cstate", NOT_YET), ("mce", NOT_YET), ("mce-fb", NOT_AMD), ("mmcfg", NOT_NEEDED), ("msi", NOT_NEEDED),
    ("mwait-idle", NOT_YET), ("nmi", NOT_YET), ("no-real-mode", "no real-mode code"), ("noirqbalance", NOT_NEEDED),
    ("nr-irqs", NOT_NEEDED), ("numa", NOT_YET), ("pci", NOT_YET), ("pci-phantom", NOT_YET), ("pcid", NO_PV),
    ("placeholder", NOT_NEEDED), ("pku", NOT_YET), ("ple-gap", NOT_AMD), ("ple-window", NOT_AMD), ("psr", NOT_AMD),
    ("pv", NO_PV), ("pv-l1tf", NO_PV), ("pv-linear-pt", NO_PV), ("pv-shim", NO_PV), ("sched-gran", NOT_YET),
    ("sched-credit2-max-cpus-runqueue", "the CPUs of a pool share one run queue"),
    ("sched-credit-tslice-ms", "the scheduler is credit2"), ("sched-smt-power-savings", NOT_YET),
    ("scrub-domheap", NOT_NEEDED), ("serial-tx-buffer", NOT_NEEDED), ("smap", NOT_NEEDED), ("smep", NOT_NEEDED),
    ("spec-ctrl", NOT_YET), ("tbuf-size", NOT_YET), ("tdt", NOT_NEEDED), ("tevt-mask", NOT_YET), ("timer-slop", NOT_YET),
    ("tsc", "system time is always the TSC's"), ("tsx", NOT_AMD), ("ucode", NOT_YET), ("vga", NO_SCREEN), ("unrestricted-guest", NOT_AMD), ("vpid", NOT_AMD), ("vpmu", NOT_YET), ("x2apic-mode", NOT_NEEDED),
    ("x2apic-phys", NOT_NEEDED), ("xpti", NO_PV), ("xsm", NOT_YET),
];

/// Sets the field that `name[=value]` stands for.
pub(crate) fn apply(options: &mut Options, name: &str, value: Option<&str>) -> Result<(), Problem> {
    if let Some(result) = apply_valued(options, name, value).or_else(|| fixed(name, value)) {
        return result;
    }
    let (bare, on) = match name.strip_prefix("no-") {
        Some(bare) => (bare, false),
        None => (name, true),
    };
    if let Some(field) = boolean_field(options, bare) {
        let given = value.map_or(Some(true), parse_bool).ok_or(Problem::BadValue)?;
        *field = given == on;
        return Ok(());
    }
    match IGNORED.iter().find(|(known, _)| *known == name || *known == bare) {
        Some((_, why)) => Err(Problem::Ignored(why)),
        None => Err(Problem::Unknown),
    }
}

fn boolean_field<'a>(o: &'a mut Options, name: &str) -> Option<&'a mut bool> {
    Some(match name {
        "console-to-ring" => &mut o.console_to_ring,
        "dom0-vcpus-pin" => &mut o.dom0.vcpus_pin,
        "smt" => &mut o.smt,
        "noreboot" => &mut o.noreboot,
        "hap-1gb" => &mut o.hap_1gb,
        "hap-2mb" => &mut o.hap_2mb,
        "x2apic" => &mut o.x2apic,
        "xsave" => &mut o.xsave,
        "watchdog" => &mut o.watchdog,
        _ => return None,
    })
}

/// Options of which one value is how things are anyway, and why the other cannot be had.
const FIXED: &[(&str, bool, &str)] = &[
    ("sync-console", true, "output always waits for the serial line"),
    ("bootscrub", true, "memory is always cleared before somebody else gets it"),
    ("cpuidle", false, "idle CPUs only halt"),
];

/// A boolean that is what it is: asking for that is fine, for the other is not.
fn fixed(name: &str, value: Option<&str>) -> Option<Result<(), Problem>> {
    let (bare, on) = name.strip_prefix("no-").map_or((name, true), |bare| (bare, false));
    let (_, is, why) = FIXED.iter().find(|(known, ..)| *known == bare)?;
    Some(match value.map_or(Some(true), parse_bool) {
        Some(given) if (given == on) == *is => Ok(()),
        Some(_) => Err(Problem::Ignored(why)),
        // Cleared while idle is what `bootscrub=idle` asks for.
        None if bare == "bootscrub" && value == Some("idle") => Ok(()),
        None => Err(Problem::BadValue),
    })
}

/// Options with more than a boolean; `None` when `name` is not one of them.
fn apply_valued(o: &mut Options, name: &str, value: Option<&str>) -> Option<Result<(), Problem>> {
    Some(match name {
        "console" => console(o, value),
        "com1" => serial::serial(value).and_then(|port| polled(*o.com1.insert(port))),
        "com2" => serial::serial(value).and_then(|port| polled(*o.com2.insert(port))),
        "conring-size" => size(value).map(|n| o.conring_size = Some(n)),
        "console-timestamps" => timestamps(value).map(|t| o.timestamps = t),
        "cpuid" => features(value).map(|list| o.cpuid.extend(list)),
        "dom0-cpuid" => features(value).map(|list| o.dom0_cpuid.extend(list)),
        "loglvl" => threshold(value).map(|t| o.loglvl = t),
        "guest-loglvl" => threshold(value).map(|t| o.guest_loglvl = t),
        "dom0" => dom0::mode(&mut o.dom0, value),
        "dom0-mem" => dom0::mem(&mut o.dom0, value),
        "dom0-max-vcpus" => dom0::max_vcpus(value).map(|range| o.dom0.vcpus = range),
        "maxcpus" => number(value).map(|n| o.max_cpus = Some(n.max(1))),
        "nosmp" => match value.map_or(Some(true), parse_bool) {
            Some(true) => {
                o.max_cpus = Some(1);
                Ok(())
            }
            Some(false) => Ok(()),
            None => Err(Problem::BadValue),
        },
        "mem" => size(value).map(|n| o.mem = Some(n)),
        "reboot" => reboot(o, value),
        "sched" => scheduler(value),
        "sched-ratelimit-us" => number(value).map(|n| o.credit2.ratelimit_us = n),
        "sched-credit2-migrate-resist" => number(value).map(|n| o.credit2.migrate_resist_us = n),
        "credit2-cap-period-ms" => number(value).map(|n| o.credit2.cap_period_ms = n.max(1)),
        "iommu" | "no-iommu" => iommu(o, name == "no-iommu", value),
        "clocksource" => clocksource(value).map(|c| o.clocksource = c),
        "watchdog" if value == Some("force") => {
            o.watchdog = true;
            Ok(())
        }
        "watchdog-timeout" => number(value).map(|n| {
            o.watchdog_timeout_s = n;
            o.watchdog = n != 0;
        }),
        "gnttab-max-frames" => number(value).map(|n| o.gnttab_max_frames = n),
        "gnttab-max-maptrack-frames" => number(value).map(|n| o.gnttab_max_maptrack_frames = n),
        "radon-selftest" => self_test(value).map(|test| o.selftest = Some(test)),
        "low-mem-virq-limit" => size(value).map(|n| o.low_mem_virq_limit = n),
        _ => return None,
    })
}

/// The list is taken over; a device that shows nothing is worth a word.
fn console(o: &mut Options, value: Option<&str>) -> Result<(), Problem> {
    let mut list = Vec::new();
    let mut result = Ok(());
    for item in value.ok_or(Problem::BadValue)?.split(',') {
        let device = match item {
            "com1" | "com1H" | "com1L" => ConsoleDevice::Com1,
            "com2" | "com2H" | "com2L" => ConsoleDevice::Com2,
            "none" => continue,
            "vga" | "pv" => {
                result = Err(Problem::Ignored(NO_SCREEN));
                if item == "vga" { ConsoleDevice::Vga } else { ConsoleDevice::Pv }
            }
            "dbgp" | "ehci" | "xhci" => return Err(Problem::Ignored("no USB debug port")),
            _ => return Err(Problem::BadValue),
        };
        if !list.contains(&device) {
            list.push(device);
        }
    }
    o.console = list;
    result
}

/// The settings stand, but nobody listens to the port's interrupt.
fn polled(port: serial::Serial) -> Result<(), Problem> {
    if port.irq.is_some_and(|irq| irq != 0) {
        return Err(Problem::Ignored("the port's interrupt is not used"));
    }
    Ok(())
}

fn timestamps(value: Option<&str>) -> Result<Timestamps, Problem> {
    match value {
        Some("date") | None => Ok(Timestamps::Date),
        Some("datems") => Ok(Timestamps::DateMs),
        Some("boot") => Ok(Timestamps::Boot),
        Some("raw") => Ok(Timestamps::Raw),
        Some("none") => Ok(Timestamps::None),
        Some(other) => match parse_bool(other) {
            Some(true) => Ok(Timestamps::Date),
            Some(false) => Ok(Timestamps::None),
            None => Err(Problem::BadValue),
        },
    }
}

/// The TSC is what time is taken from; the option names what it is measured against.
fn clocksource(value: Option<&str>) -> Result<Option<ClockSource>, Problem> {
    match value {
        Some("hpet") => Ok(Some(ClockSource::Hpet)),
        Some("acpi") => Ok(Some(ClockSource::Acpi)),
        Some("pit") => Ok(Some(ClockSource::Pit)),
        Some("tsc") => Ok(None),
        _ => Err(Problem::BadValue),
    }
}

/// `[no-]feature,...`; whether there are such features is found when the policy is made.
fn features(value: Option<&str>) -> Result<Vec<CpuidChange>, Problem> {
    let change = |item: &str| {
        dom0::boolean(item)
            .filter(|(name, _)| !name.is_empty())
            .map(|(name, on)| CpuidChange { feature: name.to_string(), on })
    };
    value.ok_or(Problem::BadValue)?.split(',').map(change).collect::<Option<_>>().ok_or(Problem::BadValue)
}

/// `t|k|a|p|P|e|n[,w|c]`, by first letter, as Xen.
fn reboot(o: &mut Options, value: Option<&str>) -> Result<(), Problem> {
    let mut result = Ok(());
    for item in value.ok_or(Problem::BadValue)?.split(',') {
        match item.as_bytes().first() {
            Some(b'n') => o.noreboot = true,
            Some(b't') => o.reboot = RebootMethod::Triple,
            Some(b'k') => o.reboot = RebootMethod::Keyboard,
            Some(b'a') => o.reboot = RebootMethod::Acpi,
            Some(b'p') => o.reboot = RebootMethod::Pci,
            Some(b'P') => o.reboot = RebootMethod::Power,
            Some(b'e') => result = Err(Problem::Ignored("EFI services are not used")),
            Some(b'w') => result = Err(Problem::Ignored("a restart is always a cold one")),
            Some(b'c' | b'0') => {}
            _ => return Err(Problem::BadValue),
        }
    }
    result
}

fn scheduler(value: Option<&str>) -> Result<(), Problem> {
    match value {
        Some("credit2") => Ok(()),
        Some("credit" | "rtds" | "arinc653" | "null") => Err(Problem::Ignored("the scheduler is credit2")),
        _ => Err(Problem::BadValue),
    }
}

fn self_test(value: Option<&str>) -> Result<SelfTest, Problem> {
    match value {
        None => Ok(SelfTest::Checks),
        Some("panic") => Ok(SelfTest::Panic),
        Some("fault") => Ok(SelfTest::Fault),
        Some("overflow") => Ok(SelfTest::Overflow),
        Some("wait") => Ok(SelfTest::Wait),
        Some("hang") => Ok(SelfTest::Hang),
        Some("reboot") => Ok(SelfTest::Reboot),
        Some(_) => Err(Problem::BadValue),
    }
}

/// There is no support for any: only "none" can be had, and whoever insists on one is to be told.
fn iommu(o: &mut Options, negated: bool, value: Option<&str>) -> Result<(), Problem> {
    if negated {
        return Ok(());
    }
    let mut result = Ok(());
    for item in value.unwrap_or("1").split(',') {
        match (parse_bool(item), dom0::boolean(item)) {
            (Some(false), _) => {}
            (_, Some(("force" | "required", on))) => o.iommu_required = on,
            (Some(true), _)
            | (
                _,
                Some((
                    "verbose"
                    | "debug"
                    | "quarantine"
                    | "sharept"
                    | "superpages"
                    | "intremap"
                    | "intpost"
                    | "crash-disable"
                    | "snoop"
                    | "qinval"
                    | "igfx"
                    | "amd-iommu-perdev-intremap"
                    | "dom0-passthrough"
                    | "dom0-strict",
                    _,
                )),
            ) => result = Err(Problem::Ignored(NO_IOMMU)),
            _ => return Err(Problem::BadValue),
        }
    }
    result
}
