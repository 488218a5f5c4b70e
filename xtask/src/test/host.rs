//! The host tests: `cargo test` of every default member, and the replay of the fuzz targets' corpora.

use super::Report;
use crate::paths;
use crate::scenario::Outcome;
use anyhow::Context;
use std::process::{Command, Stdio};

/// Runs them; each test is counted, failures are listed by name.
pub fn run(report: &mut Report) {
    if !report.wants("host", "") && report.filter.as_ref().is_some_and(|f| !f.starts_with("host")) {
        return;
    }
    programs(report, "cargo-test", &[]);
    programs(report, "fuzz-replay", &["--manifest-path", "tests/fuzz/Cargo.toml"]);
}

/// Runs the test programs of one workspace.
fn programs(report: &mut Report, what: &str, workspace: &[&str]) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(paths::root()).args(["test", "--quiet", "--no-fail-fast"]).stdin(Stdio::null());
    cargo.args(workspace);
    if let Some(name) = report.filter.as_ref().and_then(|f| f.strip_prefix("host/")) {
        cargo.arg(name);
    }
    let out = match cargo.output().context("cannot start cargo") {
        Ok(out) => out,
        Err(error) => return report.add("host", what, &Outcome::Fail(format!("{error:#}"))),
    };
    let stdout = String::from_utf8_lossy(&out.stdout);
    let (passed, failed) = count(&stdout);
    report.passed += passed;
    println!(
        "host ({what}): {passed} passed, {} failed in {} test programs",
        failed.len(),
        stdout.matches("test result:").count()
    );
    for name in &failed {
        report.add("host", name, &Outcome::Fail("see `cargo test`".into()));
    }
    if !out.status.success() && failed.is_empty() {
        let why = causes(&String::from_utf8_lossy(&out.stderr));
        report.add("host", what, &Outcome::Fail(format!("does not build or crashed:\n{why}")));
    }
}

/// What a test program that died has said: each panic with the lines behind it, and the end.
fn causes(stderr: &str) -> String {
    const AFTER_PANIC: usize = 4;
    const END: usize = 40;
    let lines: Vec<&str> = stderr.lines().collect();
    let end = lines.len().saturating_sub(END);
    let mut show = 0;
    let mut shown = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        if line.contains("panicked at") || line.contains("has overflowed its stack") {
            show = n + AFTER_PANIC;
        }
        if n < show || n >= end {
            shown.push(*line);
        }
    }
    shown.join("\n")
}

/// Number of passed tests and names of failed ones, from the output of `cargo test`.
fn count(output: &str) -> (u32, Vec<String>) {
    let mut passed = 0;
    let mut failed = Vec::new();
    for line in output.lines() {
        if let Some(rest) = line.split("test result: ").nth(1) {
            let number = rest.split_whitespace().zip(rest.split_whitespace().skip(1));
            passed += number
                .filter(|(_, w)| w.starts_with("passed"))
                .filter_map(|(n, _)| n.parse::<u32>().ok())
                .sum::<u32>();
        } else if let Some(name) = line.strip_prefix("---- ").and_then(|l| l.strip_suffix(" stdout ----")) {
            failed.push(name.to_owned());
        }
    }
    (passed, failed)
}

#[cfg(test)]
mod tests {
    #[test]
    fn panics_are_shown_however_much_follows() {
        let text = format!("warm\nthread 'a' panicked at x.rs:1\nthe cause\n{}last", "frame\n".repeat(90));
        let shown = super::causes(&text);
        assert!(shown.contains("the cause") && shown.ends_with("last") && !shown.contains("warm"), "{shown}");
        assert!(shown.lines().count() < 50);
    }

    #[test]
    fn cargos_summary_is_read() {
        let text = "test result: ok. 12 passed; 0 failed; 0 ignored\n---- a::b stdout ----\n\
                    test result: FAILED. 3 passed; 1 failed;\n";
        assert_eq!(super::count(text), (15, vec!["a::b".to_owned()]));
    }
}
