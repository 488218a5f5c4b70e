//! What a VM's console has said last. Viewers are places in it: a slow one needs no buffer of its own, and misses the oldest bytes
//! when it falls behind by more than there is.

use std::collections::VecDeque;

/// Bytes that are kept of each VM.
pub const MOST: usize = 256 << 10;

/// The last bytes of an endless stream.
#[derive(Clone, Debug)]
pub struct History {
    bytes: VecDeque<u8>,
    end: u64,
    most: usize,
}

impl History {
    /// Empty, for so many bytes.
    pub fn new(most: usize) -> Self {
        Self { bytes: VecDeque::new(), end: 0, most }
    }

    /// Adds to its end.
    pub fn push(&mut self, bytes: &[u8]) {
        let bytes_kept = bytes.get(bytes.len().saturating_sub(self.most)..).unwrap_or(bytes);
        let excess = (self.bytes.len() + bytes_kept.len()).saturating_sub(self.most);
        self.bytes.drain(..excess.min(self.bytes.len()));
        self.bytes.extend(bytes_kept);
        self.end += bytes.len() as u64;
    }

    /// Place of the oldest byte.
    pub fn start(&self) -> u64 {
        self.end - self.bytes.len() as u64
    }

    /// Place behind the newest.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Where to begin for who wants all of it: the oldest byte, or the first whole line if some were lost before it.
    pub fn beginning(&self) -> u64 {
        let start = self.start();
        if start == 0 {
            return 0;
        }
        let line = self.bytes.iter().position(|b| *b == b'\n');
        line.map_or(start, |at| start + at as u64 + 1)
    }

    /// How many bytes behind a place are lost, and a run of those that follow.
    pub fn piece(&self, from: u64) -> (u64, &[u8]) {
        let lost = self.start().saturating_sub(from);
        let at = usize::try_from(from.saturating_sub(self.start())).unwrap_or(usize::MAX);
        let (first, second) = self.bytes.as_slices();
        let piece = match first.get(at..) {
            Some(rest) if !rest.is_empty() => rest,
            _ => second.get(at.saturating_sub(first.len())..).unwrap_or_default(),
        };
        (lost, piece)
    }

    /// All of it.
    pub fn to_vec(&self) -> Vec<u8> {
        self.bytes.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A reader sees the stream, or is told how much it missed.
        #[test]
        fn as_a_plain_vector(most in 1usize..50, steps in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..70), 0u8..4), 0..30)) {
            let mut history = History::new(most);
            let mut all: Vec<u8> = Vec::new();
            let mut place = 0u64;
            for (bytes, reads) in steps {
                history.push(&bytes);
                all.extend(&bytes);
                prop_assert_eq!(history.end(), all.len() as u64);
                prop_assert_eq!(history.start(), all.len().saturating_sub(most) as u64);
                prop_assert_eq!(history.to_vec(), &all[all.len().saturating_sub(most)..]);
                for _ in 0..reads {
                    let (lost, piece) = history.piece(place);
                    prop_assert_eq!(lost, history.start().saturating_sub(place));
                    place += lost;
                    prop_assert_eq!(piece, &all[place as usize..place as usize + piece.len()]);
                    prop_assert_eq!(piece.is_empty(), place == history.end());
                    place += piece.len() as u64;
                }
            }
        }
    }

    #[test]
    fn beginning_is_a_line_once_something_is_lost() {
        let mut history = History::new(8);
        history.push(b"ab\ncd");
        assert_eq!(history.beginning(), 0);
        history.push(b"e\nfghi");
        assert_eq!((history.start(), history.beginning()), (3, 7));
        history.push(b"0123456789");
        assert_eq!(history.beginning(), history.start());
    }
}
