//! Messages as bytes: `xsd_sockmsg` and what follows it.

use crate::errno::{Errno, Result};
use xen_abi::xs_wire::{XENSTORE_PAYLOAD_MAX, XsdSockmsg};
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of a message's head.
pub const HEADER: usize = size_of::<XsdSockmsg>();

/// Most bytes after the head, in both directions.
pub const PAYLOAD_MAX: usize = XENSTORE_PAYLOAD_MAX as usize;

/// A request, still in the buffer it arrived in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// What is asked for (`XS_...`); unknown numbers are data.
    pub kind: u32,
    /// Chosen by the client, and repeated in the reply.
    pub req_id: u32,
    /// The transaction, 0 for none.
    pub tx_id: u32,
    /// What follows the head.
    pub payload: &'a [u8],
}

/// The client announced more than [`PAYLOAD_MAX`] bytes: there is no way to find its next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message of {0} bytes")]
pub struct Oversized(pub u32);

/// The first message of `bytes` and its length, if it is complete.
pub fn split(bytes: &[u8]) -> std::result::Result<Option<(Request<'_>, usize)>, Oversized> {
    let Ok((head, rest)) = XsdSockmsg::read_from_prefix(bytes) else { return Ok(None) };
    if head.len > XENSTORE_PAYLOAD_MAX {
        return Err(Oversized(head.len));
    }
    let length = head.len as usize;
    let Some(payload) = rest.get(..length) else { return Ok(None) };
    let request = Request { kind: head.kind, req_id: head.req_id, tx_id: head.tx_id, payload };
    Ok(Some((request, HEADER + length)))
}

/// A whole message. `payload` beyond [`PAYLOAD_MAX`] is the caller's mistake and is cut.
pub fn message(kind: u32, req_id: u32, tx_id: u32, payload: &[u8]) -> Vec<u8> {
    let payload = payload.get(..PAYLOAD_MAX).unwrap_or(payload);
    let head = XsdSockmsg { kind, req_id, tx_id, len: payload.len() as u32 };
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend_from_slice(head.as_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The only argument: `<text>|`, nothing more.
pub fn one(payload: &[u8]) -> Result<&[u8]> {
    match payload.split_last() {
        Some((0, text)) if !text.contains(&0) => Ok(text),
        _ => Err(Errno::Inval),
    }
}

/// All arguments that end in a zero; what follows the last zero is left out.
pub fn strings(payload: &[u8]) -> Vec<&[u8]> {
    let mut all: Vec<&[u8]> = payload.split(|b| *b == 0).collect();
    all.pop();
    all
}

/// First argument, and all bytes after its zero.
pub fn first(payload: &[u8]) -> Result<(&[u8], &[u8])> {
    let end = payload.iter().position(|b| *b == 0).ok_or(Errno::Inval)?;
    let (text, rest) = payload.split_at(end);
    Ok((text, rest.get(1..).unwrap_or_default()))
}

/// A decimal number as `atoi` reads it: leading digits, an optional sign, 0 if there are none.
pub fn number(text: &[u8]) -> i64 {
    let (negative, digits) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    };
    let value = digits
        .iter()
        .take_while(|b| b.is_ascii_digit())
        .fold(0i64, |n, b| n.saturating_mul(10).saturating_add(i64::from(b - b'0')));
    if negative { -value } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_there_and_back() {
        let bytes = message(2, 7, 9, b"/a\0");
        let (request, used) = split(&bytes).unwrap().unwrap();
        assert_eq!(used, bytes.len());
        assert_eq!(request, Request { kind: 2, req_id: 7, tx_id: 9, payload: b"/a\0" });
        for cut in 0..bytes.len() {
            assert_eq!(split(&bytes[..cut]), Ok(None));
        }
    }

    #[test]
    fn a_length_out_of_bounds_is_told_at_once() {
        let mut bytes = message(2, 0, 0, b"");
        bytes[12..16].copy_from_slice(&4097u32.to_le_bytes());
        assert_eq!(split(&bytes), Err(Oversized(4097)));
    }

    #[test]
    fn arguments() {
        assert_eq!(one(b"abc\0"), Ok(&b"abc"[..]));
        for bad in [&b""[..], b"abc", b"a\0b\0", b"a\0b"] {
            assert_eq!(one(bad), Err(Errno::Inval));
        }
        assert_eq!(strings(b"a\0\0b\0rest"), [&b"a"[..], b"", b"b"]);
        assert_eq!(strings(b"no zero"), Vec::<&[u8]>::new());
        assert_eq!(first(b"/p\0va\0lue"), Ok((&b"/p"[..], &b"va\0lue"[..])));
        assert_eq!(first(b"/p"), Err(Errno::Inval));
    }

    #[test]
    fn numbers_as_c_reads_them() {
        assert_eq!(number(b"12"), 12);
        assert_eq!(number(b"12abc"), 12);
        assert_eq!(number(b"-5"), -5);
        assert_eq!(number(b""), 0);
        assert_eq!(number(b"x"), 0);
        assert_eq!(number(&[b'9'; 40]), i64::MAX);
    }
}
