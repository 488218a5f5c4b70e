//! Where bytes come from: a file, read by position, or a pipe.

use std::io::{self, Read};
use std::ops::Range;

use crate::CHUNK;

/// Bytes that can be read by position: an image file, or a disk.
pub trait ReadAt {
    /// Length in bytes.
    fn length(&self) -> u64;

    /// Fills the buffer from `offset`; [`io::ErrorKind::UnexpectedEof`] if there are not so many bytes.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// The next range of bytes, at `offset` or later, that may be anything but zeros; `None` if only zeros follow.
    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        Ok(Some(offset..self.length()).filter(|r| !r.is_empty()))
    }
}

impl ReadAt for &[u8] {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let bytes = start.and_then(|s| self.get(s..)).and_then(|b| b.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// An image to be read.
pub enum Input<'a> {
    /// One that can be read by position.
    File(&'a dyn ReadAt),
    /// One that comes through a pipe.
    Stream(&'a mut dyn Read),
}

/// Where a disk has data: ranges of bytes in rising order, not touching each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segments(pub Vec<Range<u64>>);

impl Segments {
    /// Of a disk, in whole units of `unit` bytes (the last may be cut off by the disk's end).
    pub fn of(disk: &dyn ReadAt, unit: u64) -> io::Result<Self> {
        let mut found: Vec<Range<u64>> = Vec::new();
        let mut at = 0;
        while let Some(data) = disk.next_data(at)? {
            let start = data.start - data.start % unit;
            let end = data.end.checked_next_multiple_of(unit).unwrap_or(u64::MAX).min(disk.length());
            match found.last_mut() {
                Some(last) if start <= last.end => last.end = last.end.max(end),
                _ => found.push(start..end),
            }
            at = end;
        }
        Ok(Self(found))
    }

    /// Number of units of `unit` bytes, if they were collected in such.
    pub fn units(&self, unit: u64) -> u64 {
        self.0.iter().map(|r| (r.end - r.start).div_ceil(unit)).sum()
    }
}

/// An image read from its beginning to its end.
pub(crate) struct Forward<'a> {
    input: Input<'a>,
    /// Bytes taken so far.
    pub at: u64,
    /// Where the file is known to have data. (To ask anew at each piece would take time with the square of a long range.)
    data: Range<u64>,
}

impl<'a> Forward<'a> {
    pub fn new(input: Input<'a>) -> Self {
        Self { input, at: 0, data: 0..0 }
    }

    /// The whole length, if it is known.
    pub fn length(&self) -> Option<u64> {
        match &self.input {
            Input::File(file) => Some(file.length()),
            Input::Stream(_) => None,
        }
    }

    /// Fills as much of the buffer as there is; less than all of it only at the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let done = match &mut self.input {
            Input::File(file) => {
                let left = file.length().saturating_sub(self.at);
                let count = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let (wanted, _) = buffer.split_at_mut(count);
                file.read_exact_at(wanted, self.at)?;
                count
            }
            Input::Stream(stream) => {
                let mut done = 0;
                while let Some(rest) = buffer.get_mut(done..).filter(|r| !r.is_empty()) {
                    match stream.read(rest) {
                        Ok(0) => break,
                        Ok(count) => done += count,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
                done
            }
        };
        self.at += done as u64;
        Ok(done)
    }

    /// Fills the whole buffer.
    pub fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        if self.read(buffer)? < buffer.len() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Goes on to a later place.
    pub fn skip_to(&mut self, offset: u64) -> io::Result<()> {
        if let Input::File(file) = &self.input {
            if offset > file.length() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.at = offset;
            return Ok(());
        }
        let mut buffer = vec![0; CHUNK.min(usize::try_from(offset - self.at).unwrap_or(CHUNK))];
        while self.at < offset {
            let count = buffer.len().min(usize::try_from(offset - self.at).unwrap_or(usize::MAX));
            let (wanted, _) = buffer.split_at_mut(count);
            self.read_exact(wanted)?;
        }
        Ok(())
    }

    /// Where, from here on and up to `end`, the next bytes are that may be anything but zeros. `None`: nowhere.
    pub fn next_data(&mut self, end: u64) -> io::Result<Option<u64>> {
        let next = match &self.input {
            Input::File(_) if self.data.contains(&self.at) => Some(self.at),
            Input::File(file) => {
                let data = file.next_data(self.at)?;
                self.data = data.clone().unwrap_or_default();
                data.map(|r| r.start)
            }
            Input::Stream(_) => Some(self.at),
        };
        Ok(next.filter(|n| *n < end))
    }
}
