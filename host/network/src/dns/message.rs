//! A DNS query, and the answer to it (RFC 1035, section 4). Of others' answers nothing is read but to which query they belong.

use std::net::{Ipv4Addr, Ipv6Addr};

const HEADER: usize = 12;
/// Answer; opcode (four bits); authoritative; cut short; recursion wished, and to be had.
const QR: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const AA: u16 = 0x0400;
const RD: u16 = 0x0100;
const RA: u16 = 0x0080;
const RCODE: u16 = 0x000f;

/// The class of the Internet.
pub const IN: u16 = 1;

/// Types of records.
pub mod kind {
    #![allow(missing_docs, reason = "the names are RFC 1035's and RFC 3596's")]
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const AAAA: u16 = 28;
    pub const ANY: u16 = 255;
}

/// Codes of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are RFC 1035's")]
pub enum Code {
    Ok = 0,
    FormatError = 1,
    ServerFailure = 2,
    NoSuchName = 3,
    NotImplemented = 4,
    Refused = 5,
}

/// A query for one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The client's number.
    pub id: u16,
    flags: u16,
    /// The labels, in small letters.
    pub name: Vec<Vec<u8>>,
    /// The type of record that is asked for.
    pub kind: u16,
    /// Its class.
    pub class: u16,
    /// The question as it came.
    question: Vec<u8>,
}

/// Why bytes are no query.
#[derive(Debug, PartialEq, Eq)]
pub enum Bad {
    /// Not worth an answer.
    Noise,
    /// One that is told so: the whole answer.
    Told(Vec<u8>),
}

impl Query {
    /// Reads one.
    pub fn parse(bytes: &[u8]) -> Result<Self, Bad> {
        let word = |at: usize| bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map(u16::from_be_bytes);
        let (Some(id), Some(flags), Some(count)) = (word(0), word(2), word(4)) else {
            return Err(Bad::Noise);
        };
        if bytes.len() < HEADER || flags & QR != 0 {
            return Err(Bad::Noise);
        }
        let told = |code| {
            let mut out = id.to_be_bytes().to_vec();
            out.extend((QR | flags & (OPCODE | RD) | code as u16).to_be_bytes());
            out.resize(HEADER, 0);
            Err(Bad::Told(out))
        };
        if flags & OPCODE != 0 {
            return told(Code::NotImplemented);
        }
        let rest = bytes.get(HEADER..).unwrap_or_default();
        let Some((name, length)) = name(rest).filter(|_| count == 1) else { return told(Code::FormatError) };
        let (Some(kind), Some(class)) = (word(HEADER + length), word(HEADER + length + 2)) else {
            return told(Code::FormatError);
        };
        let question = rest.get(..length + 4).unwrap_or_default().to_vec();
        Ok(Self { id, flags, name, kind, class, question })
    }

    /// Whether bytes are the answer to this query under another number.
    pub fn is_answered_by(&self, bytes: &[u8], id: u16) -> bool {
        let word = |at: usize| bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map(u16::from_be_bytes);
        let same_question = || {
            let theirs = bytes.get(HEADER..HEADER + self.question.len());
            theirs.is_some_and(|theirs| theirs.eq_ignore_ascii_case(&self.question))
        };
        word(0) == Some(id)
            && word(2).is_some_and(|flags| flags & QR != 0)
            && word(4) == Some(1)
            && same_question()
    }

    /// An answer.
    pub fn answer(
        &self,
        code: Code,
        authoritative: bool,
        answers: &[Record],
        authority: &[Record],
    ) -> Vec<u8> {
        let mut out = self.id.to_be_bytes().to_vec();
        let aa = if authoritative { AA } else { 0 };
        out.extend((QR | RA | aa | self.flags & RD | code as u16 & RCODE).to_be_bytes());
        for count in [1, answers.len() as u16, authority.len() as u16, 0] {
            out.extend(count.to_be_bytes());
        }
        out.extend(&self.question);
        for record in answers.iter().chain(authority) {
            record.write(&mut out);
        }
        out
    }
}

/// The labels of a name, in small letters, and how many bytes it takes. Questions have nothing to point to.
fn name(bytes: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
    const LONGEST: usize = 255;
    let mut labels = Vec::new();
    let mut at = 0;
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length == 0 {
            return (at <= LONGEST).then_some((labels, at));
        }
        if length > 63 || at + length >= LONGEST {
            return None;
        }
        labels.push(bytes.get(at..at + length)?.to_ascii_lowercase());
        at += length;
    }
}

/// A record of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose; none: the name that was asked for.
    pub owner: Option<String>,
    /// What it says.
    pub data: Data,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are RFC 1035's and RFC 3596's")]
pub enum Data {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Ptr(String),
    Ns(String),
    /// The server's name; the rest is the same for all.
    Soa(String),
}

impl Record {
    /// How long others may remember it, in seconds: not long, guests come and go.
    const TTL: u32 = 10;

    fn write(&self, out: &mut Vec<u8>) {
        match &self.owner {
            // The question's name, behind the header.
            None => out.extend([0xc0, HEADER as u8]),
            Some(owner) => write_name(owner, out),
        }
        let (kind, data) = match &self.data {
            Data::A(address) => (kind::A, address.octets().to_vec()),
            Data::Aaaa(address) => (kind::AAAA, address.octets().to_vec()),
            Data::Ptr(name) => (kind::PTR, named(name)),
            Data::Ns(name) => (kind::NS, named(name)),
            Data::Soa(server) => {
                let mut data = named(server);
                write_name("nobody.invalid", &mut data);
                // Serial, refresh, retry, expire, and how long to remember that something is not there.
                for number in [1u32, 3600, 600, 86400, Self::TTL] {
                    data.extend(number.to_be_bytes());
                }
                (kind::SOA, data)
            }
        };
        out.extend(kind.to_be_bytes());
        out.extend(IN.to_be_bytes());
        out.extend(Self::TTL.to_be_bytes());
        out.extend((data.len() as u16).to_be_bytes());
        out.extend(data);
    }
}

fn named(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write_name(name, &mut out);
    out
}

/// A name of ours: its labels are checked where it is declared.
fn write_name(name: &str, out: &mut Vec<u8>) {
    for label in name.split('.').filter(|l| !l.is_empty()) {
        let label = label.as_bytes().get(..label.len().min(63)).unwrap_or_default();
        out.push(label.len() as u8);
        out.extend(label);
    }
    out.push(0);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The bytes of a query.
    pub(crate) fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut out = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        write_name(name, &mut out);
        out.extend(kind.to_be_bytes());
        out.extend(IN.to_be_bytes());
        out
    }

    #[test]
    fn queries_are_read_and_answered() {
        let query = Query::parse(&query("Web.Example", kind::A)).unwrap();
        assert_eq!((query.id, query.kind, query.class), (0x1234, kind::A, IN));
        assert_eq!(query.name, [b"web".to_vec(), b"example".to_vec()]);
        let record = Record { owner: None, data: Data::A(Ipv4Addr::new(10, 1, 0, 2)) };
        let bytes = query.answer(Code::Ok, true, &[record], &[]);
        assert_eq!(bytes[..12], [0x12, 0x34, 0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(bytes[bytes.len() - 16..], [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 10, 0, 4, 10, 1, 0, 2]);
        assert!(query.is_answered_by(&bytes, 0x1234) && !query.is_answered_by(&bytes, 0x1235));
    }

    #[test]
    fn what_is_no_query_is_told_so_or_nothing() {
        let good = query("a.b", kind::A);
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            Query::parse(&bytes)
        };
        assert_eq!(with(2, 0x80), Err(Bad::Noise));
        assert!(matches!(with(2, 0x28), Err(Bad::Told(t)) if t[3] & 15 == 4));
        // No question, two; a pointer in the name.
        for (at, value) in [(5, 0), (5, 2), (12, 0xc0)] {
            assert!(matches!(with(at, value), Err(Bad::Told(t)) if t[3] & 15 == 1), "{at} {value}");
        }
        let long = vec!["a".repeat(63); 4].join(".");
        assert!(matches!(Query::parse(&query(&long, 1)), Err(Bad::Told(_))));
    }

    proptest! {
        #[test]
        fn garbage_is_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), head: bool) {
            let mut all = if head { query("a.b", 1)[..12].to_vec() } else { Vec::new() };
            all.extend(bytes);
            if let Ok(query) = Query::parse(&all) {
                let refused = query.answer(Code::Refused, false, &[], &[]);
                prop_assert!(refused.len() <= all.len());
                prop_assert!(query.is_answered_by(&refused, query.id));
            }
        }
    }
}
