//! A process is killed after each step of each operation; and the machine loses power there. Afterwards the repository is in the
//! old or in the new state, its volumes hold what they should, and no file is left over.

mod xfs;

use std::cell::Cell;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use radon_image::{Format, Identity, Input, Output};
use radon_nbd::Device;
use radon_volume::repository::Shrink;
use radon_volume::{Kind, Repository, Sharing, Volume};
use xfs::Xfs;

const SIZE: u64 = 8 << 20;
const OPERATIONS: &[&str] = &[
    "create",
    "snapshot",
    "clone",
    "grow",
    "shrink",
    "rename",
    "delete",
    "import-raw",
    "import-vhd",
    "import-qcow2",
];
const SIGABRT: i32 = 6;

/// The content of the volume that is there from the beginning, and of the images.
fn content(seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; SIZE as usize];
    bytes[..70_000].fill(seed);
    bytes[5 << 20..(5 << 20) + 3_000_000].fill(seed + 1);
    bytes
}

fn image(format: Format) -> Vec<u8> {
    struct Bytes(Vec<u8>);
    impl Output for Bytes {
        fn write(&mut self, data: &[u8]) -> std::io::Result<()> {
            self.0.extend_from_slice(data);
            Ok(())
        }
    }
    let mut image = Bytes(Vec::new());
    radon_image::export(&content(7).as_slice(), format, &Identity::default(), &mut image).unwrap();
    image.0
}

/// A repository with one volume.
fn prepare(dir: &Path) {
    Repository::init(dir).unwrap();
    let sr = Repository::open(dir, Sharing::Alone).unwrap();
    let disk = sr.create("disk", SIZE).unwrap();
    let open = sr.open_volume(disk.id).unwrap();
    open.write_at(&content(1), 0).unwrap();
    open.zero(70_000, (5 << 20) - 70_000, true).unwrap();
    open.flush().unwrap();
}

fn operate(sr: &Repository, operation: &str) {
    let disk = sr.find("disk").unwrap().id;
    let import = |format| {
        sr.import(Input::File(&image(format).as_slice()), format, "new", &mut |_, _| Ok(())).map(drop)
    };
    match operation {
        "create" => sr.create("new", SIZE).map(drop),
        "snapshot" => sr.snapshot(disk, "new").map(drop),
        "clone" => sr.clone_volume(disk, "new").map(drop),
        "grow" => sr.resize(disk, SIZE * 2, Shrink::No).map(drop),
        "shrink" => sr.resize(disk, SIZE / 2, Shrink::Yes).map(drop),
        "rename" => sr.rename(disk, "new").map(drop),
        "delete" => sr.delete(disk),
        "import-raw" => import(Format::Raw),
        "import-vhd" => import(Format::Vhd),
        "import-qcow2" => import(Format::Qcow2),
        _ => unreachable!(),
    }
    .unwrap();
}

/// One operation after the other, without end; a byte on standard output for each step.
fn storm(dir: &Path) -> ! {
    let told = Box::new(|_: &'static str| std::io::stdout().write_all(b".").unwrap());
    let sr = Repository::open_with(dir, Sharing::Alone, told).unwrap();
    let image = image(Format::Vhd);
    for n in 0u64.. {
        let volumes = sr.volumes().unwrap();
        let some = &volumes[n as usize * 7 % volumes.len()];
        match n % 7 {
            0 => sr.create("new", SIZE).map(drop),
            1 => sr.snapshot(some.id, "new").map(drop),
            2 => sr.clone_volume(some.id, "new").map(drop),
            3 if some.kind == Kind::Volume => sr.resize(some.id, (n % 9 + 1) << 20, Shrink::Yes).map(drop),
            4 => sr.import(Input::File(&image.as_slice()), Format::Vhd, "new", &mut |_, _| Ok(())).map(drop),
            5 | 6 => volumes.iter().skip(2).try_for_each(|v| sr.delete(v.id)),
            _ => sr.rename(some.id, "other").map(drop),
        }
        .unwrap();
    }
    unreachable!()
}

/// Which of the two states a repository is in; anything else ends the test.
fn state(dir: &Path, operation: &str) -> State {
    let sr = Repository::open(dir, Sharing::Alone).unwrap();
    assert_eq!(sr.check().unwrap(), Vec::<String>::new());
    let volumes = sr.volumes().unwrap();
    assert_eq!(fs::read_dir(dir.join("volumes")).unwrap().count(), volumes.len());
    let bytes = |volume: &Volume| {
        let mut bytes = vec![0; volume.size as usize];
        sr.open_frozen(volume.id).unwrap().read_at(&mut bytes, 0).unwrap();
        bytes
    };
    let shape: Vec<(&str, Kind, u64)> = volumes.iter().map(|v| (v.name.as_str(), v.kind, v.size)).collect();
    for volume in &volumes {
        let made = operation == "create" && volume.name == "new";
        let imported = operation.starts_with("import") && volume.name == "new";
        let mut expected = if made { vec![0; SIZE as usize] } else { content(if imported { 7 } else { 1 }) };
        expected.resize(volume.size as usize, 0);
        assert!(bytes(volume) == expected, "{operation}: the content of {volume:?}");
    }
    let old = [("disk", Kind::Volume, SIZE)];
    let mut new = old.to_vec();
    match operation {
        "snapshot" => new.push(("new", Kind::Snapshot, SIZE)),
        "grow" => new[0].2 = SIZE * 2,
        "shrink" => new[0].2 = SIZE / 2,
        "rename" => new[0].0 = "new",
        "delete" => new.clear(),
        _ => new.push(("new", Kind::Volume, SIZE)),
    }
    let mut sorted = shape.clone();
    sorted.sort_by_key(|s| s.0);
    match sorted {
        s if s == old => State::Old,
        s if s == new => State::New,
        s => panic!("{operation}: neither old nor new: {s:?}"),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Old,
    New,
}

/// The other process: does the operation and dies after a step. Without orders, nothing.
#[test]
fn child() {
    let Ok(orders) = std::env::var("RADON_VOLUME_KILL") else { return };
    if let Some(dir) = orders.strip_prefix("storm\n") {
        storm(Path::new(dir));
    }
    let [dir, operation, step] = orders.splitn(3, '\n').collect::<Vec<_>>()[..] else { panic!() };
    let step: u32 = step.parse().unwrap();
    let steps = AtomicU32::new(0);
    let die = move |_: &'static str| {
        if steps.fetch_add(1, Ordering::Relaxed) == step {
            std::process::abort();
        }
    };
    // Steps of recovery count when there is something to recover.
    if operation == "recover" {
        let _ = Repository::open_with(Path::new(dir), Sharing::Alone, Box::new(die));
        return;
    }
    let sr = Repository::open_with(Path::new(dir), Sharing::Alone, Box::new(die)).unwrap();
    operate(&sr, operation);
    // A power cut right after the operation's success: no orderly end, which would write more.
    std::process::exit(0);
}

fn run(dir: &Path, operation: &str, step: u32) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--quiet"])
        .env("RADON_VOLUME_KILL", format!("{}\n{operation}\n{step}", dir.display()))
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap()
}

/// Kills after each step in turn, until the operation gets through; `judge` looks at what is left.
fn each_step(xfs: &Xfs, operation: &str, mut judge: impl FnMut(&Path, bool, u32)) -> u32 {
    for step in 0.. {
        let dir = xfs.dir().join(format!("{operation}-{step}"));
        prepare(&dir);
        xfs::run("sync", &["-f", xfs.dir().to_str().unwrap()]);
        let status = run(&dir, operation, step);
        assert!(status.success() || status.signal() == Some(SIGABRT), "{operation}, step {step}: {status}");
        judge(&dir, status.success(), step);
        fs::remove_dir_all(&dir).unwrap();
        if status.success() {
            return step;
        }
    }
    unreachable!()
}

#[test]
fn killed_at_any_step() {
    let xfs = Xfs::new();
    for operation in OPERATIONS {
        let (old, new) = (Cell::new(0), Cell::new(0));
        let steps = each_step(&xfs, operation, |dir, through, _| {
            let state = state(dir, operation);
            assert!(!through || state == State::New, "{operation} succeeded, and is not done");
            // Recovery found nothing to do a second time.
            assert_eq!(self::state(dir, operation), state);
            if state == State::Old { old.set(old.get() + 1) } else { new.set(new.get() + 1) }
        });
        println!("{operation}: {steps} steps; afterwards {} times old, {} times new", old.get(), new.get());
        assert!(
            steps >= if *operation == "rename" { 1 } else { 3 },
            "{operation} tells of {steps} steps only"
        );
        assert!(new.get() >= 2);
    }
}

/// The one who cleans up can be killed, too.
#[test]
fn killed_while_recovering() {
    let xfs = Xfs::new();
    for operation in OPERATIONS {
        each_step(&xfs, operation, |dir, _, _| {
            for step in 0.. {
                if run(dir, "recover", step).success() {
                    break;
                }
            }
            state(dir, operation);
        });
    }
}

#[test]
fn power_lost_at_any_step() {
    for operation in OPERATIONS {
        let xfs = Xfs::of_size(400 << 20);
        each_step(&xfs, operation, |dir, through, step| {
            let cut = xfs.after_power_cut();
            let there = cut.dir().join(dir.file_name().unwrap());
            let state = state(&there, operation);
            assert!(!through || state == State::New, "{operation} succeeded, and is lost (step {step})");
        });
    }
}

/// Not between the steps only: anywhere, inside the database's own writing, too.
#[test]
fn killed_at_any_moment() {
    let xfs = Xfs::new();
    let dir = xfs.dir().join("sr");
    prepare(&dir);
    for round in 0..40u32 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--quiet", "--nocapture"])
            .env("RADON_VOLUME_KILL", format!("storm\n{}", dir.display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut steps = vec![0; 20 + (round as usize * 37) % 101];
        child.stdout.as_mut().unwrap().read_exact(&mut steps).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let sr = Repository::open(&dir, Sharing::Alone).unwrap();
        assert_eq!(sr.check().unwrap(), Vec::<String>::new(), "round {round}");
        assert_eq!(fs::read_dir(dir.join("volumes")).unwrap().count(), sr.volumes().unwrap().len());
        if sr.volumes().unwrap().is_empty() {
            sr.create("disk", SIZE).unwrap();
        }
    }
}
