//! READ, WRITE, MKDIR, RM, DIRECTORY, DIRECTORY_PART.

use super::{Answer, Call};
use crate::errno::{Errno, Result};
use crate::path;
use crate::perm::Access;
use crate::store::Store;
use crate::transaction::Seen;
use crate::tree;
use crate::wire::{self, PAYLOAD_MAX};
use std::sync::Arc;

impl Store {
    /// `<path>|` -> value.
    pub(super) fn read(&mut self, call: &mut Call, payload: &[u8]) -> Result<Answer> {
        let path = self.named(call, payload)?;
        let node = self.node(call, &path, Access::READ, Seen::NODE)?;
        Ok(Answer::Data(node.value().to_vec()))
    }

    /// `<path>|` -> names of the children.
    pub(super) fn directory(&mut self, call: &mut Call, payload: &[u8]) -> Result<Answer> {
        let path = self.named(call, payload)?;
        let node = self.node(call, &path, Access::READ, Seen::ALL)?;
        if node.children().names_len() > PAYLOAD_MAX {
            return Err(Errno::TooBig);
        }
        let listing = node.children().listing();
        self.cost += listing.len() as u32 / 512;
        Ok(Answer::Data(listing))
    }

    /// `<path>|<offset>|` -> generation, and as many names from there as fit; an empty one after the last.
    pub(super) fn directory_part(&mut self, call: &mut Call, payload: &[u8]) -> Result<Answer> {
        let [path, offset] = wire::strings(payload)[..] else { return Err(Errno::Inval) };
        let offset = usize::try_from(wire::number(offset)).unwrap_or(usize::MAX);
        let path = self.resolve(call, path)?;
        let node = self.node(call, &path, Access::READ, Seen::ALL)?;
        let generation = node.family().generation;
        let listing = node.children().listing();
        self.cost += listing.len() as u32 / 512;
        let mut reply = format!("{generation}\0").into_bytes();
        let rest = listing.get(offset..).unwrap_or_default();
        let room = PAYLOAD_MAX - reply.len() - 1;
        let mut taken = 0;
        for name in rest.split_inclusive(|b| *b == 0) {
            if taken + name.len() > room {
                break;
            }
            taken += name.len();
        }
        reply.extend_from_slice(rest.get(..taken).unwrap_or_default());
        if taken == rest.len() {
            reply.push(0);
        }
        Ok(Answer::Data(reply))
    }

    /// `<path>|<value>`.
    pub(super) fn write(&mut self, call: &mut Call, payload: &[u8]) -> Result<Answer> {
        let (path, value) = wire::first(payload)?;
        let path = self.resolve(call, path)?;
        let value: Arc<[u8]> = value.into();
        match self.node(call, &path, Access::WRITE, Seen::NODE) {
            Ok(node) => {
                let perms = node.perms().clone();
                let size = tree::size_of(value.len(), perms.entries().len(), node.children().names_len());
                self.check_size(call, size)?;
                self.put(call, &path, value, perms)?;
            }
            Err(Errno::Noent) => self.create(call, &path, value)?,
            Err(errno) => return Err(errno),
        }
        self.changed(call, &path);
        Ok(Answer::Done)
    }

    /// `<path>|`: makes sure that there is such a node.
    pub(super) fn mkdir(&mut self, call: &mut Call, payload: &[u8]) -> Result<Answer> {
        let path = self.named(call, payload)?;
        match self.node(call, &path, Access::WRITE, Seen::NODE) {
            Ok(_) => {}
            Err(Errno::Noent) => {
                self.create(call, &path, Arc::default())?;
                self.changed(call, &path);
            }
            Err(errno) => return Err(errno),
        }
        Ok(Answer::Done)
    }

    /// `<path>|`: removes a subtree. No error if there is none, as long as there is a parent.
    pub(super) fn rm(&mut self, call: &mut Call, payload: &[u8]) -> Result<Answer> {
        let path = self.named(call, payload)?;
        match self.node(call, &path, Access::WRITE, Seen::NODE) {
            Ok(_) => {}
            Err(Errno::Noent) => {
                let (parent, _) = path::split(&path).ok_or(Errno::Inval)?;
                let exists = self.view(call).get(parent).is_some();
                self.note(call, parent, Seen::EXISTENCE)?;
                return if exists { Ok(Answer::Done) } else { Err(Errno::Noent) };
            }
            Err(errno) => return Err(errno),
        }
        if &*path == "/" {
            return Err(Errno::Inval);
        }
        match call.tx {
            None => {
                if let Some(subtree) = self.detach(&path, call.who.domid) {
                    self.fire_removed(&path, &subtree);
                }
            }
            Some(_) => self.rm_in_transaction(call, &path)?,
        }
        Ok(Answer::Done)
    }

    fn rm_in_transaction(&mut self, call: &mut Call, path: &str) -> Result<()> {
        let mut inside = Vec::new();
        if let Some(node) = self.view(call).get(path) {
            node.walk(path, &mut |path, node| inside.push((path.to_owned(), node.perms().owner())));
        }
        self.cost += inside.len() as u32;
        let mut own = 0;
        for (path, owner) in inside {
            own += i64::from(owner == call.who.domid);
            self.note(call, &path, Seen::ALL)?;
        }
        let stamp = self.stamp(call.who.domid);
        if let Some(tx) = &mut call.tx {
            tx.work.remove(path, stamp);
            tx.cleared(path);
            tx.nodes -= own;
        }
        Ok(())
    }

    /// Creates a node and what is missing above it, with the permissions of the nearest node above.
    fn create(&mut self, call: &mut Call, path: &str, value: Arc<[u8]>) -> Result<()> {
        let guest = !call.who.privileged;
        let (above, node) = self.view(call).nearest(path);
        let perms = if guest { node.perms().owned_by(call.who.domid) } else { node.perms().clone() };
        let start = if above == "/" { 0 } else { above.len() };
        let missing: Vec<&str> = path
            .match_indices('/')
            .map(|(at, _)| at)
            .filter(|at| *at > start)
            .chain([path.len()])
            .filter_map(|end| path.get(..end))
            .collect();
        if guest {
            let name = missing.first().and_then(|p| path::split(p)).map_or(0, |(_, name)| name.len() + 1);
            let parent = node.size() + name;
            let leaf = tree::size_of(value.len(), perms.entries().len(), 0);
            self.check_size(call, parent.max(leaf))?;
            let owned = self.accounts.get(&call.who.domid).map_or(0, |a| i64::from(a.nodes));
            let owned = owned + call.tx.as_ref().map_or(0, |tx| tx.nodes) + missing.len() as i64;
            if owned > i64::from(self.limits.nodes) {
                return Err(Errno::Nospc);
            }
        }
        self.cost += missing.len() as u32 - 1;
        for made in missing {
            let value = if made == path { value.clone() } else { Arc::default() };
            self.put(call, made, value, perms.clone())?;
        }
        Ok(())
    }

    /// Changes or creates one node (its parent exists), in the transaction or for everyone.
    pub(super) fn put(
        &mut self,
        call: &mut Call,
        path: &str,
        value: Arc<[u8]>,
        perms: crate::perm::Perms,
    ) -> Result<()> {
        if self.is_full(call.conn) {
            return Err(Errno::Nomem);
        }
        let writer = call.who.domid;
        let exists = self.view(call).get(path).is_some();
        let Some(mut tx) = call.tx.take() else {
            if exists {
                self.update(path, value, perms, writer);
            } else {
                self.insert(path, value, perms, writer);
            }
            return Ok(());
        };
        let noted = tx.note(path, Seen::EXISTENCE, &call.who, &self.limits);
        if noted.is_ok() {
            let stamp = self.stamp(writer);
            let bytes = value.len();
            if exists {
                tx.work.set_value(path, value, stamp);
                tx.work.set_perms(path, perms, stamp);
            } else {
                tx.created = true;
                tx.nodes += i64::from(perms.owner() == writer);
                tx.work.add(path, value, perms, stamp);
            }
            tx.touched(path, false, bytes);
        }
        call.tx = Some(tx);
        noted
    }

    /// The watchers of `path` are to be told, at once or when the transaction commits.
    pub(super) fn changed(&mut self, call: &mut Call, path: &str) {
        match &mut call.tx {
            Some(tx) => tx.touched(path, true, 0),
            None => self.fire(path, None),
        }
    }

    /// Whether a guest's node may be this large.
    pub(super) fn check_size(&self, call: &Call, size: usize) -> Result<()> {
        let guest = !call.who.privileged;
        if guest && size >= self.limits.node_size as usize { Err(Errno::Nospc) } else { Ok(()) }
    }
}
