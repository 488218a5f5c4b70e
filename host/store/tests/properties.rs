//! The store against the naive model: nodes, permissions, quotas, watches; transactions as if one after the other.

mod model;

use model::*;
use proptest::prelude::*;
use radon_store::perm::{DomId, Identity};
use radon_store::quota::Limits;
use radon_store::{ConnId, Store};
use xen_abi::xs_wire::*;

const TOOLS: ConnId = ConnId::Socket(1);

fn conns() -> [(ConnId, Identity); 3] {
    let guest = |domid| Identity { domid: DomId(domid), privileged: false, target: None };
    let domain = |domid| ConnId::Domain(DomId(domid));
    [(TOOLS, Identity::TOOLS), (domain(1), guest(1)), (domain(2), guest(2))]
}

fn world(nodes: u32) -> (Store, Model) {
    let mut store = Store::new(Limits { nodes, ..Limits::default() });
    store.connect_socket(1);
    store.adopt(DomId(1), 0, 1);
    store.adopt(DomId(2), 0, 1);
    store.take_ready();
    (store, Model::new(nodes as usize))
}

/// Paths of few names, so that requests meet.
fn path() -> impl Strategy<Value = String> {
    prop_oneof![
        1 => Just("/".to_owned()),
        20 => proptest::collection::vec(prop_oneof!["a", "b", "c"], 1..4).prop_map(|v| format!("/{}", v.join("/"))),
    ]
}

fn request() -> impl Strategy<Value = (u32, Vec<u8>)> {
    let with = |kind: u32, tail: &'static [&'static str]| {
        (path(), proptest::sample::select(tail))
            .prop_map(move |(p, t)| (kind, format!("{p}\0{t}").into_bytes()))
    };
    prop_oneof![
        3 => with(XS_READ, &[""]),
        3 => with(XS_DIRECTORY, &[""]),
        1 => with(XS_GET_PERMS, &[""]),
        6 => with(XS_WRITE, &["", "x", "y\0z"]),
        2 => with(XS_MKDIR, &[""]),
        3 => with(XS_RM, &[""]),
        3 => with(XS_SET_PERMS, &["n0\0", "n1\0", "n2\0", "b0\0", "r1\0", "n1\0w2\0", "n0\0b1\0r2\0", "w2\0n1\0"]),
    ]
}

/// An open transaction: who, its number, its requests with their replies, and what others have changed since it began.
type Open = (usize, u32, Vec<(u32, Vec<u8>, Result<Vec<u8>, String>)>, Vec<String>);

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Request by request: the same replies, the same events, the same tree; and accounts that add up.
    #[test]
    fn requests_do_what_the_model_does(
        limit in 3u32..12,
        steps in proptest::collection::vec((0usize..3, request(), proptest::option::of((path(), 0u8..4, 0usize..3))), 1..80),
    ) {
        let (mut store, mut model) = world(limit);
        let mut watches: Vec<MWatch> = Vec::new();
        for (step, (by, (kind, payload), watch)) in steps.into_iter().enumerate() {
            if let Some((path, depth, by)) = watch {
                let (conn, who) = conns()[by];
                let depth = (depth < 3).then_some(u32::from(depth));
                let tail = depth.map_or(String::new(), |d| format!("{d}\0"));
                let token = step.to_string();
                let set = ask(&mut store, conn, XS_WATCH, 0, format!("{path}\0{token}\0{tail}").as_bytes());
                prop_assert_eq!(set.reply, Ok(b"OK\0".to_vec()));
                prop_assert_eq!(set.events, vec![(conn, format!("{path}\0{token}\0").into_bytes())]);
                watches.push(MWatch { conn, who, path, token, depth });
            }
            let (conn, who) = conns()[by];
            let got = ask(&mut store, conn, kind, 0, &payload);
            let (reply, effect) = model.ask(&who, kind, &payload);
            prop_assert_eq!(&got.reply, &reply.map_err(|e| e.name().to_owned()), "step {}", step);
            prop_assert_eq!(&got.events, &events(&model, &watches, &effect), "step {}", step);
            if let Err(what) = same(&store, &model) {
                return Err(TestCaseError::fail(what));
            }
        }
    }

    /// A commit that succeeds has done what its requests, sent one after the other at that moment, would have done,
    /// with the same replies. One that fails has met a change of something it depended on.
    #[test]
    fn transactions_are_as_if_one_after_the_other(
        steps in proptest::collection::vec((0usize..3, 0usize..4, request()), 1..100),
    ) {
        let (mut store, mut model) = world(1000);
        let mut open: Vec<Option<Open>> = vec![None, None, None];
        for (by, slot, (kind, payload)) in steps {
            let mut touched = Vec::new();
            let before = model.clone();
            match open.get_mut(slot) {
                None => {
                    let got = ask(&mut store, conns()[by].0, kind, 0, &payload);
                    let (reply, effect) = model.ask(&conns()[by].1, kind, &payload);
                    prop_assert_eq!(got.reply, reply.map_err(|e| e.name().to_owned()));
                    touched.extend(paths_of(&effect));
                }
                Some(entry @ None) => {
                    let id = begin(&mut store, conns()[by].0);
                    *entry = Some((by, id, Vec::new(), Vec::new()));
                }
                Some(Some((by, id, log, _))) if log.len() < 5 => {
                    let got = ask(&mut store, conns()[*by].0, kind, *id, &payload);
                    prop_assert!(got.events.is_empty());
                    log.push((kind, payload, got.reply));
                }
                Some(entry) => {
                    let (by, id, log, others) = entry.take().unwrap();
                    let (conn, who) = conns()[by];
                    let got = ask(&mut store, conn, XS_TRANSACTION_END, id, b"T\0");
                    if got.reply.is_ok() {
                        for (kind, payload, seen) in log {
                            let (reply, effect) = model.ask(&who, kind, &payload);
                            prop_assert_eq!(seen, reply.map_err(|e| e.name().to_owned()));
                            touched.extend(paths_of(&effect));
                        }
                    } else {
                        prop_assert_eq!(got.reply, Err("EAGAIN".to_owned()));
                        let used = |p: &String| log.iter().any(|(_, payload, _)| meets(payload, p));
                        prop_assert!(others.iter().any(used), "needless conflict: {:?} {:?}", log, others);
                    }
                }
            }
            touched.extend(model.nodes.keys().filter(|p| !before.nodes.contains_key(*p)).cloned());
            open.iter_mut().flatten().for_each(|entry| entry.3.extend(touched.clone()));
            if let Err(what) = same(&store, &model) {
                return Err(TestCaseError::fail(what));
            }
        }
    }

    /// A store written down and made again is the same store, whatever came before; so is one made from a journal.
    #[test]
    fn records_make_the_same_store(steps in proptest::collection::vec((0usize..3, request()), 1..60)) {
        let (mut store, _) = world(1000);
        let mut journal = Vec::new();
        store.save(&Default::default(), &[], &mut journal);
        store.take_journal();
        for (by, (kind, payload)) in steps {
            ask(&mut store, conns()[by].0, kind, 0, &payload);
            journal.extend(store.take_journal());
        }
        let mut state = Vec::new();
        store.save(&Default::default(), &[], &mut state);
        for bytes in [journal, state] {
            let mut restored = radon_store::state::Restored::default();
            for record in radon_store::record::Record::read_all(&bytes).unwrap() {
                restored.apply(record);
            }
            prop_assert_eq!(restored.store.check(), Ok(()));
            prop_assert_eq!(dump(&restored.store), dump(&store));
        }
    }
}

fn dump(store: &Store) -> Vec<(String, Vec<u8>, String, Vec<u8>)> {
    let mut all = Vec::new();
    store.tree().root().walk("/", &mut |path, node| {
        let perms = format!("{:?}", node.perms());
        all.push((path.to_owned(), node.value().to_vec(), perms, node.children().listing()));
    });
    all
}

fn paths_of(effect: &Effect) -> Vec<String> {
    match effect {
        Effect::None => Vec::new(),
        Effect::Changed(path, _) => vec![path.clone()],
        Effect::Removed(gone) => gone.iter().map(|(p, _)| p.clone()).collect(),
    }
}

/// Whether a change at `changed` may matter to a request: it is at the path itself, above it, or below it.
fn meets(payload: &[u8], changed: &str) -> bool {
    let path = String::from_utf8_lossy(payload.split(|b| *b == 0).next().unwrap()).into_owned();
    let within = |a: &str, b: &str| b == "/" || a == b || a.starts_with(&format!("{b}/"));
    within(&path, changed) || within(changed, &path)
}

/// A list of permissions counts towards its node's size as the value does.
#[test]
fn permissions_do_not_make_a_node_larger_than_it_may_be() {
    let (mut store, _) = world(100);
    let (guest, _) = conns()[1];
    ask(&mut store, TOOLS, XS_WRITE, 0, b"/x\0");
    ask(&mut store, TOOLS, XS_SET_PERMS, 0, b"/x\0n1\0");
    let value = [b"/x\0".as_slice(), &[b'v'; 2048 - 24 - 8 - 8 - 1]].concat();
    assert_eq!(ask(&mut store, guest, XS_WRITE, 0, &value).reply, Ok(b"OK\0".to_vec()));
    assert_eq!(ask(&mut store, guest, XS_SET_PERMS, 0, b"/x\0n1\0r2\0").reply, Ok(b"OK\0".to_vec()));
    assert_eq!(ask(&mut store, guest, XS_SET_PERMS, 0, b"/x\0n1\0r2\0w0\0").reply, Err("ENOSPC".into()));
    // The control domain is not limited.
    assert_eq!(ask(&mut store, TOOLS, XS_SET_PERMS, 0, b"/x\0n1\0r2\0w0\0").reply, Ok(b"OK\0".to_vec()));
}
