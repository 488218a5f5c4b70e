//! Hardware addresses.

use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// A hardware address of one interface: neither of a group nor all zeros.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Mac([u8; 6]);

impl Mac {
    /// One of these bytes, if they are one interface's address.
    pub fn new(bytes: [u8; 6]) -> Option<Self> {
        (bytes[0] & 1 == 0 && bytes != [0; 6]).then_some(Self(bytes))
    }

    /// One with the prefix that Xen's guests have.
    pub fn xen([a, b, c]: [u8; 3]) -> Self {
        Self([0x00, 0x16, 0x3e, a, b, c])
    }

    /// Its bytes, as on the wire.
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }

    /// A locally administered one made of a text: the same text, the same address.
    pub(crate) fn of(text: &str) -> Self {
        // FNV-1a, 64 bits.
        let hash = text
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        let [a, b, c, d, e, ..] = (hash ^ hash >> 24).to_le_bytes();
        Self([0x02, a, b, c, d, e])
    }

    /// The link-local address that IPv6 makes of it (RFC 4291, appendix A).
    pub fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        let word = |high, low| u16::from_be_bytes([high, low]);
        Ipv6Addr::new(0xfe80, 0, 0, 0, word(a ^ 2, b), word(c, 0xff), word(0xfe, d), word(e, f))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Invalid(format!("{text:?} is no hardware address such as 00:16:3e:01:02:03"));
        let mut bytes = [0; 6];
        let mut words = text.split(':');
        for byte in &mut bytes {
            let word = words.next().filter(|w| w.len() == 2 && w.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = u8::from_str_radix(word.ok_or_else(wrong)?, 16).map_err(|_| wrong())?;
        }
        if words.next().is_some() { Err(wrong()) } else { Self::new(bytes).ok_or_else(wrong) }
    }
}

impl TryFrom<String> for Mac {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        let mac: Mac = "00:16:3E:0a:0b:0c".parse().unwrap();
        assert_eq!(mac.to_string(), "00:16:3e:0a:0b:0c");
        assert_eq!(mac.link_local().to_string(), "fe80::216:3eff:fe0a:b0c");
        for bad in [
            "",
            "00:16:3e:0a:0b",
            "00:16:3e:0a:0b:0c:0d",
            "01:16:3e:0a:0b:0c",
            "00:00:00:00:00:00",
            "+0:16:3e:0a:0b:0c",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
        assert_ne!(Mac::of("a"), Mac::of("b"));
        assert_eq!(Mac::of("a").bytes()[0], 2);
    }
}
