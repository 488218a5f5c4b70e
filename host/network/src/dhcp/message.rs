//! A DHCP message (RFC 2131, section 2; options RFC 2132): what a server and a client need of it.

use crate::mac::Mac;
use std::net::Ipv4Addr;

/// Bytes before the options: BOOTP's header and the cookie.
const FIXED: usize = 240;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const ETHERNET: u8 = 1;
/// Clients may refuse shorter ones (RFC 951).
const SHORTEST: usize = 300;
/// Longer ones are not read.
pub const LONGEST: usize = 1500;

/// Numbers of options.
pub mod option {
    #![allow(missing_docs, reason = "the names are RFC 2132's, RFC 3046's and RFC 3442's")]
    pub const MASK: u8 = 1;
    pub const ROUTER: u8 = 3;
    pub const DNS: u8 = 6;
    pub const HOST_NAME: u8 = 12;
    pub const DOMAIN: u8 = 15;
    pub const MTU: u8 = 26;
    pub const BROADCAST: u8 = 28;
    pub const REQUESTED: u8 = 50;
    pub const LEASE: u8 = 51;
    pub const OVERLOAD: u8 = 52;
    pub const KIND: u8 = 53;
    pub const SERVER: u8 = 54;
    pub const MESSAGE: u8 = 56;
    pub const T1: u8 = 58;
    pub const T2: u8 = 59;
    pub const CLIENT: u8 = 61;
    pub const RELAY: u8 = 82;
    pub const ROUTES: u8 = 121;
    pub const END: u8 = 255;
}

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are RFC 2131's")]
pub enum Kind {
    Discover,
    Offer,
    Request,
    Decline,
    Ack,
    Nak,
    Release,
    Inform,
}

const KINDS: [Kind; 8] = [
    Kind::Discover,
    Kind::Offer,
    Kind::Request,
    Kind::Decline,
    Kind::Ack,
    Kind::Nak,
    Kind::Release,
    Kind::Inform,
];

impl Kind {
    fn number(self) -> u8 {
        KINDS.iter().position(|k| *k == self).map_or(0, |at| at as u8 + 1)
    }
}

/// A client's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// What for.
    pub kind: Kind,
    /// The client's number of the exchange.
    pub xid: u32,
    /// The answer is to be sent to all.
    pub broadcast: bool,
    /// The address that the client has.
    pub client: Ipv4Addr,
    /// The relay that the message came through.
    pub relay: Ipv4Addr,
    /// The client's hardware address.
    pub mac: Mac,
    /// The address that it wants.
    pub requested: Option<Ipv4Addr>,
    /// The server that it has chosen.
    pub server: Option<Ipv4Addr>,
    /// What must be given back as it is: the client's identity, and what a relay noted.
    pub client_id: Option<Vec<u8>>,
    /// The relay's note.
    pub relay_note: Option<Vec<u8>>,
}

impl Query {
    /// Reads one. None, if it is not one that a server could answer.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let fixed = bytes.get(..FIXED)?;
        let at = |from: usize| fixed.get(from..from + 4)?.try_into().ok();
        let word = |from| at(from).map(u32::from_be_bytes);
        let address = |from| at(from).map(<[u8; 4]>::into).map(|a: Ipv4Addr| a);
        if fixed.get(..3)? != [REQUEST, ETHERNET, 6] || at(236)? != COOKIE {
            return None;
        }
        let mac = Mac::new(fixed.get(28..34)?.try_into().ok()?)?;
        let options = Options::read(bytes)?;
        let one = |number| options.get(number).and_then(|v| <[u8; 4]>::try_from(v).ok()).map(Ipv4Addr::from);
        let kind = match options.get(option::KIND)? {
            &[number] => *KINDS.get(usize::from(number.checked_sub(1)?))?,
            _ => return None,
        };
        let keep = |number| options.get(number).filter(|v| v.len() <= 255).map(<[u8]>::to_vec);
        Some(Self {
            kind,
            xid: word(4)?,
            broadcast: fixed.get(10)? & 0x80 != 0,
            client: address(12)?,
            relay: address(24)?,
            mac,
            requested: one(option::REQUESTED),
            server: one(option::SERVER),
            client_id: keep(option::CLIENT),
            relay_note: keep(option::RELAY),
        })
    }
}

impl Query {
    /// Its bytes. The client's identity and a relay's note are at most 255 bytes long.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = vec![REQUEST, ETHERNET, 6, 0];
        out.extend(self.xid.to_be_bytes());
        out.extend([0, 0, if self.broadcast { 0x80 } else { 0 }, 0]);
        out.extend(self.client.octets());
        out.extend([0; 8]);
        out.extend(self.relay.octets());
        out.extend(self.mac.bytes());
        out.resize(FIXED - 4, 0);
        out.extend(COOKIE);
        out.extend([option::KIND, 1, self.kind.number()]);
        for (number, address) in [(option::REQUESTED, self.requested), (option::SERVER, self.server)] {
            if let Some(address) = address {
                out.extend([number, 4]);
                out.extend(address.octets());
            }
        }
        for (number, value) in [(option::CLIENT, &self.client_id), (option::RELAY, &self.relay_note)] {
            if let Some(value) = value {
                out.extend([number, value.len() as u8]);
                out.extend(value);
            }
        }
        out.push(option::END);
        out
    }
}

/// What a server told a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// An offer, an acknowledgement or a refusal.
    pub kind: Kind,
    /// The client's number of the exchange.
    pub xid: u32,
    /// For whom.
    pub mac: Mac,
    /// The client's address.
    pub yours: Ipv4Addr,
    /// Who says so.
    pub server: Option<Ipv4Addr>,
    /// Bits of the network's part of the address.
    pub length: u8,
    /// The way outside.
    pub router: Option<Ipv4Addr>,
    /// Who knows names.
    pub dns: Vec<Ipv4Addr>,
    /// Seconds for which the address may be used.
    pub seconds: u32,
}

impl Reply {
    /// Reads one. None, if it is not one that a client could use.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let fixed = bytes.get(..FIXED)?;
        let at = |from: usize| fixed.get(from..from + 4)?.try_into().ok();
        if fixed.get(..3)? != [REPLY, ETHERNET, 6] || at(236)? != COOKIE {
            return None;
        }
        let options = Options::read(bytes)?;
        let list = |number| -> Vec<Ipv4Addr> {
            let value = options.get(number).unwrap_or_default();
            value.chunks_exact(4).filter_map(|b| <[u8; 4]>::try_from(b).ok()).map(Ipv4Addr::from).collect()
        };
        let one = |number| list(number).first().copied();
        let kind = match options.get(option::KIND)? {
            &[number] => *KINDS.get(usize::from(number.checked_sub(1)?))?,
            _ => return None,
        };
        let yours = Ipv4Addr::from(at(16)?);
        let mask = one(option::MASK).map_or(u32::MAX << 8, Ipv4Addr::to_bits);
        let usable = !yours.is_multicast() && !yours.is_loopback() && !yours.is_broadcast();
        (usable && mask.leading_ones() + mask.trailing_zeros() == 32).then_some(())?;
        Some(Self {
            kind,
            xid: u32::from_be_bytes(at(4)?),
            mac: Mac::new(fixed.get(28..34)?.try_into().ok()?)?,
            yours,
            server: one(option::SERVER),
            length: mask.leading_ones() as u8,
            router: one(option::ROUTER),
            dns: list(option::DNS),
            seconds: one(option::LEASE).map_or(3600, Ipv4Addr::to_bits),
        })
    }
}

/// Options by number; a longer one may come in pieces (RFC 3396).
struct Options(Vec<(u8, Vec<u8>)>);

impl Options {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut all = Self(Vec::new());
        all.area(bytes.get(FIXED..)?)?;
        // The fields of the boot file's and the server's name may hold options too.
        match all.get(option::OVERLOAD) {
            Some(&[what @ 1..=3]) => {
                if what & 1 != 0 {
                    all.area(bytes.get(108..236)?)?;
                }
                if what & 2 != 0 {
                    all.area(bytes.get(44..108)?)?;
                }
            }
            Some(_) => return None,
            None => {}
        }
        Some(all)
    }

    fn area(&mut self, mut rest: &[u8]) -> Option<()> {
        loop {
            match rest {
                [] | [option::END, ..] => return Some(()),
                [0, after @ ..] => rest = after,
                [number, length, after @ ..] => {
                    let (value, next) = after.split_at_checked(usize::from(*length))?;
                    match self.0.iter_mut().find(|(n, _)| n == number) {
                        Some((_, known)) => known.extend_from_slice(value),
                        None => self.0.push((*number, value.to_vec())),
                    }
                    rest = next;
                }
                [_] => return None,
            }
        }
    }

    fn get(&self, number: u8) -> Option<&[u8]> {
        self.0.iter().find(|(n, _)| *n == number).map(|(_, value)| value.as_slice())
    }
}

/// A server's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it is.
    pub kind: Kind,
    /// The client's address from now on; zeros, if none is given.
    pub yours: Ipv4Addr,
    /// Options in the order in which they are sent; the kind of message is not among them.
    pub options: Vec<(u8, Vec<u8>)>,
}

impl Answer {
    /// The bytes of the answer to `query`.
    pub fn bytes(&self, query: &Query) -> Vec<u8> {
        let mut out = vec![REPLY, ETHERNET, 6, 0];
        out.extend(query.xid.to_be_bytes());
        // Seconds are not a server's; flags as they came, and to all if it is a refusal through a relay.
        let flag = query.broadcast || self.kind == Kind::Nak && !query.relay.is_unspecified();
        out.extend([0, 0, if flag { 0x80 } else { 0 }, 0]);
        let keeps = matches!(self.kind, Kind::Ack);
        out.extend(if keeps { query.client } else { Ipv4Addr::UNSPECIFIED }.octets());
        out.extend(self.yours.octets());
        // No next server: nothing is to be loaded.
        out.extend([0; 4]);
        out.extend(query.relay.octets());
        out.extend(query.mac.bytes());
        out.resize(FIXED - 4, 0);
        out.extend(COOKIE);
        let kind = (option::KIND, vec![self.kind.number()]);
        for (number, value) in std::iter::once(&kind).chain(&self.options) {
            for piece in value.chunks(255) {
                out.extend([*number, piece.len() as u8]);
                out.extend(piece);
            }
        }
        out.push(option::END);
        out.resize(out.len().max(SHORTEST), 0);
        out
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The bytes of a client's message.
    pub(crate) fn bytes_of(query: &Query) -> Vec<u8> {
        query.bytes()
    }

    fn any_query() -> impl Strategy<Value = Query> {
        let address = any::<u32>().prop_map(Ipv4Addr::from_bits);
        let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 1..40));
        let some = || proptest::option::of(any::<u32>().prop_map(Ipv4Addr::from_bits));
        let head = (0..8usize, any::<u32>(), any::<bool>(), address.clone(), address, 1u8..255);
        (head, some(), some(), bytes(), bytes()).prop_map(
            |(head, requested, server, client_id, relay_note)| {
                let (kind, xid, broadcast, client, relay, last) = head;
                let mac = Mac::new([0, 0x16, 0x3e, 0, 0, last]).unwrap();
                let kind = KINDS[kind];
                Query { kind, xid, broadcast, client, relay, mac, requested, server, client_id, relay_note }
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(query in any_query()) {
            prop_assert_eq!(Query::parse(&bytes_of(&query)), Some(query));
        }

        #[test]
        fn garbage_is_no_message_and_no_panic(query in any_query(), cut in 0usize..400, at in 0usize..400, value: u8) {
            let mut bytes = bytes_of(&query);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            bytes.truncate(cut);
            let _ = Query::parse(&bytes);
        }
    }

    #[test]
    fn a_client_reads_what_a_server_writes() {
        let mac = "00:16:3e:00:00:01".parse().unwrap();
        let query = discover(mac, 7);
        let four = |a: u8, b: u8, c: u8, d: u8| vec![a, b, c, d];
        let options = vec![
            (option::SERVER, four(10, 1, 0, 1)),
            (option::LEASE, 600u32.to_be_bytes().to_vec()),
            (option::MASK, four(255, 255, 240, 0)),
            (option::ROUTER, four(10, 1, 0, 254)),
            (option::DNS, [four(10, 1, 0, 3), four(10, 1, 0, 4)].concat()),
        ];
        let answer = Answer { kind: Kind::Offer, yours: Ipv4Addr::new(10, 1, 0, 2), options };
        let reply = Reply::parse(&answer.bytes(&query)).unwrap();
        assert_eq!((reply.kind, reply.xid, reply.mac, reply.length), (Kind::Offer, 7, mac, 20));
        assert_eq!((reply.yours.octets()[3], reply.seconds, reply.dns.len()), (2, 600, 2));
        assert_eq!(reply.router, Some(Ipv4Addr::new(10, 1, 0, 254)));
        // A mask with a hole is none.
        let options = vec![(option::MASK, four(255, 0, 255, 0))];
        assert_eq!(Reply::parse(&Answer { options, ..answer }.bytes(&query)), None);
    }

    fn discover(mac: Mac, xid: u32) -> Query {
        Query {
            kind: Kind::Discover,
            xid,
            broadcast: true,
            client: Ipv4Addr::UNSPECIFIED,
            relay: Ipv4Addr::UNSPECIFIED,
            mac,
            requested: None,
            server: None,
            client_id: None,
            relay_note: None,
        }
    }

    proptest! {
        #[test]
        fn replies_of_any_bytes_are_no_panic(query in any_query(), cut in 0usize..400, at in 0usize..400, value: u8) {
            let options = vec![(option::MASK, vec![255, 255, 255, 0]), (option::DNS, vec![1; 9])];
            let mut bytes = Answer { kind: Kind::Ack, yours: Ipv4Addr::LOCALHOST, options }.bytes(&query);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            bytes.truncate(cut);
            let _ = Reply::parse(&bytes);
        }
    }

    #[test]
    fn an_answer_has_its_form() {
        let query = Query {
            kind: Kind::Request,
            xid: 0x1234_5678,
            broadcast: true,
            client: Ipv4Addr::UNSPECIFIED,
            relay: Ipv4Addr::UNSPECIFIED,
            mac: "00:16:3e:00:00:01".parse().unwrap(),
            requested: None,
            server: None,
            client_id: None,
            relay_note: None,
        };
        let answer = Answer {
            kind: Kind::Ack,
            yours: Ipv4Addr::new(10, 1, 0, 2),
            options: vec![(option::ROUTES, vec![7; 300])],
        };
        let bytes = answer.bytes(&query);
        assert_eq!(bytes[..8], [2, 1, 6, 0, 0x12, 0x34, 0x56, 0x78]);
        assert_eq!((&bytes[16..20], &bytes[28..34]), (&[10, 1, 0, 2][..], &query.mac.bytes()[..]));
        assert_eq!(bytes[236..243], [99, 130, 83, 99, 53, 1, 5]);
        // A long option in two pieces.
        assert_eq!((&bytes[243..245], &bytes[500..502]), (&[121, 255][..], &[121, 45][..]));
        assert_eq!(bytes.last(), Some(&255));
        let short = Answer { options: Vec::new(), ..answer }.bytes(&query);
        assert_eq!(short.len(), SHORTEST);
    }
}
