//! CRC-32 (IEEE 802.3, reflected), eight bytes a step.

const TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut t = [[0u32; 256]; 8];
    let mut i = 0;
    while i < 256 {
        let mut c = i as u32;
        let mut k = 0;
        while k < 8 {
            c = if c & 1 != 0 { (c >> 1) ^ 0xedb8_8320 } else { c >> 1 };
            k += 1;
        }
        t[0][i] = c;
        i += 1;
    }
    let mut n = 1;
    while n < 8 {
        let mut i = 0;
        while i < 256 {
            let c = t[n - 1][i];
            t[n][i] = (c >> 8) ^ t[0][(c & 0xff) as usize];
            i += 1;
        }
        n += 1;
    }
    t
}

/// CRC-32 of `b`, as gzip and xz store it.
pub fn crc32(b: &[u8]) -> u32 {
    static T: [[u32; 256]; 8] = TABLES;
    let (words, tail) = b.as_chunks::<8>();
    let mut crc = !0u32;
    for w in words {
        let x = u64::from_le_bytes(*w) ^ u64::from(crc);
        let byte = |i: u32| usize::from((x >> (8 * i)) as u8);
        crc = T[7][byte(0)]
            ^ T[6][byte(1)]
            ^ T[5][byte(2)]
            ^ T[4][byte(3)]
            ^ T[3][byte(4)]
            ^ T[2][byte(5)]
            ^ T[1][byte(6)]
            ^ T[0][byte(7)];
    }
    for &x in tail {
        crc = (crc >> 8) ^ T[0][usize::from(crc as u8 ^ x)];
    }
    !crc
}

#[cfg(test)]
mod tests {
    #[test]
    fn check_values() {
        assert_eq!(super::crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(super::crc32(b""), 0);
        assert_eq!(super::crc32(&[0; 32]), 0x190a_55ad);
    }
}
