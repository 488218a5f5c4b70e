//! The client of the store against a server that says what a test wants it to say.

use proptest::prelude::*;
use radon_store::client::{Error, Tx, Xenstore};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A message: kind, request, payload.
fn message(kind: u32, req_id: u32, payload: &[u8]) -> Vec<u8> {
    let head: Vec<u8> =
        [kind, req_id, 0, payload.len() as u32].iter().flat_map(|w| w.to_le_bytes()).collect();
    [head, payload.to_vec()].concat()
}

/// What a server was asked: kind and payload.
type Seen = Vec<(u32, Vec<u8>)>;

/// A server that answers each request with what `answer` makes of its kind, number and payload.
fn server(answer: impl Fn(u32, u32, &[u8]) -> Vec<u8> + Send + 'static) -> (Xenstore, JoinHandle<Seen>) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let thread = std::thread::spawn(move || {
        let mut seen = Vec::new();
        let mut head = [0; 16];
        while theirs.read_exact(&mut head).is_ok() {
            let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
            let mut payload = vec![0; word(12) as usize];
            theirs.read_exact(&mut payload).unwrap();
            let reply = answer(word(0), word(4), &payload);
            seen.push((word(0), payload));
            if theirs.write_all(&reply).is_err() {
                break;
            }
        }
        seen
    });
    (Xenstore::over_socket(ours), thread)
}

const READ: u32 = 2;
const TRANSACTION_START: u32 = 6;
const TRANSACTION_END: u32 = 7;
const WATCH_EVENT: u32 = 15;
const ERROR: u32 = 16;

#[test]
fn changes_between_request_and_answer_are_kept() {
    let (mut store, thread) = server(|kind, id, _| {
        let event = message(WATCH_EVENT, 0, b"/a/b\0token\0");
        [event, message(kind, id, b"value")].concat()
    });
    assert_eq!(store.read(Tx::NONE, "/a").unwrap().as_deref(), Some("value"));
    let event = store.next_event(Instant::now() + Duration::from_secs(5)).unwrap().unwrap();
    assert_eq!((event.path.as_str(), event.token.as_str()), ("/a/b", "token"));
    assert_eq!(store.next_event(Instant::now()).unwrap(), None);
    drop(store);
    assert_eq!(thread.join().unwrap(), [(READ, b"/a\0".to_vec())]);
}

#[test]
fn a_transaction_is_tried_again_until_nobody_disturbs_it() {
    let ends = std::sync::atomic::AtomicU32::new(0);
    let (mut store, thread) = server(move |kind, id, _| match kind {
        TRANSACTION_START => message(kind, id, b"7\0"),
        TRANSACTION_END if ends.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 2 => {
            message(ERROR, id, b"EAGAIN\0")
        }
        _ => message(kind, id, b"OK\0"),
    });
    let mut tries = 0;
    store
        .transaction(|store, tx| {
            tries += 1;
            store.write(tx, "/a", "1")
        })
        .unwrap();
    assert_eq!(tries, 3);
    // A body that fails ends its transaction, and is not tried again.
    let no = || Error { what: "do", path: "/a".to_owned(), source: std::io::ErrorKind::Other.into() };
    let failed: Result<(), _> = store.transaction(|_, _| Err(no()));
    assert!(failed.is_err());
    drop(store);
    let ends: Vec<Vec<u8>> =
        thread.join().unwrap().into_iter().filter(|s| s.0 == TRANSACTION_END).map(|s| s.1).collect();
    assert_eq!(ends, [b"T\0", b"T\0", b"T\0", b"F\0"]);
}

#[test]
fn errors_are_told_apart() {
    let (mut store, _thread) = server(|_, id, payload| {
        let error: &[u8] = if payload.starts_with(b"/none") { b"ENOENT\0" } else { b"EACCES\0" };
        message(ERROR, id, error)
    });
    assert_eq!(store.read(Tx::NONE, "/none").unwrap(), None);
    assert_eq!(store.list(Tx::NONE, "/none").unwrap(), Vec::<String>::new());
    store.remove(Tx::NONE, "/none").unwrap();
    let error = store.read(Tx::NONE, "/secret").unwrap_err().to_string();
    assert!(error.contains("/secret") && error.contains("EACCES"), "{error}");
    // More than a message holds is refused before it is sent.
    assert!(store.write(Tx::NONE, "/a", &"x".repeat(5000)).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn garbage_from_the_server_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(&bytes).unwrap();
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        let mut store = Xenstore::over_socket(ours);
        // An answer to request 1 may be hidden in there; anything else is an error, never a panic or a hang.
        let _ = store.read(Tx::NONE, "/a");
        while let Ok(Some(_)) = store.next_event(Instant::now() + Duration::from_millis(10)) {}
    }
}
