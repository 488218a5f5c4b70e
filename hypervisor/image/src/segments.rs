//! Segment descriptors, task state and interrupt descriptors of each CPU.
#![allow(unsafe_code)] // loads the processor's tables

use alloc::boxed::Box;
use alloc::vec;
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use radon_hw::cr;

const CODE: u16 = 0x08;
const DATA: u16 = 0x10;
const TASK: u16 = 0x18;

/// Which of the task state's stacks a vector uses: events that may strike when the current stack is unusable.
const IST_DOUBLE_FAULT: u8 = 1;
const IST_NMI: u8 = 2;
const IST_MACHINE_CHECK: u8 = 3;
/// Machine checks are delivered.
const CR4_MCE: u64 = 1 << 6;

/// Bytes of each of those stacks: a crash report is written on it.
const IST_BYTES: usize = 16 << 10;

/// 64-bit task state segment (APM volume 2, 12.2.5).
#[repr(C, packed(4))]
struct Task {
    reserved0: u32,
    rsp: [u64; 3],
    reserved1: u64,
    ist: [u64; 7],
    reserved2: u64,
    reserved3: u16,
    io_map: u16,
}
const _: () = assert!(size_of::<Task>() == 104);

/// Loads fresh descriptor tables on the running CPU; they stay for ever.
pub fn init_this_cpu() {
    let mut ist = [0u64; 7];
    for slot in &mut ist[..3] {
        let stack: &'static mut [u128] = Box::leak(vec![0u128; IST_BYTES / 16].into_boxed_slice());
        *slot = stack.as_mut_ptr_range().end as u64;
    }
    let task = Box::leak(Box::new(Task {
        reserved0: 0,
        rsp: [0; 3],
        reserved1: 0,
        ist,
        reserved2: 0,
        reserved3: 0,
        io_map: size_of::<Task>() as u16,
    }));
    let base = &raw const *task as u64;
    let limit = size_of::<Task>() as u64 - 1;
    // An available 64-bit TSS.
    let low = limit | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56;
    let gdt: &'static [u64; 5] =
        Box::leak(Box::new([0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, low, base >> 32]));
    let gdt_pointer = TablePointer { limit: size_of_val(gdt) as u16 - 1, base: gdt.as_ptr() as u64 };
    let idt_pointer = TablePointer { limit: 256 * 16 - 1, base: idt() };
    // SAFETY: the tables are valid and live for ever; FS and GS are left alone because writing them clears their bases.
    unsafe {
        asm!(
            "lgdt [{gdt}]",
            "push {code}",
            "lea {scratch}, [rip + 2f]",
            "push {scratch}",
            "retfq",
            "2:",
            "mov ds, {data:e}",
            "mov es, {data:e}",
            "mov ss, {data:e}",
            "ltr {task:x}",
            "lidt [{idt}]",
            gdt = in(reg) &raw const gdt_pointer,
            idt = in(reg) &raw const idt_pointer,
            code = in(reg) u64::from(CODE),
            data = in(reg) u64::from(DATA),
            task = in(reg) u64::from(TASK),
            scratch = lateout(reg) _,
        );
        // Now that they can be delivered: without this bit a machine check just stops the machine.
        cr::write_cr4(cr::read_cr4() | CR4_MCE);
    }
}

#[repr(C, packed(2))]
struct TablePointer {
    limit: u16,
    base: u64,
}

/// The interrupt descriptor table, shared by all CPUs; built by the first.
fn idt() -> u64 {
    static IDT: AtomicU64 = AtomicU64::new(0);
    if IDT.load(Relaxed) == 0 {
        let table: &'static mut [[u64; 2]; 256] = Box::leak(Box::new([[0; 2]; 256]));
        for (vector, gate) in table.iter_mut().enumerate() {
            *gate = interrupt_gate(vector);
        }
        IDT.store(table.as_ptr() as u64, Relaxed);
    }
    IDT.load(Relaxed)
}

fn interrupt_gate(vector: usize) -> [u64; 2] {
    unsafe extern "C" {
        /// 256 stubs, 16 bytes apart (traps.S).
        static trap_stubs: [[u8; 16]; 256];
    }
    let ist = match vector {
        2 => IST_NMI,
        8 => IST_DOUBLE_FAULT,
        18 => IST_MACHINE_CHECK,
        _ => 0,
    };
    // SAFETY: the address is taken, nothing is read; `vector` is below 256.
    let target = unsafe { &raw const trap_stubs[vector] } as u64;
    let low = (target & 0xffff)
        | u64::from(CODE) << 16
        | u64::from(ist) << 32
        | 0x8e << 40
        | (target >> 16 & 0xffff) << 48;
    [low, target >> 32]
}
