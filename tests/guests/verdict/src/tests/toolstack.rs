//! What the tools ask: domctls and sysctls, HVM parameters, saved state.

use crate::services;
use harness::domain::{self, Child, Config, create_bare, create_empty};
use harness::hypercall::*;
use harness::{Page, Verdict, ensure, ensure_eq, tests, time};
use xen_abi::domctl::*;
use xen_abi::hvm_op::*;
use xen_abi::hvm_save::*;
use xen_abi::sysctl::*;
use xen_abi::xen::DOMID_SELF;
use xen_abi::{Errno, Handle};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

tests! {
    here: domctl_version_is_checked, domctl_unknown_is_enosys, domctl_unknown_domain_is_esrch, domctl_bad_pointer,
        getdomaininfo_fields, getdomaininfo_gives_the_next, getdomaininfolist_in_order, max_vcpus_refuses,
        getvcpuinfo_fields, vcpu_affinity, hvm_context_round_trip, hvm_context_registers, hvm_context_refuses,
        hvm_params, hvm_params_set_once, scheduler_params, sysctl_version_is_checked, sysctl_physinfo, sysctl_topology,
        sysctl_sched_id, sysctl_cpupool, sysctl_console_ring, sysctl_cpu_featureset, cpu_policy, tsc_info,
        physdev_child_may_not, paging_pool, domain_handle;
}

/// Another interface version is -EACCES.
fn domctl_version_is_checked() -> Verdict {
    for version in [0, XEN_DOMCTL_INTERFACE_VERSION - 1, XEN_DOMCTL_INTERFACE_VERSION + 1, u32::MAX] {
        let mut info = DomctlGetdomaininfo::new_zeroed();
        let ret = domctl_version(version, XEN_DOMCTL_GETDOMAININFO, 0, &mut info);
        ensure_eq!(ret, Err(Errno::EACCES), "version {version:#x}");
    }
    Ok(())
}

/// An unknown operation on a domain is -ENOSYS.
fn domctl_unknown_is_enosys() -> Verdict {
    let domid = create_bare(&Config::default())?;
    for command in [500, 9999] {
        ensure_eq!(domctl_plain(command, domid), Err(Errno::ENOSYS), "domctl {command}");
    }
    domain::destroy(domid)
}

/// Operations on domains that do not exist are -ESRCH.
fn domctl_unknown_domain_is_esrch() -> Verdict {
    for command in
        [XEN_DOMCTL_PAUSEDOMAIN, XEN_DOMCTL_UNPAUSEDOMAIN, XEN_DOMCTL_MAX_MEM, XEN_DOMCTL_MAX_VCPUS]
    {
        ensure_eq!(domctl_plain(command, 0x1234), Err(Errno::ESRCH), "domctl {command}");
    }
    Ok(())
}

/// An argument in unmapped memory is -EFAULT.
fn domctl_bad_pointer() -> Verdict {
    use xen_abi::hypercall::*;
    for number in [HYPERVISOR_DOMCTL, HYPERVISOR_SYSCTL, HYPERVISOR_PLATFORM_OP] {
        let ret = raw(u64::from(number), [super::hypercalls::UNMAPPED, 0, 0, 0, 0]);
        ensure_eq!(ret, Errno::EFAULT.to_ret(), "hypercall {number}");
    }
    Ok(())
}

/// A new domain's information is as it was created.
fn getdomaininfo_fields() -> Verdict {
    let domid = create_empty(&Config { vcpus: 3, pages: 512, ..Config::default() })?;
    let info = domain::info(domid)?;
    ensure_eq!((info.tot_pages, info.max_pages), (512, 768), "pages");
    ensure_eq!((info.max_vcpu_id, info.nr_online_vcpus), (2, 0), "highest vCPU, vCPUs online");
    ensure_eq!(info.handle, *b"verdict-guest-16", "handle");
    ensure_eq!(info.cpupool, 0, "CPU pool");
    let wanted = XEN_DOMINF_HVM_GUEST | XEN_DOMINF_HAP | XEN_DOMINF_PAUSED;
    ensure_eq!(info.flags & (wanted | XEN_DOMINF_DYING | XEN_DOMINF_SHUTDOWN), wanted, "flags");
    ensure_eq!(info.arch_config.emulation_flags, XEN_X86_EMU_LAPIC, "emulation flags");
    ensure!((32..=52).contains(&info.gpaddr_bits), "{} address bits", info.gpaddr_bits);
    domain::destroy(domid)
}

/// For an id without a domain the next domain is described; beyond the last it is -ESRCH.
fn getdomaininfo_gives_the_next() -> Verdict {
    let domid = create_bare(&Config::default())?;
    let mut info = DomctlGetdomaininfo::new_zeroed();
    ensure_eq!(domctl(XEN_DOMCTL_GETDOMAININFO, 1, &mut info)?, domid, "domain after id 1");
    ensure_eq!(info.domain, domid, "domain in the information");
    let beyond = domctl(XEN_DOMCTL_GETDOMAININFO, domid + 1, &mut info);
    ensure_eq!(beyond, Err(Errno::ESRCH), "beyond the last domain");
    domain::destroy(domid)
}

/// The list has all domains in order, from the first asked for, as many as fit.
fn getdomaininfolist_in_order() -> Verdict {
    let (first, second) = (create_bare(&Config::default())?, create_bare(&Config::default())?);
    let mut infos = [DomctlGetdomaininfo::new_zeroed(); 8];
    let mut list = |first_domain: u16, max_domains: u32| {
        let mut op = SysctlGetdomaininfolist {
            first_domain,
            max_domains,
            buffer: handle(&mut infos),
            ..SysctlGetdomaininfolist::new_zeroed()
        };
        sysctl(XEN_SYSCTL_GETDOMAININFOLIST, &mut op)?;
        Ok::<_, Errno>(
            infos[..op.num_domains as usize].iter().map(|i| i.domain).collect::<alloc::vec::Vec<_>>(),
        )
    };
    let mut ids = [first, second];
    ids.sort_unstable();
    ensure_eq!(list(0, 8)?, [0, ids[0], ids[1]], "all domains");
    ensure_eq!(list(1, 8)?, ids, "domains from 1");
    ensure_eq!(list(0, 2)?, [0, ids[0]], "two domains");
    ensure_eq!(list(ids[1] + 1, 8)?, [], "domains beyond the last");
    domain::destroy(first)?;
    domain::destroy(second)
}

/// vCPUs as created only, neither none nor more.
fn max_vcpus_refuses() -> Verdict {
    let domid = create_bare(&Config { vcpus: 2, ..Config::default() })?;
    let max = |max| domctl(XEN_DOMCTL_MAX_VCPUS, domid, &mut DomctlMaxVcpus { max }).map(|_| ());
    ensure_eq!(max(0), Err(Errno::EINVAL), "no vCPU");
    ensure_eq!(max(3), Err(Errno::EINVAL), "three vCPUs");
    ensure_eq!(max(2), Ok(()), "two vCPUs");
    domain::destroy(domid)
}

/// Information on vCPUs: online, time used, where.
fn getvcpuinfo_fields() -> Verdict {
    let child = Child::serving()?;
    child.call(services::spin, [20, 0, 0, 0, 0, 0])?;
    let get = |vcpu| {
        let mut op = DomctlGetvcpuinfo { vcpu, ..DomctlGetvcpuinfo::new_zeroed() };
        domctl(XEN_DOMCTL_GETVCPUINFO, child.domid, &mut op).map(|_| op)
    };
    let info = get(0)?;
    ensure_eq!(info.online, 1, "online");
    ensure!(info.cpu_time > 10_000_000, "{} ns of processor time", info.cpu_time);
    let nr_cpus = super::memory::physinfo()?.nr_cpus;
    ensure!(info.cpu < nr_cpus, "on CPU {} of {nr_cpus}", info.cpu);
    ensure_eq!(get(1).map(|_| ()), Err(Errno::EINVAL), "vCPU 1");
    ensure!(child.info()?.cpu_time >= info.cpu_time, "the domain used less time than its vCPU");
    child.destroy()
}

/// Hard and soft affinity are kept; one without CPUs is refused.
fn vcpu_affinity() -> Verdict {
    let domid = create_empty(&Config { pages: 512, ..Config::default() })?;
    let (mut hard, mut soft) = ([1_u8, 0], [0xff_u8, 0]);
    let mut op = DomctlVcpuaffinity {
        flags: XEN_VCPUAFFINITY_HARD | XEN_VCPUAFFINITY_SOFT,
        ..DomctlVcpuaffinity::new_zeroed()
    };
    op.cpumap_hard.bitmap = handle(&mut hard);
    op.cpumap_hard.nr_bits = 16;
    op.cpumap_soft.bitmap = handle(&mut soft);
    op.cpumap_soft.nr_bits = 16;
    domctl(XEN_DOMCTL_SETVCPUAFFINITY, domid, &mut op)?;
    hard = [0, 0];
    op.cpumap_hard.bitmap = handle(&mut hard);
    domctl(XEN_DOMCTL_GETVCPUAFFINITY, domid, &mut op)?;
    ensure_eq!(hard[0] & 1, 1, "hard affinity");
    hard = [0, 0];
    op.cpumap_hard.bitmap = handle(&mut hard);
    op.flags = XEN_VCPUAFFINITY_HARD;
    let none = domctl(XEN_DOMCTL_SETVCPUAFFINITY, domid, &mut op);
    ensure_eq!(none.map(|_| ()), Err(Errno::EINVAL), "hard affinity without CPUs");
    domain::destroy(domid)
}

/// A saved state holds the records of a PVH domain, and is accepted back.
fn hvm_context_round_trip() -> Verdict {
    let child = Child::serving()?;
    child.call(services::add, [0; 6])?;
    child.pause()?;
    let context = domain::get_context(child.domid)?;
    let header = domain::record(&context, HVM_SAVE_CODE_HEADER, 0);
    let header = HvmSaveHeader::read_from_bytes(header.unwrap_or_default()).ok();
    ensure_eq!(header.map(|h| (h.magic, h.version)), Some((HVM_FILE_MAGIC, HVM_FILE_VERSION)), "header");
    for (name, code) in [
        ("CPU", HVM_SAVE_CODE_CPU),
        ("LAPIC", HVM_SAVE_CODE_LAPIC),
        ("LAPIC_REGS", HVM_SAVE_CODE_LAPIC_REGS),
        ("MTRR", HVM_SAVE_CODE_MTRR),
    ] {
        ensure!(domain::record(&context, code, 0).is_some(), "no {name} record");
    }
    let mut copy = context.clone();
    let mut op = DomctlHvmcontext {
        size: copy.len() as u32,
        buffer: handle(&mut copy),
        ..DomctlHvmcontext::new_zeroed()
    };
    domctl(XEN_DOMCTL_SETHVMCONTEXT, child.domid, &mut op)?;
    child.unpause()?;
    ensure_eq!(child.call(services::add, [1, 2, 0, 0, 0, 0])?, 3, "answer after the state was set");
    child.destroy()
}

/// The registers that are set are the ones a domain has.
fn hvm_context_registers() -> Verdict {
    let child = domain::create(&Config::default(), "")?;
    let context = domain::get_context(child.domid)?;
    let cpu = domain::record(&context, HVM_SAVE_CODE_CPU, 0).and_then(|r| HvmHwCpu::read_from_bytes(r).ok());
    let wanted = domain::start_registers(harness::boot::image().entry);
    let key = |c: HvmHwCpu| (c.rip, c.rbx, c.cr0, c.cs_arbytes, c.ss_limit);
    ensure_eq!(cpu.map(key), Some(key(wanted)), "registers");
    child.destroy()
}

/// States that are cut short or of another kind are refused.
fn hvm_context_refuses() -> Verdict {
    let child = domain::create(&Config::default(), "")?;
    let set = |bytes: &mut [u8]| {
        let mut op = DomctlHvmcontext {
            size: bytes.len() as u32,
            buffer: handle(bytes),
            ..DomctlHvmcontext::new_zeroed()
        };
        domctl(XEN_DOMCTL_SETHVMCONTEXT, child.domid, &mut op).map(|_| ())
    };
    let mut context = domain::get_context(child.domid)?;
    let half = context.len() / 2;
    ensure!(set(&mut context[..half]).is_err(), "half a state");
    context[8] ^= 0xff;
    ensure!(set(&mut context).is_err(), "a state with another magic number");
    let mut wrong = domain::start_registers(0);
    wrong.cr0 = 0x8000_0000;
    let context = domain::get_context(child.domid)?;
    let header = domain::record(&context, HVM_SAVE_CODE_HEADER, 0).unwrap_or_default();
    let records = [(HVM_SAVE_CODE_CPU, 0, wrong.as_bytes())];
    ensure!(domain::set_context(child.domid, header, &records).is_err(), "paging without protection");
    let good = domain::start_registers(0);
    let records = [(HVM_SAVE_CODE_CPU, 9, good.as_bytes())];
    ensure!(domain::set_context(child.domid, header, &records).is_err(), "registers of vCPU 9");
    child.destroy()
}

/// Parameters that the toolstack sets are read by the domain; unset ones are 0.
fn hvm_params() -> Verdict {
    let child = Child::serving()?;
    set_param(child.domid, HVM_PARAM_STORE_PFN, 0xabc)?;
    set_param(child.domid, HVM_PARAM_CONSOLE_EVTCHN, 5)?;
    let at = child.call(services::page, [0; 6])? << 12;
    let theirs = |index: u32| {
        child.call(services::poke, [at, u64::from(DOMID_SELF) | u64::from(index) << 32, 0, 0, 0, 0])?;
        let number = u64::from(xen_abi::hypercall::HYPERVISOR_HVM_OP);
        let ret = child.call(services::call, [number, u64::from(HVMOP_GET_PARAM), at, 0, 0, 0])?;
        let value = child.call(services::peek, [at + 8, 0, 0, 0, 0, 0])?;
        Ok::<_, harness::Outcome>((ret as i64, value))
    };
    ensure_eq!(theirs(HVM_PARAM_STORE_PFN)?, (0, 0xabc), "the domain's store frame");
    ensure_eq!(theirs(HVM_PARAM_CONSOLE_EVTCHN)?, (0, 5), "the domain's console port");
    ensure_eq!(theirs(HVM_NR_PARAMS)?.0, Errno::EINVAL.to_ret(), "parameter 39");
    ensure_eq!(get_param(child.domid, HVM_PARAM_STORE_EVTCHN), Ok(0), "parameter that was not set");
    ensure_eq!(get_param(0x1234, 0), Err(Errno::ESRCH), "unknown domain");
    child.destroy()
}

/// Some parameters are set once, deprecated ones never, and the toolstack's not by the domain itself.
fn hvm_params_set_once() -> Verdict {
    let child = Child::serving()?;
    let set = |value| set_param(child.domid, HVM_PARAM_IOREQ_SERVER_PFN, value);
    ensure_eq!(set(0x111), Ok(0), "first value");
    ensure_eq!(set(0x111), Ok(0), "the same value");
    ensure_eq!(set(0x222), Err(Errno::EEXIST), "another value");
    ensure_eq!(set_param(child.domid, HVM_PARAM_DM_DOMAIN, 0), Err(Errno::EINVAL), "deprecated parameter");
    ensure_eq!(set_param(child.domid, HVM_NR_PARAMS, 0), Err(Errno::EINVAL), "parameter 39");
    ensure_eq!(set_param(DOMID_SELF, HVM_PARAM_STORE_PFN, 1), Err(Errno::EPERM), "our own store frame");
    child.destroy()
}

/// Weight and cap of a domain are kept; a weight of 0 leaves the old one.
fn scheduler_params() -> Verdict {
    let domid = create_empty(&Config { pages: 512, ..Config::default() })?;
    let op = |cmd, weight, cap| {
        let mut op =
            DomctlSchedulerOp { sched_id: XEN_SCHEDULER_CREDIT2, cmd, ..DomctlSchedulerOp::new_zeroed() };
        op.set_payload(&DomctlSchedCredit2 { weight, cap });
        domctl(XEN_DOMCTL_SCHEDULER_OP, domid, &mut op).map(|_| op.payload::<DomctlSchedCredit2>())
    };
    let first = op(XEN_DOMCTL_SCHEDOP_GETINFO, 0, 0)?;
    ensure_eq!((first.weight, first.cap), (256, 0), "weight and cap at the start");
    op(XEN_DOMCTL_SCHEDOP_PUTINFO, 512, 50)?;
    let second = op(XEN_DOMCTL_SCHEDOP_GETINFO, 0, 0)?;
    ensure_eq!((second.weight, second.cap), (512, 50), "weight and cap");
    let mut other = DomctlSchedulerOp {
        sched_id: XEN_SCHEDULER_RTDS,
        cmd: XEN_DOMCTL_SCHEDOP_GETINFO,
        ..DomctlSchedulerOp::new_zeroed()
    };
    let refused = domctl(XEN_DOMCTL_SCHEDULER_OP, domid, &mut other).map(|_| ());
    ensure_eq!(refused, Err(Errno::EINVAL), "parameters of another scheduler");
    domain::destroy(domid)
}

/// Another interface version is -EACCES; an unknown operation -ENOSYS.
fn sysctl_version_is_checked() -> Verdict {
    let mut info = SysctlPhysinfo::new_zeroed();
    for version in [0, XEN_SYSCTL_INTERFACE_VERSION - 1, u32::MAX] {
        let ret = sysctl_version(version, XEN_SYSCTL_PHYSINFO, &mut info);
        ensure_eq!(ret, Err(Errno::EACCES), "version {version:#x}");
    }
    ensure_eq!(sysctl(500, &mut info), Err(Errno::ENOSYS), "sysctl 500");
    Ok(())
}

/// The machine: processors, memory, hardware virtualisation with nested paging.
fn sysctl_physinfo() -> Verdict {
    let info = super::memory::physinfo()?;
    ensure!(info.nr_cpus >= 1 && info.max_cpu_id >= info.nr_cpus - 1, "{} CPUs", info.nr_cpus);
    ensure!(info.nr_nodes == 1 && info.threads_per_core >= 1 && info.cores_per_socket >= 1, "{info:?}");
    ensure!(info.free_pages < info.total_pages && info.total_pages > 0x1_0000, "{} pages", info.total_pages);
    ensure!(info.cpu_khz > 10_000, "{} kHz", info.cpu_khz);
    ensure!(info.max_mfn >= info.total_pages, "highest frame {:#x}", info.max_mfn);
    let wanted = XEN_SYSCTL_PHYSCAP_HVM | XEN_SYSCTL_PHYSCAP_HAP;
    ensure_eq!(info.capabilities & wanted, wanted, "capabilities");
    Ok(())
}

/// CPU topology and NUMA information: sizes without buffers, then the data.
fn sysctl_topology() -> Verdict {
    let nr_cpus = super::memory::physinfo()?.nr_cpus;
    let mut op = SysctlCputopoinfo::new_zeroed();
    sysctl(XEN_SYSCTL_CPUTOPOINFO, &mut op)?;
    ensure!(op.num_cpus >= nr_cpus, "{} CPUs in the topology", op.num_cpus);
    let mut cpus = [SysctlCputopo::new_zeroed(); 64];
    op.num_cpus = op.num_cpus.min(64);
    op.cputopo = handle(&mut cpus);
    sysctl(XEN_SYSCTL_CPUTOPOINFO, &mut op)?;
    ensure_eq!(cpus[0].node, 0, "node of CPU 0");
    let mut op = SysctlNumainfo::new_zeroed();
    sysctl(XEN_SYSCTL_NUMAINFO, &mut op)?;
    ensure_eq!(op.num_nodes, 1, "nodes");
    let (mut memory, mut distance) = ([SysctlMeminfo::new_zeroed(); 1], [0_u32; 1]);
    op.meminfo = handle(&mut memory);
    op.distance = handle(&mut distance);
    sysctl(XEN_SYSCTL_NUMAINFO, &mut op)?;
    ensure_eq!(distance[0], 10, "distance of node 0 to itself");
    ensure!(memory[0].memfree < memory[0].memsize, "{memory:?}");
    Ok(())
}

/// The scheduler is credit2.
fn sysctl_sched_id() -> Verdict {
    let mut op = SysctlSchedId { sched_id: 0 };
    sysctl(XEN_SYSCTL_SCHED_ID, &mut op)?;
    ensure_eq!(op.sched_id, XEN_SCHEDULER_CREDIT2, "scheduler");
    Ok(())
}

/// CPU pool 0 has the CPUs and the domains; there is no next one.
fn sysctl_cpupool() -> Verdict {
    let mut bits = [0_u8; 8];
    let mut op = SysctlCpupoolOp { op: XEN_SYSCTL_CPUPOOL_OP_INFO, ..SysctlCpupoolOp::new_zeroed() };
    op.cpumap.bitmap = handle(&mut bits);
    op.cpumap.nr_bits = 64;
    sysctl(XEN_SYSCTL_CPUPOOL_OP, &mut op)?;
    ensure_eq!((op.cpupool_id, op.sched_id), (0, XEN_SCHEDULER_CREDIT2), "pool and scheduler");
    ensure!(op.n_dom >= 1 && bits[0] & 1 == 1, "{} domains, CPUs {bits:x?}", op.n_dom);
    op.cpupool_id = 1;
    ensure_eq!(sysctl(XEN_SYSCTL_CPUPOOL_OP, &mut op), Err(Errno::ENOENT), "pool 1");
    op.op = 99;
    ensure_eq!(sysctl(XEN_SYSCTL_CPUPOOL_OP, &mut op), Err(Errno::ENOSYS), "operation 99");
    Ok(())
}

/// The console ring has the hypervisor's lines.
fn sysctl_console_ring() -> Verdict {
    let page = Page::new();
    let mut op =
        SysctlReadconsole { buffer: Handle::new(page.at(0)), count: 4096, ..SysctlReadconsole::new_zeroed() };
    sysctl(XEN_SYSCTL_READCONSOLE, &mut op)?;
    ensure!((1..=4096).contains(&op.count), "{} bytes", op.count);
    ensure!(page.get::<u8>(0) != 0, "the first byte is 0");
    Ok(())
}

/// The feature sets: their size, then the words; the raw one has long mode.
fn sysctl_cpu_featureset() -> Verdict {
    let mut op = SysctlCpuFeatureset::new_zeroed();
    sysctl(XEN_SYSCTL_GET_CPU_FEATURESET, &mut op)?;
    ensure!((8..=32).contains(&op.nr_features), "{} words", op.nr_features);
    let mut words = [0_u32; 32];
    op.features = handle(&mut words);
    op.index = 1;
    sysctl(XEN_SYSCTL_GET_CPU_FEATURESET, &mut op)?;
    ensure!(words[2] >> 29 & 1 == 1, "no long mode in the host's set: {:#x}", words[2]);
    op.index = 99;
    ensure_eq!(sysctl(XEN_SYSCTL_GET_CPU_FEATURESET, &mut op), Err(Errno::EINVAL), "set 99");
    Ok(())
}

/// A domain's CPUID policy: sizes from the sysctl, leaves from the domctl, and back.
fn cpu_policy() -> Verdict {
    use xen_abi::featureset::{CpuidLeaf, MsrEntry};
    let mut sizes = SysctlCpuPolicy { index: 1, ..SysctlCpuPolicy::new_zeroed() };
    sysctl(XEN_SYSCTL_GET_CPU_POLICY, &mut sizes)?;
    ensure!(
        (20..1000).contains(&sizes.nr_leaves) && sizes.nr_msrs >= 1,
        "{} leaves, {} MSRs",
        sizes.nr_leaves,
        sizes.nr_msrs
    );
    let domid = create_empty(&Config { pages: 512, ..Config::default() })?;
    let mut leaves = alloc::vec![CpuidLeaf::new_zeroed(); sizes.nr_leaves as usize];
    let mut msrs = alloc::vec![MsrEntry::new_zeroed(); sizes.nr_msrs as usize];
    let mut op = DomctlCpuPolicy {
        nr_leaves: sizes.nr_leaves,
        nr_msrs: sizes.nr_msrs,
        leaves: handle(&mut leaves),
        msrs: handle(&mut msrs),
        ..DomctlCpuPolicy::new_zeroed()
    };
    domctl(XEN_DOMCTL_GET_CPU_POLICY, domid, &mut op)?;
    ensure!(op.nr_leaves <= sizes.nr_leaves, "more leaves than announced");
    let vendor = harness::cpu::cpuid(0, 0)[1];
    ensure_eq!((leaves[0].leaf, leaves[0].b), (0, vendor), "leaf 0 and its ebx");
    domctl(XEN_DOMCTL_SET_CPU_POLICY, domid, &mut op)?;
    op.nr_leaves = 1;
    let small = domctl(XEN_DOMCTL_GET_CPU_POLICY, domid, &mut op).map(|_| ());
    ensure_eq!(small, Err(Errno::ENOBUFS), "policy into one leaf");
    domain::destroy(domid)
}

/// TSC modes can be set and read back.
fn tsc_info() -> Verdict {
    let domid = create_empty(&Config { pages: 512, ..Config::default() })?;
    let mut op = DomctlTscInfo::new_zeroed();
    domctl(XEN_DOMCTL_SETTSCINFO, domid, &mut op)?;
    domctl(XEN_DOMCTL_GETTSCINFO, domid, &mut op)?;
    ensure!(op.tsc_mode <= 3 && op.gtsc_khz > 10_000, "mode {}, {} kHz", op.tsc_mode, op.gtsc_khz);
    domain::destroy(domid)
}

/// Interrupt lines and ports are dom0's: a child gets an error for every operation on devices.
fn physdev_child_may_not() -> Verdict {
    let child = Child::serving()?;
    let at = child.call(services::page, [0; 6])? << 12;
    for operation in [4_u64, 5, 8, 13, 15, 24, 25] {
        let number = u64::from(xen_abi::hypercall::HYPERVISOR_PHYSDEV_OP);
        let ret = child.call(services::call, [number, operation, at, 0, 0, 0])? as i64;
        ensure!(ret < 0, "operation {operation} returned {ret}");
    }
    child.destroy()
}

/// The pool for page tables can be set, and asked.
fn paging_pool() -> Verdict {
    let domid = create_bare(&Config::default())?;
    domctl(XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE, domid, &mut DomctlPagingMempool { size: 4 << 20 })?;
    let mut pool = DomctlPagingMempool { size: 0 };
    domctl(XEN_DOMCTL_GET_PAGING_MEMPOOL_SIZE, domid, &mut pool)?;
    ensure_eq!(pool.size, 4 << 20, "size");
    let odd = domctl(XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE, domid, &mut DomctlPagingMempool { size: 4097 });
    ensure_eq!(odd.map(|_| ()), Err(Errno::EINVAL), "a size that is no whole number of pages");
    domain::destroy(domid)
}

/// The handle can be changed; the domain lives on.
fn domain_handle() -> Verdict {
    let child = Child::serving()?;
    let mut op = DomctlSetdomainhandle { handle: *b"0123456789abcdef" };
    domctl(XEN_DOMCTL_SETDOMAINHANDLE, child.domid, &mut op)?;
    ensure_eq!(child.info()?.handle, *b"0123456789abcdef", "handle");
    time::sleep_ms(2);
    ensure_eq!(child.call(services::add, [2, 2, 0, 0, 0, 0])?, 4, "answer");
    child.destroy()
}
