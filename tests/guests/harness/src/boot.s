# Start-up of a PVH guest: 32-bit flat mode to 64-bit mode with everything below 8 GiB mapped 1:1; the second CPU's
# start from real mode; and the 32-bit code that tests need.

.section .note.Xen, "a", @note
    .balign 4
    .long 4, 4, 18                      # XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long entry32

.section .boot, "ax"
.code32
.global entry32
entry32:
    cli
    cld
    movl %ebx, %ebp
    movl $bss_start, %edi
    movl $bss_end, %ecx
    subl %edi, %ecx
    shrl $2, %ecx
    xorl %eax, %eax
    rep stosl
    movl $data_start, %esi
    movl $data_copy, %edi
    movl $data_end, %ecx
    subl %esi, %ecx
    shrl $2, %ecx
    rep movsl

    # Page tables: 8 directories of 2 MiB pages; accessible to user mode too.
    movl $page_pdpt + 7, page_pml4
    movl $page_pdpt, %edi
    movl $page_pds + 7, %eax
    movl $8, %ecx
2:  movl %eax, (%edi)
    addl $4096, %eax
    addl $8, %edi
    loop 2b
    movl $page_pds, %edi
    movl $0x87, %eax
    xorl %edx, %edx
    movl $4096, %ecx
3:  movl %eax, (%edi)
    movl %edx, 4(%edi)
    addl $0x200000, %eax
    adcl $0, %edx
    addl $8, %edi
    loop 3b

    movl $boot_stack_top, %esp
    call long_mode
    ljmp $0x08, $entry64

# Enables paging and 64-bit mode; returns in 32-bit compatibility mode. Clobbers eax, ecx, edx.
.global long_mode
long_mode:
    movl %cr4, %eax
    orl $0x620, %eax                    # PAE, OSFXSR, OSXMMEXCPT
    movl %eax, %cr4
    movl $page_pml4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax                    # LME
    wrmsr
    movl %cr0, %eax
    orl $0x80010022, %eax               # PG, WP, NE, MP
    movl %eax, %cr0
    lgdt gdt_pointer
    ret

.code64
entry64:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movl $boot_stack_top, %esp
    movl %ebp, %edi
    xorl %ebp, %ebp
    call harness_start
    ud2

# A further CPU, from its start-up interrupt: this code is copied to a page below 1 MiB.
.code16
.global ap_start16
ap_start16:
    cli
    movw %cs, %ax
    movw %ax, %ds
    lgdtl ap_gdt_pointer - ap_start16
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $0x18, $ap_entry32
    .balign 4
ap_gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
.global ap_end16
ap_end16:

.code32
ap_entry32:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl ap_stack, %esp
    call long_mode
    ljmp $0x08, $ap_entry64

# Also the entry of a CPU that VCPUOP_initialise starts in 64-bit mode on its stack.
.code64
.global ap_entry64
ap_entry64:
    lgdt gdt_pointer
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl ap_stack, %esp
    pushq $0x08
    pushq $2f
    lretq
2:  xorl %ebp, %ebp
    call harness_ap_start
    ud2

.data
.balign 8
.global ap_stack
ap_stack:
    .quad 0
gdt:
    .quad 0
    .quad 0x00af9b000000ffff            # 0x08 64-bit code
    .quad 0x00cf93000000ffff            # 0x10 data
    .quad 0x00cf9b000000ffff            # 0x18 32-bit code
    .quad 0x00cff3000000ffff            # 0x20 user data
    .quad 0x00affb000000ffff            # 0x28 user 64-bit code
.global gdt_tss
gdt_tss:
    .quad 0, 0                          # 0x30 task state
gdt_end:
.global gdt_pointer
gdt_pointer:
    .word gdt_end - gdt - 1
    .quad gdt

.bss
.balign 4096
.global page_pml4
page_pml4:  .skip 4096
page_pdpt:  .skip 4096
page_pds:   .skip 8 * 4096
boot_stack: .skip 65536
boot_stack_top:

# Trap stubs, 16 bytes each, leave a uniform frame: see `trap::Frame`.
.text
.code64
.balign 16
.global trap_stubs
trap_stubs:
    .set vector, 0
    .rept 256
    .balign 16
    .if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
    .else
    pushq $0
    .endif
    pushq $vector
    jmp trap_common
    .set vector, vector + 1
    .endr

trap_common:
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rbx
    pushq %rbp
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    cld
    movq %rsp, %rdi
    call harness_trap
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rbp
    popq %rbx
    popq %rdx
    popq %rcx
    popq %rax
    addq $16, %rsp
    iretq

# guard_call(context: *mut u64, f, argument) -> 0, or 1 when guard_resume was reached with the context's stack pointer.
.global guard_call
guard_call:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    subq $8, %rsp
    movq %rsp, (%rdi)
    movq %rdx, %rdi
    call *%rsi
    xorl %eax, %eax
    jmp 2f
.global guard_resume
guard_resume:
    movl $1, %eax
2:  addq $8, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

# guard_jump(stack pointer) -> !
.global guard_jump
guard_jump:
    movq %rdi, %rsp
    jmp guard_resume

# user_call(f, save: *mut u64) runs f in user mode until it does `int $0x81`; returns f's rax.
.global user_call
user_call:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rsi)
    movq %rsi, %r12
    pushq $0x23
    leaq user_stack_top(%rip), %rax
    pushq %rax
    pushfq
    pushq $0x2b
    pushq %rdi
    iretq
.global user_return
user_return:
    movl $0x10, %ecx
    movl %ecx, %ds
    movl %ecx, %es
    movl %ecx, %ss
    movq user_saved_stack(%rip), %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

# User-mode code: an unprivileged hypercall attempt (xen_version), by each instruction.
.global user_vmmcall
user_vmmcall:
    movl $17, %eax
    xorl %edi, %edi
    xorl %esi, %esi
    vmmcall
    int $0x81
.global user_vmcall
user_vmcall:
    movl $17, %eax
    xorl %edi, %edi
    xorl %esi, %esi
    vmcall
    int $0x81

.bss
.balign 16
    .skip 4096
user_stack_top:
.global user_saved_stack
user_saved_stack: .skip 8
.global trap_stack
    .skip 16384
.balign 16
trap_stack:

# Guests in 32-bit modes: each makes the same calls, leaves the results in its mailbox and shuts down.
.section .boot, "ax"
.code32
.global entry_flat32
entry_flat32:
    movl $0x9000, %esp
    call calls32

.global entry_pae32
entry_pae32:
    movl $0x9000, %esp
    call enter_pae
    call calls32

enter_pae:
    call fill_page_directories
    movl $0x7000, %edi
    movl $page_pds + 1, %eax
    movl $4, %ecx
2:  movl %eax, (%edi)
    movl $0, 4(%edi)
    addl $4096, %eax
    addl $8, %edi
    loop 2b
    movl %cr4, %eax
    orl $0x20, %eax
    movl %eax, %cr4
    movl $0x7000, %eax
    movl %eax, %cr3
    movl %cr0, %eax
    orl $0x80010000, %eax
    movl %eax, %cr0
    ret

# Makes the hypercalls that its maker asks for through the mailbox: number at 24, arguments at 32 (8 bytes each), result at
# 80; counters of calls and replies at 16 and 20. Number -1 reads the 32-bit word at the first argument.
.set mailbox, 0x1700000
.global entry_serve32
entry_serve32:
    movl $0x9000, %esp
    xorl %eax, %eax
    xorl %ecx, %ecx
    cpuid
    movl %ebx, 0x6200
2:  movl mailbox + 16, %eax
    cmpl mailbox + 20, %eax
    jne 3f
    movl $29, %eax                      # yield
    xorl %ebx, %ebx
    call hypercall32
    jmp 2b
3:  movl mailbox + 24, %eax
    movl mailbox + 32, %ebx
    movl mailbox + 40, %ecx
    movl mailbox + 48, %edx
    movl mailbox + 56, %esi
    movl mailbox + 64, %edi
    movl mailbox + 72, %ebp
    cmpl $-1, %eax
    je 4f
    call hypercall32
    jmp 5f
4:  movl (%ebx), %eax
5:  movl %eax, mailbox + 80
    movl $0, mailbox + 84
    movl mailbox + 16, %eax
    movl %eax, mailbox + 20
    jmp 2b

# Asks for the version in real mode; shuts down with 1 (reboot) if the answer is right, else with 0.
.global entry_real16
entry_real16:
    movl $0x7000, %esp
    movl $real16_start, %esi
    movl $0x8000, %edi
    movl $real16_end - real16_start, %ecx
    rep movsb
    lgdt real16_gdt_pointer
    ljmp $0x08, $0x8000
.code16
real16_start:
    movl %cr0, %eax
    andb $0xfe, %al
    movl %eax, %cr0
    ljmp $0, $0x8000 + 2f - real16_start
2:  xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    xorl %eax, %eax
    xorl %ecx, %ecx
    cpuid
    movl %ebx, %ebp
    movl $0, 0x6100
    movl $17, %eax
    xorl %ebx, %ebx
    xorl %ecx, %ecx
    call 4f
    cmpl $0x00040011, %eax
    jne 3f
    movl $1, 0x6100
3:  movl $29, %eax
    movl $2, %ebx
    movl $0x6100, %ecx
    call 4f
5:  hlt
    jmp 5b
4:  cmpl $0x756e6547, %ebp              # "Genu"
    je 6f
    vmmcall
    ret
6:  vmcall
    ret
real16_end:
.code32
.balign 8
real16_gdt:
    .quad 0
    .quad 0x00009b000000ffff            # 16-bit code
real16_gdt_pointer:
    .word 15
    .long real16_gdt

.global entry_compat
entry_compat:
    movl $0x9000, %esp
    movl $page_pdpt + 7, page_pml4
    movl $0, page_pml4 + 4
    movl $page_pdpt, %edi
    movl $page_pds + 7, %eax
    movl $8, %ecx
2:  movl %eax, (%edi)
    movl $0, 4(%edi)
    addl $4096, %eax
    addl $8, %edi
    loop 2b
    call fill_page_directories
    call long_mode
    ljmp $0x18, $3f
3:  movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    call calls32

fill_page_directories:
    movl $page_pds, %edi
    movl $0x87, %eax
    xorl %edx, %edx
    movl $4096, %ecx
2:  movl %eax, (%edi)
    movl %edx, 4(%edi)
    addl $0x200000, %eax
    adcl $0, %edx
    addl $8, %edi
    loop 2b
    ret

# A hypercall of a 32-bit caller: eax, ebx, ecx as they are.
hypercall32:
    cmpl $0x756e6547, 0x6200            # "Genu"
    je 2f
    vmmcall
    ret
2:  vmcall
    ret

.set results, 0x1700800
calls32:
    xorl %eax, %eax
    xorl %ecx, %ecx
    cpuid
    movl %ebx, 0x6200
    movl $17, %eax                      # xen_version, version
    xorl %ebx, %ebx
    xorl %ecx, %ecx
    call hypercall32
    movl %eax, results
    movl $0x7ff0, 0x6000                # current_reservation of DOMID_SELF
    movl $12, %eax
    movl $3, %ebx
    movl $0x6000, %ecx
    call hypercall32
    movl %eax, results + 4
    movl $0x7ff07ff0, 0x6010            # alloc_unbound
    movl $0, 0x6014
    movl $32, %eax
    movl $6, %ebx
    movl $0x6010, %ecx
    call hypercall32
    movl %eax, results + 8
    movl 0x6014, %eax
    movl %eax, results + 12
    movl $0x6040, 0x6020                # populate_physmap of one extent, 32-bit structure
    movl $1, 0x6024
    movl $0, 0x6028
    movl $0, 0x602c
    movl $0x7ff0, 0x6030
    movl $0x3000, 0x6040
    movl $12, %eax
    movl $6, %ebx
    movl $0x6020, %ecx
    call hypercall32
    movl %eax, results + 16
    movl $0, 0x6050                     # get_features
    movl $0, 0x6054
    movl $17, %eax
    movl $6, %ebx
    movl $0x6050, %ecx
    call hypercall32
    movl 0x6054, %eax
    movl %eax, results + 20
    movl $17, 0x6060                    # multicall of one xen_version, 32-bit entry
    movl $0xdead, 0x6064
    movl $0, 0x6068
    movl $0, 0x606c
    movl $13, %eax
    movl $0x6060, %ebx
    movl $1, %ecx
    call hypercall32
    movl %eax, results + 24
    movl 0x6064, %eax
    movl %eax, results + 28
    movl $63, %eax                      # unknown
    xorl %ebx, %ebx
    call hypercall32
    movl %eax, results + 32
    movl $0x32, results + 36
    movl $1, 0x6100                     # shut down: reboot
    movl $29, %eax
    movl $2, %ebx
    movl $0x6100, %ecx
    call hypercall32
2:  hlt
    jmp 2b

# A guest that halts at once with interrupts off.
.global entry_halt
entry_halt:
    cli
2:  hlt
    jmp 2b

# A guest that counts in its mailbox for ever.
.global entry_count
entry_count:
    xorl %eax, %eax
2:  incl %eax
    movl %eax, results
    jmp 2b

# A guest that triple-faults: no interrupt table.
.global entry_triple_fault
entry_triple_fault:
    movl $0x6300, %eax
    movl $0, (%eax)
    movl $0, 4(%eax)
    lidt (%eax)
    ud2
