//! The page of a framebuffer (`struct xenfb_page`, `io/fbif.h`): what its guest says of the picture, which frames hold it, and the ring of
//! the guest's events. Its guest may change any of it at any time: each word is read once.

use crate::geometry::{Claim, MOST_MEMORY, Rect};
use radon_xen::PAGE_SIZE;
use radon_xen::page::SharedPages;
use std::ops::Deref;

/// Events that the ring holds.
pub const RING: u32 = 51;
const EVENT: usize = 40;
const EVENTS: usize = 2048;
const OUT_CONS: usize = 8;
const OUT_PROD: usize = 12;
const UPDATE: u8 = 2;
const RESIZE: u8 = 3;

/// How a guest writes frame numbers (`unsigned long` of its kernel): the front end's node `protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// `x86_32-abi`.
    Bits32,
    /// `x86_64-abi`.
    Bits64,
}

impl Width {
    /// By the node, if there is one.
    pub fn of(protocol: Option<&str>) -> Self {
        if protocol == Some("x86_32-abi") { Self::Bits32 } else { Self::Bits64 }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Bits32 => 4,
            Self::Bits64 => 8,
        }
    }

    /// Where the directory begins.
    fn directory(self) -> usize {
        match self {
            Self::Bits32 => 36,
            Self::Bits64 => 40,
        }
    }

    /// A number at a place.
    fn number(self, pages: &SharedPages, at: usize) -> u64 {
        let low = u64::from(pages.load(at));
        match self {
            Self::Bits32 => low,
            Self::Bits64 => low | u64::from(pages.load(at + 4)) << 32,
        }
    }
}

/// What a guest tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A part of the picture has changed.
    Update {
        /// Pixels, all four.
        x: i32,
        /// Of the upper row.
        y: i32,
        /// Of it.
        width: i32,
        /// Of it.
        height: i32,
    },
    /// The picture is another one, in the same memory.
    Resize(Claim),
}

/// The page.
#[derive(Debug)]
pub struct Page<P> {
    pages: P,
    /// The next event's number.
    next: u32,
}

impl<P: Deref<Target = SharedPages>> Page<P> {
    /// A page whose events were read up to where it says.
    pub fn new(pages: P) -> Self {
        let next = pages.load(OUT_CONS);
        Self { pages, next }
    }

    /// What the guest says of its picture.
    pub fn claim(&self) -> Claim {
        let signed = |at| self.pages.load(at).cast_signed();
        Claim {
            width: signed(16),
            height: signed(20),
            stride: self.pages.load(24),
            depth: self.pages.load(32) & 0xff,
            offset: 0,
            memory: self.pages.load(28),
        }
    }

    /// Frames of the directory for so many bytes of memory.
    pub fn directory(&self, width: Width, memory: u32) -> Vec<u64> {
        let pages = pages_of(memory);
        let count = pages.div_ceil(PAGE_SIZE / width.bytes());
        (0..count).map(|n| width.number(&self.pages, width.directory() + n * width.bytes())).collect()
    }

    /// The guest's events since the last time; `None` for an index that makes no sense, after which it goes on from there. Both ends
    /// know then that they were read.
    pub fn events(&mut self) -> Option<Vec<Event>> {
        let produced = self.pages.load(OUT_PROD);
        let count = produced.wrapping_sub(self.next);
        let events = (count <= RING)
            .then(|| (0..count).filter_map(|n| self.event(self.next.wrapping_add(n))).collect());
        self.next = produced;
        self.pages.store(OUT_CONS, produced);
        events
    }

    fn event(&self, number: u32) -> Option<Event> {
        let mut bytes = [0; EVENT];
        self.pages.read(EVENTS + (number % RING) as usize * EVENT, &mut bytes);
        let word = |n: usize| {
            let word = bytes.as_chunks().0.get(n).copied().unwrap_or_default();
            u32::from_le_bytes(word)
        };
        let signed = |n| word(n).cast_signed();
        match bytes.first().copied()? {
            UPDATE => Some(Event::Update { x: signed(1), y: signed(2), width: signed(3), height: signed(4) }),
            RESIZE => Some(Event::Resize(Claim {
                width: signed(1),
                height: signed(2),
                stride: word(3),
                depth: word(4),
                offset: word(5),
                memory: 0,
            })),
            _ => None,
        }
    }
}

/// Pages of a picture's memory.
fn pages_of(memory: u32) -> usize {
    (memory.min(MOST_MEMORY) as usize).div_ceil(PAGE_SIZE)
}

/// Frames of the picture's memory, out of the pages of its directory.
pub fn frames(directory: &SharedPages, width: Width, memory: u32) -> Vec<u64> {
    let most = directory.len() / width.bytes();
    (0..pages_of(memory).min(most)).map(|n| width.number(directory, n * width.bytes())).collect()
}

/// The part of a picture that an update is about.
pub fn damage(x: i32, y: i32, width: i32, height: i32, within: (u16, u16)) -> Rect {
    Rect::clipped(x.into(), y.into(), width.into(), height.into(), within)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::rc::Rc;

    fn page() -> (Rc<SharedPages>, Page<Rc<SharedPages>>) {
        let pages = Rc::new(SharedPages::anonymous(1).unwrap());
        (pages.clone(), Page::new(pages))
    }

    /// As Linux writes an event.
    fn send(pages: &SharedPages, words: [i32; 6]) {
        let produced = pages.load(OUT_PROD);
        for (n, word) in words.into_iter().enumerate() {
            pages.store(EVENTS + (produced % RING) as usize * EVENT + n * 4, word.cast_unsigned());
        }
        pages.store(OUT_PROD, produced.wrapping_add(1));
    }

    #[test]
    fn updates_and_resizes_in_order_past_the_end_of_the_ring() {
        let (pages, mut page) = page();
        // Not past 2^32, which 51 does not divide: two events have one place then, with every front end.
        for start in [0, u32::MAX - 200] {
            pages.store(OUT_CONS, start);
            pages.store(OUT_PROD, start);
            page.next = start;
            for round in 0..40 {
                send(&pages, [2, round, 2, 3, 4, 0]);
                send(&pages, [9, 0, 0, 0, 0, 0]);
                send(&pages, [3, 640, 480, 2560, 32, 4096]);
                let update = Event::Update { x: round, y: 2, width: 3, height: 4 };
                let claim =
                    Claim { width: 640, height: 480, stride: 2560, depth: 32, offset: 4096, memory: 0 };
                assert_eq!(page.events(), Some(vec![update, Event::Resize(claim)]));
                assert_eq!(pages.load(OUT_CONS), pages.load(OUT_PROD));
            }
        }
    }

    #[test]
    fn an_index_from_nowhere_is_nonsense_once() {
        let (pages, mut page) = page();
        pages.store(OUT_PROD, RING + 1);
        assert_eq!(page.events(), None);
        assert_eq!(page.events(), Some(vec![]));
        send(&pages, [2, 1, 2, 3, 4, 0]);
        assert_eq!(page.events().map(|e| e.len()), Some(1));
    }

    #[test]
    fn the_directory_of_both_kernels() {
        let (pages, page) = page();
        for (at, word) in [(36, 7), (40, 8), (44, 1), (48, 9), (52, 0)] {
            pages.store(at, word);
        }
        assert_eq!(page.directory(Width::Bits64, 2 << 20), [8 | 1 << 32]);
        assert_eq!(page.directory(Width::Bits64, (2 << 20) + 1), [8 | 1 << 32, 9]);
        assert_eq!(page.directory(Width::Bits32, (4 << 20) + 1), [7, 8]);
        assert_eq!(page.directory(Width::Bits32, u32::MAX).len(), 16);
        let frames_of = |memory| frames(&pages, Width::Bits64, memory).len();
        assert_eq!((frames_of(4096), frames_of(4097), frames_of(u32::MAX)), (1, 2, 512));
        assert_eq!(Width::of(Some("x86_32-abi")), Width::Bits32);
        assert_eq!(Width::of(None), Width::Bits64);
    }

    proptest! {
        #[test]
        fn any_page(words in prop::collection::vec((0usize..1024, any::<u32>()), 0..40)) {
            let (pages, mut page) = page();
            for (at, word) in words {
                pages.store(at * 4, word);
                if let Some(events) = page.events() {
                    prop_assert!(events.len() <= RING as usize);
                }
                let claim = page.claim();
                for width in [Width::Bits32, Width::Bits64] {
                    prop_assert!(page.directory(width, claim.memory).len() <= 32);
                }
            }
        }
    }
}
