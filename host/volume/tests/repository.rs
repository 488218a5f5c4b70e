//! What is done with volumes, on a real XFS.

mod xfs;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use radon_image::{FileOutput, FileSource, Format, Input};
use radon_nbd::Device;
use radon_volume::repository::Shrink;
use radon_volume::{Kind, MAX_SIZE, Repository, Sharing, VolumeError, VolumeId};
use xfs::Xfs;

fn repository(xfs: &Xfs) -> Repository {
    let dir = xfs.dir().join("sr");
    Repository::init(&dir).unwrap();
    Repository::open(&dir, Sharing::Alone).unwrap()
}

fn put(repository: &Repository, id: VolumeId, data: &[u8], offset: u64) {
    let disk = repository.open_volume(id).unwrap();
    disk.write_at(data, offset).unwrap();
    disk.flush().unwrap();
}

fn get(repository: &Repository, id: VolumeId, offset: u64, length: usize) -> Vec<u8> {
    let mut buffer = vec![0; length];
    repository.open_frozen(id).unwrap().read_at(&mut buffer, offset).unwrap();
    buffer
}

fn clean(repository: &Repository) {
    assert_eq!(repository.check().unwrap(), Vec::<String>::new());
}

#[test]
fn snapshots_and_clones_stand_alone() {
    let xfs = Xfs::new();
    let sr = repository(&xfs);
    assert_eq!(sr.system().name(), "xfs");
    let disk = sr.create("disk", 64 << 20).unwrap();
    put(&sr, disk.id, &[1; 1 << 20], 0);
    let snapshot = sr.snapshot(disk.id, "before").unwrap();
    put(&sr, disk.id, &[2; 4096], 4096);
    let copy = sr.clone_volume(snapshot.id, "copy").unwrap();
    put(&sr, copy.id, &[3; 4096], 8192);
    assert_eq!(get(&sr, snapshot.id, 4096, 8192), [1; 8192]);
    assert_eq!(get(&sr, disk.id, 4096, 8192), [[2; 4096], [1; 4096]].concat());
    assert_eq!(get(&sr, copy.id, 4096, 8192), [[1; 4096], [3; 4096]].concat());
    assert_eq!((snapshot.kind, snapshot.origin), (Kind::Snapshot, Some(disk.id)));
    // Nothing depends on anything.
    sr.delete(disk.id).unwrap();
    sr.delete(snapshot.id).unwrap();
    assert_eq!(get(&sr, copy.id, 4096, 8192), [[1; 4096], [3; 4096]].concat());
    assert_eq!(sr.volumes().unwrap().iter().map(|v| v.id).collect::<Vec<_>>(), [copy.id]);
    clean(&sr);
}

#[test]
fn volumes_of_64_tib_are_thin_and_deleting_frees_at_once() {
    let xfs = Xfs::new();
    let sr = repository(&xfs);
    // The database has its size.
    let first = sr.create("first", 512).unwrap();
    sr.delete(first.id).unwrap();
    let free = xfs.free();
    let disk = sr.create("huge", MAX_SIZE).unwrap();
    put(&sr, disk.id, &vec![7; 32 << 20], MAX_SIZE - (32 << 20));
    assert_eq!(sr.space(disk.id).unwrap().exclusive, 32 << 20);
    let snapshot = sr.snapshot(disk.id, "s").unwrap();
    let space = sr.space(snapshot.id).unwrap();
    assert_eq!((space.allocated, space.exclusive), (32 << 20, 0));
    assert_eq!(get(&sr, snapshot.id, MAX_SIZE - 512, 512), [7; 512]);
    let used = free - xfs.free();
    assert!((32 << 20..36 << 20).contains(&used), "{used}");
    sr.delete(disk.id).unwrap();
    sr.delete(snapshot.id).unwrap();
    xfs.wait_free(free - (256 << 10));
    clean(&sr);
}

#[test]
fn sizes_change() {
    let xfs = Xfs::new();
    let sr = repository(&xfs);
    let disk = sr.create("disk", 1 << 20).unwrap();
    put(&sr, disk.id, &[5; 4096], (1 << 20) - 4096);
    assert_eq!(sr.resize(disk.id, 2 << 20, Shrink::No).unwrap().size, 2 << 20);
    assert_eq!(get(&sr, disk.id, (1 << 20) - 4096, 8192), [[5; 4096], [0; 4096]].concat());
    let error = sr.resize(disk.id, 512, Shrink::No).unwrap_err();
    assert!(error.to_string().contains("--shrink"), "{error}");
    sr.resize(disk.id, 512, Shrink::Yes).unwrap();
    // What was cut off does not come back.
    sr.resize(disk.id, 1 << 20, Shrink::No).unwrap();
    assert_eq!(get(&sr, disk.id, (1 << 20) - 4096, 4096), [0; 4096]);
    for size in [0, 511, 513, MAX_SIZE + 512, u64::MAX] {
        assert!(matches!(sr.resize(disk.id, size, Shrink::Yes), Err(VolumeError::BadSize(_))));
        assert!(matches!(sr.create("x", size), Err(VolumeError::BadSize(_))));
    }
    clean(&sr);
}

#[test]
fn who_has_a_volume_open_is_respected() {
    let xfs = Xfs::new();
    let sr = repository(&xfs);
    let disk = sr.create("disk", 1 << 20).unwrap();
    let open = sr.open_volume(disk.id).unwrap();
    assert!(matches!(sr.open_volume(disk.id), Err(VolumeError::InUse(_))));
    assert!(matches!(sr.delete(disk.id), Err(VolumeError::InUse(_))));
    assert!(matches!(sr.resize(disk.id, 512, Shrink::Yes), Err(VolumeError::InUse(_))));
    // These need nobody's leave.
    sr.resize(disk.id, 2 << 20, Shrink::No).unwrap();
    let snapshot = sr.snapshot(disk.id, "s").unwrap();
    sr.export(disk.id, Format::Raw, &mut radon_image::Pipe(io::sink())).unwrap();
    assert!(matches!(sr.open_volume(snapshot.id), Err(VolumeError::ReadOnly(_))));
    assert!(matches!(sr.resize(snapshot.id, 1024, Shrink::Yes), Err(VolumeError::ReadOnly(_))));
    drop(open);
    sr.delete(disk.id).unwrap();
    clean(&sr);
}

#[test]
fn names_find_volumes() {
    let xfs = Xfs::new();
    let sr = repository(&xfs);
    let (a, b) = (sr.create("a", 512).unwrap(), sr.create("b", 512).unwrap());
    assert_eq!(sr.find("a").unwrap(), a);
    assert_eq!(sr.find(&b.id.to_string()).unwrap(), b);
    sr.rename(b.id, "a").unwrap();
    assert!(matches!(sr.find("a"), Err(VolumeError::Ambiguous(2, _))));
    assert!(matches!(sr.find("b"), Err(VolumeError::NotFound(_))));
    assert!(matches!(Repository::init(&xfs.dir().join("sr")), Err(VolumeError::Exists(_))));
    assert!(matches!(Repository::open(xfs.dir(), Sharing::Alone), Err(VolumeError::NoRepository(_))));
}

#[test]
fn a_file_system_that_cannot_share_is_refused() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let error = Repository::init(dir.path()).unwrap_err();
    assert!(matches!(error, VolumeError::NoReflink { .. }), "{error}");
    assert!(error.to_string().contains("mkfs.xfs"), "{error}");
}

#[test]
fn images_come_and_go() {
    let xfs = Xfs::new();
    let sr = repository(&xfs);
    let disk = sr.create("disk", (40 << 20) + 512).unwrap();
    put(&sr, disk.id, &vec![9; 3 << 20], 5 << 20);
    put(&sr, disk.id, &[8; 512], 40 << 20);
    for format in Format::ALL {
        let path = xfs.dir().join("image");
        let mut out = FileOutput::new(fs::File::create(&path).unwrap(), |_, _| Ok(()));
        sr.export(disk.id, format, &mut out).unwrap();
        out.finish().unwrap();
        let source = FileSource::new(fs::File::open(&path).unwrap()).unwrap();
        let mut told = 0;
        let mut progress = |done, _| {
            told = told.max(done);
            Ok(())
        };
        let back = sr.import(Input::File(&source), format, "back", &mut progress).unwrap();
        assert!(told > 3 << 20, "{format} tells no progress: {told}");
        assert_eq!(back.size, disk.size);
        let differ = sr.changed(None, back.id).unwrap();
        let data: u64 = differ.iter().map(|r| r.end - r.start).sum();
        assert!((3 << 20..(3 << 20) + (128 << 10)).contains(&data), "{format} does not stay thin: {data}");
        assert_eq!(get(&sr, back.id, 5 << 20, 3 << 20), vec![9; 3 << 20]);
        assert_eq!(get(&sr, back.id, 40 << 20, 512), [8; 512]);
        sr.delete(back.id).unwrap();
    }
    clean(&sr);
}

#[test]
fn an_import_that_fails_leaves_nothing() {
    let xfs = Xfs::new();
    let sr = repository(&xfs);
    let before = fs::read_dir(xfs.dir().join("sr/volumes")).unwrap().count();
    let damaged = b"QFI\xfb no image at all, but long enough to hold a header of 72 bytes and more than that"
        .as_slice();
    assert!(sr.import(Input::File(&damaged), Format::Qcow2, "x", &mut |_, _| Ok(())).is_err());
    let data = vec![1u8; 4 << 20];
    let mut ended = |done, _| if done > 2 << 20 { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) };
    assert!(sr.import(Input::File(&data.as_slice()), Format::Raw, "x", &mut ended).is_err());
    assert!(sr.import(Input::File(&[].as_slice()), Format::Raw, "x", &mut |_, _| Ok(())).is_err());
    assert_eq!(fs::read_dir(xfs.dir().join("sr/volumes")).unwrap().count(), before);
    assert_eq!(sr.volumes().unwrap(), []);
    clean(&sr);
}

/// A full file system refuses what needs room, loses nothing, and deleting helps.
#[test]
fn a_full_repository_can_be_emptied() {
    let xfs = Xfs::of_size(320 << 20);
    let sr = repository(&xfs);
    let disk = sr.create("disk", 1 << 30).unwrap();
    let open = sr.open_volume(disk.id).unwrap();
    let mut at = 0;
    let mut piece = 1 << 20;
    while piece >= 4096 {
        match open.write_at(&vec![1; piece], at) {
            Ok(()) => at += piece as u64,
            Err(error) if error.kind() == io::ErrorKind::StorageFull => piece /= 2,
            Err(error) => panic!("{error}"),
        }
    }
    drop(open);
    let data = vec![1u8; 8 << 20];
    let error = sr.import(Input::File(&data.as_slice()), Format::Raw, "x", &mut |_, _| Ok(())).unwrap_err();
    println!("{error}");
    sr.delete(disk.id).unwrap();
    xfs.wait_free(200 << 20);
    sr.import(Input::File(&data.as_slice()), Format::Raw, "x", &mut |_, _| Ok(())).unwrap();
    clean(&sr);
}

/// Processes take turns; a long import of one does not keep others out, and they leave its file alone.
#[test]
fn turns_are_taken() {
    let xfs = Xfs::new();
    let dir = xfs.dir().join("sr");
    Repository::init(&dir).unwrap();
    let (one, two) =
        (Repository::open(&dir, Sharing::Turns).unwrap(), Repository::open(&dir, Sharing::Turns).unwrap());
    let data = vec![1u8; 4 << 20];
    let mut seen = 0;
    let mut progress = |_, _| {
        two.create("other", 512).unwrap();
        assert_eq!(two.check().unwrap(), Vec::<String>::new());
        seen += 1;
        Ok(())
    };
    let volume = one.import(Input::File(&data.as_slice()), Format::Raw, "x", &mut progress).unwrap();
    assert!(seen >= 4);
    assert_eq!(two.volumes().unwrap().len(), seen + 1);
    assert_eq!(fs::metadata(dir.join(format!("volumes/{}.raw", volume.id))).unwrap().size(), 4 << 20);
    clean(&two);
}
