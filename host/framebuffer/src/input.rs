//! The page of keyboard and pointer (`struct xenkbd_page`, `io/kbdif.h`): a ring of events for the guest.

use radon_xen::page::SharedPages;
use std::ops::Deref;

/// Events that the ring holds.
pub const RING: u32 = 51;
const EVENT: usize = 40;
const EVENTS: usize = 1024;
const IN_CONS: usize = 0;
const IN_PROD: usize = 4;

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The pointer has moved by so much.
    Motion {
        /// Pixels to the right.
        x: i32,
        /// Pixels downwards.
        y: i32,
        /// Steps of the wheel, towards the user.
        z: i32,
    },
    /// A key, or a button, by Linux's number.
    Key {
        /// Down, or up.
        pressed: bool,
        /// `KEY_*`, `BTN_*`.
        code: u32,
    },
    /// The pointer is there.
    Position {
        /// From the left: pixels, or 32767ths of the width.
        x: i32,
        /// From above.
        y: i32,
        /// Steps of the wheel, towards the user.
        z: i32,
    },
}

impl Event {
    fn words(self) -> [u32; 4] {
        let three =
            |kind, x: i32, y: i32, z: i32| [kind, x.cast_unsigned(), y.cast_unsigned(), z.cast_unsigned()];
        match self {
            Self::Motion { x, y, z } => three(1, x, y, z),
            Self::Key { pressed, code } => [3 | u32::from(pressed) << 8, code, 0, 0],
            Self::Position { x, y, z } => three(4, x, y, z),
        }
    }
}

/// The page.
#[derive(Debug)]
pub struct Page<P> {
    pages: P,
    produced: u32,
}

impl<P: Deref<Target = SharedPages>> Page<P> {
    /// A page that was written up to where it says.
    pub fn new(pages: P) -> Self {
        let produced = pages.load(IN_PROD);
        Self { pages, produced }
    }

    /// Events that fit in now; none while the guest's index makes no sense.
    pub fn room(&self) -> u32 {
        RING.saturating_sub(self.produced.wrapping_sub(self.pages.load(IN_CONS)))
    }

    /// Puts an event in, if it fits.
    pub fn put(&mut self, event: Event) -> bool {
        if self.room() == 0 {
            return false;
        }
        let mut bytes = [0; EVENT];
        for (to, word) in bytes.chunks_exact_mut(4).zip(event.words()) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        self.pages.write(EVENTS + (self.produced % RING) as usize * EVENT, &bytes);
        self.produced = self.produced.wrapping_add(1);
        self.pages.store(IN_PROD, self.produced);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::rc::Rc;

    /// Reads as Linux's front end does.
    fn take(pages: &SharedPages) -> Vec<[u32; 4]> {
        let (mut consumed, produced) = (pages.load(IN_CONS), pages.load(IN_PROD));
        let mut all = Vec::new();
        while consumed != produced {
            all.push([0, 4, 8, 12].map(|at| pages.load(EVENTS + (consumed % RING) as usize * EVENT + at)));
            consumed = consumed.wrapping_add(1);
        }
        pages.store(IN_CONS, consumed);
        all
    }

    #[test]
    fn what_is_put_in_comes_out() {
        let pages = Rc::new(SharedPages::anonymous(1).unwrap());
        for start in [0, u32::MAX - 200] {
            pages.store(IN_CONS, start);
            pages.store(IN_PROD, start);
            let mut page = Page::new(pages.clone());
            for code in 0..RING {
                assert!(page.put(Event::Key { pressed: code % 2 == 0, code }));
            }
            assert!(!page.put(Event::Key { pressed: true, code: 1 }), "full");
            let keys: Vec<[u32; 4]> =
                (0..RING).map(|c| [if c % 2 == 0 { 0x103 } else { 3 }, c, 0, 0]).collect();
            assert_eq!(take(&pages), keys);
            assert!(page.put(Event::Motion { x: -1, y: 2, z: -3 }));
            assert!(page.put(Event::Position { x: 5, y: 6, z: 1 }));
            assert_eq!(take(&pages), [[1, u32::MAX, 2, u32::MAX - 2], [4, 5, 6, 1]]);
        }
    }

    proptest! {
        #[test]
        fn any_index_of_the_guest(consumed in any::<u32>(), produced in any::<u32>(), count in 0usize..120) {
            let pages = Rc::new(SharedPages::anonymous(1).unwrap());
            pages.store(IN_PROD, produced);
            let mut page = Page::new(pages.clone());
            pages.store(IN_CONS, consumed);
            // What the guest writes there does not matter.
            pages.store(IN_PROD, 77);
            let put = (0..count).filter(|_| page.put(Event::Key { pressed: true, code: 1 })).count();
            prop_assert!(put <= RING as usize);
        }
    }
}
