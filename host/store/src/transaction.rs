//! Transactions: a snapshot to read, a copy to write, and what to check before the writes count.
//!
//! A transaction notes what it has seen of which path: whether there is a node, its value and permissions, its set of
//! children. Its commit succeeds if all that is in the store as it was in the snapshot; so two transactions that
//! create different children of one node do not disturb each other, and one that lists the children does mind.

use crate::errno::{Errno, Result};
use crate::path;
use crate::perm::{DomId, Identity};
use crate::quota::Limits;
use crate::tree::Tree;
use std::collections::HashMap;

/// What was seen of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen(u8);

impl Seen {
    /// That there is a node, or none.
    pub const EXISTENCE: Self = Self(0);
    /// Value and permissions.
    pub const NODE: Self = Self(1);
    /// The set of children.
    pub const CHILDREN: Self = Self(2);
    /// Both.
    pub const ALL: Self = Self(3);

    const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What becomes of a path at commit, beyond what the working copy says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Changes are carried out in this order.
    pub order: u64,
    /// What was at the path before is to be removed, with everything below.
    pub cleared: bool,
    /// Watches are to be told, not only of the path's ancestors being changed.
    pub told: bool,
}

/// One open transaction.
#[derive(Debug)]
pub struct Transaction {
    /// The store when it began.
    pub base: Tree,
    /// The store as the transaction would have it.
    pub work: Tree,
    /// Number of changes the store had seen when it began.
    pub begun: u64,
    /// Nodes it has added, less those it has removed, of its own domain.
    pub nodes: i64,
    /// Whether it has added any.
    pub created: bool,
    /// An operation in it failed half way: it can only end.
    pub failed: bool,
    /// It outlived a restart of the daemon and has lost its snapshot: its commit is to be tried again.
    pub stale: bool,
    seen: HashMap<Box<str>, Seen>,
    changes: HashMap<Box<str>, Change>,
    next_order: u64,
    memory: usize,
}

impl Transaction {
    /// Begins with a snapshot.
    pub fn new(tree: &Tree, begun: u64) -> Self {
        Self {
            base: tree.clone(),
            work: tree.clone(),
            begun,
            nodes: 0,
            created: false,
            failed: false,
            stale: false,
            seen: HashMap::new(),
            changes: HashMap::new(),
            next_order: 0,
            memory: 0,
        }
    }

    /// Bytes it takes.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Notes that the client has learnt this of `path`.
    pub fn note(&mut self, path: &str, what: Seen, who: &Identity, limits: &Limits) -> Result<()> {
        if let Some(seen) = self.seen.get_mut(path) {
            seen.0 |= what.0;
            return Ok(());
        }
        if !who.privileged && self.seen.len() >= limits.transaction_nodes as usize {
            self.failed = true;
            return Err(Errno::Nospc);
        }
        self.memory += path.len() + size_of::<(Box<str>, Seen)>();
        self.seen.insert(path.into(), what);
        Ok(())
    }

    /// The node at `path` was created or changed; `bytes` were written.
    pub fn touched(&mut self, path: &str, told: bool, bytes: usize) {
        self.memory += bytes;
        let order = self.next_order;
        let work = &self.work;
        let change = self.changes.entry(path.into()).or_insert_with(|| {
            self.memory += path.len() + size_of::<(Box<str>, Change)>();
            Change { order, ..Change::default() }
        });
        change.told |= told;
        if change.cleared && change.order < order && work.get(path).is_some_and(|n| n.children().is_empty()) {
            // Created anew after a removal: its place among its siblings is a new one.
            change.order = order;
        }
        self.next_order += 1;
    }

    /// The subtree at `path` was removed.
    pub fn cleared(&mut self, path: &str) {
        let below = path::join(path, "");
        self.changes.retain(|p, _| !p.starts_with(&below));
        let order = self.next_order;
        self.changes.insert(path.into(), Change { order, cleared: true, told: true });
        self.next_order += 1;
    }

    /// The first thing in `tree` that is not as the transaction has seen it, as the domain that changed it.
    pub fn conflict(&self, tree: &Tree) -> Option<DomId> {
        self.seen.iter().find_map(|(path, seen)| match (self.base.get(path), tree.get(path)) {
            (None, None) => None,
            (None, Some(new)) => Some(new.own().writer),
            (Some(_), None) => Some(tree.nearest(path).1.family().writer),
            (Some(old), Some(new)) => {
                if seen.has(Seen::NODE) && old.own().generation != new.own().generation {
                    return Some(new.own().writer);
                }
                let families = seen.has(Seen::CHILDREN) && old.family().generation != new.family().generation;
                families.then(|| new.family().writer)
            }
        })
    }

    /// The changes in the order in which to carry them out.
    pub fn changes(&self) -> Vec<(&str, Change)> {
        let mut all: Vec<_> = self.changes.iter().map(|(path, change)| (&**path, *change)).collect();
        all.sort_unstable_by_key(|(_, change)| change.order);
        all
    }
}
