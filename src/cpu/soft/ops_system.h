/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Handlers of the system instructions: privileged state, far transfers, flags, segments and port
 * I/O.
 *
 * Each checks everything the manual asks of it in every mode (privilege, CR4 bits, features of the
 * CPU model, LOCK is the decoder's), so the decoder only names them. All of them end the block
 * except those marked `next`.
 */
#pragma once

#include "cpu/soft/cpu.h"

void op_lgdt(SoftCpu *cpu, const Insn *insn);
void op_lidt(SoftCpu *cpu, const Insn *insn);
void op_sgdt(SoftCpu *cpu, const Insn *insn); /* next */
void op_sidt(SoftCpu *cpu, const Insn *insn); /* next */
void op_lldt(SoftCpu *cpu, const Insn *insn);
void op_sldt(SoftCpu *cpu, const Insn *insn); /* next */
void op_ltr(SoftCpu *cpu, const Insn *insn);
void op_str(SoftCpu *cpu, const Insn *insn);  /* next */
void op_lmsw(SoftCpu *cpu, const Insn *insn); /* rm: 16 bits */
void op_smsw(SoftCpu *cpu, const Insn *insn); /* next */
void op_verr(SoftCpu *cpu, const Insn *insn); /* next */
void op_verw(SoftCpu *cpu, const Insn *insn); /* next */
void op_lar(SoftCpu *cpu, const Insn *insn);  /* next */
void op_lsl(SoftCpu *cpu, const Insn *insn);  /* next */
void op_arpl(SoftCpu *cpu, const Insn *insn); /* next */
void op_clts(SoftCpu *cpu, const Insn *insn);
void op_mov_from_cr(SoftCpu *cpu, const Insn *insn); /* next; reg: control register, rm: GPR */
void op_mov_to_cr(SoftCpu *cpu, const Insn *insn);
void op_mov_from_dr(SoftCpu *cpu, const Insn *insn); /* next; reg: debug register, rm: GPR */
void op_mov_to_dr(SoftCpu *cpu, const Insn *insn);
void op_rdmsr(SoftCpu *cpu, const Insn *insn);
void op_wrmsr(SoftCpu *cpu, const Insn *insn);
void op_rdtsc(SoftCpu *cpu, const Insn *insn);     /* next */
void op_rdtscp(SoftCpu *cpu, const Insn *insn);    /* next */
void op_hypercall(SoftCpu *cpu, const Insn *insn); /* next; VMCALL, VMMCALL */
void op_rdpmc(SoftCpu *cpu, const Insn *insn);     /* next */
void op_cpuid(SoftCpu *cpu, const Insn *insn);     /* next */
void op_hlt(SoftCpu *cpu, const Insn *insn);
void op_invd(SoftCpu *cpu, const Insn *insn);   /* next */
void op_wbinvd(SoftCpu *cpu, const Insn *insn); /* next */
void op_invlpg(SoftCpu *cpu, const Insn *insn);
void op_invpcid(SoftCpu *cpu, const Insn *insn);
void op_swapgs(SoftCpu *cpu, const Insn *insn); /* next */
void op_syscall(SoftCpu *cpu, const Insn *insn);
void op_sysret(SoftCpu *cpu, const Insn *insn);
void op_sysenter(SoftCpu *cpu, const Insn *insn);
void op_sysexit(SoftCpu *cpu, const Insn *insn);
void op_cli(SoftCpu *cpu, const Insn *insn);   /* next */
void op_sti(SoftCpu *cpu, const Insn *insn);   /* next, unless IF was 0 */
void op_clac(SoftCpu *cpu, const Insn *insn);  /* next */
void op_stac(SoftCpu *cpu, const Insn *insn);  /* next */
void op_pushf(SoftCpu *cpu, const Insn *insn); /* next */
void op_popf(SoftCpu *cpu, const Insn *insn);
void op_in_imm(SoftCpu *cpu, const Insn *insn); /* imm: port; op_size 1, 2, 4 */
void op_in_dx(SoftCpu *cpu, const Insn *insn);
void op_out_imm(SoftCpu *cpu, const Insn *insn);
void op_out_dx(SoftCpu *cpu, const Insn *insn);
void op_far_jmp_imm(SoftCpu *cpu, const Insn *insn); /* imm: offset | selector << 32 */
void op_far_jmp_mem(SoftCpu *cpu, const Insn *insn); /* FF /5 */
void op_far_call_imm(SoftCpu *cpu, const Insn *insn);
void op_far_call_mem(SoftCpu *cpu, const Insn *insn); /* FF /3 */
void op_far_ret(SoftCpu *cpu, const Insn *insn);
void op_far_ret_imm(SoftCpu *cpu, const Insn *insn); /* imm: bytes to pop */
void op_iret(SoftCpu *cpu, const Insn *insn);
void op_int(SoftCpu *cpu, const Insn *insn); /* imm: vector */
void op_int3(SoftCpu *cpu, const Insn *insn);
void op_into(SoftCpu *cpu, const Insn *insn);
void op_int1(SoftCpu *cpu, const Insn *insn);
void op_bound(SoftCpu *cpu, const Insn *insn);        /* next */
void op_mov_from_seg(SoftCpu *cpu, const Insn *insn); /* next; 8C: reg = SEG_*, rm */
void op_mov_to_seg(SoftCpu *cpu, const Insn *insn);   /* 8E */
void op_push_seg(SoftCpu *cpu, const Insn *insn);     /* next; reg = SEG_* */
void op_pop_seg(SoftCpu *cpu, const Insn *insn);      /* reg = SEG_*, not CS */
void op_load_far_pointer(
    SoftCpu *cpu,
    const Insn *insn); /* LES LDS LSS LFS LGS: the segment follows from map and opcode */
void op_xgetbv(SoftCpu *cpu, const Insn *insn); /* next */
void op_xsetbv(SoftCpu *cpu, const Insn *insn);
void op_rdfsbase(SoftCpu *cpu, const Insn *insn); /* next; rm: GPR */
void op_rdgsbase(SoftCpu *cpu, const Insn *insn); /* next */
void op_wrfsbase(SoftCpu *cpu, const Insn *insn); /* next */
void op_wrgsbase(SoftCpu *cpu, const Insn *insn); /* next */
void op_rdpid(SoftCpu *cpu, const Insn *insn);    /* next */
void op_enter(SoftCpu *cpu, const Insn *insn);    /* next; imm: size | level << 16 */
void op_ud(SoftCpu *cpu, const Insn *insn);       /* #UD */
void op_rsm(SoftCpu *cpu, const Insn *insn);
void op_getsec(SoftCpu *cpu, const Insn *insn);

/* Raises #GP(0) unless the running code may use the ports [port, port + size): IOPL or the TSS's
 * bitmap (SDM 1 19.5). cpu->insn is set. */
void io_check(SoftCpu *cpu, uint16_t port, unsigned size);
/*
 * One access of 1, 2 or 4 bytes to a port, after io_check(). Names `insn` as the one that may
 * fault; I/O breakpoints are noted. The vCPU counts as at a safe point while the device works.
 */
uint32_t port_read(SoftCpu *cpu, const Insn *insn, uint16_t port, unsigned size);
void port_write(SoftCpu *cpu, const Insn *insn, uint16_t port, unsigned size, uint32_t value);
