/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Replacing files while the host fails: the Nth call that writes fails, for N = 1, 2, 3 … until
 * none does, and after each the file is the old one or the new one, whole.
 */
#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "vm/config.h"

static unsigned calls, fail_at;
static int fail_with;

static bool fails(void)
{
    if (++calls != fail_at)
        return false;
    errno = fail_with;
    return true;
}

/* The linker puts these before libc's (--wrap). */
ssize_t __real_write(int fd, const void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size);
int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_fchmod(int fd, mode_t mode);
int __wrap_fchmod(int fd, mode_t mode);
int __real_renameat(int a, const char *from, int b, const char *to);
int __wrap_renameat(int a, const char *from, int b, const char *to);

ssize_t __wrap_write(int fd, const void *data, size_t size)
{
    if (fails())
        return -1;
    return __real_write(fd, data, MIN(size, 100)); /* short, as the host may */
}

int __wrap_fsync(int fd)
{
    return fails() ? -1 : __real_fsync(fd);
}

int __wrap_fchmod(int fd, mode_t mode)
{
    return fails() ? -1 : __real_fchmod(fd, mode);
}

int __wrap_renameat(int a, const char *from, int b, const char *to)
{
    return fails() ? -1 : __real_renameat(a, from, b, to);
}

static unsigned files_in(const char *folder)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    unsigned count = 0;

    while (g_dir_read_name(dir))
        count++;
    return count;
}

static void test_nth_call_fails(gconstpointer data)
{
    g_autofree char *folder = g_dir_make_tmp("vm-save-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(folder, "m.ospite", NULL);
    g_autoptr(VmConfig) old = vm_config_new("m", NULL);
    g_autoptr(VmConfig) new = vm_tree_copy(old);
    bool saved = false;
    unsigned last;

    fail_at = 0;
    fail_with = GPOINTER_TO_INT(data);
    g_assert_true(vm_tree_assign(new, "description=the new one", NULL));
    for (unsigned n = 1; !saved; n++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(VmConfig) after = NULL;
        fail_at = 0;
        g_assert_true(vm_config_save(old, path, NULL));
        calls = 0;
        fail_at = n;
        saved = vm_config_save(new, path, &error);
        last = calls;
        fail_at = 0;
        g_assert_cmpint(saved, ==, error == NULL);
        after = vm_config_load(path, NULL);
        g_assert_nonnull(after);
        /* Only the very last call, the folder's fsync, fails after the change. */
        if (!saved && vm_tree_diff(old, after)->len)
            g_assert_cmpuint(n, ==, last);
        else if (saved)
            g_assert_cmpuint(vm_tree_diff(new, after)->len, ==, 0);
        g_assert_cmpuint(files_in(folder), ==, 1);
        g_assert_cmpuint(n, <, 1000);
    }
    g_remove(path);
    g_rmdir(folder);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/vm/save/enospc", GINT_TO_POINTER(ENOSPC), test_nth_call_fails);
    g_test_add_data_func("/vm/save/eio", GINT_TO_POINTER(EIO), test_nth_call_fails);
    return g_test_run();
}
