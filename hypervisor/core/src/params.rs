//! HVM parameters (`hvm/params.h`): numbers that the toolstack and the guest leave for each other.

/// Number of parameters (`HVM_NR_PARAMS` rounded up for newer tools).
pub const COUNT: usize = 48;

/// The parameter table of one domain.
pub struct Params {
    values: [u64; COUNT],
}

impl Params {
    /// All zero.
    pub const fn new() -> Params {
        Params { values: [0; COUNT] }
    }
    /// A parameter's value; `None` for an unknown index.
    pub fn get(&self, index: u32) -> Option<u64> {
        self.values.get(index as usize).copied()
    }
    /// Sets it; false for an unknown index.
    pub fn set(&mut self, index: u32, value: u64) -> bool {
        match self.values.get_mut(index as usize) {
            Some(v) => {
                *v = value;
                true
            }
            None => false,
        }
    }
}

impl Default for Params {
    fn default() -> Self {
        Self::new()
    }
}
