//! Rust's nightly toolchain, which Miri and libFuzzer need. Everything else is built by the stable one.

use crate::shell;
use anyhow::{Context, Result};
use std::process::Command;
use std::time::Duration;

/// Longest that an installation may take.
const INSTALL: Duration = Duration::from_secs(600);

/// Installs the nightly toolchain with these components, or what is missing of them.
pub fn require(components: &[&str]) -> Result<()> {
    if components.iter().all(|c| has(c)) {
        return Ok(());
    }
    println!("setup: rustup toolchain install nightly ({})", components.join(", "));
    let mut rustup = shell::command("rustup");
    rustup.args(["toolchain", "install", "nightly", "--profile", "minimal", "--no-self-update"]);
    rustup.args(components.iter().flat_map(|c| ["--component", *c]));
    shell::within(INSTALL, &rustup, shell::quiet)
        .context("the nightly toolchain is missing; cure: install Rust through rustup, with network access")
}

/// Is a component of the nightly toolchain there?
fn has(component: &str) -> bool {
    let mut rustup = shell::command("rustup");
    rustup.args(["component", "list", "--toolchain", "nightly", "--installed"]);
    shell::output(&mut rustup).is_ok_and(|list| list.lines().any(|l| l.starts_with(component)))
}

/// `cargo` of the nightly toolchain. The variables by which the calling `cargo` fixes its own are taken away.
pub fn cargo() -> Command {
    let mut cargo = shell::command("rustup");
    cargo.args(["run", "nightly", "cargo"]);
    for variable in ["RUSTUP_TOOLCHAIN", "CARGO", "RUSTC", "RUSTC_WRAPPER", "RUSTFLAGS"] {
        cargo.env_remove(variable);
    }
    cargo
}
