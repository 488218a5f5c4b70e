//! Physical devices (`physdev.h`).

use crate::{
    handle::Handle,
    macros::{c_consts, c_struct},
};

c_consts! {
    /// Sub-operations of `HYPERVISOR_physdev_op`.
    PHYSDEVOPS: u32 {
        PHYSDEVOP_EOI = 12,
        PHYSDEVOP_PIRQ_EOI_GMFN_V1 = 17,
        PHYSDEVOP_PIRQ_EOI_GMFN_V2 = 28,
        PHYSDEVOP_IRQ_STATUS_QUERY = 5,
        PHYSDEVOP_SET_IOPL = 6,
        PHYSDEVOP_SET_IOBITMAP = 7,
        PHYSDEVOP_APIC_READ = 8,
        PHYSDEVOP_APIC_WRITE = 9,
        PHYSDEVOP_ALLOC_IRQ_VECTOR = 10,
        PHYSDEVOP_FREE_IRQ_VECTOR = 11,
        PHYSDEVOP_MAP_PIRQ = 13,
        PHYSDEVOP_UNMAP_PIRQ = 14,
        PHYSDEVOP_MANAGE_PCI_ADD = 15,
        PHYSDEVOP_MANAGE_PCI_REMOVE = 16,
        PHYSDEVOP_RESTORE_MSI = 19,
        PHYSDEVOP_MANAGE_PCI_ADD_EXT = 20,
        PHYSDEVOP_SETUP_GSI = 21,
        PHYSDEVOP_GET_FREE_PIRQ = 23,
        PHYSDEVOP_PCI_MMCFG_RESERVED = 24,
        PHYSDEVOP_PCI_DEVICE_ADD = 25,
        PHYSDEVOP_PCI_DEVICE_REMOVE = 26,
        PHYSDEVOP_RESTORE_MSI_EXT = 27,
        PHYSDEVOP_PREPARE_MSIX = 30,
        PHYSDEVOP_RELEASE_MSIX = 31,
        PHYSDEVOP_DBGP_OP = 29,
    }
}

c_consts! {
    /// Flags and types of the sub-operations.
    PHYSDEV_FLAGS: u32 {
        XENIRQSTAT_NEEDS_EOI = 0x1,
        XENIRQSTAT_SHARED = 0x2,
        MAP_PIRQ_TYPE_MSI = 0x0,
        MAP_PIRQ_TYPE_GSI = 0x1,
        MAP_PIRQ_TYPE_UNKNOWN = 0x2,
        MAP_PIRQ_TYPE_MSI_SEG = 0x3,
        MAP_PIRQ_TYPE_MULTI_MSI = 0x4,
        XEN_PCI_MMCFG_RESERVED = 0x1,
        XEN_PCI_DEV_EXTFN = 0x1,
        XEN_PCI_DEV_VIRTFN = 0x2,
        XEN_PCI_DEV_PXM = 0x4,
        PHYSDEVOP_DBGP_RESET_PREPARE = 1,
        PHYSDEVOP_DBGP_RESET_DONE = 2,
        PHYSDEVOP_DBGP_BUS_UNKNOWN = 0,
        PHYSDEVOP_DBGP_BUS_PCI = 1,
        PHYSDEVOP_IRQ_UNMASK_NOTIFY = 4,
    }
}

c_struct! {
    /// `PHYSDEVOP_eoi`.
    pub struct PhysdevEoi = "struct physdev_eoi", 4 {
        irq: u32,
    }

    /// `PHYSDEVOP_pirq_eoi_gmfn_v1`, `_v2`.
    pub struct PhysdevPirqEoiGmfn = "struct physdev_pirq_eoi_gmfn", 8 {
        gmfn: u64,
    }

    /// `PHYSDEVOP_irq_status_query`. Out: `flags`.
    pub struct PhysdevIrqStatusQuery = "struct physdev_irq_status_query", 8 {
        irq: u32,
        flags: u32,
    }

    /// `PHYSDEVOP_set_iopl`.
    pub struct PhysdevSetIopl = "struct physdev_set_iopl", 4 {
        iopl: u32,
    }

    /// `PHYSDEVOP_set_iobitmap`.
    pub struct PhysdevSetIobitmap = "struct physdev_set_iobitmap", 16 {
        bitmap: Handle<u8>,
        nr_ports: u32,
        _pad: [u8; 4],
    }

    /// `PHYSDEVOP_apic_read`, `_write`.
    pub struct PhysdevApic = "struct physdev_apic", 16 {
        apic_physbase: u64,
        reg: u32,
        value: u32,
    }

    /// `PHYSDEVOP_alloc_irq_vector`.
    pub struct PhysdevIrq = "struct physdev_irq", 8 {
        irq: u32,
        vector: u32,
    }

    /// `PHYSDEVOP_map_pirq`. In and out: `pirq`.
    pub struct PhysdevMapPirq = "struct physdev_map_pirq", 40 {
        domid: u16,
        _pad0: [u8; 2],
        kind ("type"): i32,
        index: i32,
        pirq: i32,
        bus: i32,
        devfn: i32,
        entry_nr: i32,
        _pad1: [u8; 4],
        table_base: u64,
    }

    /// `PHYSDEVOP_unmap_pirq`.
    pub struct PhysdevUnmapPirq = "struct physdev_unmap_pirq", 8 {
        domid: u16,
        _pad: [u8; 2],
        pirq: i32,
    }

    /// `PHYSDEVOP_manage_pci_add`, `_remove`.
    pub struct PhysdevManagePci = "struct physdev_manage_pci", 2 {
        bus: u8,
        devfn: u8,
    }

    /// `PHYSDEVOP_restore_msi`.
    pub struct PhysdevRestoreMsi = "struct physdev_restore_msi", 2 {
        bus: u8,
        devfn: u8,
    }

    /// `PHYSDEVOP_manage_pci_add_ext`.
    pub struct PhysdevManagePciExt = "struct physdev_manage_pci_ext", 16 {
        bus: u8,
        devfn: u8,
        _pad0: [u8; 2],
        is_extfn: u32,
        is_virtfn: u32,
        physfn_bus ("physfn.bus"): u8,
        physfn_devfn ("physfn.devfn"): u8,
        _pad1: [u8; 2],
    }

    /// `PHYSDEVOP_setup_gsi`; triggering 0 edge, 1 level; polarity 0 high, 1 low.
    pub struct PhysdevSetupGsi = "struct physdev_setup_gsi", 8 {
        gsi: i32,
        triggering: u8,
        polarity: u8,
        _pad: [u8; 2],
    }

    /// `PHYSDEVOP_get_free_pirq`. Out: `pirq`.
    pub struct PhysdevGetFreePirq = "struct physdev_get_free_pirq", 8 {
        kind ("type"): i32,
        pirq: u32,
    }

    /// `PHYSDEVOP_pci_mmcfg_reserved`.
    pub struct PhysdevPciMmcfgReserved = "struct physdev_pci_mmcfg_reserved", 16 {
        address: u64,
        segment: u16,
        start_bus: u8,
        end_bus: u8,
        flags: u32,
    }

    /// `PHYSDEVOP_pci_device_add`; followed by the proximity domain (u32) if `XEN_PCI_DEV_PXM` is set.
    pub struct PhysdevPciDeviceAdd = "struct physdev_pci_device_add", 12 {
        seg: u16,
        bus: u8,
        devfn: u8,
        flags: u32,
        physfn_bus ("physfn.bus"): u8,
        physfn_devfn ("physfn.devfn"): u8,
        _pad: [u8; 2],
    }

    /// `PHYSDEVOP_pci_device_remove`, `restore_msi_ext`, `prepare_msix`, `release_msix`.
    pub struct PhysdevPciDevice = "struct physdev_pci_device", 4 {
        seg: u16,
        bus: u8,
        devfn: u8,
    }

    /// `PHYSDEVOP_dbgp_op`.
    pub struct PhysdevDbgpOp = "struct physdev_dbgp_op", 6 {
        op: u8,
        bus: u8,
        pci_seg ("u.pci.seg"): u16,
        pci_bus ("u.pci.bus"): u8,
        pci_devfn ("u.pci.devfn"): u8,
    }
}
