/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A 16550A UART: 8 ports, one wire, one character stream.
 *
 * Bytes leave at once, whatever the baud rate; the transmitter counts as full only while the
 * backend takes no more. The baud rate times the receiver's FIFO timeout. The interrupt is not
 * gated by OUT2 (boards do that; systems that never set OUT2 are many). Source: National
 * Semiconductor PC16550D data sheet, June 1995. Board lock held.
 */
#pragma once

#include "char/char.h"
#include "device/device.h"

#define UART_FIFO_SIZE 16

typedef struct UartFifo {
    uint8_t data[UART_FIFO_SIZE];
    uint8_t errors[UART_FIFO_SIZE]; /* LSR bits 1 to 4 of each byte */
    uint8_t head, count;
} UartFifo;

typedef struct Uart16550 {
    Device device;
    Region io; /* 8 ports */
    IrqLine irq;
    CharBackend *chr; /* set before device_create; NULL: nothing is plugged in */

    uint8_t ier, fcr, lcr, mcr, lsr, msr, scr, dll, dlm;
    UartFifo rx, tx;
    bool thre_pending;    /* the transmitter became empty and nobody has seen it in the IIR */
    bool timeout_pending; /* bytes below the trigger level have waited for long */
    uint32_t burst;       /* bytes sent since the IIR last showed no interrupt */
    ClockTimer rx_timer, thre_timer;
} Uart16550;

extern const DeviceType uart16550_type;

/* The line is held at space for longer than a character: the guest sees a break. */
void uart16550_receive_break(Uart16550 *uart);
