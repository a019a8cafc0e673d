/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The whole PC, driven through its ports and memory, with an engine whose CPUs never execute
 * anything: what firmware and systems expect to find, wires from end to end, requests, direct boot.
 */
#include <glib/gstdio.h>
#include <string.h>

#include "base/bits.h"
#include "machine/pc.h"

/* ---- fixture --------------------------------------------------------------------------------- */

typedef struct Fixture {
    Pc *pc;
    PcEvent event;
    int value;
    unsigned events;
    GError *error;
} Fixture;

static void record_event(void *obj, PcEvent event, int value, const char *text)
{
    Fixture *f = obj;

    f->event = event;
    f->value = value;
    f->events++;
}

static PcConfig default_config(void)
{
    return (PcConfig){.memory_size = MIB(64),
                      .cpu_count = 2,
                      .cpu_model = "x86-64-v1",
                      .engine = &engine_none,
                      .serial = {"none"},
                      .debug_exit_port = PC_DEBUG_EXIT_PORT};
}

static void build(Fixture *f, const PcConfig *config)
{
    f->pc = pc_new(config, NULL, &f->error);
    g_assert_no_error(f->error);
    pc_set_event_handler(f->pc, record_event, f);
}

static void setup(Fixture *f, gconstpointer data)
{
    PcConfig config = default_config();

    build(f, &config);
}

static void teardown(Fixture *f, gconstpointer data)
{
    pc_free(f->pc);
    g_clear_error(&f->error);
}

static uint64_t in(Fixture *f, uint16_t port, unsigned size)
{
    return space_load(f->pc->board.ports, port, size);
}

static void out(Fixture *f, uint16_t port, unsigned size, uint64_t value)
{
    space_store(f->pc->board.ports, port, size, value);
}

static uint64_t mem(Fixture *f, uint64_t address, unsigned size)
{
    return space_load(f->pc->board.memory, address, size);
}

static uint32_t config_in(Fixture *f, unsigned slot, unsigned function, unsigned offset)
{
    out(f, 0xcf8, 4, 0x80000000u | slot << 11 | function << 8 | offset);
    return in(f, 0xcfc, 4);
}

static void config_out(Fixture *f, unsigned slot, unsigned function, unsigned offset,
                       uint32_t value)
{
    out(f, 0xcf8, 4, 0x80000000u | slot << 11 | function << 8 | offset);
    out(f, 0xcfc, 4, value);
}

static uint8_t cmos(Fixture *f, uint8_t index)
{
    out(f, 0x70, 1, index);
    return in(f, 0x71, 1);
}

static void run_until_event(Fixture *f)
{
    unsigned before = f->events;

    for (unsigned i = 0; f->events == before && i < 2000; i++) {
        if (!g_main_context_iteration(NULL, false))
            g_usleep(1000);
    }
    g_assert_cmpuint(f->events, ==, before + 1);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void test_memory_map(Fixture *f, gconstpointer data)
{
    g_assert_cmphex(mem(f, 0xfffffff0, 1), ==, 0xea); /* the reset vector: a far jump */
    g_assert_cmphex(mem(f, 0xffff0, 1), ==, 0xea);
    g_assert_cmphex(mem(f, 0xffff0, 8), ==, mem(f, 0xfffffff0, 8));
    space_store(f->pc->board.memory, MIB(64) - 4, 4, 0x12345678);
    g_assert_cmphex(mem(f, MIB(64) - 4, 4), ==, 0x12345678);
    g_assert_cmphex(mem(f, MIB(64), 4), ==, 0xffffffff);
    g_assert_cmphex(mem(f, 0xfec00000, 4), !=, 0xffffffff);   /* I/O APIC */
    g_assert_cmphex(mem(f, 0xfed00000, 4) >> 16, ==, 0x8086); /* HPET */
}

static void test_pci_devices(Fixture *f, gconstpointer data)
{
    g_assert_cmphex(config_in(f, 0, 0, 0), ==, 0x12378086);
    g_assert_cmphex(config_in(f, 1, 0, 0), ==, 0x70008086);
    g_assert_cmphex(config_in(f, 1, 1, 0), ==, 0x70108086);
    g_assert_cmphex(config_in(f, 1, 1, 4) >> 16, ==, 0x0280);
    g_assert_cmphex(config_in(f, 1, 3, 0), ==, 0x71138086);
    g_assert_cmphex(config_in(f, 2, 0, 0), ==, 0x11111234);
    g_assert_cmphex(config_in(f, 1, 0, 0x0c) >> 16 & 0x80, ==, 0x80);
    g_assert_cmphex(config_in(f, 3, 0, 0), ==, 0xffffffff);
}

static void test_cmos_and_fw_cfg(Fixture *f, gconstpointer data)
{
    g_assert_cmpuint(cmos(f, 0x34) | cmos(f, 0x35) << 8, ==, (64 - 16) * 16);
    g_assert_cmpuint(cmos(f, 0x15) | cmos(f, 0x16) << 8, ==, 640);
    g_assert_cmphex(cmos(f, 0x3d), ==, 0x32); /* disk, CD-ROM */
    g_assert_cmphex(cmos(f, 0x38), ==, 0x41); /* network */
    g_assert_cmphex(cmos(f, 0x5f), ==, 1);
    out(f, 0x510, 2, 0);
    g_assert_cmphex(in(f, 0x511, 1), ==, 'Q');
    out(f, 0x510, 2, 5);
    g_assert_cmphex(in(f, 0x511, 1), ==, 2);
}

static bool pic_has_request(Fixture *f, unsigned n)
{
    out(f, n < 8 ? 0x20 : 0xa0, 1, 0x0a);
    return in(f, n < 8 ? 0x20 : 0xa0, 1) >> (n & 7) & 1;
}

static bool ioapic_asserted(Fixture *f, unsigned n)
{
    return f->pc->ioapic->lines >> n & 1;
}

/* From a PCI device's pin through the PIIX3 to both controllers. */
static void test_interrupt_wires(Fixture *f, gconstpointer data)
{
    config_out(f, 1, 0, 0x60, 0x0b0b0a0a);
    out(f, 0x4d0, 2, 0x0c00);
    /* Slot 2, INTA#: PIRQB. */
    g_rec_mutex_lock(&f->pc->lock);
    piix3_intx(f->pc->piix3, 2, 0, true);
    g_assert_true(pic_has_request(f, 10));
    g_assert_true(ioapic_asserted(f, 10));
    piix3_intx(f->pc->piix3, 2, 0, false);
    g_assert_false(pic_has_request(f, 10));
    g_assert_false(ioapic_asserted(f, 10));
    /* IRQ 0 reaches input 2 of the I/O APIC. */
    irq_set(piix3_isa_irq(f->pc->piix3, 0), true);
    g_assert_true(ioapic_asserted(f, 2));
    g_assert_false(ioapic_asserted(f, 0));
    irq_set(piix3_isa_irq(f->pc->piix3, 0), false);
    g_rec_mutex_unlock(&f->pc->lock);
}

static void ask_for_transmit_interrupts(Fixture *f, uint16_t base)
{
    out(f, base + 4, 1, 0x0b); /* DTR, RTS, OUT2 */
    out(f, base + 1, 1, 0x02);
}

/* COM1 and COM3 share IRQ 4: what one does not want, the other still gets. */
static void test_shared_serial(void)
{
    PcConfig config = default_config();
    Fixture f = {0};
    unsigned rises;

    config.serial[2] = "none";
    build(&f, &config);
    ask_for_transmit_interrupts(&f, 0x3f8);
    g_assert_true(pc_irq_level(f.pc, 4, &rises));
    out(&f, 0x3e9, 1, 0x00);
    g_assert_true(pc_irq_level(f.pc, 4, &rises));
    ask_for_transmit_interrupts(&f, 0x3e8);
    in(&f, 0x3fa, 1); /* takes COM1's request */
    g_assert_true(pc_irq_level(f.pc, 4, &rises));
    in(&f, 0x3ea, 1);
    g_assert_false(pc_irq_level(f.pc, 4, &rises));
    pc_free(f.pc);
}

static void test_power_off(Fixture *f, gconstpointer data)
{
    config_out(f, 1, 3, 0x40, 0x600);
    config_out(f, 1, 3, 0x80, 1);
    pc_resume(f->pc);
    g_rec_mutex_lock(&f->pc->lock);
    out(f, 0x604, 2, 0x2000);
    g_rec_mutex_unlock(&f->pc->lock);
    run_until_event(f);
    g_assert_cmpint(f->event, ==, PC_EVENT_POWEROFF);
    g_assert_false(f->pc->running);
}

static void test_exit(Fixture *f, gconstpointer data)
{
    pc_resume(f->pc);
    out(f, 0xf4, 1, 0x10);
    run_until_event(f);
    g_assert_cmpint(f->event, ==, PC_EVENT_EXIT);
    g_assert_cmpint(f->value, ==, 0x21);
}

static void test_reset_request(Fixture *f, gconstpointer data)
{
    config_out(f, 1, 0, 0x60, 0x0b0b0a0a);
    pc_resume(f->pc);
    out(f, 0xcf9, 1, 0x06);
    run_until_event(f);
    g_assert_cmpint(f->event, ==, PC_EVENT_RESET);
    g_assert_true(f->pc->running);
    pc_pause(f->pc);
    g_assert_cmphex(config_in(f, 1, 0, 0x60), ==, 0x80808080);
    g_assert_cmphex(((CpuState *)f->pc->vm->vcpus[0]->engine_data)->rip, ==, 0xfff0);
}

/* Every device's whole state, as a saved machine will need it. */
static void test_states(Fixture *f, gconstpointer data)
{
    g_rec_mutex_lock(&f->pc->lock);
    for (guint i = 0; i < f->pc->devices->len; i++) {
        Device *device = g_ptr_array_index(f->pc->devices, i);
        g_autoptr(GError) error = NULL;
        g_autoptr(GVariant) state = g_variant_ref_sink(device_save(device));
        device_load(device, state, &error);
        g_assert_no_error(error);
    }
    g_rec_mutex_unlock(&f->pc->lock);
}

static void test_big_memory(void)
{
    PcConfig config = default_config();
    Fixture f = {0};

    config.memory_size = GIB(8);
    build(&f, &config);
    g_assert_cmphex(f.pc->low_ram, ==, GIB(3));
    space_store(f.pc->board.memory, GIB(9) - 4, 4, 0xcafe);
    g_assert_cmphex(mem(&f, GIB(9) - 4, 4), ==, 0xcafe);
    g_assert_cmphex(mem(&f, GIB(9), 4), ==, 0xffffffff);
    g_assert_cmphex(mem(&f, GIB(3), 4), ==, 0xffffffff);
    g_assert_cmpuint(cmos(&f, 0x5b) | cmos(&f, 0x5c) << 8 | cmos(&f, 0x5d) << 16, ==,
                     5 * GIB(1) / KIB(64));
    pc_free(f.pc);
}

static void assert_refused(const PcConfig *config, const char *why)
{
    g_autoptr(GError) error = NULL;
    Pc *pc = pc_new(config, NULL, &error);

    g_assert_null(pc);
    g_assert_nonnull(strstr(error->message, why));
}

static void test_refused(void)
{
    PcConfig config = default_config();

    config.memory_size = GIB(1024 * 99);
    assert_refused(&config, "--memory");
    config = default_config();
    config.cpu_count = 33;
    assert_refused(&config, "--cpus");
    config = default_config();
    config.boot_order = "cx";
    assert_refused(&config, "boot order 'cx'");
    config = default_config();
    config.kernel = "/nonexistent/vmlinuz";
    assert_refused(&config, "/nonexistent/vmlinuz");
    config = default_config();
    config.drives[0] = (PcDrive){.path = "/nonexistent/disk.raw", .format = "raw", .index = -1};
    config.drive_count = 1;
    assert_refused(&config, "/nonexistent/disk.raw");
    for (unsigned i = 0; i < 5; i++)
        config.drives[i] = (PcDrive){.kind = PC_DRIVE_CDROM, .index = -1};
    config.drive_count = 5;
    assert_refused(&config, "IDE");
}

#define KERNEL_SIZE (5 * 512 + 4096)

static void write_in_place(const char *path, const void *data)
{
    g_assert_true(
        g_file_set_contents_full(path, data, KERNEL_SIZE, G_FILE_SET_CONTENTS_NONE, 0600, NULL));
}

static void write_kernel(const char *path)
{
    uint8_t k[KERNEL_SIZE] = {0};

    memset(k + 5 * 512, 0xf4, 4096);
    k[0x1f1] = 4;
    store_le16(k + 0x1fe, 0xaa55);
    store_le16(k + 0x200, 0x6aeb);
    memcpy(k + 0x202, "HdrS", 4);
    store_le16(k + 0x206, 0x020f);
    k[0x211] = 1;
    store_le32(k + 0x22c, 0x7fffffff);
    store_le16(k + 0x236, 1);
    store_le32(k + 0x238, 2047);
    write_in_place(path, k);
}

static void assert_booted(Fixture *f)
{
    const CpuState *state = f->pc->vm->vcpus[0]->engine_data;
    uint64_t zero_page = state->gpr[GPR_RSI];
    uint64_t rsdp = mem(f, zero_page + 0x70, 8);

    g_assert_cmphex(state->rip, ==, 0x100200);
    g_assert_cmphex(state->efer & EFER_LMA, ==, EFER_LMA);
    g_assert_cmphex(state->seg[SEG_CS].attributes & SEGMENT_L, ==, SEGMENT_L);
    g_assert_cmphex(mem(f, 0x100200, 1), ==, 0xf4);
    g_assert_cmpmem(&(uint64_t){mem(f, rsdp, 8)}, 8, "RSD PTR ", 8);
    g_assert_cmpmem(&(uint32_t){mem(f, mem(f, rsdp + 16, 4), 4)}, 4, "RSDT", 4);
    /* What firmware would have programmed. */
    g_assert_cmphex(config_in(f, 2, 0, 0x10) & ~0xfu, >=, f->pc->pci_window);
    g_assert_cmphex(config_in(f, 2, 0, 4) & 3, ==, 3);
    g_assert_cmphex(config_in(f, 1, 0, 0x60), ==, 0x0b0b0a0a);
    g_assert_cmphex(in(f, 0x608, 4), !=, 0xffffffff);
    g_assert_cmphex(in(f, 0x4d1, 1) & 0x0c, ==, 0x0c);
    g_assert_cmphex(in(f, 0xde, 1) & 1, ==, 0); /* DMA channel 4 is open: kernels leave it alone */
}

static void test_direct_boot(void)
{
    g_autofree char *folder = g_dir_make_tmp("ospite-pc-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(folder, "vmlinuz", NULL);
    PcConfig config = default_config();
    Fixture f = {0};

    write_kernel(path);
    config.kernel = path;
    config.append = "quiet";
    build(&f, &config);
    assert_booted(&f);
    /* After a reset everything is as at power-on, although the guest overwrote it. */
    memset(f.pc->ram->host + MIB(1), 0, MIB(1));
    memset(f.pc->ram->host + f.pc->low_ram - KIB(128), 0, KIB(128));
    g_assert_true(pc_reset(f.pc, NULL));
    assert_booted(&f);
    /* A reset boots what the file holds by then, and says so when that is no kernel. */
    static const uint8_t zeros[KERNEL_SIZE];
    g_autoptr(GError) error = NULL;
    write_in_place(path, zeros);
    g_assert_false(pc_reset(f.pc, &error));
    g_assert_nonnull(strstr(error->message, path));
    write_kernel(path);
    g_assert_true(pc_reset(f.pc, NULL));
    assert_booted(&f);
    pc_free(f.pc);
    g_unlink(path);
    g_rmdir(folder);
}

/* Two machines in one process share nothing. */
static void test_two_machines(void)
{
    PcConfig config = default_config();
    Fixture a = {0}, b = {0};

    build(&a, &config);
    build(&b, &config);
    space_store(a.pc->board.memory, 0x1000, 4, 1);
    g_assert_cmphex(mem(&b, 0x1000, 4), ==, 0);
    pc_resume(a.pc);
    pc_resume(b.pc);
    pc_free(a.pc);
    pc_free(b.pc);
}

#define ADD(name) g_test_add("/pc/" #name, Fixture, NULL, setup, test_##name, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(memory_map);
    ADD(pci_devices);
    ADD(cmos_and_fw_cfg);
    ADD(interrupt_wires);
    ADD(power_off);
    ADD(exit);
    ADD(reset_request);
    ADD(states);
    g_test_add_func("/pc/big-memory", test_big_memory);
    g_test_add_func("/pc/refused", test_refused);
    g_test_add_func("/pc/shared-serial", test_shared_serial);
    g_test_add_func("/pc/direct-boot", test_direct_boot);
    g_test_add_func("/pc/two-machines", test_two_machines);
    return g_test_run();
}
