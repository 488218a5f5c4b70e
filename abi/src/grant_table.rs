//! Grant tables (`grant_table.h`): entries of version 1 and 2, operations.

use crate::{
    handle::Handle,
    macros::{c_consts, c_struct},
};

c_consts! {
    /// Sub-operations of `HYPERVISOR_grant_table_op`.
    GNTTABOPS: u32 {
        GNTTABOP_MAP_GRANT_REF = 0,
        GNTTABOP_UNMAP_GRANT_REF = 1,
        GNTTABOP_SETUP_TABLE = 2,
        GNTTABOP_DUMP_TABLE = 3,
        GNTTABOP_TRANSFER = 4,
        GNTTABOP_COPY = 5,
        GNTTABOP_QUERY_SIZE = 6,
        GNTTABOP_UNMAP_AND_REPLACE = 7,
        GNTTABOP_SET_VERSION = 8,
        GNTTABOP_GET_STATUS_FRAMES = 9,
        GNTTABOP_GET_VERSION = 10,
        GNTTABOP_SWAP_GRANT_REF = 11,
        GNTTABOP_CACHE_FLUSH = 12,
    }
}

c_consts! {
    /// Types and flags of a grant entry ([`GrantEntryV1::flags`]).
    GTF_FLAGS: u16 {
        GTF_INVALID = 0x0,
        GTF_PERMIT_ACCESS = 1 << 0,
        GTF_ACCEPT_TRANSFER = 0x2,
        GTF_TRANSITIVE = 0x3,
        GTF_TYPE_MASK = 0x3,
        GTF_READONLY = 0x4,
        GTF_READING = 0x8,
        GTF_WRITING = 0x10,
        GTF_PWT = 0x20,
        GTF_PCD = 0x40,
        GTF_PAT = 0x80,
        GTF_SUB_PAGE = 0x100,
        GTF_TRANSFER_COMMITTED = 0x4,
        GTF_TRANSFER_COMPLETED = 0x8,
    }
}

c_consts! {
    /// Bits of [`GnttabMapGrantRef::flags`].
    GNTMAP_FLAGS: u32 {
        GNTMAP_DEVICE_MAP = 0x1,
        GNTMAP_HOST_MAP = 0x2,
        GNTMAP_READONLY = 0x4,
        GNTMAP_APPLICATION_MAP = 0x8,
        GNTMAP_CONTAINS_PTE = 0x10,
        GNTMAP_GUEST_AVAIL_MASK = 0xffff0000,
    }
}

c_consts! {
    /// Bits of [`GnttabCopy::flags`].
    GNTCOPY_FLAGS: u16 {
        GNTCOPY_SOURCE_GREF = 0x1,
        GNTCOPY_DEST_GREF = 0x2,
    }
}

c_consts! {
    /// Results an operation stores in its `status` field.
    GNTST_STATUSES: i16 {
        GNTST_OKAY = 0,
        GNTST_GENERAL_ERROR = -1,
        GNTST_BAD_DOMAIN = -2,
        GNTST_BAD_GNTREF = -3,
        GNTST_BAD_HANDLE = -4,
        GNTST_BAD_VIRT_ADDR = -5,
        GNTST_BAD_DEV_ADDR = -6,
        GNTST_NO_DEVICE_SPACE = -7,
        GNTST_PERMISSION_DENIED = -8,
        GNTST_BAD_PAGE = -9,
        GNTST_BAD_COPY_ARG = -10,
        GNTST_ADDRESS_TOO_BIG = -11,
        GNTST_EAGAIN = -12,
        GNTST_NO_SPACE = -13,
    }
}

c_consts! {
    /// Reserved entries, and bits of [`GnttabCacheFlush::op`].
    GNTTAB_NUMBERS: u32 {
        GNTTAB_NR_RESERVED_ENTRIES = 8,
        GNTTAB_RESERVED_CONSOLE = 0,
        GNTTAB_RESERVED_XENSTORE = 1,
        GNTTAB_CACHE_CLEAN = 1 << 0,
        GNTTAB_CACHE_INVAL = 1 << 1,
        GNTTAB_CACHE_SOURCE_GREF = 1 << 31,
    }
}

c_struct! {
    /// A grant entry of version 1.
    pub struct GrantEntryV1 = "struct grant_entry_v1", 8 {
        flags: u16,
        domid: u16,
        frame: u32,
    }

    /// What every grant entry starts with.
    pub struct GrantEntryHeader = "struct grant_entry_header", 4 {
        flags: u16,
        domid: u16,
    }

    /// A grant entry of version 2 that grants a whole page.
    pub struct GrantEntryV2 = "union grant_entry_v2", 16 {
        flags ("full_page.hdr.flags"): u16,
        domid ("full_page.hdr.domid"): u16,
        _pad0: u32,
        frame ("full_page.frame"): u64,
    }

    /// A grant entry of version 2 with `GTF_sub_page`: bytes `page_off..page_off + length` of `frame`.
    pub struct GrantEntryV2SubPage = "union grant_entry_v2", 16 {
        flags ("sub_page.hdr.flags"): u16,
        domid ("sub_page.hdr.domid"): u16,
        page_off ("sub_page.page_off"): u16,
        length ("sub_page.length"): u16,
        frame ("sub_page.frame"): u64,
    }

    /// A grant entry of version 2 of type `GTF_transitive`.
    pub struct GrantEntryV2Transitive = "union grant_entry_v2", 16 {
        flags ("transitive.hdr.flags"): u16,
        domid ("transitive.hdr.domid"): u16,
        trans_domid ("transitive.trans_domid"): u16,
        _pad0: u16,
        gref ("transitive.gref"): u32,
        _pad1: u32,
    }

    /// `GNTTABOP_map_grant_ref`. Out: `status`, `handle`, `dev_bus_addr`.
    pub struct GnttabMapGrantRef = "struct gnttab_map_grant_ref", 32 {
        host_addr: u64,
        flags: u32,
        gref ("ref"): u32,
        dom: u16,
        status: i16,
        handle: u32,
        dev_bus_addr: u64,
    }

    /// `GNTTABOP_unmap_grant_ref`. Out: `status`.
    pub struct GnttabUnmapGrantRef = "struct gnttab_unmap_grant_ref", 24 {
        host_addr: u64,
        dev_bus_addr: u64,
        handle: u32,
        status: i16,
        _pad: [u8; 2],
    }

    /// `GNTTABOP_setup_table`. Out: `status`, the frames of the table.
    pub struct GnttabSetupTable = "struct gnttab_setup_table", 24 {
        dom: u16,
        _pad0: [u8; 2],
        nr_frames: u32,
        status: i16,
        _pad1: [u8; 6],
        frame_list: Handle<u64>,
    }

    /// `GNTTABOP_dump_table`. Out: `status`.
    pub struct GnttabDumpTable = "struct gnttab_dump_table", 4 {
        dom: u16,
        status: i16,
    }

    /// `GNTTABOP_transfer`. Out: `status`.
    pub struct GnttabTransfer = "struct gnttab_transfer", 24 {
        mfn: u64,
        domid: u16,
        _pad0: [u8; 2],
        gref ("ref"): u32,
        status: i16,
        _pad1: [u8; 6],
    }

    /// One end of a [`GnttabCopy`]: a grant reference or a frame, by the copy's flags.
    pub struct GnttabCopyPtr = "struct gnttab_copy_ptr", 16 {
        u: u64,
        domid: u16,
        offset: u16,
        _pad: [u8; 4],
    }

    /// `GNTTABOP_copy`. Out: `status`.
    pub struct GnttabCopy = "struct gnttab_copy", 40 {
        source: GnttabCopyPtr,
        dest: GnttabCopyPtr,
        len: u16,
        flags: u16,
        status: i16,
        _pad: [u8; 2],
    }

    /// `GNTTABOP_query_size`. Out: everything but `dom`.
    pub struct GnttabQuerySize = "struct gnttab_query_size", 16 {
        dom: u16,
        _pad0: [u8; 2],
        nr_frames: u32,
        max_nr_frames: u32,
        status: i16,
        _pad1: [u8; 2],
    }

    /// `GNTTABOP_unmap_and_replace`. Out: `status`.
    pub struct GnttabUnmapAndReplace = "struct gnttab_unmap_and_replace", 24 {
        host_addr: u64,
        new_addr: u64,
        handle: u32,
        status: i16,
        _pad: [u8; 2],
    }

    /// `GNTTABOP_set_version`. In and out: `version`.
    pub struct GnttabSetVersion = "struct gnttab_set_version", 4 {
        version: u32,
    }

    /// `GNTTABOP_get_status_frames`. Out: `status`, the frames.
    pub struct GnttabGetStatusFrames = "struct gnttab_get_status_frames", 16 {
        nr_frames: u32,
        dom: u16,
        status: i16,
        frame_list: Handle<u64>,
    }

    /// `GNTTABOP_get_version`. Out: `version`.
    pub struct GnttabGetVersion = "struct gnttab_get_version", 8 {
        dom: u16,
        _pad: u16,
        version: u32,
    }

    /// `GNTTABOP_swap_grant_ref`. Out: `status`.
    pub struct GnttabSwapGrantRef = "struct gnttab_swap_grant_ref", 12 {
        ref_a: u32,
        ref_b: u32,
        status: i16,
        _pad: [u8; 2],
    }

    /// `GNTTABOP_cache_flush`; `a` is a bus address or, with `GNTTAB_CACHE_SOURCE_GREF`, a grant reference.
    pub struct GnttabCacheFlush = "struct gnttab_cache_flush", 16 {
        a: u64,
        offset: u16,
        length: u16,
        op: u32,
    }
}

impl GnttabCopyPtr {
    /// The grant reference, if the copy's flags say this end is one.
    pub const fn gref(&self) -> u32 {
        self.u as u32
    }

    /// The frame, if the copy's flags say this end is one.
    pub const fn gmfn(&self) -> u64 {
        self.u
    }
}
