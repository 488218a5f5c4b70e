//! What Xen shares with a guest: the shared-info page, per-vCPU information, time; domain ids and VIRQs
//! (`xen.h`, `arch-x86/xen.h`).

use crate::{
    handle::Handle,
    macros::{c_consts, c_struct},
};

c_consts! {
    /// Reserved domain ids.
    DOMIDS: u16 {
        DOMID_FIRST_RESERVED = 0x7ff0,
        DOMID_SELF = 0x7ff0,
        DOMID_IO = 0x7ff1,
        DOMID_XEN = 0x7ff2,
        DOMID_COW = 0x7ff3,
        DOMID_INVALID = 0x7ff4,
        DOMID_IDLE = 0x7fff,
        DOMID_MASK = 0x7fff,
    }
}

c_consts! {
    /// Virtual interrupts. See [`virq_is_global`] for which are per vCPU.
    VIRQS: u32 {
        VIRQ_TIMER = 0,
        VIRQ_DEBUG = 1,
        VIRQ_CONSOLE = 2,
        VIRQ_DOM_EXC = 3,
        VIRQ_TBUF = 4,
        VIRQ_DEBUGGER = 6,
        VIRQ_XENOPROF = 7,
        VIRQ_CON_RING = 8,
        VIRQ_PCPU_STATE = 9,
        VIRQ_MEM_EVENT = 10,
        VIRQ_ARGO = 11,
        VIRQ_ENOMEM = 12,
        VIRQ_XENPMU = 13,
        VIRQ_ARCH_0 = 16,
        VIRQ_ARCH_1 = 17,
        VIRQ_ARCH_2 = 18,
        VIRQ_ARCH_3 = 19,
        VIRQ_ARCH_4 = 20,
        VIRQ_ARCH_5 = 21,
        VIRQ_ARCH_6 = 22,
        VIRQ_ARCH_7 = 23,
        NR_VIRQS = 24,
    }
}

/// Whether a VIRQ exists once per domain (bound on vCPU 0, may be moved) rather than once per vCPU.
pub const fn virq_is_global(virq: u32) -> bool {
    !matches!(virq, VIRQ_TIMER | VIRQ_DEBUG | VIRQ_XENOPROF | VIRQ_XENPMU)
}

c_consts! {
    /// Bits of [`VcpuTimeInfo::flags`].
    PVCLOCK_FLAGS: u8 {
        XEN_PVCLOCK_TSC_STABLE_BIT = 1 << 0,
        XEN_PVCLOCK_GUEST_STOPPED = 1 << 1,
    }
}

c_consts! {
    /// Sizes of the shared-info page's arrays.
    LIMITS: usize {
        XEN_LEGACY_MAX_VCPUS = 32,
    }
}

c_struct! {
    /// One call of `HYPERVISOR_multicall`.
    pub struct MulticallEntry = "struct multicall_entry", 64 {
        op: u64,
        result: u64,
        args: [u64; 6],
    }

    /// Conversion from TSC to nanoseconds since boot, per vCPU; `version` is odd while Xen writes.
    ///
    /// `system_time + (((tsc - tsc_timestamp) << tsc_shift) * tsc_to_system_mul >> 32)`; a negative shift is to the right.
    pub struct VcpuTimeInfo = "struct vcpu_time_info", 32 {
        version: u32,
        _pad0: u32,
        tsc_timestamp: u64,
        system_time: u64,
        tsc_to_system_mul: u32,
        tsc_shift: i8,
        flags: u8,
        _pad1: [u8; 2],
    }

    /// The architecture's part of [`VcpuInfo`].
    pub struct ArchVcpuInfo = "struct arch_vcpu_info", 16 {
        cr2: u64,
        _pad: u64,
    }

    /// Event flags and time of one vCPU.
    pub struct VcpuInfo = "struct vcpu_info", 64 {
        evtchn_upcall_pending: u8,
        evtchn_upcall_mask: u8,
        _pad0: [u8; 6],
        evtchn_pending_sel: u64,
        arch: ArchVcpuInfo,
        time: VcpuTimeInfo,
    }

    /// The architecture's part of [`SharedInfo`]; PV guests only, except `nmi_reason`.
    pub struct ArchSharedInfo = "struct arch_shared_info", 48 {
        max_pfn: u64,
        pfn_to_mfn_frame_list_list: u64,
        nmi_reason: u64,
        p2m_cr3: u64,
        p2m_vaddr: u64,
        p2m_generation: u64,
    }

    /// The shared-info page: vCPU information of the first 32 vCPUs, 2-level event channels, wall clock.
    ///
    /// Wall clock: seconds and nanoseconds at system time 0; `wc_version` is odd while Xen writes.
    pub struct SharedInfo = "struct shared_info", 3136 {
        vcpu_info: [VcpuInfo; XEN_LEGACY_MAX_VCPUS],
        evtchn_pending: [u64; 64],
        evtchn_mask: [u64; 64],
        wc_version: u32,
        wc_sec: u32,
        wc_nsec: u32,
        wc_sec_hi: u32,
        arch: ArchSharedInfo,
    }

    /// A CPU or node bitmap in the caller's memory (`xenctl_bitmap`).
    pub struct XenctlBitmap = "struct xenctl_bitmap", 16 {
        bitmap: Handle<u8>,
        nr_bits: u32,
        _pad: u32,
    }
}

/// A domain's UUID (`xen_domain_handle_t`).
pub type DomainHandle = [u8; 16];
