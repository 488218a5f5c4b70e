/*
 * Minimal case: which intercept does an emulator take for a guest's read of a control register?
 *
 * Multiboot 1 kernel for `qemu-system-x86_64 -kernel`. As an SVM host without paging it runs a five-byte guest,
 * `mov %crN, %eax; vmmcall`, once for every N of 0 2 3 4, and with one control-register intercept set at a time. It
 * prints the exit code of each. A processor exits with code N when the intercept of reading CRN is set (APM vol. 2,
 * 15.8), and with VMMCALL (81) otherwise.
 *
 *   as --32 -o svm-cr-read.o svm-cr-read.S && ld -m elf_i386 -Ttext=0x100000 -o svm-cr-read svm-cr-read.o
 *   qemu-system-x86_64 -accel tcg -cpu EPYC,+svm -m 64 -display none -nodefaults -no-reboot -serial stdio \
 *       -device isa-debug-exit,iobase=0xf4,iosize=1 -kernel svm-cr-read
 *
 * QEMU's status is 1 when the emulator is right, 3 when it is not. See docs/decisions/0001-qemu-10.md.
 */
        .set    VMCB_CR_READ, 0x000
        .set    VMCB_INTERCEPT2, 0x010
        .set    VMCB_ASID, 0x058
        .set    VMCB_EXITCODE, 0x070
        .set    SAVE, 0x400
        .set    EXIT_VMMCALL, 0x81

        .text
        .balign 4
        .long   0x1badb002, 0, -0x1badb002

        .globl  _start
_start:
        mov     $stack_top, %esp
        mov     $0xc0000080, %ecx               /* EFER.SVME */
        rdmsr
        or      $0x1000, %eax
        wrmsr
        mov     $0xc0010117, %ecx               /* VM_HSAVE_PA */
        mov     $host_save, %eax
        xor     %edx, %edx
        wrmsr

        mov     $cases, %esi
next:
        movzbl  (%esi), %ebx                    /* bit number of the one intercept */
        movzbl  1(%esi), %ebp                   /* register the guest reads */
        cmp     $0xff, %bl
        je      done
        mov     %ebp, %eax                      /* 0f 20 /r: mov %crN, %eax, N in the reg field */
        shl     $3, %eax
        or      $0xc0, %al
        mov     %al, guest + 2

        /* A flat 32-bit guest without paging, its processor state as small as VMRUN accepts. */
        mov     $vmcb, %edi
        mov     $1024, %ecx
        xor     %eax, %eax
        rep stosl
        bts     %ebx, vmcb + VMCB_CR_READ
        movl    $0x3, vmcb + VMCB_INTERCEPT2    /* VMRUN, VMMCALL */
        movl    $1, vmcb + VMCB_ASID
        mov     $vmcb + SAVE, %edi              /* ES CS SS DS */
        mov     $4, %ecx
1:      movl    $0x0c930008, (%edi)
        movl    $0xffffffff, 4(%edi)
        add     $16, %edi
        loop    1b
        movw    $0x0c9b, vmcb + SAVE + 0x12     /* CS is code */
        movl    $0x1000, vmcb + SAVE + 0xd0     /* EFER.SVME */
        movl    $0x11, vmcb + SAVE + 0x158      /* CR0: PE ET */
        movl    $0x400, vmcb + SAVE + 0x160     /* DR7 */
        movl    $0xffff0ff0, vmcb + SAVE + 0x168 /* DR6 */
        movl    $2, vmcb + SAVE + 0x170         /* RFLAGS */
        movl    $guest, vmcb + SAVE + 0x178     /* RIP */
        push    %esi
        push    %ebx
        push    %ebp
        mov     $vmcb, %eax
        clgi
        vmload
        vmrun
        vmsave
        stgi
        pop     %ebp
        pop     %ebx
        pop     %esi

        mov     $EXIT_VMMCALL, %edx             /* what is right */
        cmp     %ebx, %ebp
        jne     2f
        mov     %ebp, %edx
2:      push    %edx
        mov     $said_intercept, %edi
        call    print
        mov     %ebx, %eax
        call    print_byte
        mov     $said_read, %edi
        call    print
        mov     %ebp, %eax
        call    print_byte
        mov     $said_exit, %edi
        call    print
        mov     vmcb + VMCB_EXITCODE, %eax
        call    print_byte
        mov     $said_right, %edi
        pop     %edx
        cmp     vmcb + VMCB_EXITCODE, %edx
        je      3f
        movb    $1, status
        mov     $said_wrong, %edi
3:      call    print
        add     $2, %esi
        jmp     next

done:
        mov     status, %al                     /* isa-debug-exit: QEMU ends with 2 * al + 1 */
        mov     $0xf4, %dx
        out     %al, %dx
4:      hlt
        jmp     4b

print:                                          /* string in edi */
        mov     $0x3f8, %dx
5:      mov     (%edi), %al
        test    %al, %al
        jz      6f
        out     %al, %dx
        inc     %edi
        jmp     5b
6:      ret

print_byte:                                     /* al, two hexadecimal digits */
        mov     $0x3f8, %dx
        mov     %al, %ah
        shr     $4, %al
        call    7f
        mov     %ah, %al
        and     $0xf, %al
7:      add     $'0', %al
        cmp     $'9', %al
        jbe     8f
        add     $('a' - '0' - 10), %al
8:      out     %al, %dx
        ret

guest:
        .byte   0x0f, 0x20, 0xc0                /* mov %crN, %eax: N patched above */
        vmmcall

cases:  /* intercept, register */
        .byte   0, 0,  2, 2,  3, 3,  4, 4
        .byte   0, 2,  0, 3,  0, 4
        .byte   0xff, 0xff
said_intercept: .asciz "intercept of reading cr"
said_read:      .asciz ", guest reads cr"
said_exit:      .asciz ": exit code "
said_right:     .asciz "\n"
said_wrong:     .asciz " WRONG\n"
status:         .byte 0

        .bss
        .balign 4096
host_save:      .skip 4096
vmcb:           .skip 4096
        .skip   4096
stack_top:
