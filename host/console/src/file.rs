//! A VM's history on disk: named by the VM's UUID, appended to, and rewritten when it has grown to twice what is kept.

use crate::history::History;
use crate::record::{self, HEAD, Source};
use crate::ring::{Chunk, OUT};
use radon_domain::uuid::Uuid;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Histories of VMs that are kept at most.
pub const MOST_FILES: usize = 2000;

/// Where a domain's output stands: what a killed daemon has kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The domain.
    pub source: Source,
    /// Index in its ring behind the last byte that is kept.
    pub end: u32,
}

/// The file, open for more.
#[derive(Debug)]
pub struct HistoryFile {
    path: PathBuf,
    file: Option<File>,
    length: u64,
    most: usize,
    /// A failure has been told.
    told: bool,
}

impl HistoryFile {
    /// The history of a VM in a folder, and how far it goes. What cannot be read is left out: the console works without it.
    pub fn open(folder: &Path, vm: Uuid, most: usize) -> (Self, History, Option<Reached>) {
        let path = folder.join(vm.to_string());
        let mut history = History::new(most);
        let mut bytes = Vec::new();
        // One longer than it can be is not one of ours; only its beginning is read.
        let longest = (most as u64 + u64::from(OUT)) * 4;
        let read = File::open(&path).and_then(|file| file.take(longest).read_to_end(&mut bytes));
        if let Err(error) = &read
            && error.kind() != ErrorKind::NotFound
        {
            log::warn!("{}: {error}", path.display());
        }
        let mut reached = None;
        let mut length = 0;
        for record in record::decode_all(&bytes) {
            length += (HEAD + record.chunk.bytes.len()) as u64;
            history.push(&record.chunk.bytes);
            reached = Some(Reached { source: record.source, end: record.chunk.end() });
        }
        (Self { path, file: None, length, most, told: false }, history, reached)
    }

    /// Keeps what has come from a domain's ring; `history` has it already.
    pub fn append(&mut self, source: Source, chunk: &Chunk, history: &History) {
        let result = self.try_append(source, chunk, history);
        if let Err(error) = result {
            // Perhaps the next one can be written again, from a file that ends with a whole record.
            self.file = None;
            if !self.told {
                log::error!(
                    "{}: {error}: this VM's history is lost when the daemon ends",
                    self.path.display()
                );
                self.told = true;
            }
        }
    }

    fn try_append(&mut self, source: Source, chunk: &Chunk, history: &History) -> io::Result<()> {
        let bytes = record::encode(source, chunk);
        if self.length + bytes.len() as u64 > self.most as u64 * 2 {
            return self.rewrite(source, chunk, history);
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?;
                // A killed daemon's unfinished record.
                file.set_len(self.length)?;
                self.file.insert(file)
            }
        };
        file.write_all(&bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// A new file of what is kept. The last record is the ring's own, so that its index stays known.
    fn rewrite(&mut self, source: Source, last: &Chunk, history: &History) -> io::Result<()> {
        let all = history.to_vec();
        let older = all.get(..all.len().saturating_sub(last.bytes.len())).unwrap_or_default();
        let mut bytes = Vec::with_capacity(all.len() + all.len() / 64);
        for piece in older.chunks(OUT as usize) {
            bytes.extend(record::encode(source, &Chunk { start: last.start, bytes: piece.to_vec() }));
        }
        bytes.extend(record::encode(source, last));
        let new = self.path.with_extension("new");
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&bytes)?;
        fs::rename(&new, &self.path)?;
        // Its place is at its end.
        self.file = Some(file);
        self.length = bytes.len() as u64;
        Ok(())
    }
}

/// Removes a VM's history; none is fine.
pub fn remove(folder: &Path, vm: Uuid) -> io::Result<()> {
    match fs::remove_file(folder.join(vm.to_string())) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes the histories that nobody has added to for longest, if there are too many.
pub fn prune(folder: &Path, most: usize) -> io::Result<()> {
    let mut all: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let plain = name.strip_suffix(".new").unwrap_or(&name);
        if plain.parse::<Uuid>().is_ok() {
            all.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    all.sort();
    for (_, path) in all.iter().take(all.len().saturating_sub(most)) {
        fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: u32 = 5;
    const VM: Uuid = Uuid::from_bytes([7; 16]);

    fn chunk(start: u32, text: &[u8]) -> Chunk {
        Chunk { start, bytes: text.to_vec() }
    }

    fn at(domid: u16, end: u32) -> Option<Reached> {
        Some(Reached { source: Source { domid, boot: BOOT }, end })
    }

    fn add(file: &mut HistoryFile, history: &mut History, domid: u16, chunk: &Chunk) {
        history.push(&chunk.bytes);
        file.append(Source { domid, boot: BOOT }, chunk, history);
    }

    #[test]
    fn goes_on_after_a_kill_in_the_middle_of_a_record() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, mut history, reached) = HistoryFile::open(folder.path(), VM, 1000);
        assert_eq!(reached, None);
        add(&mut file, &mut history, 3, &chunk(5, b"one "));
        add(&mut file, &mut history, 3, &chunk(9, b"two "));
        let path = folder.path().join(VM.to_string());
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole[..], b"RCON\x09\x00half"].concat()).unwrap();
        let (mut file, mut history, reached) = HistoryFile::open(folder.path(), VM, 1000);
        assert_eq!((history.to_vec().as_slice(), reached), (&b"one two "[..], at(3, 13)));
        add(&mut file, &mut history, 4, &chunk(0, b"three"));
        let (_, history, reached) = HistoryFile::open(folder.path(), VM, 1000);
        assert_eq!((history.to_vec().as_slice(), reached), (&b"one two three"[..], at(4, 5)));
    }

    #[test]
    fn stays_small_and_keeps_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, mut history, _) = HistoryFile::open(folder.path(), VM, 5000);
        for n in 0..3000u32 {
            add(&mut file, &mut history, 1, &chunk(n * 10, format!("line {n:04}\n").as_bytes()));
            assert!(fs::metadata(folder.path().join(VM.to_string())).unwrap().len() <= 10_000);
            let (_, read, reached) = HistoryFile::open(folder.path(), VM, 5000);
            assert_eq!(read.to_vec(), history.to_vec());
            assert_eq!(reached, at(1, (n + 1) * 10));
        }
        assert!(history.to_vec().ends_with(b"line 2999\n"));
    }

    #[test]
    fn only_the_newest_files_stay_and_nothing_else_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        for n in 0..5u8 {
            let path = folder.path().join(Uuid::from_bytes([n; 16]).to_string());
            let file = File::create(&path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(n.into())).unwrap();
        }
        fs::write(folder.path().join("notes"), "").unwrap();
        prune(folder.path(), 2).unwrap();
        let mut left: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(
            left,
            [Uuid::from_bytes([3; 16]).to_string(), Uuid::from_bytes([4; 16]).to_string(), "notes".into()]
        );
        remove(folder.path(), Uuid::from_bytes([3; 16])).unwrap();
        remove(folder.path(), Uuid::from_bytes([3; 16])).unwrap();
    }
}
