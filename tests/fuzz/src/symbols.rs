//! The table of functions' names in the hypervisor's image: xtask writes it, a crash report reads it.

#[path = "../../../hypervisor/image/src/symbols/table.rs"]
mod table;

use crate::random::source::Source;

/// The first half of the choices says which functions are looked up, all of the input is the table.
pub fn run(data: &[u8]) {
    let s = &mut Source::of_bytes(data);
    for _ in 0..64 {
        let offset = s.odd_word() as u32;
        if let Some((name, distance)) = table::find(data, offset) {
            assert!(distance <= offset && name.len() < data.len());
        }
    }
}
