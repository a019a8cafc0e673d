/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which engines there are; a test of the choice has a list of its own. */
#include "cpu/engine_list.h"

const EngineRow engine_rows[] = {
    {&engine_kvm, false, false}, {&engine_jit, true, false}, {&engine_interp, true, false},
    {&engine_none, true, true},  {NULL, false, false},
};
