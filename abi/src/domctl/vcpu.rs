//! Domctl members that concern one vCPU: affinity, state, debugging.

use crate::{
    arch_x86::VcpuGuestContext,
    handle::Handle,
    hvm_save::HvmVmceVcpu,
    macros::{c_consts, c_struct},
    xen::XenctlBitmap,
};

c_consts! {
    /// Bits of [`DomctlVcpuaffinity::flags`].
    VCPUAFFINITIES: u32 {
        XEN_VCPUAFFINITY_HARD = 0x1,
        XEN_VCPUAFFINITY_SOFT = 0x2,
        XEN_VCPUAFFINITY_FORCE = 0x4,
    }
}

c_consts! {
    /// Sub-operations of [`DomctlDebugOp`].
    DOMCTL_DEBUG_OPS: u32 {
        XEN_DOMCTL_DEBUG_OP_SINGLE_STEP_OFF = 0,
        XEN_DOMCTL_DEBUG_OP_SINGLE_STEP_ON = 1,
    }
}

c_consts! {
    /// Sub-operations of [`DomctlVmtraceOp`].
    DOMCTL_VMTRACE_OPS: u32 {
        XEN_DOMCTL_VMTRACE_ENABLE = 1,
        XEN_DOMCTL_VMTRACE_DISABLE = 2,
        XEN_DOMCTL_VMTRACE_RESET_AND_ENABLE = 3,
        XEN_DOMCTL_VMTRACE_OUTPUT_POSITION = 4,
        XEN_DOMCTL_VMTRACE_GET_OPTION = 5,
        XEN_DOMCTL_VMTRACE_SET_OPTION = 6,
    }
}

c_struct! {
    /// `{set,get}vcpucontext`.
    pub struct DomctlVcpucontext = "struct xen_domctl_vcpucontext", 16 {
        vcpu: u32,
        _pad: [u8; 4],
        ctxt: Handle<VcpuGuestContext>,
    }

    /// `getvcpuinfo`. Out: everything but `vcpu`; `cpu_time` in ns.
    pub struct DomctlGetvcpuinfo = "struct xen_domctl_getvcpuinfo", 24 {
        vcpu: u32,
        online: u8,
        blocked: u8,
        running: u8,
        _pad0: u8,
        cpu_time: u64,
        cpu: u32,
        _pad1: [u8; 4],
    }

    /// `{set,get}vcpuaffinity`. Set writes the affinity in effect back.
    pub struct DomctlVcpuaffinity = "struct xen_domctl_vcpuaffinity", 40 {
        vcpu: u32,
        flags: u32,
        cpumap_hard: XenctlBitmap,
        cpumap_soft: XenctlBitmap,
    }

    /// `{set,get}_ext_vcpucontext`; of HVM guests only `vmce` counts.
    pub struct DomctlExtVcpucontext = "struct xen_domctl_ext_vcpucontext", 64 {
        vcpu: u32,
        size: u32,
        syscall32_callback_eip: u64,
        sysenter_callback_eip: u64,
        syscall32_callback_cs: u16,
        sysenter_callback_cs: u16,
        syscall32_disables_events: u8,
        sysenter_disables_events: u8,
        _pad: [u8; 2],
        vmce: HvmVmceVcpu,
    }

    /// `debug_op`.
    pub struct DomctlDebugOp = "struct xen_domctl_debug_op", 8 {
        op: u32,
        vcpu: u32,
    }

    /// `gdbsx_guestmemio`.
    pub struct DomctlGdbsxMemio = "struct xen_domctl_gdbsx_memio", 40 {
        pgd3val: u64,
        gva: u64,
        uva: u64,
        len: u32,
        gwr: u8,
        _pad: [u8; 3],
        remain: u32,
        _pad1: [u8; 4],
    }

    /// `gdbsx_{pause,unpause}vcpu`.
    pub struct DomctlGdbsxPauseunpVcpu = "struct xen_domctl_gdbsx_pauseunp_vcpu", 4 {
        vcpu: u32,
    }

    /// `gdbsx_domstatus`.
    pub struct DomctlGdbsxDomstatus = "struct xen_domctl_gdbsx_domstatus", 12 {
        paused: u8,
        _pad: [u8; 3],
        vcpu_id: u32,
        vcpu_ev: u32,
    }

    /// `{set,get}vcpuextstate`: the XSAVE area.
    pub struct DomctlVcpuextstate = "struct xen_domctl_vcpuextstate", 32 {
        vcpu: u32,
        _pad: [u8; 4],
        xfeature_mask: u64,
        size: u64,
        buffer: Handle<u64>,
    }

    /// An MSR of a vCPU.
    pub struct DomctlVcpuMsr = "struct xen_domctl_vcpu_msr", 16 {
        index: u32,
        _reserved: u32,
        value: u64,
    }

    /// `{get,set}_vcpu_msrs`.
    pub struct DomctlVcpuMsrs = "struct xen_domctl_vcpu_msrs", 16 {
        vcpu: u32,
        msr_count: u32,
        msrs: Handle<DomctlVcpuMsr>,
    }

    /// `vmtrace_op`.
    pub struct DomctlVmtraceOp = "struct xen_domctl_vmtrace_op", 24 {
        cmd: u32,
        vcpu: u32,
        key: u64,
        value: u64,
    }
}
