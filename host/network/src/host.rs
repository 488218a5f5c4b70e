//! The host's own address, on an interface that no network of guests has: set by hand or asked for by DHCP (RFC 2131, section 4.4).
//!
//! ```text
//! ask --offer--> choose --acknowledgement--> bound --half of the lease--> renew --acknowledgement--> bound
//!  ^                |                                                       |
//!  +---refusal, no answer--------------------------refusal, end of the lease+
//! ```

use crate::dhcp::message::{Kind, LONGEST, Query, Reply};
use crate::kernel::{CREATE, Netlink, REPLACE, index};
use crate::mac::Mac;
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, route};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::{Duration, Instant};

/// What an interface is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Address and bits of the network's part.
    pub address: (Ipv4Addr, u8),
    /// The way outside.
    pub router: Option<Ipv4Addr>,
    /// Who knows names.
    pub dns: Vec<Ipv4Addr>,
}

/// Brings an interface up.
pub fn up(interface: &str) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index(interface)?;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    Netlink::open()?.change(Message::SetLink(message), 0)
}

/// Gives an interface its address, the host its way outside and (`resolv_conf`) its servers of names.
pub fn set(interface: &str, settings: &Settings, resolv_conf: &Path) -> io::Result<()> {
    let mut netlink = Netlink::open()?;
    netlink.change(Message::NewAddress(address(interface, settings.address)?), CREATE | REPLACE)?;
    if let Some(router) = settings.router {
        netlink.change(Message::NewRoute(default_route(interface, router)?), CREATE | REPLACE)?;
    }
    let servers: String = settings.dns.iter().map(|server| format!("nameserver {server}\n")).collect();
    std::fs::write(resolv_conf, servers)
}

/// Takes the address back, and what goes through it with it.
pub fn clear(interface: &str, settings: &Settings) -> io::Result<()> {
    Netlink::open()?.change(Message::DelAddress(address(interface, settings.address)?), 0)
}

/// An interface's first IPv4 address.
pub fn address_of(interface: &str) -> io::Result<Option<Ipv4Addr>> {
    let number = index(interface)?;
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    let all = Netlink::open()?.dump(Message::GetAddress(message))?;
    let of = |message: Message| match message {
        Message::NewAddress(m) if m.header.index == number => {
            m.attributes.into_iter().find_map(|a| match a {
                AddressAttribute::Local(IpAddr::V4(address)) => Some(address),
                _ => None,
            })
        }
        _ => None,
    };
    Ok(all.into_iter().find_map(of))
}

fn address(interface: &str, (address, length): (Ipv4Addr, u8)) -> io::Result<AddressMessage> {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = length;
    message.header.index = index(interface)?;
    let ip = IpAddr::V4(address);
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    Ok(message)
}

fn default_route(interface: &str, router: Ipv4Addr) -> io::Result<RouteMessage> {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        RouteAttribute::Gateway(RouteAddress::Inet(router)),
        route::RouteAttribute::Oif(index(interface)?),
    ];
    Ok(message)
}

/// How long an answer may take, at first; doubled with each try.
const ANSWER: Duration = Duration::from_secs(1);
const LONGEST_ANSWER: Duration = Duration::from_secs(32);
/// How long a cable may take to be noticed.
const CARRIER: Duration = Duration::from_secs(10);

/// A DHCP client of one interface.
#[derive(Debug)]
pub struct Client {
    interface: String,
    mac: Mac,
    socket: Socket,
    xid: u32,
}

impl Client {
    /// For an interface that is up.
    pub fn new(interface: &str) -> io::Result<Self> {
        let text = std::fs::read_to_string(Path::new("/sys/class/net").join(interface).join("address"))?;
        let mac = text.trim().parse().map_err(|_| {
            io::Error::new(io::ErrorKind::Unsupported, format!("{interface} is no Ethernet interface"))
        })?;
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_address(true)?;
        socket.set_broadcast(true)?;
        // Bound to the interface, packets leave through it though there is no route yet.
        socket.bind_device(Some(interface.as_bytes()))?;
        socket.bind(&SockAddr::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68)))?;
        let mut xid = [0; 4];
        rustix::rand::getrandom(&mut xid, rustix::rand::GetRandomFlags::empty())?;
        Ok(Self { interface: interface.to_owned(), mac, socket, xid: u32::from_ne_bytes(xid) })
    }

    fn query(&mut self, kind: Kind) -> Query {
        self.xid = self.xid.wrapping_add(1);
        Query {
            kind,
            xid: self.xid,
            broadcast: true,
            client: Ipv4Addr::UNSPECIFIED,
            relay: Ipv4Addr::UNSPECIFIED,
            mac: self.mac,
            requested: None,
            server: None,
            client_id: None,
            relay_note: None,
        }
    }

    /// Sends a query and waits for an answer of one of these kinds.
    fn exchange(&self, query: &Query, wanted: &[Kind], limit: Duration) -> io::Result<Option<Reply>> {
        let everybody = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
        self.socket.send_to(&query.bytes(), &SockAddr::from(everybody))?;
        let end = Instant::now() + limit;
        let mut buffer = [0; LONGEST];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left))?;
            let count = match io::Read::read(&mut &self.socket, &mut buffer) {
                Ok(count) => count,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            };
            let reply = buffer.get(..count).and_then(Reply::parse);
            if let Some(reply) = reply
                && (reply.xid, reply.mac) == (query.xid, query.mac)
                && wanted.contains(&reply.kind)
            {
                return Ok(Some(reply));
            }
        }
    }

    /// What is sent before there is a cable is lost.
    fn wait_for_carrier(&self) {
        let path = Path::new("/sys/class/net").join(&self.interface).join("carrier");
        let end = Instant::now() + CARRIER;
        while Instant::now() < end && std::fs::read_to_string(&path).is_ok_and(|text| text.trim() == "0") {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks for an address until there is one.
    fn ask(&mut self, told: &mut dyn FnMut(&str)) -> io::Result<Reply> {
        self.wait_for_carrier();
        let mut limit = ANSWER;
        loop {
            let discover = self.query(Kind::Discover);
            if let Some(offer) = self.exchange(&discover, &[Kind::Offer], limit)? {
                let request = Query {
                    kind: Kind::Request,
                    requested: Some(offer.yours),
                    server: offer.server,
                    ..discover
                };
                let answer = self.exchange(&request, &[Kind::Ack, Kind::Nak], limit)?;
                if let Some(reply) = answer.filter(|reply| reply.kind == Kind::Ack) {
                    return Ok(reply);
                }
            } else {
                told(&format!("no DHCP server answers on {}", self.interface));
            }
            limit = (limit * 2).min(LONGEST_ANSWER);
        }
    }

    /// Has the address confirmed before the lease ends; none if it must be given up.
    fn renew(&mut self, held: &Reply, end: Instant) -> io::Result<Option<Reply>> {
        let mut limit = ANSWER;
        while Instant::now() < end {
            let query = self.query(Kind::Request);
            let request = Query { client: held.yours, ..query };
            if let Some(reply) = self.exchange(&request, &[Kind::Ack, Kind::Nak], limit)? {
                return Ok(Some(reply).filter(|reply| reply.kind == Kind::Ack));
            }
            limit = (limit * 2).min(LONGEST_ANSWER);
        }
        Ok(None)
    }

    /// Keeps the interface's address, until an error.
    pub fn run(
        &mut self,
        resolv_conf: &Path,
        told: &mut dyn FnMut(&str),
    ) -> io::Result<std::convert::Infallible> {
        loop {
            let mut held = self.ask(told)?;
            let settings = loop {
                let begun = Instant::now();
                let settings = Settings {
                    address: (held.yours, held.length),
                    router: held.router,
                    dns: held.dns.clone(),
                };
                set(&self.interface, &settings, resolv_conf)?;
                told(&format!("{} has {}/{}", self.interface, held.yours, held.length));
                // No shorter than a minute: a server may not make the host busy with asking.
                let lease = Duration::from_secs(u64::from(held.seconds.max(60)));
                std::thread::sleep(lease / 2);
                match self.renew(&held, begun + lease)? {
                    // Another address is another lease.
                    Some(next) if next.yours == held.yours => held = next,
                    _ => break settings,
                }
            };
            told(&format!("the lease of {} has ended", held.yours));
            clear(&self.interface, &settings)?;
        }
    }
}
