//! Kernel modules: those always needed, and those of the devices that are there. What `modprobe` and `udev` do elsewhere.

use rustix::system::finit_module;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Names, one a line, of the modules that are loaded whatever the machine has.
const ALWAYS: &str = "/usr/lib/radon/modules";

/// A kernel's modules.
#[derive(Debug, Default)]
pub struct Modules {
    dir: PathBuf,
    /// Name to path and the paths it needs, those needed by others last (`modules.dep`).
    files: BTreeMap<String, Vec<String>>,
    /// Pattern and name (`modules.alias`).
    aliases: Vec<(String, String)>,
    loaded: BTreeSet<String>,
}

impl Modules {
    /// Those of the running kernel.
    pub fn open() -> Result<Self, String> {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let dir = Path::new("/lib/modules").join(release);
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))
        };
        let (files, aliases) = (parse_dep(&read("modules.dep")?), parse_alias(&read("modules.alias")?));
        Ok(Self { dir, files, aliases, loaded: BTreeSet::new() })
    }

    /// Loads those that are always needed; returns what did not succeed.
    pub fn always(&mut self) -> Vec<String> {
        let names = fs::read_to_string(ALWAYS).unwrap_or_default();
        names.lines().filter_map(|name| self.load(name).err()).collect()
    }

    /// Loads what the devices that are there ask for; returns whether there was anything new.
    pub fn coldplug(&mut self, failed: &mut Vec<String>) -> bool {
        let mut wanted: BTreeSet<String> = BTreeSet::new();
        for alias in device_aliases() {
            let matching =
                self.aliases.iter().filter(|(pattern, _)| matches(pattern.as_bytes(), alias.as_bytes()));
            wanted.extend(matching.map(|(_, name)| name.clone()));
        }
        wanted.retain(|name| !self.loaded.contains(name));
        failed.extend(wanted.iter().filter_map(|name| self.load(name).err()));
        !wanted.is_empty()
    }

    /// Loads one and what it needs.
    pub fn load(&mut self, name: &str) -> Result<(), String> {
        let name = plain(name);
        // Not in the archive: it is in the kernel.
        let Some(paths) = self.files.get(&name).filter(|_| self.loaded.insert(name.clone())) else {
            return Ok(());
        };
        for path in paths.iter().rev() {
            let file = self.dir.join(path);
            let outcome = File::open(&file).map_err(|e| e.to_string()).and_then(|file| {
                match finit_module(&file, c"", 0) {
                    // It is there already; or a driver has not found its device, which is no fault.
                    Err(rustix::io::Errno::EXIST | rustix::io::Errno::NODEV) => Ok(()),
                    other => other.map_err(|e| e.to_string()),
                }
            });
            outcome.map_err(|e| format!("module {path}: {e}"))?;
        }
        Ok(())
    }
}

/// Names are compared with `_`.
fn plain(name: &str) -> String {
    name.trim().replace('-', "_")
}

fn name_of(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    plain(name.split('.').next().unwrap_or(name))
}

fn parse_dep(text: &str) -> BTreeMap<String, Vec<String>> {
    let line = |line: &str| {
        let (path, needs) = line.split_once(':')?;
        let paths = std::iter::once(path).chain(needs.split_whitespace()).map(str::to_owned);
        Some((name_of(path), paths.collect()))
    };
    text.lines().filter_map(line).collect()
}

fn parse_alias(text: &str) -> Vec<(String, String)> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next()? == "alias").then_some(())?;
        Some((words.next()?.to_owned(), plain(words.next()?)))
    };
    text.lines().filter_map(line).collect()
}

/// What the devices say of themselves.
fn device_aliases() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.path());
    for bus in entries(Path::new("/sys/bus")) {
        for device in entries(&bus.join("devices")) {
            let alias = fs::read_to_string(device.join("modalias")).unwrap_or_default();
            if !alias.trim().is_empty() {
                found.insert(alias.trim().to_owned());
            }
        }
    }
    found
}

/// Whether a text is of a pattern with `*`, `?` and `[...]`.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (pattern, text);
    // Where to go on if this try fails: behind the last `*`, one byte of the text further.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        match (p, t) {
            ([], []) => return true,
            ([b'*', rest @ ..], _) => {
                retry = Some((rest, t));
                p = rest;
                continue;
            }
            ([b'[', ..], [byte, after @ ..]) => {
                if let Some(rest) = class(p, *byte) {
                    (p, t) = (rest, after);
                    continue;
                }
            }
            ([first, rest @ ..], [byte, after @ ..]) if *first == b'?' || first == byte => {
                (p, t) = (rest, after);
                continue;
            }
            _ => {}
        }
        match retry {
            Some((rest, [_, after @ ..])) => {
                retry = Some((rest, after));
                (p, t) = (rest, after);
            }
            _ => return false,
        }
    }
}

/// The pattern behind a class in brackets that the byte is of.
fn class(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let end = pattern.iter().position(|b| *b == b']')?;
    let (class, rest) = (pattern.get(1..end)?, pattern.get(end + 1..)?);
    let mut inside = class;
    loop {
        inside = match inside {
            [low, b'-', high, ..] if (*low..=*high).contains(&byte) => {
                return Some(rest);
            }
            [_, b'-', _, next @ ..] => next,
            [one, ..] if *one == byte => return Some(rest),
            [_, next @ ..] => next,
            [] => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn aliases_match_as_the_kernel_writes_them() {
        let yes = |p: &str, t: &str| assert!(matches(p.as_bytes(), t.as_bytes()), "{p} {t}");
        let no = |p: &str, t: &str| assert!(!matches(p.as_bytes(), t.as_bytes()), "{p} {t}");
        let nvme = "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02";
        yes("pci:v*d*sv*sd*bc01sc08i02*", nvme);
        yes("pci:v00001B36d00000010sv*sd*bc*sc*i*", nvme);
        no("pci:v00008086d000010D3sv*sd*bc*sc*i*", nvme);
        yes("usb:v0[0-9A-F]d?", "usb:v0Ad1");
        no("usb:v0[0-9]d?", "usb:v0Ad1");
        yes("*", "");
        no("", "a");
        no("[", "a");
    }

    #[test]
    fn what_a_module_needs_comes_with_it() {
        let files = parse_dep(
            "kernel/fs/xfs/xfs.ko: kernel/lib/libcrc32c.ko kernel/crypto/crc32c_generic.ko\na-b.ko:\n",
        );
        assert_eq!(files["xfs"].len(), 3);
        assert_eq!(files["a_b"], ["a-b.ko"]);
        assert_eq!(parse_alias("# x\nalias pci:v* nvme-core\nbad"), [("pci:v*".into(), "nvme_core".into())]);
    }

    proptest! {
        #[test]
        fn matching_ends_whatever_the_pattern(pattern in "[a-c*?\\[\\]-]{0,20}", text in "[a-c]{0,20}") {
            let _ = matches(pattern.as_bytes(), text.as_bytes());
            let [before, behind, longer] = [format!("*{text}"), format!("{text}*"), format!("x{text}")];
            prop_assert!(matches(behind.as_bytes(), text.as_bytes()));
            prop_assert!(matches(before.as_bytes(), longer.as_bytes()));
        }
    }
}
