//! How an interrupted hypercall goes on: with which of its arguments changed.

/// The most arguments that any operation changes.
const MAX: usize = 3;

/// The first arguments of the next call. All others stay as they are: the ABI lets a call change the registers of its own
/// arguments only, and compilers keep values in the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Continuation([Option<u64>; MAX]);

impl Continuation {
    /// The same call again.
    pub const SAME: Continuation = Continuation([None; MAX]);

    /// With these first arguments.
    pub const fn one(a: u64) -> Continuation {
        Continuation([Some(a), None, None])
    }
    /// With these first arguments.
    pub const fn two(a: u64, b: u64) -> Continuation {
        Continuation([Some(a), Some(b), None])
    }
    /// With these first arguments.
    pub const fn three(a: u64, b: u64, c: u64) -> Continuation {
        Continuation([Some(a), Some(b), Some(c)])
    }

    /// The arguments that change: number and value.
    pub fn changes(self) -> impl Iterator<Item = (usize, u64)> {
        self.0.into_iter().enumerate().filter_map(|(n, value)| Some((n, value?)))
    }

    /// The arguments of the next call, when the last had `args`.
    pub fn applied(self, mut args: [u64; 6]) -> [u64; 6] {
        for (n, value) in self.changes() {
            if let Some(arg) = args.get_mut(n) {
                *arg = value;
            }
        }
        args
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_arguments_named_change() {
        let args = [1, 2, 3, 4, 5, 6];
        assert_eq!(Continuation::SAME.applied(args), args);
        assert_eq!(Continuation::one(9).applied(args), [9, 2, 3, 4, 5, 6]);
        assert_eq!(Continuation::two(9, 8).applied(args), [9, 8, 3, 4, 5, 6]);
        assert_eq!(Continuation::three(9, 8, 7).applied(args), [9, 8, 7, 4, 5, 6]);
    }
}
