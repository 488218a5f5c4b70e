//! `XEN_SYSCTL_physinfo`: the first lines of `xl info`.

use radon_bootproto::MemKind;
use radon_frames::frames;
use radon_hw::{cpu, time};
use radon_policy::Policy;
use xen_abi::sysctl::{
    Sysctl, SysctlPhysinfo, XEN_SYSCTL_PHYSCAP_GNTTAB_V1, XEN_SYSCTL_PHYSCAP_GNTTAB_V2,
    XEN_SYSCTL_PHYSCAP_HAP, XEN_SYSCTL_PHYSCAP_HVM,
};
use zerocopy::FromZeros;

use super::{Result, topology};
use crate::machine;

/// Pages in a byte count, as a shift.
const PAGE_SHIFT: u32 = 12;

/// Fills the record.
pub fn get(op: &mut Sysctl) -> Result {
    let (threads_per_core, cores_per_socket) = topology::shape();
    let nr_cpus = cpu::count() as u32;
    let mut info = SysctlPhysinfo {
        threads_per_core,
        cores_per_socket,
        nr_cpus,
        max_cpu_id: nr_cpus.saturating_sub(1),
        nr_nodes: 1,
        max_node_id: 0,
        cpu_khz: u32::try_from(time::tsc_khz()).unwrap_or(u32::MAX),
        capabilities: XEN_SYSCTL_PHYSCAP_HVM
            | XEN_SYSCTL_PHYSCAP_HAP
            | XEN_SYSCTL_PHYSCAP_GNTTAB_V1
            | XEN_SYSCTL_PHYSCAP_GNTTAB_V2,
        total_pages: total_pages(),
        free_pages: frames().free_pages(),
        outstanding_pages: frames().outstanding_claims(),
        max_mfn: frames().max_mfn().raw().saturating_sub(1),
        ..SysctlPhysinfo::new_zeroed()
    };
    if let Ok(host) = Policy::of_index(1) {
        info.hw_cap.iter_mut().zip(host.features().0).for_each(|(to, from)| *to = from);
    }
    op.set_payload(&info);
    Ok(())
}

/// RAM of the machine, the hypervisor's own included.
pub fn total_pages() -> u64 {
    let ram = |f: &'static machine::Facts| {
        f.memory
            .iter()
            .filter(|r| r.kind == MemKind::Ram)
            .map(|r| r.end().raw().saturating_sub(r.start.raw()))
            .sum()
    };
    machine::facts().map_or(frames().total_pages(), |f| {
        let bytes: u64 = ram(f);
        bytes >> PAGE_SHIFT
    })
}
