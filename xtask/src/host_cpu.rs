//! The one processor of this host that an emulated machine with several runs on.
//!
//! QEMU has a thread for each emulated processor, and FXRSTOR on any of them changes flags of the first one in a single
//! instruction without a lock; VMRUN and #VMEXIT change the same word (docs/decisions/0008-qemu-vmexit.md). Threads that take
//! turns on one processor of the host do not do so at the same time.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Those that machines of this process have at present.
static TAKEN: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

fn taken() -> MutexGuard<'static, BTreeSet<u32>> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A processor of the host, until it is dropped.
#[derive(Debug)]
pub struct HostCpu(u32);

impl HostCpu {
    /// One that no other machine has; the first one when all have machines.
    pub fn take() -> Option<Self> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let allowed = parse_list(status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:"))?);
        let mut taken = taken();
        let free = allowed.iter().find(|cpu| !taken.contains(cpu)).or(allowed.first())?;
        taken.insert(*free);
        Some(Self(*free))
    }

    /// Its number, as `taskset` wants it.
    pub fn number(&self) -> u32 {
        self.0
    }
}

impl Drop for HostCpu {
    fn drop(&mut self) {
        taken().remove(&self.0);
    }
}

/// "0-2,5" -> 0, 1, 2, 5. What is no number is left out.
fn parse_list(text: &str) -> Vec<u32> {
    let mut all = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) {
            all.extend(first..=last);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read() {
        assert_eq!(parse_list("\t0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(parse_list("7"), [7]);
        assert_eq!(parse_list(""), [0; 0]);
    }

    #[test]
    fn two_machines_get_two_processors_where_there_are_two() {
        let (one, two) = (HostCpu::take().unwrap(), HostCpu::take().unwrap());
        if std::thread::available_parallelism().unwrap().get() > 1 {
            assert_ne!(one.number(), two.number());
        }
        let number = one.number();
        drop(one);
        assert_eq!(HostCpu::take().unwrap().number(), number, "one that is free is given again");
    }
}
