//! From whatever the loader gave us to the ELF inside: bzImage, a compressed ELF, or an ELF as it is.

mod bcj;
mod crc32;
mod gzip;
mod lz4;
mod lzma2;
#[cfg(test)]
mod tests;
mod xz;
mod zstd;

use alloc::borrow::Cow;
use alloc::vec;

/// A larger kernel than this is taken for a garbled length field.
pub const MAX_UNPACKED: usize = 1 << 30;

/// Why a kernel image cannot be unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Neither bzImage nor ELF nor a compressed file this crate knows.
    UnknownFormat,
    /// A compression or feature that is not implemented; the text names it.
    Unsupported(&'static str),
    /// The bzImage header points outside the image.
    BadBzImage,
    /// The data end too early.
    Truncated,
    /// The compressed data contradict themselves.
    Corrupt,
    /// The stored checksum is not that of the data.
    BadChecksum,
    /// The data do not unpack to the announced length.
    WrongLength,
    /// The announced length exceeds [`MAX_UNPACKED`].
    TooLarge,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Error::UnknownFormat => "kernel is neither a bzImage, an ELF, nor a known compressed file",
            Error::Unsupported(what) => {
                return write!(
                    f,
                    "kernel uses {what}: rebuild it with xz, zstd, gzip or LZ4, or boot the plain ELF vmlinux"
                );
            }
            Error::BadBzImage => "bzImage header is inconsistent",
            Error::Truncated => "compressed kernel is truncated",
            Error::Corrupt => "compressed kernel is corrupt",
            Error::BadChecksum => "unpacked kernel has a wrong checksum",
            Error::WrongLength => "kernel does not unpack to the announced length",
            Error::TooLarge => "kernel claims to be larger than 1 GiB",
        })
    }
}

impl core::error::Error for Error {}

/// How the ELF is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Not at all.
    Elf,
    /// gzip (RFC 1952).
    Gzip,
    /// xz.
    Xz,
    /// Zstandard (RFC 8878).
    Zstd,
    /// LZ4 legacy frames.
    Lz4,
}

/// A recognised image.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    /// Compression of `data`.
    pub format: Format,
    /// The (compressed) ELF; inside a bzImage its payload.
    pub data: &'a [u8],
    /// Bytes after unpacking: at most [`MAX_UNPACKED`].
    pub unpacked_len: usize,
}

impl<'a> Packed<'a> {
    /// Looks at headers only. An image whose length is not stored (raw LZ4) is walked once.
    pub fn detect(image: &'a [u8]) -> Result<Packed<'a>, Error> {
        let (data, in_bzimage) = match bzimage_payload(image)? {
            Some(payload) => (payload, true),
            None => (image, false),
        };
        let format = format_of(data)?;
        // The kernel's build appends the unpacked length to every payload (gzip has it there by itself).
        let appended =
            || data.last_chunk::<4>().map(|b| u64::from(u32::from_le_bytes(*b))).ok_or(Error::Truncated);
        let len = match format {
            Format::Elf => data.len() as u64,
            Format::Gzip => appended()?,
            _ if in_bzimage => appended()?,
            Format::Xz => xz::stream_len(data)?,
            Format::Lz4 => lz4::unpacked_len(data)?,
            Format::Zstd => zstd::content_size(data)?,
        };
        let unpacked_len = usize::try_from(len).ok().filter(|&n| n <= MAX_UNPACKED).ok_or(Error::TooLarge)?;
        Ok(Packed { format, data, unpacked_len })
    }

    /// Unpacks to `out`, whose length must be `unpacked_len`. On an error the contents of `out` are undefined.
    pub fn unpack_into(&self, out: &mut [u8]) -> Result<(), Error> {
        if out.len() != self.unpacked_len {
            return Err(Error::WrongLength);
        }
        match self.format {
            Format::Elf => out.copy_from_slice(self.data),
            Format::Gzip => gzip::decode(self.data, out)?,
            Format::Xz => xz::decode(self.data, out)?,
            Format::Lz4 => lz4::decode(self.data, out)?,
            Format::Zstd => zstd::decode(self.data, out)?,
        }
        Ok(())
    }
}

/// Bytes that [`unpack_into`] will write.
pub fn unpacked_len(image: &[u8]) -> Result<usize, Error> {
    Packed::detect(image).map(|p| p.unpacked_len)
}

/// Unpacks the ELF in `image` to the start of `out`; returns its length.
pub fn unpack_into(image: &[u8], out: &mut [u8]) -> Result<usize, Error> {
    let packed = Packed::detect(image)?;
    packed.unpack_into(out.get_mut(..packed.unpacked_len).ok_or(Error::WrongLength)?)?;
    Ok(packed.unpacked_len)
}

/// The ELF in `image`, borrowed when it is not compressed.
pub fn unpack(image: &[u8]) -> Result<Cow<'_, [u8]>, Error> {
    let packed = Packed::detect(image)?;
    if packed.format == Format::Elf {
        return Ok(Cow::Borrowed(packed.data));
    }
    let mut out = vec![0; packed.unpacked_len];
    packed.unpack_into(&mut out)?;
    Ok(Cow::Owned(out))
}

/// The payload of a bzImage (Linux boot protocol, Documentation/arch/x86/boot.rst); `None` when `image` is not one.
fn bzimage_payload(image: &[u8]) -> Result<Option<&[u8]>, Error> {
    if image.get(0x1fe..0x200) != Some(&[0x55, 0xaa]) || image.get(0x202..0x206) != Some(b"HdrS") {
        return Ok(None);
    }
    let version = image.get(0x206..).and_then(|b| b.first_chunk()).map(|b| u16::from_le_bytes(*b));
    if version.is_none_or(|v| v < 0x208) {
        return Err(Error::Unsupported("a boot protocol older than 2.08 (Linux before 2.6.26)"));
    }
    let setup_sects = match image.get(0x1f1) {
        Some(0) | None => 4,
        Some(&n) => usize::from(n),
    };
    let field = |at| le32(image, at).map(|v| v as usize).ok_or(Error::BadBzImage);
    let start = field(0x248)?.checked_add((setup_sects + 1) * 512).ok_or(Error::BadBzImage)?;
    let end = start.checked_add(field(0x24c)?).ok_or(Error::BadBzImage)?;
    image.get(start..end).map(Some).ok_or(Error::BadBzImage)
}

fn format_of(data: &[u8]) -> Result<Format, Error> {
    let is = |magic: &[u8]| data.starts_with(magic);
    Ok(if is(b"\x7fELF") {
        Format::Elf
    } else if is(b"\x1f\x8b") {
        Format::Gzip
    } else if is(xz::MAGIC) {
        Format::Xz
    } else if is(zstd::MAGIC) {
        Format::Zstd
    } else if is(lz4::MAGIC) {
        Format::Lz4
    } else if is(b"\x04\x22\x4d\x18") {
        return Err(Error::Unsupported("an LZ4 frame (kernels need the legacy format, `lz4 -l`)"));
    } else if is(b"BZh") {
        return Err(Error::Unsupported("bzip2 compression"));
    } else if is(b"\x5d\0\0") {
        return Err(Error::Unsupported("LZMA (.lzma) compression"));
    } else if is(b"\x89LZO") {
        return Err(Error::Unsupported("LZO compression"));
    } else {
        return Err(Error::UnknownFormat);
    })
}

/// Splits `n` bytes off the front.
fn take<'a>(input: &mut &'a [u8], n: usize) -> Result<&'a [u8], Error> {
    let (head, tail) = input.split_at_checked(n).ok_or(Error::Truncated)?;
    *input = tail;
    Ok(head)
}

fn le32(b: &[u8], at: usize) -> Option<u32> {
    b.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}
