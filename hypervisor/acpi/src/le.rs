//! Little-endian fields at byte offsets of an untrusted slice.

/// The `N` bytes at `off`, or `None` past the end.
fn array<const N: usize>(b: &[u8], off: usize) -> Option<[u8; N]> {
    b.get(off..off.checked_add(N)?)?.try_into().ok()
}

pub fn u8_at(b: &[u8], off: usize) -> Option<u8> {
    b.get(off).copied()
}

pub fn u16_at(b: &[u8], off: usize) -> Option<u16> {
    array(b, off).map(u16::from_le_bytes)
}

pub fn u32_at(b: &[u8], off: usize) -> Option<u32> {
    array(b, off).map(u32::from_le_bytes)
}

pub fn u64_at(b: &[u8], off: usize) -> Option<u64> {
    array(b, off).map(u64::from_le_bytes)
}

pub fn sig_at(b: &[u8], off: usize) -> Option<[u8; 4]> {
    array(b, off)
}

pub fn array_at<const N: usize>(b: &[u8], off: usize) -> Option<[u8; N]> {
    array(b, off)
}

/// Byte sum modulo 256: zero for an intact table.
pub fn sum(b: &[u8]) -> u8 {
    b.iter().fold(0, |a, &x| a.wrapping_add(x))
}

/// Sets the byte at `at` so that `b` sums to zero.
pub fn seal(b: &mut [u8], at: usize) {
    if let Some(c) = b.get_mut(at) {
        *c = 0;
    }
    let s = sum(b);
    if let Some(c) = b.get_mut(at) {
        *c = s.wrapping_neg();
    }
}

/// Walks `type: u8, length: u8` (or with `wide`, `u16, u16`) records; yields `None` once on a record that is
/// shorter than its own header or longer than what is left.
pub struct Records<'a> {
    rest: &'a [u8],
    layout: Layout,
}

/// Where a record keeps its type and length.
#[derive(Clone, Copy)]
pub enum Layout {
    /// `type: u8, length: u8` (MADT, SRAT).
    Byte,
    /// `type: u16, length: u16` (DMAR).
    Word,
    /// `type: u8, flags: u8, length: u16` (IVRS).
    Ivrs,
}

impl<'a> Records<'a> {
    pub fn new(rest: &'a [u8], layout: Layout) -> Self {
        Self { rest, layout }
    }

    fn head(&self) -> Option<(u16, usize, usize)> {
        Some(match self.layout {
            Layout::Byte => (u8_at(self.rest, 0)?.into(), u8_at(self.rest, 1)?.into(), 2),
            Layout::Word => (u16_at(self.rest, 0)?, u16_at(self.rest, 2)?.into(), 4),
            Layout::Ivrs => (u8_at(self.rest, 0)?.into(), u16_at(self.rest, 2)?.into(), 4),
        })
    }
}

impl<'a> Iterator for Records<'a> {
    /// `(type, whole record)`, or `None` for a malformed one (after which the walk ends).
    type Item = Option<(u16, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = core::mem::take(&mut self.rest);
        let head = Self { rest, layout: self.layout }.head();
        Some(head.and_then(|(kind, len, min)| {
            if len < min {
                return None;
            }
            let (record, tail) = rest.split_at_checked(len)?;
            self.rest = tail;
            Some((kind, record))
        }))
    }
}
