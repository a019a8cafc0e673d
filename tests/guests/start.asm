; SPDX-License-Identifier: GPL-3.0-or-later
; Multiboot entry of the bare-metal tests. BITS64 defined: goes on in long mode with 4 GiB mapped by 2 MiB pages;
; else stays in 32-bit protected mode without paging. Then calls main() and leaves through port 0xf4.
MB_FLAGS equ 3                          ; page-align modules, memory information

section .multiboot
align 4
        dd 0x1badb002, MB_FLAGS, -(0x1badb002 + MB_FLAGS)

section .text
bits 32
extern main
global _start
_start:
        cli
        cld
        mov [boot_info], ebx
        mov esp, stack_top
        lgdt [gdt_pointer]
        jmp 0x08:.flat
.flat:  mov ax, 0x10
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov fs, ax
        mov gs, ax
        mov eax, cr0
        and eax, ~0xc                   ; EM and TS off
        or eax, 0x22                    ; MP, NE
        mov cr0, eax
        fninit
        mov eax, 1
        cpuid
        test edx, 1 << 25
        jz .no_sse
        mov eax, cr4
        or eax, 0x600                   ; OSFXSR, OSXMMEXCPT
        mov cr4, eax
.no_sse:
%ifdef BITS64
        call make_tables
        call enter_long
        jmp 0x18:long_start
%else
        call main
        jmp leave
%endif

leave:  mov dx, 0xf4
        out dx, eax
.stop:  hlt
        jmp .stop

%ifdef BITS64
; Identity map: one PML4 entry, four page directories.
make_tables:
        mov dword [page_pml4], page_pdpt + 7
        mov edi, page_pdpt
        mov eax, page_directories + 7
        mov ecx, 4
.pdpt:  mov [edi], eax
        add eax, 4096
        add edi, 8
        loop .pdpt
        mov edi, page_directories
        mov eax, 0x87
        mov ecx, 2048
.pde:   mov [edi], eax
        add eax, 0x200000
        add edi, 8
        loop .pde
        ret

; Also what an application processor runs.
enter_long:
        mov eax, cr4
        or eax, 0x620                   ; PAE, OSFXSR, OSXMMEXCPT
        mov cr4, eax
        mov eax, page_pml4
        mov cr3, eax
        mov ecx, 0xc0000080
        rdmsr
        or eax, 0x901                   ; LME, NXE, SCE
        wrmsr
        mov eax, cr0
        or eax, 0x80000000
        mov cr0, eax
        ret

bits 64
long_start:
        mov ax, 0x10
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov rsp, stack_top
        call main
        mov dx, 0xf4
        out dx, eax
.stop:  hlt
        jmp .stop

; Copied to 0x8000 for STARTUP IPIs; each processor takes the next stack and calls ap_main(index).
bits 16
global ap_trampoline, ap_trampoline_end
ap_trampoline:
        cli
        xor ax, ax
        mov ds, ax
        o32 lgdt [0x8000 + (.gdt_copy - ap_trampoline)]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        jmp dword 0x08:ap_protected
.gdt_copy:
        dw gdt_end - gdt - 1
        dd gdt
ap_trampoline_end:
bits 32
ap_protected:
        mov ax, 0x10
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov ebx, 1
        lock xadd [ap_next], ebx
        mov esp, ebx
        shl esp, 12
        add esp, ap_stacks
        call enter_long
        jmp 0x18:.long
bits 64
.long:  mov ax, 0x10
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov edi, ebx
        call ap_main
.stop:  hlt
        jmp .stop
extern ap_main
section .data
ap_next: dd 1
bits 32
%endif

section .data
align 16
global gdt
; null, code32, data, code64, code16, data16, user data, user code 64, user code 32, TSS (2), free ×16
gdt:    dq 0
        dq 0x00cf9b000000ffff
        dq 0x00cf93000000ffff
        dq 0x00af9b000000ffff
        dq 0x00009b000000ffff
        dq 0x000093000000ffff
        dq 0x00cff3000000ffff
        dq 0x00affb000000ffff
        dq 0x00cffb000000ffff
        times 20 dq 0
gdt_end:
global gdt_pointer
gdt_pointer:
        dw gdt_end - gdt - 1
        dd gdt
        dd 0
global boot_info
boot_info: dd 0

section .bss
align 4096
global page_pml4, page_pdpt, page_directories
page_pml4: resb 4096
page_pdpt: resb 4096
page_directories: resb 4 * 4096
        resb 65536
stack_top:
ap_stacks: resb 64 * 4096
