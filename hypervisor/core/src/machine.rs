//! Facts of the machine found at start-up, and how it ends.

use alloc::string::String;
use alloc::vec::Vec;

use radon_addr::{CpuId, Maddr, Mfn, PAGE_SIZE};
use radon_bootproto::MemRegion;
use radon_hw::{cpu, port};
use radon_svm::Machine as SvmMachine;
use spin::Once;
use xen_abi::sched::SHUTDOWN_POWEROFF;

/// What stays the same for the life of the machine.
pub struct Facts {
    /// The hypervisor's command line.
    pub command_line: String,
    /// The boot loader's memory map.
    pub memory: Vec<MemRegion>,
    /// The same as raw E820 entries.
    pub e820: Vec<[u8; 20]>,
    /// Options of the command line.
    pub options: radon_cmdline::Options,
    /// What SVM offers.
    pub svm: SvmMachine,
    /// ACPI power-management registers, for powering off.
    pub pm1a: Option<u16>,
    /// ACPI reset register (I/O port, value).
    pub reset: Option<(u16, u8)>,
}

static FACTS: Once<Facts> = Once::new();

/// Records the facts, once.
pub fn set(facts: Facts) {
    FACTS.call_once(|| facts);
}

/// The facts; `None` only in host tests that did not set them.
pub fn facts() -> Option<&'static Facts> {
    FACTS.get()
}

/// The hypervisor's command line.
pub fn command_line() -> &'static str {
    facts().map_or("", |f| f.command_line.as_str())
}

/// The machine's memory map as raw E820 entries.
pub fn e820() -> &'static [[u8; 20]] {
    facts().map_or(&[], |f| f.e820.as_slice())
}

/// Is this byte RAM (whoever owns it)?
pub fn is_host_ram(at: Maddr) -> bool {
    facts().is_none_or(|f| {
        f.memory.iter().any(|r| r.kind == radon_bootproto::MemKind::Ram && r.start <= at && at < r.end())
    })
}

/// Is any of these frames RAM (whoever owns it)?
pub fn host_ram_overlaps(first: Mfn, count: u64) -> bool {
    let start = first.maddr().raw();
    let end = start.saturating_add(count.saturating_mul(PAGE_SIZE as u64));
    facts().is_none_or(|f| {
        let mut ram = f.memory.iter().filter(|r| r.kind == radon_bootproto::MemKind::Ram);
        ram.any(|r| r.start.raw() < end && start < r.end().raw())
    })
}

/// Online pCPUs.
pub fn cpus() -> impl Iterator<Item = CpuId> {
    (0..cpu::count() as u32).map(CpuId::new)
}

/// The hardware domain is gone: so is the machine.
pub fn hardware_domain_gone(code: u8) -> ! {
    let noreboot = facts().is_some_and(|f| f.options.noreboot);
    if u32::from(code) == SHUTDOWN_POWEROFF {
        radon_hw::info!("Hardware domain powered off: halting the machine.");
        power_off();
    }
    if noreboot {
        radon_hw::info!("Hardware domain shut down (reason {code}); 'noreboot' set: not rebooting.");
        cpu::halt_forever();
    }
    radon_hw::info!("Hardware domain shut down (reason {code}): rebooting the machine.");
    reboot()
}

/// Powers off as far as a hypervisor without AML can: dom0 normally did it by itself through the PM1a register.
pub fn power_off() -> ! {
    // Sleep type 0 is S5 in QEMU's and most virtual machines' tables; a machine that knows another stays halted.
    const SLP_EN: u16 = 1 << 13;
    if let Some(pm1a) = facts().and_then(|f| f.pm1a) {
        port::out16(pm1a, SLP_EN);
    }
    cpu::halt_forever()
}

/// Resets the machine: ACPI reset register, keyboard controller, PCI reset port.
pub fn reboot() -> ! {
    if let Some((reset, value)) = facts().and_then(|f| f.reset) {
        port::out8(reset, value);
    }
    port::out8(0xcf9, 0x6);
    port::out8(0x64, 0xfe);
    cpu::halt_forever()
}
