/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Any bytes as the registry of media: what is taken is read whole, and comes back the same once
 * saved. */
#include <string.h>

#include "vm/media_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(VmTree) tree = vm_tree_parse(&media_schema, (const char *)data, size, "fuzz", NULL);
    g_autoptr(VmTree) again = NULL;
    g_autoptr(GPtrArray) all = NULL, diff = NULL;
    g_autofree char *text = NULL;
    size_t text_size;

    if (!tree)
        return 0;
    all = media_read(&(Media){.tree = tree, .lock_fd = -1});
    for (guint i = 0; i < all->len; i++) {
        const Medium *medium = all->pdata[i];
        g_assert(media_pick(all, medium->uuid, NULL) && medium->path && medium->format);
    }
    text = vm_tree_text(tree, &text_size);
    again = vm_tree_parse(&media_schema, text, text_size, "again", NULL);
    g_assert(again);
    diff = vm_tree_diff(tree, again);
    g_assert(diff->len == 0);
    return 0;
}
