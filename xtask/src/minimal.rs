//! The smallest guests there are: PVH ELF images whose only instructions end them, or wait for ever, for making and destroying many.

/// Guest physical address of the image.
const BASE: u32 = 0x10_0000;
/// Note type that gives a PVH guest's 32-bit entry point (Xen's `elfnote.h`).
const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;

/// `cli; hlt`: a domain whose only vCPU halts with interrupts off has powered off.
const END: [u8; 4] = [0xfa, 0xf4, 0xeb, 0xfc];
/// `sti; hlt` for ever: a vCPU that waits for an interrupt, though nothing is set up to send it one.
const WAIT: [u8; 4] = [0xfb, 0xf4, 0xeb, 0xfd];

/// The image of a guest that ends at once.
pub fn ending() -> Vec<u8> {
    elf(END)
}

/// The image of a guest that does nothing.
pub fn waiting() -> Vec<u8> {
    elf(WAIT)
}

/// An image's bytes: ELF header, two program headers, a note, the code.
fn elf(code: [u8; 4]) -> Vec<u8> {
    const HEADERS: u32 = 64 + 2 * 56;
    const NOTE_LEN: u32 = 12 + 4 + 4;
    let entry = BASE + HEADERS + NOTE_LEN;
    let mut out = Vec::new();
    out.extend(*b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    for half in [2_u16, 62] {
        out.extend(half.to_le_bytes());
    }
    out.extend(1_u32.to_le_bytes());
    for word in [u64::from(entry), 64, 0] {
        out.extend(word.to_le_bytes());
    }
    out.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 2, 0, 0, 0] {
        out.extend(half.to_le_bytes());
    }
    let length = HEADERS + NOTE_LEN + 4;
    let mut segment = |kind: u32, offset: u32, length: u32| {
        out.extend(kind.to_le_bytes());
        out.extend(7_u32.to_le_bytes());
        let at = u64::from(BASE + offset);
        for word in [u64::from(offset), at, at, u64::from(length), u64::from(length), 4] {
            out.extend(word.to_le_bytes());
        }
    };
    segment(PT_LOAD, 0, length);
    segment(PT_NOTE, HEADERS, NOTE_LEN);
    for word in [4, 4, XEN_ELFNOTE_PHYS32_ENTRY] {
        out.extend(word.to_le_bytes());
    }
    out.extend(*b"Xen\0");
    out.extend(entry.to_le_bytes());
    out.extend(code);
    out
}

#[cfg(test)]
mod tests {
    use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};

    #[test]
    fn the_note_points_at_the_code() {
        let data = super::ending();
        let file = ElfFile64::<object::Endianness>::parse(data.as_slice()).expect("valid ELF");
        let endian = file.endian();
        let header = file.elf_header();
        let headers = header.program_headers(endian, data.as_slice()).expect("program headers");
        let mut notes =
            headers.iter().find_map(|h| h.notes(endian, data.as_slice()).ok().flatten()).expect("notes");
        let note = notes.next().expect("readable").expect("one note");
        assert_eq!(note.name(), b"Xen");
        let entry = u32::from_le_bytes(note.desc().try_into().expect("four bytes"));
        let offset = (entry - super::BASE) as usize;
        assert_eq!(data[offset..offset + 4], super::END);
        assert_eq!(data.len(), offset + 4);
    }
}
