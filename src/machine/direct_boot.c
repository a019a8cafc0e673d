/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Booting without firmware: files, kinds, placing. See direct_boot.h and boot_loader.h.
 *
 * Invariant: whatever a file says, bytes are written only to what E820 calls RAM, and never over
 * the boot area.
 */
#include "machine/direct_boot.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdarg.h>
#include <string.h>

#include "base/bits.h"
#include "base/fd.h"
#include "base/i18n.h"
#include "machine/boot_loader.h"
#include "machine/input_file.h"

#define BOOT_KERNEL_MAX   MIB(512)
#define BOOT_MODULE_BYTES GIB(3)
#define BOOT_APPEND_MAX   KIB(16)

/* Most specific first: a Multiboot kernel may also be an ELF file with a PVH note. */
static const BootKind *const boot_kinds[] = {&boot_linux_real, &boot_linux, &boot_multiboot,
                                             &boot_pvh};

bool boot_fail(const DirectBoot *boot, GError **error, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    g_autofree char *text = g_strdup_vprintf(_(format), arguments);
    va_end(arguments);
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, _("cannot boot kernel %s: %s"),
                boot->kernel.name, text);
    return false;
}

/* ---- placing --------------------------------------------------------------------------------- */

bool boot_is_ram(const DirectBoot *boot, uint64_t start, uint64_t size)
{
    for (size_t i = 0; i < boot->machine->e820_count; i++) {
        const E820Entry *e = &boot->machine->e820[i];
        if (e->type == E820_RAM && start >= e->start && start - e->start <= e->size &&
            size <= e->size - (start - e->start))
            return true;
    }
    return false;
}

static bool boot_zero(DirectBoot *boot, uint64_t address, uint64_t size)
{
    static const uint8_t zeros[GUEST_PAGE_SIZE];

    for (uint64_t done = 0; done < size; done += sizeof(zeros)) {
        if (!space_write(boot->machine->memory, address + done, zeros,
                         MIN(sizeof(zeros), size - done)))
            return false;
    }
    return true;
}

uint64_t boot_area_take(DirectBoot *boot, uint64_t size)
{
    uint64_t at = align_up(boot->area_next, 16);

    if (size >= GUEST_PAGE_SIZE)
        at = align_up(at, GUEST_PAGE_SIZE);
    if (at > BOOT_AREA_END || size > BOOT_AREA_END - at || !boot_zero(boot, at, size))
        return 0;
    boot->area_next = at + size;
    return at;
}

uint64_t boot_area_put(DirectBoot *boot, const void *data, uint64_t size)
{
    uint64_t at = boot_area_take(boot, size);

    return at && space_write(boot->machine->memory, at, data, size) ? at : 0;
}

uint64_t boot_area_string(DirectBoot *boot, const char *text)
{
    return boot_area_put(boot, text, strlen(text) + 1);
}

bool boot_place(DirectBoot *boot, const char *what, uint64_t address, const void *data,
                uint64_t size, uint64_t memory_size, GError **error)
{
    if (memory_size > UINT64_MAX - address || !boot_is_ram(boot, address, memory_size))
        return boot_fail(boot, error,
                         "the %s needs guest memory at %#" PRIx64 " to %#" PRIx64
                         ", which is no RAM; give the VM more memory (--memory)",
                         what, address, address + memory_size);
    if (address < BOOT_AREA_END && address + memory_size > BOOT_AREA_START)
        return boot_fail(boot, error,
                         "the %s wants memory at %#" PRIx64
                         ", where the boot parameters lie; load it at 1 MiB or above",
                         what, address);
    if (!space_write(boot->machine->memory, address, data, size) ||
        !boot_zero(boot, address + size, memory_size - size))
        return boot_fail(boot, error, "the %s cannot be written to guest memory", what);
    boot->placed_end = MAX(boot->placed_end, address + memory_size);
    return true;
}

bool boot_place_segments(DirectBoot *boot, const BootSegment *segments, unsigned count,
                         GError **error)
{
    const uint8_t *data = g_bytes_get_data(boot->kernel.bytes, NULL);

    for (unsigned i = 0; i < count; i++) {
        const BootSegment *s = &segments[i];
        if (!boot_place(boot, "kernel", s->address, data + s->file_offset, s->file_size,
                        s->memory_size, error))
            return false;
    }
    return true;
}

bool boot_place_modules(DirectBoot *boot, uint64_t *ret_addresses, GError **error)
{
    uint64_t next = MAX(boot->placed_end, MIB(1));

    for (unsigned i = 0; i < boot->module_count; i++) {
        gsize size;
        const void *data = g_bytes_get_data(boot->modules[i].bytes, &size);
        next = align_up(next, GUEST_PAGE_SIZE);
        if (!boot_place(boot, "module", next, data, size, size, error))
            return false;
        ret_addresses[i] = next;
        next += size;
    }
    return true;
}

bool boot_put_gdt(DirectBoot *boot, BootEntry *entry, GError **error)
{
    bool is_64 = entry->mode == BOOT_LONG64;
    uint8_t gdt[32] = {0};

    store_le64(gdt + BOOT_CODE_SELECTOR,
               is_64 ? UINT64_C(0x00af9b000000ffff) : UINT64_C(0x00cf9b000000ffff));
    store_le64(gdt + BOOT_DATA_SELECTOR, UINT64_C(0x00cf93000000ffff));
    entry->gdt_base = boot_area_put(boot, gdt, sizeof(gdt));
    entry->gdt_limit = sizeof(gdt) - 1;
    return entry->gdt_base || boot_fail(boot, error, "the boot parameters do not fit");
}

/* ---- files ----------------------------------------------------------------------------------- */

static void boot_file_clear(BootFile *file)
{
    g_free(file->name);
    g_free(file->arguments);
    fd_clear(&file->fd);
    g_clear_pointer(&file->bytes, g_bytes_unref);
}

void direct_boot_free(DirectBoot *boot)
{
    if (!boot)
        return;
    boot_file_clear(&boot->kernel);
    for (unsigned i = 0; i < boot->module_count; i++)
        boot_file_clear(&boot->modules[i]);
    g_free(boot->append);
    g_free(boot);
}

static DirectBoot *boot_new(const char *name)
{
    DirectBoot *boot = g_new0(DirectBoot, 1);

    boot->kernel = (BootFile){.name = g_strdup(name), .fd = -1};
    return boot;
}

static bool boot_set_kernel(DirectBoot *boot, GBytes *bytes, GError **error)
{
    gsize size;
    const uint8_t *data = g_bytes_get_data(bytes, &size);

    boot->kernel.bytes = g_bytes_ref(bytes);
    for (unsigned i = 0; i < G_N_ELEMENTS(boot_kinds); i++) {
        if (boot_kinds[i]->probe(data, size)) {
            boot->kind = boot_kinds[i];
            return boot->kind->check(boot, error);
        }
    }
    return boot_fail(boot, error,
                     "it is no kernel known here; use a Linux bzImage, a Multiboot kernel or an "
                     "ELF kernel with a PVH entry");
}

static BootFile *boot_add_module(DirectBoot *boot, const char *name, const char *arguments)
{
    BootFile *file = &boot->modules[boot->module_count++];

    *file = (BootFile){g_strdup(name), g_strdup(arguments), -1, NULL};
    return file;
}

/* Opens the file if need be. */
static bool boot_read_module(BootFile *file, const char *what, GError **error)
{
    if (file->fd < 0)
        file->fd = input_file_open(file->name, what, BOOT_MODULE_BYTES, error);
    if (file->fd >= 0)
        file->bytes = input_file_read_fd(file->fd, file->name, what, BOOT_MODULE_BYTES, error);
    return file->bytes != NULL;
}

static bool boot_open_module(DirectBoot *boot, const char *text, GError **error)
{
    g_autofree char *name = g_strndup(text, strcspn(text, " "));

    if (boot->module_count == BOOT_MODULE_MAX)
        return boot_fail(boot, error, "more than %u modules", BOOT_MODULE_MAX);
    return boot_read_module(boot_add_module(boot, name, text), "module", error);
}

static bool boot_open_initrd(DirectBoot *boot, const char *initrd, GError **error)
{
    if (boot->kind != &boot_multiboot)
        return boot_read_module(boot_add_module(boot, initrd, initrd), "initrd", error);
    g_auto(GStrv) modules = g_strsplit(initrd, ",", -1);
    for (unsigned i = 0; modules[i]; i++) {
        if (!boot_open_module(boot, modules[i], error))
            return false;
    }
    return true;
}

static bool boot_set_append(DirectBoot *boot, const char *append, GError **error)
{
    boot->append = g_strdup(append ? append : "");
    return strlen(boot->append) < BOOT_APPEND_MAX ||
           boot_fail(boot, error, "the command line is longer than %u bytes; shorten it",
                     (unsigned)BOOT_APPEND_MAX - 1);
}

/* Multiboot kernels are often compressed with gzip, and loaders undo that. Other files are returned
 * as they are. */
static GBytes *boot_decompress(GBytes *bytes, const char *name, GError **error)
{
    gsize size;
    const uint8_t *data = g_bytes_get_data(bytes, &size);
    g_autoptr(GZlibDecompressor) gzip = NULL;
    g_autoptr(GInputStream) packed = NULL, stream = NULL;
    g_autoptr(GByteArray) plain = NULL;
    uint8_t part[KIB(64)];
    gssize got;

    if (size < 2 || load_be16(data) != 0x1f8b)
        return g_bytes_ref(bytes);
    gzip = g_zlib_decompressor_new(G_ZLIB_COMPRESSOR_FORMAT_GZIP);
    packed = g_memory_input_stream_new_from_bytes(bytes);
    stream = g_converter_input_stream_new(packed, G_CONVERTER(gzip));
    plain = g_byte_array_new();
    while ((got = g_input_stream_read(stream, part, sizeof(part), NULL, error)) > 0) {
        if (plain->len + (gsize)got > BOOT_KERNEL_MAX) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                        _("kernel %s: it unpacks to more than %u MiB"), name,
                        (unsigned)(BOOT_KERNEL_MAX >> 20));
            return NULL;
        }
        g_byte_array_append(plain, part, (guint)got);
    }
    if (got < 0) {
        g_prefix_error(error, "kernel %s: cannot unpack it: ", name);
        return NULL;
    }
    return g_byte_array_free_to_bytes(g_steal_pointer(&plain));
}

/* The kernel's descriptor is open. */
static bool boot_read_kernel(DirectBoot *boot, GError **error)
{
    const BootFile *kernel = &boot->kernel;
    g_autoptr(GBytes) file =
        input_file_read_fd(kernel->fd, kernel->name, "kernel", BOOT_KERNEL_MAX, error);
    g_autoptr(GBytes) bytes = file ? boot_decompress(file, kernel->name, error) : NULL;

    return bytes && boot_set_kernel(boot, bytes, error);
}

DirectBoot *direct_boot_open(const char *kernel, const char *initrd, const char *append,
                             GError **error)
{
    g_autoptr(DirectBoot) boot = boot_new(kernel);

    boot->kernel.fd = input_file_open(kernel, "kernel", BOOT_KERNEL_MAX, error);
    if (boot->kernel.fd < 0 || !boot_read_kernel(boot, error) ||
        !boot_set_append(boot, append, error))
        return NULL;
    if (initrd && *initrd && !boot_open_initrd(boot, initrd, error))
        return NULL;
    return g_steal_pointer(&boot);
}

DirectBoot *direct_boot_new(GBytes *kernel, GBytes *initrd, const char *append, GError **error)
{
    g_autoptr(DirectBoot) boot = boot_new("kernel");

    if (!boot_set_kernel(boot, kernel, error) || !boot_set_append(boot, append, error))
        return NULL;
    if (initrd)
        boot_add_module(boot, "initrd", "initrd")->bytes = g_bytes_ref(initrd);
    return g_steal_pointer(&boot);
}

/* Has all files in memory. What the machine was built for is a kernel of the same kind. */
static bool boot_take_files(DirectBoot *boot, GError **error)
{
    const BootKind *kind = boot->kind;

    if (!boot->kernel.bytes && !boot_read_kernel(boot, error))
        return false;
    if (boot->kind != kind) {
        boot->kind = kind;
        return boot_fail(boot, error, "it is another kind of kernel now; start the VM again");
    }
    for (unsigned i = 0; i < boot->module_count; i++) {
        if (!boot->modules[i].bytes && !boot_read_module(&boot->modules[i], "module", error))
            return false;
    }
    return true;
}

static void boot_drop_file(BootFile *file)
{
    if (file->fd >= 0)
        g_clear_pointer(&file->bytes, g_bytes_unref);
}

static void boot_drop_files(DirectBoot *boot)
{
    boot_drop_file(&boot->kernel);
    for (unsigned i = 0; i < boot->module_count; i++)
        boot_drop_file(&boot->modules[i]);
    malloc_trim(0); /* they are large, and nothing else may want that much for a long time */
}

const char *direct_boot_protocol(const DirectBoot *boot)
{
    return boot->kind->name;
}

bool direct_boot_wants_firmware(const DirectBoot *boot)
{
    return boot->kind->wants_firmware;
}

bool direct_boot_load(DirectBoot *boot, const BootMachine *machine, BootEntry *ret_entry,
                      GError **error)
{
    *ret_entry = (BootEntry){.mode = BOOT_PROTECTED32};
    boot->machine = machine;
    boot->area_next = BOOT_AREA_START;
    boot->placed_end = 0;
    bool ok = boot_take_files(boot, error) && boot->kind->load(boot, ret_entry, error);
    boot->machine = NULL;
    boot_drop_files(boot);
    return ok;
}
