//! Paths: what a client may name, and how names are taken apart.

use crate::errno::{Errno, Result};
use std::borrow::Cow;

/// Where the store keeps what belongs to one domain.
pub fn of_domain(domid: impl std::fmt::Display) -> String {
    format!("/local/domain/{domid}")
}

/// Whether this names an event rather than a node (`@releaseDomain`).
pub fn is_special(path: &str) -> bool {
    path.starts_with('@')
}

/// The full path that `raw` means for a client whose relative paths start at `base`.
///
/// Special names pass as they are; whether they make sense is for the operation to say.
pub fn resolve<'a>(raw: &'a [u8], base: &str) -> Result<Cow<'a, str>> {
    let raw = std::str::from_utf8(raw).map_err(|_| Errno::Inval)?;
    match raw.as_bytes().first() {
        Some(b'/' | b'@') => Ok(Cow::Borrowed(raw)),
        _ => Ok(Cow::Owned(format!("{base}/{raw}"))),
    }
}

/// Refuses what is no name of a node: characters, doubled and trailing slashes, length.
///
/// `longest` counts what follows `/local/domain/<domid>/`, so that it means the same to every domain.
pub fn check(path: &str, longest: usize) -> Result<()> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'/' | b'_' | b'@');
    let good = path.starts_with('/')
        && (path == "/" || !path.ends_with('/'))
        && !path.contains("//")
        && path.len() <= domain_prefix(path) + longest
        && path.bytes().all(allowed);
    if good { Ok(()) } else { Err(Errno::Inval) }
}

/// Length of a leading `/local/domain/<domid>/`, or 0.
fn domain_prefix(path: &str) -> usize {
    const START: &str = "/local/domain/";
    let Some(rest) = path.strip_prefix(START) else { return 0 };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let whole = (1..=5).contains(&digits) && rest.as_bytes().get(digits) == Some(&b'/');
    if whole { START.len() + digits + 1 } else { 0 }
}

/// Parent and last component; `None` for the root.
pub fn split(path: &str) -> Option<(&str, &str)> {
    let (parent, name) = path.rsplit_once('/')?;
    if name.is_empty() { None } else { Some((if parent.is_empty() { "/" } else { parent }, name)) }
}

/// The path of a child.
pub fn join(parent: &str, name: &str) -> String {
    if parent == "/" { format!("/{name}") } else { format!("{parent}/{name}") }
}

/// Components from the root down.
pub fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|c| !c.is_empty())
}

/// `path`, its parent, and so on up to the root.
pub fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |p| split(p).map(|(parent, _)| parent))
}

/// How many levels `path` lies below `base`, which is it or one of its ancestors.
pub fn levels_below(path: &str, base: &str) -> usize {
    components(path).count().saturating_sub(components(base).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_and_bad_names() {
        for good in ["/", "/a", "/a/b-c_d@E/0"] {
            assert_eq!(check(good, 2048), Ok(()), "{good}");
        }
        for bad in ["", "a", "/a/", "//", "/a//b", "/a b", "/a\u{e9}", "/a+b", "@releaseDomain"] {
            assert_eq!(check(bad, 2048), Err(Errno::Inval), "{bad}");
        }
    }

    #[test]
    fn the_domains_own_prefix_is_free() {
        let tail = "x".repeat(20);
        assert_eq!(check(&format!("/local/domain/12345/{tail}"), 20), Ok(()));
        assert_eq!(check(&format!("/local/domain/12345/{tail}y"), 20), Err(Errno::Inval));
        assert_eq!(check(&format!("/local/domain/123456/{tail}"), 20), Err(Errno::Inval));
        assert_eq!(check("/local/domain/1", 10), Err(Errno::Inval));
    }

    #[test]
    fn relative_names_start_at_the_domains_node() {
        assert_eq!(resolve(b"x/y", "/local/domain/3").unwrap(), "/local/domain/3/x/y");
        assert_eq!(resolve(b"/x", "/local/domain/3").unwrap(), "/x");
        assert_eq!(resolve(b"@releaseDomain", "/local/domain/3").unwrap(), "@releaseDomain");
        assert_eq!(resolve(b"\xff", "/"), Err(Errno::Inval));
    }

    #[test]
    fn taking_apart() {
        assert_eq!(split("/"), None);
        assert_eq!(split("/a"), Some(("/", "a")));
        assert_eq!(split("/a/b"), Some(("/a", "b")));
        assert_eq!(ancestors("/a/b").collect::<Vec<_>>(), ["/a/b", "/a", "/"]);
        assert_eq!(levels_below("/a/b/c", "/a"), 2);
        assert_eq!(levels_below("/a", "/"), 1);
        assert_eq!(join("/", "a"), "/a");
        assert_eq!(join("/a", "b"), "/a/b");
    }
}
