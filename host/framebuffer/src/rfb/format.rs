//! How a viewer wants pixels.

/// A pixel format (RFC 6143, 7.4) that is served: true colour of 8, 16 or 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Bytes of a pixel: 1, 2 or 4.
    bytes: usize,
    depth: u8,
    big_endian: bool,
    /// Red, green, blue: the greatest value, and how far it is shifted.
    colours: [(u16, u8); 3],
}

impl Default for Format {
    /// The guest's own.
    fn default() -> Self {
        Self { bytes: 4, depth: 24, big_endian: false, colours: [(255, 16), (255, 8), (255, 0)] }
    }
}

impl Format {
    /// From its 16 bytes; an error says what is not served.
    pub fn parse(bytes: &[u8; 16]) -> Result<Self, String> {
        let &[bits, depth, big_endian, true_colour, r1, r0, g1, g0, b1, b0, r, g, b, _, _, _] = bytes;
        if true_colour == 0 {
            return Err("pixels by colour map".to_owned());
        }
        if !matches!(bits, 8 | 16 | 32) {
            return Err(format!("pixels of {bits} bits"));
        }
        let max = |high, low| u16::from_be_bytes([high, low]);
        let colours = [(max(r1, r0), r), (max(g1, g0), g), (max(b1, b0), b)];
        let fits = |(max, shift): (u16, u8)| shift < bits && u64::from(max) << shift < 1 << bits;
        if !colours.into_iter().all(fits) {
            return Err("colours that do not fit in a pixel".to_owned());
        }
        Ok(Self { bytes: usize::from(bits / 8), depth, big_endian: big_endian != 0, colours })
    }

    /// Its 16 bytes.
    pub fn bytes(&self) -> [u8; 16] {
        let [(red, r), (green, g), (blue, b)] = self.colours;
        let ([r1, r0], [g1, g0], [b1, b0]) = (red.to_be_bytes(), green.to_be_bytes(), blue.to_be_bytes());
        let bits = (self.bytes * 8) as u8;
        [bits, self.depth, self.big_endian.into(), 1, r1, r0, g1, g0, b1, b0, r, g, b, 0, 0, 0]
    }

    /// A pixel `0x00RRGGBB` in this format.
    fn convert(&self, pixel: u32) -> u32 {
        let mut all = 0;
        for ((max, shift), from) in self.colours.into_iter().zip([16, 8, 0]) {
            let colour = pixel >> from & 0xff;
            all |= ((colour * u32::from(max) + 127) / 255) << shift;
        }
        all
    }

    /// Appends a pixel.
    pub fn put(&self, pixel: u32, to: &mut Vec<u8>) {
        self.put_bytes(pixel, 0..self.bytes, to);
    }

    /// Appends a pixel as ZRLE has it: three bytes where all colours are in three (RFC 6143, 7.7.5).
    pub fn put_short(&self, pixel: u32, to: &mut Vec<u8>) {
        let mask = self.colours.into_iter().fold(0, |mask, (max, shift)| mask | u32::from(max) << shift);
        let short = self.bytes == 4 && self.depth <= 24;
        // Bytes of the little-endian number that count.
        let range = match () {
            () if short && mask >> 24 == 0 => 0..3,
            () if short && mask & 0xff == 0 => 1..4,
            () => 0..self.bytes,
        };
        self.put_bytes(pixel, range, to);
    }

    fn put_bytes(&self, pixel: u32, range: std::ops::Range<usize>, to: &mut Vec<u8>) {
        let bytes = self.convert(pixel).to_le_bytes();
        let bytes = bytes.get(range).unwrap_or_default();
        if self.big_endian { to.extend(bytes.iter().rev()) } else { to.extend(bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: [u8; 13]) -> Result<Format, String> {
        let mut bytes = [0; 16];
        bytes[..13].copy_from_slice(&text);
        Format::parse(&bytes)
    }

    fn both(format: Format) -> (Vec<u8>, Vec<u8>) {
        let (mut long, mut short) = (Vec::new(), Vec::new());
        format.put(0x112233, &mut long);
        format.put_short(0x112233, &mut short);
        (long, short)
    }

    #[test]
    fn of_several_viewers() {
        assert_eq!(both(Format::default()), (vec![0x33, 0x22, 0x11, 0], vec![0x33, 0x22, 0x11]));
        let rgba = parse([32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16]).unwrap();
        assert_eq!(both(rgba), (vec![0x11, 0x22, 0x33, 0], vec![0x11, 0x22, 0x33]));
        let big = parse([32, 24, 1, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0]).unwrap();
        assert_eq!(both(big), (vec![0, 0x11, 0x22, 0x33], vec![0x11, 0x22, 0x33]));
        let high = parse([32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 24, 16, 8]).unwrap();
        assert_eq!(both(high), (vec![0, 0x33, 0x22, 0x11], vec![0x33, 0x22, 0x11]));
        // As many as say that all 32 bits are colour.
        let deep = parse([32, 32, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0]).unwrap();
        assert_eq!(both(deep).1.len(), 4);
        let r565 = parse([16, 16, 0, 1, 0, 31, 0, 63, 0, 31, 11, 5, 0]).unwrap();
        let pixel: u16 = 2 << 11 | 8 << 5 | 6;
        assert_eq!(both(r565), (pixel.to_le_bytes().to_vec(), pixel.to_le_bytes().to_vec()));
        let tiny = parse([8, 8, 0, 1, 0, 7, 0, 7, 0, 3, 0, 3, 6]).unwrap();
        assert_eq!(both(tiny).0, [1 << 3 | 1 << 6]);
        for (bad, why) in [
            ([8, 8, 0, 0, 0, 7, 0, 7, 0, 3, 0, 3, 6], "colour map"),
            ([24, 24, 0, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16], "24 bits"),
            ([16, 16, 0, 1, 0, 31, 0, 63, 0, 31, 12, 5, 0], "fit"),
            ([32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 0, 8, 200], "fit"),
        ] {
            assert!(parse(bad).unwrap_err().contains(why), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in any::<[u8; 16]>(), pixel in 0u32..1 << 24) {
            if let Ok(format) = Format::parse(&bytes) {
                let mut out = Vec::new();
                format.put(pixel, &mut out);
                prop_assert_eq!(out.len(), format.bytes);
                format.put_short(pixel, &mut out);
                prop_assert_eq!(Format::parse(&format.bytes()), Ok(format));
            }
        }
    }
}
