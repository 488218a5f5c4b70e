//! Domctl members that concern the domain as a whole: creation, information, memory, policy, state.

use crate::{
    featureset::{CpuidLeaf, MsrEntry},
    handle::Handle,
    macros::{c_consts, c_struct, c_union},
    memory::Vmemrange,
    xen::{DomainHandle, XenctlBitmap},
};

c_consts! {
    /// Bits of [`DomctlCreatedomain::flags`] and `iommu_opts`, mask of `grant_opts`.
    DOMCTL_CDFS: u32 {
        XEN_DOMCTL_CDF_HVM = 0x1,
        XEN_DOMCTL_CDF_HAP = 0x2,
        XEN_DOMCTL_CDF_S3_INTEGRITY = 0x4,
        XEN_DOMCTL_CDF_OOS_OFF = 0x8,
        XEN_DOMCTL_CDF_XS_DOMAIN = 0x10,
        XEN_DOMCTL_CDF_IOMMU = 0x20,
        XEN_DOMCTL_CDF_NESTED_VIRT = 0x40,
        XEN_DOMCTL_CDF_VPMU = 1 << 7,
        XEN_DOMCTL_CDF_MAX = 128,
        XEN_DOMCTL_IOMMU_NO_SHAREPT = 0x1,
        XEN_DOMCTL_IOMMU_MAX = 1,
        XEN_DOMCTL_GRANT_VERSION_MASK = 0xf,
    }
}

c_consts! {
    /// Bits of [`ArchDomainconfig::emulation_flags`] and `misc_flags`.
    X86_DOMAINCONFIG: u32 {
        XEN_X86_EMU_LAPIC = 0x1,
        XEN_X86_EMU_HPET = 0x2,
        XEN_X86_EMU_PM = 0x4,
        XEN_X86_EMU_RTC = 0x8,
        XEN_X86_EMU_IOAPIC = 0x10,
        XEN_X86_EMU_PIC = 0x20,
        XEN_X86_EMU_VGA = 0x40,
        XEN_X86_EMU_IOMMU = 0x80,
        XEN_X86_EMU_PIT = 0x100,
        XEN_X86_EMU_USE_PIRQ = 0x200,
        XEN_X86_EMU_VPCI = 0x400,
        XEN_X86_EMU_ALL = 2047,
        XEN_X86_MSR_RELAXED = 1 << 0,
        XEN_X86_MISC_FLAGS_MAX = 1,
    }
}

c_consts! {
    /// Bits of [`DomctlGetdomaininfo::flags`].
    DOMINFS: u32 {
        XEN_DOMINF_DYING = 0x1,
        XEN_DOMINF_HVM_GUEST = 0x2,
        XEN_DOMINF_SHUTDOWN = 0x4,
        XEN_DOMINF_PAUSED = 0x8,
        XEN_DOMINF_BLOCKED = 0x10,
        XEN_DOMINF_RUNNING = 0x20,
        XEN_DOMINF_DEBUGGED = 0x40,
        XEN_DOMINF_XS_DOMAIN = 0x80,
        XEN_DOMINF_HAP = 0x100,
        XEN_DOMINF_SHUTDOWNMASK = 255,
        XEN_DOMINF_SHUTDOWNSHIFT = 16,
    }
}

c_consts! {
    /// [`DomctlGetdomaininfo::max_vcpu_id`] of a domain without vCPUs.
    DOMINFO_NONE: u32 {
        XEN_INVALID_MAX_VCPU_ID = u32::MAX,
    }
}

c_consts! {
    /// Page types of `getpageframeinfo3`, in bits 31:28 of an entry.
    DOMCTL_PFINFOS: u32 {
        XEN_DOMCTL_PFINFO_LTAB_SHIFT = 28,
        XEN_DOMCTL_PFINFO_NOTAB = 0x0,
        XEN_DOMCTL_PFINFO_L1TAB = 0x10000000,
        XEN_DOMCTL_PFINFO_L2TAB = 0x20000000,
        XEN_DOMCTL_PFINFO_L3TAB = 0x30000000,
        XEN_DOMCTL_PFINFO_L4TAB = 0x40000000,
        XEN_DOMCTL_PFINFO_LTABTYPE_MASK = 0x70000000,
        XEN_DOMCTL_PFINFO_LPINTAB = 0x80000000,
        XEN_DOMCTL_PFINFO_XTAB = 0xf0000000,
        XEN_DOMCTL_PFINFO_XALLOC = 0xe0000000,
        XEN_DOMCTL_PFINFO_BROKEN = 0xd0000000,
        XEN_DOMCTL_PFINFO_LTAB_MASK = 0xf0000000,
    }
}

c_consts! {
    /// Sub-operations and flags of [`DomctlShadowOp`].
    DOMCTL_SHADOW_OPS: u32 {
        XEN_DOMCTL_SHADOW_OP_OFF = 0,
        XEN_DOMCTL_SHADOW_OP_ENABLE = 32,
        XEN_DOMCTL_SHADOW_OP_CLEAN = 11,
        XEN_DOMCTL_SHADOW_OP_PEEK = 12,
        XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION = 30,
        XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION = 31,
        XEN_DOMCTL_SHADOW_OP_ENABLE_TEST = 1,
        XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY = 2,
        XEN_DOMCTL_SHADOW_ENABLE_REFCOUNT = 1 << 1,
        XEN_DOMCTL_SHADOW_ENABLE_LOG_DIRTY = 1 << 2,
        XEN_DOMCTL_SHADOW_ENABLE_TRANSLATE = 1 << 3,
        XEN_DOMCTL_SHADOW_ENABLE_EXTERNAL = 1 << 4,
        XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL = 1 << 0,
    }
}

c_consts! {
    /// Schedulers, and sub-operations of [`DomctlSchedulerOp`].
    DOMCTL_SCHEDULERS: u32 {
        XEN_SCHEDULER_CREDIT = 5,
        XEN_SCHEDULER_CREDIT2 = 6,
        XEN_SCHEDULER_ARINC653 = 7,
        XEN_SCHEDULER_RTDS = 8,
        XEN_SCHEDULER_NULL = 9,
        XEN_DOMCTL_SCHEDOP_PUTINFO = 0,
        XEN_DOMCTL_SCHEDOP_GETINFO = 1,
        XEN_DOMCTL_SCHEDOP_PUTVCPUINFO = 2,
        XEN_DOMCTL_SCHEDOP_GETVCPUINFO = 3,
    }
}

c_consts! {
    /// Values of [`DomctlSendtrigger::trigger`].
    DOMCTL_SENDTRIGGERS: u32 {
        XEN_DOMCTL_SENDTRIGGER_NMI = 0,
        XEN_DOMCTL_SENDTRIGGER_RESET = 1,
        XEN_DOMCTL_SENDTRIGGER_INIT = 2,
        XEN_DOMCTL_SENDTRIGGER_POWER = 3,
        XEN_DOMCTL_SENDTRIGGER_SLEEP = 4,
    }
}

c_struct! {
    /// x86 part of a domain's configuration.
    pub struct ArchDomainconfig = "struct xen_arch_domainconfig", 8 {
        emulation_flags: u32,
        misc_flags: u32,
    }

    /// `createdomain`; negative limits mean "the default".
    pub struct DomctlCreatedomain = "struct xen_domctl_createdomain", 64 {
        ssidref: u32,
        handle: DomainHandle,
        flags: u32,
        iommu_opts: u32,
        max_vcpus: u32,
        max_evtchn_port: u32,
        max_grant_frames: i32,
        max_maptrack_frames: i32,
        grant_opts: u32,
        vmtrace_size: u32,
        cpupool_id: u32,
        arch: ArchDomainconfig,
    }

    /// `getdomaininfo`, also the element of sysctl's `getdomaininfolist`; `cpu_time` in ns.
    pub struct DomctlGetdomaininfo = "struct xen_domctl_getdomaininfo", 112 {
        domain: u16,
        _pad1: u16,
        flags: u32,
        tot_pages: u64,
        max_pages: u64,
        outstanding_pages: u64,
        shr_pages: u64,
        paged_pages: u64,
        shared_info_frame: u64,
        cpu_time: u64,
        nr_online_vcpus: u32,
        max_vcpu_id: u32,
        ssidref: u32,
        handle: DomainHandle,
        cpupool: u32,
        gpaddr_bits: u8,
        _pad2: [u8; 7],
        arch_config: ArchDomainconfig,
    }

    /// `getpageframeinfo3`: the array's frames are replaced by their types.
    pub struct DomctlGetpageframeinfo3 = "struct xen_domctl_getpageframeinfo3", 16 {
        num: u64,
        array: Handle<u64>,
    }

    /// Counters of log-dirty mode.
    pub struct DomctlShadowOpStats = "struct xen_domctl_shadow_op_stats", 8 {
        fault_count: u32,
        dirty_count: u32,
    }

    /// `shadow_op`: log-dirty mode and the size in MiB of the p2m pool.
    pub struct DomctlShadowOp = "struct xen_domctl_shadow_op", 40 {
        op: u32,
        mode: u32,
        mb: u32,
        _pad: [u8; 4],
        dirty_bitmap: Handle<u8>,
        pages: u64,
        stats: DomctlShadowOpStats,
    }

    /// `max_mem`.
    pub struct DomctlMaxMem = "struct xen_domctl_max_mem", 8 {
        max_memkb: u64,
    }

    /// `max_vcpus`.
    pub struct DomctlMaxVcpus = "struct xen_domctl_max_vcpus", 4 {
        max: u32,
    }

    /// `{set,get}nodeaffinity`.
    pub struct DomctlNodeaffinity = "struct xen_domctl_nodeaffinity", 16 {
        nodemap: XenctlBitmap,
    }

    /// Credit2 (and credit) parameters of a domain: weight, cap in percent of one CPU (0: none).
    pub struct DomctlSchedCredit2 = "struct xen_domctl_sched_credit2", 4 {
        weight: u16,
        cap: u16,
    }

    /// RTDS parameters, microseconds.
    pub struct DomctlSchedRtds = "struct xen_domctl_sched_rtds", 12 {
        period: u32,
        budget: u32,
        flags: u32,
    }

    /// Scheduling parameters of one vCPU; `u` starts with those of the domain's scheduler.
    pub struct DomctlSchedparamVcpu = "struct xen_domctl_schedparam_vcpu", 16 {
        u: [u8; 12],
        vcpuid: u32,
    }

    /// [`DomctlSchedulerOp::u`] of the per-vCPU sub-operations.
    pub struct DomctlSchedparamVcpus = "", 16 {
        vcpus: Handle<DomctlSchedparamVcpu>,
        nr_vcpus: u32,
        _padding: u32,
    }

    /// `scheduler_op`.
    pub struct DomctlSchedulerOp = "struct xen_domctl_scheduler_op", 24 {
        sched_id: u32,
        cmd: u32,
        u: [u8; 16],
    }

    /// `setdomainhandle`.
    pub struct DomctlSetdomainhandle = "struct xen_domctl_setdomainhandle", 16 {
        handle: DomainHandle,
    }

    /// `setdebugging`.
    pub struct DomctlSetdebugging = "struct xen_domctl_setdebugging", 1 {
        enable: u8,
    }

    /// `hypercall_init`.
    pub struct DomctlHypercallInit = "struct xen_domctl_hypercall_init", 8 {
        gmfn: u64,
    }

    /// `settimeoffset`.
    pub struct DomctlSettimeoffset = "struct xen_domctl_settimeoffset", 8 {
        time_offset_seconds: i64,
    }

    /// `{get,set}hvmcontext`: a stream of the records in [`hvm_save`](crate::hvm_save). A null buffer asks for the size.
    pub struct DomctlHvmcontext = "struct xen_domctl_hvmcontext", 16 {
        size: u32,
        _pad: [u8; 4],
        buffer: Handle<u8>,
    }

    /// `gethvmcontext_partial`: one record without its descriptor.
    pub struct DomctlHvmcontextPartial = "struct xen_domctl_hvmcontext_partial", 24 {
        kind ("type"): u32,
        instance: u32,
        bufsz: u64,
        buffer: Handle<u8>,
    }

    /// `{set,get}_address_size`: 32 or 64.
    pub struct DomctlAddressSize = "struct xen_domctl_address_size", 4 {
        size: u32,
    }

    /// `sendtrigger`.
    pub struct DomctlSendtrigger = "struct xen_domctl_sendtrigger", 8 {
        trigger: u32,
        vcpu: u32,
    }

    /// `set_target`: the domain this one (a device model) serves.
    pub struct DomctlSetTarget = "struct xen_domctl_set_target", 2 {
        target: u16,
    }

    /// `{get,set}_cpu_policy`. Out on failure of set: what was refused.
    pub struct DomctlCpuPolicy = "struct xen_domctl_cpu_policy", 40 {
        nr_leaves: u32,
        nr_msrs: u32,
        leaves: Handle<CpuidLeaf>,
        msrs: Handle<MsrEntry>,
        err_leaf: u32,
        err_subleaf: u32,
        err_msr: u32,
        _pad: [u8; 4],
    }

    /// `subscribe` (to suspend events).
    pub struct DomctlSubscribe = "struct xen_domctl_subscribe", 4 {
        port: u32,
    }

    /// `{get,set}tscinfo`.
    pub struct DomctlTscInfo = "struct xen_domctl_tsc_info", 24 {
        tsc_mode: u32,
        gtsc_khz: u32,
        incarnation: u32,
        _pad: u32,
        elapsed_nsec: u64,
    }

    /// `vm_event_op`.
    pub struct DomctlVmEventOp = "struct xen_domctl_vm_event_op", 12 {
        op: u32,
        mode: u32,
        u: u32,
    }

    /// `mem_sharing_op`.
    pub struct DomctlMemSharingOp = "struct xen_domctl_mem_sharing_op", 2 {
        op: u8,
        u: u8,
    }

    /// `audit_p2m`.
    pub struct DomctlAuditP2m = "struct xen_domctl_audit_p2m", 24 {
        orphans: u64,
        m2p_bad: u64,
        p2m_bad: u64,
    }

    /// `set_virq_handler`: the domain a global VIRQ goes to instead of dom0.
    pub struct DomctlSetVirqHandler = "struct xen_domctl_set_virq_handler", 4 {
        virq: u32,
    }

    /// `set_access_required`.
    pub struct DomctlSetAccessRequired = "struct xen_domctl_set_access_required", 1 {
        access_required: u8,
    }

    /// `set_broken_page_p2m`.
    pub struct DomctlSetBrokenPageP2m = "struct xen_domctl_set_broken_page_p2m", 8 {
        pfn: u64,
    }

    /// `cacheflush`.
    pub struct DomctlCacheflush = "struct xen_domctl_cacheflush", 16 {
        start_pfn: u64,
        nr_pfns: u64,
    }

    /// `{get,set}_paging_mempool_size`, bytes.
    pub struct DomctlPagingMempool = "struct xen_domctl_paging_mempool", 8 {
        size: u64,
    }

    /// `setvnumainfo`.
    pub struct DomctlVnuma = "struct xen_domctl_vnuma", 48 {
        nr_vnodes: u32,
        nr_vmemranges: u32,
        nr_vcpus: u32,
        _pad: u32,
        vdistance: Handle<u32>,
        vcpu_to_vnode: Handle<u32>,
        vnode_to_pnode: Handle<u32>,
        vmemrange: Handle<Vmemrange>,
    }
}

c_union!(DomctlSchedparamVcpu, 12);
c_union!(DomctlSchedulerOp, 16);
