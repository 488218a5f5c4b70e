extern crate std;
use proptest::prelude::*;

use crate::*;

const RAX: usize = 0;
const RCX: usize = 1;
const RSI: usize = 6;
const RDI: usize = 7;
const CF: u64 = 1;
const ZF: u64 = 0x40;
const DF: u64 = 0x400;

/// Executes `bytes` on memory that reads `memory`; returns what was written.
fn run(bytes: &[u8], mode: Mode, regs: &mut Regs, memory: u64) -> Option<u64> {
    let op = decode_memory_access(bytes, mode).unwrap();
    let mut written = None;
    op.execute(regs, |_| memory, |_, value| written = Some(value));
    written
}

#[test]
fn partial_registers() {
    let all = 0x1122_3344_5566_7788;
    let cases: &[(&[u8], u64)] = &[
        (&[0x8b, 0x07], 0x89ab_cdef),                       // mov eax, [rdi]
        (&[0x48, 0x8b, 0x07], 0xf123_4567_89ab_cdef),       // mov rax, [rdi]
        (&[0x66, 0x8b, 0x07], 0x1122_3344_5566_cdef),       // mov ax, [rdi]
        (&[0x8a, 0x07], 0x1122_3344_5566_77ef),             // mov al, [rdi]
        (&[0x8a, 0x27], 0x1122_3344_5566_ef88),             // mov ah, [rdi]
        (&[0x0f, 0xb6, 0x07], 0xef),                        // movzx eax, byte [rdi]
        (&[0x0f, 0xbe, 0x07], 0xffff_ffef),                 // movsx eax, byte [rdi]
        (&[0x48, 0x0f, 0xbf, 0x07], 0xffff_ffff_ffff_cdef), // movsx rax, word [rdi]
        (&[0x48, 0x63, 0x07], 0xffff_ffff_89ab_cdef),       // movsxd rax, dword [rdi]
        (&[0x66, 0x0f, 0xbe, 0x07], 0x1122_3344_5566_ffef), // movsx ax, byte [rdi]
    ];
    for &(bytes, expected) in cases {
        let mut regs = Regs { rip: 0x100, ..Regs::default() };
        regs.gpr[RAX] = all;
        assert_eq!(run(bytes, Mode::Bits64, &mut regs, 0xf123_4567_89ab_cdef), None);
        assert_eq!(regs.gpr[RAX], expected, "{bytes:x?}");
        assert_eq!(regs.rip, 0x100 + bytes.len() as u64);
    }
}

#[test]
fn stores() {
    let mut regs = Regs::default();
    regs.gpr[RAX] = 0x1122_3344_5566_7788;
    let mode = Mode::Bits64;
    assert_eq!(run(&[0x89, 0x07], mode, &mut regs, 0), Some(0x5566_7788));
    assert_eq!(run(&[0x88, 0x27], mode, &mut regs, 0), Some(0x77));
    assert_eq!(run(&[0x48, 0xc7, 0x07, 0xff, 0xff, 0xff, 0xff], mode, &mut regs, 0), Some(u64::MAX));
    assert_eq!(run(&[0xc7, 0x07, 0xff, 0xff, 0xff, 0xff], mode, &mut regs, 0), Some(0xffff_ffff));
    assert_eq!(run(&[0x81, 0x0f, 0, 0, 1, 0], mode, &mut regs, 0x80), Some(0x1_0080)); // or dword [rdi], imm
}

#[test]
fn exchanges() {
    let mode = Mode::Bits64;
    let mut regs = Regs::default();
    regs.gpr[RCX] = 5;
    assert_eq!(run(&[0x87, 0x0f], mode, &mut regs, 9), Some(5));
    assert_eq!(regs.gpr[RCX], 9);
    regs.gpr[RAX] = 7;
    assert_eq!(run(&[0xf0, 0x0f, 0xb1, 0x0f], mode, &mut regs, 7), Some(9));
    assert_eq!((regs.rflags & ZF, regs.gpr[RAX]), (ZF, 7));
    assert_eq!(run(&[0xf0, 0x0f, 0xb1, 0x0f], mode, &mut regs, 3), Some(3));
    assert_eq!((regs.rflags & ZF, regs.gpr[RAX]), (0, 3));
    assert_eq!(run(&[0x0f, 0xc1, 0x0f], mode, &mut regs, 100), Some(109));
    assert_eq!(regs.gpr[RCX], 100);
}

#[test]
fn string_steps() {
    let mut regs = Regs { rip: 0x40, ..Regs::default() };
    regs.gpr[RAX] = 0xabcd_ef01;
    regs.gpr[RCX] = 2;
    regs.gpr[RDI] = 0x1000;
    let stosd = [0xf3, 0xab];
    assert_eq!(run(&stosd, Mode::Bits64, &mut regs, 0), Some(0xabcd_ef01));
    assert_eq!((regs.gpr[RCX], regs.gpr[RDI], regs.rip), (1, 0x1004, 0x40));
    run(&stosd, Mode::Bits64, &mut regs, 0);
    assert_eq!((regs.gpr[RCX], regs.gpr[RDI], regs.rip), (0, 0x1008, 0x42));
    regs.rip = 0x40;
    assert_eq!(run(&stosd, Mode::Bits64, &mut regs, 0), None);
    assert_eq!((regs.gpr[RDI], regs.rip), (0x1008, 0x42));

    regs.rflags = DF;
    regs.gpr[RSI] = 0x2000;
    assert_eq!(run(&[0x66, 0xa5], Mode::Bits64, &mut regs, 0x55), Some(0x55));
    assert_eq!((regs.gpr[RSI], regs.gpr[RDI]), (0x1ffe, 0x1006));

    // 16-bit addresses wrap and keep the upper bits.
    regs.rflags = 0;
    regs.gpr[RDI] = 0x7_ffff;
    run(&[0xaa], Mode::Bits16, &mut regs, 0);
    assert_eq!(regs.gpr[RDI], 0x7_0000);
}

#[test]
fn rip_wraps_with_the_mode() {
    let mut regs = Regs { rip: 0xffff, ..Regs::default() };
    run(&[0x88, 0x07], Mode::Bits16, &mut regs, 0);
    assert_eq!(regs.rip, 1);
}

/// Flags from the definition, on wide signed and unsigned integers.
fn model(alu: u8, a: u64, b: u64, carry: bool, size: u8) -> (u64, u64) {
    let bits = 8 * u32::from(size);
    let cut = |v: u64| v & (u64::MAX >> (64 - bits));
    let signed = |v: u64| i128::from(((v << (64 - bits)) as i64) >> (64 - bits));
    let (a, b) = (cut(a), cut(b));
    let c = i128::from(carry && (alu == 2 || alu == 3));
    let (exact_unsigned, exact_signed, nibble) = match alu {
        0 | 2 => (
            i128::from(a) + i128::from(b) + c,
            signed(a) + signed(b) + c,
            (a & 15) as i128 + (b & 15) as i128 + c,
        ),
        3 | 5 | 7 => (
            i128::from(a) - i128::from(b) - c,
            signed(a) - signed(b) - c,
            (a & 15) as i128 - (b & 15) as i128 - c,
        ),
        1 => (i128::from(a | b), signed(a | b), 0),
        4 => (i128::from(a & b), signed(a & b), 0),
        _ => (i128::from(a ^ b), signed(a ^ b), 0),
    };
    let result = cut(exact_unsigned as u64);
    let mut flags = 0;
    if exact_unsigned != i128::from(result) {
        flags |= 1;
    }
    if (result as u8).count_ones().is_multiple_of(2) {
        flags |= 4;
    }
    if !(0..16).contains(&nibble) {
        flags |= 0x10;
    }
    if result == 0 {
        flags |= 0x40;
    }
    if signed(result) < 0 {
        flags |= 0x80;
    }
    if signed(result) != exact_signed {
        flags |= 0x800;
    }
    (result, flags)
}

fn interesting() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        prop::sample::select(
            &[0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0x8000_0000, u64::MAX, 1 << 63][..]
        ),
    ]
}

proptest! {
    #[test]
    fn alu_agrees_with_the_definition(
        alu in 0u8..8, size_log in 0u32..4, a in interesting(), b in interesting(), carry: bool, to_memory: bool,
    ) {
        let size = 1u8 << size_log;
        let mut bytes = std::vec::Vec::new();
        match size {
            2 => bytes.push(0x66),
            8 => bytes.push(0x48),
            _ => {}
        }
        // op [rdi], ecx or op ecx, [rdi]
        bytes.push(alu << 3 | u8::from(size > 1) | if to_memory { 0 } else { 2 });
        bytes.push(0x0f);
        let mut regs = Regs { rflags: 0x202 | u64::from(carry), ..Regs::default() };
        regs.gpr[RCX] = if to_memory { b } else { a };
        let before = regs;
        let written = run(&bytes, Mode::Bits64, &mut regs, if to_memory { a } else { b });
        let (result, flags) = model(alu, a, b, carry, size);
        prop_assert_eq!(regs.rflags, 0x202 | flags);
        if to_memory {
            prop_assert_eq!(written, (alu != 7).then_some(result));
            prop_assert_eq!(regs.gpr, before.gpr);
        } else {
            prop_assert_eq!(written, None);
            let mut expected = before;
            if alu != 7 {
                expected.set(Reg::new(1), size, result);
            }
            prop_assert_eq!(regs.gpr, expected.gpr);
        }
    }

    #[test]
    fn unary_and_bits(value: u64, bit in 0u8..32, carry: bool) {
        let mode = Mode::Bits64;
        let value = value & 0xffff_ffff;
        let mut regs = Regs { rflags: u64::from(carry), ..Regs::default() };
        let inc = model(0, value, 1, false, 4);
        prop_assert_eq!(run(&[0xff, 0x07], mode, &mut regs, value), Some(inc.0));
        prop_assert_eq!(regs.rflags, (inc.1 & !CF) | u64::from(carry));
        let dec = model(5, value, 1, false, 4);
        prop_assert_eq!(run(&[0xff, 0x0f], mode, &mut regs, value), Some(dec.0));
        prop_assert_eq!(regs.rflags, (dec.1 & !CF) | u64::from(carry));
        let flags = regs.rflags;
        prop_assert_eq!(run(&[0xf7, 0x17], mode, &mut regs, value), Some(value ^ 0xffff_ffff));
        prop_assert_eq!(regs.rflags, flags);
        let neg = model(5, 0, value, false, 4);
        prop_assert_eq!(run(&[0xf7, 0x1f], mode, &mut regs, value), Some(neg.0));
        prop_assert_eq!(regs.rflags, neg.1);
        for (modrm, expected) in [
            (0x27, None),
            (0x2f, Some(value | 1 << bit)),
            (0x37, Some(value & !(1 << bit))),
            (0x3f, Some(value ^ 1 << bit)),
        ] {
            prop_assert_eq!(run(&[0x0f, 0xba, modrm, bit | 0x40], mode, &mut regs, value), expected);
            prop_assert_eq!(regs.rflags & CF, value >> bit & 1);
        }
    }
}
