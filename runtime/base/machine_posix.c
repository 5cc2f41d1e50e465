#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* syscall */
#endif
#include "base/machine.h"

#include "base/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__linux__) && defined(__x86_64__)
#include <sys/syscall.h>
#endif

/* The first line of root + path that begins so, behind that; false: there is none. */
static bool find_line(const char *root, const char *path, const char *begin, char *text, size_t size)
{
    char full[1024];
    bool found = false;
    if (snprintf(full, sizeof full, "%s%s", root, path) >= (int)sizeof full)
        return false;
    FILE *f = fopen(full, "r");
    while (f && !found && fgets(text, (int)size, f)) {
        found = strncmp(text, begin, strlen(begin)) == 0;
        text[strcspn(text, "\n")] = '\0';
    }
    if (f)
        fclose(f);
    if (found)
        memmove(text, text + strlen(begin), strlen(text + strlen(begin)) + 1);
    return found;
}

static uint64_t kilobytes(const char *root, const char *name)
{
    char line[256];
    return find_line(root, "/proc/meminfo", name, line, sizeof line) ? strtoull(line, NULL, 10) << 10 : 0;
}

static void least(uint64_t *limit, const char *text)
{
    char *end;
    uint64_t value = strtoull(text, &end, 10);
    /* without a limit, the first version of groups says the largest number of whole pages */
    if (end != text && value < UINT64_C(1) << 62 && value < *limit)
        *limit = value;
}

/* "150000 100000": of each 100 ms, 150 ms on all processors together. */
static void least_time(double *processors, const char *text)
{
    char *end;
    double quota = strtod(text, &end), period = end != text ? strtod(end, NULL) : 0;
    if (quota > 0 && period > 0 && (*processors == 0 || quota / period < *processors))
        *processors = quota / period;
}

/* The limits of the group and of those above it. */
static void read_group(const char *root, struct qn_machine *machine)
{
    char group[512] = "", path[700], line[256];
    if (!find_line(root, "/proc/self/cgroup", "0::", group, sizeof group))
        group[0] = '\0';
    for (;;) {
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.max", group);
        if (find_line(root, path, "", line, sizeof line))
            least(&machine->group, line);
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", group);
        if (find_line(root, path, "", line, sizeof line))
            least_time(&machine->processor_time, line);
        char *last = strrchr(group, '/');
        if (!last)
            break;
        *last = '\0';
    }
    if (find_line(root, "/sys/fs/cgroup/memory/memory.limit_in_bytes", "", line, sizeof line))
        least(&machine->group, line);
}

static uint64_t limit_of(int resource)
{
    struct rlimit limit;
    return getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ? QN_NO_LIMIT
                                                                               : (uint64_t)limit.rlim_cur;
}

void qn_machine_read(const char *root, struct qn_machine *machine)
{
    *machine = (struct qn_machine){.memory = kilobytes(root, "MemTotal:"),
                                   .available = kilobytes(root, "MemAvailable:"),
                                   .group = QN_NO_LIMIT,
                                   .address_space = limit_of(RLIMIT_AS),
#ifdef RLIMIT_MEMLOCK
                                   .locked = limit_of(RLIMIT_MEMLOCK),
#else
                                   .locked = QN_NO_LIMIT,
#endif
                                   .processors = (uint32_t)qn_cpu_count()};
    read_group(root, machine);
}

bool qn_tiles_allowed(void)
{
#if defined(__linux__) && defined(__x86_64__)
    enum { REQUEST = 0x1023, TILE_DATA = 18 }; /* ARCH_REQ_XCOMP_PERM; number of the state */
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
#else
    return false;
#endif
}

const char *qn_file_refused(const char *path, char *group, size_t size)
{
    struct stat st;
    snprintf(group, size, "%s", "");
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0) {
        close(fd);
        return NULL;
    }
    int reason = errno;
    if (reason == EACCES && stat(path, &st) == 0 && (st.st_mode & 060) == 060) {
        const struct group *of = getgrgid(st.st_gid);
        snprintf(group, size, "%s", of ? of->gr_name : "");
    }
    return strerror(reason);
}
