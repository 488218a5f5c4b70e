//! `HYPERVISOR_platform_op` (7): what the hardware domain does to the machine: time, CPUs, firmware, sleep.

use radon_addr::{CpuId, Ns};
use radon_hw::{cpu, cpuid, time};
use xen_abi::Errno;
use xen_abi::platform::{
    self as p, PlatformOp, XEN_PCPU_FLAGS_INVALID, XEN_PCPU_FLAGS_ONLINE, XENPF_INTERFACE_VERSION,
    XenpfEnterAcpiSleep, XenpfFirmwareInfo, XenpfPcpuVersion, XenpfPcpuinfo, XenpfSettime32, XenpfSettime64,
};
use zerocopy::IntoBytes;

use super::{Answer, Caller, Continuation, OK, Reply};
use crate::domain::Dying;
use crate::{clock, domains, domctl, machine};

const NS_PER_S: u64 = 1_000_000_000;
/// ACPI S5.
const SOFT_OFF: u32 = 5;

/// `args`: pointer to `struct xen_platform_op`.
pub fn call(caller: &mut Caller<'_>, args: [u64; 6]) -> Reply {
    let [arg, ..] = args;
    let mut op: PlatformOp = caller.read(arg)?;
    if op.interface_version != XENPF_INTERFACE_VERSION {
        return Err(Errno::EACCES);
    }
    caller.require_privilege()?;
    let Some(_lock) = domctl::exclusive() else { return Ok(Answer::Continue(Continuation::SAME)) };
    match op.cmd {
        p::XENPF_SETTIME32 => {
            let t: XenpfSettime32 = op.payload();
            set_time(t.secs.into(), t.nsecs, t.system_time)
        }
        p::XENPF_SETTIME64 => {
            let t: XenpfSettime64 = op.payload();
            if t.mbz != 0 {
                return Err(Errno::EINVAL);
            }
            set_time(t.secs, t.nsecs, t.system_time)
        }
        p::XENPF_GET_CPUINFO => {
            op.set_payload(&cpu_info(op.payload()));
            caller.write(arg, &op)?;
            OK
        }
        p::XENPF_GET_CPU_VERSION => {
            op.set_payload(&cpu_version(op.payload()));
            caller.write(arg, &op)?;
            OK
        }
        p::XENPF_FIRMWARE_INFO => firmware(caller, arg, op),
        p::XENPF_ENTER_ACPI_SLEEP => sleep(&op.payload()),
        // Frequency and idle states are not the hypervisor's business, nor dom0's.
        _ => Err(Errno::ENOSYS),
    }
}

/// The wall clock was `secs`, `nsecs` at that system time; every domain learns of it.
fn set_time(secs: u64, nsecs: u32, system_time: u64) -> Reply {
    let utc = secs.saturating_mul(NS_PER_S).saturating_add(nsecs.into());
    time::set_wall_clock(utc, Ns::new(system_time));
    // The toolstack's lock is held: none of these can lose its page meanwhile.
    for domain in domains::all().iter().filter(|d| d.dying() == Dying::No) {
        clock::publish_wall_clock(domain);
    }
    OK
}

fn last_cpu() -> u32 {
    (cpu::count() as u32).saturating_sub(1)
}

/// APIC id and state of one pCPU.
fn cpu_info(mut info: XenpfPcpuinfo) -> XenpfPcpuinfo {
    info.max_present = last_cpu();
    match known(info.xen_cpuid).and_then(cpu::apic_id) {
        Some(apic_id) => {
            info.apic_id = apic_id;
            // The MADT numbers processors as it likes; dom0 gets one of its own, numbered by vCPU.
            info.acpi_id = info.xen_cpuid;
            info.flags = XEN_PCPU_FLAGS_ONLINE;
        }
        None => info.flags = XEN_PCPU_FLAGS_INVALID,
    }
    info
}

fn known(id: u32) -> Option<CpuId> {
    ((id as usize) < cpu::count()).then(|| CpuId::new(id))
}

/// Vendor, family, model and stepping of one pCPU; all are alike.
fn cpu_version(mut v: XenpfPcpuVersion) -> XenpfPcpuVersion {
    v.max_present = last_cpu();
    (v.vendor_id, v.family, v.model, v.stepping) = match known(v.xen_cpuid) {
        Some(_) => {
            let (vendor, signature) = (cpuid::leaf(0, 0), cpuid::leaf(1, 0).eax);
            let mut name = [0; 12];
            name.copy_from_slice([vendor.ebx, vendor.edx, vendor.ecx].as_bytes());
            let (family, model, stepping) = identify(signature);
            (name, family, model, stepping)
        }
        None => ([0; 12], 0, 0, 0),
    };
    v
}

/// Family, model and stepping from leaf 1 EAX (APM vol. 3, E.3.2).
fn identify(signature: u32) -> (u32, u32, u32) {
    let base = signature >> 8 & 0xf;
    let family = if base == 0xf { base + (signature >> 20 & 0xff) } else { base };
    let model = signature >> 4 & 0xf | if base >= 6 { signature >> 12 & 0xf0 } else { 0 };
    (family, model, signature & 0xf)
}

/// What the BIOS left: no disk or display data was collected, and there is no EFI.
fn firmware(caller: &Caller<'_>, arg: u64, mut op: PlatformOp) -> Reply {
    let mut info: XenpfFirmwareInfo = op.payload();
    match info.kind {
        p::XEN_FW_DISK_INFO | p::XEN_FW_DISK_MBR_SIGNATURE | p::XEN_FW_VBEDDC_INFO => Err(Errno::ESRCH),
        p::XEN_FW_EFI_INFO => Err(Errno::ENOSYS),
        p::XEN_FW_KBD_SHIFT_FLAGS => {
            info.u = [0; 32];
            op.set_payload(&info);
            caller.write(arg, &op)?;
            OK
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Only power-off: a machine that comes back from sleep is not supported.
fn sleep(s: &XenpfEnterAcpiSleep) -> Reply {
    if s.sleep_state != SOFT_OFF || s.flags != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    radon_hw::info!("Hardware domain powers the machine off");
    machine::enter_sleep(s.val_a, s.val_b);
    // Should that not have done it: with what the tables say.
    machine::power_off()
}

#[cfg(test)]
mod tests {
    use super::identify;

    #[test]
    fn signatures() {
        assert_eq!(identify(0x0080_0f12), (0x17, 1, 2)); // EPYC (Naples)
        assert_eq!(identify(0x0005_0654), (6, 0x55, 4));
        assert_eq!(identify(0x0000_0543), (5, 4, 3));
    }
}
