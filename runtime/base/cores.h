/* The processors that this process may use, and how many of them are worth a thread of computing: what the
 * operating system tells of their classes, and of the time that a container grants. */
#ifndef QN_BASE_CORES_H
#define QN_BASE_CORES_H

#include <stdbool.h>
#include <stdint.h>

enum { QN_MAX_CPUS = 1024 };

struct qn_cpu_set {
    uint64_t word[QN_MAX_CPUS / 64];
};

static inline bool qn_cpu_set_has(const struct qn_cpu_set *set, uint32_t cpu)
{
    return cpu < QN_MAX_CPUS && set->word[cpu / 64] >> cpu % 64 & 1;
}

struct qn_cores {
    uint32_t n_cpus;        /* processors that the process may run on */
    uint32_t n_cores;       /* of these, counting once what shares a core */
    uint32_t n_fast;        /* of these, the cores of the fast class */
    struct qn_cpu_set fast; /* processors of that class; none where the system does not say */
    uint64_t cache;         /* bytes of the second level that a fast core has to itself; 0: unknown */
    uint32_t quota;         /* processors' worth of time that control groups grant, rounded up; 0: no limit */
};

/* Reads the files of Linux under root: "", or a folder that plays a machine. allowed: the process's affinity.
 * What is not told there is as if all processors were alike and free.
 *   classes: sys/devices/cpu_atom/cpus, else sys/devices/system/cpu/cpuN/cpu_capacity, else
 *            cpuN/cpufreq/cpuinfo_max_freq; the fast class are those not in the list, of at least half the
 * largest capacity, or of at least 4/5 of the highest frequency cores:   cpuN/topology/thread_siblings_list
 *   cache:   cpuN/cache/indexN/level, size and shared_cpu_list
 *   quota:   proc/self/cgroup, and under sys/fs/cgroup cpu.max (version 2) or cpu.cfs_quota_us and
 *            cpu.cfs_period_us (version 1) of the process's group and all above it */
void qn_cores_read(const char *root, const struct qn_cpu_set *allowed, struct qn_cores *cores);

/* What gets a thread. */
enum qn_core_class {
    QN_CORES_FAST, /* each core of the fast class */
    QN_CORES_ALL,  /* each core */
    QN_CORES_CPUS, /* each processor, also those that share a core */
};

/* How many threads to compute with, as far as the quota goes; at least 1. */
uint32_t qn_cores_threads(const struct qn_cores *cores, enum qn_core_class of);

/* The processors that this process may use now (affinity respected); false where the system does not say. */
bool qn_cpu_allowed(struct qn_cpu_set *set);
/* Has the calling thread run on these processors alone; false where the system cannot, or none is there. */
bool qn_cpu_bind(const struct qn_cpu_set *set);
/* What holds for this process on this machine. */
void qn_cores_here(struct qn_cores *cores);

#endif
