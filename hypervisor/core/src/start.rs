//! From the boot CPU's start-up code to the first vCPU.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use radon_acpi::{PhysReader, Tables};
use radon_bootproto::{BootInfo, MemKind};
use radon_cmdline::{CpuidChange, Options};
use radon_hw::{cpu, error, info, ipi, irq, svm};
use radon_svm::Machine;
use xen_abi::sysctl::{XEN_SYSCTL_SCHED_RATELIMIT_MAX, XEN_SYSCTL_SCHED_RATELIMIT_MIN};

use crate::{create, dom0, low_memory, machine, run};

/// What the start-up code hands over: the machine is mapped, its frames allocatable, all pCPUs up.
pub struct Handover<'a> {
    /// Boot loader's information.
    pub boot: BootInfo,
    /// Command line.
    pub options: Options,
    /// ACPI tables and how to read them.
    pub acpi: Option<(&'a Tables, &'a dyn PhysReader)>,
    /// Machine ranges (start, end) that the hypervisor keeps and that lie in RAM.
    pub taken: Vec<(u64, u64)>,
}

/// Set once dom0 is ready: the other pCPUs enter their loops.
static READY: AtomicBool = AtomicBool::new(false);

/// The boot CPU's way into its loop.
pub fn start(handover: Handover<'_>) -> ! {
    let facts = facts(&handover);
    machine::set(facts);
    if handover.options.iommu_required {
        fail("iommu=force: Radon does not use IOMMUs yet, and was told not to start without one");
    }
    if let Err(e) = enable_virtualisation() {
        fail(&alloc::format!("this machine cannot run guests: {e}"));
    }
    configure_scheduler(&handover.options);
    configure_policies(&handover.options);
    for cpu in machine::cpus() {
        run::SCHEDULER.lock().add_cpu(cpu);
    }
    irq::set_handler(irq::VECTOR_TIMER, |_| {});
    let input = dom0::Input {
        boot: &handover.boot,
        options: &handover.options,
        acpi: handover.acpi,
        taken: &handover.taken,
    };
    if let Err(e) = dom0::build(&input) {
        fail(&alloc::format!("cannot build dom0: {}", e.0));
    }
    low_memory::set_limit(handover.options.low_mem_virq_limit);
    info!("*** Serial input to dom0; {} pCPUs run ***", cpu::count());
    READY.store(true, Ordering::Release);
    machine::cpus().filter(|&c| c != cpu::this()).for_each(ipi::kick);
    run::cpu_loop()
}

/// The way of every other pCPU, after its own start-up. `woken` is called after each interrupt until dom0 is ready.
pub fn start_secondary(woken: fn()) -> ! {
    while !READY.load(Ordering::Acquire) {
        cpu::halt_until_interrupt();
        woken();
    }
    if let Err(e) = enable_virtualisation() {
        fail(&alloc::format!("pCPU {} cannot run guests: {e}", cpu::this().raw()));
    }
    run::cpu_loop()
}

/// The scheduler's options; values that Xen's interface refuses are refused here, too.
fn configure_scheduler(options: &Options) {
    let wanted = options.credit2;
    let mut scheduler = run::SCHEDULER.lock();
    let limits = XEN_SYSCTL_SCHED_RATELIMIT_MIN..=XEN_SYSCTL_SCHED_RATELIMIT_MAX;
    if wanted.ratelimit_us == 0 || limits.contains(&wanted.ratelimit_us) {
        scheduler.set_ratelimit_us(wanted.ratelimit_us);
    } else {
        radon_hw::warn!("sched_ratelimit_us={}: not in {limits:?}, ignored", wanted.ratelimit_us);
    }
    scheduler.set_migrate_resist_us(wanted.migrate_resist_us);
    scheduler.set_cap_period_ms(wanted.cap_period_ms);
}

/// `cpuid=` and `dom0-cpuid=`.
fn configure_policies(options: &Options) {
    let known = |list: &[CpuidChange], adding: bool| -> Vec<(u32, bool)> {
        let change = |c: &CpuidChange| match radon_policy::feature(&c.feature) {
            Some(_) if c.on && !adding => {
                radon_hw::warn!("cpuid={}: only removing a feature is possible", c.feature);
                None
            }
            Some(feature) => Some((feature, c.on)),
            None => {
                radon_hw::warn!("command line: no CPU feature \"{}\"", c.feature);
                None
            }
        };
        list.iter().filter_map(change).collect()
    };
    if !radon_policy::change(&known(&options.cpuid, false), &known(&options.dom0_cpuid, true)) {
        radon_hw::warn!("cpuid: too late to change anything");
    }
}

fn fail(why: &str) -> ! {
    error!("{why}");
    error!("Radon stops here.");
    cpu::halt_forever()
}

fn enable_virtualisation() -> Result<(), &'static str> {
    let hsave = create::heap_frames(0).map_err(|_| "no memory")?;
    let host_vmcb = create::heap_frames(0).map_err(|_| "no memory")?;
    svm::enable_this_cpu(hsave, host_vmcb).map_err(|e| match e {
        svm::SvmError::Absent => {
            "its processor has no SVM (AMD-V), or it is hidden: enable nested virtualisation"
        }
        svm::SvmError::Disabled => "SVM is switched off in the firmware set-up",
    })
}

fn facts(handover: &Handover<'_>) -> machine::Facts {
    let fadt = handover.acpi.and_then(|(t, r)| t.fadt(&r).ok().flatten());
    let e820 = handover.boot.memory.iter().map(|r| {
        let mut e = [0u8; 20];
        let kind: u32 = match r.kind {
            MemKind::Ram => 1,
            MemKind::AcpiReclaim => 3,
            MemKind::AcpiNvs => 4,
            MemKind::Unusable => 5,
            _ => 2,
        };
        e[..8].copy_from_slice(&r.start.raw().to_le_bytes());
        e[8..16].copy_from_slice(&r.len.to_le_bytes());
        e[16..].copy_from_slice(&kind.to_le_bytes());
        e
    });
    machine::Facts {
        command_line: handover.boot.cmdline.to_string(),
        memory: handover.boot.memory.clone(),
        e820: e820.collect(),
        options: handover.options.clone(),
        svm: Machine::detect(),
        pm1a: fadt.as_ref().and_then(|f| f.pm1a_control).and_then(|r| r.port()),
        pm1b: fadt.as_ref().and_then(|f| f.pm1b_control).and_then(|r| r.port()),
        soft_off: handover.acpi.and_then(|(t, r)| t.soft_off(&r)),
        reset: fadt.as_ref().and_then(|f| f.reset).and_then(|(r, v)| r.port().map(|p| (p, v))),
    }
}
