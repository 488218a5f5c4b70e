//! The naive store: a map of full paths, every question answered by looking at all of it.
#![allow(dead_code, reason = "each test program uses its part")]

use radon_store::perm::{Access, DomId, Identity, Perm, Perms};
use radon_store::{ConnId, Control, Errno, Host, Store, wire};
use std::collections::BTreeMap;
use xen_abi::xs_wire::*;

/// A world in which all domains exist.
pub struct Everyone;

impl Host for Everyone {
    fn exists(&mut self, _: DomId) -> bool {
        true
    }
    fn connect(&mut self, _: DomId, _: u64, _: u32) -> Result<(), Errno> {
        Ok(())
    }
    fn disconnect(&mut self, _: DomId) {}
    fn control(&mut self, _: ConnId, _: &[&[u8]]) -> Option<Result<Control, Errno>> {
        None
    }
}

/// A reply and the events that came with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub reply: Result<Vec<u8>, String>,
    pub events: Vec<(ConnId, Vec<u8>)>,
}

/// One request on the real store; all outboxes are emptied.
pub fn ask(store: &mut Store, conn: ConnId, kind: u32, tx_id: u32, payload: &[u8]) -> Outcome {
    store.handle(conn, &wire::Request { kind, req_id: 77, tx_id, payload }, &mut Everyone);
    let mut outcome = Outcome { reply: Err("no reply".into()), events: Vec::new() };
    for to in store.take_ready() {
        let Some(connection) = store.connection_mut(to) else { continue };
        let bytes: Vec<u8> = connection.out.pieces().flatten().copied().collect();
        connection.out.advance(bytes.len());
        let mut rest = &bytes[..];
        while let Some((message, used)) = wire::split(rest).unwrap() {
            match message.kind {
                XS_WATCH_EVENT => outcome.events.push((to, message.payload.to_vec())),
                XS_ERROR => {
                    let name = message.payload.strip_suffix(b"\0").unwrap();
                    outcome.reply = Err(String::from_utf8(name.to_vec()).unwrap());
                }
                answered => {
                    assert_eq!((to, answered, message.req_id), (conn, kind, 77));
                    outcome.reply = Ok(message.payload.to_vec());
                }
            }
            rest = &rest[used..];
        }
        assert!(rest.is_empty());
    }
    outcome.events.sort();
    outcome
}

/// Takes the number out of the reply to TRANSACTION_START.
pub fn begin(store: &mut Store, conn: ConnId) -> u32 {
    let reply = ask(store, conn, XS_TRANSACTION_START, 0, b"\0").reply.unwrap();
    std::str::from_utf8(reply.strip_suffix(b"\0").unwrap()).unwrap().parse().unwrap()
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MNode {
    pub value: Vec<u8>,
    pub perms: Perms,
    pub order: u64,
}

/// What a request does, beyond reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    None,
    /// Value or permissions changed, or nodes were created down to this one; permissions before.
    Changed(String, Option<Perms>),
    /// These nodes are gone, the first with all others below it.
    Removed(Vec<(String, Perms)>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    pub nodes: BTreeMap<String, MNode>,
    pub next: u64,
    /// Nodes one guest may own.
    pub limit: usize,
}

pub fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(at) => &path[..at],
    }
}

fn below(path: &str, base: &str) -> bool {
    base == "/" || path == base || path.starts_with(&format!("{base}/"))
}

impl Model {
    pub fn new(limit: usize) -> Self {
        let root = MNode { value: Vec::new(), perms: Perms::private(DomId(0)), order: 0 };
        Self { nodes: BTreeMap::from([("/".to_owned(), root)]), next: 1, limit }
    }

    fn owned(&self, domid: DomId) -> usize {
        self.nodes.values().filter(|n| n.perms.owner() == domid).count()
    }

    fn nearest<'a>(&self, path: &'a str) -> &'a str {
        let mut at = path;
        while !self.nodes.contains_key(at) {
            at = parent(at);
        }
        at
    }

    fn find(&self, who: &Identity, path: &str, rights: Access) -> Result<&MNode, Errno> {
        match self.nodes.get(path) {
            Some(node) if node.perms.access(who).has(rights) => Ok(node),
            Some(_) => Err(Errno::Acces),
            None if self.nodes[self.nearest(path)].perms.access(who).has_any(rights) => Err(Errno::Noent),
            None => Err(Errno::Acces),
        }
    }

    pub fn children(&self, path: &str) -> Vec<u8> {
        let mut all: Vec<_> =
            self.nodes.iter().filter(|(p, _)| p.as_str() != "/" && parent(p) == path).collect();
        all.sort_by_key(|(_, n)| n.order);
        all.iter().flat_map(|(p, _)| p.rsplit('/').next().unwrap().bytes().chain([0])).collect()
    }

    fn create(&mut self, who: &Identity, path: &str, value: &[u8]) -> Result<(), Errno> {
        let above = self.nearest(path).to_owned();
        let mut perms = self.nodes[&above].perms.clone();
        let mut missing = Vec::new();
        let mut at = path;
        while at != above {
            missing.push(at.to_owned());
            at = parent(at);
        }
        if !who.privileged {
            perms = perms.owned_by(who.domid);
            if self.owned(who.domid) + missing.len() > self.limit {
                return Err(Errno::Nospc);
            }
        }
        for made in missing.into_iter().rev() {
            let value = if made == path { value.to_vec() } else { Vec::new() };
            self.nodes.insert(made, MNode { value, perms: perms.clone(), order: self.next });
            self.next += 1;
        }
        Ok(())
    }

    /// One request of the kinds that concern nodes.
    pub fn ask(&mut self, who: &Identity, kind: u32, payload: &[u8]) -> (Result<Vec<u8>, Errno>, Effect) {
        let (path, rest) = wire::first(payload).unwrap();
        let path = std::str::from_utf8(path).unwrap().to_owned();
        match self.try_ask(who, kind, &path, rest) {
            Ok((reply, effect)) => (Ok(reply), effect),
            Err(errno) => (Err(errno), Effect::None),
        }
    }

    fn try_ask(
        &mut self,
        who: &Identity,
        kind: u32,
        path: &str,
        rest: &[u8],
    ) -> Result<(Vec<u8>, Effect), Errno> {
        let done = b"OK\0".to_vec();
        let changed = |old| Effect::Changed(path.to_owned(), old);
        match kind {
            XS_READ => Ok((self.find(who, path, Access::READ)?.value.clone(), Effect::None)),
            XS_DIRECTORY => {
                self.find(who, path, Access::READ)?;
                Ok((self.children(path), Effect::None))
            }
            XS_GET_PERMS => {
                let node = self.find(who, path, Access::READ)?;
                let text: String = node.perms.entries().iter().map(|p| format!("{p}\0")).collect();
                Ok((text.into_bytes(), Effect::None))
            }
            XS_WRITE => {
                match self.find(who, path, Access::WRITE) {
                    Ok(_) => self.nodes.get_mut(path).unwrap().value = rest.to_vec(),
                    Err(Errno::Noent) => self.create(who, path, rest)?,
                    Err(errno) => return Err(errno),
                }
                Ok((done, changed(None)))
            }
            XS_MKDIR => match self.find(who, path, Access::WRITE) {
                Ok(_) => Ok((done, Effect::None)),
                Err(Errno::Noent) => {
                    self.create(who, path, b"")?;
                    Ok((done, changed(None)))
                }
                Err(errno) => Err(errno),
            },
            XS_RM => {
                match self.find(who, path, Access::WRITE) {
                    Ok(_) if path == "/" => return Err(Errno::Inval),
                    Ok(_) => {}
                    Err(Errno::Noent) if self.nodes.contains_key(parent(path)) => {
                        return Ok((done, Effect::None));
                    }
                    Err(errno) => return Err(errno),
                }
                let gone: Vec<String> = self.nodes.keys().filter(|p| below(p, path)).cloned().collect();
                let gone =
                    gone.into_iter().map(|p| (p.clone(), self.nodes.remove(&p).unwrap().perms)).collect();
                Ok((done, Effect::Removed(gone)))
            }
            XS_SET_PERMS => {
                let list = wire::strings(rest).iter().map(|t| Perm::parse(t).unwrap()).collect();
                let perms = Perms::new(list)?;
                let old = self.find(who, path, Access::WRITE.and(Access::OWNER))?.perms.clone();
                if !who.privileged && perms.owner() != old.owner() {
                    return Err(Errno::Perm);
                }
                self.nodes.get_mut(path).unwrap().perms = perms;
                Ok((done, changed(Some(old))))
            }
            _ => unreachable!(),
        }
    }
}

/// A watch, as the model keeps it.
#[derive(Clone, Debug)]
pub struct MWatch {
    pub conn: ConnId,
    pub who: Identity,
    pub path: String,
    pub token: String,
    pub depth: Option<u32>,
}

/// The events of an effect, by looking at every watch.
pub fn events(model: &Model, watches: &[MWatch], effect: &Effect) -> Vec<(ConnId, Vec<u8>)> {
    let mut all = Vec::new();
    let levels = |p: &str| p.split('/').filter(|c| !c.is_empty()).count();
    for watch in watches {
        let mut tell = |at: &str, perms: &[Option<&Perms>]| {
            if perms.iter().flatten().any(|p| p.access(&watch.who).has(Access::READ)) {
                all.push((watch.conn, format!("{at}\0{}\0", watch.token).into_bytes()));
            }
        };
        let reaches = |at: &str| {
            let deep =
                watch.depth.is_none_or(|d| levels(at) - levels(&watch.path).min(levels(at)) <= d as usize);
            below(at, &watch.path) && deep
        };
        let perms = |p: &str| model.nodes.get(p).map(|n| &n.perms);
        match effect {
            Effect::None => {}
            Effect::Changed(path, old) => {
                if reaches(path) {
                    tell(path, &[old.as_ref(), perms(path), perms(parent(path)).filter(|_| path != "/")]);
                }
            }
            Effect::Removed(gone) => {
                let root = &gone[0].0;
                for (path, own) in gone {
                    let above = gone.iter().find(|(p, _)| p != path && p == parent(path)).map(|(_, p)| p);
                    if path == root && reaches(path) {
                        tell(path, &[Some(own), perms(parent(path))]);
                    } else if path != root && *path == watch.path {
                        tell(path, &[Some(own), above]);
                    }
                }
            }
        }
    }
    all.sort();
    all
}

/// Compares the whole tree.
pub fn same(store: &Store, model: &Model) -> Result<(), String> {
    let mut seen = Vec::new();
    store.tree().root().walk("/", &mut |path, node| {
        seen.push((path.to_owned(), node.value().to_vec(), node.perms().clone(), node.children().listing()));
    });
    seen.sort_by(|a, b| a.0.cmp(&b.0));
    let want: Vec<_> = model
        .nodes
        .iter()
        .map(|(p, n)| (p.clone(), n.value.clone(), n.perms.clone(), model.children(p)))
        .collect();
    if seen == want { store.check() } else { Err(format!("store {seen:?}\nmodel {want:?}")) }
}
