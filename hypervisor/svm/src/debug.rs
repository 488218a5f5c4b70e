//! DR0 to DR3, which the control block does not hold. (DR6 and DR7 are in it.)
//!
//! Few guests use them, so they are switched lazily: a vCPU's turn begins with every access intercepted, unless a breakpoint is
//! armed; at the first access the guest's values go into the processor and the intercepts go away until the turn ends.

use radon_hw::cr;

/// DR7's enable bits, local and global, of the four breakpoints.
pub const ARMED: u64 = 0xff;
/// Intercepts of all reads and writes.
pub const ALL: u32 = u32::MAX;

/// The four breakpoint addresses of one vCPU.
#[derive(Clone, Copy, Debug, Default)]
pub struct Addresses {
    kept: [u64; 4],
    /// The processor has them, and the guest may have changed them there.
    loaded: bool,
}

impl Addresses {
    /// One of them.
    pub fn get(&self, n: u8) -> u64 {
        if self.loaded { cr::read_dr(n) } else { self.kept.get(usize::from(n)).copied().unwrap_or_default() }
    }

    /// Sets one of them.
    pub fn set(&mut self, n: u8, value: u64) {
        if self.loaded {
            cr::write_dr(n, value);
        }
        if let Some(kept) = self.kept.get_mut(usize::from(n)) {
            *kept = value;
        }
    }

    /// Puts them into the processor.
    pub fn load(&mut self) {
        if !self.loaded {
            (0..).zip(self.kept).for_each(|(n, value)| cr::write_dr(n, value));
            self.loaded = true;
        }
    }

    /// Takes them out of the processor; true if they were there.
    pub fn save(&mut self) -> bool {
        if self.loaded {
            (0..).zip(&mut self.kept).for_each(|(n, kept)| *kept = cr::read_dr(n));
        }
        core::mem::take(&mut self.loaded)
    }
}
