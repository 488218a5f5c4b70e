//! A suspended guest in a file: its configuration, CPUID policy, clock, registers and memory.
//!
//! ```text
//! magic   16 bytes  "RADON-SAVED-VM\0\1", the last byte is the version
//! record  kind u32, CRC-32 of all the rest of the record u32, length of the body u64, body
//! ...
//! record  END, empty
//! ```
//! All numbers are little-endian. A reader refuses a kind that it does not know, a body with another checksum, and a file without
//! END: then it is not whole. Pure: bytes in and out of anything that can be read or written.

use crate::config::Config;
use crate::layout::PAGE;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use xen_abi::featureset::{CpuidLeaf, MsrEntry};
use zerocopy::{FromBytes, IntoBytes};

const MAGIC: [u8; 16] = *b"RADON-SAVED-VM\0\x01";
const META: u32 = 1;
const LEAVES: u32 = 2;
const MSRS: u32 = 3;
const CONTEXT: u32 = 4;
const PAGES: u32 = 5;
const ZEROS: u32 = 6;
const END: u32 = 7;

/// Most bytes of a body: a run of [`MOST_PAGES`] pages, and its head.
const MOST_BODY: u64 = MOST_PAGES as u64 * PAGE + 64;
/// Most pages in one record.
pub const MOST_PAGES: usize = 512;

/// The guest's clock (`XEN_DOMCTL_gettscinfo`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// How the TSC is virtualised.
    pub mode: u32,
    /// Its frequency.
    pub khz: u32,
    /// How often it has moved.
    pub incarnation: u32,
    /// Nanoseconds that it has run.
    pub elapsed_ns: u64,
}

/// What has to be known before anything else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The VM as it was.
    pub config: Config,
    /// Its clock.
    pub clock: Clock,
    /// What it said it can be asked for: names below `control` that held 1.
    pub features: Vec<String>,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The first.
    Meta(Box<Meta>),
    /// CPUID policy.
    Leaves(Vec<CpuidLeaf>),
    /// MSR policy.
    Msrs(Vec<MsrEntry>),
    /// Registers of all vCPUs and of their local APICs (`hvm/save.h`).
    Context(Vec<u8>),
    /// Pages from this frame on.
    Pages(u64, Vec<u8>),
    /// So many pages of zeros from this frame on.
    Zeros(u64, u64),
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not a whole file of a suspended VM: {why}"))
}

/// CRC-32 (IEEE 802.3) of a record but for itself.
fn crc32(kind: u32, body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&kind.to_le_bytes());
    crc.update(&(body.len() as u64).to_le_bytes());
    crc.update(body);
    crc.finalize()
}

/// Writes a file, record by record.
#[derive(Debug)]
pub struct Writer<W>(W);

impl<W: Write> Writer<W> {
    /// Begins it.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&MAGIC)?;
        Ok(Self(out))
    }

    /// Adds a record.
    pub fn put(&mut self, record: &Record) -> io::Result<()> {
        match record {
            Record::Meta(meta) => self.body(META, &serde_json::to_vec(meta)?),
            Record::Leaves(leaves) => self.body(LEAVES, leaves.as_bytes()),
            Record::Msrs(msrs) => self.body(MSRS, msrs.as_bytes()),
            Record::Context(stream) => self.body(CONTEXT, stream),
            Record::Pages(first, bytes) => {
                self.body(PAGES, &[&first.to_le_bytes(), bytes.as_slice()].concat())
            }
            Record::Zeros(first, count) => self.body(ZEROS, [*first, *count].as_bytes()),
        }
    }

    /// Ends it, and gives back what it was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.body(END, &[])?;
        self.0.flush()?;
        Ok(self.0)
    }

    fn body(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        if body.len() as u64 > MOST_BODY {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.0.write_all(&kind.to_le_bytes())?;
        self.0.write_all(&crc32(kind, body).to_le_bytes())?;
        self.0.write_all(&(body.len() as u64).to_le_bytes())?;
        self.0.write_all(body)
    }
}

/// Reads a file, record by record.
#[derive(Debug)]
pub struct Reader<R>(R);

impl<R: Read> Reader<R> {
    /// Checks its beginning.
    pub fn new(mut from: R) -> io::Result<Self> {
        let mut magic = [0; 16];
        from.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(bad("another magic or version"));
        }
        Ok(Self(from))
    }

    /// The next record; `None` at the end of a whole file.
    pub fn next_record(&mut self) -> io::Result<Option<Record>> {
        let mut head = [0; 16];
        self.0.read_exact(&mut head)?;
        let (words, _) = <[u32; 2]>::read_from_prefix(&head).map_err(|_| bad("head"))?;
        let (_, length) = u64::read_from_suffix(&head).map_err(|_| bad("head"))?;
        if length > MOST_BODY {
            return Err(bad("a record is too long"));
        }
        let mut body = Vec::new();
        (&mut self.0).take(length).read_to_end(&mut body)?;
        if body.len() as u64 != length {
            return Err(bad("cut short"));
        }
        if crc32(words[0], &body) != words[1] {
            return Err(bad("a checksum is wrong"));
        }
        decode(words[0], body)
    }
}

/// A record's body; `None` for END.
pub fn decode(kind: u32, body: Vec<u8>) -> io::Result<Option<Record>> {
    let word = |at: usize| {
        body.get(at..at + 8).and_then(|b| u64::read_from_bytes(b).ok()).ok_or_else(|| bad("frame"))
    };
    Ok(Some(match kind {
        META => Record::Meta(serde_json::from_slice(&body)?),
        LEAVES => Record::Leaves(list(&body)?),
        MSRS => Record::Msrs(list(&body)?),
        CONTEXT => Record::Context(body),
        PAGES => {
            let first = word(0)?;
            let pages = body.get(8..).unwrap_or_default();
            if pages.is_empty() || !(pages.len() as u64).is_multiple_of(PAGE) {
                return Err(bad("half a page"));
            }
            in_range(first, pages.len() as u64 / PAGE)?;
            Record::Pages(first, pages.to_vec())
        }
        ZEROS if body.len() == 16 => {
            in_range(word(0)?, word(8)?)?;
            Record::Zeros(word(0)?, word(8)?)
        }
        END if body.is_empty() => return Ok(None),
        _ => return Err(bad("an unknown record")),
    }))
}

/// Frames of a guest lie below 2^36 (48 address bits), and a record has at most [`MOST_PAGES`].
fn in_range(first: u64, count: u64) -> io::Result<()> {
    if first >> 36 != 0 || count == 0 || count > MOST_PAGES as u64 {
        Err(bad("frame out of range"))
    } else {
        Ok(())
    }
}

fn list<T: FromBytes>(body: &[u8]) -> io::Result<Vec<T>> {
    body.chunks(size_of::<T>()).map(|c| T::read_from_bytes(c).map_err(|_| bad("half an entry"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn records() -> Vec<Record> {
        let clock = Clock { mode: 1, khz: 2_000_000, incarnation: 3, elapsed_ns: 1 << 40 };
        let meta =
            Meta { config: Config::new("a", "/k".into()), clock, features: vec!["feature-poweroff".into()] };
        let leaf = CpuidLeaf { leaf: 1, subleaf: 2, a: 3, b: 4, c: 5, d: 6 };
        vec![
            Record::Meta(Box::new(meta)),
            Record::Leaves(vec![leaf, leaf]),
            Record::Msrs(vec![MsrEntry { idx: 1, flags: 0, val: 2 }]),
            Record::Context(vec![1, 2, 3]),
            Record::Pages(7, vec![9; 8192]),
            Record::Zeros(9, 3),
        ]
    }

    fn file(records: &[Record]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new()).unwrap();
        for record in records {
            writer.put(record).unwrap();
        }
        writer.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<Record>> {
        let mut reader = Reader::new(bytes)?;
        let mut all = Vec::new();
        while let Some(record) = reader.next_record()? {
            all.push(record);
        }
        Ok(all)
    }

    #[test]
    fn there_and_back() {
        assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926);
        assert_eq!(read(&file(&records())).unwrap(), records());
    }

    #[test]
    fn no_part_of_a_file_passes_for_the_whole() {
        let whole = file(&records());
        for cut in 0..whole.len() {
            assert!(read(&whole[..cut]).is_err(), "{cut}");
        }
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_noticed(at: prop::sample::Index, flip in 1u8..) {
            let mut bytes = file(&records());
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(read(&bytes).is_err());
        }

        #[test]
        fn garbage_is_refused(kind in 0u32..9, body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut writer = Writer::new(Vec::new()).unwrap();
            writer.body(kind, &body).unwrap();
            let bytes = writer.finish().unwrap();
            if let Ok(all) = read(&bytes) {
                prop_assert!(all.len() <= 1);
            }
        }
    }
}
