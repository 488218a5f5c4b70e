//! A set of 256 interrupt vectors with its highest member at hand.

/// IRR, ISR or TMR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VectorSet {
    words: [u64; 4],
    /// Bit n: word n is not empty.
    summary: u8,
}

impl VectorSet {
    /// No vectors.
    pub const EMPTY: VectorSet = VectorSet { words: [0; 4], summary: 0 };

    const fn place(vector: u8) -> (usize, u64) {
        ((vector >> 6) as usize, 1 << (vector & 63))
    }

    /// Whether `vector` is a member.
    pub fn contains(&self, vector: u8) -> bool {
        let (word, bit) = Self::place(vector);
        self.words.get(word).is_some_and(|w| w & bit != 0)
    }

    /// Adds `vector`; whether it was absent.
    pub fn insert(&mut self, vector: u8) -> bool {
        let (index, bit) = Self::place(vector);
        let Some(word) = self.words.get_mut(index) else { return false };
        let absent = *word & bit == 0;
        *word |= bit;
        self.summary |= 1 << index;
        absent
    }

    /// Removes `vector`; whether it was present.
    pub fn remove(&mut self, vector: u8) -> bool {
        let (index, bit) = Self::place(vector);
        let Some(word) = self.words.get_mut(index) else { return false };
        let present = *word & bit != 0;
        *word &= !bit;
        if *word == 0 {
            self.summary &= !(1 << index);
        }
        present
    }

    /// The highest member.
    #[inline]
    pub fn highest(&self) -> Option<u8> {
        let index = self.summary.checked_ilog2()?;
        let bit = self.words.get(index as usize)?.checked_ilog2()?;
        Some((index << 6 | bit) as u8)
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.summary == 0
    }

    /// The 32-bit register `index` (0..=7) of the APIC's register file.
    pub fn register(&self, index: u32) -> u32 {
        let word = self.words.get((index >> 1) as usize).copied().unwrap_or(0);
        (word >> (32 * (index & 1))) as u32
    }

    /// Replaces the 32-bit register `index` (0..=7).
    pub(crate) fn set_register(&mut self, index: u32, value: u32) {
        let at = (index >> 1) as usize;
        let Some(word) = self.words.get_mut(at) else { return };
        let shift = 32 * (index & 1);
        *word = (*word & !(0xffff_ffff << shift)) | u64::from(value) << shift;
        self.summary = (self.summary & !(1 << at)) | u8::from(*word != 0) << at;
    }
}
