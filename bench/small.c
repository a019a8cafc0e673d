/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Small things that libraries do all the time, each by instructions that the other rows hardly
 * have: an engine that leaves one of these to a slow way is found here. */
#include "bench.h"

#include <math.h>
#include <nmmintrin.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MASK 4095

static unsigned char from[2 * (MASK + 1)], to[2 * (MASK + 1)];

/* REP MOVSB of 24 to 39 bytes. */
uint64_t row_copies(void)
{
    for (unsigned i = 0; i < 4000000; i++) {
        void *d = to + (i & MASK), *s = from + (i & MASK / 2);
        size_t n = 24 + (i & 15);
        asm volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
    }
    return to[77];
}

/* REP STOSQ of 64 to 120 bytes. */
uint64_t row_fills(void)
{
    for (unsigned i = 0; i < 4000000; i++) {
        void *d = to + (i & MASK);
        size_t n = 8 + (i & 7);
        asm volatile("rep stosq" : "+D"(d), "+c"(n) : "a"(0UL) : "memory");
    }
    return to[77];
}

/* REPE CMPSB of 32 equal bytes. */
uint64_t row_compares(void)
{
    uint64_t equal = 0;

    for (unsigned i = 0; i < 1000000; i++) {
        void *a = from + (i & MASK), *b = a;
        size_t n = 32;
        asm volatile("repe cmpsb" : "+D"(a), "+S"(b), "+c"(n) : : "memory", "cc");
        equal += !n;
    }
    return equal;
}

uint64_t row_locked(void)
{
    static uint64_t sum;

    for (int i = 0; i < 10000000; i++)
        __atomic_fetch_add(&sum, 1, __ATOMIC_SEQ_CST);
    return sum;
}

/* CRC32 among vector code. */
__attribute__((target("sse4.2"))) uint64_t row_crc(void)
{
    __m128i sum = _mm_setzero_si128();
    uint64_t crc = 0;

    for (unsigned i = 0; i < 10000000; i++) {
        crc = _mm_crc32_u64(crc, i);
        sum = _mm_add_epi64(sum, _mm_set1_epi64x((long long)crc));
    }
    return (uint64_t)_mm_cvtsi128_si64(sum);
}

uint64_t row_sine(void)
{
    double sum = 0;

    for (int i = 0; i < 1500000; i++)
        sum += sin(i) + cos(i);
    return (uint64_t)(int64_t)(sum * 1000);
}

uint64_t row_print(void)
{
    char text[100];
    uint64_t sum = 0;

    for (int i = 0; i < 300000; i++)
        sum +=
            (uint64_t)snprintf(text, sizeof(text), "%d %s %08x %.3f", i, "hello", i * 7, i * 0.5);
    return sum;
}

uint64_t row_alloc(void)
{
    void *all[64] = {NULL};
    uint32_t x = 1;

    for (int i = 0; i < 4000000; i++) {
        x = x * 1664525 + 1013904223;
        free(all[x >> 26]);
        all[x >> 26] = malloc(16 + (x >> 8 & 511));
    }
    for (int i = 0; i < 64; i++)
        free(all[i]);
    return x;
}

uint64_t row_regex(void)
{
    static const char text[] = "some text with the address joe@example.com inside of it, and more";
    regmatch_t match[3];
    uint64_t sum = 0;
    regex_t regex;

    regcomp(&regex, "([a-z]+)@([a-z]+)\\.com", REG_EXTENDED);
    for (int i = 0; i < 40000; i++) {
        regexec(&regex, text, 3, match, 0);
        sum += (uint64_t)match[1].rm_so;
    }
    regfree(&regex);
    return sum;
}

/* Code that is written, runs 30 times, and is written anew: additions to eax. */
uint64_t row_fresh(void)
{
    enum { COUNT = 4096, SIZE = 65536 };
    unsigned char *code =
        mmap(NULL, SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t sum = 0;

    for (int round = 0; round < 300; round++) {
        static const unsigned char zero[] = {0x31, 0xc0};
        memcpy(code, zero, sizeof(zero));
        for (int i = 0; i < COUNT; i++) {
            const unsigned char add[] = {0x83, 0xc0, (unsigned char)(i + round)};
            memcpy(code + 2 + i * 3, add, sizeof(add));
        }
        code[2 + COUNT * 3] = 0xc3;
        for (int i = 0; i < 30; i++)
            sum += (uint32_t)((int (*)(void))code)();
    }
    munmap(code, SIZE);
    return sum;
}
