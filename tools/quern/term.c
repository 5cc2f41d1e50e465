/* Talks to the terminal and asks the system; the one file of the command that knows which system it is. */
#define _GNU_SOURCE
#include "term.h"

#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef _WIN32
#include <io.h>
#include <windows.h>
#else
#include <sched.h>
#include <unistd.h>
#endif

/* ---- Ctrl-C ---- */

static volatile sig_atomic_t interrupted, terminated;

/* The first one is noted, a second one before the first was answered does what it does by default. */
static void on_signal(int number)
{
    volatile sig_atomic_t *noted = number == SIGTERM ? &terminated : &interrupted;
    if (*noted) {
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    *noted = 1;
#ifdef _WIN32
    signal(number, on_signal);
#endif
}

static void catch_signal(int number)
{
#ifdef _WIN32
    signal(number, on_signal);
#else
    /* No SA_RESTART: a read from the terminal ends too. */
    struct sigaction action = {.sa_handler = on_signal}, old;
    sigemptyset(&action.sa_mask);
    if (sigaction(number, NULL, &old) == 0 && old.sa_handler != SIG_IGN)
        sigaction(number, &action, NULL);
#endif
}

void term_catch_interrupt(void)
{
    catch_signal(SIGINT);
    catch_signal(SIGTERM);
}

bool term_interrupted(void)
{
    return interrupted != 0 || terminated != 0;
}

bool term_broken(void)
{
    if (ferror(stdout) && term_interrupted())
        clearerr(stdout);
    return ferror(stdout) != 0;
}

void term_forget_interrupt(void)
{
    interrupted = 0;
}

bool term_terminated(void)
{
    return terminated != 0;
}

/* ---- status line ---- */

bool term_is_terminal(FILE *stream)
{
#ifdef _WIN32
    return _isatty(_fileno(stream)) != 0;
#else
    return isatty(fileno(stream)) != 0;
#endif
}

static atomic_bool line_open; /* of stdout, a terminal; threads of the library that log ask for it */

void term_text(const char *text, size_t n)
{
    if (n == 0)
        return;
    line_open = text[n - 1] != '\n' && term_is_terminal(stdout);
    fwrite(text, 1, n, stdout);
    fflush(stdout);
}

void term_status(const char *fmt, ...)
{
    if (line_open || !term_is_terminal(stderr))
        return;
    char text[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    fprintf(stderr, "\r\033[K%s", text);
    fflush(stderr);
}

void term_progress(const char *what, uint64_t done, uint64_t total)
{
    enum { WIDTH = 30 };
    if (total == 0 || done >= total) {
        term_status_end();
        return;
    }
    double part = (double)done / (double)total;
    char bar[WIDTH + 1];
    for (int i = 0; i < WIDTH; i++)
        bar[i] = i < part * WIDTH ? '#' : '.';
    bar[WIDTH] = '\0';
    term_status("%s [%s] %3.0f %%", what, bar, part * 100);
}

void term_status_end(void)
{
    term_status("%s", "");
}

/* ---- clock and machine ---- */

uint64_t term_now_ns(void)
{
#ifdef _WIN32
    LARGE_INTEGER count, rate;
    QueryPerformanceCounter(&count);
    QueryPerformanceFrequency(&rate);
    return (uint64_t)((double)count.QuadPart * 1e9 / (double)rate.QuadPart);
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
#endif
}

int64_t term_local_seconds(void)
{
    time_t now = time(NULL);
#ifdef _WIN32
    struct tm *local = localtime(&now);
    return local ? (int64_t)_mkgmtime(local) : (int64_t)now;
#else
    struct tm local;
    return localtime_r(&now, &local) ? (int64_t)timegm(&local) : (int64_t)now;
#endif
}

uint32_t term_random(void)
{
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    uint64_t x = (uint64_t)now.tv_sec * 1000000007u + (uint64_t)now.tv_nsec + (uint64_t)(uintptr_t)&now;
    x = (x ^ (x >> 31)) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(x >> 32);
}

bool term_program_path(char *path, size_t size)
{
#ifdef __linux__
    ssize_t n = readlink("/proc/self/exe", path, size);
    if (n > 0 && (size_t)n < size) {
        path[n] = '\0';
        return true;
    }
#endif
    (void)size;
    path[0] = '\0';
    return false;
}

bool term_set_environment(const char *assignment)
{
    char name[128];
    const char *equals = strchr(assignment, '=');
    if (!equals || (size_t)(equals - assignment) >= sizeof name)
        return false;
    snprintf(name, sizeof name, "%.*s", (int)(equals - assignment), assignment);
#ifdef _WIN32
    return _putenv_s(name, equals + 1) == 0;
#else
    return setenv(name, equals + 1, 1) == 0;
#endif
}

void term_alarm(unsigned seconds)
{
#ifndef _WIN32
    alarm(seconds);
#endif
}

unsigned term_processors(void)
{
#ifdef _WIN32
    SYSTEM_INFO info;
    GetSystemInfo(&info);
    return (unsigned)info.dwNumberOfProcessors;
#else
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return (unsigned)CPU_COUNT(&set);
#endif
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (unsigned)n : 1;
#endif
}

void term_processor_name(char *name, size_t size)
{
    name[0] = '\0';
    FILE *file = fopen("/proc/cpuinfo", "r");
    if (!file)
        return;
    char line[512];
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, "model name", 10) != 0)
            continue;
        const char *value = strchr(line, ':');
        value = value ? value + 1 + strspn(value + 1, " ") : "";
        snprintf(name, size, "%.*s", (int)strcspn(value, "\n"), value);
        break;
    }
    fclose(file);
}
