//! Taking over the rings of a predecessor: after a kill, or in a live update.

use super::machine::Machine;
use super::ring::Ring;
use super::server::Server;
use crate::connection::ConnId;
use crate::perm::DomId;
use crate::state::Stream;
use radon_xen::evtchn::Port;
use std::collections::BTreeMap;
use std::io;

/// Maps the rings of domains that a predecessor has served, and binds to those that are not bound in `ports`.
pub fn reconnect<M: Machine>(
    server: &mut Server<M>,
    streams: BTreeMap<DomId, Stream>,
    ports: &BTreeMap<DomId, u32>,
) {
    for (domid, stream) in streams {
        let Some(known) = server.store.introduced().get(&domid).cloned() else { continue };
        let Some(machine) = server.domains.machine() else { continue };
        let mapped = if domid == DomId::DOM0 {
            machine.own_ring()
        } else {
            machine.map(domid, known.gfn).map(|page| (page, known.port))
        };
        let bound = mapped.and_then(|(page, port)| match ports.get(&domid) {
            Some(port) => Ok((page, Port(*port))),
            None => machine.bind(domid, port).map(|port| (page, port)),
        });
        match bound {
            Ok((page, port)) => take_up(server, domid, page, port, stream),
            // A domain that is dead is found so in a moment; one that is not has lost its store.
            Err(error) => log::warn!("domain {domid}: cannot reconnect: {error}"),
        }
    }
}

/// Goes on where ring and records say that the predecessor was.
fn take_up<M: Machine>(server: &mut Server<M>, domid: DomId, page: M::Page, port: Port, stream: Stream) {
    let mut ring = Ring::new(page, stream);
    let out = server.store.connection_mut(ConnId::Domain(domid)).map(|c| &mut c.out);
    let Some(out) = out else { return };
    // One that failed, or asks for a reset, stays as it is; the loop sees to it.
    if !ring.is_broken() && !ring.wants_reset() {
        match ring.catch_up(out.len()) {
            Some(sent) => out.advance(sent),
            None => {
                log::warn!("domain {domid}: its ring is not as the journal has it");
                server.store.restart(domid);
                ring.resynchronise();
            }
        }
    }
    let (page, stream) = ring.into_parts();
    server.add_ring(domid, page, Some(port), stream);
}

/// Connects to the kernel of this domain, unless it is connected already.
pub fn connect_own_kernel<M: Machine>(server: &mut Server<M>) -> io::Result<()> {
    if server.domains.ring(DomId::DOM0).is_some() {
        return Ok(());
    }
    let Some(machine) = server.domains.machine() else { return Ok(()) };
    let (page, port) = machine.own_ring()?;
    let local = machine.bind(DomId::DOM0, port)?;
    let stream = Ring::<M::Page>::found(&page);
    server.store.adopt(DomId::DOM0, 0, port);
    server.add_ring(DomId::DOM0, page, Some(local), stream);
    Ok(())
}
