//! What a client of the daemon's socket asks: one line of text. The answer is a line as well, `ok` or `error WHY`; what follows it
//! depends on the request.
//!
//! | request | after `ok` |
//! |---|---|
//! | `attach VM` | the history, then what the guest writes; what the client writes is typed in. To the connection's end |
//! | `history VM` | the history, and the end |
//! | `list` | a line `UUID DOMID NAME` for each running VM, and the end |
//! | `forget UUID` | the end: the history is gone |
//!
//! VM is a UUID, a domain's number, or a running VM's name.

use radon_domain::uuid::Uuid;

/// The longest line, its end included.
pub const LONGEST: usize = 512;

/// Who is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// A VM, running or not.
    Vm(Uuid),
    /// A domain.
    Domain(u16),
    /// A running VM.
    Name(String),
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// See it and type.
    Attach(Who),
    /// See what it said.
    History(Who),
    /// Who is there.
    List,
    /// Remove a history.
    Forget(Uuid),
}

impl Who {
    /// From text.
    pub fn parse(text: &str) -> Self {
        if let Ok(vm) = text.parse() {
            return Self::Vm(vm);
        }
        match text.parse() {
            Ok(domid) => Self::Domain(domid),
            Err(_) => Self::Name(text.to_owned()),
        }
    }
}

impl Request {
    /// From a line, without its end.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let line = std::str::from_utf8(line).map_err(|_| "the request is no text")?;
        let line = line.strip_suffix('\r').unwrap_or(line);
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (word, rest) {
            ("attach", who) if !who.is_empty() => Ok(Self::Attach(Who::parse(who))),
            ("history", who) if !who.is_empty() => Ok(Self::History(Who::parse(who))),
            ("list", "") => Ok(Self::List),
            ("forget", vm) => vm.parse().map(Self::Forget).map_err(|e| format!("{vm}: {e}")),
            _ => Err("not one of: attach VM, history VM, list, forget UUID".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines() {
        let vm = Uuid::from_bytes([9; 16]);
        assert_eq!(Request::parse(format!("attach {vm}").as_bytes()), Ok(Request::Attach(Who::Vm(vm))));
        assert_eq!(Request::parse(b"attach 12\r"), Ok(Request::Attach(Who::Domain(12))));
        assert_eq!(Request::parse(b"history a b"), Ok(Request::History(Who::Name("a b".into()))));
        assert_eq!(Request::parse(b"attach 70000"), Ok(Request::Attach(Who::Name("70000".into()))));
        assert_eq!(Request::parse(b"list"), Ok(Request::List));
        assert_eq!(Request::parse(format!("forget {vm}").as_bytes()), Ok(Request::Forget(vm)));
        for bad in [&b""[..], b"attach", b"attach ", b"list all", b"forget ../x", b"forget", b"\xff"] {
            assert!(Request::parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Request::parse(&bytes);
        }
    }
}
