//! Domctl members that concern devices: permissions, pass-through, monitoring, cache and console.

use crate::{
    handle::Handle,
    macros::{c_consts, c_struct, c_union},
};

c_consts! {
    /// Device kinds and flags of [`DomctlAssignDevice`], values of `add_mapping`.
    DOMCTL_DEVS: u32 {
        XEN_DOMCTL_DEV_PCI = 0,
        XEN_DOMCTL_DEV_DT = 1,
        XEN_DOMCTL_DEV_RDM_RELAXED = 1,
        DPCI_ADD_MAPPING = 1,
        DPCI_REMOVE_MAPPING = 0,
    }
}

c_consts! {
    /// Values of [`DomctlBindPtIrq::irq_type`].
    PT_IRQ_TYPES: u32 {
        PT_IRQ_TYPE_PCI = 0,
        PT_IRQ_TYPE_ISA = 1,
        PT_IRQ_TYPE_MSI = 2,
        PT_IRQ_TYPE_MSI_TRANSLATE = 3,
        PT_IRQ_TYPE_SPI = 4,
    }
}

c_consts! {
    /// Fields of [`DomctlPtIrqMsi::gflags`].
    DOMCTL_VMSIS: u32 {
        XEN_DOMCTL_VMSI_X86_DEST_ID_MASK = 0xff,
        XEN_DOMCTL_VMSI_X86_RH_MASK = 0x100,
        XEN_DOMCTL_VMSI_X86_DM_MASK = 0x200,
        XEN_DOMCTL_VMSI_X86_DELIV_MASK = 0x7000,
        XEN_DOMCTL_VMSI_X86_TRIG_MASK = 0x8000,
        XEN_DOMCTL_VMSI_X86_UNMASKED = 0x10000,
    }
}

c_consts! {
    /// Sub-operations of [`DomctlMonitorOp`].
    DOMCTL_MONITOR_OPS: u32 {
        XEN_DOMCTL_MONITOR_OP_ENABLE = 0,
        XEN_DOMCTL_MONITOR_OP_DISABLE = 1,
        XEN_DOMCTL_MONITOR_OP_GET_CAPABILITIES = 2,
        XEN_DOMCTL_MONITOR_OP_EMULATE_EACH_REP = 3,
        XEN_DOMCTL_MONITOR_OP_CONTROL_REGISTERS = 4,
    }
}

c_struct! {
    /// `irq_permission`.
    pub struct DomctlIrqPermission = "struct xen_domctl_irq_permission", 8 {
        pirq: u32,
        allow_access: u8,
        _pad: [u8; 3],
    }

    /// `iomem_permission`.
    pub struct DomctlIomemPermission = "struct xen_domctl_iomem_permission", 24 {
        first_mfn: u64,
        nr_mfns: u64,
        allow_access: u8,
        _pad: [u8; 7],
    }

    /// `ioport_permission`.
    pub struct DomctlIoportPermission = "struct xen_domctl_ioport_permission", 12 {
        first_port: u32,
        nr_ports: u32,
        allow_access: u8,
        _pad: [u8; 3],
    }

    /// `{assign,test_assign,deassign}_device`; of a PCI device `u` starts with its segment, bus, device, function (u32).
    pub struct DomctlAssignDevice = "struct xen_domctl_assign_device", 24 {
        dev: u32,
        flags: u32,
        u: [u8; 16],
    }

    /// `get_device_group`.
    pub struct DomctlGetDeviceGroup = "struct xen_domctl_get_device_group", 24 {
        machine_sbdf: u32,
        max_sdevs: u32,
        num_sdevs: u32,
        _pad: [u8; 4],
        sdev_array: Handle<u32>,
    }

    /// `{bind,unbind}_pt_irq`; by `irq_type`, `u` is a [`DomctlPtIrqPci`], a [`DomctlPtIrqMsi`] or an ISA IRQ (u8).
    pub struct DomctlBindPtIrq = "struct xen_domctl_bind_pt_irq", 24 {
        machine_irq: u32,
        irq_type: u32,
        u: [u8; 16],
    }

    /// [`DomctlBindPtIrq::u`] of a PCI line.
    pub struct DomctlPtIrqPci = "", 3 {
        bus: u8,
        device: u8,
        intx: u8,
    }

    /// [`DomctlBindPtIrq::u`] of an MSI.
    pub struct DomctlPtIrqMsi = "", 16 {
        gvec: u8,
        _pad: [u8; 3],
        gflags: u32,
        gtable: u64,
    }

    /// `memory_mapping`: MMIO frames into a domain's physmap.
    pub struct DomctlMemoryMapping = "struct xen_domctl_memory_mapping", 32 {
        first_gfn: u64,
        first_mfn: u64,
        nr_mfns: u64,
        add_mapping: u32,
        _padding: u32,
    }

    /// `ioport_mapping`.
    pub struct DomctlIoportMapping = "struct xen_domctl_ioport_mapping", 16 {
        first_gport: u32,
        first_mport: u32,
        nr_ports: u32,
        add_mapping: u32,
    }

    /// `psr_cmt_op`.
    pub struct DomctlPsrCmtOp = "struct xen_domctl_psr_cmt_op", 8 {
        cmd: u32,
        data: u32,
    }

    /// `psr_alloc`.
    pub struct DomctlPsrAlloc = "struct xen_domctl_psr_alloc", 16 {
        cmd: u32,
        target: u32,
        data: u64,
    }

    /// `monitor_op`.
    pub struct DomctlMonitorOp = "struct xen_domctl_monitor_op", 24 {
        op: u32,
        event: u32,
        u: [u8; 16],
    }

    /// `vuart_op`.
    pub struct DomctlVuartOp = "struct xen_domctl_vuart_op", 24 {
        cmd: u32,
        kind ("type"): u32,
        gfn: u64,
        console_domid: u16,
        _pad: [u8; 2],
        evtchn: u32,
    }
}

c_union!(DomctlAssignDevice, 16);
c_union!(DomctlBindPtIrq, 16);
c_union!(DomctlMonitorOp, 16);
