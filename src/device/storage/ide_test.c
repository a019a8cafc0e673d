/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A driver for the IDE controller: PIO, bus-master DMA, packets, errors and resets. */
#include "device/storage/ide.h"

#include <errno.h>
#include <string.h>

#include "device/storage/test_disk.h"
#include "device/test_board.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size); /* ide_fuzz.c */

#define DISK_SIZE MIB(2)
#define CD_SIZE   (MIB(1) + 2048)
enum { DATA = 0x1f0, ERROR, COUNT, LBA0, LBA1, LBA2, DEVICE, STATUS, CONTROL = 0x3f6 };
enum { BM = 0xc000, CD_BASE = 0x170, CD_CONTROL = 0x376 };
enum { PRD_AT = 0x1000, MEMORY_AT = 0x100000 };

typedef struct Holder {
    HostIoHook hook;
    HostIoOp op; /* that gets the verdict */
    int verdict;
    HostIoRequest *held;
    unsigned durable_writes, syncs;
} Holder;

typedef struct Fixture {
    TestBoard *board;
    IdeController *ide;
    Disk *disk, *cd, *other_cd;
    Holder holder;
} Fixture;

static int hold(HostIoHook *hook, HostIoRequest *request)
{
    Holder *h = (Holder *)hook;
    h->durable_writes += request->op == HOST_IO_WRITE && request->durable;
    h->syncs += request->op == HOST_IO_SYNC;
    if (!h->verdict || request->op != h->op)
        return HOST_IO_RUN;
    if (h->verdict == HOST_IO_HOLD)
        h->held = request;
    return h->verdict;
}

static void map(Fixture *f, uint64_t port, Region *region)
{
    space_map(f->board->board.ports, port, region, 0, region->size, SPACE_PRIORITY_BOARD, false);
}

static void set_up(Fixture *f, gconstpointer p)
{
    TestBoard *b = f->board = test_board_new();
    f->holder.hook.before = hold;
    f->disk = test_disk_open(b, DISK_SIZE, false, &f->holder.hook);
    f->cd = test_disk_open(b, CD_SIZE, true, &f->holder.hook);
    f->other_cd = test_disk_open(b, MIB(1), true, NULL);
    f->ide = device_new(&piix3_ide_type, &b->board, "ide0");
    g_assert_true(device_create(&f->ide->pci.device, NULL));
    ide_attach_disk(f->ide, 0, 0, f->disk);
    ide_attach_cdrom(f->ide, 1, 0, f->cd);
    f->ide->channels[0].irq = test_board_irq(b, 14);
    f->ide->channels[1].irq = test_board_irq(b, 15);
    map(f, DATA, &f->ide->channels[0].command);
    map(f, CONTROL, &f->ide->channels[0].control);
    map(f, CD_BASE, &f->ide->channels[1].command);
    map(f, CD_CONTROL, &f->ide->channels[1].control);
    map(f, BM, &f->ide->bus_master);
    device_reset(&f->ide->pci.device);
    f->ide->pci.config[PCI_COMMAND] |= PCI_COMMAND_IO | PCI_COMMAND_MASTER;
}

static void tear_down(Fixture *f, gconstpointer p)
{
    device_pause(&f->ide->pci.device);
    device_free(&f->ide->pci.device);
    disk_close(f->disk);
    disk_close(f->cd);
    disk_close(f->other_cd);
    test_board_free(f->board);
}

static uint8_t in(Fixture *f, unsigned port)
{
    return test_in(f->board, port, 1);
}

static void out(Fixture *f, unsigned port, uint8_t value)
{
    test_out(f->board, port, 1, value);
}

/* Runs the main loop until BSY is clear; `base` is a command block. */
static uint8_t wait(Fixture *f, unsigned base)
{
    unsigned control = base + 0x206;
    while (in(f, control) & ATA_BSY)
        g_main_context_iteration(NULL, TRUE);
    return in(f, control);
}

static void expect_irq(Fixture *f, unsigned irq, unsigned base)
{
    g_assert_true(f->board->irq_level[irq]);
    in(f, base + 7);
    g_assert_false(f->board->irq_level[irq]);
}

static void set_lba28(Fixture *f, uint32_t lba, unsigned count)
{
    out(f, DEVICE, 0xe0 | lba >> 24);
    out(f, COUNT, count);
    out(f, LBA0, lba);
    out(f, LBA1, lba >> 8);
    out(f, LBA2, lba >> 16);
}

static void set_lba48(Fixture *f, uint64_t lba, unsigned count)
{
    out(f, DEVICE, 0xe0);
    out(f, COUNT, count >> 8);
    out(f, LBA0, lba >> 24);
    out(f, LBA1, lba >> 32);
    out(f, LBA2, lba >> 40);
    out(f, COUNT, count);
    out(f, LBA0, lba);
    out(f, LBA1, lba >> 8);
    out(f, LBA2, lba >> 16);
}

static void read_block(Fixture *f, unsigned base, uint8_t *to, size_t size)
{
    for (size_t i = 0; i < size; i += 2)
        store_le16(to + i, test_in(f->board, base, 2));
}

static void write_block(Fixture *f, unsigned base, const uint8_t *from, size_t size)
{
    for (size_t i = 0; i < size; i += 2)
        test_out(f->board, base, 2, load_le16(from + i));
}

/* ---- hard disk ------------------------------------------------------------------------------- */

static void test_identify(Fixture *f, gconstpointer p)
{
    uint8_t id[512], sum = 0;
    out(f, DEVICE, 0xa0);
    out(f, STATUS, 0xec);
    g_assert_cmphex(wait(f, DATA), ==, 0x58);
    expect_irq(f, 14, DATA);
    read_block(f, DATA, id, 512);
    g_assert_cmphex(in(f, STATUS), ==, 0x50);
    g_assert_false(f->board->irq_level[14]);
    g_assert_cmphex(load_le16(id) & 0x8000, ==, 0);
    g_assert_cmpuint(load_le16(id + 2), ==, DISK_SIZE / 512 / 16 / 63);
    g_assert_cmpuint(load_le32(id + 120), ==, DISK_SIZE / 512);
    g_assert_cmpuint(load_le64(id + 200), ==, DISK_SIZE / 512);
    g_assert_true(load_le16(id + 98) & 0x300); /* DMA and LBA */
    g_assert_cmpmem(id + 54, 16, "sOipetH ra diDks", 16);
    for (int i = 0; i < 512; i++)
        sum += id[i];
    g_assert_cmpuint(sum, ==, 0);
}

static void test_absent(Fixture *f, gconstpointer p)
{
    out(f, DEVICE, 0xb0);
    g_assert_cmphex(in(f, STATUS), ==, 0);
    out(f, COUNT, 0x55);
    g_assert_cmphex(in(f, COUNT), ==, 0);
    out(f, STATUS, 0xec);
    g_assert_cmphex(in(f, STATUS), ==, 0);
    g_assert_false(f->board->irq_level[14]);
    f->ide->channels[0].drives[0].kind = NULL;
    g_assert_cmphex(in(f, STATUS), ==, 0x7f); /* DD7 is pulled down: not busy */
    g_assert_cmphex(in(f, CONTROL), ==, 0x7f);
    f->ide->channels[0].drives[0].kind = &ata_disk_kind;
    /* a channel that is not decoded */
    out(f, DEVICE, 0xa0);
    f->ide->pci.config[0x41] = 0;
    g_assert_cmphex(in(f, STATUS), ==, 0xff);
}

static void test_pio_read(Fixture *f, gconstpointer p)
{
    uint8_t data[512];
    set_lba28(f, 7, 3);
    out(f, STATUS, 0x20);
    for (unsigned i = 0; i < 3; i++) {
        g_assert_cmphex(wait(f, DATA), ==, 0x58);
        expect_irq(f, 14, DATA); /* one for each sector */
        read_block(f, DATA, data, 512);
        g_assert_cmpuint(load_le32(data), ==, 7 + i);
    }
    g_assert_cmphex(wait(f, DATA), ==, 0x50);
    g_assert_false(f->board->irq_level[14]);
    /* CHS 0/0/8 is the same sector; 32-bit data port; nIEN */
    out(f, CONTROL, 2);
    out(f, DEVICE, 0xa0);
    out(f, COUNT, 1);
    out(f, LBA0, 8);
    out(f, LBA1, 0);
    out(f, LBA2, 0);
    out(f, STATUS, 0x20);
    wait(f, DATA);
    g_assert_false(f->board->irq_level[14]);
    g_assert_cmpuint(test_in(f->board, DATA, 4), ==, 7);
}

static void test_read_multiple(Fixture *f, gconstpointer p)
{
    uint8_t data[2048];
    out(f, DEVICE, 0xe0);
    out(f, COUNT, 4);
    out(f, STATUS, 0xc6);
    wait(f, DATA);
    expect_irq(f, 14, DATA);
    set_lba48(f, 100, 6);
    out(f, STATUS, 0x29);
    g_assert_cmphex(wait(f, DATA), ==, 0x58);
    unsigned edges = f->board->irq_edges[14];
    read_block(f, DATA, data, 2048);
    g_assert_cmpuint(load_le32(data + 3 * 512), ==, 103);
    g_assert_cmphex(wait(f, DATA), ==, 0x58);
    read_block(f, DATA, data, 1024);
    g_assert_cmpuint(load_le32(data + 512), ==, 105);
    g_assert_cmphex(wait(f, DATA), ==, 0x50);
    g_assert_cmpuint(f->board->irq_edges[14], <=, edges + 1);
    /* a block of 3 cannot be */
    out(f, COUNT, 3);
    out(f, STATUS, 0xc6);
    g_assert_cmphex(wait(f, DATA), ==, 0x51);
    g_assert_cmphex(in(f, ERROR), ==, ATA_ABRT);
}

static void test_pio_write(Fixture *f, gconstpointer p)
{
    uint8_t data[512], back[512];
    memset(data, 0x5c, 512);
    set_lba28(f, 20, 2);
    out(f, STATUS, 0x30);
    g_assert_cmphex(wait(f, DATA), ==, 0x58);
    g_assert_false(f->board->irq_level[14]); /* the first block is not announced */
    write_block(f, DATA, data, 512);
    g_assert_cmphex(wait(f, DATA), ==, 0x58);
    expect_irq(f, 14, DATA);
    write_block(f, DATA, data, 512);
    g_assert_cmphex(wait(f, DATA), ==, 0x50);
    expect_irq(f, 14, DATA);
    set_lba28(f, 21, 1);
    out(f, STATUS, 0x20);
    wait(f, DATA);
    read_block(f, DATA, back, 512);
    g_assert_cmpmem(back, 512, data, 512);
    set_lba28(f, 22, 1);
    out(f, STATUS, 0x20);
    wait(f, DATA);
    g_assert_cmpuint(test_in(f->board, DATA, 4), ==, 22);
}

static void put_prd(Fixture *f, unsigned i, uint32_t address, uint32_t bytes_and_flag)
{
    uint8_t prd[8];
    store_le32(prd, address);
    store_le32(prd + 4, bytes_and_flag);
    space_write(f->board->board.memory, PRD_AT + 8 * i, prd, 8);
}

static void start_dma(Fixture *f, unsigned bm, uint8_t direction)
{
    test_out(f->board, bm + 4, 4, PRD_AT);
    test_out(f->board, bm + 2, 1, 0x06);
    test_out(f->board, bm, 1, direction);
    test_out(f->board, bm, 1, direction | 1);
}

static uint32_t memory32(Fixture *f, uint64_t address)
{
    return space_load(f->board->board.memory, address, 4);
}

static void test_dma_read(Fixture *f, gconstpointer p)
{
    /* 260 sectors: more than the buffer; pieces of odd lengths, one of 64 KiB (0) */
    put_prd(f, 0, MEMORY_AT, 0x0202);
    put_prd(f, 1, MEMORY_AT + 0x0202, 0);
    put_prd(f, 2, MEMORY_AT + 0x10202, 0x80000000 | (260 * 512 - 0x10202));
    put_prd(f, 1, MEMORY_AT + 0x0202, 0x8000);
    put_prd(f, 2, MEMORY_AT + 0x8202, 0);
    put_prd(f, 3, MEMORY_AT + 0x18202, 0x80000000 | (260 * 512 - 0x18202));
    set_lba48(f, 3, 260);
    out(f, STATUS, 0x25);
    start_dma(f, BM, 0x08);
    g_assert_cmphex(test_in(f->board, BM + 2, 1) & 1, ==, 1);
    while (!f->board->irq_level[14])
        g_main_context_iteration(NULL, TRUE);
    g_assert_cmphex(test_in(f->board, BM + 2, 1) & 7, ==, 4); /* interrupt, not active */
    g_assert_cmphex(wait(f, DATA), ==, 0x50);
    for (unsigned i = 0; i < 260; i++)
        g_assert_cmpuint(memory32(f, MEMORY_AT + i * 512), ==, 3 + i);
    g_assert_cmpuint(memory32(f, MEMORY_AT + 260 * 512), ==, 0);
    test_out(f->board, BM + 2, 1, 4);
    g_assert_cmphex(test_in(f->board, BM + 2, 1) & 7, ==, 0);
}

static void test_dma_write(Fixture *f, gconstpointer p)
{
    for (unsigned i = 0; i < 1024; i++)
        space_store(f->board->board.memory, MEMORY_AT + i, 1, i * 5);
    put_prd(f, 0, MEMORY_AT, 0x80000000 | 1024);
    set_lba28(f, 40, 2);
    start_dma(f, BM, 0); /* before the command, as some drivers do */
    out(f, STATUS, 0xca);
    g_assert_cmphex(wait(f, DATA), ==, 0x50);
    expect_irq(f, 14, DATA);
    uint8_t back[512];
    set_lba28(f, 41, 1);
    out(f, STATUS, 0x20);
    wait(f, DATA);
    read_block(f, DATA, back, 512);
    for (unsigned i = 0; i < 512; i++)
        g_assert_cmpuint(back[i], ==, (uint8_t)((512 + i) * 5));
}

static void test_dma_short_and_bad_tables(Fixture *f, gconstpointer p)
{
    /* too short a table: the drive waits, and goes on with the next one */
    put_prd(f, 0, MEMORY_AT, 0x80000000 | 512);
    set_lba28(f, 8, 2);
    out(f, STATUS, 0xc8);
    start_dma(f, BM, 8);
    g_assert_cmphex(wait(f, DATA), ==, 0x58);
    g_assert_cmphex(test_in(f->board, BM + 2, 1) & 5, ==, 0);
    test_out(f->board, BM, 1, 0);
    put_prd(f, 0, MEMORY_AT + 512, 0x80000000 | 512);
    start_dma(f, BM, 8);
    g_assert_cmphex(wait(f, DATA), ==, 0x50);
    g_assert_cmpuint(memory32(f, MEMORY_AT + 512), ==, 9);
    test_out(f->board, BM, 1, 0);
    /* no RAM there */
    put_prd(f, 0, 0xf0000000, 0x80000000 | 512);
    set_lba28(f, 8, 1);
    out(f, STATUS, 0xc8);
    start_dma(f, BM, 8);
    wait(f, DATA);
    g_assert_cmphex(test_in(f->board, BM + 2, 1) & 3, ==, 2);
    test_out(f->board, BM, 1, 0);
    /* a table without end inside the transfer */
    for (unsigned i = 0; i < 256; i++)
        put_prd(f, i, MEMORY_AT, 2);
    set_lba28(f, 8, 256);
    out(f, STATUS, 0xc8);
    start_dma(f, BM, 8);
    wait(f, DATA);
    out(f, CONTROL, 4);
    out(f, CONTROL, 0);
    g_assert_cmphex(wait(f, DATA), ==, 0x50);
}

static void test_errors(Fixture *f, gconstpointer p)
{
    set_lba28(f, DISK_SIZE / 512 - 1, 2); /* over the end */
    out(f, STATUS, 0x20);
    g_assert_cmphex(wait(f, DATA), ==, 0x51);
    g_assert_cmphex(in(f, ERROR), ==, ATA_IDNF);
    expect_irq(f, 14, DATA);
    out(f, STATUS, 0xfe); /* no such command */
    g_assert_cmphex(wait(f, DATA), ==, 0x51);
    g_assert_cmphex(in(f, ERROR), ==, ATA_ABRT);
    f->holder.op = HOST_IO_READ;
    f->holder.verdict = -EIO;
    set_lba28(f, 0x123, 1);
    out(f, STATUS, 0x20);
    g_assert_cmphex(wait(f, DATA), ==, 0x51);
    g_assert_cmphex(in(f, ERROR), ==, ATA_UNC);
    g_assert_cmphex(in(f, LBA0), ==, 0x23);
    g_assert_cmphex(in(f, LBA1), ==, 0x01);
    /* CHS sector 0 */
    out(f, DEVICE, 0xa0);
    out(f, LBA0, 0);
    out(f, STATUS, 0x20);
    g_assert_cmphex(wait(f, DATA), ==, 0x51);
    g_assert_cmphex(in(f, ERROR), ==, ATA_IDNF);
}

static void test_flush_and_cache(Fixture *f, gconstpointer p)
{
    uint8_t data[512] = {0};
    out(f, DEVICE, 0xa0);
    out(f, STATUS, 0xe7);
    g_assert_cmphex(wait(f, DATA), ==, 0x50);
    expect_irq(f, 14, DATA);
    g_assert_cmpuint(f->holder.syncs, ==, 1);
    out(f, ERROR, 0x82); /* cache off: every write is durable */
    out(f, STATUS, 0xef);
    wait(f, DATA);
    set_lba28(f, 1, 1);
    out(f, STATUS, 0x30);
    write_block(f, DATA, data, 512);
    wait(f, DATA);
    g_assert_cmpuint(f->holder.durable_writes, ==, 1);
    f->holder.op = HOST_IO_SYNC;
    f->holder.verdict = -EIO;
    out(f, STATUS, 0xea);
    g_assert_cmphex(wait(f, DATA), ==, 0x51);
}

/* The request that a reset interrupts must not come back into the next command. */
static void test_reset_in_transfer(Fixture *f, gconstpointer p)
{
    put_prd(f, 0, MEMORY_AT, 0x80000000 | 512);
    f->holder.op = HOST_IO_READ;
    f->holder.verdict = HOST_IO_HOLD;
    set_lba28(f, 5, 1);
    out(f, STATUS, 0xc8);
    start_dma(f, BM, 8);
    out(f, CONTROL, 4);
    out(f, CONTROL, 0);
    g_assert_cmphex(in(f, CONTROL), ==, ATA_BSY);
    out(f, STATUS, 0xec); /* busy: not taken */
    f->holder.verdict = 0;
    host_io_resume(f->holder.held);
    g_assert_cmphex(wait(f, DATA), ==, 0x50);
    g_assert_cmpuint(memory32(f, MEMORY_AT), ==, 0);
    g_assert_false(f->board->irq_level[14]);
    g_assert_cmphex(in(f, ERROR), ==, 1);
    g_assert_cmphex(in(f, COUNT), ==, 1);
    g_assert_cmphex(in(f, LBA1), ==, 0);
    set_lba28(f, 6, 1);
    out(f, STATUS, 0xc8);
    g_assert_cmphex(wait(f, DATA), ==, 0x50);
    g_assert_cmpuint(memory32(f, MEMORY_AT), ==, 6);
}

/* The bus master is stopped while the disk reads: memory stays as it is. */
static void test_stop_in_transfer(Fixture *f, gconstpointer p)
{
    put_prd(f, 0, MEMORY_AT, 0x80000000 | 512);
    f->holder.op = HOST_IO_READ;
    f->holder.verdict = HOST_IO_HOLD;
    set_lba28(f, 5, 1);
    out(f, STATUS, 0xc8);
    start_dma(f, BM, 8);
    test_out(f->board, BM, 1, 0);
    host_io_resume(f->holder.held);
    g_assert_cmphex(wait(f, DATA), ==, 0x58);
    g_assert_cmpuint(memory32(f, MEMORY_AT), ==, 0);
}

static void test_trim(Fixture *f, gconstpointer p)
{
    space_store(f->board->board.memory, MEMORY_AT, 8, 50 | UINT64_C(4) << 48);
    put_prd(f, 0, MEMORY_AT, 0x80000000 | 512);
    set_lba48(f, 0, 1);
    out(f, ERROR, 1);
    out(f, STATUS, 0x06);
    start_dma(f, BM, 0);
    g_assert_cmphex(wait(f, DATA), ==, 0x50);
    set_lba28(f, 53, 1);
    out(f, STATUS, 0x20);
    wait(f, DATA);
    g_assert_cmpuint(test_in(f->board, DATA, 4), ==, 0);
    set_lba28(f, 54, 1);
    out(f, STATUS, 0x20);
    wait(f, DATA);
    g_assert_cmpuint(test_in(f->board, DATA, 4), ==, 54);
}

static void test_small_commands(Fixture *f, gconstpointer p)
{
    static const uint8_t simple[] = {0x10, 0x70, 0xe0, 0xe1, 0xe2, 0xe3, 0x40};
    for (unsigned i = 0; i < G_N_ELEMENTS(simple); i++) {
        set_lba28(f, 0, 1);
        out(f, STATUS, simple[i]);
        g_assert_cmphex(wait(f, DATA), ==, 0x50);
        expect_irq(f, 14, DATA);
    }
    out(f, STATUS, 0xe0);
    out(f, STATUS, 0xe5);
    g_assert_cmphex(in(f, COUNT), ==, 0x00); /* standby */
    out(f, DEVICE, 0xe0);
    out(f, STATUS, 0xf8);
    g_assert_cmphex(in(f, LBA0) | in(f, LBA1) << 8, ==, DISK_SIZE / 512 - 1);
    out(f, ERROR, 0xda);
    out(f, LBA1, 0x4f);
    out(f, LBA2, 0xc2);
    out(f, STATUS, 0xb0);
    g_assert_cmphex(wait(f, DATA), ==, 0x50);
    g_assert_cmphex(in(f, LBA1), ==, 0x4f);
    out(f, STATUS, 0x90);
    g_assert_cmphex(wait(f, DATA), ==, 0x50);
    g_assert_cmphex(in(f, ERROR), ==, 1);
    expect_irq(f, 14, DATA);
    /* HOB shows the previous byte until the next write */
    out(f, COUNT, 0x12);
    out(f, COUNT, 0x34);
    out(f, CONTROL, 0x80);
    g_assert_cmphex(in(f, COUNT), ==, 0x12);
    out(f, LBA0, 0);
    g_assert_cmphex(in(f, COUNT), ==, 0x34);
}

/* ---- CD-ROM ---------------------------------------------------------------------------------- */

static void send_packet(Fixture *f, const uint8_t *packet, uint8_t features, uint16_t limit)
{
    out(f, CD_BASE + 6, 0xa0);
    out(f, CD_BASE + 1, features);
    out(f, CD_BASE + 4, limit);
    out(f, CD_BASE + 5, limit >> 8);
    out(f, CD_BASE + 7, 0xa0);
    g_assert_cmphex(wait(f, CD_BASE), ==, 0x48);
    g_assert_cmphex(in(f, CD_BASE + 2) & 3, ==, 1);
    g_assert_false(f->board->irq_level[15]);
    write_block(f, CD_BASE, packet, 12);
}

/* A PIO command; returns the bytes read, or -1 with *ret_error. */
static int packet_pio(Fixture *f, const uint8_t *packet, uint8_t *to, uint16_t limit,
                      uint8_t *ret_error)
{
    int total = 0;
    send_packet(f, packet, 0, limit);
    for (;;) {
        uint8_t status = wait(f, CD_BASE);
        g_assert_cmphex(status & 0x10, ==, 0);
        expect_irq(f, 15, CD_BASE);
        if (!(status & ATA_DRQ)) {
            g_assert_cmphex(in(f, CD_BASE + 2) & 3, ==, 3);
            *ret_error = in(f, CD_BASE + 1);
            return status & ATA_ERR ? -1 : total;
        }
        g_assert_cmphex(in(f, CD_BASE + 2) & 3, ==, 2);
        unsigned size = in(f, CD_BASE + 4) | in(f, CD_BASE + 5) << 8;
        g_assert_cmpuint(size, <=, limit);
        read_block(f, CD_BASE, to + total, size);
        total += size;
    }
}

static int packet(Fixture *f, uint8_t *to, uint8_t *ret_error, unsigned b0, unsigned b4,
                  unsigned b8)
{
    uint8_t p[12] = {b0, 0, 0, 0, b4, 0, 0, 0, b8};
    return packet_pio(f, p, to, 0x8000, ret_error);
}

static void take_attention(Fixture *f)
{
    uint8_t data[64], error;
    g_assert_cmpint(packet(f, data, &error, 0, 0, 0), ==, -1);
    g_assert_cmphex(error, ==, 0x64);
    g_assert_cmpint(packet(f, data, &error, 0x03, 18, 0), ==, 18);
    g_assert_cmphex(data[2], ==, 6);
}

static void test_cd_identity(Fixture *f, gconstpointer p)
{
    uint8_t data[512], error;
    g_assert_cmphex(in(f, CD_BASE + 4), ==, 0x14);
    g_assert_cmphex(in(f, CD_BASE + 5), ==, 0xeb);
    out(f, CD_BASE + 7, 0xec);
    g_assert_cmphex(wait(f, CD_BASE) & ATA_ERR, ==, 1);
    expect_irq(f, 15, CD_BASE);
    g_assert_cmphex(in(f, CD_BASE + 4), ==, 0x14);
    out(f, CD_BASE + 7, 0xa1);
    g_assert_cmphex(wait(f, CD_BASE) & ATA_DRQ, ==, ATA_DRQ);
    expect_irq(f, 15, CD_BASE);
    read_block(f, CD_BASE, data, 512);
    g_assert_false(f->board->irq_level[15]);
    g_assert_cmphex(load_le16(data) >> 14, ==, 2); /* ATAPI */
    g_assert_cmphex(load_le16(data) >> 8 & 0x1f, ==, 5);
    g_assert_cmpint(packet(f, data, &error, 0x12, 36, 0), ==, 36);
    g_assert_cmphex(data[0], ==, 5);
    g_assert_cmphex(data[1], ==, 0x80);
    take_attention(f);
    g_assert_cmpint(packet(f, data, &error, 0, 0, 0), ==, 0);
    g_assert_cmpint(packet(f, data, &error, 0xff, 0, 0), ==, -1);
    g_assert_cmphex(error >> 4, ==, 5);
}

static void test_cd_read_pio(Fixture *f, gconstpointer p)
{
    g_autofree uint8_t *data = g_malloc0(MIB(1));
    uint8_t error;
    uint8_t read10[12] = {0x28, 0, 0, 0, 0, 2, 0, 0, 70}; /* more than the buffer */
    take_attention(f);
    g_assert_cmpint(packet_pio(f, read10, data, 0x0ffe, &error), ==, 70 * 2048);
    for (unsigned i = 0; i < 70 * 4; i++)
        g_assert_cmpuint(load_le32(data + i * 512), ==, 8 + i);
    g_assert_cmpint(packet(f, data, &error, 0x25, 0, 0), ==, 8);
    g_assert_cmpuint(load_be32(data), ==, CD_SIZE / 2048 - 1);
    g_assert_cmpuint(load_be32(data + 4), ==, 2048);
    uint8_t beyond[12] = {0xa8, 0, 0, 0, 2, 0, 0, 0, 0, 2};
    g_assert_cmpint(packet_pio(f, beyond, data, 0x8000, &error), ==, -1);
    g_assert_cmphex(error >> 4, ==, 5);
    g_assert_cmpint(packet(f, data, &error, 0x03, 18, 0), ==, 18);
    g_assert_cmphex(data[12], ==, 0x21);
    uint8_t raw[12] = {0xbe, 0, 0, 0, 0, 3, 0, 0, 2, 0xf8};
    g_assert_cmpint(packet_pio(f, raw, data, 0x8000, &error), ==, 2 * 2352);
    g_assert_cmphex(data[2352 + 14], ==, 0x04); /* frame 150 + 4 */
    g_assert_cmpuint(load_le32(data + 2352 + 16), ==, 16);
}

static void test_cd_read_dma(Fixture *f, gconstpointer p)
{
    uint8_t read10[12] = {0x28, 0, 0, 0, 0, 1, 0, 0, 2};
    take_attention(f);
    put_prd(f, 0, MEMORY_AT, 0x80000000 | 4096);
    send_packet(f, read10, 1, 0);
    start_dma(f, BM + 8, 8);
    while (!f->board->irq_level[15])
        g_main_context_iteration(NULL, TRUE);
    g_assert_cmphex(test_in(f->board, BM + 10, 1) & 7, ==, 4);
    g_assert_cmphex(in(f, CD_BASE + 7), ==, 0x40); /* bit 4 says SERVICE: never */
    g_assert_cmpuint(memory32(f, MEMORY_AT + 2048), ==, 8);
}

static void test_cd_tables(Fixture *f, gconstpointer p)
{
    uint8_t data[256], error;
    take_attention(f);
    uint8_t toc[12] = {0x43, 2, 0, 0, 0, 0, 0, 0, 100};
    g_assert_cmpint(packet_pio(f, toc, data, 0x8000, &error), ==, 20);
    g_assert_cmpuint(load_be16(data), ==, 18);
    g_assert_cmphex(data[6], ==, 1);
    g_assert_cmphex(data[10], ==, 2); /* track 1 at 0:02:00 */
    g_assert_cmphex(data[14], ==, 0xaa);
    uint8_t sessions[12] = {0x43, 0, 1, 0, 0, 0, 0, 0, 12};
    g_assert_cmpint(packet_pio(f, sessions, data, 0x8000, &error), ==, 12);
    uint8_t raw[12] = {0x43, 0, 2, 0, 0, 0, 0, 0, 255};
    g_assert_cmpint(packet_pio(f, raw, data, 0x8000, &error), ==, 48);
    g_assert_cmphex(data[7], ==, 0xa0);
    uint8_t config[12] = {0x46, 0, 0, 0, 0, 0, 0, 0, 255};
    int size = packet_pio(f, config, data, 0x8000, &error);
    g_assert_cmpint(size, ==, load_be32(data) + 4);
    g_assert_cmphex(load_be16(data + 6), ==, 0x08);
    uint8_t mode[12] = {0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 64};
    size = packet_pio(f, mode, data, 0x8000, &error);
    g_assert_cmpint(size, ==, load_be16(data) + 2);
    g_assert_cmphex(data[8], ==, 0x2a);
    static const uint8_t others[] = {0x51, 0x42, 0xbd, 0x4a, 0xbb};
    for (unsigned i = 0; i < G_N_ELEMENTS(others); i++) {
        uint8_t any[12] = {others[i], others[i] == 0x4a, 0, 0, 0x10, 0, 0, 0, 64, 64};
        g_assert_cmpint(packet_pio(f, any, data, 0x8000, &error), >=, 0);
    }
    /* MODE SELECT takes its parameters */
    uint8_t select[12] = {0x55, 0x10, 0, 0, 0, 0, 0, 0, 16};
    send_packet(f, select, 0, 0x8000);
    g_assert_cmphex(wait(f, CD_BASE) & ATA_DRQ, ==, ATA_DRQ);
    write_block(f, CD_BASE, data, 16);
    g_assert_cmphex(wait(f, CD_BASE), ==, 0x40);
}

static void test_cd_media(Fixture *f, gconstpointer p)
{
    uint8_t data[2048], error;
    uint8_t event[12] = {0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8};
    g_autoptr(GError) failure = NULL;
    take_attention(f);
    g_assert_cmpint(packet(f, data, &error, 0x1e, 1, 0), ==, 0); /* lock */
    g_assert_cmpint(packet(f, data, &error, 0x1b, 2, 0), ==, -1);
    g_assert_false(ide_change_disc(f->ide, 1, 0, f->other_cd, false, &failure));
    g_assert_nonnull(failure);
    g_assert_cmpint(packet_pio(f, event, data, 0x8000, &error), ==, 8);
    g_assert_cmphex(data[4], ==, 1); /* eject requested */
    g_assert_cmpint(packet(f, data, &error, 0x1e, 0, 0), ==, 0);
    g_assert_true(ide_change_disc(f->ide, 1, 0, f->other_cd, false, NULL));
    take_attention(f);
    g_assert_cmphex(data[2], !=, 0xff);
    g_assert_cmpint(packet(f, data, &error, 0x25, 0, 0), ==, 8);
    g_assert_cmpuint(load_be32(data), ==, 511);
    g_assert_cmpint(packet(f, data, &error, 0x1b, 2, 0), ==, 0); /* eject */
    g_assert_cmpint(packet(f, data, &error, 0, 0, 0), ==, -1);
    g_assert_cmphex(error >> 4, ==, 2);
    g_assert_cmpint(packet(f, data, &error, 0x1b, 3, 0), ==, 0); /* load */
    take_attention(f);
    g_assert_true(ide_change_disc(f->ide, 1, 0, NULL, true, NULL));
    g_assert_cmpint(packet(f, data, &error, 0, 0, 0), ==, -1);
    g_assert_cmphex(error >> 4, ==, 2);
    g_assert_cmpint(packet(f, data, &error, 0x03, 18, 0), ==, 18);
    g_assert_cmphex(data[12], ==, 0x3a);
}

static void test_dvd(Fixture *f, gconstpointer p)
{
    uint8_t data[2052], error, structure[12] = {0xad, 0, 0, 0, 0, 0, 0, 0, 2052 >> 8, 2052 & 255};
    const uint32_t blocks = 500000;
    Disk *dvd = test_disk_open_zeros(f->board, (uint64_t)blocks * 2048);
    take_attention(f);
    g_assert_cmpint(packet_pio(f, structure, data, 0x8000, &error), ==, -1); /* a CD */
    g_assert_cmphex(error >> 4, ==, 5);
    g_assert_cmpint(packet(f, data, &error, 0x03, 18, 0), ==, 18);
    g_assert_cmphex(data[12] << 8 | data[13], ==, 0x3002);
    g_assert_true(ide_change_disc(f->ide, 1, 0, dvd, false, NULL));
    take_attention(f);
    g_assert_cmpint(packet_pio(f, structure, data, 0x8000, &error), ==, 2052);
    g_assert_cmpuint(load_be16(data), ==, 2050);
    g_assert_cmphex(data[4], ==, 0x01);
    g_assert_cmphex(load_be32(data + 8), ==, 0x30000);
    g_assert_cmphex(load_be32(data + 12), ==, 0x30000 + blocks - 1);
    structure[7] = 0xff;
    g_assert_cmpint(packet_pio(f, structure, data, 0x8000, &error), ==, 16);
    g_assert_cmphex(load_be32(data + 8), ==, 0x01400008);
    structure[7] = 1;
    g_assert_cmpint(packet_pio(f, structure, data, 0x8000, &error), ==, 8);
    g_assert_cmphex(load_be32(data + 4), ==, 0);
    structure[6] = 1; /* no second layer */
    g_assert_cmpint(packet_pio(f, structure, data, 0x8000, &error), ==, -1);
    structure[6] = 0;
    structure[7] = 3;
    g_assert_cmpint(packet_pio(f, structure, data, 0x8000, &error), ==, -1);
    g_assert_true(ide_change_disc(f->ide, 1, 0, NULL, true, NULL));
    disk_close(dvd);
}

/* ---- both ------------------------------------------------------------------------------------ */

static void test_state(Fixture *f, gconstpointer p)
{
    uint8_t data[512];
    set_lba28(f, 30, 2);
    out(f, STATUS, 0x20);
    wait(f, DATA);
    read_block(f, DATA, data, 100);
    device_pause(&f->ide->pci.device);
    g_autoptr(GVariant) state = g_variant_ref_sink(device_save(&f->ide->pci.device));
    test_state_round_trip(&f->ide->pci.device);
    g_assert_true(device_load(&f->ide->pci.device, state, NULL));
    read_block(f, DATA, data + 100, 412); /* goes on in the middle of the sector */
    g_assert_cmpuint(data[511], ==, (uint8_t)(30 * 3));
    wait(f, DATA);
    g_assert_cmpuint(test_in(f->board, DATA, 4), ==, 31);
    AtaDrive *drive = &f->ide->channels[0].drives[0];
    device_pause(&f->ide->pci.device);
    drive->lba = DISK_SIZE / 512 + 5; /* off the disk */
    drive->left = 3;
    g_autoptr(GVariant) bad = g_variant_ref_sink(device_save(&f->ide->pci.device));
    g_assert_false(device_load(&f->ide->pci.device, bad, NULL));
    drive->left = 0;
    drive->data_end = ATA_BUFFER_SIZE + 1;
    g_autoptr(GVariant) worse = g_variant_ref_sink(device_save(&f->ide->pci.device));
    g_assert_false(device_load(&f->ide->pci.device, worse, NULL));
    device_reset(&f->ide->pci.device);
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
    g_autofree char *path = g_strconcat("/ide/", name, NULL);
    g_test_add(path, Fixture, NULL, set_up, test, tear_down);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add("identify", test_identify);
    add("absent", test_absent);
    add("pio-read", test_pio_read);
    add("read-multiple", test_read_multiple);
    add("pio-write", test_pio_write);
    add("dma-read", test_dma_read);
    add("dma-write", test_dma_write);
    add("dma-tables", test_dma_short_and_bad_tables);
    add("errors", test_errors);
    add("flush-and-cache", test_flush_and_cache);
    add("reset-in-transfer", test_reset_in_transfer);
    add("stop-in-transfer", test_stop_in_transfer);
    add("trim", test_trim);
    add("small-commands", test_small_commands);
    add("cd-identity", test_cd_identity);
    add("cd-read-pio", test_cd_read_pio);
    add("cd-read-dma", test_cd_read_dma);
    add("cd-tables", test_cd_tables);
    add("cd-media", test_cd_media);
    add("cd-dvd", test_dvd);
    add("state", test_state);
    add("storm", test_storm);
    return g_test_run();
}
