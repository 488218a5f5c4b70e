//! VHD: fixed and dynamic disks, after Microsoft's "Virtual Hard Disk Image Format Specification" (1.0, 2006).
//!
//! ```text
//! fixed:    data of the whole disk | footer
//! dynamic:  copy of the footer | header | block allocation table | blocks, in any order | footer
//!           block: bitmap of its sectors (1: written), padded to a sector | data
//! ```
//! All numbers are big-endian. The disk's size is the footer's "current size", whatever program made the image; its geometry
//! is ignored. A sector whose bit is clear reads as zeros. Differencing disks are refused.

mod layout;
mod read;
mod write;

pub use layout::{COOKIE, MAX_SIZE};
pub use read::read;
pub use write::{write_dynamic, write_fixed};
