//! `/console`: a VM's text console, for who may use VMs.
//!
//! ```text
//! GET     /console?session_id=...&uuid=...     with `Upgrade: websocket`: history, then live; bytes both ways in binary messages
//! CONNECT /console?session_id=...&uuid=...     the same as plain bytes: XenAPI's way
//! GET     /console?session_id=...&uuid=...     the history
//! ```
//! The console is named by `uuid` (of the console object, as in its `location`) or `ref`, or by `vm`, a VM's reference or number: that one
//! also while it does not run. Instead of `session_id` name and password may come by basic authentication. The connection ends with the session.

use super::http::{Body, full, plain};
use super::transfer::{basic, failure, query};
use crate::app::App;
use crate::session;
use futures_util::{SinkExt, StreamExt};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use radon_api::{ApiError, Result, Role};
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role as End, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message};

/// Consoles that are open at a time.
static PLACES: Semaphore = Semaphore::const_new(200);
/// How often it is looked whether a session still lives.
const LOOK: Duration = Duration::from_secs(5);
/// How long the console daemon may take for its answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Bytes of the longest message that a client may send.
const MOST: usize = 64 << 10;
/// Bytes of the longest line that the console daemon answers.
const LONGEST: usize = 1024;

/// Who asks, and for what.
struct Order {
    /// The VM's number.
    vm: String,
    /// The picture, not the text.
    picture: bool,
    session: String,
    /// The session was made for this request.
    own: bool,
}

impl Order {
    fn end(&self, app: &App) {
        if self.own {
            session::end(app, &self.session);
        }
    }
}

/// Checks the session, its role and the object's name.
fn order(app: &App, query: &HashMap<String, String>, login: Option<(String, String)>) -> Result<Order> {
    let get = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    let (session, own) = match (get("session_id"), login) {
        ("", Some((name, password))) => (session::login(app, &name, &password, "http")?, true),
        (reference, _) => (reference.to_owned(), false),
    };
    let mut order = Order { vm: String::new(), picture: false, session, own };
    let named = || {
        let role = app.sessions.find(&order.session)?.role;
        if role < Role::VmOperator {
            let why = format!("this needs role {} or higher", Role::VmOperator);
            return Err(ApiError::permission_denied("http/connect_console", why));
        }
        let state = app.database.state();
        let console = match (get("uuid"), get("ref")) {
            ("", console) => console.to_owned(),
            (uuid, _) => {
                let console = state.by_uuid("console", uuid);
                console.ok_or_else(|| ApiError::handle_invalid("console", uuid))?.to_owned()
            }
        };
        let (vm, protocol) = match get("vm") {
            "" => (
                state.text("console", &console, "VM")?.to_owned(),
                state.text("console", &console, "protocol")?,
            ),
            vm => (state.by_uuid("VM", vm).cloned().unwrap_or_else(|| vm.to_owned()), get("protocol")),
        };
        Ok((state.text("VM", &vm, "uuid")?.to_owned(), protocol == "rfb"))
    };
    match named() {
        Ok((vm, picture)) => {
            (order.vm, order.picture) = (vm, picture);
            Ok(order)
        }
        Err(error) => {
            order.end(app);
            Err(error)
        }
    }
}

/// What the console daemon gives for a request, behind its answer.
async fn reach(socket: &Path, request: &str) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(format!("{request}\n").as_bytes()).await?;
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') && line.len() < LONGEST {
        line.push(stream.read_u8().await?);
    }
    let line = String::from_utf8_lossy(&line);
    match line.trim_end() {
        "ok" => Ok(stream),
        other => Err(io::Error::other(other.trim_start_matches("error ").to_owned())),
    }
}

/// The answer to a request for a console.
pub(super) async fn answer(app: Arc<App>, mut request: Request<Incoming>) -> Response<Body> {
    let upgrade = upgrade(request.method(), request.headers());
    if let Err(response) = upgrade {
        return *response;
    }
    let (query, login) = (query(&request), basic(&request));
    let checking = app.clone();
    // A password takes its time.
    let checked = tokio::task::spawn_blocking(move || order(&checking, &query, login)).await;
    let order = match checked {
        Ok(Ok(order)) => order,
        Ok(Err(error)) => return failure(&error),
        Err(_) => {
            return plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the call ended in a panic; radond's log has it",
            );
        }
    };
    if order.picture && matches!(upgrade, Ok(Upgrade::None)) {
        order.end(&app);
        return plain(StatusCode::BAD_REQUEST, "a framebuffer has no history: use CONNECT, or a WebSocket");
    }
    let (socket, daemon) = match order.picture {
        true => (app.places.framebuffers.clone(), "radon-vnc"),
        false => (app.places.consoles.clone(), "radon-consoled"),
    };
    let word = if matches!(upgrade, Ok(Upgrade::None)) { "history" } else { "attach" };
    let line = format!("{word} {}", order.vm);
    let reached = tokio::time::timeout(ANSWER, reach(&socket, &line)).await;
    let console = match reached.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(console) => console,
        Err(error) => {
            order.end(&app);
            let why = format!("{}: {error} (is {daemon} running?)", socket.display());
            return plain(StatusCode::SERVICE_UNAVAILABLE, why);
        }
    };
    if matches!(upgrade, Ok(Upgrade::None) | Err(_)) {
        order.end(&app);
        return history(console).await;
    }
    let Ok(place) = PLACES.try_acquire() else {
        order.end(&app);
        return plain(StatusCode::SERVICE_UNAVAILABLE, "as many consoles are open as can be");
    };
    let upgraded = hyper::upgrade::on(&mut request);
    let (response, messages) = match upgrade {
        Ok(Upgrade::WebSocket(accept)) => (switching(&accept), true),
        _ => (Response::new(full("")), false),
    };
    tokio::spawn(async move {
        serve(&app, &order, upgraded, console, messages).await;
        order.end(&app);
        drop(place);
    });
    response
}

enum Upgrade {
    None,
    Tunnel,
    /// What the server says to the client's key.
    WebSocket(String),
}

/// What a request wants the connection to become.
fn upgrade(method: &Method, headers: &HeaderMap) -> std::result::Result<Upgrade, Box<Response<Body>>> {
    let text = |name: HeaderName| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if *method == Method::CONNECT {
        return Ok(Upgrade::Tunnel);
    }
    if *method != Method::GET {
        return Err(Box::new(plain(StatusCode::METHOD_NOT_ALLOWED, "use GET or CONNECT")));
    }
    let asks = text(CONNECTION).split(',').any(|word| word.trim().eq_ignore_ascii_case("upgrade"));
    if !asks || !text(UPGRADE).eq_ignore_ascii_case("websocket") {
        return Ok(Upgrade::None);
    }
    let key = headers.get("sec-websocket-key");
    match (key, text(HeaderName::from_static("sec-websocket-version"))) {
        (Some(key), "13") => Ok(Upgrade::WebSocket(derive_accept_key(key.as_bytes()))),
        _ => Err(Box::new(plain(StatusCode::BAD_REQUEST, "a WebSocket of version 13, with a key"))),
    }
}

fn switching(accept: &str) -> Response<Body> {
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert("sec-websocket-accept", accept);
    }
    response
}

async fn history(mut console: UnixStream) -> Response<Body> {
    let mut bytes = Vec::new();
    if let Err(error) = console.read_to_end(&mut bytes).await {
        return plain(StatusCode::SERVICE_UNAVAILABLE, format!("radon-consoled: {error}"));
    }
    let mut response = Response::new(full(bytes));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
}

/// Serves the connection once it is what the client asked for, until one side goes or the session ends.
async fn serve(app: &App, order: &Order, upgraded: OnUpgrade, console: UnixStream, messages: bool) {
    let served = async {
        let Ok(Ok(upgraded)) = tokio::time::timeout(ANSWER, upgraded).await else { return };
        if messages { websocket(upgraded, console).await } else { tunnel(upgraded, console).await }
    };
    tokio::select! {
        () = served => {}
        () = ended(app, &order.session) => {}
    }
}

/// Waits for the end of a session; what lasts as long as it does is no use of it.
async fn ended(app: &App, session: &str) {
    while app.sessions.lives(session) {
        tokio::time::sleep(LOOK).await;
    }
}

async fn tunnel(upgraded: Upgraded, mut console: UnixStream) {
    // What goes wrong with one connection is that client's business.
    let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(upgraded), &mut console).await;
}

async fn websocket(upgraded: Upgraded, mut console: UnixStream) {
    let config = WebSocketConfig::default().max_message_size(Some(MOST)).max_frame_size(Some(MOST));
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), End::Server, Some(config)).await;
    let (mut to_client, mut from_client) = socket.split();
    let (mut shown, mut typed) = console.split();
    let out = async {
        let mut bytes = vec![0; 16 << 10];
        loop {
            let count = shown.read(&mut bytes).await.unwrap_or(0);
            let piece = Bytes::copy_from_slice(bytes.get(..count).unwrap_or_default());
            if piece.is_empty() || to_client.send(Message::Binary(piece)).await.is_err() {
                let _ = to_client.close().await;
                return;
            }
        }
    };
    let input = async {
        while let Some(Ok(message)) = from_client.next().await {
            let written = match message {
                Message::Binary(bytes) => typed.write_all(&bytes).await,
                Message::Text(text) => typed.write_all(text.as_bytes()).await,
                Message::Close(_) => return,
                _ => Ok(()),
            };
            if written.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = out => {}
        () = input => {}
    }
}
