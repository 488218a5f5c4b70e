extern crate std;
use std::vec::Vec;

use iced_x86::{
    Decoder as Oracle, DecoderOptions, Instruction, InstructionInfoFactory, OpAccess, OpKind, Register,
};
use proptest::prelude::*;

use super::*;

fn oracle(bytes: &[u8], mode: Mode, rip: u64) -> Instruction {
    let bitness = match mode {
        Mode::Bits16 => 16,
        Mode::Bits32 => 32,
        Mode::Bits64 => 64,
    };
    Oracle::with_ip(bitness, bytes, rip, DecoderOptions::AMD).decode()
}

fn register_value(regs: &Regs, bases: &SegmentBases, mode: Mode, register: Register) -> u64 {
    let flat = mode == Mode::Bits64;
    match register {
        Register::ES => {
            if flat {
                0
            } else {
                bases.es
            }
        }
        Register::CS => {
            if flat {
                0
            } else {
                bases.cs
            }
        }
        Register::SS => {
            if flat {
                0
            } else {
                bases.ss
            }
        }
        Register::DS => {
            if flat {
                0
            } else {
                bases.ds
            }
        }
        Register::FS => bases.fs,
        Register::GS => bases.gs,
        _ => regs.get(Reg::new(register.full_register().number() as u8), register.size() as u8),
    }
}

fn modes() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Bits16), Just(Mode::Bits32), Just(Mode::Bits64)]
}

fn likely() -> impl Strategy<Value = Vec<u8>> {
    let prefix = prop_oneof![
        3 => prop::sample::select(&[0x66u8, 0x67, 0xf2, 0xf3, 0x2e, 0x36, 0x64, 0x65, 0xf0][..]),
        3 => 0x40u8..0x50,
    ];
    let opcode = prop_oneof![
        3 => any::<u8>().prop_map(|b| std::vec![b]),
        2 => any::<u8>().prop_map(|b| std::vec![0x0f, b]),
        2 => prop::sample::select(&[0x80u8, 0x81, 0x82, 0x83, 0x88, 0x89, 0x8a, 0x8b, 0xc6, 0xc7, 0xf6, 0xf7, 0xfe, 0xff][..])
            .prop_map(|b| std::vec![b]),
        1 => prop::sample::select(&[0xb6u8, 0xb7, 0xbe, 0xbf, 0xa3, 0xab, 0xba, 0xb1, 0xc1, 0xc3][..])
            .prop_map(|b| std::vec![0x0f, b]),
    ];
    (prop::collection::vec(prefix, 0..4), opcode, prop::collection::vec(any::<u8>(), 0..12)).prop_map(
        |(mut bytes, opcode, tail)| {
            bytes.extend(opcode);
            bytes.extend(tail);
            bytes
        },
    )
}

fn registers() -> impl Strategy<Value = (Regs, SegmentBases)> {
    (any::<[u64; 16]>(), 0u64..0x8000, any::<[u32; 6]>()).prop_map(|(gpr, rip, bases)| {
        let [es, cs, ss, ds, fs, gs] = bases.map(u64::from);
        (Regs { gpr, rip, rflags: 2 }, SegmentBases { es, cs, ss, ds, fs, gs })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12_000))]

    #[test]
    fn accepted_instructions_are_the_oracles(
        bytes in likely(), mode in modes(), (regs, bases) in registers(),
    ) {
        let instruction = oracle(&bytes, mode, regs.rip);
        let Ok(op) = decode_memory_access(&bytes, mode) else { return Ok(()) };
        prop_assert!(!instruction.is_invalid(), "{bytes:x?} {op:?}");
        prop_assert_eq!(usize::from(op.length), instruction.len(), "{:x?}", bytes);
        prop_assert_eq!(usize::from(op.size), instruction.memory_size().size(), "{:x?} {:?}", bytes, op);

        let mut factory = InstructionInfoFactory::new();
        let info = factory.info(&instruction);
        let accesses = info.used_memory();
        let conditional = |access| matches!(access, OpAccess::CondRead | OpAccess::CondWrite);
        let reads = |access| matches!(access,
            OpAccess::Read | OpAccess::ReadWrite | OpAccess::ReadCondWrite | OpAccess::CondRead);
        let writes = |access| matches!(access,
            OpAccess::Write | OpAccess::ReadWrite | OpAccess::ReadCondWrite | OpAccess::CondWrite);
        prop_assert_eq!(op.reads(), accesses.iter().any(|m| reads(m.access())), "{:x?}", bytes);
        prop_assert_eq!(op.writes(), accesses.iter().any(|m| writes(m.access())), "{:x?}", bytes);
        let repeats = matches!(op.operation,
            Operation::Movs { repeat: true } | Operation::Stos { repeat: true } | Operation::Lods { repeat: true });
        prop_assert_eq!(repeats, accesses.iter().any(|m| conditional(m.access())), "{:x?}", bytes);

        // Every memory operand's address; MOVS lists its destination first.
        let mut expected = Vec::new();
        for operand in 0..instruction.op_count() {
            let kind = instruction.op_kind(operand);
            if kind == OpKind::Register || (OpKind::Immediate8..=OpKind::Immediate32to64).contains(&kind) {
                continue;
            }
            let address = instruction.virtual_address(operand, 0, |register, _, _| {
                Some(register_value(&regs, &bases, mode, register))
            });
            let mask = if mode == Mode::Bits64 { u64::MAX } else { 0xffff_ffff };
            expected.push(address.unwrap() & mask);
        }
        let linear = op.linear(&regs, &bases);
        match op.operation {
            Operation::Movs { .. } =>
                prop_assert_eq!(&expected, &[op.linear_destination(&regs, &bases), linear], "{:x?}", bytes),
            // The oracle leaves the bit offset to the reader.
            Operation::Bit(_, Operand::Reg(_)) => {}
            _ => prop_assert_eq!(&expected, &[linear], "{:x?} {:?}", bytes, op),
        }
        check_operands(&op, &instruction)?;
    }

    #[test]
    fn any_bytes_are_safe(bytes in prop::collection::vec(any::<u8>(), 0..20), mode in modes()) {
        if let Ok(op) = decode_memory_access(&bytes, mode) {
            prop_assert!(usize::from(op.length) <= bytes.len().min(15));
            let short = &bytes[..usize::from(op.length) - 1];
            prop_assert_eq!(decode_memory_access(short, mode), Err(Error::Truncated));
        }
    }
}

/// The operand that is not memory, and the operation's mnemonic.
fn check_operands(op: &MemoryOp, instruction: &Instruction) -> Result<(), TestCaseError> {
    let reg_is = |reg: Reg, size: u8, operand: u32| {
        let theirs = instruction.op_register(operand);
        let high = matches!(theirs, Register::AH | Register::BH | Register::CH | Register::DH);
        prop_assert_eq!(reg.is_high_byte(), high, "{:?} {}", op, instruction.code() as u32);
        prop_assert_eq!(usize::from(reg.number()), theirs.full_register().number());
        prop_assert_eq!(usize::from(size), theirs.size());
        Ok(())
    };
    let operand_is = |operand: Operand, index: u32| match operand {
        Operand::Reg(reg) => reg_is(reg, op.size, index),
        Operand::Imm(value) => {
            let theirs = instruction.immediate(index);
            prop_assert_eq!(crate::flags::mask(value, op.size), crate::flags::mask(theirs, op.size));
            Ok(())
        }
    };
    use iced_x86::Mnemonic as M;
    let alu = |alu| match alu {
        Alu::Add => M::Add,
        Alu::Or => M::Or,
        Alu::Adc => M::Adc,
        Alu::Sbb => M::Sbb,
        Alu::And => M::And,
        Alu::Sub => M::Sub,
        Alu::Xor => M::Xor,
        Alu::Cmp => M::Cmp,
        Alu::Test => M::Test,
    };
    let mnemonics: &[M] = match op.operation {
        Operation::Load { reg, to, extend } => {
            reg_is(reg, to, 0)?;
            match (extend, to == op.size) {
                (Extend::Sign, _) => &[M::Movsx, M::Movsxd],
                (Extend::Zero, true) => &[M::Mov, M::Movzx],
                (Extend::Zero, false) => &[M::Movzx],
            }
        }
        Operation::Store(operand) => {
            operand_is(operand, 1)?;
            &[M::Mov, M::Movnti]
        }
        Operation::AluMemory(op, operand) => {
            operand_is(operand, 1)?;
            &[alu(op)]
        }
        Operation::AluReg(kind, reg) => {
            reg_is(reg, op.size, 0)?;
            &[alu(kind)]
        }
        Operation::Unary(Unary::Inc) => &[M::Inc],
        Operation::Unary(Unary::Dec) => &[M::Dec],
        Operation::Unary(Unary::Not) => &[M::Not],
        Operation::Unary(Unary::Neg) => &[M::Neg],
        Operation::Exchange(reg) => {
            reg_is(reg, op.size, 1)?;
            &[M::Xchg]
        }
        Operation::CompareExchange(reg) => {
            reg_is(reg, op.size, 1)?;
            &[M::Cmpxchg]
        }
        Operation::ExchangeAdd(reg) => {
            reg_is(reg, op.size, 1)?;
            &[M::Xadd]
        }
        Operation::Bit(kind, operand) => {
            operand_is(operand, 1)?;
            match kind {
                BitOp::Test => &[M::Bt],
                BitOp::Set => &[M::Bts],
                BitOp::Reset => &[M::Btr],
                BitOp::Complement => &[M::Btc],
            }
        }
        Operation::Movs { .. } => &[M::Movsb, M::Movsw, M::Movsd, M::Movsq],
        Operation::Stos { .. } => &[M::Stosb, M::Stosw, M::Stosd, M::Stosq],
        Operation::Lods { .. } => &[M::Lodsb, M::Lodsw, M::Lodsd, M::Lodsq],
    };
    prop_assert!(mnemonics.contains(&instruction.mnemonic()), "{:?} {:?}", op, instruction.mnemonic());
    Ok(())
}

#[test]
fn refusals() {
    let mode = Mode::Bits64;
    assert_eq!(decode_memory_access(&[0x89, 0xc0], mode), Err(Error::NotMemory));
    assert_eq!(decode_memory_access(&[0xf0, 0x89, 0x00], mode), Err(Error::Unsupported));
    assert_eq!(decode_memory_access(&[0x0f, 0x6f, 0x00], mode), Err(Error::Unsupported));
    assert_eq!(decode_memory_access(&[0x66; 20], mode), Err(Error::TooLong));
    assert_eq!(decode_memory_access(&[], mode), Err(Error::Truncated));
    assert!(decode_memory_access(&[0xf0, 0x09, 0x00], mode).is_ok());
}

#[test]
fn bit_offsets_reach_outside_the_word() {
    // bt dword [rax], ecx
    let op = decode_memory_access(&[0x0f, 0xa3, 0x08], Mode::Bits64).unwrap();
    let mut regs = Regs::default();
    regs.gpr[0] = 0x1000;
    for (bit, address) in
        [(0u64, 0x1000), (31, 0x1000), (32, 0x1004), (0xffff_ffff, 0xffc), (0xffff_ffe0, 0xffc)]
    {
        regs.gpr[1] = bit;
        assert_eq!(op.linear(&regs, &SegmentBases::default()), address, "{bit:#x}");
    }
}
