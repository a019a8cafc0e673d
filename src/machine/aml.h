/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A small builder of AML, the byte code of ACPI's DSDT: each function appends one term.
 *
 * Terms with a length (scopes, packages, buffers) are opened and closed; aml_close() goes back and
 * writes the length in front. Pure; any thread. Source: ACPI 6.4 chapter 20.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define AML_MAX_DEPTH 16

typedef struct Aml {
    GByteArray *bytes;
    guint open[AML_MAX_DEPTH]; /* where the length of each open term belongs */
    unsigned depth;
} Aml;

void aml_init(Aml *aml);
void aml_clear(Aml *aml);

/* Names are NameStrings as ASL writes them: "\\_SB.PCI0", "LNKA", "^^FOO"; segments of 1 to 4
 * characters. */
void aml_name_string(Aml *aml, const char *name);
/* The smallest encoding of an integer. */
void aml_integer(Aml *aml, uint64_t value);
void aml_string(Aml *aml, const char *text);
/* DataRefObject: the compressed EISA ID of "PNP0A03". */
void aml_eisa_id(Aml *aml, const char *id);
/* Bytes of opcodes that have no function of their own. */
void aml_raw(Aml *aml, const void *data, size_t size);
void aml_byte(Aml *aml, uint8_t byte);

void aml_open_scope(Aml *aml, const char *name);
void aml_open_device(Aml *aml, const char *name);
void aml_open_method(Aml *aml, const char *name, unsigned arg_count);
/* Processor (name, id, no P_BLK). */
void aml_open_processor(Aml *aml, const char *name, uint8_t id);
/* If: the caller appends the predicate, then the body. */
void aml_open_if(Aml *aml);
void aml_open_package(Aml *aml, unsigned count);
/* A Buffer holding a resource template; aml_close_resources() ends it with an end tag. */
void aml_open_resources(Aml *aml);
void aml_close_resources(Aml *aml);
/* Ends the newest open term. */
void aml_close(Aml *aml);

/* Name (name, …): the caller appends the object next. */
void aml_name(Aml *aml, const char *name);
void aml_name_integer(Aml *aml, const char *name, uint64_t value);
void aml_name_string_value(Aml *aml, const char *name, const char *text);
void aml_name_eisa_id(Aml *aml, const char *name, const char *id);
/* Return (…): the caller appends the operand next. */
void aml_return(Aml *aml);
/* Store (value, target): both appended by the caller, in this order. */
void aml_store(Aml *aml);
/* OperationRegion (name, space, offset, length); space 2: PCI config, 1: I/O. */
void aml_operation_region(Aml *aml, const char *name, uint8_t space, uint32_t offset,
                          uint32_t length);
/* Field (region, ByteAcc, NoLock, Preserve) of consecutive fields, widths in bits. */
typedef struct AmlField {
    const char *name;
    unsigned bits;
} AmlField;
void aml_field(Aml *aml, const char *region, const AmlField *fields, size_t count);

/* Resource descriptors (ACPI 6.4 §6.4). */
void aml_io(Aml *aml, uint16_t base, uint8_t length);
void aml_irq_no_flags(Aml *aml, unsigned irq);
void aml_dma(Aml *aml, unsigned channel);
void aml_memory32_fixed(Aml *aml, bool writable, uint32_t base, uint32_t length);
/* Extended interrupt descriptor: level, active high, shared. */
void aml_interrupts(Aml *aml, const uint32_t *numbers, uint8_t count);
typedef enum AmlWindow { AML_WINDOW_MEMORY = 0, AML_WINDOW_IO = 1, AML_WINDOW_BUS = 2 } AmlWindow;
/* Word, DWord or QWord address space descriptor of `bits` width for what a bridge forwards. */
void aml_window(Aml *aml, AmlWindow kind, unsigned bits, uint64_t first, uint64_t last);
