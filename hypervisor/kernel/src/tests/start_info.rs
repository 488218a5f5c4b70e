use radon_addr::Gpa;

use crate::dom0_memory::{MemType, Region};
use crate::start_info::{Module, SIF_INITDOMAIN, SIF_PRIVILEGED, StartInfo, StartInfoParams};

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(b[at..at + 4].try_into().unwrap())
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(b[at..at + 8].try_into().unwrap())
}

#[test]
fn layout_is_start_info_h() {
    let at = 0x1234_5000u64;
    let modules = [
        Module { gpa: Gpa::new(0x700_0000), len: 0x1234, cmdline: b"" },
        Module { gpa: Gpa::new(0x800_0000), len: 1, cmdline: b"second" },
    ];
    let memmap = [
        Region { start: 0, end: 0x9f000, kind: MemType::Ram },
        Region { start: 0xf0000, end: 0x10_0000, kind: MemType::Unusable },
    ];
    let p = StartInfoParams {
        flags: SIF_PRIVILEGED | SIF_INITDOMAIN,
        cmdline: b"console=hvc0 root=/dev/vda",
        modules: &modules,
        memmap: &memmap,
        rsdp: Some(Gpa::new(0xabc0)),
    };
    let b = StartInfo::build(&p, Gpa::new(at));
    assert_eq!(b.len(), StartInfo::len(&p));
    assert_eq!([u32_at(&b, 0), u32_at(&b, 4), u32_at(&b, 8), u32_at(&b, 12)], [0x336e_c578, 1, 3, 2]);
    let offset = |gpa: u64| (gpa - at) as usize;
    let text = |gpa: u64| {
        let s = &b[offset(gpa)..];
        &s[..s.iter().position(|&c| c == 0).unwrap()]
    };
    assert_eq!(text(u64_at(&b, 24)), b"console=hvc0 root=/dev/vda");
    assert_eq!(u64_at(&b, 32), 0xabc0);
    assert_eq!((u32_at(&b, 48), u32_at(&b, 52)), (2, 0));
    let m = offset(u64_at(&b, 16));
    assert_eq!([u64_at(&b, m), u64_at(&b, m + 8), u64_at(&b, m + 16)], [0x700_0000, 0x1234, 0]);
    assert_eq!([u64_at(&b, m + 32), u64_at(&b, m + 40)], [0x800_0000, 1]);
    assert_eq!(text(u64_at(&b, m + 48)), b"second");
    let e = offset(u64_at(&b, 40));
    assert_eq!([u64_at(&b, e), u64_at(&b, e + 8), u64_at(&b, e + 16)], [0, 0x9f000, 1]);
    assert_eq!([u64_at(&b, e + 24), u64_at(&b, e + 32), u64_at(&b, e + 40)], [0xf0000, 0x10000, 5]);
}

#[test]
fn absent_parts_have_no_address() {
    let p = StartInfoParams::default();
    let b = StartInfo::build(&p, Gpa::new(0x1000));
    assert_eq!(b.len(), 56);
    assert_eq!(StartInfo::len(&p), 56);
    assert!(b[8..].iter().all(|&x| x == 0));
    // An embedded zero ends the command line.
    let p = StartInfoParams { cmdline: b"ab\0cd", ..p };
    let b = StartInfo::build(&p, Gpa::new(0x1000));
    assert_eq!((&b[56..], b.len()), (&b"ab\0"[..], StartInfo::len(&p)));
}
