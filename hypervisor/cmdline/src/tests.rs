//! Option by option, then arbitrary input.

use super::*;
use proptest::prelude::*;

fn options(line: &str) -> Options {
    let (options, warnings) = parse(line);
    assert_eq!(warnings, [], "{line}");
    options
}

fn problem(line: &str) -> Problem {
    let (got, warnings) = parse(line);
    assert_eq!(got, Options::default(), "{line}");
    assert_eq!(warnings.len(), 1, "{line}");
    warnings[0].problem
}

#[test]
fn the_usual_line() {
    let o = options("console=com1 com1=115200,8n1 dom0_mem=1024M loglvl=all guest_loglvl=all/debug noreboot");
    assert_eq!(o.console, [ConsoleDevice::Com1]);
    assert_eq!(o.com1, Some(Serial { baud: Some(115200), ..Serial::default() }));
    assert_eq!(o.dom0.initial_memory(8 << 30), 1 << 30);
    assert_eq!(o.loglvl.always, LogLevel::Debug);
    assert!(o.noreboot);
}

#[test]
fn booleans_in_every_spelling() {
    for (line, expected) in [
        ("smt", true),
        ("no-smt", false),
        ("smt=0", false),
        ("smt=off", false),
        ("smt=disable", false),
        ("smt=yes", true),
        ("no-smt=no", true),
    ] {
        assert_eq!(options(line).smt, expected, "{line}");
    }
    assert!(options("console-to-ring").console_to_ring && options("console_to_ring").console_to_ring);
    assert_eq!(problem("smt=perhaps"), Problem::BadValue);
}

#[test]
fn sizes() {
    for (text, bytes) in [
        ("512", Some(512 << 10)),
        ("512B", Some(512)),
        ("4k", Some(4096)),
        ("0x10M", Some(16 << 20)),
        ("2G", Some(2 << 30)),
        ("1T", Some(1 << 40)),
        ("010K", Some(8 << 10)),
        ("", None),
        ("M", None),
        ("1MM", None),
        ("-1M", None),
        ("+1M", None),
        ("99999999T", None),
        ("1X", None),
    ] {
        assert_eq!(parse_size(text), bytes, "{text}");
    }
}

#[test]
fn dom0_memory() {
    let gib = |n: u64| n << 30;
    assert_eq!(options("").dom0.initial_memory(gib(16)), gib(16) - (128 << 20));
    assert_eq!(options("dom0_mem=512M,max:1G").dom0.initial_memory(gib(16)), 512 << 20);
    assert_eq!(options("dom0_mem=min:2G,max:1G").dom0.initial_memory(gib(16)), gib(1));
    assert_eq!(options("dom0_mem=-1G").dom0.initial_memory(gib(16)), gib(15));
    assert_eq!(options("dom0_mem=1G+25%").dom0.initial_memory(gib(100)), gib(26));
    assert_eq!(options("dom0_mem=64G").dom0.initial_memory(gib(16)), gib(16));
    assert_eq!(problem("dom0_mem=lots"), Problem::BadValue);
    assert_eq!(problem("dom0_mem=100%"), Problem::BadValue);
}

#[test]
fn dom0_vcpus() {
    assert_eq!(options("").dom0.vcpus.resolve(6), 6);
    assert_eq!(options("dom0_max_vcpus=2").dom0.vcpus.resolve(6), 2);
    for (pcpus, vcpus) in [(2, 4), (6, 6), (10, 8)] {
        assert_eq!(options("dom0_max_vcpus=4-8").dom0.vcpus.resolve(pcpus), vcpus);
    }
    assert_eq!(options("dom0_max_vcpus=-8").dom0.vcpus, VcpuRange { min: 1, max: 8 });
    assert_eq!(options("dom0_max_vcpus=4-").dom0.vcpus, VcpuRange { min: 4, max: u32::MAX });
    for bad in ["dom0_max_vcpus=0", "dom0_max_vcpus=8-4", "dom0_max_vcpus", "dom0_max_vcpus=x"] {
        assert_eq!(problem(bad), Problem::BadValue, "{bad}");
    }
}

#[test]
fn serial_ports() {
    let (asked, warnings) = parse("com2=57600/1000000,7e2,0x2f8,3");
    assert!(matches!(warnings[..], [Warning { problem: Problem::Ignored(_), .. }]));
    let port = asked.com2.unwrap();
    assert_eq!(
        (port.baud, port.base_baud, port.io_base, port.irq),
        (Some(57600), Some(1000000), Some(0x2f8), Some(3))
    );
    assert_eq!((port.data_bits, port.parity, port.stop_bits), (7, Parity::Even, 2));
    assert_eq!((port.line_control(), Serial::default().line_control()), (0x1e, 3));
    assert_eq!(options("com1=auto").com1, Some(Serial::default()));
    assert_eq!(problem("com1=0"), Problem::BadValue);
    assert_eq!(problem("com1=9600,9n1"), Problem::BadValue);
}

#[test]
fn modes_methods_and_lists() {
    assert!(options("dom0=pvh,verbose=1").dom0.verbose);
    assert!(matches!(problem("dom0=pv"), Problem::Ignored(_)));
    assert!(options("reboot=no").noreboot);
    assert_eq!(options("reboot=acpi,cold").reboot, RebootMethod::Acpi);
    assert_eq!(options("iommu=no"), options("no-iommu"));
    assert!(options("iommu=force").iommu_required);
    assert!(matches!(problem("iommu=on"), Problem::Ignored(_)));
    assert!(matches!(problem("iommu=verbose"), Problem::Ignored(_)));
    assert!(parse("iommu=force,verbose").0.iommu_required);
    assert_eq!(options("console=none").console, []);
    assert_eq!(options("maxcpus=3").max_cpus, Some(3));
    assert_eq!(options("nosmp").max_cpus, Some(1));
    assert_eq!(options("loglvl=warning/info").loglvl.limited, LogLevel::Info);
    assert_eq!(options("radon-selftest").selftest, Some(SelfTest::Checks));
    assert_eq!(options("radon-selftest=hang").selftest, Some(SelfTest::Hang));
    assert_eq!(options("radon-selftest=panic").selftest, Some(SelfTest::Panic));
    assert_eq!(options("radon-selftest=wait").selftest, Some(SelfTest::Wait));
    assert_eq!(options("watchdog_timeout=9").watchdog_timeout_s, 9);
}

#[test]
fn what_cannot_be_otherwise_warns_only_when_asked_to_be() {
    for fine in [
        "sync_console",
        "bootscrub",
        "bootscrub=idle",
        "cpuidle=0",
        "no-cpuidle",
        "sched=credit2",
        "clocksource=tsc",
    ] {
        assert_eq!(options(fine), Options::default(), "{fine}");
    }
    for not in [
        "no-sync_console",
        "sync_console=0",
        "bootscrub=0",
        "cpuidle",
        "cpuidle=1",
        "sched=null",
        "sched=credit",
        "sched_credit2_max_cpus_runqueue=4",
        "tsc=unstable",
        "ucode=scan",
        "flask=enforcing",
        "vga=text-80x25",
        "reboot=efi",
        "reboot=warm",
    ] {
        assert!(matches!(problem(not), Problem::Ignored(_)), "{not}");
    }
    let (asked, warnings) = parse("console=com2,vga");
    assert_eq!(asked.console, [ConsoleDevice::Com2, ConsoleDevice::Vga]);
    assert_eq!(warnings.len(), 1);
}

#[test]
fn stamps_clocks_and_features() {
    for (line, stamps) in [
        ("console_timestamps", Timestamps::Date),
        ("console_timestamps=yes", Timestamps::Date),
        ("console_timestamps=datems", Timestamps::DateMs),
        ("console_timestamps=boot", Timestamps::Boot),
        ("console_timestamps=raw", Timestamps::Raw),
        ("console_timestamps=none", Timestamps::None),
    ] {
        assert_eq!(options(line).timestamps, stamps, "{line}");
    }
    assert_eq!(problem("console_timestamps=sometimes"), Problem::BadValue);
    assert_eq!(options("clocksource=pit").clocksource, Some(ClockSource::Pit));
    assert_eq!(problem("clocksource=sundial"), Problem::BadValue);
    let change = |feature: &str, on| CpuidChange { feature: feature.to_string(), on };
    assert_eq!(options("cpuid=no-rdrand,avx=0").cpuid, [change("rdrand", false), change("avx", false)]);
    assert_eq!(options("dom0-cpuid=itsc").dom0_cpuid, [change("itsc", true)]);
    assert_eq!(problem("cpuid"), Problem::BadValue);
    assert_eq!(options("conring_size=256k").conring_size, Some(256 << 10));
}

#[test]
fn unknown_and_ignored_options_are_told_apart() {
    assert_eq!(problem("frobnicate=1"), Problem::Unknown);
    assert!(matches!(problem("spec-ctrl=no"), Problem::Ignored(_)));
    assert!(matches!(problem("no-real-mode"), Problem::Ignored(_)));
    assert!(matches!(problem("no-xpti"), Problem::Ignored(_)));
}

#[test]
fn words_after_two_dashes_are_dom0s() {
    let o = options("noreboot -- root=/dev/xvda quiet");
    assert!(o.noreboot);
    assert_eq!(o.dom0_extra, "root=/dev/xvda quiet");
    assert_eq!(options("-- x").dom0_extra, "x");
    assert_eq!(options("noreboot --").dom0_extra, "");
}

const NAMES: &[&str] = &[
    "console",
    "com1",
    "dom0_mem",
    "dom0",
    "dom0_max_vcpus",
    "loglvl",
    "reboot",
    "sched",
    "iommu",
    "maxcpus",
    "smt",
    "mem",
    "conring_size",
    "watchdog",
    "no-iommu",
    "spec-ctrl",
    "nosmp",
];

proptest! {
    #[test]
    fn any_text_is_survived(line in "\\PC{0,200}") {
        let (options, _) = parse(&line);
        let _ = options.dom0.initial_memory(1 << 30);
    }

    #[test]
    fn any_value_is_survived(
        words in proptest::collection::vec((0..NAMES.len(), "[-+0-9a-zA-Z,:/%=]{0,24}"), 0..8),
        available in any::<u64>(),
    ) {
        let line = words.iter().map(|(n, v)| alloc::format!("{}={v} ", NAMES[*n])).collect::<String>();
        let (options, warnings) = parse(&line);
        prop_assert!(warnings.len() <= words.len());
        prop_assert!(options.dom0.initial_memory(available) <= available);
        prop_assert!(options.dom0.vcpus.resolve(4) >= 1);
    }
}
