//! The header of a QCOW2 image.

use zerocopy::big_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::QCOW2;
use crate::ReadAt;
use crate::error::{ImageError, Result, corrupt};

/// How an image begins.
pub const MAGIC: [u8; 4] = *b"QFI\xfb";

/// The largest L1 table, in entries: as QEMU's.
const MAX_L1: u32 = (32 << 20) / 8;

/// The header (`docs/interop/qcow2.txt`, "Header"); version 2 ends before `incompatible`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Header {
    pub magic: [u8; 4],
    pub version: U32,
    pub backing_offset: U64,
    pub backing_size: U32,
    pub cluster_bits: U32,
    pub size: U64,
    pub crypt_method: U32,
    pub l1_size: U32,
    pub l1_offset: U64,
    pub refcount_offset: U64,
    pub refcount_clusters: U32,
    pub snapshots: U32,
    pub snapshots_offset: U64,
    pub incompatible: U64,
    pub compatible: U64,
    pub autoclear: U64,
    pub refcount_order: U32,
    pub header_length: U32,
    pub compression: u8,
    pub padding: [u8; 7],
}

const VERSION_2: usize = 72;
const VERSION_3: usize = 104;

const _: () = assert!(size_of::<Header>() == 112);

/// Incompatible features. `DIRTY` (reference counts are stale) does not matter to a reader.
mod feature {
    pub const DIRTY: u64 = 1;
    pub const CORRUPT: u64 = 2;
    pub const EXTERNAL: u64 = 4;
    pub const COMPRESSION: u64 = 8;
    pub const EXTENDED_L2: u64 = 16;
}

/// How clusters are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Deflate,
    Zstd,
}

impl Header {
    /// Reads and checks the header.
    pub fn read(image: &dyn ReadAt) -> Result<Self> {
        let mut header = Self::new_zeroed();
        let (second, _) = header.as_mut_bytes().split_at_mut(VERSION_2);
        image.read_exact_at(second, 0)?;
        if header.version.get() == 3 {
            let (third, _) = header.as_mut_bytes().split_at_mut(VERSION_3);
            image.read_exact_at(third, 0)?;
            if header.header_length.get() > VERSION_3 as u32 {
                image.read_exact_at(header.as_mut_bytes(), 0)?;
            }
        }
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<()> {
        if self.magic != MAGIC {
            return corrupt(QCOW2, "it has no header (is it a QCOW2 at all?)");
        }
        if !(2..=3).contains(&self.version.get()) {
            return refuse(format!("version {}", self.version.get()), "convert it with `qemu-img convert`");
        }
        if self.backing_offset.get() != 0 {
            return refuse("an image with a backing file", "flatten it first: `qemu-img convert -O qcow2`");
        }
        if self.crypt_method.get() != 0 {
            return refuse("an encrypted image", "decrypt it first: `qemu-img convert`");
        }
        let features = self.incompatible.get();
        if features & feature::CORRUPT != 0 {
            return corrupt(QCOW2, "it is marked so (`qemu-img check -r all` may repair it)");
        }
        if features & feature::EXTERNAL != 0 {
            return refuse("an external data file", "convert it with `qemu-img convert -O qcow2`");
        }
        if features & feature::EXTENDED_L2 != 0 {
            return refuse("extended L2 entries", "convert it with `qemu-img convert -O qcow2`");
        }
        let unknown = features & !(feature::DIRTY | feature::COMPRESSION);
        if unknown != 0 || self.compression > 1 {
            return refuse(format!("feature {unknown:#x}"), "convert it with `qemu-img convert -O qcow2`");
        }
        if !(9..=21).contains(&self.cluster_bits.get()) {
            return corrupt(QCOW2, format!("clusters of 2^{} bytes", self.cluster_bits.get()));
        }
        let needed = self.size.get().div_ceil(self.l2_reach());
        if self.l1_size.get() > MAX_L1 || u64::from(self.l1_size.get()) < needed {
            return corrupt(QCOW2, format!("{} bytes in {} L2 tables", self.size.get(), self.l1_size.get()));
        }
        Ok(())
    }

    /// Bytes of a cluster.
    pub fn cluster(&self) -> u64 {
        1 << self.cluster_bits.get()
    }

    /// Bytes of the disk that one L2 table describes.
    pub fn l2_reach(&self) -> u64 {
        self.cluster() * (self.cluster() / 8)
    }

    /// How clusters are compressed.
    pub fn compression(&self) -> Compression {
        if self.compression == 1 { Compression::Zstd } else { Compression::Deflate }
    }
}

fn refuse(what: impl Into<String>, cure: &'static str) -> Result<()> {
    Err(ImageError::Unsupported { format: QCOW2, what: what.into(), cure })
}

/// Size of the header as it is written.
pub(super) const HEADER_LENGTH: u32 = size_of::<Header>() as u32;
