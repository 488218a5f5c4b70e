//! Size and layout of a picture in a guest's memory.

/// The longest side, in pixels.
pub const LONGEST: u16 = 4096;
/// The most memory of any picture, in bytes: of one of 4096 x 4096 pixels.
pub const MOST_MEMORY: u32 = 64 << 20;
/// Linux's least, in bytes, whatever it is given.
const LEAST_MEMORY: u32 = 2 << 20;

/// Bytes of memory that a guest's picture may have when its toolstack has said so many MiB (the node `videoram`).
pub fn given(videoram: Option<&str>) -> u32 {
    let mebibytes: u32 = videoram.and_then(|text| text.parse().ok()).unwrap_or(0);
    mebibytes.saturating_mul(1 << 20).clamp(LEAST_MEMORY, MOST_MEMORY)
}
/// Bytes of a pixel: the only format there is, `xRGB` with blue first.
pub const PIXEL: usize = 4;

/// What a guest says of its picture, not looked at yet (`struct xenfb_page`, `struct xenfb_resize` of `io/fbif.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Pixels.
    pub width: i32,
    /// Pixels.
    pub height: i32,
    /// Bytes from one row to the next.
    pub stride: u32,
    /// Bits of a pixel.
    pub depth: u32,
    /// Bytes before the first pixel.
    pub offset: u32,
    /// Bytes of the memory.
    pub memory: u32,
}

/// A picture that lies within its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    width: u16,
    height: u16,
    stride: u32,
    offset: u32,
}

impl Claim {
    /// The geometry, or what is wrong with it.
    pub fn check(self) -> Result<Geometry, String> {
        let side = |name: &str, value: i32| match u16::try_from(value) {
            Ok(side @ 1..=LONGEST) => Ok(side),
            _ => Err(format!("a {name} of {value} pixels: 1 to {LONGEST} are served")),
        };
        let (width, height) = (side("width", self.width)?, side("height", self.height)?);
        if self.depth != 8 * PIXEL as u32 {
            return Err(format!("{} bits a pixel: 32 are served", self.depth));
        }
        if self.memory > MOST_MEMORY {
            return Err(format!("{} bytes of memory: {MOST_MEMORY} are served", self.memory));
        }
        let row = u32::from(width) * PIXEL as u32;
        if self.stride < row || !self.stride.is_multiple_of(4) || !self.offset.is_multiple_of(4) {
            return Err(format!(
                "rows of {} bytes at {}: not whole pixels, or too short",
                self.stride, self.offset
            ));
        }
        let end = u64::from(self.offset) + u64::from(self.stride) * u64::from(height - 1) + u64::from(row);
        if end > u64::from(self.memory) {
            return Err(format!("a picture of {end} bytes in memory of {}", self.memory));
        }
        Ok(Geometry { width, height, stride: self.stride, offset: self.offset })
    }
}

impl Geometry {
    /// Pixels.
    pub fn width(&self) -> u16 {
        self.width
    }

    /// Pixels.
    pub fn height(&self) -> u16 {
        self.height
    }

    /// Where a pixel of the picture is in the memory.
    pub fn place(&self, x: u16, y: u16) -> usize {
        self.offset as usize + self.stride as usize * usize::from(y) + PIXEL * usize::from(x)
    }
}

/// A part of a picture; `0 x 0` for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rect {
    /// Of its left column.
    pub x: u16,
    /// Of its upper row.
    pub y: u16,
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
}

impl Rect {
    /// All of a picture.
    pub fn whole(width: u16, height: u16) -> Self {
        Self { x: 0, y: 0, width, height }
    }

    /// What a guest or a viewer claims, as far as it is within a picture.
    pub fn clipped(x: i64, y: i64, width: i64, height: i64, within: (u16, u16)) -> Self {
        let side = |start: i64, length: i64, limit: u16| {
            let limit = i64::from(limit);
            let (from, to) = (start.clamp(0, limit), start.saturating_add(length.max(0)).clamp(0, limit));
            (from as u16, (to - from).max(0) as u16)
        };
        let ((x, width), (y, height)) = (side(x, width, within.0), side(y, height, within.1));
        if width == 0 || height == 0 { Self::default() } else { Self { x, y, width, height } }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.width == 0 || self.height == 0
    }

    /// The smallest one that holds both.
    pub fn union(self, other: Self) -> Self {
        if self.is_empty() {
            return other;
        }
        if other.is_empty() {
            return self;
        }
        let (x, y) = (self.x.min(other.x), self.y.min(other.y));
        let right = (self.x + self.width).max(other.x + other.width);
        let lower = (self.y + self.height).max(other.y + other.height);
        Self { x, y, width: right - x, height: lower - y }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn linux() -> Claim {
        Claim { width: 800, height: 600, stride: 3200, depth: 32, offset: 0, memory: 2 << 20 }
    }

    #[test]
    fn linux_s_own() {
        let good = linux().check().unwrap();
        assert_eq!((good.width(), good.height(), good.place(2, 1)), (800, 600, 3208));
    }

    #[test]
    fn what_is_given_is_linux_s_least_at_least() {
        let mib = |count: u32| count << 20;
        for (node, bytes) in [
            (None, mib(2)),
            (Some("1"), mib(2)),
            (Some("3"), mib(3)),
            (Some("64"), mib(64)),
            (Some("4294967295"), mib(64)),
            (Some("-1"), mib(2)),
        ] {
            assert_eq!(given(node), bytes, "{node:?}");
        }
    }

    #[test]
    fn nonsense_is_named() {
        for (bad, why) in [
            (Claim { width: 0, ..linux() }, "width of 0"),
            (Claim { width: -5, ..linux() }, "width of -5"),
            (Claim { height: 4097, ..linux() }, "height of 4097"),
            (Claim { depth: 16, ..linux() }, "16 bits"),
            (Claim { stride: 3196, ..linux() }, "rows of 3196"),
            (Claim { stride: 3202, ..linux() }, "rows of 3202"),
            (Claim { offset: 2, ..linux() }, "at 2"),
            (Claim { memory: 600 * 3200 - 1, ..linux() }, "in memory of"),
            (Claim { offset: 4, memory: 600 * 3200, ..linux() }, "in memory of"),
            (Claim { stride: u32::MAX - 3, ..linux() }, "in memory of"),
            (Claim { memory: u32::MAX, ..linux() }, "bytes of memory"),
        ] {
            let said = bad.check().unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_lies_within(
            width in any::<i32>(), height in any::<i32>(), stride in any::<u32>(), offset in any::<u32>(),
            memory in 0u32..100 << 20, small in any::<bool>(),
        ) {
            let mut claim = Claim { width, height, stride, depth: 32, offset, memory };
            if small {
                claim = Claim { width: width & 4095, height: height & 4095, stride: stride & 0x7fff, offset: offset & 0xfffff, ..claim };
            }
            if let Ok(good) = claim.check() {
                prop_assert!(good.place(good.width() - 1, good.height() - 1) + PIXEL <= memory as usize);
            }
        }

        #[test]
        fn a_clipped_rectangle_is_within(x in any::<i64>(), y in any::<i64>(), w in any::<i64>(), h in any::<i64>()) {
            let rect = Rect::clipped(x, y, w, h, (640, 480));
            prop_assert!(u32::from(rect.x) + u32::from(rect.width) <= 640);
            prop_assert!(u32::from(rect.y) + u32::from(rect.height) <= 480);
        }

        #[test]
        fn a_union_holds_both(a in rect(), b in rect()) {
            let both = a.union(b);
            for one in [a, b].into_iter().filter(|r| !r.is_empty()) {
                prop_assert!(both.x <= one.x && both.x + both.width >= one.x + one.width);
                prop_assert!(both.y <= one.y && both.y + both.height >= one.y + one.height);
            }
        }
    }

    fn rect() -> impl Strategy<Value = Rect> {
        (0..900i64, 0..900i64, 0..900i64, 0..900i64)
            .prop_map(|(x, y, w, h)| Rect::clipped(x, y, w, h, (800, 600)))
    }
}
