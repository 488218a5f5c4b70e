//! A grant table whose entries hold whatever the granter writes, pinned and unpinned by others.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use radon_addr::{DomId, GrantRef, Maddr, Mfn};
use radon_grant::{Access, FrameKind, FrameRequest, GntStatus, GrantTable, Mode, Purpose, Via};
use radon_hw::mem;

use crate::memory::Pool;
use crate::random::source::Source;

static HOME: OnceLock<u64> = OnceLock::new();
const STEPS: u32 = 512;
/// The granter's RAM: gfns below this, at machine frames from [`RAM`] on (never touched).
const GFNS: u64 = 16;
const RAM: u64 = 0x5000;

pub fn run(data: &[u8]) {
    let s = &mut Source::of_bytes(data);
    let mut pool = Pool::new(&HOME);
    let mut table = GrantTable::new(DomId::new(1), 2, 4).unwrap();
    let mut pins: Vec<(GrantRef, Access, Mfn)> = Vec::new();
    let mut references: BTreeMap<u64, i32> = BTreeMap::new();
    for _ in 0..STEPS {
        if s.done() {
            break;
        }
        let gref = GrantRef::new(if s.chance(95) { s.below(12) as u32 } else { s.odd_word() as u32 });
        match s.below(12) {
            0..=3 => {
                let access = Access {
                    by: DomId::new(s.pick(&[2, 2, 2, 3])),
                    mode: s.pick(&[Mode::Read, Mode::Write]),
                    via: Via::Host,
                };
                let purpose = s.pick(&[Purpose::Map, Purpose::Copy]);
                let pinned = table.pin(gref, access, purpose, |request| {
                    let mfn = match request {
                        FrameRequest::Translate(gfn, _) if gfn.raw() < GFNS => Mfn::new(RAM + gfn.raw()),
                        FrameRequest::Translate(..) => return Err(GntStatus::BAD_PAGE),
                        FrameRequest::Again(mfn) => mfn,
                    };
                    *references.entry(mfn.raw()).or_default() += 1;
                    Ok(mfn)
                });
                if let Ok(pinned) = pinned {
                    let (offset, len) = (s.odd_word() as u16, s.odd_word() as u16);
                    let inside = usize::from(offset) + usize::from(len) <= 4096 && offset >= pinned.start;
                    assert!(pinned.check_range(offset, len).is_err() || inside, "{pinned:?} {offset} {len}");
                    pins.push((gref, access, pinned.mfn));
                }
            }
            4 | 5 => {
                if !pins.is_empty() {
                    let (gref, access, mfn) = pins.swap_remove(s.below(pins.len() as u64) as usize);
                    assert_eq!(table.unpin(gref, access), Some(mfn), "a pin is undone with its own frame");
                    *references.get_mut(&mfn.raw()).unwrap() -= 1;
                }
            }
            6 => drop(table.set_version(s.below(4) as u32, || pool.frame())),
            7 => drop(table.grow(s.below(6) as u32, || pool.frame())),
            8 => {
                let other = GrantRef::new(s.below(12) as u32);
                let swapped = table.swap(gref, other);
                let busy = |g: GrantRef| pins.iter().any(|p| p.0 == g);
                assert!(swapped.is_err() || gref == other || !busy(gref) && !busy(other));
            }
            _ => {
                let kind = s.pick(&[FrameKind::Shared, FrameKind::Shared, FrameKind::Status]);
                let Ok(frame) = table.frame(kind, 0, || pool.frame()) else { continue };
                let size = if table.version() == 2 { 16 } else { 8 };
                let at = frame.maddr().raw() + s.below(12) * size;
                let header = s.pick(&[1u32, 1, 5, 0x101, 3, 2, 0]) | s.pick(&[2, 2, 3, 7]) << 16;
                mem::write(Maddr::new(at), &header);
                let last = if size == 16 { 8 } else { 4 };
                let gfn = if s.chance(80) { s.below(GFNS) } else { s.odd_word() };
                mem::write(Maddr::new(at + last), &(gfn as u32));
                if size == 16 && s.chance(30) {
                    mem::write(Maddr::new(at + 4), &(s.odd_word() as u32));
                }
            }
        }
    }
    for (gref, access, mfn) in pins {
        assert_eq!(table.unpin(gref, access), Some(mfn));
        *references.get_mut(&mfn.raw()).unwrap() -= 1;
    }
    assert_eq!(table.pinned_entries(), 0);
    assert!(references.values().all(|&n| n == 0), "references left: {references:?}");
}
