/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The engines, fastest first; for engine.c and engine_report.c. */
#pragma once

#include "cpu/engine.h"

typedef struct EngineRow {
    const Engine *engine;
    bool soft;  /* needs nothing of the host but its CPU */
    bool named; /* only when asked for by name */
} EngineRow;

extern const EngineRow engine_rows[]; /* ends with a NULL engine */

/* Whether "auto" may take it; if not, `ret_why_not` (owned) says why. */
bool engine_suits(const Engine *engine, char **ret_why_not);
