//! The promises, by theme.

mod cpuid;
mod hypercalls;

use alloc::vec::Vec;
use harness::Test;

/// All of them.
pub fn all() -> Vec<Test> {
    [cpuid::TESTS, hypercalls::TESTS].concat()
}
