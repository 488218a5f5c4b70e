//! What one domain may take, and what it has taken.

use crate::errno::{Errno, Result};
use std::fmt::Write as _;

/// Limits on every unprivileged domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Nodes it owns.
    pub nodes: u32,
    /// Watches it has set.
    pub watches: u32,
    /// Transactions it has open.
    pub transactions: u32,
    /// Replies it has not fetched; no further request is looked at before it does.
    pub outstanding: u32,
    /// Nodes one transaction has read or written.
    pub transaction_nodes: u32,
    /// Bytes of all the above and of its messages.
    pub memory: u32,
    /// Bytes of one node.
    pub node_size: u32,
    /// Length of a path.
    pub path_max: u32,
    /// Entries in a node's list of permissions.
    pub permissions: u32,
    /// Bytes above which a warning is logged.
    pub memory_soft: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            nodes: 1000,
            watches: 128,
            transactions: 10,
            outstanding: 20,
            transaction_nodes: 1024,
            memory: 2560 * 1024,
            node_size: 2048,
            path_max: 2048,
            permissions: 5,
            memory_soft: 2048 * 1024,
        }
    }
}

/// Name, what it limits.
const HARD: &[(&str, &str)] = &[
    ("nodes", "Nodes per domain"),
    ("watches", "Watches per domain"),
    ("transactions", "Transactions per domain"),
    ("outstanding", "Outstanding requests per domain"),
    ("transaction-nodes", "Max. number of accessed nodes per transaction"),
    ("memory", "Total Xenstore memory per domain (error level)"),
    ("node-size", "Max. size of a node"),
    ("path-max", "Max. length of a node path"),
    ("permissions", "Max. number of permissions per node"),
];
const SOFT: &[(&str, &str)] = &[("memory", "Total Xenstore memory per domain (warning level)")];

impl Limits {
    /// The names of all limits, soft ones with `true`.
    pub fn names() -> impl Iterator<Item = (&'static str, bool)> {
        HARD.iter().map(|(name, _)| (*name, false)).chain(SOFT.iter().map(|(name, _)| (*name, true)))
    }

    fn field(&mut self, name: &str, soft: bool) -> Option<&mut u32> {
        Some(match (name, soft) {
            ("nodes", false) => &mut self.nodes,
            ("watches", false) => &mut self.watches,
            ("transactions", false) => &mut self.transactions,
            ("outstanding", false) => &mut self.outstanding,
            ("transaction-nodes", false) => &mut self.transaction_nodes,
            ("memory", false) => &mut self.memory,
            ("node-size", false) => &mut self.node_size,
            ("path-max", false) => &mut self.path_max,
            ("permissions", false) => &mut self.permissions,
            ("memory", true) => &mut self.memory_soft,
            _ => return None,
        })
    }

    /// One limit by name.
    pub fn get(&self, name: &str, soft: bool) -> Option<u32> {
        self.clone().field(name, soft).copied()
    }

    /// Changes one limit.
    pub fn set(&mut self, name: &str, soft: bool, value: u32) -> Result<()> {
        let longest = name == "path-max" && value > xen_abi::xs_wire::XENSTORE_REL_PATH_MAX;
        let field = self.field(name, soft).ok_or(Errno::Inval)?;
        if value == 0 || longest {
            return Err(Errno::Inval);
        }
        *field = value;
        Ok(())
    }

    /// What `xenstore-control quota` shows.
    pub fn table(&self, soft: bool) -> String {
        let mut text = "Quota settings:\n".to_owned();
        for (name, what) in if soft { SOFT } else { HARD } {
            let value = self.get(name, soft).unwrap_or_default();
            let _ = writeln!(text, "{name:<17}: {value:8} {what}");
        }
        text
    }
}

/// What one domain has taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Nodes it owns.
    pub nodes: u32,
    /// Entries about it in lists of permissions, its own nodes' included.
    pub references: u32,
    /// Bytes of its nodes and watches.
    pub memory: usize,
    /// Watches.
    pub watches: u32,
    /// Patience with its conflicting writes.
    pub credit: Credit,
    /// Whether it was seen above the soft limit.
    pub warned: bool,
}

/// How much a domain may still spoil others' transactions.
///
/// Each time one of its writes makes another domain's commit fail, it pays. One that has nothing left is not served
/// until it has something again, so that the other's next try meets a store at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credit {
    thousandths: u64,
    at: u64,
}

impl Default for Credit {
    fn default() -> Self {
        Self { thousandths: Self::MOST, at: 0 }
    }
}

impl Credit {
    /// As much as can be saved: ten conflicts.
    const MOST: u64 = 10 * Self::PRICE;
    /// Of one conflict.
    const PRICE: u64 = 1000;
    /// Gained in each millisecond: twenty conflicts a second.
    const GAIN: u64 = 20;

    /// Pays for one conflict. Times are in milliseconds.
    pub fn pay(&mut self, now: u64) {
        self.refill(now);
        self.thousandths = self.thousandths.saturating_sub(Self::PRICE);
    }

    /// When the domain may be served; not later than `now` if it may be at once.
    pub fn served_at(&mut self, now: u64) -> u64 {
        self.refill(now);
        now + Self::PRICE.saturating_sub(self.thousandths).div_ceil(Self::GAIN)
    }

    fn refill(&mut self, now: u64) {
        let gained = now.saturating_sub(self.at).saturating_mul(Self::GAIN);
        self.thousandths = self.thousandths.saturating_add(gained).min(Self::MOST);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_can_be_read_and_set() {
        let mut limits = Limits::default();
        for (name, soft) in Limits::names().collect::<Vec<_>>() {
            let old = limits.get(name, soft).unwrap();
            limits.set(name, soft, old - 1).unwrap();
            assert_eq!(limits.get(name, soft), Some(old - 1), "{name}");
            assert_eq!(limits.set(name, soft, 0), Err(Errno::Inval));
        }
        assert_eq!(limits.set("path-max", false, 2049), Err(Errno::Inval));
        assert_eq!(limits.set("nodes", true, 1), Err(Errno::Inval));
    }

    #[test]
    fn the_table_is_what_xenstore_control_users_know() {
        let text = Limits::default().table(false);
        assert!(
            text.starts_with("Quota settings:\nnodes            :     1000 Nodes per domain\n"),
            "{text}"
        );
    }

    #[test]
    fn ten_conflicts_then_one_every_fifty_milliseconds() {
        let mut credit = Credit::default();
        for _ in 0..10 {
            assert_eq!(credit.served_at(5), 5);
            credit.pay(5);
        }
        assert_eq!(credit.served_at(5), 55);
        assert_eq!(credit.served_at(54), 55);
        assert_eq!(credit.served_at(55), 55);
        credit.pay(55);
        assert_eq!(credit.served_at(55), 105);
        assert_eq!(credit.served_at(1_000_000), 1_000_000);
    }
}
