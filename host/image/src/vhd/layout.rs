//! The structures of a VHD.

use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::SECTOR;
use crate::error::{Result, corrupt};

pub(super) const VHD: &str = "VHD";

/// How a footer begins.
pub const COOKIE: &[u8; 8] = b"conectix";

/// How a dynamic disk's header begins.
pub(super) const DYNAMIC_COOKIE: &[u8; 8] = b"cxsparse";

/// The largest disk, in bytes: its sectors, and those of tables and bitmaps, are counted in 32 bits.
pub const MAX_SIZE: u64 = 2040 << 30;

/// Entry of the block allocation table: no block.
pub(super) const NO_BLOCK: u32 = u32::MAX;

/// Size of the blocks that are written, in bytes.
pub(super) const BLOCK: u64 = 2 << 20;

pub(super) const FIXED: u32 = 2;
pub(super) const DYNAMIC: u32 = 3;
pub(super) const DIFFERENCING: u32 = 4;

/// Seconds from 1970 to 2000, where a VHD's time begins.
const EPOCH: u64 = 946_684_800;

/// The hard disk footer (specification, "Hard Disk Footer Format").
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Footer {
    pub cookie: [u8; 8],
    pub features: U32,
    pub version: U32,
    pub data_offset: U64,
    pub timestamp: U32,
    pub creator: [u8; 4],
    pub creator_version: U32,
    pub creator_os: [u8; 4],
    pub original_size: U64,
    pub current_size: U64,
    pub cylinders: U16,
    pub heads: u8,
    pub sectors: u8,
    pub kind: U32,
    pub checksum: U32,
    pub uuid: [u8; 16],
    pub saved_state: u8,
    pub reserved: [u8; 427],
}

/// The dynamic disk header (specification, "Dynamic Disk Header Format").
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Header {
    pub cookie: [u8; 8],
    pub data_offset: U64,
    pub table_offset: U64,
    pub version: U32,
    pub max_entries: U32,
    pub block_size: U32,
    pub checksum: U32,
    pub parent_uuid: [u8; 16],
    pub parent_timestamp: U32,
    pub reserved: U32,
    pub parent_name: [u8; 512],
    pub parent_locators: [[u8; 24]; 8],
    pub reserved_end: [u8; 256],
}

const _: () = assert!(size_of::<Footer>() == 512 && size_of::<Header>() == 1024);

/// One's complement of the sum of all bytes.
fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(0u32, |sum, byte| sum.wrapping_add(u32::from(*byte)))
}

impl Footer {
    /// For a disk of `size` bytes.
    pub fn new(size: u64, kind: u32, uuid: [u8; 16], created: u64) -> Self {
        let seconds = u32::try_from(created.saturating_sub(EPOCH)).unwrap_or(u32::MAX);
        let data_offset = if kind == FIXED { u64::MAX } else { SECTOR };
        let mut footer = Self {
            cookie: *COOKIE,
            features: U32::new(2),
            version: U32::new(0x1_0000),
            data_offset: U64::new(data_offset),
            timestamp: U32::new(seconds),
            creator: *b"rdn\0",
            creator_version: U32::new(0x1_0000),
            creator_os: *b"Wi2k",
            original_size: U64::new(size),
            current_size: U64::new(size),
            // The largest geometry: programs that go by the geometry go by the size then.
            cylinders: U16::new(65535),
            heads: 16,
            sectors: 255,
            kind: U32::new(kind),
            checksum: U32::ZERO,
            uuid,
            saved_state: 0,
            reserved: [0; 427],
        };
        footer.checksum = U32::new(checksum(footer.as_bytes()));
        footer
    }

    /// Checks a footer; differencing disks pass.
    pub fn check(&self) -> Result<()> {
        let sum = checksum(Self { checksum: U32::ZERO, ..*self }.as_bytes());
        if self.cookie != *COOKIE {
            return corrupt(VHD, "it has no footer (is it a VHD at all?)");
        }
        if self.checksum.get() != sum {
            return corrupt(VHD, "the footer's checksum is wrong");
        }
        if self.version.get() >> 16 != 1 {
            return corrupt(VHD, format!("unknown version {:#x}", self.version.get()));
        }
        let size = self.current_size.get();
        if !size.is_multiple_of(SECTOR) || size > MAX_SIZE {
            return corrupt(VHD, format!("a disk of {size} bytes"));
        }
        Ok(())
    }
}

impl Header {
    /// For a disk whose table has so many entries.
    pub fn new(entries: u32) -> Self {
        let mut header = Self {
            cookie: *DYNAMIC_COOKIE,
            data_offset: U64::new(u64::MAX),
            table_offset: U64::new(SECTOR + size_of::<Self>() as u64),
            version: U32::new(0x1_0000),
            max_entries: U32::new(entries),
            block_size: U32::new(BLOCK as u32),
            checksum: U32::ZERO,
            parent_uuid: [0; 16],
            parent_timestamp: U32::ZERO,
            reserved: U32::ZERO,
            parent_name: [0; 512],
            parent_locators: [[0; 24]; 8],
            reserved_end: [0; 256],
        };
        header.checksum = U32::new(checksum(header.as_bytes()));
        header
    }

    /// Checks a header for a disk of `size` bytes.
    pub fn check(&self, size: u64) -> Result<()> {
        let sum = checksum(Self { checksum: U32::ZERO, ..*self }.as_bytes());
        let block = u64::from(self.block_size.get());
        if self.cookie != *DYNAMIC_COOKIE || self.checksum.get() != sum {
            return corrupt(VHD, "the dynamic disk's header is wrong");
        }
        if !block.is_power_of_two() || !(SECTOR..=(256 << 20)).contains(&block) {
            return corrupt(VHD, format!("blocks of {block} bytes"));
        }
        if u64::from(self.max_entries.get()).saturating_mul(block) < size {
            return corrupt(VHD, "the table of blocks is smaller than the disk");
        }
        Ok(())
    }
}

/// Bytes of a block's bitmap: one bit a sector, padded to a sector.
pub(super) fn bitmap_size(block: u64) -> u64 {
    (block / SECTOR).div_ceil(8).next_multiple_of(SECTOR)
}
