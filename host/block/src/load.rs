//! A load for a disk: requests of one size, so many at a time, at places without order. What `cargo xtask bench block` runs in guests.

use radon_linux::uring::{self, Operation};
use radon_xen::PAGE_SIZE;
use radon_xen::page::SharedPages;
use rustix::fs::{Mode, OFlags, SeekFrom, open, seek};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is asked of the disk.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Bytes of a request: whole pages.
    pub bytes: u32,
    /// Requests at a time.
    pub depth: u32,
    /// Requests in all.
    pub requests: u32,
    /// Writes, not reads.
    pub write: bool,
}

impl Load {
    /// Puts it on a block device, past the page cache; how long it took.
    pub fn run(&self, path: &Path) -> io::Result<Duration> {
        let access = if self.write { OFlags::RDWR } else { OFlags::RDONLY };
        let file = open(path, access | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty())?;
        let places = seek(&file, SeekFrom::End(0))? / u64::from(self.bytes);
        if places == 0 || self.depth == 0 || !(self.bytes as usize).is_multiple_of(PAGE_SIZE) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let file = uring::shared(file);
        let memory = Arc::new(SharedPages::anonymous(self.bytes as usize / PAGE_SIZE * self.depth as usize)?);
        // Touched before, not while it is measured.
        memory.clear(0, memory.len());
        let mut ring = uring::Ring::new(self.depth, memory)?;
        let (mut sent, mut done, mut state) = (0, 0, 1u64);
        let mut free: Vec<u64> = (0..self.depth.into()).collect();
        let begin = Instant::now();
        let mut ended = Vec::new();
        while done < self.requests {
            while sent < self.requests
                && let Some(slot) = free.pop()
            {
                // Knuth's multiplier; the upper bits are the better ones.
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let offset = (state >> 33) % places * u64::from(self.bytes);
                let (at, length) = (slot as usize * self.bytes as usize, self.bytes);
                let operation = match self.write {
                    true => Operation::Write { offset, at, length },
                    false => Operation::Read { offset, at, length },
                };
                ring.push(&file, operation, slot)?;
                sent += 1;
            }
            ring.wait(1, &mut ended)?;
            for completion in ended.drain(..) {
                if completion.result != self.bytes as i32 {
                    return Err(io::Error::from_raw_os_error(-completion.result.min(-5)));
                }
                free.push(completion.token);
                done += 1;
            }
        }
        Ok(begin.elapsed())
    }
}
