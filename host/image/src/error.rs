//! Why an image could not be read or written.

use std::io;

/// Why an image could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The file, the pipe or the disk failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The image contradicts its format.
    #[error(
        "the {format} image is damaged: {what}; check it with the program that made it, or fetch it again"
    )]
    Corrupt {
        /// Which format.
        format: &'static str,
        /// What is wrong.
        what: String,
    },
    /// The image is sound, but uses something that is not understood here.
    #[error("{format}: {what} is not supported; {cure}")]
    Unsupported {
        /// Which format.
        format: &'static str,
        /// What it uses.
        what: String,
        /// What can be done.
        cure: &'static str,
    },
}

/// `Result` of what reads and writes images.
pub(crate) type Result<T> = std::result::Result<T, ImageError>;

/// What an image of one format has wrong.
pub(crate) fn corrupt<T>(format: &'static str, what: impl Into<String>) -> Result<T> {
    Err(ImageError::Corrupt { format, what: what.into() })
}
