//! A machine made of bytes, and helpers that synthesise tables.

extern crate std;
use crate::{PhysReader, le};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use radon_addr::Maddr;

/// Sparse memory; unset bytes are unreadable.
#[derive(Default, Clone)]
pub struct Memory(pub BTreeMap<u64, u8>);

impl Memory {
    pub fn put(&mut self, at: u64, b: &[u8]) {
        self.0.extend(b.iter().enumerate().map(|(i, &x)| (at + i as u64, x)));
    }
    /// Writes a table and returns its length.
    pub fn table(&mut self, at: u64, sig: &[u8; 4], rev: u8, body: &[u8]) -> u64 {
        let t = table(sig, rev, body);
        self.put(at, &t);
        t.len() as u64
    }
}

impl PhysReader for Memory {
    fn read(&self, at: Maddr, buf: &mut [u8]) -> bool {
        for (i, b) in buf.iter_mut().enumerate() {
            match at.raw().checked_add(i as u64).and_then(|a| self.0.get(&a)) {
                Some(&x) => *b = x,
                None => return false,
            }
        }
        true
    }
}

/// A table with a valid header and checksum around `body`.
pub fn table(sig: &[u8; 4], rev: u8, body: &[u8]) -> Vec<u8> {
    let mut t = Vec::new();
    t.extend_from_slice(sig);
    t.extend_from_slice(&(36 + body.len() as u32).to_le_bytes());
    t.extend_from_slice(&[rev, 0]);
    t.extend_from_slice(b"RADON MACHINE ");
    t.extend_from_slice(&[1, 0, 0, 0, b'T', b'E', b'S', b'T', 1, 0, 0, 0]);
    t.extend_from_slice(body);
    le::seal(&mut t, 9);
    t
}

pub fn rsdp(rsdt: u32, xsdt: Option<u64>) -> Vec<u8> {
    let mut b = Vec::new();
    b.extend_from_slice(b"RSD PTR \0RADON ");
    b.push(if xsdt.is_some() { 2 } else { 0 });
    b.extend_from_slice(&rsdt.to_le_bytes());
    le::seal(&mut b, 8);
    if let Some(x) = xsdt {
        b.extend_from_slice(&36u32.to_le_bytes());
        b.extend_from_slice(&x.to_le_bytes());
        b.extend_from_slice(&[0; 4]);
        le::seal(&mut b, 32);
    }
    b
}
