//! Running host commands so that a failure names its cause.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Finds a program in `PATH` or in the administrators' folders.
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|p| p.is_file())
}

/// A command, found also in the administrators' folders, which a user's `PATH` may lack.
pub fn command(program: &str) -> Command {
    Command::new(which(program).unwrap_or_else(|| program.into()))
}

/// Runs to completion, showing nothing; the error holds what the command wrote to stderr.
pub fn quiet(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// Runs to completion and returns standard output; the error holds standard error.
pub fn output(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&bytes(command)?).into_owned())
}

/// The same for output that is no text.
pub fn bytes(command: &mut Command) -> Result<Vec<u8>> {
    let shown = show(command);
    let out = command.stdin(Stdio::null()).output().with_context(|| {
        format!("cannot start `{shown}`: is it installed? (`cargo xtask setup` installs it)")
    })?;
    if !out.status.success() {
        let stderr = String::from_utf8_lossy(&out.stderr);
        bail!("`{shown}` failed ({}):\n{}", out.status, stderr.trim_end());
    }
    Ok(out.stdout)
}

/// Runs to completion with the caller's own standard output and error.
pub fn loud(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// Runs a command, and what it starts, for no longer than `limit`.
pub fn within(limit: Duration, command: &Command, run: fn(&mut Command) -> Result<()>) -> Result<()> {
    let mut bounded = self::command("timeout");
    bounded
        .arg("--kill-after=5")
        .arg(limit.as_secs().to_string())
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bounded.env(name, value),
            None => bounded.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        bounded.current_dir(dir);
    }
    run(&mut bounded)
}

/// The command as a person would type it.
pub fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Writes a file and the folders above it; leaves it alone when the content is already there.
pub fn write(path: &Path, content: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    std::fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

/// A short stable fingerprint (64-bit FNV-1a) that says whether a cached thing is out of date.
pub fn fingerprint<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_too_long_is_ended() {
        let mut sleep = command("sleep");
        sleep.arg("60");
        let started = std::time::Instant::now();
        assert!(within(Duration::from_secs(1), &sleep, quiet).is_err());
        assert!(started.elapsed() < Duration::from_secs(30));
        assert!(within(Duration::from_secs(60), &command("true"), quiet).is_ok());
    }
}
