//! What the database says of a volume, and of an operation that was begun.

use serde::{Deserialize, Serialize};

use crate::VolumeId;

/// What a volume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It can be written.
    Volume,
    /// It never changes.
    Snapshot,
}

/// A volume or snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its number.
    pub id: VolumeId,
    /// What people call it; need not be unique.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Bytes, as its user sees it: whole sectors of 512.
    pub size: u64,
    /// What it was made from (which may be gone: nothing depends on it).
    pub origin: Option<VolumeId>,
    /// When it was made: seconds since 1970.
    pub created: u64,
}

/// An operation that was begun. While one stands in the database, its end is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Intent {
    /// A file is being made for a volume that has no record yet. Undone: the file goes.
    Make,
    /// The record is gone already. Done again: the file goes.
    Remove,
    /// The size is being changed. Done again.
    Resize {
        /// The new size in bytes.
        size: u64,
    },
}
