//! Scheduling: fairness by weight, caps, waking up.

use harness::boot::Entry;
use harness::domain::{Child, Config};
use harness::hypercall::domctl;
use harness::mailbox::DATA;
use harness::{Outcome, Verdict, ensure, tests, time};
use xen_abi::domctl::*;
use zerocopy::FromZeros;

tests! {
    here: sched_fair_by_weight, sched_equal_weights_equal_shares, sched_cap_limits, sched_wakes_against_busy_domain,
        sched_yield_lets_others_run, sched_time_adds_up;
}

/// How late a sleeper may wake beside a busy domain: a time slice would be 10 ms.
const WORST_NS: u64 = 8_000_000;
const MEDIAN_NS: u64 = 3_000_000;

pub fn counter() -> Result<Child, Outcome> {
    Child::with(&Config { entry: Entry::Count.address(), ..Config::default() }, "")
}

pub fn set(child: &Child, weight: u16, cap: u16) -> Verdict {
    let mut op = DomctlSchedulerOp {
        sched_id: XEN_SCHEDULER_CREDIT2,
        cmd: XEN_DOMCTL_SCHEDOP_PUTINFO,
        ..DomctlSchedulerOp::new_zeroed()
    };
    op.set_payload(&DomctlSchedCredit2 { weight, cap });
    domctl(XEN_DOMCTL_SCHEDULER_OP, child.domid, &mut op)?;
    Ok(())
}

/// How far each counter goes in `ms` milliseconds.
pub fn measure<const N: usize>(children: &[Child; N], ms: u64) -> [u64; N] {
    let now = || children.each_ref().map(|c| c.mailbox.get::<u32>(DATA));
    let before = now();
    time::sleep_ms(ms);
    let after = now();
    core::array::from_fn(|n| u64::from(after[n].wrapping_sub(before[n])))
}

/// Whether shares are as `weights` within `percent` of the whole.
pub fn shares_fit<const N: usize>(shares: &[u64; N], weights: [u64; N], percent: u64) -> Verdict {
    let (sum, total) = (shares.iter().sum::<u64>(), weights.iter().sum::<u64>());
    ensure!(sum > 0, "nobody ran");
    for (share, weight) in shares.iter().zip(weights) {
        let (got, wanted) = (share * 1000 / sum, weight * 1000 / total);
        ensure!(got.abs_diff(wanted) <= percent * 10, "{got} per mille of the CPU for {wanted}: {shares:?}");
    }
    Ok(())
}

/// Three busy domains with weights 1:2:4 share one CPU 1:2:4 within 5 % over 10 s.
fn sched_fair_by_weight() -> Verdict {
    let children = [counter()?, counter()?, counter()?];
    for (child, weight) in children.iter().zip([128, 256, 512]) {
        set(child, weight, 0)?;
    }
    pin(&children)?;
    time::sleep_ms(200);
    let shares = measure(&children, 10_000);
    shares_fit(&shares, [1, 2, 4], 5)?;
    children.into_iter().try_for_each(Child::destroy)
}

/// All on CPU 0, so that they contend on machines with more.
fn pin(children: &[Child]) -> Verdict {
    for child in children {
        let mut bits = [1_u8, 0];
        let mut op = DomctlVcpuaffinity { flags: XEN_VCPUAFFINITY_HARD, ..DomctlVcpuaffinity::new_zeroed() };
        op.cpumap_hard.bitmap = harness::hypercall::handle(&mut bits);
        op.cpumap_hard.nr_bits = 16;
        domctl(XEN_DOMCTL_SETVCPUAFFINITY, child.domid, &mut op)?;
    }
    Ok(())
}

/// Two busy domains of equal weight get half each within 5 %.
fn sched_equal_weights_equal_shares() -> Verdict {
    let children = [counter()?, counter()?];
    pin(&children)?;
    time::sleep_ms(200);
    let shares = measure(&children, 3000);
    shares_fit(&shares, [1, 1], 5)?;
    children.into_iter().try_for_each(Child::destroy)
}

/// A cap of 25 % holds though the CPU has nothing else to do.
fn sched_cap_limits() -> Verdict {
    let child = counter()?;
    set(&child, 256, 25)?;
    time::sleep_ms(300);
    let (start, before) = (time::now(), child.info()?.cpu_time);
    time::sleep_ms(2000);
    let used = (child.info()?.cpu_time - before) * 100 / (time::now() - start);
    ensure!((15..=32).contains(&used), "it used {used} % of the CPU");
    child.destroy()
}

/// With a busy domain beside it, dom0's sleep still ends within 20 ms of its time.
fn sched_wakes_against_busy_domain() -> Verdict {
    let child = counter()?;
    let mut best = (u64::MAX, u64::MAX);
    // A held-up emulator wakes late too: one round of many must be good throughout.
    for _ in 0..20 {
        let mut late = [0; 25];
        for late in &mut late {
            let due = time::now() + 4_000_000;
            harness::hypercall::sleep_until(due);
            *late = time::now().saturating_sub(due);
        }
        late.sort_unstable();
        best = best.min((late[24], late[12]));
        if best.0 < WORST_NS && best.1 < MEDIAN_NS {
            break;
        }
    }
    let (worst, median) = (best.0 / 1000, best.1 / 1000);
    crate::note("sched_wakes_against_busy_domain", format_args!("{median} us late, {worst} us at worst"));
    ensure!(
        best.0 < WORST_NS && best.1 < MEDIAN_NS,
        "{median} us late, {worst} us at worst in the best round"
    );
    child.destroy()
}

/// Yielding lets a domain on the same CPU run.
fn sched_yield_lets_others_run() -> Verdict {
    let child = counter()?;
    let before: u32 = child.mailbox.get(DATA);
    let moved = time::wait(5000, || child.mailbox.get::<u32>(DATA) != before);
    ensure!(moved, "the other domain never ran while this one yielded");
    child.destroy()
}

/// A busy domain's processor time is the time it was seen running, within 20 %.
fn sched_time_adds_up() -> Verdict {
    let child = counter()?;
    let (start, before) = (time::now(), child.info()?.cpu_time);
    time::sleep_ms(1000);
    let (elapsed, used) = (time::now() - start, child.info()?.cpu_time - before);
    ensure!(used <= elapsed + elapsed / 50, "{used} ns used in {elapsed} ns");
    ensure!(used >= elapsed / 10 * 8, "{used} ns used in {elapsed} ns");
    child.destroy()
}
