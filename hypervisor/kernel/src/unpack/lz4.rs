//! The "legacy" LZ4 frame which kernels use: a magic, then blocks of `u32 packed length, LZ4 block`.

use super::{Error, le32, take};

/// First bytes of a legacy frame (0x184c2102).
pub const MAGIC: &[u8; 4] = b"\x02\x21\x4c\x18";
/// Every block but the last unpacks to this.
const BLOCK: usize = 8 << 20;
/// Largest a packed block of that size can be.
const PACKED_MAX: usize = BLOCK + BLOCK / 255 + 16;

/// The frame's blocks. It has no end mark: anything that cannot be a block's length (such as the size that kernels
/// append) ends it.
fn blocks(input: &[u8]) -> Result<impl Iterator<Item = &[u8]>, Error> {
    let mut rest = input.strip_prefix(MAGIC).ok_or(Error::Corrupt)?;
    Ok(core::iter::from_fn(move || {
        let len = le32(take(&mut rest, 4).ok()?, 0)? as usize;
        if len == 0 || len > PACKED_MAX { None } else { take(&mut rest, len).ok() }
    }))
}

/// Total unpacked length, found by walking all sequences (the format does not store it).
pub fn unpacked_len(input: &[u8]) -> Result<u64, Error> {
    let mut total = 0u64;
    for mut block in blocks(input)? {
        while let Some(s) = sequence(&mut block)? {
            total = total.saturating_add(s.literals.len() as u64).saturating_add(s.match_len as u64);
        }
    }
    Ok(total)
}

/// Decodes a frame to `out`, which must have exactly its length; whatever follows is ignored.
pub fn decode(input: &[u8], out: &mut [u8]) -> Result<(), Error> {
    let mut at = 0;
    for mut block in blocks(input)? {
        if at == out.len() {
            break;
        }
        let start = at;
        while let Some(s) = sequence(&mut block)? {
            at = literals(out, at, s.literals)?;
            if s.match_len != 0 {
                at = copy_match(out, start, at, s.distance, s.match_len)?;
            }
        }
    }
    if at == out.len() { Ok(()) } else { Err(Error::WrongLength) }
}

/// Literals, then a match (length 0 in the last sequence of a block).
struct Sequence<'a> {
    literals: &'a [u8],
    distance: usize,
    match_len: usize,
}

fn byte(input: &mut &[u8]) -> Result<u8, Error> {
    let (&b, rest) = input.split_first().ok_or(Error::Truncated)?;
    *input = rest;
    Ok(b)
}

/// A 4-bit length, extended by bytes while they are 255.
fn length(nibble: u8, input: &mut &[u8]) -> Result<usize, Error> {
    let mut n = usize::from(nibble);
    if nibble == 15 {
        loop {
            let b = byte(input)?;
            n = n.saturating_add(usize::from(b));
            if b != 255 {
                break;
            }
        }
    }
    Ok(n)
}

/// The next sequence, `None` at the end of the block.
fn sequence<'a>(block: &mut &'a [u8]) -> Result<Option<Sequence<'a>>, Error> {
    if block.is_empty() {
        return Ok(None);
    }
    let token = byte(block)?;
    let n = length(token >> 4, block)?;
    let literals = take(block, n)?;
    if block.is_empty() {
        return Ok(Some(Sequence { literals, distance: 0, match_len: 0 }));
    }
    let distance = usize::from(byte(block)?) | usize::from(byte(block)?) << 8;
    let match_len = length(token & 15, block)?.saturating_add(4);
    Ok(Some(Sequence { literals, distance, match_len }))
}

fn literals(out: &mut [u8], at: usize, src: &[u8]) -> Result<usize, Error> {
    let end = at.checked_add(src.len()).ok_or(Error::WrongLength)?;
    out.get_mut(at..end).ok_or(Error::WrongLength)?.copy_from_slice(src);
    Ok(end)
}

/// Overlap repeats the pattern; it is doubled until it is long enough, so each byte is still written once.
fn copy_match(out: &mut [u8], start: usize, at: usize, distance: usize, len: usize) -> Result<usize, Error> {
    let from = at.checked_sub(distance).filter(|&f| f >= start && distance != 0).ok_or(Error::Corrupt)?;
    let end = at.checked_add(len).filter(|&e| e <= out.len()).ok_or(Error::WrongLength)?;
    let mut to = at;
    while to < end {
        let n = (to - from).min(end - to);
        out.copy_within(from..from + n, to);
        to += n;
    }
    Ok(end)
}
