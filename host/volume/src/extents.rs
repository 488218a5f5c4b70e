//! Where a file's bytes lie.

use std::ops::Range;

/// A part of a file, and where its bytes are. Parts that no extent covers are holes and read as zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where in the file it begins, in bytes.
    pub start: u64,
    /// Bytes.
    pub length: u64,
    /// Where its bytes are.
    pub place: Place,
    /// Whether another file may have them too.
    pub shared: bool,
}

/// Where bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Reserved but never written: they read as zeros.
    Zeros,
    /// At this byte of the file system's device. Two files that have the same place have the same bytes.
    Disk(u64),
    /// The file system does not say (packed, or not placed yet).
    Unknown,
}

impl Extent {
    /// The part of the file.
    pub fn range(&self) -> Range<u64> {
        self.start..self.start.saturating_add(self.length)
    }
}
