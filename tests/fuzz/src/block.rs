//! The block back end: any bytes in a ring and in the pages that a guest grants; any bytes as the table that a killed server left.

use radon_block::disk::Disk;
use radon_block::queue::{Guest, Queue};
use radon_block::request::Protocol;
use radon_block::ring::Ring;
use radon_block::table::Table;
use radon_xen::gntdev::{Copy, Direction};
use radon_xen::page::SharedPages;
use std::io;
use std::sync::{Arc, OnceLock};

const DISK: u64 = 64 << 10;
const PAGE: usize = 4096;

/// Grants 0 to 15 are pages; the even ones hold the input, the odd ones are written only.
struct Pages(Vec<SharedPages>);

impl Guest for Pages {
    fn copy(&mut self, memory: &SharedPages, copies: &[Copy], done: &mut Vec<bool>) -> io::Result<()> {
        for copy in copies {
            let (offset, length) = (usize::from(copy.offset), usize::from(copy.length));
            assert!(offset + length <= PAGE && copy.at + length <= memory.len(), "{copy:?}");
            let page = self.0.get(copy.reference as usize);
            done.push(page.is_some());
            let Some(page) = page else { continue };
            let mut bytes = vec![0; length];
            match copy.direction {
                Direction::FromGrant => {
                    page.read(offset, &mut bytes);
                    memory.write(copy.at, &bytes);
                }
                Direction::ToGrant => {
                    memory.read(copy.at, &mut bytes);
                    page.write(offset, &bytes);
                }
            }
        }
        Ok(())
    }

    fn notify(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn disk() -> Arc<Disk> {
    static DISKS: OnceLock<Arc<Disk>> = OnceLock::new();
    let make = || {
        let path = std::env::temp_dir().join(format!("radon-fuzz-disk-{}", std::process::id()));
        std::fs::File::create(&path).unwrap().set_len(DISK).unwrap();
        let disk = Disk::open(&path, false, None).unwrap();
        std::fs::remove_file(&path).unwrap();
        Arc::new(disk)
    };
    DISKS.get_or_init(make).clone()
}

/// Byte 0: layout, producer as it stands, or small. Then the ring's page from its first index on, then granted pages.
pub fn ring(data: &[u8]) {
    let Some((&how, rest)) = data.split_first() else { return };
    let protocol = if how & 1 == 0 { Protocol::X86_64 } else { Protocol::X86_32 };
    let shared = Arc::new(SharedPages::anonymous(1).unwrap());
    let (head, granted) = rest.split_at(rest.len().min(PAGE));
    shared.write(0, head);
    shared.store(8, 0);
    if how & 2 == 0 {
        shared.store(0, shared.load(0) % 33);
    }
    let pages: Vec<_> = (0..16)
        .map(|n| {
            let page = SharedPages::anonymous(1).unwrap();
            if n % 2 == 0 {
                page.write(0, granted.get(..granted.len().min(PAGE)).unwrap_or_default());
            }
            page
        })
        .collect();
    let table = Table::begin(SharedPages::anonymous(2).unwrap(), 32, protocol, 0);
    let ring = Ring::attach(shared.clone(), protocol);
    let mut queue = Queue::new(Pages(pages), ring, table, Vec::new(), disk(), 0).unwrap();
    let asked = shared.load(0);
    let mut rounds = 0;
    while let Ok(moved) = queue.turn() {
        if !moved && !queue.is_busy() {
            // Everything has been answered.
            assert_eq!(shared.load(8), asked);
            break;
        }
        rounds += 1;
        assert!(rounds < 10_000, "it does not come to an end");
        queue.wait(!moved).unwrap();
    }
    assert_eq!(disk().geometry().sectors, DISK / 512);
}

/// Bytes 0 to 3: what the ring says is published. Then the table.
pub fn table(data: &[u8]) {
    let Some((published, rest)) = data.split_first_chunk() else { return };
    let pages = SharedPages::anonymous(2).unwrap();
    pages.write(0, rest.get(..rest.len().min(pages.len())).unwrap_or_default());
    if let Ok(mut table) = Table::adopt(pages, 32, Protocol::X86_64)
        && let Some(left) = table.left(u32::from_le_bytes(*published))
    {
        assert!(left.again.len() <= 32);
        // There is room for exactly the others.
        for n in left.again.len()..32 {
            assert!(table.take(left.taken.wrapping_add(n as u32), &[0; 112]).is_some());
        }
        assert!(table.take(0, &[0; 112]).is_none());
    }
}
