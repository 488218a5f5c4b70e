//! Where CPUs, memory and devices are: sockets, cores, the one node.

use radon_addr::CpuId;
use radon_frames::frames;
use radon_hw::{cpu, cpuid};
use xen_abi::Errno;
use xen_abi::physdev::PhysdevPciDevice;
use xen_abi::sysctl::{
    Sysctl, SysctlCputopo, SysctlCputopoinfo, SysctlMeminfo, SysctlNumainfo, SysctlPcitopoinfo,
    XEN_INVALID_NODE_ID,
};

use super::Result;
use super::physinfo::total_pages;
use crate::hypercall::Caller;
use crate::machine;

/// Distance of a node to itself (ACPI SLIT).
const LOCAL_DISTANCE: u32 = 10;
/// Devices in one call.
const MOST_DEVICES: u32 = 65536;
const PAGE_SIZE: u64 = 4096;

/// How APIC ids are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Division {
    /// Low bits that number the threads of a socket.
    socket_bits: u32,
    /// Threads of a core.
    threads: u32,
}

impl Division {
    /// From AMD's leaves 8000_0008 and 8000_001e (APM vol. 3, E.4.7 and E.4.17).
    fn detect() -> Division {
        let max = cpuid::leaf(0x8000_0000, 0).eax;
        if max >> 16 != 0x8000 || max < 0x8000_0008 {
            return Division { socket_bits: 0, threads: 1 };
        }
        let sizes = cpuid::leaf(0x8000_0008, 0).ecx;
        let has_topology = cpuid::leaf(0x8000_0001, 0).ecx & (1 << 22) != 0 && max >= 0x8000_001e;
        let threads = if has_topology { (cpuid::leaf(0x8000_001e, 0).ebx >> 8 & 0xff) + 1 } else { 1 };
        Division::from_registers(sizes, threads)
    }

    /// From leaf 8000_0008 ECX: bits 15:12 the number of bits, bits 7:0 the number of threads less one.
    fn from_registers(sizes: u32, threads: u32) -> Division {
        let socket_bits = match sizes >> 12 & 0xf {
            0 => ((sizes & 0xff) + 1).next_power_of_two().trailing_zeros(),
            n => n,
        };
        Division { socket_bits, threads }
    }

    /// (core within the socket, socket) of an APIC id.
    fn place(self, apic_id: u32) -> (u32, u32) {
        let socket = apic_id.checked_shr(self.socket_bits).unwrap_or(0);
        let within = apic_id & !(u32::MAX.checked_shl(self.socket_bits).unwrap_or(0));
        (within.checked_div(self.threads).unwrap_or(within), socket)
    }
}

fn place(division: Division, cpu: CpuId) -> (u32, u32) {
    division.place(cpu::apic_id(cpu).unwrap_or(cpu.raw()))
}

/// Online threads of the first CPU's core, and online cores of its socket.
pub fn shape() -> (u32, u32) {
    let division = Division::detect();
    let (core, socket) = place(division, CpuId::new(0));
    let in_socket = || machine::cpus().map(|c| place(division, c)).filter(|p| p.1 == socket);
    let threads = (in_socket().filter(|p| p.0 == core).count() as u32).max(1);
    let all = (in_socket().count() as u32).max(1);
    (threads, (all / threads).max(1))
}

/// `XEN_SYSCTL_cputopoinfo`: a null array asks for the number.
pub fn cpus(caller: &Caller<'_>, op: &mut Sysctl) -> Result {
    let mut info: SysctlCputopoinfo = op.payload();
    let mut count = cpu::count() as u32;
    if !info.cputopo.is_null() {
        count = count.min(info.num_cpus);
        let division = Division::detect();
        for i in 0..count {
            let (core, socket) = place(division, CpuId::new(i));
            let at = caller.element::<SysctlCputopo>(info.cputopo.raw(), i.into())?;
            caller.write(at, &SysctlCputopo { core, socket, node: 0 })?;
        }
    }
    info.num_cpus = count;
    op.set_payload(&info);
    Ok(())
}

/// `XEN_SYSCTL_numainfo`: null arrays ask for the number.
pub fn nodes(caller: &Caller<'_>, op: &mut Sysctl) -> Result {
    let mut info: SysctlNumainfo = op.payload();
    let asked = !info.meminfo.is_null() || !info.distance.is_null();
    let count = if asked { info.num_nodes.min(1) } else { 1 };
    if count == 1 && !info.meminfo.is_null() {
        let memory = SysctlMeminfo {
            memsize: total_pages().saturating_mul(PAGE_SIZE),
            memfree: frames().free_pages().saturating_mul(PAGE_SIZE),
        };
        caller.write(info.meminfo.raw(), &memory)?;
    }
    if count == 1 && !info.distance.is_null() {
        caller.write(info.distance.raw(), &LOCAL_DISTANCE)?;
    }
    info.num_nodes = count;
    op.set_payload(&info);
    Ok(())
}

/// `XEN_SYSCTL_pcitopoinfo`: no device is nearer to one node than to another.
pub fn pci_devices(caller: &Caller<'_>, op: &mut Sysctl) -> Result {
    let info: SysctlPcitopoinfo = op.payload();
    if info.devs.is_null() || info.nodes.is_null() || info.num_devs > MOST_DEVICES {
        return Err(Errno::EINVAL);
    }
    for i in 0..u64::from(info.num_devs) {
        let _: PhysdevPciDevice = caller.read(caller.element::<PhysdevPciDevice>(info.devs.raw(), i)?)?;
        caller.write(caller.element::<u32>(info.nodes.raw(), i)?, &XEN_INVALID_NODE_ID)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apic_ids_are_divided() {
        // 16 threads of 8 cores, 4 bits.
        let d = Division::from_registers(0x400f, 2);
        assert_eq!(d, Division { socket_bits: 4, threads: 2 });
        assert_eq!(
            [0, 1, 2, 15, 16, 19].map(|id| d.place(id)),
            [(0, 0), (0, 0), (1, 0), (7, 0), (0, 1), (1, 1)]
        );
        // Number of bits from the number of threads: 6 need 3.
        assert_eq!(Division::from_registers(5, 1).socket_bits, 3);
        let one = Division::from_registers(0, 1);
        assert_eq!([0, 1, 7].map(|id| one.place(id)), [(0, 0), (0, 1), (0, 7)]);
    }
}
