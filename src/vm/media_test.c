/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The registry of media, and what it does to images and machines' files. */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bits.h"
#include "block/image.h"
#include "vm/journal.h"
#include "vm/media.h"

typedef struct Fixture {
    char *folder, *registry, *disk, *config_path;
    Media *media;
    VmConfig *config;
    char *uuid; /* the machine's */
} Fixture;

static void assert_failed(bool ok, GError **error, int code, const char *part)
{
    g_assert_false(ok);
    g_assert_error(*error, G_IO_ERROR, code);
    if (!strstr((*error)->message, part))
        g_error("'%s' is not in '%s'", part, (*error)->message);
    g_clear_error(error);
}

static void make_image(const char *path, const char *format, const char *parent)
{
    ImageCreate create = {.format = format, .size = parent ? UINT64_MAX : MIB(8), .parent = parent};
    g_autoptr(GError) error = NULL;

    image_create(path, &create, &error);
    g_assert_no_error(error);
}

static void set_up(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    f->folder = g_dir_make_tmp("vm-media-XXXXXX", NULL);
    f->registry = g_build_filename(f->folder, "registry", NULL);
    f->disk = g_build_filename(f->folder, "a.qcow2", NULL);
    f->config_path = g_build_filename(f->folder, "m.ospite", NULL);
    make_image(f->disk, "qcow2", NULL);
    f->media = media_open(f->registry, &error);
    g_assert_no_error(error);
    f->config = vm_config_new("m", NULL);
    f->uuid = vm_tree_string(f->config, "uuid");
    g_assert_true(vm_tree_assign(f->config, "storage.ide0.0.type=disk", NULL));
    g_assert_true(vm_tree_assign(f->config, "storage.ide0.0.medium=a.qcow2", NULL));
    g_assert_true(vm_tree_assign(f->config, "storage.ide0.0.format=qcow2", NULL));
    g_assert_true(vm_config_save(f->config, f->config_path, NULL));
}

static void remove_tree(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *own = g_build_filename(path, name, NULL);
        remove_tree(own);
    }
    g_remove(path);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    media_close(f->media);
    vm_tree_free(f->config);
    remove_tree(f->folder);
    g_free(f->folder);
    g_free(f->registry);
    g_free(f->disk);
    g_free(f->config_path);
    g_free(f->uuid);
}

static void test_add_find_remove(Fixture *f, gconstpointer data)
{
    g_autofree char *child = g_build_filename(f->folder, "child.qcow2", NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(Medium) medium = NULL;
    g_autoptr(Medium) parent = NULL;
    g_autoptr(GPtrArray) all = NULL;

    make_image(child, "qcow2", "a.qcow2");
    medium = media_add(f->media, MEDIUM_DISK, child, NULL, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(medium->format, ==, "qcow2");
    g_assert_cmpuint(medium->virtual_size, ==, MIB(8));
    g_assert_true(medium->accessible);
    parent = media_find(f->media, medium->parent, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(parent->path, ==, f->disk);
    g_assert_true(parent->has_children);
    assert_failed(media_add(f->media, MEDIUM_DISK, child, NULL, NULL, &error), &error,
                  G_IO_ERROR_EXISTS, "registered");
    assert_failed(media_remove(f->media, parent->uuid, false, &error), &error, G_IO_ERROR_BUSY,
                  "build on");
    assert_failed(media_remove(f->media, "nobody", false, &error), &error, G_IO_ERROR_NOT_FOUND,
                  "nobody");
    g_assert_true(media_set_mode(f->media, child, "immutable", NULL, 0, &error));
    assert_failed(media_set_mode(f->media, child, "odd", NULL, 0, &error), &error,
                  G_IO_ERROR_INVALID_ARGUMENT, "one of normal");
    g_assert_true(media_remove(f->media, child, true, &error));
    g_assert_cmpint(g_access(child, F_OK), ==, -1);
    g_assert_true(media_remove(f->media, f->disk, false, &error));
    g_assert_cmpint(g_access(f->disk, F_OK), ==, 0);
    all = media_list(f->media, &error);
    g_assert_cmpuint(all->len, ==, 0);
}

/* A medium that is gone stays, with what was known. */
static void test_inaccessible(Fixture *f, gconstpointer data)
{
    g_autoptr(Medium) medium = media_add(f->media, MEDIUM_DISK, f->disk, NULL, NULL, NULL);
    g_autoptr(Medium) gone = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(g_remove(f->disk), ==, 0);
    g_assert_true(media_refresh(f->media, NULL, &error));
    gone = media_find(f->media, medium->uuid, &error);
    g_assert_false(gone->accessible);
    g_assert_nonnull(gone->problem);
    g_assert_cmpuint(gone->virtual_size, ==, MIB(8));
}

/* A machine that runs with it is not in the registry when its settings have changed since. */
static void test_remove_open(Fixture *f, gconstpointer data)
{
    ImageOptions options = {.format = "qcow2"};
    g_autoptr(GError) error = NULL;
    g_autoptr(Medium) medium = media_add(f->media, MEDIUM_DISK, f->disk, NULL, NULL, &error);
    Image *image = image_open(f->disk, &options, &error);

    g_assert_no_error(error);
    assert_failed(media_remove(f->media, medium->uuid, true, &error), &error, G_IO_ERROR_BUSY,
                  "in use");
    g_assert_true(g_file_test(f->disk, G_FILE_TEST_EXISTS));
    image_close(image);
    g_assert_true(media_remove(f->media, medium->uuid, true, &error));
    g_assert_false(g_file_test(f->disk, G_FILE_TEST_EXISTS));
}

static void test_uses(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Medium) medium = NULL;
    g_autoptr(Medium) released = NULL;
    g_autoptr(VmConfig) after = NULL;
    g_autofree char *writer = NULL, *none = NULL;
    MediaMachine machine = {.uuid = f->uuid, .config_path = f->config_path};
    MediaUser user = {f->uuid, NULL, f->config, f->folder};

    g_assert_true(media_sync(f->media, &user, 1, &error));
    g_assert_true(media_sync(f->media, &user, 1, &error));
    medium = media_find(f->media, f->disk, &error);
    g_assert_cmpuint(medium->uses->len, ==, 1);
    g_assert_cmpstr(((MediumUse *)medium->uses->pdata[0])->place, ==, "storage.ide0.0");
    assert_failed(media_remove(f->media, f->disk, true, &error), &error, G_IO_ERROR_BUSY, f->uuid);
    writer = media_writer(f->media, f->disk, "other", &error);
    g_assert_cmpstr(writer, ==, f->uuid);
    none = media_writer(f->media, f->disk, f->uuid, &error);
    g_assert_null(none);
    g_assert_true(media_release(f->media, f->disk, &machine, 1, &error));
    g_assert_no_error(error);
    after = vm_config_load(f->config_path, &error);
    g_assert_no_error(error);
    g_assert_false(vm_tree_has(after, "storage.ide0.0"));
    released = media_find(f->media, f->disk, &error);
    g_assert_cmpuint(released->uses->len, ==, 0);
}

static void test_move(Fixture *f, gconstpointer data)
{
    g_autofree char *to = g_build_filename(f->folder, "disks", "b.qcow2", NULL);
    g_autofree char *disks = g_path_get_dirname(to);
    g_autofree char *value = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(Medium) medium = NULL;
    g_autoptr(VmConfig) after = NULL;
    MediaMachine machine = {.uuid = f->uuid, .config_path = f->config_path};
    MediaUser user = {f->uuid, NULL, f->config, f->folder};

    g_assert_true(media_sync(f->media, &user, 1, &error));
    assert_failed(media_move(f->media, f->disk, to, NULL, &machine, 1, &error), &error,
                  G_IO_ERROR_NOT_FOUND, "disks");
    g_assert_cmpint(g_mkdir(disks, 0700), ==, 0);
    assert_failed(media_move(f->media, f->disk, f->config_path, NULL, &machine, 1, &error), &error,
                  G_IO_ERROR_EXISTS, "there already");
    g_assert_true(media_move(f->media, f->disk, to, NULL, &machine, 1, &error));
    g_assert_no_error(error);
    g_assert_cmpint(g_access(f->disk, F_OK), ==, -1);
    g_assert_cmpint(g_access(to, F_OK), ==, 0);
    medium = media_find(f->media, to, &error);
    g_assert_true(medium->accessible);
    after = vm_config_load(f->config_path, &error);
    value = vm_tree_string(after, "storage.ide0.0.medium");
    g_assert_cmpstr(value, ==, "disks/b.qcow2");
}

typedef struct Chain {
    char *base, *middle, *top; /* each over the one before */
} Chain;

static void chain_clear(Chain *chain)
{
    g_free(chain->base);
    g_free(chain->middle);
    g_free(chain->top);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Chain, chain_clear)

/* What a machine would see: names inside images lead no further than below their folder. */
static void assert_shows(const char *path, const char *format, uint8_t first, uint8_t second)
{
    ImageOptions options = {.format = format, .read_only = true};
    g_autoptr(GError) error = NULL;
    g_autoptr(Image) image = image_open(path, &options, &error);
    uint8_t data[MIB(1) + 512];

    g_assert_no_error(error);
    g_assert_cmpint(image_read(image, 0, data, sizeof(data)), ==, 0);
    g_assert_cmpuint(data[0], ==, first);
    g_assert_cmpuint(data[MIB(1)], ==, second);
}

static void write_at(const char *path, uint64_t offset, uint8_t value)
{
    ImageOptions options = {0};
    uint8_t sector[512];
    g_autoptr(GError) error = NULL;
    g_autoptr(Image) image = image_open(path, &options, &error);

    memset(sector, value, sizeof(sector));
    g_assert_no_error(error);
    g_assert_cmpint(image_write(image, offset, sector, sizeof(sector)), ==, 0);
}

/* Bytes 1 come from the base, bytes 2 from the middle. */
static void make_chain(Fixture *f, const char *format, Chain *ret_chain)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Medium) medium = NULL;
    Chain c = {g_strdup_printf("%s/base.%s", f->folder, format),
               g_strdup_printf("%s/middle.%s", f->folder, format),
               g_strdup_printf("%s/top.qcow2", f->folder)};

    make_image(c.base, format, NULL);
    write_at(c.base, 0, 1);
    make_image(c.middle, format, c.base);
    write_at(c.middle, MIB(1), 2);
    make_image(c.top, "qcow2", c.middle);
    medium = media_add(f->media, MEDIUM_DISK, c.top, NULL, NULL, &error);
    g_assert_no_error(error);
    *ret_chain = c;
}

static void move_one(Fixture *f, char **path, const char *name, bool by_copy)
{
    g_autofree char *to = g_canonicalize_filename(name, f->folder);
    g_autoptr(GError) error = NULL;
    g_autoptr(MediaCopy) copy = by_copy ? media_copy_new(f->media, *path, to, &error) : NULL;

    g_assert_no_error(error);
    g_assert_true(!copy || media_copy_run(copy, &error));
    media_move(f->media, *path, to, copy, NULL, 0, &error);
    g_assert_no_error(error);
    g_assert_cmpint(g_access(*path, F_OK), ==, -1);
    g_free(*path);
    *path = g_steal_pointer(&to);
}

static void assert_stays(Fixture *f, const char *path, const char *name, const char *part)
{
    g_autofree char *to = g_build_filename(f->folder, name, NULL);
    g_autoptr(GError) error = NULL;

    assert_failed(media_move(f->media, path, to, NULL, NULL, 0, &error), &error, G_IO_ERROR_BUSY,
                  part);
    g_assert_cmpint(g_access(to, F_OK), ==, -1);
    g_assert_cmpint(g_access(path, F_OK), ==, 0);
}

/* Each image of a chain moves, and machines find the others from it without trusting names. */
static void test_move_chain(Fixture *f, gconstpointer data)
{
    static const char *const formats[] = {"qcow2", "qcow", "vdi", "vmdk", "vhd", "vhdx"};
    g_autofree char *below = g_build_filename(f->folder, "below", NULL);

    g_assert_cmpint(g_mkdir(below, 0700), ==, 0);
    for (unsigned i = 0; i < 2 * G_N_ELEMENTS(formats); i++) {
        const char *format = formats[i / 2];
        bool by_copy = i % 2;
        g_auto(Chain) c = {0};
        g_test_message("%s%s", format, by_copy ? ", copied" : "");
        make_chain(f, format, &c);
        g_autofree char *middle = g_strdup_printf("m%u", i);
        g_autofree char *base = g_strdup_printf("below/b%u", i);
        g_autofree char *top = g_strdup_printf("t%u", i);
        move_one(f, &c.middle, middle, by_copy);
        assert_shows(c.top, "qcow2", 1, 2);
        move_one(f, &c.base, base, by_copy);
        assert_shows(c.top, "qcow2", 1, 2);
        move_one(f, &c.top, top, by_copy);
        assert_shows(c.top, "qcow2", 1, 2);
        assert_shows(c.middle, format, 1, 2);
    }
}

/* Where a machine would not find its parents, or one of the chain is not as it should be. */
static void test_move_chain_refused(Fixture *f, gconstpointer data)
{
    g_autofree char *below = g_build_filename(f->folder, "below", NULL);
    g_autofree char *away = g_build_filename(f->folder, "away", NULL);
    ImageOptions options = {.format = "qcow2"};
    g_autoptr(GError) error = NULL;
    g_auto(Chain) c = {0};
    Image *open;

    g_assert_cmpint(g_mkdir(below, 0700), ==, 0);
    make_chain(f, "vdi", &c);
    assert_stays(f, c.top, "below/t.qcow2", "whole folder");
    assert_stays(f, c.middle, "below/m.vdi", "whole folder");
    assert_stays(f, c.base, "../outside-of-it.vdi", "whole folder");
    open = image_open(c.top, &options, &error);
    g_assert_no_error(error);
    assert_stays(f, c.middle, "m.vdi", "in use");
    assert_stays(f, c.base, "b.vdi", "in use");
    assert_stays(f, c.top, "t.qcow2", "in use");
    image_close(open);
    g_assert_cmpint(g_rename(c.top, away), ==, 0);
    assert_stays(f, c.middle, "m.vdi", "top.qcow2");
    g_assert_cmpint(g_rename(away, c.top), ==, 0);
    write_at(c.base, 0, 3); /* under the middle, which says so when it is opened */
    assert_stays(f, c.base, "b.vdi", "changed");
    assert_stays(f, c.middle, "m.vdi", "changed");
}

/* A change that was killed after its journal was stored is finished by whoever comes next. */
static void test_journal_recovers(Fixture *f, gconstpointer data)
{
    g_autofree char *journal_path = g_build_filename(f->registry, "media.journal", NULL);
    g_autofree char *to = g_build_filename(f->folder, "moved", NULL);
    g_autofree char *note = g_build_filename(f->folder, "note", NULL);
    g_autofree char *text = NULL;
    g_autoptr(Journal) journal = journal_new();
    g_autoptr(GError) error = NULL;
    g_autoptr(Media) again = NULL;

    g_assert_true(journal_rename(journal, f->disk, to, &error));
    g_assert_true(journal_replace(journal, note, "new & <good>\n", &error));
    g_assert_true(journal_unlink(journal, f->config_path, &error));
    /* The journal is stored, and its last step fails: a folder cannot be unlinked. */
    g_assert_true(journal_unlink(journal, f->registry, &error));
    g_assert_false(journal_commit(journal, journal_path, &error));
    g_clear_error(&error);
    g_assert_true(g_file_get_contents(journal_path, &text, NULL, NULL));
    g_assert_cmpint(g_rename(to, f->disk), ==, 0); /* as if killed before the first step */
    {
        g_autoptr(GString) without = g_string_new(text);
        char *step = strstr(without->str, "<step number=\"3\"");
        g_assert_nonnull(step);
        g_string_erase(without, step - without->str, strcspn(step, "\n"));
        g_assert_true(g_file_set_contents(journal_path, without->str, -1, NULL));
    }
    again = media_open(f->registry, &error);
    g_assert_no_error(error);
    g_assert_nonnull(again);
    g_assert_cmpint(g_access(to, F_OK), ==, 0);
    g_assert_cmpint(g_access(f->config_path, F_OK), ==, -1);
    g_assert_cmpint(g_access(journal_path, F_OK), ==, -1);
    g_free(text);
    g_assert_true(g_file_get_contents(note, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "new & <good>\n");
}

#define WRITERS 4
#define ROUNDS  10

/* Processes that register media at the same time lose nothing of each other's. */
static void test_two_writers(Fixture *f, gconstpointer data)
{
    static const char sector[512];
    g_autoptr(GPtrArray) all = NULL;
    g_autoptr(GError) error = NULL;
    pid_t pids[WRITERS];

    for (unsigned w = 0; w < WRITERS; w++) {
        pids[w] = fork();
        for (unsigned i = 0; pids[w] == 0 && i < ROUNDS; i++) {
            g_autofree char *path = g_strdup_printf("%s/%u-%u.img", f->folder, w, i);
            g_autoptr(Media) own = media_open(f->registry, NULL);
            g_autoptr(Medium) medium = NULL;
            g_file_set_contents(path, sector, sizeof(sector), NULL);
            medium = own ? media_add(own, MEDIUM_FLOPPY, path, NULL, NULL, NULL) : NULL;
            if (!medium)
                _exit(1);
        }
        if (pids[w] == 0)
            _exit(0);
    }
    for (unsigned w = 0; w < WRITERS; w++) {
        int status;
        g_assert_cmpint(waitpid(pids[w], &status, 0), ==, pids[w]);
        g_assert_cmpint(status, ==, 0);
    }
    all = media_list(f->media, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(all->len, ==, WRITERS * ROUNDS);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define TEST(name, function) \
    g_test_add("/vm/media/" name, Fixture, NULL, set_up, function, tear_down)
    TEST("add-find-remove", test_add_find_remove);
    TEST("inaccessible", test_inaccessible);
    TEST("remove-open", test_remove_open);
    TEST("uses", test_uses);
    TEST("move", test_move);
    TEST("move-chain", test_move_chain);
    TEST("move-chain-refused", test_move_chain_refused);
    TEST("journal-recovers", test_journal_recovers);
    TEST("two-writers", test_two_writers);
    return g_test_run();
}
