//! Clones on a real file system that can share blocks: `RADON_REFLINK` is a folder on one, such as an XFS. `cargo xtask test block/clones` makes
//! one, and asks for these tests.

use proptest::prelude::*;
use radon_block::disk::Disk;
use radon_block::request::Span;
use radon_block::share::Shares;
use radon_linux::reflink::clone_range;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

const SIZE: usize = 256 << 10;

fn folder() -> tempfile::TempDir {
    let folder = std::env::var_os("RADON_REFLINK").expect("RADON_REFLINK: a folder on an XFS with reflinks");
    tempfile::tempdir_in(folder).unwrap()
}

fn read(disk: &Disk, start: usize, length: usize) -> Vec<u8> {
    let mut all = Vec::new();
    for piece in disk.read(Span { start: start as u64, length: length as u64 }) {
        // Through a copy of the descriptor; direct I/O wants aligned memory.
        let file = File::from(piece.file.try_clone().unwrap());
        let mut bytes = vec![0u8; piece.length as usize + 4096];
        let skip = bytes.as_ptr().align_offset(4096);
        let part = &mut bytes[skip..skip + piece.length as usize];
        file.read_exact_at(part, piece.offset).unwrap();
        all.extend_from_slice(part);
    }
    assert_eq!(all.len(), length);
    all
}

fn write(disk: &Disk, start: usize, data: &[u8]) {
    disk.changing(Span { start: start as u64, length: data.len() as u64 });
    let file = File::from(disk.file().try_clone().unwrap());
    let mut bytes = vec![0u8; data.len() + 4096];
    let skip = bytes.as_ptr().align_offset(4096);
    bytes[skip..skip + data.len()].copy_from_slice(data);
    file.write_all_at(&bytes[skip..skip + data.len()], start as u64).unwrap();
}

fn clone(from: &Path, to: &Path) {
    let to = File::create(to).unwrap();
    clone_range(File::open(from).unwrap(), 0, 0, to, 0).unwrap();
}

struct One {
    path: PathBuf,
    model: Vec<u8>,
    disk: Option<Disk>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(std::env::var("RADON_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(24)))]

    /// Files cloned, opened, read, written in any order: a read is what was written, whatever is shared with whom, and whatever is freed
    /// and used again. (A file is cloned or written behind the back only while nobody serves it.)
    #[test]
    #[ignore = "needs an XFS in RADON_REFLINK"]
    fn never_stale(steps in proptest::collection::vec((0u8..9, any::<prop::sample::Index>(), 0..SIZE / 512, 1usize..80, any::<u8>()), 1..120)) {
        let dir = folder();
        let shares = Arc::new(Shares::holding_at_most(0));
        let base = dir.path().join("base");
        let model: Vec<u8> = (0..SIZE).map(|i| (i / 512) as u8).collect();
        std::fs::write(&base, &model).unwrap();
        let mut all = vec![One { path: base, model, disk: None }];
        for (n, (step, pick, sector, sectors, fill)) in steps.into_iter().enumerate() {
            let index = pick.index(all.len());
            let start = sector * 512;
            let length = (sectors * 512).min(SIZE - start);
            let data = vec![fill; length];
            match step {
                0 => {
                    let path = dir.path().join(n.to_string());
                    // Also of a file that is being served: what is under way there is not acknowledged.
                    clone(&all[index].path, &path);
                    let model = all[index].model.clone();
                    all.push(One { path, model, disk: None });
                }
                1 if all.len() > 1 => {
                    let one = all.swap_remove(index);
                    std::fs::remove_file(one.path).unwrap();
                }
                2 if all[index].disk.is_none() => {
                    // Not written back: only in memory yet.
                    File::options().write(true).open(&all[index].path).unwrap().write_all_at(&data, start as u64).unwrap();
                    all[index].model[start..start + length].copy_from_slice(&data);
                }
                3 => all[index].disk = None,
                8 => shares.sweep(),
                4 | 5 => {
                    let one = &mut all[index];
                    let disk = one.disk.get_or_insert_with(|| Disk::open(&one.path, false, Some(&shares)).unwrap());
                    write(disk, start, &data);
                    one.model[start..start + length].copy_from_slice(&data);
                }
                _ => {
                    let one = &mut all[index];
                    let disk = one.disk.get_or_insert_with(|| Disk::open(&one.path, false, Some(&shares)).unwrap());
                    prop_assert!(read(disk, start, length) == one.model[start..start + length], "{step} {index} {start} {length}");
                }
            }
        }
        for one in &mut all {
            let disk = one.disk.get_or_insert_with(|| Disk::open(&one.path, false, Some(&shares)).unwrap());
            prop_assert!(read(disk, 0, SIZE) == one.model);
        }
    }
}

#[test]
#[ignore = "needs an XFS in RADON_REFLINK"]
fn clones_read_through_the_pin() {
    let dir = folder();
    let shares = Arc::new(Shares::default());
    let base = dir.path().join("base");
    std::fs::write(&base, vec![7; SIZE]).unwrap();
    let shared = |path: &Path| {
        let disk = Disk::open(path, false, Some(&shares)).unwrap();
        assert_eq!(read(&disk, 0, SIZE), vec![7; SIZE]);
        disk.counters.bytes_shared.load(Ordering::Relaxed)
    };
    assert_eq!(shared(&base), 0, "nothing has been cloned");
    let clones = ["a", "b"].map(|name| dir.path().join(name));
    clones.iter().for_each(|path| clone(&base, path));
    assert_eq!(clones.each_ref().map(|path| shared(path)), [SIZE as u64; 2]);
    let disk = Disk::open(&clones[0], false, Some(&shares)).unwrap();
    write(&disk, 8192, &[9; 4096]);
    assert_eq!(read(&disk, 4096, 12288), [[7; 4096], [9; 4096], [7; 4096]].concat());
    assert_eq!(disk.counters.bytes_shared.load(Ordering::Relaxed), 8192);
}

/// Bytes read from the device below a folder.
fn read_from_device(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let device = std::fs::metadata(path).unwrap().dev();
    let number = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
    let stat = std::fs::read_to_string(format!("/sys/dev/block/{}:{}/stat", number.0, number.1)).unwrap();
    stat.split_whitespace().nth(2).unwrap().parse::<u64>().unwrap() * 512
}

#[test]
#[ignore = "needs an XFS in RADON_REFLINK"]
fn eight_clones_are_read_once() {
    const BYTES: usize = 16 << 20;
    let dir = folder();
    let base = dir.path().join("base");
    std::fs::write(&base, vec![7; BYTES]).unwrap();
    let clones: Vec<PathBuf> = (0..8).map(|n| dir.path().join(n.to_string())).collect();
    clones.iter().for_each(|path| clone(&base, path));
    let reads = |shares: Option<Arc<Shares>>| {
        let disks: Vec<Disk> =
            clones.iter().map(|path| Disk::open(path, false, shares.as_ref()).unwrap()).collect();
        let before = read_from_device(dir.path());
        for disk in &disks {
            for start in (0..BYTES).step_by(128 << 10) {
                assert_eq!(read(disk, start, 128 << 10), vec![7; 128 << 10]);
            }
        }
        read_from_device(dir.path()) - before
    };
    let (shared, alone) = (reads(Some(Arc::default())), reads(None));
    println!("{shared} bytes read through the shared cache, {alone} without");
    assert!(shared < 2 * BYTES as u64 && alone >= 8 * BYTES as u64, "{shared} and {alone}");
}
