//! The toolstack's view: what libxl does to build, look at and end a domain, on the simulated machine. Every page must be
//! free again afterwards.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex, MutexGuard, Once};

use radon_addr::{CpuId, DomId, Gfn, Maddr, Mfn, Ns, VcpuId};
use radon_core::context::Context;
use radon_core::domain::{Config, Domain, Dying};
use radon_core::guest_access::AddressSpace;
use radon_core::hypercall::{self, Answer, Caller, Width};
use radon_core::{create, destroy, domains, machine, physmap, pod, run};
use radon_cpu::{Control, Gpr, SegmentReg};
use radon_frames::{Contents, FrameAllocator, Kind as FrameKind, frames};
use radon_hw::{mem, sim};
use radon_p2m::Kind;
use radon_policy::Policy;
use xen_abi::domctl::{self as d, Domctl};
use xen_abi::hvm_save::{self as hvm, HvmSaveDescriptor};
use xen_abi::memory as m;
use xen_abi::sysctl::{self as s, Sysctl};
use xen_abi::{Errno, Handle, hypercall as nr};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

const MACHINE_FRAMES: u64 = 1 << 14;
const CPUS: u32 = 4;
/// Where the caller keeps the operation, and its buffers.
const OP: u64 = 0x1000;
const BUFFER: u64 = 0x10_000;
const BUFFER_2: u64 = 0x30_000;
const DOM0_PAGES: u64 = 256;

fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        sim::add_ram(Maddr::new(0), MACHINE_FRAMES << 12);
        let max = Mfn::new(MACHINE_FRAMES);
        let table = sim::fresh_ram(FrameAllocator::table_bytes(max).div_ceil(4096));
        frames().init(&[Mfn::new(0)..max], max, table.maddr(), Contents::Zeroed).unwrap();
        machine::set(machine::Facts {
            command_line: String::new(),
            memory: Vec::new(),
            e820: Vec::new(),
            options: radon_cmdline::Options::default(),
            svm: radon_svm::Machine {
                asids: 16,
                saves_next_rip: true,
                decode_assists: false,
                flush_by_asid: true,
            },
            pm1b: None,
            soft_off: None,
            pm1a: None,
            reset: None,
        });
        for cpu in 0..CPUS {
            radon_hw::cpu::register(CpuId::new(cpu), cpu);
            run::SCHEDULER.lock().add_cpu(CpuId::new(cpu));
        }
        let config = Config {
            max_vcpus: 1,
            max_evtchn_port: 4095,
            max_grant_version: 2,
            max_grant_frames: 4,
            max_maptrack_frames: 4,
            flags: d::XEN_DOMCTL_CDF_HVM | d::XEN_DOMCTL_CDF_HAP,
            emulation_flags: 0,
            ssidref: 0,
            hardware: true,
        };
        let dom0 = create::create(DomId::DOM0, config, [0; 16], Policy::hardware_domain()).unwrap();
        create::create_vcpus(&dom0, 1, None).unwrap();
        frames().set_max_pages(dom0.id, DOM0_PAGES * 2);
        for gfn in 0..DOM0_PAGES {
            physmap::populate(&dom0, Gfn::new(gfn), 0, 64).unwrap();
        }
        // What is made once and stays: maps shared by all guests.
        let first = build(1, 1);
        end(first);
    });
}

/// dom0's tools. One at a time: they share its memory.
struct Tools {
    dom0: Arc<Domain>,
    _turn: MutexGuard<'static, ()>,
}

impl Tools {
    fn new() -> Tools {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
        start();
        Tools { dom0: domains::dom0().unwrap(), _turn: turn }
    }

    fn call(&self, number: u32, args: [u64; 6]) -> Result<i64, Errno> {
        call(&self.dom0, number, args)
    }
    fn put<T: IntoBytes + Immutable + ?Sized>(&self, at: u64, value: &T) {
        for (i, byte) in value.as_bytes().iter().enumerate() {
            mem::write(self.dom0.ram_at(radon_addr::Gpa::new(at + i as u64), true).unwrap(), byte);
        }
    }
    fn get<T: FromBytes + IntoBytes>(&self, at: u64) -> T {
        let mut value = T::new_zeroed();
        for (i, byte) in value.as_mut_bytes().iter_mut().enumerate() {
            *byte = mem::read(self.dom0.ram_at(radon_addr::Gpa::new(at + i as u64), false).unwrap());
        }
        value
    }

    fn domctl<T: IntoBytes + Immutable>(&self, cmd: u32, domain: u16, payload: &T) -> Result<Domctl, Errno> {
        let mut op = Domctl::new_zeroed();
        op.cmd = cmd;
        op.interface_version = d::XEN_DOMCTL_INTERFACE_VERSION;
        op.domain = domain;
        op.set_payload(payload);
        self.put(OP, &op);
        self.call(nr::HYPERVISOR_DOMCTL, [OP, 0, 0, 0, 0, 0]).map(|_| self.get(OP))
    }
    fn simple(&self, cmd: u32, domain: u16) -> Result<(), Errno> {
        self.domctl(cmd, domain, &0u64).map(drop)
    }
    fn sysctl<T: IntoBytes + Immutable + FromBytes>(&self, cmd: u32, payload: &T) -> Result<T, Errno> {
        let mut op = Sysctl::new_zeroed();
        op.cmd = cmd;
        op.interface_version = s::XEN_SYSCTL_INTERFACE_VERSION;
        op.set_payload(payload);
        self.put(OP, &op);
        self.call(nr::HYPERVISOR_SYSCTL, [OP, 0, 0, 0, 0, 0])?;
        Ok(self.get::<Sysctl>(OP).payload())
    }
    fn info(&self, domain: u16) -> Option<d::DomctlGetdomaininfo> {
        let op = self.domctl(d::XEN_DOMCTL_GETDOMAININFO, domain, &0u64).ok()?;
        Some(op.payload::<d::DomctlGetdomaininfo>()).filter(|i| i.domain == domain)
    }
}

/// A hypercall of a domain's first vCPU, repeated while it asks to be.
fn call(domain: &Arc<Domain>, number: u32, mut args: [u64; 6]) -> Result<i64, Errno> {
    let vcpu = domain.vcpu(VcpuId::new(0)).unwrap().clone();
    let mut context = vcpu.context.lock();
    loop {
        let context: &mut Context = &mut context;
        let space = AddressSpace::of(context);
        let mut caller = Caller {
            domain,
            vcpu: &vcpu,
            context,
            space: space.into(),
            width: Width::Long,
            deadline: Ns::new(u64::MAX).into(),
        };
        match hypercall::call(&mut caller, number.into(), args)? {
            Answer::Done(value) => return Ok(value),
            Answer::Continue(next) => args = next.applied(args),
        }
    }
}

fn configuration(vcpus: u32) -> d::DomctlCreatedomain {
    d::DomctlCreatedomain {
        handle: [7; 16],
        flags: d::XEN_DOMCTL_CDF_HVM | d::XEN_DOMCTL_CDF_HAP,
        max_vcpus: vcpus,
        max_evtchn_port: 1023,
        max_grant_frames: 4,
        max_maptrack_frames: -1,
        grant_opts: 2,
        arch: d::ArchDomainconfig { emulation_flags: d::XEN_X86_EMU_LAPIC, misc_flags: 0 },
        ..d::DomctlCreatedomain::new_zeroed()
    }
}

/// A domain made without the tools.
fn build(vcpus: u32, pages: u64) -> Arc<Domain> {
    let id = domains::free_id(0x1000).unwrap();
    let config = Config {
        max_vcpus: vcpus,
        max_evtchn_port: 1023,
        max_grant_version: 2,
        max_grant_frames: 4,
        max_maptrack_frames: 4,
        flags: d::XEN_DOMCTL_CDF_HVM | d::XEN_DOMCTL_CDF_HAP,
        emulation_flags: 0,
        ssidref: 0,
        hardware: false,
    };
    let domain = create::create(id, config, [1; 16], Policy::guest_default()).unwrap();
    create::create_vcpus(&domain, vcpus, None).unwrap();
    frames().set_max_pages(id, pages);
    for gfn in 0..pages {
        physmap::populate(&domain, Gfn::new(gfn), 0, 64).unwrap();
    }
    domain
}

fn end(domain: Arc<Domain>) {
    while !destroy::destroy(&domain, || true).unwrap() {}
}

#[test]
fn xl_info() {
    let tools = Tools::new();
    let info = tools.sysctl(s::XEN_SYSCTL_PHYSINFO, &s::SysctlPhysinfo::new_zeroed()).unwrap();
    assert_eq!((info.nr_cpus, info.max_cpu_id, info.nr_nodes), (CPUS, CPUS - 1, 1));
    assert_eq!(info.free_pages, frames().free_pages());
    assert_ne!(info.capabilities & s::XEN_SYSCTL_PHYSCAP_HVM, 0);
    assert!(info.threads_per_core >= 1 && info.cores_per_socket >= 1);
    let id = tools.sysctl(s::XEN_SYSCTL_SCHED_ID, &s::SysctlSchedId { sched_id: 0 }).unwrap();
    assert_eq!(id.sched_id, d::XEN_SCHEDULER_CREDIT2);

    let mut topology = s::SysctlCputopoinfo::new_zeroed();
    topology = tools.sysctl(s::XEN_SYSCTL_CPUTOPOINFO, &topology).unwrap();
    assert_eq!(topology.num_cpus, CPUS);
    topology.cputopo = Handle::new(BUFFER);
    topology.num_cpus = 2;
    tools.put(BUFFER, &[0xffu8; 48]);
    topology = tools.sysctl(s::XEN_SYSCTL_CPUTOPOINFO, &topology).unwrap();
    assert_eq!(topology.num_cpus, 2);
    let places: [u32; 9] = tools.get(BUFFER);
    assert_eq!((places[2], places[5], places[6]), (0, 0, u32::MAX));

    let numa = tools.sysctl(s::XEN_SYSCTL_NUMAINFO, &s::SysctlNumainfo::new_zeroed()).unwrap();
    assert_eq!(numa.num_nodes, 1);

    let mut pool = s::SysctlCpupoolOp::new_zeroed();
    pool.op = s::XEN_SYSCTL_CPUPOOL_OP_INFO;
    pool.cpumap.bitmap = Handle::new(BUFFER);
    pool.cpumap.nr_bits = 16;
    let found = tools.sysctl(s::XEN_SYSCTL_CPUPOOL_OP, &pool).unwrap();
    assert_eq!((found.cpupool_id, found.sched_id), (0, d::XEN_SCHEDULER_CREDIT2));
    assert_eq!(tools.get::<[u8; 2]>(BUFFER), [0x0f, 0]);
    pool.cpupool_id = 1;
    assert_eq!(tools.sysctl(s::XEN_SYSCTL_CPUPOOL_OP, &pool), Err(Errno::ENOENT));

    let mut words = s::SysctlCpuFeatureset::new_zeroed();
    words.index = s::XEN_SYSCTL_CPU_FEATURESET_HVM;
    let size = tools.sysctl(s::XEN_SYSCTL_GET_CPU_FEATURESET, &words).unwrap().nr_features;
    words.features = Handle::new(BUFFER);
    words.nr_features = size - 1;
    assert_eq!(tools.sysctl(s::XEN_SYSCTL_GET_CPU_FEATURESET, &words), Err(Errno::ENOBUFS));
    words.nr_features = size;
    assert!(tools.sysctl(s::XEN_SYSCTL_GET_CPU_FEATURESET, &words).is_ok());

    let mut policy = s::SysctlCpuPolicy::new_zeroed();
    policy.index = s::XEN_SYSCTL_CPU_POLICY_HVM_DEFAULT;
    policy = tools.sysctl(s::XEN_SYSCTL_GET_CPU_POLICY, &policy).unwrap();
    policy.leaves = Handle::new(BUFFER);
    policy.msrs = Handle::new(BUFFER_2);
    let got = tools.sysctl(s::XEN_SYSCTL_GET_CPU_POLICY, &policy).unwrap();
    assert!(got.nr_leaves > 10 && got.nr_leaves <= policy.nr_leaves);

    radon_hw::info!("a line for xl dmesg");
    let mut log = s::SysctlReadconsole::new_zeroed();
    log.buffer = Handle::new(BUFFER);
    log.count = 0x10_000;
    log = tools.sysctl(s::XEN_SYSCTL_READCONSOLE, &log).unwrap();
    assert!(log.count > 0);
}

#[test]
fn interface_versions_and_privilege_are_checked() {
    let tools = Tools::new();
    let mut op = Domctl::new_zeroed();
    op.cmd = d::XEN_DOMCTL_GETDOMAININFO;
    op.interface_version = 1;
    tools.put(OP, &op);
    assert_eq!(tools.call(nr::HYPERVISOR_DOMCTL, [OP, 0, 0, 0, 0, 0]), Err(Errno::EACCES));
    assert_eq!(tools.call(nr::HYPERVISOR_SYSCTL, [u64::MAX, 0, 0, 0, 0, 0]), Err(Errno::EFAULT));
    let guest = build(1, 4);
    op.interface_version = d::XEN_DOMCTL_INTERFACE_VERSION;
    let at = guest.ram_at(radon_addr::Gpa::new(OP), true).unwrap();
    mem::write(at, &op);
    assert_eq!(call(&guest, nr::HYPERVISOR_DOMCTL, [OP, 0, 0, 0, 0, 0]), Err(Errno::EPERM));
    assert_eq!(tools.simple(d::XEN_DOMCTL_DESTROYDOMAIN, 0), Err(Errno::EINVAL));
    assert_eq!(tools.simple(d::XEN_DOMCTL_PAUSEDOMAIN, 0x6fff), Err(Errno::ESRCH));
    assert_eq!(tools.simple(4711, 0), Err(Errno::ENOSYS));
    end(guest);
}

/// As libxl and libxenguest build a PVH domain (xg_dom_x86.c), up to its start; then its end.
#[test]
fn life_of_a_domain() {
    let tools = Tools::new();
    let before = frames().free_pages();
    let id = tools.domctl(d::XEN_DOMCTL_CREATEDOMAIN, 0, &configuration(2)).unwrap().domain;
    assert_ne!(id, 0);
    let info = tools.info(id).unwrap();
    let expected = d::XEN_DOMINF_HVM_GUEST | d::XEN_DOMINF_HAP | d::XEN_DOMINF_PAUSED;
    assert_eq!(info.flags & 0xffff, expected);
    assert_eq!((info.max_vcpu_id, info.handle, info.shared_info_frame), (u32::MAX, [7; 16], u64::MAX));
    assert_eq!(tools.domctl(d::XEN_DOMCTL_CREATEDOMAIN, id, &configuration(2)).err(), Some(Errno::EEXIST));

    let pool = d::DomctlPagingMempool { size: 1 << 20 };
    tools.domctl(d::XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE, id, &pool).unwrap();
    let got = tools.domctl(d::XEN_DOMCTL_GET_PAGING_MEMPOOL_SIZE, id, &0u64).unwrap();
    assert_eq!(got.payload::<d::DomctlPagingMempool>(), pool);
    assert_eq!(tools.domctl(d::XEN_DOMCTL_MAX_VCPUS, id, &3u32).err(), Some(Errno::EINVAL));
    tools.domctl(d::XEN_DOMCTL_MAX_VCPUS, id, &2u32).unwrap();
    tools.domctl(d::XEN_DOMCTL_MAX_MEM, id, &(1024u64 * 4)).unwrap();
    tools.domctl(d::XEN_DOMCTL_SETTSCINFO, id, &d::DomctlTscInfo::new_zeroed()).unwrap();
    assert_eq!(tools.info(id).unwrap().max_pages, 1024);

    // One 2 MiB page and some small ones.
    let domain = domains::find(DomId::new(id)).unwrap();
    physmap::populate(&domain, Gfn::new(512), 9, 64).unwrap();
    for gfn in 0..100 {
        physmap::populate(&domain, Gfn::new(gfn), 0, 64).unwrap();
    }
    assert_eq!(tools.info(id).unwrap().tot_pages, 612);

    load_first_vcpu(&tools, id);
    let vcpu = domain.vcpu(VcpuId::new(0)).unwrap();
    {
        let context = vcpu.context.lock();
        assert_eq!((context.backend.rip(), context.backend.gpr(Gpr::Rbx)), (0x100_0000, 0x5000));
        assert_eq!(context.backend.control(Control::Cr0), 0x11);
        assert_eq!(context.backend.segment(SegmentReg::Cs).attributes, 0xc9b);
        assert_eq!(context.msrs.mtrr_def_type, 0x806);
    }
    assert!(vcpu.is_up() && !domain.vcpu(VcpuId::new(1)).unwrap().is_up());
    assert_eq!(tools.info(id).unwrap().nr_online_vcpus, 1);

    tools.simple(d::XEN_DOMCTL_UNPAUSEDOMAIN, id).unwrap();
    assert_eq!(tools.simple(d::XEN_DOMCTL_UNPAUSEDOMAIN, id), Err(Errno::EINVAL));
    assert!(vcpu.runnable(&domain));
    assert_eq!(tools.info(id).unwrap().flags & d::XEN_DOMINF_PAUSED, 0);
    tools.simple(d::XEN_DOMCTL_PAUSEDOMAIN, id).unwrap();
    assert!(!vcpu.runnable(&domain));
    let policy = d::DomctlCpuPolicy::new_zeroed();
    assert_eq!(tools.domctl(d::XEN_DOMCTL_SET_CPU_POLICY, id, &policy).err(), Some(Errno::EEXIST));

    // xl shutdown, cancelled.
    radon_core::shutdown::shutdown(&domain, 2);
    let flags = tools.info(id).unwrap().flags;
    assert_eq!(
        (flags & d::XEN_DOMINF_SHUTDOWN, flags >> d::XEN_DOMINF_SHUTDOWNSHIFT),
        (d::XEN_DOMINF_SHUTDOWN, 2)
    );
    tools.simple(d::XEN_DOMCTL_RESUMEDOMAIN, id).unwrap();
    assert_eq!(tools.info(id).unwrap().flags & d::XEN_DOMINF_SHUTDOWN, 0);
    tools.simple(d::XEN_DOMCTL_UNPAUSEDOMAIN, id).unwrap();
    assert!(vcpu.runnable(&domain));

    drop(domain);
    tools.simple(d::XEN_DOMCTL_DESTROYDOMAIN, id).unwrap();
    assert!(tools.info(id).is_none());
    assert_eq!(frames().free_pages(), before);
}

/// What vcpu_hvm() of xg_dom_x86.c does.
fn load_first_vcpu(tools: &Tools, id: u16) {
    let mut op = d::DomctlHvmcontext::new_zeroed();
    op.size =
        tools.domctl(d::XEN_DOMCTL_GETHVMCONTEXT, id, &op).unwrap().payload::<d::DomctlHvmcontext>().size;
    op.buffer = Handle::new(BUFFER);
    let done = tools.domctl(d::XEN_DOMCTL_GETHVMCONTEXT, id, &op).unwrap().payload::<d::DomctlHvmcontext>();
    assert!(done.size <= op.size);
    let header: [u8; 32] = tools.get(BUFFER);
    assert_eq!(HvmSaveDescriptor::read_from_prefix(&header).unwrap().0.typecode, hvm::HVM_SAVE_CODE_HEADER);
    // The MTRR record must be among the rest.
    let mut at = BUFFER;
    let mut mtrr: Option<hvm::HvmHwMtrr> = None;
    while at < BUFFER + u64::from(done.size) {
        let record: HvmSaveDescriptor = tools.get(at);
        if record.typecode == hvm::HVM_SAVE_CODE_MTRR && record.instance == 0 {
            mtrr = Some(tools.get(at + 8));
        }
        at += 8 + u64::from(record.length);
    }
    assert_eq!(at, BUFFER + u64::from(done.size));
    let mut mtrr = mtrr.unwrap();
    mtrr.msr_mtrr_def_type = 0x806;
    let cpu = hvm::HvmHwCpu {
        rip: 0x100_0000,
        rbx: 0x5000,
        cr0: 0x11,
        cs_limit: u32::MAX,
        cs_arbytes: 0xc9b,
        ss_arbytes: 0xc93,
        tr_limit: 0x67,
        tr_arbytes: 0x8b,
        dr6: 0xffff_0ff0,
        dr7: 0x400,
        ..hvm::HvmHwCpu::new_zeroed()
    };
    let end = HvmSaveDescriptor { typecode: 0, instance: 0, length: 0 };
    let send = |typecode: u16, record: &[u8]| {
        let descriptor = HvmSaveDescriptor { typecode, instance: 0, length: record.len() as u32 };
        let stream = [&header[..], descriptor.as_bytes(), record, end.as_bytes()].concat();
        tools.put(BUFFER, &stream[..]);
        let op = d::DomctlHvmcontext { size: stream.len() as u32, _pad: [0; 4], buffer: Handle::new(BUFFER) };
        tools.domctl(d::XEN_DOMCTL_SETHVMCONTEXT, id, &op).map(drop)
    };
    send(hvm::HVM_SAVE_CODE_MTRR, mtrr.as_bytes()).unwrap();
    assert_eq!(send(hvm::HVM_SAVE_CODE_PIT, &[0; 8]), Err(Errno::ENODEV));
    let bad = hvm::HvmHwCpu { cr0: 0x8000_0010, ..cpu };
    assert_eq!(send(hvm::HVM_SAVE_CODE_CPU, bad.as_bytes()), Err(Errno::EINVAL));
    send(hvm::HVM_SAVE_CODE_CPU, cpu.as_bytes()).unwrap();
}

/// xl vcpu-list, vcpu-pin, sched-credit2.
#[test]
fn placing_vcpus() {
    let tools = Tools::new();
    let guest = build(2, 1);
    let id = guest.id.raw();
    let mut a = d::DomctlVcpuaffinity::new_zeroed();
    a.vcpu = 1;
    a.flags = d::XEN_VCPUAFFINITY_HARD;
    assert_eq!(tools.domctl(d::XEN_DOMCTL_SETVCPUAFFINITY, id, &a).err(), Some(Errno::EINVAL));
    a.cpumap_hard.bitmap = Handle::new(BUFFER);
    a.cpumap_hard.nr_bits = 8;
    tools.put(BUFFER, &0xf4u8);
    tools.domctl(d::XEN_DOMCTL_SETVCPUAFFINITY, id, &a).unwrap();
    assert_eq!(tools.get::<u8>(BUFFER), 0x04);
    a.flags |= d::XEN_VCPUAFFINITY_SOFT;
    a.cpumap_soft.bitmap = Handle::new(BUFFER_2);
    a.cpumap_soft.nr_bits = 16;
    tools.put(BUFFER_2, &0xffffu16);
    tools.domctl(d::XEN_DOMCTL_GETVCPUAFFINITY, id, &a).unwrap();
    assert_eq!((tools.get::<u8>(BUFFER), tools.get::<u16>(BUFFER_2)), (0x04, 0x0f));
    tools.put(BUFFER, &0u8);
    assert_eq!(tools.domctl(d::XEN_DOMCTL_SETVCPUAFFINITY, id, &a).err(), Some(Errno::EINVAL));
    a.vcpu = 2;
    assert_eq!(tools.domctl(d::XEN_DOMCTL_GETVCPUAFFINITY, id, &a).err(), Some(Errno::EINVAL));

    let mut op = d::DomctlSchedulerOp::new_zeroed();
    op.sched_id = d::XEN_SCHEDULER_CREDIT2;
    op.cmd = d::XEN_DOMCTL_SCHEDOP_PUTINFO;
    op.set_payload(&d::DomctlSchedCredit2 { weight: 512, cap: 201 });
    assert_eq!(tools.domctl(d::XEN_DOMCTL_SCHEDULER_OP, id, &op).err(), Some(Errno::EINVAL));
    op.set_payload(&d::DomctlSchedCredit2 { weight: 512, cap: 150 });
    tools.domctl(d::XEN_DOMCTL_SCHEDULER_OP, id, &op).unwrap();
    op.cmd = d::XEN_DOMCTL_SCHEDOP_GETINFO;
    op.set_payload(&0u64);
    let got = tools.domctl(d::XEN_DOMCTL_SCHEDULER_OP, id, &op).unwrap().payload::<d::DomctlSchedulerOp>();
    assert_eq!(got.payload::<d::DomctlSchedCredit2>(), d::DomctlSchedCredit2 { weight: 512, cap: 150 });
    op.sched_id = d::XEN_SCHEDULER_CREDIT;
    assert_eq!(tools.domctl(d::XEN_DOMCTL_SCHEDULER_OP, id, &op).err(), Some(Errno::EINVAL));

    let mut v = d::DomctlGetvcpuinfo::new_zeroed();
    v.vcpu = 1;
    let got = tools.domctl(d::XEN_DOMCTL_GETVCPUINFO, id, &v).unwrap().payload::<d::DomctlGetvcpuinfo>();
    assert_eq!((got.vcpu, got.online, got.running), (1, 0, 0));
    end(guest);
}

/// Another domain's mapping keeps a dead domain listed until it goes.
#[test]
fn a_foreign_mapping_outlives_its_owner() {
    let tools = Tools::new();
    let before = frames().free_pages();
    let guest = build(1, 600);
    let id = guest.id.raw();
    let frame = physmap::get_frame(&guest, Gfn::new(5), true).unwrap();
    let place = Gfn::new(DOM0_PAGES + 7);
    physmap::place_referenced(&tools.dom0, place, frame, Kind::Foreign).unwrap();
    drop(guest);
    tools.simple(d::XEN_DOMCTL_DESTROYDOMAIN, id).unwrap();
    let info = tools.info(id).unwrap();
    assert_eq!((info.flags & d::XEN_DOMINF_DYING, info.tot_pages), (d::XEN_DOMINF_DYING, 1));
    // Again: nothing more to do, no error.
    tools.simple(d::XEN_DOMCTL_DESTROYDOMAIN, id).unwrap();
    physmap::remove(&tools.dom0, place).unwrap();
    let list = s::SysctlGetdomaininfolist {
        first_domain: 1,
        max_domains: 8,
        buffer: Handle::new(BUFFER),
        ..s::SysctlGetdomaininfolist::new_zeroed()
    };
    assert_eq!(tools.sysctl(s::XEN_SYSCTL_GETDOMAININFOLIST, &list).unwrap().num_domains, 0);
    // The p2m of dom0 may have grown a table for the mapping.
    let grown = u64::from(frames().domain(DomId::DOM0).overhead);
    let guest = build(1, 600);
    end(guest);
    assert_eq!(u64::from(frames().domain(DomId::DOM0).overhead), grown);
    assert!(before - frames().free_pages() <= 1);
}

/// Event channels, FIFO frames and registered pages hold references of their own.
#[test]
fn channels_and_registered_pages_are_given_back() {
    let _tools = Tools::new();
    let before = frames().free_pages();
    let guest = build(2, 16);
    guest.events.lock().alloc_unbound(DomId::DOM0).unwrap();
    guest.events.lock().bind_ipi(VcpuId::new(1)).unwrap();
    guest.events.lock().bind_virq(0, VcpuId::new(0)).unwrap();
    for (vcpu, gfn) in [(0, 3), (1, 4)] {
        let frame = physmap::get_frame(&guest, Gfn::new(gfn), true).unwrap();
        guest.events.lock().init_control(VcpuId::new(vcpu), frame.mfn(), 0).unwrap();
        let _ = frame.into_raw();
    }
    let page = physmap::get_frame(&guest, Gfn::new(5), true).unwrap();
    *guest.vcpu(VcpuId::new(0)).unwrap().vcpu_info_frame.lock() = Some(page);
    let grant = radon_core::grants::table_frame(&guest, 2, false).unwrap();
    let frame = frames().get(grant, guest.id).unwrap();
    physmap::place_referenced(&guest, Gfn::new(9), frame, Kind::XenShared).unwrap();
    let id = guest.id;
    // Interrupted as often as possible.
    end(guest);
    assert!(domains::find(id).is_none());
    assert_eq!(frames().free_pages(), before);
    assert!(run::SCHEDULER.lock().params(id).is_none());
}

/// A page that is in use by its owner alone is not taken for a leak, and one of another kind is.
#[test]
fn a_dying_domain_gets_nothing_more() {
    let _tools = Tools::new();
    let before = frames().free_pages();
    let guest = build(1, 8);
    // One step only, then the guest's friends try to give it memory.
    assert!(!destroy::destroy(&guest, || true).unwrap());
    assert_eq!(guest.dying(), Dying::Dying);
    assert!(physmap::populate(&guest, Gfn::new(100), 0, 64).is_err());
    assert!(radon_core::grants::table_frame(&guest, 1, false).is_err());
    let request = radon_frames::Request::new(0, guest.id, FrameKind::GuestRam);
    assert!(frames().alloc(request).is_err());
    end(guest);
    assert_eq!(frames().free_pages(), before);
}

/// Populate on demand, as with memory = 384 and maxmem = 512 pages: pages that the balloon touched (Linux scrubs them)
/// before it gave them up stay the domain's, so that what it owns is its target when the balloon is done.
#[test]
fn a_scrubbing_balloon_ends_at_its_target() {
    const MAX: u64 = 512;
    const TARGET: u64 = 384;
    let tools = Tools::new();
    let before = frames().free_pages();
    let guest = build(1, 0);
    frames().set_max_pages(guest.id, MAX);
    let owned = || u64::from(frames().domain(guest.id).tot_pages);
    pod::mark(&guest, Gfn::new(0), 9).unwrap();
    while !pod::set_target(&guest, TARGET, || true).unwrap() {}
    assert_eq!(owned(), TARGET);

    let give_back = |gfn: u64| {
        tools.put(BUFFER, &gfn);
        let reservation = m::MemoryReservation {
            extent_start: Handle::new(BUFFER),
            nr_extents: 1,
            extent_order: 0,
            mem_flags: 0,
            domid: guest.id.raw(),
            _pad: [0; 6],
        };
        tools.put(OP, &reservation);
        let op = u64::from(m::XENMEM_DECREASE_RESERVATION);
        assert_eq!(tools.call(nr::HYPERVISOR_MEMORY_OP, [op, OP, 0, 0, 0, 0]), Ok(1));
    };
    for gfn in 0..100 {
        let frame = physmap::get_frame(&guest, Gfn::new(gfn), true).unwrap();
        mem::write(frame.mfn().maddr(), &0xdead_u64);
    }
    // Page 0 is in use elsewhere (a grant): it cannot be kept, and is gone.
    let lent = physmap::get_frame(&guest, Gfn::new(0), true).unwrap();
    give_back(0);
    let lent_mfn = lent.mfn();
    drop(lent);
    assert_eq!(owned(), TARGET - 1);
    for gfn in 1..100 {
        give_back(gfn);
        assert_eq!(owned(), TARGET - 1);
    }
    // Marks cost nothing until no more of them are left than frames for them: 512 - 100 - 29 = 383.
    for gfn in 400..429 {
        give_back(gfn);
        assert_eq!(owned(), TARGET - 1);
    }
    assert_eq!(pod::counts(&guest), (TARGET - 1, TARGET - 1));
    give_back(429);
    assert_eq!(owned(), TARGET - 2);

    // All that is left can be touched, and nothing of what was in the pages shows.
    for gfn in (100..400).chain(430..512) {
        let frame = physmap::get_frame(&guest, Gfn::new(gfn), true).unwrap();
        assert_ne!(frame.mfn(), lent_mfn);
        assert_eq!(mem::read::<u64>(frame.mfn().maddr()), 0);
    }
    assert_eq!((pod::counts(&guest), owned()), ((0, 0), TARGET - 2));
    give_back(200);
    assert_eq!(owned(), TARGET - 3);
    end(guest);
    assert_eq!(frames().free_pages(), before);
}

/// Grants between two guests: the mapper's death undoes its mappings, the granter stays until they are gone.
#[test]
fn grants_and_death() {
    use radon_grant::{Mapping, Purpose, map_access};
    let _tools = Tools::new();
    let before = frames().free_pages();
    let (granter, mapper) = (build(1, 8), build(1, 8));
    let gref = radon_addr::GrantRef::new(3);
    let table = radon_core::grants::table_frame(&granter, 0, false).unwrap();
    // Entry 3 of version 1: permit access, the mapper's id, gfn 2.
    mem::write(Maddr::new(table.maddr().raw() + 24), &(2u64 << 32 | u64::from(mapper.id.raw()) << 16 | 1));
    let access = map_access(mapper.id, xen_abi::grant_table::GNTMAP_HOST_MAP).unwrap();
    let handle = mapper.maptrack.lock().reserve().unwrap();
    let pinned = granter
        .grants
        .lock()
        .pin(gref, access, Purpose::Map, |r| radon_core::grants::acquire(&granter, r))
        .unwrap();
    physmap::place(&mapper, Gfn::new(50), pinned.mfn, 0, Kind::GrantRw).unwrap();
    let mapping = Mapping { granter: granter.id, gref, gfn: Gfn::new(50), access };
    mapper.maptrack.lock().commit(handle, mapping);

    let (granter_id, mapper_id) = (granter.id, mapper.id);
    end(granter);
    let held = frames().domain(granter_id);
    // The granted page; shared info and the table's frame.
    assert_eq!((held.tot_pages, held.overhead), (1, 2));
    assert!(domains::find(granter_id).is_some());
    end(mapper);
    destroy::reap();
    assert!(domains::find(granter_id).is_none() && domains::find(mapper_id).is_none());
    assert_eq!(frames().free_pages(), before);
}

/// xl save and restore: what is read of one domain and given to another is read again.
#[test]
fn a_context_moves_to_another_domain() {
    let tools = Tools::new();
    let (from, to) = (build(2, 1), build(2, 1));
    load_first_vcpu(&tools, from.id.raw());
    {
        let mut context = from.vcpu(VcpuId::new(0)).unwrap().context.lock();
        for (i, r) in (0u64..).zip(Gpr::ALL) {
            context.backend.set_gpr(r, 0x1111_0000_0000 + i);
        }
        context.backend.set_control(Control::Lstar, 0xffff_ffff_8000_1000);
        context.backend.set_control(Control::Pat, 0x0007_0406_0007_0401);
        context.msrs.tsc_aux = 5;
        context.pending = Some(radon_cpu::Event::exception(14, Some(2)));
    }
    let read = |id: u16, at: u64| {
        let mut op = d::DomctlHvmcontext::new_zeroed();
        op.size = 0x10_000;
        op.buffer = Handle::new(at);
        tools.domctl(d::XEN_DOMCTL_GETHVMCONTEXT, id, &op).unwrap().payload::<d::DomctlHvmcontext>()
    };
    let first = read(from.id.raw(), BUFFER);
    tools.domctl(d::XEN_DOMCTL_SETHVMCONTEXT, to.id.raw(), &first).unwrap();
    let second = read(to.id.raw(), BUFFER_2);
    assert_eq!(first.size, second.size);
    let bytes = |at: u64| (0..u64::from(first.size)).map(|i| tools.get::<u8>(at + i)).collect::<Vec<_>>();
    let (a, mut b) = (bytes(BUFFER), bytes(BUFFER_2));
    // The counter has run on meanwhile.
    let tsc = 32 + 8 + std::mem::offset_of!(hvm::HvmHwCpu, tsc);
    b[tsc..tsc + 8].copy_from_slice(&a[tsc..tsc + 8]);
    assert!(a == b, "first difference at {:?}", a.iter().zip(&b).position(|(x, y)| x != y));
    end(from);
    end(to);
}
