//! Files that keep their holes.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::{Output, ReadAt};

/// A file to be read: an image, or a disk. Its holes are known to be zeros. (The descriptor's own position is moved.)
#[derive(Debug)]
pub struct FileSource {
    file: File,
    length: u64,
}

impl FileSource {
    /// Reads all of a file (or block device).
    pub fn new(file: File) -> io::Result<Self> {
        let length = seek(&file, SeekFrom::End(0))?;
        Ok(Self { file, length })
    }

    /// The file itself.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl ReadAt for FileSource {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        if offset >= self.length {
            return Ok(None);
        }
        let start = match seek(&self.file, SeekFrom::Data(offset)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            // A device, or a file system that does not say: all of it may be data.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some(offset..self.length)),
            Err(error) => return Err(error.into()),
        };
        let end = seek(&self.file, SeekFrom::Hole(start))?.min(self.length);
        Ok(Some(start..end).filter(|r| !r.is_empty()))
    }
}

/// A file to be written from its beginning: zeros become holes.
pub struct FileOutput<P> {
    file: File,
    at: u64,
    progress: P,
}

impl<P: FnMut(u64, u64) -> io::Result<()>> FileOutput<P> {
    /// Writes to an empty file; `progress` gets the bytes of data written, and how many there are.
    pub fn new(file: File, progress: P) -> Self {
        Self { file, at: 0, progress }
    }

    /// Gives the file its length and has it on the disk.
    pub fn finish(self) -> io::Result<()> {
        self.file.set_len(self.at)?;
        self.file.sync_all()
    }
}

impl<P: FnMut(u64, u64) -> io::Result<()>> Output for FileOutput<P> {
    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, self.at)?;
        self.at += data.len() as u64;
        Ok(())
    }

    fn zeros(&mut self, count: u64) -> io::Result<()> {
        self.at += count;
        Ok(())
    }

    fn progress(&mut self, done: u64, total: u64) -> io::Result<()> {
        (self.progress)(done, total)
    }
}
