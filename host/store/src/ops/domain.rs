//! INTRODUCE, RELEASE, IS_DOMAIN_INTRODUCED, GET_DOMAIN_PATH, RESUME, SET_TARGET; and the end of domains.

use super::Answer;
use crate::connection::{ConnId, Connection};
use crate::errno::{Errno, Result};
use crate::path;
use crate::perm::{DomId, Identity, Perms};
use crate::record::Record;
use crate::store::{Host, INTRODUCE, Introduced, RELEASE, SPECIALS, Store};
use crate::wire;
use xen_abi::xen::DOMID_SELF;

/// The domain that an argument names.
fn domid(text: &[u8]) -> Result<DomId> {
    u16::try_from(wire::number(text)).map(DomId).map_err(|_| Errno::Inval)
}

impl Store {
    /// `<domid>|<gfn>|<port>|`.
    pub(super) fn introduce(&mut self, payload: &[u8], host: &mut dyn Host) -> Result<Answer> {
        let strings = wire::strings(payload);
        let &[id, gfn, port, ..] = &strings[..] else { return Err(Errno::Inval) };
        let id = domid(id)?;
        let port = u32::try_from(wire::number(port)).ok().filter(|p| *p > 0).ok_or(Errno::Inval)?;
        // The frame comes as a signed number, whatever it is.
        let gfn = wire::number(gfn) as u64;
        if id == DomId::DOM0 && self.introduced.contains_key(&id) {
            return Err(Errno::Inval);
        }
        host.connect(id, gfn, port)?;
        self.adopt(id, gfn, port);
        Ok(Answer::Done)
    }

    /// The host has connected a domain's ring, which holds nothing yet.
    pub fn adopt(&mut self, id: DomId, gfn: u64, port: u32) {
        let conn = ConnId::Domain(id);
        let news = !self.introduced.contains_key(&id);
        self.record(&Record::Introduced { domid: id, gfn, port, received: 0, sent: 0 });
        self.restart(id);
        if news {
            self.install(id, gfn, port);
            if id != DomId::DOM0 {
                self.fire_special(INTRODUCE, id);
            }
        } else if let Some(known) = self.introduced.get_mut(&id) {
            (known.gfn, known.port) = (gfn, port);
        }
        debug_assert!(self.connections.contains_key(&conn));
    }

    /// Makes the connection of a domain.
    pub(crate) fn install(&mut self, id: DomId, gfn: u64, port: u32) {
        let who = Identity { domid: id, privileged: self.privileged.contains(&id), target: None };
        self.accounts.entry(id).or_default();
        self.connections.insert(ConnId::Domain(id), Connection::new(who));
        self.introduced.insert(id, Introduced { gfn, port, shutdown: false });
    }

    /// The streams of a domain start afresh: nothing it has set up counts any more.
    pub fn restart(&mut self, id: DomId) {
        let conn = ConnId::Domain(id);
        self.reset(conn);
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.out.clear();
        }
    }

    /// A domain that is connected.
    fn connected(&self, text: &[u8]) -> Result<DomId> {
        domid(text).ok().filter(|id| self.introduced.contains_key(id)).ok_or(Errno::Noent)
    }

    /// The domain that the only argument names, which is connected and not the control domain.
    fn guest(&self, payload: &[u8]) -> Result<DomId> {
        let text = wire::one(payload)?;
        if wire::number(text) == 0 { Err(Errno::Inval) } else { self.connected(text) }
    }

    /// `<domid>|`.
    pub(super) fn release(&mut self, payload: &[u8], host: &mut dyn Host) -> Result<Answer> {
        let id = self.guest(payload)?;
        self.end(id, host);
        Ok(Answer::Done)
    }

    /// `<domid>|`: shutting down will be news again.
    pub(super) fn resume(&mut self, payload: &[u8]) -> Result<Answer> {
        let id = self.guest(payload)?;
        self.record(&Record::Shutdown { domid: id, yes: false });
        if let Some(known) = self.introduced.get_mut(&id) {
            known.shutdown = false;
        }
        Ok(Answer::Done)
    }

    /// `<domid>|` -> `T|` or `F|`.
    pub(super) fn is_domain_introduced(&self, payload: &[u8]) -> Result<Answer> {
        let id = domid(wire::one(payload)?);
        let yes = id.is_ok_and(|id| id.0 == DOMID_SELF || self.introduced.contains_key(&id));
        Ok(Answer::Data(if yes { b"T\0".to_vec() } else { b"F\0".to_vec() }))
    }

    /// `<domid>|` -> its path.
    pub(super) fn get_domain_path(&self, payload: &[u8]) -> Result<Answer> {
        // Any number has a path, be there such a domain or not.
        let id = wire::number(wire::one(payload)?) as u32;
        Ok(Answer::Data(format!("{}\0", path::of_domain(id)).into_bytes()))
    }

    /// `<domid>|<target domid>|`.
    pub(super) fn set_target(&mut self, payload: &[u8]) -> Result<Answer> {
        let strings = wire::strings(payload);
        let &[id, target, ..] = &strings[..] else { return Err(Errno::Inval) };
        let (id, target) = (self.connected(id)?, self.connected(target)?);
        self.record(&Record::Target { domid: id, target });
        if let Some(connection) = self.connections.get_mut(&ConnId::Domain(id)) {
            connection.who.target = Some(target);
        }
        Ok(Answer::Done)
    }

    /// All domains that the store knows of, to be looked up after `VIRQ_DOM_EXC`.
    pub fn known_domains(&self) -> Vec<DomId> {
        self.accounts.keys().copied().filter(|id| *id != DomId::DOM0).collect()
    }

    /// A domain was found shut down; watchers hear of it once.
    pub fn shut_down(&mut self, id: DomId) {
        let Some(known) = self.introduced.get_mut(&id) else { return };
        if !known.shutdown {
            known.shutdown = true;
            self.record(&Record::Shutdown { domid: id, yes: true });
            self.fire_special(RELEASE, id);
        }
    }

    /// A domain is gone, or is let go: its connection, its nodes, and all that others have granted it.
    pub fn end(&mut self, id: DomId, host: &mut dyn Host) {
        let was_connected = self.introduced.remove(&id).is_some();
        if was_connected {
            host.disconnect(id);
        }
        self.forget(id);
        if was_connected {
            self.fire_special(RELEASE, id);
        }
    }

    /// The store's part of [`Self::end`].
    pub(crate) fn forget(&mut self, id: DomId) {
        self.introduced.remove(&id);
        self.close(ConnId::Domain(id));
        self.record(&Record::Released { domid: id });
        self.disown(id);
        for perms in &mut self.specials {
            *perms = perms.retain(|d| d != id);
            if perms.owner() == id {
                *perms = perms.owned_by(DomId::DOM0);
            }
        }
        for connection in self.connections.values_mut() {
            if connection.who.target == Some(id) {
                connection.who.target = None;
            }
        }
        self.accounts.remove(&id);
    }

    /// Removes a domain's nodes, and its entries on others'.
    fn disown(&mut self, id: DomId) {
        if self.accounts.get(&id).is_none_or(|a| a.references == 0) {
            return;
        }
        let keep = self.keep_orphans;
        let mut removed: Vec<String> = Vec::new();
        let mut changed: Vec<(String, Perms)> = Vec::new();
        self.tree.root().walk("/", &mut |at, node| {
            let inside = removed
                .last()
                .is_some_and(|r| at.strip_prefix(r.as_str()).is_some_and(|x| x.starts_with('/')));
            if inside || !node.perms().names(id) {
                return;
            }
            if node.perms().owner() == id && !keep && at != "/" {
                removed.push(at.to_owned());
            } else {
                let mut perms = node.perms().retain(|d| d != id);
                if perms.owner() == id {
                    perms = perms.owned_by(DomId::DOM0);
                }
                changed.push((at.to_owned(), perms));
            }
        });
        for at in removed {
            if let Some(subtree) = self.detach(&at, DomId::DOM0) {
                self.fire_removed(&at, &subtree);
            }
        }
        for (at, perms) in changed {
            if let Some(value) = self.tree.get(&at).map(|n| n.value().clone()) {
                self.update(&at, value, perms, DomId::DOM0);
            }
        }
    }

    /// Names of the special watches.
    pub fn special_names() -> [&'static str; 2] {
        SPECIALS
    }
}
