//! Writing a QCOW2 image (version 3, clusters of 64 KiB) from its beginning to its end.
//!
//! What is where follows from which clusters have data, so all tables can be written before the first cluster:
//! header | reference count table | reference count blocks | L1 | L2 tables | clusters.

use zerocopy::big_endian::{U32, U64};
use zerocopy::{FromZeros, IntoBytes};

use super::header::{HEADER_LENGTH, Header, MAGIC};
use super::{COPIED, QCOW2};
use crate::error::{ImageError, Result};
use crate::{CHUNK, Output, ReadAt, SECTOR, Segments};

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Reference counts have 16 bits.
const COUNTS: u64 = CLUSTER / 2;
/// Entries of a table.
const ENTRIES: u64 = CLUSTER / 8;
/// The largest disk: QEMU reads no longer L1 table than 32 MiB.
const MAX_SIZE: u64 = ENTRIES * CLUSTER * (32 << 20) / 8;

/// Number of clusters of each part.
struct Layout {
    count_table: u64,
    count_blocks: u64,
    l1: u64,
    l2: u64,
    data: u64,
}

impl Layout {
    fn new(size: u64, segments: &Segments) -> Self {
        let reach = ENTRIES * CLUSTER;
        let l1 = size.div_ceil(reach).max(1).div_ceil(ENTRIES);
        let mut l2 = 0;
        let mut next = 0;
        for segment in &segments.0 {
            let (first, end) = ((segment.start / reach).max(next), segment.end.div_ceil(reach));
            l2 += end.saturating_sub(first);
            next = end;
        }
        let mut layout = Self { count_table: 1, count_blocks: 1, l1, l2, data: segments.units(CLUSTER) };
        loop {
            let blocks = layout.clusters().div_ceil(COUNTS);
            let table = (blocks * 8).div_ceil(CLUSTER);
            if blocks == layout.count_blocks && table == layout.count_table {
                return layout;
            }
            (layout.count_blocks, layout.count_table) = (blocks, table);
        }
    }

    fn l1_start(&self) -> u64 {
        1 + self.count_table + self.count_blocks
    }

    fn data_start(&self) -> u64 {
        self.l1_start() + self.l1 + self.l2
    }

    fn clusters(&self) -> u64 {
        self.data_start() + self.data
    }

    fn header(&self, size: u64) -> Header {
        let mut header = Header::new_zeroed();
        header.magic = MAGIC;
        header.version = U32::new(3);
        header.cluster_bits = U32::new(CLUSTER_BITS);
        header.size = U64::new(size);
        header.l1_size = U32::new(u32::try_from(size.div_ceil(ENTRIES * CLUSTER)).unwrap_or(u32::MAX));
        header.l1_offset = U64::new(self.l1_start() * CLUSTER);
        header.refcount_offset = U64::new(CLUSTER);
        header.refcount_clusters = U32::new(u32::try_from(self.count_table).unwrap_or(u32::MAX));
        header.refcount_order = U32::new(4);
        header.header_length = U32::new(HEADER_LENGTH);
        header
    }
}

/// Writes a disk.
pub fn write(disk: &dyn ReadAt, out: &mut dyn Output) -> Result<()> {
    let size = disk.length();
    if size > MAX_SIZE || !size.is_multiple_of(SECTOR) {
        return Err(ImageError::Unsupported {
            format: QCOW2,
            what: format!("a disk of {size} bytes (at most 2 PiB, in whole sectors)"),
            cure: "write raw instead",
        });
    }
    let segments = Segments::of(disk, CLUSTER)?;
    let layout = Layout::new(size, &segments);
    out.write(layout.header(size).as_bytes())?;
    // Behind the header, an end of the header's extensions: zeros.
    out.zeros(CLUSTER - u64::from(HEADER_LENGTH))?;
    let mut words = Words { out, bytes: Vec::with_capacity(CHUNK), count: 0 };
    let first_block = 1 + layout.count_table;
    words.fill((first_block..layout.l1_start()).map(|c| c * CLUSTER))?;
    counts(&mut words, layout.clusters())?;
    l1(&mut words, &segments, &layout)?;
    l2(&mut words, &segments, layout.data_start())?;
    words.flush()?;
    data(disk, &segments, out)
}

/// Table entries on their way out.
struct Words<'a> {
    out: &'a mut dyn Output,
    bytes: Vec<u8>,
    /// Written so far, in this table.
    count: u64,
}

impl Words<'_> {
    fn push(&mut self, word: u64) -> Result<()> {
        self.bytes.extend_from_slice(&word.to_be_bytes());
        self.count += 1;
        if self.bytes.len() >= CHUNK {
            self.flush()?;
        }
        Ok(())
    }

    /// Zeros up to the table's entry of that number.
    fn zeros_to(&mut self, number: u64) -> Result<()> {
        let count = number.saturating_sub(self.count);
        if count > ENTRIES {
            self.flush()?;
            self.out.zeros(count * 8)?;
            self.count = number;
        }
        while self.count < number {
            self.push(0)?;
        }
        Ok(())
    }

    /// Zeros up to the end of the cluster; a new table begins.
    fn end(&mut self) -> Result<()> {
        self.zeros_to(self.count.next_multiple_of(ENTRIES))?;
        self.count = 0;
        Ok(())
    }

    /// A whole table.
    fn fill(&mut self, words: impl Iterator<Item = u64>) -> Result<()> {
        for word in words {
            self.push(word)?;
        }
        self.end()
    }

    fn flush(&mut self) -> Result<()> {
        self.out.write(&self.bytes)?;
        self.bytes.clear();
        Ok(())
    }
}

/// Reference counts: one for each cluster of the file.
fn counts(words: &mut Words<'_>, clusters: u64) -> Result<()> {
    for _ in 0..clusters / 4 {
        words.push(0x0001_0001_0001_0001)?;
    }
    match clusters % 4 {
        0 => {}
        rest => words.push(0x0001_0001_0001_0001 << (64 - 16 * rest))?,
    }
    words.end()
}

fn l1(words: &mut Words<'_>, segments: &Segments, layout: &Layout) -> Result<()> {
    let reach = ENTRIES * CLUSTER;
    let mut next = layout.l1_start() + layout.l1;
    for segment in &segments.0 {
        words.zeros_to(segment.start / reach)?;
        while words.count < segment.end.div_ceil(reach) {
            words.push((next * CLUSTER) | COPIED)?;
            next += 1;
        }
    }
    // The table may be longer than up to its last entry in use.
    words.zeros_to(layout.l1 * ENTRIES)?;
    words.end()
}

fn l2(words: &mut Words<'_>, segments: &Segments, first: u64) -> Result<()> {
    let mut next = first;
    // Number of the table that is being written.
    let mut table = None;
    for segment in &segments.0 {
        for cluster in segment.start / CLUSTER..segment.end.div_ceil(CLUSTER) {
            let (number, entry) = (cluster / ENTRIES, cluster % ENTRIES);
            if table.is_some_and(|t| t != number) {
                words.end()?;
            }
            table = Some(number);
            words.zeros_to(entry)?;
            words.push((next * CLUSTER) | COPIED)?;
            next += 1;
        }
    }
    words.end()
}

fn data(disk: &dyn ReadAt, segments: &Segments, out: &mut dyn Output) -> Result<()> {
    let total = segments.units(CLUSTER) * CLUSTER;
    let mut done = 0;
    let mut buffer = vec![0; CHUNK];
    for segment in &segments.0 {
        let mut at = segment.start;
        while at < segment.end {
            let count = usize::try_from(segment.end - at).unwrap_or(CHUNK).min(CHUNK);
            let (data, _) = buffer.split_at_mut(count);
            disk.read_exact_at(data, at)?;
            out.write(data)?;
            at += count as u64;
            done += count as u64;
            out.progress(done, total)?;
        }
        let end = segment.end.next_multiple_of(CLUSTER);
        out.zeros(end - segment.end)?;
    }
    Ok(())
}
