//! What can go wrong with networks.

use std::io;
use std::path::PathBuf;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was declared makes no sense, alone or with the rest.
    #[error("{0}")]
    Invalid(String),
    /// There is none of that name.
    #[error("no {what} {name:?}; `radon-network show` lists those there are")]
    Unknown {
        /// `network` or `interface`.
        what: &'static str,
        /// As given.
        name: String,
    },
    /// The state's file or folder.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The state's file holds something else.
    #[error("{}: {message}; it is written whole or not at all, so somebody else changed it", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// An interface that is declared, or would have to be made, is somebody else's.
    #[error("interface {name} is not ours ({why}); choose another name, or remove it")]
    Foreign {
        /// Which.
        name: String,
        /// How that shows.
        why: String,
    },
    /// The kernel refused.
    #[error("cannot {what}: {source}")]
    Kernel {
        /// What was to be done.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// `nft` refused the rules, or is not there.
    #[error("the packet filter's rules cannot be set: {0}")]
    Rules(String),
}

/// The outcome.
pub type Result<T> = std::result::Result<T, Error>;

pub(crate) fn kernel<T>(what: impl Into<String>, result: io::Result<T>) -> Result<T> {
    result.map_err(|source| Error::Kernel { what: what.into(), source })
}
