//! The virtual processor: MSRs, ports, instruction lengths, exceptions, interrupt shadow.

use harness::apic;
use harness::cpu::{self, Registers};
use harness::hypercall::vcpu_op_plain;
use harness::trap::{self, catch, vector};
use harness::{Page, Verdict, ensure, ensure_eq, memory, tests, time};
use xen_abi::vcpu::VCPUOP_SEND_NMI;

tests! {
    here: msr_efer, msr_pat, msr_unknown_is_gp, msr_mtrr, msr_apic_base, msr_tsc, msr_bases, msr_sysenter,
        instruction_length_of_cpuid, instruction_length_of_rdmsr, instruction_length_of_in, instruction_length_of_hypercall,
        instruction_across_pages, exception_page_fault, exception_undefined, cr4_page_global_toggles, nmi_to_self,
        fpu_state_survives_sleep, cpuid_keeps_upper_halves_clear;
    child: port_unclaimed_reads_ones, port_string_reads_ones, port_write_is_dropped, interrupt_shadow_of_sti,
        msr_unknown_in_child, nmi_with_interrupts_off, mmio_hole_string_move;
}

const EFER: u32 = 0xc000_0080;
const PAT: u32 = 0x277;

fn is_gp<R>(result: Result<R, trap::Fault>, what: &str) -> Verdict {
    match result {
        Ok(_) => Err(harness::Outcome::Failure(harness::verdict::text(format_args!("no fault: {what}")))),
        Err(fault) => {
            ensure_eq!(fault.vector, vector::GP, "{what}: exception");
            Ok(())
        }
    }
}

/// EFER shows long mode, takes SCE, and refuses reserved bits.
fn msr_efer() -> Verdict {
    let efer = cpu::rdmsr(EFER);
    ensure_eq!(efer & 0x500, 0x500, "LME and LMA");
    catch(|| cpu::wrmsr(EFER, efer | 1))?;
    ensure_eq!(cpu::rdmsr(EFER), efer | 1, "EFER with SCE");
    catch(|| cpu::wrmsr(EFER, efer))?;
    is_gp(catch(|| cpu::wrmsr(EFER, efer | 1 << 40)), "a reserved bit of EFER")
}

/// The PAT has types that exist and keeps what is written. (Neither its value at the start nor refusals are asked for:
/// QEMU's TCG gives a guest the hypervisor's own PAT, and checks nothing.)
fn msr_pat() -> Verdict {
    let pat = cpu::rdmsr(PAT);
    ensure!(pat.to_le_bytes().iter().all(|t| [0, 1, 4, 5, 6, 7].contains(t)), "PAT {pat:#x}");
    catch(|| cpu::wrmsr(PAT, 0x0001_0406_0007_0406))?;
    ensure_eq!(cpu::rdmsr(PAT), 0x0001_0406_0007_0406, "PAT after a write");
    catch(|| cpu::wrmsr(PAT, pat))?;
    Ok(())
}

/// MSRs that do not exist raise #GP on reading and on writing.
fn msr_unknown_is_gp() -> Verdict {
    for msr in [0x1234_5678, 0x4000_0100, 0x0000_2000, 0xc000_1fff, 0xffff_ffff] {
        is_gp(catch(|| cpu::rdmsr(msr)), "RDMSR of an unknown MSR")?;
        is_gp(catch(|| cpu::wrmsr(msr, 0)), "WRMSR of an unknown MSR")?;
    }
    Ok(())
}

/// The same in a child.
fn msr_unknown_in_child() -> Verdict {
    msr_unknown_is_gp()
}

/// MTRR capabilities and type can be read; variable ranges keep what is written.
fn msr_mtrr() -> Verdict {
    let capabilities = catch(|| cpu::rdmsr(0xfe))?;
    let ranges = capabilities & 0xff;
    ensure!((1..=8).contains(&ranges), "{ranges} variable ranges");
    catch(|| cpu::rdmsr(0x2ff))?;
    let last = 0x200 + 2 * ranges as u32 - 2;
    let (base, mask) = (catch(|| cpu::rdmsr(last))?, catch(|| cpu::rdmsr(last + 1))?);
    catch(|| cpu::wrmsr(last, 0xd000_0000))?;
    ensure_eq!(cpu::rdmsr(last), 0xd000_0000, "base of the last range");
    catch(|| cpu::wrmsr(last, base))?;
    catch(|| cpu::wrmsr(last + 1, mask))?;
    is_gp(catch(|| cpu::wrmsr(last, 7)), "memory type 7")
}

/// The APIC base says: first CPU, enabled, 0xfee00000.
fn msr_apic_base() -> Verdict {
    let value = cpu::rdmsr(apic::APIC_BASE);
    ensure_eq!(
        value & !apic::base::X2APIC,
        apic::base::ADDRESS | apic::base::ENABLE | apic::base::BSP,
        "APIC base"
    );
    Ok(())
}

/// MSR 0x10 is the TSC.
fn msr_tsc() -> Verdict {
    let (before, msr, after) = (cpu::tsc(), catch(|| cpu::rdmsr(0x10))?, cpu::tsc());
    ensure!(before <= msr && msr <= after, "MSR {msr} between {before} and {after}");
    Ok(())
}

/// Segment bases and system-call targets keep what is written. (QEMU's TCG refuses no address.)
fn msr_bases() -> Verdict {
    for msr in [0xc000_0082, 0xc000_0100, 0xc000_0101, 0xc000_0102] {
        let old = catch(|| cpu::rdmsr(msr))?;
        catch(|| cpu::wrmsr(msr, 0xffff_8000_1234_5678))?;
        ensure_eq!(cpu::rdmsr(msr), 0xffff_8000_1234_5678, "MSR {msr:#x}");
        catch(|| cpu::wrmsr(msr, old))?;
    }
    Ok(())
}

/// The SYSENTER MSRs keep what is written.
fn msr_sysenter() -> Verdict {
    for msr in [0x174, 0x175, 0x176] {
        let old = catch(|| cpu::rdmsr(msr))?;
        catch(|| cpu::wrmsr(msr, 0x1230))?;
        ensure_eq!(cpu::rdmsr(msr), 0x1230, "MSR {msr:#x}");
        catch(|| cpu::wrmsr(msr, old))?;
    }
    Ok(())
}

/// Puts code into a page and calls it.
fn run(code: &[u8], regs: Registers) -> Registers {
    let page = Page::new();
    place(page, 0, code);
    cpu::call(page.at(0), regs)
}

fn place(page: Page, offset: u64, code: &[u8]) {
    for (byte, at) in code.iter().chain(&[0xc3]).zip(offset..) {
        page.set(at, *byte);
    }
}

/// CPUID with any prefixes is one instruction: what follows it is executed.
fn instruction_length_of_cpuid() -> Verdict {
    let plain = run(&[0x0f, 0xa2], Registers::default());
    for prefixes in [
        &[0x66][..],
        &[0x48],
        &[0x2e],
        &[0x66, 0x48],
        &[0xf2],
        &[0xf3],
        &[0x67, 0x66, 0x3e, 0x41],
        &[0x66; 10],
    ] {
        let code = [prefixes, &[0x0f, 0xa2]].concat();
        ensure_eq!(catch(|| run(&code, Registers::default()))?, plain, "CPUID behind {prefixes:x?}");
    }
    Ok(())
}

/// RDMSR with prefixes.
fn instruction_length_of_rdmsr() -> Verdict {
    let regs = Registers { rcx: u64::from(apic::APIC_BASE), ..Registers::default() };
    let plain = run(&[0x0f, 0x32], regs);
    for prefixes in [&[0x66][..], &[0x48], &[0x65, 0x67]] {
        let code = [prefixes, &[0x0f, 0x32]].concat();
        ensure_eq!(catch(|| run(&code, regs))?, plain, "RDMSR behind {prefixes:x?}");
    }
    Ok(())
}

/// IN in all its encodings, from a port that nobody claims (the PIC, which a PVH guest has not).
fn instruction_length_of_in() -> Verdict {
    let regs = Registers { rax: 0, rdx: 0x21, ..Registers::default() };
    for (code, ones) in [
        (&[0xec][..], 0xff_u64),
        (&[0xe4, 0x21], 0xff),
        (&[0x66, 0xec], 0xff),
        (&[0x48, 0xec], 0xff),
        (&[0x2e, 0x67, 0xe4, 0x21], 0xff),
    ] {
        ensure_eq!(catch(|| run(code, regs))?.rax & 0xff, ones, "IN encoded as {code:x?}");
    }
    Ok(())
}

/// A hypercall with prefixes.
fn instruction_length_of_hypercall() -> Verdict {
    let regs = Registers { rax: 63, ..Registers::default() };
    let call: &[u8] = if cpu::is_intel() { &[0x0f, 0x01, 0xc1] } else { &[0x0f, 0x01, 0xd9] };
    let enosys = xen_abi::Errno::ENOSYS.to_ret() as u64;
    for prefixes in [&[][..], &[0x2e], &[0x48], &[0x67, 0x3e]] {
        let code = [prefixes, call].concat();
        ensure_eq!(catch(|| run(&code, regs))?.rax, enosys, "hypercall behind {prefixes:x?}");
    }
    Ok(())
}

/// An intercepted instruction may lie across a page border.
fn instruction_across_pages() -> Verdict {
    let (first, second) = (Page::new(), Page::new());
    ensure_eq!(second.gfn, first.gfn + 1, "pages of the pool in a row");
    let plain = run(&[0x0f, 0xa2], Registers::default());
    place(first, 4095, &[0x0f, 0xa2]);
    ensure_eq!(catch(|| cpu::call(first.at(4095), Registers::default()))?, plain, "CPUID across pages");
    place(first, 4093, &[0x66, 0x66, 0x66, 0x0f, 0xa2]);
    ensure_eq!(catch(|| cpu::call(first.at(4093), Registers::default()))?, plain, "CPUID behind the border");
    Ok(())
}

/// A page fault of the guest is the guest's, with its address.
fn exception_page_fault() -> Verdict {
    let address = super::hypercalls::UNMAPPED + 0x123;
    match catch(|| memory::read::<u8>(address)) {
        Ok(value) => ensure!(false, "read {value:#x} from an unmapped address"),
        Err(fault) => {
            ensure_eq!((fault.vector, fault.address, fault.error), (vector::PF, address, 0), "fault")
        }
    }
    match catch(|| memory::write(address, 1_u8)) {
        Ok(()) => ensure!(false, "wrote to an unmapped address"),
        Err(fault) => {
            ensure_eq!((fault.vector, fault.address, fault.error), (vector::PF, address, 2), "fault")
        }
    }
    Ok(())
}

/// UD2 raises #UD.
fn exception_undefined() -> Verdict {
    match catch(cpu::undefined) {
        Ok(()) => ensure!(false, "no fault"),
        Err(fault) => ensure_eq!(fault.vector, vector::UD, "exception"),
    }
    Ok(())
}

/// PGE can be toggled.
fn cr4_page_global_toggles() -> Verdict {
    let cr4 = cpu::cr4();
    catch(|| cpu::set_cr4(cr4 | 1 << 7))?;
    ensure!(cpu::cr4() >> 7 & 1 == 1, "PGE is not set");
    catch(|| cpu::set_cr4(cr4))?;
    // That reserved bits raise #GP is the processor's affair where writes are not intercepted; QEMU's emulated one
    // does not check, so the promise cannot be tested there.
    Ok(())
}

/// `VCPUOP_send_nmi` to oneself.
fn nmi_to_self() -> Verdict {
    let before = trap::count(vector::NMI);
    vcpu_op_plain(VCPUOP_SEND_NMI, 0)?;
    ensure!(time::spin(200, || trap::count(vector::NMI) == before + 1), "no NMI");
    vcpu_op_plain(VCPUOP_SEND_NMI, 0)?;
    ensure!(time::spin(200, || trap::count(vector::NMI) == before + 2), "no second NMI");
    Ok(())
}

/// An NMI comes with interrupts off too.
fn nmi_with_interrupts_off() -> Verdict {
    cpu::cli();
    let before = trap::count(vector::NMI);
    vcpu_op_plain(VCPUOP_SEND_NMI, 0)?;
    time::spin_ms(5);
    ensure_eq!(trap::count(vector::NMI), before + 1, "NMIs");
    Ok(())
}

/// SSE registers survive a sleep in which other domains use theirs.
fn fpu_state_survives_sleep() -> Verdict {
    let child = harness::domain::Child::serving()?;
    ensure!(child.call(crate::services::sse, [0; 6])? == 1, "SSE registers lost in the child");
    harness::mailbox::begin(child.mailbox, crate::services::sse, [0; 6]);
    ensure!(cpu::sse_survives(|| time::sleep_ms(20)), "SSE registers lost here");
    child.wait(5000, || harness::mailbox::ended(child.mailbox))?;
    ensure_eq!(harness::mailbox::result(child.mailbox), 1, "SSE registers in the child");
    child.destroy()
}

/// CPUID clears the upper halves of its registers.
fn cpuid_keeps_upper_halves_clear() -> Verdict {
    let ones =
        Registers { rax: 0xffff_ffff_0000_0000, rbx: u64::MAX, rcx: 0xffff_ffff_0000_0000, rdx: u64::MAX };
    let after = run(&[0x0f, 0xa2], ones);
    for value in [after.rax, after.rbx, after.rcx, after.rdx] {
        ensure!(value >> 32 == 0, "{after:x?}");
    }
    Ok(())
}

const UNCLAIMED: [u16; 8] = [0x20, 0x21, 0x40, 0x42, 0x61, 0x71, 0x1230, 0xb000];

/// Ports of a child lead nowhere: all ones in every width.
fn port_unclaimed_reads_ones() -> Verdict {
    for port in UNCLAIMED {
        ensure_eq!(catch(|| cpu::in8(port))?, u8::MAX, "port {port:#x}, 8 bits");
        ensure_eq!(catch(|| cpu::in16(port))?, u16::MAX, "port {port:#x}, 16 bits");
        ensure_eq!(catch(|| cpu::in32(port))?, u32::MAX, "port {port:#x}, 32 bits");
    }
    // Narrow reads leave the rest of the register alone.
    let regs = Registers { rax: 0x1122_3344_5566_7788, rdx: 0x42, ..Registers::default() };
    ensure_eq!(run(&[0xec], regs).rax, 0x1122_3344_5566_77ff, "rax after an 8-bit IN");
    ensure_eq!(run(&[0x66, 0xed], regs).rax, 0x1122_3344_5566_ffff, "rax after a 16-bit IN");
    ensure_eq!(run(&[0xed], regs).rax, 0xffff_ffff, "rax after a 32-bit IN");
    Ok(())
}

/// REP INSB fills the buffer with ones, exactly.
fn port_string_reads_ones() -> Verdict {
    let mut buffer = [0_u8; 40];
    catch(|| cpu::ins8(0x42, &mut buffer[..32]))?;
    ensure!(buffer[..32].iter().all(|b| *b == 0xff), "{buffer:x?}");
    ensure!(buffer[32..].iter().all(|b| *b == 0), "bytes behind the buffer were written");
    Ok(())
}

/// Writes to ports that lead nowhere vanish.
fn port_write_is_dropped() -> Verdict {
    for port in UNCLAIMED {
        catch(|| cpu::out8(port, 0x55))?;
        catch(|| cpu::out16(port, 0x5555))?;
        catch(|| cpu::out32(port, 0x5555_5555))?;
        ensure_eq!(cpu::in8(port), u8::MAX, "port {port:#x} after a write");
    }
    Ok(())
}

/// STI delays a pending interrupt by one instruction, so STI; HLT does not miss it.
fn interrupt_shadow_of_sti() -> Verdict {
    const VECTOR: u8 = 0x55;
    apic::enable();
    trap::acknowledge(VECTOR, true);
    for n in 1..=20 {
        cpu::cli();
        apic::command(apic::initial_id(), 0x4_0000 | u32::from(VECTOR));
        cpu::sti_halt();
        ensure_eq!(trap::count(VECTOR), n, "interrupts");
    }
    Ok(())
}

/// A string move out of a frame without memory reads ones.
fn mmio_hole_string_move() -> Verdict {
    let (hole, page) = (Page { gfn: 0xe_0000 }, Page::new());
    for step in [1_u64, 8] {
        page.fill(0);
        memory::copy(page.at(0), hole.at(0), 64 / step * step);
        ensure!((0..64).all(|at| page.get::<u8>(at) == 0xff), "not all ones after a move");
        ensure_eq!(page.get::<u8>(64), 0, "byte behind");
    }
    Ok(())
}
