//! Memory operations (`memory.h`).

use crate::{
    handle::Handle,
    macros::{c_consts, c_struct, c_union},
    physdev::PhysdevPciDevice,
};

c_consts! {
    /// Sub-operations of `HYPERVISOR_memory_op`.
    MEMORY_OPS: u32 {
        XENMEM_INCREASE_RESERVATION = 0,
        XENMEM_DECREASE_RESERVATION = 1,
        XENMEM_POPULATE_PHYSMAP = 6,
        XENMEM_EXCHANGE = 11,
        XENMEM_MAXIMUM_RAM_PAGE = 2,
        XENMEM_CURRENT_RESERVATION = 3,
        XENMEM_MAXIMUM_RESERVATION = 4,
        XENMEM_MAXIMUM_GPFN = 14,
        XENMEM_MACHPHYS_MFN_LIST = 5,
        XENMEM_MACHPHYS_COMPAT_MFN_LIST = 25,
        XENMEM_MACHPHYS_MAPPING = 12,
        XENMEM_ADD_TO_PHYSMAP = 7,
        XENMEM_ADD_TO_PHYSMAP_BATCH = 23,
        XENMEM_REMOVE_FROM_PHYSMAP = 15,
        XENMEM_MEMORY_MAP = 9,
        XENMEM_MACHINE_MEMORY_MAP = 10,
        XENMEM_SET_MEMORY_MAP = 13,
        XENMEM_SET_POD_TARGET = 16,
        XENMEM_GET_POD_TARGET = 17,
        XENMEM_GET_SHARING_FREED_PAGES = 18,
        XENMEM_GET_SHARING_SHARED_PAGES = 19,
        XENMEM_PAGING_OP = 20,
        XENMEM_ACCESS_OP = 21,
        XENMEM_SHARING_OP = 22,
        XENMEM_CLAIM_PAGES = 24,
        XENMEM_RESERVED_DEVICE_MEMORY_MAP = 27,
        XENMEM_ACQUIRE_RESOURCE = 28,
        XENMEM_GET_VNUMAINFO = 26,
    }
}

c_consts! {
    /// Bits of [`MemoryReservation::mem_flags`]; see also [`mem_flags_node`].
    XENMEMF_FLAGS: u32 {
        XENMEMF_POPULATE_ON_DEMAND = 1 << 16,
        XENMEMF_EXACT_NODE_REQUEST = 1 << 17,
        XENMEMF_VNODE = 1 << 18,
    }
}

c_consts! {
    /// Values of [`AddToPhysmap::space`].
    XENMAPSPACES: u32 {
        XENMAPSPACE_SHARED_INFO = 0,
        XENMAPSPACE_GRANT_TABLE = 1,
        XENMAPSPACE_GMFN = 2,
        XENMAPSPACE_GMFN_RANGE = 3,
        XENMAPSPACE_GMFN_FOREIGN = 4,
        XENMAPSPACE_DEV_MMIO = 5,
    }
}

c_consts! {
    /// Bit of [`AddToPhysmap::idx`] in the grant table's space: a status frame rather than a shared one.
    XENMAPIDX: u64 {
        XENMAPIDX_GRANT_TABLE_STATUS = 0x80000000,
    }
}

c_consts! {
    /// Values of [`MemAcquireResource::kind`], `id` and `frame`.
    XENMEM_RESOURCES: u32 {
        XENMEM_RESOURCE_IOREQ_SERVER = 0,
        XENMEM_RESOURCE_GRANT_TABLE = 1,
        XENMEM_RESOURCE_VMTRACE_BUF = 2,
        XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED = 0,
        XENMEM_RESOURCE_GRANT_TABLE_ID_STATUS = 1,
        XENMEM_RESOURCE_IOREQ_SERVER_FRAME_BUFIOREQ = 0,
    }
}

c_consts! {
    /// Bit of [`ReservedDeviceMemoryMap::flags`].
    XENMEM_RDM: u32 {
        XENMEM_RDM_ALL = 1,
    }
}

/// Limit on the machine address in bits that a reservation asks for (`XENMEMF_get_address_bits`); 0: no limit.
pub const fn mem_flags_address_bits(mem_flags: u32) -> u32 {
    mem_flags & 0xff
}

/// The NUMA node a reservation asks for (`XENMEMF_get_node`); `None`: any.
pub const fn mem_flags_node(mem_flags: u32) -> Option<u8> {
    match (mem_flags >> 8) as u8 {
        0 => None,
        node => Some(node - 1),
    }
}

c_struct! {
    /// `XENMEM_{increase,decrease}_reservation`, `populate_physmap`, `claim_pages`: extents of `2^extent_order` frames.
    pub struct MemoryReservation = "struct xen_memory_reservation", 32 {
        extent_start: Handle<u64>,
        nr_extents: u64,
        extent_order: u32,
        mem_flags: u32,
        domid: u16,
        _pad: [u8; 6],
    }

    /// `XENMEM_exchange`.
    pub struct MemoryExchange = "struct xen_memory_exchange", 72 {
        input ("in"): MemoryReservation,
        out: MemoryReservation,
        nr_exchanged: u64,
    }

    /// `XENMEM_current_reservation`, `maximum_reservation`, `maximum_gpfn`.
    pub struct MemoryDomain = "struct xen_memory_domain", 2 {
        domid: u16,
    }

    /// `XENMEM_machphys_mfn_list`.
    pub struct MachphysMfnList = "struct xen_machphys_mfn_list", 24 {
        max_extents: u32,
        _pad0: [u8; 4],
        extent_start: Handle<u64>,
        nr_extents: u32,
        _pad1: [u8; 4],
    }

    /// `XENMEM_machphys_mapping`.
    pub struct MachphysMapping = "struct xen_machphys_mapping", 24 {
        v_start: u64,
        v_end: u64,
        max_mfn: u64,
    }

    /// `XENMEM_add_to_physmap`; `size` counts only in `XENMAPSPACE_GMFN_RANGE`.
    pub struct AddToPhysmap = "struct xen_add_to_physmap", 24 {
        domid: u16,
        size: u16,
        space: u32,
        idx: u64,
        gpfn: u64,
    }

    /// `XENMEM_add_to_physmap_batch`; `foreign_domid` (the union `u`) counts only in `XENMAPSPACE_GMFN_FOREIGN`.
    pub struct AddToPhysmapBatch = "struct xen_add_to_physmap_batch", 32 {
        domid: u16,
        space: u16,
        size: u16,
        foreign_domid ("u.foreign_domid"): u16,
        idxs: Handle<u64>,
        gpfns: Handle<u64>,
        errs: Handle<i32>,
    }

    /// `XENMEM_remove_from_physmap`.
    pub struct RemoveFromPhysmap = "struct xen_remove_from_physmap", 16 {
        domid: u16,
        _pad: [u8; 6],
        gpfn: u64,
    }

    /// `XENMEM_memory_map`, `machine_memory_map`: array of [`E820Entry`](crate::e820::E820Entry).
    pub struct MemoryMap = "struct xen_memory_map", 16 {
        nr_entries: u32,
        _pad: [u8; 4],
        buffer: Handle<crate::e820::E820Entry>,
    }

    /// `XENMEM_set_memory_map`.
    pub struct ForeignMemoryMap = "struct xen_foreign_memory_map", 24 {
        domid: u16,
        _pad: [u8; 6],
        map: MemoryMap,
    }

    /// `XENMEM_{set,get}_pod_target`.
    pub struct PodTarget = "struct xen_pod_target", 40 {
        target_pages: u64,
        tot_pages: u64,
        pod_cache_pages: u64,
        pod_entries: u64,
        domid: u16,
        _pad: [u8; 6],
    }

    /// `XENMEM_access_op`.
    pub struct MemAccessOp = "struct xen_mem_access_op", 32 {
        op: u8,
        access: u8,
        domid: u16,
        nr: u32,
        pfn: u64,
        pfn_list: Handle<u64>,
        access_list: Handle<u8>,
    }

    /// An element of the reply to `XENMEM_reserved_device_memory_map`.
    pub struct ReservedDeviceMemory = "struct xen_reserved_device_memory", 16 {
        start_pfn: u64,
        nr_pages: u64,
    }

    /// `XENMEM_reserved_device_memory_map`; the device counts unless `XENMEM_RDM_ALL` is set.
    pub struct ReservedDeviceMemoryMap = "struct xen_reserved_device_memory_map", 24 {
        flags: u32,
        nr_entries: u32,
        buffer: Handle<ReservedDeviceMemory>,
        pci ("dev.pci"): PhysdevPciDevice,
        _pad: [u8; 4],
    }

    /// `XENMEM_acquire_resource`; `nr_frames` 0 with a null list asks for the resource's size.
    pub struct MemAcquireResource = "struct xen_mem_acquire_resource", 32 {
        domid: u16,
        kind ("type"): u16,
        id: u32,
        nr_frames: u32,
        _pad: u32,
        frame: u64,
        frame_list: Handle<u64>,
    }

    /// A range of guest memory on one virtual NUMA node, in bytes.
    pub struct Vmemrange = "struct xen_vmemrange", 24 {
        start: u64,
        end: u64,
        flags: u32,
        nid: u32,
    }

    /// `XENMEM_get_vnumainfo`.
    pub struct VnumaTopologyInfo = "struct xen_vnuma_topology_info", 40 {
        domid: u16,
        _pad: u16,
        nr_vnodes: u32,
        nr_vcpus: u32,
        nr_vmemranges: u32,
        vdistance: Handle<u32>,
        vcpu_to_vnode: Handle<u32>,
        vmemrange: Handle<Vmemrange>,
    }

    /// Header of `XENMEM_sharing_op` (answered with an error: there is no memory sharing).
    pub struct MemSharingOp = "struct xen_mem_sharing_op", 48 {
        op: u8,
        _pad0: u8,
        domain: u16,
        _pad1: [u8; 4],
        u: [u8; 40],
    }
}

c_union!(MemSharingOp, 40);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_flags_decode_as_the_header_encodes_them() {
        assert_eq!(mem_flags_address_bits(32 | (3 << 8)), 32);
        assert_eq!(mem_flags_node(32), None);
        assert_eq!(mem_flags_node(XENMEMF_EXACT_NODE_REQUEST | (1 << 8)), Some(0));
        assert_eq!(mem_flags_node((4 + 1) << 8), Some(4));
    }
}
