//! A viewer's messages, out of whatever bytes it sends.

use super::format::Format;

/// Text of a clipboard at most: it is of no use here, and is not to be kept.
const MOST_TEXT: u32 = 16 << 20;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// How it wants pixels.
    Format(Format),
    /// What it understands, what it likes most first.
    Encodings(Vec<i32>),
    /// It wants a part of the picture.
    Request {
        /// Only if something has changed.
        incremental: bool,
        /// Pixels.
        x: u16,
        /// Pixels.
        y: u16,
        /// Pixels.
        width: u16,
        /// Pixels.
        height: u16,
    },
    /// A key, by X's number.
    Key {
        /// Down, or up.
        down: bool,
        /// The keysym.
        keysym: u32,
    },
    /// A key, by the PC keyboard's number (QEMU's extension, so that the viewer's layout does not matter).
    Scancode {
        /// Down, or up.
        down: bool,
        /// Scancode of set 1; bit 7 for a prefix `e0`.
        code: u32,
    },
    /// The pointer.
    Pointer {
        /// Buttons that are down.
        buttons: u8,
        /// Pixels.
        x: u16,
        /// Pixels.
        y: u16,
    },
    /// So many more bytes that are of no use.
    Skip(u32),
}

/// The first message of some bytes, and how many of them it is; `None`: it is not whole. An error says why no more can be understood.
pub fn parse(bytes: &[u8]) -> Result<Option<(Message, usize)>, String> {
    let Some(kind) = bytes.first() else { return Ok(None) };
    let mut from = Bytes(bytes.get(1..).unwrap_or_default());
    let message = match kind {
        0 => {
            let Some(format) = from.pad(3).and_then(|()| from.take::<16>()) else { return Ok(None) };
            Some(Message::Format(Format::parse(&format)?))
        }
        2 => from.pad(1).and_then(|()| {
            let count = from.u16()?;
            let mut all = Vec::new();
            for _ in 0..count {
                all.push(from.u32()?.cast_signed());
            }
            Some(Message::Encodings(all))
        }),
        3 => request(&mut from),
        4 => key(&mut from),
        5 => pointer(&mut from),
        6 => {
            let Some(length) = from.pad(3).and_then(|()| from.u32()) else { return Ok(None) };
            if length > MOST_TEXT {
                return Err(format!("a clipboard of {length} bytes"));
            }
            Some(Message::Skip(length))
        }
        255 => {
            let Some([0]) = from.take::<1>() else {
                return if bytes.len() < 2 {
                    Ok(None)
                } else {
                    Err("an unknown message of QEMU's".to_owned())
                };
            };
            scancode(&mut from)
        }
        kind => return Err(format!("message {kind}, which is none of a viewer's")),
    };
    Ok(message.map(|message| (message, bytes.len() - from.0.len())))
}

fn request(from: &mut Bytes<'_>) -> Option<Message> {
    let incremental = from.u8()? != 0;
    Some(Message::Request {
        incremental,
        x: from.u16()?,
        y: from.u16()?,
        width: from.u16()?,
        height: from.u16()?,
    })
}

fn key(from: &mut Bytes<'_>) -> Option<Message> {
    let down = from.u8()? != 0;
    from.pad(2)?;
    Some(Message::Key { down, keysym: from.u32()? })
}

fn pointer(from: &mut Bytes<'_>) -> Option<Message> {
    Some(Message::Pointer { buttons: from.u8()?, x: from.u16()?, y: from.u16()? })
}

fn scancode(from: &mut Bytes<'_>) -> Option<Message> {
    let down = from.u16()? != 0;
    from.u32()?;
    Some(Message::Scancode { down, code: from.u32()? })
}

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn pad(&mut self, count: usize) -> Option<()> {
        self.0 = self.0.get(count..)?;
        Some(())
    }

    fn u8(&mut self) -> Option<u8> {
        self.take().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn samples() -> Vec<(Vec<u8>, Message)> {
        let mut format = vec![0, 0, 0, 0];
        format.extend(Format::default().bytes());
        vec![
            (format, Message::Format(Format::default())),
            (vec![2, 0, 0, 2, 0, 0, 0, 16, 0xff, 0xff, 0xff, 0x21], Message::Encodings(vec![16, -223])),
            (vec![2, 0, 0, 0], Message::Encodings(vec![])),
            (
                vec![3, 1, 0, 1, 0, 2, 0, 3, 1, 0],
                Message::Request { incremental: true, x: 1, y: 2, width: 3, height: 256 },
            ),
            (vec![4, 1, 0, 0, 0, 0, 0xff, 0x0d], Message::Key { down: true, keysym: 0xff0d }),
            (vec![5, 4, 0, 7, 1, 1], Message::Pointer { buttons: 4, x: 7, y: 257 }),
            (vec![6, 0, 0, 0, 0, 0, 0, 9], Message::Skip(9)),
            (vec![255, 0, 0, 1, 0, 0, 0, 97, 0, 0, 0, 0xc8], Message::Scancode { down: true, code: 0xc8 }),
        ]
    }

    #[test]
    fn each_message_and_no_part_of_it() {
        for (bytes, message) in samples() {
            for end in 0..bytes.len() {
                assert_eq!(parse(&bytes[..end]), Ok(None), "{message:?} cut at {end}");
            }
            let mut more = bytes.clone();
            more.extend([4, 0]);
            assert_eq!(parse(&more), Ok(Some((message, bytes.len()))));
        }
        for bad in [&[1][..], &[7, 0], &[255, 1], &[6, 0, 0, 0, 0xff, 0, 0, 0]] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(Some((_, used))) = parse(&bytes) {
                prop_assert!(used > 0 && used <= bytes.len());
            }
        }
    }
}
