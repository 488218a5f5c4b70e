//! Kernel modules: which others each needs, and the `modules.dep` that modprobe reads.

use crate::cpio::Cpio;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// dom0's: Xen's device nodes, back ends, loop devices, a bridge, a file system, MSRs, drivers of emulated devices.
pub const DOM0: &[&str] = &[
    "xenfs",
    "xen-privcmd",
    "xen-evtchn",
    "xen-gntdev",
    "xen-gntalloc",
    "xen-blkback",
    "xen-netback",
    "loop",
    "bridge",
    "ext4",
    "crc32c_generic",
    "msr",
    "nvme",
    "ahci",
    "sd_mod",
    "virtio_pci",
    "virtio_blk",
    "e1000e",
];

/// A guest's: its front ends. (The cloud kernel has ext4 built in.)
pub const GUEST: &[&str] = &["xen-blkfront", "xen-netfront", "xen-privcmd", "xen-evtchn", "xenfs"];

/// Adds the modules, those they need, and a `modules.dep`, to an archive.
pub fn add(cpio: &mut Cpio, tree: &Path, version: &str, wanted: &[&str]) -> Result<()> {
    let base = format!("lib/modules/{version}");
    let all = index(&tree.join(&base))?;
    let mut chosen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut queue: Vec<String> = wanted.iter().map(|m| plain(m)).collect();
    while let Some(name) = queue.pop() {
        if chosen.contains_key(&name) {
            continue;
        }
        let path = all.get(&name).with_context(|| format!("kernel {version} has no module {name}"))?;
        let needs = depends(&std::fs::read(tree.join(&base).join(path))?);
        queue.extend(needs.iter().cloned());
        chosen.insert(name, needs);
    }
    let mut dep = String::new();
    for name in chosen.keys() {
        let path = &all[name];
        cpio.copy(&format!("usr/{base}/{}", path.display()), &tree.join(&base).join(path))?;
        dep.push_str(&format!("{}:", path.display()));
        for need in order(name, &chosen) {
            dep.push_str(&format!(" {}", all[&need].display()));
        }
        dep.push('\n');
    }
    cpio.file(&format!("usr/{base}/modules.dep"), 0o644, dep.as_bytes());
    Ok(())
}

/// All that `name` needs, directly or not; what depends on nothing comes last, as modprobe expects.
fn order(name: &str, graph: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut queue: Vec<String> = graph.get(name).cloned().unwrap_or_default();
    while !queue.is_empty() {
        let next = queue.remove(0);
        out.retain(|n| *n != next);
        queue.extend(graph.get(&next).cloned().unwrap_or_default());
        out.push(next);
    }
    out
}

/// Module names use `_` and `-` interchangeably; this form is used for comparing.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}

/// Every module below a folder: name to path relative to it.
fn index(dir: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut queue = vec![dir.to_path_buf()];
    while let Some(folder) = queue.pop() {
        for entry in
            std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?
        {
            let path = entry?.path();
            if path.is_dir() {
                queue.push(path);
            } else if path.extension().is_some_and(|e| e == "ko")
                && let (Some(stem), Ok(relative)) = (path.file_stem(), path.strip_prefix(dir))
            {
                found.insert(plain(&stem.to_string_lossy()), relative.to_path_buf());
            }
        }
    }
    Ok(found)
}

/// The `depends=` line of a module's `.modinfo` section.
fn depends(module: &[u8]) -> Vec<String> {
    let key = b"\0depends=";
    let Some(at) = module.windows(key.len()).position(|w| w == key) else { return Vec::new() };
    let rest = &module[at + key.len()..];
    let end = rest.iter().position(|b| *b == 0).unwrap_or(rest.len());
    let text = String::from_utf8_lossy(&rest[..end]);
    text.split(',').filter(|n| !n.is_empty()).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depends_is_read_from_modinfo() {
        assert_eq!(depends(b"x\0depends=jbd2,mb-cache\0name=ext4"), ["jbd2", "mb_cache"]);
        assert!(depends(b"x\0depends=\0name=loop").is_empty());
        assert!(depends(b"nothing here").is_empty());
    }

    #[test]
    fn shared_needs_come_last() {
        let edge = |to: &[&str]| to.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let graph = BTreeMap::from([
            ("top".to_owned(), edge(&["base", "mid"])),
            ("mid".to_owned(), edge(&["base"])),
            ("base".to_owned(), vec![]),
        ]);
        assert_eq!(order("top", &graph), ["mid", "base"]);
    }
}
