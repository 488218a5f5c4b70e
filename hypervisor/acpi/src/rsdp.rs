//! The root system description pointer (ACPI 6.5 §5.2.5).

use alloc::vec;
use radon_addr::Maddr;

use crate::{Error, PhysReader, le};

const SIGNATURE: &[u8; 8] = b"RSD PTR ";
const V1_LEN: usize = 20;
const V2_LEN: usize = 36;
/// Real-mode segment of the extended BIOS data area.
const EBDA_SEGMENT_AT: Maddr = Maddr::new(0x40e);
const BIOS_AREA: (u64, u64) = (0xe_0000, 0x10_0000);

/// A checked RSDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rsdp {
    /// Where it lies.
    pub at: Maddr,
    /// 0 for ACPI 1.0, 2 and up with an XSDT.
    pub revision: u8,
    /// Vendor string.
    pub oem_id: [u8; 6],
    /// 32-bit root table, 0 when absent.
    pub rsdt: Maddr,
    /// 64-bit root table, 0 when absent.
    pub xsdt: Maddr,
}

impl Rsdp {
    /// Reads and checks the RSDP at `at`.
    pub fn read(r: &impl PhysReader, at: Maddr) -> Result<Rsdp, Error> {
        let sig = *b"RSDP";
        let mut b = [0u8; V2_LEN];
        let v1 = b.get_mut(..V1_LEN).ok_or(Error::NoRsdp)?;
        if !r.read(at, v1) {
            return Err(Error::Unreadable(at));
        }
        if !v1.starts_with(SIGNATURE) {
            return Err(Error::NoRsdp);
        }
        if le::sum(v1) != 0 {
            return Err(Error::BadChecksum(sig));
        }
        let field = |o: Option<u64>| o.ok_or(Error::BadLength(sig));
        let revision = le::u8_at(&b, 15).ok_or(Error::BadLength(sig))?;
        let mut xsdt = 0;
        if revision >= 2 {
            if !r.read(at, &mut b) {
                return Err(Error::Unreadable(at));
            }
            let len = field(le::u32_at(&b, 20).map(u64::from))? as usize;
            if len < V2_LEN {
                return Err(Error::BadLength(sig));
            }
            if le::sum(&b) != 0 {
                return Err(Error::BadChecksum(sig));
            }
            xsdt = field(le::u64_at(&b, 24))?;
        }
        Ok(Rsdp {
            at,
            revision,
            oem_id: le::array_at(&b, 9).ok_or(Error::BadLength(sig))?,
            rsdt: Maddr::new(field(le::u32_at(&b, 16).map(u64::from))?),
            xsdt: Maddr::new(xsdt),
        })
    }
}

/// Looks for the RSDP in the first KiB of the EBDA, then in 0xe0000..0x100000 (ACPI 6.5 §5.2.5.1). On UEFI machines the
/// loader gives the address instead: use [`Rsdp::read`].
pub fn find_rsdp(r: &impl PhysReader) -> Option<Maddr> {
    let mut seg = [0u8; 2];
    let ebda = if r.read(EBDA_SEGMENT_AT, &mut seg) { u64::from(u16::from_le_bytes(seg)) << 4 } else { 0 };
    let low = (0x400..0xa_0000).contains(&ebda).then(|| scan(r, ebda, (ebda + 1024).min(0xa_0000))).flatten();
    low.or_else(|| scan(r, BIOS_AREA.0, BIOS_AREA.1))
}

/// First valid RSDP on a 16-byte boundary of `start..end`; unreadable KiBs are passed over.
fn scan(r: &impl PhysReader, start: u64, end: u64) -> Option<Maddr> {
    const CHUNK: u64 = 1024;
    let mut buf = vec![0u8; CHUNK as usize];
    let mut at = start;
    while at < end {
        if r.read(Maddr::new(at), &mut buf) {
            for (i, head) in buf.chunks(16).enumerate() {
                let here = Maddr::new(at.checked_add(i as u64 * 16)?);
                if head.starts_with(SIGNATURE) && Rsdp::read(r, here).is_ok() {
                    return Some(here);
                }
            }
        }
        at = at.checked_add(CHUNK)?;
    }
    None
}
