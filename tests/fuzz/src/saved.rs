//! The file of a suspended VM: any bytes as a file, and, past its checksums, as the body of each kind of record.

use radon_domain::saved::{Reader, decode};

/// Reads them.
pub fn run(data: &[u8]) {
    if let Ok(mut reader) = Reader::new(data) {
        while let Ok(Some(_)) = reader.next_record() {}
    }
    let Some((kind, body)) = data.split_first() else { return };
    let _ = decode(u32::from(*kind), body.to_vec());
}
