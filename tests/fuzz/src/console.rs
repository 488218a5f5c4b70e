//! What a guest puts into its console's ring, what a client asks the console daemon for, and the file of a console's history.

use radon_console::record;
use radon_console::request::Request;
use radon_console::ring::{IN, OUT, Ring};
use radon_xen::page::SharedPages;
use std::rc::Rc;

/// A guest that writes words anywhere in the page, behind a byte each that says where and what the daemon does then.
pub fn ring(mut data: &[u8]) {
    let Ok(page) = SharedPages::anonymous(1) else { return };
    let page = Rc::new(page);
    let ring = Ring::new(page.clone());
    while let [choice, a, b, c, d, rest @ ..] = data {
        data = rest;
        // Mostly the indices.
        let word = if choice & 0x80 == 0 { 768 + usize::from(choice & 3) } else { usize::from(*choice) * 4 };
        page.store(word * 4, u32::from_le_bytes([*a, *b, *c, *d]));
        match choice >> 2 & 3 {
            0 => {
                if let Some(chunk) = ring.peek() {
                    assert!((1..=OUT as usize).contains(&chunk.bytes.len()));
                    ring.release(chunk.end());
                    assert_eq!(ring.peek(), None);
                }
            }
            1 => ring.catch_up(u32::from_le_bytes([*d, *c, *b, *a])),
            2 => assert!(ring.put(rest) <= IN as usize),
            _ => assert!(ring.room() <= IN as usize),
        }
    }
}

/// A history's file, and a client's line: what is read is written again as it was.
pub fn file(data: &[u8]) {
    let mut rest = data;
    while let Some((found, next)) = record::decode(rest) {
        assert_eq!(record::encode(found.source, &found.chunk), &rest[..rest.len() - next.len()]);
        rest = next;
    }
    let _ = Request::parse(data);
}
