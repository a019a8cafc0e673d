/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Any bytes as a machine's file, ours or another's: what is taken is valid, and comes back the same
 * once saved. */
#include <string.h>

#include "vm/build.h"
#include "vm/config.h"
#include "vm/import.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(VmConfig) config = vm_config_parse((const char *)data, size, "fuzz", NULL);
    g_autoptr(VmImport) import = vm_import_parse((const char *)data, size, "fuzz", "/", NULL);
    g_autoptr(VmConfig) again = NULL;
    g_autoptr(GPtrArray) diff = NULL;
    g_autofree char *text = NULL;
    size_t text_size;

    if (!config)
        return 0;
    g_ptr_array_unref(vm_build_missing(config));
    json_node_unref(vm_tree_to_json(config, true));
    text = vm_tree_text(config, &text_size);
    again = vm_config_parse(text, text_size, "again", NULL);
    g_assert(again);
    diff = vm_tree_diff(config, again);
    g_assert(diff->len == 0);
    return 0;
}
