//! The loop of a network's metadata service. Who asks is known by network and source address; the packet filter lets nobody in
//! who could have another's address.

use super::slots::Slots;
use super::{STACK, Shared, socket};
use crate::metadata::request::{LONGEST, Parsed, parse, response};
use crate::metadata::tree;
use crate::name::LinkName;
use crate::plan::METADATA;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

const PORT: u16 = 80;
const EACH: usize = 8;
const ALL: usize = 128;
/// How long a request may take to come, and an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Server {
    socket: TcpListener,
    view: Shared,
    slots: Slots,
}

impl Server {
    pub fn open(bridge: &LinkName, view: Shared) -> io::Result<Self> {
        let socket = socket::connections(bridge, METADATA, PORT)?;
        Ok(Self { socket, view, slots: Slots::new(EACH, ALL) })
    }

    pub fn run(self, stop: &OwnedFd) {
        while socket::wait(&self.socket, stop) {
            let Ok((stream, from)) = self.socket.accept() else { continue };
            let IpAddr::V4(who) = from.ip() else { continue };
            let Some(slot) = self.slots.take(who) else { continue };
            let view = self.view.clone();
            let serve = move || {
                let _slot = slot;
                let _ = connection(stream, who, &view);
            };
            // Without a thread the guest asks again.
            let _ = std::thread::Builder::new().stack_size(STACK).spawn(serve);
        }
    }
}

fn connection(mut stream: TcpStream, who: Ipv4Addr, view: &Shared) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let end = Instant::now() + PATIENCE;
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    let answer = loop {
        match parse(&head) {
            Parsed::Request(request) => {
                let view = view.get();
                let interface = view.guests.get(&who);
                let found = interface.and_then(|i| tree::find(i, &view.subnet.domain, &request.path));
                break match found {
                    Some(content) => response(200, &content, request.body),
                    None => response(404, "there is nothing here\n", request.body),
                };
            }
            Parsed::Refused(status) => break response(status, "", true),
            Parsed::More => {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() || head.len() > LONGEST {
                    return Ok(());
                }
                stream.set_read_timeout(Some(left))?;
                let count = stream.read(&mut buffer)?;
                if count == 0 {
                    return Ok(());
                }
                head.extend_from_slice(buffer.get(..count).unwrap_or_default());
            }
        }
    };
    stream.write_all(&answer)
}
