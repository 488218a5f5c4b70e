//! The program, by hand and against Debian's tools: `qemu-img`, `nbdinfo`, `nbdcopy`.

mod xfs;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use xfs::Xfs;

struct Sr {
    xfs: Xfs,
}

impl Sr {
    fn new() -> Self {
        let sr = Self { xfs: Xfs::new() };
        sr.ok(&["init"]);
        sr
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_radon-volume"));
        command.args(arguments).env("RADON_REPOSITORY", self.xfs.dir().join("sr"));
        command
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let out = self.command(arguments).output().unwrap();
        assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim_end().to_owned()
    }

    /// Exit status and message of what must fail.
    fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let out = self.command(arguments).output().unwrap();
        assert!(!out.status.success(), "{arguments:?} succeeded");
        (out.status.code().unwrap(), String::from_utf8(out.stderr).unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.xfs.dir().join(name)
    }

    /// A raw image: data, holes, data.
    fn image(&self, name: &str, seed: u8) -> PathBuf {
        let path = self.file(name);
        let file = fs::File::create(&path).unwrap();
        file.set_len(48 << 20).unwrap();
        let noise: Vec<u8> =
            (0..5_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed).collect();
        std::os::unix::fs::FileExt::write_all_at(&file, &noise, 1 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &noise[..70_000], 30 << 20).unwrap();
        path
    }
}

/// A server that is running.
struct Nbd {
    child: Child,
    uri: String,
}

impl Nbd {
    fn start(sr: &Sr, arguments: &[&str]) -> Self {
        let socket = sr.file("nbd.socket");
        let mut all = vec!["nbd", "--socket", socket.to_str().unwrap()];
        all.extend(arguments);
        let mut child = sr.command(&all).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("nbd+unix:///?socket="), "{line}");
        Self { child, uri: line.trim_end().to_owned() }
    }
}

impl Drop for Nbd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_life_by_hand() {
    let sr = Sr::new();
    let id = sr.ok(&["create", "disk", "10G"]);
    assert_eq!(sr.ok(&["list", "--json"]).matches("\"id\"").count(), 1);
    sr.ok(&["snapshot", "disk", "before"]);
    sr.ok(&["clone", "before", "copy"]);
    sr.ok(&["resize", "disk", "20G"]);
    sr.ok(&["rename", &id, "system"]);
    let shown = sr.ok(&["show", "system"]);
    assert!(shown.contains(&id) && shown.contains("20.00 GiB (21474836480 bytes)"), "{shown}");
    let info = sr.ok(&["info", "--json"]);
    assert!(info.contains("\"file_system\":\"xfs\"") && info.contains("\"volumes\":3"), "{info}");
    sr.ok(&["delete", "system", "before"]);
    let list = sr.ok(&["list"]);
    assert!(list.contains("copy") && !list.contains("before"), "{list}");
    assert!(sr.ok(&["check"]).ends_with("nothing wrong"));
    assert_eq!(sr.ok(&["check", "--json"]), "[]");
}

#[test]
fn errors_name_cause_and_cure() {
    let sr = Sr::new();
    sr.ok(&["create", "disk", "1G"]);
    assert_eq!(
        sr.fails(&["show", "none"]),
        (1, "radon-volume: there is no volume none; `list` shows what there is\n".into())
    );
    assert_eq!(sr.fails(&["resize", "disk", "1M"]).0, 1);
    assert_eq!(sr.fails(&["create", "disk"]).0, 2);
    assert!(sr.fails(&["create", "x", "1.5G"]).1.contains("10G"));
    assert!(sr.fails(&["init"]).1.contains("already"));
    let (code, message) = sr.fails(&["import", "x", "/nowhere/image"]);
    assert!(code == 1 && message.contains("/nowhere/image"), "{message}");
    let (_, message) = sr.fails(&["export", "disk", text(&sr.file("image"))]);
    assert!(message.contains("--format"), "{message}");
    let stray = sr.file("sr/volumes/stray");
    fs::write(&stray, "x").unwrap();
    let out = sr.command(&["check"]).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stdout).contains("stray: belongs to no volume"));
}

#[test]
fn images_pass_through_files_and_pipes() {
    let sr = Sr::new();
    let image = sr.image("image.raw", 0);
    for (format, qemu) in [("vhd", "vpc"), ("qcow2", "qcow2"), ("raw", "raw"), ("vhd-fixed", "vpc")] {
        sr.ok(&["import", "disk", text(&image)]);
        let out = sr.file("out");
        sr.ok(&["export", "disk", text(&out), "--format", format]);
        assert!(!sr.file("out.part").exists());
        xfs::run("qemu-img", &["compare", "-f", "raw", "-F", qemu, text(&image), text(&out)]);
        assert!(sr.fails(&["export", "disk", text(&out), "--format", format]).1.contains("--force"));
        // Out of one repository and into another, through a pipe.
        let piped = sr.command(&["export", "disk", "-", "--format", format]).output().unwrap().stdout;
        if format == "qcow2" {
            assert!(sr.fails(&["import", "again", "-", "--format", format]).1.contains("pipe"));
        } else {
            let mut import = sr.command(&["import", "again", "-", "--format", format]);
            let mut import = import.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            import.stdin.take().unwrap().write_all(&piped).unwrap();
            assert!(import.wait().unwrap().success());
            sr.ok(&["export", "again", text(&out), "--format", "raw", "--force"]);
            xfs::run("cmp", &[text(&image), text(&out)]);
            let used = fs::metadata(&out).unwrap().blocks() * 512;
            // XFS gives a growing file some more.
            assert!(used < 20 << 20, "{format}: {used}");
            sr.ok(&["delete", "again"]);
        }
        fs::remove_file(&out).unwrap();
        sr.ok(&["delete", "disk"]);
    }
    assert!(sr.ok(&["check"]).ends_with("nothing wrong"));
}

#[test]
fn debians_tools_read_and_write_over_nbd() {
    let sr = Sr::new();
    let (image, other) = (sr.image("image.raw", 0), sr.image("other.raw", 9));
    sr.ok(&["import", "disk", text(&image)]);
    sr.ok(&["snapshot", "disk", "before"]);
    let nbd = Nbd::start(&sr, &["before"]);
    let info = xfs::run("nbdinfo", &["--json", &nbd.uri]);
    for wanted in
        ["\"export-size\": 50331648", "\"is_read_only\": true", "base:allocation", "\"structured\": true"]
    {
        assert!(info.contains(wanted), "{wanted}: {info}");
    }
    assert!(xfs::run("nbdinfo", &["--list", &nbd.uri]).contains("\"before\""));
    let map = xfs::run("nbdinfo", &["--map", &nbd.uri]);
    assert!(map.contains("hole,zero"), "{map}");
    let copy = sr.file("copy.raw");
    xfs::run("nbdcopy", &[&nbd.uri, text(&copy)]);
    xfs::run("cmp", &[text(&image), text(&copy)]);
    assert!(fs::metadata(&copy).unwrap().blocks() * 512 < 8 << 20, "nbdcopy saw no holes");
    xfs::run("qemu-img", &["compare", "-f", "raw", "-F", "raw", text(&image), &nbd.uri]);
    drop(nbd);
    // And write.
    let nbd = Nbd::start(&sr, &["disk", "--writable"]);
    assert!(sr.fails(&["delete", "disk"]).1.contains("in use"));
    xfs::run("nbdcopy", &["--flush", text(&other), &nbd.uri]);
    xfs::run("qemu-img", &["compare", "-f", "raw", "-F", "raw", text(&other), &nbd.uri]);
    drop(nbd);
    sr.ok(&["export", "disk", text(&copy), "--force"]);
    xfs::run("cmp", &[text(&other), text(&copy)]);
}

/// An incremental backup: what `changed` lists, and what NBD's context says.
#[test]
fn backups_copy_what_has_changed() {
    let sr = Sr::new();
    sr.ok(&["import", "disk", text(&sr.image("image.raw", 0))]);
    sr.ok(&["snapshot", "disk", "monday"]);
    let nbd = Nbd::start(&sr, &["disk", "--writable"]);
    xfs::run(
        "qemu-io",
        &["-f", "raw", "-c", "write -P 5 20M 64k", "-c", "discard 30M 64k", "-c", "flush", &nbd.uri],
    );
    drop(nbd);
    sr.ok(&["snapshot", "disk", "tuesday"]);
    let list = sr.ok(&["changed", "tuesday", "--since", "monday"]);
    assert_eq!(list, "20971520 65536\n31457280 65536");
    let nbd = Nbd::start(&sr, &["tuesday", "--since", "monday"]);
    let map = xfs::run("nbdinfo", &["--map=x-radon:changed", &nbd.uri]);
    let rows: Vec<Vec<&str>> = map.lines().map(|l| l.split_whitespace().take(3).collect()).collect();
    let expected = [
        ["0", "20971520", "0"],
        ["20971520", "65536", "1"],
        ["21037056", "10420224", "0"],
        ["31457280", "65536", "1"],
    ];
    assert_eq!(rows[..4], expected, "{map}");
}
