//! Machine checks: what the processor's banks say (APM volume 2, chapter 9; SDM volume 3, chapter 16).

use crate::msr;
use core::fmt::Arguments;

/// `IA32_MCG_CAP`: bits 7:0 number of banks.
const MCG_CAP: u32 = 0x179;
/// `IA32_MCG_STATUS`: bit 0 RIPV, bit 2 MCIP.
const MCG_STATUS: u32 = 0x17a;
/// `IA32_MC0_STATUS`; address and miscellaneous follow; four MSRs a bank.
const MC0_STATUS: u32 = 0x401;

/// The interrupted program can be resumed.
const RIPV: u64 = 1 << 0;
/// The bank holds an error.
const VAL: u64 = 1 << 63;
/// An earlier error was overwritten.
const OVERFLOW: u64 = 1 << 62;
/// The hardware did not correct it.
const UC: u64 = 1 << 61;
/// The bank's miscellaneous register holds something.
const MISCV: u64 = 1 << 59;
/// The bank's address register holds something.
const ADDRV: u64 = 1 << 58;
/// The processor's state is corrupt.
const PCC: u64 = 1 << 57;

/// How bad it is, in rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// No bank holds an error, or the hardware corrected it.
    Corrected,
    /// What ran has lost data; the processor itself is sound.
    Uncorrected,
    /// The processor cannot go on.
    Fatal,
}

/// Reads, prints and clears this processor's banks, and acknowledges the machine check.
pub fn collect(mut print: impl FnMut(Arguments<'_>)) -> Severity {
    let global = msr::try_read(MCG_STATUS).unwrap_or(0);
    let banks = msr::try_read(MCG_CAP).unwrap_or(0) & 0xff;
    let mut worst = if global & RIPV == 0 { Severity::Fatal } else { Severity::Corrected };
    print(format_args!("machine check: status {global:#x}, {banks} banks"));
    for bank in 0..banks as u32 {
        let base = MC0_STATUS + 4 * bank;
        let Some(status) = msr::try_read(base).filter(|s| s & VAL != 0) else { continue };
        let optional = |valid: u64, index| (status & valid != 0).then(|| msr::try_read(index)).flatten();
        print(format_args!(
            "  bank {bank}: status {status:016x}, address {:x?}, misc {:x?}{}{}",
            optional(ADDRV, base + 1),
            optional(MISCV, base + 2),
            if status & UC != 0 { ", uncorrected" } else { "" },
            if status & OVERFLOW != 0 { ", others lost" } else { "" },
        ));
        worst = worst.max(match status {
            s if s & PCC != 0 => Severity::Fatal,
            s if s & UC != 0 => Severity::Uncorrected,
            _ => Severity::Corrected,
        });
        msr::try_write(base, 0);
    }
    msr::try_write(MCG_STATUS, 0);
    worst
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{format, string::String, vec::Vec};

    /// Banks with these states; what is printed, and the severity.
    fn judge(global: u64, banks: &[u64]) -> (Severity, Vec<String>) {
        crate::sim::set_msr(MCG_CAP, banks.len() as u64 | 0x100);
        crate::sim::set_msr(MCG_STATUS, global);
        for (base, status) in (MC0_STATUS..).step_by(4).zip(banks) {
            crate::sim::set_msr(base, *status);
            crate::sim::set_msr(base + 1, 0xabc0);
        }
        let mut lines = Vec::new();
        let severity = collect(|line| lines.push(format!("{line}")));
        let all = (MC0_STATUS..).step_by(4).take(banks.len()).chain([MCG_STATUS]);
        all.for_each(|index| assert_eq!(msr::read(index) & VAL, 0, "{index:#x} is not cleared"));
        (severity, lines)
    }

    #[test]
    fn the_worst_bank_counts() {
        assert_eq!(judge(RIPV, &[0, 0]).0, Severity::Corrected);
        assert_eq!(judge(RIPV, &[0, VAL]).0, Severity::Corrected);
        assert_eq!(judge(RIPV, &[VAL | UC, VAL]).0, Severity::Uncorrected);
        assert_eq!(judge(RIPV, &[VAL, VAL | UC | PCC, VAL | UC]).0, Severity::Fatal);
        assert_eq!(judge(RIPV, &[UC | PCC]).0, Severity::Corrected, "a bank that is not valid says nothing");
    }

    #[test]
    fn without_a_place_to_go_on_it_is_fatal() {
        assert_eq!(judge(0, &[VAL]).0, Severity::Fatal);
    }

    #[test]
    fn each_bank_with_an_error_is_printed() {
        let (_, lines) = judge(RIPV | 4, &[VAL | UC | ADDRV, 0, VAL | OVERFLOW]);
        assert_eq!(lines.len(), 3);
        assert!(lines[1].contains("bank 0") && lines[1].contains("Some(abc0)"), "{lines:?}");
        assert!(
            lines[2].contains("bank 2") && lines[2].contains("address None, misc None, others lost"),
            "{lines:?}"
        );
    }
}
