//! Sets of CPU features, those that guests may have, and which feature needs which.

use xen_abi::featureset::*;

/// A set of features, numbered as in `arch-x86/cpufeatureset.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FeatureSet(pub [u32; FEATURESET_NR_ENTRIES]);

impl FeatureSet {
    /// The set with these members.
    pub const fn of(list: &[u32]) -> FeatureSet {
        let mut words = [0; FEATURESET_NR_ENTRIES];
        let mut i = 0;
        while i < list.len() {
            words[(list[i] / 32) as usize] |= 1 << (list[i] % 32);
            i += 1;
        }
        FeatureSet(words)
    }

    /// All features with a name.
    pub const fn known() -> FeatureSet {
        let mut words = [0; FEATURESET_NR_ENTRIES];
        let mut i = 0;
        while i < X86_FEATURES.len() {
            let f = X86_FEATURES[i].1;
            words[(f / 32) as usize] |= 1 << (f % 32);
            i += 1;
        }
        FeatureSet(words)
    }

    /// Is the feature in the set?
    pub fn has(&self, feature: u32) -> bool {
        self.0.get((feature / 32) as usize).is_some_and(|w| w & 1 << (feature % 32) != 0)
    }

    /// Adds or removes a feature.
    pub fn set(&mut self, feature: u32, present: bool) {
        if let Some(word) = self.0.get_mut((feature / 32) as usize) {
            let bit = 1 << (feature % 32);
            *word = if present { *word | bit } else { *word & !bit };
        }
    }

    /// Features in both.
    pub fn and(mut self, other: &FeatureSet) -> FeatureSet {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a &= b);
        self
    }

    /// Features in this set and not in the other.
    pub fn without(mut self, other: &FeatureSet) -> FeatureSet {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a &= !b);
        self
    }

    /// No feature is missing in the other set.
    pub fn is_subset(&self, other: &FeatureSet) -> bool {
        self.without(other) == FeatureSet::default()
    }

    /// Removes unknown features and all those whose prerequisite is absent.
    pub fn sanitise(self) -> FeatureSet {
        let mut set = self.and(&KNOWN);
        loop {
            let before = set;
            for (needed, dependents) in NEEDED_BY {
                if !set.has(*needed) {
                    dependents.iter().for_each(|&d| set.set(d, false));
                }
            }
            if !set.has(X86_FEATURE_ARCH_CAPS) {
                set.0[FEATURESET_ARCH_CAPS_LOW] = 0;
                set.0[FEATURESET_ARCH_CAPS_LOW + 1] = 0;
            }
            if set == before {
                return set;
            }
        }
    }
}

const FEATURESET_ARCH_CAPS_LOW: usize = 16;

/// All named features.
pub const KNOWN: FeatureSet = FeatureSet::known();

/// Features repeated in 0x80000001 EDX on AMD: FPU to CX8, APIC, MTRR to PSE36, MMX, FXSR.
pub const COMMON_1D: u32 = 0x0183_f3ff;

/// Guests see these whatever the processor says, because the hypervisor emulates them.
pub const EMULATED: FeatureSet =
    FeatureSet::of(&[X86_FEATURE_APIC, X86_FEATURE_X2APIC, X86_FEATURE_HYPERVISOR]);

/// Said of every guest: absence of EFER.LMSLE, which we refuse; and topology bits, which the toolstack chooses.
pub const ALWAYS_POSSIBLE: FeatureSet =
    FeatureSet::of(&[X86_FEATURE_NO_LMSL, X86_FEATURE_HTT, X86_FEATURE_CMP_LEGACY]);

/// In guest max, but only on request.
pub const OPT_IN: FeatureSet = FeatureSet::of(&[
    X86_FEATURE_ITSC,
    X86_FEATURE_MOVDIRI,
    X86_FEATURE_MOVDIR64B,
    X86_FEATURE_AVX512_VP2INTERSECT,
]);

/// What guests can have if the processor has it.
///
/// Left out, because it needs an MSR or state that we do not virtualise: SPEC_CTRL and PRED_CMD users (IBRS, IBPB,
/// STIBP, SSBD, PSFD), ARCH_CAPABILITIES, TSC_ADJUST, TSC_DEADLINE, DBEXT (debug address masks), OSVW, TSX, MPX,
/// PKU, CET, AMX, SGX, nested virtualisation, MONITOR, performance counters, power and RAS.
pub const VIRTUALISABLE: FeatureSet = FeatureSet::of(&[
    // 1.EDX
    X86_FEATURE_FPU,
    X86_FEATURE_VME,
    X86_FEATURE_DE,
    X86_FEATURE_PSE,
    X86_FEATURE_TSC,
    X86_FEATURE_MSR,
    X86_FEATURE_PAE,
    X86_FEATURE_MCE,
    X86_FEATURE_CX8,
    X86_FEATURE_APIC,
    X86_FEATURE_SEP,
    X86_FEATURE_MTRR,
    X86_FEATURE_PGE,
    X86_FEATURE_MCA,
    X86_FEATURE_CMOV,
    X86_FEATURE_PAT,
    X86_FEATURE_PSE36,
    X86_FEATURE_CLFLUSH,
    X86_FEATURE_MMX,
    X86_FEATURE_FXSR,
    X86_FEATURE_SSE,
    X86_FEATURE_SSE2,
    X86_FEATURE_SS,
    X86_FEATURE_HTT,
    // 1.ECX
    X86_FEATURE_SSE3,
    X86_FEATURE_PCLMULQDQ,
    X86_FEATURE_SSSE3,
    X86_FEATURE_FMA,
    X86_FEATURE_CX16,
    X86_FEATURE_PCID,
    X86_FEATURE_SSE4_1,
    X86_FEATURE_SSE4_2,
    X86_FEATURE_X2APIC,
    X86_FEATURE_MOVBE,
    X86_FEATURE_POPCNT,
    X86_FEATURE_AESNI,
    X86_FEATURE_XSAVE,
    X86_FEATURE_AVX,
    X86_FEATURE_F16C,
    X86_FEATURE_RDRAND,
    X86_FEATURE_HYPERVISOR,
    // 0x80000001.EDX
    X86_FEATURE_SYSCALL,
    X86_FEATURE_NX,
    X86_FEATURE_MMXEXT,
    X86_FEATURE_FFXSR,
    X86_FEATURE_PAGE1GB,
    X86_FEATURE_RDTSCP,
    X86_FEATURE_LM,
    X86_FEATURE_3DNOWEXT,
    X86_FEATURE_3DNOW,
    // 0x80000001.ECX
    X86_FEATURE_LAHF_LM,
    X86_FEATURE_CMP_LEGACY,
    X86_FEATURE_ABM,
    X86_FEATURE_SSE4A,
    X86_FEATURE_MISALIGNSSE,
    X86_FEATURE_3DNOWPREFETCH,
    X86_FEATURE_XOP,
    X86_FEATURE_FMA4,
    X86_FEATURE_TBM,
    // 0xd:1.EAX
    X86_FEATURE_XSAVEOPT,
    X86_FEATURE_XSAVEC,
    X86_FEATURE_XGETBV1,
    X86_FEATURE_XSAVES,
    // 7:0.EBX
    X86_FEATURE_FSGSBASE,
    X86_FEATURE_BMI1,
    X86_FEATURE_AVX2,
    X86_FEATURE_FDP_EXCP_ONLY,
    X86_FEATURE_SMEP,
    X86_FEATURE_BMI2,
    X86_FEATURE_ERMS,
    X86_FEATURE_INVPCID,
    X86_FEATURE_NO_FPU_SEL,
    X86_FEATURE_AVX512F,
    X86_FEATURE_AVX512DQ,
    X86_FEATURE_RDSEED,
    X86_FEATURE_ADX,
    X86_FEATURE_SMAP,
    X86_FEATURE_AVX512_IFMA,
    X86_FEATURE_CLFLUSHOPT,
    X86_FEATURE_CLWB,
    X86_FEATURE_AVX512CD,
    X86_FEATURE_SHA,
    X86_FEATURE_AVX512BW,
    X86_FEATURE_AVX512VL,
    // 7:0.ECX
    X86_FEATURE_PREFETCHWT1,
    X86_FEATURE_AVX512_VBMI,
    X86_FEATURE_UMIP,
    X86_FEATURE_AVX512_VBMI2,
    X86_FEATURE_GFNI,
    X86_FEATURE_VAES,
    X86_FEATURE_VPCLMULQDQ,
    X86_FEATURE_AVX512_VNNI,
    X86_FEATURE_AVX512_BITALG,
    X86_FEATURE_AVX512_VPOPCNTDQ,
    X86_FEATURE_RDPID,
    X86_FEATURE_CLDEMOTE,
    X86_FEATURE_MOVDIRI,
    X86_FEATURE_MOVDIR64B,
    // 0x80000007.EDX
    X86_FEATURE_ITSC,
    // 0x80000008.EBX
    X86_FEATURE_CLZERO,
    X86_FEATURE_RSTR_FP_ERR_PTRS,
    X86_FEATURE_NO_LMSL,
    X86_FEATURE_SSB_NO,
    X86_FEATURE_BTC_NO,
    // 7:0.EDX
    X86_FEATURE_AVX512_4VNNIW,
    X86_FEATURE_AVX512_4FMAPS,
    X86_FEATURE_FSRM,
    X86_FEATURE_AVX512_VP2INTERSECT,
    X86_FEATURE_MD_CLEAR,
    X86_FEATURE_SERIALIZE,
    // 7:1.EAX
    X86_FEATURE_AVX_VNNI,
    X86_FEATURE_AVX512_BF16,
    X86_FEATURE_FZRM,
    X86_FEATURE_FSRS,
    X86_FEATURE_FSRCS,
    // 0x80000021.EAX
    X86_FEATURE_LFENCE_DISPATCH,
    X86_FEATURE_VERW_CLEAR,
    X86_FEATURE_NSCB,
    X86_FEATURE_SRSO_NO,
    X86_FEATURE_SRSO_US_NO,
    // 7:2.EDX
    X86_FEATURE_MCDT_NO,
    // 0x80000021.ECX
    X86_FEATURE_TSA_SQ_NO,
    X86_FEATURE_TSA_L1_NO,
]);

/// (feature, features that need it): the architecture's prerequisites.
const NEEDED_BY: &[(u32, &[u32])] = &[
    (X86_FEATURE_FPU, &[X86_FEATURE_MMX, X86_FEATURE_RSTR_FP_ERR_PTRS]),
    (X86_FEATURE_PSE, &[X86_FEATURE_PSE36]),
    (X86_FEATURE_PAE, &[X86_FEATURE_LM, X86_FEATURE_NX]),
    (
        X86_FEATURE_TSC,
        &[X86_FEATURE_TSC_DEADLINE, X86_FEATURE_RDTSCP, X86_FEATURE_TSC_ADJUST, X86_FEATURE_ITSC],
    ),
    (X86_FEATURE_APIC, &[X86_FEATURE_X2APIC, X86_FEATURE_TSC_DEADLINE, X86_FEATURE_EXTAPIC]),
    (X86_FEATURE_MMX, &[X86_FEATURE_MMXEXT, X86_FEATURE_3DNOW]),
    (X86_FEATURE_FXSR, &[X86_FEATURE_FFXSR, X86_FEATURE_SSE]),
    (X86_FEATURE_SSE, &[X86_FEATURE_SSE2, X86_FEATURE_MISALIGNSSE]),
    (
        X86_FEATURE_SSE2,
        &[
            X86_FEATURE_SSE3,
            X86_FEATURE_LM,
            X86_FEATURE_AESNI,
            X86_FEATURE_PCLMULQDQ,
            X86_FEATURE_SHA,
            X86_FEATURE_GFNI,
        ],
    ),
    (X86_FEATURE_SSE3, &[X86_FEATURE_SSSE3, X86_FEATURE_SSE4A]),
    (X86_FEATURE_SSSE3, &[X86_FEATURE_SSE4_1]),
    (X86_FEATURE_SSE4_1, &[X86_FEATURE_SSE4_2]),
    (
        X86_FEATURE_XSAVE,
        &[
            X86_FEATURE_XSAVEOPT,
            X86_FEATURE_XSAVEC,
            X86_FEATURE_XGETBV1,
            X86_FEATURE_XSAVES,
            X86_FEATURE_AVX,
            X86_FEATURE_MPX,
            X86_FEATURE_PKU,
            X86_FEATURE_LWP,
        ],
    ),
    (
        X86_FEATURE_AVX,
        &[X86_FEATURE_FMA, X86_FEATURE_FMA4, X86_FEATURE_F16C, X86_FEATURE_AVX2, X86_FEATURE_XOP],
    ),
    (X86_FEATURE_NX, &[X86_FEATURE_SMAP]),
    (
        X86_FEATURE_LM,
        &[
            X86_FEATURE_CX16,
            X86_FEATURE_PCID,
            X86_FEATURE_LAHF_LM,
            X86_FEATURE_PAGE1GB,
            X86_FEATURE_PKU,
            X86_FEATURE_NO_LMSL,
        ],
    ),
    (X86_FEATURE_PCID, &[X86_FEATURE_INVPCID]),
    (X86_FEATURE_3DNOW, &[X86_FEATURE_3DNOWEXT]),
    (
        X86_FEATURE_AVX2,
        &[X86_FEATURE_AVX512F, X86_FEATURE_VAES, X86_FEATURE_VPCLMULQDQ, X86_FEATURE_AVX_VNNI],
    ),
    (
        X86_FEATURE_AVX512F,
        &[
            X86_FEATURE_AVX512DQ,
            X86_FEATURE_AVX512_IFMA,
            X86_FEATURE_AVX512PF,
            X86_FEATURE_AVX512ER,
            X86_FEATURE_AVX512CD,
            X86_FEATURE_AVX512BW,
            X86_FEATURE_AVX512VL,
            X86_FEATURE_AVX512_4VNNIW,
            X86_FEATURE_AVX512_4FMAPS,
            X86_FEATURE_AVX512_VNNI,
            X86_FEATURE_AVX512_VPOPCNTDQ,
            X86_FEATURE_AVX512_VP2INTERSECT,
        ],
    ),
    (
        X86_FEATURE_AVX512BW,
        &[
            X86_FEATURE_AVX512_VBMI,
            X86_FEATURE_AVX512_VBMI2,
            X86_FEATURE_AVX512_BITALG,
            X86_FEATURE_AVX512_BF16,
            X86_FEATURE_AVX512_FP16,
        ],
    ),
    (X86_FEATURE_PCLMULQDQ, &[X86_FEATURE_VPCLMULQDQ]),
    (X86_FEATURE_AESNI, &[X86_FEATURE_VAES]),
    (
        X86_FEATURE_IBRSB,
        &[
            X86_FEATURE_STIBP,
            X86_FEATURE_SSBD,
            X86_FEATURE_INTEL_PSFD,
            X86_FEATURE_EIBRS,
            X86_FEATURE_IPRED_CTRL,
            X86_FEATURE_RRSBA_CTRL,
            X86_FEATURE_BHI_CTRL,
        ],
    ),
    (
        X86_FEATURE_IBRS,
        &[
            X86_FEATURE_AMD_STIBP,
            X86_FEATURE_AMD_SSBD,
            X86_FEATURE_PSFD,
            X86_FEATURE_IBRS_ALWAYS,
            X86_FEATURE_IBRS_FAST,
            X86_FEATURE_IBRS_SAME_MODE,
        ],
    ),
    (X86_FEATURE_IBPB, &[X86_FEATURE_IBPB_RET, X86_FEATURE_SBPB, X86_FEATURE_IBPB_BRTYPE]),
    (X86_FEATURE_AMD_STIBP, &[X86_FEATURE_STIBP_ALWAYS]),
    (X86_FEATURE_RTM, &[X86_FEATURE_TSXLDTRK]),
    (X86_FEATURE_EIBRS, &[X86_FEATURE_RRSBA]),
];
