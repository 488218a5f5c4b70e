//! The MSR permission map (APM vol. 2, 15.11): two bits an MSR, set = intercepted.

use radon_addr::Maddr;
use radon_hw::mem;

/// A two-page MSR permission map in machine memory.
pub struct MsrMap {
    base: Maddr,
}

/// Bytes of an MSR permission map.
pub const MSR_MAP_BYTES: u64 = 8192;

impl MsrMap {
    /// Intercepts everything.
    pub fn intercept_all(base: Maddr) -> MsrMap {
        let mut at = 0;
        while at < MSR_MAP_BYTES {
            mem::write(Maddr::new(base.raw() + at), &u64::MAX);
            at += 8;
        }
        MsrMap { base }
    }

    /// Lets the guest read and write `msr` directly. MSRs outside the three mapped ranges stay intercepted.
    pub fn allow(&mut self, msr: u32) {
        if let Some(bit) = bit_of(msr) {
            let at = Maddr::new(self.base.raw() + bit / 8);
            let byte = mem::read::<u8>(at);
            mem::write(at, &(byte & !(3u8 << (bit % 8))));
        }
    }

    /// Address for the VMCB.
    pub fn maddr(&self) -> Maddr {
        self.base
    }
}

/// Bit offset of an MSR's pair of bits.
fn bit_of(msr: u32) -> Option<u64> {
    let (base, index) = match msr {
        0..=0x1fff => (0, msr),
        0xc000_0000..=0xc000_1fff => (0x800 * 8, msr - 0xc000_0000),
        0xc001_0000..=0xc001_1fff => (0x1000 * 8, msr - 0xc001_0000),
        _ => return None,
    };
    Some(base + u64::from(index) * 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(bit_of(0), Some(0));
        assert_eq!(bit_of(0x1fff), Some(0x3ffe));
        assert_eq!(bit_of(0xc000_0080), Some(0x4000 + 0x100));
        assert_eq!(bit_of(0xc001_0000), Some(0x8000));
        assert_eq!(bit_of(0x4000_0000), None);
    }
}
