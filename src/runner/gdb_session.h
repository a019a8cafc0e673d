/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Private to gdb*.c: the debugger that is connected, and what its packets do. */
#pragma once

#include "machine/pc.h"
#include "runner/gdb_packet.h"

typedef struct GdbSession {
    Pc *pc;
    Debug debug;
    unsigned cpu;          /* that g, m and others mean */
    bool running;          /* a stop reply is owed */
    bool leaving, killing; /* after the answer: close; end the machine */
    bool no_ack;
    char *xml;
} GdbSession;

/* Does what a packet asks for; `answer` gets the reply's data. False: no reply now. */
bool gdb_serve(GdbSession *session, const char *packet, GString *answer);
/* The machine stopped, or is stopped: what to tell. `reason` NULL: by the debugger's wish. */
void gdb_stop(GdbSession *session, Vcpu *reason, GString *answer);
/* All points away and every CPU free. Pauses the machine. */
void gdb_forget(GdbSession *session);
