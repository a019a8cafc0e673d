; SPDX-License-Identifier: GPL-3.0-or-later
; A BIOS image of 64 KiB that checks the state after RESET (SDM 3A 9.1.1) and where it lies, prints TAP on COM1 and
; leaves through port 0xf4. Runs by --firmware.
bits 16
org 0

%macro CHECK 2                          ; condition code that is good, name
        j%1 %%good
        mov si, %%bad_text
        call bad
        jmp %%next
%%good: mov si, %%text
        call put
        jmp %%next
%%bad_text: db "not "
%%text: db "ok - ", %2, 10, 0
%%next:
%endmacro

start:
        mov esp, esp                    ; flags are as after RESET up to here
        mov bx, ds
        mov cx, ss
        lahf
        mov bp, ax
        mov eax, cr0
        mov edi, eax
        mov ax, 0
        mov ss, ax
        mov sp, 0x7c00
        mov ds, ax
        mov [0x500], bx
        mov [0x502], cx
        mov [0x504], bp
        mov [0x508], edx
        sidt [0x510]
        mov word [0x520], 0             ; cases that failed
        mov ax, cs
        mov ds, ax
        cmp edi, 0x60000010
        CHECK e, "CR0"
        mov ax, 0
        mov es, ax
        mov eax, [es:0x500]
        test eax, eax
        CHECK z, "DS and SS are null"
        test byte [es:0x505], 0xd5
        CHECK z, "flags are clear"
        cmp dword [es:0x508], 0x300
        CHECK a, "DX has the signature"
        cmp word [es:0x510], 0xffff
        je .wide
        cmp word [es:0x510], 0x3ff
.wide:  CHECK e, "the limit of IDTR"
        mov ax, cs
        cmp ax, 0xf000
        CHECK e, "the far jump at the reset vector came here"
        call unreal
        mov edi, 0xffff0000 + marker
        a32 cmp dword [fs:edi], 0x4d52534f
        CHECK e, "the image ends at 4 GiB"
        mov edi, 0xf0000 + marker
        a32 cmp dword [fs:edi], 0x4d52534f
        CHECK e, "and is seen below 1 MiB"
        a32 mov dword [fs:edi], 0
        a32 cmp dword [fs:edi], 0x4d52534f
        CHECK e, "where it can't be written"
        mov si, plan
        call put
        mov ax, [es:0x520]
        mov dx, 0xf4
        out dx, ax
        hlt

bad:    inc word [es:0x520]
put:    mov dx, 0x3fd
.wait:  in al, dx
        test al, 0x20
        jz .wait
        lodsb
        test al, al
        jz .done
        mov dx, 0x3f8
        out dx, al
        jmp put
.done:  ret

; FS reaches 4 GiB.
unreal: o32 lgdt [gdt_pointer]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        mov bx, 8
        mov fs, bx
        and al, 0xfe
        mov cr0, eax
        ret

align 8
gdt:    dq 0, 0x008f93000000ffff
gdt_pointer:
        dw 15
        dd 0xf0000 + gdt
marker: dd 0x4d52534f
plan:   db "1..9", 10, 0

times 0xfff0 - ($ - $$) db 0xff
        jmp 0xf000:start
times 0x10000 - ($ - $$) db 0
