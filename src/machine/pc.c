/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The PC's life cycle. See pc.h.
 *
 * Requests come from vCPU threads with the board lock held; they are noted and an event source on
 * the main context carries them out. Pause order: vCPUs, clock, devices; resume in reverse.
 */
#include "machine/pc.h"

#include <inttypes.h>

#include "base/bits.h"
#include "base/i18n.h"

#define PC_ADDRESS_BITS  46
#define PC_LIMIT_LOOK_MS 5
#define PC_LOW_RAM_MAX   UINT64_C(0xe0000000)
#define PC_LOW_RAM_BIG   UINT64_C(0xc0000000) /* low RAM of machines that have more than fits */

/* ---- requests -------------------------------------------------------------------------------- */

static void pc_emit(Pc *pc, PcEvent event, int value, const char *text)
{
    if (pc->event)
        pc->event(pc->event_obj, event, value, text);
}

static void pc_request(void *obj, BoardRequest request, int value)
{
    Pc *pc = obj;

    pc->requests |= 1u << request;
    if (request == BOARD_EXIT)
        pc->exit_value = value;
    g_source_set_ready_time(pc->request_source, 0);
}

static bool pc_enter_direct_boot(Pc *pc, GError **error);

/* Firmware is ready for the kernel (boot_door.h). */
static void pc_walk_through_door(Pc *pc)
{
    g_autoptr(GError) error = NULL;

    pc_pause(pc);
    if (pc_enter_direct_boot(pc, &error))
        pc_resume(pc);
    else
        pc_emit(pc, PC_EVENT_ERROR, 0, error->message);
}

static void pc_reset_or_stop(Pc *pc)
{
    g_autoptr(GError) error = NULL;

    if (pc_reset(pc, &error)) {
        pc_emit(pc, PC_EVENT_RESET, 0, NULL);
        return;
    }
    pc_pause(pc);
    pc_emit(pc, PC_EVENT_ERROR, 0, error->message);
}

/* The hardware, or what passes for it, gave up on a guest: a software engine need not. */
static bool pc_go_on_in_software(Pc *pc, const char *why)
{
    const Engine *soft = pc->engine->send_msi ? engine_find("soft", NULL, NULL) : NULL;

    if (!soft || !pc_set_engine(pc, soft, NULL))
        return false;
    g_autofree char *text = g_strdup_printf(_("%s; it goes on with engine %s"), why, soft->name);
    pc_emit(pc, PC_EVENT_ENGINE, 0, text);
    pc_resume(pc);
    return true;
}

/* Ends before beginnings: a guest that powers off and resets is off. */
static gboolean pc_serve_requests(gpointer obj)
{
    Pc *pc = obj;

    g_source_set_ready_time(pc->request_source, -1);
    g_rec_mutex_lock(&pc->lock);
    unsigned requests = pc->requests;
    g_autofree char *cpu_error = g_steal_pointer(&pc->cpu_error);
    g_autofree char *disk_error = g_steal_pointer(&pc->disk_error);
    bool door_open = pc->door_open;
    pc->requests = 0;
    pc->door_open = false;
    g_rec_mutex_unlock(&pc->lock);

    if (disk_error) {
        pc_pause(pc);
        g_free(pc->stopped_by);
        pc->stopped_by = g_steal_pointer(&disk_error);
        pc_emit(pc, PC_EVENT_DISK, 0, pc->stopped_by);
    }
    if (cpu_error) {
        pc_pause(pc);
        if (!pc_go_on_in_software(pc, cpu_error))
            pc_emit(pc, PC_EVENT_ERROR, 0, cpu_error);
    } else if (requests & 1u << BOARD_EXIT) {
        pc_pause(pc);
        pc_emit(pc, PC_EVENT_EXIT, pc->exit_value, NULL);
    } else if (requests & 1u << BOARD_POWEROFF) {
        pc_pause(pc);
        pc_emit(pc, PC_EVENT_POWEROFF, 0, NULL);
    } else if (requests & 1u << BOARD_RESET) {
        pc_reset_or_stop(pc);
    } else if (door_open) {
        pc_walk_through_door(pc);
    }
    return G_SOURCE_CONTINUE;
}

static gboolean pc_source_dispatch(GSource *source, GSourceFunc callback, gpointer obj)
{
    return callback(obj);
}

static GSourceFuncs pc_source_funcs = {.dispatch = pc_source_dispatch};

static void pc_create_source(Pc *pc)
{
    pc->request_source = g_source_new(&pc_source_funcs, sizeof(GSource));
    g_source_set_callback(pc->request_source, pc_serve_requests, pc, NULL);
    g_source_set_priority(pc->request_source, G_PRIORITY_HIGH);
    g_source_attach(pc->request_source, pc->context);
}

static void pc_set_a20(void *obj, bool on)
{
    Pc *pc = obj;

    /* The gate is in every CPU's way to memory: all of them stand still while it moves. */
    if (pc->vm && pc->engine->set_a20) {
        vm_exclusive_begin(pc->vm, vcpu_current());
        for (unsigned i = 0; i < pc->vm->vcpu_count; i++)
            pc->engine->set_a20(pc->vm->vcpus[i], on);
        vm_exclusive_end(pc->vm, vcpu_current());
    }
    if (pc->port92)
        port92_a20_changed(pc->port92, on);
}

static void pc_send_msi(void *obj, uint64_t address, uint32_t data)
{
    Pc *pc = obj;

    if (pc->engine->send_msi)
        pc->engine->send_msi(pc->vm, address, data);
    else
        lapic_bus_deliver_msi(&pc->lapic_bus, address, data);
}

/* vCPU thread, no lock held. */
static void pc_vcpu_exit(void *obj, Vcpu *vcpu, VcpuExit exit)
{
    Pc *pc = obj;

    g_rec_mutex_lock(&pc->lock);
    if (exit == VCPU_EXIT_ERROR) {
        g_free(pc->cpu_error);
        pc->cpu_error = g_strdup(vcpu->error ? vcpu->error : _("the CPU engine failed"));
        g_source_set_ready_time(pc->request_source, 0);
    } else {
        pc_request(pc, BOARD_RESET, 0); /* a triple fault resets a PC */
    }
    g_rec_mutex_unlock(&pc->lock);
}

static int pc_acknowledge_pic(void *obj)
{
    return pic_acknowledge(((Pc *)obj)->pic);
}

static void pc_eoi(void *obj, uint8_t vector)
{
    ioapic_eoi(((Pc *)obj)->ioapic, vector);
}

/* ---- memory and CPUs ------------------------------------------------------------------------- */

static bool pc_check_config(const PcConfig *config, GError **error)
{
    if (config->memory_size < PC_MEMORY_MIN || config->memory_size > PC_MEMORY_MAX) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    _("a VM cannot have %" PRIu64 " MiB of memory; choose from %" PRIu64
                      " to %" PRIu64 " MiB (--memory)"),
                    config->memory_size / MIB(1), PC_MEMORY_MIN / MIB(1), PC_MEMORY_MAX / MIB(1));
        return false;
    }
    G_STATIC_ASSERT(VM_MAX_VCPUS <= LAPIC_MAX);
    if (config->cpu_count < 1 || config->cpu_count > VM_MAX_VCPUS) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    _("a VM cannot have %u CPUs; choose from 1 to %d (--cpus)"), config->cpu_count,
                    VM_MAX_VCPUS);
        return false;
    }
    if (config->no_apic && (config->cpu_count > 1 || config->engine->send_msi)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    _("a VM without APICs (system.apic) has one CPU, which a software engine "
                      "runs; set system.cpus=1 and system.engine=soft"));
        return false;
    }
    if (config->no_acpi && config->kernel && config->cpu_count > 1) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    _("a kernel that is booted directly finds its other CPUs by ACPI "
                      "(system.acpi) alone; set system.cpus=1"));
        return false;
    }
    return true;
}

static bool pc_create_memory(Pc *pc, uint64_t size, GError **error)
{
    pc->ram = ram_new("ram", size, error);
    if (!pc->ram)
        return false;
    pc->low_ram = size <= PC_LOW_RAM_MAX ? size : PC_LOW_RAM_BIG;
    pc->high_ram = size - pc->low_ram;
    /* As firmware places its window: at 2, 3 or 3.5 GiB, the first that leaves low RAM alone. */
    pc->pci_window = pc->low_ram <= GIB(2)           ? GIB(2)
                     : pc->low_ram <= PC_LOW_RAM_BIG ? PC_LOW_RAM_BIG
                                                     : PC_LOW_RAM_MAX;
    region_init_ram(&pc->low_region, REGION_RAM, pc->ram, 0, pc->low_ram);
    space_map(pc->board.memory, 0, &pc->low_region, 0, pc->low_ram, SPACE_PRIORITY_RAM, false);
    if (pc->high_ram) {
        region_init_ram(&pc->high_region, REGION_RAM, pc->ram, pc->low_ram, pc->high_ram);
        space_map(pc->board.memory, GIB(4), &pc->high_region, 0, pc->high_ram, SPACE_PRIORITY_RAM,
                  false);
    }
    return true;
}

static bool pc_create_cpus(Pc *pc, const PcConfig *config, GError **error)
{
    bool allowed[CPU_FEATURE_COUNT] = {0};

    pc->engine = config->engine;
    pc->engine->features(allowed);
    pc->model = cpu_model_new(config->cpu_model ? config->cpu_model : "host", allowed,
                              config->cpu_count, NULL, error);
    if (!pc->model)
        return false;
    cpu_model_set_paravirt(pc->model, config->paravirt);
    if (config->no_apic)
        cpu_model_remove_apic(pc->model);
    pc->vm =
        vm_new(pc->engine, pc->board.memory, pc->board.ports, pc->model, config->cpu_count, error);
    if (!pc->vm)
        return false;
    pc->vm->on_exit = pc_vcpu_exit;
    pc->vm->acknowledge_extint = pc_acknowledge_pic;
    pc->vm->eoi = pc_eoi;
    pc->vm->obj = pc;
    return true;
}

static void pc_create_board(Pc *pc)
{
    g_rec_mutex_init(&pc->lock);
    pc->board = (Board){
        .memory = space_new("memory", UINT64_C(1) << PC_ADDRESS_BITS),
        .ports = space_new("ports", KIB(64)),
        .clock = clock_new(pc->context, &pc->lock),
        .lock = &pc->lock,
        .request = pc_request,
        .set_a20 = pc_set_a20,
        .send_msi = pc_send_msi,
        .obj = pc,
    };
    pc->devices = g_ptr_array_new();
    pc->disks = g_ptr_array_new_with_free_func((GDestroyNotify)disk_close);
    pc->chars = g_ptr_array_new_with_free_func((GDestroyNotify)char_free);
    pc->display = display_new(pc->context, &pc->lock);
    pc->input = input_router_new();
    pc->e820 = g_array_new(false, false, sizeof(E820Entry));
}

/* ---- life cycle ------------------------------------------------------------------------------ */

Pc *pc_new(const PcConfig *config, GMainContext *context, GError **error)
{
    g_autoptr(Pc) pc = NULL;

    if (!pc_check_config(config, error))
        return NULL;
    pc = g_new0(Pc, 1);
    pc->context =
        context ? g_main_context_ref(context) : g_main_context_ref(g_main_context_default());
    pc_create_board(pc);
    pc_create_source(pc);
    if (!pc_create_memory(pc, align_up(config->memory_size, MIB(1)), error) ||
        !pc_create_cpus(pc, config, error))
        return NULL;
    pc->disks_throttle.limits.bytes = config->disks_bytes;
    g_rec_mutex_lock(&pc->lock);
    bool ok = pc_create_devices(pc, config, error) && pc_create_firmware(pc, config, error);
    g_rec_mutex_unlock(&pc->lock);
    if (!ok || !pc_reset(pc, error))
        return NULL;
    pc_set_cpu_percent(pc, config->cpu_percent ? config->cpu_percent : 100);
    return g_steal_pointer(&pc);
}

/* The CPUs go first: nothing touches devices afterwards. */
static void pc_free_devices(Pc *pc)
{
    g_rec_mutex_lock(&pc->lock);
    g_clear_pointer(&pc->bus, pci_bus_free);
    for (guint i = pc->devices->len; i-- > 0;)
        device_free(g_ptr_array_index(pc->devices, i));
    g_rec_mutex_unlock(&pc->lock);
    g_ptr_array_unref(pc->devices);
    g_ptr_array_unref(pc->disks);
    g_ptr_array_unref(pc->chars);
    input_router_free(pc->input);
    display_free(pc->display);
}

void pc_free(Pc *pc)
{
    if (!pc)
        return;
    pc_pause(pc);
    pc_set_cpu_percent(pc, 100);
    g_source_destroy(pc->request_source);
    g_source_unref(pc->request_source);
    vm_free(pc->vm);
    g_clear_pointer(&pc->model, cpu_model_free);
    pc_free_devices(pc);
    space_free(pc->board.memory);
    space_free(pc->board.ports);
    clock_free(pc->board.clock);
    g_clear_pointer(&pc->ram, ram_free);
    g_clear_pointer(&pc->bios, ram_free);
    direct_boot_free(pc->direct_boot);
    g_array_unref(pc->e820);
    g_clear_pointer(&pc->acpi_tables, g_byte_array_unref);
    g_clear_pointer(&pc->acpi_rsdp, g_byte_array_unref);
    g_clear_pointer(&pc->smbios_tables, g_byte_array_unref);
    g_clear_pointer(&pc->smbios_anchor, g_byte_array_unref);
    g_free(pc->cpu_error);
    g_free(pc->disk_error);
    g_free(pc->stopped_by);
    g_rec_mutex_clear(&pc->lock);
    g_main_context_unref(pc->context);
    g_free(pc);
}

void pc_set_event_handler(Pc *pc, PcEventFn event, void *obj)
{
    pc->event = event;
    pc->event_obj = obj;
}

void pc_resume(Pc *pc)
{
    if (pc->running)
        return;
    pc->running = true;
    g_clear_pointer(&pc->stopped_by, g_free);
    g_rec_mutex_lock(&pc->lock);
    for (guint i = 0; i < pc->devices->len; i++)
        device_resume(g_ptr_array_index(pc->devices, i));
    g_rec_mutex_unlock(&pc->lock);
    for (guint i = 0; i < pc->disks->len; i++)
        disk_retry(g_ptr_array_index(pc->disks, i));
    clock_resume(pc->board.clock);
    vm_resume(pc->vm);
}

void pc_pause(Pc *pc)
{
    if (!pc->running)
        return;
    pc->running = false;
    vm_pause(pc->vm);
    clock_pause(pc->board.clock);
    for (guint i = 0; i < pc->disks->len; i++)
        disk_drain(g_ptr_array_index(pc->disks, i));
    g_rec_mutex_lock(&pc->lock);
    for (guint i = 0; i < pc->devices->len; i++)
        device_pause(g_ptr_array_index(pc->devices, i));
    g_rec_mutex_unlock(&pc->lock);
}

static Segment boot_segment(uint16_t selector, uint32_t attributes)
{
    return (Segment){.selector = selector, .attributes = attributes, .limit = UINT32_MAX};
}

static void boot_entry_apply_real(const BootEntry *entry, CpuState *state)
{
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        uint16_t selector = i == SEG_CS ? entry->code_segment : entry->data_segment;
        state->seg[i] = (Segment){.selector = selector,
                                  .attributes = 0x3 | SEGMENT_S | SEGMENT_P,
                                  .limit = UINT16_MAX,
                                  .base = (uint32_t)selector << 4};
    }
    state->idtr = (DescriptorTable){0, 0x3ff};
    state->cr0 = CR0_ET;
}

static void boot_entry_apply_flat(const BootEntry *entry, CpuState *state)
{
    bool is_64 = entry->mode == BOOT_LONG64;
    uint32_t code = 0xb | SEGMENT_S | SEGMENT_P | SEGMENT_G | (is_64 ? SEGMENT_L : SEGMENT_DB);
    uint32_t data = 0x3 | SEGMENT_S | SEGMENT_P | SEGMENT_G | SEGMENT_DB;

    for (unsigned i = 0; i < SEG_COUNT; i++)
        state->seg[i] = boot_segment(i == SEG_CS ? BOOT_CODE_SELECTOR : BOOT_DATA_SELECTOR,
                                     i == SEG_CS ? code : data);
    state->tr = (Segment){.attributes = 0xb | SEGMENT_P, .limit = 0x67};
    state->gdtr = (DescriptorTable){entry->gdt_base, entry->gdt_limit};
    state->idtr = (DescriptorTable){0, 0};
    state->cr0 = CR0_PE | CR0_ET | (is_64 ? CR0_PG : 0);
    if (is_64) {
        state->cr3 = entry->cr3;
        state->cr4 = CR4_PAE;
        state->efer = EFER_LME | EFER_LMA;
    }
}

/* Turns a boot protocol's entry into the state of the bootstrap processor. */
static void boot_entry_apply(const BootEntry *entry, CpuState *state)
{
    if (entry->mode == BOOT_REAL16)
        boot_entry_apply_real(entry, state);
    else
        boot_entry_apply_flat(entry, state);
    memset(state->gpr, 0, sizeof(state->gpr));
    state->gpr[GPR_RAX] = entry->rax;
    state->gpr[GPR_RBX] = entry->rbx;
    state->gpr[GPR_RSI] = entry->rsi;
    state->gpr[GPR_RSP] = entry->rsp;
    state->rip = entry->rip;
    state->rflags = 2;
    state->activity = CPU_ACTIVE;
}

static bool pc_enter_direct_boot(Pc *pc, GError **error)
{
    BootEntry entry;
    CpuState state;

    g_rec_mutex_lock(&pc->lock);
    bool ok = pc_prepare_direct_boot(pc, &entry, error);
    g_rec_mutex_unlock(&pc->lock);
    if (!ok)
        return false;
    vcpu_get_state(pc->vm->vcpus[0], &state);
    boot_entry_apply(&entry, &state);
    vcpu_set_state(pc->vm->vcpus[0], &state);
    return true;
}

bool pc_reset(Pc *pc, GError **error)
{
    bool was_running = pc->running;

    pc_pause(pc);
    g_rec_mutex_lock(&pc->lock);
    space_begin(pc->board.memory);
    space_begin(pc->board.ports);
    for (guint i = 0; i < pc->devices->len; i++)
        device_reset(g_ptr_array_index(pc->devices, i));
    device_reset(pci_bus_device(pc->bus));
    space_commit(pc->board.ports);
    space_commit(pc->board.memory);
    pc->requests &= ~(1u << BOARD_RESET);
    g_rec_mutex_unlock(&pc->lock);
    vm_reset(pc->vm);
    pc_set_a20(pc, true);
    if (pc->direct_boot && !direct_boot_wants_firmware(pc->direct_boot) &&
        !pc_enter_direct_boot(pc, error))
        return false;
    if (was_running)
        pc_resume(pc);
    return true;
}

bool pc_set_engine(Pc *pc, const Engine *engine, GError **error)
{
    bool was_running = pc->running;

    pc_pause(pc);
    bool ok = vm_set_engine(pc->vm, engine, error);
    pc->engine = pc->vm->engine;
    pc_engine_changed(pc);
    if (was_running)
        pc_resume(pc);
    return ok;
}

bool pc_power_button(Pc *pc, GError **error)
{
    if (!pc->pm) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                    _("a machine without ACPI (system.acpi) has no power button; turn it off by "
                      "'ospite vm poweroff'"));
        return false;
    }
    g_rec_mutex_lock(&pc->lock);
    piix4_pm_power_button(pc->pm);
    g_rec_mutex_unlock(&pc->lock);
    return true;
}

/* ---- limits ---------------------------------------------------------------------------------- */

static gboolean pc_look_at_cpus(gpointer obj)
{
    vm_limit_look(((Pc *)obj)->vm);
    return G_SOURCE_CONTINUE;
}

void pc_set_cpu_percent(Pc *pc, unsigned percent)
{
    if (pc->vm)
        vm_limit_set(pc->vm, percent);
    if (percent < 100 && !pc->limit_source) {
        pc->limit_source = g_timeout_source_new(PC_LIMIT_LOOK_MS);
        g_source_set_callback(pc->limit_source, pc_look_at_cpus, pc, NULL);
        g_source_attach(pc->limit_source, pc->context);
    } else if (percent >= 100 && pc->limit_source) {
        g_source_destroy(pc->limit_source);
        g_clear_pointer(&pc->limit_source, g_source_unref);
    }
}

void pc_set_disks_limit(Pc *pc, uint64_t bytes)
{
    g_rec_mutex_lock(&pc->lock);
    pc->disks_throttle = (Throttle){.limits.bytes = bytes};
    g_rec_mutex_unlock(&pc->lock);
    for (guint i = 0; i < pc->disks->len; i++)
        disk_limits_changed(g_ptr_array_index(pc->disks, i));
}

void pc_serial_break(Pc *pc)
{
    g_rec_mutex_lock(&pc->lock);
    if (pc->com1)
        uart16550_receive_break(pc->com1);
    g_rec_mutex_unlock(&pc->lock);
}

bool pc_screenshot(Pc *pc, const char *path, GError **error)
{
    g_rec_mutex_lock(&pc->lock);
    display_refresh(pc->display);
    bool ok = display_write_png(pc->display, path, error);
    g_rec_mutex_unlock(&pc->lock);
    return ok;
}

char *pc_screen_text(Pc *pc)
{
    g_rec_mutex_lock(&pc->lock);
    char *text = display_text(pc->display);
    g_rec_mutex_unlock(&pc->lock);
    return text;
}

bool pc_irq_level(Pc *pc, unsigned irq, unsigned *ret_rises)
{
    g_rec_mutex_lock(&pc->lock);
    bool level = pc->irq_levels >> irq & 1;
    *ret_rises = pc->irq_rises[irq];
    g_rec_mutex_unlock(&pc->lock);
    return level;
}
