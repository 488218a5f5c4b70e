//! LZMA2 decoder that uses the output buffer as its dictionary, so nothing is copied twice.
//!
//! Written from the LZMA specification (LZMA SDK, public domain) and the xz file format. All arithmetic on stream data is
//! explicit about wrapping; every access to the buffers is checked.

use alloc::vec;
use alloc::vec::Vec;
use core::hint::black_box;
use core::slice::Iter;

use super::{Error, take};

type Prob = u16;
const PROB_INIT: Prob = 1024;
/// Literal coder of one context: plain, and after a match whose next byte has a 0 or a 1 at this bit.
type Literal = [[Prob; 256]; 3];
const LITERAL_NEW: Literal = [[PROB_INIT; 256]; 3];
const MATCH_MIN: usize = 2;
const LIT_STATES: usize = 7;

/// Arithmetic decoder over one chunk's bytes.
///
/// The functions marked `inline(never)` work on a copy of it, so that its fields live in registers: a kernel takes about
/// 80 million bits, so every instruction per bit counts.
#[derive(Clone)]
struct Range<'a> {
    input: Iter<'a, u8>,
    range: u32,
    code: u32,
    /// More bytes were asked for than there are; zeros were given.
    overrun: bool,
}

impl<'a> Range<'a> {
    /// `input` begins with a zero byte and four bytes of code.
    fn new(input: &'a [u8]) -> Result<Self, Error> {
        match input.split_first_chunk::<5>() {
            Some((&[0, a, b, c, d], rest)) => Ok(Self {
                input: rest.iter(),
                range: !0,
                code: u32::from_be_bytes([a, b, c, d]),
                overrun: false,
            }),
            _ => Err(Error::Corrupt),
        }
    }

    #[inline(always)]
    fn normalise(&mut self) {
        if self.range < 1 << 24 {
            self.range <<= 8;
            let next = match self.input.next() {
                Some(&b) => u32::from(b),
                None => {
                    self.overrun = true;
                    0
                }
            };
            self.code = (self.code << 8) | next;
        }
    }

    /// One bit appended to `s` at its low end.
    #[inline(always)]
    fn append(&mut self, p: &mut Prob, s: usize) -> usize {
        self.normalise();
        let v = u32::from(*p);
        let bound = (self.range >> 11).wrapping_mul(v);
        if self.code < bound {
            // Without this the compiler computes both arms and selects, which takes more instructions than a branch.
            black_box(());
            self.range = bound;
            // v + (2048 - v) / 32, written so that it takes three instructions.
            *p = v.wrapping_sub(((v as i32).wrapping_sub(2048 - 31) >> 5) as u32) as Prob;
            s << 1
        } else {
            self.range = self.range.wrapping_sub(bound);
            self.code = self.code.wrapping_sub(bound);
            *p = v.wrapping_sub(v >> 5) as Prob;
            (s << 1).wrapping_add(1)
        }
    }

    #[inline(always)]
    fn bit(&mut self, p: &mut Prob) -> bool {
        self.append(p, 0) != 0
    }

    /// `N` is a power of two; the symbol has log2(N) bits, most significant first.
    #[inline(always)]
    fn tree<const N: usize>(&mut self, probs: &mut [Prob; N]) -> usize {
        let mut s = 1;
        for _ in 0..const { N.trailing_zeros() } {
            s = self.append(&mut probs[s & (N - 1)], s);
        }
        s & (N - 1)
    }

    /// `bits` bits, least significant first, from `probs[base + 1 ..]`.
    #[inline(always)]
    fn reverse<const N: usize>(&mut self, probs: &mut [Prob; N], base: usize, bits: u32) -> u32 {
        let mut s = 1usize;
        for _ in 0..bits {
            s = self.append(&mut probs[base.wrapping_add(s) & (N - 1)], s);
        }
        // `s` is a leading 1 and the bits in the order they came; the first is the least significant.
        (s as u32).reverse_bits().wrapping_shr(32u32.wrapping_sub(bits)) & (1u32 << bits).wrapping_sub(1)
    }

    #[inline(always)]
    fn direct(&mut self, bits: u32) -> u32 {
        let mut v = 0u32;
        for _ in 0..bits {
            self.normalise();
            self.range >>= 1;
            let one = self.code >= self.range;
            if one {
                self.code = self.code.wrapping_sub(self.range);
            }
            v = (v << 1) | u32::from(one);
        }
        v
    }

    /// All input used, none imagined, and the final code is 0.
    fn finished(&mut self) -> bool {
        self.normalise();
        !self.overrun && self.input.as_slice().is_empty() && self.code == 0
    }
}

/// Match length coder.
#[derive(Clone)]
struct Lengths {
    choice: [Prob; 2],
    low: [[Prob; 8]; 16],
    mid: [[Prob; 8]; 16],
    high: [Prob; 256],
}

impl Lengths {
    const NEW: Lengths = Lengths {
        choice: [PROB_INIT; 2],
        low: [[PROB_INIT; 8]; 16],
        mid: [[PROB_INIT; 8]; 16],
        high: [PROB_INIT; 256],
    };

    #[inline(never)]
    fn decode(&mut self, rc: &mut Range<'_>, pos_state: usize) -> usize {
        let mut r = rc.clone();
        let [first, second] = &mut self.choice;
        let len = if !r.bit(first) {
            MATCH_MIN + r.tree(&mut self.low[pos_state & 15])
        } else if !r.bit(second) {
            MATCH_MIN + 8 + r.tree(&mut self.mid[pos_state & 15])
        } else {
            MATCH_MIN + 16 + r.tree(&mut self.high)
        };
        *rc = r;
        len
    }
}

/// Adaptive probabilities except those of the literals.
struct Model {
    is_match: [[Prob; 16]; 16],
    is_rep: [Prob; 16],
    is_rep0: [Prob; 16],
    is_rep1: [Prob; 16],
    is_rep2: [Prob; 16],
    is_rep0_long: [[Prob; 16]; 16],
    dist_slot: [[Prob; 64]; 4],
    dist_special: [Prob; 128],
    dist_align: [Prob; 16],
    match_len: Lengths,
    rep_len: Lengths,
}

impl Model {
    const NEW: Model = Model {
        is_match: [[PROB_INIT; 16]; 16],
        is_rep: [PROB_INIT; 16],
        is_rep0: [PROB_INIT; 16],
        is_rep1: [PROB_INIT; 16],
        is_rep2: [PROB_INIT; 16],
        is_rep0_long: [[PROB_INIT; 16]; 16],
        dist_slot: [[PROB_INIT; 64]; 4],
        dist_special: [PROB_INIT; 128],
        dist_align: [PROB_INIT; 16],
        match_len: Lengths::NEW,
        rep_len: Lengths::NEW,
    };
}

/// Decoder state that lives from chunk to chunk.
pub struct Lzma2 {
    model: Model,
    literals: Vec<Literal>,
    lc: u32,
    lp_mask: usize,
    pb_mask: usize,
    state: usize,
    reps: [u32; 4],
    /// Set once a chunk has given properties (and so reset the state).
    ready: bool,
}

impl Lzma2 {
    /// A decoder that has seen nothing.
    pub fn new() -> Self {
        Self {
            model: Model::NEW,
            literals: Vec::new(),
            lc: 0,
            lp_mask: 0,
            pb_mask: 0,
            state: 0,
            reps: [0; 4],
            ready: false,
        }
    }

    /// Decodes chunks from `input` to `out[start..]` up to the end marker. Returns (bytes used, end of the output).
    pub fn decode(&mut self, input: &[u8], out: &mut [u8], start: usize) -> Result<(usize, usize), Error> {
        let mut rest = input;
        let (mut at, mut dict) = (start, None);
        loop {
            let control = take(&mut rest, 1)?.first().copied().unwrap_or(0);
            match control {
                0 => return Ok((input.len() - rest.len(), at)),
                1 | 2 => {
                    if control == 1 {
                        dict = Some(at);
                    }
                    dict.ok_or(Error::Corrupt)?;
                    let len = be16(&mut rest)? + 1;
                    let src = take(&mut rest, len)?;
                    let end = at.checked_add(len).ok_or(Error::WrongLength)?;
                    out.get_mut(at..end).ok_or(Error::WrongLength)?.copy_from_slice(src);
                    at = end;
                }
                3..0x80 => return Err(Error::Corrupt),
                _ => {
                    let len = (usize::from(control & 0x1f) << 16) + be16(&mut rest)? + 1;
                    let packed = be16(&mut rest)? + 1;
                    let reset = (control >> 5) & 3;
                    if reset == 3 {
                        dict = Some(at);
                    }
                    let dict = dict.ok_or(Error::Corrupt)?;
                    match reset {
                        0 => {}
                        1 => self.reset(),
                        _ => self.properties(take(&mut rest, 1)?.first().copied().unwrap_or(!0))?,
                    }
                    if !self.ready {
                        return Err(Error::Corrupt);
                    }
                    let end = at.checked_add(len).ok_or(Error::WrongLength)?;
                    let window = out.get_mut(dict..).ok_or(Error::WrongLength)?;
                    self.chunk(take(&mut rest, packed)?, window, at - dict, end - dict)?;
                    at = end;
                }
            }
        }
    }

    /// Sets `lc`, `lp`, `pb` and forgets everything learnt.
    fn properties(&mut self, b: u8) -> Result<(), Error> {
        if b >= 9 * 5 * 5 {
            return Err(Error::Corrupt);
        }
        let (lc, lp, pb) = (u32::from(b % 9), u32::from(b / 9 % 5), u32::from(b / 45));
        if lc + lp > 4 {
            return Err(Error::Corrupt);
        }
        (self.lc, self.lp_mask, self.pb_mask) = (lc, (1 << lp) - 1, (1 << pb) - 1);
        self.literals = vec![LITERAL_NEW; 1 << (lc + lp)];
        self.reset();
        self.ready = true;
        Ok(())
    }

    fn reset(&mut self) {
        self.model = Model::NEW;
        self.literals.fill(LITERAL_NEW);
        self.state = 0;
        self.reps = [0; 4];
    }

    /// Decodes one chunk to `out[at..end]`; `out` begins where the dictionary does.
    fn chunk(&mut self, input: &[u8], out: &mut [u8], mut at: usize, end: usize) -> Result<(), Error> {
        if end > out.len() {
            return Err(Error::WrongLength);
        }
        let mut rc = Range::new(input)?;
        let m = &mut self.model;
        let (lc, lp_mask, pb_mask) = (self.lc, self.lp_mask, self.pb_mask);
        let mut state = self.state;
        let [mut rep0, mut rep1, mut rep2, mut rep3] = self.reps;

        while at < end {
            let pos_state = at & pb_mask & 15;
            if !rc.bit(&mut m.is_match[state & 15][pos_state]) {
                let previous = out.get(at.wrapping_sub(1)).copied().unwrap_or(0);
                let context = ((at & lp_mask) << lc) | (usize::from(previous) >> (8 - lc));
                let probs = self.literals.get_mut(context).ok_or(Error::Corrupt)?;
                let byte = if state < LIT_STATES {
                    literal(&mut rc, probs)
                } else {
                    let from = at.wrapping_sub(rep0 as usize).wrapping_sub(1);
                    let beside = out.get(from).copied().ok_or(Error::Corrupt)?;
                    literal_after_match(&mut rc, probs, beside)
                };
                if let Some(o) = out.get_mut(at) {
                    *o = byte;
                }
                at = at.wrapping_add(1);
                state = match state {
                    0..=3 => 0,
                    4..=9 => state.wrapping_sub(3),
                    _ => state.wrapping_sub(6),
                };
                continue;
            }
            let after_literal = state < LIT_STATES;
            let len;
            if !rc.bit(&mut m.is_rep[state & 15]) {
                (rep3, rep2, rep1) = (rep2, rep1, rep0);
                len = m.match_len.decode(&mut rc, pos_state);
                rep0 = distance(&mut rc, m, len);
                state = if after_literal { 7 } else { 10 };
            } else {
                if !rc.bit(&mut m.is_rep0[state & 15]) {
                    if !rc.bit(&mut m.is_rep0_long[state & 15][pos_state]) {
                        let from = at.wrapping_sub(rep0 as usize).wrapping_sub(1);
                        let byte = if from < at { out.get(from).copied() } else { None };
                        let byte = byte.ok_or(Error::Corrupt)?;
                        if let Some(o) = out.get_mut(at) {
                            *o = byte;
                        }
                        at = at.wrapping_add(1);
                        state = if after_literal { 9 } else { 11 };
                        continue;
                    }
                } else if !rc.bit(&mut m.is_rep1[state & 15]) {
                    (rep0, rep1) = (rep1, rep0);
                } else if !rc.bit(&mut m.is_rep2[state & 15]) {
                    (rep0, rep1, rep2) = (rep2, rep0, rep1);
                } else {
                    (rep0, rep1, rep2, rep3) = (rep3, rep0, rep1, rep2);
                }
                len = m.rep_len.decode(&mut rc, pos_state);
                state = if after_literal { 8 } else { 11 };
            }
            at = copy_match(out, at, rep0 as usize, len, end).ok_or(Error::Corrupt)?;
        }
        self.state = state;
        self.reps = [rep0, rep1, rep2, rep3];
        if rc.finished() { Ok(()) } else { Err(Error::Corrupt) }
    }
}

#[inline(never)]
fn literal(rc: &mut Range<'_>, [probs, ..]: &mut Literal) -> u8 {
    let mut r = rc.clone();
    let mut s = 1usize;
    for _ in 0..8 {
        s = r.append(&mut probs[s & 0xff], s);
    }
    *rc = r;
    s as u8
}

/// A literal right after a match: the byte the match would have continued with selects the probabilities up to the
/// first bit that differs.
#[inline(never)]
fn literal_after_match(rc: &mut Range<'_>, [plain, zero, one]: &mut Literal, beside: u8) -> u8 {
    let mut r = rc.clone();
    let mut s = 1usize;
    let mut beside = usize::from(beside) | 0x100;
    // `s` holds a leading 1 and the bits so far; they equal the top bits of `beside`.
    while s < 0x100 {
        beside <<= 1;
        if beside & 0x100 != 0 {
            s = r.append(&mut one[s & 0xff], s);
            if s & 1 == 0 {
                break;
            }
        } else {
            s = r.append(&mut zero[s & 0xff], s);
            if s & 1 != 0 {
                break;
            }
        }
    }
    while s < 0x100 {
        s = r.append(&mut plain[s & 0xff], s);
    }
    *rc = r;
    s as u8
}

#[inline(never)]
fn distance(rc: &mut Range<'_>, m: &mut Model, len: usize) -> u32 {
    let mut r = rc.clone();
    let slot = r.tree(&mut m.dist_slot[len.wrapping_sub(MATCH_MIN).min(3)]) as u32;
    let distance = if slot < 4 {
        slot
    } else {
        let bits = (slot >> 1).wrapping_sub(1);
        let base = (2 | (slot & 1)) << bits;
        if slot < 14 {
            let at = base.wrapping_sub(slot) as usize;
            base.wrapping_add(r.reverse(&mut m.dist_special, at, bits))
        } else {
            let high = r.direct(bits.wrapping_sub(4)) << 4;
            base.wrapping_add(high).wrapping_add(r.reverse(&mut m.dist_align, 0, 4))
        }
    };
    *rc = r;
    distance
}

/// Copies `len` bytes from `distance + 1` bytes back to `out[at..]`; returns the new position, `None` when the match
/// reaches before the dictionary or beyond `end`. Bytes after the match and before the end of `out` may be overwritten.
#[inline(always)]
fn copy_match(out: &mut [u8], at: usize, distance: usize, len: usize, end: usize) -> Option<usize> {
    let stop = at.wrapping_add(len);
    if distance >= at || stop > end {
        return None;
    }
    let back = distance.wrapping_add(1);
    let (before, dst) = out.split_at_mut_checked(at)?;
    let src = before.get(at.wrapping_sub(back)..)?;
    // Most matches are short and far away.
    if let (Some(from), Some(to)) = (src.first_chunk::<16>(), dst.first_chunk_mut::<16>()) {
        *to = *from;
        if len <= 16 {
            return Some(stop);
        }
    }
    copy_long(out, at, back, len);
    Some(stop)
}

/// The general case of [`copy_match`], whose checks have been made.
#[inline(never)]
fn copy_long(out: &mut [u8], at: usize, back: usize, len: usize) -> Option<()> {
    let stop = at.wrapping_add(len);
    if back == 1 {
        let byte = out.get(at.wrapping_sub(1)).copied()?;
        out.get_mut(at..stop)?.fill(byte);
        return Some(());
    }
    // What repeats every `back` bytes also repeats every `period` bytes, which is enough to copy whole words.
    let period = if back >= 8 { back } else { back.wrapping_mul(8usize.div_ceil(back)) };
    let single = period.wrapping_sub(back).min(len);
    for i in at..at.wrapping_add(single) {
        let byte = out.get(i.wrapping_sub(back)).copied()?;
        *out.get_mut(i)? = byte;
    }
    let (mut to, words) = (at.wrapping_add(single), len.wrapping_sub(single) / 8);
    for _ in 0..words {
        // Each word is read only after the one before is written, so overlap is fine.
        let word: [u8; 8] = *out.get(to.wrapping_sub(period)..)?.first_chunk()?;
        *out.get_mut(to..)?.first_chunk_mut()? = word;
        to = to.wrapping_add(8);
    }
    for i in to..stop {
        let byte = out.get(i.wrapping_sub(period)).copied()?;
        *out.get_mut(i)? = byte;
    }
    Some(())
}

fn be16(input: &mut &[u8]) -> Result<usize, Error> {
    match *take(input, 2)? {
        [a, b] => Ok(usize::from(u16::from_be_bytes([a, b]))),
        _ => Err(Error::Truncated),
    }
}
