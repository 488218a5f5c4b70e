//! The walk from the RSDP over RSDT or XSDT to the list of the machine's tables.

use alloc::vec;
use alloc::vec::Vec;
use radon_addr::Maddr;

use crate::{
    Error, Fadt, Hpet, Madt, McfgSegment, PhysReader, Remapping, Rsdp, Signature, Slit, Srat, le, parse_mcfg,
    sleep,
};

/// Bytes in the header which all tables but RSDP and FACS share (ACPI 6.5 §5.2.6).
pub const HEADER_LEN: usize = 36;
/// Offset of the checksum byte within the header.
pub(crate) const CHECKSUM_AT: usize = 9;
/// Larger tables are taken for garbage (the largest DSDTs in the field are about 1 MiB).
const MAX_TABLE: u32 = 16 << 20;
/// Larger root tables are taken for garbage (8192 entries).
const MAX_ROOT: u32 = 64 << 10;

/// Where one table lies; taken from its header, contents unchecked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableRef {
    /// Table name.
    pub signature: Signature,
    /// First byte.
    pub at: Maddr,
    /// Bytes, header included.
    pub len: u32,
    /// Revision of the table's layout.
    pub revision: u8,
}

/// All tables the root table names, plus DSDT and FACS which the FADT names.
#[derive(Clone, Debug)]
pub struct Tables {
    rsdp: Rsdp,
    root_header: [u8; HEADER_LEN],
    list: Vec<TableRef>,
    skipped: usize,
}

impl Tables {
    /// Reads the RSDP at `rsdp_at` and walks XSDT, or RSDT when there is no usable XSDT. Entries whose header is
    /// unreadable or nonsensical are left out and counted ([`Tables::skipped`]).
    pub fn load(r: &impl PhysReader, rsdp_at: Maddr) -> Result<Tables, Error> {
        let rsdp = Rsdp::read(r, rsdp_at)?;
        let via_xsdt = match rsdp.xsdt.raw() {
            0 => Err(Error::NoRsdp),
            _ => read_root(r, rsdp.xsdt, *b"XSDT"),
        };
        let (root, wide) = match via_xsdt {
            Ok(root) => (root, true),
            Err(e) if rsdp.rsdt.raw() == 0 => return Err(e),
            Err(_) => (read_root(r, rsdp.rsdt, *b"RSDT")?, false),
        };
        let root_header = le::array_at(&root, 0).ok_or(Error::BadLength(*b"XSDT"))?;
        let mut tables = Tables { rsdp, root_header, list: Vec::new(), skipped: 0 };
        let entries = root.get(HEADER_LEN..).unwrap_or_default();
        for e in entries.chunks_exact(if wide { 8 } else { 4 }) {
            let at = if wide { le::u64_at(e, 0) } else { le::u32_at(e, 0).map(u64::from) };
            tables.add(r, at.unwrap_or(0), None);
        }
        if let Ok(Some(fadt)) = tables.fadt(r) {
            tables.add(r, fadt.dsdt.raw(), Some(*b"DSDT"));
            tables.add(r, fadt.facs.raw(), Some(*b"FACS"));
        }
        Ok(tables)
    }

    /// Appends the table at `at` unless it is absent (0), listed already, or nonsense.
    fn add(&mut self, r: &impl PhysReader, at: u64, want: Option<Signature>) {
        if at == 0 || self.list.iter().any(|t| t.at.raw() == at) {
            return;
        }
        match table_ref(r, Maddr::new(at)) {
            Ok(t) if want.is_none_or(|w| w == t.signature) => self.list.push(t),
            _ => self.skipped += 1,
        }
    }

    /// The RSDP the walk began at.
    pub fn rsdp(&self) -> &Rsdp {
        &self.rsdp
    }

    /// Header of the root table in use (signature `XSDT` or `RSDT`).
    pub fn root_header(&self) -> &[u8; HEADER_LEN] {
        &self.root_header
    }

    /// Every table found, in root-table order, DSDT and FACS last.
    pub fn list(&self) -> &[TableRef] {
        &self.list
    }

    /// How many entries of the root table were unusable.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// The first table of that name.
    pub fn find(&self, signature: &Signature) -> Option<&TableRef> {
        self.list.iter().find(|t| t.signature == *signature)
    }

    /// Bytes of the first table of that name, checksum verified; `None` when the machine has none.
    pub fn read(&self, r: &impl PhysReader, signature: &Signature) -> Result<Option<Vec<u8>>, Error> {
        self.find(signature).map(|t| read_table(r, t)).transpose()
    }

    fn parse<T>(
        &self,
        r: &impl PhysReader,
        signature: &Signature,
        f: impl FnOnce(&[u8]) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        self.read(r, signature)?.map(|b| f(&b)).transpose()
    }

    /// Interrupt controllers and processors.
    pub fn madt(&self, r: &impl PhysReader) -> Result<Option<Madt>, Error> {
        self.parse(r, b"APIC", Madt::parse)
    }

    /// Fixed hardware: PM timer, PM1 ports, reset register.
    pub fn fadt(&self, r: &impl PhysReader) -> Result<Option<Fadt>, Error> {
        self.parse(r, b"FACP", Fadt::parse)
    }

    /// High-precision event timer.
    pub fn hpet(&self, r: &impl PhysReader) -> Result<Option<Hpet>, Error> {
        self.parse(r, b"HPET", Hpet::parse)
    }

    /// Memory-mapped PCI configuration windows; empty when there is no MCFG.
    pub fn mcfg(&self, r: &impl PhysReader) -> Result<Vec<McfgSegment>, Error> {
        Ok(self.parse(r, b"MCFG", parse_mcfg)?.unwrap_or_default())
    }

    /// Proximity of CPUs and memory.
    pub fn srat(&self, r: &impl PhysReader) -> Result<Option<Srat>, Error> {
        self.parse(r, b"SRAT", Srat::parse)
    }

    /// Distances between proximity domains.
    pub fn slit(&self, r: &impl PhysReader) -> Result<Option<Slit>, Error> {
        self.parse(r, b"SLIT", Slit::parse)
    }

    /// Intel's DMA remapping units.
    pub fn dmar(&self, r: &impl PhysReader) -> Result<Option<Remapping>, Error> {
        self.parse(r, b"DMAR", Remapping::parse_dmar)
    }

    /// Sleep types that power the machine off, for the two PM1 control registers: the first usable `_S5` of DSDT and SSDTs.
    pub fn soft_off(&self, r: &impl PhysReader) -> Option<(u8, u8)> {
        let aml = self.list.iter().filter(|t| matches!(&t.signature, b"DSDT" | b"SSDT"));
        // The DSDT, which nearly always has it, comes late in the list; the order does not matter, as there is one object.
        aml.filter_map(|t| read_table(r, t).ok()).find_map(|bytes| sleep::soft_off(bytes.get(HEADER_LEN..)?))
    }

    /// AMD's DMA remapping units.
    pub fn ivrs(&self, r: &impl PhysReader) -> Result<Option<Remapping>, Error> {
        self.parse(r, b"IVRS", Remapping::parse_ivrs)
    }
}

/// Name, length and revision of the table at `at`.
fn table_ref(r: &impl PhysReader, at: Maddr) -> Result<TableRef, Error> {
    let mut h = [0u8; HEADER_LEN];
    if !r.read(at, &mut h) {
        return Err(Error::Unreadable(at));
    }
    let bad = Error::BadLength(*b"????");
    let signature = le::sig_at(&h, 0).ok_or(bad)?;
    let len = le::u32_at(&h, 4).ok_or(bad)?;
    if !signature.iter().all(|b| b.is_ascii_graphic() || *b == b' ') {
        return Err(Error::BadSignature(signature));
    }
    if !(HEADER_LEN as u32..=MAX_TABLE).contains(&len) || at.checked_add(len.into()).is_none() {
        return Err(Error::BadLength(signature));
    }
    Ok(TableRef { signature, at, len, revision: le::u8_at(&h, 8).unwrap_or(0) })
}

/// Whole table with its checksum verified.
fn read_table(r: &impl PhysReader, t: &TableRef) -> Result<Vec<u8>, Error> {
    let mut b = vec![0u8; t.len as usize];
    if !r.read(t.at, &mut b) {
        return Err(Error::Unreadable(t.at));
    }
    // The FACS alone has no checksum (ACPI 6.5 §5.2.10).
    if t.signature != *b"FACS" && le::sum(&b) != 0 {
        return Err(Error::BadChecksum(t.signature));
    }
    Ok(b)
}

fn read_root(r: &impl PhysReader, at: Maddr, signature: Signature) -> Result<Vec<u8>, Error> {
    let t = table_ref(r, at)?;
    if t.signature != signature {
        return Err(Error::BadSignature(t.signature));
    }
    if t.len > MAX_ROOT {
        return Err(Error::BadLength(signature));
    }
    read_table(r, &t)
}
