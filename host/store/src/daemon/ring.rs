//! A domain's ring: two byte streams in a shared page.
//!
//! The indices that count are the daemon's own copies; the page's are only told to the domain, or read from it and
//! checked. The domain is told what has left the ring ([`Ring::publish`]) only after the journal knows what came of it; what it
//! puts there in between it may do without an event, so the ring is looked at once more afterwards.

use crate::connection::Outbox;
use crate::state::Stream;
use crate::wire::{HEADER, PAYLOAD_MAX};
use radon_xen::page::SharedPages;
use std::mem::offset_of;
use std::ops::Deref;
use std::sync::atomic::{Ordering, fence};
use xen_abi::xs_wire::*;

/// What is wrong with a ring; the domain finds the number in its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ring error {0}")]
pub struct RingError(pub u32);

const SIZE: u32 = XENSTORE_RING_SIZE;

/// What the daemon can do beyond the first ring of 2002. The last one is in `docs/misc/xenstore-ring.txt` alone:
/// WATCH takes a depth.
const FEATURES: u32 = XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR | 4;

macro_rules! field {
    ($name:ident) => {
        offset_of!(XenstoreDomainInterface, $name)
    };
}

/// One end of a domain's ring.
#[derive(Debug)]
pub struct Ring<P> {
    page: P,
    stream: Stream,
    /// What the domain was last told that we have fetched.
    told: u32,
}

impl<P: Deref<Target = SharedPages>> Ring<P> {
    /// A ring that goes on from `stream`.
    pub fn new(page: P, stream: Stream) -> Self {
        page.store(field!(server_features), FEATURES);
        let told = page.load(field!(req_cons));
        Self { page, stream, told }
    }

    /// The streams as the page has them: for a ring that somebody else has served, and of which we know nothing.
    pub fn found(page: &SharedPages) -> Stream {
        Stream {
            received: page.load(field!(req_cons)),
            sent: page.load(field!(rsp_prod)),
            ..Stream::default()
        }
    }

    /// Where the streams stand.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Empties both directions and says that the ring is connected.
    pub fn reset(&mut self) {
        for index in [field!(req_cons), field!(req_prod), field!(rsp_cons), field!(rsp_prod)] {
            self.page.store(index, 0);
        }
        self.stream = Stream::default();
        self.told = 0;
        self.page.store(field!(error), XENSTORE_ERROR_NONE);
        self.page.store(field!(connection), XENSTORE_CONNECTED);
    }

    /// Whether the domain asks for the ring to be reset.
    pub fn wants_reset(&self) -> bool {
        self.page.load(field!(connection)) == XENSTORE_RECONNECT
    }

    /// After a restart: how much of the bytes that began at the stream's index are in the ring already. `None` if
    /// the ring's index makes no sense.
    pub fn catch_up(&mut self, waiting: usize) -> Option<usize> {
        let there = self.page.load(field!(rsp_prod)).wrapping_sub(self.stream.sent);
        if there as usize > waiting {
            return None;
        }
        self.stream.sent = self.stream.sent.wrapping_add(there);
        Some(there as usize)
    }

    /// Goes on with a ring that is not where it should be: afresh if somebody has reset it, else not at all.
    pub fn resynchronise(&mut self) {
        let indices = [field!(req_cons), field!(req_prod), field!(rsp_cons), field!(rsp_prod)];
        self.stream = Stream::default();
        self.told = 0;
        if indices.iter().any(|index| self.page.load(*index) != 0) {
            self.fail(RingError(XENSTORE_ERROR_RINGIDX));
        }
    }

    /// Gives page and stream back.
    pub fn into_parts(self) -> (P, Stream) {
        (self.page, self.stream)
    }

    /// Stops the exchange, and tells the domain why.
    pub fn fail(&mut self, error: RingError) {
        self.page.store(field!(error), error.0);
        self.stream.broken = Some(error.0);
    }

    /// Whether the exchange has stopped.
    pub fn is_broken(&self) -> bool {
        self.stream.broken.is_some()
    }

    /// The next request, if it is complete.
    pub fn next_request(&mut self) -> Result<Option<Vec<u8>>, RingError> {
        if self.is_broken() {
            return Ok(None);
        }
        let available = self.page.load(field!(req_prod)).wrapping_sub(self.stream.received);
        if available > SIZE {
            return Err(RingError(XENSTORE_ERROR_RINGIDX));
        }
        // What is there is fetched, be the request complete or not: a guest that writes it in pieces sends an event for the
        // next one only if the one before is fetched.
        let head = self.fetch_up_to(HEADER, available);
        let total = match self.announced() {
            None => return Ok(None),
            Some(payload) if payload > PAYLOAD_MAX => return Err(RingError(XENSTORE_ERROR_PROTO)),
            Some(payload) => HEADER + payload,
        };
        self.fetch_up_to(total, available - head);
        let whole = self.stream.rest.len() == total;
        Ok(whole.then(|| std::mem::take(&mut self.stream.rest)))
    }

    /// Whether there may be a request to look at.
    pub fn has_input(&self) -> bool {
        !self.is_broken() && self.page.load(field!(req_prod)) != self.stream.received
    }

    /// The length of the payload, once the whole head is there.
    fn announced(&self) -> Option<usize> {
        let length = self.stream.rest.get(HEADER - 4..HEADER)?.try_into().map(u32::from_le_bytes).ok()?;
        Some(length as usize)
    }

    /// Fetches of the `available` bytes until `wanted` of the request are here; how many it fetched.
    fn fetch_up_to(&mut self, wanted: usize, available: u32) -> u32 {
        let missing = wanted.saturating_sub(self.stream.rest.len());
        let count = missing.min(available as usize);
        let mut rest = std::mem::take(&mut self.stream.rest);
        let have = rest.len();
        rest.resize(have + count, 0);
        if let Some(to) = rest.get_mut(have..) {
            self.copy_out(self.stream.received, to);
        }
        self.stream.rest = rest;
        self.stream.received = self.stream.received.wrapping_add(count as u32);
        count as u32
    }

    fn copy_out(&self, index: u32, to: &mut [u8]) {
        let at = (index % SIZE) as usize;
        let (first, second) = to.split_at_mut(to.len().min(SIZE as usize - at));
        self.page.read(field!(req) + at, first);
        self.page.read(field!(req), second);
    }

    /// Puts as much as fits into the ring; how much was put.
    pub fn send(&mut self, out: &mut Outbox) -> Result<usize, RingError> {
        if self.is_broken() {
            return Ok(0);
        }
        let used = self.stream.sent.wrapping_sub(self.page.load(field!(rsp_cons)));
        if used > SIZE {
            return Err(RingError(XENSTORE_ERROR_RINGIDX));
        }
        let mut room = (SIZE - used) as usize;
        let mut count = 0;
        for piece in out.pieces() {
            let part = piece.get(..room).unwrap_or(piece);
            let at = (self.stream.sent.wrapping_add(count as u32) % SIZE) as usize;
            let (first, second) = part.split_at(part.len().min(SIZE as usize - at));
            self.page.write(field!(rsp) + at, first);
            self.page.write(field!(rsp), second);
            count += part.len();
            room -= part.len();
            if room == 0 {
                break;
            }
        }
        out.advance(count);
        self.stream.sent = self.stream.sent.wrapping_add(count as u32);
        if count > 0 {
            self.page.store(field!(rsp_prod), self.stream.sent);
        }
        Ok(count)
    }

    /// Tells the domain what we have fetched; whether that was news.
    pub fn publish(&mut self) -> bool {
        if self.is_broken() || self.told == self.stream.received {
            return false;
        }
        self.told = self.stream.received;
        self.page.store(field!(req_cons), self.told);
        // The domain writes its index and then reads ours; we do the same the other way round. One of the two sees the
        // other's: the domain sends an event, or we find what it has put.
        fence(Ordering::SeqCst);
        true
    }
}
