//! What guests send to a network's services: DHCP, DNS, requests for metadata; the file of leases; and what a DHCP server tells the
//! host.

use radon_network::dhcp::lease::{Lease, Pool};
use radon_network::dhcp::message::{Query as Dhcp, Reply};
use radon_network::dhcp::server::{Outcome, Terms, respond};
use radon_network::dhcp::{journal, message};
use radon_network::dns::message::{Bad, Query as Dns};
use radon_network::dns::zone::{Found, Zone};
use radon_network::metadata::{request, tree};
use radon_network::{Interface, Mac, Subnet};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

fn subnet() -> Subnet {
    let text = r#"{"prefix": "10.1.0.0/24", "host": "10.1.0.1", "range": "10.1.0.2-10.1.0.9", "domain": "a.test", "outside": "nat"}"#;
    serde_json::from_str(text).expect("a subnet")
}

fn interface() -> Interface {
    let text = r#"{"network": "a", "mac": "00:16:3e:00:00:07", "ipv4": ["10.1.0.100"], "host_name": "web",
        "metadata": {"instance_id": "i-1", "public_keys": ["ssh-ed25519 AAAA me"], "user_data": "x"}}"#;
    serde_json::from_str(text).expect("an interface")
}

/// A sequence of messages, each behind a byte with its length in units of 4: no address is two clients', none is given that is not
/// the network's, and what is somebody's by declaration is nobody else's.
pub fn dhcp(mut data: &[u8]) {
    let terms = Terms { subnet: subnet(), mtu: 1500 };
    let mut pool = Pool::new(&terms.subnet, BTreeMap::new());
    let own = Mac::new([0, 0x16, 0x3e, 0, 0, 7]).expect("an address");
    let kept = Ipv4Addr::new(10, 1, 0, 100);
    pool.reserve(BTreeMap::from([(own, kept)]), BTreeSet::from([terms.subnet.host]));
    let mut now = 1000;
    while let [length, rest @ ..] = data {
        let (message, next) = rest.split_at(rest.len().min(usize::from(*length) * 4));
        (data, now) = (next, now + u64::from(*length));
        let Some(query) = Dhcp::parse(message) else { continue };
        let name = interface().host_name;
        if let Outcome::Reply(reply) = respond(&terms, &mut pool, &query, name.as_ref(), now) {
            let yours = Ipv4Addr::from(<[u8; 4]>::try_from(&reply.bytes[16..20]).expect("four bytes"));
            assert!(reply.bytes.len() >= 300 && reply.bytes.len() <= message::LONGEST);
            assert_eq!(reply.bytes[4..8], query.xid.to_be_bytes());
            assert!(
                yours.is_unspecified() || terms.subnet.prefix.has_host(yours) && yours != terms.subnet.host
            );
            assert!(yours != kept || query.mac == own);
            let to = *reply.to.ip();
            assert!(to.is_broadcast() || terms.subnet.prefix.has_host(to), "an answer to {to}");
        }
        let live: Vec<&Lease> = pool.leases().values().filter(|l| l.until > now).collect();
        let clients: BTreeSet<_> = live.iter().filter_map(|l| l.mac).collect();
        assert_eq!(clients.len(), live.iter().filter(|l| l.mac.is_some()).count(), "one address each");
    }
}

/// A server's message: what the host would set is an address that an interface can have.
pub fn dhcp_reply(data: &[u8]) {
    let Some(reply) = Reply::parse(data) else { return };
    assert!(reply.length <= 32 && reply.dns.len() * 4 <= data.len(), "{reply:?}");
    assert!(!reply.yours.is_multicast() && !reply.yours.is_loopback() && !reply.yours.is_broadcast());
}

/// The file of leases.
pub fn leases(data: &[u8]) {
    let leases = journal::parse(data);
    assert!(leases.len() <= data.len() / 20);
}

/// A query: its answer, if the network has one, is no larger than a datagram, and is one to this query.
pub fn dns(data: &[u8]) {
    let zone = Zone::new(&subnet(), [interface()].iter());
    match Dns::parse(data) {
        Ok(query) => {
            if let Found::Here(answer) = zone.find(&query) {
                assert!(answer.len() <= 1232 && query.is_answered_by(&answer, query.id));
            }
            let _ = query.is_answered_by(data, query.id);
        }
        Err(Bad::Told(answer)) => assert_eq!(answer.len(), 12),
        Err(Bad::Noise) => {}
    }
}

/// A request for metadata.
pub fn http(data: &[u8]) {
    match request::parse(data) {
        request::Parsed::Request(request) => {
            let interface = interface();
            let content = tree::find(&interface, &subnet().domain, &request.path);
            let content = content.unwrap_or_default();
            assert!(request::response(200, &content, request.body).len() < 4096);
        }
        request::Parsed::More => assert!(data.len() < request::LONGEST),
        request::Parsed::Refused(status) => assert!((400..600).contains(&status)),
    }
}
