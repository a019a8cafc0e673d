/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The module `blkid`: names of file systems by libblkid; see blkid_module.h. */
#include "cli/blkid_module.h"

#include <blkid.h>
#include <errno.h>

#include "base/module.h"

static char *probe_value(blkid_probe probe, const char *name)
{
    const char *value;
    return blkid_probe_lookup_value(probe, name, &value, NULL) == 0 ? g_strdup(value) : NULL;
}

static int look(int fd, uint64_t size, FileSystem *ret)
{
    blkid_probe probe = blkid_new_probe();
    if (!probe)
        return -ENOMEM;
    if (blkid_probe_set_device(probe, fd, 0, (blkid_loff_t)size) == 0) {
        blkid_probe_enable_superblocks(probe, 1);
        blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_LABEL |
                                                     BLKID_SUBLKS_UUID);
        if (blkid_do_safeprobe(probe) == 0)
            *ret = (FileSystem){probe_value(probe, "TYPE"), probe_value(probe, "LABEL"),
                                probe_value(probe, "UUID")};
    }
    blkid_free_probe(probe);
    return 0;
}

static const BlkidApi api = {look};
OSPITE_MODULE(&api);
