//! The loop of a network's DHCP server.

use super::{Shared, socket};
use crate::dhcp::LeaseFile;
use crate::dhcp::lease::Pool;
use crate::dhcp::message::LONGEST;
use crate::dhcp::server::{self, Terms};
use crate::error::{Result, kernel as attempt};
use crate::name::{LinkName, NetworkName};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

pub struct Server {
    socket: UdpSocket,
    view: Shared,
    file: LeaseFile,
    pool: Pool,
}

impl Server {
    pub fn open(dir: &Path, name: &NetworkName, bridge: &LinkName, view: Shared) -> Result<Self> {
        let (file, leases) = LeaseFile::open(dir, name)?;
        // Clients without an address speak to all.
        let socket = socket::datagrams(bridge, Ipv4Addr::UNSPECIFIED, 67);
        let socket = attempt(format!("serve addresses on {bridge} (does another DHCP server run?)"), socket)?;
        let pool = Pool::new(&view.get().subnet, leases);
        Ok(Self { socket, view, file, pool })
    }

    pub fn run(mut self, stop: &OwnedFd) {
        // One byte more shows what is too long.
        let mut buffer = [0; LONGEST + 1];
        while socket::wait(&self.socket, stop) {
            let Ok((count, _)) = self.socket.recv_from(&mut buffer) else { continue };
            let bytes = buffer.get(..count).filter(|b| b.len() <= LONGEST).unwrap_or_default();
            if let Err(error) = self.answer(bytes) {
                eprintln!("radon-network: {error}");
            }
        }
    }

    fn answer(&mut self, bytes: &[u8]) -> Result<()> {
        let view = self.view.get();
        let terms = Terms { subnet: view.subnet.clone(), mtu: view.mtu };
        self.pool.set_terms(&view.subnet);
        self.pool.reserve(view.reserved.clone(), view.kept.clone());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
        let name = |query: &crate::dhcp::message::Query| view.names.get(&query.mac).cloned();
        let answer = server::serve(bytes, &terms, &mut self.pool, &mut self.file, name, now)?;
        if let Some((bytes, to)) = answer {
            // A guest that is gone is none of our trouble.
            let _ = self.socket.send_to(&bytes, to);
        }
        Ok(())
    }
}
