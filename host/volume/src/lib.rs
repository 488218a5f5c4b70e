//! Storage repositories: volumes as sparse files on a file system that can reflink.
//!
//! ```text
//! <repository>/volumes.redb            what there is, and what was begun (docs/decisions/0012)
//! <repository>/volumes/<id>.raw        one sparse file a volume or snapshot
//! <repository>/frozen/                 copies without a name (on NFS, a hidden one) while somebody reads them
//! <repository>/reserve                 room for transactions when the file system is full
//! ```
//! A snapshot or a clone is a reflink of the file: made in constant time, as good as its origin, and depending on nothing.
//! Deleting is unlinking. Nothing is ever merged. What changed between two snapshots follows from where their files' extents
//! lie.
//!
//! Every operation is one of old or new state, whenever its process is killed or the machine loses power: [`repository`].
#![forbid(unsafe_code)]

pub mod changes;
pub mod cli;
mod database;
mod error;
mod filesystem;
mod held;
mod id;
mod record;
pub mod repository;
mod transfer;
mod turn;

pub use error::{Result, VolumeError};
pub use filesystem::{FileSystem, Nfs, Reflink};
pub use id::VolumeId;
pub use radon_linux::fiemap::{Extent, Place};
pub use record::{Kind, Volume};
pub use repository::{Repository, Sharing};
pub use transfer::{Disk, Progress};

/// The largest volume, in bytes.
pub const MAX_SIZE: u64 = 64 << 40;
