//! Random requests of two processes and two guests to our daemon and to Debian's xenstored: the same replies, the same
//! events, the same tree. `cargo xtask test differential` fetches Debian's and runs this.
//!
//! Where ours is meant to differ (docs/store.md), either the requests do not go there, or the comparison says so.

mod machine;
mod oracle;

use oracle::*;
use proptest::prelude::*;
use radon_store::wire;
use xen_abi::xs_wire::*;

/// A request.
#[derive(Clone)]
struct Asked(u32, Vec<u8>);

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = String::from_utf8_lossy(&self.1);
        let start: String = text.chars().take(80).collect();
        write!(f, "{} {start:?} ({})", self.0, text.len())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Ask(usize, Asked),
    /// Requests in a transaction, which is committed or not; and one of somebody else's before the end.
    Transaction(usize, Vec<Asked>, bool, Option<(usize, Asked)>),
    /// The guest dies.
    Kill(usize),
    /// A process lets the guest go, which lives on.
    Release(usize),
    /// The guest, or a later one of its number, is introduced.
    Introduce(usize),
}

fn path() -> BoxedStrategy<String> {
    let name = prop_oneof!["a", "b", "c"];
    let below = proptest::collection::vec(name, 1..4).prop_map(|v| v.join("/"));
    let home = prop_oneof!["/local/domain/1", "/local/domain/2", "/local/domain", "/x"];
    prop_oneof![
        8 => (home.clone(), below.clone()).prop_map(|(h, b)| format!("{h}/{b}")),
        4 => below,
        2 => home,
        1 => proptest::sample::select(&["/", "", "//", "/x/", "/x//a", "/x y", "x$", "@introduceDomain", "@releaseDomain",
            "@else", "/x/@a", "/local/domain/1/../2", "/tool/xenstored", "/x/a-b_c:d@e"][..]).prop_map(str::to_owned),
        1 => (3060usize..3080).prop_map(|n| format!("/x/{}", "n".repeat(n - 3))),
        1 => (2035usize..2055).prop_map(|n| format!("/x/{}", "n".repeat(n - 3))),
        1 => (2035usize..2055).prop_map(|n| "n".repeat(n)),
    ].boxed()
}

fn permissions() -> BoxedStrategy<String> {
    let one = proptest::sample::select(
        &["n0", "n1", "n2", "b0", "r1", "r2", "w2", "b1", "b2", "r7", "n40000", "x1", "r", ""][..],
    );
    proptest::collection::vec(one, 0..5).prop_map(|v| v.iter().map(|p| format!("{p}\0")).collect()).boxed()
}

/// What concerns nodes.
fn node_request() -> BoxedStrategy<Asked> {
    let only = |kind: u32| path().prop_map(move |p| Asked(kind, format!("{p}\0").into_bytes()));
    let value = prop_oneof![
        6 => proptest::sample::select(&["", "x", "some value", "y\0z\0"][..]).prop_map(str::to_owned),
        1 => (1900usize..2060).prop_map(|n| "v".repeat(n)),
    ];
    prop_oneof![
        4 => only(XS_READ),
        3 => only(XS_DIRECTORY),
        2 => only(XS_GET_PERMS),
        3 => only(XS_MKDIR),
        3 => only(XS_RM),
        8 => (path(), value).prop_map(|(p, v)| Asked(XS_WRITE, format!("{p}\0{v}").into_bytes())),
        // Debian's dies of permissions for a special path that it does not know, when somebody has a watch, and removes the root
        // with the domain that owns it.
        5 => (path().prop_filter("deadly", |p| p != "@else" && p != "/"), permissions()).prop_map(|(p, l)| Asked(XS_SET_PERMS, format!("{p}\0{l}").into_bytes())),
        // Heads of the right form with payloads of the wrong one (Debian's may crash on others).
        1 => (proptest::sample::select(&[XS_WRITE, XS_SET_PERMS][..]),
            proptest::sample::select(&["", "\0", "/x", "/x\0\0", "/x\0y", "a\0b\0c\0"][..]))
            .prop_map(|(kind, text)| Asked(kind, text.as_bytes().to_vec())),
    ]
    .boxed()
}

fn request() -> BoxedStrategy<Asked> {
    let token = proptest::sample::select(&["t", "u", ""][..]);
    let number =
        proptest::sample::select(&["0", "1", "2", "9", "-1", "x", "", "40000", "70000", "32752"][..]);
    let watched = |kind: u32| {
        (path(), token.clone()).prop_map(move |(p, t)| Asked(kind, format!("{p}\0{t}\0").into_bytes()))
    };
    let about = |kind: u32| number.clone().prop_map(move |n| Asked(kind, format!("{n}\0").into_bytes()));
    let rest = proptest::sample::select(&["", "\0", "a\0", "1\x002\0", "a\0b\0"][..]);
    prop_oneof![
        30 => node_request(),
        10 => watched(XS_WATCH),
        4 => watched(XS_UNWATCH),
        1 => about(XS_GET_DOMAIN_PATH),
        1 => about(XS_IS_DOMAIN_INTRODUCED),
        1 => about(XS_RESUME),
        1 => (number.clone(), number.clone()).prop_map(|(a, b)| Asked(XS_SET_TARGET, format!("{a}\0{b}\0").into_bytes())),
        1 => Just(Asked(XS_RESET_WATCHES, vec![0])),
        1 => (path(), 0u32..6).prop_map(|(p, n)| Asked(XS_DIRECTORY_PART, format!("{p}\0{n}\0").into_bytes())),
        1 => (proptest::sample::select(&[XS_WATCH, XS_UNWATCH, XS_TRANSACTION_END, XS_GET_DOMAIN_PATH, XS_RESUME,
            XS_IS_DOMAIN_INTRODUCED, XS_RELEASE, XS_INTRODUCE, XS_SET_TARGET, XS_WATCH_EVENT, XS_ERROR, 18, 21, 22, 200][..]), rest)
            .prop_map(|(kind, text)| Asked(kind, text.as_bytes().to_vec())),
    ].boxed()
}

fn step() -> BoxedStrategy<Step> {
    let who = 0..CLIENTS;
    let guest = 2..CLIENTS;
    let other = proptest::option::of((0..CLIENTS, node_request()));
    prop_oneof![
        60 => (who.clone(), request()).prop_map(|(w, r)| Step::Ask(w, r)),
        12 => (who, proptest::collection::vec(node_request(), 0..6), any::<bool>(), other)
            .prop_map(|(w, r, c, o)| Step::Transaction(w, r, c, o)),
        1 => guest.clone().prop_map(Step::Kill),
        1 => guest.clone().prop_map(Step::Release),
        3 => guest.prop_map(Step::Introduce),
    ]
    .boxed()
}

/// Both daemons, and what is known about both.
struct Both {
    ours: Ours,
    theirs: Debians,
    /// Who can be asked.
    alive: [bool; CLIENTS],
    /// Guests that have never been anything else but there.
    steady: [bool; CLIENTS],
    /// Some list of permissions may name a domain that does not exist. Ours forgets it, Debian's counts it towards sizes.
    dangling: bool,
}

/// Whether the effects may differ in this way: in which error is found first, that is.
fn meant_to_differ(Asked(kind, payload): &Asked, ours: &Effect, theirs: &Effect) -> bool {
    let errors = ours.reply.0 == XS_ERROR && theirs.reply.0 == XS_ERROR && ours.events == theirs.events;
    let reasons = (&*ours.reply.1, &*theirs.reply.1);
    errors
        && match reasons {
            // Debian's goes on without the argument that it did not find, to any error.
            ("EINVAL|", _) => wire::one(payload).is_err(),
            // Debian's tells a stranger that a domain does not exist; and of a special watch, what went wrong last.
            ("EACCES|", _) => *kind == XS_SET_PERMS,
            _ => false,
        }
}

/// A list of permissions without the entries for guests that are gone or new: ours drops an entry with its domain, Debian's passes
/// over it, and shows it again when there is another domain of that number.
fn lasting(permissions: &str, steady: &[bool; CLIENTS]) -> String {
    let (owner, others) = permissions.split_once('|').unwrap();
    let lasts = |entry: &&str| {
        let domid = entry.trim_start_matches(|c: char| c.is_ascii_alphabetic()).trim_end_matches('|');
        let is = |who: usize| domain(who).is_some_and(|d| d.to_string() == domid);
        domid == "0" || (0..CLIENTS).any(|who| steady[who] && is(who))
    };
    format!("{owner}|{}", others.split_inclusive('|').filter(lasts).collect::<String>())
}

type Outcome = Result<(), TestCaseError>;

impl Both {
    fn start() -> Result<Self, TestCaseError> {
        let mut both = Self {
            ours: Ours::start(),
            theirs: Debians::start(),
            alive: [true, true, false, false],
            steady: [true; CLIENTS],
            dangling: false,
        };
        both.introduce(2)?;
        both.introduce(3)?;
        Ok(both)
    }

    fn ask(
        &mut self,
        who: usize,
        Asked(kind, payload): &Asked,
        ids: (u32, u32),
    ) -> Result<(u32, String), TestCaseError> {
        let mut ours = ask(&mut self.ours, &self.alive, who, *kind, ids.0, payload);
        let mut theirs = ask(&mut self.theirs, &self.alive, who, *kind, ids.1, payload);
        for effect in [&mut ours, &mut theirs].into_iter().filter(|e| e.reply.0 == XS_GET_PERMS) {
            effect.reply.1 = lasting(&effect.reply.1, &self.steady);
        }
        let asked = Asked(*kind, payload.clone());
        self.dangling |= *kind == XS_SET_PERMS && String::from_utf8_lossy(payload).contains("r7");
        let too_large = theirs.reply == (XS_ERROR, "ENOSPC|".to_owned()) && ours.reply.0 == *kind;
        if self.dangling && too_large {
            return Err(TestCaseError::reject("the two differ from here on"));
        }
        let agreed = ours == theirs || meant_to_differ(&asked, &ours, &theirs);
        prop_assert!(agreed, "{who} asks {asked:?}: ours {ours:?}, Debian's {theirs:?}");
        Ok(ours.reply)
    }

    fn introduce(&mut self, who: usize) -> Outcome {
        if self.alive[who] {
            return Ok(());
        }
        self.ours.create(who);
        self.theirs.create(who);
        let domid = domain(who).unwrap();
        self.ask(0, &Asked(XS_INTRODUCE, format!("{domid}\x001\x001\0").into_bytes()), (0, 0))?;
        self.alive[who] = true;
        let home = format!("/local/domain/{domid}\0");
        self.ask(0, &Asked(XS_WRITE, home.clone().into_bytes()), (0, 0))?;
        self.ask(0, &Asked(XS_SET_PERMS, format!("{home}n{domid}\0").into_bytes()), (0, 0))?;
        Ok(())
    }

    fn transaction(
        &mut self,
        who: usize,
        requests: &[Asked],
        commit: bool,
        other: Option<&(usize, Asked)>,
    ) -> Result<bool, TestCaseError> {
        let begin = |daemon: &mut dyn Daemon| {
            let effect = ask(daemon, &self.alive, who, XS_TRANSACTION_START, 0, b"\0");
            effect
                .reply
                .1
                .trim_end_matches('|')
                .parse::<u32>()
                .map_err(|_| TestCaseError::fail(format!("{effect:?}")))
        };
        let ids = (begin(&mut self.ours)?, begin(&mut self.theirs)?);
        // Ours has looked for the node before it looks for the domains; Debian's has not, and does not depend on it.
        let mut looked = false;
        for request in requests {
            let (kind, _) = self.ask(who, request, ids)?;
            looked |= kind == XS_ERROR && request.0 == XS_SET_PERMS;
        }
        if let Some((who, request)) = other.filter(|o| self.alive[o.0]) {
            self.ask(*who, request, (0, 0))?;
        }
        let end: &[u8] = if commit { b"T\0" } else { b"F\0" };
        let ours = ask(&mut self.ours, &self.alive, who, XS_TRANSACTION_END, ids.0, end);
        let mut theirs = ask(&mut self.theirs, &self.alive, who, XS_TRANSACTION_END, ids.1, end);
        if requests.iter().skip(1).any(|r| r.0 == XS_RM) {
            // Ours tells of a removal, and not also of what became of nodes below before it.
            let mut rest = ours.events.iter().peekable();
            theirs.events.retain(|e| rest.next_if_eq(&e).is_some());
        }
        let again = (XS_ERROR, "EAGAIN|".to_owned());
        // Ours finds fewer conflicts; and Debian's cannot commit to the longest names that it takes. Then the two go different ways.
        let nomem = (XS_ERROR, "ENOMEM|".to_owned());
        let fewer = theirs.reply == again && ours.reply != again && other.is_some();
        let more = ours.reply == again && other.is_some() && looked;
        if fewer || more || theirs.reply == nomem {
            return Ok(false);
        }
        prop_assert_eq!(&ours, &theirs, "left: ours. {} ends {:?}, meanwhile {:?}", who, requests, other);
        Ok(true)
    }

    fn kill(&mut self, who: usize) -> Outcome {
        if !std::mem::take(&mut self.alive[who]) {
            return Ok(());
        }
        (self.steady[who], self.dangling) = (false, true);
        let mut effects = Vec::new();
        for daemon in [&mut self.ours as &mut dyn Daemon, &mut self.theirs] {
            let mut events = daemon.kill(who);
            events.extend(settled(daemon, &self.alive));
            events.sort();
            effects.push(events);
        }
        prop_assert_eq!(&effects[0], &effects[1], "left: ours. {} dies", who);
        Ok(())
    }

    /// Every node, its value and permissions.
    fn compare_trees(&mut self) -> Outcome {
        let mut paths = vec!["/".to_owned()];
        while let Some(path) = paths.pop() {
            let payload = format!("{path}\0").into_bytes();
            self.ask(0, &Asked(XS_READ, payload.clone()), (0, 0))?;
            self.ask(0, &Asked(XS_GET_PERMS, payload.clone()), (0, 0))?;
            let (kind, children) = self.ask(0, &Asked(XS_DIRECTORY, payload), (0, 0))?;
            if kind == XS_ERROR {
                // More names than a reply holds.
                continue;
            }
            let below = if path == "/" { String::new() } else { path };
            paths.extend(children.split('|').filter(|c| !c.is_empty()).map(|c| format!("{below}/{c}")));
        }
        Ok(())
    }

    fn run(mut self, steps: &[Step]) -> Outcome {
        // Debian's does not let go of a domain that is another's target.
        let ends = steps.iter().any(|s| matches!(s, Step::Kill(_) | Step::Release(_)));
        for step in steps {
            match step {
                Step::Ask(_, Asked(XS_SET_TARGET, _)) if ends => {}
                Step::Ask(who, request) if self.alive[*who] => drop(self.ask(*who, request, (0, 0))?),
                Step::Transaction(who, requests, commit, other) if self.alive[*who] => {
                    let alike = self.transaction(*who, requests, *commit, other.as_ref())?;
                    if !alike {
                        return Ok(());
                    }
                }
                Step::Kill(who) => self.kill(*who)?,
                Step::Release(who) if self.alive[*who] => {
                    self.alive[*who] = false;
                    (self.steady[*who], self.dangling) = (false, true);
                    let domid = domain(*who).unwrap();
                    self.ask(0, &Asked(XS_RELEASE, format!("{domid}\0").into_bytes()), (0, 0))?;
                }
                Step::Introduce(who) => self.introduce(*who)?,
                _ => {}
            }
        }
        self.compare_trees()?;
        prop_assert_eq!(self.ours.check(), Ok(()));
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, max_shrink_iters: 400, max_shrink_time: 60_000, ..ProptestConfig::default() })]

    #[test]
    #[ignore = "needs Debian's xenstored: `cargo xtask test differential`"]
    fn debians_xenstored_answers_the_same(steps in proptest::collection::vec(step(), 1..60)) {
        Both::start()?.run(&steps)?;
    }
}
