; SPDX-License-Identifier: GPL-3.0-or-later
; A disk of 64 sectors; each holds a function that returns the sector's number, sixteen times over.
        bits 32
%assign sector 0
%rep 64
  %rep 16
        mov eax, sector
        ret
        align 32, int3
  %endrep
  %assign sector sector + 1
%endrep
