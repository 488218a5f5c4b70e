//! Against `qemu-img`: it reads what is written here, and what it writes is read here.

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Disk, import};
use radon_image::{FileOutput, FileSource, Format, Identity, ReadAt};

fn qemu_img(arguments: &[&str]) -> String {
    let out = Command::new("qemu-img").args(arguments).output().expect("qemu-img (Debian's qemu-utils)");
    let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "qemu-img {arguments:?}: {stdout}{stderr}");
    stdout.into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A disk with data at its start, its end, across clusters and blocks, and long holes.
fn disk(size: u64) -> Disk {
    let mut disk = Disk::new(size);
    let mut state = 1u32;
    let mut noise = |length: usize| -> Vec<u8> {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..length).map(|_| next()).collect()
    };
    disk.put(&noise(70_000), 0);
    disk.put(&noise(3000), (2 << 20) - 1500);
    disk.put(&noise(200_000), size / 2 + 512);
    disk.put(b"compresses well ".repeat(20_000).as_slice(), size / 4);
    disk.put(&noise(512), size - 512);
    disk
}

/// Writes the disk as a sparse raw file.
fn raw(disk: &Disk, path: &Path) {
    let file = File::create(path).unwrap();
    file.set_len(disk.size).unwrap();
    for (page, data) in &disk.pages {
        let end = (disk.size - page * common::PAGE).min(common::PAGE);
        file.write_all_at(&data[..end as usize], page * common::PAGE).unwrap();
    }
}

fn allocated(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(&path.metadata().unwrap()) * 512
}

fn qemu_name(format: Format) -> &'static str {
    match format {
        Format::Raw => "raw",
        Format::Vhd | Format::VhdFixed => "vpc",
        Format::Qcow2 => "qcow2",
    }
}

#[test]
fn qemu_img_reads_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    for size in [5 << 20, (5 << 20) + 512, (700 << 30) + (1 << 20)] {
        let disk = disk(size);
        let original = dir.path().join("original");
        raw(&disk, &original);
        for format in Format::ALL {
            let path: PathBuf = dir.path().join(format.name());
            let mut out = FileOutput::new(File::create(&path).unwrap(), |_, _| Ok(()));
            let source = FileSource::new(File::open(&original).unwrap()).unwrap();
            let identity = Identity { uuid: [3; 16], created: 1_800_000_000 };
            radon_image::export(&source, format, &identity, &mut out).unwrap();
            out.finish().unwrap();
            let name = qemu_name(format);
            let compare = ["compare", "-f", "raw", "-F", name, text(&original), text(&path)];
            if size < 1 << 30 {
                qemu_img(&compare);
            }
            let info = qemu_img(&["info", "--output=json", "-f", name, text(&path)]);
            assert!(info.contains(&format!("\"virtual-size\": {size},")), "{format}: {info}");
            if format == Format::Qcow2 {
                let check = qemu_img(&["check", "-f", name, text(&path)]);
                assert!(check.contains("No errors were found"), "{check}");
            }
            assert!(allocated(&path) < 40 << 20, "{format} is not sparse: {}", allocated(&path));
            let back = FileSource::new(File::open(&path).unwrap()).unwrap();
            assert_eq!(import(&back, format).unwrap(), disk.clone().trimmed(), "{format}");
        }
    }
}

#[test]
fn what_qemu_img_writes_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let disk = disk(16 << 20);
    let original = dir.path().join("original");
    raw(&disk, &original);
    let variants: &[(&str, &[&str], Format)] = &[
        ("qcow2", &["-o", "compat=0.10"], Format::Qcow2),
        ("qcow2", &["-o", "compat=1.1"], Format::Qcow2),
        ("qcow2", &["-c"], Format::Qcow2),
        ("qcow2", &["-c", "-o", "compat=0.10"], Format::Qcow2),
        ("qcow2", &["-c", "-o", "compression_type=zstd"], Format::Qcow2),
        ("qcow2", &["-c", "-o", "cluster_size=512"], Format::Qcow2),
        ("qcow2", &["-c", "-o", "cluster_size=2M"], Format::Qcow2),
        ("qcow2", &["-o", "preallocation=metadata"], Format::Qcow2),
        ("qcow2", &["-S", "0"], Format::Qcow2),
        ("vpc", &["-o", "subformat=dynamic,force_size=on"], Format::Vhd),
        ("vpc", &["-o", "subformat=fixed,force_size=on"], Format::VhdFixed),
        ("raw", &[], Format::Raw),
    ];
    for (name, options, format) in variants {
        let path = dir.path().join("image");
        let mut arguments = vec!["convert", "-f", "raw", "-O", name];
        arguments.extend(*options);
        arguments.extend([text(&original), text(&path)]);
        qemu_img(&arguments);
        let source = FileSource::new(File::open(&path).unwrap()).unwrap();
        assert_eq!(Format::probe(&source).unwrap(), *format);
        assert_eq!(import(&source, *format).unwrap(), disk.clone().trimmed(), "{name} {options:?}");
        if *format != Format::Qcow2 {
            let piped = common::import_stream(&std::fs::read(&path).unwrap(), *format).unwrap();
            assert_eq!(piped, disk.clone().trimmed(), "{name} {options:?} through a pipe");
        }
    }
}

/// Zero clusters (a flag, and one with a place in the file) and an internal snapshot, which is not the active state.
#[test]
fn zero_clusters_and_internal_snapshots_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    qemu_img(&["create", "-q", "-f", "qcow2", text(&path), "16M"]);
    let io = |command: &str| {
        let out = Command::new("qemu-io").args(["-f", "qcow2", "-c", command, text(&path)]).output().unwrap();
        assert!(out.status.success(), "{command}: {}", String::from_utf8_lossy(&out.stderr));
    };
    io("write -P 1 0 8M");
    qemu_img(&["snapshot", "-c", "before", text(&path)]);
    io("write -z 1M 1M");
    io("write -P 2 4M 100k");
    io("discard 6M 1M");
    let source = FileSource::new(File::open(&path).unwrap()).unwrap();
    let read = import(&source, Format::Qcow2).unwrap();
    let flat = dir.path().join("flat");
    qemu_img(&["convert", "-f", "qcow2", "-O", "raw", text(&path), text(&flat)]);
    let flat = FileSource::new(File::open(&flat).unwrap()).unwrap();
    assert_eq!(read, import(&flat, Format::Raw).unwrap());
    let mut byte = [0];
    read.read_exact_at(&mut byte, 4 << 20).unwrap();
    assert_eq!(byte, [2]);
}

#[test]
fn a_backing_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (base, path) = (dir.path().join("base"), dir.path().join("image"));
    qemu_img(&["create", "-q", "-f", "raw", text(&base), "1M"]);
    qemu_img(&["create", "-q", "-f", "qcow2", "-F", "raw", "-b", text(&base), text(&path)]);
    let source = FileSource::new(File::open(&path).unwrap()).unwrap();
    let error = import(&source, Format::Qcow2).unwrap_err().to_string();
    assert!(error.contains("backing file") && error.contains("qemu-img convert"), "{error}");
}
