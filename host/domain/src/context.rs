//! The state in which a PVH guest's first vCPU starts, as records of a saved context (`hvm/save.h`).
//!
//! 32-bit protected mode without paging, flat segments, `ebx` pointing to the start info (`docs/misc/pvh.pandoc`,
//! `arch-x86/hvm/start_info.h`). Pure.

use xen_abi::hvm_save::*;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

const DESCRIPTOR: usize = size_of::<HvmSaveDescriptor>();
/// MTRRs on, default type write-back.
const MTRR_DEFAULT_WRITE_BACK: u64 = 1 << 11 | 6;

/// A domain's saved state lacks a record, or is cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the hypervisor's saved state of the new domain has no {0} record")]
pub struct Missing(&'static str);

/// The body of a record of a saved state.
fn record(stream: &[u8], typecode: u16, instance: u16) -> Option<&[u8]> {
    let mut rest = stream;
    loop {
        let (head, after) = HvmSaveDescriptor::read_from_prefix(rest).ok()?;
        let (body, next) = after.split_at_checked(head.length as usize)?;
        if (head.typecode, head.instance) == (typecode, instance) {
            return Some(body);
        }
        if head.typecode == HVM_SAVE_CODE_END {
            return None;
        }
        rest = next;
    }
}

/// A stream of the header and one record.
fn stream(header: &[u8], typecode: u16, instance: u16, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(3 * DESCRIPTOR + header.len() + body.len());
    let none: &[u8] = &[];
    for (typecode, instance, body) in
        [(HVM_SAVE_CODE_HEADER, 0, header), (typecode, instance, body), (HVM_SAVE_CODE_END, 0, none)]
    {
        out.extend_from_slice(HvmSaveDescriptor { typecode, instance, length: body.len() as u32 }.as_bytes());
        out.extend_from_slice(body);
    }
    out
}

/// The streams to load, in order, into a new domain whose own state is `saved`: memory types of each vCPU, then the first
/// vCPU's registers (last, because each load takes all vCPUs down).
pub fn start(saved: &[u8], vcpus: u32, entry: u64, start_info: u64) -> Result<Vec<Vec<u8>>, Missing> {
    let header = record(saved, HVM_SAVE_CODE_HEADER, 0).ok_or(Missing("header"))?;
    let mut streams = Vec::new();
    let mtrr = record(saved, HVM_SAVE_CODE_MTRR, 0).ok_or(Missing("MTRR"))?;
    let mut mtrr = HvmHwMtrr::read_from_bytes(mtrr).map_err(|_| Missing("whole MTRR"))?;
    mtrr.msr_mtrr_def_type = MTRR_DEFAULT_WRITE_BACK;
    for vcpu in 0..vcpus {
        streams.push(stream(header, HVM_SAVE_CODE_MTRR, vcpu as u16, mtrr.as_bytes()));
    }
    streams.push(stream(header, HVM_SAVE_CODE_CPU, 0, registers(entry, start_info).as_bytes()));
    Ok(streams)
}

/// The same saved state, but its first vCPU finds this result of the hypercall it is in.
pub fn with_result(saved: &[u8], result: u64) -> Result<Vec<u8>, Missing> {
    let body = record(saved, HVM_SAVE_CODE_CPU, 0).ok_or(Missing("CPU"))?;
    let mut cpu = HvmHwCpu::read_from_bytes(body).map_err(|_| Missing("whole CPU"))?;
    cpu.rax = result;
    // The record lies within the stream, so the difference of their addresses is its place.
    let at = body.as_ptr().addr() - saved.as_ptr().addr();
    let mut changed = saved.to_vec();
    if let Some(place) = changed.get_mut(at..at + body.len()) {
        place.copy_from_slice(cpu.as_bytes());
    }
    Ok(changed)
}

fn registers(entry: u64, start_info: u64) -> HvmHwCpu {
    const FLAT_CODE: u32 = 0xc9b;
    const FLAT_DATA: u32 = 0xc93;
    const BUSY_TSS: u32 = 0x8b;
    HvmHwCpu {
        rip: entry,
        rbx: start_info,
        rflags: 2,
        // Protection on, extension type as every processor has it.
        cr0: 0x11,
        dr6: 0xffff_0ff0,
        dr7: 0x400,
        cs_limit: u32::MAX,
        ds_limit: u32::MAX,
        es_limit: u32::MAX,
        ss_limit: u32::MAX,
        tr_limit: 0x67,
        cs_arbytes: FLAT_CODE,
        ds_arbytes: FLAT_DATA,
        es_arbytes: FLAT_DATA,
        ss_arbytes: FLAT_DATA,
        tr_arbytes: BUSY_TSS,
        ..HvmHwCpu::new_zeroed()
    }
}

/// The page directory that maps all 4 GiB onto themselves in pages of 4 MiB.
pub fn identity_page_table() -> Vec<u8> {
    // Present, writable, user, accessed, dirty, large.
    const FLAGS: u32 = 0xe7;
    (0..1024u32).flat_map(|n| (n << 22 | FLAGS).to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn saved() -> Vec<u8> {
        let mut header = HvmSaveHeader::new_zeroed();
        header.magic = HVM_FILE_MAGIC;
        let mut mtrr = HvmHwMtrr::new_zeroed();
        mtrr.msr_pat_cr = 7;
        stream(header.as_bytes(), HVM_SAVE_CODE_MTRR, 0, mtrr.as_bytes())
    }

    #[test]
    fn streams_end_with_the_registers() {
        let streams = start(&saved(), 2, 0x100_0000, 0x5000).unwrap();
        assert_eq!(streams.len(), 3);
        for (n, s) in streams.iter().enumerate() {
            let header = HvmSaveHeader::read_from_bytes(record(s, HVM_SAVE_CODE_HEADER, 0).unwrap()).unwrap();
            assert_eq!(header.magic, HVM_FILE_MAGIC);
            let mtrr = record(s, HVM_SAVE_CODE_MTRR, n as u16);
            assert_eq!(mtrr.is_some(), n < 2);
            if let Some(mtrr) = mtrr {
                let mtrr = HvmHwMtrr::read_from_bytes(mtrr).unwrap();
                assert_eq!((mtrr.msr_pat_cr, mtrr.msr_mtrr_def_type), (7, 0x806));
            }
        }
        let cpu = HvmHwCpu::read_from_bytes(record(&streams[2], HVM_SAVE_CODE_CPU, 0).unwrap()).unwrap();
        assert_eq!((cpu.rip, cpu.rbx, cpu.cr0), (0x100_0000, 0x5000, 0x11));
    }

    #[test]
    fn a_result_changes_one_register() {
        let before = stream(&[], HVM_SAVE_CODE_CPU, 0, registers(1, 2).as_bytes());
        let after = with_result(&before, 77).unwrap();
        let cpu = HvmHwCpu::read_from_bytes(record(&after, HVM_SAVE_CODE_CPU, 0).unwrap()).unwrap();
        assert_eq!(cpu, HvmHwCpu { rax: 77, ..registers(1, 2) });
        assert_eq!(with_result(&after, 0).unwrap(), before);
        assert!(with_result(&saved(), 1).is_err());
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_not_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..300) {
            let _ = start(&bytes, 1, 0, 0);
            let whole = saved();
            let part = &whole[..cut.min(whole.len())];
            prop_assert_eq!(start(part, 1, 0, 0).is_ok(), record(part, HVM_SAVE_CODE_MTRR, 0).is_some());
        }
    }

    #[test]
    fn the_identity_table() {
        let table = identity_page_table();
        assert_eq!(table.len(), 4096);
        assert_eq!(table[4 * 1023..], 0xffc0_00e7u32.to_le_bytes());
    }
}
