//! What one viewer holds down, and what its keys and its pointer are to the guest. Pure.
//!
//! A name that needs the shift key gets it, for viewers that send the name alone, and one that does not is freed of it, for viewers with
//! another layout than the guest's. What is down when a viewer goes is let go.

use crate::keysym::{self, Key, LEFT_SHIFT};
use crate::rfb::message::Message;
use std::collections::{BTreeMap, BTreeSet};

const SHIFTS: [u32; 2] = [LEFT_SHIFT, 54];
/// Control, alt, meta: with them it is the key that counts.
const OTHERS: [u32; 6] = [29, 97, 56, 100, 125, 126];
const CAPS_LOCK: u32 = 58;
/// Linux's `BTN_LEFT`, `BTN_MIDDLE`, `BTN_RIGHT`, by bits of the viewer's mask.
const BUTTONS: [u32; 3] = [0x110, 0x112, 0x111];
const WHEEL_UP: u8 = 8;
const WHEEL_DOWN: u8 = 16;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A key or button.
    Key {
        /// Down, or up.
        pressed: bool,
        /// Linux's code.
        code: u32,
    },
    /// The pointer, in a picture of that size.
    Pointer {
        /// Pixels.
        x: u16,
        /// Pixels.
        y: u16,
        /// Steps of the wheel, towards the user.
        wheel: i8,
    },
}

/// One viewer's hands.
#[derive(Clone, Debug, Default)]
pub struct Typist {
    down: BTreeSet<u32>,
    /// The key that each name was found to be when it went down: that one comes up, whatever else is held by then.
    names: BTreeMap<u32, u32>,
    caps: bool,
    buttons: u8,
}

/// Names that are remembered: more than a hand can hold down.
const MOST_NAMES: usize = 64;

impl Typist {
    /// What a message does.
    pub fn hear(&mut self, message: &Message) -> Vec<Input> {
        match *message {
            Message::Key { down: true, keysym } => self.press(keysym),
            Message::Key { down: false, keysym } => {
                let code = self.names.remove(&keysym).or_else(|| keysym::key(keysym).map(|key| key.code));
                code.map(|code| self.set(code, false)).unwrap_or_default()
            }
            Message::Scancode { down, code } => {
                keysym::of_scancode(code).map(|code| self.set(code, down)).unwrap_or_default()
            }
            Message::Pointer { buttons, x, y } => self.point(buttons, x, y),
            _ => Vec::new(),
        }
    }

    fn set(&mut self, code: u32, pressed: bool) -> Vec<Input> {
        let changed = if pressed { self.down.insert(code) } else { self.down.remove(&code) };
        if pressed && changed && code == CAPS_LOCK {
            self.caps = !self.caps;
        }
        // A key that is pressed again repeats.
        if changed || pressed { vec![Input::Key { pressed, code }] } else { Vec::new() }
    }

    fn press(&mut self, keysym: u32) -> Vec<Input> {
        let Some(key) = keysym::key(keysym) else { return Vec::new() };
        if self.names.len() < MOST_NAMES {
            self.names.insert(keysym, key.code);
        }
        let held: Vec<u32> = SHIFTS.into_iter().filter(|code| self.down.contains(code)).collect();
        let (before, after) = match self.wanted_shift(key) {
            Some(true) if held.is_empty() => (vec![(LEFT_SHIFT, true)], vec![(LEFT_SHIFT, false)]),
            Some(false) => {
                (held.iter().map(|c| (*c, false)).collect(), held.iter().map(|c| (*c, true)).collect())
            }
            _ => (Vec::new(), Vec::new()),
        };
        let inputs =
            |all: Vec<(u32, bool)>| all.into_iter().map(|(code, pressed)| Input::Key { pressed, code });
        inputs(before).chain(self.set(key.code, true)).chain(inputs(after)).collect()
    }

    /// Whether shift is to be down for a key; `None` if it does not matter, or the viewer knows best.
    fn wanted_shift(&self, key: Key) -> Option<bool> {
        if OTHERS.iter().any(|code| self.down.contains(code)) {
            return None;
        }
        key.shift.map(|shift| shift != (key.letter && self.caps))
    }

    fn point(&mut self, buttons: u8, x: u16, y: u16) -> Vec<Input> {
        let pressed = buttons & !self.buttons;
        let wheel = i8::from(pressed & WHEEL_DOWN != 0) - i8::from(pressed & WHEEL_UP != 0);
        let mut inputs = vec![Input::Pointer { x, y, wheel }];
        for (bit, code) in BUTTONS.into_iter().enumerate() {
            let (was, is) = (self.buttons >> bit & 1, buttons >> bit & 1);
            if was != is {
                inputs.push(Input::Key { pressed: is == 1, code });
            }
        }
        self.buttons = buttons;
        inputs
    }

    /// The viewer is gone.
    pub fn let_go(&mut self) -> Vec<Input> {
        let buttons = BUTTONS.into_iter().enumerate().filter(|(bit, _)| self.buttons >> bit & 1 == 1);
        let codes: Vec<u32> = self.down.iter().copied().chain(buttons.map(|(_, code)| code)).collect();
        (*self) = Self { caps: self.caps, ..Self::default() };
        codes.into_iter().map(|code| Input::Key { pressed: false, code }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(down: bool, keysym: u32) -> Message {
        Message::Key { down, keysym }
    }

    fn codes(inputs: &[Input]) -> Vec<i32> {
        let one = |input: &Input| match *input {
            Input::Key { pressed, code } => code as i32 * if pressed { 1 } else { -1 },
            Input::Pointer { .. } => 0,
        };
        inputs.iter().map(one).collect()
    }

    fn all(typist: &mut Typist, messages: &[Message]) -> Vec<i32> {
        messages.iter().flat_map(|m| codes(&typist.hear(m))).collect()
    }

    #[test]
    fn shift_is_added_and_taken_away_where_the_name_needs_it() {
        let (a, big, one, shift, control, caps) = (0x61, 0x41, 0x31, 0xffe1, 0xffe3, 0xffe5);
        let mut typist = Typist::default();
        assert_eq!(all(&mut typist, &[key(true, a), key(false, a)]), [30, -30]);
        assert_eq!(all(&mut typist, &[key(true, big), key(false, big)]), [42, 30, -42, -30]);
        assert_eq!(
            all(&mut typist, &[key(true, shift), key(true, big), key(false, big), key(false, shift)]),
            [42, 30, -30, -42]
        );
        // French digits are shifted.
        assert_eq!(
            all(&mut typist, &[key(true, shift), key(true, one), key(false, one), key(false, shift)]),
            [42, -42, 2, 42, -2, -42]
        );
        assert_eq!(
            all(&mut typist, &[key(true, control), key(true, big), key(false, big), key(false, control)]),
            [29, 30, -30, -29]
        );
        assert_eq!(
            all(&mut typist, &[key(true, caps), key(false, caps), key(true, big), key(false, big)]),
            [58, -58, 30, -30]
        );
        assert_eq!(all(&mut typist, &[key(true, a)]), [42, 30, -42]);
        assert_eq!(all(&mut typist, &[key(true, 0x20ac), key(false, 0x20ac)]), [0i32; 0]);
    }

    #[test]
    fn repeats_and_scancodes() {
        let mut typist = Typist::default();
        assert_eq!(
            all(&mut typist, &[key(true, 0x61), key(true, 0x61), key(false, 0x61), key(false, 0x61)]),
            [30, 30, -30]
        );
        let scan = |down, code| Message::Scancode { down, code };
        assert_eq!(all(&mut typist, &[scan(true, 0x10), scan(false, 0x10), scan(true, 0xff)]), [16, -16]);
    }

    #[test]
    fn buttons_and_wheel() {
        let mut typist = Typist::default();
        let at = |buttons| Message::Pointer { buttons, x: 3, y: 4 };
        let moved = |wheel| Input::Pointer { x: 3, y: 4, wheel };
        let button = |pressed, code| Input::Key { pressed, code };
        assert_eq!(typist.hear(&at(5)), [moved(0), button(true, 0x110), button(true, 0x111)]);
        assert_eq!(typist.hear(&at(4)), [moved(0), button(false, 0x110)]);
        assert_eq!(typist.hear(&at(12)), [moved(-1)]);
        assert_eq!(typist.hear(&at(12)), [moved(0)], "a step is one press");
        assert_eq!(typist.hear(&at(20)), [moved(1)]);
        typist.hear(&key(true, 0x61));
        assert_eq!(codes(&typist.let_go()), [-30, -0x111]);
        assert_eq!(typist.let_go(), []);
    }

    proptest! {
        /// Whatever a viewer does, nothing is down when it has gone.
        #[test]
        fn nothing_stays_down(keys in prop::collection::vec((any::<bool>(), 0usize..8, any::<bool>()), 0..60)) {
            let names = [0x61, 0x41, 0x31, 0x21, 0xffe1, 0xffe2, 0xffe3, 0xffe5];
            let mut typist = Typist::default();
            let mut down = BTreeSet::new();
            let mut inputs = Vec::new();
            for (pressed, which, scan) in keys {
                let message = if scan { Message::Scancode { down: pressed, code: which as u32 + 28 } } else { key(pressed, names[which]) };
                inputs.extend(typist.hear(&message));
            }
            inputs.extend(typist.let_go());
            for input in inputs {
                if let Input::Key { pressed, code } = input {
                    if pressed { down.insert(code); } else { down.remove(&code); }
                }
            }
            prop_assert!(down.is_empty(), "{down:?}");
        }
    }
}
