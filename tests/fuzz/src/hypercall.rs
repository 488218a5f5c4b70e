//! Hypercalls and exits of two guests and, if the first byte is odd, a control domain; then everybody's end.

use crate::random::source::Source;
use crate::random::{Watch, play};

/// Most steps of one input.
const STEPS: u64 = 256;

struct Quiet;

impl Watch for Quiet {
    fn begins(&mut self, what: String) {
        if std::env::var_os("RADON_TRACE").is_some() {
            eprintln!("{what}");
        }
    }
}

pub fn run(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    play(&mut Source::of_bytes(rest), STEPS, first & 1 != 0, &mut Quiet);
}
