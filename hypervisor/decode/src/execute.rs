//! Performs a decoded instruction on registers and on memory given as two functions.

use crate::flags::{self, CF, DF, RF, STATUS, ZF, mask, sign_extend};
use crate::memory::{Alu, BitOp, Extend, MemoryOp, Operand, Operation, Unary};
use crate::regs::{Reg, Regs};

impl MemoryOp {
    /// Performs the instruction, or one iteration of a repeated one, and moves `regs.rip` past it when it is complete.
    ///
    /// `read(size)` and `write(size, value)` access the operand, each at most once, read first; for MOVS, `read` is the source
    /// and `write` the destination. Values are zero-extended.
    pub fn execute(&self, regs: &mut Regs, read: impl FnOnce(u8) -> u64, write: impl FnOnce(u8, u64)) {
        let size = self.size;
        let read = || mask(read(size), size);
        let write = |value| write(size, mask(value, size));
        match self.operation {
            Operation::Load { reg, to, extend } => {
                let value = read();
                regs.set(reg, to, if extend == Extend::Sign { sign_extend(value, size) } else { value });
            }
            Operation::Store(operand) => write(value_of(operand, regs, size)),
            Operation::AluMemory(alu, operand) => {
                let result = compute(alu, read(), value_of(operand, regs, size), size, &mut regs.rflags);
                if alu.writes() {
                    write(result);
                }
            }
            Operation::AluReg(alu, reg) => {
                let result = compute(alu, regs.get(reg, size), read(), size, &mut regs.rflags);
                if alu.writes() {
                    regs.set(reg, size, result);
                }
            }
            Operation::Unary(op) => write(unary(op, read(), size, &mut regs.rflags)),
            Operation::Exchange(reg) => {
                let old = read();
                write(regs.get(reg, size));
                regs.set(reg, size, old);
            }
            Operation::CompareExchange(reg) => {
                let old = read();
                compute(Alu::Cmp, regs.get(Reg::RAX, size), old, size, &mut regs.rflags);
                if regs.rflags & ZF != 0 {
                    write(regs.get(reg, size));
                } else {
                    // Hardware always performs the write.
                    write(old);
                    regs.set(Reg::RAX, size, old);
                }
            }
            Operation::ExchangeAdd(reg) => {
                let old = read();
                write(compute(Alu::Add, old, regs.get(reg, size), size, &mut regs.rflags));
                regs.set(reg, size, old);
            }
            Operation::Bit(op, operand) => {
                let bit = value_of(operand, regs, size) & u64::from(flags::bits(size) - 1);
                let (old, selected) = (read(), 1u64 << bit);
                regs.rflags = (regs.rflags & !CF) | if old & selected != 0 { CF } else { 0 };
                match op {
                    BitOp::Test => {}
                    BitOp::Set => write(old | selected),
                    BitOp::Reset => write(old & !selected),
                    BitOp::Complement => write(old ^ selected),
                }
            }
            Operation::Movs { repeat } => {
                return self.iterate(regs, repeat, &[Reg::RSI, Reg::RDI], |_| write(read()));
            }
            Operation::Stos { repeat } => {
                return self.iterate(regs, repeat, &[Reg::RDI], |regs| write(regs.get(Reg::RAX, size)));
            }
            Operation::Lods { repeat } => {
                return self.iterate(regs, repeat, &[Reg::RSI], |regs| regs.set(Reg::RAX, size, read()));
            }
        }
        self.finish(regs);
    }

    /// One iteration of a string instruction: `step`, then the pointers advance and the count drops.
    fn iterate(&self, regs: &mut Regs, repeat: bool, pointers: &[Reg], step: impl FnOnce(&mut Regs)) {
        let width = self.address.width.bytes();
        if repeat && regs.get(Reg::RCX, width) == 0 {
            return self.finish(regs);
        }
        step(regs);
        let stride = u64::from(self.size);
        let stride = if regs.rflags & DF != 0 { stride.wrapping_neg() } else { stride };
        for &pointer in pointers {
            regs.set(pointer, width, regs.get(pointer, width).wrapping_add(stride));
        }
        if repeat {
            let left = regs.get(Reg::RCX, width).wrapping_sub(1);
            regs.set(Reg::RCX, width, left);
            if left != 0 {
                return;
            }
        }
        self.finish(regs);
    }

    fn finish(&self, regs: &mut Regs) {
        regs.rip = regs.rip.wrapping_add(u64::from(self.length)) & self.mode.rip_mask();
        regs.rflags &= !RF;
    }
}

fn value_of(operand: Operand, regs: &Regs, size: u8) -> u64 {
    match operand {
        Operand::Reg(reg) => regs.get(reg, size),
        Operand::Imm(value) => mask(value, size),
    }
}

fn compute(alu: Alu, a: u64, b: u64, size: u8, rflags: &mut u64) -> u64 {
    let carry = *rflags & CF != 0;
    let (result, status) = match alu {
        Alu::Add => flags::add(a, b, false, size),
        Alu::Adc => flags::add(a, b, carry, size),
        Alu::Sub | Alu::Cmp => flags::sub(a, b, false, size),
        Alu::Sbb => flags::sub(a, b, carry, size),
        Alu::And | Alu::Test => flags::logic(a & b, size),
        Alu::Or => flags::logic(a | b, size),
        Alu::Xor => flags::logic(a ^ b, size),
    };
    *rflags = (*rflags & !STATUS) | status;
    result
}

fn unary(op: Unary, a: u64, size: u8, rflags: &mut u64) -> u64 {
    let (result, status, changed) = match op {
        Unary::Not => return mask(!a, size),
        Unary::Neg => {
            let (result, status) = flags::sub(0, a, false, size);
            (result, status, STATUS)
        }
        // INC and DEC keep CF.
        Unary::Inc => {
            let (result, status) = flags::add(a, 1, false, size);
            (result, status, STATUS & !CF)
        }
        Unary::Dec => {
            let (result, status) = flags::sub(a, 1, false, size);
            (result, status, STATUS & !CF)
        }
    };
    *rflags = (*rflags & !changed) | (status & changed);
    result
}

#[cfg(test)]
#[path = "execute_tests.rs"]
mod tests;
