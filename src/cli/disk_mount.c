/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * disk mount: a disk and its partitions as files in a folder and, where the host can, the file
 * systems in them as folders beside them.
 *
 * One process serves the files, another mounts what is in them, for who does that reads the files.
 * By default the one that serves goes to the background.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/i18n.h"
#include "base/module.h"
#include "cli/disk.h"
#include "cli/disk_mount.h"
#include "cli/file_system.h"
#include "fuse/view.h"

/* A file that is shown, and what is known of it. */
typedef struct Shown {
    char *file;   /* "partition1" */
    char *folder; /* where its file system may be mounted, in the folder; NULL: nowhere */
    FileSystem fs;
    uint64_t start, size;
    const char *how; /* what mounted it; NULL: nothing */
    char *why_not;
} Shown;

typedef struct Mount {
    char *folder;
    bool writable;
    View view;
    GPtrArray *shown; /* Shown * */
    const FuseApi *api;
    FuseMount *fuse;
    GMainLoop *loop;
} Mount;

/* What mounts a file system without the host's kernel, and how the kernel leaves it untouched. */
static const struct {
    const char *type, *helper, *read_only;
} file_systems[] = {
    {"ext2", "fuse2fs", "ro"},
    {"ext3", "fuse2fs", "ro,noload"},
    {"ext4", "fuse2fs", "ro,noload"},
    {"ntfs", "ntfs-3g", "ro"},
    {"vfat", NULL, "ro"},
    {"exfat", NULL, "ro"},
    {"xfs", NULL, "ro,norecovery"},
    {"btrfs", NULL, "ro,rescue=nologreplay"},
    {"iso9660", NULL, "ro"},
    {"udf", NULL, "ro"},
};

static void shown_free(gpointer data)
{
    Shown *s = data;
    g_free(s->file);
    g_free(s->folder);
    g_free(s->why_not);
    file_system_clear(&s->fs);
    g_free(s);
}

/* ---- what is shown --------------------------------------------------------------------------- */

static bool is_simple(const char *label)
{
    return label && *label && strlen(label) <= 64 && *label != '.' &&
           strspn(label, G_CSET_a_2_z G_CSET_A_2_Z G_CSET_DIGITS "._-") == strlen(label);
}

static bool is_mountable(const char *type)
{
    for (size_t i = 0; type && i < G_N_ELEMENTS(file_systems); i++) {
        if (!strcmp(file_systems[i].type, type))
            return true;
    }
    return false;
}

static int show_part(Mount *m, const Partition *p, bool only_raw)
{
    Shown *s = g_new0(Shown, 1);
    g_autofree char *digits = p->number ? g_strdup_printf("%u", p->number) : g_strdup("");
    g_ptr_array_add(m->shown, s);
    s->file = p->number ? g_strconcat("partition", digits, NULL) : g_strdup("disk");
    s->start = p->start;
    s->size = p->size;
    view_add(&m->view, FUSE_FILE, s->file, NULL, p->start, p->size);
    if (partition_is_container(p))
        return 0;
    int result = file_system_look(m->view.image, p->start, p->size, &s->fs);
    const char *label = is_simple(s->fs.label) ? s->fs.label : p->name;
    if (p->number && is_simple(label)) {
        g_autofree char *link = g_strconcat(s->file, "-", label, NULL);
        view_add(&m->view, FUSE_LINK, link, s->file, 0, 0);
    }
    if (!only_raw && is_mountable(s->fs.type)) {
        s->folder = g_strconcat("files", digits, NULL);
        view_add(&m->view, FUSE_FOLDER, s->folder, NULL, 0, 0);
    }
    return result;
}

static int show_all(Mount *m, bool only_raw)
{
    PartitionTable t;
    Partition whole = {.size = m->view.image->map->size};
    int result = partition_table_read(m->view.image, &t);
    if (result)
        return result;
    /* With a table, what the whole disk holds is no file system. */
    result = show_part(m, &whole, only_raw || t.scheme != PARTITIONS_NONE);
    for (guint i = 0; i < t.partitions->len && !result; i++)
        result = show_part(m, t.partitions->pdata[i], only_raw);
    partition_table_clear(&t);
    return result;
}

/* ---- file systems ---------------------------------------------------------------------------- */

/* True when the program did it; what it complains about goes to `why_not`. */
static bool run_quietly(const char *const *argv, char **why_not)
{
    g_autofree char *complaint = NULL;
    g_autoptr(GError) error = NULL;
    int status;
    bool ran =
        g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL,
                     NULL, NULL, NULL, &complaint, &status, &error);
    if (ran && g_spawn_check_wait_status(status, NULL))
        return true;
    g_free(*why_not);
    *why_not = g_strdup(g_strstrip(ran && *complaint ? complaint
                                   : error           ? error->message
                                                     : _("it failed")));
    return false;
}

/* Programs of the user's come first: what is in an image may want to harm the host's kernel. */
static void mount_file_system(const Mount *m, Shown *s)
{
    size_t i = 0;
    while (strcmp(file_systems[i].type, s->fs.type))
        i++;
    const char *helper = file_systems[i].helper;
    const char *kernel_options = m->writable ? "rw" : file_systems[i].read_only;
    g_autofree char *file = g_build_filename(m->folder, s->file, NULL);
    g_autofree char *folder = g_build_filename(m->folder, s->folder, NULL);
    g_autofree char *options = g_strconcat("loop,nosuid,nodev,", kernel_options, NULL);
    g_autofree char *found = helper ? g_find_program_in_path(helper) : NULL;
    const char *by_helper[] = {helper, file, folder, "-o", m->writable ? "rw" : "ro", NULL};
    const char *by_kernel[] = {"mount", "-t", s->fs.type, "-o", options, file, folder, NULL};
    if (found && run_quietly(by_helper, &s->why_not))
        s->how = helper;
    else if (geteuid() == 0 && access("/dev/loop-control", R_OK) == 0 &&
             run_quietly(by_kernel, &s->why_not))
        s->how = "kernel";
    else if (!s->why_not)
        s->why_not = helper ? g_strdup_printf(_("install %s, or mount it as root"), helper)
                            : g_strdup(_("only root on a host with loop devices can"));
}

/* ---- output ---------------------------------------------------------------------------------- */

static void print_text(const Mount *m)
{
    for (guint i = 0; i < m->shown->len; i++) {
        const Shown *s = m->shown->pdata[i];
        g_autofree char *size = disk_size_text(s->size);
        printf("%s/%-12s %10s  %-10s %s\n", m->folder, s->file, size, s->fs.type ? s->fs.type : "-",
               s->fs.label ? s->fs.label : "");
        if (s->how)
            printf("%s/%-12s its files, by %s\n", m->folder, s->folder, s->how);
        else if (s->folder)
            printf("%s/%-12s not mounted: %s\n", m->folder, s->folder, s->why_not);
    }
}

static void print_json(const Mount *m)
{
    g_auto(JsonText) json;
    JsonText *b = &json;
    json_text_init(b);
    json_begin(b, '{');
    json_add_string(b, "folder", m->folder);
    json_name(b, "writable");
    json_bool(b, m->writable);
    json_name(b, "files");
    json_begin(b, '[');
    for (guint i = 0; i < m->shown->len; i++) {
        const Shown *s = m->shown->pdata[i];
        json_begin(b, '{');
        json_add_string(b, "name", s->file);
        json_name(b, "offset");
        json_int(b, (gint64)s->start);
        json_name(b, "size");
        json_int(b, (gint64)s->size);
        json_add_string(b, "file-system", s->fs.type);
        json_add_string(b, "label", s->fs.label);
        json_add_string(b, "mounted-at", s->how ? s->folder : NULL);
        json_add_string(b, "mounted-by", s->how);
        json_add_string(b, "not-mounted", s->how ? NULL : s->why_not);
        json_end(b, '}');
    }
    json_end(b, ']');
    json_end(b, '}');
    disk_print_json(b);
}

static void mount_and_print(const DiskArgs *a, Mount *m)
{
    for (guint i = 0; i < m->shown->len; i++) {
        Shown *s = m->shown->pdata[i];
        if (s->folder)
            mount_file_system(m, s);
    }
    if (a->json)
        print_json(m);
    else if (!a->quiet)
        print_text(m);
    fflush(stdout);
}

/* ---- the server ------------------------------------------------------------------------------ */

static gboolean on_request(gint fd, GIOCondition condition, gpointer obj)
{
    Mount *m = obj;
    if (m->api->serve(m->fuse))
        return G_SOURCE_CONTINUE;
    g_main_loop_quit(m->loop);
    return G_SOURCE_REMOVE;
}

/* Another process unmounts, because to do so is to wait for us. */
static gboolean on_signal(gpointer obj)
{
    const Mount *m = obj;
    if (fork() == 0) {
        g_autoptr(GError) error = NULL;
        bool done = disk_unmount_folder(m->folder, false, &error) ||
                    disk_unmount_folder(m->folder, true, NULL);
        _exit(done ? 0 : 1);
    }
    return G_SOURCE_CONTINUE;
}

static void serve(Mount *m)
{
    m->loop = g_main_loop_new(NULL, FALSE);
    signal(SIGCHLD, SIG_IGN);
    g_unix_signal_add(SIGINT, on_signal, m);
    g_unix_signal_add(SIGTERM, on_signal, m);
    g_unix_signal_add(SIGHUP, on_signal, m);
    g_unix_fd_add(m->api->get_fd(m->fuse), G_IO_IN | G_IO_ERR | G_IO_HUP, on_request, m);
    g_main_loop_run(m->loop);
    g_main_loop_unref(m->loop);
}

static void leave_terminal(void)
{
    auto_fd null = open("/dev/null", O_RDWR | O_CLOEXEC);
    setsid();
    for (int fd = 0; fd < 3; fd++)
        dup2(null, fd);
    if (chdir("/") < 0)
        return; /* it keeps the folder that it was started in from being unmounted, no more */
}

/* ---- the command ----------------------------------------------------------------------------- */

static char *find_folder(const char *name, GError **error)
{
    g_autofree char *folder = realpath(name, NULL);
    g_autoptr(GDir) dir = folder ? g_dir_open(folder, 0, NULL) : NULL;
    if (!dir) {
        disk_refuse(error, "'%s' is no folder; make it with mkdir", name);
        return NULL;
    }
    if (g_dir_read_name(dir)) {
        disk_refuse(error, "the folder '%s' is not empty; make another one with mkdir", name);
        return NULL;
    }
    return g_steal_pointer(&folder);
}

/* Returns in both processes; true: this one shall serve. */
static bool split(const DiskArgs *a, Mount *m, pid_t *ret_child)
{
    bool in_foreground = a->letter['G'] != NULL;
    *ret_child = fork();
    if (*ret_child < 0) /* then nothing is mounted in the folder */
        return true;
    bool serves = (*ret_child != 0) == in_foreground;
    if (!serves)
        m->api->forget(m->fuse);
    else if (!in_foreground)
        leave_terminal();
    return serves;
}

static int run(const DiskArgs *a, Mount *m, GError **error)
{
    pid_t child;
    g_autofree char *source = g_canonicalize_filename(a->rest[0], NULL);
    FuseSpec spec = {.folder = m->folder, .source = source, .writable = m->writable};
    int result = show_all(m, a->letter['R'] != NULL);
    if (result)
        return disk_fail(error, "read the partitions of", a->rest[0], result);
    view_describe(&m->view, &spec);
    m->api = module_load("fuse", error);
    m->fuse = m->api ? m->api->mount(&spec, error) : NULL;
    if (!m->fuse)
        return -1;
    if (!split(a, m, &child)) {
        mount_and_print(a, m);
        _exit(EXIT_SUCCESS);
    }
    serve(m);
    m->api->unmount(m->fuse);
    result = m->writable ? image_flush(m->view.image) : 0;
    return result ? disk_fail(error, "write", a->rest[0], result) : 0;
}

int disk_command_mount(DiskArgs *a, GError **error)
{
    Mount m = {.writable = a->letter['w'] != NULL};
    const char *tag = a->letter['l'];
    if (a->count != 2)
        return disk_usage(error, "mount takes an image and an empty folder");
    if (m.writable && tag)
        return disk_usage(error, "a snapshot is never written to: --writable can't go with it");
    ImageOptions options = {.format = a->letter['f'],
                            .read_only = !m.writable,
                            .trust_names = a->trust,
                            .snapshot = tag,
                            .key = a->key};
    m.folder = find_folder(a->rest[1], error);
    g_autoptr(Image) image = m.folder ? image_open(a->rest[0], &options, error) : NULL;
    if (!image) {
        g_free(m.folder);
        return -1;
    }
    view_init(&m.view, image);
    m.shown = g_ptr_array_new_with_free_func(shown_free);
    int result = run(a, &m, error);
    g_ptr_array_unref(m.shown);
    view_clear(&m.view);
    g_free(m.folder);
    return result;
}
