//! Where random choices come from: a seeded generator, or the bytes of a fuzzer.

/// A stream of choices.
pub struct Source<'a> {
    bytes: &'a [u8],
    state: u64,
    endless: bool,
}

impl<'a> Source<'a> {
    /// An endless stream that a seed determines (SplitMix64).
    #[allow(dead_code)] // of the seeded test
    pub fn seeded(seed: u64) -> Source<'static> {
        Source { bytes: &[], state: seed, endless: true }
    }

    /// The bytes of a fuzzer; zeros when they are used up.
    #[allow(dead_code)] // of the fuzz target
    pub fn of_bytes(bytes: &'a [u8]) -> Source<'a> {
        Source { bytes, state: 0, endless: false }
    }

    /// Are the fuzzer's bytes used up?
    pub fn done(&self) -> bool {
        !self.endless && self.bytes.is_empty()
    }

    fn bits(&mut self, bytes: usize) -> u64 {
        if self.endless {
            self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.state;
            z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            return z ^ z >> 31;
        }
        let n = bytes.min(self.bytes.len());
        let (now, rest) = self.bytes.split_at(n);
        self.bytes = rest;
        now.iter().rev().fold(0, |v, &b| v << 8 | u64::from(b))
    }

    /// Any word.
    pub fn word(&mut self) -> u64 {
        self.bits(8)
    }

    /// A number below `n` (> 0).
    pub fn below(&mut self, n: u64) -> u64 {
        let bytes = match n {
            0..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            0x1_0001..=0x1_0000_0000 => 4,
            _ => 8,
        };
        self.bits(bytes) % n
    }

    /// True in `percent` of the cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of some values.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// A word as a careless or malicious guest would choose it: mostly small, sometimes a boundary, sometimes anything.
    pub fn odd_word(&mut self) -> u64 {
        match self.below(8) {
            0..=3 => self.below(16),
            4 => self.below(0x1000),
            5 => 1u64 << self.below(64),
            6 => u64::MAX >> self.below(64),
            _ => self.word(),
        }
    }
}
