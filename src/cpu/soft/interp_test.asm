; SPDX-License-Identifier: GPL-3.0-or-later
; Guest programs for interp_test.c. Each lies between name and name_end and is loaded at BASE with flat segments; it
; ends with HLT.
section .rodata
%define BASE 0x10000
%macro program 1
align 64
global %1
%1:
%endmacro
%macro endprogram 1
global %1_end
%1_end:
%endmacro

bits 64
; rax = 10! * 2 + 1 by a loop, a call and the stack
program factorial
    mov eax, 1
    mov ecx, 10
.next:
    call .multiply
    loop .next
    push rax
    add [rsp], rax
    pop rax
    inc rax
    hlt
.multiply:
    mul rcx
    ret
endprogram factorial

; Rewrites the immediate of the very next instruction, then one that ran before.
program self_modifying
    mov byte [rel .patched + 1], 42
.patched:
    mov al, 1
    movzx ebx, al
    mov ecx, 3
.again:
    mov edx, 5
    inc byte [rel .again + 1]
    dec ecx
    jnz .again
    hlt
endprogram self_modifying

; rep movs, overlapping stos pattern, scas
program strings
    mov edi, 0x20000
    mov eax, 0x41
    mov ecx, 10000
    rep stosb
    mov esi, 0x20000
    mov edi, 0x20001
    mov byte [0x20000], 0x42
    mov ecx, 5000
    rep movsb               ; smears the first byte
    mov edi, 0x20000
    mov al, 0x42
    mov ecx, 100000
    repe scasb
    mov ebx, edi
    mov esi, 0x22000
    mov edi, 0x22008
    mov rax, 0x1122334455667788
    mov [0x22000], rax
    mov ecx, 700
    rep movsq
    mov rdx, [0x22000 + 700 * 8]
    std
    mov edi, 0x20010
    mov ecx, 4
    mov al, 0x99
    rep stosb
    cld
    hlt
endprogram strings

; Locked and bit instructions on memory, also across a line and a page
program locked
    mov dword [0x20ffe], 0xffff0000
    lock inc dword [0x20ffe]
    mov eax, [0x20ffe]
    mov ebx, 7
    lock xadd [0x20ffe], ebx
    mov ecx, 0x1003c
    mov qword [0x22000 + 0x2000], 0
    lock bts [0x22000], ecx
    setc dl
    mov esi, [0x22000 + 0x2004]
    mov edi, 100
    xchg edi, [0x20ffe]
    hlt
endprogram locked

; #DE, #UD and #PF reach the three handlers, which skip the instruction and count in rbx
program faults
    xor ebx, ebx
    xor ecx, ecx
    mov rsi, -8
    div ecx
    ud2
    mov rax, [rsi]
    hlt
align 64
    add rbx, 1              ; faults + 64: #DE
    add qword [rsp], 2
    iretq
align 64
    add rbx, 0x10           ; + 128: #UD
    add qword [rsp], 2
    iretq
align 64
    pop r8                  ; + 192: #PF
    add rbx, 0x100
    add qword [rsp], 3
    iretq
endprogram faults

; A tight loop for measuring: 5 instructions a turn
program loop_speed
    xor eax, eax
.turn:
    add rax, rcx
    mov [0x20000 + rax - rax], rax
    xor edx, eax
    dec ecx
    jnz .turn
    hlt
endprogram loop_speed

; compute kernel: xorshift and table in memory, calls
program mixed_speed
    mov eax, 12345
    mov r8d, 0x20000
.turn:
    mov edx, eax
    shl edx, 13
    xor eax, edx
    mov edx, eax
    shr edx, 17
    xor eax, edx
    mov edx, eax
    shl edx, 5
    xor eax, edx
    movzx edx, al
    add [r8 + rdx * 4], eax
    mov esi, [r8 + rdx * 4 + 8]
    cmp esi, eax
    jb .below
    add r9, rsi
.below:
    call .leaf
    dec ecx
    jnz .turn
    hlt
.leaf:
    push rbx
    lea rbx, [rax + rsi]
    add r10, rbx
    pop rbx
    ret
endprogram mixed_speed

bits 16
; real mode: segments, far call, 16-bit wrap, int, string copy; result in ax, bx
program real_mode
    mov ax, 0x2000
    mov es, ax
    mov ss, ax
    mov sp, 0x1000
    mov word [es:0x10], 0x1234
    mov di, 0x10
    mov ax, 0x1234
    scasw
    jne .bad
    push cs
    call .far
    mov cx, 5
    xor bx, bx
.turn:
    add bx, cx
    loop .turn
    mov al, 0x19
    add al, 0x28
    daa
    mov ah, 0
    aam 16
    hlt
.far:
    retf
.bad:
    hlt
endprogram real_mode
section .note.GNU-stack noalloc noexec nowrite progbits
