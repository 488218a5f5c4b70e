//! A node's children: a sorted map of names that copies cheaply.
//!
//! Chunks of up to [`CHUNK`] children, each behind an `Arc`. A copy shares all chunks; a change to a copy copies the
//! list of chunks and one chunk. So a snapshot of a directory of a thousand domains costs the next writer some thirty
//! pointers, not a thousand.

use crate::tree::Node;
use std::sync::Arc;

/// Most children in one chunk.
const CHUNK: usize = 32;

/// The children of one node, by name.
#[derive(Clone, Debug, Default)]
pub struct Children {
    /// Neither empty nor holding an empty chunk; names ascend within and across chunks.
    chunks: Vec<Arc<Vec<Arc<Node>>>>,
    count: usize,
    names: usize,
}

impl Children {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of all names, each with its terminating zero.
    pub fn names_len(&self) -> usize {
        self.names
    }

    /// The child of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Node>> {
        let chunk = self.chunks.get(self.chunk_of(name)?)?;
        chunk.get(place(chunk, name).ok()?)
    }

    /// The child of that name, to be changed; copied first if a snapshot has it too.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Node> {
        let at = self.chunk_of(name)?;
        let inner = place(self.chunks.get(at)?, name).ok()?;
        let chunk = Arc::make_mut(self.chunks.get_mut(at)?);
        chunk.get_mut(inner).map(Arc::make_mut)
    }

    /// Adds a child, or replaces the one of its name.
    pub fn insert(&mut self, node: Arc<Node>) {
        let Some(at) = self.chunk_of(node.name()) else {
            self.added(&node);
            self.chunks.push(Arc::new(vec![node]));
            return;
        };
        let found = self.chunks.get(at).map(|chunk| place(chunk, node.name()));
        if found.is_some_and(|f| f.is_err()) {
            self.added(&node);
        }
        let Some(shared) = self.chunks.get_mut(at) else { return };
        let chunk = Arc::make_mut(shared);
        match place(chunk, node.name()) {
            Ok(inner) => {
                if let Some(old) = chunk.get_mut(inner) {
                    *old = node;
                }
            }
            Err(inner) => chunk.insert(inner, node),
        }
        if chunk.len() > CHUNK {
            let upper = chunk.split_off(CHUNK / 2);
            self.chunks.insert(at + 1, Arc::new(upper));
        }
    }

    /// Takes a child out.
    pub fn remove(&mut self, name: &str) -> Option<Arc<Node>> {
        let at = self.chunk_of(name)?;
        let inner = place(self.chunks.get(at)?, name).ok()?;
        let chunk = Arc::make_mut(self.chunks.get_mut(at)?);
        let node = chunk.remove(inner);
        let left = chunk.len();
        if left == 0 {
            self.chunks.remove(at);
        } else if self.chunks.get(at + 1).is_some_and(|next| left + next.len() <= CHUNK / 2) {
            let next = self.chunks.remove(at + 1);
            if let Some(chunk) = self.chunks.get_mut(at) {
                Arc::make_mut(chunk).extend(next.iter().cloned());
            }
        }
        self.count -= 1;
        self.names -= node.name().len() + 1;
        Some(node)
    }

    /// All children, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.chunks.iter().flat_map(|c| c.iter())
    }

    /// The names in the order in which the children came, each followed by a zero: what DIRECTORY answers with.
    pub fn listing(&self) -> Vec<u8> {
        let mut nodes: Vec<&Arc<Node>> = self.iter().collect();
        nodes.sort_unstable_by_key(|n| n.order());
        let mut out = Vec::with_capacity(self.names);
        for node in nodes {
            out.extend_from_slice(node.name().as_bytes());
            out.push(0);
        }
        out
    }

    fn added(&mut self, node: &Node) {
        self.count += 1;
        self.names += node.name().len() + 1;
    }

    /// The chunk in which `name` is or would be; `None` if there is no chunk.
    fn chunk_of(&self, name: &str) -> Option<usize> {
        if self.chunks.is_empty() {
            return None;
        }
        let after = self.chunks.partition_point(|c| c.first().is_some_and(|n| n.name() <= name));
        Some(after.saturating_sub(1))
    }
}

fn place(chunk: &[Arc<Node>], name: &str) -> Result<usize, usize> {
    chunk.binary_search_by(|n| n.name().cmp(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perm::{DomId, Perms};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn node(name: &str, order: u64) -> Arc<Node> {
        Arc::new(Node::new(name, Perms::private(DomId(0)), order))
    }

    proptest! {
        /// Against `BTreeMap`, with snapshots that later changes must leave alone.
        #[test]
        fn behaves_as_a_map(ops in proptest::collection::vec((0u8..4, 0u16..200), 1..600)) {
            let mut map = Children::default();
            let mut model = BTreeMap::new();
            let mut snapshots = Vec::new();
            for (order, (op, key)) in ops.into_iter().enumerate() {
                let name = key.to_string();
                match op {
                    0 | 1 => {
                        map.insert(node(&name, order as u64));
                        model.insert(name, order as u64);
                    }
                    2 => prop_assert_eq!(map.remove(&name).map(|n| n.order()), model.remove(&name)),
                    _ => snapshots.push((map.clone(), model.clone())),
                }
            }
            snapshots.push((map, model));
            for (map, model) in snapshots {
                prop_assert_eq!(map.len(), model.len());
                prop_assert_eq!(map.names_len(), model.keys().map(|k| k.len() + 1).sum::<usize>());
                let seen: Vec<_> = map.iter().map(|n| (n.name().to_owned(), n.order())).collect();
                prop_assert_eq!(&seen, &model.iter().map(|(k, v)| (k.clone(), *v)).collect::<Vec<_>>());
                for (name, order) in seen {
                    prop_assert_eq!(map.get(&name).map(|n| n.order()), Some(order));
                }
                prop_assert!(map.chunks.iter().all(|c| !c.is_empty() && c.len() <= CHUNK));
            }
        }
    }

    #[test]
    fn a_listing_is_in_order_of_arrival() {
        let mut map = Children::default();
        for (order, name) in ["10", "9", "2"].iter().enumerate() {
            map.insert(node(name, order as u64));
        }
        assert_eq!(map.listing(), b"10\x009\x002\x00");
    }
}
