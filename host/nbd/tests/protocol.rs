//! A client in memory against the server: random requests and a model; broken clients.

use std::io;
use std::sync::Mutex;

use proptest::prelude::*;
use radon_nbd::{Access, Device, Export, serve};

const SIZE: u64 = 64 << 10;

struct Memory(Mutex<Vec<u8>>, Access);

impl Memory {
    fn range(offset: u64, length: usize) -> std::ops::Range<usize> {
        offset as usize..offset as usize + length
    }
}

impl Device for Memory {
    fn size(&self) -> u64 {
        SIZE
    }
    fn access(&self) -> Access {
        self.1
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let range = Self::range(offset, buffer.len());
        buffer.copy_from_slice(&self.0.lock().unwrap()[range]);
        Ok(())
    }
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.0.lock().unwrap()[Self::range(offset, data.len())].copy_from_slice(data);
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    fn zero(&self, offset: u64, length: u64, _: bool) -> io::Result<()> {
        self.0.lock().unwrap()[Self::range(offset, length as usize)].fill(0);
        Ok(())
    }
    fn data_at(&self, offset: u64) -> io::Result<(bool, u64)> {
        let memory = self.0.lock().unwrap();
        let data = |at: u64| memory[at as usize..][..512].iter().any(|b| *b != 0);
        let first = offset - offset % 512;
        let same = (first..SIZE).step_by(512).find(|at| data(*at) != data(first));
        Ok((data(first), same.unwrap_or(SIZE)))
    }
}

fn export(access: Access) -> Vec<Export> {
    let device = Box::new(Memory(Mutex::new(vec![0; SIZE as usize]), access));
    vec![Export { name: "disk".into(), device, changed: Some(vec![1024..2048, 8192..8193]) }]
}

/// Bytes of a client.
#[derive(Default)]
struct Client(Vec<u8>);

impl Client {
    fn new() -> Self {
        Self(3u32.to_be_bytes().to_vec())
    }
    fn option(mut self, number: u32, data: &[u8]) -> Self {
        self.0.extend_from_slice(b"IHAVEOPT");
        self.0.extend_from_slice(&number.to_be_bytes());
        self.0.extend_from_slice(&(data.len() as u32).to_be_bytes());
        self.0.extend_from_slice(data);
        self
    }
    fn go(self) -> Self {
        self.option(7, b"\0\0\0\x04disk\0\0")
    }
    fn request(mut self, flags: u16, kind: u16, offset: u64, length: u32, data: &[u8]) -> Self {
        self.0.extend_from_slice(&0x2560_9513u32.to_be_bytes());
        self.0.extend_from_slice(&flags.to_be_bytes());
        self.0.extend_from_slice(&kind.to_be_bytes());
        self.0.extend_from_slice(&[7; 8]);
        self.0.extend_from_slice(&offset.to_be_bytes());
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(data);
        self
    }
    fn run(self, exports: &[Export]) -> (io::Result<()>, Vec<u8>) {
        let mut out = Vec::new();
        let result = serve(self.0.as_slice(), &mut out, exports);
        (result, out)
    }
}

struct Reply<'a>(&'a [u8]);

impl<'a> Reply<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (first, rest) = self.0.split_at(count);
        self.0 = rest;
        first
    }
    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().unwrap())
    }
    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }
    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take(8).try_into().unwrap())
    }
    /// Option replies up to and with an acknowledgement or an error: (type, data).
    fn options(&mut self) -> Vec<(u32, &'a [u8])> {
        let mut found = Vec::new();
        loop {
            assert_eq!(self.u64(), 0x0003_e889_0455_65a9);
            self.u32();
            let (kind, length) = (self.u32(), self.u32());
            found.push((kind, self.take(length as usize)));
            if kind == 1 || kind >= 1 << 31 {
                return found;
            }
        }
    }
    /// One structured reply: its data by offset, or its error.
    fn structured(&mut self) -> Result<Vec<(u64, Vec<u8>)>, u32> {
        let mut pieces = Vec::new();
        loop {
            assert_eq!(self.u32(), 0x668e_33ef);
            let (flags, kind) = (self.u16(), self.u16());
            assert_eq!(self.take(8), [7; 8]);
            let length = self.u32() as usize;
            let mut data = Reply(self.take(length));
            match kind {
                0 => {}
                1 => pieces.push((data.u64(), data.0.to_vec())),
                2 => {
                    let (at, length) = (data.u64(), data.u32());
                    pieces.push((at, vec![0; length as usize]));
                }
                5 => {
                    let context = data.u32();
                    pieces.push((u64::from(context), data.0.to_vec()));
                }
                _ => return Err(data.u32()),
            }
            if flags & 1 != 0 {
                return Ok(pieces);
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Work {
    Read(u32, u32),
    Write(u32, u32, u8),
    Zero(u32, u32, u16),
    Flush,
}

fn work() -> impl Strategy<Value = Work> {
    let range = || (0u32..70_000, 0u32..30_000);
    prop_oneof![
        range().prop_map(|(a, l)| Work::Read(a, l)),
        (range(), any::<u8>()).prop_map(|((a, l), b)| Work::Write(a, l, b)),
        (range(), prop_oneof![Just(4u16), Just(6)]).prop_map(|((a, l), k)| Work::Zero(a, l, k)),
        Just(Work::Flush),
    ]
}

proptest! {
    #[test]
    fn as_the_model(works in prop::collection::vec(work(), 0..30), structured in any::<bool>(), whole in any::<bool>()) {
        let exports = export(Access::ReadWrite);
        let mut client = Client::new();
        if structured {
            client = client.option(8, &[]);
        }
        client = client.go();
        for work in &works {
            client = match *work {
                Work::Read(at, length) => client.request(if whole && structured { 4 } else { 0 }, 0, at.into(), length, &[]),
                Work::Write(at, length, byte) => client.request(1, 1, at.into(), length, &vec![byte; length as usize]),
                Work::Zero(at, length, kind) => client.request(0, kind, at.into(), length, &[]),
                Work::Flush => client.request(0, 3, 0, 0, &[]),
            };
        }
        let (result, out) = client.request(0, 2, 0, 0, &[]).run(&exports);
        prop_assert!(result.is_ok());
        let mut reply = Reply(&out);
        reply.take(18);
        if structured {
            reply.options();
        }
        prop_assert_eq!(reply.options().len(), 3);
        let mut model = vec![0u8; SIZE as usize];
        for work in works {
            let (at, length) = match work {
                Work::Read(a, l) | Work::Write(a, l, _) | Work::Zero(a, l, _) => (a as usize, l as usize),
                Work::Flush => (0, 0),
            };
            let fits = at + length <= model.len();
            if fits {
                match work {
                    Work::Write(_, _, byte) => model[at..at + length].fill(byte),
                    Work::Zero(..) => model[at..at + length].fill(0),
                    _ => {}
                }
            }
            let read = matches!(work, Work::Read(..));
            if structured {
                let pieces = reply.structured();
                prop_assert_eq!(pieces.is_ok(), fits, "{:?}", work);
                if let Ok(pieces) = pieces.as_ref().map_err(|_| ()) && read {
                    prop_assert!(!whole || pieces.len() <= 1);
                    let mut next = at;
                    for (offset, bytes) in pieces {
                        prop_assert_eq!(*offset as usize, next);
                        prop_assert!(*bytes == model[next..next + bytes.len()]);
                        next += bytes.len();
                    }
                    prop_assert_eq!(next, at + length);
                }
            } else {
                prop_assert_eq!(reply.u32(), 0x6744_6698);
                let error = reply.u32();
                prop_assert_eq!(error == 0, fits, "{:?}", work);
                reply.take(8);
                if read && fits {
                    prop_assert!(*reply.take(length) == model[at..at + length]);
                }
            }
        }
        prop_assert!(reply.0.is_empty());
    }

    #[test]
    fn whatever_a_client_sends(start in any::<bool>(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut client = if start { Client::new().option(8, &[]).go() } else { Client::default() };
        client.0.extend(bytes);
        let _ = client.run(&export(Access::ReadWrite));
    }
}

const CONTEXTS: &[u8] = b"\0\0\0\x04disk\0\0\0\x02\0\0\0\x0fbase:allocation\0\0\0\x0fx-radon:changed";

#[test]
fn block_status_tells_data_and_changes() {
    let exports = export(Access::ReadWrite);
    let client = Client::new().option(8, &[]).option(10, CONTEXTS).go();
    let client = client.request(0, 1, 4096, 512, &[1; 512]).request(0, 7, 1536, 10_000, &[]);
    let (_, out) = client.request(8, 7, 0, 65536, &[]).request(0, 2, 0, 0, &[]).run(&exports);
    let mut reply = Reply(&out);
    reply.take(18);
    reply.options();
    let contexts = reply.options();
    let names: Vec<&[u8]> = contexts.iter().map(|c| c.1).collect();
    assert_eq!(names, [&b"\0\0\0\x01base:allocation"[..], b"\0\0\0\x02x-radon:changed", b""]);
    reply.options();
    assert_eq!(reply.structured().unwrap(), []);
    let words = |bytes: &[u8]| -> Vec<u32> {
        bytes.chunks(4).map(|w| u32::from_be_bytes(w.try_into().unwrap())).collect()
    };
    let status = reply.structured().unwrap();
    assert_eq!((status[0].0, words(&status[0].1)), (1, vec![2560, 3, 512, 0, 6928, 3]));
    assert_eq!((status[1].0, words(&status[1].1)), (2, vec![512, 1, 6144, 0, 1, 1, 3343, 0]));
    let one = reply.structured().unwrap();
    assert_eq!(words(&one[0].1), [4096, 3]);
    assert_eq!(words(&one[1].1), [1024, 0]);
}

#[test]
fn what_may_not_be_is_refused() {
    let exports = export(Access::ReadOnly);
    let client =
        Client::new().option(8, &[]).option(99, b"x").option(7, b"\0\0\0\x02no\0\0").option(3, &[]).go();
    let client = client
        .request(0, 1, 0, 3, b"abc")
        .request(0, 6, 0, 512, &[])
        .request(0, 7, 0, 512, &[])
        .request(0, 0, 0, 40 << 20, &[])
        .request(0, 77, 0, 0, &[])
        .request(0, 0, u64::MAX, 1, &[]);
    let (result, out) = client.run(&exports);
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    let mut reply = Reply(&out);
    reply.take(18);
    let kinds: Vec<u32> = (0..5).flat_map(|_| reply.options()).map(|r| r.0).collect();
    assert_eq!(kinds, [1, (1 << 31) + 1, (1 << 31) + 6, 2, 1, 3, 3, 1]);
    let errors: Vec<u32> = (0..6).map(|_| reply.structured().unwrap_err()).collect();
    assert_eq!(errors, [1, 1, 22, 75, 22, 22]);
}

#[test]
fn the_old_way_of_choosing_works() {
    let exports = export(Access::ReadWrite);
    let (_, out) =
        Client::new().option(1, b"").request(0, 0, 0, 4, &[]).request(0, 2, 0, 0, &[]).run(&exports);
    let mut reply = Reply(&out);
    reply.take(18);
    assert_eq!(reply.u64(), SIZE);
    assert_eq!(reply.u16() & 3, 1);
    assert_eq!((reply.u32(), reply.u32(), reply.u64()), (0x6744_6698, 0, 0x0707_0707_0707_0707));
    assert_eq!(reply.0, [0; 4]);
    let (result, _) = Client::new().option(1, b"other").run(&exports);
    assert!(result.is_err());
}
