//! The tree: immutable nodes shared between the store and the snapshots of its transactions.
//!
//! A copy of a [`Tree`] is one reference. Whoever changes a tree copies the nodes between the root and the change
//! that another tree still refers to, and no others.

use crate::children::Children;
use crate::path;
use crate::perm::{DomId, Perms};
use std::sync::Arc;

/// When something was last changed, and by whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Rises with every change in the store.
    pub generation: u64,
    /// The domain that made the change.
    pub writer: DomId,
}

/// One node.
#[derive(Clone, Debug)]
pub struct Node {
    name: Arc<str>,
    value: Arc<[u8]>,
    perms: Perms,
    children: Children,
    order: u64,
    next_order: u64,
    own: Stamp,
    family: Stamp,
}

impl Node {
    /// A node without value or children, `order` being its place among its siblings.
    pub fn new(name: &str, perms: Perms, order: u64) -> Self {
        let (own, family) = (Stamp::default(), Stamp::default());
        let (children, value) = (Children::default(), Arc::default());
        Self { name: name.into(), value, perms, children, order, next_order: 0, own, family }
    }

    /// Last component of its path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its value.
    pub fn value(&self) -> &Arc<[u8]> {
        &self.value
    }

    /// Its permissions.
    pub fn perms(&self) -> &Perms {
        &self.perms
    }

    /// Its children.
    pub fn children(&self) -> &Children {
        &self.children
    }

    /// Its place among its siblings.
    pub fn order(&self) -> u64 {
        self.order
    }

    /// Last change of value or permissions.
    pub fn own(&self) -> Stamp {
        self.own
    }

    /// Last change of the set of children.
    pub fn family(&self) -> Stamp {
        self.family
    }

    /// Bytes it takes, as quotas count them: value, permissions, names of children, and a header.
    pub fn size(&self) -> usize {
        size_of(self.value.len(), self.perms.entries().len(), self.children.names_len())
    }

    /// Calls `see` with the path of each node of this subtree, parents first. `path` is this node's own.
    pub fn walk<'a>(&'a self, path: &str, see: &mut impl FnMut(&str, &'a Node)) {
        let mut path = path.to_owned();
        self.walk_in(&mut path, see);
    }

    fn walk_in<'a>(&'a self, path: &mut String, see: &mut impl FnMut(&str, &'a Node)) {
        see(path, self);
        let length = path.len();
        for child in self.children.iter() {
            if path != "/" {
                path.push('/');
            }
            path.push_str(child.name());
            child.walk_in(path, see);
            path.truncate(length);
        }
    }
}

/// What a node of such a value, list of permissions and children takes.
pub fn size_of(value: usize, perms: usize, names: usize) -> usize {
    24 + 8 * perms + value + names
}

/// A tree; copying it takes a snapshot.
#[derive(Clone, Debug)]
pub struct Tree {
    root: Arc<Node>,
}

impl Default for Tree {
    fn default() -> Self {
        Self { root: Arc::new(Node::new("", Perms::private(DomId::DOM0), 0)) }
    }
}

impl Tree {
    /// The root.
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// The node at `path`.
    pub fn get(&self, path: &str) -> Option<&Node> {
        let mut node = &self.root;
        for name in path::components(path) {
            node = node.children.get(name)?;
        }
        Some(node)
    }

    /// The node at `path`, or else its nearest ancestor, with that one's path.
    pub fn nearest<'a>(&self, path: &'a str) -> (&'a str, &Node) {
        let mut node = &self.root;
        let mut end = 0;
        for name in path::components(path) {
            let Some(next) = node.children.get(name) else { break };
            node = next;
            end += 1 + name.len();
        }
        (if end == 0 { "/" } else { path.get(..end).unwrap_or("/") }, node)
    }

    /// Sets the value of an existing node.
    pub fn set_value(&mut self, path: &str, value: Arc<[u8]>, stamp: Stamp) {
        if let Some(node) = self.get_mut(path) {
            node.value = value;
            node.own = stamp;
        }
    }

    /// Sets the permissions of an existing node.
    pub fn set_perms(&mut self, path: &str, perms: Perms, stamp: Stamp) {
        if let Some(node) = self.get_mut(path) {
            node.perms = perms;
            node.own = stamp;
        }
    }

    /// Adds a node without children below an existing one.
    pub fn add(&mut self, path: &str, value: Arc<[u8]>, perms: Perms, stamp: Stamp) {
        let Some((parent, name)) = path::split(path) else { return };
        let Some(parent) = self.get_mut(parent) else { return };
        let mut node = Node::new(name, perms, parent.next_order);
        parent.next_order += 1;
        parent.family = stamp;
        node.value = value;
        node.own = stamp;
        node.family = stamp;
        parent.children.insert(Arc::new(node));
    }

    /// Takes a subtree out; the root stays.
    pub fn remove(&mut self, path: &str, stamp: Stamp) -> Option<Arc<Node>> {
        let (parent, name) = path::split(path)?;
        self.get(path)?;
        let parent = self.get_mut(parent)?;
        parent.family = stamp;
        parent.children.remove(name)
    }

    fn get_mut(&mut self, path: &str) -> Option<&mut Node> {
        self.get(path)?;
        let mut node = Arc::make_mut(&mut self.root);
        for name in path::components(path) {
            node = node.children.get_mut(name)?;
        }
        Some(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(generation: u64) -> Stamp {
        Stamp { generation, writer: DomId(1) }
    }

    fn add(tree: &mut Tree, path: &str, generation: u64) {
        tree.add(path, path.as_bytes().into(), Perms::private(DomId(0)), stamp(generation));
    }

    #[test]
    fn a_snapshot_stays_as_it_was() {
        let mut tree = Tree::default();
        add(&mut tree, "/a", 1);
        add(&mut tree, "/a/b", 2);
        let snapshot = tree.clone();
        tree.set_value("/a/b", b"new"[..].into(), stamp(3));
        add(&mut tree, "/a/c", 4);
        tree.remove("/a/b", stamp(5));
        assert_eq!(&**snapshot.get("/a/b").unwrap().value(), b"/a/b");
        assert_eq!(snapshot.get("/a").unwrap().children().listing(), b"b\0");
        assert_eq!(tree.get("/a").unwrap().children().listing(), b"c\0");
        assert!(tree.get("/a/b").is_none());
    }

    #[test]
    fn value_and_family_are_stamped_apart() {
        let mut tree = Tree::default();
        add(&mut tree, "/a", 1);
        add(&mut tree, "/a/b", 2);
        let a = tree.get("/a").unwrap();
        assert_eq!((a.own(), a.family()), (stamp(1), stamp(2)));
        tree.set_perms("/a", Perms::private(DomId(7)), stamp(3));
        let a = tree.get("/a").unwrap();
        assert_eq!((a.own(), a.family()), (stamp(3), stamp(2)));
    }

    #[test]
    fn the_nearest_ancestor() {
        let mut tree = Tree::default();
        add(&mut tree, "/a", 1);
        assert_eq!(tree.nearest("/a").0, "/a");
        assert_eq!(tree.nearest("/a/x/y").0, "/a");
        assert_eq!(tree.nearest("/x/y").0, "/");
    }

    #[test]
    fn a_tree_as_deep_as_paths_allow_is_dropped_without_harm() {
        let mut tree = Tree::default();
        let mut path = String::new();
        for _ in 0..1536 {
            path.push_str("/a");
            add(&mut tree, &path, 1);
        }
        let snapshot = tree.clone();
        tree.set_value(&path, b"x"[..].into(), stamp(2));
        let mut nodes = 0;
        snapshot.root().walk("/", &mut |_, _| nodes += 1);
        assert_eq!(nodes, 1537);
    }
}
