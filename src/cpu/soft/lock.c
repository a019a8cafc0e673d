/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * LOCK where the host's own locked instruction can't be used: across cache lines or pages, and on
 * devices. The other vCPUs stand still meanwhile.
 */
#include "cpu/soft/ops.h"
#include "cpu/soft/soft_vm.h"

void lock_begin(SoftCpu *cpu, const Insn *insn, uint64_t linear, unsigned size)
{
    cpu->insn = insn;
    /* Before anything is read of a device. While this waits for its turn the translation may go
     * and the guest's tables change: then the load or store faults, and raise_fault() ends the
     * section. */
    mmu_probe(cpu, linear, size, MMU_WRITE, cpu->mmu_index);
    soft_vm_exclusive_begin(cpu->vm->vm);
    cpu->locked = true;
}

void lock_end(SoftCpu *cpu)
{
    cpu->locked = false;
    soft_vm_exclusive_end(cpu->vm->vm);
}
