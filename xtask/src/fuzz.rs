//! `cargo xtask fuzz`: the targets of `tests/fuzz` under libFuzzer, guided by coverage.

use crate::{nightly, paths, shell};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest that installing `cargo-fuzz` or building the targets may take.
const BUILD: Duration = Duration::from_secs(1200);
/// Longer inputs reach nothing that shorter ones do not.
const MAX_LEN: u32 = 4096;
/// An input that takes longer than this many seconds is a finding.
const TIMEOUT: u32 = 25;
/// So is one that takes more memory (MiB).
const MEMORY: u32 = 3072;

/// Arguments of `fuzz`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// One target (default: all, one after the other)
    target: Option<String>,
    /// How long to try each
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Add inputs that reach something new to `tests/fuzz/corpus`, at most this many per target, of all sizes
    #[arg(long, default_value_t = 0)]
    keep: usize,
}

/// Runs them; what was found lies in `target/fuzz-findings`.
pub fn run(args: &Args) -> Result<()> {
    nightly::require(&["rust-src", "rustc"])?;
    if shell::which("cargo-fuzz").is_none() && !cargo_home().join("bin/cargo-fuzz").exists() {
        println!("setup: cargo install cargo-fuzz");
        let mut install = shell::command("cargo");
        install.args(["install", "cargo-fuzz", "--locked"]);
        shell::within(BUILD, &install, shell::quiet).context("cargo-fuzz cannot be installed")?;
    }
    let all = targets()?;
    let wanted: Vec<&String> = match &args.target {
        None => all.iter().collect(),
        Some(name) => {
            let found = all.iter().find(|t| *t == name);
            vec![found.with_context(|| format!("no target {name:?}; there are: {}", all.join(" ")))?]
        }
    };
    let mut findings = Vec::new();
    for name in wanted {
        println!("== {name}: {} s", args.seconds);
        if let Err(error) = one(name, args) {
            println!("FINDING in {name}: {error:#}");
            findings.push(name.as_str());
        }
    }
    ensure!(findings.is_empty(), "findings in {}", findings.join(" "));
    Ok(())
}

/// Names of all targets: each has a corpus.
fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(committed(""))? {
        names.extend(entry?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

fn one(name: &str, args: &Args) -> Result<()> {
    let work = paths::target().join("fuzz-corpus").join(name);
    let artifacts = paths::target().join("fuzz-findings").join(name);
    std::fs::create_dir_all(&work)?;
    std::fs::create_dir_all(&artifacts)?;
    let mut cargo = libfuzzer(name, &[&work, &committed(name)]);
    cargo
        .arg(format!("-max_total_time={}", args.seconds))
        .args([format!("-max_len={MAX_LEN}"), format!("-timeout={TIMEOUT}")])
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()));
    shell::within(BUILD + Duration::from_secs(args.seconds), &cargo, shell::loud)?;
    if args.keep > 0 { keep(name, &work, args.keep) } else { Ok(()) }
}

/// `cargo fuzz run` of a target over some corpora.
fn libfuzzer(name: &str, corpora: &[&Path]) -> std::process::Command {
    let mut cargo = nightly::cargo();
    cargo.current_dir(paths::root().join("tests/fuzz"));
    // No sanitizer: there is no unsafe code in what is tried but the simulated machine's.
    cargo.args(["fuzz", "run", "-s", "none", name]).args(corpora).arg("--");
    cargo
}

fn committed(name: &str) -> PathBuf {
    paths::root().join("tests/fuzz/corpus").join(name)
}

fn cargo_home() -> PathBuf {
    let home = std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".cargo"));
    std::env::var_os("CARGO_HOME").map(PathBuf::from).or(home).unwrap_or_default()
}

/// Of the inputs found: some of those that reach what the committed ones do not.
fn keep(name: &str, work: &Path, most: usize) -> Result<()> {
    let merged = paths::target().join("fuzz-merged").join(name);
    let _ = std::fs::remove_dir_all(&merged);
    std::fs::create_dir_all(&merged)?;
    for old in std::fs::read_dir(committed(name))? {
        let old = old?;
        std::fs::copy(old.path(), merged.join(old.file_name()))?;
    }
    let mut cargo = libfuzzer(name, &[&merged, work]);
    cargo.args(["-set_cover_merge=1", "-verbosity=0"]);
    shell::within(BUILD, &cargo, shell::quiet)?;
    let mut new = Vec::new();
    for entry in std::fs::read_dir(&merged)? {
        let (path, file) = entry.map(|e| (e.path(), e.file_name()))?;
        if !committed(name).join(&file).exists() {
            new.push((path.metadata()?.len(), path));
        }
    }
    // Of all sizes: the short ones are quick, the long ones reach what is deep.
    new.sort();
    let step = new.len().div_ceil(most).max(1);
    let new: Vec<_> = new.into_iter().step_by(step).collect();
    for (_, path) in &new {
        let Some(file) = path.file_name() else { bail!("{} has no name", path.display()) };
        std::fs::copy(path, committed(name).join(file))?;
    }
    println!("{name}: {} new inputs kept", new.len());
    Ok(())
}
