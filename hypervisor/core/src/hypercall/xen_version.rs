//! `HYPERVISOR_xen_version` (17): what the hypervisor says of itself.
//!
//! The tools are built for one version; ours is theirs: 4.17.

use xen_abi::Errno;
use xen_abi::compat::CompatPlatformParameters;
use xen_abi::features as f;
use xen_abi::version::{self as v, CompileInfo, FeatureInfo, PlatformParameters};

use super::{Answer, Caller, OK, Reply, Width};
use crate::machine;

/// Major and minor version of the ABI served.
pub const VERSION: (u32, u32) = (4, 17);
/// What follows it: `xl info` shows "4.17-radon".
const EXTRA: &str = "-radon";
/// Guest kinds that can run.
const CAPABILITIES: &str = "hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ";
/// Hole in which a PV guest would find the hypervisor (`HYPERVISOR_VIRT_START`).
const VIRT_START: u64 = 0xffff_8000_0000_0000;

/// `args`: sub-operation, pointer.
pub fn call(caller: &mut Caller<'_>, args: [u64; 6]) -> Reply {
    let [op, arg, ..] = args;
    match op as u32 {
        v::XENVER_VERSION => Ok(Answer::Done(i64::from(VERSION.0 << 16 | VERSION.1))),
        v::XENVER_EXTRAVERSION => text::<{ v::XEN_EXTRAVERSION_LEN }>(caller, arg, EXTRA),
        v::XENVER_CAPABILITIES => text::<{ v::XEN_CAPABILITIES_INFO_LEN }>(caller, arg, CAPABILITIES),
        v::XENVER_CHANGESET => text::<{ v::XEN_CHANGESET_INFO_LEN }>(caller, arg, env!("CARGO_PKG_VERSION")),
        v::XENVER_COMMANDLINE => {
            let line = if caller.domain.privileged() { machine::command_line() } else { "<denied>" };
            text::<{ v::XEN_COMMANDLINE_LEN }>(caller, arg, line)
        }
        v::XENVER_COMPILE_INFO => {
            let info = CompileInfo {
                compiler: padded("rustc, stable"),
                compile_by: padded("radon"),
                compile_domain: padded("radon"),
                compile_date: padded(""),
            };
            caller.write(arg, &info)?;
            OK
        }
        v::XENVER_PLATFORM_PARAMETERS => {
            match caller.width {
                Width::Long => caller.write(arg, &PlatformParameters { virt_start: VIRT_START })?,
                // Only 32-bit PV domains have such a hole.
                Width::Compat => caller.write(arg, &CompatPlatformParameters { virt_start: 0 })?,
            }
            OK
        }
        v::XENVER_GET_FEATURES => features(caller, arg),
        v::XENVER_PAGESIZE => Ok(Answer::Done(radon_addr::PAGE_SIZE as i64)),
        v::XENVER_GUEST_HANDLE => {
            let handle = *caller.domain.handle.lock();
            caller.write(arg, &handle)?;
            OK
        }
        // No build id is linked in.
        v::XENVER_BUILD_ID => Err(Errno::ENODATA),
        _ => Err(Errno::ENOSYS),
    }
}

fn features(caller: &Caller<'_>, arg: u64) -> Reply {
    let mut info: FeatureInfo = caller.read(arg)?;
    let bit = |n: u32| 1u32 << n;
    info.submap = match info.submap_idx {
        0 => {
            let hardware = if caller.domain.privileged() {
                bit(f::XENFEAT_DOM0) | bit(f::XENFEAT_DIRECT_MAPPED)
            } else {
                bit(f::XENFEAT_NOT_DIRECT_MAPPED)
            };
            bit(f::XENFEAT_WRITABLE_PAGE_TABLES)
                | bit(f::XENFEAT_WRITABLE_DESCRIPTOR_TABLES)
                | bit(f::XENFEAT_AUTO_TRANSLATED_PHYSMAP)
                | bit(f::XENFEAT_SUPERVISOR_MODE_KERNEL)
                | bit(f::XENFEAT_PAE_PGDIR_ABOVE_4GB)
                | bit(f::XENFEAT_HVM_CALLBACK_VECTOR)
                | bit(f::XENFEAT_HVM_SAFE_PVCLOCK)
                | bit(f::XENFEAT_MEMORY_OP_VNODE_SUPPORTED)
                | bit(f::XENFEAT_LINUX_RSDP_UNRESTRICTED)
                | hardware
        }
        _ => return Err(Errno::EINVAL),
    };
    caller.write(arg, &info)?;
    OK
}

fn padded<const N: usize>(s: &str) -> [u8; N] {
    let mut out = [0; N];
    for (o, b) in out.iter_mut().take(N.saturating_sub(1)).zip(s.bytes()) {
        *o = b;
    }
    out
}

fn text<const N: usize>(caller: &Caller<'_>, arg: u64, s: &str) -> Reply {
    caller.copy_out(arg, &padded::<N>(s))?;
    OK
}
