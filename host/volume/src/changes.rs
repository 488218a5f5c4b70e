//! What differs between two files that were one once: from where their extents lie, without reading them.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::{Extent, Place};

/// How the bytes of two ranges compare.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Same,
    Differ,
    /// They must be read.
    Unknown,
}

/// Walks a file's extents in pieces.
struct Walk<'a> {
    extents: &'a [Extent],
}

impl Walk<'_> {
    /// Where byte `at` is, and up to which byte of the file that rule goes on.
    fn at(&mut self, at: u64) -> (Place, u64) {
        while let Some((first, rest)) = self.extents.split_first() {
            let range = first.range();
            if range.end <= at {
                self.extents = rest;
                continue;
            }
            if range.start > at {
                return (Place::Zeros, range.start);
            }
            let place = match first.place {
                Place::Disk(byte) => Place::Disk(byte.saturating_add(at - range.start)),
                other => other,
            };
            return (place, range.end);
        }
        (Place::Zeros, u64::MAX)
    }
}

/// The ranges of the first `size` bytes where the second file may differ from the first, in rising order and not touching; and
/// those among which a look at the bytes must decide. Files end in endless zeros here.
pub fn compare(old: &[Extent], new: &[Extent], size: u64) -> (Vec<Range<u64>>, Vec<Range<u64>>) {
    let (mut old, mut new) = (Walk { extents: old }, Walk { extents: new });
    let (mut differ, mut unknown) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < size {
        let ((was, was_end), (is, is_end)) = (old.at(at), new.at(at));
        let end = was_end.min(is_end).min(size);
        let verdict = match (was, is) {
            (Place::Unknown, _) | (_, Place::Unknown) => Verdict::Unknown,
            _ if was == is => Verdict::Same,
            _ => Verdict::Differ,
        };
        match verdict {
            Verdict::Same => {}
            Verdict::Differ => push(&mut differ, at..end),
            Verdict::Unknown => push(&mut unknown, at..end),
        }
        at = end;
    }
    (differ, unknown)
}

fn push(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

/// The granularity in which bytes are compared.
const BLOCK: usize = 4096;

/// The parts of `ranges`, in blocks, where the two files' bytes differ. Behind a file's end are zeros.
pub fn differing_bytes(
    old: &File,
    new: &File,
    ranges: &[Range<u64>],
    found: &mut Vec<Range<u64>>,
) -> io::Result<()> {
    const PIECE: usize = 1 << 20;
    let (mut was, mut is) = (vec![0; PIECE], vec![0; PIECE]);
    for range in ranges {
        let mut at = range.start;
        while at < range.end {
            // Pieces end at whole blocks of the file.
            let whole = PIECE as u64 - at % BLOCK as u64;
            let count = usize::try_from((range.end - at).min(whole)).unwrap_or(PIECE);
            let ((was, _), (is, _)) = (was.split_at_mut(count), is.split_at_mut(count));
            read_padded(old, was, at)?;
            read_padded(new, is, at)?;
            let first = (BLOCK - (at % BLOCK as u64) as usize).min(count);
            let mut offset = 0;
            while offset < count {
                let end = if offset == 0 { first } else { (offset + BLOCK).min(count) };
                if was.get(offset..end) != is.get(offset..end) {
                    push(found, at + offset as u64..at + end as u64);
                }
                offset = end;
            }
            at += count as u64;
        }
    }
    Ok(())
}

fn read_padded(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|r| !r.is_empty()) {
        match file.read_at(rest, offset + done as u64) {
            Ok(0) => {
                rest.fill(0);
                return Ok(());
            }
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sorts ranges and joins those that touch.
pub(crate) fn join(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|r| r.start);
    let mut joined = Vec::new();
    for range in ranges {
        push(&mut joined, range);
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file as the place of each of its bytes; 0 is a hole, 1 a reservation, 2 unknown.
    fn extents(places: &[(u8, u8)]) -> Vec<Extent> {
        let mut found = Vec::new();
        let mut start = 0;
        for (length, place) in places {
            let length = u64::from(*length);
            let place = match place {
                0 => None,
                1 => Some(Place::Zeros),
                2 => Some(Place::Unknown),
                n => Some(Place::Disk(u64::from(*n) * 100)),
            };
            found.extend(place.filter(|_| length > 0).map(|place| Extent {
                start,
                length,
                place,
                shared: false,
            }));
            start += length;
        }
        found
    }

    fn naive(extents: &[Extent], at: u64) -> Place {
        let here = extents.iter().find(|e| e.range().contains(&at));
        match here.map(|e| (e.place, e.start)) {
            None => Place::Zeros,
            Some((Place::Disk(byte), start)) => Place::Disk(byte + at - start),
            Some((place, _)) => place,
        }
    }

    proptest! {
        #[test]
        fn as_byte_by_byte(old in prop::collection::vec((0u8..9, 0u8..6), 0..9), new in prop::collection::vec((0u8..9, 0u8..6), 0..9), size in 0u64..80) {
            let (old, new) = (extents(&old), extents(&new));
            let (differ, unknown) = compare(&old, &new, size);
            for at in 0..size {
                let (was, is) = (naive(&old, at), naive(&new, at));
                let unsure = was == Place::Unknown || is == Place::Unknown;
                prop_assert_eq!(unknown.iter().any(|r| r.contains(&at)), unsure);
                prop_assert_eq!(differ.iter().any(|r| r.contains(&at)), !unsure && was != is);
            }
            for ranges in [differ, unknown] {
                prop_assert!(ranges.iter().all(|r| r.end <= size));
                prop_assert!(ranges.windows(2).all(|w| w[0].end < w[1].start));
            }
        }
    }
}
