//! The licence gate: every crate that is linked must carry a licence we accept.

use crate::{paths, shell};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::process::Command;

/// Licences compatible with `Apache-2.0 OR MIT`.
const ACCEPTED: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "0BSD",
    "Zlib",
    "Unicode-3.0",
    "Unlicense",
    "CC0-1.0",
    "MIT-0",
    "Apache-2.0 WITH LLVM-exception",
    "BSL-1.0",
    "NCSA",
];

/// Checks every package of the workspace's dependency graph, and of the test guests'.
pub fn gate() -> Result<()> {
    let mut refused = Vec::new();
    for manifest in
        ["Cargo.toml", "tests/guests/Cargo.toml", "tests/fuzz/Cargo.toml", "tests/fuzz/fuzz/Cargo.toml"]
    {
        let manifest = paths::root().join(manifest);
        if !manifest.exists() {
            continue;
        }
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["metadata", "--format-version", "1", "--manifest-path"]).arg(&manifest);
        let metadata: Value = serde_json::from_str(&shell::output(&mut cargo)?)?;
        let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
        for package in packages {
            let (name, licence) = (&package["name"], package["license"].as_str().unwrap_or("none"));
            if !accepts(licence) {
                refused.push(format!("{name} has licence {licence}"));
            }
        }
    }
    if !refused.is_empty() {
        bail!("licences outside the allow list:\n{}", refused.join("\n"));
    }
    Ok(())
}

/// Whether a licence expression (SPDX, or the older `A/B`) can be met with accepted licences alone.
fn accepts(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, at: 0 };
    parser.any() && parser.at == words.len()
}

struct Parser<'a> {
    words: &'a [&'a str],
    at: usize,
}

impl Parser<'_> {
    fn take(&mut self, word: &str) -> bool {
        let found = self.words.get(self.at) == Some(&word);
        self.at += usize::from(found);
        found
    }

    fn any(&mut self) -> bool {
        let mut good = self.all();
        while self.take("OR") {
            good |= self.all();
        }
        good
    }

    fn all(&mut self) -> bool {
        let mut good = self.one();
        while self.take("AND") {
            good &= self.one();
        }
        good
    }

    fn one(&mut self) -> bool {
        if self.take("(") {
            let good = self.any();
            return self.take(")") && good;
        }
        let Some(name) = self.words.get(self.at) else {
            // No complete expression: nothing that follows may make it good.
            self.at = usize::MAX;
            return false;
        };
        self.at += 1;
        let mut licence = (*name).to_owned();
        if self.take("WITH") {
            let exception = self.words.get(self.at).copied().unwrap_or_default();
            self.at += 1;
            licence = format!("{licence} WITH {exception}");
        }
        ACCEPTED.contains(&licence.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::accepts;

    #[test]
    fn expressions_are_judged() {
        for good in ["MIT", "MIT/Apache-2.0", "GPL-2.0 OR MIT", "(MIT OR Apache-2.0) AND Unicode-3.0"] {
            assert!(accepts(good), "{good}");
        }
        assert!(accepts("Apache-2.0 WITH LLVM-exception OR GPL-3.0"));
        for bad in ["GPL-2.0", "MIT AND GPL-2.0", "none", "", "MIT OR", "(MIT", "MIT Apache-2.0"] {
            assert!(!accepts(bad), "{bad}");
        }
    }
}
