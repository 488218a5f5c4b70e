//! Volumes on NFS 4.2: Debian's Linux as server and client in one emulated machine, without a hypervisor below.

use super::Report;
use crate::cpio::Cpio;
use crate::packages::Packages;
use crate::{guest, modules, paths, program, shell};
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::process::Stdio;
use std::time::{Duration, Instant};

const MODULES: &[&str] = &["virtio_pci", "virtio_blk", "crc32c_generic", "xfs", "nfs", "nfsv4", "nfsd"];

/// How long the machine may take.
const LIMIT: Duration = Duration::from_secs(500);

/// Runs the test, if the filter wants it.
pub fn run(report: &mut Report) {
    report.run("volumes", "nfs", nfs);
}

fn nfs() -> Result<()> {
    machine("nfs", &["-smp", "2"], MODULES).map(drop)
}

/// Boots Debian's Linux with `radon-volume`, an empty XFS and `tests/volumes/<script>.sh`, which must say that all passed; returns
/// what it wrote.
pub fn machine(script: &str, arguments: &[&str], wanted: &[&str]) -> Result<String> {
    let packages = Packages::fetch()?;
    let dir = paths::cache().join(format!("volumes-{script}"));
    fs::create_dir_all(&dir)?;
    let version = packages.kernel_version(false)?;
    let mut cpio = Cpio::new();
    guest::base(&mut cpio);
    cpio.copy("usr/bin/busybox", &packages.dom0.join("bin/busybox"))?;
    cpio.copy("usr/bin/radon-volume", &program::build("radon-volume", "radon-volume")?)?;
    let init = paths::root().join("tests/volumes").join(format!("{script}.sh"));
    cpio.file("init", 0o755, &fs::read(init)?);
    modules::add(&mut cpio, &packages.kernels, &version, wanted)?;
    let (initrd, disk) = (dir.join("initrd"), dir.join("disk"));
    fs::write(&initrd, cpio.finish())?;
    let _ = fs::remove_file(&disk);
    File::create(&disk)?.set_len(2 << 30)?;
    shell::quiet(shell::command("mkfs.xfs").args(["-q", "-m", "reflink=1"]).arg(&disk))?;
    let kernel = packages.kernels.join(format!("boot/vmlinuz-{version}"));
    let mut qemu = shell::command("qemu-system-x86_64");
    qemu.args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot", "-m", "1024"]);
    qemu.args(arguments).arg("-kernel").arg(kernel).arg("-initrd").arg(&initrd);
    qemu.args(["-append", "console=ttyS0 panic=-1 quiet rdinit=/init"]);
    qemu.arg("-drive").arg(format!("if=virtio,format=raw,cache=unsafe,file={}", disk.display()));
    let log = paths::logs().join(format!("volumes-{script}.log"));
    fs::create_dir_all(paths::logs())?;
    let out = File::create(&log)?;
    qemu.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
    let end = Instant::now() + LIMIT;
    let mut child = qemu.spawn().context("cannot start qemu-system-x86_64")?;
    while child.try_wait()?.is_none() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(100));
    }
    let _ = child.kill();
    child.wait()?;
    let _ = fs::remove_file(&disk);
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    if !text.contains("volumes: all passed") {
        let last: Vec<&str> = text.lines().rev().take(30).collect();
        let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
        bail!("see {}:\n{last}", log.display());
    }
    Ok(text)
}
