//! Conversion between clock ticks and nanoseconds in pvclock's format.

/// `result = ((value << shift) * mul) >> 32`, a negative shift shifting right (`vcpu_time_info`, xen.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Fraction of 2^32.
    pub mul: u32,
    /// Power of two applied first.
    pub shift: i8,
}

impl Scale {
    /// The scale that turns `from` into `to`: `result ~ value * to / from`. Neither may be 0 (0 counts as 1).
    pub fn ratio(to: u64, from: u64) -> Scale {
        let (mut to, from, mut shift) = (u128::from(to.max(1)), u128::from(from.max(1)), 0i8);
        // Bring to / from into [1/2, 1), so that mul uses all its bits.
        let mut from = from;
        while to >= from {
            from <<= 1;
            shift += 1;
        }
        while to << 1 < from {
            to <<= 1;
            shift -= 1;
        }
        Scale { mul: u32::try_from((to << 32) / from).unwrap_or(u32::MAX), shift }
    }

    /// Ticks of a clock of that frequency to nanoseconds (pvclock's `tsc_to_system_mul` and `tsc_shift`).
    pub fn from_khz(khz: u64) -> Scale {
        Scale::ratio(1_000_000, khz)
    }

    /// Applies the scale; bits beyond 64 are lost.
    #[inline]
    pub fn apply(self, value: u64) -> u64 {
        let shifted = if self.shift >= 0 {
            value.wrapping_shl(self.shift as u32)
        } else {
            value.wrapping_shr(u32::from(self.shift.unsigned_abs()))
        };
        ((u128::from(shifted) * u128::from(self.mul)) >> 32) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_values() {
        // 1 GHz: one tick is one nanosecond.
        assert_eq!(Scale::from_khz(1_000_000), Scale { mul: 1 << 31, shift: 1 });
        assert_eq!(Scale::from_khz(2_000_000), Scale { mul: 1 << 31, shift: 0 });
        assert_eq!(Scale::from_khz(2_000_000).apply(10_000), 5_000);
        assert_eq!(Scale::from_khz(4_000_000), Scale { mul: 1 << 31, shift: -1 });
    }

    proptest! {
        #[test]
        fn close_to_the_exact_ratio(khz in 10_000u64..20_000_000, secs in 1u64..100_000) {
            let ticks = khz * 1000 * secs;
            let exact = u128::from(secs) * 1_000_000_000;
            let s = Scale::from_khz(khz);
            prop_assert!(s.mul >= 1 << 31);
            let error = u128::from(s.apply(ticks)).abs_diff(exact);
            // Better than one in 10^9.
            prop_assert!(error <= exact / 1_000_000_000 + 1, "{s:?} error {error}");
        }

        #[test]
        fn never_runs_backwards(khz in 10_000u64..20_000_000, a in 0u64..1 << 56, step in 0u64..1 << 30) {
            let s = Scale::from_khz(khz);
            prop_assert!(s.apply(a) <= s.apply(a + step));
        }
    }
}
