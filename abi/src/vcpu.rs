//! Operations on vCPUs (`vcpu.h`) and the state a new vCPU of an HVM guest starts in (`hvm/hvm_vcpu.h`).

use crate::{
    handle::Handle,
    macros::{c_consts, c_struct, c_union},
    xen::VcpuTimeInfo,
};

c_consts! {
    /// Sub-operations of `HYPERVISOR_vcpu_op`.
    VCPUOPS: u32 {
        VCPUOP_INITIALISE = 0,
        VCPUOP_UP = 1,
        VCPUOP_DOWN = 2,
        VCPUOP_IS_UP = 3,
        VCPUOP_GET_RUNSTATE_INFO = 4,
        VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA = 5,
        VCPUOP_SET_PERIODIC_TIMER = 6,
        VCPUOP_STOP_PERIODIC_TIMER = 7,
        VCPUOP_SET_SINGLESHOT_TIMER = 8,
        VCPUOP_STOP_SINGLESHOT_TIMER = 9,
        VCPUOP_REGISTER_VCPU_INFO = 10,
        VCPUOP_SEND_NMI = 11,
        VCPUOP_GET_PHYSID = 12,
        VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA = 13,
    }
}

c_consts! {
    /// Values of [`VcpuRunstateInfo::state`].
    RUNSTATES: i32 {
        RUNSTATE_RUNNING = 0,
        RUNSTATE_RUNNABLE = 1,
        RUNSTATE_BLOCKED = 2,
        RUNSTATE_OFFLINE = 3,
    }
}

c_consts! {
    /// Bit of [`VcpuRunstateInfo::state_entry_time`]: Xen is writing the structure.
    RUNSTATE_FLAGS: u64 {
        XEN_RUNSTATE_UPDATE = 1 << 63,
    }
}

c_consts! {
    /// Bit of [`VcpuSetSingleshotTimer::flags`]: fail with `ETIME` if the time has passed.
    SSHOTTMR_FLAGS: u32 {
        VCPU_SSHOTTMR_FUTURE = 0x1,
    }
}

c_consts! {
    /// Values of [`VcpuHvmContext::mode`].
    VCPU_HVM_MODES: u32 {
        VCPU_HVM_MODE_32B = 0,
        VCPU_HVM_MODE_64B = 1,
    }
}

c_struct! {
    /// What a vCPU is doing since when, and the nanoseconds it has spent in each of the four states.
    pub struct VcpuRunstateInfo = "struct vcpu_runstate_info", 48 {
        state: i32,
        _pad: [u8; 4],
        state_entry_time: u64,
        time: [u64; 4],
    }

    /// `VCPUOP_register_runstate_memory_area`.
    pub struct VcpuRegisterRunstateMemoryArea = "struct vcpu_register_runstate_memory_area", 8 {
        addr: Handle<VcpuRunstateInfo>,
    }

    /// `VCPUOP_set_periodic_timer`.
    pub struct VcpuSetPeriodicTimer = "struct vcpu_set_periodic_timer", 8 {
        period_ns: u64,
    }

    /// `VCPUOP_set_singleshot_timer`.
    pub struct VcpuSetSingleshotTimer = "struct vcpu_set_singleshot_timer", 16 {
        timeout_abs_ns: u64,
        flags: u32,
        _pad: [u8; 4],
    }

    /// `VCPUOP_register_vcpu_info`; `mfn` is a guest frame for a translated guest.
    pub struct VcpuRegisterVcpuInfo = "struct vcpu_register_vcpu_info", 16 {
        mfn: u64,
        offset: u32,
        _rsvd: u32,
    }

    /// `VCPUOP_get_physid`: APIC id in the low half, ACPI id in the high half.
    pub struct VcpuGetPhysid = "struct vcpu_get_physid", 8 {
        phys_id: u64,
    }

    /// `VCPUOP_register_vcpu_time_memory_area`.
    pub struct VcpuRegisterTimeMemoryArea = "struct vcpu_register_time_memory_area", 8 {
        addr: Handle<VcpuTimeInfo>,
    }

    /// Initial state of a vCPU in a 16- or 32-bit mode; `*_ar` are segment attributes as in a descriptor, packed to 12 bits.
    pub struct VcpuHvmX8632 = "struct vcpu_hvm_x86_32", 120 {
        eax: u32,
        ecx: u32,
        edx: u32,
        ebx: u32,
        esp: u32,
        ebp: u32,
        esi: u32,
        edi: u32,
        eip: u32,
        eflags: u32,
        cr0: u32,
        cr3: u32,
        cr4: u32,
        _pad1: u32,
        efer: u64,
        cs_base: u32,
        ds_base: u32,
        ss_base: u32,
        es_base: u32,
        tr_base: u32,
        cs_limit: u32,
        ds_limit: u32,
        ss_limit: u32,
        es_limit: u32,
        tr_limit: u32,
        cs_ar: u16,
        ds_ar: u16,
        ss_ar: u16,
        es_ar: u16,
        tr_ar: u16,
        _pad2: [u16; 3],
    }

    /// Initial state of a vCPU in 64-bit mode; segments are flat.
    pub struct VcpuHvmX8664 = "struct vcpu_hvm_x86_64", 112 {
        rax: u64,
        rcx: u64,
        rdx: u64,
        rbx: u64,
        rsp: u64,
        rbp: u64,
        rsi: u64,
        rdi: u64,
        rip: u64,
        rflags: u64,
        cr0: u64,
        cr3: u64,
        cr4: u64,
        efer: u64,
    }

    /// `VCPUOP_initialise` of an HVM guest: by `mode`, a [`VcpuHvmX8632`] or a [`VcpuHvmX8664`].
    pub struct VcpuHvmContext = "struct vcpu_hvm_context", 128 {
        mode: u32,
        _pad: u32,
        u ("cpu_regs"): [u8; 120],
    }
}

c_union!(VcpuHvmContext, 120);
