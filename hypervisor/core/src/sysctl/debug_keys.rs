//! `XEN_SYSCTL_debug_keys`: what `xl debug-keys` has printed to the log.

use alloc::sync::Arc;

use radon_addr::Port;
use radon_frames::frames;
use radon_hw::{info, time};
use xen_abi::sysctl::{Sysctl, SysctlDebugKeys};

use super::Result;
use crate::domain::Domain;
use crate::hypercall::Caller;
use crate::{domains, machine, run};

/// Keys that do something, in Xen's letters.
const KEYS: [(u8, &str, fn()); 7] = [
    (b'h', "show this help message", help),
    (b'q', "dump domain (and guest debug) info", dump_domains),
    (b'e', "dump evtchn info", dump_events),
    (b'r', "dump run queues", dump_vcpus),
    (b'g', "print grant table usage", dump_grants),
    (b'm', "memory info", dump_memory),
    (b't', "display time", dump_time),
];

/// Most keys in one call.
const MOST: u32 = 256;
/// Ports shown of one domain.
const MOST_PORTS: u32 = 256;

pub fn press(caller: &Caller<'_>, op: &Sysctl) -> Result {
    let asked: SysctlDebugKeys = op.payload();
    for i in 0..asked.nr_keys.min(MOST) {
        let key: u8 = caller.read(asked.keys.raw().wrapping_add(i.into()))?;
        handle(key);
    }
    Ok(())
}

/// Acts on one key, from the tools or from the console.
pub fn handle(key: u8) {
    if let Some((_, title, act)) = KEYS.iter().find(|k| k.0 == key) {
        info!("'{}' pressed -> {title}", char::from(key));
        act();
    }
}

fn help() {
    for (key, title, _) in KEYS {
        info!(" key '{}' => {title}", char::from(key));
    }
}

fn dump_domains() {
    for d in domains::all() {
        let counts = frames().domain(d.id);
        info!(
            "General information for {}: pages {} of {}, overhead {}, pauses {}, shutdown {:?}, {:?}",
            d.id,
            counts.tot_pages,
            counts.max_pages,
            counts.overhead,
            d.pause_count(),
            d.shutdown_code(),
            d.dying()
        );
        dump_domain_vcpus(&d);
    }
}

fn dump_domain_vcpus(d: &Arc<Domain>) {
    for v in d.vcpus() {
        info!(
            "  {}v{}: up {} blocked {} on {:?}, upcall vector {:#x} pending {}",
            d.id,
            v.id.raw(),
            v.is_up(),
            v.is_blocked(),
            v.running_on().map(|c| c.raw()),
            v.upcall_vector.load(core::sync::atomic::Ordering::Relaxed),
            d.events.lock().upcall_pending(v.id)
        );
    }
}

fn dump_events() {
    for d in domains::all() {
        info!("Event channel information for {}:", d.id);
        let events = d.events.lock();
        let mut from = Port::new(1);
        for _ in 0..MOST_PORTS {
            let Some(port) = events.next_open(from) else { break };
            if let Ok(s) = events.status(port) {
                info!(
                    "  {:4} [{}/{}] v{} {:?}",
                    port.raw(),
                    u8::from(events.is_pending(port)),
                    u8::from(events.is_masked(port)),
                    s.vcpu.raw(),
                    s.state
                );
            }
            from = Port::new(port.raw().saturating_add(1));
        }
    }
}

fn dump_vcpus() {
    let now = time::now();
    for d in domains::all() {
        let params = run::SCHEDULER.lock().params(d.id);
        info!("{}: weight and cap {params:?}, cpupool {}", d.id, crate::domctl::scheduler::pool_of(&d));
        for v in d.vcpus() {
            let (state, _, times) = v.runstate.lock().at(now);
            info!("  v{}: {state:?}, ms in each state {:?}", v.id.raw(), times.map(|t| t / 1_000_000));
        }
    }
    for c in machine::cpus() {
        info!("CPU{}: idle {} ms", c.raw(), run::idle_time_ns(c) / 1_000_000);
    }
}

fn dump_grants() {
    for d in domains::all() {
        let (version, frames, pinned) = {
            let g = d.grants.lock();
            (g.version(), g.nr_frames(), g.pinned_entries())
        };
        let mapped = d.maptrack.lock().mapped();
        info!("{}: grant table v{version}, {frames} frames, {pinned} entries in use; maps {mapped}", d.id);
    }
}

fn dump_memory() {
    let f = frames();
    info!(
        "Free {} of {} pages, claimed {}, to be scrubbed {}",
        f.free_pages(),
        f.total_pages(),
        f.outstanding_claims(),
        f.scrub_pending()
    );
    info!("Free blocks by order: {:?}", f.free_blocks());
}

fn dump_time() {
    info!(
        "System time {} ns, TSC {} kHz, wall clock {} ns, {} timers queued",
        time::now().raw(),
        time::tsc_khz(),
        time::wall_clock_ns(),
        run::queued_timers()
    );
}
