//! The store's state as a sequence of records: the journal's, and a live update's.
//!
//! A record changes a state; a whole state is the sequence that makes it from nothing. Numbers are little-endian,
//! strings have their length in front. The format has a version ([`VERSION`]) and no other promise.

use crate::connection::ConnId;
use crate::perm::{Access, DomId, Perm, Perms};
use std::borrow::Cow;

/// Of the format. A daemon refuses others.
pub const VERSION: u32 = 1;

/// One change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "fields are named for what they hold")]
pub enum Record<'a> {
    /// A node was created (its parent exists) or changed.
    Put { path: Cow<'a, str>, value: Cow<'a, [u8]>, perms: Perms },
    /// A subtree was removed.
    Remove { path: Cow<'a, str> },
    /// A domain was connected; `received` and `sent` are the ring's indices from which its streams count.
    Introduced { domid: DomId, gfn: u64, port: u32, received: u32, sent: u32 },
    /// A domain was disconnected.
    Released { domid: DomId },
    /// A domain was seen shut down, or is watched again for being so.
    Shutdown { domid: DomId, yes: bool },
    /// A domain acts for another.
    Target { domid: DomId, target: DomId },
    /// A watch was set.
    Watched { conn: ConnId, path: Cow<'a, str>, token: Cow<'a, [u8]>, depth: Option<u32>, cut: u32 },
    /// A watch was taken back.
    Unwatched { conn: ConnId, path: Cow<'a, str>, token: Cow<'a, [u8]> },
    /// A transaction began.
    Began { conn: ConnId, id: u32 },
    /// A transaction ended.
    Ended { conn: ConnId, id: u32 },
    /// All watches and transactions of a client went.
    Reset { conn: ConnId },
    /// A message, or the rest of one, was queued for a client.
    Queued { conn: ConnId, bytes: Cow<'a, [u8]> },
    /// A domain's requests up to this index of its ring were dealt with; `rest` was fetched besides, part of one.
    Received { domid: DomId, index: u32, rest: Cow<'a, [u8]> },
    /// A domain's ring failed; nothing more is exchanged over it.
    Broken { domid: DomId, error: u32 },
    /// A limit was changed.
    Limit { name: Cow<'a, str>, soft: bool, value: u32 },
    /// Permissions of a special watch were changed.
    Special { name: Cow<'a, str>, perms: Perms },
    /// A process is connected through this file descriptor (live update only); `rest` was fetched from it.
    Socket { id: u32, fd: i32, rest: Cow<'a, [u8]> },
    /// The descriptors of the listening socket and of the event channels (live update only; -1: none).
    Descriptors { listener: i32, events: i32, virq: u32 },
    /// A domain's event channel stayed bound to this local port (live update only).
    Bound { domid: DomId, port: u32 },
}

/// Bytes that are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed record")]
pub struct Malformed;

struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    fn number(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn long(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.number(value.len() as u32);
        self.0.extend_from_slice(value);
        self
    }

    fn domid(&mut self, value: DomId) -> &mut Self {
        self.number(value.0.into())
    }

    fn conn(&mut self, value: ConnId) -> &mut Self {
        match value {
            ConnId::Domain(domid) => self.number(0).domid(domid),
            ConnId::Socket(id) => self.number(1).number(id),
        }
    }

    fn perms(&mut self, value: &Perms) -> &mut Self {
        self.number(value.entries().len() as u32);
        for perm in value.entries() {
            let access =
                u32::from(perm.access.has(Access::READ)) | u32::from(perm.access.has(Access::WRITE)) << 1;
            self.number(u32::from(perm.domid.0) | access << 16);
        }
        self
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(head)
    }

    fn number(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().map_err(|_| Malformed)?))
    }

    fn long(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| Malformed)?))
    }

    fn bytes(&mut self) -> Result<Cow<'a, [u8]>, Malformed> {
        let length = self.number()? as usize;
        Ok(self.take(length)?.into())
    }

    fn text(&mut self) -> Result<Cow<'a, str>, Malformed> {
        let length = self.number()? as usize;
        Ok(std::str::from_utf8(self.take(length)?).map_err(|_| Malformed)?.into())
    }

    fn domid(&mut self) -> Result<DomId, Malformed> {
        Ok(DomId(self.number()?.try_into().map_err(|_| Malformed)?))
    }

    fn flag(&mut self) -> Result<bool, Malformed> {
        match self.number()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    fn conn(&mut self) -> Result<ConnId, Malformed> {
        match self.number()? {
            0 => Ok(ConnId::Domain(self.domid()?)),
            1 => Ok(ConnId::Socket(self.number()?)),
            _ => Err(Malformed),
        }
    }

    fn perms(&mut self) -> Result<Perms, Malformed> {
        let count = self.number()? as usize;
        if count > self.0.len() {
            return Err(Malformed);
        }
        let mut list = Vec::with_capacity(count);
        for _ in 0..count {
            let word = self.number()?;
            let mut access = Access::NONE;
            for (bit, right) in [(1, Access::READ), (2, Access::WRITE)] {
                if word >> 16 & bit != 0 {
                    access = access.and(right);
                }
            }
            list.push(Perm { domid: DomId(word as u16), access });
        }
        Perms::new(list).map_err(|_| Malformed)
    }
}

/// What stands for "no depth".
const UNLIMITED: u32 = u32::MAX;

impl<'a> Record<'a> {
    /// Appends the record's bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut to = Writer(out);
        match self {
            Self::Put { path, value, perms } => to.number(1).bytes(path.as_bytes()).bytes(value).perms(perms),
            Self::Remove { path } => to.number(2).bytes(path.as_bytes()),
            Self::Introduced { domid, gfn, port, received, sent } => {
                to.number(3).domid(*domid).long(*gfn).number(*port).number(*received).number(*sent)
            }
            Self::Released { domid } => to.number(4).domid(*domid),
            Self::Shutdown { domid, yes } => to.number(5).domid(*domid).number(u32::from(*yes)),
            Self::Target { domid, target } => to.number(6).domid(*domid).domid(*target),
            Self::Watched { conn, path, token, depth, cut } => to
                .number(7)
                .conn(*conn)
                .bytes(path.as_bytes())
                .bytes(token)
                .number(depth.unwrap_or(UNLIMITED))
                .number(*cut),
            Self::Unwatched { conn, path, token } => {
                to.number(8).conn(*conn).bytes(path.as_bytes()).bytes(token)
            }
            Self::Began { conn, id } => to.number(9).conn(*conn).number(*id),
            Self::Ended { conn, id } => to.number(10).conn(*conn).number(*id),
            Self::Reset { conn } => to.number(11).conn(*conn),
            Self::Queued { conn, bytes } => to.number(12).conn(*conn).bytes(bytes),
            Self::Received { domid, index, rest } => to.number(13).domid(*domid).number(*index).bytes(rest),
            Self::Broken { domid, error } => to.number(14).domid(*domid).number(*error),
            Self::Limit { name, soft, value } => {
                to.number(15).bytes(name.as_bytes()).number(u32::from(*soft)).number(*value)
            }
            Self::Special { name, perms } => to.number(16).bytes(name.as_bytes()).perms(perms),
            Self::Socket { id, fd, rest } => to.number(17).number(*id).number(*fd as u32).bytes(rest),
            Self::Descriptors { listener, events, virq } => {
                to.number(18).number(*listener as u32).number(*events as u32).number(*virq)
            }
            Self::Bound { domid, port } => to.number(19).domid(*domid).number(*port),
        };
    }

    /// Reads all records of `bytes`.
    pub fn read_all(bytes: &'a [u8]) -> Result<Vec<Self>, Malformed> {
        let mut from = Reader(bytes);
        let mut all = Vec::new();
        while !from.0.is_empty() {
            all.push(Self::read(&mut from)?);
        }
        Ok(all)
    }

    fn read(from: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(match from.number()? {
            1 => Self::Put { path: from.text()?, value: from.bytes()?, perms: from.perms()? },
            2 => Self::Remove { path: from.text()? },
            3 => Self::Introduced {
                domid: from.domid()?,
                gfn: from.long()?,
                port: from.number()?,
                received: from.number()?,
                sent: from.number()?,
            },
            4 => Self::Released { domid: from.domid()? },
            5 => Self::Shutdown { domid: from.domid()?, yes: from.flag()? },
            6 => Self::Target { domid: from.domid()?, target: from.domid()? },
            7 => Self::Watched {
                conn: from.conn()?,
                path: from.text()?,
                token: from.bytes()?,
                depth: Some(from.number()?).filter(|d| *d != UNLIMITED),
                cut: from.number()?,
            },
            8 => Self::Unwatched { conn: from.conn()?, path: from.text()?, token: from.bytes()? },
            9 => Self::Began { conn: from.conn()?, id: from.number()? },
            10 => Self::Ended { conn: from.conn()?, id: from.number()? },
            11 => Self::Reset { conn: from.conn()? },
            12 => Self::Queued { conn: from.conn()?, bytes: from.bytes()? },
            13 => Self::Received { domid: from.domid()?, index: from.number()?, rest: from.bytes()? },
            14 => Self::Broken { domid: from.domid()?, error: from.number()? },
            15 => Self::Limit { name: from.text()?, soft: from.flag()?, value: from.number()? },
            16 => Self::Special { name: from.text()?, perms: from.perms()? },
            17 => Self::Socket { id: from.number()?, fd: from.number()? as i32, rest: from.bytes()? },
            18 => Self::Descriptors {
                listener: from.number()? as i32,
                events: from.number()? as i32,
                virq: from.number()?,
            },
            19 => Self::Bound { domid: from.domid()?, port: from.number()? },
            _ => return Err(Malformed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn every_kind() -> Vec<Record<'static>> {
        let conn = ConnId::Domain(DomId(7));
        let perms = Perms::new(vec![Perm::parse(b"n7").unwrap(), Perm::parse(b"b0").unwrap()]).unwrap();
        vec![
            Record::Put { path: "/a".into(), value: b"v".into(), perms: perms.clone() },
            Record::Remove { path: "/a".into() },
            Record::Introduced { domid: DomId(7), gfn: 1 << 40, port: 3, received: 5, sent: u32::MAX },
            Record::Released { domid: DomId(7) },
            Record::Shutdown { domid: DomId(7), yes: true },
            Record::Target { domid: DomId(7), target: DomId(8) },
            Record::Watched { conn, path: "/a".into(), token: b"t".into(), depth: None, cut: 4 },
            Record::Watched { conn, path: "/a".into(), token: b"".into(), depth: Some(0), cut: 0 },
            Record::Unwatched { conn, path: "/a".into(), token: b"t".into() },
            Record::Began { conn: ConnId::Socket(9), id: 1 },
            Record::Ended { conn, id: 1 },
            Record::Reset { conn },
            Record::Queued { conn, bytes: vec![0; 5000].into() },
            Record::Received { domid: DomId(7), index: 77, rest: b"abc".into() },
            Record::Broken { domid: DomId(7), error: 2 },
            Record::Limit { name: "nodes".into(), soft: false, value: 5 },
            Record::Special { name: "@releaseDomain".into(), perms },
            Record::Socket { id: 9, fd: -1, rest: b"".into() },
            Record::Descriptors { listener: 3, events: -1, virq: 0 },
            Record::Bound { domid: DomId(7), port: 12 },
        ]
    }

    #[test]
    fn there_and_back() {
        let mut bytes = Vec::new();
        every_kind().iter().for_each(|r| r.write(&mut bytes));
        assert_eq!(Record::read_all(&bytes).unwrap(), every_kind());
        assert_eq!(Record::read_all(&bytes[..bytes.len() - 1]), Err(Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::read_all(&bytes);
        }
    }
}
