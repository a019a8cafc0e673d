/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The one list of all device types, for option help and for finding the type of a saved state. */
#pragma once

#include "device/device.h"

/* All types, NULL-terminated, static. */
const DeviceType *const *device_registry(void);
/* NULL: there is no type of that name. */
const DeviceType *device_registry_find(const char *name);
