//! Hypercalls and exits of two guests and, if the first byte is odd, a control domain; then everybody's end.

use std::sync::{Mutex, MutexGuard};

use crate::random::source::Source;
use crate::random::{Watch, play};

/// Most steps of one input.
const STEPS: u64 = 256;

/// Targets that run side by side share the one simulated machine with its domains: each has it alone for one input.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(|e| e.into_inner())
}

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
    let _turn = turn();
    play(&mut Source::of_bytes(rest), STEPS, first & 1 != 0, &mut Quiet);
}

/// libFuzzer takes every panic for a finding, also one that is caught; but it is by a panic that the simulated machine says
/// that the control domain switched it off.
pub fn let_machine_go_off() {
    let finding = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref::<&str>() != Some(&"CPU halted") {
            finding(info);
        }
    }));
}
