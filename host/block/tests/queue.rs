//! A ring served from a real file by real `io_uring`, for a front end that is played here: against a naive disk in memory, with the
//! server killed and followed by another in between.

use proptest::prelude::*;
use radon_block::disk::{Disk, OpenError};
use radon_block::queue::{Guest, Queue};
use radon_block::request::Protocol;
use radon_block::ring::Ring;
use radon_block::table::Table;
use radon_xen::gntdev::{Copy, Direction};
use radon_xen::page::SharedPages;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use xen_abi::blkif::*;
use zerocopy::{FromBytes, IntoBytes};

const SECTORS: u64 = 512;
const PAGE: usize = 4096;

/// Pages that the guest grants, by reference.
#[derive(Clone, Default)]
struct Pages(Arc<Mutex<BTreeMap<u32, Vec<u8>>>>);

impl Pages {
    fn grant(&self, bytes: Vec<u8>) -> u32 {
        let mut all = self.0.lock().unwrap();
        let gref = all.last_key_value().map_or(8, |(k, _)| k + 1);
        all.insert(gref, bytes);
        gref
    }

    fn end(&self, gref: u32) -> Vec<u8> {
        self.0.lock().unwrap().remove(&gref).unwrap()
    }
}

impl Guest for Pages {
    fn copy(&mut self, memory: &SharedPages, copies: &[Copy], done: &mut Vec<bool>) -> io::Result<()> {
        let mut all = self.0.lock().unwrap();
        for copy in copies {
            let range = usize::from(copy.offset)..usize::from(copy.offset + copy.length);
            let page = all.get_mut(&copy.reference).map(|page| &mut page[range]);
            done.push(page.is_some());
            match (page, copy.direction) {
                (Some(page), Direction::FromGrant) => memory.write(copy.at, page),
                (Some(page), Direction::ToGrant) => memory.read(copy.at, page),
                (None, _) => {}
            }
        }
        Ok(())
    }

    fn notify(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One request, as a test asks for it.
#[derive(Clone, Debug)]
struct Ask {
    operation: u8,
    indirect: bool,
    sector: u64,
    /// (first, last) of each segment.
    parts: Vec<(u8, u8)>,
    /// A segment without a page behind it.
    bad_grant: bool,
    fill: u8,
}

impl Ask {
    fn sectors(&self) -> u64 {
        if self.operation == BLKIF_OP_DISCARD {
            return u64::from(self.fill);
        }
        self.parts.iter().map(|(first, last)| u64::from(last - first) + 1).sum()
    }

    fn fits(&self) -> bool {
        self.sector + self.sectors() <= SECTORS && self.sectors() > 0
    }

    fn writes(&self) -> bool {
        matches!(self.operation, BLKIF_OP_WRITE | BLKIF_OP_WRITE_BARRIER | BLKIF_OP_DISCARD)
    }

    fn meets(&self, other: &Self) -> bool {
        self.sector < other.sector + other.sectors() && other.sector < self.sector + self.sectors()
    }
}

/// What a request that is under way looks like from the guest.
struct Open {
    ask: Ask,
    grefs: Vec<u32>,
    description: Option<u32>,
    data: Vec<u8>,
}

/// Front end, model, and the server.
struct World {
    dir: tempfile::TempDir,
    pages: Pages,
    ring: Arc<SharedPages>,
    size: u32,
    produced: u32,
    consumed: u32,
    next: u64,
    open: BTreeMap<u64, Open>,
    model: Vec<u8>,
    queue: Option<Queue<Arc<SharedPages>, Pages>>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir_in(".").unwrap();
        let disk = std::fs::File::create(dir.path().join("disk")).unwrap();
        disk.set_len(SECTORS * 512).unwrap();
        let ring = Arc::new(SharedPages::anonymous(1).unwrap());
        ring.store(4, 1);
        ring.store(12, 1);
        let mut world = Self {
            dir,
            pages: Pages::default(),
            ring,
            size: 32,
            produced: 0,
            consumed: 0,
            next: 1,
            open: BTreeMap::new(),
            model: vec![0; SECTORS as usize * 512],
            queue: None,
        };
        let back = Ring::attach(world.ring.clone(), Protocol::X86_64);
        let table = Table::create(&world.table(), 32, Protocol::X86_64, 0).unwrap();
        world.queue = Some(world.serve(back, table, Vec::new()));
        world
    }

    fn table(&self) -> PathBuf {
        self.dir.path().join("table")
    }

    fn serve(
        &self,
        ring: Ring<Arc<SharedPages>>,
        table: Table,
        again: Vec<(u32, radon_block::request::Slot)>,
    ) -> Queue<Arc<SharedPages>, Pages> {
        // Until what the predecessor had asked of the kernel has ended, the file is its.
        let disk = loop {
            match Disk::open(&self.dir.path().join("disk"), false, None) {
                Ok(disk) => break disk,
                Err(OpenError::InUse(_)) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        Queue::new(self.pages.clone(), ring, table, again, Arc::new(disk), 0).unwrap()
    }

    /// The server is gone without a word; another takes its place.
    fn kill(&mut self) {
        self.queue = None;
        let mut table = Table::open(&self.table(), 32, Protocol::X86_64).unwrap();
        let ring = Ring::attach(self.ring.clone(), Protocol::X86_64);
        let left = table.left(ring.published()).expect("this front end is honest");
        let ring = Ring::resume(self.ring.clone(), Protocol::X86_64, left.taken, left.answered);
        self.queue = Some(self.serve(ring, table, left.again));
    }

    fn put(&mut self, ask: &Ask) {
        assert!(self.produced.wrapping_sub(self.consumed) < self.size);
        let id = self.next;
        self.next += 1;
        let (mut data, mut grefs, mut parts) = (Vec::new(), Vec::new(), Vec::new());
        for (n, (first, last)) in ask.parts.iter().enumerate() {
            let page: Vec<u8> = (0..PAGE).map(|i| ask.fill.wrapping_add((i / 512 + n) as u8)).collect();
            data.extend_from_slice(&page[usize::from(*first) * 512..(usize::from(*last) + 1) * 512]);
            let gref = self.pages.grant(page);
            grefs.push(gref);
            let gref = if ask.bad_grant && n + 1 == ask.parts.len() { 3 } else { gref };
            parts.push(BlkifRequestSegment { gref, first_sect: *first, last_sect: *last, _pad: [0; 2] });
        }
        let mut description = None;
        let mut bytes = vec![0; 112];
        if ask.operation == BLKIF_OP_DISCARD {
            let r = BlkifRequestDiscard {
                operation: ask.operation,
                flag: 1,
                handle: 0,
                _pad: 0,
                id,
                sector_number: ask.sector,
                nr_sectors: ask.sectors(),
            };
            bytes[..32].copy_from_slice(r.as_bytes());
        } else if ask.indirect {
            let mut page: Vec<u8> = parts.iter().flat_map(|p| p.as_bytes().to_vec()).collect();
            page.resize(PAGE, 0xff);
            let gref = self.pages.grant(page);
            description = Some(gref);
            let r = BlkifRequestIndirect {
                operation: BLKIF_OP_INDIRECT,
                indirect_op: ask.operation,
                nr_segments: parts.len() as u16,
                _pad: 0,
                id,
                sector_number: ask.sector,
                handle: 0,
                _pad2: 0,
                indirect_grefs: [gref; 8],
                _pad3: 0,
            };
            bytes[..64].copy_from_slice(r.as_bytes());
        } else {
            let mut seg = [BlkifRequestSegment { gref: 0, first_sect: 9, last_sect: 0, _pad: [0; 2] }; 11];
            seg[..parts.len()].copy_from_slice(&parts);
            let r = BlkifRequest {
                operation: ask.operation,
                nr_segments: parts.len() as u8,
                handle: 0,
                _pad: 0,
                id,
                sector_number: ask.sector,
                seg,
            };
            bytes.copy_from_slice(r.as_bytes());
        }
        self.ring.write(64 + (self.produced & (self.size - 1)) as usize * 112, &bytes);
        self.produced = self.produced.wrapping_add(1);
        self.ring.store(0, self.produced);
        self.open.insert(id, Open { ask: ask.clone(), grefs, description, data });
    }

    /// Serves until nothing is under way.
    fn drain(&mut self) {
        let queue = self.queue.as_mut().unwrap();
        for round in 0.. {
            assert!(round < 10_000, "the server does not come to an end");
            let moved = queue.turn().unwrap();
            if !moved && !queue.is_busy() {
                break;
            }
            queue.wait(!moved).unwrap();
        }
        self.fetch();
        assert!(self.open.is_empty(), "{} without an answer", self.open.len());
    }

    /// Takes answers, and compares each with the model.
    fn fetch(&mut self) {
        let published = self.ring.load(8);
        while self.consumed != published {
            let mut bytes = [0; 16];
            self.ring.read(64 + (self.consumed & (self.size - 1)) as usize * 112, &mut bytes);
            self.consumed = self.consumed.wrapping_add(1);
            let response = BlkifResponse::read_from_bytes(&bytes).unwrap();
            let open = self.open.remove(&response.id).expect("an answer to what was asked, once");
            assert_eq!(response.operation, open.ask.operation);
            self.compare(&open, response.status);
            for gref in open.grefs.iter().chain(&open.description) {
                self.pages.end(*gref);
            }
        }
    }

    fn compare(&mut self, open: &Open, status: i16) {
        let ask = &open.ask;
        let good = ask.operation == BLKIF_OP_FLUSH_DISKCACHE || ask.fits() && !ask.bad_grant;
        assert_eq!(status, if good { BLKIF_RSP_OKAY } else { BLKIF_RSP_ERROR }, "{ask:?}");
        if !good || ask.operation == BLKIF_OP_FLUSH_DISKCACHE {
            return;
        }
        let start = ask.sector as usize * 512;
        let range = start..start + ask.sectors() as usize * 512;
        match ask.operation {
            BLKIF_OP_READ => {
                let mut got = Vec::new();
                let pages = self.pages.0.lock().unwrap();
                for (gref, (first, last)) in open.grefs.iter().zip(&ask.parts) {
                    got.extend_from_slice(
                        &pages[gref][usize::from(*first) * 512..(usize::from(*last) + 1) * 512],
                    );
                }
                assert!(got == self.model[range], "{ask:?}");
            }
            BLKIF_OP_DISCARD => self.model[range].fill(0),
            _ => self.model[range].copy_from_slice(&open.data),
        }
    }

    fn check_file(&self) {
        assert!(std::fs::read(self.dir.path().join("disk")).unwrap() == self.model);
    }
}

fn asks() -> impl Strategy<Value = Ask> {
    let part = (0u8..8, 0u8..8).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let operation = prop_oneof![
        4 => Just(BLKIF_OP_READ),
        4 => Just(BLKIF_OP_WRITE),
        1 => Just(BLKIF_OP_WRITE_BARRIER),
        1 => Just(BLKIF_OP_FLUSH_DISKCACHE),
        1 => Just(BLKIF_OP_DISCARD),
    ];
    (operation, any::<bool>(), 0..SECTORS, proptest::collection::vec(part, 1..40), 0u8..20, 1u8..255)
        .prop_map(|(operation, indirect, sector, mut parts, bad, fill)| {
            let indirect = indirect && operation <= BLKIF_OP_WRITE;
            match operation {
                BLKIF_OP_FLUSH_DISKCACHE | BLKIF_OP_DISCARD => parts.clear(),
                _ if !indirect => parts.truncate(11),
                _ => {}
            }
            let bad_grant = bad == 0 && !parts.is_empty();
            Ask { operation, indirect, sector, parts, bad_grant, fill }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_disk_is_an_array_of_sectors(
        steps in proptest::collection::vec((asks(), 0u8..12), 1..120),
    ) {
        let mut world = World::new();
        for (ask, what) in steps {
            // The order of requests under way is the server's; the model knows one order only.
            let meets = world.open.values().any(|o| o.ask.meets(&ask) && (o.ask.writes() || ask.writes()));
            if meets || world.produced.wrapping_sub(world.consumed) == world.size {
                world.drain();
            }
            world.put(&ask);
            match what {
                0 | 1 => world.drain(),
                2 => {
                    // A turn or two, and no more.
                    world.queue.as_mut().unwrap().turn().unwrap();
                    world.queue.as_mut().unwrap().wait(false).unwrap();
                    world.kill();
                }
                3 => {
                    for _ in 0..3 {
                        world.queue.as_mut().unwrap().turn().unwrap();
                        world.queue.as_mut().unwrap().wait(false).unwrap();
                    }
                    world.kill();
                    world.fetch();
                }
                4 => {
                    world.queue.as_mut().unwrap().turn().unwrap();
                    world.fetch();
                }
                _ => {}
            }
        }
        world.drain();
        world.check_file();
    }
}

#[test]
fn a_producer_that_runs_ahead_breaks_the_ring_and_nothing_else() {
    let mut world = World::new();
    world.ring.store(0, 33);
    assert!(world.queue.as_mut().unwrap().turn().is_err());
}
