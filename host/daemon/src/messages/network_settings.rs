//! `network`: what its `other_config` says about addresses, uplinks and overlays, as the layer of networks takes it.
//!
//! XenAPI has no fields for these. The keys are the table of docs/daemon.md; others, without `radon:`, are clients' own.

use super::{int, text};
use crate::database::Row;
use radon_api::{ApiError, Result, Value};
use radon_network::{Network, Outside, Overlay, Prefix, Range, Subnet, Uplink};
use std::net::Ipv4Addr;
use std::str::FromStr;

/// What is in front of each of our keys.
const PREFIX: &str = "radon:";
const KEYS: [&str; 13] = [
    "subnet",
    "host",
    "range",
    "outside",
    "domain",
    "forwarders",
    "lease-seconds",
    "uplink",
    "vlan",
    "vni",
    "local",
    "peers",
    "vxlan-port",
];

/// The keys of a row.
struct Settings<'a>(&'a Row);

impl<'a> Settings<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        let config = self.0.get("other_config")?;
        config.get(&format!("{PREFIX}{key}")).and_then(Value::text).filter(|t| !t.is_empty())
    }

    fn parse<T: FromStr<Err: ToString>>(&self, key: &str) -> Result<Option<T>> {
        let one = |text: &str| text.trim().parse().map_err(|e: T::Err| wrong(key, text, e));
        self.get(key).map(one).transpose()
    }

    fn list<T: FromStr<Err: ToString>>(&self, key: &str) -> Result<Vec<T>> {
        let one = |text: &str| text.trim().parse().map_err(|e: T::Err| wrong(key, text, e));
        self.get(key).into_iter().flat_map(|t| t.split(',')).map(one).collect()
    }

    fn need<T: FromStr<Err: ToString>>(&self, key: &str, because: &str) -> Result<T> {
        self.parse(key)?.ok_or_else(|| wrong(key, "", format!("{because} needs it")))
    }
}

fn wrong(key: &str, value: &str, why: impl ToString) -> ApiError {
    ApiError::not_supported(format!("other_config:{PREFIX}{key}"), value, why)
}

/// The network that a row describes.
pub(super) fn network(row: &Row) -> Result<Network> {
    if let Some(Value::Map(config)) = row.get("other_config") {
        let ours = config.keys().filter_map(|k| k.strip_prefix(PREFIX));
        if let Some(unknown) = ours.into_iter().find(|k| !KEYS.contains(k)) {
            return Err(wrong(
                unknown,
                "",
                format!("there is no such setting; there are {}", KEYS.join(", ")),
            ));
        }
    }
    let settings = Settings(row);
    let bridge =
        text(row, "bridge").parse().map_err(|e| ApiError::not_supported("bridge", text(row, "bridge"), e))?;
    let mut network = Network::new(bridge);
    network.mtu = u16::try_from(int(row, "MTU")).unwrap_or(u16::MAX);
    network.uplink = settings
        .parse("uplink")?
        .map(|link| Ok(Uplink { link, vlan: settings.parse("vlan")? }))
        .transpose()?;
    if network.uplink.is_none() && settings.get("vlan").is_some() {
        return Err(wrong("uplink", "", "a VLAN needs it"));
    }
    if let Some(vni) = settings.parse("vni")? {
        network.overlay = Some(Overlay {
            vni,
            local: settings.need("local", "an overlay")?,
            peers: settings.list("peers")?.into_iter().collect(),
            port: settings.parse("vxlan-port")?.unwrap_or(radon_network::VXLAN_PORT),
        });
    }
    network.subnet = settings.parse("subnet")?.map(|prefix| subnet(&settings, row, prefix)).transpose()?;
    Ok(network)
}

fn subnet(settings: &Settings<'_>, row: &Row, prefix: Prefix) -> Result<Subnet> {
    let host = settings.parse("host")?.unwrap_or_else(|| after(prefix.network(), 1));
    let outside = match settings.get("outside").unwrap_or("none") {
        "none" => Outside::None,
        "nat" => Outside::Nat,
        "routed" => Outside::Routed,
        other => return Err(wrong("outside", other, "none, nat or routed")),
    };
    // All but the first few, which are for what is set by hand; of the smallest subnets all.
    let last = Ipv4Addr::from_bits(prefix.broadcast().to_bits().saturating_sub(1));
    let first = after(prefix.network(), if prefix.length() <= 27 { 10 } else { 1 });
    let range = settings.parse("range")?.or_else(|| Range::new(first, last));
    let label = label(text(row, "name_label")).unwrap_or_else(|| "guests".to_owned());
    let domain = match settings.parse("domain")? {
        Some(domain) => domain,
        None => format!("{label}.internal").parse().map_err(ApiError::internal)?,
    };
    Ok(Subnet {
        prefix,
        host,
        range,
        lease_seconds: settings.parse("lease-seconds")?.unwrap_or(radon_network::LEASE_SECONDS),
        domain,
        forwarders: settings.list("forwarders")?,
        outside,
    })
}

fn after(address: Ipv4Addr, count: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(address.to_bits().saturating_add(count))
}

/// A name as DNS has it: letters, digits and dashes; none if nothing of it is left.
pub(super) fn label(name: &str) -> Option<String> {
    let mut label = String::new();
    for ch in name.chars().flat_map(char::to_lowercase) {
        match ch {
            'a'..='z' | '0'..='9' => label.push(ch),
            _ if label.is_empty() || label.ends_with('-') => {}
            _ => label.push('-'),
        }
    }
    label.truncate(48);
    let label = label.trim_end_matches('-');
    (!label.is_empty()).then(|| label.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(config: &[(&str, &str)]) -> Row {
        let config = config.iter().map(|(k, v)| ((*k).to_owned(), *v));
        Row::from([
            ("bridge".to_owned(), Value::from("radonbr0")),
            ("name_label".to_owned(), Value::from("My LAN!")),
            ("MTU".to_owned(), Value::Int(1500)),
            ("other_config".to_owned(), Value::pairs(config)),
        ])
    }

    fn why(config: &[(&str, &str)]) -> String {
        network(&row(config)).unwrap_err().to_string()
    }

    #[test]
    fn a_subnet_needs_nothing_else() {
        assert_eq!(network(&row(&[("folder", "x")])).unwrap().subnet, None);
        let subnet = network(&row(&[("radon:subnet", "10.7.0.0/24")])).unwrap().subnet.unwrap();
        assert_eq!(subnet.host.to_string(), "10.7.0.1");
        assert_eq!(subnet.range.unwrap().to_string(), "10.7.0.10-10.7.0.254");
        assert_eq!(subnet.domain.to_string(), "my-lan.internal");
        assert_eq!(subnet.outside, Outside::None);
        let small = network(&row(&[("radon:subnet", "10.7.0.0/30")])).unwrap().subnet.unwrap();
        assert_eq!(small.range.unwrap().to_string(), "10.7.0.1-10.7.0.2");
    }

    #[test]
    fn everything_can_be_said() {
        let all = network(&row(&[
            ("radon:subnet", "10.7.0.0/16"),
            ("radon:host", "10.7.9.9"),
            ("radon:range", "10.7.1.0-10.7.1.255"),
            ("radon:outside", "nat"),
            ("radon:domain", "lan.example"),
            ("radon:forwarders", "192.0.2.1, 192.0.2.2"),
            ("radon:lease-seconds", "600"),
            ("radon:uplink", "eth1"),
            ("radon:vlan", "7"),
            ("radon:vni", "9"),
            ("radon:local", "192.0.2.3"),
            ("radon:peers", "192.0.2.4,192.0.2.5"),
        ]))
        .unwrap();
        let subnet = all.subnet.unwrap();
        assert_eq!((subnet.forwarders.len(), subnet.lease_seconds, subnet.outside), (2, 600, Outside::Nat));
        assert_eq!(all.uplink.unwrap().vlan, Some(7));
        assert_eq!(all.overlay.unwrap().peers.len(), 2);
    }

    #[test]
    fn nonsense_is_named() {
        assert!(why(&[("radon:subnet", "10.7.0.1/24")]).contains("radon:subnet"));
        assert!(why(&[("radon:subnets", "10.7.0.0/24")]).contains("there is no such setting"));
        assert!(why(&[("radon:vlan", "7")]).contains("a VLAN needs it"));
        assert!(why(&[("radon:vni", "7")]).contains("an overlay needs it"));
        assert!(why(&[("radon:subnet", "10.7.0.0/24"), ("radon:outside", "yes")]).contains("routed"));
    }

    #[test]
    fn names_become_labels() {
        for (name, want) in
            [("web", Some("web")), ("Web 01 (ä)", Some("web-01")), ("--", None), ("", None), ("é", None)]
        {
            assert_eq!(label(name).as_deref(), want, "{name}");
        }
        assert!(label(&"a".repeat(300)).is_some_and(|l| l.len() == 48));
    }
}
