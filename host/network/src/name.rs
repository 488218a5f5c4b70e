//! Names, each fit for where it goes: the kernel, the packet filter's rules, DNS.

use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                Self::try_from(text.to_owned())
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self, Error> {
                if $check(&text) { Ok(Self(text)) } else { Err(Error::Invalid(format!("{text:?} is no {}", $what))) }
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

name! {
    /// A network interface of dom0's kernel. Fewer characters than the kernel allows: it is also part of names in rules.
    LinkName, is_link, "name of an interface: 1 to 15 of letters, digits, '.', '_', '-', a letter first"
}
name! {
    /// A network.
    NetworkName, is_network, "name of a network: 1 to 32 of a-z, 0-9 and '-', not first or last"
}
name! {
    /// A guest's name in its network: one label of a DNS name, in small letters.
    HostName, is_label, "name of a host: 1 to 63 of a-z, 0-9 and '-', not first or last"
}
name! {
    /// A DNS domain, in small letters.
    DomainName, is_domain, "domain such as net1.example: labels of a-z, 0-9 and '-', at most 180 bytes"
}

fn is_link(text: &str) -> bool {
    let ok = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    text.len() <= 15 && text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(ok)
}

fn is_network(text: &str) -> bool {
    text.len() <= 32 && is_label(text)
}

fn is_label(text: &str) -> bool {
    let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&text.len()) && text.chars().all(ok) && !text.starts_with('-') && !text.ends_with('-')
}

// With the longest host name in front it still fits a DNS name.
fn is_domain(text: &str) -> bool {
    text.len() <= 180 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["vif1.0", "xenbr0", "tap-a_b", "a"] {
            assert!(good.parse::<LinkName>().is_ok(), "{good}");
        }
        for bad in ["", "1a", ".x", "a b", "a/b", "a\"b", "sixteen-letters-", "ä"] {
            assert!(bad.parse::<LinkName>().is_err(), "{bad}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a b"] {
            assert!(bad.parse::<NetworkName>().is_err() && bad.parse::<HostName>().is_err(), "{bad}");
        }
        assert!("net1.radon.internal".parse::<DomainName>().is_ok());
        for bad in ["", ".", "a..b", "a.", "A.b"] {
            assert!(bad.parse::<DomainName>().is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<LinkName>("\"a;b\"").is_err());
    }
}
