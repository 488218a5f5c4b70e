//! What a network's DHCP server answers, and its loop.

use super::journal::LeaseFile;
use super::lease::{Pool, Time};
use super::message::{Answer, Kind, LONGEST, Query, option};
use crate::error::Result;
use crate::name::HostName;
use crate::network::{Outside, Subnet};
use crate::plan::METADATA;
use std::net::{Ipv4Addr, SocketAddrV4};

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

/// What the answers say of the network.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Its addresses.
    pub subnet: Subnet,
    /// Bytes of the largest packet.
    pub mtu: u16,
}

/// An answer and where it goes.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    /// To send.
    pub bytes: Vec<u8>,
    /// Where to; all hosts, if the client has no address yet.
    pub to: SocketAddrV4,
    /// An address whose lease changed: it must be durable before the answer is sent.
    pub changed: Option<Ipv4Addr>,
}

/// What comes of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing.
    Silence,
    /// A lease changed, and nobody is told.
    Noted(Ipv4Addr),
    /// An answer.
    Reply(Reply),
}

/// The answer to a client's message. `name` gives a client's name.
pub fn respond(terms: &Terms, pool: &mut Pool, query: &Query, name: Option<&HostName>, now: Time) -> Outcome {
    let subnet = &terms.subnet;
    // A relay is one of ours: it has an address of the network that it asks for.
    if !query.relay.is_unspecified() && !subnet.prefix.has_host(query.relay) {
        return Outcome::Silence;
    }
    let reply = |kind, yours: Option<Ipv4Addr>, changed| {
        let options = options(terms, query, name, kind, yours.is_some());
        let answer = Answer { kind, yours: yours.unwrap_or(Ipv4Addr::UNSPECIFIED), options };
        Outcome::Reply(Reply { bytes: answer.bytes(query), to: destination(query, kind), changed })
    };
    match query.kind {
        Kind::Discover => match pool.offer(query.mac, query.requested, now) {
            Some(address) => reply(Kind::Offer, Some(address), None),
            None => Outcome::Silence,
        },
        Kind::Request => {
            if query.server.is_some_and(|server| server != subnet.host) {
                return Outcome::Silence;
            }
            // Chosen or remembered; or, renewing, in use.
            let wanted = query.requested.unwrap_or(query.client);
            // Who has an address renews that one: another's would hear the answer.
            if wanted.is_unspecified() || ![Ipv4Addr::UNSPECIFIED, wanted].contains(&query.client) {
                return Outcome::Silence;
            }
            match pool.take(query.mac, wanted, now) {
                Some(_) => {
                    let changed = pool.is_leased(wanted).then_some(wanted);
                    reply(Kind::Ack, Some(wanted), changed)
                }
                None => reply(Kind::Nak, None, None),
            }
        }
        Kind::Decline => {
            let address = query.requested.filter(|a| pool.decline(query.mac, *a, now).is_some());
            address.map_or(Outcome::Silence, Outcome::Noted)
        }
        Kind::Release => match pool.release(query.mac, query.client, now) {
            Some(_) => Outcome::Noted(query.client),
            None => Outcome::Silence,
        },
        Kind::Inform if subnet.prefix.has_host(query.client) => reply(Kind::Ack, None, None),
        _ => Outcome::Silence,
    }
}

fn destination(query: &Query, kind: Kind) -> SocketAddrV4 {
    if !query.relay.is_unspecified() {
        return SocketAddrV4::new(query.relay, SERVER_PORT);
    }
    let known = !query.client.is_unspecified() && kind == Kind::Ack;
    SocketAddrV4::new(if known { query.client } else { Ipv4Addr::BROADCAST }, CLIENT_PORT)
}

fn options(
    terms: &Terms,
    query: &Query,
    name: Option<&HostName>,
    kind: Kind,
    leased: bool,
) -> Vec<(u8, Vec<u8>)> {
    let subnet = &terms.subnet;
    let host = subnet.host.octets().to_vec();
    let mut all = vec![(option::SERVER, host.clone())];
    if kind == Kind::Nak {
        all.push((option::MESSAGE, b"that address is not yours".to_vec()));
    } else {
        if leased {
            let times = [(option::LEASE, 8), (option::T1, 4), (option::T2, 7)];
            let eighth = subnet.lease_seconds / 8;
            let seconds = |n| if n == 8 { subnet.lease_seconds } else { eighth * n };
            all.extend(times.map(|(number, n)| (number, seconds(n).to_be_bytes().to_vec())));
        }
        all.push((option::MASK, subnet.prefix.mask().octets().to_vec()));
        all.push((option::BROADCAST, subnet.prefix.broadcast().octets().to_vec()));
        // Who reads routes ignores the router: the metadata service's way is said too, because there may be no router.
        let mut routes = vec![32];
        routes.extend(METADATA.octets());
        routes.extend(&host);
        if subnet.outside != Outside::None {
            all.push((option::ROUTER, host.clone()));
            routes.push(0);
            routes.extend(&host);
        }
        all.push((option::ROUTES, routes));
        all.push((option::DNS, host));
        all.push((option::DOMAIN, subnet.domain.as_str().as_bytes().to_vec()));
        all.push((option::MTU, terms.mtu.to_be_bytes().to_vec()));
        if let Some(name) = name {
            all.push((option::HOST_NAME, name.as_str().as_bytes().to_vec()));
        }
    }
    for (number, value) in [(option::CLIENT, &query.client_id), (option::RELAY, &query.relay_note)] {
        if let Some(value) = value {
            all.push((number, value.clone()));
        }
    }
    all
}

/// Answers one datagram: what to send and where. `file` makes leases durable.
pub fn serve(
    bytes: &[u8],
    terms: &Terms,
    pool: &mut Pool,
    file: &mut LeaseFile,
    name: impl Fn(&Query) -> Option<HostName>,
    now: Time,
) -> Result<Option<(Vec<u8>, SocketAddrV4)>> {
    let Some(query) = bytes.get(..bytes.len().min(LONGEST)).and_then(Query::parse) else { return Ok(None) };
    let name = name(&query);
    match respond(terms, pool, &query, name.as_ref(), now) {
        Outcome::Silence => Ok(None),
        Outcome::Noted(address) => file.note(address, pool.leases()).map(|()| None),
        Outcome::Reply(reply) => {
            if let Some(address) = reply.changed {
                file.note(address, pool.leases())?;
            }
            Ok(Some((reply.bytes, reply.to)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn terms() -> Terms {
        let text = r#"{"prefix": "10.1.0.0/24", "host": "10.1.0.1", "range": "10.1.0.2-10.1.0.9", "domain": "t", "outside": "nat"}"#;
        Terms { subnet: serde_json::from_str(text).unwrap(), mtu: 1450 }
    }

    fn pool() -> Pool {
        let mut pool = Pool::new(&terms().subnet, BTreeMap::new());
        let own = ("00:16:3e:00:00:07".parse().unwrap(), Ipv4Addr::new(10, 1, 0, 100));
        pool.reserve(BTreeMap::from([own]), BTreeSet::from([terms().subnet.host]));
        pool
    }

    fn query(kind: Kind) -> Query {
        Query {
            kind,
            xid: 1,
            broadcast: false,
            client: Ipv4Addr::UNSPECIFIED,
            relay: Ipv4Addr::UNSPECIFIED,
            mac: "00:16:3e:00:00:01".parse().unwrap(),
            requested: None,
            server: None,
            client_id: Some(vec![1, 2, 3]),
            relay_note: None,
        }
    }

    fn reply(pool: &mut Pool, query: &Query) -> Option<(u8, Ipv4Addr, SocketAddrV4, Option<Ipv4Addr>)> {
        match respond(&terms(), pool, query, None, 0) {
            Outcome::Reply(r) => {
                let yours: [u8; 4] = r.bytes[16..20].try_into().unwrap();
                assert!(
                    r.bytes.windows(5).any(|w| w == [option::CLIENT, 3, 1, 2, 3]),
                    "the client's identity"
                );
                Some((r.bytes[242], yours.into(), r.to, r.changed))
            }
            _ => None,
        }
    }

    const ALL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::BROADCAST, 68);
    const OFFER: u8 = 2;
    const ACK: u8 = 5;
    const NAK: u8 = 6;

    #[test]
    fn a_client_gets_an_address_renews_it_and_gives_it_back() {
        let mut pool = pool();
        let (kind, address, to, changed) = reply(&mut pool, &query(Kind::Discover)).unwrap();
        assert_eq!((kind, to, changed), (OFFER, ALL, None));
        let chosen =
            Query { requested: Some(address), server: Some(terms().subnet.host), ..query(Kind::Request) };
        assert_eq!(reply(&mut pool, &chosen), Some((ACK, address, ALL, Some(address))));
        let renewed = Query { client: address, ..query(Kind::Request) };
        let there = SocketAddrV4::new(address, 68);
        assert_eq!(reply(&mut pool, &renewed), Some((ACK, address, there, Some(address))));
        let other = Query { server: Some(Ipv4Addr::new(10, 1, 0, 50)), ..chosen };
        assert_eq!(reply(&mut pool, &other), None);
        let back = Query { client: address, ..query(Kind::Release) };
        assert_eq!(respond(&terms(), &mut pool, &back, None, 0), Outcome::Noted(address));
    }

    #[test]
    fn who_has_an_address_by_declaration_gets_it_without_a_lease() {
        let mut pool = pool();
        let own = Query { mac: "00:16:3e:00:00:07".parse().unwrap(), ..query(Kind::Discover) };
        let (_, address, ..) = reply(&mut pool, &own).unwrap();
        assert_eq!(address, Ipv4Addr::new(10, 1, 0, 100));
        let take = Query { kind: Kind::Request, requested: Some(address), ..own.clone() };
        assert_eq!(reply(&mut pool, &take), Some((ACK, address, ALL, None)));
        let wrong = Query { requested: Some(Ipv4Addr::new(10, 1, 0, 3)), ..take };
        assert_eq!(reply(&mut pool, &wrong), Some((NAK, Ipv4Addr::UNSPECIFIED, ALL, None)));
    }

    #[test]
    fn declined_addresses_are_not_given_again_and_strangers_are_refused() {
        let mut pool = pool();
        let (_, address, ..) = reply(&mut pool, &query(Kind::Discover)).unwrap();
        let no =
            Query { requested: Some(address), server: Some(terms().subnet.host), ..query(Kind::Decline) };
        assert_eq!(respond(&terms(), &mut pool, &no, None, 0), Outcome::Noted(address));
        assert_ne!(reply(&mut pool, &query(Kind::Discover)).unwrap().1, address);
        let elsewhere = Query { requested: Some(Ipv4Addr::new(192, 0, 2, 1)), ..query(Kind::Request) };
        assert_eq!(reply(&mut pool, &elsewhere).unwrap().0, NAK);
    }

    #[test]
    fn relays_of_the_network_are_answered_and_others_are_not() {
        let mut pool = pool();
        let relay = Ipv4Addr::new(10, 1, 0, 200);
        let through = Query { relay, relay_note: Some(vec![9; 4]), ..query(Kind::Discover) };
        let Outcome::Reply(reply) = respond(&terms(), &mut pool, &through, None, 0) else {
            panic!("no answer")
        };
        assert_eq!(reply.to, SocketAddrV4::new(relay, 67));
        assert!(reply.bytes.windows(6).any(|w| w == [option::RELAY, 4, 9, 9, 9, 9]));
        let foreign = Query { relay: Ipv4Addr::new(192, 0, 2, 1), ..through };
        assert_eq!(respond(&terms(), &mut pool, &foreign, None, 0), Outcome::Silence);
    }

    #[test]
    fn who_only_asks_is_told_without_an_address() {
        let mut pool = pool();
        let inform = Query { client: Ipv4Addr::new(10, 1, 0, 77), ..query(Kind::Inform) };
        let there = SocketAddrV4::new(inform.client, 68);
        assert_eq!(reply(&mut pool, &inform), Some((ACK, Ipv4Addr::UNSPECIFIED, there, None)));
        // Nobody outside the network can be made to receive answers.
        let client = Ipv4Addr::new(192, 0, 2, 9);
        assert_eq!(reply(&mut pool, &Query { client, ..query(Kind::Inform) }), None);
        let requested = Some(Ipv4Addr::new(10, 1, 0, 2));
        assert_eq!(reply(&mut pool, &Query { client, requested, ..query(Kind::Request) }), None);
    }
}
