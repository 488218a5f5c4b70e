//! The two ends' states in the store (`io/xenbus.h`), and what this end does next. Pure.
//!
//! ```text
//! toolstack   front end          this end
//!  1           1                  1 Initialising
//!              |                  2 InitWait      file open, features in the store
//!              3 Initialised      |               rings and channels in the store
//!              |                  4 Connected     rings served
//!              4 Connected
//!  5 ------------------------->   5 Closing       rings still served: the guest may have to write back
//!              5 Closing
//!              6 Closed           6 Closed        rings let go; with `online` 1, back to 2 when the front end begins anew
//! ```
//!
//! A front end that is gone from the store counts as closed. A process that finds a device in a state that only a served one can be in is
//! the successor of a killed one, and goes on where that was.

pub use radon_xen::state::State;

/// What there is to see of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// This end; `None`: the toolstack has taken the device away.
    pub back: Option<State>,
    /// The other end; `None`: gone, or nonsense.
    pub front: Option<State>,
    /// Whether the device is to stay when the front end closes.
    pub online: bool,
    /// What this process has of it.
    pub have: Have,
}

/// What this process has of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Have {
    /// Nothing.
    Nothing,
    /// The disk, open.
    Disk,
    /// The disk and the rings.
    Rings,
    /// Nothing any more: it could not be served.
    Failed,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing until something changes.
    Wait,
    /// Open the disk and say what it can do; [`State::InitWait`].
    Offer,
    /// Take up the rings; [`State::Connected`].
    Connect,
    /// Take up rings that a predecessor served.
    Resume,
    /// Let go of everything and say so.
    Close,
    /// Say that it is closing.
    Closing,
    /// Let go of everything: the device is no more.
    Forget,
}

/// The next step.
pub fn next(seen: Seen) -> Step {
    let Some(back) = seen.back else { return Step::Forget };
    let gone = matches!(seen.front, None | Some(State::Closed));
    let anew = matches!(seen.front, Some(State::Initialising | State::InitWait));
    let set_up = matches!(seen.front, Some(State::Initialised | State::Connected));
    match seen.have {
        Have::Rings if gone => Step::Close,
        Have::Rings if anew && seen.online => Step::Offer,
        Have::Rings if anew => Step::Close,
        Have::Rings if seen.front == Some(State::Closing) && back == State::Connected => Step::Closing,
        Have::Rings => Step::Wait,
        Have::Failed if back != State::Closed && (gone || anew) => Step::Close,
        Have::Failed => Step::Wait,
        Have::Nothing | Have::Disk => match back {
            State::Initialising if seen.online => Step::Offer,
            State::Closed if seen.online && anew => Step::Offer,
            State::Closed => Step::Wait,
            State::Connected | State::Closing if set_up || seen.front == Some(State::Closing) => Step::Resume,
            State::Connected if anew && seen.online => Step::Offer,
            State::InitWait | State::Initialised if set_up && seen.have == Have::Disk => Step::Connect,
            // A predecessor's.
            State::InitWait | State::Initialised if (set_up || anew) && seen.online => {
                if seen.have == Have::Nothing { Step::Offer } else { Step::Wait }
            }
            _ => Step::Close,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::State::*;
    use super::*;

    fn seen(back: State, front: Option<State>, have: Have) -> Seen {
        Seen { back: Some(back), front, online: true, have }
    }

    #[test]
    fn a_life() {
        for (back, front, have, step) in [
            (Initialising, Some(Initialising), Have::Nothing, Step::Offer),
            (InitWait, Some(Initialising), Have::Disk, Step::Wait),
            (InitWait, Some(Initialised), Have::Disk, Step::Connect),
            // A front end that says nothing in between.
            (InitWait, Some(Connected), Have::Disk, Step::Connect),
            (Connected, Some(Initialised), Have::Rings, Step::Wait),
            (Connected, Some(Connected), Have::Rings, Step::Wait),
            // The toolstack asks; the guest closes.
            (Closing, Some(Connected), Have::Rings, Step::Wait),
            (Closing, Some(Closing), Have::Rings, Step::Wait),
            (Closing, Some(Closed), Have::Rings, Step::Close),
            (Closed, Some(Closed), Have::Nothing, Step::Wait),
            // The guest closes by itself, and begins anew.
            (Connected, Some(Closing), Have::Rings, Step::Closing),
            (Closed, Some(Initialising), Have::Nothing, Step::Offer),
            (Connected, Some(Initialising), Have::Rings, Step::Offer),
            // Its directory is taken away.
            (Closing, None, Have::Rings, Step::Close),
        ] {
            assert_eq!(next(seen(back, front, have)), step, "{back:?} {front:?} {have:?}");
        }
        let gone = Seen { back: None, front: Some(Connected), online: true, have: Have::Rings };
        assert_eq!(next(gone), Step::Forget);
    }

    #[test]
    fn a_successor_goes_on() {
        for (back, front, step) in [
            (Initialising, Some(Initialising), Step::Offer),
            (InitWait, Some(Initialising), Step::Offer),
            (InitWait, Some(Initialised), Step::Offer),
            (Connected, Some(Initialised), Step::Resume),
            (Connected, Some(Connected), Step::Resume),
            (Connected, Some(Closing), Step::Resume),
            (Closing, Some(Connected), Step::Resume),
            (Closing, Some(Closing), Step::Resume),
            (Connected, Some(Closed), Step::Close),
            (Connected, None, Step::Close),
            (Connected, Some(Initialising), Step::Offer),
            (Closing, Some(Closed), Step::Close),
        ] {
            assert_eq!(next(seen(back, front, Have::Nothing)), step, "{back:?} {front:?}");
        }
    }

    #[test]
    fn every_state_has_a_step_and_a_closed_device_stays_closed() {
        let states = [Initialising, InitWait, Initialised, Connected, Closing, Closed];
        for back in states {
            for front in states.into_iter().map(Some).chain([None]) {
                for have in [Have::Nothing, Have::Disk, Have::Rings, Have::Failed] {
                    let offline = Seen { online: false, ..seen(back, front, have) };
                    assert_ne!(next(offline), Step::Offer, "{offline:?}: nobody wants it any more");
                    if have == Have::Failed {
                        assert!(matches!(next(seen(back, front, have)), Step::Wait | Step::Close));
                    }
                }
            }
        }
    }
}
