//! ACPI tables of a PVH guest: RSDP, XSDT, FADT, FACS, MADT, DSDT.
//!
//! Written from the ACPI specification (6.4, chapter 5). A guest has local APICs and nothing else: no I/O APIC, PIC, timers,
//! buttons or PCI. The FADT's power-management ports are those that `hvm/ioreq.h` reserves; nobody answers there, as with
//! Xen's own toolstack, whose guests end by halting for good.
//!
//! Every vCPU that a guest may ever have is described as present. Those that it is not to use yet are offline in the store
//! (`cpu/N/availability`), where Linux looks before it starts them and whenever they change.

pub mod aml;

/// Local APIC number of a vCPU: Xen's rule for guests.
pub const fn apic_id(vcpu: u32) -> u32 {
    vcpu * 2
}

/// Most vCPUs of a guest (`HVM_MAX_VCPUS`), so APIC numbers fit a byte.
pub const MOST_VCPUS: u32 = 128;

const HEADER: usize = 36;
const RSDP: usize = 36;
const FACS: usize = 64;
const FADT: usize = 268;
const LOCAL_APIC: u32 = 0xfee0_0000;
/// `ACPI_PM1A_EVT_BLK_ADDRESS_V1` and its neighbours.
const PM1A_EVENT: u16 = 0xb000;
const PM1A_CONTROL: u16 = 0xb004;
const GPE0: u16 = 0xafe0;

/// Tables in one piece, to be put where they were made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// All of them; the root pointer comes first.
    pub bytes: Vec<u8>,
    /// The root pointer alone, for a second place.
    pub rsdp: Vec<u8>,
}

/// Tables of a guest with so many vCPUs, to lie at `at` (below 4 GiB, page-aligned).
pub fn tables(at: u64, vcpus: u32) -> Tables {
    let at = at as u32;
    let mut bytes = vec![0; RSDP];
    let mut place = |table: Vec<u8>| -> u32 {
        // The FACS must be aligned to 64 bytes; the others do not mind.
        bytes.resize(bytes.len().next_multiple_of(64), 0);
        let here = at + bytes.len() as u32;
        bytes.extend(table);
        here
    };
    let facs_at = place(facs());
    let dsdt_at = place(dsdt(vcpus));
    let fadt_at = place(fadt(facs_at, dsdt_at));
    let madt_at = place(madt(vcpus));
    let entries: Vec<u8> = [fadt_at, madt_at].iter().flat_map(|a| u64::from(*a).to_le_bytes()).collect();
    let xsdt_at = place(table(b"XSDT", 1, &entries));
    let rsdp = rsdp(xsdt_at);
    bytes.splice(..RSDP, rsdp.iter().copied());
    Tables { bytes, rsdp }
}

fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, b| sum.wrapping_add(*b)).wrapping_neg()
}

/// A table with the common header (5.2.6).
fn table(signature: &[u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + body.len());
    out.extend_from_slice(signature);
    out.extend_from_slice(&((HEADER + body.len()) as u32).to_le_bytes());
    out.extend_from_slice(&[revision, 0]);
    out.extend_from_slice(b"RADON\0");
    out.extend_from_slice(b"PVH\0\0\0\0\0");
    out.extend_from_slice(&1u32.to_le_bytes());
    out.extend_from_slice(b"RDN ");
    out.extend_from_slice(&1u32.to_le_bytes());
    out.extend_from_slice(body);
    out[9] = checksum(&out);
    out
}

/// Root pointer, revision 2 (5.2.5.3).
fn rsdp(xsdt: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(RSDP);
    out.extend_from_slice(b"RSD PTR \0RADON\0\x02");
    // No RSDT: revision 2 has the XSDT.
    out.extend_from_slice(&0u32.to_le_bytes());
    out.extend_from_slice(&(RSDP as u32).to_le_bytes());
    out.extend_from_slice(&u64::from(xsdt).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out[8] = checksum(&out[..20]);
    out[32] = checksum(&out);
    out
}

/// Firmware control structure (5.2.10), version 1, no wake-up vector.
fn facs() -> Vec<u8> {
    let mut out = vec![0; FACS];
    out[..4].copy_from_slice(b"FACS");
    out[4..8].copy_from_slice(&(FACS as u32).to_le_bytes());
    out[32] = 1;
    out
}

/// Fixed description (5.2.9), revision 5.
fn fadt(facs: u32, dsdt: u32) -> Vec<u8> {
    let mut out = vec![0; FADT];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(36, &facs.to_le_bytes());
    put(40, &dsdt.to_le_bytes());
    // SCI_INT: never raised, but a number has to stand here.
    put(46, &9u16.to_le_bytes());
    put(56, &u32::from(PM1A_EVENT).to_le_bytes());
    put(64, &u32::from(PM1A_CONTROL).to_le_bytes());
    put(80, &u32::from(GPE0).to_le_bytes());
    // Lengths of the event, control, timer and GPE0 blocks.
    put(88, &[4, 2]);
    put(92, &[4]);
    // C2 and C3 take longer than their limits: there are none.
    put(96, &0xfffu16.to_le_bytes());
    put(98, &0xfffu16.to_le_bytes());
    // IAPC_BOOT_ARCH: no VGA, no CMOS clock, no 8042, no legacy devices.
    put(109, &(1u16 << 2 | 1 << 5).to_le_bytes());
    // WBINVD, C1, power and sleep buttons are not fixed ones (so: absent), no fixed RTC wake.
    put(112, &(1u32 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 6).to_le_bytes());
    put(132, &u64::from(facs).to_le_bytes());
    put(140, &u64::from(dsdt).to_le_bytes());
    put(148, &port(PM1A_EVENT, 32));
    put(172, &port(PM1A_CONTROL, 16));
    put(220, &port(GPE0, 32));
    table(b"FACP", 5, &out[HEADER..])
}

/// Generic address (5.2.3.2) of an I/O port.
fn port(address: u16, bits: u8) -> [u8; 12] {
    let mut out = [0; 12];
    (out[0], out[1]) = (1, bits);
    out[4..6].copy_from_slice(&address.to_le_bytes());
    out
}

/// Local APICs (5.2.12), revision 2.
fn madt(vcpus: u32) -> Vec<u8> {
    let mut body = LOCAL_APIC.to_le_bytes().to_vec();
    // Flags: no dual 8259.
    body.extend_from_slice(&0u32.to_le_bytes());
    for vcpu in 0..vcpus {
        // Type, length, processor UID as in the DSDT, APIC id, enabled.
        body.extend_from_slice(&[0, 8, vcpu as u8, apic_id(vcpu) as u8, 1, 0, 0, 0]);
    }
    table(b"APIC", 2, &body)
}

/// The processors, by the names and numbers of the MADT.
fn dsdt(vcpus: u32) -> Vec<u8> {
    let mut devices = Vec::new();
    for vcpu in 0..vcpus {
        let body =
            [aml::name("_HID", &aml::string("ACPI0007")), aml::name("_UID", &aml::integer(vcpu))].concat();
        devices.extend(aml::device(&format!("C{vcpu:03X}"), &body));
    }
    table(b"DSDT", 2, &aml::scope("_SB", &devices))
}

#[cfg(test)]
mod tests;
