//! The .xz container (xz file format 1.2.1): one stream, any number of blocks, filters `[x86 BCJ,] LZMA2`.

use super::crc32::crc32;
use super::lzma2::Lzma2;
use super::{Error, bcj, le32, take};

/// First bytes of a stream.
pub const MAGIC: &[u8; 6] = b"\xfd7zXZ\0";
const FOOTER_LEN: usize = 12;
const FILTER_X86: u64 = 0x04;
const FILTER_LZMA2: u64 = 0x21;

/// A multibyte integer (§1.2): at most 9 bytes, no superfluous zero byte.
fn vli(input: &mut &[u8]) -> Result<u64, Error> {
    let mut v = 0u64;
    for shift in (0..63).step_by(7) {
        let (&b, rest) = input.split_first().ok_or(Error::Truncated)?;
        *input = rest;
        v |= u64::from(b & 0x7f) << shift;
        if b & 0x80 == 0 {
            return if b == 0 && shift != 0 { Err(Error::Corrupt) } else { Ok(v) };
        }
    }
    Err(Error::Corrupt)
}

/// Bytes of the check that follows each block, by check id (§2.1.1.2).
fn check_len(id: u8) -> usize {
    [0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64].get(usize::from(id & 0xf)).copied().unwrap_or(0)
}

/// Sum of the uncompressed sizes in the index of a stream that ends exactly at the end of `input`.
pub fn stream_len(input: &[u8]) -> Result<u64, Error> {
    let footer_at = input.len().checked_sub(FOOTER_LEN).ok_or(Error::Truncated)?;
    let footer = input.get(footer_at..).ok_or(Error::Truncated)?;
    if !footer.ends_with(b"YZ") || le32(footer, 0) != Some(crc32(footer.get(4..10).unwrap_or_default())) {
        return Err(Error::Corrupt);
    }
    let backward = u64::from(le32(footer, 4).ok_or(Error::Truncated)?);
    let index_len = usize::try_from((backward + 1) * 4).map_err(|_| Error::Corrupt)?;
    let index_at = footer_at.checked_sub(index_len).ok_or(Error::Truncated)?;
    let mut index = input.get(index_at..footer_at).ok_or(Error::Truncated)?;
    if take(&mut index, 1)? != [0] {
        return Err(Error::Corrupt);
    }
    let records = vli(&mut index)?;
    let mut total = 0u64;
    for _ in 0..records {
        vli(&mut index)?;
        total = total.checked_add(vli(&mut index)?).ok_or(Error::Corrupt)?;
    }
    Ok(total)
}

/// Decodes one stream to `out`, which must have exactly its length; bytes after the stream are ignored.
pub fn decode(input: &[u8], out: &mut [u8]) -> Result<(), Error> {
    let mut rest = input;
    let header = take(&mut rest, 12)?;
    if !header.starts_with(MAGIC) || le32(header, 8) != Some(crc32(header.get(6..8).unwrap_or_default())) {
        return Err(Error::Corrupt);
    }
    let check = match header.get(6..8) {
        Some(&[0, id @ 0..16]) => id,
        _ => return Err(Error::Corrupt),
    };
    let mut done = 0;
    // A first byte of 0 is the index: all blocks are through.
    while rest.first() != Some(&0) {
        done = block(&mut rest, out, done, check)?;
    }
    if done == out.len() { Ok(()) } else { Err(Error::WrongLength) }
}

struct BlockHeader {
    x86: bool,
    uncompressed: Option<u64>,
}

/// Parses a block header (§3.1) and checks its CRC.
fn block_header(input: &mut &[u8]) -> Result<BlockHeader, Error> {
    let words = usize::from(*input.first().ok_or(Error::Truncated)?);
    let header = take(input, (words + 1) * 4)?;
    let (fields, crc) = header.split_at_checked(words * 4).ok_or(Error::Truncated)?;
    if le32(crc, 0) != Some(crc32(fields)) {
        return Err(Error::Corrupt);
    }
    let flags = fields.get(1).copied().ok_or(Error::Truncated)?;
    if flags & 0x3c != 0 {
        return Err(Error::Unsupported("an xz feature newer than version 1.0"));
    }
    let mut f = fields.get(2..).unwrap_or_default();
    if flags & 0x40 != 0 {
        vli(&mut f)?;
    }
    let uncompressed = (flags & 0x80 != 0).then(|| vli(&mut f)).transpose()?;
    let mut x86 = false;
    let filters = (flags & 3) + 1;
    for i in 1..=filters {
        let id = vli(&mut f)?;
        let props_len = usize::try_from(vli(&mut f)?).map_err(|_| Error::Corrupt)?;
        let props = take(&mut f, props_len)?;
        match (id, i == filters) {
            (FILTER_LZMA2, true) if props.len() == 1 => {}
            (FILTER_X86, false) if !x86 && props.iter().all(|&b| b == 0) => x86 = true,
            _ => return Err(Error::Unsupported("an xz filter other than x86 BCJ and LZMA2")),
        }
    }
    Ok(BlockHeader { x86, uncompressed })
}

/// Decodes one block to `out[start..]`; returns where it ended.
fn block(rest: &mut &[u8], out: &mut [u8], start: usize, check: u8) -> Result<usize, Error> {
    let header = block_header(rest)?;
    let (used, end) = Lzma2::new().decode(rest, out, start)?;
    let data = out.get_mut(start..end).ok_or(Error::Corrupt)?;
    if header.uncompressed.is_some_and(|n| n != data.len() as u64) {
        return Err(Error::Corrupt);
    }
    take(rest, used)?;
    if take(rest, used.wrapping_neg() & 3)?.iter().any(|&b| b != 0) {
        return Err(Error::Corrupt);
    }
    if header.x86 {
        bcj::x86_decode(data);
    }
    let stored = take(rest, check_len(check))?;
    // CRC32 is what kernels carry; other checks are passed over, as the format allows.
    if check == 1 && le32(stored, 0) != Some(crc32(data)) {
        return Err(Error::BadChecksum);
    }
    Ok(end)
}
