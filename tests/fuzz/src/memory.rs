//! Simulated frames for one input, the same for each: simulated RAM is never given back.

use std::sync::OnceLock;

use radon_addr::Mfn;
use radon_hw::{mem, sim};

/// Frames there are.
const FRAMES: u64 = 64;

/// Hands out zeroed frames, in the same order for every input. One pool per target: targets run side by side.
pub struct Pool {
    first: Mfn,
    next: u64,
}

impl Pool {
    pub fn new(home: &OnceLock<u64>) -> Pool {
        let first = *home.get_or_init(|| sim::fresh_ram(FRAMES).raw());
        Pool { first: Mfn::new(first), next: 0 }
    }

    /// A zeroed frame; `None` when there are no more.
    pub fn frame(&mut self) -> Option<Mfn> {
        let mfn = Mfn::new(self.first.raw() + self.next);
        (self.next < FRAMES).then(|| {
            self.next += 1;
            mem::zero_frame(mfn);
            mfn
        })
    }
}
