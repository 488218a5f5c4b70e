//! A client as the store sees it: who it is, what it has set up, what it is to be told.

use crate::path;
use crate::perm::{DomId, Identity};
use crate::transaction::Transaction;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

/// Which client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnId {
    /// A domain's kernel, over its ring.
    Domain(DomId),
    /// A process on the control domain, over the socket.
    Socket(u32),
}

/// One client.
#[derive(Debug)]
pub struct Connection {
    /// Whom it acts for.
    pub who: Identity,
    /// Where its relative paths start.
    pub base: Arc<str>,
    /// Path and token of each of its watches.
    pub watches: HashSet<(Arc<str>, Arc<[u8]>)>,
    /// Its open transactions.
    pub transactions: BTreeMap<u32, Transaction>,
    /// Where to look for the next free number of a transaction.
    pub next_transaction: u32,
    /// What is to be sent.
    pub out: Outbox,
}

impl Connection {
    /// A client that has not said anything yet.
    pub fn new(who: Identity) -> Self {
        Self {
            who,
            base: path::of_domain(who.domid).into(),
            watches: HashSet::new(),
            transactions: BTreeMap::new(),
            next_transaction: 1,
            out: Outbox::default(),
        }
    }
}

/// Messages on their way to a client.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: VecDeque<Outgoing>,
    /// Bytes of the first message that are gone already.
    sent: usize,
    bytes: usize,
    replies: usize,
    /// Events that wait, so that none waits twice.
    events: HashSet<Arc<[u8]>>,
}

#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    /// Of a watch event: its payload.
    event: Option<Arc<[u8]>>,
}

impl Outbox {
    /// Adds a reply.
    pub fn reply(&mut self, bytes: Vec<u8>) {
        self.replies += 1;
        self.push(bytes, None);
    }

    /// Adds an event, and says whether it was news: an event like one that still waits is not sent again.
    pub fn event(&mut self, bytes: Vec<u8>, payload: &[u8]) -> bool {
        let special = payload.starts_with(b"@");
        if !special && self.events.contains(payload) {
            return false;
        }
        let payload: Arc<[u8]> = payload.into();
        if !special {
            self.events.insert(payload.clone());
        }
        self.push(bytes, Some(payload));
        true
    }

    /// Adds an event that was queued once, whatever waits now: not a byte of the stream may be missing.
    pub fn event_again(&mut self, bytes: Vec<u8>, payload: &[u8]) {
        let payload: Arc<[u8]> = payload.into();
        self.events.insert(payload.clone());
        self.push(bytes, Some(payload));
    }

    fn push(&mut self, bytes: Vec<u8>, event: Option<Arc<[u8]>>) {
        self.bytes += bytes.len();
        self.queue.push_back(Outgoing { bytes, event });
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Replies that wait.
    pub fn replies(&self) -> usize {
        self.replies
    }

    /// The next pieces to send.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let whole = self.queue.iter().skip(1).map(|m| m.bytes.as_slice());
        self.queue.front().and_then(|m| m.bytes.get(self.sent..)).into_iter().chain(whole)
    }

    /// That many bytes were sent.
    pub fn advance(&mut self, mut count: usize) {
        self.bytes = self.bytes.saturating_sub(count);
        while let Some(front) = self.queue.front() {
            let left = front.bytes.len() - self.sent;
            if count < left {
                self.sent += count;
                return;
            }
            count -= left;
            self.sent = 0;
            match self.queue.pop_front().and_then(|m| m.event) {
                Some(payload) => drop(self.events.remove(&payload)),
                None => self.replies -= 1,
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_order_and_in_any_portions() {
        for portion in 1..12 {
            let mut out = Outbox::default();
            out.reply(b"hello".to_vec());
            out.event(b"world".to_vec(), b"/w");
            out.reply(b"!".to_vec());
            assert_eq!((out.len(), out.replies()), (11, 2));
            let mut seen = Vec::new();
            while !out.is_empty() {
                let next: Vec<u8> = out.pieces().flatten().copied().take(portion).collect();
                out.advance(next.len());
                seen.extend(next);
            }
            assert_eq!(seen, b"helloworld!");
            assert_eq!((out.len(), out.replies()), (0, 0));
        }
    }

    #[test]
    fn an_event_that_waits_is_not_sent_twice() {
        let mut out = Outbox::default();
        assert!(out.event(b"E1".to_vec(), b"/a\0t\0"));
        assert!(!out.event(b"E1".to_vec(), b"/a\0t\0"));
        assert!(out.event(b"E2".to_vec(), b"/a\0u\0"));
        assert!(out.event(b"R1".to_vec(), b"@releaseDomain\0t\0"));
        assert!(out.event(b"R1".to_vec(), b"@releaseDomain\0t\0"));
        out.advance(2);
        assert!(out.event(b"E1".to_vec(), b"/a\0t\0"));
        assert_eq!(out.pieces().flatten().copied().collect::<Vec<u8>>(), b"E2R1R1E1");
    }
}
