//! A processor that runs nothing: registers in arrays.

use radon_addr::Maddr;
use radon_cpu::{Backend, Control, Descriptor, Event, Exit, Gpr, Segment, SegmentReg};

/// Registers of one vCPU.
#[derive(Default)]
pub struct FakeBackend {
    pub gprs: [u64; 16],
    pub rip: u64,
    pub rflags: u64,
    pub controls: [u64; 21],
    pub segments: [Segment; 8],
    pub tables: [(u64, u32); 2],
    pub next_rip: Option<u64>,
    pub fetched: ([u8; 15], usize),
    pub shadow: bool,
    pub injected: Option<Event>,
    pub tsc_offset: u64,
    pub tpr_class: u8,
    /// Times that the TLB was flushed.
    pub flushes: u64,
    /// What the guest does between two exits.
    pub program: Option<Program>,
}

/// The code of a guest: runs until it makes an exit.
pub type Program = Box<dyn FnMut(&mut FakeBackend) -> Exit + Send>;

impl FakeBackend {
    /// In flat protected mode without paging, at privilege level 0.
    pub fn new() -> FakeBackend {
        let mut b = FakeBackend::default();
        b.set_control(Control::Cr0, 0x11);
        b.rflags = 2;
        for s in &mut b.segments {
            *s = Segment { selector: 8, attributes: 0xc93, limit: u32::MAX, base: 0 };
        }
        b
    }
}

impl Backend for FakeBackend {
    fn run(&mut self) -> Exit {
        let Some(mut program) = self.program.take() else { return Exit::Interrupt };
        let exit = program(self);
        self.program = Some(program);
        exit
    }
    fn gpr(&self, r: Gpr) -> u64 {
        self.gprs[r as usize]
    }
    fn set_gpr(&mut self, r: Gpr, value: u64) {
        self.gprs[r as usize] = value;
    }
    fn rip(&self) -> u64 {
        self.rip
    }
    fn set_rip(&mut self, rip: u64) {
        self.rip = rip;
    }
    fn rflags(&self) -> u64 {
        self.rflags
    }
    fn set_rflags(&mut self, value: u64) {
        self.rflags = value;
    }
    fn control(&self, c: Control) -> u64 {
        self.controls[c as usize]
    }
    fn set_control(&mut self, c: Control, value: u64) {
        self.controls[c as usize] = value;
    }
    fn segment(&self, s: SegmentReg) -> Segment {
        self.segments[s as usize]
    }
    fn set_segment(&mut self, s: SegmentReg, value: Segment) {
        self.segments[s as usize] = value;
    }
    fn descriptor_table(&self, which: Descriptor) -> (u64, u32) {
        self.tables[which as usize]
    }
    fn set_descriptor_table(&mut self, which: Descriptor, base: u64, limit: u32) {
        self.tables[which as usize] = (base, limit);
    }
    fn next_rip(&self) -> Option<u64> {
        self.next_rip
    }
    fn fetched_bytes(&self) -> ([u8; 15], usize) {
        self.fetched
    }
    fn interrupt_shadow(&self) -> bool {
        self.shadow
    }
    fn clear_interrupt_shadow(&mut self) {
        self.shadow = false;
    }
    fn inject(&mut self, event: Event) {
        self.injected = Some(event);
    }
    fn cancel_injection(&mut self) {
        self.injected = None;
    }
    fn injecting(&self) -> bool {
        self.injected.is_some()
    }
    fn interrupted_event(&self) -> Option<Event> {
        None
    }
    fn request_interrupt_window(&mut self, _want: bool) {}
    fn set_nested_root(&mut self, _root: Maddr) {}
    fn flush_tlb(&mut self) {
        self.flushes += 1;
    }
    fn set_tsc_offset(&mut self, offset: u64) {
        self.tsc_offset = offset;
    }
    fn tsc_offset(&self) -> u64 {
        self.tsc_offset
    }
    fn set_tpr_class(&mut self, class: u8) {
        self.tpr_class = class;
    }
    fn tpr_class(&self) -> u8 {
        self.tpr_class
    }
    fn migrated(&mut self) {}
    fn set_port_maps(&mut self, _io_bitmap: Maddr) {}
    fn overhead_pages(&self) -> usize {
        1
    }
}
