//! A guest's console ring (`io/console.h`): two byte streams in a page that the guest may change at any time.
//!
//! The page's own indices are the truth, so that a daemon goes on where a killed one was. Each is read once and its distance to the
//! other checked before anything is copied; a guest that writes nonsense there silences itself.

use radon_xen::page::SharedPages;
use std::mem::offset_of;
use std::ops::Deref;
use std::sync::atomic::{Ordering, fence};
use xen_abi::console::XenconsInterface;

/// Bytes of the ring from the guest.
pub const OUT: u32 = 2048;
/// Bytes of the ring towards it.
pub const IN: u32 = 1024;

const _: () = assert!(
    offset_of!(XenconsInterface, out) == IN as usize
        && offset_of!(XenconsInterface, in_cons) == (IN + OUT) as usize
);

macro_rules! field {
    ($name:ident) => {
        offset_of!(XenconsInterface, $name)
    };
}

/// Bytes from the guest, and where in its stream they begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The free-running index of the first byte.
    pub start: u32,
    /// At least one, at most [`OUT`].
    pub bytes: Vec<u8>,
}

impl Chunk {
    /// The index behind its last byte.
    pub fn end(&self) -> u32 {
        self.start.wrapping_add(self.bytes.len() as u32)
    }
}

/// The daemon's end of the ring.
#[derive(Debug)]
pub struct Ring<P> {
    page: P,
}

impl<P: Deref<Target = SharedPages>> Ring<P> {
    /// In this page.
    pub fn new(page: P) -> Self {
        Self { page }
    }

    /// What the guest has written and nobody has released; `None` also if its indices make no sense.
    pub fn peek(&self) -> Option<Chunk> {
        let start = self.page.load(field!(out_cons));
        let count = self.page.load(field!(out_prod)).wrapping_sub(start);
        if count == 0 || count > OUT {
            return None;
        }
        let mut bytes = vec![0; count as usize];
        let at = (start % OUT) as usize;
        let (first, second) = bytes.split_at_mut((count as usize).min(OUT as usize - at));
        self.page.read(field!(out) + at, first);
        self.page.read(field!(out), second);
        Some(Chunk { start, bytes })
    }

    /// Gives the guest the place of everything up to an index.
    pub fn release(&self, end: u32) {
        self.page.store(field!(out_cons), end);
        // The guest writes its index and then reads ours; we do the same the other way round. One of the two sees the other's: the
        // guest sends an event, or the next look finds what it has put.
        fence(Ordering::SeqCst);
    }

    /// Releases what a killed daemon had kept already, and had not told the guest: everything up to `end`, if that lies in what the
    /// guest has written.
    pub fn catch_up(&self, end: u32) {
        let start = self.page.load(field!(out_cons));
        let count = self.page.load(field!(out_prod)).wrapping_sub(start);
        if count <= OUT && end.wrapping_sub(start) <= count {
            self.release(end);
        }
    }

    /// Bytes that can be put now.
    pub fn room(&self) -> usize {
        let cons = self.page.load(field!(in_cons));
        let used = self.page.load(field!(in_prod)).wrapping_sub(cons);
        IN.saturating_sub(used) as usize
    }

    /// Puts what fits; how much.
    pub fn put(&self, bytes: &[u8]) -> usize {
        let prod = self.page.load(field!(in_prod));
        let used = prod.wrapping_sub(self.page.load(field!(in_cons)));
        let room = IN.saturating_sub(used) as usize;
        let part = bytes.get(..room).unwrap_or(bytes);
        let at = (prod % IN) as usize;
        let (first, second) = part.split_at(part.len().min(IN as usize - at));
        self.page.write(field!(input) + at, first);
        self.page.write(field!(input), second);
        self.page.store(field!(in_prod), prod.wrapping_add(part.len() as u32));
        part.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::rc::Rc;

    fn page() -> Rc<SharedPages> {
        Rc::new(SharedPages::anonymous(1).unwrap())
    }

    /// The guest's end, as Linux's hvc_xen has it.
    fn guest_writes(page: &SharedPages, bytes: &[u8]) -> usize {
        let (cons, mut prod) = (page.load(field!(out_cons)), page.load(field!(out_prod)));
        let room = (OUT - prod.wrapping_sub(cons)) as usize;
        for byte in &bytes[..bytes.len().min(room)] {
            page.write(field!(out) + (prod % OUT) as usize, &[*byte]);
            prod = prod.wrapping_add(1);
        }
        page.store(field!(out_prod), prod);
        bytes.len().min(room)
    }

    fn guest_reads(page: &SharedPages, most: usize) -> Vec<u8> {
        let (mut cons, prod) = (page.load(field!(in_cons)), page.load(field!(in_prod)));
        let mut got = Vec::new();
        while cons != prod && got.len() < most {
            let mut byte = [0];
            page.read(field!(input) + (cons % IN) as usize, &mut byte);
            got.push(byte[0]);
            cons = cons.wrapping_add(1);
        }
        page.store(field!(in_cons), cons);
        got
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write(Vec<u8>),
        Fetch,
        /// The daemon is killed between keeping and releasing.
        Killed,
        Put(Vec<u8>),
        Read(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..2500);
        let step = prop_oneof![
            bytes().prop_map(Step::Write),
            Just(Step::Fetch),
            Just(Step::Killed),
            bytes().prop_map(Step::Put),
            (0usize..1100).prop_map(Step::Read)
        ];
        prop::collection::vec(step, 0..40)
    }

    proptest! {
        /// Both streams come through whole, wherever the indices begin and wherever the daemon is killed.
        #[test]
        fn streams_are_whole(first: u32, all in steps()) {
            let page = page();
            for index in [field!(out_cons), field!(out_prod), field!(in_cons), field!(in_prod)] {
                page.store(index, first);
            }
            let mut ring = Ring::new(page.clone());
            let (mut out, mut input) = (VecDeque::new(), VecDeque::new());
            for step in all {
                match step {
                    Step::Write(bytes) => {
                        let count = guest_writes(&page, &bytes);
                        out.extend(&bytes[..count]);
                    }
                    Step::Fetch | Step::Killed => if let Some(chunk) = ring.peek() {
                        let wanted: Vec<u8> = out.drain(..chunk.bytes.len()).collect();
                        prop_assert_eq!(&chunk.bytes, &wanted);
                        if matches!(step, Step::Fetch) {
                            ring.release(chunk.end());
                        } else {
                            ring = Ring::new(page.clone());
                            ring.catch_up(chunk.end());
                        }
                        prop_assert_eq!(ring.peek(), None);
                    },
                    Step::Put(bytes) => {
                        let room = ring.room();
                        let count = ring.put(&bytes);
                        prop_assert_eq!(count, room.min(bytes.len()));
                        input.extend(&bytes[..count]);
                    }
                    Step::Read(most) => {
                        let got = guest_reads(&page, most);
                        let wanted: Vec<u8> = input.drain(..got.len()).collect();
                        prop_assert_eq!(got, wanted);
                    }
                }
            }
        }

        /// Whatever the indices are, no more is taken or put than there can be, and nothing panics.
        #[test]
        fn hostile_indices(words: [u32; 4], end: u32, bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            let page = page();
            for (word, index) in words.into_iter().zip([field!(out_cons), field!(out_prod), field!(in_cons), field!(in_prod)]) {
                page.store(index, word);
            }
            let ring = Ring::new(page);
            if let Some(chunk) = ring.peek() {
                prop_assert!(!chunk.bytes.is_empty() && chunk.bytes.len() <= OUT as usize);
                ring.release(chunk.end());
            }
            ring.catch_up(end);
            prop_assert!(ring.room() <= IN as usize);
            prop_assert!(ring.put(&bytes) <= IN as usize);
            prop_assert!(ring.room() <= IN as usize);
        }
    }

    #[test]
    fn what_was_never_written_is_not_caught_up_with() {
        let page = page();
        guest_writes(&page, b"abc");
        let ring = Ring::new(page);
        for end in [4, 2049, u32::MAX] {
            ring.catch_up(end);
            assert_eq!(ring.peek().unwrap().bytes, b"abc");
        }
        ring.catch_up(2);
        assert_eq!(ring.peek().unwrap().bytes, b"c");
    }
}
