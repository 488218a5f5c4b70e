//! What is served.

use std::io;
use std::ops::Range;

/// What a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read.
    ReadOnly,
    /// Read and write.
    ReadWrite,
}

/// A disk. Offsets and lengths are in bytes and always within its size.
pub trait Device: Send + Sync {
    /// Bytes.
    fn size(&self) -> u64;

    /// What may be done with it.
    fn access(&self) -> Access;

    /// Fills the buffer.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes; all later reads see it.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;

    /// What has been written, by anybody, will outlive a loss of power.
    fn flush(&self) -> io::Result<()>;

    /// Writes zeros; they need no room if `holes`.
    fn zero(&self, offset: u64, length: u64, holes: bool) -> io::Result<()>;

    /// Whether there may be anything but zeros at `offset`, and up to which offset (further on) that goes for.
    fn data_at(&self, offset: u64) -> io::Result<(bool, u64)>;
}

/// A disk under a name.
pub struct Export {
    /// What clients call it. The first export is the default, too.
    pub name: String,
    /// The disk.
    pub device: Box<dyn Device>,
    /// What has changed since an older state: ranges in rising order. Clients see it as the metadata context
    /// `x-radon:changed`, where bit 0 of the flags means changed.
    pub changed: Option<Vec<Range<u64>>>,
}
