//! The stream of records of a saved HVM context (`hvm/save.h`): a descriptor, then as many bytes as it says.

use alloc::vec::Vec;

use xen_abi::Errno;
use xen_abi::hvm_save::{HVM_SAVE_CODE_END, HvmSaveDescriptor};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// One record as read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// `HVM_SAVE_CODE_*`.
    pub typecode: u16,
    /// vCPU of a per-vCPU record.
    pub instance: u16,
    /// Its bytes.
    pub data: &'a [u8],
}

impl Record<'_> {
    /// The record as `T`. `EINVAL` when the length differs.
    pub fn exact<T: FromBytes>(&self) -> Result<T, Errno> {
        T::read_from_bytes(self.data).map_err(|_| Errno::EINVAL)
    }
    /// The record as `T`; a shorter one is an older version's, the rest of which is zero.
    pub fn extended<T: FromBytes + FromZeros + IntoBytes>(&self) -> Result<T, Errno> {
        let mut value = T::new_zeroed();
        let to = value.as_mut_bytes().get_mut(..self.data.len()).ok_or(Errno::EINVAL)?;
        to.copy_from_slice(self.data);
        Ok(value)
    }
}

/// Appends a record.
pub fn put<T: IntoBytes + Immutable>(to: &mut Vec<u8>, typecode: u16, instance: u16, value: &T) {
    put_bytes(to, typecode, instance, value.as_bytes());
}

/// Appends a record of any length.
pub fn put_bytes(to: &mut Vec<u8>, typecode: u16, instance: u16, data: &[u8]) {
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    to.extend_from_slice(HvmSaveDescriptor { typecode, instance, length }.as_bytes());
    to.extend_from_slice(data);
}

/// Reads records up to the END record. Yields `Err(ENODATA)` once when the stream ends early.
pub struct Reader<'a> {
    rest: &'a [u8],
    ended: bool,
}

impl<'a> Reader<'a> {
    /// From the first record.
    pub fn new(stream: &'a [u8]) -> Reader<'a> {
        Reader { rest: stream, ended: false }
    }

    fn take(&mut self) -> Option<Record<'a>> {
        let (d, rest) = HvmSaveDescriptor::read_from_prefix(self.rest).ok()?;
        let (data, rest) = rest.split_at_checked(d.length as usize)?;
        self.rest = rest;
        Some(Record { typecode: d.typecode, instance: d.instance, data })
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Record<'a>, Errno>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.take() {
            Some(r) if r.typecode == HVM_SAVE_CODE_END => None,
            Some(r) => Some(Ok(r)),
            None => {
                self.ended = true;
                Some(Err(Errno::ENODATA))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_put_is_read(records in prop::collection::vec((1u16..30, any::<u16>(), prop::collection::vec(any::<u8>(), 0..40)), 0..8)) {
            let mut stream = vec![];
            for (t, i, data) in &records {
                put_bytes(&mut stream, *t, *i, data);
            }
            put_bytes(&mut stream, HVM_SAVE_CODE_END, 0, &[]);
            let read: Vec<_> = Reader::new(&stream).map(|r| r.map(|r| (r.typecode, r.instance, r.data.to_vec()))).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(read, records);
        }

        #[test]
        fn no_stream_is_too_odd(stream in prop::collection::vec(any::<u8>(), 0..200)) {
            let n = Reader::new(&stream).count();
            prop_assert!(n <= stream.len() / size_of::<HvmSaveDescriptor>() + 1);
        }
    }

    #[test]
    fn a_cut_stream_says_so() {
        let mut stream = vec![];
        put(&mut stream, 2, 0, &7u64);
        assert_eq!(Reader::new(&stream).last(), Some(Err(Errno::ENODATA)));
        stream.pop();
        assert_eq!(Reader::new(&stream).next(), Some(Err(Errno::ENODATA)));
    }

    #[test]
    fn lengths() {
        let r = Record { typecode: 2, instance: 0, data: &[1, 2] };
        assert_eq!(r.extended::<u32>(), Ok(0x0201));
        assert_eq!(r.exact::<u32>(), Err(Errno::EINVAL));
        assert_eq!(r.exact::<u16>(), Ok(0x0201));
        assert_eq!(r.extended::<u8>(), Err(Errno::EINVAL));
    }
}
