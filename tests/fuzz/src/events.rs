//! Event channels of two domains whose shared pages hold whatever the guest writes.

use std::sync::OnceLock;

use radon_addr::{DomId, Maddr, Port, VcpuId};
use radon_evtchn::{Closed, Closer, EventChannels, Sent, bind_interdomain, bind_loopback, close_pair};
use radon_hw::mem;

use crate::memory::Pool;
use crate::random::source::Source;

static HOME: OnceLock<u64> = OnceLock::new();
const VCPUS: u32 = 2;
const STEPS: u32 = 512;

pub fn run(data: &[u8]) {
    let s = &mut Source::of_bytes(data);
    let mut pool = Pool::new(&HOME);
    let mut frames = Vec::new();
    let mut domains = [1u16, 2].map(|id| {
        let mut channels = EventChannels::new(DomId::new(id), VCPUS, 3000).unwrap();
        let shared = pool.frame().unwrap();
        frames.push(shared);
        channels.set_shared_info(shared.maddr());
        for v in 0..VCPUS {
            let at = Maddr::new(shared.maddr().raw() + u64::from(v) * 64);
            channels.set_vcpu_info(VcpuId::new(v), at).unwrap();
        }
        channels
    });
    for _ in 0..STEPS {
        if s.done() {
            break;
        }
        let (i, port, vcpu) = (s.below(2) as usize, port(s), VcpuId::new(s.below(3) as u32));
        let [a, b] = &mut domains;
        let (own, peer) = if i == 0 { (a, b) } else { (b, a) };
        match s.below(18) {
            0 => drop(own.alloc_unbound(peer.dom())),
            1 => drop(bind_interdomain(own, peer, port)),
            2 => drop(bind_loopback(own, port)),
            3 => drop(own.bind_virq(s.below(32) as u32, vcpu)),
            4 => drop(own.bind_ipi(vcpu)),
            5 => drop(own.bind_vcpu(port, vcpu)),
            6 | 7 => {
                if let Ok(Sent::Remote { dom, port: other }) = own.send(port)
                    && dom == peer.dom()
                {
                    let _ = peer.receive(own.dom(), port, other);
                }
            }
            8 => drop(own.unmask(port)),
            9 => {
                if let Ok(Closed::NeedsPeer(_)) = own.close(port, Closer::Guest) {
                    close_pair(own, peer, port, Closer::Guest).expect("its peer is the other domain");
                }
            }
            10 => drop(own.set_priority(port, s.below(20) as u32)),
            11 => {
                let offset = s.below(0x400) as u32 * 4;
                if own.check_init_control(vcpu, offset).is_ok()
                    && let Some(frame) = pool.frame()
                {
                    frames.push(frame);
                    let _ = own.init_control(vcpu, frame, offset);
                }
            }
            12 => {
                if own.check_expand_array().is_ok()
                    && let Some(frame) = pool.frame()
                {
                    frames.push(frame);
                    let _ = own.expand_array(frame, |_| ());
                }
            }
            13 => drop(own.poll(port)),
            _ => {
                // The guest writes into a page it shares: links of the queues among them.
                let at = s.pick(&frames).maddr().raw() + s.below(1024) * 4;
                let word = match s.below(4) {
                    0 => s.odd_word() as u32,
                    1 => s.below(32) as u32 | (s.below(16) as u32) << 28,
                    _ => mem::read::<u32>(Maddr::new(at)) ^ 1 << s.below(32),
                };
                mem::write(Maddr::new(at), &word);
            }
        }
    }
    for i in 0..2 {
        let [a, b] = &mut domains;
        let (own, peer) = if i == 0 { (a, b) } else { (b, a) };
        while let Some(port) = own.next_open(Port::new(1)) {
            match own.close(port, Closer::Xen) {
                Ok(Closed::NeedsPeer(_)) => {
                    close_pair(own, peer, port, Closer::Xen).expect("closed with its peer")
                }
                closed => assert!(closed.is_ok(), "{port:?} cannot be closed"),
            }
        }
    }
}

fn port(s: &mut Source<'_>) -> Port {
    Port::new(if s.chance(95) { s.below(24) as u32 } else { s.odd_word() as u32 })
}
