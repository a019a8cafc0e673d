/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See trace.h. Lines are gathered by stdio under a lock. */
#include "cpu/trace.h"
#include "base/i18n.h"

#include <errno.h>
#include <gio/gio.h>
#include <stdio.h>
#include <string.h>

#ifdef HAVE_ZYDIS
#include <Zydis/Zydis.h>
#endif

struct Trace {
    GMutex lock;
    FILE *file;
    unsigned events;
};

static const struct {
    const char *name;
    TraceEvent event;
} names[] = {{"exec", TRACE_EXEC}, {"block", TRACE_BLOCK}, {"mmu", TRACE_MMU}, {"irq", TRACE_IRQ}};

static const char *event_name(TraceEvent event)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++)
        if (names[i].event == event)
            return names[i].name;
    return "?";
}

static unsigned event_named(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++)
        if (!strcmp(names[i].name, name))
            return names[i].event;
    return 0;
}

static bool open_file(Trace *trace, const char *path, GError **error)
{
    if (trace->file != stderr)
        fclose(trace->file);
    trace->file = fopen(path, "we");
    if (trace->file)
        return true;
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno),
                _("cannot write the trace to '%s': %s; choose another file"), path,
                g_strerror(errno));
    trace->file = stderr;
    return false;
}

Trace *trace_new(const char *spec, GError **error)
{
    g_auto(GStrv) words = g_strsplit(spec, ",", -1);
    g_autoptr(Trace) trace = g_new0(Trace, 1);

    g_mutex_init(&trace->lock);
    trace->file = stderr;
    for (char **word = words; *word; word++) {
        unsigned event = event_named(*word);
        trace->events |= event;
        if (g_str_has_prefix(*word, "file=")) {
            if (!open_file(trace, *word + strlen("file="), error))
                return NULL;
        } else if (!event) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                        _("cannot trace '%s'; use exec, block, mmu, irq and file=PATH"), *word);
            return NULL;
        }
    }
    return g_steal_pointer(&trace);
}

void trace_free(Trace *trace)
{
    if (!trace)
        return;
    if (trace->file != stderr)
        fclose(trace->file);
    g_mutex_clear(&trace->lock);
    g_free(trace);
}

unsigned trace_events(const Trace *trace)
{
    return trace ? trace->events : 0;
}

void trace_line(Trace *trace, unsigned cpu, TraceEvent event, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_mutex_lock(&trace->lock);
    fprintf(trace->file, "%u %-5s ", cpu, event_name(event));
    vfprintf(trace->file, format, args);
    fputc('\n', trace->file);
    g_mutex_unlock(&trace->lock);
    va_end(args);
}

#ifdef HAVE_ZYDIS
static unsigned disassemble(unsigned code_size, uint64_t rip, const uint8_t *bytes,
                            unsigned available, char *text, size_t text_size)
{
    ZydisDecoder decoder;
    ZydisFormatter formatter;
    ZydisDecodedInstruction insn;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];

    if (code_size == 8)
        ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    else if (code_size == 4)
        ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
    else
        ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
    ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
    if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, available, &insn, operands)) &&
        ZYAN_SUCCESS(ZydisFormatterFormatInstruction(
            &formatter, &insn, operands, insn.operand_count_visible, text, text_size, rip, NULL)))
        return insn.length;
    g_strlcpy(text, "(bad)", text_size);
    return 1;
}
#else
static unsigned disassemble(unsigned code_size, uint64_t rip, const uint8_t *bytes,
                            unsigned available, char *text, size_t text_size)
{
    g_strlcpy(text, "", text_size);
    return available;
}
#endif

unsigned trace_insn(Trace *trace, unsigned cpu, TraceEvent event, unsigned code_size, uint64_t rip,
                    const uint8_t *bytes, unsigned available)
{
    char text[128], hex[2 * 15 + 1] = "";
    unsigned length = disassemble(code_size, rip, bytes, available, text, sizeof(text));

    length = MIN(length, 15);
    for (unsigned i = 0; i < length; i++)
        g_snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
    trace_line(trace, cpu, event, "%0*" G_GINT64_MODIFIER "x: %-22s %s", code_size == 8 ? 16 : 8,
               rip, hex, text);
    return length;
}
