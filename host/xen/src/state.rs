//! The states of the two ends of a device (`io/xenbus.h`), as their nodes `state` hold them.

/// `XenbusState`, of either end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// 1.
    Initialising,
    /// 2.
    InitWait,
    /// 3.
    Initialised,
    /// 4.
    Connected,
    /// 5.
    Closing,
    /// 6.
    Closed,
}

impl State {
    /// As the store holds it; `None`: unknown, or no node.
    pub fn parse(text: Option<&str>) -> Option<Self> {
        Some(match text? {
            "1" => Self::Initialising,
            "2" => Self::InitWait,
            "3" => Self::Initialised,
            "4" => Self::Connected,
            "5" => Self::Closing,
            "6" => Self::Closed,
            _ => return None,
        })
    }

    /// As the store holds it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Initialising => "1",
            Self::InitWait => "2",
            Self::Initialised => "3",
            Self::Connected => "4",
            Self::Closing => "5",
            Self::Closed => "6",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::State;

    #[test]
    fn what_is_written_is_read() {
        let all: Vec<State> =
            ["1", "2", "3", "4", "5", "6"].into_iter().filter_map(|text| State::parse(Some(text))).collect();
        assert_eq!(all.iter().map(|state| state.text()).collect::<String>(), "123456");
        assert!(all.is_sorted());
        for none in [None, Some(""), Some("0"), Some("7"), Some("04")] {
            assert_eq!(State::parse(none), None);
        }
    }
}
