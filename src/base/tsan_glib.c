/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * For ThreadSanitizer builds only: tells it what GLib synchronizes. GLib makes its mutexes and its
 * pools' queues of futexes and is not instrumented, so everything they guard would look like a
 * race. These stand before GLib's own functions of the same names and call them.
 */
#include <dlfcn.h>
#include <glib.h>
#include <sanitizer/tsan_interface.h>

#define REAL(function) ((__typeof__(&(function)))real(#function))

static void *real(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);

    if (!function)
        __builtin_trap();
    return function;
}

void g_mutex_lock(GMutex *mutex)
{
    static void (*lock)(GMutex *);

    if (!__atomic_load_n(&lock, __ATOMIC_RELAXED))
        __atomic_store_n(&lock, REAL(g_mutex_lock), __ATOMIC_RELAXED);
    __tsan_mutex_pre_lock(mutex, __tsan_mutex_not_static);
    __atomic_load_n(&lock, __ATOMIC_RELAXED)(mutex);
    __tsan_mutex_post_lock(mutex, __tsan_mutex_not_static, 0);
}

void g_mutex_unlock(GMutex *mutex)
{
    static void (*unlock)(GMutex *);

    if (!__atomic_load_n(&unlock, __ATOMIC_RELAXED))
        __atomic_store_n(&unlock, REAL(g_mutex_unlock), __ATOMIC_RELAXED);
    __tsan_mutex_pre_unlock(mutex, __tsan_mutex_not_static);
    __atomic_load_n(&unlock, __ATOMIC_RELAXED)(mutex);
    __tsan_mutex_post_unlock(mutex, __tsan_mutex_not_static);
}

void g_mutex_clear(GMutex *mutex)
{
    __tsan_mutex_destroy(mutex, 0);
    REAL(g_mutex_clear)(mutex);
}

/* ---- thread pools ---------------------------------------------------------------------------- */

typedef struct PoolCall {
    GFunc fn;
    gpointer obj;
} PoolCall;

static void pool_call(gpointer data, gpointer obj)
{
    const PoolCall *call = obj;

    __tsan_acquire(data);
    call->fn(data, call->obj);
}

/* The PoolCall stays: a pool does not say when it is gone. */
GThreadPool *g_thread_pool_new(GFunc fn, gpointer obj, gint max_threads, gboolean exclusive,
                               GError **error)
{
    PoolCall *call = g_new(PoolCall, 1);

    *call = (PoolCall){fn, obj};
    return REAL(g_thread_pool_new)(pool_call, call, max_threads, exclusive, error);
}

gboolean g_thread_pool_push(GThreadPool *pool, gpointer data, GError **error)
{
    __tsan_release(data);
    return REAL(g_thread_pool_push)(pool, data, error);
}
