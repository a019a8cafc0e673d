/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See soft_fixture.h. */
#include "cpu/soft/soft_fixture.h"

#include "cpu/vm_internal.h"

/* ---- a local APIC that says what it is told -------------------------------------------------- */

/* These may take the board lock (intc.h), so the vCPU must stand at a safe point. */
static void note_safe_point(SoftFixture *f)
{
    f->apic_in_guest |= atomic_load(&f->vcpu.sync->in_guest);
}

static bool intc_has_interrupt(void *obj)
{
    SoftFixture *f = obj;

    return f->interrupt >= 0;
}

static int intc_take_interrupt(void *obj)
{
    SoftFixture *f = obj;
    int vector = f->interrupt;

    note_safe_point(f);
    f->interrupt = -1;
    return vector;
}

static uint8_t intc_get_cr8(void *obj)
{
    SoftFixture *f = obj;

    return f->cr8;
}

static void intc_set_cr8(void *obj, uint8_t value)
{
    SoftFixture *f = obj;

    f->cr8 = value;
}

static bool intc_read_msr(void *obj, uint32_t msr, uint64_t *ret_value)
{
    SoftFixture *f = obj;

    *ret_value = f->apic_base;
    return msr == 0x1b;
}

static bool intc_write_msr(void *obj, uint32_t msr, uint64_t value)
{
    SoftFixture *f = obj;

    note_safe_point(f);
    f->apic_base = value;
    return msr == 0x1b;
}

static uint64_t intc_mmio_read(void *obj, uint64_t offset, unsigned size)
{
    SoftFixture *f = obj;

    f->apic_offset = offset;
    return f->apic_value;
}

static void intc_mmio_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    SoftFixture *f = obj;

    note_safe_point(f);
    f->apic_offset = offset;
    f->apic_value = value;
}

static uint64_t intc_apic_base(void *obj)
{
    SoftFixture *f = obj;

    return f->apic_base;
}

static const Intc fixture_intc = {
    .has_interrupt = intc_has_interrupt,
    .take_interrupt = intc_take_interrupt,
    .get_cr8 = intc_get_cr8,
    .set_cr8 = intc_set_cr8,
    .read_msr = intc_read_msr,
    .write_msr = intc_write_msr,
    .mmio_read = intc_mmio_read,
    .mmio_write = intc_mmio_write,
    .apic_base = intc_apic_base,
};

/* ---- the machine ----------------------------------------------------------------------------- */

SoftFixture *soft_fixture_new(const char *model)
{
    SoftFixture *f = g_new0(SoftFixture, 1);
    bool allowed[CPU_FEATURE_COUNT];
    GError *error = NULL;

    memset(allowed, true, sizeof(allowed));
    f->model = cpu_model_new(model, allowed, 1, NULL, &error);
    g_assert_no_error(error);
    f->ram = ram_new("test", FIXTURE_RAM_SIZE, &error);
    g_assert_no_error(error);
    f->memory = space_new("memory", UINT64_C(1) << 52);
    f->ports = space_new("ports", KIB(64));
    region_init_ram(&f->ram_region, REGION_RAM, f->ram, 0, FIXTURE_RAM_SIZE);
    space_map(f->memory, 0, &f->ram_region, 0, FIXTURE_RAM_SIZE, SPACE_PRIORITY_RAM, false);
    f->interrupt = -1;
    f->apic_base = 0xfee00900;
    f->next_table = MIB(8);
    f->vm = (Vm){.memory = f->memory, .ports = f->ports, .model = f->model, .vcpu_count = 1};
    f->vm.vcpus[0] = &f->vcpu;
    f->vm.sync = g_new0(struct VmSync, 1);
    f->vcpu = (Vcpu){.vm = &f->vm, .intc = &fixture_intc, .intc_obj = f};
    f->vcpu.sync = g_new0(struct VcpuSync, 1);
    f->soft_vm = soft_vm_new(&f->vm);
    f->cpu = soft_cpu_new(&f->vcpu, f->soft_vm);
    vcpu_adopt_thread(&f->vcpu);
    return f;
}

void soft_fixture_free(SoftFixture *f)
{
    vcpu_adopt_thread(NULL);
    soft_cpu_free(f->cpu);
    soft_vm_free(f->soft_vm);
    g_free(f->vcpu.sync);
    g_free(f->vm.sync);
    space_free(f->memory);
    space_free(f->ports);
    ram_free(f->ram);
    cpu_model_free(f->model);
    g_free(f);
}

void soft_fixture_apply(SoftFixture *f)
{
    cpu_state_loaded(f->cpu);
}

uint64_t fixture_read(SoftFixture *f, uint64_t address, unsigned size)
{
    uint64_t value = 0;

    g_assert_cmpuint(address + size, <=, FIXTURE_RAM_SIZE);
    memcpy(&value, f->ram->host + address, size);
    return value;
}

void fixture_write(SoftFixture *f, uint64_t address, unsigned size, uint64_t value)
{
    g_assert_cmpuint(address + size, <=, FIXTURE_RAM_SIZE);
    memcpy(f->ram->host + address, &value, size);
}

/* ---- modes ----------------------------------------------------------------------------------- */

uint64_t fixture_descriptor(uint32_t base, uint32_t limit, uint32_t attributes)
{
    uint32_t raw = attributes & SEGMENT_G ? limit >> 12 : limit;

    return (raw & 0xffff) | (uint64_t)(base & 0xffffff) << 16 |
           (uint64_t)(attributes & 0xf0ff) << 40 | (uint64_t)(raw >> 16 & 0xf) << 48 |
           (uint64_t)(base >> 24) << 56;
}

void fixture_set_descriptor(SoftFixture *f, uint16_t selector, uint64_t descriptor)
{
    fixture_write(f, FIXTURE_GDT + (selector & 0xfff8), 8, descriptor);
}

void fixture_set_gate(SoftFixture *f, unsigned vector, uint16_t selector, uint64_t offset,
                      uint8_t access, unsigned ist)
{
    uint64_t low = (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)ist << 32 |
                   (uint64_t)access << 40 | (offset >> 16 & 0xffff) << 48;

    if (!(f->cpu->s.efer & EFER_LMA)) {
        fixture_write(f, FIXTURE_IDT + vector * 8, 8, low);
        return;
    }
    fixture_write(f, FIXTURE_IDT + vector * 16, 8, low);
    fixture_write(f, FIXTURE_IDT + vector * 16 + 8, 8, offset >> 32);
}

static void load_segment(SoftFixture *f, Segment *seg, uint16_t selector)
{
    uint64_t word = fixture_read(f, FIXTURE_GDT + (selector & 0xfff8), 8);

    *seg = (Segment){.selector = selector, .limit = UINT32_MAX, .attributes = word >> 40 & 0xf0ff};
}

static void build_gdt(SoftFixture *f, bool long_mode)
{
    const uint32_t flat = SEGMENT_G | SEGMENT_P | SEGMENT_S | SEGMENT_ACCESSED;
    const uint32_t code =
        flat | SEGMENT_CODE | SEGMENT_READABLE | (long_mode ? SEGMENT_L : SEGMENT_DB);
    const uint32_t data = flat | SEGMENT_WRITABLE | SEGMENT_DB;

    fixture_set_descriptor(f, FIXTURE_CODE0, fixture_descriptor(0, UINT32_MAX, code));
    fixture_set_descriptor(f, FIXTURE_DATA0, fixture_descriptor(0, UINT32_MAX, data));
    fixture_set_descriptor(f, FIXTURE_CODE3, fixture_descriptor(0, UINT32_MAX, code | SEGMENT_DPL));
    fixture_set_descriptor(f, FIXTURE_DATA3, fixture_descriptor(0, UINT32_MAX, data | SEGMENT_DPL));
    fixture_set_descriptor(f, FIXTURE_TR, fixture_descriptor(FIXTURE_TSS, 0x2067, SEGMENT_P | 11));
    if (!long_mode)
        fixture_set_descriptor(f, FIXTURE_TR2,
                               fixture_descriptor(FIXTURE_TSS2, 0x67, SEGMENT_P | 9));
}

static void enter(SoftFixture *f, unsigned cpl)
{
    CpuState *s = &f->cpu->s;

    s->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_WP | (s->cr0 & CR0_PG);
    s->gdtr = (DescriptorTable){.base = FIXTURE_GDT, .limit = 0xfff};
    s->idtr = (DescriptorTable){.base = FIXTURE_IDT, .limit = 0xfff};
    s->tr = (Segment){
        .selector = FIXTURE_TR, .base = FIXTURE_TSS, .limit = 0x2067, .attributes = SEGMENT_P | 11};
    s->ldtr = (Segment){.attributes = SEGMENT_UNUSABLE};
    for (unsigned i = 0; i < SEG_COUNT; i++)
        load_segment(f, &s->seg[i], cpl ? FIXTURE_DATA3 : FIXTURE_DATA0);
    load_segment(f, &s->seg[SEG_CS], cpl ? FIXTURE_CODE3 : FIXTURE_CODE0);
    s->gpr[GPR_RSP] = cpl ? FIXTURE_STACK3 : FIXTURE_STACK0 - 0x100;
    s->rip = 0x5000;
    s->rflags = 2;
    soft_fixture_apply(f);
}

void soft_fixture_protected(SoftFixture *f, unsigned cpl)
{
    build_gdt(f, false);
    fixture_write(f, FIXTURE_TSS + 4, 4, FIXTURE_STACK0);
    fixture_write(f, FIXTURE_TSS + 8, 2, FIXTURE_DATA0);
    fixture_write(f, FIXTURE_TSS + 0x66, 2, 0x68);
    enter(f, cpl);
}

void soft_fixture_long(SoftFixture *f, unsigned cpl)
{
    CpuState *s = &f->cpu->s;
    uint64_t table = f->next_table;

    f->next_table += 3 * GUEST_PAGE_SIZE;
    fixture_write(f, table, 8, (table + 0x1000) | 7);
    fixture_write(f, table + 0x1000, 8, (table + 0x2000) | 7);
    for (unsigned i = 0; i < 2; i++)
        fixture_write(f, table + 0x2000 + i * 8, 8, MIB(2) * i | 0x87);
    s->cr3 = table;
    s->cr4 = CR4_PAE;
    s->efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
    s->cr0 = CR0_PG | CR0_PE;
    build_gdt(f, true);
    fixture_write(f, FIXTURE_TSS + 4, 8, FIXTURE_STACK0);
    fixture_write(f, FIXTURE_TSS + 0x24, 8, FIXTURE_IST1);
    fixture_write(f, FIXTURE_TSS + 0x66, 2, 0x68);
    enter(f, cpl);
}
