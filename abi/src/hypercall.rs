//! Hypercall numbers (`xen.h`) and the sub-operations of hypercalls that have no header of their own.

use crate::macros::c_consts;

c_consts! {
    /// Hypercalls by number (`__HYPERVISOR_*`).
    HYPERCALLS: u32 {
        HYPERVISOR_SET_TRAP_TABLE = 0,
        HYPERVISOR_MMU_UPDATE = 1,
        HYPERVISOR_SET_GDT = 2,
        HYPERVISOR_STACK_SWITCH = 3,
        HYPERVISOR_SET_CALLBACKS = 4,
        HYPERVISOR_FPU_TASKSWITCH = 5,
        HYPERVISOR_SCHED_OP_COMPAT = 6,
        HYPERVISOR_PLATFORM_OP = 7,
        HYPERVISOR_SET_DEBUGREG = 8,
        HYPERVISOR_GET_DEBUGREG = 9,
        HYPERVISOR_UPDATE_DESCRIPTOR = 10,
        HYPERVISOR_MEMORY_OP = 12,
        HYPERVISOR_MULTICALL = 13,
        HYPERVISOR_UPDATE_VA_MAPPING = 14,
        HYPERVISOR_SET_TIMER_OP = 15,
        HYPERVISOR_EVENT_CHANNEL_OP_COMPAT = 16,
        HYPERVISOR_XEN_VERSION = 17,
        HYPERVISOR_CONSOLE_IO = 18,
        HYPERVISOR_PHYSDEV_OP_COMPAT = 19,
        HYPERVISOR_GRANT_TABLE_OP = 20,
        HYPERVISOR_VM_ASSIST = 21,
        HYPERVISOR_UPDATE_VA_MAPPING_OTHERDOMAIN = 22,
        HYPERVISOR_IRET = 23,
        HYPERVISOR_VCPU_OP = 24,
        HYPERVISOR_SET_SEGMENT_BASE = 25,
        HYPERVISOR_MMUEXT_OP = 26,
        HYPERVISOR_XSM_OP = 27,
        HYPERVISOR_NMI_OP = 28,
        HYPERVISOR_SCHED_OP = 29,
        HYPERVISOR_CALLBACK_OP = 30,
        HYPERVISOR_XENOPROF_OP = 31,
        HYPERVISOR_EVENT_CHANNEL_OP = 32,
        HYPERVISOR_PHYSDEV_OP = 33,
        HYPERVISOR_HVM_OP = 34,
        HYPERVISOR_SYSCTL = 35,
        HYPERVISOR_DOMCTL = 36,
        HYPERVISOR_KEXEC_OP = 37,
        HYPERVISOR_TMEM_OP = 38,
        HYPERVISOR_ARGO_OP = 39,
        HYPERVISOR_XENPMU_OP = 40,
        HYPERVISOR_DM_OP = 41,
        HYPERVISOR_HYPFS_OP = 42,
        HYPERVISOR_MCA = 48,
    }
}

c_consts! {
    /// Commands and assist types of `HYPERVISOR_vm_assist`.
    VM_ASSISTS: u32 {
        VMASST_CMD_ENABLE = 0,
        VMASST_CMD_DISABLE = 1,
        VMASST_TYPE_4GB_SEGMENTS = 0,
        VMASST_TYPE_4GB_SEGMENTS_NOTIFY = 1,
        VMASST_TYPE_WRITABLE_PAGETABLES = 2,
        VMASST_TYPE_PAE_EXTENDED_CR3 = 3,
        VMASST_TYPE_ARCHITECTURAL_IOPL = 4,
        VMASST_TYPE_RUNSTATE_UPDATE_FLAG = 5,
        VMASST_TYPE_M2P_STRICT = 32,
    }
}

/// The name of a hypercall number (`"HYPERVISOR_MEMORY_OP"`), for diagnostics.
pub fn name(number: u32) -> Option<&'static str> {
    HYPERCALLS.iter().find(|(_, n)| *n == i64::from(number)).map(|(name, _)| *name)
}
