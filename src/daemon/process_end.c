/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * See process_end.h. The last line of an orderly end is "ospite-vm: end REASON: MESSAGE"; a log
 * without it is that of a crash.
 */
#include "daemon/process_end.h"
#include "base/i18n.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"

#define TAIL_MAX_BYTES (256 * 1024)
#define CRASH_LINES    10
#define END_PREFIX     "ospite-vm: end "

static const char *const reasons[] = {"guest", "plug", "exit", "error"};

/* The end of a file, as text. */
static char *read_tail(const char *path)
{
    auto_fd fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    char *data;
    ssize_t got;

    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return g_strdup("");
    data = g_malloc(TAIL_MAX_BYTES + 1);
    got = pread(fd, data, TAIL_MAX_BYTES, MAX(0, st.st_size - TAIL_MAX_BYTES));
    data[MAX(got, 0)] = '\0';
    g_autofree char *raw = data;
    return g_utf8_make_valid(raw, MAX(got, 0));
}

char **process_log_tail(const char *path, unsigned lines)
{
    g_autofree char *text = read_tail(path);
    g_auto(GStrv) all = NULL;
    guint count, first;

    if (g_str_has_suffix(text, "\n"))
        text[strlen(text) - 1] = '\0';
    all = g_strsplit(text, "\n", -1);
    count = g_strv_length(all);
    first = count > lines ? count - lines : 0;
    return g_strdupv(all + first);
}

char *process_end_text(const ProcessEnd *end)
{
    if (end->message)
        return g_strdup(_(end->message)); /* fixed words are English; others are as they are */
    if (!end->code)
        return g_strdup(_("the process ended without a word"));
    if (end->code == CLD_EXITED)
        return g_strdup_printf(_("the process ended with status %d"), end->status);
    return g_strdup_printf(_("the process was killed by signal %d (%s)"), end->status,
                           g_strsignal(end->status));
}

/* The reason of a last line, and what follows it; NULL when it tells of no end. */
static const char *parse_end(const char *line, const char **ret_message)
{
    if (!line || !g_str_has_prefix(line, END_PREFIX))
        return NULL;
    line += strlen(END_PREFIX);
    for (unsigned i = 0; i < G_N_ELEMENTS(reasons); i++) {
        size_t length = strlen(reasons[i]);
        if (!strncmp(line, reasons[i], length) && g_str_has_prefix(line + length, ": ")) {
            *ret_message = line + length + 2;
            return reasons[i];
        }
    }
    return NULL;
}

ProcessEnd *process_end_read(const char *log, const siginfo_t *info)
{
    ProcessEnd *end = g_new0(ProcessEnd, 1);
    g_auto(GStrv) tail = process_log_tail(log, CRASH_LINES);
    guint count = g_strv_length(tail);
    const char *message = NULL;

    end->at = g_get_real_time() / G_USEC_PER_SEC;
    end->reason = parse_end(count ? tail[count - 1] : NULL, &message);
    end->message = end->reason ? g_strdup(message) : NULL;
    end->code = info ? info->si_code : 0;
    end->status = info ? info->si_status : 0;
    if (!end->reason)
        end->reason = "crash";
    end->log = strcmp(end->reason, "crash") && strcmp(end->reason, "error")
                   ? g_new0(char *, 1)
                   : g_steal_pointer(&tail);
    return end;
}

void process_end_free(ProcessEnd *end)
{
    if (!end)
        return;
    g_free(end->message);
    g_strfreev(end->log);
    g_free(end);
}
