//! The hypercall page: code that older guests let the hypervisor write (CPUID 0x40000002 names the MSR).

use radon_addr::{Gpa, PAGE_SIZE};
use radon_hw::mem;
use xen_abi::Errno;

use crate::domain::Domain;

/// The MSR whose write fills a page (`XEN_CPUID_LEAF(2)`, EBX).
pub const MSR: u32 = 0x4000_0000;
/// Hypercall numbers with an entry: one every 32 bytes.
const ENTRIES: u64 = PAGE_SIZE as u64 / 32;
/// `HYPERVISOR_iret`: never used by an HVM guest.
const IRET: u64 = 23;

/// Fills the page at the guest-physical address in `value` (low bits: index of the page, 0 only).
pub fn fill(domain: &Domain, value: u64) -> Result<(), Errno> {
    if value & (PAGE_SIZE as u64 - 1) != 0 {
        return Err(Errno::EINVAL);
    }
    crate::log_dirty::touch(domain, Gpa::new(value).gfn());
    let p2m = domain.p2m.read();
    let entry =
        p2m.lookup(Gpa::new(value).gfn()).filter(|e| e.kind.is_writable_ram()).ok_or(Errno::EINVAL)?;
    let page = entry.mfn.maddr();
    for number in 0..ENTRIES {
        // mov $number, %eax; vmmcall; ret  -- or ud2 for iret
        let n = (number as u32).to_le_bytes();
        let mut code = [0u8; 32];
        if number == IRET {
            code[..2].copy_from_slice(&[0x0f, 0x0b]);
        } else {
            code[..9].copy_from_slice(&[0xb8, n[0], n[1], n[2], n[3], 0x0f, 0x01, 0xd9, 0xc3]);
        }
        mem::write_bytes(radon_addr::Maddr::new(page.raw() + number * 32), &code);
    }
    Ok(())
}
