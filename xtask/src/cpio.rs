//! Writer of cpio archives in the `newc` format (kernel: `Documentation/driver-api/early-userspace/buffer-format.rst`).
//!
//! Written here, not by cpio(1), so that device nodes and root's ownership need no privileges.

use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path};

const FILE: u32 = 0o100_000;
const DIR: u32 = 0o040_000;
const LINK: u32 = 0o120_000;
const CHAR: u32 = 0o020_000;

/// An archive being made, in memory. Parent folders are added by themselves.
#[derive(Default)]
pub struct Cpio {
    bytes: Vec<u8>,
    entries: u32,
    seen: BTreeSet<String>,
}

impl Cpio {
    /// An empty archive.
    pub fn new() -> Self {
        Self::default()
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        let path = path.trim_start_matches('/');
        if !self.seen.insert(path.to_owned()) {
            return;
        }
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.dir(parent);
        }
        self.raw(path, mode, device, data);
    }

    fn raw(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), data: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(data.len()).expect("a file in an initramfs is under 4 GiB");
        let name_len = u32::try_from(path.len() + 1).expect("a path is short");
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_len, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(path.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(data);
        self.pad();
    }

    /// A folder, and those above it.
    pub fn dir(&mut self, path: &str) {
        self.entry(path, DIR | 0o755, (0, 0), &[]);
    }

    /// A regular file with these permission bits. A path added before wins.
    pub fn file(&mut self, path: &str, mode: u32, data: &[u8]) {
        self.entry(path, FILE | mode, (0, 0), data);
    }

    /// A symbolic link at `path` that says `to`.
    pub fn link(&mut self, path: &str, to: &str) {
        self.entry(path, LINK | 0o777, (0, 0), to.as_bytes());
    }

    /// A character device node.
    pub fn node(&mut self, path: &str, major: u32, minor: u32) {
        self.entry(path, CHAR | 0o600, (major, minor), &[]);
    }

    /// Copies a host file, with its permission bits.
    pub fn copy(&mut self, path: &str, from: &Path) -> Result<()> {
        let data = std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        let mode = std::fs::metadata(from)?.permissions().mode() & 0o7777;
        self.file(path, mode, &data);
        Ok(())
    }

    /// The finished archive, padded so that another one may follow it.
    pub fn finish(mut self) -> Vec<u8> {
        self.raw("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self.bytes
    }
}

/// `a/../b` and `./` taken out of a path, without asking the file system; `/lib` and the like become `/usr/lib`.
pub fn normalise(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_string_lossy().into_owned()),
            Component::ParentDir => drop(parts.pop()),
            _ => {}
        }
    }
    if parts.first().is_some_and(|p| ["bin", "sbin", "lib", "lib64"].contains(&p.as_str())) {
        parts.insert(0, "usr".to_owned());
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_before_children_and_only_once() {
        let mut cpio = Cpio::new();
        cpio.file("/a/b/c", 0o644, b"hello");
        cpio.file("/a/b/d", 0o644, b"");
        let bytes = cpio.finish();
        let text = String::from_utf8_lossy(&bytes);
        let at = |needle: &str| text.find(needle).unwrap_or_else(|| panic!("{needle} is missing"));
        assert!(at("hello") > at("a/b/c"));
        assert_eq!(text.matches("070701").count(), 5, "a, a/b, a/b/c, a/b/d and the trailer");
        assert_eq!(bytes.len() % 512, 0);
    }

    #[test]
    fn dots_are_resolved_lexically() {
        assert_eq!(normalise(Path::new("/usr/lib/x/../y/./z")), "usr/lib/y/z");
        assert_eq!(normalise(Path::new("/lib64/ld.so")), "usr/lib64/ld.so");
    }
}
