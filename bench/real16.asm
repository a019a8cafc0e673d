; SPDX-License-Identifier: GPL-3.0-or-later
; A BIOS image whose rows compute in real mode, at 1000:0 in RAM, data elsewhere but where a row says so. Before and after each row its
; letter goes to COM1; at the end the machine is left through port 0xf4 (bench/real16).
bits 16
org 0

%ifndef TURNS
%define TURNS 40
%endif

        mov ax, 0xf000
        mov ds, ax
        mov ax, 0x1000
        mov es, ax
        xor si, si
        xor di, di
        mov cx, 0x8000
        cld
        rep movsw
        jmp 0x1000:start

start:  mov ax, 0x2000
        mov ss, ax
        mov sp, 0xff00
        mov ax, 0x3000
        mov ds, ax
        mov ax, 0x4000
        mov es, ax

%macro ROW 2                            ; letter, function
        mov al, %1
        call tell
        mov word [0xfff0], TURNS
%%turn: call %2
        dec word [0xfff0]
        jnz %%turn
        mov al, %1 + 32
        call tell
%endmacro

        ROW 'A', sieve
        ROW 'B', checksum
        ROW 'C', calls
        ROW 'D', strings
        ROW 'E', far_calls
        ROW 'F', interrupts
        ROW 'G', beside
        ROW 'H', patched
        ROW 'I', wide
        mov al, 10
        call tell
        xor ax, ax
        mov dx, 0xf4
        out dx, ax
        hlt

tell:   push dx
        mov dx, 0x3f8
        out dx, al
        pop dx
        ret

; A: primes below 32768, bytes
sieve:  mov di, 2
        mov cx, 0x7ffe
.clear: mov byte [di], 1
        inc di
        loop .clear
        mov si, 2
.next:  cmp byte [si], 0
        je .skip
        mov di, si
.mark:  add di, si
        js .skip
        mov byte [di], 0
        jmp .mark
.skip:  inc si
        cmp si, 182
        jb .next
        ret

; B: CRC of words, by table
checksum:
        xor bx, bx
.table: mov ax, bx
        mov cx, 8
.bit:   shr ax, 1
        jnc .even
        xor ax, 0xa001
.even:  loop .bit
        mov si, bx
        shl si, 1
        mov [si + 0x8000], ax
        inc bl
        jnz .table
        mov ax, 0xffff
        xor si, si
        mov cx, 0x8000
.byte:  mov bl, al
        xor bl, [si]
        xor bh, bh
        shl bx, 1
        mov al, ah
        xor ah, ah
        xor ax, [bx + 0x8000]
        inc si
        loop .byte
        ret

; C: Fibonacci of 18, recursively, in frames
calls:  push word 18
        call fib
        add sp, 2
        ret
fib:    push bp
        mov bp, sp
        push bx
        mov ax, [bp + 4]
        cmp ax, 2
        jb .done
        dec ax
        push ax
        call fib
        add sp, 2
        mov bx, ax
        mov ax, [bp + 4]
        sub ax, 2
        push ax
        call fib
        add sp, 2
        add ax, bx
.done:  pop bx
        pop bp
        ret

; D: bytes, one by one and repeated
strings:
        xor si, si
        xor di, di
        mov cx, 0x4000
.one:   lodsb
        add al, cl
        stosb
        loop .one
        mov bp, 64
.many:  xor si, si
        mov di, 0x8000
        mov cx, 128
        rep movsw
        dec bp
        jnz .many
        ret

; E: far calls and segment loads
far_calls:
        mov cx, 4000
.next:  push ds
        mov ax, 0x5000
        mov ds, ax
        call 0x1000:.far
        pop ds
        loop .next
        ret
.far:   mov ax, [0x10]
        inc ax
        mov [0x10], ax
        retf

; F: software interrupts
interrupts:
        push ds
        xor ax, ax
        mov ds, ax
        mov word [0x60 * 4], .handler
        mov word [0x60 * 4 + 2], 0x1000
        pop ds
        mov cx, 4000
.next:  int 0x60
        loop .next
        ret
.handler:
        push ax
        mov ax, [0x20]
        add ax, 3
        mov [0x20], ax
        pop ax
        iret

; G: variables in the page of the code, as in .COM programs
beside: mov cx, 20000
        push ds
        push cs
        pop ds
.next:  mov ax, [.sum]
        add ax, cx
        mov [.sum], ax
        inc word [.count]
        adc byte [.high], 0
        loop .next
        pop ds
        ret
align 64
.sum:   dw 0
.count: dw 0
.high:  db 0
align 64

; H: an operand that is patched, as sprite routines do
patched:
        mov dx, 200
        push ds
        push cs
        pop ds
.patch: inc word [.operand + 1]
        mov cx, 100
.next:
.operand:
        mov ax, 0
        add bx, ax
        ror bx, 1
        loop .next
        dec dx
        jnz .patch
        pop ds
        ret

; I: 32-bit arithmetic and addresses
wide:   mov ecx, 20000
        mov eax, 12345
        xor ebx, ebx
.next:  mov edx, eax
        shl edx, 13
        xor eax, edx
        mov edx, eax
        shr edx, 17
        xor eax, edx
        mov edx, eax
        shl edx, 5
        xor eax, edx
        movzx esi, ax
        and si, 0x7ffc
        add [esi], eax
        add ebx, [esi + 4]
        dec ecx
        jnz .next
        ret

times 0xfff0 - ($ - $$) db 0xff
        jmp 0xf000:0
times 0x10000 - ($ - $$) db 0
