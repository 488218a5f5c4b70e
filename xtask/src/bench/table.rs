//! What is measured, what it must come to, and how it is shown.

use crate::qemu::Hypervisor;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Figure name to value and unit.
pub type Figures = BTreeMap<String, (f64, String)>;

/// How a figure is come by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// A bare guest in dom0's place.
    Guest,
    /// Debian booted whole.
    Whole,
    /// Looked up; Radon alone has it.
    Ours,
    /// Looked up.
    Both,
}

/// One figure.
struct Row {
    name: &'static str,
    what: &'static str,
    /// Largest good ratio to stock Xen.
    target: f64,
    by: By,
    /// Why the emulated machine makes stock Xen look worse here than a real one would.
    emulator: Emulator,
}

/// What of the lead is the emulator's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Emulator {
    /// Nothing that we know of.
    Fair,
    /// The emulated processor saves no next RIP: stock Xen decodes the instruction in software (about 4,300 instructions).
    NoNextRip,
    /// Besides, stock Xen walks the tables for each argument it copies and intercepts RDTSC, for want of an invariant TSC.
    NoNextRipAndTsc,
}

const fn row(name: &'static str, what: &'static str, target: f64, by: By, emulator: Emulator) -> Row {
    Row { name, what, target, by, emulator }
}

use By::{Both, Guest, Ours, Whole};
use Emulator::{Fair, NoNextRip, NoNextRipAndTsc};

/// Every figure; a run that lacks one has failed.
const ROWS: &[Row] = &[
    row("boot-hypervisor", "hypervisor entry to dom0 kernel entry", 0.9, Whole, Fair),
    row("boot-hypervisor-unpacked", "the same, kernel not packed", 0.3, Whole, Fair),
    row("boot-dom0", "dom0 kernel entry to userspace", 0.8, Whole, NoNextRipAndTsc),
    row("create-to-userspace", "xl create to guest userspace", 0.8, Whole, NoNextRipAndTsc),
    row("create-paused-64", "xl create -p, 64 MiB", 0.8, Whole, NoNextRipAndTsc),
    row("create-paused-256", "xl create -p, 256 MiB", 0.8, Whole, NoNextRipAndTsc),
    row("create-run-gone", "minimal guest, start to end, one by one", 0.8, Whole, NoNextRipAndTsc),
    row("create-run-gone-parallel", "the same, four at a time, each", 0.8, Whole, NoNextRipAndTsc),
    row("create-destroy-2MiB", "domain of 2 MiB made and destroyed", 0.8, Guest, NoNextRip),
    row("hypercall-empty", "empty hypercall", 0.15, Guest, NoNextRip),
    row("hypercall-unknown", "hypercall of unknown number", 0.15, Guest, NoNextRip),
    row("cpuid-1", "CPUID leaf 1", 0.15, Guest, NoNextRip),
    row("cpuid-xen", "CPUID leaf 0x40000000", 0.15, Guest, NoNextRip),
    row("msr-read-efer", "RDMSR EFER", 0.8, Guest, NoNextRip),
    row("msr-read-apic-base", "RDMSR APIC base", 0.8, Guest, NoNextRip),
    row("port-read-unclaimed", "port read", 0.6, Guest, Fair),
    row("port-write-unclaimed", "port write", 0.6, Guest, Fair),
    row("x2apic-read", "x2APIC register read", 0.15, Guest, NoNextRip),
    row("x2apic-write", "x2APIC register write", 0.15, Guest, NoNextRip),
    row("x2apic-eoi", "x2APIC EOI", 0.15, Guest, NoNextRip),
    row("x2apic-self-ipi-to-handler", "x2APIC self-IPI to handler", 0.15, Guest, NoNextRip),
    row("x2apic-self-ipi-with-eoi", "x2APIC self-IPI, handler, EOI, return", 0.15, Guest, NoNextRip),
    row("apic-mmio-read", "xAPIC register read", 0.8, Guest, Fair),
    row("apic-mmio-write", "xAPIC register write", 0.8, Guest, Fair),
    row("event-send-to-handler", "event send to handler", 0.25, Guest, NoNextRip),
    row("event-round", "event send, handler, return", 0.8, Guest, NoNextRip),
    row("event-send-pending", "event send, already pending", 0.8, Guest, NoNextRip),
    row("event-alloc-close", "event channel alloc and close", 0.8, Guest, NoNextRip),
    row("event-ping-pong", "event ping-pong of two domains", 0.8, Guest, NoNextRip),
    row("yield", "yield", 0.8, Guest, NoNextRip),
    row("timer-op-set-far", "set_timer_op", 0.8, Guest, NoNextRip),
    row("timer-set-far", "set single-shot timer", 0.8, Guest, NoNextRip),
    row("timer-set-and-fire", "set timer in the past, handler", 0.8, Guest, NoNextRipAndTsc),
    row("timer-lateness", "asleep: timer due to handler", 0.8, Guest, NoNextRipAndTsc),
    row("tsc-read", "RDTSC", 0.8, Guest, NoNextRipAndTsc),
    row("populate-1", "populate 1 page", 0.3, Guest, NoNextRip),
    row("populate-256-per-page", "populate 256, per page", 0.3, Guest, NoNextRipAndTsc),
    row("decrease-1", "decrease 1 page", 0.3, Guest, NoNextRip),
    row("decrease-256-per-page", "decrease 256, per page", 0.3, Guest, NoNextRipAndTsc),
    row("grant-map", "grant map", 0.35, Guest, NoNextRip),
    row("grant-unmap", "grant unmap", 0.35, Guest, NoNextRip),
    row("grant-copy-4096", "grant copy, 4 KiB", 0.35, Guest, NoNextRip),
    row("grant-copy-64", "grant copy, 64 bytes", 0.35, Guest, NoNextRip),
    row("grant-foreign-map-unmap", "foreign page map and unmap", 0.8, Guest, NoNextRip),
    row("grant-frame-add-to-physmap", "grant frame into the physmap", 0.8, Guest, NoNextRip),
    row("memory-hypervisor", "hypervisor memory", 0.4, Whole, Fair),
    row("memory-guest-16", "memory on top of a 16 MiB guest", 0.4, Whole, Fair),
    row("memory-guest-64", "memory on top of a 64 MiB guest", 0.4, Whole, Fair),
    row("memory-guest-256", "memory on top of a 256 MiB guest", 0.4, Whole, Fair),
    row("memory-bare-guest-64", "the same, 64 MiB domain without vCPU", 0.4, Guest, Fair),
    row("leak", "memory lost over ten guests", 0.8, Whole, Fair),
    row("size-image", "image", 0.8, Both, Fair),
    row("size-lines", "lines of code, comments and tests included", 0.8, Ours, Fair),
];

/// Which figures a run was to produce.
pub struct Wanted {
    /// Bare guests only.
    pub paths_only: bool,
}

/// The names of the figures that a hypervisor's column lacks.
pub fn missing(hypervisor: Hypervisor, figures: &Figures, wanted: &Wanted) -> Vec<&'static str> {
    let expected = |row: &&Row| match row.by {
        Guest | Both => true,
        Whole => !wanted.paths_only,
        Ours => hypervisor == Hypervisor::Radon,
    };
    ROWS.iter().filter(expected).map(|r| r.name).filter(|name| !figures.contains_key(*name)).collect()
}

/// The table of all figures in Markdown, with ratio and target where both hypervisors have one.
pub fn render(columns: &BTreeMap<&str, Figures>) -> String {
    let empty = Figures::new();
    let (radon, xen) = (columns.get("radon").unwrap_or(&empty), columns.get("xen").unwrap_or(&empty));
    let mut text = line(["figure", "Radon", "stock Xen", "ratio", "target", ""]);
    text.push_str("|---|--:|--:|--:|--:|---|\n");
    let mut missed = 0;
    for row in ROWS {
        let values = (radon.get(row.name), xen.get(row.name));
        text.push_str(&render_row(row, row.what, values, &mut missed));
        let guest = format!("domu-{}", row.name);
        let values = (radon.get(&guest), xen.get(&guest));
        if values.0.is_some() || values.1.is_some() {
            text.push_str(&render_row(row, &format!("... in a guest ({})", row.what), values, &mut missed));
        }
    }
    text.push_str(
        "\nM: millions of instructions; i: instructions. Marks: (a) the emulated processor saves no next RIP, so stock Xen \
         decodes the instruction in software,\nabout 4,300 instructions of each exit; (b) besides, stock Xen intercepts RDTSC and \
         walks tables in software per argument. Both are the emulator's\nmaking, in part; the port access shows the bare \
         path of both.\n",
    );
    let _ = writeln!(text, "{missed} of the targets missed.");
    text
}

type Value<'a> = Option<&'a (f64, String)>;

fn render_row(row: &Row, what: &str, (ours, theirs): (Value<'_>, Value<'_>), missed: &mut u32) -> String {
    let show = |value: Value<'_>| value.map_or("-".to_owned(), |(v, unit)| format!("{} {unit}", round(*v)));
    let mark = match row.emulator {
        Fair => "",
        NoNextRip => "(a)",
        NoNextRipAndTsc => "(b)",
    };
    let (mut ratio, mut target, mut note) = (String::new(), String::new(), mark.to_owned());
    if let (Some((ours, _)), Some((theirs, _))) = (ours, theirs)
        && *theirs != 0.0
    {
        let quotient = ours / theirs;
        (ratio, target) = (format!("{quotient:.3}"), format!("{:.2}", row.target));
        if quotient > row.target {
            *missed += 1;
            note = format!("**missed** {mark}").trim_end().to_owned();
        }
    }
    line([what, &show(ours), &show(theirs), &ratio, &target, &note])
}

fn line([what, radon, xen, ratio, target, note]: [&str; 6]) -> String {
    format!("| {what:<46} | {radon:>10} | {xen:>10} | {ratio:>6} | {target:>6} | {note:<14} |\n")
}

fn round(value: f64) -> String {
    if value < 100.0 && value.fract() != 0.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(v: f64) -> Figures {
        Figures::from([("hypercall-empty".to_owned(), (v, "i".to_owned()))])
    }

    #[test]
    fn the_table_marks_what_is_missed() {
        let text = render(&BTreeMap::from([("radon", column(1000.0)), ("xen", column(5000.0))]));
        assert!(text.contains("0.200 |   0.15 | **missed** (a)"), "{text}");
        assert!(text.contains("1 of the targets missed"));
        let text = render(&BTreeMap::from([("radon", column(500.0)), ("xen", column(5000.0))]));
        assert!(!text.contains("**missed**") && text.contains("0 of the targets missed"));
    }

    #[test]
    fn a_figure_that_is_not_there_is_named() {
        let paths = Wanted { paths_only: true };
        let all = missing(Hypervisor::Xen, &Figures::new(), &paths);
        assert!(all.contains(&"hypercall-empty") && all.contains(&"size-image"));
        assert!(!all.contains(&"size-lines") && !all.contains(&"boot-dom0"));
        let rest = missing(Hypervisor::Xen, &column(1.0), &paths);
        assert_eq!(rest.len(), all.len() - 1);
        let whole = Wanted { paths_only: false };
        assert!(missing(Hypervisor::Radon, &Figures::new(), &whole).contains(&"boot-dom0"));
        assert!(missing(Hypervisor::Radon, &Figures::new(), &whole).contains(&"size-lines"));
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = ROWS.iter().map(|r| r.name).collect();
        assert_eq!(names.len(), ROWS.len());
    }
}
