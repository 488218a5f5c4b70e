//! What the boot loader hands over: its own structures, command lines, kernels.

use radon_addr::Maddr;
use radon_bootproto::{MULTIBOOT1_MAGIC, MULTIBOOT2_MAGIC, PVH_MAGIC, parse};
use radon_kernel::elf::LoadPlan;
use radon_kernel::unpack;

/// Where the loader's structures lie.
const BASE: u64 = 0x9000;
/// Larger claims are believed (up to a limit) but not worth a fuzzer's time.
const UNPACK_MAX: usize = 1 << 20;

/// Boot loader structures: all of memory is the input.
pub fn loader(data: &[u8]) {
    let Some((&first, memory)) = data.split_first() else { return };
    let read = |at: Maddr, buf: &mut [u8]| {
        let from = at.raw().checked_sub(BASE).and_then(|n| usize::try_from(n).ok());
        let part = from.and_then(|n| memory.get(n..n.checked_add(buf.len())?));
        part.map(|p| buf.copy_from_slice(p)).is_some()
    };
    let magic = [MULTIBOOT1_MAGIC, MULTIBOOT2_MAGIC, PVH_MAGIC][usize::from(first % 3)];
    let Ok(info) = parse(magic, Maddr::new(BASE), &read) else { return };
    // Sorted, without overlaps, nothing empty or beyond the end.
    let mut end = 0;
    for r in &info.memory {
        assert!(r.start.raw() >= end && r.len > 0, "{:?}", info.memory);
        end = r.start.raw().checked_add(r.len).expect("ends within the address space");
    }
    command_line(info.cmdline.as_bytes());
}

/// The hypervisor's options.
pub fn command_line(data: &[u8]) {
    let (options, _warnings) = radon_cmdline::parse(&String::from_utf8_lossy(data));
    for available in [0, 1 << 20, 1 << 32, u64::MAX] {
        let _ = options.dom0.initial_memory(available);
    }
}

/// A kernel image, perhaps compressed.
pub fn kernel(data: &[u8]) {
    let _ = LoadPlan::parse(data);
    if unpack::unpacked_len(data).is_ok_and(|n| n <= UNPACK_MAX)
        && let Ok(elf) = unpack::unpack(data)
        && let Ok(plan) = LoadPlan::parse(&elf)
    {
        let (start, end) = plan.extent();
        assert!(start <= end);
        for segment in &plan.segments {
            assert!(segment.end() >= segment.gpa.raw(), "{segment:?}");
        }
        for kind in 0..32 {
            let _ = plan.note(kind).map(|n| (n.number(), n.text()));
        }
    }
}
