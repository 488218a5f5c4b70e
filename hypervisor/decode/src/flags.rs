//! Arithmetic flags of sized integer operations (APM volume 1, 3.1.4).

pub(crate) const CF: u64 = 1 << 0;
pub(crate) const PF: u64 = 1 << 2;
pub(crate) const AF: u64 = 1 << 4;
pub(crate) const ZF: u64 = 1 << 6;
pub(crate) const SF: u64 = 1 << 7;
pub(crate) const DF: u64 = 1 << 10;
pub(crate) const OF: u64 = 1 << 11;
pub(crate) const RF: u64 = 1 << 16;
/// The six status flags.
pub(crate) const STATUS: u64 = CF | PF | AF | ZF | SF | OF;

/// Bits in an operand of `size` bytes.
pub(crate) fn bits(size: u8) -> u32 {
    u32::from(size.clamp(1, 8)).wrapping_mul(8)
}

/// The low `size` bytes.
pub(crate) fn mask(value: u64, size: u8) -> u64 {
    value & (u64::MAX >> (64 - bits(size)))
}

/// The low `size` bytes, sign-extended to 64 bits.
pub(crate) fn sign_extend(value: u64, size: u8) -> u64 {
    let shift = 64 - bits(size);
    (((value << shift) as i64) >> shift) as u64
}

fn sign(value: u64, size: u8) -> bool {
    value >> (bits(size) - 1) & 1 != 0
}

/// SF, ZF and PF of a result.
fn of_result(result: u64, size: u8) -> u64 {
    let mut flags = 0;
    if mask(result, size) == 0 {
        flags |= ZF;
    }
    if sign(result, size) {
        flags |= SF;
    }
    if (result as u8).count_ones().is_multiple_of(2) {
        flags |= PF;
    }
    flags
}

/// `a + b + carry`: the result and its status flags.
pub(crate) fn add(a: u64, b: u64, carry: bool, size: u8) -> (u64, u64) {
    let (a, b) = (mask(a, size), mask(b, size));
    let wide = u128::from(a) + u128::from(b) + u128::from(carry);
    let result = mask(wide as u64, size);
    let mut flags = of_result(result, size);
    if wide >> bits(size) != 0 {
        flags |= CF;
    }
    if sign((a ^ result) & (b ^ result), size) {
        flags |= OF;
    }
    (result, flags | ((a ^ b ^ result) & AF))
}

/// `a - b - borrow`: the result and its status flags.
pub(crate) fn sub(a: u64, b: u64, borrow: bool, size: u8) -> (u64, u64) {
    let (a, b) = (mask(a, size), mask(b, size));
    let result = mask(a.wrapping_sub(b).wrapping_sub(u64::from(borrow)), size);
    let mut flags = of_result(result, size);
    if u128::from(a) < u128::from(b) + u128::from(borrow) {
        flags |= CF;
    }
    if sign((a ^ b) & (a ^ result), size) {
        flags |= OF;
    }
    (result, flags | ((a ^ b ^ result) & AF))
}

/// A bitwise result: CF, OF and AF clear.
pub(crate) fn logic(result: u64, size: u8) -> (u64, u64) {
    let result = mask(result, size);
    (result, of_result(result, size))
}
