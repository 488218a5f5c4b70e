//! Reading a QCOW2 image, in the order of its disk.

use std::thread;

use ruzstd::decoding::FrameDecoder;
use zerocopy::FromBytes;
use zerocopy::big_endian::U64;

use super::header::{Compression, Header};
use super::{COMPRESSED, OFFSET, QCOW2, ZERO};
use crate::error::{Result, corrupt};
use crate::{CHUNK, ReadAt, SECTOR, Sink};

/// Reads the active state; returns the disk's size in bytes, rounded up to whole sectors.
pub fn read(image: &dyn ReadAt, sink: &mut dyn Sink) -> Result<u64> {
    let header = Header::read(image)?;
    let size = header.size.get();
    let Some(disk) = size.checked_next_multiple_of(SECTOR) else {
        return corrupt(QCOW2, format!("a disk of {size} bytes"));
    };
    sink.set_size(disk)?;
    let cluster = header.cluster();
    let mut reader = Reader {
        image,
        header,
        budget: Budget::new(image.length(), cluster),
        run: Run::default(),
        packed: Vec::new(),
        buffer: vec![0; CHUNK.max(usize::try_from(cluster).unwrap_or(CHUNK))],
    };
    let reach = header.l2_reach();
    let mut l2 = vec![0; usize::try_from(cluster).unwrap_or(0)];
    let tables = size.div_ceil(reach);
    let mut l1 = [0; 4096];
    for number in 0..tables {
        let slot = usize::try_from(number % 512).unwrap_or(0);
        if slot == 0 {
            let (wanted, _) = l1.split_at_mut(usize::try_from((tables - number).min(512) * 8).unwrap_or(0));
            image.read_exact_at(wanted, header.l1_offset.get().saturating_add(number * 8))?;
        }
        let entry = l1.as_chunks::<8>().0.get(slot).map_or(0, |e| u64::from_be_bytes(*e)) & OFFSET;
        if entry != 0 {
            reader.table(entry, &mut l2)?;
            reader.clusters(&l2, number * reach, sink)?;
        }
        sink.progress(((number + 1) * reach).min(size), Some(size))?;
    }
    reader.flush(sink)?;
    reader.unpack(sink)?;
    Ok(disk)
}

/// How many tables and clusters there may still be: in a sound image the active state uses each place of the file once, and
/// deflate makes no more than 1032 bytes of one. So the work is bounded by the image's length.
struct Budget {
    tables: u64,
    plain: u64,
    compressed: u64,
}

impl Budget {
    fn new(length: u64, cluster: u64) -> Self {
        let clusters = length.div_ceil(cluster);
        Self { tables: clusters, plain: clusters, compressed: length / (cluster / 1032).max(4) + 1 }
    }

    fn take(left: &mut u64, what: &str) -> Result<()> {
        match left.checked_sub(1) {
            Some(rest) => *left = rest,
            None => return corrupt(QCOW2, format!("{what} are used more than once")),
        }
        Ok(())
    }
}

/// Clusters that follow each other, on the disk and in the file.
#[derive(Default)]
struct Run {
    disk: u64,
    file: u64,
    length: u64,
}

struct Reader<'a> {
    image: &'a dyn ReadAt,
    header: Header,
    budget: Budget,
    run: Run,
    /// Compressed clusters that wait.
    packed: Vec<Packed>,
    buffer: Vec<u8>,
}

impl Reader<'_> {
    fn table(&mut self, offset: u64, table: &mut [u8]) -> Result<()> {
        Budget::take(&mut self.budget.tables, "L2 tables")?;
        if !offset.is_multiple_of(self.header.cluster()) {
            return corrupt(QCOW2, format!("an L2 table at {offset:#x}"));
        }
        Ok(self.image.read_exact_at(table, offset)?)
    }

    /// Copies the clusters of one L2 table; `base` is where on the disk it begins.
    fn clusters(&mut self, table: &[u8], base: u64, sink: &mut dyn Sink) -> Result<()> {
        let (cluster, size) = (self.header.cluster(), self.header.size.get());
        let zero = if self.header.version.get() == 3 { ZERO } else { 0 };
        let entries = <[U64]>::ref_from_bytes(table).unwrap_or_default();
        for (entry, disk) in entries.iter().zip((base..size).step_by(usize::try_from(cluster).unwrap_or(1))) {
            let entry = entry.get();
            if entry & COMPRESSED != 0 {
                self.compressed(entry, disk, sink)?;
            } else if entry & OFFSET != 0 && entry & zero == 0 {
                self.plain(entry & OFFSET, disk, sink)?;
            }
        }
        Ok(())
    }

    fn plain(&mut self, file: u64, disk: u64, sink: &mut dyn Sink) -> Result<()> {
        Budget::take(&mut self.budget.plain, "clusters")?;
        let cluster = self.header.cluster();
        if !file.is_multiple_of(cluster) || file >= self.image.length() {
            return corrupt(QCOW2, format!("a cluster at {file:#x}"));
        }
        let run = &mut self.run;
        let follows = run.disk + run.length == disk && run.file + run.length == file;
        if !follows || run.length + cluster > self.buffer.len() as u64 {
            self.flush(sink)?;
            self.run = Run { disk, file, length: 0 };
        }
        self.run.length += cluster;
        Ok(())
    }

    /// Copies the clusters that were collected.
    fn flush(&mut self, sink: &mut dyn Sink) -> Result<()> {
        let run = std::mem::take(&mut self.run);
        let length = run.length.min(self.header.size.get().saturating_sub(run.disk));
        let (data, _) = self.buffer.split_at_mut(usize::try_from(length).unwrap_or(0));
        read_padded(self.image, data, run.file)?;
        if !data.is_empty() {
            sink.write_at(data, run.disk)?;
            sink.progress(run.disk + length, Some(self.header.size.get()))?;
        }
        Ok(())
    }

    /// Takes in one compressed cluster (`docs/interop/qcow2.txt`, "Compressed Clusters Descriptor").
    fn compressed(&mut self, entry: u64, disk: u64, sink: &mut dyn Sink) -> Result<()> {
        Budget::take(&mut self.budget.compressed, "compressed clusters")?;
        let shift = 62 - (self.header.cluster_bits.get() - 8);
        let file = entry & ((1 << shift) - 1);
        let sectors = ((entry & (COMPRESSED - 1)) >> shift) + 1;
        let length = (sectors * SECTOR).saturating_sub(file % SECTOR);
        if file >= self.image.length() {
            return corrupt(QCOW2, format!("a compressed cluster at {file:#x}"));
        }
        let mut data = vec![0; usize::try_from(length).unwrap_or(0)];
        read_padded(self.image, &mut data, file)?;
        self.packed.push(Packed { disk, file, data });
        let waiting = self.packed.len() as u64 * self.header.cluster();
        if waiting >= BATCH { self.unpack(sink) } else { Ok(()) }
    }

    /// Unpacks the compressed clusters that wait, on all processors if there are many.
    fn unpack(&mut self, sink: &mut dyn Sink) -> Result<()> {
        let waiting = std::mem::take(&mut self.packed);
        let (size, cluster) = (self.header.size.get(), self.header.cluster());
        let compression = self.header.compression();
        let length = usize::try_from(cluster).unwrap_or(0);
        let unpack = |part: &[Packed]| -> Result<Vec<Vec<u8>>> {
            part.iter().map(|packed| packed.unpack(length, compression)).collect()
        };
        let threads = thread::available_parallelism().map_or(1, |n| n.get().min(8));
        let each = waiting.len().div_ceil(threads).max(4);
        let parts: Vec<_> = thread::scope(|scope| {
            let mut parts = waiting.chunks(each);
            // The first is this thread's own.
            let first = parts.next().unwrap_or_default();
            let others: Vec<_> = parts.map(|part| scope.spawn(move || unpack(part))).collect();
            let mut done = vec![unpack(first)];
            done.extend(
                others
                    .into_iter()
                    .map(|t| t.join().unwrap_or_else(|_| corrupt(QCOW2, "it broke its reader"))),
            );
            done
        });
        let mut clusters = Vec::new();
        for part in parts {
            clusters.extend(part?);
        }
        for (packed, data) in waiting.iter().zip(clusters) {
            let length = cluster.min(size.saturating_sub(packed.disk));
            sink.write_at(data.get(..usize::try_from(length).unwrap_or(0)).unwrap_or_default(), packed.disk)?;
            sink.progress(packed.disk + length, Some(size))?;
        }
        Ok(())
    }
}

/// Bytes that are unpacked at a time.
const BATCH: u64 = 8 << 20;

/// A compressed cluster.
struct Packed {
    /// Where on the disk, and in the file, it begins.
    disk: u64,
    file: u64,
    data: Vec<u8>,
}

impl Packed {
    fn unpack(&self, length: usize, compression: Compression) -> Result<Vec<u8>> {
        let mut data = vec![0; length];
        if unpack(&self.data, &mut data, compression) != Some(length) {
            return corrupt(QCOW2, format!("the compressed cluster at {:#x} does not unpack", self.file));
        }
        Ok(data)
    }
}

/// Unpacks into the buffer; how many bytes came out. What follows the packed data is ignored.
fn unpack(packed: &[u8], data: &mut [u8], compression: Compression) -> Option<usize> {
    match compression {
        Compression::Deflate => {
            let pieces = std::iter::once(packed);
            miniz_oxide::inflate::decompress_slice_iter_to_slice(data, pieces, false, true).ok()
        }
        Compression::Zstd => {
            let mut rest = packed;
            let mut decoder = FrameDecoder::new();
            decoder.reset(&mut rest).ok()?;
            let mut done = 0;
            while done < data.len() {
                let (read, written) = decoder.decode_from_to(rest, data.get_mut(done..)?).ok()?;
                rest = rest.get(read..)?;
                done += written;
                if written == 0 && (read == 0 || decoder.is_finished()) {
                    break;
                }
            }
            Some(done)
        }
    }
}

/// Reads what the image has of it; the rest is zeros (the last cluster of a file may be cut off).
fn read_padded(image: &dyn ReadAt, buffer: &mut [u8], offset: u64) -> Result<()> {
    let there = image.length().saturating_sub(offset).min(buffer.len() as u64);
    let (data, rest) = buffer.split_at_mut(usize::try_from(there).unwrap_or(0));
    image.read_exact_at(data, offset)?;
    rest.fill(0);
    Ok(())
}
