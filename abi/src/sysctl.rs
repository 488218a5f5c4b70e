//! Operations of the toolstack on the machine (`sysctl.h`).

use crate::{
    domctl::DomctlGetdomaininfo,
    featureset::{CpuidLeaf, MsrEntry},
    handle::Handle,
    macros::{c_consts, c_struct, c_union},
    physdev::PhysdevPciDevice,
    xen::XenctlBitmap,
};

c_consts! {
    /// Operations ([`Sysctl::cmd`]), and the interface version (the only one that is not an operation).
    SYSCTLS: u32 {
        XEN_SYSCTL_INTERFACE_VERSION = 0x15,
        XEN_SYSCTL_READCONSOLE = 1,
        XEN_SYSCTL_TBUF_OP = 2,
        XEN_SYSCTL_PHYSINFO = 3,
        XEN_SYSCTL_SCHED_ID = 4,
        XEN_SYSCTL_PERFC_OP = 5,
        XEN_SYSCTL_GETDOMAININFOLIST = 6,
        XEN_SYSCTL_DEBUG_KEYS = 7,
        XEN_SYSCTL_GETCPUINFO = 8,
        XEN_SYSCTL_AVAILHEAP = 9,
        XEN_SYSCTL_GET_PMSTAT = 10,
        XEN_SYSCTL_CPU_HOTPLUG = 11,
        XEN_SYSCTL_PM_OP = 12,
        XEN_SYSCTL_PAGE_OFFLINE_OP = 14,
        XEN_SYSCTL_LOCKPROF_OP = 15,
        XEN_SYSCTL_CPUTOPOINFO = 16,
        XEN_SYSCTL_NUMAINFO = 17,
        XEN_SYSCTL_CPUPOOL_OP = 18,
        XEN_SYSCTL_SCHEDULER_OP = 19,
        XEN_SYSCTL_COVERAGE_OP = 20,
        XEN_SYSCTL_PSR_CMT_OP = 21,
        XEN_SYSCTL_PCITOPOINFO = 22,
        XEN_SYSCTL_PSR_ALLOC = 23,
        XEN_SYSCTL_GET_CPU_LEVELLING_CAPS = 25,
        XEN_SYSCTL_GET_CPU_FEATURESET = 26,
        XEN_SYSCTL_LIVEPATCH_OP = 27,
        XEN_SYSCTL_GET_CPU_POLICY = 29,
    }
}

c_consts! {
    /// Bits of [`SysctlPhysinfo::capabilities`].
    PHYSCAPS: u32 {
        XEN_SYSCTL_PHYSCAP_HVM = 0x1,
        XEN_SYSCTL_PHYSCAP_PV = 0x2,
        XEN_SYSCTL_PHYSCAP_DIRECTIO = 0x4,
        XEN_SYSCTL_PHYSCAP_HAP = 0x8,
        XEN_SYSCTL_PHYSCAP_SHADOW = 0x10,
        XEN_SYSCTL_PHYSCAP_IOMMU_HAP_PT_SHARE = 0x20,
        XEN_SYSCTL_PHYSCAP_VMTRACE = 1 << 6,
        XEN_SYSCTL_PHYSCAP_VPMU = 1 << 7,
        XEN_SYSCTL_PHYSCAP_GNTTAB_V1 = 1 << 8,
        XEN_SYSCTL_PHYSCAP_GNTTAB_V2 = 1 << 9,
        XEN_SYSCTL_PHYSCAP_MAX = 512,
    }
}

c_consts! {
    /// "None" in the topology operations.
    TOPOLOGY_NONE: u32 {
        XEN_INVALID_CORE_ID = u32::MAX,
        XEN_INVALID_SOCKET_ID = u32::MAX,
        XEN_INVALID_NODE_ID = u32::MAX,
        XEN_INVALID_DEV = u32::MAX - 1,
        XEN_INVALID_MEM_SZ = u32::MAX,
        XEN_INVALID_NODE_DIST = u32::MAX,
    }
}

c_consts! {
    /// Sub-operations of [`SysctlCpupoolOp`].
    CPUPOOL_OPS: u32 {
        XEN_SYSCTL_CPUPOOL_OP_CREATE = 1,
        XEN_SYSCTL_CPUPOOL_OP_DESTROY = 2,
        XEN_SYSCTL_CPUPOOL_OP_INFO = 3,
        XEN_SYSCTL_CPUPOOL_OP_ADDCPU = 4,
        XEN_SYSCTL_CPUPOOL_OP_RMCPU = 5,
        XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN = 6,
        XEN_SYSCTL_CPUPOOL_OP_FREEINFO = 7,
        XEN_SYSCTL_CPUPOOL_PAR_ANY = 0xffffffff,
    }
}

c_consts! {
    /// Sub-operations and limits of [`SysctlSchedulerOp`].
    SYSCTL_SCHEDULER: u32 {
        XEN_SYSCTL_SCHED_RATELIMIT_MAX = 500000,
        XEN_SYSCTL_SCHED_RATELIMIT_MIN = 100,
        XEN_SYSCTL_CSCHED_TSLICE_MAX = 1000,
        XEN_SYSCTL_CSCHED_TSLICE_MIN = 1,
        XEN_SYSCTL_CSCHED_MGR_DLY_MAX_US = 100000,
        XEN_SYSCTL_SCHEDOP_PUTINFO = 0,
        XEN_SYSCTL_SCHEDOP_GETINFO = 1,
    }
}

c_consts! {
    /// Sub-operations of [`SysctlCpuHotplug`], [`SysctlPerfcOp`], [`SysctlLockprofOp`], [`SysctlTbufOp`] and others.
    SYSCTL_SUBOPS: u32 {
        XEN_SYSCTL_TBUFOP_GET_INFO = 0,
        XEN_SYSCTL_TBUFOP_SET_CPU_MASK = 1,
        XEN_SYSCTL_TBUFOP_SET_EVT_MASK = 2,
        XEN_SYSCTL_TBUFOP_SET_SIZE = 3,
        XEN_SYSCTL_TBUFOP_ENABLE = 4,
        XEN_SYSCTL_TBUFOP_DISABLE = 5,
        XEN_SYSCTL_PERFCOP_RESET = 1,
        XEN_SYSCTL_PERFCOP_QUERY = 2,
        XEN_SYSCTL_CPU_HOTPLUG_ONLINE = 0,
        XEN_SYSCTL_CPU_HOTPLUG_OFFLINE = 1,
        XEN_SYSCTL_CPU_HOTPLUG_SMT_ENABLE = 2,
        XEN_SYSCTL_CPU_HOTPLUG_SMT_DISABLE = 3,
        XEN_SYSCTL_LOCKPROF_RESET = 1,
        XEN_SYSCTL_LOCKPROF_QUERY = 2,
        XEN_SYSCTL_COVERAGE_GET_SIZE = 0,
        XEN_SYSCTL_COVERAGE_READ = 1,
        XEN_SYSCTL_COVERAGE_RESET = 2,
        XEN_SYSCTL_PSR_CMT_GET_TOTAL_RMID = 0,
        XEN_SYSCTL_PSR_CMT_GET_L3_UPSCALING_FACTOR = 1,
        XEN_SYSCTL_PSR_CMT_GET_L3_CACHE_SIZE = 2,
        XEN_SYSCTL_PSR_CMT_ENABLED = 3,
        XEN_SYSCTL_PSR_CMT_GET_L3_EVENT_MASK = 4,
        XEN_SYSCTL_PSR_GET_L3_INFO = 0,
        XEN_SYSCTL_PSR_GET_L2_INFO = 1,
        XEN_SYSCTL_PSR_GET_MBA_INFO = 2,
        XEN_SYSCTL_LIVEPATCH_UPLOAD = 0,
        XEN_SYSCTL_LIVEPATCH_GET = 1,
        XEN_SYSCTL_LIVEPATCH_LIST = 2,
        XEN_SYSCTL_LIVEPATCH_ACTION = 3,
    }
}

c_consts! {
    /// Sub-operations of [`SysctlGetPmstat`] and [`SysctlPmOp`].
    SYSCTL_PM: u32 {
        PMSTAT_CATEGORY_MASK = 0xf0,
        PMSTAT_PX = 0x10,
        PMSTAT_CX = 0x20,
        PMSTAT_GET_MAX_PX = 0x11,
        PMSTAT_GET_PXSTAT = 0x12,
        PMSTAT_RESET_PXSTAT = 0x13,
        PMSTAT_GET_MAX_CX = 0x21,
        PMSTAT_GET_CXSTAT = 0x22,
        PMSTAT_RESET_CXSTAT = 0x23,
        GET_CPUFREQ_PARA = 0x11,
        SET_CPUFREQ_GOV = 0x12,
        SET_CPUFREQ_PARA = 0x13,
        GET_CPUFREQ_AVGFREQ = 0x14,
        XEN_SYSCTL_PM_OP_SET_SCHED_OPT_SMT = 0x21,
        XEN_SYSCTL_PM_OP_GET_MAX_CSTATE = 0x22,
        XEN_SYSCTL_PM_OP_SET_MAX_CSTATE = 0x23,
        XEN_SYSCTL_PM_OP_SET_VCPU_MIGRATION_DELAY = 0x24,
        XEN_SYSCTL_PM_OP_GET_VCPU_MIGRATION_DELAY = 0x25,
        XEN_SYSCTL_PM_OP_ENABLE_TURBO = 0x26,
        XEN_SYSCTL_PM_OP_DISABLE_TURBO = 0x27,
        XEN_SYSCTL_CX_UNLIMITED = 0xffffffff,
    }
}

c_consts! {
    /// Values of [`SysctlCpuFeatureset::index`] and [`SysctlCpuPolicy::index`].
    SYSCTL_CPU_POLICIES: u32 {
        XEN_SYSCTL_CPU_FEATURESET_RAW = 0,
        XEN_SYSCTL_CPU_FEATURESET_HOST = 1,
        XEN_SYSCTL_CPU_FEATURESET_PV = 2,
        XEN_SYSCTL_CPU_FEATURESET_HVM = 3,
        XEN_SYSCTL_CPU_FEATURESET_PV_MAX = 4,
        XEN_SYSCTL_CPU_FEATURESET_HVM_MAX = 5,
        XEN_SYSCTL_CPU_POLICY_RAW = 0,
        XEN_SYSCTL_CPU_POLICY_HOST = 1,
        XEN_SYSCTL_CPU_POLICY_PV_MAX = 2,
        XEN_SYSCTL_CPU_POLICY_HVM_MAX = 3,
        XEN_SYSCTL_CPU_POLICY_PV_DEFAULT = 4,
        XEN_SYSCTL_CPU_POLICY_HVM_DEFAULT = 5,
    }
}

c_consts! {
    /// Bits of [`SysctlCpuLevellingCaps::caps`].
    CPU_LEVELCAPS: u32 {
        XEN_SYSCTL_CPU_LEVELCAP_FAULTING = 0x1,
        XEN_SYSCTL_CPU_LEVELCAP_ECX = 0x2,
        XEN_SYSCTL_CPU_LEVELCAP_EDX = 0x4,
        XEN_SYSCTL_CPU_LEVELCAP_EXTD_ECX = 0x8,
        XEN_SYSCTL_CPU_LEVELCAP_EXTD_EDX = 0x10,
        XEN_SYSCTL_CPU_LEVELCAP_XSAVE_EAX = 0x20,
        XEN_SYSCTL_CPU_LEVELCAP_THERMAL_ECX = 0x40,
        XEN_SYSCTL_CPU_LEVELCAP_L7S0_EAX = 0x80,
        XEN_SYSCTL_CPU_LEVELCAP_L7S0_EBX = 0x100,
    }
}

c_struct! {
    /// The argument of `HYPERVISOR_sysctl`; which member of the union counts depends on `cmd`.
    pub struct Sysctl = "struct xen_sysctl", 136 {
        cmd: u32,
        interface_version: u32,
        u: [u8; 128],
    }

    /// `readconsole` (`xl dmesg`). In and out: `index`, `count`.
    pub struct SysctlReadconsole = "struct xen_sysctl_readconsole", 24 {
        clear: u8,
        incremental: u8,
        _pad0: u8,
        _pad1: u8,
        index: u32,
        buffer: Handle<u8>,
        count: u32,
        _pad2: [u8; 4],
    }

    /// `tbuf_op`.
    pub struct SysctlTbufOp = "struct xen_sysctl_tbuf_op", 48 {
        cmd: u32,
        _pad0: [u8; 4],
        cpu_mask: XenctlBitmap,
        evt_mask: u32,
        _pad1: [u8; 4],
        buffer_mfn: u64,
        size: u32,
        _pad2: [u8; 4],
    }

    /// `physinfo`.
    pub struct SysctlPhysinfo = "struct xen_sysctl_physinfo", 112 {
        threads_per_core: u32,
        cores_per_socket: u32,
        nr_cpus: u32,
        max_cpu_id: u32,
        nr_nodes: u32,
        max_node_id: u32,
        cpu_khz: u32,
        capabilities: u32,
        arch_capabilities: u32,
        _pad: u32,
        total_pages: u64,
        free_pages: u64,
        scrub_pages: u64,
        outstanding_pages: u64,
        max_mfn: u64,
        hw_cap: [u32; 8],
    }

    /// `sched_id`.
    pub struct SysctlSchedId = "struct xen_sysctl_sched_id", 4 {
        sched_id: u32,
    }

    /// Description of a performance counter.
    pub struct SysctlPerfcDesc = "struct xen_sysctl_perfc_desc", 84 {
        name: [u8; 80],
        nr_vals: u32,
    }

    /// `perfc_op`.
    pub struct SysctlPerfcOp = "struct xen_sysctl_perfc_op", 32 {
        cmd: u32,
        nr_counters: u32,
        nr_vals: u32,
        _pad: [u8; 4],
        desc: Handle<SysctlPerfcDesc>,
        val: Handle<u32>,
    }

    /// `getdomaininfolist`. Out: `num_domains`.
    pub struct SysctlGetdomaininfolist = "struct xen_sysctl_getdomaininfolist", 24 {
        first_domain: u16,
        _pad0: [u8; 2],
        max_domains: u32,
        buffer: Handle<DomctlGetdomaininfo>,
        num_domains: u32,
        _pad1: [u8; 4],
    }

    /// `debug_keys`.
    pub struct SysctlDebugKeys = "struct xen_sysctl_debug_keys", 16 {
        keys: Handle<u8>,
        nr_keys: u32,
        _pad: [u8; 4],
    }

    /// Idle time of one CPU, ns.
    pub struct SysctlCpuinfo = "struct xen_sysctl_cpuinfo", 8 {
        idletime: u64,
    }

    /// `getcpuinfo`. Out: `nr_cpus`.
    pub struct SysctlGetcpuinfo = "struct xen_sysctl_getcpuinfo", 24 {
        max_cpus: u32,
        _pad0: [u8; 4],
        info: Handle<SysctlCpuinfo>,
        nr_cpus: u32,
        _pad1: [u8; 4],
    }

    /// `availheap`; node -1: all.
    pub struct SysctlAvailheap = "struct xen_sysctl_availheap", 24 {
        min_bitwidth: u32,
        max_bitwidth: u32,
        node: i32,
        _pad: [u8; 4],
        avail_bytes: u64,
    }

    /// `get_pmstat`.
    pub struct SysctlGetPmstat = "struct xen_sysctl_get_pmstat", 64 {
        kind ("type"): u32,
        cpuid: u32,
        u: [u8; 56],
    }

    /// `cpu_hotplug`.
    pub struct SysctlCpuHotplug = "struct xen_sysctl_cpu_hotplug", 8 {
        cpu: u32,
        op: u32,
    }

    /// `pm_op`.
    pub struct SysctlPmOp = "struct xen_sysctl_pm_op", 128 {
        cmd: u32,
        cpuid: u32,
        u: [u8; 120],
    }

    /// `page_offline_op`.
    pub struct SysctlPageOfflineOp = "struct xen_sysctl_page_offline_op", 24 {
        cmd: u32,
        start: u32,
        end: u32,
        _pad: [u8; 4],
        status: Handle<u32>,
    }

    /// `lockprof_op`.
    pub struct SysctlLockprofOp = "struct xen_sysctl_lockprof_op", 32 {
        cmd: u32,
        max_elem: u32,
        nr_elem: u32,
        _pad: [u8; 4],
        time: u64,
        data: Handle<u8>,
    }

    /// Place of one CPU.
    pub struct SysctlCputopo = "struct xen_sysctl_cputopo", 12 {
        core: u32,
        socket: u32,
        node: u32,
    }

    /// `cputopoinfo`; a null array asks for the number of CPUs.
    pub struct SysctlCputopoinfo = "struct xen_sysctl_cputopoinfo", 16 {
        num_cpus: u32,
        _pad: [u8; 4],
        cputopo: Handle<SysctlCputopo>,
    }

    /// Memory of one node, bytes.
    pub struct SysctlMeminfo = "struct xen_sysctl_meminfo", 16 {
        memsize: u64,
        memfree: u64,
    }

    /// `numainfo`; null arrays ask for the number of nodes.
    pub struct SysctlNumainfo = "struct xen_sysctl_numainfo", 24 {
        num_nodes: u32,
        _pad: [u8; 4],
        meminfo: Handle<SysctlMeminfo>,
        distance: Handle<u32>,
    }

    /// `cpupool_op`.
    pub struct SysctlCpupoolOp = "struct xen_sysctl_cpupool_op", 40 {
        op: u32,
        cpupool_id: u32,
        sched_id: u32,
        domid: u32,
        cpu: u32,
        n_dom: u32,
        cpumap: XenctlBitmap,
    }

    /// Parameters of the credit scheduler.
    pub struct SysctlCreditSchedule = "struct xen_sysctl_credit_schedule", 12 {
        tslice_ms: u32,
        ratelimit_us: u32,
        vcpu_migr_delay_us: u32,
    }

    /// Parameters of the credit2 scheduler.
    pub struct SysctlCredit2Schedule = "struct xen_sysctl_credit2_schedule", 4 {
        ratelimit_us: u32,
    }

    /// `scheduler_op`.
    pub struct SysctlSchedulerOp = "struct xen_sysctl_scheduler_op", 32 {
        cpupool_id: u32,
        sched_id: u32,
        cmd: u32,
        _pad: [u8; 4],
        u: [u8; 16],
    }

    /// `coverage_op`.
    pub struct SysctlCoverageOp = "struct xen_sysctl_coverage_op", 16 {
        cmd: u32,
        size: u32,
        buffer: Handle<u8>,
    }

    /// `psr_cmt_op`.
    pub struct SysctlPsrCmtOp = "struct xen_sysctl_psr_cmt_op", 16 {
        cmd: u32,
        flags: u32,
        u: u64,
    }

    /// `pcitopoinfo`.
    pub struct SysctlPcitopoinfo = "struct xen_sysctl_pcitopoinfo", 24 {
        num_devs: u32,
        _pad: [u8; 4],
        devs: Handle<PhysdevPciDevice>,
        nodes: Handle<u32>,
    }

    /// `psr_alloc`.
    pub struct SysctlPsrAlloc = "struct xen_sysctl_psr_alloc", 20 {
        cmd: u32,
        target: u32,
        u: [u32; 3],
    }

    /// `get_cpu_levelling_caps`.
    pub struct SysctlCpuLevellingCaps = "struct xen_sysctl_cpu_levelling_caps", 4 {
        caps: u32,
    }

    /// `get_cpu_featureset`; a null array asks for the number of words.
    pub struct SysctlCpuFeatureset = "struct xen_sysctl_cpu_featureset", 16 {
        index: u32,
        nr_features: u32,
        features: Handle<u32>,
    }

    /// `livepatch_op`.
    pub struct SysctlLivepatchOp = "struct xen_sysctl_livepatch_op", 72 {
        cmd: u32,
        _pad: u32,
        u: [u8; 64],
    }

    /// `get_cpu_policy`; null arrays ask for the numbers of entries.
    pub struct SysctlCpuPolicy = "struct xen_sysctl_cpu_policy", 32 {
        index: u32,
        nr_leaves: u32,
        nr_msrs: u32,
        _rsvd: u32,
        leaves: Handle<CpuidLeaf>,
        msrs: Handle<MsrEntry>,
    }
}

c_union!(Sysctl, 128);
c_union!(SysctlGetPmstat, 56);
c_union!(SysctlPmOp, 120);
c_union!(SysctlSchedulerOp, 16);
