/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The rows of `make bench`: one static program, run natively and as the init of each machine, where
 * it powers off at the end. Prints "row NAME SECONDS CHECKSUM" for each; checksums are the same
 * everywhere. Usage: kernels [ROW...]
 */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static uint64_t row_integer(void)
{
    uint64_t x = 88172645463325252;

    for (int i = 0; i < 40000000; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    return x;
}

static uint64_t row_branches(void)
{
    uint64_t longest = 0;

    for (uint64_t n = 1; n < 1000000; n++) {
        uint64_t steps = 0;
        for (uint64_t v = n; v != 1; steps++)
            v = v & 1 ? 3 * v + 1 : v / 2;
        if (steps > longest)
            longest = steps;
    }
    return longest;
}

static uint64_t __attribute__((noinline)) fibonacci(unsigned n)
{
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

static uint64_t row_calls(void)
{
    return fibonacci(38);
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

static uint64_t row_sort(void)
{
    enum { COUNT = 2000000 };
    static uint32_t values[COUNT];
    uint32_t x = 12345;

    for (int i = 0; i < COUNT; i++)
        values[i] = x = x * 1664525 + 1013904223;
    qsort(values, COUNT, sizeof(values[0]), compare);
    return values[COUNT / 2];
}

/* One cycle through 8 MiB in random order (Sattolo's shuffle). */
static uint64_t row_chase(void)
{
    enum { COUNT = 1 << 20 };
    static uint64_t next[COUNT];
    uint64_t at = 0, x = 88172645463325252;

    for (uint64_t i = 0; i < COUNT; i++)
        next[i] = i;
    for (uint64_t i = COUNT - 1; i > 0; i--) {
        uint64_t j, other = next[i];
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        j = x % i;
        next[i] = next[j];
        next[j] = other;
    }
    for (int i = 0; i < 4000000; i++)
        at = next[at];
    return at;
}

static uint64_t row_memcpy(void)
{
    enum { SIZE = 4 << 20 };
    static char from[SIZE], to[SIZE];

    for (int i = 0; i < 800; i++) {
        from[i] = (char)i;
        memcpy(to, from, SIZE);
        memset(from + i, i, SIZE / 2);
        asm volatile("" ::: "memory");
    }
    return (uint64_t)to[500];
}

/* The compiler makes packed SSE2 arithmetic of this one; "dot" stays scalar. */
static uint64_t row_matrix(void)
{
    enum { N = 320 };
    static double a[N][N], b[N][N], c[N][N];
    double sum = 0;

    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            a[i][j] = i + j, b[i][j] = i - 2 * j;
    for (int round = 0; round < 10; round++)
        for (int i = 0; i < N; i++)
            for (int k = 0; k < N; k++)
                for (int j = 0; j < N; j++)
                    c[i][j] += a[i][k] * b[k][j];
    for (int i = 0; i < N; i++)
        sum += c[i][i];
    return (uint64_t)(int64_t)sum;
}

static uint64_t row_dot(void)
{
    enum { N = 160 };
    static double a[N][N], b[N][N];
    double sum = 0;

    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            a[i][j] = i + j, b[i][j] = i - 2 * j;
    for (int round = 0; round < 24; round++)
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                double s = 0;
                for (int k = 0; k < N; k++)
                    s += a[i][k] * b[k][j];
                sum += i == j ? s : 0;
            }
    return (uint64_t)(int64_t)sum;
}

static uint64_t row_sse(void)
{
    typedef float vec __attribute__((vector_size(16)));
    vec x = {1, 2, 3, 4}, y = {0.5f, 0.25f, 0.125f, 1};

    for (int i = 0; i < 24000000; i++)
        x = x * y + y, y = y - x * 1e-7f;
    return (uint64_t)(int64_t)(x[0] * 1000);
}

static uint64_t row_x87(void)
{
    long double x = 1, sum = 0;

    for (int i = 1; i < 12000000; i++) {
        x = x * 1.0000001L + 1.0L / i;
        sum += x;
    }
    return (uint64_t)sum;
}

static uint64_t row_syscall(void)
{
    uint64_t sum = 0;

    for (int i = 0; i < 300000; i++)
        sum += (uint64_t)getppid() >= 0;
    return sum;
}

static uint64_t row_fork(void)
{
    for (int i = 0; i < 300; i++) {
        pid_t pid = fork();
        if (!pid)
            _exit(0);
        waitpid(pid, NULL, 0);
    }
    return 300;
}

/* Two processes that compute: as long as one where there are two CPUs. */
static uint64_t row_pair(void)
{
    pid_t pid = fork();
    uint64_t x = row_integer();

    if (!pid)
        _exit(0);
    waitpid(pid, NULL, 0);
    return x;
}

static uint64_t row_faults(void)
{
    enum { PAGES = 8000 };

    for (int round = 0; round < 10; round++) {
        char *p =
            mmap(NULL, PAGES * 4096UL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        madvise(p, PAGES * 4096UL, MADV_NOHUGEPAGE);
        for (int i = 0; i < PAGES; i++)
            p[i * 4096UL] = 1;
        munmap(p, PAGES * 4096UL);
    }
    return 80000;
}

/* The first nine are those of the geometric mean, see bench/run. */
static const struct {
    const char *name;
    uint64_t (*run)(void);
} rows[] = {
    {"xorshift", row_integer},  {"sort", row_sort},       {"matrix", row_matrix},
    {"memcpy", row_memcpy},     {"getppid", row_syscall}, {"fork", row_fork},
    {"faults", row_faults},     {"chase", row_chase},     {"collatz", row_branches},
    {"mix", row_mix},           {"script", row_script},   {"calls", row_calls},
    {"dot", row_dot},           {"sse", row_sse},         {"x87", row_x87},
    {"pair", row_pair},         {"copies", row_copies},   {"fills", row_fills},
    {"compares", row_compares}, {"locked", row_locked},   {"crc", row_crc},
    {"sine", row_sine},         {"print", row_print},     {"alloc", row_alloc},
    {"regex", row_regex},       {"fresh", row_fresh},
};

static void run_rows(int argc, char **argv)
{
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int wanted = argc < 2;
        double start;
        uint64_t sum;

        for (int a = 1; a < argc; a++)
            wanted |= !strcmp(argv[a], rows[i].name);
        if (!wanted)
            continue;
        start = now();
        sum = rows[i].run();
        printf("row %s %.6f %llx\n", rows[i].name, now() - start, (unsigned long long)sum);
        fflush(stdout);
    }
}

int main(int argc, char **argv)
{
    int is_init = getpid() == 1;

    if (is_init) {
        printf("init runs\n");
        fflush(stdout);
    }
    run_rows(argc, argv);
    printf("rows done\n");
    fflush(stdout);
    return is_init ? reboot(RB_POWER_OFF) : 0;
}
