//! Emulated devices for dom0's own drivers: disks, and a network card behind which a file can be fetched.

use crate::qemu::Hypervisor;
use crate::{paths, shell};
use anyhow::Result;
use std::fs;

/// Bytes of each disk: a guest's root disk fits.
const DISK_BYTES: u64 = 80 << 20;
/// Bytes of the disk with an XFS, sparse: less is refused by `mkfs.xfs`.
const XFS_BYTES: u64 = 1 << 30;
const PAYLOAD_BYTES: usize = 512 << 10;

/// Makes what the devices hold, and returns the emulator's arguments.
pub fn arguments() -> Result<Vec<String>> {
    let dir = paths::target().join("devices");
    let served = dir.join("served");
    fs::create_dir_all(&served)?;
    let payload: Vec<u8> =
        (0..PAYLOAD_BYTES as u64).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 13) as u8).collect();
    fs::write(served.join("payload"), &payload)?;
    let sum = shell::output(shell::command("sha256sum").arg(served.join("payload")))?;
    fs::write(served.join("payload.sha256"), sum)?;
    let mut args = Vec::new();
    let disks = [
        ("nvme", "nvme,serial=radon,drive=nvme"),
        ("sata", "ide-hd,drive=sata,bus=ide.0"),
        // Without vectors: an interrupt line of the IO-APIC.
        ("plain", "virtio-blk-pci,vectors=0,drive=plain"),
    ];
    for (name, device) in disks {
        let image = dir.join(format!("{name}.img"));
        // Anew each time, and sparse.
        fs::File::create(&image)?.set_len(DISK_BYTES)?;
        args.push("-drive".to_owned());
        args.push(format!("if=none,id={name},format=raw,file={}", image.display()));
        args.push("-device".to_owned());
        args.push(device.to_owned());
    }
    args.push("-netdev".to_owned());
    args.push(format!("user,id=net,restrict=on,tftp={}", served.display()));
    args.push("-device".to_owned());
    args.push("e1000e,netdev=net".to_owned());
    Ok(args)
}

/// A disk with an empty XFS that can share blocks, made anew; the emulator's arguments. NVMe: stock Xen's dom0 is not 1:1, and virtio here
/// does its DMA past the IOMMU. By name and hypervisor: machines run side by side.
pub fn xfs(name: &str, hypervisor: Hypervisor) -> Result<Vec<String>> {
    let dir = paths::target().join("devices");
    fs::create_dir_all(&dir)?;
    let image = dir.join(format!("{name}-{}.xfs", hypervisor.name()));
    fs::File::create(&image)?.set_len(XFS_BYTES)?;
    shell::quiet(shell::command("mkfs.xfs").args(["-q", "-f", "-m", "reflink=1"]).arg(&image))?;
    Ok(vec![
        "-drive".to_owned(),
        format!("if=none,id=xfs,format=raw,cache=unsafe,file={}", image.display()),
        "-device".to_owned(),
        "nvme,serial=radon,drive=xfs".to_owned(),
    ])
}
