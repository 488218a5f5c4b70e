//! The tables a PVH dom0 gets: the machine's own, in place, behind a new RSDP, XSDT and MADT.
//!
//! dom0's RAM is 1:1, so a machine table is referenced where it lies; the caller maps [`dom0_ranges`] into dom0 at the
//! same address. Which tables pass is Xen's own list (dom0 must not see HPET, DMAR, IVRS, SRAT, ...: the hypervisor
//! owns what they describe).

use alloc::vec;
use alloc::vec::Vec;
use radon_addr::{Gpa, Maddr};

use crate::madt::{ENABLED, FIXED_LEN, TYPE_IOAPIC, TYPE_OVERRIDE, TYPE_X2APIC};
use crate::tables::{CHECKSUM_AT, HEADER_LEN};
use crate::{Error, InterruptOverride, IoApic, Signature, TableRef, Tables, le};

/// Tables dom0 may see (`pvh_acpi_table_allowed`), beside the MADT made for it.
const ALLOWED: [Signature; 12] = [
    *b"DSDT", *b"FACP", *b"FACS", *b"PSDT", *b"SSDT", *b"SBST", *b"MCFG", *b"SLIC", *b"MSDM", *b"WDAT",
    *b"FPDT", *b"S3PT",
];
const LAPIC_DEFAULT_ADDRESS: u32 = 0xfee0_0000;
const RSDP_LEN: usize = 36;
/// MADT offset within the blob: the RSDP, rounded up to a cache line.
const MADT_AT: usize = 64;

/// What dom0's MADT describes.
#[derive(Clone, Copy, Debug)]
pub struct Dom0Params<'a> {
    /// vCPUs; vCPU `i` has UID `i` and APIC id `2 * i`.
    pub vcpus: u32,
    /// Virtual IO-APICs, which mirror the machine's.
    pub ioapics: &'a [IoApic],
    /// The machine's ISA interrupt overrides.
    pub overrides: &'a [InterruptOverride],
}

/// The finished blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dom0Acpi {
    /// Bytes to place at the address given to [`build_dom0`]; its length does not depend on that address.
    pub bytes: Vec<u8>,
    /// Guest-physical address of the RSDP, for the PVH start info.
    pub rsdp: Gpa,
}

fn allowed(t: &TableRef, in_acpi_memory: &impl Fn(Maddr, u64) -> bool) -> bool {
    ALLOWED.contains(&t.signature) && in_acpi_memory(t.at, t.len.into())
}

/// Machine ranges to map 1:1 into dom0 and to call `E820_ACPI`: every table it may see, and the machine's own MADT because
/// `_MAT` methods may refer to it. `in_acpi_memory(start, len)` tells whether the range lies in reserved, ACPI or NVS memory
/// (else it is left out: it could be RAM that belongs to someone).
pub fn dom0_ranges(tables: &Tables, in_acpi_memory: impl Fn(Maddr, u64) -> bool) -> Vec<(Maddr, u64)> {
    let seen = |t: &&TableRef| {
        allowed(t, &in_acpi_memory) || (t.signature == *b"APIC" && in_acpi_memory(t.at, t.len.into()))
    };
    tables.list().iter().filter(seen).map(|t| (t.at, t.len.into())).collect()
}

/// Builds RSDP (offset 0), MADT and XSDT as one blob to be placed at `at` (16-byte aligned, below 4 GiB).
pub fn build_dom0(
    tables: &Tables,
    params: &Dom0Params<'_>,
    at: Gpa,
    in_acpi_memory: impl Fn(Maddr, u64) -> bool,
) -> Result<Dom0Acpi, Error> {
    let madt = madt(tables, params)?;
    let xsdt_at = MADT_AT.saturating_add(madt.len()).next_multiple_of(64);
    // DSDT and FACS are reached through the FADT and do not belong in an XSDT.
    let listed = tables
        .list()
        .iter()
        .filter(|t| allowed(t, &in_acpi_memory) && t.signature != *b"DSDT" && t.signature != *b"FACS")
        .map(|t| t.at.raw());
    let gpa = |off: usize| at.checked_add(off as u64).map(Gpa::raw).ok_or(Error::BadValue(*b"RSDP"));
    let xsdt = xsdt(tables, core::iter::once(gpa(MADT_AT)?).chain(listed))?;

    let mut bytes = vec![0u8; xsdt_at];
    put(&mut bytes, 0, &rsdp(tables, gpa(xsdt_at)?));
    put(&mut bytes, MADT_AT, &madt);
    bytes.extend_from_slice(&xsdt);
    Ok(Dom0Acpi { bytes, rsdp: at })
}

/// Copies `src` to `dst[off..]`; the callers' offsets are constants within `dst`.
fn put(dst: &mut [u8], off: usize, src: &[u8]) {
    for (d, s) in dst.iter_mut().skip(off).zip(src) {
        *d = *s;
    }
}

fn rsdp(tables: &Tables, xsdt: u64) -> [u8; RSDP_LEN] {
    let mut b = [0u8; RSDP_LEN];
    put(&mut b, 0, b"RSD PTR ");
    put(&mut b, 9, &tables.rsdp().oem_id);
    put(&mut b, 15, &[2]);
    put(&mut b, 20, &(RSDP_LEN as u32).to_le_bytes());
    put(&mut b, 24, &xsdt.to_le_bytes());
    if let Some(v1) = b.get_mut(..20) {
        le::seal(v1, 8);
    }
    le::seal(&mut b, 32);
    b
}

/// Sets signature, length, revision and checksum of a table that begins with the machine's own header.
fn finish(mut b: Vec<u8>, signature: Signature, revision: u8) -> Result<Vec<u8>, Error> {
    let len = u32::try_from(b.len()).map_err(|_| Error::BadLength(signature))?;
    put(&mut b, 0, &signature);
    put(&mut b, 4, &len.to_le_bytes());
    put(&mut b, 8, &[revision]);
    le::seal(&mut b, CHECKSUM_AT);
    Ok(b)
}

fn madt(tables: &Tables, p: &Dom0Params<'_>) -> Result<Vec<u8>, Error> {
    let mut b = tables.root_header().to_vec();
    b.extend_from_slice(&LAPIC_DEFAULT_ADDRESS.to_le_bytes());
    b.extend_from_slice(&0u32.to_le_bytes());
    debug_assert_eq!(b.len(), FIXED_LEN);
    for io in p.ioapics {
        b.extend_from_slice(&[TYPE_IOAPIC, 12, io.id, 0]);
        b.extend_from_slice(&io.address.to_le_bytes());
        b.extend_from_slice(&io.gsi_base.to_le_bytes());
    }
    for uid in 0..p.vcpus {
        let apic_id = uid.checked_mul(2).ok_or(Error::BadValue(*b"APIC"))?;
        b.extend_from_slice(&[TYPE_X2APIC, 16, 0, 0]);
        b.extend_from_slice(&apic_id.to_le_bytes());
        b.extend_from_slice(&ENABLED.to_le_bytes());
        b.extend_from_slice(&uid.to_le_bytes());
    }
    for o in p.overrides {
        b.extend_from_slice(&[TYPE_OVERRIDE, 10, o.bus, o.source]);
        b.extend_from_slice(&o.gsi.to_le_bytes());
        b.extend_from_slice(&o.flags.to_le_bytes());
    }
    let machine = tables.find(b"APIC").map_or(4, |t| t.revision);
    finish(b, *b"APIC", machine.min(4))
}

fn xsdt(tables: &Tables, entries: impl Iterator<Item = u64>) -> Result<Vec<u8>, Error> {
    let mut b = tables.root_header().to_vec();
    debug_assert_eq!(b.len(), HEADER_LEN);
    entries.for_each(|e| b.extend_from_slice(&e.to_le_bytes()));
    finish(b, *b"XSDT", 1)
}
