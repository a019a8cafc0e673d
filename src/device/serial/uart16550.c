/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The registers of a 16550A (see uart16550.h).
 *
 *   0 RBR/THR, DLL   1 IER, DLM   2 IIR/FCR   3 LCR   4 MCR   5 LSR   6 MSR   7 SCR
 *
 * Invariant: after every change the wire is what update_irq() makes of the registers. A FIFO that
 * is off is one byte deep.
 */
#include "device/serial/uart16550.h"

#include "base/bits.h"

#define CLOCK_HZ         1843200
#define POWER_ON_DIVISOR 12 /* 9600 baud */

enum { IER_RECEIVE = 1, IER_TRANSMIT = 2, IER_LINE = 4, IER_MODEM = 8 };
enum {
    IIR_MODEM = 0x00,
    IIR_NONE = 0x01,
    IIR_TRANSMIT = 0x02,
    IIR_RECEIVE = 0x04,
    IIR_LINE = 0x06,
    IIR_TIMEOUT = 0x0c,
    IIR_FIFOS = 0xc0,
};
enum { FCR_ENABLE = 0x01, FCR_CLEAR_RX = 0x02, FCR_CLEAR_TX = 0x04, FCR_DMA = 0x08 };
enum { LCR_BREAK = 0x40, LCR_DLAB = 0x80 };
enum { MCR_DTR = 0x01, MCR_RTS = 0x02, MCR_OUT1 = 0x04, MCR_OUT2 = 0x08, MCR_LOOP = 0x10 };
enum {
    LSR_READY = 0x01,
    LSR_OVERRUN = 0x02,
    LSR_BREAK = 0x10,
    LSR_THRE = 0x20,
    LSR_TEMT = 0x40,
    LSR_FIFO_ERROR = 0x80,
    LSR_ERRORS = 0x1e,
    LSR_BYTE_ERRORS = 0x1c,
};
enum {
    MSR_DELTAS = 0x0f,
    MSR_RING_ENDED = 0x04,
    MSR_CTS = 0x10,
    MSR_DSR = 0x20,
    MSR_RI = 0x40,
    MSR_DCD = 0x80
};

/* ---- FIFOs ----------------------------------------------------------------------------------- */

static unsigned fifo_depth(const Uart16550 *uart)
{
    return uart->fcr & FCR_ENABLE ? UART_FIFO_SIZE : 1;
}

static void fifo_clear(UartFifo *fifo)
{
    fifo->head = fifo->count = 0;
}

/* The caller has checked that there is room. */
static void fifo_push(UartFifo *fifo, uint8_t byte, uint8_t errors)
{
    unsigned at = (fifo->head + fifo->count++) % UART_FIFO_SIZE;
    fifo->data[at] = byte;
    fifo->errors[at] = errors;
}

static void fifo_drop(UartFifo *fifo, unsigned count)
{
    fifo->head = (fifo->head + count) % UART_FIFO_SIZE;
    fifo->count -= count;
}

static bool fifo_has_errors(const UartFifo *fifo)
{
    for (unsigned i = 0; i < fifo->count; i++)
        if (fifo->errors[(fifo->head + i) % UART_FIFO_SIZE])
            return true;
    return false;
}

/* ---- interrupts ------------------------------------------------------------------------------ */

static bool trigger_reached(const Uart16550 *uart)
{
    static const uint8_t levels[4] = {1, 4, 8, 14};
    return uart->rx.count >= (uart->fcr & FCR_ENABLE ? levels[uart->fcr >> 6] : 1);
}

/* The interrupt of the highest priority (data sheet, table 4). */
static uint8_t interrupt_source(const Uart16550 *uart)
{
    if (uart->ier & IER_LINE && uart->lsr & LSR_ERRORS)
        return IIR_LINE;
    if (uart->ier & IER_RECEIVE && trigger_reached(uart))
        return IIR_RECEIVE;
    if (uart->ier & IER_RECEIVE && uart->timeout_pending)
        return IIR_TIMEOUT;
    if (uart->ier & IER_TRANSMIT && uart->thre_pending)
        return IIR_TRANSMIT;
    if (uart->ier & IER_MODEM && uart->msr & MSR_DELTAS)
        return IIR_MODEM;
    return IIR_NONE;
}

static void update_irq(Uart16550 *uart)
{
    irq_set(uart->irq, interrupt_source(uart) != IIR_NONE);
}

/* ---- receiver -------------------------------------------------------------------------------- */

static int64_t character_ns(const Uart16550 *uart)
{
    unsigned divisor = MAX(uart->dlm << 8 | uart->dll, 1);
    return 10 * 16 * (int64_t)divisor * NS_PER_S / CLOCK_HZ;
}

/* Every arrival and every read of the FIFO starts four characters' time anew. */
static void restart_timeout(Uart16550 *uart)
{
    uart->timeout_pending = false;
    if (uart->fcr & FCR_ENABLE && uart->rx.count)
        timer_arm(&uart->rx_timer,
                  clock_now_ns(uart->device.board->clock) + 4 * character_ns(uart));
    else
        timer_cancel(&uart->rx_timer);
}

static void rx_timed_out(void *obj)
{
    Uart16550 *uart = obj;
    uart->timeout_pending = uart->rx.count > 0;
    update_irq(uart);
}

/* The LSR shows the errors of the byte that comes next. */
static void update_rx_status(Uart16550 *uart)
{
    uart->lsr &= ~(LSR_READY | LSR_FIFO_ERROR);
    if (uart->rx.count)
        uart->lsr |= LSR_READY;
    if (uart->fcr & FCR_ENABLE && fifo_has_errors(&uart->rx))
        uart->lsr |= LSR_FIFO_ERROR;
}

static void reveal_errors(Uart16550 *uart)
{
    if (uart->rx.count)
        uart->lsr |= uart->rx.errors[uart->rx.head] & LSR_BYTE_ERRORS;
}

static void receive_byte(Uart16550 *uart, uint8_t byte, uint8_t errors)
{
    if (uart->rx.count >= fifo_depth(uart)) {
        uart->lsr |= LSR_OVERRUN;
        if (uart->fcr & FCR_ENABLE) /* the FIFO keeps its bytes, the new one is lost */
            return;
        fifo_clear(&uart->rx);
    }
    fifo_push(&uart->rx, byte, errors);
    if (uart->rx.count == 1)
        reveal_errors(uart);
    update_rx_status(uart);
    restart_timeout(uart);
}

static size_t uart_can_receive(void *obj)
{
    const Uart16550 *uart = obj;
    unsigned depth = fifo_depth(uart);
    return uart->mcr & MCR_LOOP || uart->rx.count >= depth ? 0 : depth - uart->rx.count;
}

static void uart_receive(void *obj, const uint8_t *data, size_t size)
{
    Uart16550 *uart = obj;
    for (size_t i = 0; i < size; i++)
        receive_byte(uart, data[i], 0);
    update_irq(uart);
}

void uart16550_receive_break(Uart16550 *uart)
{
    if (uart->mcr & MCR_LOOP)
        return;
    receive_byte(uart, 0, LSR_BREAK);
    update_irq(uart);
}

static uint8_t read_rbr(Uart16550 *uart)
{
    if (!uart->rx.count)
        return uart->rx.data[uart->rx.head]; /* the last byte of this place, as the chip does */
    uint8_t byte = uart->rx.data[uart->rx.head];
    fifo_drop(&uart->rx, 1);
    reveal_errors(uart);
    update_rx_status(uart);
    restart_timeout(uart);
    update_irq(uart);
    if (uart->chr && uart_can_receive(uart))
        char_accept_input(uart->chr);
    return byte;
}

/* ---- transmitter ----------------------------------------------------------------------------- */

/*
 * Drivers' interrupt handlers loop until the IIR is clear, and give up ("too much work for irq4")
 * on a transmitter that is always empty again. After this many bytes the next interrupt comes
 * later.
 */
#define BURST_BYTES    1024
#define BURST_PAUSE_NS (100 * NS_PER_US)

static void transmitter_empty(Uart16550 *uart)
{
    uart->lsr |= LSR_THRE | LSR_TEMT;
    if (uart->burst < BURST_BYTES)
        uart->thre_pending = true;
    else
        timer_arm(&uart->thre_timer, clock_now_ns(uart->device.board->clock) + BURST_PAUSE_NS);
}

static void thre_pause_over(void *obj)
{
    Uart16550 *uart = obj;
    uart->burst = 0;
    uart->thre_pending = uart->lsr & LSR_THRE;
    update_irq(uart);
}

/* Hands what the FIFO holds to the backend, which may take only a part. */
static void transmit(Uart16550 *uart)
{
    while (uart->tx.count) {
        unsigned run = MIN(uart->tx.count, UART_FIFO_SIZE - uart->tx.head);
        size_t taken = char_write(uart->chr, uart->tx.data + uart->tx.head, run);
        fifo_drop(&uart->tx, taken);
        uart->burst += taken;
        if (taken < run)
            return;
    }
    transmitter_empty(uart);
}

static void uart_writable(void *obj)
{
    Uart16550 *uart = obj;
    if (uart->tx.count)
        transmit(uart);
    update_irq(uart);
}

static void write_thr(Uart16550 *uart, uint8_t byte)
{
    uart->thre_pending = false;
    timer_cancel(&uart->thre_timer);
    if (uart->mcr & MCR_LOOP) {
        receive_byte(uart, byte, 0);
        transmitter_empty(uart);
    } else if (uart->tx.count < fifo_depth(uart)) {
        uart->lsr &= ~(LSR_THRE | LSR_TEMT);
        fifo_push(&uart->tx, byte, 0);
        transmit(uart);
    }
    update_irq(uart);
}

/* ---- modem ----------------------------------------------------------------------------------- */

/* What the four inputs show: in a loop the outputs, else a peer that is always there. */
static uint8_t modem_inputs(const Uart16550 *uart)
{
    if (!(uart->mcr & MCR_LOOP))
        return uart->chr ? MSR_CTS | MSR_DSR | MSR_DCD : 0;
    return (uart->mcr & MCR_RTS ? MSR_CTS : 0) | (uart->mcr & MCR_DTR ? MSR_DSR : 0) |
           (uart->mcr & MCR_OUT1 ? MSR_RI : 0) | (uart->mcr & MCR_OUT2 ? MSR_DCD : 0);
}

/* A delta for each changed input; the ring indicator's only when it ends. */
static void update_modem(Uart16550 *uart)
{
    uint8_t inputs = modem_inputs(uart), before = uart->msr & ~MSR_DELTAS;
    uint8_t deltas = (inputs ^ before) >> 4;
    if (inputs & MSR_RI)
        deltas &= ~MSR_RING_ENDED;
    uart->msr = inputs | (uart->msr & MSR_DELTAS) | deltas;
}

static void write_mcr(Uart16550 *uart, uint8_t value)
{
    bool was_loop = uart->mcr & MCR_LOOP;
    uart->mcr = value & 0x1f;
    update_modem(uart);
    update_irq(uart);
    if (was_loop && uart->chr && uart_can_receive(uart))
        char_accept_input(uart->chr);
}

/* ---- other registers ------------------------------------------------------------------------- */

static void write_ier(Uart16550 *uart, uint8_t value)
{
    bool transmit_enabled = ~uart->ier & value & IER_TRANSMIT;
    uart->ier = value & 0x0f;
    if (transmit_enabled && uart->lsr & LSR_THRE && !uart->thre_timer.armed)
        uart->thre_pending = true;
    update_irq(uart);
}

static void clear_rx(Uart16550 *uart)
{
    fifo_clear(&uart->rx);
    update_rx_status(uart);
    restart_timeout(uart);
}

static void clear_tx(Uart16550 *uart)
{
    bool was_full = uart->tx.count > 0;
    fifo_clear(&uart->tx);
    if (was_full)
        transmitter_empty(uart);
}

/* The other bits count only while FCR_ENABLE is written with them; a change of it clears both. */
static void write_fcr(Uart16550 *uart, uint8_t value)
{
    bool changed = (uart->fcr ^ value) & FCR_ENABLE;
    uart->fcr = value & FCR_ENABLE ? value & (0xc0 | FCR_DMA | FCR_ENABLE) : 0;
    if (changed || (value & (FCR_ENABLE | FCR_CLEAR_RX)) == (FCR_ENABLE | FCR_CLEAR_RX))
        clear_rx(uart);
    if (changed || (value & (FCR_ENABLE | FCR_CLEAR_TX)) == (FCR_ENABLE | FCR_CLEAR_TX))
        clear_tx(uart);
    update_irq(uart);
    if (uart->chr && uart_can_receive(uart))
        char_accept_input(uart->chr);
}

/* A break in a loop comes back as one. */
static void write_lcr(Uart16550 *uart, uint8_t value)
{
    bool begins = ~uart->lcr & value & LCR_BREAK;
    uart->lcr = value;
    if (begins && uart->mcr & MCR_LOOP)
        receive_byte(uart, 0, LSR_BREAK);
    update_irq(uart);
}

static uint8_t read_iir(Uart16550 *uart)
{
    uint8_t source = interrupt_source(uart);
    if (source == IIR_TRANSMIT)
        uart->thre_pending = false;
    if (source == IIR_NONE)
        uart->burst = 0;
    update_irq(uart);
    return source | (uart->fcr & FCR_ENABLE ? IIR_FIFOS : 0);
}

static uint8_t read_lsr(Uart16550 *uart)
{
    uint8_t value = uart->lsr;
    uart->lsr &= ~LSR_ERRORS;
    if (uart->rx.count) /* told; the byte itself still waits */
        uart->rx.errors[uart->rx.head] = 0;
    update_rx_status(uart);
    update_irq(uart);
    return value;
}

static uint8_t read_msr(Uart16550 *uart)
{
    uint8_t value = uart->msr;
    uart->msr &= ~MSR_DELTAS;
    update_irq(uart);
    return value;
}

/* ---- ports ----------------------------------------------------------------------------------- */

static uint64_t uart_read(void *obj, uint64_t offset, unsigned size)
{
    Uart16550 *uart = obj;
    bool dlab = uart->lcr & LCR_DLAB;
    switch (offset) {
    case 0:
        return dlab ? uart->dll : read_rbr(uart);
    case 1:
        return dlab ? uart->dlm : uart->ier;
    case 2:
        return read_iir(uart);
    case 3:
        return uart->lcr;
    case 4:
        return uart->mcr;
    case 5:
        return read_lsr(uart);
    case 6:
        return read_msr(uart);
    default:
        return uart->scr;
    }
}

static void uart_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    Uart16550 *uart = obj;
    bool dlab = uart->lcr & LCR_DLAB;
    switch (offset) {
    case 0:
        if (dlab)
            uart->dll = value;
        else
            write_thr(uart, value);
        break;
    case 1:
        if (dlab)
            uart->dlm = value;
        else
            write_ier(uart, value);
        break;
    case 2:
        write_fcr(uart, value);
        break;
    case 3:
        write_lcr(uart, value);
        break;
    case 4:
        write_mcr(uart, value);
        break;
    case 7:
        uart->scr = value;
        break;
    }
}

static const RegionOps uart_ops = {
    .name = "uart16550",
    .read = uart_read,
    .write = uart_write,
    .max_access = 1,
};

/* ---- device ---------------------------------------------------------------------------------- */

static const CharFrontend uart_frontend = {
    .can_receive = uart_can_receive,
    .receive = uart_receive,
    .writable = uart_writable,
};

static bool uart_create(Device *device, GError **error)
{
    Uart16550 *uart = (Uart16550 *)device;
    region_init_io(&uart->io, &uart_ops, uart, device->board->lock, 8);
    timer_init(&uart->rx_timer, device->board->clock, rx_timed_out, uart);
    timer_init(&uart->thre_timer, device->board->clock, thre_pause_over, uart);
    if (uart->chr)
        char_connect(uart->chr, &uart_frontend, uart);
    return true;
}

static void uart_reset(Device *device)
{
    Uart16550 *uart = (Uart16550 *)device;
    uart->ier = uart->fcr = uart->lcr = uart->mcr = uart->scr = uart->dlm = 0;
    uart->dll = POWER_ON_DIVISOR;
    uart->lsr = LSR_THRE | LSR_TEMT;
    fifo_clear(&uart->rx);
    fifo_clear(&uart->tx);
    uart->thre_pending = uart->timeout_pending = false;
    uart->burst = 0;
    timer_cancel(&uart->rx_timer);
    timer_cancel(&uart->thre_timer);
    uart->msr = modem_inputs(uart);
    update_irq(uart);
    if (uart->chr)
        char_accept_input(uart->chr);
}

static void uart_destroy(Device *device)
{
    Uart16550 *uart = (Uart16550 *)device;
    if (uart->chr)
        char_connect(uart->chr, NULL, NULL);
    timer_clear(&uart->rx_timer);
    timer_clear(&uart->thre_timer);
}

static const StateField fifo_fields[] = {
    {.name = "data",
     .type = STATE_BYTES,
     .offset = offsetof(UartFifo, data),
     .count = UART_FIFO_SIZE,
     .stride = 1,
     .since = 1},
    {.name = "errors",
     .type = STATE_BYTES,
     .offset = offsetof(UartFifo, errors),
     .count = UART_FIFO_SIZE,
     .stride = 1,
     .since = 1},
    STATE_FIELD(UartFifo, head, STATE_U8, 1),
    STATE_FIELD(UartFifo, count, STATE_U8, 1),
    STATE_LIST_END,
};

static const StateField uart_state[] = {
    STATE_FIELD(Uart16550, ier, STATE_U8, 1),
    STATE_FIELD(Uart16550, fcr, STATE_U8, 1),
    STATE_FIELD(Uart16550, lcr, STATE_U8, 1),
    STATE_FIELD(Uart16550, mcr, STATE_U8, 1),
    STATE_FIELD(Uart16550, lsr, STATE_U8, 1),
    STATE_FIELD(Uart16550, msr, STATE_U8, 1),
    STATE_FIELD(Uart16550, scr, STATE_U8, 1),
    STATE_FIELD(Uart16550, dll, STATE_U8, 1),
    STATE_FIELD(Uart16550, dlm, STATE_U8, 1),
    STATE_ONE_STRUCT(Uart16550, rx, fifo_fields, 1),
    STATE_ONE_STRUCT(Uart16550, tx, fifo_fields, 1),
    STATE_FIELD(Uart16550, thre_pending, STATE_BOOL, 1),
    STATE_FIELD(Uart16550, timeout_pending, STATE_BOOL, 1),
    STATE_FIELD(Uart16550, burst, STATE_U32, 1),
    STATE_FIELD(Uart16550, rx_timer, STATE_TIMER, 1),
    STATE_FIELD(Uart16550, thre_timer, STATE_TIMER, 1),
    STATE_LIST_END,
};

static bool fifo_valid(const Uart16550 *uart, const UartFifo *fifo)
{
    return fifo->head < UART_FIFO_SIZE && fifo->count <= fifo_depth(uart);
}

static bool uart_loaded(Device *device, GError **error)
{
    Uart16550 *uart = (Uart16550 *)device;
    if (!fifo_valid(uart, &uart->rx) || !fifo_valid(uart, &uart->tx)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "%s: the saved UART state has an impossible FIFO", device->id);
        return false;
    }
    update_irq(uart);
    return true;
}

/* Output that waited when the state was saved goes on; so does input. */
static void uart_resume(Device *device)
{
    Uart16550 *uart = (Uart16550 *)device;
    uart_writable(uart);
    if (uart->chr)
        char_accept_input(uart->chr);
}

const DeviceType uart16550_type = {
    .name = "uart16550",
    .description = "serial port (16550A)",
    .instance_size = sizeof(Uart16550),
    .create = uart_create,
    .reset = uart_reset,
    .resume = uart_resume,
    .destroy = uart_destroy,
    .state_version = 1,
    .state = uart_state,
    .loaded = uart_loaded,
};
