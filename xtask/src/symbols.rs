//! Finishes a linked image: checks that it is one flat range, as Multiboot 1 loads it, and writes its functions' names into
//! the table that crash reports use (`hypervisor/image/src/symbols.rs` describes the layout).

use anyhow::{Context, Result, bail, ensure};
use object::elf::{FileHeader64, PT_LOAD};
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSymbol, SymbolKind};
use std::path::Path;

const MAGIC: &[u8] = b"RADONSYM";
const IMAGE_BASE: u64 = 0xffff_ffff_8000_0000;

/// Writes the table into the file and returns the number of names in it.
pub fn embed(path: &Path) -> Result<usize> {
    let mut file = std::fs::read(path)?;
    let (place, names) = read(&file).with_context(|| format!("cannot read {}", path.display()))?;
    let slot = file.get_mut(place).context("the symbol table lies outside the file")?;
    let table = encode(&names, slot.len())?;
    ensure!(slot.starts_with(MAGIC), "no reserved symbol table where its symbol points");
    if slot.get(..table.len()) != Some(&table[..]) {
        slot.fill(0);
        slot[..table.len()].copy_from_slice(&table);
        std::fs::write(path, file)?;
    }
    Ok(names.len())
}

/// Place of the table in the file, and what belongs into it.
type Found = (std::ops::Range<usize>, Vec<(u32, String)>);

/// Where in the file the reserved table is, and the functions (offset from `IMAGE_BASE`, name), sorted.
fn read(file: &[u8]) -> Result<Found> {
    let elf = ElfFile64::<Endianness>::parse(file)?;
    let endian = elf.endian();
    let header: &FileHeader64<Endianness> = elf.elf_header();
    // (virtual address, file offset, bytes in the file)
    let mut segments = Vec::new();
    for segment in header.program_headers(endian, file)?.iter().filter(|s| s.p_type(endian) == PT_LOAD) {
        let flat = segment.p_paddr(endian).wrapping_sub(segment.p_offset(endian));
        segments.push((segment.p_vaddr(endian), segment.p_offset(endian), segment.p_filesz(endian), flat));
    }
    let first = segments.first().context("nothing to load")?.3;
    ensure!(segments.iter().all(|s| s.3 == first), "the segments are no flat range of the file: see link.ld");
    let mut place = None;
    let mut names = Vec::new();
    for symbol in elf.symbols() {
        let name = format!("{:#}", rustc_demangle::demangle(symbol.name()?));
        let address = symbol.address();
        if name == "radon::symbols::TABLE" {
            let holds = |s: &&(u64, u64, u64, u64)| s.0 <= address && address + symbol.size() <= s.0 + s.2;
            let (va, offset, ..) = segments.iter().find(holds).context("the symbol table is not loaded")?;
            let start = usize::try_from(address - va + offset)?;
            place = Some(start..start + usize::try_from(symbol.size())?);
        }
        let code = matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Label | SymbolKind::Unknown);
        if code
            && symbol.section_index().is_some()
            && !name.is_empty()
            && let Some(offset) = address.checked_sub(IMAGE_BASE).and_then(|o| u32::try_from(o).ok())
        {
            names.push((offset, name));
        }
    }
    names.sort();
    names.dedup_by_key(|n| n.0);
    Ok((place.context("the image has no symbol named radon::symbols::TABLE")?, names))
}

/// The table's bytes.
fn encode(names: &[(u32, String)], room: usize) -> Result<Vec<u8>> {
    let mut table = Vec::from(MAGIC);
    table.extend(u32::try_from(names.len())?.to_le_bytes());
    let mut text_at = 12 + names.len() * 8;
    for (offset, name) in names {
        table.extend(offset.to_le_bytes());
        table.extend(u32::try_from(text_at)?.to_le_bytes());
        text_at += name.len() + 1;
    }
    for (_, name) in names {
        table.extend(name.bytes());
        table.push(0);
    }
    if table.len() > room {
        bail!("the names need {} bytes, {room} are reserved in the image", table.len());
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_of_the_table() {
        let names = [(0x20_0000, "a".to_owned()), (0x20_0010, "bc".to_owned())];
        let table = encode(&names, 64).expect("it fits");
        assert_eq!(&table[..12], b"RADONSYM\x02\0\0\0");
        assert_eq!(&table[12..28], &[0, 0, 0x20, 0, 28, 0, 0, 0, 0x10, 0, 0x20, 0, 30, 0, 0, 0]);
        assert_eq!(&table[28..], b"a\0bc\0");
        assert!(encode(&names, 32).is_err());
    }
}
