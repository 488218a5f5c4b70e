//! The machine: the only crate besides the image's entry code that may say `unsafe`.
//!
//! Two back ends share one API. Built for `target_os = "none"` it drives the real machine; built for a host it is a
//! simulated machine (see [`sim`], host builds only), so that every crate above can be tested with `cargo test`.
//!
//! # What the image must do, in this order, on the boot CPU
//! 1. `cpu::set_this(CpuId::new(0))` before anything else (per-CPU data hangs on GS).
//! 2. `mem::init_early(mapped_end)`: everything below `mapped_end` is in the direct map. Tables of the boot loader can be
//!    read now.
//! 3. `console::init_uart(port, line)`; from now on the log macros reach the serial line.
//! 4. `mem::init(&[(base, len, RangeKind)])`: from now on only these ranges can be touched, `is_ram` is exact.
//! 5. `mmio::init(root)` with the machine address of the PML4 that all CPUs share.
//! 6. IDT loaded: `#GP` calls `extable::lookup(rip)`, external vectors call `irq::dispatch(vector)`.
//! 7. `pic::mask_all()`, `fpu::init_this_cpu()`, `apic::init_this_cpu()`, `cpu::register(CpuId, apic_id)`,
//!    `time::calibrate(pm_timer_port, hpet)`, `ioapic::add(..)`.
//!
//! On every further CPU: `cpu::set_this(id)`, IDT, `fpu::init_this_cpu()`, `apic::init_this_cpu()`, `cpu::register(..)`.
//!
//! Then, on every CPU that is to run guests, with its descriptor tables final: `svm::enable_this_cpu(hsave, host_vmcb)`, two frames
//! that belong to the processor from then on.
//!
//! # Rules
//! - Interrupts are off everywhere except inside [`irq::window`] and [`cpu::halt_until_interrupt`].
//! - Guest memory is reached only through [`mem`], never through a reference (atomics excepted).
//! - Locks are ranked, see [`lock::rank`].
#![cfg_attr(target_os = "none", no_std)]

pub mod apic;
pub mod console;
pub mod cpu;
pub mod cpuid;
pub mod cr;
pub mod extable;
pub mod fpu;
pub mod heartbeat;
pub mod ioapic;
pub mod ipi;
pub mod irq;
pub mod lock;
pub mod machine_check;
pub mod mem;
pub mod mmio;
pub mod msr;
pub mod percpu;
pub mod pic;
pub mod port;
#[cfg(any(target_os = "none", test))]
mod ranges;
pub mod reset;
#[cfg(any(target_os = "none", test))]
mod rtc;
pub mod svm;
pub mod time;

#[cfg(not(target_os = "none"))]
pub mod sim;
