/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Keyboard controller.
 *
 *     status        7 parity 6 timeout 5 mouse data 4 not inhibited 3 command 2 system 1 IBF 0 OBF
 *     command byte  6 translate 5 mouse off 4 keyboard off 2 system 1 IRQ 12 0 IRQ 1
 *     output port   7 data 6 clock 5 IRQ 12 4 IRQ 1 1 A20 0 not reset
 *
 * Invariant: an IRQ line is up exactly while OBF holds data of its device and the command byte lets
 * it. Threads: board lock.
 */
#include "device/input/i8042.h"

#include "base/guest_log.h"

enum {
    STATUS_OBF = 1 << 0,
    STATUS_SYSTEM = 1 << 2,
    STATUS_COMMAND = 1 << 3,
    STATUS_NOT_INHIBITED = 1 << 4,
    STATUS_MOUSE = 1 << 5,

    MODE_IRQ_KEYBOARD = 1 << 0,
    MODE_IRQ_MOUSE = 1 << 1,
    MODE_SYSTEM = 1 << 2,
    MODE_KEYBOARD_OFF = 1 << 4,
    MODE_MOUSE_OFF = 1 << 5,
    MODE_TRANSLATE = 1 << 6,

    PORT_NOT_RESET = 1 << 0,
    PORT_A20 = 1 << 1,
    PORT_IRQ_KEYBOARD = 1 << 4,
    PORT_IRQ_MOUSE = 1 << 5,
    PORT_IDLE = 0xc0, /* the keyboard's clock and data lines */

    CMD_READ_RAM = 0x20,
    CMD_WRITE_RAM = 0x60,
    CMD_TEST_PASSWORD = 0xa4,
    CMD_LOAD_PASSWORD = 0xa5,
    CMD_MOUSE_OFF = 0xa7,
    CMD_MOUSE_ON = 0xa8,
    CMD_TEST_MOUSE = 0xa9,
    CMD_SELF_TEST = 0xaa,
    CMD_TEST_KEYBOARD = 0xab,
    CMD_KEYBOARD_OFF = 0xad,
    CMD_KEYBOARD_ON = 0xae,
    CMD_READ_INPUT_PORT = 0xc0,
    CMD_READ_OUTPUT_PORT = 0xd0,
    CMD_WRITE_OUTPUT_PORT = 0xd1,
    CMD_WRITE_KEYBOARD_DATA = 0xd2,
    CMD_WRITE_MOUSE_DATA = 0xd3,
    CMD_WRITE_MOUSE = 0xd4,
    CMD_A20_OFF = 0xdd,
    CMD_A20_ON = 0xdf,
    CMD_TEST_INPUTS = 0xe0,
    CMD_PULSE = 0xf0,
};

static void update_irqs(I8042 *c)
{
    bool full = c->status & STATUS_OBF, mouse = c->status & STATUS_MOUSE;
    irq_set(c->irq_keyboard, full && !mouse && (c->ram[0] & MODE_IRQ_KEYBOARD));
    irq_set(c->irq_mouse, full && mouse && (c->ram[0] & MODE_IRQ_MOUSE));
}

static void fill_output(I8042 *c, uint8_t byte, bool mouse)
{
    c->output = byte;
    c->status = (c->status & ~STATUS_MOUSE) | STATUS_OBF | (mouse ? STATUS_MOUSE : 0);
    update_irqs(c);
}

static bool keyboard_pending(const I8042 *c)
{
    return !(c->ram[0] & MODE_KEYBOARD_OFF) && ps2_port_pending(&c->keyboard.port);
}

static bool mouse_pending(const I8042 *c)
{
    return !(c->ram[0] & MODE_MOUSE_OFF) && ps2_port_pending(&c->mouse.port);
}

/* With the output buffer free: the controller's answers at once, devices after a byte's time. */
static void refill(I8042 *c)
{
    uint8_t byte;
    if (c->status & STATUS_OBF)
        return;
    if (ps2_queue_pop(&c->replies, &byte))
        fill_output(c, byte, false);
    else if (!c->timer.armed && (keyboard_pending(c) || mouse_pending(c)))
        timer_arm(&c->timer, clock_now_ns(c->device.board->clock) + I8042_BYTE_NS);
}

/* 0xf0 becomes the upper bit of the code that follows. */
static bool translate(I8042 *c, uint8_t *byte)
{
    if (!(c->ram[0] & MODE_TRANSLATE))
        return true;
    if (*byte == 0xf0) {
        c->translate_break = true;
        return false;
    }
    *byte = ps2_translate(*byte) | (c->translate_break ? 0x80 : 0);
    c->translate_break = false;
    return true;
}

static void byte_arrived(void *obj)
{
    I8042 *c = obj;
    uint8_t byte;
    if (c->status & STATUS_OBF)
        return;
    while (keyboard_pending(c)) { /* at most a queue full of prefixes */
        ps2_port_take(&c->keyboard.port, &byte);
        if (translate(c, &byte)) {
            fill_output(c, byte, false);
            return;
        }
    }
    if (mouse_pending(c)) {
        ps2_port_take(&c->mouse.port, &byte);
        fill_output(c, byte, true);
        ps2_mouse_taken(&c->mouse);
    }
}

static void device_ready(void *obj)
{
    refill(obj);
}

static void reply(I8042 *c, uint8_t byte)
{
    ps2_queue_push(&c->replies, &byte, 1);
    refill(c);
}

/* ---- commands -------------------------------------------------------------------------------- */

void i8042_a20_changed(void *i8042, bool on)
{
    I8042 *c = i8042;
    c->output_port = on ? c->output_port | PORT_A20 : c->output_port & ~PORT_A20;
}

static void set_a20(I8042 *c, bool on)
{
    const Board *board = c->device.board;
    i8042_a20_changed(c, on);
    board->set_a20(board->obj, on);
    if (c->a20_changed)
        c->a20_changed(c->a20_obj, on);
}

static void reset_machine(const I8042 *c)
{
    c->device.board->request(c->device.board->obj, BOARD_RESET, 0);
}

static void write_output_port(I8042 *c, uint8_t value)
{
    c->output_port = (c->output_port & PORT_A20) | PORT_IDLE | PORT_NOT_RESET;
    set_a20(c, value & PORT_A20);
    if (!(value & PORT_NOT_RESET))
        reset_machine(c);
}

static uint8_t read_output_port(const I8042 *c)
{
    bool full = c->status & STATUS_OBF, mouse = c->status & STATUS_MOUSE;
    return c->output_port | (full && !mouse ? PORT_IRQ_KEYBOARD : 0) |
           (full && mouse ? PORT_IRQ_MOUSE : 0);
}

static void write_mode(I8042 *c, uint8_t value)
{
    c->ram[0] = value;
    c->status = (c->status & ~STATUS_SYSTEM) | (value & MODE_SYSTEM ? STATUS_SYSTEM : 0);
    c->translate_break = false;
    update_irqs(c);
    refill(c);
}

static void self_test(I8042 *c)
{
    c->replies.count = 0;
    c->status &= ~(STATUS_OBF | STATUS_MOUSE);
    write_mode(c, c->ram[0] | MODE_SYSTEM | MODE_KEYBOARD_OFF | MODE_MOUSE_OFF);
    reply(c, 0x55);
}

void i8042_set_firmware_mode(I8042 *c)
{
    write_mode(c, MODE_TRANSLATE | MODE_MOUSE_OFF | MODE_SYSTEM | MODE_IRQ_KEYBOARD);
}

/* Commands 0xf0 to 0xff pull the output port's lower bits that are 0 down for 6 us: bit 0 is reset.
 */
static void pulse(I8042 *c, uint8_t command)
{
    if (!(command & PORT_NOT_RESET))
        reset_machine(c);
}

static void other_command(I8042 *c, uint8_t command)
{
    if (command >= CMD_PULSE)
        pulse(c, command);
    else if (command >= CMD_READ_RAM && command < CMD_READ_RAM + 32)
        reply(c, c->ram[command & 31]);
    else if (command >= CMD_WRITE_RAM && command < CMD_WRITE_RAM + 32)
        c->command = command;
    else
        guest_log("i8042", "unknown command %#x", command);
}

static void write_command(I8042 *c, uint8_t command)
{
    c->status |= STATUS_COMMAND;
    c->command = 0;
    switch (command) {
    case CMD_TEST_PASSWORD:
        reply(c, 0xf1);
        break; /* none is set */
    case CMD_MOUSE_OFF:
        write_mode(c, c->ram[0] | MODE_MOUSE_OFF);
        break;
    case CMD_MOUSE_ON:
        write_mode(c, c->ram[0] & ~MODE_MOUSE_OFF);
        break;
    case CMD_KEYBOARD_OFF:
        write_mode(c, c->ram[0] | MODE_KEYBOARD_OFF);
        break;
    case CMD_KEYBOARD_ON:
        write_mode(c, c->ram[0] & ~MODE_KEYBOARD_OFF);
        break;
    case CMD_TEST_MOUSE:
    case CMD_TEST_KEYBOARD:
        reply(c, 0x00);
        break;
    case CMD_SELF_TEST:
        self_test(c);
        break;
    case CMD_READ_INPUT_PORT:
        reply(c, 0x80);
        break; /* not locked */
    case CMD_READ_OUTPUT_PORT:
        reply(c, read_output_port(c));
        break;
    case CMD_LOAD_PASSWORD:
    case CMD_WRITE_OUTPUT_PORT:
    case CMD_WRITE_KEYBOARD_DATA:
    case CMD_WRITE_MOUSE_DATA:
    case CMD_WRITE_MOUSE:
        c->command = command;
        break;
    case CMD_A20_OFF:
    case CMD_A20_ON:
        set_a20(c, command == CMD_A20_ON);
        break;
    case CMD_TEST_INPUTS:
        reply(c, 0x00);
        break;
    default:
        other_command(c, command);
        break;
    }
}

static void write_data(I8042 *c, uint8_t value)
{
    uint8_t command = c->command;
    c->status &= ~STATUS_COMMAND;
    if (command != CMD_LOAD_PASSWORD || !value) /* a password ends with 0 */
        c->command = 0;
    switch (command) {
    case 0:
        if (c->ram[0] & MODE_KEYBOARD_OFF) /* sending turns the interface on */
            write_mode(c, c->ram[0] & ~MODE_KEYBOARD_OFF);
        ps2_keyboard_write(&c->keyboard, value);
        break;
    case CMD_LOAD_PASSWORD:
        break;
    case CMD_WRITE_RAM:
        write_mode(c, value);
        break;
    case CMD_WRITE_OUTPUT_PORT:
        write_output_port(c, value);
        break;
    case CMD_WRITE_KEYBOARD_DATA:
        fill_output(c, value, false);
        break;
    case CMD_WRITE_MOUSE_DATA:
        fill_output(c, value, true);
        break;
    case CMD_WRITE_MOUSE:
        if (c->ram[0] & MODE_MOUSE_OFF) /* as above, or the answer would never come */
            write_mode(c, c->ram[0] & ~MODE_MOUSE_OFF);
        ps2_mouse_write(&c->mouse, value);
        break;
    default:
        c->ram[command & 31] = value;
        break;
    }
}

static uint64_t data_read(void *obj, uint64_t offset, unsigned size)
{
    I8042 *c = obj;
    uint8_t byte = c->output;
    if (c->status & STATUS_OBF) {
        c->status &= ~STATUS_OBF;
        update_irqs(c); /* down, even if the next byte raises it at once: an edge */
        refill(c);
    }
    return byte;
}

static void data_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    write_data(obj, value);
}

static uint64_t control_read(void *obj, uint64_t offset, unsigned size)
{
    return ((I8042 *)obj)->status | STATUS_NOT_INHIBITED;
}

static void control_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    write_command(obj, value);
}

static const RegionOps data_ops = {
    .name = "i8042-data", .read = data_read, .write = data_write, .max_access = 1};
static const RegionOps control_ops = {
    .name = "i8042-control", .read = control_read, .write = control_write, .max_access = 1};

/* ---- input ----------------------------------------------------------------------------------- */

static void on_key(void *obj, unsigned key, bool down)
{
    ps2_keyboard_key(&((I8042 *)obj)->keyboard, key, down);
}

static void on_motion(void *obj, int dx, int dy)
{
    ps2_mouse_move(&((I8042 *)obj)->mouse, dx, dy, 0);
}

static void on_buttons(void *obj, unsigned mask)
{
    ps2_mouse_buttons(&((I8042 *)obj)->mouse, mask);
}

static void on_wheel(void *obj, int steps)
{
    ps2_mouse_move(&((I8042 *)obj)->mouse, 0, 0, steps);
}

static const InputSink input_sink = {
    .name = "ps2",
    .key = on_key,
    .motion = on_motion,
    .buttons = on_buttons,
    .wheel = on_wheel,
};

bool i8042_keyboard_idle(const I8042 *c)
{
    return !(c->status & STATUS_OBF) && !ps2_port_pending(&c->keyboard.port);
}

void i8042_connect(I8042 *c, InputRouter *router)
{
    input_add_sink(router, &input_sink, c);
}

/* ---- device ---------------------------------------------------------------------------------- */

static bool i8042_create(Device *device, GError **error)
{
    I8042 *c = (I8042 *)device;
    region_init_io(&c->data, &data_ops, c, device->board->lock, 1);
    region_init_io(&c->control, &control_ops, c, device->board->lock, 1);
    timer_init(&c->timer, device->board->clock, byte_arrived, c);
    c->keyboard.port.ready = c->mouse.port.ready = device_ready;
    c->keyboard.port.obj = c->mouse.port.obj = c;
    return true;
}

static void i8042_destroy(Device *device)
{
    timer_clear(&((I8042 *)device)->timer);
}

/* As after power-on, with the keyboard's and mouse's self test already over and taken. */
static void i8042_reset(Device *device)
{
    I8042 *c = (I8042 *)device;
    timer_cancel(&c->timer);
    memset(c->ram, 0, sizeof(c->ram));
    c->ram[0] = MODE_KEYBOARD_OFF | MODE_MOUSE_OFF;
    c->status = 0;
    c->output = 0;
    c->output_port = PORT_IDLE | PORT_NOT_RESET | PORT_A20;
    c->command = 0;
    c->translate_break = false;
    c->replies.count = c->replies.head = 0;
    ps2_keyboard_reset(&c->keyboard);
    ps2_mouse_reset(&c->mouse);
    c->keyboard.port.responses.count = c->mouse.port.responses.count = 0;
    update_irqs(c);
}

static bool i8042_loaded(Device *device, GError **error)
{
    const I8042 *c = (I8042 *)device;
    if (c->replies.head >= PS2_QUEUE_SIZE || c->replies.count > PS2_QUEUE_SIZE ||
        !ps2_keyboard_is_valid(&c->keyboard) || !ps2_mouse_is_valid(&c->mouse)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "the saved state of %s holds values that no keyboard controller can have",
                    device->id);
        return false;
    }
    return true;
}

static const StateField queue_state[] = {
    STATE_ARRAY(Ps2Queue, data, STATE_U8, 1),
    STATE_FIELD(Ps2Queue, head, STATE_U8, 1),
    STATE_FIELD(Ps2Queue, count, STATE_U8, 1),
    STATE_LIST_END,
};

static const StateField i8042_state[] = {
    STATE_ARRAY(I8042, ram, STATE_U8, 1),
    STATE_FIELD(I8042, status, STATE_U8, 1),
    STATE_FIELD(I8042, output, STATE_U8, 1),
    STATE_FIELD(I8042, output_port, STATE_U8, 1),
    STATE_FIELD(I8042, command, STATE_U8, 1),
    STATE_FIELD(I8042, translate_break, STATE_BOOL, 1),
    STATE_ONE_STRUCT(I8042, replies, queue_state, 1),
    STATE_ONE_STRUCT(I8042, keyboard, ps2_keyboard_state, 1),
    STATE_ONE_STRUCT(I8042, mouse, ps2_mouse_state, 1),
    STATE_FIELD(I8042, timer, STATE_TIMER, 1),
    STATE_LIST_END,
};

const DeviceType i8042_type = {
    .name = "i8042",
    .description = "keyboard controller with PS/2 keyboard and mouse",
    .instance_size = sizeof(I8042),
    .create = i8042_create,
    .reset = i8042_reset,
    .destroy = i8042_destroy,
    .state_version = 1,
    .state = i8042_state,
    .loaded = i8042_loaded,
};
