/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The files of an image that is being made: what fails or is interrupted leaves none of them. */
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/disk.h"

static const int signals[] = {SIGINT, SIGTERM, SIGHUP};

/* For the signal handler: NULL at the end. Belongs to the process, as its signals do. */
static char *const *volatile half_made;

/* Never a device that was written to. */
static void remove_file(const char *path)
{
    struct stat st;
    if (lstat(path, &st) == 0 && S_ISREG(st.st_mode))
        unlink(path);
}

static void on_signal(int number)
{
    for (char *const *path = half_made; path && *path; path++)
        remove_file(*path);
    /* The handler was for one signal: now it ends the process, as the shell expects. */
    raise(number);
}

static void hold_signals(int how)
{
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < G_N_ELEMENTS(signals); i++)
        sigaddset(&set, signals[i]);
    pthread_sigmask(how, &set, NULL);
}

static void set_handlers(void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = (int)SA_RESETHAND};
    for (size_t i = 0; i < G_N_ELEMENTS(signals); i++)
        sigaction(signals[i], &action, NULL);
}

void disk_target_forget(DiskTarget *target)
{
    half_made = NULL;
    set_handlers(SIG_DFL);
    g_clear_pointer(&target->files, g_ptr_array_unref);
}

void disk_target_remove(DiskTarget *target)
{
    for (guint i = 0; target->files && i + 1 < target->files->len; i++)
        remove_file(target->files->pdata[i]);
    disk_target_forget(target);
}

/*
 * A signal may come when a file is there and known: making an image can take long. Until the next
 * one is known, none may.
 */
static void on_made(void *obj, const char *path)
{
    DiskTarget *target = obj;
    hold_signals(SIG_BLOCK);
    if (!path)
        return;
    g_ptr_array_insert(target->files, (gint)target->files->len - 1, g_strdup(path));
    half_made = (char *const *)target->files->pdata;
    set_handlers(on_signal);
    hold_signals(SIG_UNBLOCK);
}

bool disk_target_create(DiskTarget *target, const char *path, const ImageCreate *create,
                        GError **error)
{
    ImageCreate watched = *create;
    watched.made = on_made;
    watched.obj = target;
    target->files = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(target->files, NULL);
    hold_signals(SIG_BLOCK);
    bool good = image_create(path, &watched, error);
    if (!good)
        disk_target_remove(target);
    hold_signals(SIG_UNBLOCK);
    return good;
}
