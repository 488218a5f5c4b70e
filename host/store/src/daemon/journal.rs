//! The journal: what a killed daemon's successor goes on from.
//!
//! A file of frames: length, check sum, records. The first frame is a whole state, each further one what a turn of the
//! server changed. It survives the daemon, not the machine: it is never synchronised to a disk, and a file of an
//! earlier boot is ignored. When it has grown to several times the state it is written anew, under another name,
//! which then replaces it.

use crate::record::VERSION;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 12] = b"RADON-STORE\n";
const HEAD: usize = MAGIC.len() + 4 + BOOT_ID;
const BOOT_ID: usize = 36;

/// The journal, open.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    size: u64,
    /// Size after which it is to be written anew.
    limit: u64,
}

/// Smallest size at which the journal is written anew.
const LIMIT: u64 = 4 << 20;

impl Journal {
    /// Begins a journal with a state, replacing what was there.
    pub fn create(path: &Path, state: &[u8]) -> io::Result<Self> {
        let part = path.with_extension("new");
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true);
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&part)?;
        let mut bytes = head();
        frame(state, &mut bytes);
        file.write_all(&bytes)?;
        fs::rename(&part, path)?;
        let size = bytes.len() as u64;
        Ok(Self { path: path.to_owned(), file, size, limit: LIMIT.max(size * 4) })
    }

    /// Adds records.
    pub fn append(&mut self, records: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(records.len() + 8);
        frame(records, &mut bytes);
        self.file.write_all(&bytes)?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Whether it is time to write it anew.
    pub fn is_long(&self) -> bool {
        self.size > self.limit
    }

    /// Writes it anew.
    pub fn renew(&mut self, state: &[u8]) -> io::Result<()> {
        *self = Self::create(&self.path.clone(), state)?;
        Ok(())
    }

    /// Gives the journal up: one with a gap must not be read again.
    pub fn discard(self) {
        if let Err(error) = fs::remove_file(&self.path) {
            log::error!("{}: {error}", self.path.display());
        }
    }

    /// The records of a journal of this boot, in order: `None` if there is none. A last frame that was not written
    /// to its end is left out.
    pub fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(records(&bytes))
    }
}

/// The records of a journal's bytes, if they are a journal of this boot.
pub fn records(bytes: &[u8]) -> Option<Vec<u8>> {
    let (own, mut rest) = bytes.split_at_checked(HEAD)?;
    if own != head() {
        return None;
    }
    let mut all = Vec::new();
    while let Some((records, after)) = next_frame(rest) {
        all.extend_from_slice(records);
        rest = after;
    }
    Some(all)
}

fn next_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(4)?;
    let (sum, rest) = rest.split_at_checked(4)?;
    let length = u32::from_le_bytes(length.try_into().ok()?);
    let (records, rest) = rest.split_at_checked(length as usize)?;
    (check_sum(records).to_le_bytes() == sum).then_some((records, rest))
}

fn frame(records: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(records.len() as u32).to_le_bytes());
    out.extend_from_slice(&check_sum(records).to_le_bytes());
    out.extend_from_slice(records);
}

/// What the first bytes must be: version of the format, and the boot of the kernel, after which rings and ports are
/// others.
fn head() -> Vec<u8> {
    let mut head = MAGIC.to_vec();
    head.extend_from_slice(&VERSION.to_le_bytes());
    let boot = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    head.extend(boot.into_iter().chain(std::iter::repeat(0)).take(BOOT_ID));
    head
}

/// FNV-1a, eight bytes at a time.
fn check_sum(bytes: &[u8]) -> u32 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut hash = 0xcbf2_9ce4_8422_2325u64 ^ bytes.len() as u64;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let word = chunk.try_into().map_or(0, u64::from_le_bytes);
        hash = (hash ^ word).wrapping_mul(PRIME);
        hash ^= hash >> 32;
    }
    for byte in chunks.remainder() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
    }
    (hash ^ hash >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_frames_are_read_and_a_torn_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::create(&path, b"state").unwrap();
        journal.append(b"first").unwrap();
        journal.append(b"second").unwrap();
        assert_eq!(Journal::read(&path).unwrap().unwrap(), b"statefirstsecond");
        let bytes = fs::read(&path).unwrap();
        for cut in 0..bytes.len() {
            let read = records(&bytes[..cut]);
            match bytes.len() - cut {
                1..=14 => assert_eq!(read.unwrap(), b"statefirst"),
                15..=27 => assert_eq!(read.unwrap(), b"state"),
                28..=40 => assert_eq!(read.unwrap(), b""),
                _ => assert_eq!(read, None),
            }
        }
        journal.renew(b"new").unwrap();
        journal.append(b"er").unwrap();
        assert_eq!(Journal::read(&path).unwrap().unwrap(), b"newer");
    }

    #[test]
    fn what_is_no_journal_of_this_boot_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        assert_eq!(Journal::read(&path).unwrap(), None);
        Journal::create(&path, b"state").unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes[MAGIC.len() + 5] ^= 1;
        assert_eq!(records(&bytes), None);
        assert_eq!(records(b"something else"), None);
    }
}
