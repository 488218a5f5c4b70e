//! Who may do what: a node's list of permissions, and what it means for one client.

use crate::errno::{Errno, Result};
use std::fmt;
use std::sync::Arc;

/// Number of a domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomId(pub u16);

impl DomId {
    /// The control domain.
    pub const DOM0: Self = Self(0);
}

impl fmt::Display for DomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A set of rights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access(u8);

impl Access {
    /// No right.
    pub const NONE: Self = Self(0);
    /// To read value, children and permissions.
    pub const READ: Self = Self(1);
    /// To write the value, to create children, to remove the node.
    pub const WRITE: Self = Self(2);
    /// To change permissions.
    pub const OWNER: Self = Self(4);
    /// Every right.
    pub const ALL: Self = Self(7);

    /// Both sets together.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in this set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether some of `other` is in this set.
    pub const fn has_any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// One entry of a node's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Perm {
    /// Whom it is about.
    pub domid: DomId,
    /// What it may do: of [`Access::READ`] and [`Access::WRITE`].
    pub access: Access,
}

impl Perm {
    /// An entry.
    pub const fn new(domid: u16, access: Access) -> Self {
        Self { domid: DomId(domid), access }
    }

    /// Reads `r5`, `w5`, `b5` or `n5`.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let (kind, number) = text.split_first().ok_or(Errno::Inval)?;
        let access = match kind {
            b'r' => Access::READ,
            b'w' => Access::WRITE,
            b'b' => Access::READ.and(Access::WRITE),
            b'n' => Access::NONE,
            _ => return Err(Errno::Inval),
        };
        let number = std::str::from_utf8(number).map_err(|_| Errno::Inval)?;
        if !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Errno::Inval);
        }
        Ok(Self { domid: DomId(number.parse().map_err(|_| Errno::Inval)?), access })
    }
}

impl fmt::Display for Perm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match (self.access.has(Access::READ), self.access.has(Access::WRITE)) {
            (true, true) => 'b',
            (true, false) => 'r',
            (false, true) => 'w',
            (false, false) => 'n',
        };
        write!(f, "{kind}{}", self.domid)
    }
}

/// A node's permissions. The first entry names the owner, and what those may do who are not listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Perms(Arc<[Perm]>);

impl Perms {
    /// Permissions of `owner` alone.
    pub fn private(owner: DomId) -> Self {
        Self([Perm { domid: owner, access: Access::NONE }].into())
    }

    /// A list; it must have an owner.
    pub fn new(list: Vec<Perm>) -> Result<Self> {
        if list.is_empty() { Err(Errno::Inval) } else { Ok(Self(list.into())) }
    }

    /// The entries, owner first.
    pub fn entries(&self) -> &[Perm] {
        &self.0
    }

    /// The domain that the node belongs to and is accounted to.
    pub fn owner(&self) -> DomId {
        self.0.first().map_or(DomId::DOM0, |p| p.domid)
    }

    /// The same list for another owner.
    #[must_use]
    pub fn owned_by(&self, owner: DomId) -> Self {
        if self.owner() == owner {
            return self.clone();
        }
        let mut list = self.0.to_vec();
        if let Some(first) = list.first_mut() {
            first.domid = owner;
        }
        Self(list.into())
    }

    /// Whether the list names this domain, as owner or otherwise.
    pub fn names(&self, domid: DomId) -> bool {
        self.0.iter().any(|p| p.domid == domid)
    }

    /// The list without those of its further entries that `keep` refuses.
    #[must_use]
    pub fn retain(&self, mut keep: impl FnMut(DomId) -> bool) -> Self {
        let (owner, others) = self.0.split_at(self.0.len().min(1));
        if others.iter().all(|p| keep(p.domid)) {
            return self.clone();
        }
        Self(owner.iter().chain(others.iter().filter(|p| keep(p.domid))).copied().collect())
    }

    /// What `who` may do.
    pub fn access(&self, who: &Identity) -> Access {
        let owner = self.owner();
        if who.privileged || owner == who.domid || who.target == Some(owner) {
            return Access::ALL;
        }
        let is_meant = |p: &&Perm| p.domid == who.domid || who.target == Some(p.domid);
        let others = self.0.get(1..).unwrap_or_default();
        others.iter().find(is_meant).or(self.0.first()).map_or(Access::NONE, |p| p.access)
    }
}

/// Whom a connection acts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its domain.
    pub domid: DomId,
    /// Whether it may do everything: the control domain, and every process on it that may open the socket.
    pub privileged: bool,
    /// The domain whose rights it has besides its own (a device model's guest).
    pub target: Option<DomId>,
}

impl Identity {
    /// A process of the control domain.
    pub const TOOLS: Self = Self { domid: DomId::DOM0, privileged: true, target: None };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn perms(text: &[&str]) -> Perms {
        Perms::new(text.iter().map(|t| Perm::parse(t.as_bytes()).unwrap()).collect()).unwrap()
    }

    fn guest(domid: u16, target: Option<u16>) -> Identity {
        Identity { domid: DomId(domid), privileged: false, target: target.map(DomId) }
    }

    #[test]
    fn text_and_back() {
        for text in ["r0", "w1", "b65535", "n7"] {
            assert_eq!(Perm::parse(text.as_bytes()).unwrap().to_string(), text);
        }
        for bad in ["", "r", "x1", "r65536", "r-1", "r 1", "r1x", "r+1"] {
            assert_eq!(Perm::parse(bad.as_bytes()), Err(Errno::Inval), "{bad}");
        }
        assert_eq!(Perms::new(Vec::new()), Err(Errno::Inval));
    }

    #[test]
    fn the_first_entry_is_owner_and_default() {
        let list = perms(&["r5", "w6", "n7"]);
        assert_eq!(list.access(&guest(5, None)), Access::ALL);
        assert_eq!(list.access(&guest(6, None)), Access::WRITE);
        assert_eq!(list.access(&guest(7, None)), Access::NONE);
        assert_eq!(list.access(&guest(8, None)), Access::READ);
        assert_eq!(list.access(&Identity::TOOLS), Access::ALL);
    }

    #[test]
    fn a_target_lends_its_rights() {
        let list = perms(&["n5", "r6"]);
        assert_eq!(list.access(&guest(9, Some(5))), Access::ALL);
        assert_eq!(list.access(&guest(9, Some(6))), Access::READ);
        assert_eq!(list.access(&guest(9, None)), Access::NONE);
    }

    #[test]
    fn entries_of_the_gone_are_dropped() {
        let list = perms(&["n5", "r6", "w7"]);
        assert_eq!(list.retain(|d| d != DomId(6)), perms(&["n5", "w7"]));
        assert_eq!(list.retain(|_| false), perms(&["n5"]));
        assert_eq!(list.owned_by(DomId(1)), perms(&["n1", "r6", "w7"]));
    }
}
