//! Facts of the machine found at start-up, and how it ends.

use alloc::string::String;
use alloc::vec::Vec;

use radon_addr::{CpuId, Maddr, Mfn, PAGE_SIZE};
use radon_bootproto::MemRegion;
use radon_cmdline::RebootMethod;
use radon_hw::{cpu, port, time};
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
    /// ACPI power-management control registers, for powering off.
    pub pm1a: Option<u16>,
    /// The second, where there is one.
    pub pm1b: Option<u16>,
    /// Sleep types of `_S5` for the two registers.
    pub soft_off: Option<(u8, u8)>,
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

/// Sleep enable bit and place of the sleep type in a PM1 control register (ACPI 6.4, 4.8.3.2.1).
const SLEEP_ENABLE: u16 = 1 << 13;
const SLEEP_TYPE_SHIFT: u32 = 10;

/// Writes the sleep registers. `a`, `b`: values with the sleep type in place, as dom0's AML found them.
pub fn enter_sleep(a: u16, b: u16) {
    let Some(facts) = facts() else { return };
    for (register, value) in [(facts.pm1a, a), (facts.pm1b, b)] {
        if let Some(register) = register {
            port::out16(register, value | SLEEP_ENABLE);
        }
    }
}

/// Powers off with the sleep type of the tables' `_S5`: for a dom0 that did not do it by itself.
pub fn power_off() -> ! {
    match facts().and_then(|f| f.soft_off) {
        Some((a, b)) => {
            enter_sleep(u16::from(a & 7) << SLEEP_TYPE_SHIFT, u16::from(b & 7) << SLEEP_TYPE_SHIFT);
        }
        None => {
            radon_hw::warn!("The machine's tables do not say how to power it off: switch it off by hand.")
        }
    }
    cpu::halt_forever()
}

/// Resets the machine: first by the method that the command line names, then by the others.
pub fn reboot() -> ! {
    let method = facts().map_or(RebootMethod::Default, |f| f.options.reboot);
    for step in steps(method) {
        match step {
            RebootMethod::Default | RebootMethod::Acpi => {
                if let Some((reset, value)) = facts().and_then(|f| f.reset) {
                    port::out8(reset, value);
                }
            }
            RebootMethod::Pci => radon_hw::reset::pci(false),
            RebootMethod::Power => radon_hw::reset::pci(true),
            RebootMethod::Keyboard => radon_hw::reset::keyboard(),
            RebootMethod::Triple => radon_hw::reset::triple_fault(),
        }
        time::busy_wait(RESET_NS);
    }
    cpu::halt_forever()
}

/// How long a reset may take to come.
const RESET_NS: u64 = 100_000_000;

/// What to try, in order.
fn steps(method: RebootMethod) -> [RebootMethod; 4] {
    use RebootMethod::{Acpi, Default, Keyboard, Pci, Power, Triple};
    match method {
        Default | Acpi => [Acpi, Pci, Keyboard, Triple],
        Pci => [Pci, Acpi, Keyboard, Triple],
        Power => [Power, Acpi, Keyboard, Triple],
        Keyboard => [Keyboard, Acpi, Pci, Triple],
        Triple => [Triple; 4],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wanted_way_comes_first_and_the_sure_one_last() {
        use RebootMethod::{Acpi, Default, Keyboard, Pci, Power, Triple};
        assert_eq!(steps(Default)[0], Acpi);
        for method in [Acpi, Pci, Power, Keyboard, Triple] {
            assert_eq!((steps(method)[0], steps(method)[3]), (method, Triple));
        }
    }
}
