/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Fuzz target: a PC with every device there is loads a damaged state into one of them and goes on
 * running: registers are read and written, time passes, disks answer.
 *
 * Input: which device, how many edits, the edits (EDIT_SIZE bytes each: which value of the state,
 * how it changes, with what), then steps (STEP_SIZE bytes each: what to do, where, with what).
 *
 * The machine is made once; each input begins with every device in the state it had then.
 */
#include <glib/gstdio.h>
#include <string.h>

#include "base/bits.h"
#include "device/registry.h"
#include "machine/pc.h"

#define EDIT_SIZE 12
#define STEP_SIZE 12
#define EDITS_MAX 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- damaging a state ------------------------------------------------------------------------ */

typedef struct Damage {
    const uint8_t *edits;
    unsigned count;
    unsigned values; /* in the whole state; 0: not known yet */
    unsigned at;     /* the value that comes next */
} Damage;

static uint64_t changed(uint64_t old, const uint8_t *edit)
{
    uint64_t with = load_le64(edit + 4);

    switch (edit[2] % 5) {
    case 0:
        return with;
    case 1:
        return with & 0xff;
    case 2:
        return old ^ UINT64_C(1) << (with % 64);
    case 3:
        return old + (uint64_t)(int8_t)with;
    default:
        return ~(with & 0xff);
    }
}

/* The edit meant for the value that comes next, or NULL. */
static const uint8_t *next_edit(Damage *d)
{
    unsigned at = d->at++;

    for (unsigned i = 0; d->values && i < d->count; i++) {
        const uint8_t *edit = d->edits + (size_t)i * EDIT_SIZE;
        if (load_le16(edit) % d->values == at)
            return edit;
    }
    return NULL;
}

static uint64_t damaged_number(uint64_t old, Damage *d)
{
    const uint8_t *edit = next_edit(d);

    return edit ? changed(old, edit) : old;
}

static GVariant *damaged_bytes(GVariant *bytes, Damage *d)
{
    const uint8_t *edit = next_edit(d);
    gsize size = 0;
    const uint8_t *from = g_variant_get_fixed_array(bytes, &size, 1);
    g_autofree uint8_t *copy = g_memdup2(from, size);

    if (edit && size) {
        uint8_t *byte = &copy[(edit[3] | edit[11] << 8) % size];
        *byte = (uint8_t)changed(*byte, edit);
    }
    return g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, copy, size, 1);
}

static GVariant *damaged(GVariant *value, Damage *d);

static GVariant *damaged_dict(GVariant *dict, Damage *d)
{
    GVariantBuilder builder;
    GVariantIter iter;
    const char *key;
    GVariant *value;

    g_variant_builder_init(&builder, G_VARIANT_TYPE_VARDICT);
    g_variant_iter_init(&iter, dict);
    while (g_variant_iter_loop(&iter, "{&sv}", &key, &value))
        g_variant_builder_add(&builder, "{sv}", key, damaged(value, d));
    return g_variant_builder_end(&builder);
}

static GVariant *damaged_array(GVariant *array, Damage *d)
{
    GVariantBuilder builder;
    GVariantIter iter;
    GVariant *value;

    g_variant_builder_init(&builder, G_VARIANT_TYPE("av"));
    g_variant_iter_init(&iter, array);
    while (g_variant_iter_loop(&iter, "v", &value))
        g_variant_builder_add(&builder, "v", damaged(value, d));
    return g_variant_builder_end(&builder);
}

static GVariant *damaged_timer(GVariant *timer, Damage *d)
{
    gint64 deadline_ns;
    gboolean armed;

    g_variant_get(timer, "(xb)", &deadline_ns, &armed);
    deadline_ns = (int64_t)damaged_number((uint64_t)deadline_ns, d);
    armed = damaged_number(armed, d) & 1;
    return g_variant_new("(xb)", deadline_ns, armed);
}

static GVariant *damaged(GVariant *value, Damage *d)
{
    switch (g_variant_classify(value)) {
    case G_VARIANT_CLASS_BOOLEAN:
        return g_variant_new_boolean(damaged_number(g_variant_get_boolean(value), d) & 1);
    case G_VARIANT_CLASS_BYTE:
        return g_variant_new_byte((uint8_t)damaged_number(g_variant_get_byte(value), d));
    case G_VARIANT_CLASS_UINT16:
        return g_variant_new_uint16((uint16_t)damaged_number(g_variant_get_uint16(value), d));
    case G_VARIANT_CLASS_UINT32:
        return g_variant_new_uint32((uint32_t)damaged_number(g_variant_get_uint32(value), d));
    case G_VARIANT_CLASS_UINT64:
        return g_variant_new_uint64(damaged_number(g_variant_get_uint64(value), d));
    case G_VARIANT_CLASS_INT64:
        return g_variant_new_int64(
            (int64_t)damaged_number((uint64_t)g_variant_get_int64(value), d));
    case G_VARIANT_CLASS_TUPLE:
        return damaged_timer(value, d);
    default:
        if (g_variant_is_of_type(value, G_VARIANT_TYPE_VARDICT))
            return damaged_dict(value, d);
        if (g_variant_is_of_type(value, G_VARIANT_TYPE("av")))
            return damaged_array(value, d);
        return damaged_bytes(value, d);
    }
}

/* `state` with its fields damaged; the header stays, so that the device takes it for its own. */
static GVariant *damage_state(GVariant *state, const uint8_t *edits, unsigned count)
{
    g_autoptr(GVariant) fields = g_variant_lookup_value(state, "fields", NULL);
    Damage d = {.edits = edits, .count = count};
    GVariantDict dict;

    g_variant_unref(g_variant_ref_sink(damaged(fields, &d))); /* counts the values */
    d.values = d.at;
    d.at = 0;
    g_variant_dict_init(&dict, state);
    g_variant_dict_insert_value(&dict, "fields", damaged(fields, &d));
    return g_variant_ref_sink(g_variant_dict_end(&dict));
}

/* ---- the machine ----------------------------------------------------------------------------- */

/* Where a device answers. */
typedef struct Window {
    const char *type; /* of the device, as in the registry */
    enum { PORTS, MEMORY, LAPIC } space;
    uint64_t start, size;
} Window;

enum { IDE_BUS_MASTER = 0xc000, PM_PORTS = 0x600, VGA_FRAMES = 0xe0000000, VGA_MMIO = 0xe1000000 };

static const Window windows[] = {
    {"dma-8237", PORTS, 0x00, 0x10},
    {"dma-8237", PORTS, 0x80, 0x10},
    {"dma-8237", PORTS, 0xc0, 0x20},
    {"pic-8259", PORTS, 0x20, 2},
    {"pic-8259", PORTS, 0xa0, 2},
    {"pic-8259", PORTS, 0x4d0, 2},
    {"pit-8254", PORTS, 0x40, 4},
    {"pit-8254", PORTS, 0x61, 1},
    {"i8042", PORTS, 0x60, 1},
    {"i8042", PORTS, 0x64, 1},
    {"rtc-mc146818", PORTS, 0x70, 2},
    {"port92", PORTS, 0x92, 1},
    {"piix4-pm", PORTS, 0xb2, 2},
    {"piix4-pm", PORTS, PM_PORTS, 64},
    {"isa-debug-exit", PORTS, PC_DEBUG_EXIT_PORT, 4},
    {"piix3-ide", PORTS, 0x170, 8},
    {"piix3-ide", PORTS, 0x1f0, 8},
    {"piix3-ide", PORTS, 0x376, 1},
    {"piix3-ide", PORTS, 0x3f6, 1},
    {"piix3-ide", PORTS, IDE_BUS_MASTER, 16},
    {"uart16550", PORTS, 0x3f8, 8},
    {"parallel", PORTS, 0x378, 8},
    {"debug-port", PORTS, 0x402, 1},
    {"fdc-82078", PORTS, 0x3f0, 8},
    {"fw-cfg", PORTS, 0x510, 12},
    {"vga", PORTS, 0x1ce, 4},
    {"vga", PORTS, 0x3b0, 0x30},
    {"vga", MEMORY, 0xa0000, 0x20000},
    {"vga", MEMORY, VGA_FRAMES, MIB(16)},
    {"vga", MEMORY, VGA_MMIO, 0x1000},
    {"i440fx", PORTS, 0xcf8, 8},
    {"i440fx", MEMORY, 0xc0000, 0x40000},
    {"piix3", PORTS, 0xcf8, 8},
    {"ioapic", MEMORY, 0xfec00000, 0x1000},
    {"hpet", MEMORY, 0xfed00000, 0x400},
    {"lapic", LAPIC, 0, 0x400},
};

static Pc *pc;
static GPtrArray *first_states; /* of GVariant, as in pc->devices */

static char *make_image(size_t size)
{
    g_autofree uint8_t *zeros = g_malloc0(size);
    char *path = NULL;
    int fd = g_file_open_tmp("ospite-state-XXXXXX", &path, NULL);

    g_assert_cmpint(fd, >=, 0);
    close(fd);
    g_assert_true(g_file_set_contents(path, (char *)zeros, (gssize)size, NULL));
    return path;
}

static void config_out(unsigned slot, unsigned function, unsigned offset, uint32_t value)
{
    space_store(pc->board.ports, 0xcf8, 4, 0x80000000u | slot << 11 | function << 8 | offset);
    space_store(pc->board.ports, 0xcfc, 4, value);
}

/* What firmware does, so that every window answers. */
static void place_pci(void)
{
    config_out(1, 1, 0x20, IDE_BUS_MASTER);
    config_out(1, 1, 0x04, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
    config_out(1, 3, 0x40, PM_PORTS);
    config_out(1, 3, 0x80, 1);
    config_out(2, 0, 0x10, VGA_FRAMES);
    config_out(2, 0, 0x18, VGA_MMIO);
    config_out(2, 0, 0x04, PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
}

static void make_machine(void)
{
    g_autofree char *disk = make_image(KIB(256)), *cd = make_image(KIB(256));
    g_autofree char *floppy = make_image(KIB(1440));
    PcConfig config = {
        .memory_size = MIB(16),
        .cpu_count = 2,
        .cpu_model = "x86-64-v1",
        .engine = &engine_none,
        .drives = {{.path = disk, .format = "raw", .index = -1},
                   {.kind = PC_DRIVE_CDROM, .path = cd, .format = "raw", .index = -1},
                   {.kind = PC_DRIVE_FLOPPY, .path = floppy, .format = "raw", .index = -1}},
        .drive_count = 3,
        .serial = {"none"},
        .parallel = {"none"},
        .debug_console = "none",
        .debug_exit_port = PC_DEBUG_EXIT_PORT,
    };
    g_autoptr(GError) error = NULL;

    pc = pc_new(&config, NULL, &error);
    g_assert_no_error(error);
    g_unlink(disk);
    g_unlink(cd);
    g_unlink(floppy);
    g_rec_mutex_lock(&pc->lock);
    place_pci();
    first_states = g_ptr_array_new();
    for (guint i = 0; i < pc->devices->len; i++)
        g_ptr_array_add(first_states, g_variant_ref_sink(device_save(pc->devices->pdata[i])));
    g_rec_mutex_unlock(&pc->lock);
    for (unsigned i = 0; device_registry()[i]; i++) {
        bool found = false;
        for (guint j = 0; j < pc->devices->len; j++)
            found |= ((Device *)pc->devices->pdata[j])->type == device_registry()[i];
        if (!found)
            g_error("no %s in the machine", device_registry()[i]->name);
    }
}

/* Every device as it was at first, whatever became of it. */
static void restore(void)
{
    g_rec_mutex_lock(&pc->lock);
    for (guint i = 0; i < pc->devices->len; i++) {
        g_autoptr(GError) error = NULL;
        device_load(pc->devices->pdata[i], first_states->pdata[i], &error);
        g_assert_no_error(error);
    }
    g_rec_mutex_unlock(&pc->lock);
}

/* ---- running --------------------------------------------------------------------------------- */

static void pass_time(int64_t ns)
{
    int64_t now_ns = clock_now_ns(pc->board.clock);

    clock_set_now_ns(pc->board.clock, now_ns + ns);
    clock_resume(pc->board.clock);
    for (unsigned i = 0; i < 8 && g_main_context_iteration(NULL, FALSE); i++)
        ;
    clock_pause(pc->board.clock);
}

static void access_window(const Window *window, uint64_t offset, unsigned size, uint64_t value,
                          bool write)
{
    AddressSpace *space = window->space == PORTS ? pc->board.ports : pc->board.memory;
    const Vcpu *vcpu = pc->vm->vcpus[offset & 1];

    if (window->space == LAPIC) {
        offset &= ~UINT64_C(15);
        if (write)
            vcpu->intc->mmio_write(vcpu->intc_obj, offset, 4, value);
        else
            vcpu->intc->mmio_read(vcpu->intc_obj, offset, 4);
    } else if (write) {
        space_store(space, window->start + offset, size, value);
    } else {
        space_load(space, window->start + offset, size);
    }
}

/* A window of the device, by `choice`; any window when it has none. */
static const Window *choose_window(const Device *device, unsigned choice)
{
    const Window *own[G_N_ELEMENTS(windows)];
    unsigned count = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(windows); i++) {
        if (!strcmp(windows[i].type, device->type->name))
            own[count++] = &windows[i];
    }
    return count && !(choice & 0x80) ? own[choice % count]
                                     : &windows[(choice & 0x7f) % G_N_ELEMENTS(windows)];
}

static void run_steps(const Device *device, const uint8_t *data, size_t size)
{
    for (; size >= STEP_SIZE; data += STEP_SIZE, size -= STEP_SIZE) {
        const Window *window = choose_window(device, data[1]);
        uint64_t value = load_le64(data + 4);
        uint64_t offset = (load_le16(data + 2) | (uint64_t)data[11] << 16) % window->size;
        if ((data[0] & 0x18) == 0x18)
            pass_time((int64_t)(value % (50 * NS_PER_MS)));
        else
            access_window(window, offset, 1u << (data[0] & 3), value, data[0] & 4);
    }
}

/* Loads the damaged state. A device that refuses must be as before; one that accepts must take what
 * it saves itself. */
static void load_damaged(Device *device, GVariant *state)
{
    g_autoptr(GVariant) before = g_variant_ref_sink(device_save(device));
    g_autoptr(GVariant) after = NULL;
    g_autoptr(GError) error = NULL;

    bool ok = device_load(device, state, &error);
    g_assert_true(ok || error);
    after = g_variant_ref_sink(device_save(device));
    if (ok && !device_load(device, after, &error))
        g_error("%s refuses what it saved: %s", device->id, error->message);
    if (!ok && !g_variant_equal(before, after)) {
        g_autoptr(GPtrArray) names = device_state_diff(before, after);
        g_error("%s: '%s' changed though the state was refused", device->id,
                names->len ? (char *)names->pdata[0] : "?");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!pc)
        make_machine();
    if (size < 2)
        return 0;
    unsigned index = data[0] % pc->devices->len;
    unsigned count = MIN(data[1] % (EDITS_MAX + 1), (size - 2) / EDIT_SIZE);
    Device *device = pc->devices->pdata[index];

    restore();
    g_autoptr(GVariant) state = damage_state(first_states->pdata[index], data + 2, count);
    g_rec_mutex_lock(&pc->lock);
    load_damaged(device, state);
    device_resume(device);
    g_rec_mutex_unlock(&pc->lock);
    run_steps(device, data + 2 + count * EDIT_SIZE, size - 2 - count * EDIT_SIZE);
    for (guint i = 0; i < pc->disks->len; i++)
        disk_drain(pc->disks->pdata[i]);
    g_rec_mutex_lock(&pc->lock);
    device_pause(device);
    g_rec_mutex_unlock(&pc->lock);
    vm_pause(pc->vm); /* the APICs may have sent INITs */
    return 0;
}
