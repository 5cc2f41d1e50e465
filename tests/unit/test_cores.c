/* How many threads to compute with, on machines that folders play. */
#include "test.h"

#include "base/cores.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef _WIN32
#include <direct.h>
#define mkdir(path, mode) _mkdir(path)
#endif

static char root[512];
static char files[64][1024]; /* that it has */
static int n_files;

static void end_machine(void)
{
    while (n_files > 0) {
        char *name = files[--n_files];
        remove(name);
        for (char *slash; (slash = strrchr(name, '/')) && slash > name + strlen(root);) {
            *slash = '\0';
            (void)rmdir(name); /* where it is empty */
        }
    }
    if (root[0])
        (void)rmdir(root);
}

/* Starts a machine that tells nothing. */
static void new_machine(void)
{
    static int n;
    end_machine();
    const char *base = getenv("TMPDIR");
    do
        snprintf(root, sizeof root, "%s/quern-cores-%d", base ? base : "/tmp", n++);
    while (mkdir(root, 0700) != 0 && errno == EEXIST);
}

/* Writes a file of the machine, with the folders above it. */
static void put(const char *path, const char *text)
{
    char *name = files[n_files++];
    assert_true(n_files < 64);
    snprintf(name, sizeof files[0], "%s/%s", root, path);
    for (char *at = strchr(name + strlen(root) + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = '\0';
        mkdir(name, 0700);
        *at = '/';
    }
    FILE *file = fopen(name, "wb");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void put_cpu(uint32_t cpu, const char *what, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "sys/devices/system/cpu/cpu%u/%s", cpu, what);
    put(path, text);
}

static struct qn_cores read_machine(uint64_t allowed)
{
    struct qn_cpu_set set = {{allowed}};
    struct qn_cores cores;
    qn_cores_read(root, &set, &cores);
    return cores;
}

static void test_unknown(void **state)
{
    (void)state;
    new_machine();
    struct qn_cores cores = read_machine(0xf);
    assert_true(cores.n_cpus == 4 && cores.n_cores == 4 && cores.n_fast == 4 && cores.quota == 0);
    assert_int_equal(cores.cache, 0);
    assert_int_equal(qn_cores_threads(&cores, QN_CORES_FAST), 4);
    cores = read_machine(0x21);
    assert_int_equal(qn_cores_threads(&cores, QN_CORES_FAST), 2);
    cores = read_machine(0);
    assert_int_equal(qn_cores_threads(&cores, QN_CORES_FAST), 1);
    qn_cores_here(&cores);
    assert_true(qn_cores_threads(&cores, QN_CORES_FAST) >= 1);
}

/* Two large cores with a cache each, four small ones that share one. */
static void test_caches(void **state)
{
    (void)state;
    new_machine();
    for (uint32_t cpu = 0; cpu < 6; cpu++) {
        bool large = cpu < 2;
        put_cpu(cpu, "cpu_capacity", large ? "1024" : "300");
        put_cpu(cpu, "cache/index0/level", "1\n");
        put_cpu(cpu, "cache/index2/level", "2\n");
        put_cpu(cpu, "cache/index2/size", large ? "1280K\n" : "2M\n");
        put_cpu(cpu, "cache/index2/shared_cpu_list", !large ? "2-5\n" : cpu == 0 ? "0\n" : "1\n");
    }
    assert_int_equal(read_machine(0x3f).cache, 1280 << 10);
    assert_int_equal(read_machine(0x3c).cache, 512 << 10);
}

/* A phone: four small cores, three middle ones, one large. */
static void test_capacity(void **state)
{
    (void)state;
    static const char *const capacity[8] = {"250\n", "250\n", "250\n", "250\n",
                                            "775\n", "775\n", "775\n", "1024\n"};
    new_machine();
    for (uint32_t cpu = 0; cpu < 8; cpu++)
        put_cpu(cpu, "cpu_capacity", capacity[cpu]);
    struct qn_cores cores = read_machine(0xff);
    assert_true(cores.n_cpus == 8 && cores.n_cores == 8 && cores.n_fast == 4);
    assert_int_equal(qn_cores_threads(&cores, QN_CORES_ALL), 8);
    assert_int_equal(cores.fast.word[0], 0xf0);
    cores = read_machine(0x0f); /* only small ones are allowed */
    assert_int_equal(qn_cores_threads(&cores, QN_CORES_FAST), 4);
    cores = read_machine(0x8f);
    assert_int_equal(qn_cores_threads(&cores, QN_CORES_FAST), 1);
}

/* A laptop: two cores of two threads, four efficient ones. */
static void test_hybrid(void **state)
{
    (void)state;
    new_machine();
    for (uint32_t cpu = 0; cpu < 8; cpu++) {
        char siblings[32];
        if (cpu < 4)
            snprintf(siblings, sizeof siblings, "%u-%u\n", cpu & ~1u, cpu | 1u);
        else
            snprintf(siblings, sizeof siblings, "%u\n", cpu);
        put_cpu(cpu, "topology/thread_siblings_list", siblings);
        put_cpu(cpu, "cpufreq/cpuinfo_max_freq", cpu < 4 ? "5200000\n" : "3900000\n");
    }
    struct qn_cores cores = read_machine(0xff);
    assert_true(cores.n_cpus == 8 && cores.n_cores == 6 && cores.n_fast == 2);
    for (uint32_t cpu = 4; cpu < 8; cpu++) /* frequencies that do not tell them apart */
        put_cpu(cpu, "cpufreq/cpuinfo_max_freq", "5000000\n");
    assert_int_equal(read_machine(0xff).n_fast, 6);
    put("sys/devices/cpu_atom/cpus", "4-6,7\n");
    assert_int_equal(read_machine(0xff).n_fast, 2);
    assert_int_equal(read_machine(0xf0).n_fast, 4); /* nothing else is allowed */
    assert_int_equal(read_machine(0xf1).n_fast, 1);
}

static void test_frequency(void **state)
{
    (void)state;
    new_machine();
    put_cpu(0, "cpufreq/cpuinfo_max_freq", "5700000\n");
    put_cpu(1, "cpufreq/cpuinfo_max_freq", "5500000\n");
    assert_int_equal(read_machine(3).n_fast, 2);
    assert_int_equal(read_machine(7).n_fast, 3); /* one is unknown: all count */
}

/* Control groups of version 2: the tightest of the group and all above it. */
static void test_quota_v2(void **state)
{
    (void)state;
    new_machine();
    put("proc/self/cgroup", "0::/user.slice/job\n");
    assert_int_equal(read_machine(0xff).quota, 0);
    put("sys/fs/cgroup/user.slice/job/cpu.max", "max 100000\n");
    assert_int_equal(read_machine(0xff).quota, 0);
    put("sys/fs/cgroup/user.slice/cpu.max", "350000 100000\n");
    struct qn_cores cores = read_machine(0xff);
    assert_true(cores.quota == 4 && qn_cores_threads(&cores, QN_CORES_FAST) == 4);
    put("sys/fs/cgroup/user.slice/job/cpu.max", "50000 100000\n");
    cores = read_machine(0xff);
    assert_true(cores.quota == 1 && qn_cores_threads(&cores, QN_CORES_FAST) == 1);
    put("sys/fs/cgroup/user.slice/job/cpu.max", "6400000 100000\n");
    put("sys/fs/cgroup/user.slice/cpu.max", "max 100000\n");
    cores = read_machine(0x3);
    assert_true(cores.quota == 64 && qn_cores_threads(&cores, QN_CORES_FAST) == 2);
    put("proc/self/cgroup", "0::/\n"); /* in a container: the mount is the group */
    put("sys/fs/cgroup/cpu.max", "200000 100000\n");
    assert_int_equal(read_machine(0xff).quota, 2);
}

/* Version 1, alone and beside an empty version 2. */
static void test_quota_v1(void **state)
{
    (void)state;
    new_machine();
    put("proc/self/cgroup", "5:cpuset:/\n4:cpuacct,cpu:/docker/1234\n0::/docker/1234\n");
    put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
    put("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    assert_int_equal(read_machine(0xff).quota, 0);
    put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "250000\n");
    assert_int_equal(read_machine(0xff).quota, 3);
    put("sys/fs/cgroup/cpu,cpuacct/docker/1234/cpu.cfs_quota_us", "100000\n");
    put("sys/fs/cgroup/cpu,cpuacct/docker/1234/cpu.cfs_period_us", "50000\n");
    assert_int_equal(read_machine(0xff).quota, 2);
    put("proc/self/cgroup", "5:cpuset:/docker/1234\n"); /* no group of this process limits its time */
    assert_int_equal(read_machine(0xff).quota, 0);
}

/* Files that are not what they should be. */
static void test_nonsense(void **state)
{
    (void)state;
    new_machine();
    put("proc/self/cgroup", "\n:\n::\n0:\nx:cpu\n0::/..\n::::\n");
    put("sys/fs/cgroup/cpu.max", "0 0\n");
    put("sys/devices/cpu_atom/cpus", "3-1,99999999999999999999");
    put_cpu(0, "topology/thread_siblings_list", "0-,,-\n");
    put_cpu(1, "cpu_capacity", "-5\n");
    struct qn_cores cores = read_machine(0xf);
    assert_true(cores.n_cpus == 4 && cores.n_fast == 4 && cores.quota == 0);
    put("sys/fs/cgroup/cpu.max", "garbage");
    assert_int_equal(read_machine(0xf).quota, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unknown),  cmocka_unit_test(test_caches),    cmocka_unit_test(test_capacity),
        cmocka_unit_test(test_hybrid),   cmocka_unit_test(test_frequency), cmocka_unit_test(test_quota_v2),
        cmocka_unit_test(test_quota_v1), cmocka_unit_test(test_nonsense),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    end_machine();
    return failed;
}
