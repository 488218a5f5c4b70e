//! Grant tables: a serving child grants, this domain maps and copies.

use crate::services;
use harness::domain::{self, Child, Config, map_foreign};
use harness::grant::{self, End, Mapping, copy, map, unmap};
use harness::hypercall::{grant_op, raw};
use harness::{Outcome, Page, Verdict, ensure, ensure_eq, tests, time};
use xen_abi::Errno;
use xen_abi::grant_table::*;
use xen_abi::hypercall::HYPERVISOR_GRANT_TABLE_OP;
use xen_abi::xen::DOMID_SELF;
use zerocopy::FromZeros;

tests! {
    here: grant_query_size, grant_map_read_write, grant_map_read_only, grant_write_to_read_only_is_dropped,
        grant_unmap_clears_flags, grant_stale_handle, grant_map_errors, grant_not_for_us, grant_read_only_not_for_writing,
        grant_revoked, grant_copy_from_grant, grant_copy_to_grant, grant_copy_between_grants, grant_copy_errors,
        grant_copy_read_only, grant_many_mappings, grant_mapping_keeps_domain, grant_twice_mapped,
        grant_absurd_references, grant_map_over_ram, grant_batch, grant_bad_pointer, grant_setup_table,
        grant_v2_full_page, grant_v2_sub_page_copy, grant_v2_sub_page_is_not_mapped, grant_frame_without_memory,
        grant_unmapped_page_is_gone;
    child: grant_set_version, grant_v2_status_frames, grant_table_grows, grant_self_map_and_copy;
}

/// A child that granted a page to us: page `gfn` as reference `gref` of table `table`.
struct Granter {
    child: Child,
    table: u64,
    gfn: u64,
    /// The granted page, as a foreign mapping.
    page: Page,
    table_page: Page,
}

const GREF: u32 = 9;
const WORD: u64 = 0xfeed_f00d_0bad_cafe;

impl Granter {
    fn new(flags: u16) -> Result<Self, Outcome> {
        let child = Child::serving()?;
        let table = child.call(services::grant_table, [0; 6])?;
        ensure!(table != u64::MAX, "the child cannot map its grant table");
        let gfn = child.call(services::page, [0; 6])?;
        let page = map_foreign(child.domid, &[gfn])?;
        page.set(0, WORD);
        let table_page = Page { gfn: table };
        let this = Self { child, table, gfn, page, table_page };
        this.grant(GREF, 0, gfn, flags)?;
        Ok(this)
    }

    fn grant(&self, gref: u32, domid: u16, gfn: u64, flags: u16) -> Result<u64, Outcome> {
        let args = [self.table, u64::from(gref), u64::from(domid), gfn, u64::from(flags), 0];
        self.child.call(services::grant, args)
    }

    fn flags(&self, gref: u32) -> Result<u16, Outcome> {
        let at = self.table_page.at(8 * u64::from(gref));
        Ok(self.child.call(services::peek, [at, 0, 0, 0, 0, 0])? as u16)
    }

    fn map(&self, flags: u32) -> Result<Mapping, Outcome> {
        map(self.child.domid, GREF, flags).map_err(|s| {
            Outcome::Failure(harness::verdict::text(format_args!("mapping failed with status {s}")))
        })
    }

    fn end(self) -> Verdict {
        domain::unmap(self.page, 1)?;
        self.child.destroy()
    }
}

/// `query_size` tells how many frames the table has and may have.
fn grant_query_size() -> Verdict {
    let child = Child::with(&Config { grant_frames: 5, ..Config::default() }, "serve")?;
    let size = grant::query_size(child.domid)?;
    ensure_eq!((size.status, size.max_nr_frames), (GNTST_OKAY, 5), "status, limit");
    ensure!((1..=5).contains(&size.nr_frames), "{} frames", size.nr_frames);
    ensure_eq!(grant::query_size(0x1234)?.status, GNTST_BAD_DOMAIN, "status for an unknown domain");
    child.destroy()
}

/// A mapped grant is the granter's page, for reading and writing.
fn grant_map_read_write() -> Verdict {
    let granter = Granter::new(0)?;
    let mapping = granter.map(0)?;
    ensure_eq!(mapping.page.get::<u64>(0), WORD, "word through the mapping");
    mapping.page.set(16, 0x77_u64);
    ensure_eq!(granter.page.get::<u64>(16), 0x77, "our word in the child's page");
    ensure_eq!(granter.flags(GREF)? & (GTF_READING | GTF_WRITING), GTF_READING | GTF_WRITING, "flags in use");
    ensure_eq!(unmap(mapping), Ok(()), "unmap");
    granter.end()
}

/// A read-only mapping reads, and marks the grant as read only.
fn grant_map_read_only() -> Verdict {
    let granter = Granter::new(GTF_READONLY)?;
    let mapping = granter.map(GNTMAP_READONLY)?;
    ensure_eq!(mapping.page.get::<u64>(0), WORD, "word through the mapping");
    ensure_eq!(granter.flags(GREF)? & (GTF_READING | GTF_WRITING), GTF_READING, "flags in use");
    ensure_eq!(unmap(mapping), Ok(()), "unmap");
    granter.end()
}

/// A write through a read-only mapping changes nothing (and does not harm the writer).
fn grant_write_to_read_only_is_dropped() -> Verdict {
    let granter = Granter::new(0)?;
    let mapping = granter.map(GNTMAP_READONLY)?;
    let _ = harness::trap::catch(|| mapping.page.set(0, 0_u64));
    let _ = harness::trap::catch(|| mapping.page.set(8, 0_u8));
    ensure_eq!(granter.page.get::<u64>(0), WORD, "word after the write");
    ensure_eq!(mapping.page.get::<u64>(0), WORD, "word through the mapping");
    ensure_eq!(unmap(mapping), Ok(()), "unmap");
    granter.end()
}

/// The last unmap clears the flags in the table.
fn grant_unmap_clears_flags() -> Verdict {
    let granter = Granter::new(0)?;
    let (writing, reading) = (granter.map(0)?, granter.map(GNTMAP_READONLY)?);
    ensure_eq!(unmap(writing), Ok(()), "unmap of the writable mapping");
    ensure_eq!(granter.flags(GREF)? & (GTF_READING | GTF_WRITING), GTF_READING, "flags while read");
    ensure_eq!(unmap(reading), Ok(()), "unmap of the other");
    ensure_eq!(granter.flags(GREF)?, GTF_PERMIT_ACCESS, "flags at the end");
    granter.end()
}

/// A handle is good once; absurd ones are refused.
fn grant_stale_handle() -> Verdict {
    let granter = Granter::new(0)?;
    let mapping = granter.map(0)?;
    ensure_eq!(unmap(mapping), Ok(()), "unmap");
    ensure_eq!(unmap(mapping), Err(GNTST_BAD_HANDLE), "second unmap");
    for handle in [0xffff, 1 << 30, u32::MAX] {
        ensure_eq!(
            unmap(Mapping { page: mapping.page, handle }),
            Err(GNTST_BAD_HANDLE),
            "handle {handle:#x}"
        );
    }
    granter.end()
}

/// Unknown domains, references beyond the table, entries without a grant, flags without sense.
fn grant_map_errors() -> Verdict {
    let granter = Granter::new(0)?;
    let domid = granter.child.domid;
    let status = |dom, gref| map(dom, gref, 0).map(|_| ());
    ensure_eq!(status(0x1234, GREF), Err(GNTST_BAD_DOMAIN), "unknown domain");
    ensure_eq!(status(domid, 100_000), Err(GNTST_BAD_GNTREF), "reference beyond the table");
    ensure_eq!(status(domid, GREF + 1), Err(GNTST_GENERAL_ERROR), "entry without a grant");
    ensure_eq!(map(domid, GREF, GNTMAP_DEVICE_MAP).map(|_| ()), Err(GNTST_GENERAL_ERROR), "device mapping");
    let mut op = GnttabMapGrantRef { gref: GREF, dom: domid, ..GnttabMapGrantRef::new_zeroed() };
    grant_op(GNTTABOP_MAP_GRANT_REF, &mut op)?;
    ensure_eq!(op.status, GNTST_BAD_GNTREF, "status of a mapping of no kind");
    granter.end()
}

/// A grant to another domain is not for us.
fn grant_not_for_us() -> Verdict {
    let granter = Granter::new(0)?;
    granter.grant(GREF, 5, granter.gfn, 0)?;
    let status = map(granter.child.domid, GREF, 0).map(|_| ());
    ensure_eq!(status, Err(GNTST_GENERAL_ERROR), "mapping a grant to domain 5");
    granter.end()
}

/// A read-only grant is not mapped for writing.
fn grant_read_only_not_for_writing() -> Verdict {
    let granter = Granter::new(GTF_READONLY)?;
    let status = map(granter.child.domid, GREF, 0).map(|_| ());
    ensure_eq!(status, Err(GNTST_GENERAL_ERROR), "mapping for writing");
    ensure_eq!(granter.flags(GREF)?, GTF_PERMIT_ACCESS | GTF_READONLY, "flags afterwards");
    granter.end()
}

/// A grant that was taken back is not mapped any more.
fn grant_revoked() -> Verdict {
    let granter = Granter::new(0)?;
    let at = granter.table_page.at(8 * u64::from(GREF));
    granter.child.call(services::poke, [at, 0, 0, 0, 0, 0])?;
    let status = map(granter.child.domid, GREF, 0).map(|_| ());
    ensure_eq!(status, Err(GNTST_GENERAL_ERROR), "mapping a revoked grant");
    granter.end()
}

/// Copy from a grant: exactly the bytes asked for.
fn grant_copy_from_grant() -> Verdict {
    let granter = Granter::new(GTF_READONLY)?;
    let own = Page::new();
    let from = End::Grant(granter.child.domid, GREF);
    ensure_eq!(copy(from, 2, End::Own(own.gfn), 100, 4), GNTST_OKAY, "copy");
    ensure_eq!(own.get::<u32>(100), (WORD >> 16) as u32, "bytes copied");
    ensure_eq!((own.get::<u32>(96), own.get::<u32>(104)), (0, 0), "bytes around");
    ensure_eq!(copy(from, 0, End::Own(own.gfn), 0, 4096), GNTST_OKAY, "copy of the page");
    ensure_eq!(own.get::<u64>(0), WORD, "first word");
    ensure_eq!(granter.flags(GREF)?, GTF_PERMIT_ACCESS | GTF_READONLY, "flags afterwards");
    granter.end()
}

/// Copy to a grant.
fn grant_copy_to_grant() -> Verdict {
    let granter = Granter::new(0)?;
    let own = Page::new();
    own.fill(0x4242_4242_4242_4242);
    let to = End::Grant(granter.child.domid, GREF);
    ensure_eq!(copy(End::Own(own.gfn), 0, to, 8, 8), GNTST_OKAY, "copy");
    ensure_eq!(granter.page.get::<u64>(8), 0x4242_4242_4242_4242, "word copied");
    ensure_eq!((granter.page.get::<u64>(0), granter.page.get::<u64>(16)), (WORD, 0), "words around");
    granter.end()
}

/// Copy between two grants of one domain.
fn grant_copy_between_grants() -> Verdict {
    let granter = Granter::new(0)?;
    let domid = granter.child.domid;
    let second = granter.child.call(services::page, [0; 6])?;
    granter.grant(GREF + 1, 0, second, 0)?;
    ensure_eq!(copy(End::Grant(domid, GREF), 0, End::Grant(domid, GREF + 1), 512, 8), GNTST_OKAY, "copy");
    let word = granter.child.call(services::peek, [(second << 12) + 512, 0, 0, 0, 0, 0])?;
    ensure_eq!(word, WORD, "word copied");
    granter.end()
}

/// Copies beyond the page, of unknown domains, bad references and holes are refused.
fn grant_copy_errors() -> Verdict {
    let granter = Granter::new(0)?;
    let (own, domid) = (Page::new(), granter.child.domid);
    let grant = End::Grant(domid, GREF);
    ensure_eq!(copy(grant, 4090, End::Own(own.gfn), 0, 8), GNTST_BAD_COPY_ARG, "source beyond the page");
    ensure_eq!(copy(grant, 0, End::Own(own.gfn), 4095, 2), GNTST_BAD_COPY_ARG, "destination beyond the page");
    ensure_eq!(copy(grant, 0xffff, End::Own(own.gfn), 0, 1), GNTST_BAD_COPY_ARG, "offset 65535");
    ensure_eq!(copy(End::Grant(0x1234, 0), 0, End::Own(own.gfn), 0, 8), GNTST_BAD_DOMAIN, "unknown domain");
    ensure_eq!(
        copy(End::Grant(domid, 100_000), 0, End::Own(own.gfn), 0, 8),
        GNTST_BAD_GNTREF,
        "bad reference"
    );
    ensure_eq!(
        copy(End::Grant(domid, GREF + 1), 0, End::Own(own.gfn), 0, 8),
        GNTST_GENERAL_ERROR,
        "no grant"
    );
    ensure!(copy(grant, 0, End::Own(0xf_ffff_ffff), 0, 8) != GNTST_OKAY, "hole as destination");
    ensure_eq!(own.get::<u64>(0), 0, "word in the page that was to be written");
    granter.end()
}

/// A read-only grant is not copied to.
fn grant_copy_read_only() -> Verdict {
    let granter = Granter::new(GTF_READONLY)?;
    let own = Page::new();
    let status = copy(End::Own(own.gfn), 0, End::Grant(granter.child.domid, GREF), 0, 8);
    ensure_eq!(status, GNTST_GENERAL_ERROR, "copy to a read-only grant");
    ensure_eq!(granter.page.get::<u64>(0), WORD, "word");
    granter.end()
}

/// Hundreds of mappings at once have handles of their own.
fn grant_many_mappings() -> Verdict {
    const COUNT: usize = 300;
    let granter = Granter::new(0)?;
    let mut mappings = alloc::vec::Vec::new();
    for _ in 0..COUNT {
        let mapping = granter.map(GNTMAP_READONLY);
        match mapping {
            Ok(m) => mappings.push(m),
            // Xen counts the mappings of one entry in 8 bits and refuses what might overflow.
            Err(_) if mappings.len() >= 100 => break,
            Err(e) => return Err(e),
        }
    }
    let mut handles: alloc::vec::Vec<u32> = mappings.iter().map(|m| m.handle).collect();
    handles.sort_unstable();
    handles.dedup();
    ensure_eq!(handles.len(), mappings.len(), "different handles");
    for mapping in &mappings {
        ensure_eq!(mapping.page.get::<u64>(0), WORD, "word through a mapping");
        ensure_eq!(unmap(*mapping), Ok(()), "unmap");
    }
    granter.end()
}

/// A destroyed domain whose grant is mapped goes only when it is unmapped.
fn grant_mapping_keeps_domain() -> Verdict {
    let granter = Granter::new(0)?;
    let (mapping, domid) = (granter.map(0)?, granter.child.domid);
    domain::unmap(granter.page, 1)?;
    domain::unmap(granter.child.mailbox, 1)?;
    harness::hypercall::domctl_plain(xen_abi::domctl::XEN_DOMCTL_DESTROYDOMAIN, domid)?;
    time::sleep_ms(20);
    ensure!(domain::info(domid).is_ok(), "the domain is gone though its grant is mapped");
    ensure_eq!(mapping.page.get::<u64>(0), WORD, "word through the mapping");
    ensure_eq!(unmap(mapping), Ok(()), "unmap");
    ensure!(time::wait(3000, || domain::info(domid).is_err()), "the domain stays after unmapping");
    Ok(())
}

/// One grant mapped at two places is one page.
fn grant_twice_mapped() -> Verdict {
    let granter = Granter::new(0)?;
    let (a, b) = (granter.map(0)?, granter.map(0)?);
    ensure!(a.handle != b.handle, "the same handle twice");
    a.page.set(24, 0x99_u64);
    ensure_eq!(b.page.get::<u64>(24), 0x99, "word through the second mapping");
    ensure_eq!((unmap(a), b.page.get::<u64>(24)), (Ok(()), 0x99), "second mapping after the first's end");
    ensure_eq!(unmap(b), Ok(()), "unmap");
    granter.end()
}

/// Random references and domains are refused and harm nothing.
fn grant_absurd_references() -> Verdict {
    let granter = Granter::new(0)?;
    let mut random = harness::random::Random(crate::options::seed());
    let page = Page::scratch();
    for _ in 0..500 {
        let (dom, gref) = (random.bits() as u16 | 0x100, random.bits() as u32 | 0x1000);
        ensure!(grant::map_at(page, dom, gref, 0).is_err(), "domain {dom:#x} reference {gref:#x} was mapped");
        ensure!(grant::map_at(page, granter.child.domid, gref, 0).is_err(), "reference {gref:#x} was mapped");
    }
    let mapping = granter.map(0)?;
    ensure_eq!(mapping.page.get::<u64>(0), WORD, "word through a good mapping");
    ensure_eq!(unmap(mapping), Ok(()), "unmap");
    granter.end()
}

/// Mapping over a frame of RAM is possible; unmapping leaves a hole there.
fn grant_map_over_ram() -> Verdict {
    let granter = Granter::new(0)?;
    let page = Page::scratch();
    ensure_eq!(domain::populate(DOMID_SELF, &mut [page.gfn], 0)?, 1, "populated");
    let mapping = grant::map_at(page, granter.child.domid, GREF, 0);
    if let Ok(mapping) = mapping {
        ensure_eq!(page.get::<u64>(0), WORD, "word through the mapping");
        ensure_eq!(unmap(mapping), Ok(()), "unmap");
    }
    let _ = domain::reservation(xen_abi::memory::XENMEM_DECREASE_RESERVATION, DOMID_SELF, &mut [page.gfn], 0);
    granter.end()
}

/// A list of operations is done one by one, each with its own status.
fn grant_batch() -> Verdict {
    let granter = Granter::new(0)?;
    let gref = [GREF, 100_000, GREF];
    let mut list = gref.map(|gref| GnttabMapGrantRef {
        host_addr: Page::scratch().at(0),
        flags: GNTMAP_HOST_MAP,
        gref,
        dom: granter.child.domid,
        ..GnttabMapGrantRef::new_zeroed()
    });
    let at = harness::hypercall::handle(&mut list).raw();
    let number = u64::from(HYPERVISOR_GRANT_TABLE_OP);
    ensure_eq!(raw(number, [u64::from(GNTTABOP_MAP_GRANT_REF), at, 3, 0, 0]), 0, "the call");
    let status = list.map(|op| op.status);
    ensure_eq!(status, [GNTST_OKAY, GNTST_BAD_GNTREF, GNTST_OKAY], "statuses");
    for op in [list[0], list[2]] {
        let mapping = Mapping { page: Page { gfn: op.host_addr >> 12 }, handle: op.handle };
        ensure_eq!(mapping.page.get::<u64>(0), WORD, "word through a mapping");
        ensure_eq!(unmap(mapping), Ok(()), "unmap");
    }
    granter.end()
}

/// Lists in unmapped memory are -EFAULT, unknown operations -ENOSYS, absurd counts -EINVAL or -EFAULT.
fn grant_bad_pointer() -> Verdict {
    let call =
        |op: u32, at, count| raw(u64::from(HYPERVISOR_GRANT_TABLE_OP), [u64::from(op), at, count, 0, 0]);
    let unmapped = super::hypercalls::UNMAPPED;
    for op in [GNTTABOP_MAP_GRANT_REF, GNTTABOP_UNMAP_GRANT_REF, GNTTABOP_COPY, GNTTABOP_QUERY_SIZE] {
        ensure_eq!(call(op, unmapped, 1), Errno::EFAULT.to_ret(), "operation {op}");
    }
    ensure_eq!(call(60, unmapped, 1), Errno::ENOSYS.to_ret(), "operation 60");
    ensure_eq!(call(GNTTABOP_MAP_GRANT_REF, unmapped, 0), 0, "no operation");
    ensure!(call(GNTTABOP_MAP_GRANT_REF, unmapped, 0xffff_ffff) < 0, "2^32-1 operations");
    Ok(())
}

/// `setup_table` grows the table up to its limit and not beyond.
fn grant_setup_table() -> Verdict {
    let mut frames = [0_u64; 80];
    let max = grant::query_size(DOMID_SELF)?.max_nr_frames;
    let mut setup = |nr_frames| {
        let frame_list = harness::hypercall::handle(&mut frames);
        let mut op =
            GnttabSetupTable { dom: DOMID_SELF, nr_frames, frame_list, ..GnttabSetupTable::new_zeroed() };
        grant_op(GNTTABOP_SETUP_TABLE, &mut op).map(|_| op.status)
    };
    ensure_eq!(setup(2)?, GNTST_OKAY, "two frames");
    ensure_eq!(setup(max + 1)?, GNTST_GENERAL_ERROR, "one frame more than the limit of {max}");
    ensure!(grant::query_size(DOMID_SELF)?.nr_frames >= 2, "the table did not grow");
    Ok(())
}

fn granter_v2() -> Result<Granter, Outcome> {
    let child = Child::serving()?;
    ensure_eq!(child.call(services::grant_version, [2, 0, 0, 0, 0, 0])?, 1, "version 2 in the child");
    let table = child.call(services::grant_table, [0; 6])?;
    let gfn = child.call(services::page, [0; 6])?;
    let page = map_foreign(child.domid, &[gfn])?;
    page.set(0, WORD);
    Ok(Granter { child, table, gfn, page, table_page: Page { gfn: table } })
}

/// A full-page grant of version 2 is mapped and copied like one of version 1.
fn grant_v2_full_page() -> Verdict {
    let granter = granter_v2()?;
    let args = [granter.table, u64::from(GREF), 0, granter.gfn, 0, 0];
    granter.child.call(services::grant_v2, args)?;
    let mapping = granter.map(0)?;
    ensure_eq!(mapping.page.get::<u64>(0), WORD, "word through the mapping");
    ensure_eq!(unmap(mapping), Ok(()), "unmap");
    let own = Page::new();
    let from = End::Grant(granter.child.domid, GREF);
    ensure_eq!(copy(from, 0, End::Own(own.gfn), 0, 8), GNTST_OKAY, "copy");
    ensure_eq!(own.get::<u64>(0), WORD, "word copied");
    granter.end()
}

/// A sub-page grant is copied from inside its bounds only; offsets count from its start.
fn grant_v2_sub_page_copy() -> Verdict {
    let granter = granter_v2()?;
    granter.page.set(256, WORD + 1);
    let part = 256 | 64 << 16;
    let args = [granter.table, u64::from(GREF), 0, granter.gfn, u64::from(GTF_SUB_PAGE), part];
    granter.child.call(services::grant_v2, args)?;
    let (own, from) = (Page::new(), End::Grant(granter.child.domid, GREF));
    let inside = copy(from, 256, End::Own(own.gfn), 0, 8);
    ensure_eq!((inside, own.get::<u64>(0)), (GNTST_OKAY, WORD + 1), "status and word of a copy inside");
    ensure!(copy(from, 0, End::Own(own.gfn), 8, 8) != GNTST_OKAY, "a copy from before the part");
    ensure!(copy(from, 316, End::Own(own.gfn), 8, 8) != GNTST_OKAY, "a copy beyond the part");
    ensure_eq!(own.get::<u64>(8), 0, "word that was to be written");
    granter.end()
}

/// A sub-page grant cannot be mapped.
fn grant_v2_sub_page_is_not_mapped() -> Verdict {
    let granter = granter_v2()?;
    let part = 256 | 64 << 16;
    let args = [granter.table, u64::from(GREF), 0, granter.gfn, u64::from(GTF_SUB_PAGE), part];
    granter.child.call(services::grant_v2, args)?;
    let status = map(granter.child.domid, GREF, 0).map(|_| ());
    ensure_eq!(status, Err(GNTST_GENERAL_ERROR), "mapping a sub-page grant");
    granter.end()
}

/// A grant of a frame without memory is -9 (bad page).
fn grant_frame_without_memory() -> Verdict {
    let granter = Granter::new(0)?;
    granter.grant(GREF, 0, 0xe_0000, 0)?;
    let status = map(granter.child.domid, GREF, 0).map(|_| ());
    ensure_eq!(status, Err(GNTST_BAD_PAGE), "mapping");
    ensure_eq!(granter.flags(GREF)?, GTF_PERMIT_ACCESS, "flags afterwards");
    granter.end()
}

/// After unmapping the frame is a hole again.
fn grant_unmapped_page_is_gone() -> Verdict {
    let granter = Granter::new(0)?;
    let mapping = granter.map(0)?;
    ensure_eq!(mapping.page.get::<u64>(0), WORD, "word through the mapping");
    ensure_eq!(unmap(mapping), Ok(()), "unmap");
    ensure!(mapping.page.get::<u64>(0) != WORD, "the page is there after unmapping");
    granter.end()
}

/// Versions 1 and 2 can be chosen while nothing is granted; others are -EINVAL.
fn grant_set_version() -> Verdict {
    let version = || {
        let mut op = GnttabGetVersion { dom: DOMID_SELF, ..GnttabGetVersion::new_zeroed() };
        grant_op(GNTTABOP_GET_VERSION, &mut op).map(|_| op.version)
    };
    ensure_eq!(grant::set_version(2), Ok(2), "version 2");
    ensure_eq!(version()?, 2, "get_version");
    ensure_eq!(grant::set_version(1), Ok(1), "version 1");
    ensure_eq!(version()?, 1, "get_version");
    ensure_eq!(grant::set_version(3), Err(Errno::EINVAL), "version 3");
    ensure_eq!(grant::set_version(0), Err(Errno::EINVAL), "version 0");
    Ok(())
}

/// Version 2 has status frames, of which there are none in version 1.
fn grant_v2_status_frames() -> Verdict {
    ensure!(grant::map_table(0, true).is_err(), "a status frame in version 1");
    grant::set_version(2)?;
    let status = grant::map_table(0, true)?;
    ensure_eq!(status.get::<u16>(0), 0, "first status word");
    Ok(())
}

/// Mapping a later frame of the table makes the table grow.
fn grant_table_grows() -> Verdict {
    let before = grant::query_size(DOMID_SELF)?;
    ensure!(before.nr_frames < before.max_nr_frames, "nothing to grow");
    let page = grant::map_table(u64::from(before.max_nr_frames) - 1, false)?;
    ensure_eq!(page.get::<u64>(0), 0, "first entry of the new frame");
    ensure_eq!(grant::query_size(DOMID_SELF)?.nr_frames, before.max_nr_frames, "frames");
    Ok(())
}

/// A domain may copy between its own frames and grants to itself; mapping its own grant is refused or works.
fn grant_self_map_and_copy() -> Verdict {
    let (table, from, to) = (grant::map_table(0, false)?, Page::new(), Page::new());
    let own_id = harness::cpu::cpuid(0x4000_0004, 0)[2] as u16;
    from.set(0, WORD);
    grant::grant_v1(table, GREF, own_id, from.gfn, GTF_PERMIT_ACCESS);
    ensure_eq!(copy(End::Grant(DOMID_SELF, GREF), 0, End::Own(to.gfn), 0, 8), GNTST_OKAY, "copy");
    ensure_eq!(to.get::<u64>(0), WORD, "word copied");
    if let Ok(mapping) = map(own_id, GREF, 0) {
        ensure_eq!(mapping.page.get::<u64>(0), WORD, "word through the mapping");
        ensure_eq!(unmap(mapping), Ok(()), "unmap");
    }
    Ok(())
}
