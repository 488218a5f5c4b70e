//! Writing a VHD from its beginning to its end.

use zerocopy::IntoBytes;

use super::layout::{BLOCK, DYNAMIC, FIXED, Footer, Header, MAX_SIZE, NO_BLOCK, VHD, bitmap_size};
use crate::error::{ImageError, Result};
use crate::{CHUNK, Identity, Output, ReadAt, SECTOR, Segments, raw};

/// Holes shorter than this are written as zeros, in bytes.
const PIECE: u64 = 64 << 10;

fn check_size(size: u64) -> Result<()> {
    if size > MAX_SIZE || !size.is_multiple_of(SECTOR) {
        return Err(ImageError::Unsupported {
            format: VHD,
            what: format!("a disk of {size} bytes (at most 2040 GiB, in whole sectors)"),
            cure: "write QCOW2 or raw instead",
        });
    }
    Ok(())
}

/// Writes a fixed disk.
pub fn write_fixed(disk: &dyn ReadAt, identity: &Identity, out: &mut dyn Output) -> Result<()> {
    check_size(disk.length())?;
    raw::write(disk, out)?;
    let footer = Footer::new(disk.length(), FIXED, identity.uuid, identity.created);
    Ok(out.write(footer.as_bytes())?)
}

/// Writes a dynamic disk: a block of 2 MiB for each that has any data.
pub fn write_dynamic(disk: &dyn ReadAt, identity: &Identity, out: &mut dyn Output) -> Result<()> {
    let size = disk.length();
    check_size(size)?;
    let footer = Footer::new(size, DYNAMIC, identity.uuid, identity.created);
    let segments = Segments::of(disk, BLOCK)?;
    let entries = size.div_ceil(BLOCK);
    let header = Header::new(u32::try_from(entries).unwrap_or(u32::MAX));
    out.write(footer.as_bytes())?;
    out.write(header.as_bytes())?;

    let table = (entries * 4).next_multiple_of(SECTOR);
    let bitmap = vec![0xff; usize::try_from(bitmap_size(BLOCK)).unwrap_or(0)];
    let mut next = header.table_offset.get() + table;
    let mut bytes = Vec::new();
    let mut entry = 0;
    for segment in &segments.0 {
        let (first, end) = (segment.start / BLOCK, segment.end.div_ceil(BLOCK));
        none(&mut bytes, first - entry, out)?;
        for _ in first..end {
            // The largest disk's last block begins before sector 2^32.
            let sector = u32::try_from(next / SECTOR).unwrap_or(NO_BLOCK);
            bytes.extend_from_slice(&sector.to_be_bytes());
            next += bitmap.len() as u64 + BLOCK;
        }
        entry = end;
    }
    none(&mut bytes, entries - entry, out)?;
    bytes.resize(bytes.len().next_multiple_of(SECTOR as usize), 0xff);
    out.write(&bytes)?;

    // Within a block, too, holes are left out where the output can have them.
    let pieces = Segments::of(disk, PIECE)?;
    let total = pieces.0.iter().map(|r| r.end - r.start).sum();
    let (mut done, mut buffer) = (0, vec![0; CHUNK]);
    let mut pieces = pieces.0.iter().cloned().peekable();
    for block in segments.0.iter().flat_map(|s| (s.start..s.end).step_by(BLOCK as usize)) {
        out.write(&bitmap)?;
        let mut at = block;
        while let Some(piece) = pieces.peek_mut().filter(|p| p.start < block + BLOCK) {
            out.zeros(piece.start - at)?;
            let inside = (piece.end.min(block + BLOCK) - piece.start).min(CHUNK as u64);
            let (data, _) = buffer.split_at_mut(usize::try_from(inside).unwrap_or(CHUNK));
            disk.read_exact_at(data, piece.start)?;
            out.write(data)?;
            piece.start += inside;
            at = piece.start;
            done += inside;
            if piece.is_empty() {
                pieces.next();
            }
            out.progress(done, total)?;
        }
        out.zeros(block + BLOCK - at)?;
    }
    Ok(out.write(footer.as_bytes())?)
}

/// Table entries without a block; the table is written out as it grows.
fn none(bytes: &mut Vec<u8>, count: u64, out: &mut dyn Output) -> Result<()> {
    for _ in 0..count {
        bytes.extend_from_slice(&NO_BLOCK.to_be_bytes());
        if bytes.len() == CHUNK {
            out.write(bytes)?;
            bytes.clear();
        }
    }
    Ok(())
}
