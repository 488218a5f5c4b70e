//! The beginning of a connection: version, security (none: who gets here has been let in already), what the server says of itself.

use super::format::Format;

/// What the server says first.
pub const VERSION: &[u8; 12] = b"RFB 003.008\n";
/// Bytes of what the viewer answers.
pub const VERSION_LENGTH: usize = 12;
/// The security type "None".
pub const NONE: u8 = 1;

/// The protocol's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// The server decides.
    V3_3,
    /// The viewer chooses.
    V3_7,
    /// It is told how that went.
    V3_8,
}

impl Version {
    /// From the viewer's answer; `None` if that is none.
    pub fn parse(answer: [u8; VERSION_LENGTH]) -> Option<Self> {
        let [b'R', b'F', b'B', b' ', major @ .., b'\n'] = answer else { return None };
        let [_, _, _, b'.', _, _, _] = major else { return None };
        let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse::<u16>().ok();
        let (major, minor) = (number(major.get(..3)?)?, number(major.get(4..)?)?);
        match (major, minor) {
            (0..=2, _) => None,
            // 3.5 and the like are what 3.3 was called somewhere (RFC 6143, 7.1.1).
            (3, 0..=6) => Some(Self::V3_3),
            (3, 7) => Some(Self::V3_7),
            _ => Some(Self::V3_8),
        }
    }

    /// What the server offers.
    pub fn offer(self) -> &'static [u8] {
        match self {
            Self::V3_3 => &[0, 0, 0, NONE],
            Self::V3_7 | Self::V3_8 => &[1, NONE],
        }
    }

    /// Whether the viewer chooses then.
    pub fn chooses(self) -> bool {
        self > Self::V3_3
    }

    /// What the server says to its choice.
    pub fn result(self) -> &'static [u8] {
        if self == Self::V3_8 { &[0; 4] } else { &[] }
    }
}

/// What the server says of itself: size, pixels, name.
pub fn server(size: (u16, u16), name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(size.0.to_be_bytes());
    bytes.extend(size.1.to_be_bytes());
    bytes.extend(Format::default().bytes());
    bytes.extend(u32::try_from(name.len()).unwrap_or(0).to_be_bytes());
    bytes.extend(name.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (text, version) in [
            (b"RFB 003.003\n", Some(Version::V3_3)),
            (b"RFB 003.005\n", Some(Version::V3_3)),
            (b"RFB 003.007\n", Some(Version::V3_7)),
            (b"RFB 003.008\n", Some(Version::V3_8)),
            (b"RFB 003.889\n", Some(Version::V3_8)),
            (b"RFB 004.001\n", Some(Version::V3_8)),
            (b"RFB 002.000\n", None),
            (b"RFB 003-008\n", None),
            (b"RFB +03.008\n", Some(Version::V3_8)),
            (b"RFB 0\xff3.008\n", None),
            (b"GET / HTTP/1", None),
        ] {
            assert_eq!(Version::parse(*text), version, "{text:?}");
        }
    }
}
