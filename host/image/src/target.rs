//! Where bytes go: a disk, written by position, or an image, written from its beginning to its end.

use std::io::{self, Write};

use crate::CHUNK;

/// The disk that an image is read into. It reads as zeros where nothing is written.
pub trait Sink {
    /// The disk's size in bytes: told once, before anything is written if the image says it there, else at the end.
    fn set_size(&mut self, bytes: u64) -> io::Result<()>;

    /// Writes at a place; nothing is written twice, and nothing but zeros is left out.
    fn write_at(&mut self, data: &[u8], offset: u64) -> io::Result<()>;

    /// How much of the image has been read, in bytes of its file or of its disk; how much there is, if that is known.
    /// An error ends the work.
    fn progress(&mut self, _done: u64, _total: Option<u64>) -> io::Result<()> {
        Ok(())
    }
}

/// Where an image is written, in order.
pub trait Output {
    /// Writes the next bytes.
    fn write(&mut self, data: &[u8]) -> io::Result<()>;

    /// Writes zeros, or leaves a hole.
    fn zeros(&mut self, count: u64) -> io::Result<()> {
        let zeros = vec![0; CHUNK.min(usize::try_from(count).unwrap_or(CHUNK))];
        let mut left = count;
        while left > 0 {
            let piece = zeros.get(..usize::try_from(left).unwrap_or(usize::MAX).min(zeros.len()));
            let piece = piece.unwrap_or(&zeros);
            self.write(piece)?;
            left -= piece.len() as u64;
        }
        Ok(())
    }

    /// How many bytes of data have been written, and how many there are. An error ends the work.
    fn progress(&mut self, _done: u64, _total: u64) -> io::Result<()> {
        Ok(())
    }
}

/// An image written to a pipe.
pub struct Pipe<W>(pub W);

impl<W: Write> Output for Pipe<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.0.write_all(data)
    }
}
