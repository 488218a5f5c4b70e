//! The topology that domains see: local APIC ids are twice the vCPU numbers, so no two vCPUs are threads of one core.

use xen_abi::featureset::{X86_FEATURE_CMP_LEGACY, X86_FEATURE_HTT};

use crate::leaves::{EAX, EBX, ECX, Policy, Vendor};

impl Policy {
    /// Stretches the host's numbers of logical processors and cores over the wider APIC ids. For guests the toolstack
    /// does this itself (`xc_cpuid_apply_policy`); for dom0 nobody else does.
    pub(crate) fn spread_topology(&mut self) {
        let mut set = self.features();
        set.set(X86_FEATURE_HTT, true);
        set.set(X86_FEATURE_CMP_LEGACY, false);
        self.set_features(&set);
        // Logical processors per package.
        let logical = match self.basic[1][EBX] >> 16 & 0xff {
            0 => 2,
            n if n & 0x80 == 0 => n * 2,
            n => n,
        };
        self.basic[1][EBX] = self.basic[1][EBX] & !0x00ff_0000 | logical << 16;
        match self.vendor() {
            Vendor::Intel => {
                for leaf in self.cache.iter_mut().take_while(|l| l[EAX] & 0x1f != 0) {
                    let cores = (leaf[EAX] >> 26 << 1 | 1) & 0x3f;
                    leaf[EAX] = leaf[EAX] & 0x3fff | cores << 26;
                }
            }
            Vendor::Amd => {
                // 0x80000008 ECX: bits 15:12 width of the core part of APIC ids, 7:0 cores less one.
                let ecx = self.extd[8][ECX];
                let (width, cores) = (ecx >> 12 & 0xf, ecx & 0xff);
                if cores < 0x7f {
                    let width = if (1..7).contains(&width) { width + 1 } else { width };
                    self.extd[8][ECX] = ecx & !0xf0ff | width << 12 | cores << 1 | 1;
                }
            }
            Vendor::Other => {}
        }
    }
}
