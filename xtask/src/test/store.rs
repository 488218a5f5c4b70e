//! Our store's daemon against Debian's: random requests to both, on the host.

use super::Report;
use crate::packages::Packages;
use crate::store::WithoutXen;
use crate::{paths, shell};
use anyhow::Result;

/// Runs the test, if the filter wants it.
pub fn run(report: &mut Report) {
    report.run("differential", "store", differential);
}

fn differential() -> Result<()> {
    let packages = Packages::fetch()?;
    let debians = WithoutXen::build(&packages.dom0, &paths::cache().join("xenstored"))?;
    let mut cargo = shell::command(env!("CARGO"));
    cargo.current_dir(paths::root()).args(["test", "--quiet", "-p", "radon-store", "--test", "differential"]);
    cargo.args(["--", "--ignored", "--nocapture"]);
    cargo.env("RADON_XENSTORED", debians.program).env("RADON_NO_XEN", debians.shim);
    cargo.env("RADON_XEN_LIBRARIES", debians.libraries);
    shell::quiet(&mut cargo)
}
