//! The block back end over files that share blocks: on an XFS of this machine, without a hypervisor.

use super::Report;
use crate::xfs::Xfs;
use crate::{paths, shell};
use anyhow::Result;
use std::process::Command;

/// Runs the test, if the filter wants it.
pub fn run(report: &mut Report) {
    report.run("block", "clones", clones);
}

fn clones() -> Result<()> {
    let xfs = Xfs::new(paths::target().join("block-clones"), 1 << 30)?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(paths::root()).env("RADON_REFLINK", xfs.dir());
    cargo.args(["test", "--quiet", "-p", "radon-block", "--test", "share", "--", "--ignored"]);
    shell::quiet(&mut cargo)
}
