//! The encoding ZRLE (RFC 6143, 7.7.6): tiles of 64 by 64 pixels, each as one colour, by a palette of up to 16, or pixel by pixel; all of it
//! through one zlib stream for each viewer, which finds runs and repetitions by itself.

use super::format::Format;
use crate::canvas::TILE;
use miniz_oxide::deflate::core::{CompressorOxide, create_comp_flags_from_zip_params};
use miniz_oxide::deflate::stream::deflate;
use miniz_oxide::{DataFormat, MZFlush};
use std::fmt;

/// Fast rather than small: pictures change while they are on their way.
const LEVEL: i32 = 2;
/// Colours of a palette at most.
const PALETTE: usize = 16;

/// The zlib stream of one viewer.
pub struct Stream {
    compressor: Box<CompressorOxide>,
    tiles: Vec<u8>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

impl Default for Stream {
    fn default() -> Self {
        let flags = create_comp_flags_from_zip_params(LEVEL, 15, 0);
        let mut compressor = Box::new(CompressorOxide::new(flags));
        compressor.set_format_and_level(DataFormat::Zlib, LEVEL as u8);
        Self { compressor, tiles: Vec::new() }
    }
}

impl Stream {
    /// Appends a part of so many columns, as the length of the data and the data.
    pub fn put(&mut self, format: &Format, pixels: &[u32], width: u16, to: &mut Vec<u8>) {
        self.tiles.clear();
        let (row, tile) = (usize::from(width.max(1)), usize::from(TILE));
        for rows in pixels.chunks(row * tile) {
            for left in (0..row).step_by(tile) {
                let lines =
                    rows.chunks(row).map(|line| line.get(left..row.min(left + tile)).unwrap_or_default());
                put_tile(format, lines, &mut self.tiles);
            }
        }
        let start = to.len();
        to.extend([0; 4]);
        self.compress(to);
        let length = (to.len() - start - 4) as u32;
        if let Some(place) = to.get_mut(start..start + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }

    fn compress(&mut self, to: &mut Vec<u8>) {
        let mut piece = [0; 16 << 10];
        let mut rest = self.tiles.as_slice();
        loop {
            let done = deflate(&mut self.compressor, rest, &mut piece, MZFlush::Sync);
            rest = rest.get(done.bytes_consumed..).unwrap_or_default();
            to.extend(piece.get(..done.bytes_written).unwrap_or_default());
            // A piece that is not full is the last one: all that went in has come out.
            if done.bytes_written < piece.len() {
                return;
            }
        }
    }
}

fn put_tile<'a>(format: &Format, lines: impl Iterator<Item = &'a [u32]> + Clone, to: &mut Vec<u8>) {
    let mut palette: Vec<u32> = Vec::with_capacity(PALETTE);
    let few = lines.clone().flatten().all(|pixel| {
        palette.contains(pixel)
            || palette.len() < PALETTE && {
                palette.push(*pixel);
                true
            }
    });
    if !few {
        to.push(0);
        lines.flatten().for_each(|pixel| format.put_short(*pixel, to));
        return;
    }
    to.push(palette.len() as u8);
    palette.iter().for_each(|pixel| format.put_short(*pixel, to));
    let bits = match palette.len() {
        0 | 1 => return,
        2 => 1,
        3 | 4 => 2,
        _ => 4,
    };
    for line in lines {
        for pixels in line.chunks(8 / bits) {
            let places =
                pixels.iter().map(|pixel| palette.iter().position(|p| p == pixel).unwrap_or(0) as u8);
            let byte = places.enumerate().fold(0, |byte, (n, place)| byte | place << (8 - bits * (n + 1)));
            to.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use miniz_oxide::inflate::stream::{InflateState, inflate};
    use proptest::prelude::*;

    /// A viewer's half, after the RFC.
    fn decode(state: &mut InflateState, bytes: &[u8], width: usize, height: usize) -> Vec<u32> {
        let (length, mut data) = bytes.split_first_chunk().unwrap();
        assert_eq!(u32::from_be_bytes(*length) as usize, data.len());
        let mut plain = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let done = inflate(state, data, &mut piece, MZFlush::None);
            data = &data[done.bytes_consumed..];
            plain.extend(&piece[..done.bytes_written]);
            if data.is_empty() && done.bytes_written < piece.len() {
                break;
            }
        }
        let mut at = plain.into_iter();
        let pixel = |at: &mut std::vec::IntoIter<u8>| {
            let [b, g, r] = [0; 3].map(|_| u32::from(at.next().unwrap()));
            r << 16 | g << 8 | b
        };
        let mut all = vec![0; width * height];
        for (top, left) in (0..height).step_by(64).flat_map(|t| (0..width).step_by(64).map(move |l| (t, l))) {
            let (right, lower) = (width.min(left + 64), height.min(top + 64));
            let kind = usize::from(at.next().unwrap());
            assert!(kind <= 16);
            let palette: Vec<u32> = (0..kind).map(|_| pixel(&mut at)).collect();
            for y in top..lower {
                let (mut byte, mut left_bits) = (0, 0);
                for x in left..right {
                    all[y * width + x] = match kind {
                        0 => pixel(&mut at),
                        1 => palette[0],
                        _ => {
                            let bits = match kind {
                                2 => 1,
                                3 | 4 => 2,
                                _ => 4,
                            };
                            if left_bits == 0 {
                                (byte, left_bits) = (at.next().unwrap(), 8);
                            }
                            left_bits -= bits;
                            palette[usize::from(byte >> left_bits & ((1 << bits) - 1))]
                        }
                    };
                }
            }
        }
        assert_eq!(at.next(), None);
        all
    }

    proptest! {
        #[test]
        fn a_viewer_gets_the_same_picture(
            parts in prop::collection::vec((1usize..150, 1usize..150, 1u32..40, any::<u32>()), 1..5)
        ) {
            let mut stream = Stream::default();
            let mut state = InflateState::new_boxed(DataFormat::Zlib);
            for (width, height, colours, seed) in parts {
                let pixels: Vec<u32> = (0..width * height)
                    .map(|n| ((n as u32).wrapping_mul(seed | 1) / 7 % colours * 0x01_0f_3d) & 0xff_ffff)
                    .collect();
                let mut bytes = Vec::new();
                stream.put(&Format::default(), &pixels, width as u16, &mut bytes);
                prop_assert_eq!(decode(&mut state, &bytes, width, height), pixels);
            }
        }
    }

    #[test]
    fn text_on_black_is_small() {
        let mut bytes = Vec::new();
        let pixels: Vec<u32> =
            (0..640 * 480).map(|n| if n % 640 < 100 && n % 7 == 0 { 0xaa_aaaa } else { 0 }).collect();
        Stream::default().put(&Format::default(), &pixels, 640, &mut bytes);
        assert!(bytes.len() < 8000, "{} bytes", bytes.len());
        // More than one piece of the compressor's output.
        let noise: Vec<u32> = (0..640 * 480u32).map(|n| n.wrapping_mul(2_654_435_761) >> 8).collect();
        let mut bytes = Vec::new();
        Stream::default().put(&Format::default(), &noise, 640, &mut bytes);
        let mut state = InflateState::new_boxed(DataFormat::Zlib);
        assert_eq!(decode(&mut state, &bytes, 640, 480), noise);
    }
}
