/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Raw mode of the terminal (see terminal.h). */
#include "char/terminal.h"
#include "base/i18n.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <termios.h>

static const int fatal_signals[] = {SIGHUP,  SIGINT, SIGQUIT, SIGTERM, SIGABRT,
                                    SIGSEGV, SIGBUS, SIGILL,  SIGFPE};

static struct termios saved;
static atomic_int raw_fd = -1;

/* Async-signal-safe. */
static void restore(void)
{
    int fd = atomic_exchange(&raw_fd, -1);
    if (fd >= 0)
        tcsetattr(fd, TCSANOW, &saved);
}

/* The default action follows when the handler returns and the signal is unblocked. */
static void die_restored(int number)
{
    restore();
    signal(number, SIG_DFL);
    raise(number);
}

/* Whoever handles a signal already also ends the process in good order. */
static void catch_fatal_signals(void)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(fatal_signals); i++) {
        struct sigaction action;
        if (sigaction(fatal_signals[i], NULL, &action) < 0 || action.sa_handler != SIG_DFL)
            continue;
        action = (struct sigaction){.sa_handler = die_restored};
        sigemptyset(&action.sa_mask);
        sigaction(fatal_signals[i], &action, NULL);
    }
}

/* Output keeps its newline handling, so that messages on stderr stay readable. */
static struct termios raw_mode(const struct termios *cooked)
{
    struct termios raw = *cooked;
    raw.c_iflag &= ~(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    raw.c_lflag &= ~(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
    raw.c_cflag = (raw.c_cflag & ~(CSIZE | PARENB)) | CS8;
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    return raw;
}

bool terminal_enter_raw(int fd, GError **error)
{
    static bool registered;
    if (raw_fd >= 0) {
        g_set_error_literal(
            error, G_IO_ERROR, G_IO_ERROR_BUSY,
            _("the terminal is in use by another device of this VM; use stdio once"));
        return false;
    }
    if (tcgetattr(fd, &saved) < 0) {
        int code = errno;
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(code),
                    _("cannot read the terminal's mode: %s"), g_strerror(code));
        return false;
    }
    if (!registered)
        atexit(restore);
    registered = true;
    catch_fatal_signals();
    struct termios raw = raw_mode(&saved);
    raw_fd = fd;
    if (tcsetattr(fd, TCSANOW, &raw) == 0)
        return true;
    int code = errno;
    raw_fd = -1;
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(code),
                _("cannot set the terminal to raw mode: %s"), g_strerror(code));
    return false;
}

void terminal_leave_raw(void)
{
    restore();
}
