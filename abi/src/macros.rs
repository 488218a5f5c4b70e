//! The two macros every file of this crate is written with: C constants and C structures.

/// Declares constants of one integer type together with a table of their names and values.
///
/// The Rust name is the C macro's in upper case. The table serves diagnostics and `tests/headers.rs`, which
/// compares every entry with the C headers.
macro_rules! c_consts {
    ($(#[$m:meta])+ $table:ident: $ty:ty { $($name:ident = $val:expr),* $(,)? }) => {
        $(
            #[allow(missing_docs, reason = "documented at the macro of that name in the C header")]
            pub const $name: $ty = $val;
        )*
        $(#[$m])+
        pub const $table: &[(&str, i64)] = &[$((stringify!($name), $name as i64)),*];
    };
}

/// Declares a structure of the ABI: `pub struct Name = "C type", size { field ("C name, if not the same"): type }`.
///
/// The derives refuse implicit padding, so padding is spelled out in fields whose name starts with `_`; the size is
/// asserted at compile time, and `tests/headers.rs` compares size and offsets with the C headers. With `@packed4` in
/// front no field is aligned to more than 4 bytes: the layout of a 32-bit caller.
macro_rules! c_struct {
    (@packed4 $($rest:tt)+) => { $crate::macros::c_struct!(@repr (C, packed(4)) $($rest)+); };
    (@repr $repr:tt $(
        $(#[$m:meta])+
        pub struct $name:ident = $c:literal, $size:literal {
            $($field:ident $(($cfield:literal))? : $ty:ty),* $(,)?
        }
    )+) => { $(
        $(#[$m])+
        #[allow(missing_docs, reason = "fields are documented in the C header, under the same names")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)]
        #[repr $repr]
        pub struct $name { $(pub $field: $ty),* }

        const _: () = assert!(core::mem::size_of::<$name>() == $size, concat!("size of ", $c));

        impl $crate::CLayout for $name {
            const C_NAME: &'static str = $c;
            const FIELDS: &'static [$crate::CField] = &[
                $($crate::CField {
                    c_path: $crate::macros::c_name!($field $(, $cfield)?),
                    offset: core::mem::offset_of!($name, $field),
                    size: core::mem::size_of::<$ty>(),
                }),*
            ];
        }
    )+ };
    ($($rest:tt)+) => { $crate::macros::c_struct!(@repr (C) $($rest)+); };
}

/// The C name of a field: its own unless one is given.
macro_rules! c_name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident, $c:literal) => {
        $c
    };
}

/// Gives a structure that ends in a C union, kept as the byte array `u`, typed access to the union's members.
macro_rules! c_union {
    ($name:ident, $len:literal) => {
        impl $name {
            const U_LEN: usize = $len;

            /// The union read as its member `T`.
            pub fn payload<T: zerocopy::FromBytes>(&self) -> T {
                const { assert!(core::mem::size_of::<T>() <= Self::U_LEN) };
                T::read_from_prefix(&self.u).map_or_else(|_| T::new_zeroed(), |(v, _)| v)
            }

            /// Writes the union's member `T`; bytes of the union beyond it stay as they are.
            pub fn set_payload<T: zerocopy::IntoBytes + zerocopy::Immutable>(&mut self, value: &T) {
                const { assert!(core::mem::size_of::<T>() <= Self::U_LEN) };
                // Cannot fail: the assertion above holds for every T this is compiled for.
                let _ = value.write_to_prefix(&mut self.u);
            }
        }
    };
}

pub(crate) use {c_consts, c_name, c_struct, c_union};
