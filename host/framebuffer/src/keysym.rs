//! Keys: X's names (`keysymdef.h`) and the PC keyboard's scancodes, as Linux's codes (`input-event-codes.h`). The guest's own layout is taken
//! to be the American one where only the name is known; viewers that send scancodes do not depend on it.

/// Linux's `KEY_LEFTSHIFT`.
pub const LEFT_SHIFT: u32 = 42;

/// A key that says a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Linux's code.
    pub code: u32,
    /// Whether the shift key has to be down for it, if that matters.
    pub shift: Option<bool>,
    /// A letter: caps lock is as good as shift.
    pub letter: bool,
}

/// Keys of the American layout in the order of Linux's codes, unshifted and shifted.
const ROWS: [(u32, &str, &str); 4] = [
    (2, "1234567890-=", "!@#$%^&*()_+"),
    (16, "qwertyuiop[]", "QWERTYUIOP{}"),
    (30, "asdfghjkl;'`", "ASDFGHJKL:\"~"),
    (43, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
];

/// Keys that are no characters.
const NAMED: &[(u32, u32)] = &[
    (0x20, 57),
    (0xff08, 14),
    (0xff09, 15),
    (0xfe20, 15),
    (0xff0d, 28),
    (0xff13, 119),
    (0xff14, 70),
    (0xff15, 99),
    (0xff1b, 1),
    (0xffff, 111),
    (0xff50, 102),
    (0xff51, 105),
    (0xff52, 103),
    (0xff53, 106),
    (0xff54, 108),
    (0xff55, 104),
    (0xff56, 109),
    (0xff57, 107),
    (0xff61, 99),
    (0xff63, 110),
    (0xff67, 127),
    (0xff6b, 119),
    (0xff7f, 69),
    // The keypad, without and with its numbers.
    (0xff8d, 96),
    (0xff95, 71),
    (0xff96, 75),
    (0xff97, 72),
    (0xff98, 77),
    (0xff99, 80),
    (0xff9a, 73),
    (0xff9b, 81),
    (0xff9c, 79),
    (0xff9d, 76),
    (0xff9e, 82),
    (0xff9f, 83),
    (0xffaa, 55),
    (0xffab, 78),
    (0xffad, 74),
    (0xffae, 83),
    (0xffaf, 98),
    (0xffb0, 82),
    (0xffb1, 79),
    (0xffb2, 80),
    (0xffb3, 81),
    (0xffb4, 75),
    (0xffb5, 76),
    (0xffb6, 77),
    (0xffb7, 71),
    (0xffb8, 72),
    (0xffb9, 73),
    (0xffbd, 117),
    (0xffe1, LEFT_SHIFT),
    (0xffe2, 54),
    (0xffe3, 29),
    (0xffe4, 97),
    (0xffe5, 58),
    (0xffe7, 125),
    (0xffe8, 126),
    (0xffe9, 56),
    (0xffea, 100),
    (0xffeb, 125),
    (0xffec, 126),
    (0xfe03, 100),
    (0xff7e, 100),
];

/// The key for a name; `None` if the keyboard has none.
pub fn key(keysym: u32) -> Option<Key> {
    if let Some((_, code)) = NAMED.iter().find(|(name, _)| *name == keysym) {
        return Some(Key { code: *code, shift: None, letter: false });
    }
    match keysym {
        0xffbe..=0xffc7 => return Some(Key { code: keysym - 0xffbe + 59, shift: None, letter: false }),
        0xffc8..=0xffc9 => return Some(Key { code: keysym - 0xffc8 + 87, shift: None, letter: false }),
        _ => {}
    }
    let wanted = char::from_u32(keysym).filter(char::is_ascii_graphic)?;
    ROWS.iter().find_map(|(first, plain, shifted)| {
        let (shift, place) = match (plain.find(wanted), shifted.find(wanted)) {
            (Some(place), _) => (false, place),
            (None, place) => (true, place?),
        };
        let code = first + place as u32;
        Some(Key { code, shift: Some(shift), letter: wanted.is_ascii_alphabetic() })
    })
}

/// Linux's code for a scancode of set 1, bit 7 standing for the prefix `e0`.
pub fn of_scancode(code: u32) -> Option<u32> {
    Some(match code {
        1..=83 | 86..=88 => code,
        84 | 0xb7 => 99,
        0x9c => 96,
        0x9d => 97,
        0xb5 => 98,
        0xb8 => 100,
        0xc6 => 119,
        0xc7 => 102,
        0xc8 => 103,
        0xc9 => 104,
        0xcb => 105,
        0xcd => 106,
        0xcf => 107,
        0xd0 => 108,
        0xd1 => 109,
        0xd2 => 110,
        0xd3 => 111,
        0xdb => 125,
        0xdc => 126,
        0xdd => 127,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a key and its neighbours are where Linux's `defkeymap.map` has them.
    #[test]
    fn the_american_layout() {
        for (name, code, shift) in [
            ('1', 2, false),
            ('=', 13, false),
            ('q', 16, false),
            ('[', 26, false),
            (']', 27, false),
            ('a', 30, false),
            ('\'', 40, false),
            ('`', 41, false),
            ('\\', 43, false),
            ('z', 44, false),
            ('/', 53, false),
            ('!', 2, true),
            ('+', 13, true),
            ('P', 25, true),
            ('L', 38, true),
            (':', 39, true),
            ('~', 41, true),
            ('|', 43, true),
            ('M', 50, true),
            ('?', 53, true),
        ] {
            let key = key(name.into()).unwrap();
            assert_eq!((key.code, key.shift), (code, Some(shift)), "{name}");
            assert_eq!(key.letter, name.is_alphabetic());
        }
        for name in (0x21..0x7f).map(char::from) {
            assert!(key(name.into()).is_some(), "{name}");
        }
        assert_eq!(key(0x20).unwrap().code, 57);
    }

    #[test]
    fn named_keys() {
        for (name, code) in
            [(0xff0d, 28), (0xffbe, 59), (0xffc7, 68), (0xffc8, 87), (0xffc9, 88), (0xffe1, 42)]
        {
            assert_eq!(key(name), Some(Key { code, shift: None, letter: false }));
        }
        for none in [0, 0x7f, 0xe4, 0x20ac, 0x0100_20ac, 0xffca, u32::MAX] {
            assert_eq!(key(none), None, "{none:x}");
        }
        let mut names: Vec<u32> = NAMED.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), NAMED.len(), "a name twice");
    }

    #[test]
    fn scancodes() {
        for (code, linux) in [
            (0x1c, Some(28)),
            (0x39, Some(57)),
            (0xc8, Some(103)),
            (0x57, Some(87)),
            (0, None),
            (0x55, None),
            (0xff, None),
            (0x100, None),
        ] {
            assert_eq!(of_scancode(code), linux, "{code:x}");
        }
    }
}
