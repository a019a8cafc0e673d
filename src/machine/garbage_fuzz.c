/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Fuzz target: a whole PC with the interpreter boots the input, as a boot sector or as a Multiboot
 * kernel, and runs it on its vCPU thread for a moment while the main loop serves what it asks for.
 *
 * Byte 0: bit 0 Multiboot, bit 1 interrupts on. The code is embedded in sequences that talk to
 * devices, for random bytes alone seldom name a port.
 */
#include <glib/gstdio.h>
#include <string.h>

#include "base/bits.h"
#include "machine/pc.h"

#define BOOT_SECTOR   0x7c00
#define CODE_SIZE     KIB(8)
#define RUN_US        2000
#define KERNEL_HEADER 32
#define KERNEL_LOAD   MIB(1)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* mov dx, imm16; mov eax, imm32; out dx, eax (or ax, al), or in: the port from a list where the PC
 * has something. The immediates of 16-bit code differ: 66 prefixes make them equal. */
static void put_port_access(GByteArray *code, const uint8_t *data, bool is_16)
{
    static const uint16_t ports[] = {0x00,  0x08,  0x0a,  0x20,  0x21,  0x40,  0x43,  0x60,  0x61,
                                     0x64,  0x70,  0x71,  0x80,  0x92,  0xa0,  0xb2,  0x170, 0x176,
                                     0x177, 0x1ce, 0x1f0, 0x1f6, 0x1f7, 0x376, 0x3b4, 0x3c0, 0x3c4,
                                     0x3ce, 0x3d4, 0x3f2, 0x3f5, 0x3f8, 0x3fb, 0x402, 0x4d0, 0x510,
                                     0x511, 0x514, 0x604, 0xcf8, 0xcf9, 0xcfc, 0xf4};
    static const uint8_t accesses[] = {0xee, 0xef, 0xec, 0xed, 0xee, 0xef, 0x6e, 0x6c};
    uint16_t port = ports[data[0] % G_N_ELEMENTS(ports)] + (data[1] & 1);
    uint8_t move_dx[] = {0x66, 0xba, (uint8_t)port, (uint8_t)(port >> 8)};
    uint8_t move_eax[] = {0x66, 0xb8, data[2], data[3], data[4], data[5]};

    g_byte_array_append(code, move_dx + is_16, 4 - is_16);
    g_byte_array_append(code, move_eax + !is_16, 5 + is_16);
    g_byte_array_append(code, &accesses[data[1] >> 1 & 7], 1);
}

/* Twelve bytes of input at a time: six as they are, six that become an access to a port. */
static GByteArray *make_code(const uint8_t *data, size_t size, bool is_16)
{
    GByteArray *code = g_byte_array_new();

    for (; size >= 12; data += 12, size -= 12) {
        put_port_access(code, data + 6, is_16);
        g_byte_array_append(code, data, 6);
    }
    g_byte_array_append(code, data, size);
    if (code->len > CODE_SIZE)
        g_byte_array_set_size(code, CODE_SIZE);
    return code;
}

/* A Multiboot kernel with its addresses in the header (Multiboot 0.6.96, 3.1.3). */
static char *write_kernel(const GByteArray *code)
{
    g_autofree uint8_t *kernel = g_malloc0(KERNEL_HEADER + code->len);
    char *path = NULL;
    int fd = g_file_open_tmp("ospite-garbage-XXXXXX", &path, NULL);

    g_assert_cmpint(fd, >=, 0);
    close(fd);
    store_le32(kernel, 0x1badb002);
    store_le32(kernel + 4, 0x10000);
    store_le32(kernel + 8, -(0x1badb002 + 0x10000));
    store_le32(kernel + 12, KERNEL_LOAD);
    store_le32(kernel + 16, KERNEL_LOAD);
    store_le32(kernel + 28, KERNEL_LOAD + KERNEL_HEADER);
    memcpy(kernel + KERNEL_HEADER, code->data, code->len);
    g_assert_true(
        g_file_set_contents(path, (char *)kernel, (gssize)(KERNEL_HEADER + code->len), NULL));
    return path;
}

/* Where the BIOS would be when it has loaded a boot sector, without waiting for it. */
static void enter_boot_sector(Pc *pc, const GByteArray *code, bool interrupts)
{
    CpuState state;

    space_write(pc->board.memory, BOOT_SECTOR, code->data, code->len);
    for (unsigned vector = 0; vector < 256; vector++)
        space_store(pc->board.memory, vector * 4, 4, BOOT_SECTOR + vector * 29 % code->len);
    vcpu_get_state(pc->vm->vcpus[0], &state);
    state.seg[SEG_CS].selector = 0;
    state.seg[SEG_CS].base = 0;
    state.rip = BOOT_SECTOR;
    state.gpr[GPR_RSP] = 0x7000;
    state.rflags = 2 | (interrupts ? FLAG_IF : 0);
    vcpu_set_state(pc->vm->vcpus[0], &state);
}

static void run(Pc *pc)
{
    int64_t end = g_get_monotonic_time() + RUN_US;

    pc_resume(pc);
    while (g_get_monotonic_time() < end) {
        if (!g_main_context_iteration(NULL, FALSE))
            g_usleep(100);
    }
    pc_pause(pc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    bool multiboot = data[0] & 1;
    g_autoptr(GByteArray) code = make_code(data + 1, size - 1, !multiboot);
    g_autofree char *kernel = multiboot ? write_kernel(code) : NULL;
    PcConfig config = {
        .memory_size = MIB(16),
        .cpu_count = 2,
        .cpu_model = "x86-64-v3",
        .engine = &engine_interp,
        .drives = {{.kind = PC_DRIVE_CDROM, .index = -1}, {.kind = PC_DRIVE_FLOPPY, .index = -1}},
        .drive_count = 2,
        .kernel = kernel,
        .serial = {"none"},
        .parallel = {"none"},
        .debug_console = "none",
        .debug_exit_port = PC_DEBUG_EXIT_PORT,
    };
    g_autoptr(GError) error = NULL;
    g_autoptr(Pc) pc = pc_new(&config, NULL, &error);

    g_assert_no_error(error);
    if (kernel)
        g_unlink(kernel);
    else
        enter_boot_sector(pc, code, data[0] & 2);
    run(pc);
    return 0;
}
