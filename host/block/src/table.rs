//! Requests that were taken and are not answered yet, in a file that outlives the process: whoever is killed here is followed by a
//! process that does them again.
//!
//! The file is memory shared with nobody but the successor; a kill stops the program between two accesses, never inside one, and
//! nothing else is lost (the machine's end ends the guests too). The order of accesses is the protocol:
//!
//! 1. *Taking* request `n` of the ring: its bytes and its number into a free entry, the entry is [`TAKEN`], then `taken = n + 1`.
//!    Killed in between: the number is `taken`, so the entry means nothing and the ring still has the request.
//! 2. *Answering*: each entry of a batch is [`ANSWERED`] before its answer is written into the ring, the ring's `rsp_prod` shows the
//!    whole batch at once, then the entries are free. Killed in between: `rsp_prod` is either what it was before the batch, and all of it is
//!    done again, or what it is after it. `taken - rsp_prod` is the number of requests without an answer, which tells which.
//!
//! The front end can write `rsp_prod`. A value that is neither is its mistake: the disk is disconnected.
//!
//! Doing a request again is right because its pages stay granted and what it wrote stays unacknowledged until it is answered. (What
//! the killed process had asked of the kernel and is still under way is waited for: see [`crate::disk`].)

use crate::request::{Protocol, Slot};
use radon_xen::PAGE_SIZE;
use radon_xen::page::SharedPages;
use rustix::fs::{Mode, OFlags, ftruncate, open};
use std::io;
use std::path::Path;

const MAGIC: u32 = 0x4b4c_4252;
/// Changes with the layout: a table of another version is not read.
const VERSION: u32 = 1;

/// Where things are, in bytes.
mod at {
    pub const MAGIC: usize = 0;
    pub const VERSION: usize = 4;
    pub const SIZE: usize = 8;
    pub const PROTOCOL: usize = 12;
    pub const TAKEN: usize = 16;
    pub const ENTRIES: usize = 64;
    pub const ENTRY: usize = 128;
    /// In an entry.
    pub const STATE: usize = 0;
    pub const NUMBER: usize = 4;
    pub const SLOT: usize = 16;
}

const FREE: u32 = 0;
/// An entry's request is being done.
const TAKEN: u32 = 1;
/// An entry's answer is being written.
const ANSWERED: u32 = 2;

/// The table of one ring.
#[derive(Debug)]
pub struct Table {
    pages: SharedPages,
    size: u32,
    free: Vec<u32>,
}

/// What a predecessor left.
#[derive(Debug, PartialEq, Eq)]
pub struct Left {
    /// Requests taken.
    pub taken: u32,
    /// Requests answered.
    pub answered: u32,
    /// Entries whose requests are to be done again, oldest first.
    pub again: Vec<(u32, Slot)>,
}

fn pages_for(size: u32) -> usize {
    (at::ENTRIES + at::ENTRY * size as usize).div_ceil(PAGE_SIZE)
}

fn code(protocol: Protocol) -> u32 {
    match protocol {
        Protocol::X86_64 => 64,
        Protocol::X86_32 => 32,
    }
}

impl Table {
    /// A new file for a ring that holds `size` requests, of which `taken` have been taken and answered.
    pub fn create(path: &Path, size: u32, protocol: Protocol, taken: u32) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = open(path, flags, Mode::RUSR | Mode::WUSR)?;
        let pages = pages_for(size);
        ftruncate(&file, (pages * PAGE_SIZE) as u64)?;
        Ok(Self::begin(SharedPages::map(&file, 0, pages)?, size, protocol, taken))
    }

    /// A new table in memory, all zeros.
    pub fn begin(pages: SharedPages, size: u32, protocol: Protocol, taken: u32) -> Self {
        pages.store(at::VERSION, VERSION);
        pages.store(at::SIZE, size);
        pages.store(at::PROTOCOL, code(protocol));
        pages.store(at::TAKEN, taken);
        // Last: a table without it is none.
        pages.store(at::MAGIC, MAGIC);
        Self { pages, size, free: (0..size).rev().collect() }
    }

    /// A predecessor's file.
    pub fn open(path: &Path, size: u32, protocol: Protocol) -> io::Result<Self> {
        let file = open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let pages = pages_for(size);
        if rustix::fs::fstat(&file)?.st_size != (pages * PAGE_SIZE) as i64 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Self::adopt(SharedPages::map(&file, 0, pages)?, size, protocol)
    }

    /// A predecessor's table; an error if it is not for such a ring.
    pub fn adopt(pages: SharedPages, size: u32, protocol: Protocol) -> io::Result<Self> {
        let head = [at::MAGIC, at::VERSION, at::SIZE, at::PROTOCOL].map(|word| pages.load(word));
        if head != [MAGIC, VERSION, size, code(protocol)] {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Self { pages, size, free: Vec::new() })
    }

    fn entry(&self, index: u32) -> usize {
        at::ENTRIES + at::ENTRY * (index % self.size) as usize
    }

    /// What is left to do, if the ring has `published` answers; `None`: that cannot be.
    pub fn left(&mut self, published: u32) -> Option<Left> {
        let taken = self.pages.load(at::TAKEN);
        let (mut begun, mut answered) = (Vec::new(), Vec::new());
        for index in 0..self.size {
            let entry = self.entry(index);
            // How many have been taken since, itself included; none: it was not quite taken. More than the ring holds if it takes long,
            // because answers come in any order.
            let age = taken.wrapping_sub(self.pages.load(entry + at::NUMBER));
            match self.pages.load(entry + at::STATE) {
                TAKEN if age != 0 => begun.push((age, index)),
                ANSWERED => answered.push((age, index)),
                _ => {}
            }
        }
        let open = taken.wrapping_sub(published) as usize;
        if open == begun.len() + answered.len() {
            begun.append(&mut answered);
        } else if open != begun.len() {
            return None;
        }
        // Oldest first.
        begun.sort_unstable_by(|a, b| b.cmp(a));
        let mut used = vec![false; self.size as usize];
        let mut again = Vec::new();
        for (_, index) in begun {
            let entry = self.entry(index);
            self.pages.store(entry + at::STATE, TAKEN);
            let mut slot = [0; size_of::<Slot>()];
            self.pages.read(entry + at::SLOT, &mut slot);
            again.push((index, slot));
            if let Some(used) = used.get_mut(index as usize) {
                *used = true;
            }
        }
        self.free = (0..self.size).rev().filter(|i| used.get(*i as usize) == Some(&false)).collect();
        for index in &self.free {
            self.pages.store(self.entry(*index) + at::STATE, FREE);
        }
        Some(Left { taken, answered: published, again })
    }

    /// Notes that request `number` of the ring has been taken; its entry. `None`: more are under way than the ring holds.
    pub fn take(&mut self, number: u32, slot: &Slot) -> Option<u32> {
        let index = self.free.pop()?;
        let entry = self.entry(index);
        self.pages.write(entry + at::SLOT, slot);
        self.pages.store(entry + at::NUMBER, number);
        self.pages.store(entry + at::STATE, TAKEN);
        self.pages.store(at::TAKEN, number.wrapping_add(1));
        Some(index)
    }

    /// An entry's answer is about to be written into the ring.
    pub fn answering(&mut self, index: u32) {
        self.pages.store(self.entry(index) + at::STATE, ANSWERED);
    }

    /// An entry's answer is in the ring, for the front end to see.
    pub fn answered(&mut self, index: u32) {
        self.pages.store(self.entry(index) + at::STATE, FREE);
        self.free.push(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: u32 = 32;
    const P: Protocol = Protocol::X86_64;

    fn slot(n: u32) -> Slot {
        let mut slot = [0; size_of::<Slot>()];
        slot[..4].copy_from_slice(&n.to_le_bytes());
        slot
    }

    fn copy(of: &SharedPages) -> SharedPages {
        let (new, mut bytes) = (SharedPages::anonymous(of.len() / PAGE_SIZE).unwrap(), vec![0; of.len()]);
        of.read(0, &mut bytes);
        new.write(0, &bytes);
        new
    }

    fn numbers(left: &Left) -> Vec<u32> {
        left.again.iter().map(|(_, s)| u32::from_le_bytes([s[0], s[1], s[2], s[3]])).collect()
    }

    proptest! {
        /// Killed after each access, with the ring as it is then: each request is done again exactly if its answer is not published.
        #[test]
        fn each_request_is_answered_once(
            start in any::<u32>(),
            batches in proptest::collection::vec((0usize..12, proptest::collection::vec(any::<prop::sample::Index>(), 0..8)), 1..12),
        ) {
            let mut table = Table::begin(SharedPages::anonymous(pages_for(SIZE)).unwrap(), SIZE, P, start);
            let (mut taken, mut published) = (start, start);
            let mut under_way: Vec<(u32, u32)> = Vec::new();
            let check = |table: &Table, published: u32, open: &[(u32, u32)]| {
                let mut next = Table::adopt(copy(&table.pages), SIZE, P).unwrap();
                let left = next.left(published).unwrap();
                let mut wanted: Vec<u32> = open.iter().map(|(n, _)| *n).collect();
                wanted.sort_by_key(|n| n.wrapping_sub(start));
                assert_eq!(numbers(&left), wanted);
                assert_eq!(next.free.len(), SIZE as usize - wanted.len());
                // A second kill before anything was done.
                let mut third = Table::adopt(copy(&next.pages), SIZE, P).unwrap();
                assert_eq!(third.left(published).unwrap(), left);
            };
            for (take, answer) in batches {
                for _ in 0..take {
                    if under_way.len() == SIZE as usize { break }
                    // Cut short inside `take`: the entry is there, but `taken` is not.
                    let before = table.pages.load(at::TAKEN);
                    let index = table.take(taken, &slot(taken)).unwrap();
                    table.pages.store(at::TAKEN, before);
                    check(&table, published, &under_way);
                    table.pages.store(at::TAKEN, taken.wrapping_add(1));
                    under_way.push((taken, index));
                    taken = taken.wrapping_add(1);
                    check(&table, published, &under_way);
                }
                let mut batch = Vec::new();
                for pick in answer {
                    if under_way.is_empty() { break }
                    batch.push(under_way.swap_remove(pick.index(under_way.len())));
                    table.answering(batch.last().unwrap().1);
                    let all: Vec<_> = under_way.iter().chain(&batch).copied().collect();
                    check(&table, published, &all);
                }
                published = published.wrapping_add(batch.len() as u32);
                check(&table, published, &under_way);
                for (_, index) in batch {
                    table.answered(index);
                    check(&table, published, &under_way);
                }
            }
        }

        /// Whatever the front end writes over `rsp_prod`, and whatever bytes the file has: no panic, no more requests than there is room for.
        #[test]
        fn a_hostile_index_and_a_torn_file(
            published in any::<u32>(),
            words in proptest::collection::vec((0usize..pages_for(SIZE) * PAGE_SIZE / 4, any::<u32>()), 0..40),
        ) {
            let mut table = Table::begin(SharedPages::anonymous(pages_for(SIZE)).unwrap(), SIZE, P, 5);
            for n in 5..15 {
                table.take(n, &slot(n)).unwrap();
            }
            prop_assert_eq!(table.left(published).is_some(), published == 5);
            for (word, value) in words {
                table.pages.store(word * 4, value);
            }
            if let Ok(mut next) = Table::adopt(copy(&table.pages), SIZE, P) && let Some(left) = next.left(published) {
                prop_assert!(left.again.len() <= SIZE as usize);
            }
        }
    }

    #[test]
    fn a_table_of_another_ring_is_refused() {
        let pages = || SharedPages::anonymous(pages_for(SIZE)).unwrap();
        assert!(Table::adopt(pages(), SIZE, P).is_err());
        let table = Table::begin(pages(), SIZE, P, 0);
        assert!(Table::adopt(copy(&table.pages), 64, P).is_err());
        assert!(Table::adopt(copy(&table.pages), SIZE, Protocol::X86_32).is_err());
        assert!(Table::adopt(copy(&table.pages), SIZE, P).is_ok());
    }

    #[test]
    fn files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        let mut table = Table::create(&path, SIZE, P, 0).unwrap();
        table.take(0, &slot(0)).unwrap();
        drop(table);
        assert!(Table::open(&path, 64, P).is_err());
        let left = Table::open(&path, SIZE, P).unwrap().left(0).unwrap();
        assert_eq!((left.taken, numbers(&left)), (1, vec![0]));
    }
}
