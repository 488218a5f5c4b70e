//! Sockets that hear one bridge and no other.

use crate::name::LinkName;
use rustix::event::{PollFd, PollFlags, poll};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

fn bound(
    kind: Type,
    protocol: Protocol,
    bridge: &LinkName,
    address: Ipv4Addr,
    port: u16,
) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, kind, Some(protocol))?;
    socket.set_reuse_address(true)?;
    socket.bind_device(Some(bridge.as_str().as_bytes()))?;
    socket.bind(&SocketAddrV4::new(address, port).into())?;
    Ok(socket)
}

/// For datagrams.
pub fn datagrams(bridge: &LinkName, address: Ipv4Addr, port: u16) -> io::Result<UdpSocket> {
    let socket = bound(Type::DGRAM, Protocol::UDP, bridge, address, port)?;
    socket.set_broadcast(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// For connections.
pub fn connections(bridge: &LinkName, address: Ipv4Addr, port: u16) -> io::Result<TcpListener> {
    let socket = bound(Type::STREAM, Protocol::TCP, bridge, address, port)?;
    socket.listen(64)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Waits until there is something to read; false, if it is time to stop.
pub fn wait(socket: impl AsFd, stop: &OwnedFd) -> bool {
    loop {
        let mut fds = [PollFd::new(&socket, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) => return fds.get(1).is_some_and(|stop| stop.revents().is_empty()),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}
