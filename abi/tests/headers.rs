//! Compares every constant, size and offset of this crate with the C headers of Debian's `libxen-dev`.
//!
//! The comparison is a C source full of static assertions that gcc must accept; it is not run. A missing gcc or
//! missing headers fail the tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};
use xen_abi::{CField, CLayout, errno::ERRNOS};

/// What is compared of one structure: Rust name, C name, size, fields.
type Layout = (&'static str, &'static str, usize, &'static [CField]);

macro_rules! structs {
    ($list:ident: $($module:ident { $($name:ident),* $(,)? })*) => {
        const $list: &[Layout] = &[$($({
            type T = xen_abi::$module::$name;
            (stringify!($name), T::C_NAME, size_of::<T>(), T::FIELDS)
        }),*),*];
    };
}

macro_rules! consts {
    ($list:ident: $($module:ident { $($name:ident),* $(,)? })*) => {
        const $list: &[(&str, &[(&str, i64)])] =
            &[$($((stringify!($name), xen_abi::$module::$name)),*),*];
    };
}

structs! { NATIVE:
    arch_x86 {
        CpuUserRegs, TrapInfo, VcpuGuestContext
    }
    blkif {
        BlkifRequestSegment, BlkifRequest, BlkifRequestDiscard, BlkifRequestIndirect, BlkifResponse,
        BlkifSringHead
    }
    callback {
        CallbackRegister, CallbackUnregister
    }
    console {
        XenconsInterface
    }
    domctl {
        DomctlIrqPermission, DomctlIomemPermission, DomctlIoportPermission, DomctlAssignDevice,
        DomctlGetDeviceGroup, DomctlBindPtIrq, DomctlPtIrqPci, DomctlPtIrqMsi, DomctlMemoryMapping,
        DomctlIoportMapping, DomctlPsrCmtOp, DomctlPsrAlloc, DomctlMonitorOp, DomctlVuartOp,
        ArchDomainconfig, DomctlCreatedomain, DomctlGetdomaininfo, DomctlGetpageframeinfo3,
        DomctlShadowOpStats, DomctlShadowOp, DomctlMaxMem, DomctlMaxVcpus, DomctlNodeaffinity,
        DomctlSchedCredit2, DomctlSchedRtds, DomctlSchedparamVcpu, DomctlSchedparamVcpus,
        DomctlSchedulerOp, DomctlSetdomainhandle, DomctlSetdebugging, DomctlHypercallInit,
        DomctlSettimeoffset, DomctlHvmcontext, DomctlHvmcontextPartial, DomctlAddressSize,
        DomctlSendtrigger, DomctlSetTarget, DomctlCpuPolicy, DomctlSubscribe, DomctlTscInfo,
        DomctlVmEventOp, DomctlMemSharingOp, DomctlAuditP2m, DomctlSetVirqHandler, DomctlSetAccessRequired,
        DomctlSetBrokenPageP2m, DomctlCacheflush, DomctlPagingMempool, DomctlVnuma, Domctl,
        DomctlVcpucontext, DomctlGetvcpuinfo, DomctlVcpuaffinity, DomctlExtVcpucontext, DomctlDebugOp,
        DomctlGdbsxMemio, DomctlGdbsxPauseunpVcpu, DomctlGdbsxDomstatus, DomctlVcpuextstate, DomctlVcpuMsr,
        DomctlVcpuMsrs, DomctlVmtraceOp
    }
    e820 {
        E820Entry
    }
    event_channel {
        EvtchnAllocUnbound, EvtchnBindInterdomain, EvtchnBindVirq, EvtchnBindPirq, EvtchnBindIpi,
        EvtchnClose, EvtchnSend, EvtchnStatus, EvtchnStatusInterdomain, EvtchnBindVcpu, EvtchnUnmask,
        EvtchnReset, EvtchnInitControl, EvtchnExpandArray, EvtchnSetPriority, EvtchnFifoControlBlock
    }
    featureset {
        CpuidLeaf, MsrEntry
    }
    grant_table {
        GrantEntryV1, GrantEntryHeader, GrantEntryV2, GrantEntryV2SubPage, GrantEntryV2Transitive,
        GnttabMapGrantRef, GnttabUnmapGrantRef, GnttabSetupTable, GnttabDumpTable, GnttabTransfer,
        GnttabCopyPtr, GnttabCopy, GnttabQuerySize, GnttabUnmapAndReplace, GnttabSetVersion,
        GnttabGetStatusFrames, GnttabGetVersion, GnttabSwapGrantRef, GnttabCacheFlush
    }
    hvm_op {
        HvmParam, HvmPagetableDying, HvmGetTime, HvmGetMemType, HvmEvtchnUpcallVector, HvmAltp2mOp
    }
    hvm_save {
        HvmSaveDescriptor, HvmSaveHeader, HvmHwCpu, HvmHwVioapic, HvmHwLapic, HvmHwLapicRegs, HvmHwPciIrqs,
        HvmHwIsaIrqs, HvmHwPciLink, HvmHwPmtimer, HvmHwMtrr, HvmHwCpuXsave, HvmVmceVcpu, HvmTscAdjust,
        HvmMsr, HvmOneMsr
    }
    memory {
        MemoryReservation, MemoryExchange, MemoryDomain, MachphysMfnList, MachphysMapping, AddToPhysmap,
        AddToPhysmapBatch, RemoveFromPhysmap, MemoryMap, ForeignMemoryMap, PodTarget, MemAccessOp,
        ReservedDeviceMemory, ReservedDeviceMemoryMap, MemAcquireResource, Vmemrange, VnumaTopologyInfo,
        MemSharingOp
    }
    physdev {
        PhysdevEoi, PhysdevPirqEoiGmfn, PhysdevIrqStatusQuery, PhysdevSetIopl, PhysdevSetIobitmap,
        PhysdevApic, PhysdevIrq, PhysdevMapPirq, PhysdevUnmapPirq, PhysdevManagePci, PhysdevRestoreMsi,
        PhysdevManagePciExt, PhysdevSetupGsi, PhysdevGetFreePirq, PhysdevPciMmcfgReserved,
        PhysdevPciDeviceAdd, PhysdevPciDevice, PhysdevDbgpOp
    }
    platform {
        PlatformOp, XenpfSettime32, XenpfSettime64, XenpfAddMemtype, XenpfDelMemtype, XenpfReadMemtype,
        XenpfMicrocodeUpdate, XenpfPlatformQuirk, XenpfEfiRuntimeCall, XenpfFirmwareInfo,
        XenpfEnterAcpiSleep, XenpfChangeFreq, XenpfGetidletime, XenpfSetProcessorPminfo, XenpfPcpuinfo,
        XenpfPcpuVersion, XenpfCpuOl, XenpfCpuHotadd, XenpfMemHotadd, XenpfCoreParking, XenpfResourceEntry,
        XenpfResourceOp, XenpfSymdata
    }
    sched {
        SchedShutdown, SchedPoll, SchedRemoteShutdown, SchedWatchdog, SchedPinOverride
    }
    start_info {
        HvmStartInfo, HvmModlistEntry, HvmMemmapTableEntry
    }
    sysctl {
        Sysctl, SysctlReadconsole, SysctlTbufOp, SysctlPhysinfo, SysctlSchedId, SysctlPerfcDesc,
        SysctlPerfcOp, SysctlGetdomaininfolist, SysctlDebugKeys, SysctlCpuinfo, SysctlGetcpuinfo,
        SysctlAvailheap, SysctlGetPmstat, SysctlCpuHotplug, SysctlPmOp, SysctlPageOfflineOp,
        SysctlLockprofOp, SysctlCputopo, SysctlCputopoinfo, SysctlMeminfo, SysctlNumainfo, SysctlCpupoolOp,
        SysctlCreditSchedule, SysctlCredit2Schedule, SysctlSchedulerOp, SysctlCoverageOp, SysctlPsrCmtOp,
        SysctlPcitopoinfo, SysctlPsrAlloc, SysctlCpuLevellingCaps, SysctlCpuFeatureset, SysctlLivepatchOp,
        SysctlCpuPolicy
    }
    vcpu {
        VcpuRunstateInfo, VcpuRegisterRunstateMemoryArea, VcpuSetPeriodicTimer, VcpuSetSingleshotTimer,
        VcpuRegisterVcpuInfo, VcpuGetPhysid, VcpuRegisterTimeMemoryArea, VcpuHvmX8632, VcpuHvmX8664,
        VcpuHvmContext
    }
    version {
        CompileInfo, PlatformParameters, FeatureInfo, BuildId
    }
    xen {
        MulticallEntry, VcpuTimeInfo, ArchVcpuInfo, VcpuInfo, ArchSharedInfo, SharedInfo, XenctlBitmap
    }
    xs_wire {
        XsdSockmsg, XenstoreDomainInterface
    }
}

structs! { COMPAT:
    blkif {
        CompatBlkifRequest, CompatBlkifRequestDiscard, CompatBlkifRequestIndirect, CompatBlkifResponse
    }
    compat {
        CompatMulticallEntry, CompatArchVcpuInfo, CompatVcpuInfo, CompatArchSharedInfo, CompatSharedInfo,
        CompatVcpuRunstateInfo, CompatVcpuSetSingleshotTimer, CompatSchedPoll, CompatPlatformParameters,
        CompatMemoryReservation, CompatMemoryExchange, CompatAddToPhysmap, CompatAddToPhysmapBatch,
        CompatRemoveFromPhysmap, CompatMemoryMap, CompatForeignMemoryMap, CompatPodTarget,
        CompatMemAcquireResource, CompatVnumaTopologyInfo, CompatGnttabSetupTable, CompatGnttabTransfer,
        CompatGnttabCopyPtr, CompatGnttabCopy, CompatGnttabGetStatusFrames, CompatPhysdevPirqEoiGmfn,
        CompatPhysdevSetIobitmap, CompatPhysdevApic, CompatPhysdevMapPirq
    }
}

consts! { TABLES:
    arch_x86 {
        VGCF_FLAGS, DEBUG_PORTS
    }
    blkif {
        BLKIF_OPS, BLKIF_RSPS, BLKIF_NUMBERS
    }
    callback {
        CALLBACKOPS, CALLBACKS, XENNMIS
    }
    console {
        CONSOLEIOS
    }
    cpuid {
        XEN_CPUID, XEN_CPUID_MSRS
    }
    domctl {
        DOMCTL_DEVS, PT_IRQ_TYPES, DOMCTL_VMSIS, DOMCTL_MONITOR_OPS, DOMCTL_CDFS, X86_DOMAINCONFIG,
        DOMINFS, DOMINFO_NONE, DOMCTL_PFINFOS, DOMCTL_SHADOW_OPS, DOMCTL_SCHEDULERS, DOMCTL_SENDTRIGGERS,
        DOMCTLS, VCPUAFFINITIES, DOMCTL_DEBUG_OPS, DOMCTL_VMTRACE_OPS
    }
    e820 {
        HVM_E820, E820_TYPES
    }
    elfnote {
        XEN_ELFNOTES
    }
    event_channel {
        EVTCHNOPS, EVTCHN_STATUSES, EVTCHN_LIMITS
    }
    features {
        XENFEATS
    }
    featureset {
        X86_FEATURES, CPUID_NUMBERS
    }
    grant_table {
        GNTTABOPS, GTF_FLAGS, GNTMAP_FLAGS, GNTCOPY_FLAGS, GNTST_STATUSES, GNTTAB_NUMBERS
    }
    hvm_op {
        HVMOPS, HVM_PARAMS, HVM_CALLBACK_TYPES, HVM_PARAM_VALUES, HVMMEM_TYPES
    }
    hvm_save {
        HVM_SAVE_CODES, HVM_SAVE_NUMBERS, HVM_SAVE_SIZES
    }
    hypercall {
        HYPERCALLS, VM_ASSISTS
    }
    memory {
        MEMORY_OPS, XENMEMF_FLAGS, XENMAPSPACES, XENMAPIDX, XENMEM_RESOURCES, XENMEM_RDM
    }
    physdev {
        PHYSDEVOPS, PHYSDEV_FLAGS
    }
    platform {
        XENPFS, XEN_FWS, XEN_EFIS, XENPF_FLAGS
    }
    sched {
        SCHEDOPS, SHUTDOWNS
    }
    start_info {
        HVM_START_INFO, SIF_FLAGS
    }
    sysctl {
        SYSCTLS, PHYSCAPS, TOPOLOGY_NONE, CPUPOOL_OPS, SYSCTL_SCHEDULER, SYSCTL_SUBOPS, SYSCTL_PM,
        SYSCTL_CPU_POLICIES, CPU_LEVELCAPS
    }
    vcpu {
        VCPUOPS, RUNSTATES, RUNSTATE_FLAGS, SSHOTTMR_FLAGS, VCPU_HVM_MODES
    }
    version {
        XENVERS, XENVER_LENGTHS
    }
    xen {
        DOMIDS, VIRQS, PVCLOCK_FLAGS, LIMITS
    }
    xs_wire {
        XSD_SOCKMSG_TYPES, XENSTORE_NUMBERS
    }
    xsm {
        FLASKS
    }
}

/// Constants the public headers do not define, and where they come from.
const NOT_IN_HEADERS: &[(&str, &str)] = &[
    ("E820_", "ACPI specification"),
    ("XENPF_GET_DOM0_CONSOLE", "newer Xen; Linux tries it"),
    ("XEN_HYPERCALL_MSR", "reported at run time in CPUID leaf 0x40000002"),
    ("HVMOP_SET_PCI_INTX_LEVEL", "only for old interface versions"),
    ("HVMOP_SET_ISA_IRQ_LEVEL", "only for old interface versions"),
    ("HVMOP_SET_PCI_LINK_ROUTE", "only for old interface versions"),
];

const PRELUDE: &str = r#"
#include <stdint.h>
#include <stddef.h>
#include <xen/xen.h>
#include <xen/arch-x86/cpuid.h>
#include <xen/arch-x86/cpufeatureset.h>
#include <xen/arch-x86/hvm/start_info.h>
#include <xen/arch-x86/xen-mca.h>
#include <xen/callback.h>
#include <xen/elfnote.h>
#include <xen/errno.h>
#include <xen/event_channel.h>
#include <xen/features.h>
#include <xen/grant_table.h>
#include <xen/hvm/e820.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/hvm_vcpu.h>
#include <xen/hvm/params.h>
#include <xen/hvm/save.h>
#include <xen/io/blkif.h>
#include <xen/io/console.h>
#include <xen/io/xs_wire.h>
#include <xen/memory.h>
#include <xen/nmi.h>
#include <xen/physdev.h>
#include <xen/platform.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/version.h>
#include <xen/xsm/flask_op.h>
#ifdef __XEN_TOOLS__
#include <xen/domctl.h>
#include <xen/sysctl.h>
#endif
"#;

const TOOLS: &[&str] = &["-D__XEN_TOOLS__"];
const GUEST_32: &[&str] = &["-m32"];

/// Runs gcc on `source` from standard input; its output if it succeeds, its complaints if not.
fn gcc(flags: &[&str], source: &str) -> Result<String, String> {
    let mut child = Command::new("gcc")
        .args(["-std=gnu11", "-ffreestanding", "-w", "-D__XEN_INTERFACE_VERSION__=0x00040e00", "-x", "c"])
        .args(flags)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("gcc must be installed");
    let mut stdin = child.stdin.take().expect("piped");
    let source = source.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(source.as_bytes()));
    let output = child.wait_with_output().expect("gcc runs");
    writer.join().expect("no panic").expect("gcc reads its input");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Whether gcc accepts all assertions; panics with the refused ones.
fn assert_c(flags: &[&str], assertions: &str) {
    let flags: Vec<_> = flags.iter().copied().chain(["-fsyntax-only"]).collect();
    if let Err(complaints) = gcc(&flags, &format!("{PRELUDE}{assertions}")) {
        let errors: Vec<_> = complaints.lines().filter(|l| l.contains("error")).collect();
        panic!("the headers of libxen-dev disagree:\n{}", errors.join("\n"));
    }
}

fn layout_assertions(layouts: &[Layout]) -> String {
    let mut c = String::new();
    for (name, c_name, size, fields) in layouts.iter().filter(|(_, c_name, ..)| !c_name.is_empty()) {
        writeln!(c, r#"_Static_assert(sizeof({c_name}) == {size}, "size of {name}");"#).unwrap();
        for CField { c_path, offset, size } in fields.iter().filter(|f| !f.c_path.starts_with('_')) {
            writeln!(
                c,
                r#"_Static_assert(offsetof({c_name}, {c_path}) == {offset}, "offset of {name}.{c_path}");"#
            )
            .unwrap();
            writeln!(
                c,
                r#"_Static_assert(sizeof((({c_name} *)0)->{c_path}) == {size}, "size of {name}.{c_path}");"#
            )
            .unwrap();
        }
    }
    c
}

/// The C expressions a constant must be equal to: every macro of that name, whatever its case, or an enumerator.
fn c_expressions(name: &str, macros: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    if let Some(found) = macros.get(name) {
        return found.iter().cloned().collect();
    }
    if name.starts_with("X86_FEATURE_") {
        return vec![format!("XEN_{name}")];
    }
    if let Some(code) = name.strip_prefix("HVM_SAVE_CODE_") {
        return vec![format!("HVM_SAVE_CODE({code})")];
    }
    if let Some(kind) = name.strip_prefix("HVMMEM_") {
        return vec![format!("HVMMEM_{}", kind.to_lowercase())];
    }
    if name == "XEN_COMMANDLINE_LEN" {
        return vec!["sizeof(xen_commandline_t)".into()];
    }
    vec![name.into()]
}

#[test]
fn structures_are_laid_out_as_in_c() {
    assert_c(TOOLS, &layout_assertions(NATIVE));
}

#[test]
fn structures_of_a_32_bit_caller_are_laid_out_as_in_c() {
    assert_c(GUEST_32, &layout_assertions(COMPAT));
}

#[test]
fn structures_not_in_compat_are_the_same_for_a_32_bit_caller() {
    // Of a union with a pointer (VcpuRegister...) a 32-bit caller writes the low half.
    const SAME: &[&str] = &[
        "Evtchn",
        "GnttabMap",
        "GnttabUnmap",
        "GnttabDump",
        "GnttabQuery",
        "GnttabSetVersion",
        "GnttabGetV",
        "GnttabSwap",
        "GnttabCache",
        "GrantEntry",
        "HvmParam",
        "HvmPagetable",
        "HvmGet",
        "HvmEvtchn",
        "MemoryDomain",
        "SchedShut",
        "SchedRemote",
        "SchedWatch",
        "SchedPin",
        "VcpuSetPeriodic",
        "VcpuRegister",
        "VcpuHvm",
        "VcpuGetPhysid",
        "VcpuTimeInfo",
        "FeatureInfo",
        "CompileInfo",
        "PhysdevEoi",
        "PhysdevIrq",
        "PhysdevUnmap",
        "PhysdevPci",
        "PhysdevSetup",
        "PhysdevManage",
        "HvmStart",
        "HvmModlist",
        "HvmMemmap",
    ];
    let same: Vec<_> =
        NATIVE.iter().filter(|(name, ..)| SAME.iter().any(|s| name.starts_with(s))).copied().collect();
    assert!(same.len() > 50, "a prefix matches nothing any more");
    assert_c(GUEST_32, &layout_assertions(&same));
}

#[test]
fn constants_have_the_values_of_the_headers() {
    let defines = gcc(&["-dM", "-E", TOOLS[0]], PRELUDE).expect("headers of libxen-dev must be installed");
    let mut macros = BTreeMap::<String, BTreeSet<String>>::new();
    for line in defines.lines() {
        let mut words = line.split_whitespace().skip(1);
        // A macro without a value is an include guard, one with parameters is no constant.
        let (Some(name), Some(_)) = (words.next(), words.next()) else { continue };
        if !name.contains('(') && !name.starts_with("_XEN") && !name.starts_with("_GTF") {
            let rust_name = name.trim_start_matches("__").to_uppercase();
            macros.entry(rust_name).or_default().insert(name.to_owned());
        }
    }
    let mut c = String::new();
    for (name, value) in TABLES.iter().flat_map(|(_, table)| *table) {
        if NOT_IN_HEADERS.iter().any(|(prefix, _)| name.starts_with(prefix)) {
            continue;
        }
        for expression in c_expressions(name, &macros) {
            // As unsigned: the least i64 has no literal in C.
            let literal = *value as u64;
            writeln!(c, r#"_Static_assert((uint64_t)({expression}) == {literal}ULL, "value of {name}");"#)
                .unwrap();
        }
    }
    for (name, errno) in ERRNOS.iter().filter(|(name, _)| !["EINTR", "ERESTART"].contains(name)) {
        writeln!(c, r#"_Static_assert(XEN_{name} == {}, "value of {name}");"#, errno.raw()).unwrap();
    }
    assert_c(TOOLS, &c);
}

#[test]
fn a_wrong_layout_is_refused() {
    let assertions = layout_assertions(NATIVE).replacen("== 200,", "== 201,", 1);
    let refused = std::panic::catch_unwind(|| assert_c(TOOLS, &assertions)).unwrap_err();
    let message = refused.downcast_ref::<String>().expect("a formatted message");
    assert!(message.contains("size of CpuUserRegs"), "{message}");
}

#[test]
fn every_structure_and_table_of_the_sources_is_compared() {
    fn sources(dir: &Path, text: &mut String) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, text);
            } else if !path.ends_with("macros.rs") {
                text.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut text = String::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
    let mut declared = BTreeSet::new();
    let mut lines = text.lines().map(str::trim).peekable();
    while let Some(line) = lines.next() {
        if let Some((name, _)) = line.strip_prefix("pub struct ").and_then(|rest| rest.split_once(" = \"")) {
            declared.insert(name.to_owned());
        } else if line.starts_with("c_consts! {") {
            let header = lines.by_ref().find(|l| l.ends_with('{')).expect("a table has a name");
            declared.insert(header.split(':').next().unwrap().to_owned());
        }
    }
    let compared: BTreeSet<String> = NATIVE
        .iter()
        .chain(COMPAT)
        .map(|(name, ..)| (*name).to_owned())
        .chain(TABLES.iter().map(|(name, _)| (*name).to_owned()))
        .collect();
    assert!(declared.len() > 300, "found only {} declarations", declared.len());
    assert_eq!(declared, compared);
}
