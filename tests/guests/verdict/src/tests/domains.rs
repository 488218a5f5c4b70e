//! The life of domains: how they end, what is left of them, what they cannot do.

use crate::services;
use harness::boot::Entry;
use harness::domain::{self, Child, Config, create, create_bare, create_empty};
use harness::hypercall::{domctl_plain, sched_op, set_param};
use harness::mailbox::{self, DATA};
use harness::{Outcome, Verdict, ensure, ensure_eq, event, tests, time};
use xen_abi::Errno;
use xen_abi::domctl::*;
use xen_abi::hvm_op::HVM_PARAM_TRIPLE_FAULT_REASON;
use xen_abi::hypercall::*;
use xen_abi::sched::*;
use xen_abi::xen::{DOMID_SELF, VIRQ_DOM_EXC};

tests! {
    here: domain_create_and_destroy, domain_destroy_leaks_nothing, domain_running_destroy_leaks_nothing,
        domain_many_at_once, domain_shutdown_codes, domain_halt_is_poweroff, domain_triple_fault_reason,
        domain_jump_into_void_is_crash, domain_dom_exc_virq, domain_pause_stops, domain_pause_nests, domain_watchdog,
        domain_watchdog_stopped, domain_remote_shutdown, domain_child_may_not, domain_32_bit_flat, domain_32_bit_pae,
        domain_compat_mode, domain_destroy_unknown, domain_create_refuses, domain_trigger_nmi, domain_two_vcpus_die,
        domain_is_created_paused;
}

fn free_pages() -> Result<u64, Errno> {
    super::memory::physinfo().map(|i| i.free_pages)
}

/// Free pages once they have stopped changing (the last pages of domains destroyed before may go later).
pub fn settled_free_pages() -> Result<u64, Errno> {
    let mut last = free_pages()?;
    loop {
        time::sleep_ms(100);
        match free_pages()? {
            now if now == last => return Ok(now),
            now => last = now,
        }
    }
}

/// Waits until as many pages are free as before (a domain's last pages may go a little later).
pub fn all_free(before: u64) -> Verdict {
    ensure!(
        time::wait(2000, || free_pages().is_ok_and(|f| f == before)),
        "{} pages free, {before} before",
        free_pages()?
    );
    Ok(())
}

/// A domain can be created and destroyed without ever running.
fn domain_create_and_destroy() -> Verdict {
    let domid = create_bare(&Config::default())?;
    ensure!(domain::info(domid)?.flags & XEN_DOMINF_HVM_GUEST != 0, "it is no HVM domain");
    domain::destroy(domid)?;
    ensure_eq!(domain::info(domid).map(|_| ()), Err(Errno::ESRCH), "information of a dead domain");
    Ok(())
}

/// Ten domains with memory, created and destroyed: no page is missing.
fn domain_destroy_leaks_nothing() -> Verdict {
    domain::destroy(create_empty(&Config::default())?)?;
    let before = settled_free_pages()?;
    for _ in 0..10 {
        let domid = create_empty(&Config::default())?;
        ensure!(free_pages()? < before, "a domain took no memory");
        domain::destroy(domid)?;
    }
    all_free(before)
}

/// Ten domains that ran, with channels, grants and mappings: no page is missing.
fn domain_running_destroy_leaks_nothing() -> Verdict {
    let life = || -> Verdict {
        let child = Child::serving()?;
        let port = event::alloc_unbound(child.domid)?;
        child.call(services::bind_interdomain, [0, u64::from(port), 0, 0, 0, 0])?;
        let table = child.call(services::grant_table, [7, 0, 0, 0, 0, 0])?;
        ensure!(table != u64::MAX, "the child cannot map its grant table");
        child.destroy()?;
        event::close(port)?;
        Ok(())
    };
    life()?;
    let before = settled_free_pages()?;
    for _ in 0..10 {
        life()?;
    }
    all_free(before)
}

/// Eight domains at once all work.
fn domain_many_at_once() -> Verdict {
    let mut children = alloc::vec::Vec::new();
    for _ in 0..8 {
        children.push(Child::serving()?);
    }
    for (n, child) in (0..).zip(&children) {
        ensure_eq!(child.call(services::add, [40, n, 0, 0, 0, 0])?, 40 + n, "answer of child {n}");
    }
    children.into_iter().try_for_each(Child::destroy)
}

/// The reason of a shutdown is in the domain's information.
fn domain_shutdown_codes() -> Verdict {
    let codes = [
        SHUTDOWN_POWEROFF,
        SHUTDOWN_REBOOT,
        SHUTDOWN_SUSPEND,
        SHUTDOWN_CRASH,
        SHUTDOWN_WATCHDOG,
        SHUTDOWN_SOFT_RESET,
    ];
    for code in codes {
        let child = Child::serving()?;
        mailbox::begin(child.mailbox, services::shutdown, [u64::from(code), 0, 0, 0, 0, 0]);
        ensure_eq!(child.wait_shutdown(5000)?, code, "shutdown code");
        child.destroy()?;
    }
    Ok(())
}

fn ends_with(entry: u64, code: u32) -> Verdict {
    let child = Child::with(&Config { entry, ..Config::default() }, "")?;
    ensure_eq!(child.wait_shutdown(5000)?, code, "shutdown code");
    child.destroy()
}

/// The last vCPU halting with interrupts off is a power-off.
fn domain_halt_is_poweroff() -> Verdict {
    ends_with(Entry::Halt.address(), SHUTDOWN_POWEROFF)
}

/// A triple fault ends that domain only: as a reboot, or as whatever the toolstack has set.
fn domain_triple_fault_reason() -> Verdict {
    let config = Config { entry: Entry::TripleFault.address(), ..Config::default() };
    for (reason, code) in [(None, SHUTDOWN_REBOOT), (Some(SHUTDOWN_CRASH), SHUTDOWN_CRASH)] {
        let child = create(&config, "")?;
        if let Some(reason) = reason {
            set_param(child.domid, HVM_PARAM_TRIPLE_FAULT_REASON, reason.into())?;
        }
        child.unpause()?;
        ensure_eq!(child.wait_shutdown(5000)?, code, "shutdown code with reason {reason:?}");
        child.destroy()?;
    }
    Ok(())
}

/// Executing where no memory is crashes the domain.
fn domain_jump_into_void_is_crash() -> Verdict {
    let child = Child::with(&Config { entry: 0xe000_0000, ..Config::default() }, "")?;
    let code = child.wait_shutdown(5000)?;
    ensure!(code == SHUTDOWN_CRASH || code == SHUTDOWN_REBOOT, "shutdown code {code}");
    child.destroy()
}

/// VIRQ_DOM_EXC tells dom0 of a domain's shutdown and of its end.
fn domain_dom_exc_virq() -> Verdict {
    let port = event::bind_virq(VIRQ_DOM_EXC, 0)?;
    let child = Child::serving()?;
    time::wait(20, || false);
    let before = event::handled(port);
    mailbox::begin(child.mailbox, services::shutdown, [0; 6]);
    child.wait_shutdown(5000)?;
    ensure!(time::wait(500, || event::handled(port) > before), "no event at the shutdown");
    let before = event::handled(port);
    child.destroy()?;
    ensure!(time::wait(500, || event::handled(port) > before), "no event at the end");
    Ok(())
}

fn counter() -> Result<Child, Outcome> {
    Child::with(&Config { entry: Entry::Count.address(), ..Config::default() }, "")
}

fn counts(child: &Child) -> bool {
    let before: u32 = child.mailbox.get(DATA);
    let mut moved = false;
    for _ in 0..50 {
        time::sleep_ms(10);
        moved |= child.mailbox.get::<u32>(DATA) != before;
    }
    moved
}

/// A paused domain does nothing; unpaused it goes on.
fn domain_pause_stops() -> Verdict {
    let child = counter()?;
    ensure!(counts(&child), "it does not run");
    child.pause()?;
    ensure!(child.info()?.flags & XEN_DOMINF_PAUSED != 0, "it is not shown as paused");
    ensure!(!counts(&child), "it runs though paused");
    child.unpause()?;
    ensure!(child.info()?.flags & XEN_DOMINF_PAUSED == 0, "it is shown as paused");
    ensure!(counts(&child), "it does not run though unpaused");
    child.destroy()
}

/// Pauses of the toolstack nest.
fn domain_pause_nests() -> Verdict {
    let child = counter()?;
    child.pause()?;
    child.pause()?;
    child.unpause()?;
    ensure!(!counts(&child), "it runs though paused once more");
    child.unpause()?;
    ensure!(counts(&child), "it does not run");
    ensure_eq!(child.unpause(), Err(Errno::EINVAL), "unpause of a running domain");
    child.destroy()
}

fn watchdog(child: &Child, id: u64, seconds: u64) -> Result<i64, Outcome> {
    let at = child.call(services::page, [0; 6])? << 12;
    child.call(services::poke, [at, id | seconds << 32, 0, 0, 0, 0])?;
    let args = [u64::from(HYPERVISOR_SCHED_OP), u64::from(SCHEDOP_WATCHDOG), at, 0, 0, 0];
    child.call(services::call, args).map(|r| r as i64)
}

/// A watchdog that is not fed shuts its domain down.
fn domain_watchdog() -> Verdict {
    let child = Child::serving()?;
    let id = watchdog(&child, 0, 1)?;
    ensure!((1..=2).contains(&id), "watchdog id {id}");
    let start = time::now();
    ensure_eq!(child.wait_shutdown(10_000)?, SHUTDOWN_WATCHDOG, "shutdown code");
    ensure!(time::now() - start > 900_000_000, "it fired early");
    child.destroy()
}

/// A stopped watchdog does nothing; only two exist.
fn domain_watchdog_stopped() -> Verdict {
    let child = Child::serving()?;
    let (first, second) = (watchdog(&child, 0, 1)?, watchdog(&child, 0, 60)?);
    ensure!(first > 0 && second > 0 && first != second, "ids {first} and {second}");
    // Xen returns this error in 32 bits.
    ensure_eq!(watchdog(&child, 0, 60)? as i32, Errno::ENOSPC.to_ret32(), "third watchdog");
    ensure_eq!(watchdog(&child, first as u64, 0)?, 0, "stopping the first");
    ensure_eq!(watchdog(&child, 9, 1)?, Errno::EINVAL.to_ret(), "watchdog 9");
    time::sleep_ms(1500);
    ensure_eq!(child.shutdown_code(), None, "shutdown");
    child.destroy()
}

/// dom0 may shut a domain down from outside.
fn domain_remote_shutdown() -> Verdict {
    let child = counter()?;
    let mut op = SchedRemoteShutdown { domain_id: child.domid, _pad: [0; 2], reason: SHUTDOWN_CRASH };
    sched_op(SCHEDOP_REMOTE_SHUTDOWN, &mut op)?;
    ensure_eq!(child.wait_shutdown(2000)?, SHUTDOWN_CRASH, "shutdown code");
    op.domain_id = 0x1234;
    ensure_eq!(sched_op(SCHEDOP_REMOTE_SHUTDOWN, &mut op), Err(Errno::ESRCH), "unknown domain");
    child.destroy()
}

/// A domain without privilege gets -EPERM for what is dom0's.
fn domain_child_may_not() -> Verdict {
    let child = Child::serving()?;
    let at = child.call(services::page, [0; 6])? << 12;
    let words = |words: &[u64]| -> Verdict {
        for (n, word) in (0..).zip(words) {
            child.call(services::poke, [at + 8 * n, *word, 0, 0, 0, 0])?;
        }
        Ok(())
    };
    let eperm = Errno::EPERM.to_ret() as u64;
    let version = u64::from(XEN_DOMCTL_INTERFACE_VERSION) << 32;
    for command in
        [XEN_DOMCTL_PAUSEDOMAIN, XEN_DOMCTL_DESTROYDOMAIN, XEN_DOMCTL_GETDOMAININFO, XEN_DOMCTL_MAX_MEM]
    {
        words(&[version | u64::from(command), 0, 0])?;
        let ret = child.call(services::call, [u64::from(HYPERVISOR_DOMCTL), at, 0, 0, 0, 0])?;
        ensure_eq!(ret, eperm, "domctl {command} on dom0");
    }
    let version = u64::from(xen_abi::sysctl::XEN_SYSCTL_INTERFACE_VERSION) << 32;
    words(&[version | u64::from(xen_abi::sysctl::XEN_SYSCTL_PHYSINFO), 0, 0])?;
    let ret = child.call(services::call, [u64::from(HYPERVISOR_SYSCTL), at, 0, 0, 0, 0])?;
    ensure_eq!(ret, eperm, "sysctl physinfo");
    // Memory of dom0: neither its reservation nor a foreign mapping.
    words(&[0])?;
    let memory = u64::from(HYPERVISOR_MEMORY_OP);
    let args = [memory, u64::from(xen_abi::memory::XENMEM_CURRENT_RESERVATION), at, 0, 0, 0];
    ensure_eq!(child.call(services::call, args)?, eperm, "current_reservation of dom0");
    // add_to_physmap_batch: own domain, foreign space, one frame of domain 0; lists in the same page.
    words(&[
        u64::from(DOMID_SELF) | 4 << 16 | 1 << 32,
        at + 64,
        at + 72,
        at + 80,
        0,
        0,
        0,
        0,
        0x200,
        0xd000,
        7,
    ])?;
    let args = [memory, u64::from(xen_abi::memory::XENMEM_ADD_TO_PHYSMAP_BATCH), at, 0, 0, 0];
    let ret = child.call(services::call, args)? as i64;
    let error = child.call(services::peek, [at + 80, 0, 0, 0, 0, 0])? as i32;
    ensure!(
        ret == Errno::EPERM.to_ret() || error == Errno::EPERM.to_ret32(),
        "foreign map: {ret}, error {error}"
    );
    // A parameter of dom0.
    words(&[0, 0])?;
    let args = [u64::from(HYPERVISOR_HVM_OP), u64::from(xen_abi::hvm_op::HVMOP_GET_PARAM), at, 0, 0, 0];
    ensure_eq!(child.call(services::call, args)?, eperm, "parameter of dom0");
    // Shutting dom0 down.
    words(&[0])?;
    let args = [u64::from(HYPERVISOR_SCHED_OP), u64::from(SCHEDOP_REMOTE_SHUTDOWN), at, 0, 0, 0];
    ensure_eq!(child.call(services::call, args)?, eperm, "shutdown of dom0");
    child.destroy()
}

fn makes_32_bit_calls(entry: Entry) -> Verdict {
    let child = Child::with(&Config { entry: entry.address(), ..Config::default() }, "")?;
    let result = |n: u64| child.mailbox.get::<u32>(DATA + 4 * n);
    let end = child.wait_shutdown(5000);
    let results: [u32; 10] = core::array::from_fn(|n| result(n as u64));
    ensure!(end == Ok(SHUTDOWN_REBOOT), "ended with {end:?}; results {results:x?}");
    ensure_eq!(result(9), 0x32, "mark at the end");
    ensure_eq!(result(0), 4 << 16 | 17, "version");
    ensure_eq!(u64::from(result(1)), domain::MEMORY, "current reservation");
    ensure_eq!(result(2), 0, "alloc_unbound");
    ensure!((1..1024).contains(&result(3)), "port {}", result(3));
    ensure_eq!(result(4), 1, "extents populated");
    ensure!(result(5) >> 2 & 1 == 1, "features {:#x}", result(5));
    ensure_eq!((result(6), result(7)), (0, 4 << 16 | 17), "multicall and its entry's result");
    ensure_eq!(result(8), Errno::ENOSYS.to_ret32() as u32, "unknown hypercall");
    ensure_eq!(child.info()?.tot_pages, domain::MEMORY + 1, "pages of the domain");
    child.destroy()
}

/// Hypercalls from 32-bit mode without paging use 32-bit structures.
fn domain_32_bit_flat() -> Verdict {
    makes_32_bit_calls(Entry::Flat32)
}

/// The same with PAE paging.
fn domain_32_bit_pae() -> Verdict {
    makes_32_bit_calls(Entry::Pae32)
}

/// The same from compatibility mode.
fn domain_compat_mode() -> Verdict {
    makes_32_bit_calls(Entry::Compat)
}

/// Domains that do not exist cannot be destroyed; a domain cannot destroy itself.
fn domain_destroy_unknown() -> Verdict {
    ensure_eq!(domctl_plain(XEN_DOMCTL_DESTROYDOMAIN, 0x1234), Err(Errno::ESRCH), "unknown domain");
    ensure_eq!(domctl_plain(XEN_DOMCTL_DESTROYDOMAIN, 0), Err(Errno::EINVAL), "dom0 by itself");
    ensure_eq!(domctl_plain(XEN_DOMCTL_PAUSEDOMAIN, 0), Err(Errno::EINVAL), "pausing dom0 by itself");
    Ok(())
}

/// Configurations without sense are -EINVAL.
fn domain_create_refuses() -> Verdict {
    let refused = |what, config: Config| -> Verdict {
        ensure_eq!(create_bare(&config), Err(Errno::EINVAL), "{what}");
        Ok(())
    };
    let good = Config::default();
    refused("no vCPU", Config { vcpus: 0, ..good })?;
    refused("1000 vCPUs", Config { vcpus: 1000, ..good })?;
    refused("unknown flag", Config { flags: good.flags | 1 << 20, ..good })?;
    refused("grant table version 3", Config { grant_version: 3, ..good })
}

/// The toolstack sends an NMI.
fn domain_trigger_nmi() -> Verdict {
    let child = Child::serving()?;
    let before = child.call(services::nmis, [0; 6])?;
    let mut op = DomctlSendtrigger { trigger: XEN_DOMCTL_SENDTRIGGER_NMI, vcpu: 0 };
    harness::hypercall::domctl(XEN_DOMCTL_SENDTRIGGER, child.domid, &mut op)?;
    time::sleep_ms(5);
    ensure_eq!(child.call(services::nmis, [0; 6])?, before + 1, "NMIs");
    op.vcpu = 9;
    let refused = harness::hypercall::domctl(XEN_DOMCTL_SENDTRIGGER, child.domid, &mut op);
    ensure!(refused.is_err(), "trigger of vCPU 9");
    child.destroy()
}

/// A domain whose two vCPUs run is destroyed as well.
fn domain_two_vcpus_die() -> Verdict {
    let child = Child::with(&Config { vcpus: 2, ..Config::default() }, "test=smp_memory_is_coherent")?;
    time::sleep_ms(30);
    child.destroy()
}

/// A new domain is paused, and does not run before it is unpaused.
fn domain_is_created_paused() -> Verdict {
    let child = domain::create(&Config { entry: Entry::Count.address(), ..Config::default() }, "")?;
    ensure!(child.info()?.flags & XEN_DOMINF_PAUSED != 0, "it is not shown as paused");
    time::sleep_ms(30);
    ensure_eq!(child.mailbox.get::<u32>(DATA), 0, "its counter");
    child.unpause()?;
    ensure!(counts(&child), "it does not run");
    child.destroy()
}
