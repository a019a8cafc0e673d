/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What GDB's packets do (GDB manual, appendix E). Threads are CPUs: thread n is CPU n - 1. All stop
 * together.
 */
#include "runner/gdb_session.h"

#include <string.h>

#include "runner/gdb_registers.h"

#define TRANSFER_MAX_BYTES ((GDB_PACKET_MAX - 64) / 2)
#define SIGNAL_INT         2
#define SIGNAL_TRAP        5

typedef bool (*ServeFn)(GdbSession *session, const char *rest, GString *answer);
typedef struct Packet {
    const char *prefix;
    ServeFn serve;
} Packet;

static bool ok(GString *answer)
{
    g_string_assign(answer, "OK");
    return true;
}

static bool fail(GString *answer)
{
    g_string_assign(answer, "E01");
    return true;
}

static Vcpu *current(GdbSession *session)
{
    return session->pc->vm->vcpus[session->cpu];
}

/* ---- stopping and going on ------------------------------------------------------------------- */

static void set_run(Vcpu *vcpu, DebugRun run)
{
    atomic_store(&vcpu->debug.run, run);
}

static void append_point(GString *answer, const DebugPoint *hit)
{
    static const char *const names[DEBUG_KIND_COUNT] = {
        [DEBUG_BREAK_SOFTWARE] = "swbreak", [DEBUG_BREAK_HARDWARE] = "hwbreak",
        [DEBUG_WATCH_WRITE] = "watch",      [DEBUG_WATCH_READ] = "rwatch",
        [DEBUG_WATCH_ACCESS] = "awatch",
    };

    g_string_append_printf(answer, "%s:", names[hit->kind]);
    if (hit->kind >= DEBUG_WATCH_WRITE)
        g_string_append_printf(answer, "%" G_GINT64_MODIFIER "x", hit->address);
    g_string_append_c(answer, ';');
}

void gdb_stop(GdbSession *session, Vcpu *reason, GString *answer)
{
    Vm *vm = session->pc->vm;

    pc_pause(session->pc);
    session->running = false;
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        set_run(vm->vcpus[i], DEBUG_RUN);
    if (reason)
        session->cpu = reason->index;
    g_string_printf(answer, "T%02xthread:%x;", reason ? SIGNAL_TRAP : SIGNAL_INT, session->cpu + 1);
    if (reason && reason->debug.reason == DEBUG_REASON_POINT) {
        append_point(answer, &reason->debug.hit);
        reason->debug.watched = false;
    }
}

static void go_on(GdbSession *session)
{
    vm_debug_changed(session->pc->vm);
    session->running = true;
    pc_resume(session->pc);
}

void gdb_forget(GdbSession *session)
{
    Vm *vm = session->pc->vm;

    pc_pause(session->pc);
    session->debug.count = 0;
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        set_run(vm->vcpus[i], DEBUG_RUN);
        vm->vcpus[i]->debug.watched = false;
    }
    vm_debug_changed(vm);
}

/* A thread: a number, 0 for any, -1 for all (both 0 here). */
static bool parse_thread(GdbSession *session, const char **text, uint64_t *ret)
{
    if (g_str_has_prefix(*text, "-1")) {
        *text += 2;
        *ret = 0;
        return true;
    }
    return gdb_parse_number(text, ret) && *ret <= session->pc->vm->vcpu_count;
}

/* c, s, C SIGNAL, S SIGNAL; signals mean nothing to a machine. */
static bool parse_action(const char **text, DebugRun *ret)
{
    char action = *(*text)++;
    uint64_t signal;

    *ret = action == 's' || action == 'S' ? DEBUG_STEP : DEBUG_RUN;
    if (action == 'C' || action == 'S')
        return gdb_parse_number(text, &signal);
    return action == 'c' || action == 's';
}

/* vCont;ACTION[:THREAD]…: the first that fits a CPU counts; what none fits is held. */
static bool serve_vcont(GdbSession *session, const char *rest, GString *answer)
{
    Vm *vm = session->pc->vm;
    DebugRun runs[VM_MAX_VCPUS], run;
    bool any = false;

    for (unsigned i = 0; i < vm->vcpu_count; i++)
        runs[i] = DEBUG_HOLD;
    while (*rest == ';') {
        uint64_t thread = 0;
        rest++;
        if (!parse_action(&rest, &run))
            return fail(answer);
        if (*rest == ':' && (rest++, !parse_thread(session, &rest, &thread)))
            return fail(answer);
        for (unsigned i = 0; i < vm->vcpu_count; i++) {
            if (runs[i] == DEBUG_HOLD && (!thread || thread == i + 1)) {
                runs[i] = run;
                any = true;
            }
        }
    }
    if (*rest || !any)
        return fail(answer);
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        set_run(vm->vcpus[i], runs[i]);
    go_on(session);
    return false;
}

static bool serve_vcont_question(GdbSession *session, const char *rest, GString *answer)
{
    g_string_assign(answer, "vCont;c;C;s;S");
    return true;
}

static bool serve_continue(GdbSession *session, const char *rest, GString *answer)
{
    if (*rest) /* from another address: GDB sets RIP instead */
        return fail(answer);
    go_on(session);
    return false;
}

static bool serve_step(GdbSession *session, const char *rest, GString *answer)
{
    if (*rest)
        return fail(answer);
    set_run(current(session), DEBUG_STEP);
    go_on(session);
    return false;
}

static bool serve_why(GdbSession *session, const char *rest, GString *answer)
{
    g_string_printf(answer, "T%02xthread:%x;", SIGNAL_TRAP, session->cpu + 1);
    return true;
}

static bool serve_detach(GdbSession *session, const char *rest, GString *answer)
{
    session->leaving = true;
    return ok(answer);
}

static bool serve_kill(GdbSession *session, const char *rest, GString *answer)
{
    session->killing = session->leaving = true;
    return false;
}

/* ---- registers ------------------------------------------------------------------------------- */

static bool serve_get_all(GdbSession *session, const char *rest, GString *answer)
{
    uint8_t bytes[GDB_REGISTER_MAX_BYTES];
    CpuState state;

    vcpu_get_state(current(session), &state);
    for (unsigned n = 0; n < gdb_registers_count(); n++) {
        gdb_register_get(&state, n, bytes);
        gdb_append_hex(answer, bytes, gdb_register_size(n));
    }
    return true;
}

static bool set_one(CpuState *state, unsigned n, const char **hex)
{
    uint8_t bytes[GDB_REGISTER_MAX_BYTES];

    if (!gdb_parse_hex(*hex, bytes, gdb_register_size(n)))
        return false;
    *hex += 2 * gdb_register_size(n);
    return gdb_register_set(state, n, bytes);
}

static bool serve_set_all(GdbSession *session, const char *rest, GString *answer)
{
    CpuState state;

    vcpu_get_state(current(session), &state);
    for (unsigned n = 0; n < gdb_registers_count(); n++)
        if (!set_one(&state, n, &rest))
            return fail(answer);
    vcpu_set_state(current(session), &state);
    return ok(answer);
}

static bool serve_get_one(GdbSession *session, const char *rest, GString *answer)
{
    uint8_t bytes[GDB_REGISTER_MAX_BYTES];
    CpuState state;
    uint64_t n;

    if (!gdb_parse_number(&rest, &n) || n >= gdb_registers_count())
        return fail(answer);
    vcpu_get_state(current(session), &state);
    gdb_register_get(&state, (unsigned)n, bytes);
    gdb_append_hex(answer, bytes, gdb_register_size((unsigned)n));
    return true;
}

static bool serve_set_one(GdbSession *session, const char *rest, GString *answer)
{
    CpuState state;
    uint64_t n;

    if (!gdb_parse_number_before(&rest, '=', &n) || n >= gdb_registers_count())
        return fail(answer);
    vcpu_get_state(current(session), &state);
    if (!set_one(&state, (unsigned)n, &rest))
        return fail(answer);
    vcpu_set_state(current(session), &state);
    return ok(answer);
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* RAM and ROM only: looking at a device would change it. Returns how many bytes were done. */
static size_t transfer(GdbSession *session, uint64_t linear, uint8_t *data, size_t size, bool write)
{
    AddressSpace *memory = session->pc->board.memory;
    size_t done = 0;

    while (done < size) {
        size_t part = MIN(size - done, 0x1000 - ((linear + done) & 0xfff));
        uint64_t physical;
        if (!vcpu_debug_translate(current(session), linear + done, &physical) ||
            !(write ? space_write(memory, physical, data + done, part)
                    : space_read(memory, physical, data + done, part)))
            break;
        done += part;
    }
    return done;
}

static bool serve_read(GdbSession *session, const char *rest, GString *answer)
{
    uint8_t data[TRANSFER_MAX_BYTES];
    uint64_t address, size;
    size_t done;

    if (!gdb_parse_number_before(&rest, ',', &address) || !gdb_parse_number(&rest, &size))
        return fail(answer);
    done = transfer(session, address, data, MIN(size, sizeof(data)), false);
    if (!done && size)
        return fail(answer);
    gdb_append_hex(answer, data, done);
    return true;
}

static bool serve_write(GdbSession *session, const char *rest, GString *answer)
{
    uint8_t data[TRANSFER_MAX_BYTES];
    uint64_t address, size;

    if (!gdb_parse_number_before(&rest, ',', &address) ||
        !gdb_parse_number_before(&rest, ':', &size) || size > sizeof(data) ||
        !gdb_parse_hex(rest, data, size))
        return fail(answer);
    return transfer(session, address, data, size, true) == size ? ok(answer) : fail(answer);
}

/* ---- points ---------------------------------------------------------------------------------- */

/* TYPE,ADDRESS,SIZE; false with an empty answer: a type that is not known. */
static bool parse_point(const char *rest, DebugPoint *ret)
{
    uint64_t kind;

    if (!gdb_parse_number_before(&rest, ',', &kind) || kind >= DEBUG_KIND_COUNT ||
        !gdb_parse_number_before(&rest, ',', &ret->address) ||
        !gdb_parse_number(&rest, &ret->size) || !ret->size)
        return false;
    ret->kind = (DebugKind)kind;
    if (ret->kind < DEBUG_WATCH_WRITE)
        ret->size = 1;
    return true;
}

static bool serve_insert(GdbSession *session, const char *rest, GString *answer)
{
    DebugPoint point;

    if (!parse_point(rest, &point) || !debug_add(&session->debug, &point))
        return fail(answer);
    return ok(answer);
}

static bool serve_remove(GdbSession *session, const char *rest, GString *answer)
{
    DebugPoint point;

    if (!parse_point(rest, &point))
        return fail(answer);
    debug_remove(&session->debug, &point);
    return ok(answer);
}

/* ---- threads and questions ------------------------------------------------------------------- */

static bool serve_select(GdbSession *session, const char *rest, GString *answer)
{
    uint64_t thread;

    if ((*rest != 'g' && *rest != 'c') || (rest++, !parse_thread(session, &rest, &thread)))
        return fail(answer);
    if (thread)
        session->cpu = (unsigned)thread - 1;
    return ok(answer);
}

static bool serve_alive(GdbSession *session, const char *rest, GString *answer)
{
    uint64_t thread;
    return parse_thread(session, &rest, &thread) && thread ? ok(answer) : fail(answer);
}

static bool serve_current(GdbSession *session, const char *rest, GString *answer)
{
    if (*rest) /* another packet that begins so */
        return true;
    g_string_printf(answer, "QC%x", session->cpu + 1);
    return true;
}

static bool serve_threads(GdbSession *session, const char *rest, GString *answer)
{
    for (unsigned i = 0; i < session->pc->vm->vcpu_count; i++)
        g_string_append_printf(answer, "%c%x", i ? ',' : 'm', i + 1);
    return true;
}

static bool serve_no_more_threads(GdbSession *session, const char *rest, GString *answer)
{
    g_string_assign(answer, "l");
    return true;
}

static bool serve_thread_info(GdbSession *session, const char *rest, GString *answer)
{
    static const char *const activities[] = {[CPU_ACTIVE] = "running",
                                             [CPU_HALTED] = "halted",
                                             [CPU_WAIT_SIPI] = "not started",
                                             [CPU_SHUTDOWN] = "shut down"};
    g_autofree char *text = NULL;
    CpuState state;
    uint64_t thread;

    if (!parse_thread(session, &rest, &thread) || !thread)
        return fail(answer);
    vcpu_get_state(session->pc->vm->vcpus[thread - 1], &state);
    text = g_strdup_printf("CPU %u %s", (unsigned)thread - 1, activities[state.activity]);
    gdb_append_hex(answer, text, strlen(text));
    return true;
}

static bool serve_supported(GdbSession *session, const char *rest, GString *answer)
{
    g_string_printf(answer,
                    "PacketSize=%x;qXfer:features:read+;QStartNoAckMode+;vContSupported+;"
                    "swbreak+;hwbreak+",
                    GDB_PACKET_MAX);
    return true;
}

/* OFFSET,SIZE of target.xml */
static bool serve_features(GdbSession *session, const char *rest, GString *answer)
{
    uint64_t offset, size;
    size_t length;

    if (!gdb_parse_number_before(&rest, ',', &offset) || !gdb_parse_number(&rest, &size))
        return fail(answer);
    if (!session->xml)
        session->xml = gdb_registers_xml();
    length = strlen(session->xml);
    offset = MIN(offset, length);
    size = MIN(size, MIN(length - offset, TRANSFER_MAX_BYTES));
    g_string_append_c(answer, offset + size < length ? 'm' : 'l');
    g_string_append_len(answer, session->xml + offset, (gssize)size);
    return true;
}

static bool serve_no_ack(GdbSession *session, const char *rest, GString *answer)
{
    session->no_ack = true;
    return ok(answer);
}

/* In this order: what begins alike, longer first. What is not here gets an empty answer, which
 * tells GDB so. */
static const Packet packets[] = {
    {"?", serve_why},
    {"D", serve_detach},
    {"g", serve_get_all},
    {"G", serve_set_all},
    {"H", serve_select},
    {"k", serve_kill},
    {"m", serve_read},
    {"M", serve_write},
    {"p", serve_get_one},
    {"P", serve_set_one},
    {"c", serve_continue},
    {"s", serve_step},
    {"T", serve_alive},
    {"Z", serve_insert},
    {"z", serve_remove},
    {"vCont?", serve_vcont_question},
    {"vCont", serve_vcont},
    {"qfThreadInfo", serve_threads},
    {"qsThreadInfo", serve_no_more_threads},
    {"qThreadExtraInfo,", serve_thread_info},
    {"qSupported", serve_supported},
    {"qXfer:features:read:target.xml:", serve_features},
    {"QStartNoAckMode", serve_no_ack},
    {"qC", serve_current},
};

bool gdb_serve(GdbSession *session, const char *packet, GString *answer)
{
    pc_pause(session->pc); /* the control socket may have resumed it */
    for (unsigned i = 0; i < G_N_ELEMENTS(packets); i++)
        if (g_str_has_prefix(packet, packets[i].prefix))
            return packets[i].serve(session, packet + strlen(packets[i].prefix), answer);
    return true;
}
