//! The guest that measures: the same image under the name by which `cargo xtask bench` knows it.
#![no_std]
#![no_main]
#![allow(
    unsafe_code,
    reason = "exports the function that the harness calls; there is no other unsafe code here"
)]

/// Called by the harness.
#[unsafe(no_mangle)]
fn guest_main(command_line: &str) {
    verdict::main(command_line);
}
