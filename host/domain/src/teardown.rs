//! Takes a VM's domains away, however much of them there is: devices, the domain, its nodes.

use crate::device::{self, Removal};
use crate::error::{Result, XenContext};
use crate::nodes;
use crate::task::{Progress, Step};
use crate::uuid::Uuid;
use crate::wait::{self, Patience};
use radon_store::client::{Tx, Xenstore};
use radon_xen::domain::DomainStatus;
use radon_xen::privcmd::Privcmd;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long the hypervisor and those that map a dead domain's pages may take.
const GONE: Duration = Duration::from_secs(60);

/// A VM's domains, those that are dying included: there is more than one only after something was cut short.
pub fn domains_of(xen: &Privcmd, uuid: Uuid) -> Result<Vec<DomainStatus>> {
    let all = xen.all_domains().xen("list the domains")?;
    Ok(all.into_iter().filter(|d| d.domid != 0 && d.handle == uuid.bytes()).collect())
}

/// Numbers under which the store still has nodes of a VM.
fn numbers_in_store(store: &mut Xenstore, uuid: Uuid) -> Result<Vec<u16>> {
    let vm = nodes::vm_path(uuid);
    let mut found = Vec::new();
    for domid in store.list(Tx::NONE, "/libxl")?.iter().filter_map(|name| name.parse().ok()) {
        if store.read(Tx::NONE, &format!("{}/vm", nodes::domain_path(domid)))?.as_ref() == Some(&vm) {
            found.push(domid);
        }
    }
    Ok(found)
}

/// Takes all of it away, whatever is there.
pub fn tear_down(xen: &Privcmd, store: &mut Xenstore, uuid: Uuid, progress: &mut dyn Progress) -> Result<()> {
    let mut numbers: BTreeSet<u16> = numbers_in_store(store, uuid)?.into_iter().collect();
    numbers.extend(domains_of(xen, uuid)?.iter().map(|d| d.domid));
    for domid in numbers {
        one(xen, store, domid, uuid, progress)?;
    }
    // A build that was cut short may have left nothing but this.
    Ok(store.remove(Tx::NONE, &nodes::vm_path(uuid))?)
}

fn one(
    xen: &Privcmd,
    store: &mut Xenstore,
    domid: u16,
    uuid: Uuid,
    progress: &mut dyn Progress,
) -> Result<()> {
    let alive = |xen: &Privcmd| -> Result<Option<DomainStatus>> {
        let found = xen.domain_status(domid).xen("tell a domain's state")?;
        Ok(found.filter(|d| d.handle == uuid.bytes()))
    };
    if alive(xen)?.is_some_and(|d| !d.dying) {
        progress.at(Step::Pause)?;
        xen.pause_domain(domid).xen("pause the domain")?;
    }
    for (kind, id) in device::present(store, domid)? {
        device::detach(store, kind, domid, id, Removal::Forced, progress)?;
    }
    if alive(xen)?.is_some_and(|d| !d.dying) {
        progress.at(Step::DestroyDomain)?;
        xen.destroy_domain(domid).xen("destroy the domain")?;
    }
    progress.at(Step::AwaitGone)?;
    let patience =
        Patience { who: "somebody who maps its pages", what: "let go of the dead domain", limit: GONE };
    wait::until(store, "@releaseDomain", patience, progress, |_| Ok(alive(xen)?.is_none().then_some(())))?;
    progress.at(Step::RemoveNodes)?;
    store.transaction(|store, tx| {
        for kind in ["console", "vbd", "rdisk", "vif", "vfb", "vkbd"] {
            store.remove(tx, &format!("/local/domain/0/backend/{kind}/{domid}"))?;
            // Where dom0's kernel complains, now and then of what is on its way out anyway.
            store.remove(tx, &format!("/local/domain/0/error/backend/{kind}/{domid}"))?;
        }
        for path in [nodes::toolstack_path(domid), nodes::vm_path(uuid), nodes::domain_path(domid)] {
            store.remove(tx, &path)?;
        }
        Ok(())
    })?;
    Ok(())
}
