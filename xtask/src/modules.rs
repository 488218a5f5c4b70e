//! Kernel modules: which others each needs, and the `modules.dep` that modprobe reads.

use crate::cpio::Cpio;
use crate::shell;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// dom0's: Xen's device nodes, back ends, loop devices, bridges, VLANs, overlays, a packet filter, a file system, MSRs, drivers of emulated devices.
/// The checksum comes first: others look for it when they are loaded.
pub const DOM0: &[&str] = &[
    "crc32c_generic",
    "xenfs",
    "xen-privcmd",
    "xen-evtchn",
    "xen-gntdev",
    "xen-gntalloc",
    "xen-blkback",
    "xen-netback",
    "loop",
    "bridge",
    "veth",
    "vxlan",
    "8021q",
    "sch_tbf",
    "nf_tables",
    "nft_meta_bridge",
    "nft_chain_nat",
    "nft_masq",
    "nft_ct",
    "nft_limit",
    "ext4",
    "msr",
    "nvme",
    "ahci",
    "sd_mod",
    "virtio_pci",
    "virtio_blk",
    "e1000e",
    "xfs",
    "null_blk",
];

/// Drivers of machines' disks, network cards and controllers that the host image has besides; loaded where there is such a device.
pub const MACHINES: &[&str] = &[
    "megaraid_sas",
    "mpt3sas",
    "virtio_scsi",
    "virtio_net",
    "igb",
    "ixgbe",
    "i40e",
    "bnxt_en",
    "tg3",
    "r8169",
    "ata_piix",
];

/// A guest's: its front ends. (The cloud kernel has ext4 built in.)
pub const GUEST: &[&str] = &["xen-blkfront", "xen-netfront", "xen-privcmd", "xen-evtchn", "xenfs"];

/// Adds the modules, those they need, and a `modules.dep`, to an archive.
pub fn add(cpio: &mut Cpio, tree: &Path, version: &str, wanted: &[&str]) -> Result<()> {
    let base = format!("lib/modules/{version}");
    let all = index(&tree.join(&base))?;
    let built_in = std::fs::read_to_string(tree.join(&base).join("modules.builtin")).unwrap_or_default();
    let mut chosen: BTreeMap<String, Module> = BTreeMap::new();
    let mut queue: Vec<String> = wanted.iter().map(|m| plain(m)).collect();
    while let Some(name) = queue.pop() {
        if chosen.contains_key(&name) || !all.contains_key(&name) && is_built_in(&built_in, &name) {
            continue;
        }
        let path = all.get(&name).with_context(|| format!("kernel {version} has no module {name}"))?;
        let data = read(&tree.join(&base).join(path))?;
        let needs = depends(&data);
        queue.extend(needs.iter().cloned());
        // Packed or not, it is `.ko` in the archive: busybox's modprobe takes it as it is.
        chosen.insert(name, Module { path: path.with_extension("").with_extension("ko"), data, needs });
    }
    let (mut dep, mut alias) = (String::new(), String::new());
    for (name, module) in &chosen {
        cpio.file(&format!("usr/{base}/{}", module.path.display()), 0o644, &module.data);
        dep.push_str(&format!("{}:", module.path.display()));
        for need in order(name, &chosen) {
            dep.push_str(&format!(" {}", chosen[&need].path.display()));
        }
        dep.push('\n');
        for pattern in modinfo(&module.data, "alias") {
            alias.push_str(&format!("alias {pattern} {name}\n"));
        }
    }
    cpio.file(&format!("usr/{base}/modules.alias"), 0o644, alias.as_bytes());
    cpio.file(&format!("usr/{base}/modules.dep"), 0o644, dep.as_bytes());
    cpio.file(&format!("usr/{base}/modules.builtin"), 0o644, built_in.as_bytes());
    Ok(())
}

/// Whether a kernel's `modules.builtin` names the module: there is nothing to load then.
fn is_built_in(list: &str, name: &str) -> bool {
    list.lines()
        .filter_map(|line| Path::new(line).file_stem())
        .any(|stem| plain(&stem.to_string_lossy()) == name)
}

/// A module that goes into the archive.
struct Module {
    /// Below the kernel's folder.
    path: PathBuf,
    data: Vec<u8>,
    needs: Vec<String>,
}

/// A module's content, unpacked.
fn read(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_some_and(|e| e == "xz") {
        return shell::bytes(shell::command("xz").arg("-dc").arg(path));
    }
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// All that `name` needs, directly or not; what depends on nothing comes last, as modprobe expects.
fn order(name: &str, graph: &BTreeMap<String, Module>) -> Vec<String> {
    let needs = |name: &str| graph.get(name).map(|m| m.needs.clone()).unwrap_or_default();
    let mut out: Vec<String> = Vec::new();
    let mut queue: Vec<String> = needs(name);
    while !queue.is_empty() {
        let next = queue.remove(0);
        out.retain(|n| *n != next);
        queue.extend(needs(&next));
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
            } else if let (Some(name), Ok(relative)) = (path.file_name(), path.strip_prefix(dir))
                && let Some((stem, "ko" | "ko.xz")) = name.to_string_lossy().split_once('.')
            {
                found.insert(plain(stem), relative.to_path_buf());
            }
        }
    }
    Ok(found)
}

/// The `depends=` line of a module's `.modinfo` section.
fn depends(module: &[u8]) -> Vec<String> {
    let text = modinfo(module, "depends").into_iter().next().unwrap_or_default();
    text.split(',').filter(|n| !n.is_empty()).map(plain).collect()
}

/// All lines of one kind in a module's `.modinfo` section: what stands behind `KEY=`.
fn modinfo(module: &[u8], key: &str) -> Vec<String> {
    let key = format!("\0{key}=").into_bytes();
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = module[from..].windows(key.len()).position(|w| w == key) {
        let rest = &module[from + at + key.len()..];
        let end = rest.iter().position(|b| *b == 0).unwrap_or(rest.len());
        found.push(String::from_utf8_lossy(&rest[..end]).into_owned());
        // The zero at the end may begin the next one.
        from += at + key.len() + end;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depends_is_read_from_modinfo() {
        assert_eq!(depends(b"x\0depends=jbd2,mb-cache\0name=ext4"), ["jbd2", "mb_cache"]);
        assert!(depends(b"x\0depends=\0name=loop").is_empty());
        assert!(depends(b"nothing here").is_empty());
        assert_eq!(modinfo(b"x\0alias=pci:v1*\0alias=b\0y=z\0", "alias"), ["pci:v1*", "b"]);
    }

    #[test]
    fn shared_needs_come_last() {
        let edge = |to: &[&str]| Module {
            path: PathBuf::new(),
            data: Vec::new(),
            needs: to.iter().map(|s| (*s).to_owned()).collect(),
        };
        let graph = BTreeMap::from([
            ("top".to_owned(), edge(&["base", "mid"])),
            ("mid".to_owned(), edge(&["base"])),
            ("base".to_owned(), edge(&[])),
        ]);
        assert_eq!(order("top", &graph), ["mid", "base"]);
    }
}
