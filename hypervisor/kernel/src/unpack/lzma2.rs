//! LZMA2 decoder that uses the output buffer as its dictionary, so nothing is copied twice.
//!
//! Written from the LZMA specification (LZMA SDK, public domain) and the xz file format. All arithmetic on stream data is
//! explicit about wrapping; every access to the buffers is checked.

use alloc::vec;
use alloc::vec::Vec;

use super::{Error, take};

type Prob = u16;
const PROB_INIT: Prob = 1024;
const MATCH_MIN: usize = 2;
const LIT_STATES: usize = 7;
/// Longest match.
const MATCH_MAX: usize = 273;

/// Arithmetic decoder over one chunk's bytes.
struct Range<'a> {
    input: &'a [u8],
    at: usize,
    range: u32,
    code: u32,
}

impl<'a> Range<'a> {
    /// `input` begins with a zero byte and four bytes of code.
    fn new(input: &'a [u8]) -> Result<Self, Error> {
        match input.first_chunk::<5>() {
            Some(&[0, a, b, c, d]) => {
                Ok(Self { input, at: 5, range: !0, code: u32::from_be_bytes([a, b, c, d]) })
            }
            _ => Err(Error::Corrupt),
        }
    }

    /// Past the end zeros are read; [`Self::finished`] notices.
    #[inline(always)]
    fn normalise(&mut self) {
        if self.range < 1 << 24 {
            self.range <<= 8;
            let next = self.input.get(self.at).copied().unwrap_or(0);
            self.code = (self.code << 8) | u32::from(next);
            self.at = self.at.wrapping_add(1);
        }
    }

    #[inline(always)]
    fn bit(&mut self, p: &mut Prob) -> bool {
        self.normalise();
        let v = u32::from(*p);
        let bound = (self.range >> 11).wrapping_mul(v);
        if self.code < bound {
            self.range = bound;
            *p = v.wrapping_add((2048u32.wrapping_sub(v)) >> 5) as Prob;
            false
        } else {
            self.range = self.range.wrapping_sub(bound);
            self.code = self.code.wrapping_sub(bound);
            *p = v.wrapping_sub(v >> 5) as Prob;
            true
        }
    }

    /// `N` is a power of two; the symbol has log2(N) bits, most significant first.
    #[inline(always)]
    fn tree<const N: usize>(&mut self, probs: &mut [Prob; N]) -> usize {
        let mut s = 1;
        while s < N {
            s = (s << 1) | usize::from(self.bit(&mut probs[s & (N - 1)]));
        }
        s & (N - 1)
    }

    /// `bits` bits, least significant first, from `probs[base + 1 ..]`.
    #[inline(always)]
    fn reverse<const N: usize>(&mut self, probs: &mut [Prob; N], base: usize, bits: u32) -> u32 {
        let mut s = 1usize;
        let mut v = 0;
        for i in 0..bits {
            let b = self.bit(&mut probs[base.wrapping_add(s) & (N - 1)]);
            s = (s << 1) | usize::from(b);
            v |= u32::from(b) << i;
        }
        v
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
        self.at == self.input.len() && self.code == 0
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

    #[inline(always)]
    fn decode(&mut self, rc: &mut Range<'_>, pos_state: usize) -> usize {
        let [first, second] = &mut self.choice;
        if !rc.bit(first) {
            MATCH_MIN + rc.tree(&mut self.low[pos_state & 15])
        } else if !rc.bit(second) {
            MATCH_MIN + 8 + rc.tree(&mut self.mid[pos_state & 15])
        } else {
            MATCH_MIN + 16 + rc.tree(&mut self.high)
        }
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
    literals: Vec<[Prob; 0x300]>,
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
        self.literals = vec![[PROB_INIT; 0x300]; 1 << (lc + lp)];
        self.reset();
        self.ready = true;
        Ok(())
    }

    fn reset(&mut self) {
        self.model = Model::NEW;
        self.literals.fill([PROB_INIT; 0x300]);
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

#[inline(always)]
fn literal(rc: &mut Range<'_>, probs: &mut [Prob; 0x300]) -> u8 {
    let mut s = 1usize;
    while s < 0x100 {
        s = (s << 1) | usize::from(rc.bit(&mut probs[s & 0xff]));
    }
    s as u8
}

/// A literal right after a match: the byte the match would have continued with selects the probabilities until the
/// first bit that differs.
#[inline(always)]
fn literal_after_match(rc: &mut Range<'_>, probs: &mut [Prob; 0x300], beside: u8) -> u8 {
    let (mut s, mut same, mut beside) = (1usize, 0x100usize, usize::from(beside));
    for _ in 0..8 {
        beside <<= 1;
        let expect = beside & same;
        let p = probs.get_mut(same.wrapping_add(expect).wrapping_add(s));
        let Some(p) = p else { return 0 };
        let b = rc.bit(p);
        s = (s << 1) | usize::from(b);
        same &= if b { expect } else { !expect };
    }
    s as u8
}

#[inline(always)]
fn distance(rc: &mut Range<'_>, m: &mut Model, len: usize) -> u32 {
    let slot = rc.tree(&mut m.dist_slot[len.wrapping_sub(MATCH_MIN).min(3)]) as u32;
    if slot < 4 {
        return slot;
    }
    let bits = (slot >> 1).wrapping_sub(1);
    let base = (2 | (slot & 1)) << bits;
    if slot < 14 {
        let at = base.wrapping_sub(slot) as usize;
        base.wrapping_add(rc.reverse(&mut m.dist_special, at, bits))
    } else {
        let high = rc.direct(bits.wrapping_sub(4)) << 4;
        base.wrapping_add(high).wrapping_add(rc.reverse(&mut m.dist_align, 0, 4))
    }
}

/// Copies `len` bytes from `distance + 1` bytes back to `out[at..]`; returns the new position, `None` when the match
/// reaches before the dictionary or beyond `end`. Bytes after the match and before the end of `out` may be overwritten.
#[inline(always)]
fn copy_match(out: &mut [u8], at: usize, distance: usize, len: usize, end: usize) -> Option<usize> {
    let back = distance.wrapping_add(1);
    let from = at.wrapping_sub(back);
    let stop = at.wrapping_add(len);
    if distance >= at || stop > end {
        return None;
    }
    if back >= 8 {
        // Whole words: each is read only after the previous one is written, so overlap is fine.
        if let Some(w) = out.get_mut(from..).and_then(|o| o.get_mut(..back.wrapping_add(MATCH_MAX + 15))) {
            let mut i = 0usize;
            while i < len {
                let word: [u8; 8] = *w.get(i..)?.first_chunk()?;
                *w.get_mut(i.wrapping_add(back)..)?.first_chunk_mut()? = word;
                i = i.wrapping_add(8);
            }
            return Some(stop);
        }
    } else if back == 1 {
        let byte = out.get(from).copied()?;
        out.get_mut(at..stop)?.fill(byte);
        return Some(stop);
    }
    let w = out.get_mut(from..stop)?;
    for i in 0..len {
        let byte = w.get(i).copied()?;
        *w.get_mut(i.wrapping_add(back))? = byte;
    }
    Some(stop)
}

fn be16(input: &mut &[u8]) -> Result<usize, Error> {
    match *take(input, 2)? {
        [a, b] => Ok(usize::from(u16::from_be_bytes([a, b]))),
        _ => Err(Error::Truncated),
    }
}
