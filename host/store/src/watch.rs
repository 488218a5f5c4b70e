//! Watches, found by the paths that trigger them.

use crate::connection::ConnId;
use crate::path;
use std::collections::HashMap;
use std::sync::Arc;

/// One watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Who is told.
    pub conn: ConnId,
    /// The full path, or the special name.
    pub path: Arc<str>,
    /// Returned with each event.
    pub token: Arc<[u8]>,
    /// Levels below the path that count; no limit if `None`.
    pub depth: Option<u32>,
    /// How many bytes of a path are left out of its events: the client gave a relative path.
    pub cut: usize,
}

impl Watch {
    /// The payload of an event at `at`.
    pub fn event(&self, at: &str) -> Vec<u8> {
        let shown = at.get(self.cut..).unwrap_or_default();
        let shown = if self.cut > 0 { shown.strip_prefix('/').unwrap_or(shown) } else { shown };
        let mut payload = Vec::with_capacity(shown.len() + self.token.len() + 2);
        payload.extend_from_slice(shown.as_bytes());
        payload.push(0);
        payload.extend_from_slice(&self.token);
        payload.push(0);
        payload
    }
}

/// All watches of all connections.
#[derive(Debug, Default)]
pub struct Watches {
    by_path: HashMap<Arc<str>, Vec<Watch>>,
}

impl Watches {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_path.is_empty()
    }

    /// Adds one.
    pub fn add(&mut self, watch: Watch) {
        self.by_path.entry(watch.path.clone()).or_default().push(watch);
    }

    /// Takes one out.
    pub fn remove(&mut self, conn: ConnId, path: &str, token: &[u8]) -> Option<Watch> {
        let list = self.by_path.get_mut(path)?;
        let at = list.iter().position(|w| w.conn == conn && *w.token == *token)?;
        let watch = list.remove(at);
        if list.is_empty() {
            self.by_path.remove(path);
        }
        Some(watch)
    }

    /// Those set on exactly this path.
    pub fn at(&self, path: &str) -> &[Watch] {
        self.by_path.get(path).map_or(&[], Vec::as_slice)
    }

    /// Those that a change at `path` triggers: on it, or on an ancestor and deep enough.
    pub fn above<'a>(&'a self, at: &'a str) -> impl Iterator<Item = &'a Watch> {
        path::ancestors(at).flat_map(move |ancestor| {
            let list = self.at(ancestor);
            list.iter().filter(move |w| {
                w.depth.is_none_or(|depth| path::levels_below(at, ancestor) <= depth as usize)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perm::DomId;

    fn watch(path: &str, token: &str, depth: Option<u32>) -> Watch {
        let conn = ConnId::Domain(DomId(1));
        Watch { conn, path: path.into(), token: token.as_bytes().into(), depth, cut: 0 }
    }

    #[test]
    fn a_change_reaches_its_ancestors_as_deep_as_they_asked() {
        let mut watches = Watches::default();
        for (path, token, depth) in [
            ("/", "root", None),
            ("/a", "a", None),
            ("/a", "a0", Some(0)),
            ("/a", "a1", Some(1)),
            ("/b", "b", None),
        ] {
            watches.add(watch(path, token, depth));
        }
        let seen = |at: &str| {
            let mut seen: Vec<String> =
                watches.above(at).map(|w| String::from_utf8_lossy(&w.token).into_owned()).collect();
            seen.sort();
            seen.join(" ")
        };
        assert_eq!(seen("/a"), "a a0 a1 root");
        assert_eq!(seen("/a/x"), "a a1 root");
        assert_eq!(seen("/a/x/y"), "a root");
        assert_eq!(seen("/ab"), "root");
    }

    #[test]
    fn relative_paths_stay_relative() {
        let mut relative = watch("/local/domain/1/x", "t", None);
        relative.cut = "/local/domain/1".len();
        assert_eq!(relative.event("/local/domain/1/x/y"), b"x/y\0t\0");
        let mut own = watch("/local/domain/1", "t", None);
        own.cut = "/local/domain/1".len();
        assert_eq!(own.event("/local/domain/1"), b"\0t\0");
        assert_eq!(watch("/a", "t", None).event("/a/b"), b"/a/b\0t\0");
    }

    #[test]
    fn the_same_path_may_be_watched_twice() {
        let mut watches = Watches::default();
        watches.add(watch("/a", "1", None));
        watches.add(watch("/a", "2", None));
        let conn = ConnId::Domain(DomId(1));
        assert_eq!(watches.remove(conn, "/a", b"3"), None);
        assert!(watches.remove(conn, "/a", b"1").is_some());
        assert_eq!(watches.at("/a").len(), 1);
        assert!(watches.remove(conn, "/a", b"2").is_some());
        assert!(watches.is_empty());
    }
}
