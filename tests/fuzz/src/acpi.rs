//! Firmware tables: raw memory, or bodies that get a valid header and checksum (a fuzzer never guesses those).

use radon_acpi::{PhysReader, Tables, dom0_ranges, find_rsdp};
use radon_addr::Maddr;

const BASE: u64 = 0xe_0000;
const KINDS: [&[u8; 4]; 8] = [b"APIC", b"FACP", b"HPET", b"MCFG", b"SRAT", b"SLIT", b"DMAR", b"IVRS"];

struct Memory(Vec<u8>);

impl PhysReader for Memory {
    fn read(&self, at: Maddr, buf: &mut [u8]) -> bool {
        let from = at.raw().checked_sub(BASE).and_then(|n| usize::try_from(n).ok());
        let part = from.and_then(|n| self.0.get(n..n.checked_add(buf.len())?));
        part.map(|p| buf.copy_from_slice(p)).is_some()
    }
}

fn seal(bytes: &mut [u8], at: usize) {
    bytes[at] = 0;
    bytes[at] = bytes.iter().fold(0u8, |sum, b| sum.wrapping_sub(*b));
}

fn table(signature: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut t = signature.to_vec();
    t.extend_from_slice(&(36 + body.len() as u32).to_le_bytes());
    t.extend_from_slice(&[5, 0]);
    t.extend_from_slice(&[b'R'; 26]);
    t.extend_from_slice(body);
    seal(&mut t, 9);
    t
}

/// Root pointer, root table and one table per chunk `(kind, length, body)` of the input.
fn wrapped(mut chunks: &[u8]) -> Memory {
    let mut tables = Vec::new();
    while let [kind, len, rest @ ..] = chunks {
        let (body, after) = rest.split_at(rest.len().min(usize::from(*len)));
        tables.push(table(KINDS[usize::from(*kind) % KINDS.len()], body));
        chunks = after;
    }
    let root_at = BASE + 36;
    let mut at = root_at + 36 + tables.len() as u64 * 8;
    let mut pointers = Vec::new();
    for t in &tables {
        pointers.extend_from_slice(&at.to_le_bytes());
        at += t.len() as u64;
    }
    let mut rsdp = b"RSD PTR \0RADON \x02\0\0\0\0".to_vec();
    seal(&mut rsdp, 8);
    rsdp.extend_from_slice(&36u32.to_le_bytes());
    rsdp.extend_from_slice(&root_at.to_le_bytes());
    rsdp.extend_from_slice(&[0; 4]);
    seal(&mut rsdp, 32);
    rsdp.extend(table(b"XSDT", &pointers));
    tables.iter().for_each(|t| rsdp.extend(t));
    Memory(rsdp)
}

pub fn run(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let memory = if first & 1 == 0 { Memory(rest.to_vec()) } else { wrapped(rest) };
    let Some(at) = find_rsdp(&memory).or(Some(Maddr::new(BASE))) else { return };
    let Ok(tables) = Tables::load(&memory, at) else {
        assert!(first & 1 == 0, "tables with good checksums are refused");
        return;
    };
    if let Ok(Some(madt)) = tables.madt(&memory) {
        let _ = (madt.cpus().count(), madt.isa_to_gsi(0), madt.isa_to_gsi(255));
    }
    if let Ok(Some(fadt)) = tables.fadt(&memory) {
        let _ = (fadt.hardware_reduced(), fadt.pm1a_control.and_then(|r| r.port()));
    }
    if let Ok(Some(slit)) = tables.slit(&memory) {
        let n = slit.localities();
        let _ = (slit.distance(0, 0), slit.distance(n, n), slit.distance(usize::MAX, usize::MAX));
    }
    for segment in tables.mcfg(&memory).unwrap_or_default() {
        let _ = segment.range();
    }
    let _ = (tables.hpet(&memory), tables.srat(&memory), tables.dmar(&memory), tables.ivrs(&memory));
    let _ = dom0_ranges(&tables, |at, len| at.checked_add(len).is_some());
}
