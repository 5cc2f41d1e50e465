/* What is wrong with a machine, and what to do about it. */
#include "base/file.h"
#include "base/machine.h"
#include "device/profile.h"
#include "device/registry.h"

#include <stdio.h>
#include <string.h>

struct examination {
    struct quern_callbacks cb;
    const struct quern_examine_params *params;
    const char *root;
    quern_finding_fn finding;
    void *user;
    bool has_gpu; /* the driver at hand has told of one */
};

static void tell(const struct examination *e, const char *topic, const char *what, const char *found,
                 uint32_t state, const char *wrong, const char *fix)
{
    e->finding(e->user, &(struct quern_finding){.topic = topic,
                                                .what = what,
                                                .found = found,
                                                .state = state,
                                                .wrong = state ? wrong : "",
                                                .fix = state ? fix : ""});
}

/* ---- the system ---- */

static const char *bytes_text(uint64_t bytes, char text[32])
{
    if (bytes == QN_NO_LIMIT)
        snprintf(text, 32, "no limit");
    else
        snprintf(text, 32, "%.2f GiB", (double)bytes / 0x1p30);
    return text;
}

static void examine_memory(const struct examination *e, const struct qn_machine *m)
{
    static const uint64_t little = UINT64_C(1) << 30;
    char text[32], found[96], wrong[160];
    if (m->memory > 0) {
        int n = snprintf(found, sizeof found, "%s", bytes_text(m->memory, text));
        snprintf(found + n, sizeof found - (size_t)n, ", %s of it available", bytes_text(m->available, text));
        tell(e, "system", "memory", found, m->available < little ? QUERN_FINDING_HINT : QUERN_FINDING_GOOD,
             "less than 1 GiB is available: models that do not fit are read again and again from the disk",
             "end other programs, or use a smaller model");
    }
    bool tight = m->group < m->memory && m->group < 2 * little;
    snprintf(wrong, sizeof wrong, "the control group of this process may use %s, whatever the machine has",
             bytes_text(m->group, text));
    tell(e, "system", "memory of the group", bytes_text(m->group, text),
         tight ? QUERN_FINDING_HINT : QUERN_FINDING_GOOD, wrong,
         "give the container or the service more (memory.max; docker --memory, systemd MemoryMax=)");
    bool small = m->address_space != QN_NO_LIMIT && m->address_space < 16 * little;
    tell(e, "system", "address space", bytes_text(m->address_space, text),
         small ? QUERN_FINDING_PROBLEM : QUERN_FINDING_GOOD,
         "models are mapped, and GPU drivers map what they use: neither has room", "ulimit -v unlimited");
    bool unlocked = m->locked < UINT64_C(1) << 16;
    tell(e, "system", "locked memory", bytes_text(m->locked, text),
         unlocked ? QUERN_FINDING_HINT : QUERN_FINDING_GOOD,
         "some GPU drivers lock the memory that they share with the processor, and may refuse to",
         "raise memlock in /etc/security/limits.conf, or ulimit -l 65536");
}

static void examine_processors(const struct examination *e, const struct qn_machine *m)
{
    char found[96], wrong[160], fix[160];
    bool less = m->processor_time > 0 && m->processor_time < m->processors - 0.5;
    uint32_t whole = m->processor_time >= 1 ? (uint32_t)m->processor_time : 1;
    snprintf(found, sizeof found, "%u", m->processors);
    if (m->processor_time > 0)
        snprintf(found, sizeof found, "%u, of whose time the group has %.1f", m->processors,
                 m->processor_time);
    snprintf(wrong, sizeof wrong,
             "the control group gives less time than %u threads would use: they are stopped "
             "again and again",
             m->processors);
    snprintf(fix, sizeof fix, "--threads %u, or more time for the container (cpu.max; docker --cpus)", whole);
    tell(e, "system", "processors", found, less ? QUERN_FINDING_HINT : QUERN_FINDING_GOOD, wrong, fix);
}

/* ---- folders ---- */

static void examine_cache(const struct examination *e)
{
    const char *dir = e->params->devices ? e->params->devices->cache_dir : NULL;
    if (!dir || !dir[0]) {
        tell(e, "cache", "folder", "none", QUERN_FINDING_HINT,
             "nothing is kept between starts: each tries the devices and makes their pipelines anew",
             "unset QUERN_CACHE_DIR, or set it to a folder that can be written");
        return;
    }
    char path[4096], fix[400];
    struct quern_error err = {0};
    bool fits = snprintf(path, sizeof path, "%s/examined", dir) < (int)sizeof path;
    enum quern_status status = qn_dir_make(&e->cb, dir, &err);
    if (!status && fits)
        status = qn_write_file(&e->cb, path, "", 0, &err);
    if (!status && fits)
        qn_file_remove(&e->cb, path);
    snprintf(fix, sizeof fix, "sudo chown -R \"$USER\" '%.200s', or QUERN_CACHE_DIR=FOLDER for another", dir);
    tell(e, "cache", "folder", dir, status ? QUERN_FINDING_PROBLEM : QUERN_FINDING_GOOD, err.text, fix);
}

struct profile_warnings {
    const struct examination *e;
    uint32_t n;
};

static void on_profile_log(void *user, enum quern_log_level level, const char *text)
{
    struct profile_warnings *warnings = user;
    if (level > QUERN_LOG_WARNING)
        return;
    warnings->n++;
    tell(warnings->e, "profiles", "profile", warnings->e->params->profile_dir, QUERN_FINDING_PROBLEM, text,
         "quern device check FILE says all that is wrong in it; correct it, or remove it");
}

static void examine_profiles(const struct examination *e)
{
    const char *dir = e->params->profile_dir;
    struct profile_warnings warnings = {.e = e};
    struct quern_callbacks cb = e->cb;
    struct quern_profiles *profiles;
    struct quern_error err = {0};
    char found[600];
    cb.log = on_profile_log;
    cb.user = &warnings;
    bool there = dir && dir[0] && qn_file_stat(&e->cb, dir, NULL, NULL);
    if (quern_profiles_open(&profiles, quern_profiles_params(.callbacks = &cb, .dir = dir), &err)) {
        tell(e, "profiles", "folder", dir ? dir : "", QUERN_FINDING_PROBLEM, err.text,
             "see quern device profiles");
        return;
    }
    snprintf(found, sizeof found, "%s%s", dir && dir[0] ? dir : "none",
             there || !dir || !dir[0] ? "" : " (not there)");
    if (warnings.n == 0)
        tell(e, "profiles", "folder", found, QUERN_FINDING_GOOD, "", "");
    quern_profiles_close(&profiles);
}

/* ---- drivers and their devices ---- */

static void on_driver_finding(void *user, const struct quern_finding *finding)
{
    struct examination *e = user;
    e->has_gpu |= strcmp(finding->what, "gpu") == 0;
    e->finding(e->user, finding);
}

static void examine_device(const struct examination *e, const struct quern_device_desc *d)
{
    char found[600], fix[160];
    snprintf(found, sizeof found, "%s, %s%s%s", d->info.name, d->info.driver, d->info.features[0] ? ": " : "",
             d->info.features);
    snprintf(fix, sizeof fix, "install a newer driver; quern device forget gives %s another chance", d->id);
    tell(e, "devices", d->id, found,
         d->state == QUERN_DEVICE_REFUSED ? QUERN_FINDING_PROBLEM : QUERN_FINDING_GOOD, d->reason, fix);
}

/* What was left out by a driver, or of the whole of it: without a GPU in the machine, no problem. */
static void examine_fault(const struct examination *e, const struct quern_device_fault *fault)
{
    bool part = fault->part[0];
    tell(e, "devices", fault->driver, part ? fault->part : "none",
         part || e->has_gpu ? QUERN_FINDING_PROBLEM : QUERN_FINDING_HINT, fault->reason,
         part ? "install a newer driver, then quern device forget; or remove the file"
              : "see above; then quern device forget");
}

static enum quern_status examine_devices(const struct examination *e, struct quern_error *err)
{
    struct quern_device_params params = e->params->devices ? *e->params->devices : *quern_device_params();
    struct quern_device_list *list;
    params.fresh = true;
    params.callbacks = &e->cb;
    enum quern_status status = quern_device_list_create(&list, &params, err);
    if (status)
        return status;
    const struct quern_device_fault *fault;
    uint32_t gpus = 0, faults = 0;
    for (size_t i = 0; i < quern_device_list_count(list); i++) {
        const struct quern_device_desc *d = quern_device_list_at(list, i);
        gpus += d->info.type == QUERN_DEVICE_INTEGRATED_GPU || d->info.type == QUERN_DEVICE_DISCRETE_GPU;
        if (d->info.type != QUERN_DEVICE_NULL)
            examine_device(e, d);
    }
    for (size_t i = 0; (fault = quern_device_list_fault(list, i)) != NULL; i++, faults++)
        examine_fault(e, fault);
    if (e->has_gpu && gpus == 0 && faults == 0)
        tell(e, "devices", "gpu", "none", QUERN_FINDING_PROBLEM,
             "the system has a GPU, and no driver offers it",
             "install its Vulkan driver, or let this user open it: see above");
    quern_device_list_destroy(&list);
    return QUERN_OK;
}

enum quern_status quern_examine(const struct quern_examine_params *params, quern_finding_fn finding,
                                void *user, struct quern_error *err)
{
    const struct quern_device_params *devices = params->devices;
    struct examination e = {.cb = qn_callbacks_resolve(devices ? devices->callbacks : NULL),
                            .params = params,
                            .root = params->root ? params->root : "",
                            .finding = finding,
                            .user = user};
    struct qn_machine machine;
    struct qn_tunable_set set;
    qn_machine_read(e.root, &machine);
    examine_memory(&e, &machine);
    examine_processors(&e, &machine);
    examine_cache(&e);
    examine_profiles(&e);
    const struct quern_host host = qn_device_host(&e.cb, NULL);
    qn_registry_tunables(&e.cb, devices ? devices->drivers : NULL, devices ? devices->n_drivers : 0, &set);
    for (uint32_t d = 0; d < set.n; d++)
        if (set.of[d].driver && QUERN_DRIVER_HAS(set.of[d].driver, examine))
            set.of[d].driver->examine(&host, e.root, on_driver_finding, &e);
    return examine_devices(&e, err);
}
