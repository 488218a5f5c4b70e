//! Raw images: the disk's bytes and nothing else.

use crate::error::Result;
use crate::source::Forward;
use crate::{CHUNK, Input, Output, ReadAt, SECTOR, Segments, Sink};

/// Reads a raw image. A disk is a whole number of sectors: what is missing in the last one is zeros.
pub fn read(input: Input<'_>, sink: &mut dyn Sink) -> Result<u64> {
    let mut input = Forward::new(input);
    let length = input.length();
    let size = |length: u64| length.checked_next_multiple_of(SECTOR).unwrap_or(length);
    if let Some(length) = length {
        sink.set_size(size(length))?;
    }
    copy(&mut input, length.unwrap_or(u64::MAX), 0, sink)?;
    if length.is_none() {
        sink.set_size(size(input.at))?;
    }
    Ok(size(input.at))
}

/// Copies from the image, from where it is up to its place `end`, to the disk from `to` on. Fewer bytes than that are no error.
pub(crate) fn copy(input: &mut Forward<'_>, end: u64, to: u64, sink: &mut dyn Sink) -> Result<()> {
    let from = input.at;
    let length = input.length();
    let mut buffer = vec![0; CHUNK];
    while input.at < end {
        let Some(data) = input.next_data(end)? else {
            // Nothing but a hole up to the end.
            input.skip_to(end.min(length.unwrap_or(end)))?;
            break;
        };
        input.skip_to(data)?;
        let count = CHUNK.min(usize::try_from(end - data).unwrap_or(CHUNK));
        let (wanted, _) = buffer.split_at_mut(count);
        let count = input.read(wanted)?;
        let (filled, _) = wanted.split_at(count);
        if filled.is_empty() {
            break;
        }
        sink.write_at(filled, to + (data - from))?;
        sink.progress(input.at, length)?;
    }
    Ok(())
}

/// Writes a disk as it is; holes stay holes where the output can have them.
pub fn write(disk: &dyn ReadAt, out: &mut dyn Output) -> Result<()> {
    let segments = Segments::of(disk, SECTOR)?;
    let total = segments.0.iter().map(|r| r.end - r.start).sum();
    let (mut at, mut done) = (0, 0);
    let mut buffer = vec![0; CHUNK];
    for segment in &segments.0 {
        out.zeros(segment.start - at)?;
        at = segment.start;
        while at < segment.end {
            let count = CHUNK.min(usize::try_from(segment.end - at).unwrap_or(CHUNK));
            let (wanted, _) = buffer.split_at_mut(count);
            disk.read_exact_at(wanted, at)?;
            out.write(wanted)?;
            at += count as u64;
            done += count as u64;
            out.progress(done, total)?;
        }
    }
    out.zeros(disk.length() - at)?;
    Ok(())
}
