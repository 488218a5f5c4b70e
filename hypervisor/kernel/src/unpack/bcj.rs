//! The x86 branch filter: turns the absolute targets of CALL and JMP back into relative ones.
//!
//! The rule when two opcode bytes lie within four bytes of each other follows the public-domain XZ Embedded.

/// Top byte of a plausible displacement.
fn plausible(b: u8) -> bool {
    b == 0 || b == 0xff
}

/// First position from `at` on, before `end`, that holds 0xe8 or 0xe9.
fn next_branch(b: &[u8], mut at: usize, end: usize) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // Eight bytes at a time: a byte of `x` is zero where the opcode is e8 or e9. The lowest flagged byte is exact.
    while let Some(w) = b.get(at..).and_then(|s| s.first_chunk::<8>()) {
        let x = (u64::from_le_bytes(*w) & !ONES) ^ (0xe8 * ONES);
        let zero = x.wrapping_sub(ONES) & !x & HIGHS;
        if zero != 0 {
            let i = at.checked_add(zero.trailing_zeros() as usize / 8)?;
            return (i < end).then_some(i);
        }
        at = at.checked_add(8)?;
    }
    let i = at.checked_add(b.get(at..end)?.iter().position(|x| x & 0xfe == 0xe8)?)?;
    Some(i)
}

/// Decodes in place a buffer whose first byte had position 0 in the encoder.
pub fn x86_decode(b: &mut [u8]) {
    // By `mask` (which of the three bytes before looked like an opcode): is a conversion allowed here, and how many
    // low bytes of the operand may the earlier conversion have touched?
    const ALLOWED: [bool; 8] = [true, true, true, false, true, false, false, false];
    const TOUCHED: [u32; 8] = [0, 1, 2, 2, 3, 3, 3, 3];
    let Some(end) = b.len().checked_sub(4) else { return };
    let mut mask = 0usize;
    let mut previous: Option<usize> = None;
    let mut at = 0usize;
    while let Some(i) = next_branch(b, at, end) {
        at = i.saturating_add(1);
        let gap = previous.map_or(usize::MAX, |p| i.wrapping_sub(p));
        previous = Some(i);
        mask = if gap > 3 { 0 } else { (mask << gap.wrapping_sub(1)) & 7 };
        let Some(window) = b.get_mut(i..).and_then(|s| s.first_chunk_mut::<5>()) else { return };
        let [_, a0, a1, a2, a3] = *window;
        let touched = TOUCHED[mask & 7];
        if mask != 0 {
            let top = [a3, a2, a1, a0][touched as usize & 3];
            if !ALLOWED[mask & 7] || plausible(top) {
                mask = (mask << 1) | 1;
                continue;
            }
        }
        if !plausible(a3) {
            mask = (mask << 1) | 1;
            continue;
        }
        let next_ip = (i as u32).wrapping_add(5);
        let mut source = u32::from_le_bytes([a0, a1, a2, a3]);
        let mut dest;
        loop {
            dest = source.wrapping_sub(next_ip);
            if mask == 0 {
                break;
            }
            let bits = touched * 8;
            if !plausible((dest >> (24 - bits)) as u8) {
                break;
            }
            source = dest ^ (1u32 << (32 - bits)).wrapping_sub(1);
        }
        dest &= 0x01ff_ffff;
        dest |= (dest & 0x0100_0000).wrapping_neg();
        let [_, operand @ ..] = window;
        *operand = dest.to_le_bytes();
        at = i.saturating_add(5);
    }
}
