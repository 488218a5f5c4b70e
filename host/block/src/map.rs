//! Which parts of a disk are where: intervals. Pure.

use std::collections::BTreeMap;
use std::ops::Range;

/// Where a part of a disk is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the disk's own file; for good.
    Own,
    /// From this byte of the pinned file on.
    Shared(u64),
}

impl Place {
    fn at(self, distance: u64) -> Self {
        match self {
            Self::Own => Self::Own,
            Self::Shared(start) => Self::Shared(start + distance),
        }
    }
}

/// Intervals of a disk, in bytes, that do not overlap. What is in none is not known.
#[derive(Clone, Debug, Default)]
pub struct Map {
    /// First byte to (end, place).
    parts: BTreeMap<u64, (u64, Place)>,
}

impl Map {
    /// How many intervals it takes.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// A part is there from now on.
    pub fn set(&mut self, range: Range<u64>, place: Place) {
        if range.is_empty() {
            return;
        }
        self.cut(range.start);
        self.cut(range.end);
        let inside: Vec<u64> = self.parts.range(range.clone()).map(|(start, _)| *start).collect();
        for start in inside {
            self.parts.remove(&start);
        }
        let (mut start, mut end, mut place) = (range.start, range.end, place);
        // Neighbours that go on without a break become one.
        if let Some((&before, &(until, other))) = self.parts.range(..start).next_back()
            && until == start
            && other.at(start - before) == place
        {
            self.parts.remove(&before);
            (start, place) = (before, other);
        }
        if let Some((&after, &(until, other))) = self.parts.range(end..).next()
            && after == end
            && place.at(end - start) == other
        {
            self.parts.remove(&after);
            end = until;
        }
        self.parts.insert(start, (end, place));
    }

    /// An interval that goes across `at` becomes two.
    fn cut(&mut self, at: u64) {
        if let Some((&start, &(end, place))) = self.parts.range(..at).next_back()
            && end > at
        {
            self.parts.insert(start, (at, place));
            self.parts.insert(at, (end, place.at(at - start)));
        }
    }

    /// The interval at `at`, from there on; if nothing is known of it, how far that goes on at most.
    pub fn get(&self, at: u64) -> (u64, Option<Place>) {
        if let Some((&start, &(end, place))) = self.parts.range(..=at).next_back()
            && end > at
        {
            return (end, Some(place.at(at - start)));
        }
        (self.parts.range(at..).next().map_or(u64::MAX, |(start, _)| *start), None)
    }

    /// Where the unknown around `at` begins.
    pub fn unknown_from(&self, at: u64) -> u64 {
        self.parts.range(..=at).next_back().map_or(0, |(_, (end, _))| *end)
    }

    /// All that is shared is not known any more.
    pub fn forget_shared(&mut self) {
        self.parts.retain(|_, (_, place)| *place == Place::Own);
    }

    /// All of it is in the disk's own file.
    pub fn give_up(&mut self) {
        self.parts.clear();
        self.parts.insert(0, (u64::MAX, Place::Own));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const END: u64 = 64;

    proptest! {
        #[test]
        fn intervals_are_an_array(steps in proptest::collection::vec((0..END, 0..END, 0u64..4, any::<bool>()), 0..60)) {
            let mut map = Map::default();
            let mut model: Vec<Option<Place>> = vec![None; END as usize];
            for (a, b, place, forget) in steps {
                if forget && place == 3 {
                    map.forget_shared();
                    model.iter_mut().filter(|p| **p != Some(Place::Own)).for_each(|p| *p = None);
                    continue;
                }
                let range = a.min(b)..a.max(b);
                let place = if place == 0 { Place::Own } else { Place::Shared(range.start + 1000 * place) };
                map.set(range.clone(), place);
                for at in range.clone() {
                    model[at as usize] = Some(place.at(at - range.start));
                }
                for at in 0..END {
                    let (end, found) = map.get(at);
                    prop_assert_eq!(found, model[at as usize], "at {}", at);
                    for more in at..end.min(END) {
                        prop_assert_eq!(found.map(|p| p.at(more - at)), model[more as usize]);
                    }
                    if found.is_none() {
                        let from = map.unknown_from(at);
                        prop_assert!((from..=at).all(|at| model[at as usize].is_none()));
                        prop_assert!(from == 0 || model[from as usize - 1].is_some());
                    }
                }
                let breaks = model.windows(2).filter(|w| w[1] != w[0].map(|p| p.at(1))).count();
                prop_assert!(map.len() <= breaks + 1, "neighbours are one: {:?}", map);
            }
        }
    }
}
