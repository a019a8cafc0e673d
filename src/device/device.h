/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A device: options, life cycle and state, described by one constant table.
 *
 * A concrete device embeds Device as its first member, and holds its Regions, IrqLines and backends
 * as plain fields. Whoever builds a machine does, in this order:
 *
 *     Serial *s = device_new(&serial_type, board, "com1");    // zeroed, options at defaults
 *     device_set(&s->device, "baud-base", "115200", &error);  // options, by name
 *     s->irq = …; s->chr = …;                                  // wires and backends
 *     device_create(&s->device, &error);                       // regions are ready
 *     space_map(board->ports, 0x3f8, &s->io, …);               // the device never knows where
 *     device_reset(&s->device);
 *
 * All functions are called with the board lock held, or before the machine runs.
 */
#pragma once

#include <gio/gio.h>

#include "base/clock.h"
#include "device/irq.h"
#include "memory/space.h"

typedef struct Device Device;
typedef struct DeviceType DeviceType;

typedef enum BoardRequest {
    BOARD_RESET,    /* hard reset of the whole machine, at the next safe point */
    BOARD_POWEROFF, /* the guest turned itself off */
    BOARD_SUSPEND,  /* S3 */
    BOARD_EXIT,     /* isa-debug-exit: leave with the status in `value` */
} BoardRequest;

/* What the machine offers to every device. */
typedef struct Board {
    AddressSpace *memory;
    AddressSpace *ports;
    VmClock *clock;
    GRecMutex *lock; /* the board lock */
    /* Remembers the request and returns at once; it is carried out on the main loop. */
    void (*request)(void *obj, BoardRequest request, int value);
    /* The A20 gate (8042 output port, port 92): address line 20 is forced to 0 when off. */
    void (*set_a20)(void *obj, bool on);
    /* Delivers a message-signalled interrupt: a write of `data` to 0xfeexxxxx. */
    void (*send_msi)(void *obj, uint64_t address, uint32_t data);
    void *obj;
} Board;

/* ---- options --------------------------------------------------------------------------------- */

typedef enum DeviceOptionType {
    OPTION_BOOL, /* bool: "on" or "off" */
    OPTION_U32,  /* uint32_t: decimal or 0x… */
    OPTION_U64,
    OPTION_STRING, /* char *, owned by the device */
} DeviceOptionType;

typedef struct DeviceOption {
    const char *name; /* lower-case-with-dashes */
    DeviceOptionType type;
    size_t offset;             /* in the device's struct */
    const char *default_value; /* as text; NULL: zero */
    uint64_t max;              /* OPTION_U32, OPTION_U64: the largest value allowed; 0: any */
    const char *help;
} DeviceOption;

/* ---- state ----------------------------------------------------------------------------------- */

typedef enum StateType {
    STATE_END,
    STATE_BOOL,
    STATE_U8,
    STATE_U16,
    STATE_U32,
    STATE_U64,
    STATE_I64,
    STATE_BYTES,  /* uint8_t [count], stored as one string of bytes */
    STATE_STRUCT, /* struct [count], described by `fields` */
    STATE_TIMER,  /* ClockTimer: deadline and whether it is armed */
} StateType;

typedef struct StateField {
    const char *name;
    StateType type;
    size_t offset;
    uint32_t count;  /* elements; 1 for a plain field */
    uint32_t stride; /* bytes from one element to the next */
    uint32_t since; /* the state_version that brought it; absent in older states, it keeps its reset
                       value */
    const struct StateField *fields; /* STATE_STRUCT */
} StateField;

#define STATE_FIELD(Type, member, kind, since_version)                               \
    {                                                                                \
        .name = #member, .type = kind, .offset = offsetof(Type, member), .count = 1, \
        .stride = sizeof(((Type *)0)->member), .since = since_version                \
    }
/* A fixed array of scalars. */
#define STATE_ARRAY(Type, member, kind, since_version)                                        \
    {                                                                                         \
        .name = #member, .type = kind, .offset = offsetof(Type, member),                      \
        .count = G_N_ELEMENTS(((Type *)0)->member), .stride = sizeof(((Type *)0)->member[0]), \
        .since = since_version                                                                \
    }
/* A fixed array of structs (use a member of one element for a single struct: &x is x[1]). */
#define STATE_STRUCTS(Type, member, struct_fields, since_version)                                 \
    {                                                                                             \
        .name = #member, .type = STATE_STRUCT, .offset = offsetof(Type, member),                  \
        .count = sizeof(((Type *)0)->member) / sizeof(((Type *)0)->member[0]),                    \
        .stride = sizeof(((Type *)0)->member[0]), .since = since_version, .fields = struct_fields \
    }
#define STATE_ONE_STRUCT(Type, member, struct_fields, since_version)                           \
    {                                                                                          \
        .name = #member, .type = STATE_STRUCT, .offset = offsetof(Type, member), .count = 1,   \
        .stride = sizeof(((Type *)0)->member), .since = since_version, .fields = struct_fields \
    }
#define STATE_LIST_END    \
    {                     \
        .type = STATE_END \
    }

/* ---- the table ------------------------------------------------------------------------------- */

struct DeviceType {
    const char *name;            /* "serial-16550", what options and states call it */
    const char *description;     /* a line for people */
    size_t instance_size;        /* of the struct that embeds Device */
    const DeviceOption *options; /* ends with a NULL name; may be NULL */
    /* Makes regions, timers and buffers. NULL: nothing to make. */
    bool (*create)(Device *device, GError **error);
    /* Power-on state. NULL: none. */
    void (*reset)(Device *device);
    /* Stop and restart activity towards backends (requests in flight are awaited by pause). NULL:
     * none */
    void (*pause)(Device *device);
    void (*resume)(Device *device);
    /* Frees what create made; also called after a create that failed. NULL: nothing */
    void (*destroy)(Device *device);
    uint32_t state_version;
    const StateField *state; /* ends with STATE_LIST_END; NULL: stateless */
    /* Checks loaded state (an enemy may have written it) and derives what is not stored. */
    bool (*loaded)(Device *device, GError **error);
};

struct Device {
    const DeviceType *type;
    char *id; /* unique in its machine: "com1", "ide0" */
    Board *board;
};

/* A zeroed instance with default options; returned as the concrete struct. Never fails. */
void *device_new(const DeviceType *type, Board *board, const char *id);
/* Sets one option from text. Fails on an unknown name or a bad value, naming what would do. */
bool device_set(Device *device, const char *name, const char *value, GError **error);
bool device_create(Device *device, GError **error);
void device_reset(Device *device);
void device_pause(Device *device);
void device_resume(Device *device);
/* Destroys and frees; NULL is allowed. */
void device_free(Device *device);

/* The whole state as a{sv} with "type", "version" and a value per field. New floating reference. */
GVariant *device_save(Device *device);
/* Puts a saved state into a device of the same type. On failure the device is as it was. */
bool device_load(Device *device, GVariant *state, GError **error);
/* The names of fields that differ ("fifo[3]", "mode"), for tests and debugging. */
GPtrArray *device_state_diff(GVariant *a, GVariant *b);
