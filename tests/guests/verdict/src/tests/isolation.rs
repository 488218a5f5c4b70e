//! A hostile child harms only itself: random hypercalls, MSRs, ports, grants and memory accesses from a printed seed.
//!
//! The number of calls and the seed come from the command line (`calls=N seed=S`). A child that kills itself is replaced
//! by another with the next seed, until all calls were made.

use crate::{options, services};
use core::sync::atomic::Ordering;
use harness::domain::{self, Child, Config};
use harness::mailbox::{self, DATA};
use harness::memory::atomic_u64;
use harness::random::Random;
use harness::trap::catch;
use harness::{Page, Verdict, cpu, ensure, ensure_eq, event, hypercall, tests, time};
use xen_abi::hypercall::*;
use xen_abi::sched::*;

tests! {
    here: isolation_random_hypercalls, isolation_random_msrs, isolation_random_ports, isolation_random_grants,
        isolation_random_memory, isolation_random_code;
}

/// One call.
type Act = fn(&mut Random);

/// What a hostile child does, by the name in its command line.
const KINDS: [(&str, Act); 6] = [
    ("hypercalls", random_hypercall),
    ("msrs", random_msr),
    ("ports", random_port),
    ("grants", random_grant),
    ("memory", random_memory),
    ("code", random_code),
];

/// Child: makes calls for ever, counting them in its mailbox.
pub fn hostile(kind: &str) {
    let Some((_, act)) = KINDS.iter().find(|(name, _)| *name == kind) else { return };
    let mut random = Random(options::seed());
    let (progress, seal) = (atomic_u64(mailbox::own().at(DATA)), atomic_u64(mailbox::own().at(DATA + 8)));
    harness::apic::enable();
    seal.store(SEAL, Ordering::SeqCst);
    for done in 1.. {
        act(&mut random);
        progress.store(done, Ordering::SeqCst);
        seal.store(done ^ SEAL, Ordering::SeqCst);
    }
}

/// A child's count of calls is believed only while the word behind it is the same under this mask.
const SEAL: u64 = 0x5ea1_ed5e_a1ed_5ea1;

/// Memory of a hostile child that its random calls may write to: the end of the pool, of which it uses only the start.
const PLAYGROUND: u64 = harness::memory::POOL_END - 64 * 4096;

/// Numbers that are likelier to do something than random ones.
fn interesting(random: &mut Random) -> u64 {
    match random.below(10) {
        0 => 0,
        1 => random.below(64),
        2 => u64::from(xen_abi::xen::DOMID_SELF),
        3 => u64::MAX - random.below(4),
        // 1 << 24 is where the image starts.
        4 => (1 << random.below(64)) & !(1 << 24),
        // In memory that may be spoilt; seldom anywhere in the child's own memory, which mostly ends it.
        5..=7 if random.below(20_000) != 0 => PLAYGROUND + random.below(64 * 4096),
        5..=7 => random.below(domain::MEMORY + 16) << 12 | random.below(4096),
        8 => random.bits() as u32 as u64,
        _ => random.bits(),
    }
}

/// A page of arguments: small numbers, frames, addresses.
fn fill(random: &mut Random, page: Page) {
    for at in (0..256).step_by(8) {
        let word = match random.below(3) {
            0 => interesting(random),
            1 => u64::from(xen_abi::xen::DOMID_SELF) | random.below(16) << 16 | random.below(64) << 32,
            _ => random.below(64) | random.below(64) << 32,
        };
        page.set(at, word);
    }
}

fn random_hypercall(random: &mut Random) {
    use core::sync::atomic::AtomicU64;
    static BUFFER: AtomicU64 = AtomicU64::new(0);
    if BUFFER.load(Ordering::Relaxed) == 0 {
        BUFFER.store(Page::new().gfn, Ordering::Relaxed);
    }
    let page = Page { gfn: BUFFER.load(Ordering::Relaxed) };
    fill(random, page);
    let number = if random.below(16) == 0 { random.bits() } else { random.below(60) };
    let mut args = [0; 5];
    for arg in &mut args {
        *arg = match random.below(4) {
            0 | 1 => random.below(48),
            2 => page.at(random.below(32) * 8),
            _ => interesting(random),
        };
    }
    // What only ends or blocks the child is made seldom, or there would be nothing but that.
    let deadly = number == u64::from(HYPERVISOR_SCHED_OP)
        && [SCHEDOP_BLOCK, SCHEDOP_SHUTDOWN, SCHEDOP_POLL, SCHEDOP_WATCHDOG].contains(&(args[0] as u32))
        || number == u64::from(HYPERVISOR_VCPU_OP) && args[0] == 2;
    if deadly && random.below(500) != 0 {
        return;
    }
    // So are lists of millions of entries: they would take the rest of the child's time.
    let length = match number as u32 {
        HYPERVISOR_MULTICALL => Some(&mut args[1]),
        HYPERVISOR_GRANT_TABLE_OP => Some(&mut args[2]),
        _ => None,
    };
    if let Some(length) = length.filter(|l| **l > 64)
        && random.below(500) != 0
    {
        *length = random.below(8);
    }
    hypercall::raw(number, args);
}

fn random_msr(random: &mut Random) {
    let msr = match random.below(6) {
        0 => 0x800 + random.below(0x100) as u32,
        1 => random.below(0x1000) as u32,
        2 => 0xc000_0000 + random.below(0x200) as u32,
        3 => 0xc001_0000 + random.below(0x200) as u32,
        4 => 0x4000_0000 + random.below(0x200) as u32,
        _ => random.bits() as u32,
    };
    // These would only move the child's own ground: mode, segments, APIC mode, the hypercall page.
    if [0x1b, 0xc000_0080, 0xc000_0100, 0xc000_0101, 0x4000_0000].contains(&msr) && random.below(200) != 0 {
        return;
    }
    let _ = catch(|| cpu::rdmsr(msr));
    let value = if random.below(2) == 0 { random.bits() } else { interesting(random) };
    // An NMI or interrupt to itself is taken; INIT to itself would stop it.
    if msr == 0x830 && random.below(200) != 0 {
        return;
    }
    let _ = catch(|| cpu::wrmsr(msr, value));
}

fn random_port(random: &mut Random) {
    let (port, value) = (random.bits() as u16, random.bits() as u32);
    match random.below(6) {
        0 => drop(catch(|| cpu::in8(port))),
        1 => drop(catch(|| cpu::in16(port))),
        2 => drop(catch(|| cpu::in32(port))),
        3 => drop(catch(|| cpu::out8(port, value as u8))),
        4 => drop(catch(|| cpu::out16(port, value as u16))),
        _ => drop(catch(|| cpu::out32(port, value))),
    }
}

fn random_grant(random: &mut Random) {
    use harness::grant::{End, Mapping, copy, map_at, unmap};
    let page = Page { gfn: random.below(0x2000) };
    let (domid, gref) = (random.below(8) as u16, interesting(random) as u32);
    match random.below(5) {
        0 => drop(map_at(Page { gfn: 0x4000 + random.below(64) }, domid, gref, random.below(64) as u32)),
        1 => drop(unmap(Mapping { page, handle: interesting(random) as u32 })),
        2 => drop(copy(
            End::Grant(domid, gref),
            random.bits() as u16,
            End::Own(0x4000 + random.below(64)),
            0,
            random.bits() as u16,
        )),
        3 => drop(harness::grant::set_version(random.below(4) as u32)),
        _ => drop(harness::grant::add_to_physmap(
            random.below(6) as u32,
            interesting(random),
            0x4000 + random.below(64),
        )),
    }
}

fn random_memory(random: &mut Random) {
    // Frames that are not the child's: beyond its memory, holes, register pages.
    let address = (domain::MEMORY << 12)
        + (random.bits() >> random.below(34)) % ((8 << 30) - (domain::MEMORY << 12) - 8);
    if address >> 12 == 0xfee00 {
        return;
    }
    match random.below(4) {
        0 => drop(catch(|| harness::memory::read::<u64>(address))),
        1 => drop(catch(|| harness::memory::read::<u8>(address))),
        2 => drop(catch(|| harness::memory::write(address, u64::MAX))),
        _ => drop(catch(|| harness::memory::write(address, 0_u16))),
    }
}

fn random_code(random: &mut Random) {
    use core::sync::atomic::AtomicU64;
    static CODE: AtomicU64 = AtomicU64::new(0);
    if CODE.load(Ordering::Relaxed) == 0 {
        CODE.store(Page::new().gfn, Ordering::Relaxed);
    }
    let page = Page { gfn: CODE.load(Ordering::Relaxed) };
    // Mostly instructions that a hypervisor must decode, then anything.
    const STARTS: [&[u8]; 12] = [
        &[0x0f, 0xa2],
        &[0x0f, 0x32],
        &[0x0f, 0x01],
        &[0xe4],
        &[0xec],
        &[0x6c],
        &[0xf3, 0x6c],
        &[0x0f, 0x22],
        &[0x0f, 0x20],
        &[0x0f, 0x00],
        &[0x0f, 0xc7],
        &[0xa3],
    ];
    let start = STARTS[random.below(12) as usize];
    for (at, byte) in (0..).zip(start) {
        page.set(at, *byte);
    }
    for at in start.len() as u64..16 {
        page.set(at, random.bits() as u8);
    }
    page.set(16, 0x0b0f_0b0f_0b0f_0b0f_u64);
    let _ =
        catch(|| cpu::call(page.at(0), cpu::Registers { rcx: random.below(4), ..cpu::Registers::default() }));
}

/// dom0's side: lets hostile children make all calls, then looks whether everything is as before.
fn attack(test: &'static str, kind: &str) -> Verdict {
    // Random code ends a child after a few hundred instructions, and a new one costs a second.
    let wanted = options::calls() / if kind == "code" { 100 } else { 1 };
    let mut seed = options::seed();
    crate::note(test, format_args!("{wanted} calls from seed {seed}"));
    let canaries: alloc::vec::Vec<Page> = (0..32).map(|_| Page::new()).collect();
    canaries.iter().for_each(|p| p.fill(p.gfn.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    Child::serving()?.destroy()?;
    let before = super::domains::settled_free_pages()?;
    let (mut done, mut children, mut shut_down) = (0, 0, 0);
    while done < wanted {
        ensure!(children < 200 + wanted / 500, "{children} children made only {done} calls");
        let line = harness::verdict::text(format_args!("hostile={kind} seed={seed}"));
        let child = Child::with(&Config::default(), &line)?;
        children += 1;
        seed += 1;
        let (mut last, mut still) = (0, 0);
        while done + last < wanted && still < 40 {
            time::sleep_ms(10);
            if child.shutdown_code().is_some() {
                shut_down += 1;
                break;
            }
            let (now, check): (u64, u64) = (child.mailbox.get(DATA), child.mailbox.get(DATA + 8));
            // The seal follows the count closely; before the start both are 0.
            if (now, check) != (0, 0) && ((check ^ SEAL).abs_diff(now) > 1000 || now < last) {
                // It has written over its mailbox, and counts no more.
                break;
            }
            still = if now > last { 0 } else { still + 1 };
            last = now;
        }
        done += last;
        child.destroy()?;
    }
    crate::note(
        test,
        format_args!("{done} calls by {children} children, {shut_down} of which ended themselves"),
    );
    for page in canaries {
        let word = page.gfn.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ensure!(
            (0..4096).step_by(8).all(|at| page.get::<u64>(at) == word),
            "dom0's frame {:#x} was changed",
            page.gfn
        );
    }
    let restored = time::wait(3000, || super::memory::physinfo().is_ok_and(|i| i.free_pages == before));
    ensure!(restored, "{} pages free, {before} before", super::memory::physinfo()?.free_pages);
    // Others still work.
    let child = Child::serving()?;
    ensure_eq!(child.call(services::add, [20, 22, 0, 0, 0, 0])?, 42, "answer of a new child");
    child.destroy()?;
    let (first, second) = event::loopback()?;
    event::send(second)?;
    ensure!(time::wait(100, || event::handled(first) == 1), "dom0's events do not work");
    Ok(())
}

/// Every hypercall number with random arguments.
fn isolation_random_hypercalls() -> Verdict {
    attack("isolation_random_hypercalls", "hypercalls")
}

/// Random MSRs, read and written.
fn isolation_random_msrs() -> Verdict {
    attack("isolation_random_msrs", "msrs")
}

/// Random ports, read and written.
fn isolation_random_ports() -> Verdict {
    attack("isolation_random_ports", "ports")
}

/// Random grant operations and frame moves.
fn isolation_random_grants() -> Verdict {
    attack("isolation_random_grants", "grants")
}

/// Memory that is not the child's.
fn isolation_random_memory() -> Verdict {
    attack("isolation_random_memory", "memory")
}

/// Random instructions, most of them intercepted.
fn isolation_random_code() -> Verdict {
    attack("isolation_random_code", "code")
}
