//! Requests of a front end: their bytes, decoded and checked. Pure; the bytes are a copy, taken once from the shared ring.

use xen_abi::blkif::*;
use zerocopy::FromBytes;

/// Bytes of a sector, the unit of everything in the ring.
pub const SECTOR: u64 = 512;

/// Sectors of a page.
const SECTORS_PER_PAGE: u8 = 8;

/// Segments of an indirect request at most: 1 MiB, and all of them described by one page.
pub const MOST_SEGMENTS: u16 = 256;

/// A request's place in the ring, copied: as many bytes as the larger of both layouts has.
pub type Slot = [u8; size_of::<BlkifRequest>()];

/// Which layout the front end uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `x86_64-abi`, also without a `protocol` node.
    X86_64,
    /// `x86_32-abi`.
    X86_32,
}

impl Protocol {
    /// By the text of the `protocol` node (`io/protocols.h`).
    pub fn named(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("x86_64-abi") => Some(Self::X86_64),
            Some("x86_32-abi") => Some(Self::X86_32),
            Some(_) => None,
        }
    }

    /// Bytes from one request to the next.
    pub const fn entry_size(self) -> usize {
        match self {
            Self::X86_64 => size_of::<BlkifRequest>(),
            Self::X86_32 => size_of::<CompatBlkifRequest>(),
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// As asked.
    Okay,
    /// It makes no sense, or could not be done.
    Error,
    /// Not offered.
    NotSupported,
}

impl Status {
    /// As in the response.
    pub fn code(self) -> i16 {
        match self {
            Self::Okay => BLKIF_RSP_OKAY,
            Self::Error => BLKIF_RSP_ERROR,
            Self::NotSupported => BLKIF_RSP_EOPNOTSUPP,
        }
    }
}

/// What is done with a request's segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// From the disk.
    Read,
    /// To the disk.
    Write,
    /// After everything before it is on stable storage, to the disk, and on stable storage itself, before anything after it begins.
    /// A flush request that carries data, too.
    Barrier,
}

/// A part of a granted page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The page's grant.
    pub gref: u32,
    /// Where in it, in bytes.
    pub offset: u16,
    /// Bytes.
    pub length: u16,
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Data, from or to these segments.
    Transfer(Transfer, u64, Vec<Segment>),
    /// Data; `count` segments are described in granted pages.
    Indirect {
        /// Reading or writing.
        transfer: Transfer,
        /// First sector on the disk.
        sector: u64,
        /// Segments: 1 to [`MOST_SEGMENTS`].
        count: u16,
        /// The page that describes them.
        page: u32,
    },
    /// What was acknowledged is to be on stable storage.
    Flush,
    /// A range of sectors holds nothing of interest any more.
    Discard {
        /// First sector.
        sector: u64,
        /// Sectors.
        count: u64,
    },
}

/// A decoded request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Goes back unchanged.
    pub id: u64,
    /// Goes back too; of an indirect request, what it does with its segments.
    pub operation: u8,
    /// What it asks for, or how it ends at once.
    pub what: Result<What, Status>,
}

/// The fields that both layouts have.
struct Plain {
    operation: u8,
    nr_segments: u8,
    id: u64,
    sector: u64,
    segments: [BlkifRequestSegment; BLKIF_MAX_SEGMENTS_PER_REQUEST as usize],
}

/// Decodes a request.
pub fn decode(protocol: Protocol, slot: &Slot) -> Request {
    // Both layouts are no longer than the slot.
    let Some(plain) = plain(protocol, slot) else {
        return Request { id: 0, operation: 0, what: Err(Status::Error) };
    };
    let direct = |transfer| {
        let segments = plain.segments.get(..plain.nr_segments.into()).ok_or(Status::Error)?;
        let segments = segments.iter().map(segment).collect::<Result<Vec<_>, _>>()?;
        Ok(What::Transfer(transfer, plain.sector, segments))
    };
    let mut operation = plain.operation;
    let what = match plain.operation {
        BLKIF_OP_READ => direct(Transfer::Read),
        BLKIF_OP_WRITE => direct(Transfer::Write),
        BLKIF_OP_WRITE_BARRIER => direct(Transfer::Barrier),
        BLKIF_OP_FLUSH_DISKCACHE if plain.nr_segments == 0 => Ok(What::Flush),
        BLKIF_OP_FLUSH_DISKCACHE => direct(Transfer::Barrier),
        BLKIF_OP_DISCARD => discard(protocol, slot).ok_or(Status::Error),
        BLKIF_OP_INDIRECT => {
            // The same byte as `nr_segments` of the others.
            operation = plain.nr_segments;
            indirect(protocol, slot)
        }
        _ => Err(Status::NotSupported),
    };
    Request { id: plain.id, operation, what }
}

fn plain(protocol: Protocol, slot: &Slot) -> Option<Plain> {
    Some(match protocol {
        Protocol::X86_64 => {
            let (r, _) = BlkifRequest::read_from_prefix(slot).ok()?;
            Plain {
                operation: r.operation,
                nr_segments: r.nr_segments,
                id: r.id,
                sector: r.sector_number,
                segments: r.seg,
            }
        }
        Protocol::X86_32 => {
            let (r, _) = CompatBlkifRequest::read_from_prefix(slot).ok()?;
            Plain {
                operation: r.operation,
                nr_segments: r.nr_segments,
                id: r.id,
                sector: r.sector_number,
                segments: r.seg,
            }
        }
    })
}

fn segment(raw: &BlkifRequestSegment) -> Result<Segment, Status> {
    if raw.first_sect > raw.last_sect || raw.last_sect >= SECTORS_PER_PAGE {
        return Err(Status::Error);
    }
    let sectors = raw.last_sect - raw.first_sect + 1;
    Ok(Segment {
        gref: raw.gref,
        offset: u16::from(raw.first_sect) * SECTOR as u16,
        length: u16::from(sectors) * SECTOR as u16,
    })
}

fn discard(protocol: Protocol, slot: &Slot) -> Option<What> {
    let (sector, count) = match protocol {
        Protocol::X86_64 => {
            let (r, _) = BlkifRequestDiscard::read_from_prefix(slot).ok()?;
            (r.sector_number, r.nr_sectors)
        }
        Protocol::X86_32 => {
            let (r, _) = CompatBlkifRequestDiscard::read_from_prefix(slot).ok()?;
            (r.sector_number, r.nr_sectors)
        }
    };
    // The flag for a secure discard means nothing: `discard-secure` is 0.
    Some(What::Discard { sector, count })
}

fn indirect(protocol: Protocol, slot: &Slot) -> Result<What, Status> {
    let (operation, count, sector, pages) = match protocol {
        Protocol::X86_64 => {
            let (r, _) = BlkifRequestIndirect::read_from_prefix(slot).map_err(|_| Status::Error)?;
            (r.indirect_op, r.nr_segments, r.sector_number, r.indirect_grefs)
        }
        Protocol::X86_32 => {
            let (r, _) = CompatBlkifRequestIndirect::read_from_prefix(slot).map_err(|_| Status::Error)?;
            (r.indirect_op, r.nr_segments, r.sector_number, r.indirect_grefs)
        }
    };
    let transfer = match operation {
        BLKIF_OP_READ => Transfer::Read,
        BLKIF_OP_WRITE => Transfer::Write,
        _ => return Err(Status::Error),
    };
    if count == 0 || count > MOST_SEGMENTS {
        return Err(Status::Error);
    }
    let [page, ..] = pages;
    Ok(What::Indirect { transfer, sector, count, page })
}

/// The segments that a page of an indirect request describes: `count` of them.
pub fn segments(bytes: &[u8], count: u16) -> Result<Vec<Segment>, Status> {
    let all = bytes.chunks_exact(size_of::<BlkifRequestSegment>()).take(count.into());
    let all: Vec<Segment> = all
        .map(|b| BlkifRequestSegment::read_from_bytes(b).map_err(|_| Status::Error))
        .map(|raw| segment(&raw?))
        .collect::<Result<_, _>>()?;
    if all.len() == usize::from(count) { Ok(all) } else { Err(Status::Error) }
}

/// What the guest sees of a disk, for checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Its size.
    pub sectors: u64,
    /// Whether the guest may not write.
    pub read_only: bool,
}

/// A part of the disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where it begins.
    pub start: u64,
    /// Bytes.
    pub length: u64,
}

impl Geometry {
    /// Where a transfer's data are on the disk.
    pub fn transfer(&self, transfer: Transfer, sector: u64, segments: &[Segment]) -> Result<Span, Status> {
        if transfer != Transfer::Read && self.read_only {
            return Err(Status::Error);
        }
        let length: u64 = segments.iter().map(|s| u64::from(s.length)).sum();
        // An empty barrier is one all the same; anything else has to have data.
        if length == 0 && transfer != Transfer::Barrier {
            return Err(Status::Error);
        }
        self.span(sector, length / SECTOR)
    }

    /// Where a discarded range is on the disk.
    pub fn discard(&self, sector: u64, count: u64) -> Result<Span, Status> {
        if self.read_only || count == 0 { Err(Status::Error) } else { self.span(sector, count) }
    }

    fn span(&self, sector: u64, count: u64) -> Result<Span, Status> {
        let end = sector.checked_add(count).filter(|end| *end <= self.sectors).ok_or(Status::Error)?;
        // No disk is so large that its size in bytes does not fit.
        let bytes = |sectors: u64| sectors.checked_mul(SECTOR).ok_or(Status::Error);
        bytes(end)?;
        Ok(Span { start: bytes(sector)?, length: bytes(count)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    fn slot(bytes: &[u8]) -> Slot {
        let mut slot = [0; size_of::<Slot>()];
        slot[..bytes.len()].copy_from_slice(bytes);
        slot
    }

    fn raw(gref: u32, first_sect: u8, last_sect: u8) -> BlkifRequestSegment {
        BlkifRequestSegment { gref, first_sect, last_sect, _pad: [0; 2] }
    }

    fn direct(operation: u8, nr_segments: u8, segment: BlkifRequestSegment) -> Slot {
        slot(
            BlkifRequest {
                operation,
                nr_segments,
                handle: 0,
                _pad: 0,
                id: 9,
                sector_number: 5,
                seg: [segment; 11],
            }
            .as_bytes(),
        )
    }

    #[test]
    fn both_layouts_say_the_same() {
        let seg = [raw(3, 1, 2); 11];
        let wide = direct(BLKIF_OP_WRITE, 2, seg[0]);
        let narrow = slot(
            CompatBlkifRequest { operation: 1, nr_segments: 2, handle: 0, id: 9, sector_number: 5, seg }
                .as_bytes(),
        );
        let part = Segment { gref: 3, offset: 512, length: 1024 };
        let what = Ok(What::Transfer(Transfer::Write, 5, vec![part, part]));
        let wanted = Request { id: 9, operation: BLKIF_OP_WRITE, what };
        assert_eq!(decode(Protocol::X86_64, &wide), wanted);
        assert_eq!(decode(Protocol::X86_32, &narrow), wanted);
        let narrow = CompatBlkifRequestIndirect {
            operation: BLKIF_OP_INDIRECT,
            indirect_op: BLKIF_OP_READ,
            nr_segments: 12,
            id: 8,
            sector_number: 7,
            handle: 0,
            _pad: 0,
            indirect_grefs: [77; 8],
            pad: 0,
        };
        let what = Ok(What::Indirect { transfer: Transfer::Read, sector: 7, count: 12, page: 77 });
        let wanted = Request { id: 8, operation: BLKIF_OP_READ, what };
        assert_eq!(decode(Protocol::X86_32, &slot(narrow.as_bytes())), wanted);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = |slot: Slot| decode(Protocol::X86_64, &slot).what.unwrap_err();
        assert_eq!(refused(direct(BLKIF_OP_READ, 12, raw(1, 0, 7))), Status::Error);
        assert_eq!(refused(direct(BLKIF_OP_READ, 1, raw(1, 0, 8))), Status::Error);
        assert_eq!(refused(direct(BLKIF_OP_READ, 1, raw(1, 3, 2))), Status::Error);
        assert_eq!(refused(direct(4, 1, raw(1, 0, 7))), Status::NotSupported);
        assert_eq!(refused(direct(7, 1, raw(1, 0, 7))), Status::NotSupported);
        let indirect = |indirect_op, nr_segments| {
            let r = BlkifRequestIndirect {
                operation: BLKIF_OP_INDIRECT,
                indirect_op,
                nr_segments,
                _pad: 0,
                id: 1,
                sector_number: 0,
                handle: 0,
                _pad2: 0,
                indirect_grefs: [0; 8],
                _pad3: 0,
            };
            decode(Protocol::X86_64, &slot(r.as_bytes())).what
        };
        assert!(indirect(BLKIF_OP_WRITE, MOST_SEGMENTS).is_ok());
        for (operation, count) in [(1, 0), (1, MOST_SEGMENTS + 1), (1, u16::MAX), (2, 1), (6, 1)] {
            assert_eq!(indirect(operation, count), Err(Status::Error), "{operation} {count}");
        }
    }

    #[test]
    fn nothing_beyond_the_end_and_nothing_written_to_what_is_read_only() {
        let page = [Segment { gref: 1, offset: 0, length: 4096 }];
        let disk = Geometry { sectors: 16, read_only: false };
        assert_eq!(disk.transfer(Transfer::Read, 8, &page), Ok(Span { start: 4096, length: 4096 }));
        for sector in [9, 16, u64::MAX, u64::MAX - 7, u64::MAX / 512] {
            assert_eq!(disk.transfer(Transfer::Read, sector, &page), Err(Status::Error), "{sector}");
        }
        assert_eq!(disk.transfer(Transfer::Read, 0, &[]), Err(Status::Error));
        assert_eq!(disk.transfer(Transfer::Barrier, 0, &[]), Ok(Span { start: 0, length: 0 }));
        assert_eq!(disk.discard(0, 16), Ok(Span { start: 0, length: 8192 }));
        for (sector, count) in [(0, 0), (0, 17), (1, u64::MAX), (u64::MAX, 1)] {
            assert_eq!(disk.discard(sector, count), Err(Status::Error));
        }
        let disk = Geometry { sectors: 16, read_only: true };
        assert!(disk.transfer(Transfer::Read, 0, &page).is_ok());
        assert_eq!(disk.transfer(Transfer::Write, 0, &page), Err(Status::Error));
        assert_eq!(disk.transfer(Transfer::Barrier, 0, &page), Err(Status::Error));
        assert_eq!(disk.discard(0, 1), Err(Status::Error));
        let huge = Geometry { sectors: u64::MAX, read_only: false };
        assert_eq!(huge.discard(u64::MAX - 1, 1), Err(Status::Error));
    }

    proptest! {
        #[test]
        fn whatever_is_let_through_is_within_page_and_disk(
            bytes in proptest::collection::vec(any::<u8>(), size_of::<Slot>()),
            operation in 0u8..8,
            sectors in 0u64..1 << 20,
            narrow in any::<bool>(),
        ) {
            let mut slot = slot(&bytes);
            slot[0] = operation;
            let protocol = if narrow { Protocol::X86_32 } else { Protocol::X86_64 };
            let disk = Geometry { sectors, read_only: false };
            let within = |span: Span| span.start + span.length <= sectors * SECTOR;
            match decode(protocol, &slot).what {
                Ok(What::Transfer(transfer, sector, parts)) => {
                    prop_assert!(parts.len() <= 11);
                    for part in &parts {
                        prop_assert!(part.length > 0 && part.offset + part.length <= 4096);
                    }
                    prop_assert!(disk.transfer(transfer, sector, &parts).is_ok_and(within)
                        || disk.transfer(transfer, sector, &parts).is_err());
                }
                Ok(What::Discard { sector, count }) => {
                    prop_assert!(disk.discard(sector, count).is_ok_and(within) || disk.discard(sector, count).is_err());
                }
                Ok(What::Indirect { count, .. }) => prop_assert!((1..=MOST_SEGMENTS).contains(&count)),
                Ok(What::Flush) | Err(_) => {}
            }
        }
    }
}
