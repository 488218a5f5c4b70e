//! The names of one network. Pure.

use super::message::{Code, Data, IN, Query, Record, kind};
use crate::interface::Interface;
use crate::network::Subnet;
use crate::prefix::Prefix;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The host's own name in each network.
const HOST: &str = "gateway";

/// Names and addresses of one network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    domain: String,
    prefix: Prefix,
    names: BTreeMap<String, (Vec<Ipv4Addr>, Vec<Ipv6Addr>)>,
    addresses: BTreeMap<Ipv4Addr, String>,
}

/// What a network knows of a name.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// All there is to know: the answer.
    Here(Vec<u8>),
    /// Nothing: others are to be asked.
    Elsewhere,
}

impl Zone {
    /// The names of a network's interfaces.
    pub fn new<'a>(subnet: &Subnet, interfaces: impl Iterator<Item = &'a Interface>) -> Self {
        let mut zone = Self {
            domain: subnet.domain.to_string(),
            prefix: subnet.prefix,
            names: BTreeMap::new(),
            addresses: BTreeMap::new(),
        };
        for interface in interfaces {
            if let Some(name) = &interface.host_name {
                let v4 = interface.ipv4.iter().copied().collect();
                zone.add(name.as_str(), v4, interface.ipv6.iter().copied().collect());
            }
        }
        // Last: a guest of that name is not the gateway.
        zone.add(HOST, vec![subnet.host], Vec::new());
        zone
    }

    fn add(&mut self, name: &str, v4: Vec<Ipv4Addr>, v6: Vec<Ipv6Addr>) {
        let full = format!("{name}.{}", self.domain);
        self.addresses.extend(v4.iter().map(|a| (*a, full.clone())));
        self.names.insert(full, (v4, v6));
    }

    /// What there is to know of a query's name.
    pub fn find(&self, query: &Query) -> Found {
        if query.class != IN {
            return Found::Here(query.answer(Code::Refused, false, &[], &[]));
        }
        let labels: Option<Vec<&str>> = query.name.iter().map(|l| std::str::from_utf8(l).ok()).collect();
        // Labels with dots in them are nobody's name.
        let Some(labels) = labels.filter(|all| !all.iter().any(|l| l.contains('.'))) else {
            return Found::Elsewhere;
        };
        let name = labels.join(".");
        if let Some(address) = reverse(&labels)
            && self.prefix.contains(address)
        {
            let ptr = self.addresses.get(&address).map(|name| Data::Ptr(name.clone()));
            let wanted = matches!(query.kind, kind::PTR | kind::ANY);
            return self.here(query, ptr.is_some(), ptr.into_iter().filter(|_| wanted), &name);
        }
        let own = name == self.domain;
        if !own && name.strip_suffix(&self.domain).is_none_or(|rest| !rest.ends_with('.')) {
            return Found::Elsewhere;
        }
        let wants = |k| query.kind == k || query.kind == kind::ANY;
        let server = || format!("{HOST}.{}", self.domain);
        let mut data = Vec::new();
        if own {
            data.extend(wants(kind::SOA).then(|| Data::Soa(server())));
            data.extend(wants(kind::NS).then(|| Data::Ns(server())));
        }
        let known = self.names.get(&name);
        if let Some((v4, v6)) = known {
            data.extend(v4.iter().filter(|_| wants(kind::A)).map(|a| Data::A(*a)));
            data.extend(v6.iter().filter(|_| wants(kind::AAAA)).map(|a| Data::Aaaa(*a)));
        }
        self.here(query, own || known.is_some(), data.into_iter(), &self.domain)
    }

    /// An answer: records, or that there are none, or no such name. `zone` is whose SOA says so.
    fn here(&self, query: &Query, known: bool, data: impl Iterator<Item = Data>, zone: &str) -> Found {
        // More might not fit a datagram of 512 bytes.
        let records: Vec<Record> = data.take(8).map(|data| Record { owner: None, data }).collect();
        let soa = Data::Soa(format!("{HOST}.{}", self.domain));
        let authority: Vec<Record> = records
            .is_empty()
            .then(|| Record { owner: Some(zone.to_owned()), data: soa })
            .into_iter()
            .collect();
        let code = if known { Code::Ok } else { Code::NoSuchName };
        Found::Here(query.answer(code, true, &records, &authority))
    }
}

/// The address that a name under `in-addr.arpa` stands for.
fn reverse(labels: &[&str]) -> Option<Ipv4Addr> {
    let [d, c, b, a, "in-addr", "arpa"] = labels else { return None };
    let mut octets = [0; 4];
    for (octet, label) in octets.iter_mut().zip([a, b, c, d]) {
        *octet = label.parse().ok().filter(|n: &u8| n.to_string() == **label)?;
    }
    Some(octets.into())
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::query;
    use super::*;

    fn zone() -> Zone {
        let subnet =
            serde_json::from_str(r#"{"prefix": "10.1.0.0/24", "host": "10.1.0.1", "domain": "a.test"}"#)
                .unwrap();
        let web: Interface = serde_json::from_str(
            r#"{"network": "a", "mac": "00:16:3e:00:00:01", "ipv4": ["10.1.0.2"], "ipv6": ["fd00::2"], "host_name": "web"}"#,
        )
        .unwrap();
        Zone::new(&subnet, [&web].into_iter())
    }

    /// Code, number of answers, and the last bytes.
    fn ask(name: &str, kind: u16) -> Option<(u8, u8, Vec<u8>)> {
        let query = Query::parse(&query(name, kind)).unwrap();
        match zone().find(&query) {
            Found::Here(a) => Some((a[3] & 15, a[7], a[a.len() - 4..].to_vec())),
            Found::Elsewhere => None,
        }
    }

    #[test]
    fn names_of_the_network_are_known_and_others_are_not() {
        assert_eq!(ask("web.a.test", kind::A), Some((0, 1, vec![10, 1, 0, 2])));
        assert_eq!(ask("WEB.A.test", kind::AAAA), Some((0, 1, vec![0, 0, 0, 2])));
        assert_eq!(ask("gateway.a.test", kind::A), Some((0, 1, vec![10, 1, 0, 1])));
        let none = |name, kind| ask(name, kind).map(|(code, count, _)| (code, count));
        assert_eq!(none("web.a.test", 16), Some((0, 0)));
        assert_eq!(none("no.a.test", kind::A), Some((3, 0)));
        assert_eq!(none("a.test", kind::SOA), Some((0, 1)));
        assert_eq!(none("2.0.1.10.in-addr.arpa", kind::PTR), Some((0, 1)));
        assert_eq!(none("9.0.1.10.in-addr.arpa", kind::PTR), Some((3, 0)));
        for elsewhere in
            ["example.org", "xa.test", "test", "", "2.1.1.10.in-addr.arpa", "02.0.1.10.in-addr.arpa"]
        {
            assert_eq!(ask(elsewhere, kind::A), None, "{elsewhere}");
        }
    }
}
