/* From the boot loader to 64-bit Rust, for the boot CPU and for every further one. AT&T syntax. */
.set IMAGE_BASE, 0xffffffff80000000
.set PVH_MAGIC, 0x336ec578
.set CODE64, 0x08
.set DATA, 0x10
.set CODE32, 0x18

/* ---- headers: within the first 8 KiB of the file ---- */
.section .boot.header, "ax"
.balign 8
multiboot1_header:
.set MB1_MAGIC, 0x1badb002
.set MB1_FLAGS, 0x10003                 /* modules page aligned, memory map, address fields valid */
    .long MB1_MAGIC
    .long MB1_FLAGS
    .long -(MB1_MAGIC + MB1_FLAGS)
    .long multiboot1_header - IMAGE_BASE
    .long image_start - IMAGE_BASE
    .long image_file_end - IMAGE_BASE
    .long image_end - IMAGE_BASE
    .long boot_start32 - IMAGE_BASE

.balign 8
multiboot2_header:
    .long 0xe85250d6
    .long 0                             /* i386, protected mode */
    .long multiboot2_header_end - multiboot2_header
    .long -(0xe85250d6 + (multiboot2_header_end - multiboot2_header))
    .short 3, 0                         /* entry address */
    .long 12
    .long boot_start32 - IMAGE_BASE
    .balign 8
    .short 6, 0                         /* modules page aligned */
    .long 8
    .short 0, 0                         /* end */
    .long 8
multiboot2_header_end:

.section .note.xen, "a", @note
    .long 4, 4, 18                      /* XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .long boot_start_pvh - IMAGE_BASE

/* ---- boot CPU, 32-bit, paging off ---- */
.section .boot.text, "ax"
.code32
boot_start_pvh:
    movl $PVH_MAGIC, %eax
.globl boot_start32
boot_start32:
    cli
    cld
    movl %eax, %edi                     /* magic: first argument of boot_main */
    movl %ebx, %esi                     /* loader's information: second */
    lgdtl boot_gdt_pointer - IMAGE_BASE
    ljmpl $CODE32, $(1f - IMAGE_BASE)
1:  movl $DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss
    movl $(boot_stack_top - IMAGE_BASE), %esp

    movl $0x80000000, %eax
    cpuid
    movl $(no_long_mode_text - IMAGE_BASE), %ebp
    cmpl $0x80000001, %eax
    jb boot_refuse
    movl $0x80000001, %eax
    cpuid
    btl $29, %edx                       /* long mode */
    jnc boot_refuse
    movl $(no_nx_text - IMAGE_BASE), %ebp
    btl $20, %edx                       /* no-execute pages */
    jnc boot_refuse

    call boot_enable_paging
    ljmpl $CODE64, $(2f - IMAGE_BASE)
.code64
2:  movabsq $3f, %rax
    jmpq *%rax
3:  leaq boot_stack_top(%rip), %rsp
    xorl %ebp, %ebp
    movl %edi, %edi
    movl %esi, %esi
    call boot_main
    ud2

/* Long mode with the boot page tables, which map the first 4 GiB at 0, at the direct map and (1 GiB of it) at the image. */
.code32
boot_enable_paging:
    movl $0xa0, %eax                    /* PAE, PGE */
    movl %eax, %cr4
    movl $(boot_pml4 - IMAGE_BASE), %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx              /* EFER: NXE, LME */
    rdmsr
    orl $0x900, %eax
    wrmsr
    movl $0x80010033, %eax              /* PG WP NE ET MP PE */
    movl %eax, %cr0
    ret

/* Without a processor we can run on: say so on the first serial port and on the text screen. */
boot_refuse:
    movl $0xb8000, %edi
4:  movb (%ebp), %bl
    testb %bl, %bl
    jz 6f
    movw $0x3fd, %dx
    movl $100000, %ecx
5:  inb %dx, %al
    testb $0x20, %al
    loopz 5b
    movw $0x3f8, %dx
    movb %bl, %al
    outb %al, %dx
    movb $0x0f, %bh
    movw %bx, (%edi)
    addl $2, %edi
    incl %ebp
    jmp 4b
6:  hlt
    jmp 6b

/* ---- further CPUs: this page is copied below 1 MiB, the start-up IPI names it ---- */
.balign 16
.code16
.globl ap_trampoline
ap_trampoline:
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    lgdtl ap_gdt_pointer - ap_trampoline
    movl $0x11, %eax
    movl %eax, %cr0
    ljmpl $CODE32, $(ap_start32 - IMAGE_BASE)
ap_gdt_pointer:
    .short boot_gdt_end - boot_gdt - 1
    .long boot_gdt - IMAGE_BASE
.globl ap_trampoline_end
ap_trampoline_end:

.code32
ap_start32:
    movl $DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss
    /* No stack yet, so no call. */
    movl $0xa0, %eax
    movl %eax, %cr4
    movl $(boot_pml4 - IMAGE_BASE), %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x900, %eax
    wrmsr
    movl $0x80010033, %eax
    movl %eax, %cr0
    ljmpl $CODE64, $(7f - IMAGE_BASE)
.code64
7:  movabsq $8f, %rax
    jmpq *%rax
8:  movq ap_page_tables(%rip), %rax     /* the final tables, which also hold the stack */
    movq %rax, %cr3
    movq ap_stack(%rip), %rsp
    movl ap_cpu(%rip), %edi
    xorl %ebp, %ebp
    call ap_main
    ud2

/* ---- data ---- */
.section .boot.data, "aw"
.balign 4096
.globl boot_pml4
boot_pml4:
    .quad boot_pdpt_low - IMAGE_BASE + 0x3
    .fill 261, 8, 0
    .quad boot_pdpt_low - IMAGE_BASE + 0x3      /* 262: the direct map */
    .fill 248, 8, 0
    .quad boot_pdpt_high - IMAGE_BASE + 0x3     /* 511: the image */
boot_pdpt_low:
    .quad boot_pd - IMAGE_BASE + 0x0003
    .quad boot_pd - IMAGE_BASE + 0x1003
    .quad boot_pd - IMAGE_BASE + 0x2003
    .quad boot_pd - IMAGE_BASE + 0x3003
    .fill 508, 8, 0
boot_pdpt_high:
    .fill 510, 8, 0
    .quad boot_pd - IMAGE_BASE + 0x3
    .quad 0
boot_pd:
.set boot_page, 0
.rept 2048
    .quad boot_page + 0x83                      /* 2 MiB, writable */
    .set boot_page, boot_page + 0x200000
.endr

.balign 16
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff                    /* 64-bit code */
    .quad 0x00cf93000000ffff                    /* data */
    .quad 0x00cf9b000000ffff                    /* 32-bit code */
boot_gdt_end:
boot_gdt_pointer:
    .short boot_gdt_end - boot_gdt - 1
    .long boot_gdt - IMAGE_BASE

.balign 8
.globl ap_page_tables, ap_stack, ap_cpu
ap_page_tables: .quad 0
ap_stack:       .quad 0
ap_cpu:         .long 0

no_long_mode_text: .asciz "Radon: this processor has no 64-bit mode.\r\n"
no_nx_text:        .asciz "Radon: this processor has no no-execute pages.\r\n"

.section .bss
.balign 4096
.globl boot_stack_guard, boot_stack_top
boot_stack_guard:
    .skip 4096
    .skip 65536
boot_stack_top:
