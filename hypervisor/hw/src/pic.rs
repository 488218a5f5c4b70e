//! The two 8259 interrupt controllers, which only need silencing.

use crate::port::{io_delay, out8};

/// Moves their vectors out of the exceptions' way (0x20-0x2f) and masks everything.
pub fn mask_all() {
    for (port, value) in
        [(0x20, 0x11), (0xa0, 0x11), (0x21, 0x20), (0xa1, 0x28), (0x21, 4), (0xa1, 2), (0x21, 1), (0xa1, 1)]
    {
        out8(port, value);
        io_delay();
    }
    out8(0x21, 0xff);
    out8(0xa1, 0xff);
}
