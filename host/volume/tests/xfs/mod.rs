//! An XFS of the test's own: in a file in the target directory, mounted through a loop device, unmounted when it goes out of scope.

#![allow(dead_code)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A mounted XFS.
pub struct Xfs {
    base: PathBuf,
    image: PathBuf,
    dir: PathBuf,
}

/// Runs a program of the administrator's; its failure ends the test with the cause.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let out = Command::new("env").arg(format!("PATH={path}")).arg(program).args(arguments).output().unwrap();
    assert!(
        out.status.success(),
        "`{program} {}` failed: {}\n(these tests mount file systems: run them as root, on a machine with loop devices and XFS; \
         `cargo xtask setup` installs the programs)",
        arguments.join(" "),
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn folder() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("xfs");
    fs::create_dir_all(&all).unwrap();
    sweep(&all);
    let base = all.join(format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir_all(base.join("mnt")).unwrap();
    base
}

/// Takes away what tests left that were killed.
fn sweep(all: &Path) {
    for entry in fs::read_dir(all).unwrap().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|n| n.split_once('-')).map_or("", |(pid, _)| pid);
        if !Path::new("/proc").join(owner).exists() {
            let _ = Command::new("umount").arg("-l").arg(entry.path().join("mnt")).output();
            let image = entry.path().join("image");
            let loops = Command::new("losetup").args(["-n", "-O", "NAME", "-j"]).arg(image).output();
            let loops = loops.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
            for device in loops.split_whitespace() {
                let _ = Command::new("losetup").args(["--detach", device]).output();
            }
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

impl Xfs {
    /// An empty one; its file is sparse.
    pub fn new() -> Self {
        Self::of_size(2 << 30)
    }

    pub fn of_size(bytes: u64) -> Self {
        let base = folder();
        let image = base.join("image");
        File::create(&image).unwrap().set_len(bytes).unwrap();
        run("mkfs.xfs", &["-q", "-m", "reflink=1", text(&image)]);
        Self::mount(base, image, "loop")
    }

    fn mount(base: PathBuf, image: PathBuf, options: &str) -> Self {
        let dir = base.join("mnt");
        run("mount", &["-o", options, text(&image), text(&dir)]);
        Self { base, image, dir }
    }

    /// What would be there after a loss of power at this moment: a copy of what has reached the device, mounted.
    pub fn after_power_cut(&self) -> Self {
        let base = folder();
        let image = base.join("image");
        run("cp", &["--sparse=always", text(&self.image), text(&image)]);
        Self::mount(base, image, "loop,nouuid")
    }

    /// Where it is mounted.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Waits until so many bytes are free: XFS takes a deleted file's blocks back in the background, a moment later.
    pub fn wait_free(&self, bytes: u64) {
        let end = Instant::now() + Duration::from_secs(20);
        while self.free() < bytes {
            assert!(Instant::now() < end, "{} bytes are free, not {bytes}", self.free());
            std::thread::yield_now();
        }
    }

    /// Free bytes.
    pub fn free(&self) -> u64 {
        run("sync", &["-f", text(&self.dir)]);
        run("stat", &["-f", "-c", "%f", text(&self.dir)]).trim().parse::<u64>().unwrap() * 4096
    }
}

impl Drop for Xfs {
    fn drop(&mut self) {
        let unmount = |arguments: &[&str]| {
            Command::new("umount").args(arguments).arg(&self.dir).output().is_ok_and(|o| o.status.success())
        };
        if unmount(&[]) || unmount(&["-l"]) {
            let _ = fs::remove_dir_all(&self.base);
        }
    }
}

/// An empty disk (a loop device), and a folder where something may be mounted at `mnt`.
pub struct Scratch {
    base: PathBuf,
    device: String,
}

impl Scratch {
    pub fn new(bytes: u64) -> Self {
        let base = folder();
        let image = base.join("image");
        File::create(&image).unwrap().set_len(bytes).unwrap();
        let device = run("losetup", &["--find", "--show", text(&image)]).trim().to_owned();
        Self { base, device }
    }

    pub fn dir(&self) -> &Path {
        &self.base
    }

    pub fn device(&self) -> &str {
        &self.device
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.base.join("mnt")).output();
        let _ = Command::new("losetup").args(["--detach", &self.device]).output();
        let _ = fs::remove_dir_all(&self.base);
    }
}
