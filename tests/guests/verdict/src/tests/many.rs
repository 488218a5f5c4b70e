//! Many domains on two CPUs: the guest that runs these is a boot of its own.

use super::domains::{all_free, settled_free_pages};
use super::sched::{counter, measure, set, shares_fit};
use super::smp as two_vcpus;
use crate::services;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use harness::domain::Child;
use harness::{
    Outcome, Page, Test, Verdict, apic, cpu, ensure, ensure_eq, event, mailbox, say, smp, tests, time, trap,
};
use xen_abi::xen::DOMID_SELF;

tests! {
    here: many_eight_fifty_times_over, many_fair_by_weight_on_two_cpus;
    child_smp: many_split_locks_under_interrupts;
}

const AT_ONCE: u32 = 8;
const ROUNDS: u32 = 50;

/// Eight domains of one and two vCPUs run at once; fifty times over they are made and destroyed. Then each page is free again,
/// and the next event channel has the number that it had before.
fn many_eight_fifty_times_over() -> Verdict {
    // Twice before measuring: what this domain's own tables and the hypervisor's heap keep is there then.
    (0..2).try_for_each(|_| lives())?;
    let (pages, port) = (settled_free_pages()?, next_port()?);
    for round in 1..=ROUNDS {
        lives()?;
        if round % 10 == 0 {
            say!("NOTE many-eight-fifty-times-over: round {round} at {} ms", time::now() / 1_000_000);
        }
    }
    all_free(pages)?;
    ensure_eq!(next_port()?, port, "next event channel");
    Ok(())
}

fn next_port() -> Result<u32, Outcome> {
    let port = event::alloc_unbound(DOMID_SELF)?;
    event::close(port)?;
    Ok(port)
}

/// One life of eight domains. Those with one vCPU answer calls, have a channel to this domain and a grant table; those with two
/// have started the second.
fn lives() -> Verdict {
    let starts: &Test =
        two_vcpus::TESTS.first().ok_or_else(|| Outcome::Error("no test of two vCPUs".into()))?;
    let mut children = Vec::new();
    for n in 0..AT_ONCE {
        children.push(if n % 2 == 0 { Child::serving()? } else { Child::test(starts, 2)? });
    }
    let mut ports = Vec::new();
    for (n, child) in (0..AT_ONCE).zip(&children) {
        if n % 2 == 0 {
            let port = event::alloc_unbound(child.domid)?;
            child.call(services::bind_interdomain, [0, u64::from(port), 0, 0, 0, 0])?;
            ensure!(child.call(services::grant_table, [7, 0, 0, 0, 0, 0])? != u64::MAX, "no grant table");
            ensure_eq!(child.call(services::add, [40, u64::from(n), 0, 0, 0, 0])?, 40 + u64::from(n), "sum");
            ports.push(port);
        } else {
            child.wait(20_000, || mailbox::verdict(child.mailbox).is_some())?;
            mailbox::verdict(child.mailbox).unwrap_or(Ok(()))?;
        }
    }
    for child in &children {
        let info = child.info()?;
        ensure!(child.shutdown_code().is_none() && info.cpu_time > 0, "domain {} does not run", child.domid);
    }
    children.into_iter().try_for_each(Child::destroy)?;
    ports.into_iter().try_for_each(|port| event::close(port).map(|_| ()))?;
    Ok(())
}

/// Six busy domains, two of each of the weights 1:2:4, share two CPUs 1:2:4 within 5 % over 10 s.
fn many_fair_by_weight_on_two_cpus() -> Verdict {
    let children = [counter()?, counter()?, counter()?, counter()?, counter()?, counter()?];
    for (child, weight) in children.iter().zip([128, 256, 512].into_iter().cycle()) {
        set(child, weight, 0)?;
    }
    time::sleep_ms(200);
    let counts = measure(&children, 10_000);
    let shares: [u64; 3] = core::array::from_fn(|n| counts[n] + counts[n + 3]);
    shares_fit(&shares, [1, 2, 4], 5)?;
    children.into_iter().try_for_each(Child::destroy)
}

/// Additions to a word that crosses a cache line add up, on two CPUs that interrupt each other all the time. (An emulator stops
/// all its other processors for each.)
fn many_split_locks_under_interrupts() -> Verdict {
    const ADDITIONS: u32 = 20_000;
    const VECTOR: u8 = 0x53;
    static WORD: AtomicU64 = AtomicU64::new(0);
    static DONE: AtomicU32 = AtomicU32::new(0);
    fn add(other: u32) {
        let page = Page { gfn: WORD.load(Ordering::SeqCst) };
        for n in 0..ADDITIONS {
            cpu::split_lock_add(page);
            if n % 16 == 0 {
                apic::command(other, u32::from(VECTOR));
            }
        }
        DONE.fetch_add(1, Ordering::SeqCst);
    }
    fn second() {
        apic::enable();
        cpu::sti();
        add(0);
        loop {
            cpu::pause();
        }
    }
    let page = Page::new();
    WORD.store(page.gfn, Ordering::SeqCst);
    apic::enable();
    trap::acknowledge(VECTOR, true);
    smp::prepare(second);
    ensure!(smp::start_by_apic(2), "the second vCPU did not start");
    add(2);
    let begun = page.get::<u32>(62);
    // Asleep, for each of the other's additions has to stop whoever runs: beside a loop an emulator does 80 of them in a second.
    let done = (0..1000).any(|_| {
        time::sleep_ms(10);
        DONE.load(Ordering::SeqCst) == 2
    });
    ensure!(done, "the other vCPU is not done: sum {begun}, ten seconds later {}", page.get::<u32>(62));
    ensure_eq!(page.get::<u32>(62), 2 * ADDITIONS, "sum");
    ensure!(trap::count(VECTOR) > 0, "no interrupt came");
    Ok(())
}
