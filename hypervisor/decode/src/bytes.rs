//! A bounded reader over instruction bytes.

use crate::{Error, MAX_LENGTH};

#[derive(Clone, Copy)]
pub(crate) struct Bytes<'a> {
    bytes: &'a [u8],
    position: u8,
    /// What running out of bytes means.
    end: Error,
}

impl<'a> Bytes<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        match bytes.get(..MAX_LENGTH) {
            Some(bytes) => Bytes { bytes, position: 0, end: Error::TooLong },
            None => Bytes { bytes, position: 0, end: Error::Truncated },
        }
    }

    /// Bytes consumed: at most [`MAX_LENGTH`].
    pub(crate) fn position(&self) -> u8 {
        self.position
    }

    pub(crate) fn peek(&self) -> Result<u8, Error> {
        self.bytes.get(usize::from(self.position)).copied().ok_or(self.end)
    }

    pub(crate) fn next(&mut self) -> Result<u8, Error> {
        let byte = self.peek()?;
        self.position = self.position.wrapping_add(1);
        Ok(byte)
    }

    /// A little-endian number of `size` bytes (1, 2, 4 or 8), zero-extended.
    pub(crate) fn unsigned(&mut self, size: u8) -> Result<u64, Error> {
        let mut value = 0;
        for byte in 0..u32::from(size.min(8)) {
            value |= u64::from(self.next()?) << (8 * byte);
        }
        Ok(value)
    }

    /// A little-endian number of `size` bytes (1, 2, 4 or 8), sign-extended.
    pub(crate) fn signed(&mut self, size: u8) -> Result<u64, Error> {
        Ok(crate::flags::sign_extend(self.unsigned(size)?, size))
    }
}
