; SPDX-License-Identifier: GPL-3.0-or-later
; One entry for each vector 0-63: pushes an error code where the CPU does not, then the vector, saves all
; registers and calls on_vector(struct frame *).
%assign with_error 0x27d00             ; vectors 8, 10-14, 17
section .text
%ifdef BITS64
bits 64
%define WORD 8
%define SLOT dq
%else
bits 32
%define WORD 4
%define SLOT dd
%endif
extern on_vector

%assign i 0
%rep 64
vector_%+i:
%if i > 31 || ((with_error >> i) & 1) = 0
        push 0
%endif
        push i
        jmp save_all
%assign i i+1
%endrep

save_all:
%ifdef BITS64
        push rax
        push rcx
        push rdx
        push rbx
        push rbp
        push rsi
        push rdi
        push r8
        push r9
        push r10
        push r11
        push r12
        push r13
        push r14
        push r15
        mov rdi, rsp
        cld
        call on_vector
        pop r15
        pop r14
        pop r13
        pop r12
        pop r11
        pop r10
        pop r9
        pop r8
        pop rdi
        pop rsi
        pop rbp
        pop rbx
        pop rdx
        pop rcx
        pop rax
        add rsp, 16
        iretq
%else
        pushad
        push ds
        push es
        mov ax, 0x10
        mov ds, ax
        mov es, ax
        push esp
        cld
        call on_vector
        add esp, 4
        pop es
        pop ds
        popad
        add esp, 8
        iretd
%endif

section .data
global vector_table
vector_table:
%assign i 0
%rep 64
        SLOT vector_%+i
%assign i i+1
%endrep
