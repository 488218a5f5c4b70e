//! What must hold of the source itself: format, lints, where `unsafe` may stand, licences.

use super::{Report, licence};
use crate::{paths, setup, shell};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Folders (below the root) whose code may be unsafe; clippy demands a `SAFETY` comment for each block there.
const UNSAFE_ALLOWED: &[&str] = &["hypervisor/hw", "hypervisor/image", "host/xen", "tests/guests"];

/// Runs all gates.
pub fn run(report: &mut Report) {
    let cargo = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO"));
        command.current_dir(paths::root()).args(args);
        command
    };
    report.run("gates", "format", || shell::quiet(&mut cargo(&["fmt", "--all", "--check"])));
    report.run("gates", "clippy-host", || {
        shell::quiet(&mut cargo(&["clippy", "--quiet", "--all-targets", "--", "-D", "warnings"]))
    });
    report.run("gates", "clippy-image", || {
        let target = ["--target", setup::TARGET];
        shell::quiet(cargo(&["clippy", "--quiet", "-p", "radon"]).args(target).args(["--", "-D", "warnings"]))
    });
    report.run("gates", "unsafe", unsafe_gate);
    report.run("gates", "licences", licence::gate);
    report.run("gates", "file-length", || length_gate(700));
}

/// No `unsafe` outside the listed folders.
fn unsafe_gate() -> Result<()> {
    let mut found = Vec::new();
    for path in sources()? {
        let relative = path.strip_prefix(paths::root()).unwrap_or(&path);
        if UNSAFE_ALLOWED.iter().any(|dir| relative.starts_with(dir)) {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        let lines = text.lines().enumerate().filter(|(_, line)| says_unsafe(line));
        found.extend(lines.map(|(n, line)| format!("{}:{}: {}", relative.display(), n + 1, line.trim())));
    }
    if !found.is_empty() {
        bail!("unsafe code outside {}:\n{}", UNSAFE_ALLOWED.join(", "), found.join("\n"));
    }
    Ok(())
}

/// Whether a line uses the keyword as code: not in a comment, a string or as part of a longer name.
fn says_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    // Every other piece between quotation marks is a string.
    code.split('"')
        .step_by(2)
        .any(|part| part.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe"))
}

/// Long files hide things.
fn length_gate(limit: usize) -> Result<()> {
    let mut long = Vec::new();
    for path in sources()? {
        let lines = std::fs::read_to_string(&path)?.lines().count();
        if lines > limit {
            long.push(format!("{}: {lines}", path.display()));
        }
    }
    if !long.is_empty() {
        bail!("files of more than {limit} lines:\n{}", long.join("\n"));
    }
    Ok(())
}

/// All Rust files of the repository.
fn sources() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut queue: Vec<PathBuf> = ["abi", "hypervisor", "host", "tests", "xtask"]
        .iter()
        .map(|d| paths::root().join(d))
        .filter(|d| d.exists())
        .collect();
    while let Some(dir) = queue.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))? {
            let path = entry?.path();
            if path.is_dir() && !path.ends_with("target") {
                queue.push(path);
            } else if path.extension() == Path::new("x.rs").extension() {
                found.push(path);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::says_unsafe;

    #[test]
    fn only_the_keyword_counts() {
        assert!(says_unsafe("    unsafe { x() }"));
        assert!(says_unsafe("pub unsafe fn f()"));
        assert!(!says_unsafe("#![forbid(unsafe_code)]"));
        assert!(!says_unsafe("// unsafe here"));
        // Built from pieces, so that this line is no find of the gate itself.
        assert!(!says_unsafe(&format!("let s = {q}{word}{q};", q = '"', word = ["un", "safe"].concat())));
    }
}
