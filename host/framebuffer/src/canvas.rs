//! A picture as it was last seen, and when which part of it changed: viewers ask what is new since they looked.

use crate::geometry::{Geometry, PIXEL, Rect};

/// Side of a tile, in pixels; the encoding ZRLE has the same.
pub const TILE: u16 = 64;

/// A picture of pixels `0x00RRGGBB`.
#[derive(Clone, Debug)]
pub struct Canvas {
    width: u16,
    height: u16,
    pixels: Vec<u32>,
    /// Of each tile, row by row: when it last changed.
    stamps: Vec<u64>,
    now: u64,
}

impl Canvas {
    /// A black one.
    pub fn new(width: u16, height: u16) -> Self {
        let mut canvas = Self { width: 0, height: 0, pixels: Vec::new(), stamps: Vec::new(), now: 0 };
        canvas.resize(width, height);
        canvas
    }

    /// Black again, of this size; all of it is new.
    pub fn resize(&mut self, width: u16, height: u16) {
        self.now += 1;
        (self.width, self.height) = (width, height);
        self.pixels.clear();
        self.pixels.resize(usize::from(width) * usize::from(height), 0);
        self.stamps.clear();
        self.stamps.resize(self.columns() * usize::from(height.div_ceil(TILE)), self.now);
    }

    /// Width and height.
    pub fn size(&self) -> (u16, u16) {
        (self.width, self.height)
    }

    /// The time: what changes from now on is newer.
    pub fn now(&self) -> u64 {
        self.now
    }

    fn columns(&self) -> usize {
        usize::from(self.width.div_ceil(TILE))
    }

    /// Takes over a part out of a guest's memory: `read` copies bytes at a place in it. Whether anything is new.
    ///
    /// The canvas has the geometry's size.
    pub fn absorb(
        &mut self,
        geometry: &Geometry,
        part: Rect,
        mut read: impl FnMut(usize, &mut [u8]),
    ) -> bool {
        let part = Rect::clipped(
            part.x.into(),
            part.y.into(),
            part.width.into(),
            part.height.into(),
            (self.width.min(geometry.width()), self.height.min(geometry.height())),
        );
        let (columns, stamp) = (self.columns(), self.now + 1);
        let mut bytes = vec![0; usize::from(part.width) * PIXEL];
        let mut any = false;
        for y in part.y..part.y + part.height {
            read(geometry.place(part.x, y), &mut bytes);
            let start = usize::from(y) * usize::from(self.width) + usize::from(part.x);
            let Some(row) = self.pixels.get_mut(start..start + usize::from(part.width)) else { continue };
            let stamps =
                self.stamps.iter_mut().skip(usize::from(y / TILE) * columns + usize::from(part.x / TILE));
            let first = usize::from(TILE - part.x % TILE).min(row.len());
            let (head, tail) = row.split_at_mut(first);
            let (head_bytes, tail_bytes) = bytes.split_at(first * PIXEL);
            let tile = usize::from(TILE);
            let tiles = std::iter::once((head, head_bytes))
                .chain(tail.chunks_mut(tile).zip(tail_bytes.chunks(tile * PIXEL)));
            for ((pixels, bytes), changed) in tiles.zip(stamps) {
                if take_over(pixels, bytes) {
                    *changed = stamp;
                    any = true;
                }
            }
        }
        if any {
            self.now = stamp;
        }
        any
    }

    /// Parts that are newer than a time, within one: at most one a tile, none overlapping.
    pub fn newer(&self, than: u64, within: Rect) -> Vec<Rect> {
        let mut parts = Vec::new();
        if within.is_empty() {
            return parts;
        }
        let columns = self.columns().max(1);
        for (row, stamps) in self.stamps.chunks(columns).enumerate() {
            let mut run: Option<(usize, usize)> = None;
            for (column, stamp) in stamps.iter().copied().chain([0]).enumerate() {
                // The last one is beyond the edge: it ends a run.
                if stamp > than && column < columns {
                    run = Some((run.map_or(column, |(from, _)| from), column));
                } else if let Some((from, to)) = run.take() {
                    let tile = i64::from(TILE);
                    let whole = Rect::clipped(
                        from as i64 * tile,
                        row as i64 * tile,
                        (to - from + 1) as i64 * tile,
                        tile,
                        (self.width, self.height),
                    );
                    parts.extend(Some(overlap(whole, within)).filter(|part| !part.is_empty()));
                }
            }
        }
        parts
    }

    /// Pixels of a part, row by row.
    pub fn copy(&self, part: Rect) -> Vec<u32> {
        let rows = self.pixels.chunks(usize::from(self.width).max(1));
        let rows = rows.skip(part.y.into()).take(part.height.into());
        rows.flat_map(|row| row.iter().skip(part.x.into()).take(part.width.into()).copied()).collect()
    }
}

fn overlap(a: Rect, b: Rect) -> Rect {
    let (x, y) = (a.x.max(b.x), a.y.max(b.y));
    let right = (a.x + a.width).min(b.x.saturating_add(b.width));
    let lower = (a.y + a.height).min(b.y.saturating_add(b.height));
    Rect { x, y, width: right.saturating_sub(x), height: lower.saturating_sub(y) }
}

/// Whether they were different.
fn take_over(pixels: &mut [u32], bytes: &[u8]) -> bool {
    let mut changed = false;
    for (pixel, bytes) in pixels.iter_mut().zip(bytes.as_chunks().0) {
        let new = u32::from_le_bytes(*bytes) & 0x00ff_ffff;
        changed |= *pixel != new;
        *pixel = new;
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Claim;
    use proptest::prelude::*;

    fn geometry(width: u16, height: u16) -> Geometry {
        let stride = u32::from(width) * 4 + 8;
        let memory = stride * u32::from(height) + 16;
        Claim { width: width.into(), height: height.into(), stride, depth: 32, offset: 16, memory }
            .check()
            .unwrap()
    }

    proptest! {
        /// However the guest draws and says so, a viewer that copies what is newer has the guest's picture.
        #[test]
        fn a_viewer_sees_what_was_absorbed(
            width in 1u16..200, height in 1u16..200,
            draws in prop::collection::vec((0u16..200, 0u16..200, 1u16..100, 1u16..100, any::<u32>()), 1..12),
        ) {
            let geometry = geometry(width, height);
            let mut memory = vec![0u8; 16 + (usize::from(width) * 4 + 8) * usize::from(height)];
            let mut canvas = Canvas::new(width, height);
            let mut view = vec![0u32; usize::from(width) * usize::from(height)];
            let mut seen = 0;
            for (n, (x, y, w, h, colour)) in draws.into_iter().enumerate() {
                let part = Rect::clipped(x.into(), y.into(), w.into(), h.into(), (width, height));
                for (x, y) in (part.y..part.y + part.height).flat_map(|y| (part.x..part.x + part.width).map(move |x| (x, y))) {
                    let at = geometry.place(x, y);
                    memory[at..at + 4].copy_from_slice(&(colour ^ u32::from(x / 8)).to_le_bytes());
                }
                canvas.absorb(&geometry, part, |at, to| to.copy_from_slice(&memory[at..at + to.len()]));
                let again = canvas.absorb(&geometry, part, |at, to| to.copy_from_slice(&memory[at..at + to.len()]));
                prop_assert!(!again, "nothing is new the second time");
                if n % 3 == 2 {
                    continue;
                }
                for part in canvas.newer(seen, Rect::whole(width, height)) {
                    let copy = canvas.copy(part);
                    prop_assert_eq!(copy.len(), usize::from(part.width) * usize::from(part.height));
                    for (row, pixels) in copy.chunks(part.width.into()).enumerate() {
                        let at = (usize::from(part.y) + row) * usize::from(width) + usize::from(part.x);
                        view[at..at + pixels.len()].copy_from_slice(pixels);
                    }
                }
                seen = canvas.now();
                prop_assert_eq!(&view, &canvas.copy(Rect::whole(width, height)));
                let bytes: Vec<u32> = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| {
                    let at = geometry.place(x, y);
                    u32::from_le_bytes(memory[at..at + 4].try_into().unwrap()) & 0xff_ffff
                }).collect();
                prop_assert_eq!(&view, &bytes);
            }
        }
    }

    #[test]
    fn a_small_change_is_one_tile() {
        let geometry = geometry(200, 130);
        let mut canvas = Canvas::new(200, 130);
        assert_eq!(canvas.newer(0, Rect::whole(200, 130)).len(), 3, "a run for each row of tiles");
        let seen = canvas.now();
        assert!(canvas.newer(seen, Rect::whole(200, 130)).is_empty());
        canvas.absorb(&geometry, Rect { x: 70, y: 129, width: 1, height: 1 }, |_, to| to.fill(0xff));
        let tile = Rect { x: 64, y: 128, width: 64, height: 2 };
        assert_eq!(canvas.newer(seen, Rect::whole(200, 130)), [tile]);
        assert_eq!(canvas.newer(seen, Rect { x: 0, y: 0, width: 64, height: 130 }), []);
        assert_eq!(canvas.copy(tile)[64 + 6], 0xff_ffff, "the unused byte is none of the colour");
    }
}
