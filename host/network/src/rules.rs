//! The packet filter's rules: two tables called `radon`, one of the bridges' frames, one of the host's packets, written in nft's own
//! language and replaced as a whole, in one step.
//!
//! Nothing but checked names, numbers and addresses goes into the text.

use crate::declared::Declared;
use crate::error::{Error, Result};
use crate::interface::{Guard, Interface, Rate};
use crate::name::LinkName;
use crate::network::{Network, Outside, Subnet};
use crate::plan::METADATA;
use std::fmt::{Display, Write as _};
use std::io::Write as _;
use std::net::Ipv6Addr;
use std::process::{Command, Stdio};

/// The bit of a packet's mark that says: it came from a locked interface. The metadata service hears nobody else.
const LOCKED: u32 = 0x0400_0000;

/// The rules for what is declared, as a script for `nft -f`.
pub fn script(declared: &Declared) -> String {
    let mut out = String::new();
    for family in ["inet", "bridge"] {
        // It can be removed only if it is there.
        line(&mut out, 0, format_args!("table {family} radon"));
        line(&mut out, 0, format_args!("delete table {family} radon"));
    }
    if declared.networks.is_empty() {
        return out;
    }
    inet(&mut out, declared);
    bridge(&mut out, declared);
    out
}

fn line(out: &mut String, depth: usize, text: impl Display) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{:1$}{text}", "", depth * 2);
}

fn list<T: Display>(all: impl IntoIterator<Item = T>) -> String {
    let all: Vec<String> = all.into_iter().map(|x| x.to_string()).collect();
    format!("{{ {} }}", all.join(", "))
}

/// Packets to the host and through it.
fn inet(out: &mut String, declared: &Declared) {
    let subnets: Vec<(&Network, &Subnet)> =
        declared.networks.values().filter_map(|n| Some((n, n.subnet.as_ref()?))).collect();
    let chains = |out: &mut String, key: &str, prefix: &str| {
        for (network, _) in &subnets {
            line(out, 2, format_args!("{key} \"{0}\" jump {prefix}_{0}", network.bridge));
        }
        line(out, 1, "}");
    };
    line(out, 0, "table inet radon {");
    line(out, 1, "chain input {");
    line(out, 2, "type filter hook input priority filter; policy accept;");
    chains(out, "iifname", "host");
    line(out, 1, "chain forward {");
    line(out, 2, "type filter hook forward priority filter; policy accept;");
    chains(out, "iifname", "out");
    // What one network may send to another is decided by where it comes from.
    line(out, 1, "chain forward_in {");
    line(out, 2, "type filter hook forward priority filter + 1; policy accept;");
    chains(out, "oifname", "in");
    line(out, 1, "chain postrouting {");
    line(out, 2, "type nat hook postrouting priority srcnat; policy accept;");
    for (network, subnet) in subnets.iter().filter(|(_, s)| s.outside == Outside::Nat) {
        let (bridge, prefix) = (&network.bridge, subnet.prefix);
        line(
            out,
            2,
            format_args!("oifname != \"{bridge}\" ip saddr {prefix} ip daddr != {prefix} masquerade"),
        );
    }
    line(out, 1, "}");
    for (network, subnet) in &subnets {
        let others = subnets.iter().map(|(n, _)| &n.bridge).filter(|b| **b != network.bridge);
        host(out, &network.bridge, subnet);
        through(out, &network.bridge, subnet, &others.collect::<Vec<_>>());
    }
    line(out, 0, "}");
}

/// What a network's guests may say to the host itself.
fn host(out: &mut String, bridge: &LinkName, subnet: &Subnet) {
    let (prefix, address) = (subnet.prefix, subnet.host);
    line(out, 1, format_args!("chain host_{bridge} {{"));
    line(out, 2, "udp sport 68 udp dport 67 accept");
    line(out, 2, format_args!("ip saddr != {prefix} drop"));
    line(out, 2, "meta nfproto ipv6 drop");
    line(out, 2, "ct state established,related accept");
    line(out, 2, format_args!("ip daddr {address} udp dport {{ 53, 67 }} accept"));
    line(out, 2, format_args!("ip daddr {address} tcp dport 53 accept"));
    line(out, 2, format_args!("ip daddr {address} icmp type echo-request accept"));
    line(
        out,
        2,
        format_args!("ip daddr {METADATA} tcp dport 80 meta mark & {LOCKED:#x} == {LOCKED:#x} accept"),
    );
    line(out, 2, "drop");
    line(out, 1, "}");
}

/// What a network's guests may send through the host, and what may be sent to them.
fn through(out: &mut String, bridge: &LinkName, subnet: &Subnet, others: &[&LinkName]) {
    line(out, 1, format_args!("chain out_{bridge} {{"));
    // Where the kernel shows bridged frames here: they do not leave the network.
    line(out, 2, format_args!("oifname \"{bridge}\" accept"));
    if subnet.outside == Outside::None {
        line(out, 2, "drop");
    } else {
        line(out, 2, "meta nfproto ipv6 drop");
        line(out, 2, format_args!("ip saddr != {} drop", subnet.prefix));
        line(out, 2, "ip daddr 169.254.0.0/16 drop");
        if !others.is_empty() {
            let names = list(others.iter().map(|b| format!("\"{b}\"")));
            line(out, 2, format_args!("oifname {names} drop"));
        }
    }
    line(out, 1, "}");
    line(out, 1, format_args!("chain in_{bridge} {{"));
    line(out, 2, format_args!("iifname \"{bridge}\" accept"));
    match subnet.outside {
        Outside::None => line(out, 2, "drop"),
        Outside::Nat => {
            line(out, 2, "ct state established,related accept");
            line(out, 2, "drop");
        }
        Outside::Routed => line(out, 2, "meta nfproto ipv6 drop"),
    }
    line(out, 1, "}");
}

/// Frames from guests, and to those that may have none.
fn bridge(out: &mut String, declared: &Declared) {
    line(out, 0, "table bridge radon {");
    line(out, 1, "chain prerouting {");
    line(out, 2, "type filter hook prerouting priority -300; policy accept;");
    if !declared.interfaces.is_empty() {
        let to = |name: &LinkName| format!("\"{name}\" : goto from_{name}");
        line(out, 2, format_args!("iifname vmap {}", list(declared.interfaces.keys().map(to))));
    }
    line(out, 1, "}");
    line(out, 1, "chain postrouting {");
    line(out, 2, "type filter hook postrouting priority 300; policy accept;");
    for (name, _) in declared.interfaces.iter().filter(|(_, i)| i.guard == Guard::Disabled) {
        line(out, 2, format_args!("oifname \"{name}\" drop"));
    }
    line(out, 1, "}");
    for (name, interface) in &declared.interfaces {
        let subnet = declared.networks.get(&interface.network).and_then(|n| n.subnet.as_ref());
        match interface.guard {
            Guard::Locked => locked(out, name, interface),
            Guard::Unlocked => unlocked(out, name, interface, subnet),
            Guard::Disabled => {
                line(out, 1, format_args!("chain from_{name} {{"));
                line(out, 2, "drop");
                line(out, 1, "}");
            }
        }
    }
    line(out, 0, "}");
}

/// Ethernet types of VLAN tags: a guest that could send them would reach other VLANs of the card behind the bridge.
const TAGS: &str = "{ 0x8100, 0x88a8, 0x9100 }";

fn unlocked(out: &mut String, name: &LinkName, interface: &Interface, subnet: Option<&Subnet>) {
    line(out, 1, format_args!("chain from_{name} {{"));
    line(out, 2, format_args!("ether type {TAGS} drop"));
    if subnet.is_some() {
        line(out, 2, "ether type ip udp sport 67 udp dport 68 drop");
        line(out, 2, "ether type ip6 icmpv6 type nd-router-advert drop");
        line(out, 2, "ether type ip6 udp sport 547 udp dport 546 drop");
    }
    limit(out, interface.rates.from_guest);
    line(out, 2, "accept");
    line(out, 1, "}");
}

fn locked(out: &mut String, name: &LinkName, interface: &Interface) {
    let mac = interface.mac;
    let v4: Vec<String> = interface.ipv4.iter().map(ToString::to_string).collect();
    let link_local = mac.link_local();
    let v6: Vec<Ipv6Addr> = interface.ipv6.iter().copied().chain([link_local]).collect();
    line(out, 1, format_args!("chain from_{name} {{"));
    line(out, 2, format_args!("ether saddr != {mac} drop"));
    for (kind, chain) in [("arp", "arp"), ("ip", "ip4"), ("ip6", "ip6")] {
        line(out, 2, format_args!("ether type {kind} goto {chain}_{name}"));
    }
    line(out, 2, "drop");
    line(out, 1, "}");

    line(out, 1, format_args!("chain arp_{name} {{"));
    line(out, 2, format_args!("arp saddr ether != {mac} drop"));
    // Who looks whether an address is free asks without one (RFC 5227).
    line(out, 2, "arp operation request arp saddr ip 0.0.0.0 goto pass_NAME".replace("NAME", name.as_str()));
    refuse_others(out, "arp saddr ip", &v4);
    line(out, 2, format_args!("goto pass_{name}"));
    line(out, 1, "}");

    // BOOTP's own hardware address, behind UDP's 8 bytes at 28.
    let bytes = mac.bytes().iter().fold(String::from("0x"), |text, b| format!("{text}{b:02x}"));
    line(out, 1, format_args!("chain ip4_{name} {{"));
    line(out, 2, "udp sport 67 drop");
    line(out, 2, format_args!("udp dport 67 @th,288,48 != {bytes} drop"));
    line(
        out,
        2,
        format_args!("ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 goto pass_{name}"),
    );
    refuse_others(out, "ip saddr", &v4);
    line(out, 2, format_args!("goto pass_{name}"));
    line(out, 1, "}");

    line(out, 1, format_args!("chain ip6_{name} {{"));
    line(out, 2, "icmpv6 type { nd-router-advert, nd-redirect } drop");
    line(out, 2, "udp sport 547 drop");
    // Whom a neighbour solicitation or advertisement is about, behind ICMPv6's 8 bytes.
    line(out, 2, format_args!("icmpv6 type nd-neighbor-advert goto about_{name}"));
    line(out, 2, format_args!("ip6 saddr :: icmpv6 type nd-neighbor-solicit goto about_{name}"));
    line(
        out,
        2,
        format_args!(
            "ip6 saddr :: icmpv6 type {{ mld-listener-report, mld2-listener-report }} goto pass_{name}"
        ),
    );
    line(out, 2, format_args!("ip6 saddr != {} drop", list(&v6)));
    line(out, 2, format_args!("goto pass_{name}"));
    line(out, 1, "}");
    line(out, 1, format_args!("chain about_{name} {{"));
    line(
        out,
        2,
        format_args!("ip6 saddr != {} drop", list(v6.iter().copied().chain([Ipv6Addr::UNSPECIFIED]))),
    );
    for address in &v6 {
        line(out, 2, format_args!("@th,64,128 {:#034x} goto pass_{name}", address.to_bits()));
    }
    line(out, 2, "drop");
    line(out, 1, "}");

    line(out, 1, format_args!("chain pass_{name} {{"));
    limit(out, interface.rates.from_guest);
    line(out, 2, format_args!("meta mark set meta mark | {LOCKED:#x}"));
    line(out, 2, "accept");
    line(out, 1, "}");
}

/// Drops what has another sender than these.
fn refuse_others(out: &mut String, key: &str, allowed: &[String]) {
    if allowed.is_empty() {
        line(out, 2, "drop");
    } else {
        line(out, 2, format_args!("{key} != {} drop", list(allowed)));
    }
}

fn limit(out: &mut String, rate: Option<Rate>) {
    if let Some(rate) = rate {
        let (bytes, burst) = (rate.bytes(), rate.burst());
        line(out, 2, format_args!("limit rate over {bytes} bytes/second burst {burst} bytes drop"));
    }
}

/// Puts a script's rules in force: all of them, or none.
pub fn apply(script: &str) -> Result<()> {
    let mut command = Command::new("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    // An administrator's folders may not be in the path.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin")).env("LC_ALL", "C");
    let mut child = command.spawn().map_err(|e| Error::Rules(format!("nft: {e}; is nftables installed?")))?;
    let input = child.stdin.take();
    let written = input.map_or(Ok(()), |mut input| input.write_all(script.as_bytes()));
    let out = child.wait_with_output().map_err(|e| Error::Rules(e.to_string()))?;
    if !out.status.success() {
        let text = String::from_utf8_lossy(&out.stderr);
        let first: Vec<&str> = text.lines().take(6).collect();
        return Err(Error::Rules(format!("{} (has the kernel nftables?)", first.join(" / "))));
    }
    written.map_err(|e| Error::Rules(e.to_string()))
}
