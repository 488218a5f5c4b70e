//! `io_uring`: many reads, writes and the like of files at once, by one thread.
//!
//! Data goes through one piece of memory that is shared with the kernel ([`SharedPages`]), named by offsets, so there is never a
//! reference to bytes that the kernel is writing.
#![allow(unsafe_code, reason = "the kernel is told addresses")]

use io_uring::{IoUring, opcode, types};
use radon_xen::page::SharedPages;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

/// What the kernel is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Bytes of a file into memory.
    Read {
        /// Where in the file.
        offset: u64,
        /// Where in memory.
        at: usize,
        /// Bytes.
        length: u32,
    },
    /// Bytes of memory into a file.
    Write {
        /// Where in the file.
        offset: u64,
        /// Where in memory.
        at: usize,
        /// Bytes.
        length: u32,
    },
    /// `fdatasync`.
    Sync,
    /// `fallocate`: a hole; the file's size stays.
    PunchHole {
        /// Where in the file.
        offset: u64,
        /// Bytes.
        length: u64,
    },
    /// Wait until it can be read.
    Readable,
}

/// One operation's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The number that was given.
    pub token: u64,
    /// What the system call would have returned; negative: an error's number.
    pub result: i32,
}

#[derive(Debug)]
struct Pending {
    token: u64,
    uses_memory: bool,
    /// Open until the kernel is done with it.
    _file: Arc<OwnedFd>,
}

/// A queue of operations, and the memory they use.
pub struct Ring {
    ring: IoUring,
    memory: Arc<SharedPages>,
    pending: Vec<Option<Pending>>,
    free: Vec<usize>,
    using_memory: usize,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("using_memory", &self.using_memory).finish_non_exhaustive()
    }
}

impl Ring {
    /// A queue for up to `most` operations at a time.
    pub fn new(most: u32, memory: Arc<SharedPages>) -> io::Result<Self> {
        let ring = IoUring::new(most.next_power_of_two())?;
        let pending = (0..most).map(|_| None).collect();
        Ok(Self { ring, memory, pending, free: (0..most as usize).collect(), using_memory: 0 })
    }

    /// The memory.
    pub fn memory(&self) -> &Arc<SharedPages> {
        &self.memory
    }

    /// How many more operations there is room for.
    pub fn room(&self) -> usize {
        self.free.len()
    }

    /// Adds an operation; it begins with the next [`Self::wait`]. An error: its bytes are not within the memory, or there is no room.
    pub fn push(&mut self, file: &Arc<OwnedFd>, operation: Operation, token: u64) -> io::Result<()> {
        let fd = types::Fd(file.as_raw_fd());
        let (entry, uses_memory) = match operation {
            Operation::Read { offset, at, length } => {
                let address = self.address(at, length)?;
                (opcode::Read::new(fd, address, length).offset(offset).build(), true)
            }
            Operation::Write { offset, at, length } => {
                let address = self.address(at, length)?;
                (opcode::Write::new(fd, address, length).offset(offset).build(), true)
            }
            Operation::Sync => (opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build(), false),
            Operation::PunchHole { offset, length } => {
                // FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
                (opcode::Fallocate::new(fd, length).offset(offset).mode(3).build(), false)
            }
            // POLLIN
            Operation::Readable => (opcode::PollAdd::new(fd, 1).build(), false),
        };
        let slot = self.free.pop().ok_or(io::ErrorKind::QuotaExceeded)?;
        let entry = entry.user_data(slot as u64);
        // SAFETY: the descriptor stays open and the memory mapped until the operation has ended: `pending` holds the one, `self` the
        // other, and `drop` waits for it or leaks it. Others reach the memory through atomics.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            if let Err(error) = self.ring.submit() {
                self.free.push(slot);
                return Err(error);
            }
        }
        if let Some(place) = self.pending.get_mut(slot) {
            *place = Some(Pending { token, uses_memory, _file: file.clone() });
        }
        self.using_memory += usize::from(uses_memory);
        Ok(())
    }

    fn address(&self, at: usize, length: u32) -> io::Result<*mut u8> {
        match at.checked_add(length as usize) {
            Some(end) if end <= self.memory.len() => Ok((self.memory.address() as usize + at) as *mut u8),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Begins what was added, waits until at least `least` operations have ended, and adds all that have to `ended`.
    pub fn wait(&mut self, least: usize, ended: &mut Vec<Completion>) -> io::Result<()> {
        // What has ended is in memory: with nothing to begin, and nothing to wait for, the kernel need not be called. Unless there was no
        // room for completions, which only a call brings.
        let idle = {
            let submission = self.ring.submission();
            submission.is_empty() && !submission.cq_overflow()
        };
        let submitted = if least == 0 && idle { Ok(0) } else { self.ring.submit_and_wait(least) };
        match submitted {
            Ok(_) => {}
            // EBUSY: completions are to be fetched first. EINTR, EAGAIN: the caller comes again.
            Err(e) if matches!(e.raw_os_error(), Some(4 | 11 | 16)) => {}
            Err(error) => return Err(error),
        }
        for entry in self.ring.completion() {
            let slot = entry.user_data() as usize;
            let Some(pending) = self.pending.get_mut(slot).and_then(Option::take) else { continue };
            self.free.push(slot);
            self.using_memory -= usize::from(pending.uses_memory);
            ended.push(Completion { token: pending.token, result: entry.result() });
        }
        Ok(())
    }

    /// Whether operations that use the memory are under way.
    pub fn is_busy(&self) -> bool {
        self.using_memory > 0
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        while self.is_busy() {
            if self.wait(1, &mut Vec::new()).is_err() {
                // The kernel may still write there: better leaked than given to somebody else.
                std::mem::forget(self.memory.clone());
                return;
            }
        }
    }
}

/// A file for a [`Ring`].
pub fn shared(file: impl Into<OwnedFd>) -> Arc<OwnedFd> {
    Arc::new(file.into())
}

/// A copy of a descriptor for a [`Ring`]: the same open file.
pub fn copy_of(file: impl AsFd) -> io::Result<Arc<OwnedFd>> {
    Ok(Arc::new(file.as_fd().try_clone_to_owned()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> Ring {
        Ring::new(8, Arc::new(SharedPages::anonymous(4).unwrap())).unwrap()
    }

    fn file(bytes: &[u8]) -> Arc<OwnedFd> {
        let fd = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::empty()).unwrap();
        rustix::io::pwrite(&fd, bytes, 0).unwrap();
        Arc::new(fd)
    }

    fn one(ring: &mut Ring, file: &Arc<OwnedFd>, operation: Operation) -> i32 {
        let mut ended = Vec::new();
        ring.push(file, operation, 77).unwrap();
        ring.wait(1, &mut ended).unwrap();
        let [Completion { token: 77, result }] = ended[..] else { panic!("{ended:?}") };
        result
    }

    #[test]
    fn data_goes_both_ways() {
        let (mut ring, file) = (ring(), file(b"0123456789"));
        assert_eq!(one(&mut ring, &file, Operation::Read { offset: 2, at: 4096, length: 4 }), 4);
        let mut bytes = [0; 4];
        ring.memory().read(4096, &mut bytes);
        assert_eq!(&bytes, b"2345");
        assert_eq!(one(&mut ring, &file, Operation::Write { offset: 8, at: 4097, length: 3 }), 3);
        assert_eq!(one(&mut ring, &file, Operation::Sync), 0);
        assert_eq!(one(&mut ring, &file, Operation::PunchHole { offset: 0, length: 4 }), 0);
        let mut all = [9; 12];
        assert_eq!(rustix::io::pread(&*file, &mut all, 0).unwrap(), 11);
        assert_eq!(&all[..11], b"\0\0\0\x004567345");
    }

    #[test]
    fn memory_s_bounds_and_the_queue_s_are_kept() {
        let (mut ring, file) = (ring(), file(b""));
        for (at, length) in [(4 * 4096, 1), (4 * 4096 - 1, 2), (usize::MAX, 1)] {
            let read = Operation::Read { offset: 0, at, length };
            assert_eq!(ring.push(&file, read, 0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        for token in 0..8 {
            ring.push(&file, Operation::Sync, token).unwrap();
        }
        assert_eq!(ring.room(), 0);
        assert_eq!(ring.push(&file, Operation::Sync, 8).unwrap_err().kind(), io::ErrorKind::QuotaExceeded);
        let mut ended = Vec::new();
        while ended.len() < 8 {
            ring.wait(1, &mut ended).unwrap();
        }
        assert!(ended.iter().all(|c| c.result == 0));
        assert_eq!(ring.room(), 8);
    }
}
