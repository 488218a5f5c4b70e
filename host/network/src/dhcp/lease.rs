//! Who has which address. Pure: the time is an argument, and what must be written down is handed back.

use crate::mac::Mac;
use crate::network::Subnet;
use crate::prefix::{Prefix, Range};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// Seconds since 1970.
pub type Time = u64;

/// How long an address that was offered waits for its client.
const OFFERED: Time = 30;

/// An address given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// To whom; nobody, if a client found somebody else using it.
    pub mac: Option<Mac>,
    /// Until when. Afterwards it is still offered to the same client first.
    pub until: Time,
}

/// Addresses of one network.
#[derive(Clone, Debug)]
pub struct Pool {
    prefix: Prefix,
    range: Option<Range>,
    term: Time,
    /// Clients with an address of their own.
    reserved: BTreeMap<Mac, Ipv4Addr>,
    /// Addresses that nobody else may have: those, further ones of the same interfaces, and the host's.
    kept: BTreeSet<Ipv4Addr>,
    leases: BTreeMap<Ipv4Addr, Lease>,
    offers: BTreeMap<Ipv4Addr, Lease>,
}

impl Pool {
    /// A network's, with the leases that there are.
    pub fn new(subnet: &Subnet, leases: BTreeMap<Ipv4Addr, Lease>) -> Self {
        Self {
            prefix: subnet.prefix,
            range: subnet.range,
            term: Time::from(subnet.lease_seconds),
            reserved: BTreeMap::new(),
            kept: BTreeSet::from([subnet.host]),
            leases,
            offers: BTreeMap::new(),
        }
    }

    /// The network's addresses may have changed.
    pub fn set_terms(&mut self, subnet: &Subnet) {
        (self.prefix, self.range, self.term) =
            (subnet.prefix, subnet.range, Time::from(subnet.lease_seconds));
    }

    /// From now on these clients have these addresses, and nobody may have one of `kept`.
    pub fn reserve(&mut self, reserved: BTreeMap<Mac, Ipv4Addr>, kept: BTreeSet<Ipv4Addr>) {
        self.kept = reserved.values().copied().chain(kept).collect();
        self.reserved = reserved;
    }

    /// Leases, those that are over among them.
    pub fn leases(&self) -> &BTreeMap<Ipv4Addr, Lease> {
        &self.leases
    }

    /// How long a lease lasts, in seconds.
    pub fn term(&self) -> Time {
        self.term
    }

    /// Whether nobody but `mac` has, or was offered, an address of the range.
    fn free_for(&self, mac: Mac, address: Ipv4Addr, now: Time) -> bool {
        let others = |lease: Option<&Lease>| lease.is_some_and(|l| l.until > now && l.mac != Some(mac));
        self.range.is_some_and(|r| r.contains(address))
            && self.prefix.has_host(address)
            && !self.kept.contains(&address)
            && !others(self.leases.get(&address))
            && !others(self.offers.get(&address))
    }

    /// The address that a client had last, if it can have it.
    fn last(&self, mac: Mac, now: Time) -> Option<Ipv4Addr> {
        let had = self.leases.iter().chain(&self.offers).filter(|(_, l)| l.mac == Some(mac));
        had.filter(|(a, _)| self.free_for(mac, **a, now)).max_by_key(|(_, l)| l.until).map(|(a, _)| *a)
    }

    /// An address for a client that looks for one: its own, the one it had, the one it wants, one that nobody had, one that is
    /// free. None, if there is none.
    pub fn offer(&mut self, mac: Mac, wanted: Option<Ipv4Addr>, now: Time) -> Option<Ipv4Addr> {
        if let Some(address) = self.reserved.get(&mac) {
            return Some(*address);
        }
        let all = || self.range.into_iter().flat_map(Range::addresses);
        let free = |a: &Ipv4Addr| self.free_for(mac, *a, now);
        let address = self
            .last(mac, now)
            .or_else(|| wanted.filter(free))
            .or_else(|| all().find(|a| !self.leases.contains_key(a) && free(a)))
            .or_else(|| all().filter(free).min_by_key(|a| self.leases.get(a).map_or(0, |l| l.until)))?;
        self.offers.retain(|_, l| l.until > now && l.mac != Some(mac));
        self.offers.insert(address, Lease { mac: Some(mac), until: now.saturating_add(OFFERED) });
        Some(address)
    }

    /// A client takes an address, or goes on using one. The lease must be durable before the client hears of it. None, if the
    /// address cannot be the client's.
    pub fn take(&mut self, mac: Mac, address: Ipv4Addr, now: Time) -> Option<Lease> {
        let lease = Lease { mac: Some(mac), until: now.saturating_add(self.term) };
        match self.reserved.get(&mac) {
            Some(own) if *own == address => return Some(lease),
            Some(_) => return None,
            None => {}
        }
        if !self.free_for(mac, address, now) {
            return None;
        }
        // One address for each: whoever takes another has given up the first.
        for other in self.leases.values_mut().filter(|l| l.mac == Some(mac)) {
            other.until = other.until.min(now);
        }
        self.offers.retain(|_, l| l.mac != Some(mac));
        self.leases.insert(address, lease);
        Some(lease)
    }

    /// Whether an address is one that is written down: not one that is somebody's by declaration.
    pub fn is_leased(&self, address: Ipv4Addr) -> bool {
        self.leases.contains_key(&address) && !self.kept.contains(&address)
    }

    /// A client gives its address back. What is to be written down, if anything changed.
    pub fn release(&mut self, mac: Mac, address: Ipv4Addr, now: Time) -> Option<Lease> {
        let lease = self.leases.get_mut(&address).filter(|l| l.mac == Some(mac) && l.until > now)?;
        lease.until = now;
        Some(*lease)
    }

    /// A client found somebody using the address it was given: nobody gets it for as long as a lease lasts. What is to be written
    /// down, if the address was the client's.
    pub fn decline(&mut self, mac: Mac, address: Ipv4Addr, now: Time) -> Option<Lease> {
        let was = self.leases.get(&address).or_else(|| self.offers.get(&address))?;
        if was.mac != Some(mac) || was.until <= now {
            return None;
        }
        self.offers.remove(&address);
        let lease = Lease { mac: None, until: now.saturating_add(self.term) };
        self.leases.insert(address, lease);
        Some(lease)
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
