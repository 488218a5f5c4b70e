//! `XEN_SYSCTL_availheap`: free memory.

use radon_frames::frames;
use xen_abi::sysctl::{Sysctl, SysctlAvailheap};

use super::Result;

const PAGE_SIZE: u64 = 4096;

/// Free bytes of the one node (or of all). Address widths are not told apart.
pub fn avail_heap(op: &mut Sysctl) -> Result {
    let mut asked: SysctlAvailheap = op.payload();
    let here = asked.node <= 0;
    asked.avail_bytes = if here { frames().free_pages().saturating_mul(PAGE_SIZE) } else { 0 };
    op.set_payload(&asked);
    Ok(())
}
