//! Negotiation: which export, and how replies look ("Fixed newstyle negotiation").

use std::io::{self, Read, Write};

use crate::wire::{
    Connection, Fields, IHAVEOPT, MAX_OPTION, MAX_REQUEST, MAX_STRING, NBDMAGIC, OPTION_REPLY, broken, flag,
    info, option, reply,
};
use crate::{Access, Export};

const FIXED_NEWSTYLE: u16 = 1;
const NO_ZEROES: u16 = 2;

/// The metadata contexts, and their numbers in replies.
const CONTEXTS: [(Context, &str); 2] =
    [(Context::Allocation, "base:allocation"), (Context::Changed, "x-radon:changed")];

/// A metadata context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// Which parts hold data.
    Allocation = 1,
    /// Which parts differ from an older state.
    Changed = 2,
}

/// What was agreed on.
pub struct Session<'a> {
    pub export: &'a Export,
    /// Replies are structured.
    pub structured: bool,
    /// Contexts that block status tells.
    pub contexts: Vec<Context>,
}

impl Session<'_> {
    /// Transmission flags.
    fn flags(export: &Export, structured: bool) -> u16 {
        let mut flags = flag::HAS_FLAGS | flag::FLUSH | flag::FUA | flag::MULTI_CONN;
        flags |= match export.device.access() {
            Access::ReadOnly => flag::READ_ONLY,
            Access::ReadWrite => flag::TRIM | flag::WRITE_ZEROES,
        };
        if structured { flags | flag::DF } else { flags }
    }
}

/// What a client has set so far.
#[derive(Default)]
struct State {
    no_zeroes: bool,
    structured: bool,
    /// Contexts, and the export they were asked of.
    contexts: Vec<Context>,
    contexts_of: Vec<u8>,
}

/// Negotiates; `None`: the client wants nothing more.
pub fn negotiate<'a, R: Read, W: Write>(
    connection: &mut Connection<R, W>,
    exports: &'a [Export],
) -> io::Result<Option<Session<'a>>> {
    let ours = FIXED_NEWSTYLE | NO_ZEROES;
    connection.send(&[&NBDMAGIC.to_be_bytes(), &IHAVEOPT.to_be_bytes(), &ours.to_be_bytes()])?;
    connection.output.flush()?;
    let theirs = connection.u32()?;
    if theirs & !u32::from(ours) != 0 || theirs & u32::from(FIXED_NEWSTYLE) == 0 {
        return broken(format!("client flags {theirs:#x}"));
    }
    let mut state = State { no_zeroes: theirs & u32::from(NO_ZEROES) != 0, ..State::default() };
    loop {
        if connection.u64()? != IHAVEOPT {
            return broken("an option without its magic number");
        }
        let (kind, length) = (connection.u32()?, connection.u32()?);
        if length > MAX_OPTION {
            connection.discard(length)?;
            answer(connection, kind, reply::TOO_BIG, &[b"the option is too long"])?;
            continue;
        }
        let data = connection.bytes(length)?;
        match kind {
            option::EXPORT_NAME => return export_name(connection, exports, state, &data).map(Some),
            option::ABORT => {
                answer(connection, kind, reply::ACK, &[])?;
                return Ok(None);
            }
            option::LIST => list(connection, exports, &data)?,
            option::STRUCTURED_REPLY if data.is_empty() => {
                state.structured = true;
                answer(connection, kind, reply::ACK, &[])?;
            }
            option::INFO | option::GO => {
                let found = describe(connection, kind, exports, &state, &data)?;
                if let Some(export) = found.filter(|_| kind == option::GO) {
                    // Contexts hold for the export they were asked of only.
                    let same = find(exports, &state.contexts_of).is_some_and(|e| std::ptr::eq(e, export));
                    let contexts = if same { state.contexts } else { Vec::new() };
                    return Ok(Some(Session { export, structured: state.structured, contexts }));
                }
            }
            option::LIST_META_CONTEXT | option::SET_META_CONTEXT => {
                contexts(connection, kind, exports, &mut state, &data)?;
            }
            option::STRUCTURED_REPLY => invalid(connection, kind)?,
            _ => answer(connection, kind, reply::UNSUPPORTED, &[b"no such option here"])?,
        }
    }
}

fn answer<R: Read, W: Write>(
    connection: &mut Connection<R, W>,
    option: u32,
    kind: u32,
    data: &[&[u8]],
) -> io::Result<()> {
    let length = data.iter().map(|d| d.len()).sum::<usize>();
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    let head =
        [&OPTION_REPLY.to_be_bytes()[..], &option.to_be_bytes(), &kind.to_be_bytes(), &length.to_be_bytes()];
    connection.send(&head)?;
    connection.send(data)?;
    connection.output.flush()
}

fn invalid<R: Read, W: Write>(connection: &mut Connection<R, W>, option: u32) -> io::Result<()> {
    answer(connection, option, reply::INVALID, &[b"the option's data are not as they should be"])
}

/// The export of that name; no name is the first.
fn find<'a>(exports: &'a [Export], name: &[u8]) -> Option<&'a Export> {
    exports.iter().find(|e| name.is_empty() || e.name.as_bytes() == name)
}

/// The old way, which cannot say why it failed.
fn export_name<'a, R: Read, W: Write>(
    connection: &mut Connection<R, W>,
    exports: &'a [Export],
    state: State,
    name: &[u8],
) -> io::Result<Session<'a>> {
    let Some(export) = find(exports, name).filter(|_| name.len() <= MAX_STRING) else {
        return broken(format!("no export is called {:?}", String::from_utf8_lossy(name)));
    };
    let flags = Session::flags(export, state.structured);
    connection.send(&[&export.device.size().to_be_bytes(), &flags.to_be_bytes()])?;
    if !state.no_zeroes {
        connection.send(&[&[0; 124]])?;
    }
    connection.output.flush()?;
    Ok(Session { export, structured: state.structured, contexts: Vec::new() })
}

fn list<R: Read, W: Write>(
    connection: &mut Connection<R, W>,
    exports: &[Export],
    data: &[u8],
) -> io::Result<()> {
    if !data.is_empty() {
        return invalid(connection, option::LIST);
    }
    for export in exports {
        let length = u32::try_from(export.name.len()).unwrap_or(u32::MAX).to_be_bytes();
        answer(connection, option::LIST, reply::SERVER, &[&length, export.name.as_bytes()])?;
    }
    answer(connection, option::LIST, reply::ACK, &[])
}

/// INFO and GO: tells about an export.
fn describe<'a, R: Read, W: Write>(
    connection: &mut Connection<R, W>,
    kind: u32,
    exports: &'a [Export],
    state: &State,
    data: &[u8],
) -> io::Result<Option<&'a Export>> {
    let mut fields = Fields(data);
    let parsed = fields.string().zip(fields.u16());
    // What is asked for in particular does not matter: all there is to tell is told.
    let Some((name, _)) = parsed.filter(|(_, count)| fields.0.len() == usize::from(*count) * 2) else {
        return invalid(connection, kind).map(|()| None);
    };
    let Some(export) = find(exports, name) else {
        return answer(connection, kind, reply::UNKNOWN, &[b"there is no such export"]).map(|()| None);
    };
    let flags = Session::flags(export, state.structured);
    let size = export.device.size();
    let about = [&info::EXPORT.to_be_bytes()[..], &size.to_be_bytes(), &flags.to_be_bytes()];
    answer(connection, kind, reply::INFO, &about)?;
    let sizes = [1u32, 4096, MAX_REQUEST].map(u32::to_be_bytes);
    let about = [&info::BLOCK_SIZE.to_be_bytes()[..], sizes.as_flattened()];
    answer(connection, kind, reply::INFO, &about)?;
    answer(connection, kind, reply::ACK, &[])?;
    Ok(Some(export))
}

fn contexts<R: Read, W: Write>(
    connection: &mut Connection<R, W>,
    kind: u32,
    exports: &[Export],
    state: &mut State,
    data: &[u8],
) -> io::Result<()> {
    let mut fields = Fields(data);
    let parsed = fields.string().zip(fields.u32());
    let Some((name, count)) = parsed.filter(|_| state.structured) else {
        return invalid(connection, kind);
    };
    let mut queries = Vec::new();
    for _ in 0..count {
        let Some(query) = fields.string() else { return invalid(connection, kind) };
        queries.push(query);
    }
    if !fields.0.is_empty() {
        return invalid(connection, kind);
    }
    let Some(export) = find(exports, name) else {
        return answer(connection, kind, reply::UNKNOWN, &[b"there is no such export"]);
    };
    let listing = kind == option::LIST_META_CONTEXT;
    let mut chosen = Vec::new();
    for (context, text) in CONTEXTS {
        let there = context == Context::Allocation || export.changed.is_some();
        // A list may be asked for by a whole namespace ("base:"); to choose takes the whole name.
        let wanted = |q: &&[u8]| {
            *q == text.as_bytes() || (listing && q.ends_with(b":") && text.as_bytes().starts_with(q))
        };
        if there && (queries.iter().any(wanted) || (listing && queries.is_empty())) {
            let number = if listing { 0 } else { context as u32 };
            answer(connection, kind, reply::META_CONTEXT, &[&number.to_be_bytes(), text.as_bytes()])?;
            chosen.push(context);
        }
    }
    if !listing {
        (state.contexts, state.contexts_of) = (chosen, name.to_vec());
    }
    answer(connection, kind, reply::ACK, &[])
}
