/*
 * Minimal case: what does an emulator leave in RFLAGS after CMPXCHG8B and CMPXCHG16B?
 *
 * Multiboot 1 kernel for `qemu-system-x86_64 -kernel`. Both instructions change ZF and nothing else (APM vol. 3). Arithmetic
 * comes before, so that an emulator that computes flags lazily has some pending. The flags afterwards are pushed and shown.
 *
 *   as --32 -o cmpxchg-flags.o cmpxchg-flags.S && ld -m elf_i386 -Ttext=0x100000 -o cmpxchg-flags cmpxchg-flags.o
 *   qemu-system-x86_64 -accel tcg -cpu EPYC -m 64 -display none -nodefaults -no-reboot -serial stdio \
 *       -device isa-debug-exit,iobase=0xf4,iosize=1 -kernel cmpxchg-flags
 *
 * QEMU's status is 1 when the emulator is right, 3 when it is not. See docs/decisions/0010-qemu-cmpxchg16b.md.
 */
        .set    FIXED, 0x2
        .set    ZF, 0x40

        .text
        .balign 4
        .long   0x1badb002, 0, -0x1badb002

        .globl  _start
_start:
        mov     $stack_top, %esp
        mov     $value, %esi
        movl    $0x12345678, (%esi)
        movl    $0, 4(%esi)
        pushl   $FIXED
        popf                                    /* no lazy flags */
        jmp     1f
1:      mov     $0x04bab000, %edi               /* would be bits 13 and up of the flags */
        mov     $0x12345678 - 0x04bab000, %eax
        xor     %edx, %edx
        add     %edi, %eax                      /* EAX = 0x12345678 */
        mov     $1, %ebx
        mov     $2, %ecx
        cmpxchg8b (%esi)
        jne     2f
        pushf
        pop     %ebp
        xor     $FIXED | ZF, %ebp               /* ADD left PF set, and 8 bits of the sum: 0x78 has four ones */
        and     $~0x8d5, %ebp                   /* status flags: not in question */
        jmp     3f
2:      mov     $-1, %ebp
3:      mov     $text, %esi
        call    print
        mov     %ebp, %eax
        call    hex
        mov     $0x0a, %al
        call    putc
        xor     %eax, %eax
        test    %ebp, %ebp
        setnz   %al
        out     %al, $0xf4
4:      hlt
        jmp     4b

print:  lodsb
        test    %al, %al
        jz      1f
        call    putc
        jmp     print
1:      ret
hex:    mov     $8, %ecx
1:      rol     $4, %eax
        push    %eax
        and     $15, %al
        cmp     $10, %al
        jb      2f
        add     $39, %al
2:      add     $48, %al
        call    putc
        pop     %eax
        loop    1b
        ret
putc:   mov     $0x3f8, %dx
        out     %al, %dx
        ret

text:   .asciz  "flags that CMPXCHG8B changed besides ZF: "
        .balign 8
value:  .skip   8
        .skip   256
stack_top:
