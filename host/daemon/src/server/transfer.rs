//! `/import_raw_vdi` and `/export_raw_vdi`: whole volumes over HTTP.
//!
//! ```text
//! PUT /import_raw_vdi?session_id=...&vdi=...&format=raw|vhd[&task_id=...]
//! GET /export_raw_vdi?session_id=...&vdi=...&format=raw|vhd|qcow2[&task_id=...]
//! ```
//! The VDI is named by reference or number. Instead of `session_id` name and password may come by basic authentication. An import is
//! read into a volume of its own, which takes the place of the VDI's when it is whole: killed or cut, the VDI is what it was.

use super::http::{Body, PATIENCE, plain};
use crate::app::App;
use crate::database::Row;
use crate::messages::{text, truth, vdi};
use crate::session;
use crate::storage::{UNFINISHED, refused};
use crate::task::{self, Task};
use base64::Engine;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use radon_api::{ApiError, Result, Role, Value};
use radon_image::{Format, Input, Output};
use radon_volume::repository::Shrink;
use std::collections::HashMap;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Pieces that wait between the connection and the disk.
const QUEUE: usize = 16;
/// Bytes of a piece.
const PIECE: usize = 256 << 10;

/// What a request says.
struct Order {
    vdi: String,
    format: Format,
    task: Task,
    /// The session was made for this request.
    own_session: Option<String>,
}

/// `%41` and `+`.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
                match (digit(rest.next()), digit(rest.next())) {
                    (Some(high), Some(low)) => bytes.push((high << 4 | low) as u8),
                    _ => bytes.push(b'?'),
                }
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(super) fn query(request: &Request<Incoming>) -> HashMap<String, String> {
    let pairs = request.uri().query().unwrap_or_default().split('&').filter_map(|p| p.split_once('='));
    pairs.map(|(name, value)| (unescape(name), unescape(value))).collect()
}

/// Name and password of basic authentication.
pub(super) fn basic(request: &Request<Incoming>) -> Option<(String, String)> {
    let header = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(header.strip_prefix("Basic ")?).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    text.split_once(':').map(|(n, p)| (n.to_owned(), p.to_owned()))
}

/// Checks who asks, and for what; the task begins.
fn order(
    app: &Arc<App>,
    query: &HashMap<String, String>,
    login: Option<(String, String)>,
    label: &str,
    least: Role,
) -> Result<Order> {
    let get = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    let mut own_session = None;
    let session = match (get("session_id"), login) {
        ("", Some((name, password))) => {
            own_session.insert(session::login(app, &name, &password, "http")?).clone()
        }
        (reference, _) => reference.to_owned(),
    };
    let checked = || {
        let role = app.sessions.find(&session)?.role;
        if role < least {
            return Err(ApiError::permission_denied(
                label.to_lowercase(),
                format!("this needs role {least} or higher"),
            ));
        }
        let format = match get("format") {
            "" => Format::Raw,
            name => name.parse().map_err(|_| ApiError::invalid_value("format", name))?,
        };
        let state = app.database.state();
        let vdi = match state.by_uuid("VDI", get("vdi")) {
            Some(found) => found.clone(),
            None => state.object("VDI", get("vdi")).map(|_| get("vdi").to_owned())?,
        };
        drop(state);
        let task = match get("task_id") {
            "" => task::create(app, label, "", &session, "<none/>")?,
            given => {
                let state = app.database.state();
                if state.text("task", given, "status")? != "pending"
                    || state.text("task", given, "session")? != session
                {
                    return Err(ApiError::operation_not_allowed(
                        "the task has ended, or is another session's",
                    ));
                }
                given.to_owned()
            }
        };
        Ok((vdi, format, Task::begin(app, &task)))
    };
    match checked() {
        Ok((vdi, format, task)) => Ok(Order { vdi, format, task, own_session }),
        Err(error) => {
            own_session.iter().for_each(|s| session::end(app, s));
            Err(error)
        }
    }
}

pub(super) fn failure(error: &ApiError) -> Response<Body> {
    let status = match error.code {
        "SESSION_INVALID" | "SESSION_AUTHENTICATION_FAILED" => StatusCode::UNAUTHORIZED,
        "RBAC_PERMISSION_DENIED" => StatusCode::FORBIDDEN,
        "HANDLE_INVALID" => StatusCode::NOT_FOUND,
        "INVALID_VALUE" => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    plain(status, error.to_string())
}

/// Bytes of a request, read in a thread.
struct Incomings {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for Incomings {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let count = self.piece.len().min(buffer.len());
        let piece = self.piece.split_to(count);
        buffer.iter_mut().zip(piece).for_each(|(to, from)| *to = from);
        Ok(count)
    }
}

pub(super) async fn import(app: Arc<App>, request: Request<Incoming>) -> Response<Body> {
    let (query, login) = (query(&request), basic(&request));
    let (sender, pieces) = mpsc::channel(QUEUE);
    let mut body = request.into_body();
    let work = tokio::task::spawn_blocking(move || {
        let order = order(&app, &query, login, "Import of a VDI", Role::VmAdmin)?;
        let result = read_in(&app, &order, Incomings { pieces, piece: Bytes::new() });
        order.task.end(&result.clone().map(|()| Value::void()));
        order.own_session.iter().for_each(|s| session::end(&app, s));
        result
    });
    // A body that ends too early ends the import with an error; who answers early ends the reading.
    loop {
        let piece = match tokio::time::timeout(PATIENCE, body.frame()).await {
            Ok(Some(frame)) => frame.map_err(io::Error::other).map(|f| f.into_data().unwrap_or_default()),
            Ok(None) => break,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        let broken = piece.is_err();
        if sender.send(piece).await.is_err() || broken {
            break;
        }
    }
    drop(sender);
    match work.await {
        Ok(Ok(())) => plain(StatusCode::OK, "done"),
        Ok(Err(error)) => failure(&error),
        Err(_) => {
            plain(StatusCode::INTERNAL_SERVER_ERROR, "the import ended in a panic; radond's log has it")
        }
    }
}

/// Reads an image into a new volume, which takes the VDI's place.
fn read_in(app: &Arc<App>, order: &Order, mut from: Incomings) -> Result<()> {
    let vdi = order.vdi.as_str();
    let _busy = app.begin("VDI", vdi, "update")?;
    let place = vdi::place(app, vdi)?;
    let (label, size) = {
        let state = app.database.state();
        let row = &state.object("VDI", vdi)?.row;
        writable(app, &state, vdi, row)?;
        (text(row, "name_label").to_owned(), crate::messages::int(row, "virtual_size"))
    };
    let size = u64::try_from(size).unwrap_or_default();
    let mut stopped = None;
    let mut progress = |done: u64, total: Option<u64>| {
        let part = (done as f64 / total.unwrap_or(size).max(1) as f64).min(0.99);
        order.task.progress(part).map_err(|error| {
            stopped = Some(error);
            io::Error::other("cancelled")
        })
    };
    let made = place.repository.import(Input::Stream(&mut from), order.format, UNFINISHED, &mut progress);
    let mut volume = made.map_err(|error| stopped.unwrap_or_else(|| refused(error)))?;
    let swapped = || -> Result<()> {
        if volume.size > size {
            return Err(ApiError::vdi_too_small(vdi, volume.size));
        }
        if volume.size < size {
            volume = place.repository.resize(volume.id, size, Shrink::No).map_err(refused)?;
        }
        let space = place.repository.space(volume.id).unwrap_or_default();
        place.repository.rename(place.id, UNFINISHED).map_err(refused)?;
        app.database.change(|c| {
            c.set("VDI", vdi, "location", volume.id.to_string())?;
            c.set("VDI", vdi, "physical_utilisation", space.allocated)
        })
    };
    let mut swapped = swapped;
    match swapped() {
        Ok(()) => {
            vdi::undo(&place.repository, place.id);
            vdi::name(&place.repository, volume.id, &label);
            Ok(())
        }
        Err(error) => {
            vdi::undo(&place.repository, volume.id);
            Err(error)
        }
    }
}

/// An error if the volume never changes, or a VM has it.
fn writable(app: &App, state: &crate::database::State, vdi: &str, row: &Row) -> Result<()> {
    if truth(row, "read_only") {
        return Err(ApiError::vdi_readonly(vdi));
    }
    let attached = |vbd: &String| state.object("VBD", vbd).is_ok_and(|o| truth(&o.row, "currently_attached"));
    if app.reserved.is(vdi) || state.referring(vdi, "VBD", "VDI").any(attached) {
        return Err(ApiError::vdi_in_use(vdi, "import"));
    }
    Ok(())
}

/// Bytes of a response, written in a thread.
struct Outgoing<'a> {
    pieces: mpsc::Sender<io::Result<Frame<Bytes>>>,
    piece: Vec<u8>,
    task: &'a Task,
    stopped: Option<ApiError>,
}

impl Outgoing<'_> {
    fn send(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.piece);
        let sent = self.pieces.blocking_send(Ok(Frame::data(piece.into())));
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the client is gone"))
    }
}

impl Output for Outgoing<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.piece.extend_from_slice(data);
        if self.piece.len() >= PIECE { self.send() } else { Ok(()) }
    }

    fn progress(&mut self, done: u64, total: u64) -> io::Result<()> {
        self.task.progress(done as f64 / total.max(1) as f64).map_err(|error| {
            self.stopped = Some(error);
            io::Error::other("cancelled")
        })
    }
}

/// A queue as a stream.
struct Queue(mpsc::Receiver<io::Result<Frame<Bytes>>>);

impl futures_core::Stream for Queue {
    type Item = io::Result<Frame<Bytes>>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

pub(super) async fn export(app: Arc<App>, request: Request<Incoming>) -> Response<Body> {
    let (query, login) = (query(&request), basic(&request));
    let (pieces, receiver) = mpsc::channel(QUEUE);
    let (begun, beginning) = tokio::sync::oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let order = match order(&app, &query, login, "Export of a VDI", Role::VmAdmin) {
            Ok(order) => order,
            Err(error) => return drop(begun.send(Err(error))),
        };
        let place = vdi::place(&app, &order.vdi);
        let told = begun.send(place.as_ref().map(|_| ()).map_err(Clone::clone));
        let result = place.and_then(|place| {
            let mut out =
                Outgoing { pieces: pieces.clone(), piece: Vec::new(), task: &order.task, stopped: None };
            let written = place.repository.export(place.id, order.format, &mut out).map_err(refused);
            let written = written.and_then(|()| out.send().map_err(ApiError::internal));
            written.map_err(|error| out.stopped.unwrap_or(error))
        });
        if result.is_err() && told.is_ok() {
            // The response has begun: it is cut, so that nobody takes it for whole.
            let _ = pieces.blocking_send(Err(io::Error::other("the export failed")));
        }
        order.task.end(&result.map(|()| Value::void()));
        order.own_session.iter().for_each(|s| session::end(&app, s));
    });
    match beginning.await {
        Ok(Ok(())) => {
            let mut response = Response::new(StreamBody::new(Queue(receiver)).boxed());
            let kind = HeaderValue::from_static("application/octet-stream");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        Ok(Err(error)) => failure(&error),
        Err(_) => {
            plain(StatusCode::INTERNAL_SERVER_ERROR, "the export ended in a panic; radond's log has it")
        }
    }
}
