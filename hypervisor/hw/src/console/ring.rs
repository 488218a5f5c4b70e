//! The log ring that `xl dmesg` reads.

/// Bytes kept, unless [`Ring::move_to`] gave it more.
pub const RING_SIZE: u32 = 64 * 1024;

/// The last bytes of the log. Positions count all bytes ever written, modulo 2^32, as
/// `XEN_SYSCTL_readconsole` wants them.
pub struct Ring {
    own: [u8; RING_SIZE as usize],
    /// Used instead of `own`; its length is a power of two.
    given: Option<&'static mut [u8]>,
    /// Position of the oldest byte that a plain read returns.
    start: u32,
    /// Position after the newest byte.
    end: u32,
}

impl Ring {
    /// An empty ring.
    pub const fn new() -> Ring {
        Ring { own: [0; RING_SIZE as usize], given: None, start: 0, end: 0 }
    }

    fn bytes(&self) -> &[u8] {
        self.given.as_deref().unwrap_or(&self.own)
    }

    /// Bytes kept at most: a power of two, so that positions may wrap around.
    pub fn size(&self) -> u32 {
        self.bytes().len() as u32
    }

    /// Keeps the log in `storage` from now on, as far as it fits. Returns false, and changes nothing, unless its length is a
    /// power of two below 2^31.
    pub fn move_to(&mut self, storage: &'static mut [u8]) -> bool {
        let size = storage.len();
        if !size.is_power_of_two() || size >= 1 << 31 {
            return false;
        }
        let kept = self.end.wrapping_sub(self.start).min(size as u32);
        self.start = self.end.wrapping_sub(kept);
        for position in (0..kept).map(|i| self.start.wrapping_add(i)) {
            let byte = self.bytes().get((position % self.size()) as usize).copied().unwrap_or_default();
            if let Some(to) = storage.get_mut(position as usize % size) {
                *to = byte;
            }
        }
        self.given = Some(storage);
        true
    }

    /// Appends, dropping the oldest.
    pub fn push(&mut self, bytes: &[u8]) {
        let storage = self.given.as_deref_mut().unwrap_or(&mut self.own);
        let size = storage.len() as u32;
        for &b in bytes {
            storage[(self.end % size) as usize] = b;
            self.end = self.end.wrapping_add(1);
        }
        if self.end.wrapping_sub(self.start) > size {
            self.start = self.end.wrapping_sub(size);
        }
    }

    /// Copies from position `from` (`None`, or one no longer kept: from the oldest) and returns the number of bytes
    /// and the position after them.
    pub fn read(&self, from: Option<u32>, buf: &mut [u8]) -> (usize, u32) {
        let kept = self.end.wrapping_sub(self.start);
        let from = from.filter(|f| f.wrapping_sub(self.start) <= kept).unwrap_or(self.start);
        let left = self.end.wrapping_sub(from) as usize;
        let n = left.min(buf.len());
        let bytes = self.bytes();
        for (i, b) in buf.iter_mut().take(n).enumerate() {
            *b = bytes[(from.wrapping_add(i as u32) % bytes.len() as u32) as usize];
        }
        (n, from.wrapping_add(n as u32))
    }

    /// Forgets everything before position `upto` (as returned by [`read`](Self::read)).
    pub fn clear(&mut self, upto: u32) {
        if upto.wrapping_sub(self.start) <= self.end.wrapping_sub(self.start) {
            self.start = upto;
        }
    }
}

impl Default for Ring {
    fn default() -> Self {
        Ring::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wraps_and_keeps_the_newest() {
        let mut r = Box::new(Ring::new());
        let data: Vec<u8> = (0..RING_SIZE + 100).map(|i| (i % 251) as u8).collect();
        r.push(&data[..100]);
        let (_, mid) = r.read(None, &mut [0; 40]);
        assert_eq!(mid, 40);
        r.push(&data[100..]);
        let mut buf = vec![0; RING_SIZE as usize + 7];
        // Position 40 is gone: reading starts at the oldest byte kept.
        let (n, next) = r.read(Some(mid), &mut buf);
        assert_eq!((n, next), (RING_SIZE as usize, RING_SIZE + 100));
        assert_eq!(buf[..n], data[100..]);
        assert_eq!(r.read(Some(next), &mut buf), (0, next));
        r.clear(next);
        assert_eq!(r.read(None, &mut buf), (0, next));
    }

    #[test]
    fn moves_with_its_content_to_more_and_to_less_room() {
        let mut r = Box::new(Ring::new());
        r.push(b"one two three");
        assert!(!r.move_to(vec![0; 48].leak()));
        assert!(r.move_to(vec![0; 4 * RING_SIZE as usize].leak()));
        let mut buf = vec![0; 4 * RING_SIZE as usize];
        let (n, next) = r.read(None, &mut buf);
        assert_eq!((&buf[..n], next), (&b"one two three"[..], 13));
        let long = vec![7; 2 * RING_SIZE as usize];
        r.push(&long);
        assert_eq!(r.read(Some(next), &mut buf), (long.len(), 13 + 2 * RING_SIZE));
        assert_eq!(buf[..long.len()], long[..]);
        r.push(b"the end");
        assert!(r.move_to(vec![0; 4].leak()));
        let (n, _) = r.read(None, &mut buf);
        assert_eq!((&buf[..n], r.size()), (&b" end"[..], 4));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn behaves_like_a_vec(ops in prop::collection::vec((0u8..3, 0usize..40_000, 0usize..70_000), 1..30)) {
            let mut r = Box::new(Ring::new());
            let (mut all, mut start) = (Vec::new(), 0usize);
            for (op, a, b) in ops {
                match op {
                    0 => {
                        let data: Vec<u8> = (0..a).map(|i| (i * 7 + b) as u8).collect();
                        r.push(&data);
                        all.extend(data);
                        start = start.max(all.len().saturating_sub(RING_SIZE as usize));
                    }
                    1 => {
                        let from = (b % 2 == 0).then_some(a);
                        let at = from.filter(|f| (start..=all.len()).contains(f)).unwrap_or(start);
                        let mut buf = vec![0; b];
                        let (n, next) = r.read(from.map(|f| f as u32), &mut buf);
                        prop_assert_eq!(n, b.min(all.len() - at));
                        prop_assert_eq!(next as usize, at + n);
                        prop_assert_eq!(&buf[..n], &all[at..at + n]);
                    }
                    _ => {
                        r.clear(a as u32);
                        if (start..=all.len()).contains(&a) { start = a; }
                    }
                }
            }
        }
    }
}
