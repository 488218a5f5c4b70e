//! Requests to the kernel by netlink (`include/uapi/linux/netlink.h`), one after the other.

use netlink_packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage as Message;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket_with,
};
use std::io;
use std::os::fd::OwnedFd;

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
/// Fail if it is there.
pub const EXCLUSIVE: u16 = 0x200;
/// Change what is there.
pub const REPLACE: u16 = 0x100;
/// Make it.
pub const CREATE: u16 = 0x400;
/// Add to what is there.
pub const APPEND: u16 = 0x800;

/// Multicast group of changes to interfaces (`RTNLGRP_LINK`), as a bit.
const GROUP_LINK: u32 = 1;
/// The kernel's messages are no longer than 32 KiB (`netlink_dump`).
const LONGEST: usize = 64 << 10;

/// A connection to the kernel.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

fn open(groups: u32) -> io::Result<OwnedFd> {
    // No protocol named: number 0, NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

/// A socket that becomes readable when interfaces appear, change or go.
pub fn watch_links() -> io::Result<OwnedFd> {
    open(GROUP_LINK)
}

impl Netlink {
    /// One of its own.
    pub fn open() -> io::Result<Self> {
        Ok(Self { socket: open(0)?, sequence: 0 })
    }

    /// Asks for a change; `flags` say how.
    pub fn change(&mut self, message: Message, flags: u16) -> io::Result<()> {
        self.send(message, REQUEST | ACK | flags)?;
        self.answers(|_| {})
    }

    /// Asks for all there is of something.
    pub fn dump(&mut self, message: Message) -> io::Result<Vec<Message>> {
        let mut all = Vec::new();
        self.send(message, REQUEST | DUMP)?;
        self.answers(|message| all.push(message))?;
        Ok(all)
    }

    fn send(&mut self, message: Message, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        sendto(&self.socket, &bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        Ok(())
    }

    /// Takes the answers to the last request, up to the one that ends it.
    fn answers(&mut self, mut each: impl FnMut(Message)) -> io::Result<()> {
        let mut buffer = vec![0; LONGEST];
        loop {
            let (count, _) = recv(&self.socket, &mut buffer[..], RecvFlags::empty())?;
            let mut rest = buffer.get(..count).unwrap_or_default();
            while !rest.is_empty() {
                let bad =
                    |why: &dyn std::fmt::Display| io::Error::other(format!("the kernel's answer: {why}"));
                let answer = NetlinkMessage::<Message>::deserialize(rest).map_err(|e| bad(&e))?;
                let length = (answer.header.length as usize).max(16).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) => {
                        return error.code.map_or(Ok(()), |_| Err(error.to_io()));
                    }
                    NetlinkPayload::InnerMessage(message) => each(message),
                    _ => {}
                }
            }
        }
    }
}
