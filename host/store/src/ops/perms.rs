//! GET_PERMS, SET_PERMS.

use super::{Answer, Call};
use crate::errno::{Errno, Result};
use crate::path;
use crate::perm::{Access, Perm, Perms};
use crate::record::Record;
use crate::store::{Host, SPECIALS, Store};
use crate::transaction::Seen;
use crate::tree;
use crate::wire;

impl Store {
    /// `<path>|` -> the list, as text.
    pub(super) fn get_perms(&mut self, call: &mut Call, payload: &[u8]) -> Result<Answer> {
        let path = self.named(call, payload)?;
        let node = self.node(call, &path, Access::READ, Seen::NODE)?;
        let text: String = node.perms().entries().iter().map(|p| format!("{p}\0")).collect();
        Ok(Answer::Data(text.into_bytes()))
    }

    /// `<path>|<permission>|+`.
    pub(super) fn set_perms(
        &mut self,
        call: &mut Call,
        payload: &[u8],
        host: &mut dyn Host,
    ) -> Result<Answer> {
        let strings = wire::strings(payload);
        let (path, list) = strings.split_first().ok_or(Errno::Inval)?;
        if list.is_empty() {
            return Err(Errno::Inval);
        }
        if !call.who.privileged && list.len() > self.limits.permissions as usize {
            return Err(Errno::Nospc);
        }
        let perms = Perms::new(list.iter().map(|text| Perm::parse(text)).collect::<Result<_>>()?)?;
        let path = self.resolve(call, path)?;
        if path::is_special(&path) {
            return self.set_special(call, &path, perms, host);
        }
        // Rights are checked before domains are looked up, so that a stranger cannot probe for them.
        let node = self.node(call, &path, Access::WRITE.and(Access::OWNER), Seen::NODE)?;
        let (old, value) = (node.perms().clone(), node.value().clone());
        let size = tree::size_of(value.len(), list.len(), node.children().names_len());
        let perms = self.existing(perms, host)?;
        if !call.who.privileged && perms.owner() != old.owner() {
            return Err(Errno::Perm);
        }
        self.check_size(call, size)?;
        self.put(call, &path, value, perms)?;
        match &mut call.tx {
            Some(tx) => tx.touched(&path, true, 0),
            None => self.fire(&path, Some(&old)),
        }
        Ok(Answer::Done)
    }

    fn set_special(&mut self, call: &Call, name: &str, perms: Perms, host: &mut dyn Host) -> Result<Answer> {
        let which = SPECIALS.iter().position(|s| *s == name).ok_or(Errno::Inval)?;
        let rights = Access::WRITE.and(Access::OWNER);
        if !self.specials.get(which).is_some_and(|p| p.access(&call.who).has(rights)) {
            return Err(Errno::Acces);
        }
        let perms = self.existing(perms, host)?;
        self.record(&Record::Special { name: name.into(), perms: perms.clone() });
        if let Some(special) = self.specials.get_mut(which) {
            *special = perms;
        }
        Ok(Answer::Done)
    }

    /// The list without domains that do not exist, lest a later domain of that number inherit from it.
    fn existing(&mut self, perms: Perms, host: &mut dyn Host) -> Result<Perms> {
        if !self.knows(perms.owner(), host) {
            return Err(Errno::Noent);
        }
        Ok(perms.retain(|domid| self.knows(domid, host)))
    }
}
