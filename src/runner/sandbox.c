/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * See sandbox.h. The list holds what GLib, the engines, disks and character streams use while a
 * guest runs. A call that is not in it fails as if there were no permission, so that a library that
 * asks for a luxury (a time zone, a name) goes on without it.
 */
#include "runner/sandbox.h"
#include "base/i18n.h"

#include <errno.h>
#include <seccomp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#ifdef __has_feature /* clang */
#define CHECKS_LEAKS __has_feature(address_sanitizer)
#else
#define CHECKS_LEAKS 0
#endif

static const int allowed[] = {
    /* memory and threads */
    SCMP_SYS(mmap),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(mprotect),
    SCMP_SYS(madvise),
    SCMP_SYS(brk),
    SCMP_SYS(msync),
    SCMP_SYS(mlock),
    SCMP_SYS(munlock),
    SCMP_SYS(memfd_create),
    SCMP_SYS(clone),
    SCMP_SYS(clone3),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(futex),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(gettid),
    SCMP_SYS(getpid),
    SCMP_SYS(prctl),
    SCMP_SYS(membarrier),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(tgkill),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(sched_setattr),
    SCMP_SYS(sched_getattr),
    /* signals and time */
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigtimedwait),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(signalfd4),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_getres),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(timerfd_create),
    SCMP_SYS(timerfd_settime),
    SCMP_SYS(timerfd_gettime),
    SCMP_SYS(timer_create),
    SCMP_SYS(timer_settime),
    SCMP_SYS(timer_delete),
    SCMP_SYS(getrusage),
    /* descriptors that are open already, and new ones that lead nowhere else */
    SCMP_SYS(read),
    SCMP_SYS(readv),
    SCMP_SYS(pread64),
    SCMP_SYS(preadv),
    SCMP_SYS(preadv2),
    SCMP_SYS(write),
    SCMP_SYS(writev),
    SCMP_SYS(pwrite64),
    SCMP_SYS(pwritev),
    SCMP_SYS(pwritev2),
    SCMP_SYS(lseek),
    SCMP_SYS(fsync),
    SCMP_SYS(fdatasync),
    SCMP_SYS(sync_file_range),
    SCMP_SYS(fallocate),
    SCMP_SYS(ftruncate),
    SCMP_SYS(fstat),
    SCMP_SYS(fstatfs),
    SCMP_SYS(newfstatat),
    SCMP_SYS(statx),
    SCMP_SYS(close),
    SCMP_SYS(dup),
    SCMP_SYS(dup2),
    SCMP_SYS(dup3),
    SCMP_SYS(fcntl),
    SCMP_SYS(ioctl),
    SCMP_SYS(flock),
    SCMP_SYS(pipe2),
    SCMP_SYS(eventfd2),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(epoll_create1),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(select),
    SCMP_SYS(pselect6),
    SCMP_SYS(io_uring_enter),
    SCMP_SYS(unlink),
    SCMP_SYS(copy_file_range),
    /* sockets that listen already */
    SCMP_SYS(accept4),
    SCMP_SYS(accept),
    SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(sendmsg),
    SCMP_SYS(shutdown),
    SCMP_SYS(getsockopt),
    SCMP_SYS(setsockopt),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    /* randomness and who we are */
    SCMP_SYS(getrandom),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    SCMP_SYS(uname),
    SCMP_SYS(sysinfo),
    SCMP_SYS(prlimit64),
#if CHECKS_LEAKS
    /* the sanitizers' leak checker, which at the end stops all threads and reads their registers */
    SCMP_SYS(ptrace),
    SCMP_SYS(wait4),
    SCMP_SYS(open),
    SCMP_SYS(getdents),
    SCMP_SYS(getppid),
#endif
};

static bool failed(GError **error, const char *what, int code)
{
    g_set_error(
        error, G_IO_ERROR, g_io_error_from_errno(code),
        _("cannot shut the machine's process in: %s: %s; the kernel needs CONFIG_SECCOMP_FILTER"),
        what, g_strerror(code));
    return false;
}

static bool load_filter(scmp_filter_ctx filter, GError **error)
{
    int result = 0;

    if (!filter)
        return failed(error, "seccomp_init", ENOMEM);
    for (unsigned i = 0; i < G_N_ELEMENTS(allowed) && result == 0; i++)
        result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
    if (result == 0)
        result = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1); /* threads that are there */
    if (result == 0)
        result = seccomp_load(filter);
    return result == 0 || failed(error, "seccomp", -result);
}

bool sandbox_enter(GError **error)
{
    const struct rlimit no_core = {0, 0};
    scmp_filter_ctx filter;

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return failed(error, "no new privileges", errno);
    if (setrlimit(RLIMIT_CORE, &no_core) < 0)
        return failed(error, "no core dumps", errno);
    filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    bool loaded = load_filter(filter, error);
    seccomp_release(filter);
    return loaded;
}
