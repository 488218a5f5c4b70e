//! A set of physical CPUs.

use radon_addr::CpuId;

/// CPUs that a [`CpuSet`] can hold.
pub const MAX_CPUS: usize = 256;
const WORDS: usize = MAX_CPUS / 64;

/// A set of physical CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuSet([u64; WORDS]);

impl CpuSet {
    /// No CPU.
    pub const EMPTY: CpuSet = CpuSet([0; WORDS]);
    /// Every CPU, existing or not: no restriction.
    pub const ALL: CpuSet = CpuSet([u64::MAX; WORDS]);

    /// One CPU (none if out of range).
    pub fn only(cpu: CpuId) -> CpuSet {
        let mut set = CpuSet::EMPTY;
        set.insert(cpu);
        set
    }

    /// Adds a CPU; out of range it is ignored.
    pub fn insert(&mut self, cpu: CpuId) {
        if let Some(w) = self.0.get_mut(cpu.index() / 64) {
            *w |= 1 << (cpu.index() % 64);
        }
    }

    /// Takes a CPU out.
    pub fn remove(&mut self, cpu: CpuId) {
        if let Some(w) = self.0.get_mut(cpu.index() / 64) {
            *w &= !(1 << (cpu.index() % 64));
        }
    }

    /// Is the CPU a member?
    pub fn contains(&self, cpu: CpuId) -> bool {
        self.0.get(cpu.index() / 64).is_some_and(|w| w & 1 << (cpu.index() % 64) != 0)
    }

    /// CPUs in both.
    pub fn and(mut self, other: &CpuSet) -> CpuSet {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a &= b);
        self
    }

    /// CPUs in this one only.
    pub fn without(mut self, other: &CpuSet) -> CpuSet {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a &= !b);
        self
    }

    /// No member.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.0.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// Lowest member.
    pub fn first(&self) -> Option<CpuId> {
        self.iter().next()
    }

    /// Highest member.
    pub fn last(&self) -> Option<CpuId> {
        let (i, w) = self.0.iter().enumerate().rev().find(|(_, w)| **w != 0)?;
        Some(CpuId::new((i * 64) as u32 + 63 - w.leading_zeros()))
    }

    /// Members in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = CpuId> + use<> {
        let words = self.0;
        let mut index = 0;
        let mut rest = words[0];
        core::iter::from_fn(move || {
            while rest == 0 {
                index += 1;
                rest = *words.get(index)?;
            }
            let bit = rest.trailing_zeros();
            rest &= rest - 1;
            Some(CpuId::new((index * 64) as u32 + bit))
        })
    }

    /// From a bitmap as in `xenctl_bitmap`: bit n of the byte string, lowest first, is CPU n. Bits beyond
    /// [`MAX_CPUS`] are dropped.
    pub fn from_le_bytes(bytes: &[u8]) -> CpuSet {
        let mut set = CpuSet::EMPTY;
        for (word, chunk) in set.0.iter_mut().zip(bytes.chunks(8)) {
            let mut eight = [0; 8];
            eight.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            *word = u64::from_le_bytes(eight);
        }
        set
    }

    /// As a bitmap of `xenctl_bitmap`.
    pub fn to_le_bytes(&self) -> [u8; MAX_CPUS / 8] {
        let mut bytes = [0; MAX_CPUS / 8];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

impl FromIterator<CpuId> for CpuSet {
    fn from_iter<I: IntoIterator<Item = CpuId>>(cpus: I) -> CpuSet {
        let mut set = CpuSet::EMPTY;
        cpus.into_iter().for_each(|c| set.insert(c));
        set
    }
}

impl Extend<CpuId> for CpuSet {
    fn extend<I: IntoIterator<Item = CpuId>>(&mut self, cpus: I) {
        cpus.into_iter().for_each(|c| self.insert(c));
    }
}
