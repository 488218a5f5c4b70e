//! Zstandard frames (RFC 8878) around ruzstd.

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use ruzstd::io::{Error as IoError, Read};

use super::Error;

/// First bytes of a frame.
pub const MAGIC: &[u8; 4] = b"\x28\xb5\x2f\xfd";
/// Window descriptor of 96 MiB, the largest below the decoder's limit of 100 MiB.
const WINDOW_96M: u8 = (16 << 3) | 4;
const WINDOW_96M_LEN: usize = 96 << 20;

/// The frame's content size field (§3.1.1.1.4).
pub fn content_size(data: &[u8]) -> Result<u64, Error> {
    let descriptor = *data.get(4).ok_or(Error::Truncated)?;
    let single_segment = descriptor & 0x20 != 0;
    let dictionary = [0, 1, 2, 4].get(usize::from(descriptor & 3)).copied().unwrap_or(0);
    let at = 5 + usize::from(!single_segment) + dictionary;
    let field = |n: usize| data.get(at..at + n).ok_or(Error::Truncated);
    let int = |b: &[u8]| b.iter().rev().fold(0u64, |v, &x| (v << 8) | u64::from(x));
    match descriptor >> 6 {
        0 if single_segment => field(1).map(int),
        0 => Err(Error::Unsupported("a Zstandard frame without its length (`zstd` of a pipe)")),
        1 => Ok(int(field(2)?) + 256),
        2 => field(4).map(int),
        _ => field(8).map(int),
    }
}

/// A frame with its first bytes exchanged.
struct Patched<'a> {
    head: [u8; 6],
    at: usize,
    tail: &'a [u8],
}

impl Read for Patched<'_> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, IoError> {
        let mut head = self.head.get(self.at..).unwrap_or_default();
        if head.is_empty() {
            return Read::read(&mut self.tail, buf);
        }
        let n = Read::read(&mut head, buf)?;
        self.at = self.at.saturating_add(n);
        Ok(n)
    }
}

/// Decodes one frame to `out`, which must have exactly its length; whatever follows is ignored.
pub fn decode(data: &[u8], out: &mut [u8]) -> Result<(), Error> {
    let (head, tail) = data.split_first_chunk::<6>().ok_or(Error::Truncated)?;
    let mut source = Patched { head: *head, at: 0, tail };
    // Kernels are compressed from a pipe at the highest level and so ask for 128 MiB, which ruzstd refuses. No match can
    // reach farther back than the output is long, so a smaller window does as well.
    if let [_, _, _, _, descriptor, window] = &mut source.head
        && *descriptor & 0x20 == 0
        && out.len() <= WINDOW_96M_LEN
    {
        *window = (*window).min(WINDOW_96M);
    }
    let mut decoder = FrameDecoder::new();
    decoder.reset(&mut source).map_err(|_| Error::Corrupt)?;
    let mut rest = out;
    while !decoder.is_finished() {
        let some = BlockDecodingStrategy::UptoBytes(1 << 20);
        decoder.decode_blocks(&mut source, some).map_err(|_| Error::Corrupt)?;
        let n = decoder.read(rest).map_err(|_| Error::Corrupt)?;
        rest = rest.get_mut(n..).ok_or(Error::Corrupt)?;
        if decoder.can_collect() != 0 {
            return Err(Error::WrongLength);
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(Error::WrongLength) }
}
