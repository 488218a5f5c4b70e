//! The boots of whole systems: machines of several shapes, and what runs on them.

use crate::packages::Kernel;
use crate::store::Store;

/// One boot.
pub struct Boot {
    pub name: &'static str,
    /// CPUs of the machine.
    pub cpus: u32,
    /// vCPUs of dom0.
    pub dom0_cpus: u32,
    /// vCPUs of the scenarios' guests.
    pub guest_cpus: u32,
    /// Scenarios of `tests/system`, in order.
    pub scenarios: &'static [&'static str],
    pub medium: Medium,
    /// Linux in dom0 and guests.
    pub kernel: Kernel,
    /// The store in dom0, if not the one that was asked for.
    pub store: Store,
    /// Further arguments of the hypervisor.
    pub xen_args: &'static str,
    /// Further arguments of dom0's kernel.
    pub dom0_args: &'static str,
    /// Further arguments of the emulator.
    pub qemu: &'static [&'static str],
    /// With disks and a network card for dom0.
    pub devices: bool,
    /// With an XFS on a disk (`/dev/nvme0n1` in dom0). The scenario ends with the plug being pulled; then this one runs in a second
    /// machine, on the same disk.
    pub after: Option<&'static str>,
}

/// Who loads the hypervisor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// The emulator itself, by Multiboot 1.
    Direct,
    /// GRUB from a CD, by Multiboot 2, started by the BIOS.
    BiosCd,
    /// The same, started by UEFI.
    UefiCd,
}

/// What most boots are.
const PLAIN: Boot = Boot {
    name: "",
    cpus: 1,
    dom0_cpus: 1,
    guest_cpus: 1,
    scenarios: &[],
    medium: Medium::Direct,
    kernel: Kernel::Own,
    store: Store::Xenstored,
    xen_args: "",
    dom0_args: "",
    qemu: &[],
    devices: false,
    after: None,
};

/// The shapes: dom0 and guests with one and with two vCPUs, on one, two and four pCPUs.
pub const BOOTS: &[Boot] = &[
    Boot {
        name: "2cpu",
        cpus: 2,
        dom0_cpus: 2,
        scenarios: &["first-light", "host", "resources", "block", "network", "smp", "pools"],
        ..PLAIN
    },
    Boot {
        name: "store",
        cpus: 2,
        dom0_cpus: 2,
        scenarios: &["first-light", "store", "block", "network", "lifecycle"],
        store: Store::Radon,
        ..PLAIN
    },
    Boot { name: "lifecycle", scenarios: &["lifecycle"], ..PLAIN },
    Boot { name: "domains", scenarios: &["domains"], ..PLAIN },
    Boot { name: "domains-killed", scenarios: &["domains-killed"], ..PLAIN },
    Boot { name: "domains-killed-guest", scenarios: &["domains-killed-guest"], ..PLAIN },
    Boot { name: "many", cpus: 2, dom0_cpus: 2, scenarios: &["many"], ..PLAIN },
    Boot { name: "networks", scenarios: &["networks"], ..PLAIN },
    Boot { name: "consoles", scenarios: &["consoles"], ..PLAIN },
    Boot {
        name: "block",
        cpus: 2,
        dom0_cpus: 2,
        scenarios: &["own-block"],
        after: Some("own-block-after"),
        ..PLAIN
    },
    Boot { name: "1cpu", scenarios: &["first-light", "network"], ..PLAIN },
    Boot {
        name: "4cpu",
        cpus: 4,
        dom0_cpus: 2,
        guest_cpus: 2,
        scenarios: &["first-light", "block"],
        ..PLAIN
    },
    Boot { name: "32-vcpus", cpus: 2, dom0_cpus: 2, guest_cpus: 32, scenarios: &["first-light"], ..PLAIN },
    Boot { name: "dom0-1vcpu", cpus: 2, guest_cpus: 2, scenarios: &["first-light", "network"], ..PLAIN },
    Boot {
        name: "options",
        cpus: 2,
        dom0_cpus: 2,
        scenarios: &["options"],
        // The scenario knows these.
        xen_args: "dom0_mem=1024M,max:1100M dom0_vcpus_pin dom0=msr-relaxed cpuid=no-rdrand,no-nonsense \
                   dom0-cpuid=no-aesni xsave=no sched_ratelimit_us=2000 console_timestamps=boot console_to_ring \
                   conring_size=256k low_mem_virq_limit=1024M watchdog watchdog_timeout=60 ucode=scan \
                   frobnicate -- radon.extra=yes",
        dom0_args: "swiotlb=force",
        qemu: &["-cpu", "EPYC,+svm,+npt,-rdtscp,-monitor,-cx16"],
        ..PLAIN
    },
    // Minutes: libxc asks for each of 983040 frames, and nearly all of the time is Linux's in dom0.
    Boot { name: "dump-core", scenarios: &["dump-core"], ..PLAIN },
    Boot {
        name: "devices",
        cpus: 2,
        dom0_cpus: 2,
        scenarios: &["devices"],
        dom0_args: "swiotlb=force",
        devices: true,
        ..PLAIN
    },
    Boot {
        name: "linux-6.12",
        cpus: 2,
        dom0_cpus: 2,
        guest_cpus: 2,
        scenarios: &["first-light", "block", "network"],
        kernel: Kernel::Backports,
        ..PLAIN
    },
    Boot { name: "i386", cpus: 2, guest_cpus: 2, scenarios: &["i386"], ..PLAIN },
    Boot { name: "grub-bios", scenarios: &["first-light"], medium: Medium::BiosCd, ..PLAIN },
    Boot { name: "grub-uefi", scenarios: &["first-light"], medium: Medium::UefiCd, ..PLAIN },
];
