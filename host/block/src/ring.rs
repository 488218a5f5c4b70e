//! The back end's side of a ring (`io/ring.h`). The front end may write any of it at any time: a request is copied out once, an
//! index is read once and checked, and what this side needs to know it keeps for itself.

use crate::request::{Protocol, Slot};
use radon_xen::PAGE_SIZE;
use radon_xen::page::SharedPages;
use std::ops::Deref;
use std::sync::atomic::{Ordering, fence};
use xen_abi::blkif::{BlkifResponse, BlkifSringHead, CompatBlkifResponse};
use zerocopy::IntoBytes;

const REQ_PROD: usize = std::mem::offset_of!(BlkifSringHead, req_prod);
const REQ_EVENT: usize = std::mem::offset_of!(BlkifSringHead, req_event);
const RSP_PROD: usize = std::mem::offset_of!(BlkifSringHead, rsp_prod);
const RSP_EVENT: usize = std::mem::offset_of!(BlkifSringHead, rsp_event);
const HEAD: usize = size_of::<BlkifSringHead>();

/// The front end breaks the rules of the ring: nothing in it means anything any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ring holds {outstanding} requests, but has room for {size}: the guest's driver is broken")]
pub struct Broken {
    /// Requests that would be waiting for their answer.
    pub outstanding: u32,
    /// Requests that the ring has room for.
    pub size: u32,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// The request's.
    pub id: u64,
    /// The request's.
    pub operation: u8,
    /// How it ended.
    pub status: i16,
}

/// The ring.
#[derive(Debug)]
pub struct Ring<P> {
    pages: P,
    protocol: Protocol,
    size: u32,
    /// Requests taken so far.
    taken: u32,
    /// Responses written so far, published or not.
    answered: u32,
}

/// How many requests a ring of so many pages holds: the largest power of two that has room.
pub fn size(protocol: Protocol, pages: usize) -> u32 {
    let room = (pages * PAGE_SIZE).saturating_sub(HEAD) / protocol.entry_size();
    room.checked_ilog2().map_or(0, |bits| 1 << bits)
}

impl<P: Deref<Target = SharedPages>> Ring<P> {
    /// A ring that is just being set up: begins behind what is answered.
    pub fn attach(pages: P, protocol: Protocol) -> Self {
        let answered = pages.load(RSP_PROD);
        Self::resume(pages, protocol, answered, answered)
    }

    /// A ring that was in use: so many requests have been taken, and so many answered.
    pub fn resume(pages: P, protocol: Protocol, taken: u32, answered: u32) -> Self {
        let size = size(protocol, pages.len() / PAGE_SIZE);
        Self { pages, protocol, size, taken, answered }
    }

    /// How many requests it holds.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The layout of what it holds.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Requests taken so far.
    pub fn taken(&self) -> u32 {
        self.taken
    }

    /// How far responses are published, as the shared page says: the front end may have written anything there.
    pub fn published(&self) -> u32 {
        self.pages.load(RSP_PROD)
    }

    /// How many requests wait to be taken.
    pub fn waiting(&self) -> Result<u32, Broken> {
        let produced = self.pages.load(REQ_PROD);
        let outstanding = produced.wrapping_sub(self.answered);
        // A producer behind what is taken has wrapped around to a large number, or is among what is not answered yet.
        let waiting = produced.wrapping_sub(self.taken);
        if outstanding > self.size || waiting > outstanding {
            return Err(Broken { outstanding, size: self.size });
        }
        Ok(waiting)
    }

    /// The next request, copied. [`Self::took`] takes it.
    pub fn next(&self) -> Slot {
        let mut slot = [0; size_of::<Slot>()];
        let entry = self.protocol.entry_size();
        // A 32-bit entry is shorter than a slot.
        let (bytes, _) = slot.split_at_mut(entry);
        self.pages.read(self.entry(self.taken), bytes);
        slot
    }

    /// The request that [`Self::next`] gave is this side's now.
    pub fn took(&mut self) {
        self.taken = self.taken.wrapping_add(1);
    }

    fn entry(&self, index: u32) -> usize {
        HEAD + (index & (self.size - 1)) as usize * self.protocol.entry_size()
    }

    /// Writes an answer into the ring; the front end does not see it before [`Self::publish`].
    pub fn answer(&mut self, response: Response) {
        let Response { id, operation, status } = response;
        let at = self.entry(self.answered);
        match self.protocol {
            Protocol::X86_64 => {
                let bytes = BlkifResponse { id, operation, _pad: 0, status, _pad2: 0 };
                self.pages.write(at, bytes.as_bytes());
            }
            Protocol::X86_32 => {
                let bytes = CompatBlkifResponse { id, operation, _pad: 0, status };
                self.pages.write(at, bytes.as_bytes());
            }
        }
        self.answered = self.answered.wrapping_add(1);
    }

    /// Shows the front end all answers so far, of which `new` it has not seen; whether it wants an event for them.
    pub fn publish(&mut self, new: u32) -> bool {
        self.pages.store(RSP_PROD, self.answered);
        // The front end sets its wish, then looks for answers: the other order here, so that one of both sees the other.
        fence(Ordering::SeqCst);
        let wish = self.pages.load(RSP_EVENT);
        self.answered.wrapping_sub(wish) < new
    }

    /// Asks for an event with the next request; whether one has come in the meantime, which may have sent none.
    pub fn ask(&self) -> Result<bool, Broken> {
        self.pages.store(REQ_EVENT, self.taken.wrapping_add(1));
        fence(Ordering::SeqCst);
        Ok(self.waiting()? > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::SECTOR;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::sync::Arc;

    #[test]
    fn sizes_are_the_header_s() {
        // __CONST_RING_SIZE of 1, 2, 4, 8 and 16 pages.
        let sizes = |protocol| [1, 2, 4, 8, 16].map(|pages| size(protocol, pages));
        assert_eq!(sizes(Protocol::X86_64), [32, 64, 128, 256, 512]);
        assert_eq!(sizes(Protocol::X86_32), [32, 64, 128, 256, 512]);
        assert_eq!(SECTOR, 512);
    }

    /// A front end without tricks: puts requests, takes answers.
    struct Front {
        pages: Arc<SharedPages>,
        size: u32,
        entry: usize,
        produced: u32,
        consumed: u32,
    }

    impl Front {
        fn put(&mut self, id: u64) -> bool {
            if self.produced.wrapping_sub(self.consumed) == self.size {
                return false;
            }
            let mut bytes = [0; 24];
            let at = if self.entry == 112 { 8 } else { 4 };
            bytes[at..at + 8].copy_from_slice(&id.to_le_bytes());
            self.pages.write(HEAD + (self.produced & (self.size - 1)) as usize * self.entry, &bytes);
            self.produced = self.produced.wrapping_add(1);
            self.pages.store(REQ_PROD, self.produced);
            self.produced.wrapping_sub(self.pages.load(REQ_EVENT)) < 1
        }

        fn fetch(&mut self) -> Vec<u64> {
            let published = self.pages.load(RSP_PROD);
            let mut ids = Vec::new();
            while self.consumed != published {
                let mut bytes = [0; 8];
                self.pages.read(HEAD + (self.consumed & (self.size - 1)) as usize * self.entry, &mut bytes);
                ids.push(u64::from_le_bytes(bytes));
                self.consumed = self.consumed.wrapping_add(1);
            }
            self.pages.store(RSP_EVENT, self.consumed.wrapping_add(1));
            ids
        }
    }

    proptest! {
        /// Against a queue: what is put comes out once and in order, answers too, and nobody sleeps while there is work.
        #[test]
        fn a_ring_is_two_queues(
            start in any::<u32>(),
            order in 0usize..3,
            narrow in any::<bool>(),
            steps in proptest::collection::vec((0u8..4, 1u32..40), 1..80),
        ) {
            let protocol = if narrow { Protocol::X86_32 } else { Protocol::X86_64 };
            let pages = Arc::new(SharedPages::anonymous(1 << order).unwrap());
            for (at, value) in [(REQ_PROD, start), (RSP_PROD, start), (REQ_EVENT, start.wrapping_add(1)), (RSP_EVENT, start.wrapping_add(1))] {
                pages.store(at, value);
            }
            let mut ring = Ring::attach(pages.clone(), protocol);
            let mut front = Front { pages, size: ring.size(), entry: protocol.entry_size(), produced: start, consumed: start };
            let (mut queued, mut taken, mut answers) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
            let (mut next, mut asleep, mut kicked) = (0u64, true, false);
            for (step, count) in steps {
                match step {
                    0 => for _ in 0..count {
                        let before = front.produced;
                        kicked |= front.put(next);
                        if front.produced != before {
                            queued.push_back(next);
                            next += 1;
                        }
                    },
                    1 => {
                        let waiting = ring.waiting().unwrap();
                        prop_assert_eq!(waiting as usize, queued.len());
                        for _ in 0..count.min(waiting) {
                            let id = crate::request::decode(protocol, &ring.next()).id;
                            ring.took();
                            prop_assert_eq!(Some(id), queued.pop_front());
                            taken.push_back(id);
                        }
                        asleep = false;
                    }
                    2 => {
                        let mut new = 0;
                        while new < count {
                            let Some(id) = taken.pop_front() else { break };
                            ring.answer(Response { id, operation: 0, status: 0 });
                            answers.push_back(id);
                            new += 1;
                        }
                        let unseen = front.pages.load(RSP_PROD) == front.consumed;
                        let wanted = ring.publish(new);
                        // Who has seen everything and asked is told of the next answer.
                        prop_assert!(new == 0 || wanted || !unseen || front.pages.load(RSP_EVENT) != front.consumed.wrapping_add(1));
                        prop_assert_eq!(front.fetch(), answers.drain(..).collect::<Vec<_>>());
                    }
                    _ => {
                        asleep = !ring.ask().unwrap();
                        prop_assert_eq!(asleep, queued.is_empty());
                        kicked = false;
                    }
                }
                prop_assert!(!asleep || queued.is_empty() || kicked || step != 0);
            }
        }

        /// Any index in the shared page: an error, or at most a ring's worth of requests.
        #[test]
        fn indices_of_a_hostile_front_end(taken in any::<u32>(), behind in 0u32..33, produced in any::<u32>(), near in any::<bool>()) {
            let pages = Arc::new(SharedPages::anonymous(1).unwrap());
            let produced = if near { taken.wrapping_add(produced % 80).wrapping_sub(40) } else { produced };
            pages.store(REQ_PROD, produced);
            let ring = Ring::resume(pages, Protocol::X86_64, taken, taken.wrapping_sub(behind));
            match ring.waiting() {
                Ok(waiting) => prop_assert!(waiting + behind <= 32 && taken.wrapping_add(waiting) == produced),
                Err(_) => prop_assert!(produced.wrapping_sub(taken) > 32 - behind),
            }
        }
    }
}
