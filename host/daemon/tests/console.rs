//! `/console`: a WebSocket, a tunnel, a history; for who may, as long as the session lives. The console daemon is the real one, its guest
//! is not.

#[allow(dead_code, reason = "of the console crate's own tests, which use all of it")]
#[path = "../../console/tests/guests/mod.rs"]
mod guests;

mod common;

use futures_util::{SinkExt, StreamExt};
use guests::{Fake, Guest, Served, found, until};
use radon_api::{Call, Role, Value};
use radon_daemon::app::{App, Places, fields};
use radon_daemon::{dispatch, server};
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

const VM: &str = "07070707-0707-0707-0707-070707070707";
const FRAMEBUFFER: &str = "09090909-0707-0707-0707-070707070707";
const CONSOLE: &str = "08080808-0707-0707-0707-070707070707";

struct Setting {
    app: Arc<App>,
    address: SocketAddr,
    guest: Guest,
    _served: Served,
    _folder: tempfile::TempDir,
}

impl Setting {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let places = Places { consoles: dir.join("socket"), ..common::places(dir) };
        let app = App::open(places, Arc::new(common::xen(dir))).unwrap();
        for role in [Role::ReadOnly, Role::VmOperator] {
            app.users.set(role.name(), role, "password").unwrap();
        }
        app.database
            .change(|c| {
                let vm = c.insert("VM", fields([("uuid", VM.into()), ("name_label", "web".into())]))?;
                let picture =
                    [("uuid", FRAMEBUFFER.into()), ("VM", vm.clone().into()), ("protocol", "rfb".into())];
                c.insert("console", fields(picture))?;
                c.insert("console", fields([("uuid", CONSOLE.into()), ("VM", vm.into())])).map(drop)
            })
            .unwrap();
        let machine = Fake::new();
        let guest = machine.guest(1);
        let served = Served::start(dir, &machine, &[found(1, 7)]);
        guest.say("booted\n");
        until("the history", || served.ask(&format!("history {VM}")) == "booted\n");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(server::serve(app.clone(), listener, None, server::places()));
        Self { app, address, guest, _served: served, _folder: folder }
    }

    fn login(&self, role: Role) -> String {
        let params = vec![Value::from(role.name()), Value::from("password")];
        let call = Call { method: "session.login_with_password".into(), params };
        dispatch::call(&self.app, call).unwrap().text().unwrap().to_owned()
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn websocket(&self, query: &str) -> Result<WebSocketStream<TcpStream>, Error> {
        let url = format!("ws://{}/console?{query}", self.address);
        tokio_tungstenite::client_async(url, self.connect().await).await.map(|(socket, _)| socket)
    }

    /// The answer to a request's head, to its end.
    async fn ask(&self, head: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    async fn typed(&self, wanted: &[u8]) {
        let mut got = Vec::new();
        while got.len() < wanted.len() {
            got.extend(self.guest.read());
            tokio::task::yield_now().await;
        }
        assert_eq!(got, wanted);
    }
}

/// Reads messages until they hold the text.
async fn sees(socket: &mut WebSocketStream<TcpStream>, text: &str) {
    let mut seen = String::new();
    while !seen.contains(text) {
        match socket.next().await.unwrap().unwrap() {
            Message::Binary(bytes) => seen.push_str(std::str::from_utf8(&bytes).unwrap()),
            other => panic!("{other:?} instead of {text}"),
        }
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("within a minute")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_shows_the_history_and_types_until_the_session_ends() {
    let setting = Setting::new().await;
    let session = setting.login(Role::VmOperator);
    within(async {
        for name in [format!("uuid={CONSOLE}"), format!("ref=OpaqueRef:{CONSOLE}"), format!("vm={VM}")] {
            let mut socket = setting.websocket(&format!("session_id={session}&{name}")).await.unwrap();
            sees(&mut socket, "booted\n").await;
            socket.send(Message::Binary(b"\x03a".to_vec().into())).await.unwrap();
            setting.typed(b"\x03a").await;
            socket.send(Message::Text("bc".into())).await.unwrap();
            setting.typed(b"bc").await;
            setting.guest.say("live\n");
            sees(&mut socket, "live\n").await;
            socket.close(None).await.unwrap();
        }
        let mut socket = setting.websocket(&format!("session_id={session}&vm={VM}")).await.unwrap();
        sees(&mut socket, "live\n").await;
        let params = vec![Value::from(session.as_str())];
        dispatch::call(&setting.app, Call { method: "session.logout".into(), params }).unwrap();
        while let Some(Ok(message)) = socket.next().await {
            assert!(!matches!(message, Message::Close(Some(_))), "{message:?}");
        }
        assert!(setting.websocket(&format!("session_id={session}&vm={VM}")).await.is_err());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_framebuffer_by_a_websocket_and_a_tunnel() {
    let setting = Setting::new().await;
    let session = setting.login(Role::VmOperator);
    within(async {
        let names = [format!("uuid={FRAMEBUFFER}"), format!("vm={VM}&protocol=rfb")];
        for name in &names {
            let query = format!("session_id={session}&{name}");
            // Before the daemon of framebuffers runs.
            let refused = setting.websocket(&query).await.unwrap_err();
            assert!(matches!(&refused, Error::Http(answer) if answer.status() == 503), "{refused:?}");
            let history = setting.ask(&format!("GET /console?{query} HTTP/1.1\r\nHost: a")).await;
            assert!(history.starts_with("HTTP/1.1 400") && history.contains("no history"), "{history}");
        }
        let screens = Arc::new(radon_framebuffer::server::Screens::default());
        let _screen = screens.of(VM.parse().unwrap(), 1, "web");
        let listener = UnixListener::bind(&setting.app.places.framebuffers).unwrap();
        std::thread::spawn(move || radon_framebuffer::server::run(&listener, &screens));
        for name in &names {
            let query = format!("session_id={session}&{name}");
            let mut socket = setting.websocket(&query).await.unwrap();
            sees(&mut socket, "RFB 003.008\n").await;
            let mut stream = setting.connect().await;
            let head = format!("CONNECT /console?{query} HTTP/1.1\r\nHost: a\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut text = String::new();
            while !text.ends_with("\r\n\r\nRFB 003.008\n") {
                text.push(stream.read_u8().await.unwrap().into());
            }
            assert!(text.starts_with("HTTP/1.1 200"), "{text}");
            // The viewer's turn: version, no security; the server's answer ends with the VM's name.
            stream.write_all(b"RFB 003.008\n\x01\x01").await.unwrap();
            let mut hello = [0; 2 + 4 + 24 + 3];
            stream.read_exact(&mut hello).await.unwrap();
            assert!(hello.ends_with(b"\0\0\0\x03web"), "{hello:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_as_xenapi_clients_ask_for_it() {
    let setting = Setting::new().await;
    let session = setting.login(Role::VmOperator);
    within(async {
        for version in ["1.0", "1.1"] {
            let mut stream = setting.connect().await;
            let head = format!(
                "CONNECT /console?uuid={CONSOLE}&session_id={session} HTTP/{version}\r\nHost: a\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut text = Vec::new();
            while !text.ends_with(b"booted\n") {
                text.push(stream.read_u8().await.unwrap());
            }
            let text = String::from_utf8(text).unwrap();
            assert!(text.starts_with("HTTP/1.") && text.contains(" 200 OK\r\n"), "{text}");
            assert!(text.ends_with("\r\n\r\nbooted\n"), "{text}");
            stream.write_all(b"root\n").await.unwrap();
            setting.typed(b"root\n").await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_may_and_only_what_there_is() {
    let setting = Setting::new().await;
    let (reader, operator) = (setting.login(Role::ReadOnly), setting.login(Role::VmOperator));
    within(async {
        let history = setting.ask(&format!("GET /console?vm={VM}&session_id={operator} HTTP/1.1\r\nHost: a")).await;
        assert!(history.starts_with("HTTP/1.1 200 OK") && history.ends_with("\r\n\r\nbooted\n"), "{history}");
        // cm9: vm-operator:password.
        let login = "Authorization: Basic dm0tb3BlcmF0b3I6cGFzc3dvcmQ=";
        let history = setting.ask(&format!("GET /console?vm={VM} HTTP/1.1\r\nHost: a\r\n{login}")).await;
        assert!(history.ends_with("booted\n"), "{history}");
        assert!(!setting.app.sessions.of_user("vm-operator").iter().any(|s| *s != operator));
        for (method, query, status) in [
            ("GET", format!("vm={VM}"), "401"),
            ("GET", format!("vm={VM}&session_id=OpaqueRef:none"), "401"),
            ("CONNECT", format!("vm={VM}&session_id={reader}"), "403"),
            ("GET", format!("vm=OpaqueRef:none&session_id={operator}"), "404"),
            ("GET", format!("session_id={operator}"), "404"),
            ("POST", format!("vm={VM}&session_id={operator}"), "405"),
        ] {
            let said = setting.ask(&format!("{method} /console?{query} HTTP/1.1\r\nHost: a")).await;
            assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{method} {query}: {said}");
        }
        for query in [format!("vm={VM}&session_id={reader}"), format!("vm={VM}")] {
            assert!(setting.websocket(&query).await.is_err());
        }
        let old = format!(
            "GET /console?vm={VM}&session_id={operator} HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 8"
        );
        let mut stream = setting.connect().await;
        stream.write_all(format!("{old}\r\n\r\n").as_bytes()).await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 400");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_send_nonsense_hinder_nobody() {
    let setting = Setting::new().await;
    let session = setting.login(Role::VmOperator);
    within(async {
        let mut good = setting.websocket(&format!("session_id={session}&vm={VM}")).await.unwrap();
        sees(&mut good, "booted\n").await;
        for n in 0..50u8 {
            let mut bad = setting.websocket(&format!("session_id={session}&vm={VM}")).await.unwrap();
            let noise: Vec<u8> = (0..200u32).map(|i| (i * 31 + u32::from(n) * 73) as u8).collect();
            let _ = bad.get_mut().write_all(&noise).await;
        }
        // A message that says it is longer than any may be.
        let mut bad = setting.websocket(&format!("session_id={session}&vm={VM}")).await.unwrap();
        bad.get_mut().write_all(&[0x82, 0xff, 0, 0, 0, 0, 0x80, 0, 0, 0, 1, 2, 3, 4]).await.unwrap();
        while let Some(Ok(_)) = bad.next().await {}
        setting.guest.read();
        setting.guest.say("still here\n");
        sees(&mut good, "still here\n").await;
    })
    .await;
}
