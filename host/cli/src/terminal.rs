//! The terminal that a command is on, raw for as long as that wants it.

use crate::Failed;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};
use std::io;

/// The terminal as it was, again.
pub struct Terminal(Option<Termios>);

impl Terminal {
    /// Raw from now on, if it is a terminal at all.
    pub fn make_raw() -> Result<Self, Failed> {
        let input = io::stdin();
        if !isatty(&input) {
            return Ok(Self(None));
        }
        let before = tcgetattr(&input)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&input, OptionalActions::Now, &raw)?;
        Ok(Self(Some(before)))
    }

    /// Whether it is a terminal.
    pub fn is_raw(&self) -> bool {
        self.0.is_some()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}
