//! The loops of a network's DNS server.

use super::slots::Slots;
use super::{STACK, Shared, socket};
use crate::dns::forward;
use crate::dns::message::{Bad, Code, Query};
use crate::dns::zone::Found;
use crate::name::LinkName;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

const PORT: u16 = 53;
/// Queries and connections under way for each guest, and in all.
const EACH: usize = 16;
const ALL: usize = 128;
/// How long a connection may be silent.
const PATIENCE: Duration = Duration::from_secs(5);
/// Queries over one connection.
const QUERIES: usize = 100;

pub struct Server {
    udp: UdpSocket,
    tcp: TcpListener,
    view: Shared,
    slots: Slots,
}

impl Server {
    pub fn open(bridge: &LinkName, host: Ipv4Addr, view: Shared) -> io::Result<Arc<Self>> {
        let udp = socket::datagrams(bridge, host, PORT)?;
        let tcp = socket::connections(bridge, host, PORT)?;
        Ok(Arc::new(Self { udp, tcp, view, slots: Slots::new(EACH, ALL) }))
    }

    pub fn run_udp(self: Arc<Self>, stop: &OwnedFd) {
        let mut buffer = [0; 4096];
        while socket::wait(&self.udp, stop) {
            let Ok((count, from)) = self.udp.recv_from(&mut buffer) else { continue };
            let bytes = buffer.get(..count).unwrap_or_default();
            match self.known(bytes) {
                Some(nothing) if nothing.is_empty() => {}
                Some(answer) => drop(self.udp.send_to(&answer, from)),
                None => self.forward(bytes.to_vec(), from),
            }
        }
    }

    /// What can be said at once. Noise gets nothing: another server that gets an answer to its answer would say something again.
    fn known(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        match Query::parse(bytes) {
            Ok(query) => match self.view.get().zone.find(&query) {
                Found::Here(answer) => Some(answer),
                Found::Elsewhere => None,
            },
            Err(Bad::Told(answer)) => Some(answer),
            Err(Bad::Noise) => Some(Vec::new()),
        }
    }

    fn forward(self: &Arc<Self>, bytes: Vec<u8>, from: SocketAddr) {
        let Some(slot) = place(&self.slots, from) else { return };
        let server = Arc::clone(self);
        let ask = move || {
            let _slot = slot;
            if let Ok(query) = Query::parse(&bytes) {
                let answer = forward::resolve(&query, &bytes, &server.view.get().servers, false);
                let _ = server.udp.send_to(&answer, from);
            }
        };
        // Without a thread the guest asks again.
        let _ = std::thread::Builder::new().stack_size(STACK).spawn(ask);
    }

    pub fn run_tcp(self: Arc<Self>, stop: &OwnedFd) {
        while socket::wait(&self.tcp, stop) {
            let Ok((stream, from)) = self.tcp.accept() else { continue };
            let Some(slot) = place(&self.slots, from) else { continue };
            let server = Arc::clone(&self);
            let serve = move || {
                let _slot = slot;
                let _ = server.connection(stream);
            };
            let _ = std::thread::Builder::new().stack_size(STACK).spawn(serve);
        }
    }

    fn connection(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        for _ in 0..QUERIES {
            let bytes = forward::read_message(&mut stream)?;
            let answer = match self.known(&bytes) {
                Some(answer) => answer,
                None => match Query::parse(&bytes) {
                    Ok(query) => forward::resolve(&query, &bytes, &self.view.get().servers, true),
                    Err(_) => return Ok(()),
                },
            };
            if answer.is_empty() {
                return Ok(());
            }
            // What does not fit a message cannot be said.
            match forward::write_message(&mut stream, &answer) {
                Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                    let Ok(query) = Query::parse(&bytes) else { return Ok(()) };
                    forward::write_message(&mut stream, &query.answer(Code::ServerFailure, false, &[], &[]))?;
                }
                other => other?,
            }
        }
        Ok(())
    }
}

fn place(slots: &Slots, from: SocketAddr) -> Option<super::slots::Slot> {
    match from.ip() {
        IpAddr::V4(address) => slots.take(address),
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::declared::Declared;
    use crate::dns::message::kind;
    use crate::dns::message::tests::query;
    use crate::service::View;
    use rustix::event::{EventfdFlags, eventfd};

    #[test]
    fn an_answer_is_not_answered() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"networks": {"a": {"bridge": "br-a", "subnet":
            {"prefix": "10.1.0.0/24", "host": "10.1.0.1", "domain": "a.test"}}}, "interfaces": {}}"#;
        let declared: Declared = serde_json::from_str(text).unwrap();
        let name = "a".parse().unwrap();
        let view = Shared::new(dir.path(), &name, View::new(&declared, &name, "").unwrap());
        let here = (Ipv4Addr::LOCALHOST, 0);
        let (udp, tcp) = (UdpSocket::bind(here).unwrap(), TcpListener::bind(here).unwrap());
        let address = udp.local_addr().unwrap();
        let server = Arc::new(Server { udp, tcp, view, slots: Slots::new(EACH, ALL) });
        let stop = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| Arc::clone(&server).run_udp(&stop));
            let client = UdpSocket::bind(here).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            let asked = query("gateway.a.test", kind::A);
            let mut answer = asked.clone();
            answer[2] |= 0x80;
            for noise in [&answer[..], b"", b"\x01"] {
                client.send_to(noise, address).unwrap();
            }
            client.send_to(&asked, address).unwrap();
            let mut buffer = [0; 512];
            let heard = client.recv(&mut buffer);
            rustix::io::write(&stop, &1u64.to_ne_bytes()).unwrap();
            assert!(heard.unwrap() > asked.len(), "the first thing heard is the answer to the question");
        });
    }
}
