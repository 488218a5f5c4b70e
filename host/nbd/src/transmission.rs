//! Requests and their replies ("Transmission").

use std::io::{self, Read, Write};
use std::ops::Range;

use crate::Access;
use crate::handshake::{Context, Session};
use crate::wire::{
    Connection, MAX_REQUEST, REQUEST, SIMPLE_REPLY, STRUCTURED_REPLY, broken, chunk, command, errno,
};

/// The longest piece of data in one chunk.
const PIECE: u64 = 1 << 20;

/// The most extents in one reply of block status.
const MAX_EXTENTS: usize = 1024;

/// Block status of `base:allocation`: a hole, which reads as zeros.
const HOLE_AND_ZERO: u32 = 3;

/// A request without its data.
#[derive(Clone, Copy, Debug)]
struct Request {
    flags: u16,
    kind: u16,
    cookie: u64,
    offset: u64,
    length: u32,
}

impl Request {
    fn read<R: Read, W: Write>(connection: &mut Connection<R, W>) -> io::Result<Self> {
        if connection.u32()? != REQUEST {
            return broken("a request without its magic number");
        }
        let (flags, kind) =
            (u16::from_be_bytes(connection.array()?), u16::from_be_bytes(connection.array()?));
        let (cookie, offset, length) = (connection.u64()?, connection.u64()?, connection.u32()?);
        Ok(Self { flags, kind, cookie, offset, length })
    }

    fn end(&self) -> u64 {
        self.offset.saturating_add(u64::from(self.length))
    }

    fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// Serves requests until the client leaves.
pub fn run<R: Read, W: Write>(connection: &mut Connection<R, W>, session: &Session<'_>) -> io::Result<()> {
    loop {
        let request = Request::read(connection)?;
        match request.kind {
            command::DISCONNECT => return Ok(()),
            command::READ => match check(&request, session) {
                Ok(()) if session.structured => read_structured(connection, session, &request)?,
                Ok(()) => read_simple(connection, session, &request)?,
                Err(error) => done(connection, session, &request, Err(error))?,
            },
            command::BLOCK_STATUS => match check(&request, session) {
                Ok(()) => block_status(connection, session, &request)?,
                Err(error) => done(connection, session, &request, Err(error))?,
            },
            command::WRITE => {
                // So much is not read only to be refused.
                if request.length > MAX_REQUEST {
                    return broken(format!("{} bytes to write at once", request.length));
                }
                let data = connection.bytes(request.length)?;
                let result = check(&request, session).and_then(|()| write(session, &request, &data));
                done(connection, session, &request, result)?;
            }
            _ => {
                let result = check(&request, session).and_then(|()| change(session, &request));
                done(connection, session, &request, result)?;
            }
        }
        connection.output.flush()?;
    }
}

/// Whether a request can be carried out at all; else the error's number.
fn check(request: &Request, session: &Session<'_>) -> Result<(), u32> {
    let writes = matches!(request.kind, command::WRITE | command::TRIM | command::WRITE_ZEROES);
    let allowed = command::FLAG_FUA
        | match request.kind {
            command::READ if session.structured => command::FLAG_DF,
            command::WRITE_ZEROES => command::FLAG_NO_HOLE,
            command::BLOCK_STATUS => command::FLAG_REQ_ONE,
            _ => 0,
        };
    if writes && session.export.device.access() == Access::ReadOnly {
        return Err(errno::EPERM);
    }
    let no_contexts = request.kind == command::BLOCK_STATUS
        && (!session.structured || session.contexts.is_empty() || request.length == 0);
    if request.flags & !allowed != 0 || no_contexts {
        return Err(errno::EINVAL);
    }
    if request.kind == command::READ && request.length > MAX_REQUEST {
        return Err(errno::EOVERFLOW);
    }
    if request.kind != command::FLUSH && request.end() > session.export.device.size() {
        let grows = matches!(request.kind, command::WRITE | command::WRITE_ZEROES);
        return Err(if grows { errno::ENOSPC } else { errno::EINVAL });
    }
    Ok(())
}

/// The number for a disk's error.
fn number(error: &io::Error) -> u32 {
    match error.kind() {
        io::ErrorKind::StorageFull => errno::ENOSPC,
        io::ErrorKind::PermissionDenied => errno::EPERM,
        _ => errno::EIO,
    }
}

fn write(session: &Session<'_>, request: &Request, data: &[u8]) -> Result<(), u32> {
    let device = &session.export.device;
    device.write_at(data, request.offset).map_err(|e| number(&e))?;
    if request.has(command::FLAG_FUA) { device.flush().map_err(|e| number(&e)) } else { Ok(()) }
}

/// Requests without data in either direction.
fn change(session: &Session<'_>, request: &Request) -> Result<(), u32> {
    let device = &session.export.device;
    let length = u64::from(request.length);
    let done = match request.kind {
        command::FLUSH => device.flush(),
        command::TRIM | command::WRITE_ZEROES if length == 0 => Ok(()),
        command::TRIM => device.zero(request.offset, length, true),
        command::WRITE_ZEROES => device.zero(request.offset, length, !request.has(command::FLAG_NO_HOLE)),
        _ => return Err(errno::EINVAL),
    };
    done.map_err(|e| number(&e))?;
    if request.has(command::FLAG_FUA) { device.flush().map_err(|e| number(&e)) } else { Ok(()) }
}

/// A reply without data.
fn done<R: Read, W: Write>(
    connection: &mut Connection<R, W>,
    session: &Session<'_>,
    request: &Request,
    result: Result<(), u32>,
) -> io::Result<()> {
    let error = result.err().unwrap_or(0);
    if !session.structured {
        let (magic, error) = (SIMPLE_REPLY.to_be_bytes(), error.to_be_bytes());
        return connection.send(&[&magic, &error, &request.cookie.to_be_bytes()]);
    }
    if error == 0 {
        return chunks(connection, request, chunk::DONE, chunk::NONE, &[]);
    }
    // No text behind the number.
    chunks(connection, request, chunk::DONE, chunk::ERROR, &[&error.to_be_bytes(), &[0, 0]])
}

/// One chunk of a structured reply.
fn chunks<R: Read, W: Write>(
    connection: &mut Connection<R, W>,
    request: &Request,
    flags: u16,
    kind: u16,
    data: &[&[u8]],
) -> io::Result<()> {
    let length = u32::try_from(data.iter().map(|d| d.len()).sum::<usize>()).unwrap_or(u32::MAX);
    connection.send(&[
        &STRUCTURED_REPLY.to_be_bytes(),
        &flags.to_be_bytes(),
        &kind.to_be_bytes(),
        &request.cookie.to_be_bytes(),
        &length.to_be_bytes(),
    ])?;
    connection.send(data)
}

fn read_simple<R: Read, W: Write>(
    connection: &mut Connection<R, W>,
    session: &Session<'_>,
    request: &Request,
) -> io::Result<()> {
    // Its error stands before the data, so they are all read first.
    let mut data = vec![0; usize::try_from(request.length).unwrap_or(0)];
    match session.export.device.read_at(&mut data, request.offset) {
        Ok(()) => {
            done(connection, session, request, Ok(()))?;
            connection.send(&[&data])
        }
        Err(error) => done(connection, session, request, Err(number(&error))),
    }
}

/// Data and holes, each in chunks of its own; what a client wants in one piece comes so.
fn read_structured<R: Read, W: Write>(
    connection: &mut Connection<R, W>,
    session: &Session<'_>,
    request: &Request,
) -> io::Result<()> {
    let device = &session.export.device;
    let whole = request.has(command::FLAG_DF);
    let mut buffer = Vec::new();
    let mut at = request.offset;
    while at < request.end() {
        let (data, until) = if whole { (true, request.end()) } else { extent(session, at, request.end())? };
        let until = if whole || !data { until } else { until.min(at.saturating_add(PIECE)) };
        let length = until - at;
        let flags = if until == request.end() { chunk::DONE } else { 0 };
        let offset = at.to_be_bytes();
        if data {
            buffer.resize(usize::try_from(length).unwrap_or(0), 0);
            if let Err(error) = device.read_at(&mut buffer, at) {
                return done(connection, session, request, Err(number(&error)));
            }
            chunks(connection, request, flags, chunk::OFFSET_DATA, &[&offset, &buffer])?;
        } else {
            let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
            chunks(connection, request, flags, chunk::OFFSET_HOLE, &[&offset, &length])?;
        }
        at = until;
    }
    if request.length == 0 { done(connection, session, request, Ok(())) } else { Ok(()) }
}

/// Whether there are data at `at`, and up to where (further on, at most `end`).
fn extent(session: &Session<'_>, at: u64, end: u64) -> io::Result<(bool, u64)> {
    // A disk that cannot say has data.
    let (data, until) = session.export.device.data_at(at).unwrap_or((true, end));
    Ok((data, until.clamp(at.saturating_add(1), end)))
}

fn block_status<R: Read, W: Write>(
    connection: &mut Connection<R, W>,
    session: &Session<'_>,
    request: &Request,
) -> io::Result<()> {
    let most = if request.has(command::FLAG_REQ_ONE) { 1 } else { MAX_EXTENTS };
    for (n, context) in session.contexts.iter().enumerate() {
        let mut bytes = Vec::new();
        let mut at = request.offset;
        let mut last: Option<(u64, u32)> = None;
        while at < request.end() && bytes.len() / 8 < most {
            let (flags, until) = match context {
                Context::Allocation => {
                    let (data, until) = extent(session, at, request.end())?;
                    (if data { 0 } else { HOLE_AND_ZERO }, until)
                }
                Context::Changed => changed(session.export.changed.as_deref(), at, request.end()),
            };
            // Neighbours that are alike are one extent.
            match &mut last {
                Some((length, same)) if *same == flags => *length += until - at,
                _ => {
                    push(&mut bytes, last);
                    last = Some((until - at, flags));
                }
            }
            at = until;
        }
        if bytes.len() / 8 < most {
            push(&mut bytes, last);
        }
        let flags = if n + 1 == session.contexts.len() { chunk::DONE } else { 0 };
        let number = (*context as u32).to_be_bytes();
        chunks(connection, request, flags, chunk::BLOCK_STATUS, &[&number, &bytes])?;
    }
    Ok(())
}

fn push(bytes: &mut Vec<u8>, extent: Option<(u64, u32)>) {
    if let Some((length, flags)) = extent {
        bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(&flags.to_be_bytes());
    }
}

/// Whether the byte `at` is in one of the ranges, and up to where (at most `end`) that goes for.
fn changed(ranges: Option<&[Range<u64>]>, at: u64, end: u64) -> (u32, u64) {
    let ranges = ranges.unwrap_or_default();
    let next = ranges.get(ranges.partition_point(|r| r.end <= at)..).and_then(|r| r.first());
    match next {
        Some(range) if range.start <= at => (1, range.end.min(end)),
        Some(range) => (0, range.start.min(end)),
        None => (0, end),
    }
}
