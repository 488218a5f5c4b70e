//! The list of changed blocks against a comparison of all bytes.

mod xfs;

use std::ops::Range;

use proptest::prelude::*;
use radon_nbd::Device;
use radon_volume::repository::Shrink;
use radon_volume::{Disk, Repository, Sharing, VolumeId};
use xfs::Xfs;

const SIZE: u64 = 4 << 20;
const BLOCK: u64 = 4096;

#[derive(Clone, Debug)]
enum Work {
    Write(u64, u64, u8),
    /// The same bytes again: they lie elsewhere afterwards.
    Rewrite(u64, u64),
    Punch(u64, u64),
    Zero(u64, u64),
    Grow(u64),
    Snapshot,
}

fn work() -> impl Strategy<Value = Work> {
    let at = || (0..SIZE, 1u64..200_000);
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|((a, l), b)| Work::Write(a, l, b)),
        1 => at().prop_map(|(a, l)| Work::Rewrite(a, l)),
        1 => at().prop_map(|(a, l)| Work::Punch(a, l)),
        1 => at().prop_map(|(a, l)| Work::Zero(a, l)),
        1 => (1u64..64).prop_map(|n| Work::Grow(n * 512)),
        2 => Just(Work::Snapshot),
    ]
}

fn bytes(sr: &Repository, id: VolumeId) -> Vec<u8> {
    let disk = sr.open_frozen(id).unwrap();
    let mut bytes = vec![0; disk.size() as usize];
    disk.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// Blocks whose bytes differ; behind the end of the older one are zeros.
fn naive(old: &[u8], new: &[u8]) -> Vec<u64> {
    let mut old = old.to_vec();
    old.resize(new.len().max(old.len()), 0);
    let pairs = old.chunks(BLOCK as usize).zip(new.chunks(BLOCK as usize));
    pairs.enumerate().filter(|(_, (a, b))| a[..b.len()] != **b).map(|(n, _)| n as u64).collect()
}

fn touches(ranges: &[Range<u64>], block: u64) -> bool {
    ranges.iter().any(|r| r.start < (block + 1) * BLOCK && r.end > block * BLOCK)
}

/// Does one piece of work; the blocks it may have changed.
fn apply(disk: &Disk, size: u64, work: &Work) -> Range<u64> {
    let clip = |at: u64, length: u64| (at % size, length.min(size - at % size));
    let (at, length) = match *work {
        Work::Write(at, length, _)
        | Work::Rewrite(at, length)
        | Work::Punch(at, length)
        | Work::Zero(at, length) => clip(at, length),
        _ => return 0..0,
    };
    match work {
        Work::Write(_, _, byte) => disk.write_at(&vec![*byte; length as usize], at).unwrap(),
        Work::Rewrite(..) => {
            let mut same = vec![0; length as usize];
            disk.read_at(&mut same, at).unwrap();
            disk.write_at(&same, at).unwrap();
        }
        Work::Punch(..) => disk.zero(at, length, true).unwrap(),
        _ => disk.zero(at, length, false).unwrap(),
    }
    at / BLOCK..(at + length).div_ceil(BLOCK)
}

#[test]
fn as_a_comparison_of_all_bytes() {
    let xfs = Xfs::new();
    let dir = xfs.dir().join("sr");
    Repository::init(&dir).unwrap();
    let sr = Repository::open(&dir, Sharing::Alone).unwrap();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let works = prop::collection::vec(work(), 1..24);
    runner.run(&works, |works| check(&sr, &works)).unwrap();
    assert_eq!(sr.check().unwrap(), Vec::<String>::new());
}

fn check(sr: &Repository, works: &[Work]) -> Result<(), TestCaseError> {
    let mut size = SIZE;
    let disk = sr.create("disk", size).unwrap().id;
    let mut snapshots = vec![sr.snapshot(disk, "s").unwrap().id];
    // What was touched since each snapshot.
    let mut touched: Vec<Vec<Range<u64>>> = vec![Vec::new()];
    for work in works {
        match work {
            Work::Grow(bytes) => {
                // XFS writes zeros behind the old end, in the last block.
                let last = size / BLOCK..size.div_ceil(BLOCK);
                touched.iter_mut().for_each(|t| t.push(last.clone()));
                size += bytes;
                sr.resize(disk, size, Shrink::No).unwrap();
            }
            Work::Snapshot => {
                snapshots.push(sr.snapshot(disk, "s").unwrap().id);
                touched.push(Vec::new());
            }
            _ => {
                // No flush: what is only in memory must be seen, too.
                let blocks = apply(&sr.open_volume(disk).unwrap(), size, work);
                touched.iter_mut().for_each(|t| t.push(blocks.clone()));
            }
        }
    }
    let now = bytes(sr, disk);
    for (snapshot, touched) in snapshots.iter().zip(&touched) {
        let was = bytes(sr, *snapshot);
        let changed = sr.changed(Some(*snapshot), disk).unwrap();
        prop_assert!(changed.windows(2).all(|w| w[0].end < w[1].start));
        prop_assert!(changed.iter().all(|r| r.start < r.end && r.end <= size));
        for block in naive(&was, &now) {
            prop_assert!(touches(&changed, block), "block {block} differs and is not listed");
        }
        // Not everything: only what was written since.
        for range in &changed {
            for block in range.start / BLOCK..range.end.div_ceil(BLOCK) {
                prop_assert!(touched.iter().any(|t| t.contains(&block)), "block {block} was never touched");
            }
        }
        // Back in time it is the same, within the common size.
        let back = sr.changed(Some(disk), *snapshot).unwrap();
        for block in naive(&now[..was.len()], &was) {
            prop_assert!(touches(&back, block));
        }
        for range in &sr.changed(None, *snapshot).unwrap() {
            prop_assert!(range.end <= was.len() as u64);
        }
    }
    let data = sr.changed(None, disk).unwrap();
    for (n, block) in now.chunks(BLOCK as usize).enumerate() {
        prop_assert!(touches(&data, n as u64) || block.iter().all(|b| *b == 0));
    }
    for id in snapshots.into_iter().chain([disk]) {
        sr.delete(id).unwrap();
    }
    Ok(())
}
