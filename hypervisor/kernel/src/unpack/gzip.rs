//! gzip members (RFC 1952) around miniz_oxide's inflate.

use alloc::boxed::Box;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

use super::crc32::crc32;
use super::{Error, le32, take};

/// Skips a zero-terminated string.
fn skip_string(rest: &mut &[u8]) -> Result<(), Error> {
    let n = rest.iter().position(|&b| b == 0).ok_or(Error::Truncated)?;
    take(rest, n.saturating_add(1)).map(|_| ())
}

/// The deflate stream after the member header.
fn skip_header(data: &[u8]) -> Result<&[u8], Error> {
    let mut rest = data;
    let header = take(&mut rest, 10)?;
    let (Some(8), Some(&flags)) = (header.get(2).copied(), header.get(3)) else { return Err(Error::Corrupt) };
    if flags & 0xe0 != 0 {
        return Err(Error::Corrupt);
    }
    if flags & 4 != 0 {
        let n = take(&mut rest, 2)?.first_chunk::<2>().map_or(0, |b| u16::from_le_bytes(*b));
        take(&mut rest, n.into())?;
    }
    for bit in [8, 16] {
        if flags & bit != 0 {
            skip_string(&mut rest)?;
        }
    }
    if flags & 2 != 0 {
        take(&mut rest, 2)?;
    }
    Ok(rest)
}

/// Decodes one member to `out`, which must have exactly its length; whatever follows is ignored.
pub fn decode(data: &[u8], out: &mut [u8]) -> Result<(), Error> {
    let deflate = skip_header(data)?;
    let mut state = Box::<DecompressorOxide>::default();
    let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, used, written) = decompress(&mut state, deflate, out, 0, flags);
    match status {
        TINFLStatus::Done if written == out.len() => {}
        TINFLStatus::Done | TINFLStatus::HasMoreOutput => return Err(Error::WrongLength),
        TINFLStatus::NeedsMoreInput | TINFLStatus::FailedCannotMakeProgress => return Err(Error::Truncated),
        _ => return Err(Error::Corrupt),
    }
    let stored = deflate.get(used..).and_then(|t| le32(t, 0)).ok_or(Error::Truncated)?;
    if stored == crc32(out) { Ok(()) } else { Err(Error::BadChecksum) }
}
