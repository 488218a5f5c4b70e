//! Random operations on two domains against a naive model: states of all ports, and 2-level delivery bit by
//! bit.
mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::*;
use proptest::prelude::*;
use radon_evtchn::*;
use xen_abi::Errno;
use xen_abi::xen::virq_is_global;

#[derive(Clone, Debug)]
enum Op {
    AllocUnbound {
        remote: u16,
    },
    BindInterdomain {
        port: u32,
    },
    BindVirq {
        virq: u32,
        vcpu: u32,
    },
    BindIpi {
        vcpu: u32,
    },
    BindVcpu {
        port: u32,
        vcpu: u32,
    },
    Close {
        port: u32,
    },
    Send {
        port: u32,
    },
    Virq {
        virq: u32,
        vcpu: u32,
    },
    Mask {
        port: u32,
    },
    Unmask {
        port: u32,
    },
    /// The guest takes all its pending events.
    Consume {
        vcpu: u32,
    },
}

const MAX_PORT: u32 = 70;

fn op() -> impl Strategy<Value = (usize, Op)> {
    let port = prop_oneof![8 => 0..8u32, 4 => 55..MAX_PORT, 1 => 0..200u32];
    let virq = prop::sample::select(vec![0u32, 1, 2, 3, 24]);
    let vcpu = prop_oneof![8 => 0..VCPUS, 1 => Just(VCPUS)];
    let op = prop_oneof![
        1 => (1..4u16).prop_map(|remote| Op::AllocUnbound { remote }),
        3 => port.clone().prop_map(|port| Op::BindInterdomain { port }),
        1 => (virq.clone(), vcpu.clone()).prop_map(|(virq, vcpu)| Op::BindVirq { virq, vcpu }),
        1 => vcpu.clone().prop_map(|vcpu| Op::BindIpi { vcpu }),
        1 => (port.clone(), vcpu.clone()).prop_map(|(port, vcpu)| Op::BindVcpu { port, vcpu }),
        2 => port.clone().prop_map(|port| Op::Close { port }),
        5 => port.clone().prop_map(|port| Op::Send { port }),
        1 => (virq, 0..VCPUS).prop_map(|(virq, vcpu)| Op::Virq { virq, vcpu }),
        1 => port.clone().prop_map(|port| Op::Mask { port }),
        1 => port.prop_map(|port| Op::Unmask { port }),
        1 => (0..VCPUS).prop_map(|vcpu| Op::Consume { vcpu }),
    ];
    (0..2usize, op)
}

/// The naive model of one domain.
#[derive(Default)]
struct Model {
    open: BTreeMap<u32, (State, u32)>,
    pending: BTreeSet<u32>,
    masked: BTreeSet<u32>,
    sel: BTreeSet<(u32, u32)>,
    upcall: BTreeSet<u32>,
}

impl Model {
    fn free(&self) -> Option<u32> {
        (1..=MAX_PORT).find(|port| !self.open.contains_key(port))
    }
    /// Storage exists for whole chunks of 64 ports, which decides between "closed" and "no such port".
    fn raise(&mut self, port: u32, bits: u32) -> Option<u32> {
        let vcpu = self.open[&port].1;
        if !self.pending.insert(port) || self.masked.contains(&port) {
            return None;
        }
        (self.sel.insert((vcpu, port / bits)) && self.upcall.insert(vcpu)).then_some(vcpu)
    }
}

struct World {
    doms: [Dom; 2],
    models: [Model; 2],
}

impl World {
    fn check(&self) {
        for (dom, model) in self.doms.iter().zip(&self.models) {
            for port in 1..=MAX_PORT {
                if let Ok(status) = dom.ec.status(p(port)) {
                    let (state, vcpu) = model.open.get(&port).copied().unwrap_or((State::Free, 0));
                    assert_eq!((status.state, status.vcpu), (state, v(vcpu)), "{} port {port}", dom.ec.dom());
                } else {
                    assert!(!model.open.contains_key(&port));
                }
                assert_eq!(dom.pending(port), model.pending.contains(&port), "pending {port}");
                assert_eq!(dom.masked(port), model.masked.contains(&port), "masked {port}");
                for vcpu in 0..VCPUS {
                    assert_eq!(dom.sel(vcpu, port), model.sel.contains(&(vcpu, port / dom.word_bits())));
                }
            }
            for vcpu in 0..VCPUS {
                assert_eq!(dom.upcall(vcpu), model.upcall.contains(&vcpu));
            }
        }
    }

    /// Sends from `port` of `doms[from]` as the core does; the vCPU woken.
    fn send(&mut self, from: usize, port: u32) -> Result<Option<u32>, Errno> {
        let id = self.doms[from].ec.dom();
        let n = match self.doms[from].ec.send(p(port))? {
            Sent::Local(n) => n,
            Sent::Remote { dom, port: to } => {
                let peer = usize::from(dom.raw()) - 1;
                assert_ne!(peer, from);
                self.doms[peer].ec.receive(id, p(port), to)
            }
        };
        Ok(n.upcall.map(|v| v.raw()))
    }

    fn apply(&mut self, from: usize, op: &Op) {
        let (id, bits) = (self.doms[from].ec.dom(), self.doms[from].word_bits());
        let peer_id = d(2 - from as u16);
        let [dom0, dom1] = &mut self.doms;
        let (dom, other) = if from == 0 { (dom0, dom1) } else { (dom1, dom0) };
        let [model0, model1] = &mut self.models;
        let (model, peer) = if from == 0 { (model0, model1) } else { (model1, model0) };
        let bind = |model: &mut Model, state, vcpu| match model.free() {
            Some(port) => {
                model.open.insert(port, (state, vcpu));
                Ok(p(port))
            }
            None => Err(Errno::ENOSPC),
        };
        match *op {
            Op::AllocUnbound { remote } => {
                let want = bind(model, State::Unbound { remote: d(remote) }, 0);
                assert_eq!(dom.ec.alloc_unbound(d(remote)), want);
            }
            Op::BindInterdomain { port } => {
                // Even ports mean the other domain's, odd ones our own.
                let local = port % 2 == 1;
                let target = if local { &*model } else { &*peer };
                let waits = target.open.get(&port).map(|c| c.0) == Some(State::Unbound { remote: id });
                let (target_id, free) = (if local { id } else { peer_id }, model.free());
                let want = match (free, waits) {
                    (None, _) => Err(Errno::ENOSPC),
                    (_, false) => Err(Errno::EINVAL),
                    (Some(new), true) => {
                        model.open.insert(new, (State::Interdomain { remote: target_id, port: p(port) }, 0));
                        let target = if local { &mut *model } else { peer };
                        target.open.get_mut(&port).unwrap().0 =
                            State::Interdomain { remote: id, port: p(new) };
                        Ok((p(new), model.raise(new, bits)))
                    }
                };
                let got = if local {
                    bind_loopback(&mut dom.ec, p(port))
                } else {
                    bind_interdomain(&mut dom.ec, &mut other.ec, p(port))
                };
                assert_eq!(got.map(|(port, n)| (port, n.upcall.map(|v| v.raw()))), want);
            }
            Op::BindVirq { virq, vcpu } => {
                let bound = model.open.values().any(|&(state, on)| {
                    state == (State::Virq { virq }) && (virq_is_global(virq) || on == vcpu)
                });
                let want = if virq >= 24 || (virq_is_global(virq) && vcpu != 0) {
                    Err(Errno::EINVAL)
                } else if vcpu >= VCPUS {
                    Err(Errno::ENOENT)
                } else if bound {
                    Err(Errno::EEXIST)
                } else {
                    bind(model, State::Virq { virq }, vcpu)
                };
                assert_eq!(dom.ec.bind_virq(virq, v(vcpu)), want);
            }
            Op::BindIpi { vcpu } => {
                let want = if vcpu < VCPUS { bind(model, State::Ipi, vcpu) } else { Err(Errno::ENOENT) };
                assert_eq!(dom.ec.bind_ipi(v(vcpu)), want);
            }
            Op::BindVcpu { port, vcpu } => {
                let want = match model.open.get_mut(&port) {
                    _ if vcpu >= VCPUS => Err(Errno::ENOENT),
                    Some((State::Unbound { .. } | State::Interdomain { .. }, on)) => {
                        *on = vcpu;
                        Ok(())
                    }
                    Some((State::Virq { virq }, on)) if virq_is_global(*virq) => {
                        *on = vcpu;
                        Ok(())
                    }
                    _ => Err(Errno::EINVAL),
                };
                assert_eq!(dom.ec.bind_vcpu(p(port), v(vcpu)), want);
            }
            Op::Close { port } => {
                let got = match dom.ec.close(p(port), Closer::Guest) {
                    Ok(Closed::Done) => Ok(()),
                    Ok(Closed::NeedsPeer(peer)) => {
                        assert_eq!(peer, peer_id);
                        close_pair(&mut dom.ec, &mut other.ec, p(port), Closer::Guest)
                    }
                    Err(e) => Err(e),
                };
                let removed = model.open.remove(&port);
                assert_eq!(got, if removed.is_some() { Ok(()) } else { Err(Errno::EINVAL) });
                model.pending.remove(&port);
                if let Some((State::Interdomain { remote, port: end }, _)) = removed {
                    let target = if remote == id { model } else { peer };
                    target.open.get_mut(&end.raw()).unwrap().0 = State::Unbound { remote: id };
                }
            }
            Op::Send { port } => {
                let want = match model.open.get(&port).map(|c| c.0) {
                    Some(State::Interdomain { remote, port: end }) => {
                        let target = if remote == id { model } else { peer };
                        Ok(target.raise(end.raw(), bits))
                    }
                    Some(State::Ipi) => Ok(model.raise(port, bits)),
                    Some(State::Unbound { .. }) => Ok(None),
                    _ => Err(Errno::EINVAL),
                };
                assert_eq!(self.send(from, port), want);
            }
            Op::Virq { virq, vcpu } => {
                let port = model.open.iter().find_map(|(&port, &(state, on))| {
                    (state == (State::Virq { virq }) && (virq_is_global(virq) || on == vcpu)).then_some(port)
                });
                let want = port.and_then(|port| model.raise(port, bits));
                assert_eq!(dom.ec.send_virq(virq, v(vcpu)).upcall.map(|v| v.raw()), want);
            }
            Op::Mask { port } => {
                dom.set_mask(port, true);
                model.masked.insert(port);
            }
            Op::Unmask { port } => {
                if let Ok(n) = dom.ec.unmask(p(port)) {
                    let want = match model.open.get(&port) {
                        Some(&(_, vcpu)) if model.masked.remove(&port) && model.pending.contains(&port) => {
                            (model.sel.insert((vcpu, port / bits)) && model.upcall.insert(vcpu))
                                .then_some(vcpu)
                        }
                        _ => None,
                    };
                    assert_eq!(n.upcall.map(|v| v.raw()), want);
                } else {
                    assert!(port >= 64 && !model.open.contains_key(&port));
                }
            }
            Op::Consume { vcpu } => {
                dom.ack(vcpu);
                model.upcall.remove(&vcpu);
                model.sel.retain(|&(on, _)| on != vcpu);
                for port in 0..=MAX_PORT {
                    if !model.masked.contains(&port) {
                        dom.set_pending_bit(port, false);
                        model.pending.remove(&port);
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(80) })]
    #[test]
    fn matches_the_model(compat in any::<bool>(), used in 0..68u16, ops in prop::collection::vec(op(), 1..250)) {
        let layout = if compat { Layout::Compat32 } else { Layout::Native64 };
        let doms = [1, 2].map(|id| Dom::new(id, layout, MAX_PORT));
        let mut world = World { doms, models: Default::default() };
        for _ in 0..used {
            world.apply(0, &Op::AllocUnbound { remote: 2 });
            world.apply(1, &Op::AllocUnbound { remote: 1 });
        }
        for (from, op) in &ops {
            world.apply(*from, op);
            world.check();
        }
    }
}
