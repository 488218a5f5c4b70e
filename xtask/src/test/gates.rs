//! What must hold of the source itself: format, lints, where `unsafe` may stand, licences.

use super::{Report, licence};
use crate::{paths, setup, shell};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Modules (below the root) whose code may be unsafe; clippy demands a `SAFETY` comment for each block there.
const UNSAFE_ALLOWED: &[&str] = &[
    "hypervisor/hw/src/cpu.rs",
    "hypervisor/hw/src/cr.rs",
    "hypervisor/hw/src/extable.rs",
    "hypervisor/hw/src/fpu.rs",
    "hypervisor/hw/src/irq.rs",
    "hypervisor/hw/src/lock",
    "hypervisor/hw/src/mem.rs",
    "hypervisor/hw/src/mmio.rs",
    "hypervisor/hw/src/msr.rs",
    "hypervisor/hw/src/percpu.rs",
    "hypervisor/hw/src/port.rs",
    "hypervisor/hw/src/reset.rs",
    "hypervisor/hw/src/sim/ram.rs",
    "hypervisor/hw/src/svm.rs",
    "hypervisor/hw/src/time/tsc.rs",
    "hypervisor/image/src/crash.rs",
    "hypervisor/image/src/heap.rs",
    "hypervisor/image/src/layout.rs",
    "hypervisor/image/src/pages.rs",
    "hypervisor/image/src/paging.rs",
    "hypervisor/image/src/segments.rs",
    "hypervisor/image/src/selftest.rs",
    "hypervisor/image/src/smp.rs",
    "hypervisor/image/src/start.rs",
    "hypervisor/image/src/symbols.rs",
    "hypervisor/image/src/traps.rs",
    // What dom0's programs ask of the kernel: its devices and the pages they map.
    "host/xen",
    "host/linux/src/block.rs",
    "host/linux/src/fiemap.rs",
    "host/linux/src/loopdev.rs",
    "host/linux/src/reflink.rs",
    "host/linux/src/uring.rs",
    // Bare-metal test guests: their start, instructions and traps.
    "tests/guests",
];

/// Workspaces besides the main one.
const WORKSPACES: &[&str] =
    &["tests/guests/Cargo.toml", "tests/fuzz/Cargo.toml", "tests/fuzz/fuzz/Cargo.toml"];

/// Runs all gates.
pub fn run(report: &mut Report) {
    let cargo = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO"));
        command.current_dir(paths::root()).args(args);
        command
    };
    report.run("gates", "format", || {
        shell::quiet(&mut cargo(&["fmt", "--all", "--check"]))?;
        let mut others = WORKSPACES.iter();
        others.try_for_each(|m| shell::quiet(&mut cargo(&["fmt", "--all", "--check", "--manifest-path", m])))
    });
    report.run("gates", "clippy-host", || {
        shell::quiet(&mut cargo(&["clippy", "--quiet", "--all-targets", "--", "-D", "warnings"]))
    });
    report.run("gates", "clippy-image", || {
        let target = ["--target", setup::TARGET];
        shell::quiet(cargo(&["clippy", "--quiet", "-p", "radon"]).args(target).args(["--", "-D", "warnings"]))
    });
    report.run("gates", "clippy-guests", || {
        let guests =
            ["clippy", "--quiet", "--manifest-path", "tests/guests/Cargo.toml", "--target", setup::TARGET];
        shell::quiet(cargo(&guests).args(["--", "-D", "warnings"]))
    });
    report.run("gates", "clippy-fuzz", || {
        let fuzz = ["clippy", "--quiet", "--manifest-path", "tests/fuzz/Cargo.toml", "--all-targets"];
        shell::quiet(cargo(&fuzz).args(["--", "-D", "warnings"]))
    });
    report.run("gates", "unsafe", unsafe_gate);
    report.run("gates", "licences", licence::gate);
    report.run("gates", "file-length", || length_gate(700));
}

/// No `unsafe` outside the listed modules, and none of those has become safe meanwhile.
fn unsafe_gate() -> Result<()> {
    let mut found = Vec::new();
    let mut unused: Vec<&str> = UNSAFE_ALLOWED.to_vec();
    for path in sources()? {
        let relative = path.strip_prefix(paths::root()).unwrap_or(&path);
        let text = std::fs::read_to_string(&path)?;
        let lines: Vec<_> = text.lines().enumerate().filter(|(_, line)| says_unsafe(line)).collect();
        if lines.is_empty() {
            continue;
        }
        if UNSAFE_ALLOWED.iter().any(|allowed| relative.starts_with(allowed)) {
            unused.retain(|allowed| !relative.starts_with(allowed));
            continue;
        }
        found.extend(lines.iter().map(|(n, l)| format!("{}:{}: {}", relative.display(), n + 1, l.trim())));
    }
    if !found.is_empty() {
        bail!("unsafe code outside the listed modules (xtask/src/test/gates.rs):\n{}", found.join("\n"));
    }
    if !unused.is_empty() {
        bail!("listed for unsafe code, but without any: {}", unused.join(", "));
    }
    Ok(())
}

/// Whether a line uses the keyword as code: not in a comment, a string or as part of a longer name.
fn says_unsafe(line: &str) -> bool {
    // Every other piece between quotation marks is a string; a comment begins in one that is none.
    let mut pieces = line.split('"').step_by(2);
    let mut code = Vec::new();
    for piece in &mut pieces {
        let (before, comment) = piece.split_once("//").map_or((piece, false), |(before, _)| (before, true));
        code.push(before);
        if comment {
            break;
        }
    }
    code.iter()
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
        assert!(says_unsafe(&format!(
            "let url = {q}a://b{q}; {word} {{ x() }}",
            q = '"',
            word = ["un", "safe"].concat()
        )));
        // Built from pieces, so that this line is no find of the gate itself.
        assert!(!says_unsafe(&format!("let s = {q}{word}{q};", q = '"', word = ["un", "safe"].concat())));
    }
}
