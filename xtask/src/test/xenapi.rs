//! XenAPI as its clients use it: `radond` on this machine over a real XFS, driven by the SDK from PyPI.

use super::Report;
use crate::{paths, shell};
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The SDK's version: the tests are to mean the same tomorrow.
const SDK: &str = "XenAPI==26.21.1";
/// How long the clients may take.
const LIMIT: Duration = Duration::from_secs(300);

/// Runs the test, if the filter wants it.
pub fn run(report: &mut Report) {
    report.run("xenapi", "sdk", sdk);
}

/// Python with the SDK, in a folder of its own below the target directory.
fn python() -> Result<PathBuf> {
    let venv = paths::cache().join("xenapi-sdk");
    let (python, done) = (venv.join("bin/python"), venv.join(SDK));
    if done.exists() && python.exists() {
        return Ok(python);
    }
    let _ = fs::remove_dir_all(&venv);
    shell::quiet(shell::command("python3").args(["-m", "venv"]).arg(&venv))?;
    shell::quiet(Command::new(venv.join("bin/pip")).args(["install", "--quiet", SDK]))
        .context("the SDK cannot be installed from PyPI (is the network up?)")?;
    File::create(&done)?;
    Ok(python)
}

/// A mounted XFS of the test's own.
struct Mount {
    base: PathBuf,
}

impl Mount {
    fn new(base: PathBuf) -> Result<Self> {
        let (image, dir) = (base.join("image"), base.join("mnt"));
        // What a killed test left.
        let _ = shell::quiet(shell::command("umount").arg("-l").arg(&dir));
        let _ = fs::remove_dir_all(&base);
        fs::create_dir_all(&dir)?;
        File::create(&image)?.set_len(2 << 30)?;
        shell::quiet(shell::command("mkfs.xfs").args(["-q", "-m", "reflink=1"]).arg(&image))?;
        shell::quiet(shell::command("mount").args(["-o", "loop"]).arg(&image).arg(&dir)).context(
            "this test mounts a file system: run it as root, on a machine with loop devices and XFS",
        )?;
        Ok(Self { base })
    }

    fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.base.join("mnt").join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = shell::quiet(shell::command("umount").arg("-l").arg(self.base.join("mnt")));
        let _ = fs::remove_file(self.base.join("image"));
    }
}

fn sdk() -> Result<()> {
    let python = python()?;
    let mut cargo = Command::new(env!("CARGO"));
    shell::loud(cargo.current_dir(paths::root()).args(["build", "--quiet", "-p", "radon-daemon"]))?;
    let mount = Mount::new(paths::target().join("xenapi"))?;
    let state = mount.base.join("radond");
    fs::create_dir_all(&state)?;
    let script = paths::root().join("tests/xenapi/run.py");
    let mut clients = Command::new(python);
    clients.env("PYTHONDONTWRITEBYTECODE", "1").arg(script).arg(paths::target().join("debug/radond"));
    clients.arg(&state).arg(mount.folder("one")?).arg(mount.folder("two")?);
    shell::within(LIMIT, &clients, clients_pass).with_context(|| log(&state))
}

fn clients_pass(clients: &mut Command) -> Result<()> {
    let said = shell::output(clients)?;
    if !said.contains("xenapi: all passed") {
        bail!("the clients did not come to their end:\n{said}");
    }
    said.lines().for_each(|line| println!("  {line}"));
    Ok(())
}

/// The end of the daemon's log.
fn log(state: &Path) -> String {
    let text = fs::read_to_string(state.join("radond.log")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(10).collect();
    format!("radond said last:\n{}", lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
}
