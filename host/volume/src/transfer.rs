//! Bytes into and out of a volume: imports, and an opened disk.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use radon_image::Sink;
use radon_nbd::{Access, Device};
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;

use crate::MAX_SIZE;
use crate::held::Held;

/// Told how much is done (bytes) and, if that is known, how much there is to do. An error ends the work.
pub type Progress<'a> = &'a mut dyn FnMut(u64, Option<u64>) -> io::Result<()>;

/// What is left out if it is all zeros, in bytes.
const PIECE: u64 = 64 << 10;

/// A new volume's file, while an image is read into it.
pub(crate) struct VolumeSink<'a> {
    pub file: &'a File,
    pub progress: Progress<'a>,
    pub step: &'a (dyn Fn(&'static str) + Send + Sync),
}

impl Sink for VolumeSink<'_> {
    fn set_size(&mut self, bytes: u64) -> io::Result<()> {
        if bytes > MAX_SIZE {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the disk is larger than 64 TiB"));
        }
        (self.step)("import: size known");
        self.file.set_len(bytes)
    }

    fn write_at(&mut self, data: &[u8], offset: u64) -> io::Result<()> {
        if offset.saturating_add(data.len() as u64) > MAX_SIZE {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the disk is larger than 64 TiB"));
        }
        (self.step)("import: data");
        // Pieces that lie whole in the file's blocks; those in sequence that have data are written at once.
        let mut rest = data;
        let mut at = offset;
        let mut pending: Range<usize> = 0..0;
        let mut position = 0;
        while !rest.is_empty() {
            let whole = usize::try_from(PIECE - at % PIECE).unwrap_or(rest.len());
            let (piece, later) = rest.split_at(whole.min(rest.len()));
            if is_zero(piece) {
                self.put(data, &pending, offset)?;
                pending = position + piece.len()..position + piece.len();
            } else {
                pending.end = position + piece.len();
            }
            position += piece.len();
            at += piece.len() as u64;
            rest = later;
        }
        self.put(data, &pending, offset)
    }

    fn progress(&mut self, done: u64, total: Option<u64>) -> io::Result<()> {
        (self.progress)(done, total)
    }
}

impl VolumeSink<'_> {
    fn put(&self, data: &[u8], range: &Range<usize>, offset: u64) -> io::Result<()> {
        match data.get(range.clone()) {
            Some(bytes) if !bytes.is_empty() => self.file.write_all_at(bytes, offset + range.start as u64),
            _ => Ok(()),
        }
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<64>();
    // Each chunk without a branch, which the compiler turns into a few wide instructions.
    chunks.iter().all(|c| c.iter().fold(0, |sum, byte| sum | byte) == 0) && rest.iter().all(|b| *b == 0)
}

/// An opened volume, or a state of one.
#[derive(Debug)]
pub struct Disk {
    file: Content,
    size: u64,
}

#[derive(Debug)]
enum Content {
    /// A volume's file: nobody else can write or delete it meanwhile.
    Volume(Held),
    /// A copy that nobody else has.
    Frozen(File),
}

impl Disk {
    pub(crate) fn writable(file: Held, size: u64) -> Self {
        Self { file: Content::Volume(file), size }
    }

    pub(crate) fn frozen(file: File, size: u64) -> Self {
        Self { file: Content::Frozen(file), size }
    }

    fn write_zeros(&self, offset: u64, length: u64) -> io::Result<()> {
        let zeros = vec![0; 1 << 20];
        let mut done = 0;
        while done < length {
            let count = usize::try_from(length - done).unwrap_or(usize::MAX).min(zeros.len());
            self.file().write_all_at(zeros.get(..count).unwrap_or_default(), offset + done)?;
            done += count as u64;
        }
        Ok(())
    }

    fn file(&self) -> &File {
        match &self.file {
            Content::Volume(held) => held,
            Content::Frozen(file) => file,
        }
    }
}

impl Device for Disk {
    fn size(&self) -> u64 {
        self.size
    }

    fn access(&self) -> Access {
        match self.file {
            Content::Volume(_) => Access::ReadWrite,
            Content::Frozen(_) => Access::ReadOnly,
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file().read_exact_at(buffer, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.file().write_all_at(data, offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.file().sync_data()
    }

    fn zero(&self, offset: u64, length: u64, holes: bool) -> io::Result<()> {
        let kind = if holes { FallocateFlags::PUNCH_HOLE } else { FallocateFlags::ZERO_RANGE };
        match fallocate(self.file(), kind | FallocateFlags::KEEP_SIZE, offset, length) {
            // NFS makes holes, and nothing else of the kind.
            Err(Errno::OPNOTSUPP) => self.write_zeros(offset, length),
            other => Ok(other?),
        }
    }

    fn data_at(&self, offset: u64) -> io::Result<(bool, u64)> {
        // A copy of the descriptor shares the position, so nothing that others do may depend on it: all else is by position.
        let hole = match seek(self.file(), SeekFrom::Data(offset)) {
            Ok(data) if data > offset => return Ok((false, data)),
            Ok(_) => seek(self.file(), SeekFrom::Hole(offset))?,
            Err(Errno::NXIO) => return Ok((false, self.size)),
            Err(error) => return Err(error.into()),
        };
        Ok((true, hole.min(self.size)))
    }
}
