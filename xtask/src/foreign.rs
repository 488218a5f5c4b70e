//! Debian packages of another suite or architecture than the machine's own: fetched with apt, too, but with package lists of
//! their own under `target/cache`, so that nothing on the machine changes.

use crate::packages::{download, ensure_lists, unpack};
use crate::{paths, shell};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where packages come from.
pub struct Source {
    /// Names the cache.
    pub name: &'static str,
    /// What follows the release's name in the suite's, such as `-backports`.
    pub suite: &'static str,
    /// Debian's name of the architecture.
    pub architecture: &'static str,
    /// The packages; of one that only names another (`linux-image-amd64`), that other.
    pub roots: &'static [&'static str],
}

/// Fetches and unpacks what is not there yet; returns the tree and a fingerprint of its content. Dependencies are not followed.
pub fn tree(source: &Source) -> Result<(PathBuf, String)> {
    let dir = paths::cache().join("trees").join(source.name);
    let stamp = dir.with_extension("packages");
    let wanted = format!("{} {} {:?}\n", source.suite, source.architecture, source.roots);
    if let Ok(found) = fs::read_to_string(&stamp)
        && found.starts_with(&wanted)
    {
        return Ok((dir, shell::fingerprint([found.as_bytes()])));
    }
    println!("packages: fetching {} ({})", source.roots.join(", "), source.name);
    let apt = Apt::new(source)?;
    shell::quiet(&mut apt.command("apt-get", &["update"]))
        .with_context(|| format!("the package lists for {} could not be fetched", source.name))?;
    let packages: BTreeSet<String> = source.roots.iter().map(|r| apt.resolve(r)).collect::<Result<_>>()?;
    let debs = paths::cache().join(format!("debs-{}", source.name));
    fs::create_dir_all(&debs)?;
    let files = download(apt.command("apt-get", &["download"]), &packages, &debs)?;
    unpack(&files, &dir)?;
    let content = format!("{wanted}{}\n", packages.into_iter().collect::<Vec<_>>().join("\n"));
    fs::write(&stamp, &content)?;
    Ok((dir, shell::fingerprint([content.as_bytes()])))
}

/// apt with lists of its own.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn new(source: &Source) -> Result<Self> {
        let state = paths::cache().join(format!("apt-{}", source.name));
        for dir in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(state.join(dir))?;
        }
        let list = state.join("sources.list");
        fs::write(&list, sources(source)?)?;
        let path = |p: &Path| p.display().to_string();
        Ok(Self {
            options: vec![
                "APT::Sandbox::User=root".into(),
                format!("APT::Architecture={}", source.architecture),
                format!("APT::Architectures={}", source.architecture),
                format!("Dir::State::lists={}", path(&state.join("lists"))),
                "Dir::State::status=/dev/null".into(),
                format!("Dir::Cache={}", path(&state.join("cache"))),
                format!("Dir::Etc::sourcelist={}", path(&list)),
                "Dir::Etc::sourceparts=-".into(),
            ],
        })
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = shell::command(program);
        command.arg("-q").args(self.options.iter().flat_map(|o| ["-o", o])).args(args);
        command
    }

    /// The kernel package that a package without content of its own depends on; else the package itself.
    fn resolve(&self, root: &str) -> Result<String> {
        let text = shell::output(&mut self.command("apt-cache", &["depends", "--important", root]))?;
        let real = text
            .lines()
            .filter_map(|l| l.trim_start().strip_prefix("Depends: "))
            .find(|d| d.starts_with("linux-image-"));
        Ok(real.unwrap_or(root).to_owned())
    }
}

/// The machine's own mirror of Debian, with another suite.
fn sources(source: &Source) -> Result<String> {
    const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
    ensure_lists()?;
    let format = "$(ORIGIN) $(COMPONENT) $(CODENAME) $(REPO_URI)";
    let targets = shell::output(shell::command("apt-get").args([
        "indextargets",
        "--format",
        format,
        "Created-By: Packages",
    ]))?;
    let mut mirrors = targets.lines().filter_map(|l| {
        let words: Vec<&str> = l.split_whitespace().collect();
        match words[..] {
            // The release itself; its updates have a `-` in their names.
            ["Debian", "main", codename, uri] if !codename.contains('-') => Some((codename, uri)),
            _ => None,
        }
    });
    let Some((codename, uri)) = mirrors.next() else {
        bail!("apt knows no mirror of Debian; cure: see /etc/apt/sources.list, on Debian 12")
    };
    let signed = if Path::new(KEYS).exists() { format!("[signed-by={KEYS}] ") } else { String::new() };
    Ok(format!("deb {signed}{uri} {codename}{} main\n", source.suite))
}
