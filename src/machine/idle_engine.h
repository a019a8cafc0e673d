/* SPDX-License-Identifier: GPL-3.0-or-later */
/* For tests of the board: an engine whose CPUs never execute anything. vcpu->engine_data is the
 * CpuState that was set. */
#pragma once

#include "cpu/engine.h"

extern const Engine idle_engine;
