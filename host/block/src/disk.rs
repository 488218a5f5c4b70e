//! What a guest's disk is in dom0: a file or a block device.
//!
//! A disk that the guest may write is opened for direct I/O where the file system can (its pages would only be cached a second time:
//! the guest has a cache of its own), and is locked (`flock`) as this process's alone. One that it may only read goes through
//! dom0's page cache, which all guests with the same file share, and is locked against writers.
//!
//! The lock is more than manners. It belongs to the open file, and operations that a killed process had under way keep that open until
//! they have ended: a successor that has the lock knows that no write of its predecessor comes after its own.

use crate::request::{Geometry, SECTOR, Span};
use crate::share::{Share, Shares};
use radon_linux::{loopdev, reflink};
use rustix::fs::{FlockOperation, Mode, OFlags, SeekFrom, flock, open, seek};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a disk cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody else has it.
    #[error("{0} is in use: another guest has it, or this guest's end of it is not closed yet")]
    InUse(PathBuf),
    /// It cannot be opened.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What was done for the guest.
#[derive(Debug, Default)]
pub struct Counters {
    /// Read requests.
    pub reads: AtomicU64,
    /// Write requests.
    pub writes: AtomicU64,
    /// Flushes and barriers.
    pub flushes: AtomicU64,
    /// Discards.
    pub discards: AtomicU64,
    /// Requests that were refused or failed.
    pub errors: AtomicU64,
    /// Bytes read.
    pub bytes_read: AtomicU64,
    /// Bytes read through the shared cache; part of the above.
    pub bytes_shared: AtomicU64,
    /// Bytes written.
    pub bytes_written: AtomicU64,
}

/// A part of a read: which file has it.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The disk's own file, or the shared cache's.
    pub file: Arc<OwnedFd>,
    /// Where in that file.
    pub offset: u64,
    /// Bytes.
    pub length: u32,
}

/// Discards of a disk: what the guest is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discards {
    /// Bytes that can be given back.
    pub granularity: u64,
}

/// A disk, open.
#[derive(Debug)]
pub struct Disk {
    file: Arc<OwnedFd>,
    is_device: bool,
    read_only: bool,
    sectors: AtomicU64,
    discards: Option<Discards>,
    share: Option<Share>,
    /// What was done for the guest.
    pub counters: Counters,
}

impl Disk {
    /// Opens and locks a file or block device; with `shares`, what it shares with others is read through them.
    pub fn open(path: &Path, read_only: bool, shares: Option<&Arc<Shares>>) -> Result<Self, OpenError> {
        let failed = |source: io::Error| OpenError::File { path: path.to_owned(), source };
        let access = if read_only { OFlags::RDONLY } else { OFlags::RDWR };
        let opened = |flags| open(path, access | OFlags::CLOEXEC | flags, Mode::empty());
        let direct = if read_only { None } else { opened(OFlags::DIRECT).ok().filter(direct_works) };
        let file = match direct {
            Some(file) => file,
            None => opened(OFlags::empty()).map_err(|e| failed(e.into()))?,
        };
        let lock = if read_only {
            FlockOperation::NonBlockingLockShared
        } else {
            FlockOperation::NonBlockingLockExclusive
        };
        flock(&file, lock).map_err(|error| match error {
            rustix::io::Errno::WOULDBLOCK => OpenError::InUse(path.to_owned()),
            error => failed(error.into()),
        })?;
        let number = loopdev::block_number(path).map_err(failed)?;
        let discards = match number {
            Some(number) => device_discards(number),
            None => Some(Discards {
                granularity: rustix::fs::fstat(&file).map_or(4096, |s| s.st_blksize as u64).max(SECTOR),
            }),
        };
        let file = Arc::new(file);
        let share = match shares {
            Some(shares) if number.is_none() && !read_only => Share::new(&file, path, shares),
            _ => None,
        };
        let disk = Self {
            file,
            is_device: number.is_some(),
            read_only,
            sectors: AtomicU64::new(0),
            discards: discards.filter(|_| !read_only),
            share,
            counters: Counters::default(),
        };
        disk.measure().map_err(failed)?;
        Ok(disk)
    }

    /// Looks at the size; whether it is another than before.
    pub fn measure(&self) -> io::Result<bool> {
        let sectors = seek(&*self.file, SeekFrom::End(0))? / SECTOR;
        Ok(self.sectors.swap(sectors, Ordering::Relaxed) != sectors)
    }

    /// What requests are checked against.
    pub fn geometry(&self) -> Geometry {
        Geometry { sectors: self.sectors.load(Ordering::Relaxed), read_only: self.read_only }
    }

    /// Whether and how it takes discards.
    pub fn discards(&self) -> Option<Discards> {
        self.discards
    }

    /// Its own file.
    pub fn file(&self) -> &Arc<OwnedFd> {
        &self.file
    }

    /// Where to read a part of it.
    pub fn read(&self, span: Span) -> Vec<Piece> {
        let own =
            |span: Span| Piece { file: self.file.clone(), offset: span.start, length: span.length as u32 };
        match &self.share {
            None => vec![own(span)],
            Some(share) => {
                let mut shared = 0;
                let pieces = share.find(&self.file, span, self.sectors.load(Ordering::Relaxed) * SECTOR);
                let all = pieces.into_iter().map(|(part, pin)| match pin {
                    None => own(part),
                    Some((file, offset)) => {
                        shared += part.length;
                        Piece { file, offset, length: part.length as u32 }
                    }
                });
                let all = all.collect();
                self.counters.bytes_shared.fetch_add(shared, Ordering::Relaxed);
                all
            }
        }
    }

    /// A part of it is about to change: reads that begin from now on go to its own file.
    pub fn changing(&self, span: Span) {
        if let Some(share) = &self.share {
            share.forget(span);
        }
    }

    /// Discards on a block device are done at once; on a file, they are an operation like others (`None`).
    pub fn discard_now(&self, span: Span) -> Option<io::Result<()>> {
        self.is_device.then(|| reflink::discard(&*self.file, span.start, span.length))
    }
}

/// Whether single sectors can be read directly: the device below may have larger ones.
fn direct_works(file: &OwnedFd) -> bool {
    let mut bytes = vec![0; 2 * SECTOR as usize];
    let aligned = bytes.as_ptr().align_offset(SECTOR as usize);
    let Some(sector) = bytes.get_mut(aligned..).and_then(|b| b.get_mut(..SECTOR as usize)) else {
        return false;
    };
    matches!(rustix::io::pread(file, sector, SECTOR), Ok(read) if read == SECTOR as usize)
}

fn device_discards((major, minor): (u32, u32)) -> Option<Discards> {
    let value = |name: &str| {
        // A partition's queue is its device's.
        ["queue", "../queue"].iter().find_map(|queue| {
            let path = format!("/sys/dev/block/{major}:{minor}/{queue}/{name}");
            std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok()
        })
    };
    value("discard_max_bytes").filter(|most| *most > 0)?;
    Some(Discards { granularity: value("discard_granularity").unwrap_or(SECTOR).max(SECTOR) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: u64) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(bytes).unwrap();
        file
    }

    #[test]
    fn one_writer_or_many_readers() {
        let file = file(8192);
        let writer = Disk::open(file.path(), false, None).unwrap();
        for read_only in [false, true] {
            assert!(matches!(Disk::open(file.path(), read_only, None), Err(OpenError::InUse(_))));
        }
        drop(writer);
        let _readers = [(); 2].map(|()| Disk::open(file.path(), true, None).unwrap());
        assert!(matches!(Disk::open(file.path(), false, None), Err(OpenError::InUse(_))));
    }

    #[test]
    fn its_size_is_seen_to_change() {
        let file = file(8192 + 511);
        let disk = Disk::open(file.path(), false, None).unwrap();
        assert_eq!(disk.geometry(), Geometry { sectors: 16, read_only: false });
        assert!(!disk.measure().unwrap());
        file.as_file().set_len(1 << 20).unwrap();
        assert!(disk.measure().unwrap());
        assert_eq!(disk.geometry().sectors, 2048);
    }

    #[test]
    fn errors_name_the_file() {
        let error = Disk::open(Path::new("/no/such/disk"), false, None).unwrap_err();
        assert!(error.to_string().starts_with("/no/such/disk: "), "{error}");
    }
}
