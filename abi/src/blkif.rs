//! Block devices between domains: the ring, requests, responses (`io/blkif.h`, `io/ring.h`).
//!
//! The `Compat` structures are those of a 32-bit front end, which says `x86_32-abi` in its `protocol` node
//! (`io/protocols.h`): no field is aligned to more than 4 bytes there, so requests lie 108 bytes apart instead of 112.

use crate::macros::{c_consts, c_struct};

c_consts! {
    /// What a request asks for.
    BLKIF_OPS: u8 {
        BLKIF_OP_READ = 0,
        BLKIF_OP_WRITE = 1,
        BLKIF_OP_WRITE_BARRIER = 2,
        BLKIF_OP_FLUSH_DISKCACHE = 3,
        BLKIF_OP_DISCARD = 5,
        BLKIF_OP_INDIRECT = 6,
    }
}

c_consts! {
    /// How a request ended.
    BLKIF_RSPS: i16 {
        BLKIF_RSP_OKAY = 0,
        BLKIF_RSP_ERROR = -1,
        BLKIF_RSP_EOPNOTSUPP = -2,
    }
}

c_consts! {
    /// Sizes, and bits of a disk's `info` node and of discards.
    BLKIF_NUMBERS: u32 {
        BLKIF_MAX_SEGMENTS_PER_REQUEST = 11,
        BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST = 8,
        BLKIF_DISCARD_SECURE = 1,
        VDISK_CDROM = 1,
        VDISK_REMOVABLE = 2,
        VDISK_READONLY = 4,
    }
}

c_struct! {
    /// A part of a page: its grant, and its first and last sector (of 512 bytes) there, both included.
    pub struct BlkifRequestSegment = "struct blkif_request_segment", 8 {
        gref: u32,
        first_sect: u8,
        last_sect: u8,
        _pad: [u8; 2],
    }

    /// A request with its segments; the first 24 bytes of other requests are read the same way.
    pub struct BlkifRequest = "struct blkif_request", 112 {
        operation: u8,
        nr_segments: u8,
        handle: u16,
        _pad: u32,
        id: u64,
        sector_number: u64,
        seg: [BlkifRequestSegment; 11],
    }

    /// A range that holds nothing of interest any more.
    pub struct BlkifRequestDiscard = "struct blkif_request_discard", 32 {
        operation: u8,
        flag: u8,
        handle: u16,
        _pad: u32,
        id: u64,
        sector_number: u64,
        nr_sectors: u64,
    }

    /// A request whose segments are in pages of their own.
    pub struct BlkifRequestIndirect = "struct blkif_request_indirect", 64 {
        operation: u8,
        indirect_op: u8,
        nr_segments: u16,
        _pad: u32,
        id: u64,
        sector_number: u64,
        handle: u16,
        _pad2: u16,
        indirect_grefs: [u32; 8],
        _pad3: u32,
    }

    /// The answer.
    pub struct BlkifResponse = "struct blkif_response", 16 {
        id: u64,
        operation: u8,
        _pad: u8,
        status: i16,
        _pad2: u32,
    }
}

c_struct! { @packed4
    /// [`BlkifRequest`] of a 32-bit front end.
    pub struct CompatBlkifRequest = "struct blkif_request", 108 {
        operation: u8,
        nr_segments: u8,
        handle: u16,
        id: u64,
        sector_number: u64,
        seg: [BlkifRequestSegment; 11],
    }

    /// [`BlkifRequestDiscard`] of a 32-bit front end.
    pub struct CompatBlkifRequestDiscard = "struct blkif_request_discard", 28 {
        operation: u8,
        flag: u8,
        handle: u16,
        id: u64,
        sector_number: u64,
        nr_sectors: u64,
    }

    /// [`BlkifRequestIndirect`] of a 32-bit front end.
    pub struct CompatBlkifRequestIndirect = "struct blkif_request_indirect", 64 {
        operation: u8,
        indirect_op: u8,
        nr_segments: u16,
        id: u64,
        sector_number: u64,
        handle: u16,
        _pad: u16,
        indirect_grefs: [u32; 8],
        pad: u64,
    }

    /// [`BlkifResponse`] of a 32-bit front end.
    pub struct CompatBlkifResponse = "struct blkif_response", 12 {
        id: u64,
        operation: u8,
        _pad: u8,
        status: i16,
    }
}

c_struct! {
    /// The head of a ring (`union blkif_sring_entry` follows it, from byte 64 on); indices run freely.
    pub struct BlkifSringHead = "", 64 {
        req_prod: u32,
        req_event: u32,
        rsp_prod: u32,
        rsp_event: u32,
        _pad: [u8; 48],
    }
}
