//! Network interfaces through netlink (`include/uapi/linux/rtnetlink.h`, `if_link.h`): one request, one answer.

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};
use std::io;
use std::path::Path;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const IFLA_MASTER: u16 = 10;
const IFF_UP: u32 = 1;
const HEADER: usize = 16;

/// The number of an interface, if there is one of that name.
pub fn index(name: &str) -> io::Result<Option<u32>> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    match std::fs::read_to_string(Path::new("/sys/class/net").join(name).join("ifindex")) {
        Ok(text) => text.trim().parse().map(Some).map_err(|_| io::ErrorKind::InvalidData.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The bridge that an interface is a port of.
pub fn bridge_of(name: &str) -> Option<String> {
    let link = std::fs::read_link(Path::new("/sys/class/net").join(name).join("master")).ok()?;
    Some(link.file_name()?.to_string_lossy().into_owned())
}

/// Makes an interface a port of a bridge, and brings it up.
pub fn join(interface: &str, bridge: &str) -> io::Result<()> {
    let missing = |name: &str| io::Error::new(io::ErrorKind::NotFound, format!("no interface {name}"));
    let port = index(interface)?.ok_or_else(|| missing(interface))?;
    let master = index(bridge)?.ok_or_else(|| missing(bridge))?;
    request(&join_message(port, master))
}

/// `RTM_NEWLINK` of an existing interface: master and the flag that brings it up.
fn join_message(port: u32, master: u32) -> Vec<u8> {
    let mut body = Vec::new();
    // struct ifinfomsg: family, pad, type, index, flags, mask of the flags to be changed.
    body.extend_from_slice(&[0; 4]);
    for word in [port, IFF_UP, IFF_UP] {
        body.extend_from_slice(&word.to_ne_bytes());
    }
    // struct rtattr: length with itself, type, value.
    body.extend_from_slice(&8u16.to_ne_bytes());
    body.extend_from_slice(&IFLA_MASTER.to_ne_bytes());
    body.extend_from_slice(&master.to_ne_bytes());

    let mut message = Vec::new();
    message.extend_from_slice(&((HEADER + body.len()) as u32).to_ne_bytes());
    message.extend_from_slice(&RTM_NEWLINK.to_ne_bytes());
    message.extend_from_slice(&(NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    message.extend_from_slice(&1u32.to_ne_bytes());
    message.extend_from_slice(&0u32.to_ne_bytes());
    message.extend(body);
    message
}

fn request(message: &[u8]) -> io::Result<()> {
    // No protocol named: number 0, NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    sendto(&socket, message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0; 4096];
    let (count, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    acknowledged(answer.get(..count).unwrap_or_default())
}

/// The outcome in an answer: `struct nlmsgerr` behind the header, whose first word is a negated errno.
fn acknowledged(answer: &[u8]) -> io::Result<()> {
    let bad = || io::Error::from(io::ErrorKind::InvalidData);
    let kind = answer.get(4..6).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes).ok_or_else(bad)?;
    let error = answer.get(HEADER..HEADER + 4).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes);
    match error.ok_or_else(bad)? {
        _ if kind != NLMSG_ERROR => Err(bad()),
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error.saturating_neg())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_found_and_nonsense_is_not() {
        assert_eq!(index("lo").unwrap(), Some(1));
        assert_eq!(index("no-such-if").unwrap(), None);
        assert!(index("../lo").is_err());
        assert_eq!(bridge_of("lo"), None);
    }

    #[test]
    fn a_request_has_its_length_and_is_answered() {
        let message = join_message(7, 9);
        assert_eq!(message.len(), 16 + 16 + 8);
        assert_eq!(message[..4], 40u32.to_ne_bytes());
        // No such interface: the kernel understood the request and refuses it (or refuses an ordinary user).
        let error = request(&join_message(0x7fff_0000, 1)).unwrap_err().raw_os_error();
        assert!(matches!(error, Some(19 | 1)), "{error:?}");
    }

    #[test]
    fn answers_cut_short_are_errors() {
        let mut answer = vec![0; 20];
        answer[4] = 2;
        acknowledged(&answer).unwrap();
        for cut in 0..20 {
            assert!(acknowledged(&answer[..cut]).is_err());
        }
        answer[16..20].copy_from_slice(&(-19i32).to_ne_bytes());
        assert_eq!(acknowledged(&answer).unwrap_err().raw_os_error(), Some(19));
    }
}
