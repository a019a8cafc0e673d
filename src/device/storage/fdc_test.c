/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A driver for the floppy controller, with a DMA channel made of an array. */
#include "device/storage/fdc.h"

#include <errno.h>
#include <string.h>

#include "device/storage/test_disk.h"
#include "device/test_board.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size); /* fdc_fuzz.c */

#define FLOPPY_SIZE (80 * 2 * 18 * 512)
enum { DOR = 0x3f2, MSR = 0x3f4, FIFO = 0x3f5, DIGITAL_IN = 0x3f7 };
enum { MFM = 0x40, MT = 0x80 };

typedef struct Fixture {
    TestBoard *board;
    Fdc *fdc;
    Disk *disk, *protected_disk;
    uint8_t memory[65536];
    size_t dma_pos, dma_size; /* dma_size bytes, then terminal count */
    bool to_memory;
    HostIoHook hook;
    HostIoRequest *held;
    int read_verdict;
} Fixture;

static int before(HostIoHook *hook, HostIoRequest *request)
{
    Fixture *f = (Fixture *)((char *)hook - offsetof(Fixture, hook));
    if (request->op != HOST_IO_READ || !f->read_verdict)
        return HOST_IO_RUN;
    f->held = request;
    return f->read_verdict;
}

static size_t fake_dma(void *obj, uint8_t *data, size_t size, bool to_memory, bool *ret_tc)
{
    Fixture *f = obj;
    size_t n = to_memory == f->to_memory ? MIN(size, f->dma_size - f->dma_pos) : 0;
    if (to_memory)
        memcpy(f->memory + f->dma_pos, data, n);
    else
        memcpy(data, f->memory + f->dma_pos, n);
    f->dma_pos += n;
    *ret_tc = f->dma_size && f->dma_pos == f->dma_size;
    return n;
}

static uint8_t in(Fixture *f, unsigned port)
{
    return test_in(f->board, port, 1);
}

static void out(Fixture *f, unsigned port, uint8_t value)
{
    test_out(f->board, port, 1, value);
}

static void set_up(Fixture *f, gconstpointer p)
{
    TestBoard *b = f->board = test_board_new();
    f->hook.before = before;
    f->disk = test_disk_open(b, FLOPPY_SIZE, false, &f->hook);
    f->protected_disk = test_disk_open(b, FLOPPY_SIZE, true, NULL);
    f->fdc = device_new(&fdc_type, &b->board, "fdc");
    g_assert_true(device_create(&f->fdc->device, NULL));
    f->fdc->irq = test_board_irq(b, 6);
    f->fdc->dma = (FdcDma){fake_dma, f};
    g_assert_true(fdc_change_disk(f->fdc, 0, f->disk, NULL));
    space_map(b->board.ports, 0x3f0, &f->fdc->io, 0, 8, SPACE_PRIORITY_BOARD, false);
    device_reset(&f->fdc->device);
}

static void tear_down(Fixture *f, gconstpointer p)
{
    device_pause(&f->fdc->device);
    device_free(&f->fdc->device);
    disk_close(f->disk);
    disk_close(f->protected_disk);
    test_board_free(f->board);
}

static void send(Fixture *f, const uint8_t *bytes, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        g_assert_cmphex(in(f, MSR) & 0xc0, ==, 0x80);
        out(f, FIFO, bytes[i]);
    }
}

static void receive(Fixture *f, uint8_t *bytes, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        g_assert_cmphex(in(f, MSR) & 0xd0, ==, 0xd0);
        bytes[i] = in(f, FIFO);
    }
    g_assert_cmphex(in(f, MSR) & 0xd0, ==, 0x80);
}

static void wait_irq(Fixture *f)
{
    for (unsigned i = 0; !f->board->irq_level[6]; i++) {
        g_assert_cmpuint(i, <, 100000);
        clock_advance(f->board->board.clock, NS_PER_MS);
        g_main_context_iteration(NULL, f->fdc->in_flight);
    }
}

static void sense_interrupt(Fixture *f, uint8_t *result)
{
    send(f, (uint8_t[]){0x08}, 1);
    receive(f, result, 2);
}

/* Reset, four polls, 500 kbit/s, motor of drive 0 on, recalibrated. */
static void start(Fixture *f)
{
    uint8_t result[2];
    out(f, DOR, 0x00);
    g_assert_cmphex(in(f, MSR), ==, 0);
    out(f, DOR, 0x1c);
    wait_irq(f);
    for (unsigned i = 0; i < 4; i++) {
        sense_interrupt(f, result);
        g_assert_cmphex(result[0], ==, 0xc0 | i);
    }
    g_assert_false(f->board->irq_level[6]);
    out(f, DIGITAL_IN, 0);
    send(f, (uint8_t[]){0x03, 0xdf, 0x02}, 3);
    send(f, (uint8_t[]){0x07, 0x00}, 2);
    g_assert_false(f->board->irq_level[6]); /* it takes a while */
    g_assert_cmphex(in(f, MSR), ==, 0x81);
    wait_irq(f);
    sense_interrupt(f, result);
    g_assert_cmphex(result[0], ==, 0x20);
    g_assert_cmphex(result[1], ==, 0);
}

static void seek(Fixture *f, uint8_t drive, uint8_t track)
{
    uint8_t result[2];
    send(f, (uint8_t[]){0x0f, drive, track}, 3);
    wait_irq(f);
    sense_interrupt(f, result);
    g_assert_cmphex(result[0], ==, 0x20 | drive);
    g_assert_cmphex(result[1], ==, track);
}

static void transfer(Fixture *f, uint8_t command, uint8_t head, uint8_t c, uint8_t r, uint8_t eot,
                     uint8_t *result)
{
    send(f, (uint8_t[]){command, head << 2, c, head, r, 2, eot, 0x1b, 0xff}, 9);
    wait_irq(f);
    receive(f, result, 7);
    g_assert_false(f->board->irq_level[6]);
}

static void set_dma(Fixture *f, bool to_memory, size_t size)
{
    f->dma_pos = 0;
    f->dma_size = size;
    f->to_memory = to_memory;
}

static void test_read(Fixture *f, gconstpointer p)
{
    uint8_t result[7];
    start(f);
    seek(f, 0, 3);
    set_dma(f, true, 3 * 512);
    transfer(f, MFM | 0x06, 1, 3, 5, 18, result);
    g_assert_cmphex(result[0], ==, 0x04);
    g_assert_cmphex(result[1] | result[2], ==, 0);
    g_assert_cmphex(result[5], ==, 8); /* the sector after the last */
    for (unsigned i = 0; i < 3; i++)
        g_assert_cmpuint(load_le32(f->memory + i * 512), ==, (3 * 2 + 1) * 18 + 4 + i);
}

static void test_multi_track(Fixture *f, gconstpointer p)
{
    uint8_t result[7];
    start(f);
    set_dma(f, true, 36 * 512);
    transfer(f, MT | MFM | 0x06, 0, 0, 1, 18, result);
    g_assert_cmphex(result[0] & 0xc0, ==, 0);
    for (unsigned i = 0; i < 36; i++)
        g_assert_cmpuint(load_le32(f->memory + i * 512), ==, i);
    g_assert_cmphex(result[3], ==, 1); /* C + 1, H inverted, R = 1 */
    g_assert_cmphex(result[4], ==, 0);
    g_assert_cmphex(result[5], ==, 1);
}

static void test_end_of_cylinder(Fixture *f, gconstpointer p)
{
    uint8_t result[7];
    start(f);
    set_dma(f, true, 4 * 512); /* more than the track has */
    transfer(f, MFM | 0x06, 0, 0, 17, 18, result);
    g_assert_cmphex(result[0], ==, 0x40);
    g_assert_cmphex(result[1], ==, 0x80);
    g_assert_cmpuint(load_le32(f->memory + 512), ==, 17);
}

static void test_write(Fixture *f, gconstpointer p)
{
    uint8_t result[7];
    start(f);
    memset(f->memory, 0xd7, 1024);
    set_dma(f, false, 1024);
    transfer(f, MFM | 0x05, 0, 0, 2, 18, result);
    g_assert_cmphex(result[0], ==, 0);
    memset(f->memory, 0, sizeof(f->memory));
    set_dma(f, true, 3 * 512);
    transfer(f, MFM | 0x06, 0, 0, 2, 18, result);
    g_assert_cmphex(f->memory[1023], ==, 0xd7);
    g_assert_cmpuint(load_le32(f->memory + 1024), ==, 3);
}

static void test_format(Fixture *f, gconstpointer p)
{
    uint8_t result[7];
    start(f);
    for (unsigned i = 0; i < 18; i++)
        memcpy(f->memory + 4 * i, (uint8_t[]){0, 0, i + 1, 2}, 4);
    set_dma(f, false, 18 * 4);
    send(f, (uint8_t[]){MFM | 0x0d, 0, 2, 18, 0x54, 0xf6}, 6);
    wait_irq(f);
    receive(f, result, 7);
    g_assert_cmphex(result[0], ==, 0);
    set_dma(f, true, 18 * 512);
    transfer(f, MFM | 0x06, 0, 0, 1, 18, result);
    for (unsigned i = 0; i < 18 * 512; i++)
        g_assert_cmphex(f->memory[i], ==, 0xf6);
}

static void test_read_id_and_rates(Fixture *f, gconstpointer p)
{
    uint8_t result[7];
    start(f);
    send(f, (uint8_t[]){MFM | 0x0a, 0}, 2);
    wait_irq(f);
    receive(f, result, 7);
    g_assert_cmphex(result[0], ==, 0);
    g_assert_cmphex(result[6], ==, 2);
    out(f, DIGITAL_IN, 2); /* 250 kbit/s does not read a 1.44 MB disk */
    send(f, (uint8_t[]){MFM | 0x0a, 0}, 2);
    wait_irq(f);
    receive(f, result, 7);
    g_assert_cmphex(result[0] & 0xc0, ==, 0x40);
    g_assert_cmphex(result[1], ==, 0x01);
}

static void test_errors(Fixture *f, gconstpointer p)
{
    uint8_t result[7];
    start(f);
    set_dma(f, true, 512);
    transfer(f, MFM | 0x06, 0, 5, 1, 18, result); /* the head is on track 0 */
    g_assert_cmphex(result[0] & 0xc0, ==, 0x40);
    g_assert_cmphex(result[1], ==, 0x04);
    g_assert_cmphex(result[2], ==, 0x10);
    transfer(f, MFM | 0x06, 0, 0, 19, 20, result);
    g_assert_cmphex(result[1], ==, 0x04);
    set_dma(f, false, 512); /* the channel goes the other way */
    transfer(f, MFM | 0x06, 0, 0, 1, 18, result);
    g_assert_cmphex(result[1], ==, 0x10);
    set_dma(f, true, 512);
    f->read_verdict = -EIO;
    transfer(f, MFM | 0x06, 0, 0, 1, 18, result);
    g_assert_cmphex(result[1] & 0x20, ==, 0x20);
    f->read_verdict = 0;
    g_assert_true(fdc_change_disk(f->fdc, 0, f->protected_disk, NULL));
    set_dma(f, false, 512);
    transfer(f, MFM | 0x05, 0, 0, 1, 18, result);
    g_assert_cmphex(result[1], ==, 0x02);
    send(f, (uint8_t[]){0x04, 0}, 2);
    receive(f, result, 1);
    g_assert_cmphex(result[0], ==, 0x78);
    send(f, (uint8_t[]){0x1f}, 1); /* no such command */
    receive(f, result, 1);
    g_assert_cmphex(result[0], ==, 0x80);
    for (unsigned i = 1; i < 4; i += 2) { /* drives that are not there */
        send(f, (uint8_t[]){0x07, i}, 2);
        wait_irq(f);
        send(f, (uint8_t[]){0x08}, 1);
        receive(f, result, 2);
        g_assert_cmphex(result[0], ==, 0x70 | i);
        send(f, (uint8_t[]){0x04, i}, 2);
        receive(f, result, 1);
        g_assert_cmphex(result[0] & 0x10, ==, 0);
    }
    g_assert_true(fdc_change_disk(f->fdc, 1, NULL, NULL)); /* an empty drive is there */
    send(f, (uint8_t[]){0x07, 0x01}, 2);
    wait_irq(f);
    send(f, (uint8_t[]){0x08}, 1);
    receive(f, result, 2);
    g_assert_cmphex(result[0], ==, 0x21);
}

static void test_non_dma(Fixture *f, gconstpointer p)
{
    uint8_t result[7];
    start(f);
    send(f, (uint8_t[]){0x03, 0xdf, 0x03}, 3);
    send(f, (uint8_t[]){MFM | 0x06, 0, 0, 0, 18, 2, 18, 0x1b, 0xff}, 9);
    wait_irq(f);
    for (unsigned i = 0; i < 512; i++) {
        g_assert_cmphex(in(f, MSR), ==, 0xf0);
        f->memory[i] = in(f, FIFO);
    }
    g_assert_cmpuint(load_le32(f->memory), ==, 17);
    wait_irq(f);
    receive(f, result, 7);
    g_assert_cmphex(result[1], ==, 0x80); /* nobody says terminal count */
}

static void test_disk_change(Fixture *f, gconstpointer p)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Disk) large = test_disk_open(f->board, MIB(4), true, NULL);
    g_autoptr(Disk) small = test_disk_open(f->board, 720 * 1024, true, NULL);
    out(f, DOR, 0x1c);
    g_assert_cmphex(in(f, DIGITAL_IN), ==, 0x80);
    start(f);
    g_assert_cmphex(in(f, DIGITAL_IN), ==, 0); /* a step with a disk in clears it */
    g_assert_true(fdc_change_disk(f->fdc, 0, small, NULL));
    g_assert_cmphex(in(f, DIGITAL_IN), ==, 0x80);
    g_assert_cmpuint(f->fdc->drives[0].geometry.sectors, ==, 9);
    g_assert_cmpuint(f->fdc->drives[0].geometry.cylinders, ==, 80);
    g_assert_false(fdc_change_disk(f->fdc, 0, large, &error));
    g_assert_nonnull(strstr(error->message, "larger than any floppy"));
    g_assert_true(fdc_change_disk(f->fdc, 0, NULL, NULL));
    seek(f, 0, 1);
    g_assert_cmphex(in(f, DIGITAL_IN), ==, 0x80);
}

static void test_registers(Fixture *f, gconstpointer p)
{
    uint8_t result[10];
    start(f);
    send(f, (uint8_t[]){0x10}, 1);
    receive(f, result, 1);
    g_assert_cmphex(result[0], ==, 0x90);
    send(f, (uint8_t[]){0x13, 0, 0x57, 0}, 4);
    send(f, (uint8_t[]){0x94}, 1);
    receive(f, result, 1);
    g_assert_cmphex(result[0], ==, 0x10);
    send(f, (uint8_t[]){0x0e}, 1);
    receive(f, result, 10);
    g_assert_cmphex(result[7] & 0x80, ==, 0x80);
    g_assert_cmphex(result[8], ==, 0x57);
    out(f, MSR, 0x80); /* a locked configuration survives a soft reset; it has polling off */
    clock_advance(f->board->board.clock, NS_PER_S);
    g_assert_false(f->board->irq_level[6]);
    send(f, (uint8_t[]){0x0e}, 1);
    receive(f, result, 10);
    g_assert_cmphex(result[8], ==, 0x57);
    set_dma(f, true, 512);
    send(f, (uint8_t[]){MFM | 0x16, 0, 0, 0, 1, 2, 18, 0x1b, 0xff}, 9); /* VERIFY */
    wait_irq(f);
    receive(f, result, 7);
    g_assert_cmphex(result[0], ==, 0);
    g_assert_cmpuint(f->dma_pos, ==, 0);
}

static void test_reset_in_transfer(Fixture *f, gconstpointer p)
{
    uint8_t result[7];
    start(f);
    set_dma(f, true, 512);
    f->read_verdict = HOST_IO_HOLD;
    send(f, (uint8_t[]){MFM | 0x06, 0, 0, 0, 1, 2, 18, 0x1b, 0xff}, 9);
    out(f, DOR, 0x00);
    out(f, DOR, 0x1c);
    g_assert_cmphex(in(f, MSR), ==, 0);
    f->read_verdict = 0;
    host_io_resume(f->held);
    device_pause(&f->fdc->device);
    g_assert_cmpuint(f->dma_pos, ==, 0);
    g_assert_cmphex(in(f, MSR), ==, 0x80);
    start(f);
    transfer(f, MFM | 0x06, 0, 0, 9, 18, result);
    g_assert_cmpuint(load_le32(f->memory), ==, 8);
}

static void test_state(Fixture *f, gconstpointer p)
{
    start(f);
    send(f, (uint8_t[]){MFM | 0x06, 0, 0}, 3);
    g_autoptr(GVariant) state = g_variant_ref_sink(device_save(&f->fdc->device));
    test_state_round_trip(&f->fdc->device);
    f->fdc->fifo_length = 200;
    g_autoptr(GVariant) bad = g_variant_ref_sink(device_save(&f->fdc->device));
    g_assert_false(device_load(&f->fdc->device, bad, NULL));
    f->fdc->fifo_length = 0;
    f->fdc->phase = FDC_DATA_IN;
    f->fdc->data_size = 600;
    g_autoptr(GVariant) worse = g_variant_ref_sink(device_save(&f->fdc->device));
    g_assert_false(device_load(&f->fdc->device, worse, NULL));
    g_assert_true(device_load(&f->fdc->device, state, NULL));
    set_dma(f, true, 512);
    uint8_t result[7];
    send(f, (uint8_t[]){0, 4, 2, 18, 0x1b, 0xff}, 6);
    wait_irq(f);
    receive(f, result, 7);
    g_assert_cmpuint(load_le32(f->memory), ==, 3);
}

static void test_storm(Fixture *f, gconstpointer p)
{
    enum { STORMS = 20, SIZE = 12 * 1000 };
    g_autofree uint8_t *bytes = g_malloc(SIZE);
    for (unsigned round = 0; round < STORMS; round++) {
        for (unsigned i = 0; i < SIZE; i++)
            bytes[i] = g_test_rand_int();
        LLVMFuzzerTestOneInput(bytes, SIZE);
    }
}

static void add(const char *name, void (*test)(Fixture *, gconstpointer))
{
    g_autofree char *path = g_strconcat("/fdc/", name, NULL);
    g_test_add(path, Fixture, NULL, set_up, test, tear_down);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add("read", test_read);
    add("multi-track", test_multi_track);
    add("end-of-cylinder", test_end_of_cylinder);
    add("write", test_write);
    add("format", test_format);
    add("read-id-and-rates", test_read_id_and_rates);
    add("errors", test_errors);
    add("non-dma", test_non_dma);
    add("disk-change", test_disk_change);
    add("registers", test_registers);
    add("reset-in-transfer", test_reset_in_transfer);
    add("state", test_state);
    add("storm", test_storm);
    return g_test_run();
}
