//! QCOW2, after QEMU's `docs/interop/qcow2.txt`: read in versions 2 and 3 (deflate and zstd), written in version 3.
//!
//! A disk is cut into clusters; an L1 table names L2 tables, which name each cluster's place in the file. All numbers are
//! big-endian. Internal snapshots are skipped: the active state is read. Refused, with the cure: backing files, encryption,
//! external data files, extended L2 entries, images marked corrupt.

mod header;
mod read;
mod write;

pub use header::MAGIC;
pub use read::read;
pub use write::write;

pub(crate) const QCOW2: &str = "QCOW2";

/// Bits 9 to 55 of a table's entry: a place in the file.
pub(crate) const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// Bit 63 of a table's entry: the cluster is used once.
pub(crate) const COPIED: u64 = 1 << 63;
/// Bit 62 of an L2 entry: the cluster is compressed.
pub(crate) const COMPRESSED: u64 = 1 << 62;
/// Bit 0 of an L2 entry (version 3): the cluster is zeros.
pub(crate) const ZERO: u64 = 1;
