/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Writes to the local APIC by instructions that no KVM emulates: another engine must go on. */
#include "lib.h"

void ap_main(int index)
{
}

int main(void)
{
    const uint32_t priority = 0x20, back = 0;

    idt_init();
    apic_enable();
    WRITE_CR(0, (READ_CR(0) & ~4l) | 2);
    WRITE_CR(4, READ_CR(4) | 0x600);
    ok(TRY("fninit; fildl (%%rdi); fistpl (%%rsi)", ::"D"(&priority), "S"(0xfee00080l)CLOBBER) ==
               -1 &&
           apic_read(0x80) == priority,
       "FISTP to the task priority");
    ok((apic_read(0xf0) & 0x100) && apic_read(0x20) == 0, "the local APIC is what it was");
    ok(TRY("fildl (%%rdi); fistpl (%%rsi)", ::"D"(&back), "S"(0xfee00080l)CLOBBER) == -1 &&
           apic_read(0x80) == 0,
       "and once more");
    return done();
}
