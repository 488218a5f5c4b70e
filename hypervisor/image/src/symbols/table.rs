//! Looking a function up in the table of names, whatever is in it: the table is read while the machine crashes.

/// Where the number of entries stands, after the magic number.
const COUNT: usize = 8;
/// Where the entries begin.
const ENTRIES: usize = 12;
/// Bytes of an entry.
const ENTRY: usize = 8;

fn word(table: &[u8], at: usize) -> Option<u32> {
    table.get(at..at.checked_add(4)?).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes)
}

/// Offset of the word `part` (0: function, 1: name) of an entry.
fn place(entry: usize, part: usize) -> Option<usize> {
    entry.checked_mul(ENTRY)?.checked_add(ENTRIES + part * 4)
}

/// The name of the function at or before `offset`, and the distance to its start.
pub fn find(table: &[u8], offset: u32) -> Option<(&str, u32)> {
    let (mut low, mut high) = (0, word(table, COUNT)? as usize);
    while low < high {
        let middle = low.midpoint(high);
        if word(table, place(middle, 0)?)? <= offset {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let entry = low.checked_sub(1)?;
    let distance = offset.checked_sub(word(table, place(entry, 0)?)?)?;
    let name = table.get(word(table, place(entry, 1)?)? as usize..)?;
    let name = name.split(|b| *b == 0).next()?;
    Some((core::str::from_utf8(name).ok()?, distance))
}
