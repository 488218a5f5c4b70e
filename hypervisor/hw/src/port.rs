//! I/O ports.
#![allow(unsafe_code)] // IN and OUT

macro_rules! ports {
    ($($in:ident $out:ident $ty:ident $reg:tt $mod:literal;)*) => {$(
        /// Reads a port.
        #[inline]
        pub fn $in(port: u16) -> $ty {
            #[cfg(target_os = "none")]
            {
                let value: $ty;
                // SAFETY: port I/O cannot reach memory; what a device does with it is its driver's responsibility.
                unsafe { core::arch::asm!(concat!("in ", $mod, ", dx"), out($reg) value, in("dx") port,
                    options(nomem, nostack, preserves_flags)) };
                value
            }
            #[cfg(not(target_os = "none"))]
            crate::sim::thread::with(|t| t.ports.borrow().get(&port).map_or($ty::MAX, |&v| v as $ty))
        }
        /// Writes a port.
        #[inline]
        pub fn $out(port: u16, value: $ty) {
            #[cfg(target_os = "none")]
            // SAFETY: as for reading; a device's DMA is set up by its driver, here or in the hardware domain.
            unsafe { core::arch::asm!(concat!("out dx, ", $mod), in($reg) value, in("dx") port,
                options(nomem, nostack, preserves_flags)) };
            #[cfg(not(target_os = "none"))]
            crate::sim::thread::with(|t| {
                t.port_writes.borrow_mut().push((port, size_of::<$ty>() as u8, u32::from(value)));
            });
        }
    )*};
}
ports! {
    in8 out8 u8 "al" "al";
    in16 out16 u16 "ax" "ax";
    in32 out32 u32 "eax" "eax";
}

/// Waits long enough for an ISA device to notice the last access (port 0x80 is unused after POST).
pub fn io_delay() {
    out8(0x80, 0);
}
