//! Names that are not a network's: other servers are asked, each query from a port and under a number of its own.

use super::message::{Code, Query};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

const PORT: u16 = 53;
/// How long a server may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest datagram (that EDNS allows).
const LONGEST: usize = 65535;

/// The servers to ask, from the text of a `resolv.conf`; never the host's own addresses.
pub fn servers(text: &str, own: impl Fn(Ipv4Addr) -> bool) -> Vec<Ipv4Addr> {
    let address = |line: &str| line.trim().strip_prefix("nameserver")?.trim().parse().ok();
    text.lines().filter_map(address).filter(|a| !own(*a)).take(8).collect()
}

/// The answer to a query, by asking one server after the other.
pub fn resolve(query: &Query, bytes: &[u8], servers: &[Ipv4Addr], tcp: bool) -> Vec<u8> {
    for server in servers {
        let server = SocketAddr::V4(SocketAddrV4::new(*server, PORT));
        let answer = if tcp { by_tcp(query, bytes, server) } else { by_udp(query, bytes, server) };
        if let Ok(answer) = answer {
            return answer;
        }
    }
    query.answer(Code::ServerFailure, false, &[], &[])
}

/// The query under a number that nobody can guess.
fn renumbered(bytes: &[u8]) -> io::Result<(u16, Vec<u8>)> {
    let mut id = [0; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())?;
    let rest = bytes.get(2..).unwrap_or_default();
    Ok((u16::from_be_bytes(id), [&id, rest].concat()))
}

/// The answer under the client's number.
fn back(query: &Query, answer: &[u8]) -> Vec<u8> {
    [&query.id.to_be_bytes(), answer.get(2..).unwrap_or_default()].concat()
}

fn by_udp(query: &Query, bytes: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(server)?;
    let (id, asked) = renumbered(bytes)?;
    socket.send(&asked)?;
    let end = Instant::now() + PATIENCE;
    let mut buffer = vec![0; LONGEST];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let count = socket.recv(&mut buffer)?;
        let answer = buffer.get(..count).unwrap_or_default();
        if query.is_answered_by(answer, id) {
            return Ok(back(query, answer));
        }
    }
}

fn by_tcp(query: &Query, bytes: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let (id, asked) = renumbered(bytes)?;
    write_message(&mut stream, &asked)?;
    let answer = read_message(&mut stream)?;
    if query.is_answered_by(&answer, id) {
        Ok(back(query, &answer))
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// A message behind its length, as TCP carries it.
pub fn read_message(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The same the other way round.
pub fn write_message(stream: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    stream.write_all(&[&length.to_be_bytes()[..], bytes].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_and_the_host_does_not_ask_itself() {
        let text =
            "# nameserver 1.1.1.1\nnameserver 192.0.2.1\n search x\nnameserver\t10.1.0.1\nnameserver ::1\n";
        let own = |a| a == Ipv4Addr::new(10, 1, 0, 1);
        assert_eq!(servers(text, own), [Ipv4Addr::new(192, 0, 2, 1)]);
    }

    #[test]
    fn messages_behind_their_length() {
        let mut wire = Vec::new();
        write_message(&mut wire, b"abc").unwrap();
        assert_eq!(wire, [0, 3, b'a', b'b', b'c']);
        assert_eq!(read_message(&mut wire.as_slice()).unwrap(), b"abc");
        assert!(read_message(&mut &wire[..4]).is_err());
        assert!(write_message(&mut wire, &[0; 65536]).is_err());
    }
}
