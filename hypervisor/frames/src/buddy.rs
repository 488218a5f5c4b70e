//! Free blocks by zone, order and cleanness.
//!
//! A zone is a power-of-two span of machine addresses, numbered by the bit length of the block's last frame,
//! so "below 2^n" is "zones up to n - 12" and allocating from the highest zone first keeps low memory for
//! those who need it. Each (zone, order) has two lists: blocks without any dirty frame, and others.

use crate::MAX_ORDER;
use crate::state::{CLEAN, State};
use crate::table::{NIL, Table};
use radon_addr::Mfn;
use radon_hw::mem;

const ZONES: usize = 33;
const ORDERS: usize = MAX_ORDER as usize + 1;
/// List of blocks with no dirty frame.
const LIST_CLEAN: usize = 0;
/// List of blocks that may have dirty frames.
const LIST_DIRTY: usize = 1;

/// Which of two equally good blocks to take.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prefer {
    Clean,
    Dirty,
}

pub(crate) struct Buddy {
    heads: [[[u32; ORDERS]; 2]; ZONES],
    /// Bit n set: the list of order n is not empty.
    nonempty: [[u32; 2]; ZONES],
    /// Bit n set: zone n has a free block.
    zones: u64,
}

fn zone_of(frame: u32, order: u8) -> usize {
    (32 - (frame | size(order).wrapping_sub(1)).leading_zeros()) as usize
}

/// Frames in a block of `order`.
pub(crate) fn size(order: u8) -> u32 {
    1 << order.min(MAX_ORDER)
}

fn list_of(first_dirty: u32) -> usize {
    if first_dirty == CLEAN { LIST_CLEAN } else { LIST_DIRTY }
}

/// First dirty frame of the lower and of the upper half of a block.
fn halve(first_dirty: u32, half: u32) -> (u32, u32) {
    match first_dirty {
        CLEAN => (CLEAN, CLEAN),
        n if n < half => (n, 0),
        n => (CLEAN, n - half),
    }
}

impl Buddy {
    pub(crate) const fn new() -> Buddy {
        Buddy { heads: [[[NIL; ORDERS]; 2]; ZONES], nonempty: [[0; 2]; ZONES], zones: 0 }
    }

    /// The highest zone all of whose frames lie below `2^addr_bits` bytes.
    pub(crate) fn top_zone(addr_bits: u8) -> usize {
        usize::from(addr_bits.saturating_sub(12)).min(ZONES - 1)
    }

    fn link(&mut self, t: Table, frame: u32, order: u8, first_dirty: u32) {
        let (zone, list, o) = (zone_of(frame, order), list_of(first_dirty), usize::from(order));
        let next = self.heads[zone][list][o];
        if next != NIL {
            let (after, _) = t.links(next);
            t.set_links(next, after, frame);
        }
        t.set_links(frame, next, NIL);
        t.store(frame, t.load(frame).as_head(order, first_dirty));
        self.heads[zone][list][o] = frame;
        self.nonempty[zone][list] |= 1 << order;
        self.zones |= 1 << zone;
    }

    /// Takes the block headed by `frame` off its list; returns its first dirty frame.
    fn unlink(&mut self, t: Table, frame: u32, order: u8) -> u32 {
        let state = t.load(frame);
        let first_dirty = state.first_dirty();
        let (zone, list, o) = (zone_of(frame, order), list_of(first_dirty), usize::from(order));
        let (next, prev) = t.links(frame);
        if next != NIL {
            let (after, _) = t.links(next);
            t.set_links(next, after, prev);
        }
        if prev != NIL {
            let (_, before) = t.links(prev);
            t.set_links(prev, next, before);
        } else {
            self.heads[zone][list][o] = next;
            if next == NIL {
                self.nonempty[zone][list] &= !(1 << order);
                if self.nonempty[zone] == [0, 0] {
                    self.zones &= !(1 << zone);
                }
            }
        }
        t.clear_links(frame);
        t.store(frame, State::free(state.dirty()));
        first_dirty
    }

    /// Takes a block of `order` from the highest zone not above `top_zone` that has one. Its frames stay
    /// `Free` without being on a list: the caller marks them.
    pub(crate) fn take(&mut self, t: Table, order: u8, top_zone: usize, prefer: Prefer) -> Option<u32> {
        let lists = match prefer {
            Prefer::Clean => [LIST_CLEAN, LIST_DIRTY],
            Prefer::Dirty => [LIST_DIRTY, LIST_CLEAN],
        };
        let mut zones = self.zones & ((2 << top_zone.min(ZONES - 1)) - 1);
        while let Some(zone) = zones.checked_ilog2().map(|zone| zone as usize) {
            zones &= !(1 << zone);
            for list in lists {
                let fits = self.nonempty[zone][list] >> order;
                if fits == 0 {
                    continue;
                }
                let mut o = order + fits.trailing_zeros() as u8;
                let mut frame = self.heads[zone][list][usize::from(o)];
                let mut first_dirty = self.unlink(t, frame, o);
                while o > order {
                    o -= 1;
                    let (lower, upper) = halve(first_dirty, size(o));
                    self.link(t, frame, o, lower);
                    frame += size(o);
                    first_dirty = upper;
                }
                return Some(frame);
            }
        }
        // Only a block headed by frame 0 spans zones: it may reach from below the limit to above it.
        let limit = 1_u32.checked_shl(top_zone as u32).unwrap_or(0);
        let frame = limit.checked_sub(size(order)).filter(|frame| t.contains(*frame))?;
        self.carve(t, frame, order).then_some(frame)
    }

    /// Takes exactly the block (`frame`, `order`) out of the free block that holds it, if there is one.
    pub(crate) fn carve(&mut self, t: Table, frame: u32, order: u8) -> bool {
        for o in order..=MAX_ORDER {
            let head = frame & !(size(o) - 1);
            if t.load(head).head_order() != Some(o) {
                continue;
            }
            let (mut head, mut o, mut first_dirty) = (head, o, self.unlink(t, head, o));
            while o > order {
                o -= 1;
                let (lower, upper) = halve(first_dirty, size(o));
                if frame & size(o) == 0 {
                    self.link(t, head + size(o), o, upper);
                    first_dirty = lower;
                } else {
                    self.link(t, head, o, lower);
                    head += size(o);
                    first_dirty = upper;
                }
            }
            return true;
        }
        false
    }

    /// Returns a block whose frames the caller has marked `Free`; joins it with its free buddies.
    pub(crate) fn give(&mut self, t: Table, frame: u32, order: u8, first_dirty: u32) {
        let (mut frame, mut order, mut first_dirty) = (frame, order, first_dirty);
        while order < MAX_ORDER {
            let buddy = frame ^ size(order);
            if !t.contains(buddy) || t.load(buddy).head_order() != Some(order) {
                break;
            }
            let other = self.unlink(t, buddy, order);
            let (lower, upper) = if buddy < frame { (other, first_dirty) } else { (first_dirty, other) };
            first_dirty = match (lower, upper) {
                (CLEAN, CLEAN) => CLEAN,
                (CLEAN, n) => n + size(order),
                (n, _) => n,
            };
            frame = frame.min(buddy);
            order += 1;
        }
        self.link(t, frame, order, first_dirty);
    }

    /// Zeroes up to `max` dirty free frames, looking at a bounded number. Returns how many it zeroed, or
    /// `None` when no block is on a dirty list.
    pub(crate) fn scrub(&mut self, t: Table, max: u32) -> Option<u32> {
        const LOOK: u32 = 1024;
        let (zone, order) = (0..ZONES).rev().find_map(|zone| {
            let bits = self.nonempty[zone][LIST_DIRTY];
            (bits != 0).then(|| (zone, (31 - bits.leading_zeros()) as u8))
        })?;
        let head = self.heads[zone][LIST_DIRTY][usize::from(order)];
        let start = t.load(head).first_dirty();
        let (mut index, mut zeroed) = (start, 0);
        while index < size(order) && zeroed < max && index - start < LOOK {
            let state = t.load(head + index);
            if state.dirty() {
                if index == 0 {
                    let (next, prev) = t.links(head);
                    mem::zero_frame(Mfn::new(u64::from(head)));
                    t.set_links(head, next, prev);
                } else {
                    mem::zero_frame(Mfn::new(u64::from(head + index)));
                }
                t.store(head + index, state.scrubbed());
                zeroed += 1;
            }
            index += 1;
        }
        if index >= size(order) {
            self.unlink(t, head, order);
            self.link(t, head, order, CLEAN);
        } else {
            t.store(head, t.load(head).as_head(order, index));
        }
        Some(zeroed)
    }

    /// Number of free blocks of each order (diagnostics and tests).
    pub(crate) fn blocks(&self, t: Table) -> [u32; ORDERS] {
        let mut count = [0; ORDERS];
        for lists in &self.heads {
            for heads in lists {
                for (n, head) in count.iter_mut().zip(heads) {
                    let mut frame = *head;
                    while frame != NIL {
                        *n += 1;
                        frame = t.links(frame).0;
                    }
                }
            }
        }
        count
    }
}
