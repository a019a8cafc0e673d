/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Threads and processes that wake each other, for programs.py: prints "NAME SUM", the same
 * everywhere, for each way. As a guest's init it powers off at the end.
 */
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 20000

/* Whose turn it is, and what they made of it. */
typedef struct Table {
    pthread_mutex_t lock;
    pthread_cond_t turned;
    unsigned turn;
    uint64_t sum;
} Table;

static void play(Table *table, unsigned player, unsigned players)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&table->lock);
        while (table->turn % players != player)
            pthread_cond_wait(&table->turned, &table->lock);
        table->sum = table->sum * 31 + table->turn++ + player;
        pthread_cond_broadcast(&table->turned);
        pthread_mutex_unlock(&table->lock);
    }
}

static void *play_second(void *table)
{
    play(table, 1, 2);
    return NULL;
}

static uint64_t threads(void)
{
    Table table = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0};
    pthread_t second;

    if (pthread_create(&second, NULL, play_second, &table))
        return 0;
    play(&table, 0, 2);
    pthread_join(second, NULL);
    return table.sum;
}

/* Three of them, by memory that they share. */
static uint64_t processes(void)
{
    Table *table =
        mmap(NULL, sizeof(*table), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_t locks;
    pthread_condattr_t conditions;

    if (table == MAP_FAILED)
        return 0;
    pthread_mutexattr_init(&locks);
    pthread_mutexattr_setpshared(&locks, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&table->lock, &locks);
    pthread_condattr_init(&conditions);
    pthread_condattr_setpshared(&conditions, PTHREAD_PROCESS_SHARED);
    pthread_cond_init(&table->turned, &conditions);
    for (unsigned player = 1; player < 3; player++) {
        if (fork() == 0) {
            play(table, player, 3);
            _exit(0);
        }
    }
    play(table, 0, 3);
    while (wait(NULL) > 0)
        ;
    return table->sum;
}

/* A child adds its part to what a pipe brings, and sends it back by another. */
static uint64_t pipes(void)
{
    int there[2], back[2];
    uint64_t value = 1;

    if (pipe(there) || pipe(back))
        return 0;
    if (fork() == 0) {
        close(there[1]);
        while (read(there[0], &value, sizeof(value)) == sizeof(value)) {
            value = value * 31 + 1;
            if (write(back[1], &value, sizeof(value)) != sizeof(value))
                break;
        }
        _exit(0);
    }
    for (unsigned i = 0; i < ROUNDS; i++) {
        value ^= i;
        if (write(there[1], &value, sizeof(value)) != sizeof(value) ||
            read(back[0], &value, sizeof(value)) != sizeof(value))
            return 0;
    }
    close(there[1]);
    wait(NULL);
    return value;
}

static volatile uint64_t signalled;

static void on_signal(int number)
{
    signalled = signalled * 31 + (unsigned)number;
}

static uint64_t signals(void)
{
    signal(SIGUSR1, on_signal);
    for (unsigned i = 0; i < ROUNDS; i++)
        raise(SIGUSR1);
    return signalled;
}

/* Each a program's whole life. */
static uint64_t children(void)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < 200; i++) {
        int status = 0;
        pid_t child = fork();
        if (child == 0)
            _exit((int)(i * 7 % 256));
        waitpid(child, &status, 0);
        sum = sum * 31 + (unsigned)WEXITSTATUS(status);
    }
    return sum;
}

static const struct {
    const char *name;
    uint64_t (*run)(void);
} ways[] = {
    {"threads", threads}, {"processes", processes}, {"pipes", pipes},
    {"signals", signals}, {"children", children},
};

int main(void)
{
    for (unsigned i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        printf("%s %llx\n", ways[i].name, (unsigned long long)ways[i].run());
        fflush(stdout);
    }
    printf("end\n");
    fflush(stdout);
    if (getpid() == 1)
        reboot(RB_POWER_OFF);
    return 0;
}
