//! AMD SVM with nested paging: the [`Backend`] of `radon-cpu` over a VMCB.
//!
//! Source: AMD64 Architecture Programmer's Manual, volume 2, chapter 15.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod asid;
mod debug;
mod exitcode;
mod permissions;
mod vmcb;

pub use asid::{Asid, AsidPool, Taken};
pub use permissions::MsrMap;
pub use vmcb::Vmcb;

use radon_addr::Maddr;
use radon_cpu::{Backend, Control, Descriptor, Event, Exit, Gpr, Mode, Segment, SegmentReg};
use radon_hw::{percpu::PerCpu, svm::GuestRegs};
use vmcb::{intercept1, intercept2};

/// Facts of the machine and of the pCPU set-up that every vCPU needs.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Number of ASIDs (CPUID 0x8000_000A EBX).
    pub asids: u32,
    /// The processor saves the next RIP.
    pub saves_next_rip: bool,
    /// The processor fetches instruction bytes and decodes CR accesses.
    pub decode_assists: bool,
    /// TLB_CONTROL 3 (flush by ASID) exists.
    pub flush_by_asid: bool,
}

impl Machine {
    /// Reads CPUID leaf 0x8000_000A.
    pub fn detect() -> Machine {
        let leaf = radon_hw::cpuid::leaf(0x8000_000a, 0);
        Machine {
            asids: leaf.ebx,
            saves_next_rip: leaf.edx & (1 << 3) != 0,
            decode_assists: leaf.edx & (1 << 7) != 0,
            flush_by_asid: leaf.edx & (1 << 6) != 0,
        }
    }
}

static ASIDS: PerCpu<AsidPool> = PerCpu::new([const { AsidPool::new() }; radon_hw::cpu::MAX_CPUS]);

/// The SVM half of one vCPU.
pub struct SvmVcpu {
    vmcb: Vmcb,
    regs: GuestRegs,
    asid: Asid,
    machine: Machine,
    debug: debug::Addresses,
    /// RIP at the last entry, for the log.
    entered_at: u64,
}

/// Control block offsets of segment registers.
const fn segment_offset(s: SegmentReg) -> usize {
    match s {
        SegmentReg::Es => 0x400,
        SegmentReg::Cs => 0x410,
        SegmentReg::Ss => 0x420,
        SegmentReg::Ds => 0x430,
        SegmentReg::Fs => 0x440,
        SegmentReg::Gs => 0x450,
        SegmentReg::Ldtr => 0x470,
        SegmentReg::Tr => 0x490,
    }
}
const fn table_offset(d: Descriptor) -> usize {
    match d {
        Descriptor::Gdt => 0x460,
        Descriptor::Idt => 0x480,
    }
}

const EFER_SVME: u64 = 1 << 12;
const V_IRQ: u64 = 1 << 8;
const V_IGN_TPR: u64 = 1 << 20;
const V_INTR_MASKING: u64 = 1 << 24;

impl SvmVcpu {
    /// A vCPU whose VMCB is the zeroed frame at `vmcb`; `io_map` (12 KiB) and `msr_map` (8 KiB) are permission maps
    /// shared by all vCPUs. The guest starts with everything interesting intercepted and no state loaded.
    pub fn new(
        machine: Machine,
        vmcb: Maddr,
        io_map: Maddr,
        msr_map: Maddr,
        nested_root: Maddr,
    ) -> Option<SvmVcpu> {
        let mut vmcb = Vmcb::new(vmcb)?;
        vmcb.set_intercept1(
            intercept1::INTR
                | intercept1::NMI
                | intercept1::SMI
                | intercept1::INIT
                | intercept1::RDPMC
                | intercept1::CPUID
                | intercept1::INVD
                | intercept1::HLT
                | intercept1::INVLPGA
                | intercept1::IOIO
                | intercept1::MSR
                | intercept1::TASK_SWITCH
                | intercept1::SHUTDOWN,
        );
        vmcb.set_intercept2(
            intercept2::VMRUN
                | intercept2::VMMCALL
                | intercept2::VMLOAD
                | intercept2::VMSAVE
                | intercept2::STGI
                | intercept2::CLGI
                | intercept2::SKINIT
                | intercept2::WBINVD
                | intercept2::MONITOR
                | intercept2::MWAIT
                | intercept2::XSETBV,
        );
        // No control register: nested paging needs none, and QEMU 9.1 to 10 report the read of any CRn as one of
        // CR0 (docs/decisions/0001-qemu-10.md). Who intercepts reads must take the register from the instruction.
        vmcb.set_cr_intercepts(0);
        vmcb.set_dr_intercepts(debug::ALL);
        // #MC belongs to the machine; #AC and #DB loops of a guest must not hang the processor (CVE-2015-5307/8104).
        vmcb.set_exceptions(1 << 18 | 1 << 17 | 1 << 1);
        vmcb.set_iopm(io_map.raw());
        vmcb.set_msrpm(msr_map.raw());
        vmcb.set_vintr(V_INTR_MASKING);
        vmcb.set_nested_control(1);
        vmcb.set_nested_cr3(nested_root.raw());
        vmcb.set_pat(0x0007_0406_0007_0406);
        vmcb.set_efer(EFER_SVME);
        vmcb.set_cr0(0x10);
        vmcb.set_dr6(0xffff_0ff0);
        vmcb.set_dr7(0x400);
        vmcb.set_rflags(2);
        Some(SvmVcpu {
            vmcb,
            regs: GuestRegs::default(),
            asid: Asid::default(),
            machine,
            entered_at: 0,
            debug: Default::default(),
        })
    }

    /// The control block holds the processor's own state in place of the guest's (`docs/decisions/0008-qemu-vmexit.md`).
    #[cold]
    fn host_state(&self) -> Exit {
        let v = &self.vmcb;
        radon_hw::error!(
            "host state in control block {:x} on pCPU {}: exit {:x} {:x} {:x}, entered at {:x}",
            v.maddr(),
            radon_hw::cpu::this().raw(),
            v.exit_code(),
            v.exit_info1(),
            v.exit_info2(),
            self.entered_at
        );
        radon_hw::error!(
            "  rax {:x} rsp {:x} virtual interrupt {:x} shadow {:x} event {:x} interrupted {:x}",
            v.rax(),
            v.rsp(),
            v.vintr(),
            v.interrupt_shadow(),
            v.event_inject(),
            v.exit_int_info()
        );
        Exit::HostState
    }

    /// The frame of the VMCB, to be freed by its owner after the vCPU is gone.
    pub fn vmcb_maddr(&self) -> Maddr {
        self.vmcb.maddr()
    }

    /// One VMRUN.
    #[inline]
    fn enter(&mut self) -> Exit {
        let taken = ASIDS.this().ensure(&mut self.asid, self.machine.asids);
        if taken != Taken::Same {
            self.vmcb.set_asid(self.asid.id());
        }
        self.vmcb.set_tlb_control(u8::from(taken == Taken::FlushAll));
        self.entered_at = self.vmcb.rip();
        radon_hw::svm::run(self.vmcb.maddr(), &mut self.regs);
        self.vmcb.mark_clean();
        if self.vmcb.rip() == radon_hw::svm::after_vmrun() && self.vmcb.cr3() == radon_hw::cr::read_cr3() {
            return self.host_state();
        }
        // The processor clears EVENTINJ's valid bit only when the event was delivered; it was, or it is reported back.
        exitcode::decode(exitcode::Raw {
            code: self.vmcb.exit_code(),
            info1: self.vmcb.exit_info1(),
            info2: self.vmcb.exit_info2(),
        })
    }

    /// Puts the guest's breakpoint addresses into the processor, and lets it use them.
    #[cold]
    fn load_debug(&mut self) {
        self.debug.load();
        self.vmcb.set_dr_intercepts(0);
    }
}

impl Backend for SvmVcpu {
    #[inline]
    fn run(&mut self) -> Exit {
        let exit = self.enter();
        // The guest begins to use its debug registers: it tries again, and meets its own.
        if exit == Exit::DebugRegister {
            self.load_debug();
            return self.enter();
        }
        exit
    }

    #[inline]
    fn gpr(&self, r: Gpr) -> u64 {
        let g = &self.regs;
        match r {
            Gpr::Rax => self.vmcb.rax(),
            Gpr::Rsp => self.vmcb.rsp(),
            Gpr::Rcx => g.rcx,
            Gpr::Rdx => g.rdx,
            Gpr::Rbx => g.rbx,
            Gpr::Rbp => g.rbp,
            Gpr::Rsi => g.rsi,
            Gpr::Rdi => g.rdi,
            Gpr::R8 => g.r8,
            Gpr::R9 => g.r9,
            Gpr::R10 => g.r10,
            Gpr::R11 => g.r11,
            Gpr::R12 => g.r12,
            Gpr::R13 => g.r13,
            Gpr::R14 => g.r14,
            Gpr::R15 => g.r15,
        }
    }

    #[inline]
    fn set_gpr(&mut self, r: Gpr, v: u64) {
        let g = &mut self.regs;
        match r {
            Gpr::Rax => self.vmcb.set_rax(v),
            Gpr::Rsp => self.vmcb.set_rsp(v),
            Gpr::Rcx => g.rcx = v,
            Gpr::Rdx => g.rdx = v,
            Gpr::Rbx => g.rbx = v,
            Gpr::Rbp => g.rbp = v,
            Gpr::Rsi => g.rsi = v,
            Gpr::Rdi => g.rdi = v,
            Gpr::R8 => g.r8 = v,
            Gpr::R9 => g.r9 = v,
            Gpr::R10 => g.r10 = v,
            Gpr::R11 => g.r11 = v,
            Gpr::R12 => g.r12 = v,
            Gpr::R13 => g.r13 = v,
            Gpr::R14 => g.r14 = v,
            Gpr::R15 => g.r15 = v,
        }
    }

    #[inline]
    fn rip(&self) -> u64 {
        self.vmcb.rip()
    }
    #[inline]
    fn set_rip(&mut self, rip: u64) {
        self.vmcb.set_rip(rip);
    }
    #[inline]
    fn rflags(&self) -> u64 {
        self.vmcb.rflags()
    }
    #[inline]
    fn set_rflags(&mut self, v: u64) {
        self.vmcb.set_rflags(v | 2);
    }

    #[inline]
    fn control(&self, c: Control) -> u64 {
        let v = &self.vmcb;
        match c {
            Control::Cr0 => v.cr0(),
            Control::Cr2 => v.cr2(),
            Control::Cr3 => v.cr3(),
            Control::Cr4 => v.cr4(),
            Control::Dr0 => self.debug.get(0),
            Control::Dr1 => self.debug.get(1),
            Control::Dr2 => self.debug.get(2),
            Control::Dr3 => self.debug.get(3),
            Control::Dr6 => v.dr6(),
            Control::Dr7 => v.dr7(),
            Control::Efer => v.efer() & !EFER_SVME,
            Control::Pat => v.pat(),
            Control::Star => v.star(),
            Control::Lstar => v.lstar(),
            Control::Cstar => v.cstar(),
            Control::Sfmask => v.sfmask(),
            Control::KernelGsBase => v.kernel_gs_base(),
            Control::SysenterCs => v.sysenter_cs(),
            Control::SysenterEsp => v.sysenter_esp(),
            Control::SysenterEip => v.sysenter_eip(),
            Control::DebugCtl => v.debug_ctl(),
        }
    }

    #[inline]
    fn set_control(&mut self, c: Control, x: u64) {
        let v = &mut self.vmcb;
        match c {
            Control::Cr0 => v.set_cr0(x),
            Control::Cr2 => v.set_cr2(x),
            Control::Cr3 => v.set_cr3(x),
            Control::Cr4 => v.set_cr4(x),
            Control::Dr0 => self.debug.set(0, x),
            Control::Dr1 => self.debug.set(1, x),
            Control::Dr2 => self.debug.set(2, x),
            Control::Dr3 => self.debug.set(3, x),
            Control::Dr6 => v.set_dr6(x),
            Control::Dr7 => v.set_dr7(x),
            Control::Efer => v.set_efer(x | EFER_SVME),
            Control::Pat => v.set_pat(x),
            Control::Star => v.set_star(x),
            Control::Lstar => v.set_lstar(x),
            Control::Cstar => v.set_cstar(x),
            Control::Sfmask => v.set_sfmask(x),
            Control::KernelGsBase => v.set_kernel_gs_base(x),
            Control::SysenterCs => v.set_sysenter_cs(x),
            Control::SysenterEsp => v.set_sysenter_esp(x),
            Control::SysenterEip => v.set_sysenter_eip(x),
            Control::DebugCtl => v.set_debug_ctl(x),
        }
    }

    #[inline]
    fn segment(&self, s: SegmentReg) -> Segment {
        self.vmcb.segment(segment_offset(s))
    }
    #[inline]
    fn set_segment(&mut self, s: SegmentReg, value: Segment) {
        if s == SegmentReg::Ss {
            self.vmcb.set_cpl(value.dpl());
        }
        self.vmcb.set_segment(segment_offset(s), value);
    }
    #[inline]
    fn descriptor_table(&self, which: Descriptor) -> (u64, u32) {
        let s = self.vmcb.segment(table_offset(which));
        (s.base, s.limit)
    }
    #[inline]
    fn set_descriptor_table(&mut self, which: Descriptor, base: u64, limit: u32) {
        self.vmcb.set_segment(table_offset(which), Segment { selector: 0, attributes: 0, limit, base });
    }

    #[inline]
    fn next_rip(&self) -> Option<u64> {
        self.machine.saves_next_rip.then(|| self.vmcb.next_rip()).filter(|&n| n != 0)
    }
    #[inline]
    fn fetched_bytes(&self) -> ([u8; 15], usize) {
        if self.machine.decode_assists { self.vmcb.fetched() } else { ([0; 15], 0) }
    }
    #[inline]
    fn interrupt_shadow(&self) -> bool {
        self.vmcb.interrupt_shadow() & 1 != 0
    }
    #[inline]
    fn clear_interrupt_shadow(&mut self) {
        let s = self.vmcb.interrupt_shadow();
        if s & 1 != 0 {
            self.vmcb.set_interrupt_shadow(s & !1);
        }
    }
    #[inline]
    fn inject(&mut self, event: Event) {
        self.vmcb.set_event_inject(exitcode::encode_event(event));
    }
    fn cancel_injection(&mut self) {
        self.vmcb.set_event_inject(0);
    }
    #[inline]
    fn injecting(&self) -> bool {
        self.vmcb.event_inject() & (1 << 31) != 0
    }
    #[inline]
    fn interrupted_event(&self) -> Option<Event> {
        exitcode::decode_event(self.vmcb.exit_int_info())
    }

    #[inline]
    fn request_interrupt_window(&mut self, want: bool) {
        let has = self.vmcb.intercept1() & intercept1::VINTR != 0;
        if want == has {
            return;
        }
        let words = self.vmcb.intercept1();
        let vintr = self.vmcb.vintr();
        if want {
            // A dummy virtual interrupt that ignores TPR: the VINTR intercept fires when it would be taken.
            self.vmcb.set_intercept1(words | intercept1::VINTR);
            self.vmcb.set_vintr(vintr | V_IRQ | V_IGN_TPR);
        } else {
            self.vmcb.set_intercept1(words & !intercept1::VINTR);
            self.vmcb.set_vintr(vintr & !(V_IRQ | V_IGN_TPR));
        }
    }

    #[inline]
    fn set_nested_root(&mut self, root: Maddr) {
        self.vmcb.set_nested_cr3(root.raw());
        self.asid.invalidate();
    }
    #[inline]
    fn flush_tlb(&mut self) {
        self.asid.invalidate();
    }
    #[inline]
    fn set_tsc_offset(&mut self, offset: u64) {
        self.vmcb.set_tsc_offset(offset);
    }
    #[inline]
    fn tsc_offset(&self) -> u64 {
        self.vmcb.tsc_offset()
    }
    #[inline]
    fn set_tpr_class(&mut self, class: u8) {
        let v = self.vmcb.vintr();
        if v & 0xff != u64::from(class & 15) {
            self.vmcb.set_vintr(v & !0xff | u64::from(class & 15));
        }
    }
    #[inline]
    fn tpr_class(&self) -> u8 {
        (self.vmcb.vintr() & 15) as u8
    }
    #[inline]
    fn migrated(&mut self) {
        self.vmcb.mark_dirty();
        self.asid.invalidate();
    }
    #[inline]
    fn load(&mut self) {
        // Armed breakpoints work without any further instruction of the guest.
        if self.vmcb.dr7() & debug::ARMED != 0 {
            self.load_debug();
        }
    }
    #[inline]
    fn unload(&mut self) {
        if self.debug.save() {
            self.vmcb.set_dr_intercepts(debug::ALL);
        }
    }
    #[inline]
    fn set_port_maps(&mut self, io_bitmap: Maddr) {
        self.vmcb.set_iopm(io_bitmap.raw());
    }
    #[inline]
    fn overhead_pages(&self) -> usize {
        1
    }
    // Read at every exit: fewer loads than by way of the segments.
    #[inline]
    fn mode(&self) -> Mode {
        let cs = self.vmcb.segment(segment_offset(SegmentReg::Cs));
        if self.vmcb.cr0() & 1 == 0 {
            Mode::Real
        } else if self.vmcb.efer() & (1 << 10) != 0 && cs.long() {
            Mode::Long
        } else if cs.default_32() {
            Mode::Protected32
        } else {
            Mode::Protected16
        }
    }
    #[inline]
    fn cpl(&self) -> u8 {
        self.vmcb.cpl()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// See docs/decisions/0001-qemu-10.md: with any of these set, a Linux guest dies early under QEMU 10.
    #[test]
    fn control_registers_are_the_guest_s_own() {
        let frame = radon_hw::sim::fresh_ram(1).maddr();
        let zero = Maddr::new(0);
        let machine =
            Machine { asids: 8, saves_next_rip: false, decode_assists: false, flush_by_asid: false };
        radon_hw::mem::write(frame, &u32::MAX);
        let vcpu = SvmVcpu::new(machine, frame, zero, zero, zero).expect("a frame of RAM");
        assert_eq!(vcpu.vmcb.cr_intercepts(), 0);
    }
}
