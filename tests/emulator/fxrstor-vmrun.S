/*
 * Minimal case: does FXRSTOR on one processor disturb VMRUN and #VMEXIT on another?
 *
 * Multiboot 1 kernel for `qemu-system-x86_64 -kernel`, two processors. The first one is an SVM host whose
 * guest is a single VMMCALL under nested paging, run over and over. The nested tables give the guest's page of code another
 * frame than the host's: page GUEST_GPA is VMMCALL for the guest; the host reads a mark at the same address after each exit.
 * The second processor executes FXRSTOR in a loop and touches nothing else. On a processor all of this goes on for ever;
 * here it ends after ROUNDS. A lost update of the emulator's flag for nested paging shows as a guest that reads the host's
 * page (another exit code) or as a host that reads the guest's.
 *
 *   as --32 -o fxrstor-vmrun.o fxrstor-vmrun.S && ld -m elf_i386 -N -Ttext=0x100000 -o fxrstor-vmrun fxrstor-vmrun.o
 *   qemu-system-x86_64 -accel tcg,thread=multi -smp 2 -cpu EPYC,+svm,+npt -m 64 -display none -nodefaults -no-reboot \
 *       -serial stdio -device isa-debug-exit,iobase=0xf4,iosize=1 -kernel fxrstor-vmrun
 *
 * QEMU's status is 1 when the emulator is right, 3 when it is not (or 0: the machine had a triple fault). With
 * `-append quiet` the second processor does not execute FXRSTOR: the control. See docs/decisions/0008-qemu-vmexit.md.
 */
        .set    VMCB_INTERCEPT1, 0x00c
        .set    VMCB_INTERCEPT2, 0x010
        .set    VMCB_ASID, 0x058
        .set    VMCB_EXITCODE, 0x070
        .set    VMCB_NP, 0x090
        .set    VMCB_NCR3, 0x0b0
        .set    SAVE, 0x400
        .set    EXIT_VMMCALL, 0x81
        .set    GUEST_GPA, 0x300000             /* what the guest executes: frame GUEST_FRAME */
        .set    ROUNDS, 500000
        .set    MARK, 0x686f7374                /* "host" */
        .set    TRAMPOLINE, 0x8000
        .set    APIC_ICR, 0xfee00300

        .text
        .balign 4
        .long   0x1badb002, 0, -0x1badb002

        .globl  _start
_start:
        mov     $stack_top, %esp
        mov     %ebx, info
        mov     $0xc0000080, %ecx               /* EFER.SVME */
        rdmsr
        or      $0x1000, %eax
        wrmsr
        mov     $0xc0010117, %ecx               /* VM_HSAVE_PA */
        mov     $host_save, %eax
        xor     %edx, %edx
        wrmsr
        movl    $MARK, GUEST_GPA                /* as code: push imm32's tail; never executed by the host */

        /*
         * The host's tables and the nested ones, with PAE: one to one by 2 MiB pages, but GUEST_GPA is guest_code for the
         * guest. (The walk of a host without PAE is wrong in QEMU in another way.)
         */
        mov     $host_pd, %edi
        mov     $0x87, %eax                     /* P RW US PS */
        mov     $2048, %ecx
1:      mov     %eax, (%edi)
        mov     %eax, nested_pd - host_pd(%edi)
        add     $8, %edi
        add     $0x200000, %eax
        loop    1b
        mov     $nested_pt, %edi
        mov     $0x200007, %eax
        mov     $512, %ecx
1:      mov     %eax, (%edi)
        add     $8, %edi
        add     $0x1000, %eax
        loop    1b
        movl    $nested_pt + 7, nested_pd + 8
        movl    $guest_code + 7, nested_pt + ((GUEST_GPA - 0x200000) >> 12) * 8
        xor     %ecx, %ecx
1:      mov     %ecx, %eax
        shl     $12, %eax
        lea     host_pd + 1(%eax), %edx
        mov     %edx, host_pdpt(, %ecx, 8)
        lea     nested_pd + 1(%eax), %edx
        mov     %edx, nested_pdpt(, %ecx, 8)
        inc     %ecx
        cmp     $4, %ecx
        jne     1b
        mov     $host_pdpt, %eax
        mov     %eax, %cr3
        mov     $0x20, %eax                     /* CR4.PAE */
        mov     %eax, %cr4
        mov     %cr0, %eax
        or      $0x80000000, %eax
        mov     %eax, %cr0

        /* The second processor. */
        mov     $trampoline, %esi
        mov     $TRAMPOLINE, %edi
        mov     $trampoline_end - trampoline, %ecx
        rep movsb
        mov     info, %ebx
        movl    $0, quiet
        testl   $4, (%ebx)                      /* a command line? */
        jz      1f
        mov     16(%ebx), %esi
        call    has_quiet
        mov     %eax, quiet
1:      fxsave  area
        movl    $0x000c4500, APIC_ICR           /* INIT to all others */
        mov     $1000000, %ecx
1:      loop    1b
        movl    $0x000c4600 + (TRAMPOLINE >> 12), APIC_ICR
1:      pause
        cmpl    $0, alive
        je      1b

        xor     %ebp, %ebp                      /* rounds */
next:
        call    make_vmcb
2:      mov     $vmcb, %eax
        clgi
        vmrun
        stgi
        cmpl    $MARK, GUEST_GPA                /* is this the host's memory? */
        jne     wrong_host
        cmpl    $EXIT_VMMCALL, vmcb + VMCB_EXITCODE
        jne     wrong_guest
        movl    $GUEST_GPA, vmcb + SAVE + 0x178 /* RIP */
        inc     %ebp
        cmp     $ROUNDS, %ebp
        jne     2b
        mov     $said_right, %esi
        xor     %ebx, %ebx
        jmp     done
wrong_host:
        mov     $said_host, %esi
        mov     $1, %ebx
        jmp     done
wrong_guest:
        mov     $said_guest, %esi
        mov     $1, %ebx
done:
        call    print
        mov     $said_rounds, %esi
        call    print
        mov     %ebp, %eax
        call    hex
        mov     $said_exit, %esi
        call    print
        mov     vmcb + VMCB_EXITCODE, %eax
        call    hex
        mov     $0x0a, %al
        call    putc
        mov     %bl, %al
        out     %al, $0xf4
4:      hlt
        jmp     4b

/* A flat 32-bit guest without paging, its processor state as small as VMRUN accepts. */
make_vmcb:
        mov     $vmcb, %edi
        mov     $1024, %ecx
        xor     %eax, %eax
        rep stosl
        movl    $0x80000000, vmcb + VMCB_INTERCEPT1 /* shutdown */
        movl    $0x3, vmcb + VMCB_INTERCEPT2    /* VMRUN, VMMCALL */
        movl    $1, vmcb + VMCB_ASID
        movl    $1, vmcb + VMCB_NP
        movl    $nested_pdpt, vmcb + VMCB_NCR3
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
        movl    $GUEST_GPA, vmcb + SAVE + 0x178 /* RIP */
        movl    $0x00070406, vmcb + SAVE + 0x268 /* PAT */
        movl    $0x00070406, vmcb + SAVE + 0x26c
        ret

/* Does the text at ESI hold "quiet"? */
has_quiet:
1:      mov     (%esi), %eax
        test    %al, %al
        jz      2f
        cmp     $0x65697571, %eax               /* "quie" */
        je      3f
        inc     %esi
        jmp     1b
2:      xor     %eax, %eax
        ret
3:      mov     $1, %eax
        ret

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

        .code16
trampoline:
        cli
        lgdtl   %cs:gdt_pointer - trampoline
        mov     %cr0, %eax
        or      $1, %al
        mov     %eax, %cr0
        ljmpl   $8, $second
        .balign 8
gdt:    .quad   0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
        .word   gdt_pointer - gdt - 1
        .long   TRAMPOLINE + gdt - trampoline
trampoline_end:
        .code32
second:
        mov     $16, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        movl    $1, alive
        cmpl    $0, quiet
        jne     2f
1:      fxrstor area
        jmp     1b
2:      pause
        jmp     2b

said_right:     .asciz "every exit was the guest's VMMCALL"
said_host:      .asciz "WRONG: the host reads through the guest's nested tables"
said_guest:     .asciz "WRONG: the guest does not run through its nested tables"
said_exit:      .asciz ", last exit "
said_rounds:    .asciz ", rounds "
        .balign 4
alive:  .long   0
quiet:  .long   0
info:   .long   0

        .data
        .balign 4096
guest_code:
        vmmcall
        hlt
        .balign 4096

        .bss
        .balign 4096
host_save:      .skip 4096
vmcb:           .skip 4096
host_pdpt:      .skip 4096
nested_pdpt:    .skip 4096
host_pd:        .skip 4 * 4096
nested_pd:      .skip 4 * 4096
nested_pt:      .skip 4096
area:           .skip 512
        .skip   4096
stack_top:
