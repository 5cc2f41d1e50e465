#include "base/cores.h"

#include "base/thread.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_SIZE = 1024 };

/* Reads the start of a file, as text. False: it is not there. */
static bool read_text(const char *root, const char *path, char *text, size_t size)
{
    char name[PATH_SIZE];
    int n = snprintf(name, sizeof name, "%s/%s", root, path);
    FILE *file = n > 0 && (size_t)n < sizeof name ? fopen(name, "rb") : NULL;
    if (!file)
        return false;
    size_t length = fread(text, 1, size - 1, file);
    text[length] = '\0';
    fclose(file);
    return length > 0;
}

/* A number from a file; 0: there is none. */
static uint64_t read_number(const char *root, const char *path)
{
    char text[64];
    if (!read_text(root, path, text, sizeof text))
        return 0;
    long long value = strtoll(text, NULL, 10);
    return value > 0 ? (uint64_t)value : 0;
}

/* How fast a processor is, by one measure; 0: unknown. */
static uint64_t read_speed(const char *root, uint32_t cpu, const char *what)
{
    char path[128];
    snprintf(path, sizeof path, "sys/devices/system/cpu/cpu%u/%s", cpu, what);
    return read_number(root, path);
}

/* Reads a list such as "0-3,8,10-11". False: it is not there, or is none. */
static bool read_list(const char *root, const char *path, struct qn_cpu_set *set)
{
    char text[4096];
    memset(set, 0, sizeof *set);
    if (!read_text(root, path, text, sizeof text))
        return false;
    for (const char *at = text; *at >= '0' && *at <= '9';) {
        char *end;
        unsigned long first = strtoul(at, &end, 10), last = first;
        if (*end == '-')
            last = strtoul(end + 1, &end, 10);
        if (first > last || last >= QN_MAX_CPUS)
            return false;
        for (unsigned long cpu = first; cpu <= last; cpu++)
            set->word[cpu / 64] |= (uint64_t)1 << cpu % 64;
        at = *end == ',' ? end + 1 : end;
    }
    return true;
}

/* ---- classes ---- */

/* Takes those out of *set that are slower than a part of the fastest, in 1/20; false where one is unknown. */
static bool keep_fast(const char *root, const char *what, uint64_t part, struct qn_cpu_set *set)
{
    uint64_t best = 0;
    for (uint32_t cpu = 0; cpu < QN_MAX_CPUS; cpu++) {
        if (!qn_cpu_set_has(set, cpu))
            continue;
        uint64_t speed = read_speed(root, cpu, what);
        if (speed == 0)
            return false;
        best = speed > best ? speed : best;
    }
    for (uint32_t cpu = 0; cpu < QN_MAX_CPUS; cpu++)
        if (qn_cpu_set_has(set, cpu) && read_speed(root, cpu, what) * 20 < best * part)
            set->word[cpu / 64] &= ~((uint64_t)1 << cpu % 64);
    return true;
}

static bool is_empty(const struct qn_cpu_set *set)
{
    for (size_t i = 0; i < QN_MAX_CPUS / 64; i++)
        if (set->word[i])
            return false;
    return true;
}

/* Leaves the fast class of the processors in *set. A capacity counts work per cycle too, and the middle cores
 * of a phone are worth having; a frequency does not, and efficient cores of a laptop have lower ones. */
static void find_fast(const char *root, struct qn_cpu_set *set)
{
    struct qn_cpu_set slow, fast = *set;
    if (read_list(root, "sys/devices/cpu_atom/cpus", &slow)) {
        for (size_t i = 0; i < QN_MAX_CPUS / 64; i++)
            fast.word[i] &= ~slow.word[i];
        if (!is_empty(&fast))
            *set = fast;
        return;
    }
    if (!keep_fast(root, "cpu_capacity", 10, set))
        keep_fast(root, "cpufreq/cpuinfo_max_freq", 16, set);
}

/* Counts processors, those that share a core once. */
static uint32_t count_cores(const char *root, const struct qn_cpu_set *set)
{
    struct qn_cpu_set left = *set;
    uint32_t n = 0;
    for (uint32_t cpu = 0; cpu < QN_MAX_CPUS; cpu++) {
        if (!qn_cpu_set_has(&left, cpu))
            continue;
        char path[128];
        struct qn_cpu_set siblings;
        n++;
        snprintf(path, sizeof path, "sys/devices/system/cpu/cpu%u/topology/thread_siblings_list", cpu);
        if (read_list(root, path, &siblings))
            for (size_t i = 0; i < QN_MAX_CPUS / 64; i++)
                left.word[i] &= ~siblings.word[i];
    }
    return n;
}

static uint32_t count_cpus(const struct qn_cpu_set *set)
{
    uint32_t n = 0;
    for (uint32_t cpu = 0; cpu < QN_MAX_CPUS; cpu++)
        n += qn_cpu_set_has(set, cpu);
    return n;
}

/* ---- caches ---- */

/* Bytes of a processor's second-level cache for each core that shares it; 0: unknown. */
static uint64_t read_cache(const char *root, uint32_t cpu)
{
    for (uint32_t i = 0; i < 8; i++) {
        char folder[96], path[128], text[64];
        struct qn_cpu_set sharing;
        snprintf(folder, sizeof folder, "sys/devices/system/cpu/cpu%u/cache/index%u", cpu, i);
        snprintf(path, sizeof path, "%s/level", folder);
        if (read_number(root, path) != 2)
            continue;
        snprintf(path, sizeof path, "%s/size", folder);
        if (!read_text(root, path, text, sizeof text))
            return 0;
        char *unit;
        uint64_t bytes = strtoull(text, &unit, 10);
        bytes <<= *unit == 'K' ? 10 : *unit == 'M' ? 20 : 0;
        snprintf(path, sizeof path, "%s/shared_cpu_list", folder);
        uint32_t cores = read_list(root, path, &sharing) ? count_cores(root, &sharing) : 1;
        return bytes / (cores > 0 ? cores : 1);
    }
    return 0;
}

/* The smallest of the processors'. */
static uint64_t smallest_cache(const char *root, const struct qn_cpu_set *set)
{
    uint64_t least = 0;
    for (uint32_t cpu = 0; cpu < QN_MAX_CPUS; cpu++) {
        uint64_t bytes = qn_cpu_set_has(set, cpu) ? read_cache(root, cpu) : 0;
        if (bytes > 0 && (least == 0 || bytes < least))
            least = bytes;
    }
    return least;
}

/* ---- control groups ---- */

static void limit(uint64_t quota, uint64_t period, uint32_t *most)
{
    if (quota == 0 || period == 0)
        return;
    uint64_t n = quota / period + (quota % period != 0);
    if (n < UINT32_MAX && (*most == 0 || n < *most))
        *most = (uint32_t)n;
}

/* Version 2: "max 100000", or "150000 100000". */
static void limit_v2(const char *root, const char *folder, uint32_t *most)
{
    char path[PATH_SIZE], text[64], *end;
    int n = snprintf(path, sizeof path, "%s/cpu.max", folder);
    if (n < 0 || (size_t)n >= sizeof path || !read_text(root, path, text, sizeof text) ||
        strncmp(text, "max", 3) == 0)
        return;
    unsigned long long quota = strtoull(text, &end, 10);
    limit(quota, strtoull(end, NULL, 10), most);
}

static void limit_v1(const char *root, const char *folder, uint32_t *most)
{
    char path[PATH_SIZE];
    uint64_t value[2] = {0};
    static const char *const names[2] = {"cpu.cfs_quota_us", "cpu.cfs_period_us"};
    for (int i = 0; i < 2; i++) {
        int n = snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        if (n > 0 && (size_t)n < sizeof path)
            value[i] = read_number(root, path);
    }
    limit(value[0], value[1], most);
}

/* A group and all above it. In a container the group's own folder may be missing, or be the mount itself. */
static void limit_above(const char *root, const char *mount, const char *group,
                        void (*read)(const char *root, const char *folder, uint32_t *most), uint32_t *most)
{
    char folder[PATH_SIZE];
    int n = snprintf(folder, sizeof folder, "%s%s", mount, group);
    if (n < 0 || (size_t)n >= sizeof folder)
        return;
    for (;;) {
        read(root, folder, most);
        char *slash = strrchr(folder, '/');
        if (!slash || strlen(folder) <= strlen(mount))
            return;
        *slash = '\0';
    }
}

/* Whether "cpu" is among the words of a list with commas. */
static bool lists_cpu(const char *list)
{
    for (const char *at = list;; at++) {
        size_t n = strcspn(at, ",");
        if (n == 3 && memcmp(at, "cpu", 3) == 0)
            return true;
        at += n;
        if (*at == '\0')
            return false;
    }
}

/* Lines "0::/group" (version 2) and "4:cpu,cpuacct:/group" (version 1). */
static uint32_t read_quota(const char *root)
{
    char text[4096];
    uint32_t most = 0;
    if (!read_text(root, "proc/self/cgroup", text, sizeof text))
        return 0;
    for (char *line = text, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        char *list = strchr(line, ':'), *group = list ? strchr(list + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = '\0';
        if (list[1] == '\0') {
            limit_above(root, "sys/fs/cgroup", group, limit_v2, &most);
            limit_above(root, "sys/fs/cgroup/unified", group, limit_v2, &most);
        } else if (lists_cpu(list + 1)) {
            limit_above(root, "sys/fs/cgroup/cpu", group, limit_v1, &most);
            limit_above(root, "sys/fs/cgroup/cpu,cpuacct", group, limit_v1, &most);
        }
    }
    return most;
}

/* ---- all of it ---- */

void qn_cores_read(const char *root, const struct qn_cpu_set *allowed, struct qn_cores *cores)
{
    struct qn_cpu_set fast = *allowed;
    find_fast(root, &fast);
    *cores = (struct qn_cores){.n_cpus = count_cpus(allowed),
                               .n_cores = count_cores(root, allowed),
                               .n_fast = count_cores(root, &fast),
                               .fast = fast,
                               .cache = smallest_cache(root, &fast),
                               .quota = read_quota(root)};
}

uint32_t qn_cores_threads(const struct qn_cores *cores, enum qn_core_class of)
{
    uint32_t n = of == QN_CORES_FAST ? cores->n_fast : of == QN_CORES_ALL ? cores->n_cores : cores->n_cpus;
    if (cores->quota > 0 && cores->quota < n)
        n = cores->quota;
    return n > 0 ? n : 1;
}

void qn_cores_here(struct qn_cores *cores)
{
    struct qn_cpu_set allowed;
    uint32_t n = (uint32_t)qn_cpu_count();
    if (qn_cpu_allowed(&allowed))
        qn_cores_read("", &allowed, cores);
    else
        *cores = (struct qn_cores){.n_cpus = n, .n_cores = n, .n_fast = n};
}
