//! Why something could not be done with a volume.

use std::io;
use std::path::{Path, PathBuf};

use radon_image::ImageError;

use crate::VolumeId;

/// Why something could not be done with a volume.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// There is no such volume.
    #[error("there is no volume {0}; `list` shows what there is")]
    NotFound(String),
    /// Several have that name.
    #[error("{0} volumes are called {1}: say which by its number")]
    Ambiguous(usize, String),
    /// A size that cannot be.
    #[error(
        "a volume cannot have {0} bytes: it has whole sectors of 512 bytes, at least one and at most 64 TiB"
    )]
    BadSize(u64),
    /// Shrinking was not asked for.
    #[error(
        "{size} bytes are fewer than the volume's {now}, and what is beyond would be lost: say --shrink if that is meant"
    )]
    Shrinks {
        /// Bytes now.
        now: u64,
        /// Bytes asked for.
        size: u64,
    },
    /// A snapshot never changes.
    #[error("{0} is a snapshot and never changes; `clone` makes a volume of it")]
    ReadOnly(VolumeId),
    /// Somebody has it open.
    #[error("{0} is in use (a virtual machine or an export has it open); end that first")]
    InUse(VolumeId),
    /// Another process has the database.
    #[error("the repository {} is in use by another process, which has kept it for {} s", .0.display(), .1)]
    Busy(PathBuf, u64),
    /// There is no repository.
    #[error("{} is no repository; `init` makes one there", .0.display())]
    NoRepository(PathBuf),
    /// There is one already.
    #[error("{} is a repository already", .0.display())]
    Exists(PathBuf),
    /// The file system is of the wrong kind.
    #[error("{} cannot share blocks between files ({cause}); volumes need XFS (mkfs.xfs makes it so), or NFS 4.2 from a server that has it", .dir.display())]
    NoReflink {
        /// Where.
        dir: PathBuf,
        /// What the kernel said.
        cause: io::Error,
    },
    /// A file or folder failed.
    #[error("{}: {cause}{}", .path.display(), hint(.cause))]
    File {
        /// Which.
        path: PathBuf,
        /// How.
        cause: io::Error,
    },
    /// An image failed.
    #[error("{0}")]
    Image(#[from] ImageError),
    /// The database failed.
    #[error("the repository's database: {0}")]
    Database(#[from] redb::Error),
    /// A record makes no sense.
    #[error("the repository's database has a record that cannot be read: {0}")]
    Record(#[from] serde_json::Error),
}

/// `Result` of what is done with volumes.
pub type Result<T> = std::result::Result<T, VolumeError>;

fn hint(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::StorageFull => " (the file system is full: delete something, or grow it)",
        io::ErrorKind::PermissionDenied => " (only root may, unless the repository is yours)",
        _ => "",
    }
}

/// Says which file it was.
pub(crate) trait At<T> {
    fn at(self, path: &Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> At<T> for std::result::Result<T, E> {
    fn at(self, path: &Path) -> Result<T> {
        self.map_err(|cause| VolumeError::File { path: path.to_path_buf(), cause: cause.into() })
    }
}
