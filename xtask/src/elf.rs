//! Which shared libraries a program of an unpacked tree needs.

use anyhow::{Context, Result};
use object::elf::{FileHeader64, PT_INTERP};
use object::read::elf::{Dyn, ElfFile64, FileHeader, ProgramHeader, SectionHeader};
use object::{Endianness, elf};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Folders (below the tree's root) where Debian keeps shared libraries.
const LIBRARY_DIRS: &[&str] =
    &["usr", "usr/lib/x86_64-linux-gnu", "usr/lib/xen-4.17/lib/x86_64-linux-gnu", "usr/lib", "usr/lib64"];

/// Paths below `tree` of all libraries (and the loader) that the programs need, themselves not included.
pub fn libraries(tree: &Path, programs: &[PathBuf]) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut queue: Vec<PathBuf> = programs.to_vec();
    while let Some(path) = queue.pop() {
        let data = std::fs::read(tree.join(&path))
            .with_context(|| format!("{} is not in the packages", path.display()))?;
        if !data.starts_with(&elf::ELFMAG) {
            continue;
        }
        let names = needed(&data).with_context(|| format!("cannot read ELF file {}", path.display()))?;
        for name in names {
            let library =
                LIBRARY_DIRS.iter().map(|d| Path::new(d).join(&name)).find(|p| tree.join(p).exists());
            let library = library
                .with_context(|| format!("{} needs {name}, which no package brought", path.display()))?;
            if found.insert(library.clone()) {
                queue.push(library);
            }
        }
    }
    Ok(found)
}

/// File names from the dynamic section's `DT_NEEDED` entries and the interpreter.
fn needed(data: &[u8]) -> Result<Vec<String>> {
    let file = ElfFile64::<Endianness>::parse(data)?;
    let endian = file.endian();
    let header: &FileHeader64<Endianness> = file.elf_header();
    let mut names = Vec::new();
    let sections = header.sections(endian, data)?;
    for section in sections.iter() {
        let Some((entries, strings)) = section.dynamic(endian, data)? else { continue };
        let strings = sections.strings(endian, data, strings)?;
        for entry in entries.iter().filter(|e| e.tag32(endian) == Some(elf::DT_NEEDED)) {
            names.push(String::from_utf8_lossy(entry.string(endian, strings)?).into_owned());
        }
    }
    for segment in header.program_headers(endian, data)? {
        if segment.p_type(endian) == PT_INTERP
            && let Ok(path) = segment.data(endian, data)
        {
            // By its path, not only by its name: the kernel opens exactly this one.
            let name =
                String::from_utf8_lossy(path).trim_end_matches('\0').trim_start_matches('/').to_owned();
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_program_needs_libc() {
        let own = std::env::current_exe().expect("a running program has a path");
        let data = std::fs::read(own).expect("a running program can be read");
        let names = needed(&data).expect("it is an ELF file");
        assert!(names.iter().any(|n| n == "libc.so.6"), "{names:?}");
    }
}
