//! Reading a VHD, in the order of its bytes.

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::layout::{COOKIE, DIFFERENCING, DYNAMIC, FIXED, Footer, Header, NO_BLOCK, VHD, bitmap_size};
use crate::error::{ImageError, Result, corrupt};
use crate::source::Forward;
use crate::{CHUNK, Input, SECTOR, Sink, raw};

/// Reads a fixed or dynamic disk; returns its size in bytes.
pub fn read(input: Input<'_>, sink: &mut dyn Sink) -> Result<u64> {
    let mut input = Forward::new(input);
    let mut footer = Footer::new_zeroed();
    input.read_exact(footer.as_mut_bytes())?;
    if footer.cookie != *COOKIE {
        return fixed(input, footer, sink);
    }
    footer.check()?;
    match footer.kind.get() {
        DYNAMIC => dynamic(input, &footer, sink),
        // A disk of no bytes has its footer at the start.
        FIXED if footer.current_size.get() == 0 => {
            sink.set_size(0)?;
            Ok(0)
        }
        DIFFERENCING => Err(ImageError::Unsupported {
            format: VHD,
            what: "a differencing disk (it needs its parent)".into(),
            cure: "merge it with its parent first",
        }),
        kind => corrupt(VHD, format!("a footer of type {kind} at the start")),
    }
}

/// Data, then the footer: what a pipe has sent is known to be data only when something follows it.
fn fixed(mut input: Forward<'_>, first: Footer, sink: &mut dyn Sink) -> Result<u64> {
    let total = input.length();
    if let Some(data) = total.and_then(|t| t.checked_sub(SECTOR)) {
        let mut footer = Footer::new_zeroed();
        input.skip_to(data)?;
        input.read_exact(footer.as_mut_bytes())?;
        fixed_footer(&footer, data)?;
        sink.set_size(data)?;
        input.at = 0;
        raw::copy(&mut input, data, 0, sink)?;
        return Ok(data);
    }
    let mut held = first.as_bytes().to_vec();
    let mut written = 0;
    loop {
        let before = held.len();
        held.resize(before + CHUNK, 0);
        let count = input.read(held.get_mut(before..).unwrap_or_default())?;
        held.truncate(before + count);
        let data = held.len().saturating_sub(SECTOR as usize);
        sink.write_at(held.get(..data).unwrap_or_default(), written)?;
        sink.progress(input.at, None)?;
        written += data as u64;
        held.drain(..data);
        if count < CHUNK {
            break;
        }
    }
    let Ok(footer) = Footer::read_from_bytes(&held) else { return corrupt(VHD, "it ends in its footer") };
    fixed_footer(&footer, written)?;
    sink.set_size(written)?;
    Ok(written)
}

fn fixed_footer(footer: &Footer, data: u64) -> Result<()> {
    footer.check()?;
    if footer.kind.get() != FIXED {
        return corrupt(VHD, "the copy of the footer at the start is missing");
    }
    if footer.current_size.get() != data {
        let size = footer.current_size.get();
        return corrupt(VHD, format!("a disk of {size} bytes has {data} bytes of data"));
    }
    Ok(())
}

fn dynamic(mut input: Forward<'_>, footer: &Footer, sink: &mut dyn Sink) -> Result<u64> {
    let size = footer.current_size.get();
    let mut header = Header::new_zeroed();
    forward(&mut input, footer.data_offset.get(), "the header")?;
    input.read_exact(header.as_mut_bytes())?;
    header.check(size)?;
    forward(&mut input, header.table_offset.get(), "the table of blocks")?;
    let block = u64::from(header.block_size.get());
    let blocks = table(&mut input, size.div_ceil(block))?;
    sink.set_size(size)?;
    let bitmap = bitmap_size(block);
    let mut reader = Block { bitmap: vec![0; usize::try_from(bitmap).unwrap_or(0)], buffer: vec![0; CHUNK] };
    for (start, number) in blocks {
        forward(&mut input, start.saturating_mul(SECTOR), "a block")?;
        let to = number.saturating_mul(block);
        reader.copy(&mut input, to, block.min(size.saturating_sub(to)), sink)?;
        let total = input.length();
        sink.progress(input.at, total)?;
    }
    Ok(size)
}

/// Goes on to a structure, which must not begin before the end of the last one.
fn forward(input: &mut Forward<'_>, offset: u64, what: &str) -> Result<()> {
    if offset < input.at {
        return corrupt(VHD, format!("{what} overlaps what is before it"));
    }
    Ok(input.skip_to(offset)?)
}

/// The table's blocks in the order of their place: (first sector, number of the block).
fn table(input: &mut Forward<'_>, entries: u64) -> Result<Vec<(u64, u64)>> {
    let mut blocks = Vec::new();
    let mut buffer = [0; 4096];
    let mut number = 0;
    while number < entries {
        let count = usize::try_from((entries - number) * 4).unwrap_or(usize::MAX).min(buffer.len());
        let (wanted, _) = buffer.split_at_mut(count);
        input.read_exact(wanted)?;
        for entry in wanted.as_chunks::<4>().0 {
            let sector = u32::from_be_bytes(*entry);
            if sector != NO_BLOCK {
                blocks.push((u64::from(sector), number));
            }
            number += 1;
        }
    }
    blocks.sort_unstable();
    Ok(blocks)
}

struct Block {
    bitmap: Vec<u8>,
    buffer: Vec<u8>,
}

impl Block {
    /// Copies one block, whose bitmap comes next, to the disk: `length` bytes at `to`.
    fn copy(&mut self, input: &mut Forward<'_>, to: u64, length: u64, sink: &mut dyn Sink) -> Result<()> {
        input.read_exact(&mut self.bitmap)?;
        let start = input.at;
        let mut done = 0;
        while done < length {
            // A hole in the image's file.
            let end = start.saturating_add(length);
            let Some(data) = input.next_data(end)? else { return Ok(input.skip_to(end)?) };
            done = data.saturating_sub(start) / SECTOR * SECTOR;
            input.skip_to(start.saturating_add(done))?;
            let count = CHUNK.min(usize::try_from(length - done).unwrap_or(CHUNK));
            let (data, _) = self.buffer.split_at_mut(count);
            input.read_exact(data)?;
            let sectors = usize::try_from(done / SECTOR).unwrap_or(usize::MAX);
            write_present(&self.bitmap, sectors, data, to + done, sink)?;
            done += count as u64;
        }
        Ok(())
    }
}

/// Writes the runs of sectors whose bits are set. `first` is the number of the data's first sector in the block.
fn write_present(bitmap: &[u8], first: usize, data: &[u8], to: u64, sink: &mut dyn Sink) -> Result<()> {
    let set = |n: usize| bitmap.get(n / 8).is_some_and(|byte| byte & (0x80 >> (n % 8)) != 0);
    let mut at = to;
    let mut sectors = data.chunks(SECTOR as usize).enumerate().map(|(n, s)| (set(first + n), s.len()));
    let mut rest = data;
    let mut next = sectors.next();
    while let Some((present, mut length)) = next {
        next = sectors.next();
        while let Some((same, more)) = next.filter(|(p, _)| *p == present) {
            let _ = same;
            length += more;
            next = sectors.next();
        }
        let (run, after) = rest.split_at(length.min(rest.len()));
        if present {
            sink.write_at(run, at)?;
        }
        at += run.len() as u64;
        rest = after;
    }
    Ok(())
}
