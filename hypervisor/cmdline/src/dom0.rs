//! The `dom0*` options: size, vCPUs and mode of the control domain.

use crate::Problem;
use crate::value::{parse_bool, parse_int, parse_size};

/// An amount of memory, `<size>`, `-<size>` or `[<size>+]<percent>%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemAmount {
    /// Bytes; subtracted from what there is when `negative`.
    pub bytes: u64,
    /// The amount is what shall be left over.
    pub negative: bool,
    /// Added share of the host's memory, percent below 100.
    pub percent: u8,
}

impl MemAmount {
    /// The amount in bytes on a machine with `available` bytes.
    pub fn resolve(&self, available: u64) -> u64 {
        let amount = self.bytes.saturating_add((available / 100).saturating_mul(u64::from(self.percent)));
        if self.negative { available.saturating_sub(amount) } else { amount.min(available) }
    }
}

/// `dom0_max_vcpus=<n>` or `<min>-<max>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuRange {
    /// At least this many.
    pub min: u32,
    /// At most this many.
    pub max: u32,
}

impl VcpuRange {
    /// How many vCPUs dom0 gets on a machine with `pcpus` CPUs.
    pub fn resolve(&self, pcpus: u32) -> u32 {
        pcpus.max(self.min).min(self.max).max(1)
    }
}

/// How dom0 is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dom0 {
    /// `dom0_mem=<size>`.
    pub mem: Option<MemAmount>,
    /// `dom0_mem=min:<size>`.
    pub mem_min: Option<MemAmount>,
    /// `dom0_mem=max:<size>`; also the most dom0 may balloon up to.
    pub mem_max: Option<MemAmount>,
    /// `dom0_max_vcpus=`.
    pub vcpus: VcpuRange,
    /// `dom0_vcpus_pin`.
    pub vcpus_pin: bool,
    /// `dom0=verbose`.
    pub verbose: bool,
    /// `dom0=msr-relaxed`: unknown MSRs read as zero.
    pub msr_relaxed: bool,
}

impl Default for Dom0 {
    fn default() -> Self {
        Self {
            mem: None,
            mem_min: None,
            mem_max: None,
            vcpus: VcpuRange { min: 1, max: u32::MAX },
            vcpus_pin: false,
            verbose: false,
            msr_relaxed: false,
        }
    }
}

impl Dom0 {
    /// Bytes dom0 starts with, of `available`: without `dom0_mem`, all but 1/16 (128 MiB at most); `max` beats `min`.
    pub fn initial_memory(&self, available: u64) -> u64 {
        let resolve = |amount: MemAmount| amount.resolve(available);
        let default = available.saturating_sub((available / 16).min(128 << 20));
        let bytes = self.mem.map_or(default, resolve).max(self.mem_min.map_or(0, resolve));
        bytes.min(self.mem_max.map_or(u64::MAX, resolve)).min(available)
    }
}

pub(crate) fn mem(dom0: &mut Dom0, value: Option<&str>) -> Result<(), Problem> {
    let mut new = Dom0 { mem: None, mem_min: None, mem_max: None, ..*dom0 };
    for item in value.ok_or(Problem::BadValue)?.split(',') {
        let (place, text) = match item.split_once(':') {
            Some(("min", text)) => (&mut new.mem_min, text),
            Some(("max", text)) => (&mut new.mem_max, text),
            Some(_) => return Err(Problem::BadValue),
            None => (&mut new.mem, item),
        };
        *place = Some(amount(text).ok_or(Problem::BadValue)?);
    }
    *dom0 = new;
    Ok(())
}

fn amount(text: &str) -> Option<MemAmount> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let Some(share) = text.strip_suffix('%') else {
        return Some(MemAmount { bytes: parse_size(text)?, negative, percent: 0 });
    };
    let (bytes, percent) = match share.split_once('+') {
        Some((size, percent)) => (parse_size(size)?, percent),
        None => (0, share),
    };
    let percent = u8::try_from(parse_int(percent)?).ok().filter(|p| *p < 100)?;
    Some(MemAmount { bytes, negative, percent })
}

pub(crate) fn max_vcpus(value: Option<&str>) -> Result<VcpuRange, Problem> {
    let number = |text: &str, default| {
        if text.is_empty() { Some(default) } else { parse_int(text).and_then(|n| u32::try_from(n).ok()) }
    };
    let text = value.filter(|v| !v.is_empty()).ok_or(Problem::BadValue)?;
    let (min, max) = text.split_once('-').unwrap_or((text, text));
    let (min, max) = number(min, 1).zip(number(max, u32::MAX)).ok_or(Problem::BadValue)?;
    if min == 0 || min > max {
        return Err(Problem::BadValue);
    }
    Ok(VcpuRange { min, max })
}

/// `dom0=` list of `pv|pvh`, `verbose`, `msr-relaxed`, `shadow`, `cpuid-faulting`.
pub(crate) fn mode(dom0: &mut Dom0, value: Option<&str>) -> Result<(), Problem> {
    let mut result = Ok(());
    for item in value.ok_or(Problem::BadValue)?.split(',') {
        let (name, on) = boolean(item).ok_or(Problem::BadValue)?;
        match name {
            "pvh" | "shadow" if on == (name == "pvh") => {
                if name == "shadow" {
                    result = Err(Problem::Ignored("there is no shadow paging"));
                }
            }
            "pv" if on => result = Err(Problem::Ignored("dom0 is always PVH")),
            "verbose" => dom0.verbose = on,
            "msr-relaxed" => dom0.msr_relaxed = on,
            "pv" | "pvh" | "shadow" | "cpuid-faulting" => {}
            _ => result = Err(Problem::BadValue),
        }
    }
    result
}

/// `foo`, `no-foo` or `foo=<bool>` within a list.
pub(crate) fn boolean(item: &str) -> Option<(&str, bool)> {
    match item.split_once('=') {
        Some((name, value)) => Some((name, parse_bool(value)?)),
        None => Some(item.strip_prefix("no-").map_or((item, true), |name| (name, false))),
    }
}
