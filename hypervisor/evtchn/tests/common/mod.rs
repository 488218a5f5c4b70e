//! A domain's channels with the guest memory they use.
#![allow(dead_code)] // each test binary uses its part

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use radon_addr::{DomId, Maddr, Mfn, PAGE_SIZE, Port, VcpuId};
use radon_evtchn::{EventChannels, Layout, Notify};
use radon_hw::{mem, sim};

pub const VCPUS: u32 = 3;

pub fn v(n: u32) -> VcpuId {
    VcpuId::new(n)
}
pub fn p(n: u32) -> Port {
    Port::new(n)
}
pub fn d(n: u16) -> DomId {
    DomId::new(n)
}

pub fn word(base: Maddr, offset: u64) -> &'static AtomicU32 {
    mem::atomic_u32(Maddr::new(base.raw() + offset))
}

/// Bit `n` of the bitmap at `base` + `offset`.
pub fn bit(base: Maddr, offset: u64, n: u32) -> bool {
    word(base, offset + u64::from(n / 32) * 4).load(SeqCst) & (1 << (n % 32)) != 0
}
pub fn set_bit(base: Maddr, offset: u64, n: u32, on: bool) {
    let w = word(base, offset + u64::from(n / 32) * 4);
    if on {
        w.fetch_or(1 << (n % 32), SeqCst)
    } else {
        w.fetch_and(!(1 << (n % 32)), SeqCst)
    };
}

pub struct Dom {
    pub ec: EventChannels,
    pub shared: Maddr,
    pub layout: Layout,
}

impl Dom {
    pub fn new(id: u16, layout: Layout, max_port: u32) -> Dom {
        let mut ec = EventChannels::new(d(id), VCPUS, max_port).unwrap();
        let shared = sim::fresh_ram(1).maddr();
        ec.set_layout(layout);
        ec.set_shared_info(shared);
        for n in 0..VCPUS {
            ec.set_vcpu_info(v(n), Maddr::new(shared.raw() + u64::from(n) * 64)).unwrap();
        }
        Dom { ec, shared, layout }
    }
    fn mask_offset(&self) -> u64 {
        match self.layout {
            Layout::Native64 => 2048 + 512,
            Layout::Compat32 => 2048 + 128,
        }
    }
    pub fn word_bits(&self) -> u32 {
        match self.layout {
            Layout::Native64 => 64,
            Layout::Compat32 => 32,
        }
    }
    pub fn pending(&self, port: u32) -> bool {
        bit(self.shared, 2048, port)
    }
    pub fn set_pending_bit(&self, port: u32, on: bool) {
        set_bit(self.shared, 2048, port, on);
    }
    pub fn masked(&self, port: u32) -> bool {
        bit(self.shared, self.mask_offset(), port)
    }
    pub fn set_mask(&self, port: u32, on: bool) {
        set_bit(self.shared, self.mask_offset(), port, on);
    }
    pub fn info(&self, vcpu: u32) -> Maddr {
        self.ec.vcpu_info(v(vcpu)).unwrap()
    }
    pub fn sel(&self, vcpu: u32, port: u32) -> bool {
        let offset = if self.layout == Layout::Native64 { 8 } else { 4 };
        bit(self.info(vcpu), offset, port / self.word_bits())
    }
    pub fn upcall(&self, vcpu: u32) -> bool {
        mem::atomic_u8(self.info(vcpu)).load(SeqCst) != 0
    }
    /// The guest takes its upcall: clears the flag and the selector.
    pub fn ack(&self, vcpu: u32) {
        mem::atomic_u8(self.info(vcpu)).store(0, SeqCst);
        word(self.info(vcpu), 4).store(0, SeqCst);
        word(self.info(vcpu), 8).store(0, SeqCst);
        word(self.info(vcpu), 12).store(0, SeqCst);
    }
}

/// Guest frames of the FIFO ABI.
pub struct FifoMemory {
    pub control: Vec<Maddr>,
    pub pages: Vec<Mfn>,
}

impl FifoMemory {
    /// Switches `ec` to FIFO with `pages` array pages and a control block for each vCPU.
    pub fn install(ec: &mut EventChannels, pages: usize, mut notify: impl FnMut(Notify)) -> FifoMemory {
        let mut memory = FifoMemory { control: Vec::new(), pages: Vec::new() };
        for n in 0..VCPUS {
            let (frame, offset) = (sim::fresh_ram(1), 72 * n);
            ec.init_control(v(n), frame, offset).unwrap();
            memory.control.push(Maddr::new(frame.maddr().raw() + u64::from(offset)));
        }
        for _ in 0..pages {
            let frame = sim::fresh_ram(1);
            memory.pages.push(frame);
            ec.expand_array(frame, &mut notify).unwrap();
        }
        memory
    }
    pub fn word(&self, port: u32) -> &'static AtomicU32 {
        let per_page = PAGE_SIZE as u32 / 4;
        word(self.pages[(port / per_page) as usize].maddr(), u64::from(port % per_page) * 4)
    }
    pub fn ready(&self, vcpu: u32) -> &'static AtomicU32 {
        word(self.control[vcpu as usize], 0)
    }
    pub fn head(&self, vcpu: u32, queue: u32) -> &'static AtomicU32 {
        word(self.control[vcpu as usize], 8 + u64::from(queue) * 4)
    }
}
