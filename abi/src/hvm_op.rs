//! Operations on HVM domains (`hvm/hvm_op.h`) and their parameters (`hvm/params.h`).

use crate::macros::{c_consts, c_struct, c_union};

c_consts! {
    /// Sub-operations of `HYPERVISOR_hvm_op`.
    HVMOPS: u32 {
        HVMOP_SET_PCI_INTX_LEVEL = 2,
        HVMOP_SET_ISA_IRQ_LEVEL = 3,
        HVMOP_SET_PCI_LINK_ROUTE = 4,
        HVMOP_SET_PARAM = 0,
        HVMOP_GET_PARAM = 1,
        HVMOP_FLUSH_TLBS = 5,
        HVMOP_PAGETABLE_DYING = 9,
        HVMOP_GET_TIME = 10,
        HVMOP_XENTRACE = 11,
        HVMOP_SET_MEM_ACCESS = 12,
        HVMOP_GET_MEM_ACCESS = 13,
        HVMOP_GET_MEM_TYPE = 15,
        HVMOP_SET_EVTCHN_UPCALL_VECTOR = 23,
        HVMOP_GUEST_REQUEST_VM_EVENT = 24,
        HVMOP_ALTP2M = 25,
    }
}

c_consts! {
    /// Parameters of an HVM domain ([`HvmParam::index`]).
    HVM_PARAMS: u32 {
        HVM_PARAM_PAE_ENABLED = 4,
        HVM_PARAM_DM_DOMAIN = 13,
        HVM_PARAM_MEMORY_EVENT_CR0 = 20,
        HVM_PARAM_MEMORY_EVENT_CR3 = 21,
        HVM_PARAM_MEMORY_EVENT_CR4 = 22,
        HVM_PARAM_MEMORY_EVENT_INT3 = 23,
        HVM_PARAM_NESTEDHVM = 24,
        HVM_PARAM_MEMORY_EVENT_SINGLE_STEP = 25,
        HVM_PARAM_BUFIOREQ_EVTCHN = 26,
        HVM_PARAM_MEMORY_EVENT_MSR = 30,
        HVM_PARAM_CALLBACK_IRQ = 0,
        HVM_PARAM_STORE_PFN = 1,
        HVM_PARAM_STORE_EVTCHN = 2,
        HVM_PARAM_IOREQ_PFN = 5,
        HVM_PARAM_BUFIOREQ_PFN = 6,
        HVM_PARAM_VIRIDIAN = 9,
        HVM_PARAM_TIMER_MODE = 10,
        HVM_PARAM_HPET_ENABLED = 11,
        HVM_PARAM_IDENT_PT = 12,
        HVM_PARAM_ACPI_S_STATE = 14,
        HVM_PARAM_VM86_TSS = 15,
        HVM_PARAM_VPT_ALIGN = 16,
        HVM_PARAM_CONSOLE_PFN = 17,
        HVM_PARAM_CONSOLE_EVTCHN = 18,
        HVM_PARAM_ACPI_IOPORTS_LOCATION = 19,
        HVM_PARAM_PAGING_RING_PFN = 27,
        HVM_PARAM_MONITOR_RING_PFN = 28,
        HVM_PARAM_SHARING_RING_PFN = 29,
        HVM_PARAM_TRIPLE_FAULT_REASON = 31,
        HVM_PARAM_IOREQ_SERVER_PFN = 32,
        HVM_PARAM_NR_IOREQ_SERVER_PAGES = 33,
        HVM_PARAM_VM_GENERATION_ID_ADDR = 34,
        HVM_PARAM_ALTP2M = 35,
        HVM_PARAM_X87_FIP_WIDTH = 36,
        HVM_PARAM_VM86_TSS_SIZED = 37,
        HVM_PARAM_MCA_CAP = 38,
        HVM_NR_PARAMS = 39,
    }
}

c_consts! {
    /// Meaning of `HVM_PARAM_CALLBACK_IRQ`: its type is in bits 63:56.
    HVM_CALLBACK_TYPES: u64 {
        HVM_PARAM_CALLBACK_IRQ_TYPE_MASK = 0xff00000000000000,
        HVM_PARAM_CALLBACK_TYPE_GSI = 0,
        HVM_PARAM_CALLBACK_TYPE_PCI_INTX = 1,
        HVM_PARAM_CALLBACK_TYPE_VECTOR = 2,
    }
}

c_consts! {
    /// Values of other parameters.
    HVM_PARAM_VALUES: u64 {
        HVMPTM_DELAY_FOR_MISSED_TICKS = 0,
        HVMPTM_NO_DELAY_FOR_MISSED_TICKS = 1,
        HVMPTM_NO_MISSED_TICKS_PENDING = 2,
        HVMPTM_ONE_MISSED_TICK_PENDING = 3,
        XEN_ALTP2M_DISABLED = 0,
        XEN_ALTP2M_MIXED = 1,
        XEN_ALTP2M_EXTERNAL = 2,
        XEN_ALTP2M_LIMITED = 3,
        XEN_HVM_MCA_CAP_LMCE = 1 << 0,
        XEN_HVM_MCA_CAP_MASK = 1,
    }
}

c_consts! {
    /// Values of [`HvmGetMemType::mem_type`].
    HVMMEM_TYPES: u16 {
        HVMMEM_RAM_RW = 0,
        HVMMEM_RAM_RO = 1,
        HVMMEM_MMIO_DM = 2,
        HVMMEM_UNUSED = 3,
        HVMMEM_IOREQ_SERVER = 4,
    }
}

c_struct! {
    /// `HVMOP_{set,get}_param`.
    pub struct HvmParam = "struct xen_hvm_param", 16 {
        domid: u16,
        _pad: u16,
        index: u32,
        value: u64,
    }

    /// `HVMOP_pagetable_dying`.
    pub struct HvmPagetableDying = "struct xen_hvm_pagetable_dying", 16 {
        domid: u16,
        _pad: [u16; 3],
        gpa: u64,
    }

    /// `HVMOP_get_time`.
    pub struct HvmGetTime = "struct xen_hvm_get_time", 8 {
        now: u64,
    }

    /// `HVMOP_get_mem_type`.
    pub struct HvmGetMemType = "struct xen_hvm_get_mem_type", 16 {
        domid: u16,
        mem_type: u16,
        _pad: [u16; 2],
        pfn: u64,
    }

    /// `HVMOP_set_evtchn_upcall_vector`: deliver a vCPU's event upcall through its local APIC.
    pub struct HvmEvtchnUpcallVector = "struct xen_hvm_evtchn_upcall_vector", 8 {
        vcpu: u32,
        vector: u8,
        _pad: [u8; 3],
    }

    /// Header of `HVMOP_altp2m` (answered with an error: there are no alternate p2ms).
    pub struct HvmAltp2mOp = "struct xen_hvm_altp2m_op", 80 {
        version: u32,
        cmd: u32,
        domain: u16,
        _pad1: u16,
        _pad2: u32,
        u: [u8; 64],
    }
}

c_union!(HvmAltp2mOp, 64);
