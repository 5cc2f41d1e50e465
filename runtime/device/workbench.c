#include "device/workbench.h"

#include "base/file.h"
#include "base/words.h"

#include <stdio.h>
#include <string.h>

/* ---- the device ---- */

static enum quern_status find_device(struct qn_workbench *bench, const char *id, struct quern_error *err)
{
    struct qn_verdict verdict;
    bool known;
    enum quern_status status =
        qn_device_find(&bench->cb, &bench->drivers, id, &bench->bringup, &bench->index, err);
    if (status)
        return status;
    bench->driver = bench->bringup.driver;
    bench->info = &bench->bringup.listing.infos[bench->index];
    status = qn_bringup_verdict(&bench->bringup, bench->index, true, &verdict, &known, err);
    if (!status && !verdict.good)
        status = qn_fail(err, QUERN_ERR_DEVICE, "%s is not used: %s", bench->info->name, verdict.reason);
    if (!status)
        status = qn_bringup_settings(&bench->bringup, bench->index, &bench->settings, err);
    if (!status && verdict.without[0]) {
        snprintf(bench->without, sizeof bench->without, "%s", verdict.without);
        bench->settings.item[bench->settings.n++] = (struct quern_setting){bench->without, "0"};
    }
    if (status)
        qn_bringup_finish(&bench->bringup);
    return status;
}

enum quern_status qn_workbench_init(struct qn_workbench *bench, const struct quern_device_params *params,
                                    const char *id, struct quern_error *err)
{
    *bench = (struct qn_workbench){.cb = qn_callbacks_resolve(params->callbacks)};
    enum quern_status status = QUERN_OK;
    if (params->cache_dir && params->cache_dir[0])
        status = quern_cache_open(&bench->cache, params->cache_dir, params->cache_limit, &bench->cb, err);
    if (!status && !params->profiles)
        status =
            quern_profiles_open(&bench->own,
                                quern_profiles_params(.callbacks = &bench->cb, .drivers = params->drivers,
                                                      .n_drivers = params->n_drivers),
                                err);
    bench->drivers = qn_drivers_of(params, bench->cache);
    if (bench->own)
        bench->drivers.profiles = bench->own;
    bench->cpu = qn_driver_builtin(&bench->cb, "cpu");
    qn_registry_tunables(&bench->cb, bench->drivers.extra, bench->drivers.n_extra, &bench->tunables);
    if (!status && !bench->cpu)
        status = qn_fail(err, QUERN_ERR_UNSUPPORTED, "there is no driver of the processor to compare with");
    if (!status)
        status = find_device(bench, id, err);
    if (status) {
        quern_profiles_close(&bench->own);
        quern_cache_close(&bench->cache);
    }
    return status;
}

void qn_workbench_finish(struct qn_workbench *bench)
{
    qn_settings_finish(&bench->cb, &bench->settings);
    qn_bringup_finish(&bench->bringup);
    quern_profiles_close(&bench->own);
    quern_cache_close(&bench->cache);
}

enum quern_status qn_workbench_open(struct qn_workbench *bench, const struct quern_setting *more, uint32_t n,
                                    struct qn_device *device, struct quern_error *err)
{
    uint32_t n_own = bench->settings.n;
    struct quern_setting *all = qn_alloc(&bench->cb, n_own + n + 1, sizeof *all);
    if (!all)
        return qn_fail_memory(err, "settings of a device");
    memcpy(all, bench->settings.item, n_own * sizeof *all);
    if (n > 0)
        memcpy(all + n_own, more, n * sizeof *all);
    all[n_own + n] = (struct quern_setting){"identity", bench->info->identity};
    *device = (struct qn_device){.host = qn_device_host(&bench->cb, bench->cache)};
    const struct quern_profile_view view = {.struct_size = sizeof view,
                                            .n_settings = n_own + n + 1,
                                            .settings = all,
                                            .n_origins = bench->settings.n_origins,
                                            .origins = bench->settings.origin};
    enum quern_status status = qn_device_open_view(device, bench->driver, bench->index, &view, err);
    qn_free(&bench->cb, all);
    return status;
}

/* ---- overlays ---- */

void qn_overlay_path(const struct qn_workbench *bench, const char *dir, const char *kind, char path[QN_PATH])
{
    char name[160];
    size_t n = (size_t)snprintf(name, sizeof name, "%s-%.100s", bench->driver->name, bench->info->name);
    size_t length = 0;
    for (size_t i = 0; i < n; i++) {
        char c = qn_lower(name[i]);
        bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (plain || (length > 0 && name[length - 1] != '-'))
            name[length++] = plain ? c : '-';
    }
    while (length > 0 && name[length - 1] == '-')
        length--;
    snprintf(path, QN_PATH, "%.3800s/%.*s-%s.yaml", dir, (int)(length < 50 ? length : 50), name, kind);
}

/* A text in quotes. */
static void put_quoted(struct qn_text *text, const char *what)
{
    qn_text_put(text, "\"");
    for (; *what; what++)
        if (*what == '"' || *what == '\\')
            qn_text_put(text, "\\%c", *what);
        else
            qn_text_put(text, "%c", (unsigned char)*what < ' ' ? ' ' : *what);
    qn_text_put(text, "\"");
}

static void put_value(struct qn_text *text, const struct qn_tunable_set *tunables, const char *driver,
                      const struct qn_overlay_line *line)
{
    const struct quern_tunable *tunable = qn_tunable_find(tunables, driver, line->setting);
    char value[64];
    if (tunable)
        qn_tunable_print(tunable, line->value, value, sizeof value);
    else
        snprintf(value, sizeof value, "%s", line->value);
    qn_text_put(text, "%s", value);
}

/* Length of the words that the two begin with, up to and with the last point. */
static size_t shared_words(const char *a, const char *b)
{
    size_t shared = 0;
    for (size_t i = 0; a[i] && a[i] == b[i]; i++)
        if (a[i] == '.')
            shared = i + 1;
    return shared;
}

/* A setting in nested mappings, of which those that the one before it is in are there already. */
static void put_setting(struct qn_text *text, const struct qn_tunable_set *tunables, const char *driver,
                        const char *before, const struct qn_overlay_line *line)
{
    size_t shared = shared_words(before, line->setting);
    int depth = 0;
    for (size_t i = 0; i < shared; i++)
        depth += line->setting[i] == '.';
    for (const char *at = line->setting + shared; *at; depth++) {
        size_t n = strcspn(at, ".");
        qn_text_put(text, "%*s%.*s:%s", 2 * depth, "", (int)n, at, at[n] ? "\n" : " ");
        at += n + (at[n] == '.');
    }
    put_value(text, tunables, driver, line);
    qn_text_put(text, "\n");
}

/* "a.b.c: value" as nested mappings in one line. */
static void put_quirk(struct qn_text *text, const struct qn_tunable_set *tunables, const char *driver,
                      const struct qn_overlay_line *line)
{
    int depth = 0;
    qn_text_put(text, "  - ");
    for (const char *at = line->setting; *at; depth++) {
        size_t n = strcspn(at, ".");
        qn_text_put(text, "%s%.*s: ", depth > 0 ? "{" : "", (int)n, at);
        at += n + (at[n] == '.');
    }
    put_value(text, tunables, driver, line);
    while (depth-- > 1)
        qn_text_put(text, "}");
    qn_text_put(text, "\n    reason: ");
    put_quoted(text, line->reason);
    qn_text_put(text, "\n");
}

/* The line whose setting comes next in the alphabet, NULL: there is none. Only those that are no quirks. */
static const struct qn_overlay_line *next_line(const struct qn_overlay_line *lines, size_t n,
                                               const char *before)
{
    const struct qn_overlay_line *next = NULL;
    for (size_t i = 0; i < n; i++)
        if (!lines[i].reason && strcmp(lines[i].setting, before) > 0 &&
            (!next || strcmp(lines[i].setting, next->setting) < 0))
            next = &lines[i];
    return next;
}

static void put_overlay(struct qn_text *text, const struct qn_workbench *bench, const char *name,
                        const struct qn_overlay_line *lines, size_t n, const char *const *sources,
                        size_t n_sources)
{
    const struct quern_device_info *info = bench->info;
    qn_text_put(
        text, "quern-profile: 1\nname: %s\nabout: what was found out on this machine\noverlay: true\n", name);
    qn_text_put(text, "match:\n  api: %s\n  device: ", bench->driver->name);
    put_quoted(text, info->name);
    if (info->driver_name[0]) {
        qn_text_put(text, "\n  driver: ");
        put_quoted(text, info->driver_name);
    }
    if (info->driver_version[0])
        qn_text_put(text, "\n  driver-version: \"=%s\"", info->driver_version);
    qn_text_put(text, "\nsources:\n");
    for (size_t i = 0; i < n_sources; i++) {
        qn_text_put(text, "  - ");
        put_quoted(text, sources[i]);
        qn_text_put(text, "\n");
    }
    const struct qn_overlay_line *line;
    for (const char *before = ""; (line = next_line(lines, n, before)) != NULL; before = line->setting)
        put_setting(text, &bench->tunables, bench->driver->name, before, line);
    bool first = true;
    for (size_t i = 0; i < n; i++) {
        if (!lines[i].reason)
            continue;
        qn_text_put(text, "%s", first ? "quirks:\n" : "");
        put_quirk(text, &bench->tunables, bench->driver->name, &lines[i]);
        first = false;
    }
}

enum quern_status qn_overlay_write(const struct qn_workbench *bench, const char *dir, const char *kind,
                                   const struct qn_overlay_line *lines, size_t n, const char *const *sources,
                                   size_t n_sources, char path[QN_PATH], struct quern_error *err)
{
    struct qn_text text = {.cb = &bench->cb};
    char name[64];
    qn_overlay_path(bench, dir, kind, path);
    const char *base = strrchr(path, '/') + 1;
    snprintf(name, sizeof name, "%.*s", (int)(strlen(base) - 5), base);
    put_overlay(&text, bench, name, lines, n, sources, n_sources);
    enum quern_status status = text.failed ? qn_fail_memory(err, "a device profile") : QUERN_OK;
    if (!status)
        status = qn_dir_make(&bench->cb, dir, err);
    if (!status)
        status = qn_write_file(&bench->cb, path, text.data, text.n, err);
    qn_text_finish(&text);
    return status;
}
