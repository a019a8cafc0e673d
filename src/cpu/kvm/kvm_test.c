/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The KVM engine on this host's KVM: snippets of guest code, memory, state, interrupts. Skipped
 * where there is no /dev/kvm; a snippet is skipped, saying why, where a paravirtual KVM gives up on
 * it.
 */
#include <string.h>

#include "base/bits.h"
#include "cpu/kvm/kvm_internal.h"

#define RAM_SIZE   MIB(4)
#define TIMEOUT_US (3 * G_USEC_PER_SEC)

typedef struct Machine {
    Ram *ram, *rom;
    Region ram_region, rom_region, port_region, mmio_region;
    AddressSpace *memory, *ports;
    CpuModel *model;
    Vm *vm;
    GRecMutex lock;
    GString *output;
    _Atomic bool done;       /* port 0xf4 was written */
    _Atomic unsigned writes; /* to the MMIO region */
    uint64_t mmio_value;
    _Atomic bool stopped;
    VcpuExit exit;
    _Atomic unsigned eois;
    int extint_vector;
} Machine;

/* ---- the machine ----------------------------------------------------------------------------- */

static uint64_t port_read(void *obj, uint64_t offset, unsigned size)
{
    return 0x5a + offset;
}

static void port_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    Machine *m = obj;
    if (offset == 0xe9)
        g_string_append_c(m->output, value);
    if (offset == 0xf4)
        atomic_store(&m->done, true);
}

static uint64_t mmio_read(void *obj, uint64_t offset, unsigned size)
{
    return ((Machine *)obj)->mmio_value + 1;
}

static void mmio_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    Machine *m = obj;
    m->mmio_value = value;
    m->writes++;
}

static const RegionOps port_ops = {
    .name = "ports", .read = port_read, .write = port_write, .max_access = 1};
static const RegionOps mmio_ops = {
    .name = "mmio", .read = mmio_read, .write = mmio_write, .max_access = 8};

static void on_exit_vcpu(void *obj, Vcpu *vcpu, VcpuExit exit)
{
    Machine *m = obj;
    m->exit = exit;
    atomic_store(&m->stopped, true);
}

static int acknowledge_extint(void *obj)
{
    Machine *m = obj;
    engine_kvm.set_extint(m->vm, false);
    return m->extint_vector;
}

static void count_eoi(void *obj, uint8_t vector)
{
    ((Machine *)obj)->eois++;
}

static Machine *machine_new(const char *cpu, unsigned cpus)
{
    g_autoptr(GError) error = NULL;
    bool allowed[CPU_FEATURE_COUNT];
    Machine *m = g_new0(Machine, 1);
    g_rec_mutex_init(&m->lock);
    m->output = g_string_new(NULL);
    m->ram = ram_new("ram", RAM_SIZE, &error);
    m->rom = ram_new("rom", KIB(64), &error);
    g_assert_no_error(error);
    region_init_ram(&m->ram_region, REGION_RAM, m->ram, 0, RAM_SIZE);
    region_init_ram(&m->rom_region, REGION_ROM, m->rom, 0, KIB(64));
    region_init_io(&m->port_region, &port_ops, m, &m->lock, 0x10000);
    region_init_io(&m->mmio_region, &mmio_ops, m, &m->lock, 0x1000);
    m->memory = space_new("memory", UINT64_C(1) << 36);
    m->ports = space_new("ports", 0x10000);
    space_map(m->memory, 0, &m->ram_region, 0, RAM_SIZE, SPACE_PRIORITY_RAM, false);
    space_map(m->memory, 0xf0000, &m->rom_region, 0, KIB(64), SPACE_PRIORITY_BOARD, false);
    space_map(m->memory, 0xfff0000 + 0xf0000000, &m->rom_region, 0, KIB(64), SPACE_PRIORITY_BOARD,
              false);
    space_map(m->memory, 0xd0000, &m->mmio_region, 0, 0x1000, SPACE_PRIORITY_BOARD, false);
    space_map(m->ports, 0, &m->port_region, 0, 0x10000, SPACE_PRIORITY_BOARD, false);

    engine_kvm.features(allowed);
    m->model = cpu_model_new(cpu, allowed, cpus, NULL, &error);
    g_assert_no_error(error);
    m->vm = vm_new(&engine_kvm, m->memory, m->ports, m->model, cpus, &error);
    g_assert_no_error(error);
    m->vm->obj = m;
    m->vm->on_exit = on_exit_vcpu;
    m->vm->acknowledge_extint = acknowledge_extint;
    m->vm->eoi = count_eoi;
    return m;
}

static void machine_free(Machine *m)
{
    vm_free(m->vm);
    cpu_model_free(m->model);
    space_free(m->memory);
    space_free(m->ports);
    ram_free(m->ram);
    ram_free(m->rom);
    g_rec_mutex_clear(&m->lock);
    g_string_free(m->output, TRUE);
    g_free(m);
}

static void put(Machine *m, uint64_t address, const void *bytes, size_t size)
{
    memcpy(m->ram->host + address, bytes, size);
}

/* Real mode at 0:1000 on the first CPU. */
static void start_real(Machine *m, const void *code, size_t size)
{
    CpuState state;
    put(m, 0x1000, code, size);
    vcpu_get_state(m->vm->vcpus[0], &state);
    state.seg[SEG_CS].selector = 0;
    state.seg[SEG_CS].base = 0;
    state.rip = 0x1000;
    state.gpr[GPR_RSP] = 0x8000;
    vcpu_set_state(m->vm->vcpus[0], &state);
    vm_resume(m->vm);
}

static bool wait_for(_Atomic bool *flag, Machine *m)
{
    gint64 end = g_get_monotonic_time() + TIMEOUT_US;
    while (!atomic_load(flag)) {
        if (atomic_load(&m->stopped) || g_get_monotonic_time() > end)
            return false;
        g_usleep(200);
    }
    return true;
}

/* The snippet wrote port 0xf4; else the test is skipped on hosts where KVM may fail, or failed. */
static bool finished(Machine *m)
{
    g_autofree char *why = NULL;
    if (wait_for(&m->done, m))
        return true;
    vm_pause(m->vm);
    g_autofree char *message = g_strdup_printf("the guest did not finish: %s",
                                               m->vm->vcpus[0]->error     ? m->vm->vcpus[0]->error
                                               : atomic_load(&m->stopped) ? "triple fault"
                                                                          : "no progress");
    if (engine_kvm.runs_stock_guests(&why))
        g_error("%s", message);
    g_test_skip(message);
    return false;
}

/* ---- snippets -------------------------------------------------------------------------------- */

static void test_real_mode(void)
{
    static const uint8_t code[] = {
        0xb0, 'O',  0xe6, 0xe9,             /* mov al, 'O'; out 0xe9, al */
        0xe4, 0x10, 0xe6, 0xe9,             /* in al, 0x10; out 0xe9, al */
        0xbe, 0x20, 0x10, 0xb9, 3,    0,    /* mov si, 0x1020; mov cx, 3 */
        0xba, 0xe9, 0,    0xfc, 0xf3, 0x6e, /* mov dx, 0xe9; cld; rep outsb */
        0xe6, 0xf4, 0xf4, 0xeb, 0xfd,       /* out 0xf4, al; hlt; jmp hlt */
        0,    0,    0,    0,    0,    0,    0, 'a', 'b', 'c',
    };
    Machine *m = machine_new("x86-64-v2", 1);
    start_real(m, code, sizeof(code));
    if (finished(m)) {
        vm_pause(m->vm);
        g_assert_cmpstr(m->output->str, ==, "Ojabc");
    }
    machine_free(m);
}

static void test_reset_vector(void)
{
    static const uint8_t jump[] = {0xea, 0, 0, 0, 0xf0};                     /* jmp f000:0000 */
    static const uint8_t code[] = {0xb0, 'R', 0xe6, 0xe9, 0xe6, 0xf4, 0xf4}; /* out; out; hlt */
    Machine *m = machine_new("x86-64-v1", 1);
    memcpy(m->rom->host + 0xfff0, jump, sizeof(jump));
    memcpy(m->rom->host, code, sizeof(code));
    vm_resume(m->vm);
    if (finished(m)) {
        vm_pause(m->vm);
        g_assert_cmpstr(m->output->str, ==, "R");
        vm_reset(m->vm);
        atomic_store(&m->done, false);
        vm_resume(m->vm);
        g_assert_true(wait_for(&m->done, m));
    }
    machine_free(m);
}

static void test_mmio_and_rom(void)
{
    static const uint8_t code[] = {
        0xb8, 0x00, 0xd0, 0x8e, 0xd8, /* mov ax, 0xd000; mov ds, ax */
        0xc6, 0x06, 0x10, 0x00, 0x41, /* mov byte [0x10], 'A' */
        0xa0, 0x20, 0x00, 0xe6, 0xe9, /* mov al, [0x20]; out 0xe9, al */
        0xb8, 0x00, 0xf0, 0x8e, 0xd8, /* mov ax, 0xf000; mov ds, ax */
        0xc6, 0x06, 0x00, 0x00, 0x58, /* mov byte [0], 'X' (ROM) */
        0xa0, 0x00, 0x00, 0xe6, 0xe9, /* mov al, [0]; out 0xe9, al */
        0xe6, 0xf4, 0xf4,             /* out 0xf4, al; hlt */
    };
    Machine *m = machine_new("x86-64-v2", 1);
    m->rom->host[0] = 'r';
    start_real(m, code, sizeof(code));
    if (finished(m)) {
        vm_pause(m->vm);
        g_assert_cmpstr(m->output->str, ==, "Br");
        g_assert_cmpuint(m->writes, ==, 1);
    }
    machine_free(m);
}

/* 64-bit code at 0x8000, with page tables that map the first 4 MiB to themselves in large pages. */
static void start_long(Machine *m, const void *code, size_t size)
{
    const uint64_t pml4 = 0x2003, pdpt = 0x3003, large[] = {0x83, 0x200083};
    const uint64_t gdt[] = {0, UINT64_C(0x00af9b000000ffff), UINT64_C(0x00cf93000000ffff)};
    CpuState state;
    put(m, 0x1000, &pml4, 8);
    put(m, 0x2000, &pdpt, 8);
    put(m, 0x3000, large, sizeof(large));
    put(m, 0x4000, gdt, sizeof(gdt));
    put(m, 0x8000, code, size);
    vcpu_get_state(m->vm->vcpus[0], &state);
    state.cr0 = CR0_PE | CR0_PG | CR0_ET | CR0_NE | CR0_WP;
    state.cr3 = 0x1000;
    state.cr4 = CR4_PAE;
    state.efer = EFER_LME | EFER_LMA;
    state.seg[SEG_CS] =
        (Segment){8, SEGMENT_G | SEGMENT_L | SEGMENT_P | SEGMENT_S | 0xb, 0xffffffff, 0};
    for (int i = 0; i < SEG_COUNT; i++)
        if (i != SEG_CS)
            state.seg[i] =
                (Segment){16, SEGMENT_G | SEGMENT_DB | SEGMENT_P | SEGMENT_S | 3, 0xffffffff, 0};
    state.gdtr = (DescriptorTable){0x4000, sizeof(gdt) - 1};
    state.idtr = (DescriptorTable){0x5000, 0xfff}; /* empty: any exception is a triple fault */
    state.rip = 0x8000;
    state.gpr[GPR_RSP] = 0x10000;
    vcpu_set_state(m->vm->vcpus[0], &state);
    vm_resume(m->vm);
}

static void test_long_mode(void)
{
    static const uint8_t code[] = {
        0x48, 0xb8, 0x4c, 0,    0,    0, 0, 0x80, 0xff, 0xff, /* mov rax, 0xffff80000000004c */
        0xe6, 0xe9,                                           /* out 0xe9, al */
        0xe6, 0xf4, 0xf4, 0xeb, 0xfd,                         /* out 0xf4, al; hlt; jmp hlt */
    };
    Machine *m = machine_new("x86-64-v2", 1);
    CpuState state;
    start_long(m, code, sizeof(code));
    if (finished(m)) {
        vm_pause(m->vm);
        g_assert_cmpstr(m->output->str, ==, "L");
        vcpu_get_state(m->vm->vcpus[0], &state);
        g_assert_cmphex(state.gpr[GPR_RAX], ==, UINT64_C(0xffff80000000004c));
        g_assert_true(state.efer & EFER_LMA && state.seg[SEG_CS].attributes & SEGMENT_L);
    }
    machine_free(m);
}

/* The guest sees the model's CPUID: leaf 4000_0000 spells our name in EBX, ECX, EDX. */
static void test_cpuid(void)
{
    static const uint8_t code[] = {
        0xb8, 0x00, 0x00, 0x00, 0x40, 0x31, 0xc9, 0x0f,
        0xa2,                                           /* mov eax, 40000000; xor ecx, ecx; cpuid */
        0x88, 0xd8, 0xe6, 0xe9, 0x88, 0xc8, 0xe6, 0xe9, /* mov al, bl; out; mov al, cl; out */
        0x88, 0xd0, 0xe6, 0xe9, 0xe6, 0xf4, 0xf4,       /* mov al, dl; out; out 0xf4, al; hlt */
    };
    Machine *m = machine_new("x86-64-v2", 1);
    start_long(m, code, sizeof(code));
    if (finished(m)) {
        vm_pause(m->vm);
        g_assert_cmpstr(m->output->str, ==, "Otp");
    }
    machine_free(m);
}

static void test_triple_fault(void)
{
    static const uint8_t code[] = {0x0f, 0x0b}; /* ud2 */
    Machine *m = machine_new("x86-64-v2", 1);
    start_long(m, code, sizeof(code));
    wait_for(&m->stopped, m);
    if (atomic_load(&m->stopped) && m->exit == VCPU_EXIT_SHUTDOWN)
        g_assert_null(m->vm->vcpus[0]->error);
    else
        finished(m);
    machine_free(m);
}

/* ---- interrupts ------------------------------------------------------------------------------ */

/* Handler at 0:2000: out 0xe9, 'I'; out 0xf4; iret. Vector 0x30 points there. */
static void put_handler(Machine *m)
{
    static const uint8_t handler[] = {0xb0, 'I', 0xe6, 0xe9, 0xe6, 0xf4, 0xcf};
    static const uint8_t vector[] = {0x00, 0x20, 0, 0};
    put(m, 0x2000, handler, sizeof(handler));
    put(m, 4 * 0x30, vector, sizeof(vector));
}

static const uint8_t halt_with_interrupts[] = {0xb0, 'H', 0xe6, 0xe9, 0xfb, 0xf4, 0xeb, 0xfc};

static void test_extint(void)
{
    Machine *m = machine_new("x86-64-v2", 1);
    m->extint_vector = 0x30;
    put_handler(m);
    start_real(m, halt_with_interrupts, sizeof(halt_with_interrupts));
    g_usleep(5000);
    engine_kvm.set_extint(m->vm, true);
    if (finished(m)) {
        vm_pause(m->vm);
        g_assert_cmpstr(m->output->str, ==, "HI");
    }
    machine_free(m);
}

/* A level-triggered message, and an EOI through the x2APIC's register: the IOAPIC hears of it. */
static void test_level_eoi(void)
{
    static const uint8_t code[] = {
        0xb9, 0x1b, 0x00, 0x00, 0x00, 0xb8, 0x00, 0x0d, 0xe0, 0xfe, /* ecx = 1b; eax = fee00d00 */
        0x31, 0xd2, 0x0f, 0x30,                                     /* xor edx, edx; wrmsr */
        0xb9, 0x0f, 0x08, 0x00, 0x00, 0xb8, 0xff, 0x01, 0x00, 0x00, /* ecx = 80f; eax = 1ff */
        0x0f, 0x30, 0xb0, 'H',  0xe6, 0xe9, 0xfb, 0xf4, 0xeb, 0xfd, /* wrmsr; out; sti; hlt */
    };
    static const uint8_t handler[] = {
        0xb0, 'I',  0xe6, 0xe9, 0xb9, 0x0b, 0x08, 0x00, 0x00, /* out 0xe9, 'I'; mov ecx, 80b */
        0x31, 0xc0, 0x31, 0xd2, 0x0f, 0x30, /* xor eax, eax; xor edx, edx; wrmsr */
        0xe6, 0xf4, 0x48, 0xcf,             /* out 0xf4, al; iretq */
    };
    const uint64_t gate[] = {0x9000 | 8 << 16 | UINT64_C(0x8e00) << 32, 0};
    Machine *m = machine_new("x86-64-v2", 1);
    put(m, 0x9000, handler, sizeof(handler));
    put(m, 0x5000 + 16 * 0x30, gate, sizeof(gate));
    start_long(m, code, sizeof(code));
    g_usleep(10000);
    engine_kvm.send_msi(m->vm, 0xfee00000, 1 << 15 | 1 << 14 | 0x30);
    if (finished(m)) {
        for (int i = 0; i < 1000 && !atomic_load(&m->eois); i++)
            g_usleep(1000);
        vm_pause(m->vm);
        g_assert_cmpstr(m->output->str, ==, "HI");
        g_assert_cmpuint(m->eois, ==, 1);
        Counters counters;
        vcpu_get_counters(m->vm->vcpus[0], &counters);
        g_assert_cmpuint(counters.value[COUNTER_KVM_EOIS], ==, 1);
    }
    machine_free(m);
}

/* ---- pausing, memory, state ------------------------------------------------------------------ */

static void test_pause_running(void)
{
    static const uint8_t loop[] = {0xff, 0x06, 0x00, 0x30,
                                   0xe6, 0xf4, 0xeb, 0xf8}; /* inc [0x3000]; out; jmp */
    Machine *m = machine_new("x86-64-v2", 1);
    start_real(m, loop, sizeof(loop));
    if (finished(m)) {
        for (int i = 0; i < 20; i++) {
            CpuState state;
            vm_pause(m->vm);
            vcpu_get_state(m->vm->vcpus[0], &state);
            g_assert_cmpuint(state.rip, >=, 0x1000);
            g_assert_cmpuint(state.rip, <, 0x1000 + sizeof(loop));
            uint16_t count = load_le16(m->ram->host + 0x3000);
            g_usleep(200);
            g_assert_cmpuint(load_le16(m->ram->host + 0x3000), ==, count);
            vm_resume(m->vm);
            g_usleep(200);
        }
    }
    machine_free(m);
}

static void test_dirty_log(void)
{
    static const uint8_t code[] = {
        0xe6, 0xf4,                         /* out 0xf4, al */
        0xe4, 0x10, 0xff, 0x06, 0x00, 0x50, /* again: in al, 0x10; inc [0x5000] */
        0xeb, 0xf8,                         /* jmp again */
    };
    Machine *m = machine_new("x86-64-v2", 1);
    g_autoptr(GArray) pages = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    start_real(m, code, sizeof(code));
    if (finished(m)) {
        ram_take_dirty(m->ram, RAM_CLEAN_DISPLAY, 0, RAM_SIZE, pages);
        g_assert_cmpuint(pages->len, ==, RAM_SIZE / GUEST_PAGE_SIZE);
        for (int i = 0; i < 5; i++) {
            g_usleep(20000);
            g_array_set_size(pages, 0);
            ram_take_dirty(m->ram, RAM_CLEAN_DISPLAY, 0, RAM_SIZE, pages);
            g_assert_cmpuint(pages->len, ==, 1);
            g_assert_cmpuint(g_array_index(pages, uint64_t, 0), ==, 5);
        }
    }
    machine_free(m);
}

static void test_state_round_trip_kvm(void)
{
    Machine *m = machine_new("x86-64-v2", 2);
    CpuState state, back;
    vcpu_get_state(m->vm->vcpus[1], &state);
    g_assert_cmpint(state.activity, ==, CPU_WAIT_SIPI);
    vcpu_get_state(m->vm->vcpus[0], &state);
    g_assert_cmpint(state.activity, ==, CPU_ACTIVE);
    g_assert_cmphex(state.rip, ==, 0xfff0);
    g_assert_cmphex(state.seg[SEG_CS].base, ==, 0xffff0000);
    for (int i = 0; i < 16; i++)
        state.gpr[i] = UINT64_C(0x0123456789abcdef) * (i + 1);
    for (int i = 0; i < 256; i++)
        ((uint8_t *)state.fpu.xmm)[i] = i;
    state.fpu.mxcsr = 0x1fa0;
    state.dr[2] = 0x1234;
    state.cr2 = 0xabc000;
    state.activity = CPU_HALTED;
    vcpu_set_state(m->vm->vcpus[0], &state);
    vcpu_get_state(m->vm->vcpus[0], &back);
    g_assert_cmpmem(back.gpr, sizeof(back.gpr), state.gpr, sizeof(state.gpr));
    g_assert_cmpmem(back.fpu.xmm, sizeof(back.fpu.xmm), state.fpu.xmm, sizeof(state.fpu.xmm));
    for (int i = 0; i < SEG_COUNT; i++) {
        g_assert_cmphex(back.seg[i].selector, ==, state.seg[i].selector);
        g_assert_cmphex(back.seg[i].attributes, ==, state.seg[i].attributes);
        g_assert_cmphex(back.seg[i].limit, ==, state.seg[i].limit);
        g_assert_cmphex(back.seg[i].base, ==, state.seg[i].base);
    }
    g_assert_cmphex(back.fpu.mxcsr, ==, state.fpu.mxcsr);
    g_assert_cmphex(back.dr[2], ==, state.dr[2]);
    g_assert_cmphex(back.cr2, ==, state.cr2);
    g_assert_cmphex(back.apic_base, ==, 0xfee00900);
    g_assert_cmpint(back.activity, ==, CPU_HALTED);
    machine_free(m);
}

/* INIT and SIPI by messages: the AP runs its trampoline at 0:7000. */
static void test_start_ap(void)
{
    static const uint8_t boot[] = {0xf4, 0xeb, 0xfd};
    static const uint8_t trampoline[] = {0xb0, 'A', 0xe6, 0xe9, 0xe6, 0xf4, 0xf4, 0xeb, 0xfd};
    Machine *m = machine_new("x86-64-v2", 2);
    put(m, 0x7000, trampoline, sizeof(trampoline));
    start_real(m, boot, sizeof(boot));
    engine_kvm.send_msi(m->vm, 0xfee01000, 5 << 8); /* INIT to APIC 1 */
    g_usleep(10000);
    engine_kvm.send_msi(m->vm, 0xfee01000, 6 << 8 | 7); /* SIPI */
    if (finished(m)) {
        vm_pause(m->vm);
        g_assert_cmpstr(m->output->str, ==, "A");
    }
    machine_free(m);
}

/* Exclusive sections and pauses reach CPUs that wait in the kernel. */
static void test_many_cpus(void)
{
    Machine *m = machine_new("x86-64-v2", 8);
    static const uint8_t code[] = {0xe6, 0xf4, 0xf4};
    start_real(m, code, sizeof(code));
    bool ok = finished(m);
    for (int i = 0; ok && i < 20; i++) {
        vm_exclusive_begin(m->vm, NULL);
        vm_exclusive_end(m->vm, NULL);
        vm_pause(m->vm);
        vm_resume(m->vm);
    }
    machine_free(m);
}

/* ---- the interpreter in KVM's place ---------------------------------------------------------- */

typedef struct Emulation {
    unsigned count;
    VcpuExit exit;
} Emulation;

static void emulate_work(Vcpu *vcpu, void *data)
{
    Emulation *emulation = data;
    vcpu_enter(vcpu);
    emulation->exit = kvm_emulate(vcpu, emulation->count);
    vcpu_leave(vcpu);
}

/* So many instructions of a CPU that stands. */
static VcpuExit emulate(Machine *m, unsigned count)
{
    Emulation emulation = {.count = count};
    vcpu_run_on(m->vm->vcpus[0], emulate_work, &emulation);
    return emulation.exit;
}

static void stand_at(Machine *m, const void *code, size_t size)
{
    start_real(m, code, size);
    vm_pause(m->vm);
    CpuState state;
    vcpu_get_state(m->vm->vcpus[0], &state);
    state.rip = 0x1000;
    state.activity = CPU_ACTIVE;
    vcpu_set_state(m->vm->vcpus[0], &state);
}

/* What KVM's have been known to stop at: x87 control, big real mode, a locked exchange. Registers,
 * memory, a port, a device and ROM are as after KVM itself; then KVM goes on. */
static void test_emulate(void)
{
    static const uint8_t code[] = {
        0x9b, 0xdb, 0xe3,                               /* fwait; fninit */
        0x66, 0xb8, 0x00, 0x00, 0x20, 0x00,             /* mov eax, 0x200000 */
        0x67, 0x66, 0xc7, 0x00, 0x78, 0x56, 0x34, 0x12, /* mov dword [eax], 0x12345678 */
        0xf0, 0x67, 0x0f, 0xc7, 0x08,                   /* lock cmpxchg8b [eax] */
        0xb0, 'E',  0xe6, 0xe9,                         /* out 0xe9, 'E' */
        0xbb, 0x00, 0xd0, 0x8e, 0xdb,                   /* mov bx, 0xd000; mov ds, bx */
        0xc6, 0x06, 0x10, 0x00, 0x41,                   /* mov byte [0x10], 'A' */
        0xb0, 'K',  0xe6, 0xe9, 0xe6, 0xf4, 0xf4,       /* out 0xe9, 'K'; out 0xf4; hlt */
    };
    Machine *m = machine_new("x86-64-v2", 1);
    CpuState state, after;
    stand_at(m, code, sizeof(code));
    vcpu_get_state(m->vm->vcpus[0], &state);
    state.seg[SEG_DS].limit = 0xffffffff;
    state.seg[SEG_DS].attributes |= SEGMENT_G;
    state.fpu.fcw = 0x27f;
    vcpu_set_state(m->vm->vcpus[0], &state);
    g_string_truncate(m->output, 0);
    m->writes = 0;
    g_assert_cmpint(emulate(m, 10), ==, VCPU_EXIT_KICKED);
    vcpu_get_state(m->vm->vcpus[0], &after);
    g_assert_cmphex(after.rip, ==, 0x1000 + 36);
    g_assert_cmphex(after.fpu.fcw, ==, 0x37f);
    g_assert_cmphex(load_le32(m->ram->host + 0x200000), ==, 0x12345678);
    g_assert_cmphex(after.gpr[GPR_RAX] & 0xffffff00, ==, 0x12345600);
    g_assert_false(after.rflags & FLAG_ZF);
    g_assert_cmphex(after.seg[SEG_DS].base, ==, 0xd0000);
    g_assert_cmpstr(m->output->str, ==, "E");
    g_assert_cmpuint(m->writes, ==, 1);
    g_assert_cmphex(m->mmio_value, ==, 'A');
    Counters counters;
    vcpu_get_counters(m->vm->vcpus[0], &counters);
    g_assert_cmpuint(counters.value[COUNTER_INTERPRETED], ==, 10);
    atomic_store(&m->done, false);
    vm_resume(m->vm);
    if (finished(m)) {
        vm_pause(m->vm);
        g_assert_cmpstr(m->output->str, ==, "EK");
    }
    machine_free(m);
}

/* A fault on the way is delivered, and a triple one told. */
static void test_emulate_fault(void)
{
    static const uint8_t code[] = {0x0f, 0x0b};                     /* ud2 */
    static const uint8_t handler[] = {0xb0, 'U', 0xe6, 0xe9, 0xf4}; /* out 0xe9, 'U'; hlt */
    static const uint8_t vector[] = {0x00, 0x20, 0, 0};
    Machine *m = machine_new("x86-64-v2", 1);
    CpuState state;
    put(m, 0x2000, handler, sizeof(handler));
    put(m, 4 * 6, vector, sizeof(vector));
    stand_at(m, code, sizeof(code));
    g_string_truncate(m->output, 0);
    vcpu_get_state(m->vm->vcpus[0], &state);
    state.gpr[GPR_RSP] = 0x8000;
    vcpu_set_state(m->vm->vcpus[0], &state);
    g_assert_cmpint(emulate(m, 100), ==, VCPU_EXIT_KICKED);
    g_assert_cmpstr(m->output->str, ==, "U");
    g_assert_cmphex(load_le16(m->ram->host + 0x8000 - 6), ==, 0x1000);
    vcpu_get_state(m->vm->vcpus[0], &state);
    g_assert_cmpint(state.activity, ==, CPU_HALTED);

    state.activity = CPU_ACTIVE;
    state.rip = 0x1000;
    state.idtr.limit = 0;
    vcpu_set_state(m->vm->vcpus[0], &state);
    g_assert_cmpint(emulate(m, 100), ==, VCPU_EXIT_SHUTDOWN);
    machine_free(m);
}

/* The display learns of what the interpreter writes. */
static void test_emulate_dirty(void)
{
    static const uint8_t code[] = {0xff, 0x06, 0x00,
                                   0x50, 0xeb, 0xfa}; /* again: inc [0x5000]; jmp */
    Machine *m = machine_new("x86-64-v2", 1);
    g_autoptr(GArray) pages = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    stand_at(m, code, sizeof(code));
    g_assert_cmpint(emulate(m, 4), ==, VCPU_EXIT_KICKED);
    ram_take_dirty(m->ram, RAM_CLEAN_DISPLAY, 0, RAM_SIZE, pages);
    for (int i = 0; i < 3; i++) {
        g_assert_cmpint(emulate(m, 4), ==, VCPU_EXIT_KICKED);
        g_array_set_size(pages, 0);
        ram_take_dirty(m->ram, RAM_CLEAN_DISPLAY, 0, RAM_SIZE, pages);
        g_assert_cmpuint(pages->len, ==, 1);
        g_assert_cmpuint(g_array_index(pages, uint64_t, 0), ==, 5);
    }
    machine_free(m);
}

/* ---- another engine -------------------------------------------------------------------------- */

static void change_engine(Machine *m, const Engine *engine)
{
    g_autoptr(GError) error = NULL;
    g_assert_true(vm_set_engine(m->vm, engine, &error));
    g_assert_no_error(error);
    g_assert_true(m->vm->engine == engine);
}

/* An interrupt whose delivery one engine had begun, whatever IF says, is delivered by the other. */
static void test_hand_over_event(void)
{
    static const uint8_t code[] = {0xeb, 0xfe};                                 /* jmp $ */
    static const uint8_t handler[] = {0xb0, 'H', 0xe6, 0xe9, 0xe6, 0xf4, 0xf4}; /* out; out; hlt */
    static const uint8_t vector[] = {0x00, 0x20, 0, 0};
    for (int to_kvm = 0; to_kvm < 2; to_kvm++) {
        Machine *m = machine_new("x86-64-v1", 1);
        CpuState state;
        put(m, 0x2000, handler, sizeof(handler));
        put(m, 4 * 0x30, vector, sizeof(vector));
        stand_at(m, code, sizeof(code));
        if (to_kvm)
            change_engine(m, &engine_interp);
        vcpu_get_state(m->vm->vcpus[0], &state);
        g_assert_cmpint(state.event.kind, ==, CPU_EVENT_NONE);
        state.event = (CpuEvent){.kind = CPU_EVENT_INTERRUPT, .vector = 0x30};
        vcpu_set_state(m->vm->vcpus[0], &state);
        change_engine(m, to_kvm ? &engine_kvm : &engine_interp);
        vcpu_get_state(m->vm->vcpus[0], &state);
        g_assert_cmpint(state.event.kind, ==, CPU_EVENT_INTERRUPT);
        g_assert_cmphex(state.event.vector, ==, 0x30);
        vm_resume(m->vm);
        if (finished(m)) {
            vm_pause(m->vm);
            g_assert_cmpstr(m->output->str, ==, "H");
        }
        machine_free(m);
    }
}

/* Who asked for writes before the change hears of those behind it, and of those before. */
static void test_hand_over_dirty(void)
{
    static const uint8_t code[] = {
        0xe4, 0x10, 0xff, 0x06, 0x00, 0x50, /* again: in al, 0x10; inc [0x5000] */
        0xe6, 0xf4, 0xeb, 0xf6,             /* out 0xf4, al; jmp again */
    };
    static const Engine *const engines[] = {&engine_interp, &engine_kvm, &engine_jit, &engine_kvm};
    Machine *m = machine_new("x86-64-v1", 1);
    g_autoptr(GArray) pages = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    bool alive = true;
    stand_at(m, code, sizeof(code));
    ram_take_dirty(m->ram, RAM_CLEAN_DISPLAY, 0, RAM_SIZE, NULL);
    for (unsigned i = 0; i < 2 * G_N_ELEMENTS(engines) && alive; i++) {
        if (i % 2)
            change_engine(m, engines[i / 2]);
        uint16_t count = load_le16(m->ram->host + 0x5000);
        atomic_store(&m->done, false);
        vm_resume(m->vm);
        alive = finished(m);
        vm_pause(m->vm);
        if (i % 2 == 0)
            change_engine(m, engines[(i / 2 + 1) % 2]);
        g_assert_true(!alive || load_le16(m->ram->host + 0x5000) != count);
        g_array_set_size(pages, 0);
        ram_take_dirty(m->ram, RAM_CLEAN_DISPLAY, 0, RAM_SIZE, pages);
        g_assert_true(!alive || pages->len == 1);
        g_assert_true(!alive || g_array_index(pages, uint64_t, 0) == 5);
    }
    machine_free(m);
}

/* There and back, nothing is another; the guest's counter goes on, and never back. */
static void test_hand_over_state(void)
{
    Machine *m = machine_new("x86-64-v1", 2);
    CpuState before[2], after;
    for (unsigned i = 0; i < 2; i++) {
        vcpu_get_state(m->vm->vcpus[i], &before[i]);
        for (int r = 0; r < 16; r++)
            before[i].gpr[r] = 0x1111111111111111 * r + i;
        before[i].cr2 = 0x123456789000;
        before[i].kernel_gs_base = 0xffff888012345000;
        before[i].lstar = 0xffffffff81000040;
        before[i].pat = 0x0407050600070106;
        before[i].mtrr_base[3] = 0xc0000006;
        before[i].mc_ctl[9] = 0;
        before[i].fpu.fcw = 0x27f;
        before[i].fpu.mxcsr = 0x1fa0;
        memset(before[i].fpu.xmm[7], 0xa0 + i, 16);
        before[i].dr[2] = 0x4000 + i;
        before[i].nmi_pending = i;
        vcpu_set_state(m->vm->vcpus[i], &before[i]);
        vcpu_get_state(m->vm->vcpus[i], &before[i]);
    }
    change_engine(m, &engine_jit);
    change_engine(m, &engine_kvm);
    change_engine(m, &engine_interp);
    for (unsigned i = 0; i < 2; i++) {
        vcpu_get_state(m->vm->vcpus[i], &after);
        g_assert_cmpmem(after.gpr, 128, before[i].gpr, 128);
        g_assert_cmphex(after.rip, ==, before[i].rip);
        g_assert_cmphex(after.rflags, ==, before[i].rflags);
        for (int s = 0; s < SEG_COUNT; s++) {
            g_assert_cmphex(after.seg[s].base, ==, before[i].seg[s].base);
            g_assert_cmphex(after.seg[s].limit, ==, before[i].seg[s].limit);
            g_assert_cmphex(after.seg[s].attributes, ==, before[i].seg[s].attributes);
        }
        g_assert_cmphex(after.cr0, ==, before[i].cr0);
        g_assert_cmphex(after.cr2, ==, 0x123456789000);
        g_assert_cmphex(after.kernel_gs_base, ==, 0xffff888012345000);
        g_assert_cmphex(after.lstar, ==, 0xffffffff81000040);
        g_assert_cmphex(after.pat, ==, 0x0407050600070106);
        g_assert_cmphex(after.mtrr_base[3], ==, 0xc0000006);
        g_assert_cmphex(after.mc_ctl[9], ==, 0);
        g_assert_cmphex(after.fpu.fcw, ==, 0x27f);
        g_assert_cmphex(after.fpu.mxcsr, ==, 0x1fa0);
        g_assert_cmpmem(after.fpu.xmm, 256, before[i].fpu.xmm, 256);
        g_assert_cmphex(after.dr[2], ==, 0x4000 + i);
        g_assert_cmpuint(after.nmi_pending, ==, i);
        g_assert_cmpint(after.activity, ==, before[i].activity);
        g_assert_cmphex(after.tsc, >=, before[i].tsc);
        g_assert_cmpuint(m->vm->vcpus[i]->hand_overs, ==, 3);
    }
    machine_free(m);
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_test_init(&argc, &argv, NULL);
    if (!engine_kvm.probe(&error)) {
        g_test_message("%s", error->message);
        g_print("1..0 # SKIP %s\n", error->message);
        return 0;
    }
    g_test_add_func("/cpu/kvm/state", test_state_round_trip_kvm);
    g_test_add_func("/cpu/kvm/real-mode", test_real_mode);
    g_test_add_func("/cpu/kvm/reset-vector", test_reset_vector);
    g_test_add_func("/cpu/kvm/mmio-and-rom", test_mmio_and_rom);
    g_test_add_func("/cpu/kvm/long-mode", test_long_mode);
    g_test_add_func("/cpu/kvm/cpuid", test_cpuid);
    g_test_add_func("/cpu/kvm/triple-fault", test_triple_fault);
    g_test_add_func("/cpu/kvm/extint", test_extint);
    g_test_add_func("/cpu/kvm/level-eoi", test_level_eoi);
    g_test_add_func("/cpu/kvm/pause-running", test_pause_running);
    g_test_add_func("/cpu/kvm/dirty-log", test_dirty_log);
    g_test_add_func("/cpu/kvm/start-ap", test_start_ap);
    g_test_add_func("/cpu/kvm/many-cpus", test_many_cpus);
    g_test_add_func("/cpu/kvm/emulate", test_emulate);
    g_test_add_func("/cpu/kvm/emulate-fault", test_emulate_fault);
    g_test_add_func("/cpu/kvm/emulate-dirty", test_emulate_dirty);
    g_test_add_func("/cpu/kvm/hand-over-event", test_hand_over_event);
    g_test_add_func("/cpu/kvm/hand-over-dirty", test_hand_over_dirty);
    g_test_add_func("/cpu/kvm/hand-over-state", test_hand_over_state);
    return g_test_run();
}
