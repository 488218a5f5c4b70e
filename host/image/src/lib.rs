//! Disk images: VHD (fixed, dynamic), QCOW2 (versions 2 and 3) and raw.
//!
//! An image is read once, from its beginning to its end or by position, and what it holds goes to a [`Sink`] piece by piece;
//! an image is written once, from its beginning to its end, to an [`Output`]. Nothing is kept but tables, and what is known to
//! be zero is neither read nor written. An image is untrusted: whatever its bytes say, reading it ends with the disk or with an
//! [`ImageError`], in time and memory bounded by its length.

#![forbid(unsafe_code)]

mod error;
mod file;
pub mod qcow2;
pub mod raw;
mod source;
mod target;
pub mod vhd;

pub use error::ImageError;
pub use file::{FileOutput, FileSource};
pub use source::{Input, ReadAt, Segments};
pub use target::{Output, Pipe, Sink};

use std::fmt;
use std::str::FromStr;

/// Bytes of a sector: disks are whole numbers of them.
pub const SECTOR: u64 = 512;

/// How much is copied at once, in bytes.
pub(crate) const CHUNK: usize = 1 << 20;

/// A format of disk images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// The disk's bytes and nothing else.
    Raw,
    /// VHD; written as a dynamic one.
    Vhd,
    /// VHD whose data are all there, a footer behind them. Read like [`Format::Vhd`].
    VhdFixed,
    /// QCOW2; written in version 3.
    Qcow2,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::Raw, Self::Vhd, Self::VhdFixed, Self::Qcow2];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Vhd => "vhd",
            Self::VhdFixed => "vhd-fixed",
            Self::Qcow2 => "qcow2",
        }
    }

    /// What an image appears to be, from its first and its last bytes. A raw disk can pretend to be anything: ask the user
    /// where that matters. (No format read here can name another file, so a wrong guess shows nobody else's data.)
    pub fn probe(image: &dyn ReadAt) -> Result<Self, ImageError> {
        let length = image.length();
        let mut start = [0; 8];
        if length >= 8 {
            image.read_exact_at(&mut start, 0)?;
        }
        if start.starts_with(&qcow2::MAGIC) {
            return Ok(Self::Qcow2);
        }
        if start == *vhd::COOKIE {
            return Ok(Self::Vhd);
        }
        if let Some(footer) = length.checked_sub(SECTOR) {
            image.read_exact_at(&mut start, footer)?;
            if start == *vhd::COOKIE {
                return Ok(Self::VhdFixed);
            }
        }
        Ok(Self::Raw)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|f| f.name() == name);
        found.ok_or_else(|| format!("no such format: {name}; there are {}", names()))
    }
}

/// What tells one written image from another.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identity {
    /// A unique number (VHD keeps it).
    pub uuid: [u8; 16],
    /// When it was made: seconds since 1970 (VHD keeps it).
    pub created: u64,
}

/// Reads an image into a sink; returns the disk's size in bytes.
pub fn import(input: Input<'_>, format: Format, sink: &mut dyn Sink) -> Result<u64, ImageError> {
    match format {
        Format::Raw => raw::read(input, sink),
        Format::Vhd | Format::VhdFixed => vhd::read(input, sink),
        Format::Qcow2 => match input {
            Input::File(file) => qcow2::read(file, sink),
            Input::Stream(_) => Err(ImageError::Unsupported {
                format: "QCOW2",
                what: "reading through a pipe: its tables may come after the data they describe".into(),
                cure: "give a file, or send VHD or raw",
            }),
        },
    }
}

/// Writes the disk as an image.
pub fn export(
    disk: &dyn ReadAt,
    format: Format,
    identity: &Identity,
    out: &mut dyn Output,
) -> Result<(), ImageError> {
    match format {
        Format::Raw => raw::write(disk, out),
        Format::Vhd => vhd::write_dynamic(disk, identity, out),
        Format::VhdFixed => vhd::write_fixed(disk, identity, out),
        Format::Qcow2 => qcow2::write(disk, out),
    }
}
