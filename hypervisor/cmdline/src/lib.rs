//! Xen's command-line options (docs/misc/xen-command-line.pandoc), the subset that means something here.
//!
//! [`parse`] never fails: a wrong or unknown option keeps the default and yields a [`Warning`] to be printed once the
//! console works. As in Xen, `-` and `_` in names are the same, booleans read `foo`, `no-foo` or
//! `foo=<yes|on|true|enable|1|no|off|false|disable|0>`, and sizes are KiB unless a suffix `B K M G T` says otherwise.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod dom0;
mod serial;
mod table;
mod value;

use alloc::string::{String, ToString};
use alloc::vec::Vec;

pub use dom0::{Dom0, MemAmount, VcpuRange};
pub use serial::{Parity, Serial};
pub use value::{parse_bool, parse_size};

/// A device the console is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsoleDevice {
    /// First serial port.
    Com1,
    /// Second serial port.
    Com2,
    /// The screen.
    Vga,
    /// The console of a Xen beneath.
    Pv,
}

/// Importance of a message; a threshold lets through all levels up to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum LogLevel {
    /// Nothing.
    None = 0,
    /// Errors.
    Error = 1,
    /// And warnings.
    Warning = 2,
    /// And information.
    Info = 3,
    /// Everything.
    Debug = 4,
}

/// `loglvl=always/rate-limited`: up to `always` every message is printed, up to `limited` some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogThreshold {
    /// Messages up to this level are always printed.
    pub always: LogLevel,
    /// Messages up to this level are printed at a limited rate; at least `always`.
    pub limited: LogLevel,
}

/// How to restart the machine (`reboot=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RebootMethod {
    /// Try what the firmware offers, then the others.
    Default,
    /// Triple fault.
    Triple,
    /// Keyboard controller.
    Keyboard,
    /// ACPI reset register.
    Acpi,
    /// PCI reset port 0xcf9.
    Pci,
    /// PCI reset port, with a power cycle.
    Power,
}

/// Time stamps of log lines (`console_timestamps=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timestamps {
    /// None.
    None,
    /// Date and time.
    Date,
    /// With milliseconds.
    DateMs,
    /// Seconds since start.
    Boot,
    /// The time stamp counter.
    Raw,
}

/// Platform timer that the TSC is calibrated against (`clocksource=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockSource {
    /// HPET.
    Hpet,
    /// ACPI PM timer.
    Acpi,
    /// The old interval timer.
    Pit,
}

/// Features that `cpuid=` or `dom0-cpuid=` names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuidChange {
    /// Name as in the command line, without `no-`.
    pub feature: String,
    /// Wanted rather than not.
    pub on: bool,
}

/// What `radon-selftest` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelfTest {
    /// Check what start-up set up.
    Checks,
    /// Panic.
    Panic,
    /// Touch an address that is not mapped.
    Fault,
    /// Use up the stack.
    Overflow,
    /// Wait for ever, for what is done to the machine from outside.
    Wait,
    /// Let a CPU hang, for the watchdog to find.
    Hang,
    /// Restart the machine.
    Reboot,
}

/// Parameters of the credit2 scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit2 {
    /// `sched_ratelimit_us`: shortest time a vCPU runs before it is preempted, microseconds; 0 = no limit.
    pub ratelimit_us: u32,
    /// `sched_credit2_migrate_resist`: microseconds of advantage a vCPU's present queue has.
    pub migrate_resist_us: u32,
    /// `credit2_cap_period_ms`: how often the budget of a capped domain is refilled.
    pub cap_period_ms: u32,
}

/// The options, each with Xen's default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `console=`: where messages go, in the order given; empty for `none`.
    pub console: Vec<ConsoleDevice>,
    /// `com1=`: `None` when the port was not configured (firmware's settings stay).
    pub com1: Option<Serial>,
    /// `com2=`.
    pub com2: Option<Serial>,
    /// `conring_size=`, bytes.
    pub conring_size: Option<u64>,
    /// `console_timestamps=`.
    pub timestamps: Timestamps,
    /// `console_to_ring`: copy guests' console output to the ring.
    pub console_to_ring: bool,
    /// `loglvl=`.
    pub loglvl: LogThreshold,
    /// `guest_loglvl=`.
    pub guest_loglvl: LogThreshold,
    /// How dom0 is built.
    pub dom0: Dom0,
    /// Text after ` -- `, which Xen appends to dom0's own command line.
    pub dom0_extra: String,
    /// `maxcpus=` or `nosmp`: most CPUs brought up.
    pub max_cpus: Option<u32>,
    /// `smt=`: use more than one thread of a core.
    pub smt: bool,
    /// `mem=`: RAM above this many bytes is not used.
    pub mem: Option<u64>,
    /// `noreboot` (or `reboot=no`): halt after a crash.
    pub noreboot: bool,
    /// `reboot=`.
    pub reboot: RebootMethod,
    /// Parameters of credit2.
    pub credit2: Credit2,
    /// `iommu=force` or `required`: refuse to start without one.
    pub iommu_required: bool,
    /// `hap_1gb=`: 1 GiB pages in nested page tables.
    pub hap_1gb: bool,
    /// `hap_2mb=`: 2 MiB pages in nested page tables.
    pub hap_2mb: bool,
    /// `x2apic=`.
    pub x2apic: bool,
    /// `xsave=`: let guests use extended state.
    pub xsave: bool,
    /// `clocksource=`: platform timer to prefer.
    pub clocksource: Option<ClockSource>,
    /// `cpuid=`: features that nobody gets.
    pub cpuid: Vec<CpuidChange>,
    /// `dom0-cpuid=`: features that dom0 gets or does not get.
    pub dom0_cpuid: Vec<CpuidChange>,
    /// `watchdog`: check by NMI that every CPU still makes progress.
    pub watchdog: bool,
    /// `watchdog_timeout=`, seconds.
    pub watchdog_timeout_s: u32,
    /// `gnttab_max_frames=`: upper bound per domain.
    pub gnttab_max_frames: u32,
    /// `gnttab_max_maptrack_frames=`: upper bound per domain.
    pub gnttab_max_maptrack_frames: u32,
    /// `low_mem_virq_limit=`, bytes.
    pub low_mem_virq_limit: u64,
    /// `radon-selftest[=panic|fault|overflow|wait|hang|reboot]`: check the start-up (or the crash report), then leave the emulator.
    pub selftest: Option<SelfTest>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            console: alloc::vec![ConsoleDevice::Com1, ConsoleDevice::Vga],
            com1: None,
            com2: None,
            conring_size: None,
            timestamps: Timestamps::None,
            console_to_ring: false,
            loglvl: LogThreshold { always: LogLevel::Warning, limited: LogLevel::Warning },
            guest_loglvl: LogThreshold { always: LogLevel::None, limited: LogLevel::Warning },
            dom0: Dom0::default(),
            dom0_extra: String::new(),
            max_cpus: None,
            smt: true,
            mem: None,
            noreboot: false,
            reboot: RebootMethod::Default,
            credit2: Credit2 { ratelimit_us: 1000, migrate_resist_us: 500, cap_period_ms: 10 },
            iommu_required: false,
            hap_1gb: true,
            hap_2mb: true,
            x2apic: true,
            xsave: true,
            clocksource: None,
            cpuid: Vec::new(),
            dom0_cpuid: Vec::new(),
            watchdog: false,
            watchdog_timeout_s: 5,
            gnttab_max_frames: 64,
            gnttab_max_maptrack_frames: 1024,
            low_mem_virq_limit: 64 << 20,
            selftest: None,
        }
    }
}

/// Something in the command line that had no or not its whole effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The option as given.
    pub option: String,
    /// What is the matter with it.
    pub problem: Problem,
}

/// What is the matter with an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// No such option.
    Unknown,
    /// The value cannot be understood; the default stays.
    BadValue,
    /// An option of Xen's that does nothing here, and why.
    Ignored(&'static str),
}

impl core::fmt::Display for Warning {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.problem {
            Problem::Unknown => write!(f, "unknown command line option \"{}\"", self.option),
            Problem::BadValue => write!(f, "command line option \"{}\" has a bad value", self.option),
            Problem::Ignored(why) => write!(f, "command line option \"{}\" ignored: {why}", self.option),
        }
    }
}

/// Reads a command line (without the image's name).
pub fn parse(line: &str) -> (Options, Vec<Warning>) {
    let mut options = Options::default();
    let mut warnings = Vec::new();
    let (own, extra) = split_dom0_extra(line);
    options.dom0_extra = extra.trim().to_string();
    for word in own.split_ascii_whitespace() {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        if let Err(problem) = table::apply(&mut options, &name.replace('_', "-"), value) {
            warnings.push(Warning { option: word.to_string(), problem });
        }
    }
    (options, warnings)
}

/// Splits at the first word `--`.
fn split_dom0_extra(line: &str) -> (&str, &str) {
    if let Some(extra) = line.strip_prefix("-- ") {
        return ("", extra);
    }
    match line.split_once(" -- ") {
        Some(parts) => parts,
        None => (line.strip_suffix(" --").unwrap_or(line), ""),
    }
}

#[cfg(test)]
mod tests;
