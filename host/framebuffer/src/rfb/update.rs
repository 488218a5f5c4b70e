//! Parts of the picture for a viewer: the message `FramebufferUpdate`.

use super::format::Format;
use super::message::Message;
use super::zrle::Stream;
use crate::geometry::Rect;

const RAW: i32 = 0;
const ZRLE: i32 = 16;
const DESKTOP_SIZE: i32 = -223;
const EXTENDED_KEY: i32 = -258;

/// What a viewer has asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taste {
    /// Its pixels.
    pub format: Format,
    /// It likes ZRLE better than plain pixels.
    pub zrle: bool,
    /// It understands that the picture gets another size.
    pub resizes: bool,
    /// It sends scancodes once it is told that they are understood.
    pub scancodes: bool,
}

impl Taste {
    /// Takes over what a message asks for.
    pub fn hear(&mut self, message: &Message) {
        match message {
            Message::Format(format) => self.format = *format,
            Message::Encodings(all) => {
                let known = all.iter().find(|e| matches!(**e, RAW | ZRLE));
                self.zrle = known == Some(&ZRLE);
                self.resizes = all.contains(&DESKTOP_SIZE);
                self.scancodes = all.contains(&EXTENDED_KEY);
            }
            _ => {}
        }
    }
}

/// One part.
#[derive(Clone, Debug)]
pub enum Part {
    /// Pixels.
    Pixels(Rect, Vec<u32>),
    /// The picture has this size now.
    Size(u16, u16),
    /// Scancodes are understood.
    Scancodes,
}

/// The message.
pub fn encode(taste: &Taste, parts: &[Part], stream: &mut Stream) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend(u16::try_from(parts.len()).unwrap_or(u16::MAX).to_be_bytes());
    for part in parts.iter().take(u16::MAX.into()) {
        match part {
            Part::Size(width, height) => head(&mut bytes, Rect::whole(*width, *height), DESKTOP_SIZE),
            Part::Scancodes => head(&mut bytes, Rect::default(), EXTENDED_KEY),
            Part::Pixels(rect, pixels) if taste.zrle => {
                head(&mut bytes, *rect, ZRLE);
                stream.put(&taste.format, pixels, rect.width, &mut bytes);
            }
            Part::Pixels(rect, pixels) => {
                head(&mut bytes, *rect, RAW);
                pixels.iter().for_each(|pixel| taste.format.put(*pixel, &mut bytes));
            }
        }
    }
    bytes
}

fn head(bytes: &mut Vec<u8>, rect: Rect, encoding: i32) {
    for number in [rect.x, rect.y, rect.width, rect.height] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend(encoding.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_likes_most_of_what_there_is() {
        let mut taste = Taste::default();
        for (all, zrle) in
            [(vec![7, 16, 0], true), (vec![5, 0, 16], false), (vec![7], false), (vec![], false)]
        {
            taste.hear(&Message::Encodings(all));
            assert_eq!(taste.zrle, zrle);
        }
        assert!(!taste.resizes && !taste.scancodes);
        taste.hear(&Message::Encodings(vec![-258, 0, -223]));
        assert!(taste.resizes && taste.scancodes);
    }

    #[test]
    fn plain_pixels_and_sizes() {
        let rect = Rect { x: 1, y: 2, width: 2, height: 1 };
        let parts = [Part::Size(640, 480), Part::Scancodes, Part::Pixels(rect, vec![0x010203, 0xff])];
        let bytes = encode(&Taste::default(), &parts, &mut Stream::default());
        let wanted = [
            &[0, 0, 0, 3][..],
            &[0, 0, 0, 0, 2, 128, 1, 224, 0xff, 0xff, 0xff, 0x21],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xfe, 0xfe],
            &[0, 1, 0, 2, 0, 2, 0, 1, 0, 0, 0, 0, 3, 2, 1, 0, 0xff, 0, 0, 0],
        ];
        assert_eq!(bytes, wanted.concat());
    }
}
