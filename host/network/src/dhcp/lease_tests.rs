//! The pool against a naive model: a list of who was told what and when.

use super::*;
use proptest::prelude::*;

const FIRST: u32 = 0x0a01_0002;
const SIZE: u32 = 5;

fn subnet() -> Subnet {
    serde_json::from_str(
        r#"{"prefix": "10.1.0.0/24", "host": "10.1.0.1", "range": "10.1.0.1-10.1.0.6", "lease_seconds": 100, "domain": "t"}"#,
    )
    .unwrap()
}

fn mac(n: u8) -> Mac {
    Mac::new([0, 0x16, 0x3e, 0, 0, n]).unwrap()
}

fn address(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(FIRST + n % SIZE)
}

/// Client 0 has address 4 by declaration.
fn pool() -> Pool {
    let mut pool = Pool::new(&subnet(), BTreeMap::new());
    pool.reserve(BTreeMap::from([(mac(0), address(4))]), BTreeSet::from([subnet().host]));
    pool
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Discover(u8, u32),
    Take(u8, u32),
    Release(u8, u32),
    Decline(u8, u32),
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let who = 0u8..7;
    prop_oneof![
        (who.clone(), 0..SIZE).prop_map(|(m, a)| Act::Discover(m, a)),
        (who.clone(), 0..SIZE).prop_map(|(m, a)| Act::Take(m, a)),
        (who.clone(), 0..SIZE).prop_map(|(m, a)| Act::Release(m, a)),
        (who, 0..SIZE).prop_map(|(m, a)| Act::Decline(m, a)),
        (1u64..120).prop_map(Act::Wait),
    ]
}

/// What the model remembers of an address: (whose, until) as a lease, and as an offer.
#[derive(Clone, Copy, Default)]
struct Known {
    lease: Option<(Option<u8>, u64)>,
    offer: Option<(u8, u64)>,
}

struct Model {
    known: [Known; SIZE as usize],
    now: u64,
}

impl Model {
    fn free(&self, who: u8, n: u32) -> bool {
        let known = self.known[n as usize];
        let others =
            |lease: Option<(Option<u8>, u64)>| lease.is_some_and(|(m, t)| t > self.now && m != Some(who));
        n != 4 && !others(known.lease) && !others(known.offer.map(|(m, t)| (Some(m), t)))
    }

    fn is_of(&self, who: u8, n: u32) -> bool {
        let known = self.known[n as usize];
        match (known.lease, known.offer) {
            (Some((m, t)), _) => m == Some(who) && t > self.now,
            (None, offer) => offer.is_some_and(|(m, t)| m == who && t > self.now),
        }
    }

    fn step(&mut self, pool: &mut Pool, act: Act) -> Result<(), TestCaseError> {
        let now = self.now;
        match act {
            Act::Wait(time) => self.now += time,
            Act::Discover(who, n) => {
                let got = pool.offer(mac(who), Some(address(n)), now);
                if who == 0 {
                    prop_assert_eq!(got, Some(address(4)));
                    return Ok(());
                }
                let free = (0..SIZE).any(|n| self.free(who, n));
                prop_assert_eq!(got.is_some(), free, "an offer exactly if an address is free");
                let Some(got) = got else { return Ok(()) };
                let index = got.to_bits() - FIRST;
                prop_assert!(index < SIZE && self.free(who, index), "{} is not free for {}", got, who);
                // Whoever has one is offered that one.
                let has = (0..SIZE)
                    .find(|n| self.known[*n as usize].lease.is_some_and(|(m, t)| m == Some(who) && t > now));
                prop_assert!(has.is_none_or(|has| has == index || !self.free(who, has)));
                for known in &mut self.known {
                    known.offer = known.offer.filter(|(m, _)| *m != who);
                }
                self.known[index as usize].offer = Some((who, now + OFFERED));
            }
            Act::Take(who, n) => {
                let got = pool.take(mac(who), address(n), now);
                let may = if who == 0 { n == 4 } else { self.free(who, n) };
                prop_assert_eq!(got.is_some(), may);
                if may && who != 0 {
                    for known in &mut self.known {
                        known.offer = known.offer.filter(|(m, _)| *m != who);
                        known.lease =
                            known.lease.map(|(m, t)| (m, if m == Some(who) { t.min(now) } else { t }));
                    }
                    self.known[n as usize].lease = Some((Some(who), now + 100));
                }
            }
            Act::Release(who, n) => {
                let known = &mut self.known[n as usize];
                let own = known.lease.is_some_and(|(m, t)| m == Some(who) && t > now);
                prop_assert_eq!(pool.release(mac(who), address(n), now).is_some(), own);
                if own {
                    known.lease = Some((Some(who), now));
                }
            }
            Act::Decline(who, n) => {
                let own = self.is_of(who, n);
                prop_assert_eq!(pool.decline(mac(who), address(n), now).is_some(), own);
                if own {
                    self.known[n as usize] = Known { lease: Some((None, now + 100)), offer: None };
                }
            }
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn as_the_model(acts in proptest::collection::vec(act(), 1..120)) {
        let mut pool = pool();
        let mut model = Model { known: Default::default(), now: 1000 };
        for act in acts {
            model.step(&mut pool, act)?;
            for (address, lease) in pool.leases() {
                let known = model.known[(address.to_bits() - FIRST) as usize].lease;
                prop_assert_eq!(known.map(|(m, t)| (m.map(mac), t)), Some((lease.mac, lease.until)));
            }
        }
    }
}

#[test]
fn a_client_keeps_its_address_and_others_do_not_get_it() {
    let mut pool = pool();
    let first = pool.offer(mac(1), None, 0).unwrap();
    assert_ne!(pool.offer(mac(2), Some(first), 0), Some(first));
    pool.take(mac(1), first, 0).unwrap();
    // Long over, and others are served before that address is.
    assert_eq!(pool.offer(mac(1), None, 1000), Some(first));
    let mut pool = self::pool();
    pool.take(mac(1), first, 0).unwrap();
    assert_ne!(pool.offer(mac(2), None, 1000), Some(first));
    // Wrong ones are refused.
    assert!(pool.take(mac(0), first, 1000).is_none() && pool.take(mac(2), subnet().host, 0).is_none());
    assert!(pool.take(mac(2), Ipv4Addr::new(10, 1, 0, 200), 0).is_none());
}
