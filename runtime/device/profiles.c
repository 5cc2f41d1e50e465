/* All profiles that a program knows, and what they say of a device. */
#include "device/profile.h"
#include "device/registry.h"

#include "base/file.h"

#include <stdio.h>
#include <string.h>

enum { RANK_BUILT_IN, RANK_DIR, RANK_FILE, ARENA_BYTES = 64 << 20 };

struct quern_profiles {
    struct quern_callbacks cb;
    struct qn_arena arena;
    struct qn_tunable_set tunables;
    struct qn_profile **profile; /* [n], the better ones last */
    size_t n;
    const struct qn_profile *file; /* named by hand; NULL: none */
    bool emulate;
};

/* Files on their way in. */
struct intake {
    struct quern_profiles *profiles;
    struct qn_reading *reading;
    size_t n;
    char first[512]; /* fault of the file that was named by hand */
    uint32_t n_faults;
    enum quern_status status;
};

/* Who hears of a fault, by the file's rank. */
static void on_fault(void *user, const char *text)
{
    struct quern_profiles *profiles = user;
    qn_log(&profiles->cb, QUERN_LOG_WARNING, "profile left out: %s", text);
}

static void on_file_fault(void *user, const char *text)
{
    struct intake *intake = user;
    if (intake->n_faults++ == 0)
        snprintf(intake->first, sizeof intake->first, "%.500s", text);
}

static const char *keep_text(struct qn_arena *arena, const char *text)
{
    size_t n = strlen(text) + 1;
    char *copy = qn_arena_alloc(arena, n, 1);
    return copy ? memcpy(copy, text, n) : NULL;
}

/* ---- taking files in ---- */

static bool add_text(struct intake *intake, uint32_t rank, const char *path, const char *text, size_t n)
{
    struct quern_profiles *profiles = intake->profiles;
    struct qn_reading *all = qn_arena_extend(&profiles->arena, intake->reading, intake->n * sizeof *all,
                                             (intake->n + 1) * sizeof *all);
    if (!all)
        return false;
    intake->reading = all;
    struct qn_reading *r = &all[intake->n++];
    *r = (struct qn_reading){.arena = &profiles->arena,
                             .path = path,
                             .tunables = &profiles->tunables,
                             .fault = rank == RANK_FILE ? on_file_fault : on_fault,
                             .user = rank == RANK_FILE ? (void *)intake : profiles};
    qn_reading_head(r, text, n);
    if (r->profile)
        r->profile->rank = rank;
    return !r->no_memory;
}

/* What a built-in profile says after `key`, which has no list or text of several lines; 0: nothing. */
static const char *said_in(const struct qn_profile_text *text, const char *key, size_t *n)
{
    const char *at = strstr(text->text, key);
    *n = at ? strcspn(at + strlen(key), "\n") : 0;
    return at ? at + strlen(key) : NULL;
}

/* The built-in profile that another extends; NULL: it extends none. */
static const struct qn_profile_text *built_in_base(const struct qn_profile_text *text)
{
    static const char before[] = "built-in ";
    size_t n;
    const char *name = said_in(text, "\nextends: ", &n);
    for (size_t i = 0; name && i < qn_n_profile_texts; i++) {
        const char *file = qn_profile_texts[i].name + sizeof before - 1;
        if (strncmp(file, name, n) == 0 && strcmp(file + n, ".yaml") == 0)
            return &qn_profile_texts[i];
    }
    return NULL;
}

/* Whether this build has the driver that a built-in profile, or one under it, is for: those of the others are
 * no fault. */
static bool serves(const struct quern_profiles *profiles, const struct qn_profile_text *text)
{
    size_t n = 0;
    const char *name = NULL;
    for (uint32_t depth = 0; text && !name && depth < QN_PROFILE_DEPTH; depth++) {
        name = said_in(text, "\n  api: ", &n);
        text = built_in_base(text);
    }
    for (uint32_t d = 0; name && d < profiles->tunables.n; d++) {
        const struct quern_driver *driver = profiles->tunables.of[d].driver;
        if (driver && strlen(driver->name) == n && memcmp(driver->name, name, n) == 0)
            return true;
    }
    return !name;
}

static bool add_path(struct intake *intake, uint32_t rank, const char *path, struct quern_error *err)
{
    struct quern_profiles *profiles = intake->profiles;
    struct qn_view view;
    const char *kept = keep_text(&profiles->arena, path);
    if (!kept)
        return false;
    enum quern_status status = qn_view_path(&profiles->cb, &view, path, false, err);
    if (status && rank != RANK_FILE)
        qn_log(&profiles->cb, QUERN_LOG_WARNING, "profile left out: %s", err->text);
    else if (status)
        intake->status = status;
    if (status)
        return true;
    bool good = add_text(intake, rank, kept, (const char *)view.data, (size_t)view.size);
    qn_view_finish(&profiles->cb, &view);
    return good;
}

struct dir_files {
    struct qn_arena *arena;
    const char **name; /* in the order of the alphabet */
    size_t n;
    bool failed;
};

static bool add_name(void *user, const struct qn_dir_entry *entry)
{
    struct dir_files *files = user;
    size_t length = strlen(entry->name);
    if (length < 6 || strcmp(entry->name + length - 5, ".yaml") != 0)
        return true;
    const char **names = qn_arena_extend(files->arena, (void *)files->name, files->n * sizeof *names,
                                         (files->n + 1) * sizeof *names);
    const char *name = keep_text(files->arena, entry->name);
    files->failed = !names || !name;
    if (files->failed)
        return false;
    size_t at = files->n++;
    for (files->name = names; at > 0 && strcmp(names[at - 1], name) > 0; at--)
        names[at] = names[at - 1];
    names[at] = name;
    return true;
}

static bool add_dir(struct intake *intake, const char *dir)
{
    struct quern_profiles *profiles = intake->profiles;
    struct dir_files files = {.arena = &profiles->arena};
    struct quern_error err;
    char path[4096];
    if (!qn_file_stat(&profiles->cb, dir, NULL, NULL)) /* most users have none */
        return true;
    if (qn_dir_list(&profiles->cb, dir, add_name, &files, &err)) {
        qn_log(&profiles->cb, QUERN_LOG_WARNING, "%s", err.text);
        return true;
    }
    bool good = !files.failed;
    for (size_t i = 0; i < files.n && good; i++)
        if (snprintf(path, sizeof path, "%s/%s", dir, files.name[i]) < (int)sizeof path)
            good = add_path(intake, RANK_DIR, path, &err);
    return good;
}

/* ---- which extends which ---- */

/* Of that name, from the same source or one below; NULL: there is none. */
static struct qn_profile *find_base(const struct qn_profile *of, struct qn_profile *const *all, size_t n)
{
    struct qn_profile *found = NULL;
    for (size_t i = 0; i < n; i++)
        if (all[i] != of && all[i]->name && strcmp(all[i]->name, of->extends) == 0 &&
            all[i]->rank <= of->rank && (!found || all[i]->rank >= found->rank))
            found = all[i];
    return found;
}

static void set_base(struct qn_reading *r, struct qn_profile *const *all, size_t n)
{
    struct qn_profile *profile = r->profile;
    if (!profile->extends)
        return;
    profile->base = find_base(profile, all, n);
    if (!profile->base)
        qn_reading_fault(r, profile->name_line, profile->name_column,
                         "extends: there is no profile \"%.64s\"", profile->extends);
}

/* Cuts circles; how many profiles there are under each. */
static void set_depth(struct qn_reading *r)
{
    struct qn_profile *profile = r->profile;
    uint32_t depth = 0;
    for (const struct qn_profile *p = profile->base; p && depth <= QN_PROFILE_DEPTH; p = p->base)
        depth = p == profile ? QN_PROFILE_DEPTH + 1 : depth + 1;
    if (depth > QN_PROFILE_DEPTH) {
        qn_reading_fault(r, profile->name_line, profile->name_column,
                         "extends: \"%.64s\" leads back to this profile, or to more than %d others",
                         profile->extends, QN_PROFILE_DEPTH);
        profile->base = NULL;
        depth = 0;
    }
    profile->depth = depth;
}

static void read_bodies(struct intake *intake)
{
    struct quern_profiles *profiles = intake->profiles;
    for (size_t i = 0; i < intake->n; i++)
        set_base(&intake->reading[i], profiles->profile, profiles->n);
    for (size_t i = 0; i < intake->n; i++)
        set_depth(&intake->reading[i]);
    for (uint32_t depth = 0; depth <= QN_PROFILE_DEPTH; depth++)
        for (size_t i = 0; i < intake->n; i++) {
            struct qn_reading *r = &intake->reading[i];
            struct qn_profile *p = r->profile;
            if (p->depth != depth)
                continue;
            if (p->base && !p->base->good)
                qn_reading_fault(r, p->name_line, p->name_column, "extends: \"%.64s\" has faults of its own",
                                 p->extends);
            if (r->n_faults == 0)
                qn_reading_body(r);
            p->good = r->n_faults == 0;
        }
}

/* ---- opening ---- */

static bool take_in(struct intake *intake, const struct quern_profiles_params *params,
                    struct quern_error *err)
{
    struct quern_profiles *profiles = intake->profiles;
    bool good = true;
    for (size_t i = 0; i < qn_n_profile_texts && good; i++)
        if (serves(profiles, &qn_profile_texts[i]))
            good = add_text(intake, RANK_BUILT_IN, qn_profile_texts[i].name, qn_profile_texts[i].text,
                            qn_profile_texts[i].n);
    if (good && params->dir && params->dir[0])
        good = add_dir(intake, params->dir);
    if (good && params->file && params->file[0]) {
        size_t before = intake->n;
        good = add_path(intake, RANK_FILE, params->file, err);
        if (good && intake->n > before)
            profiles->file = intake->reading[before].profile;
    }
    profiles->profile =
        good ? qn_arena_alloc(&profiles->arena, intake->n + 1, sizeof *profiles->profile) : NULL;
    if (!profiles->profile)
        return false;
    for (size_t i = 0; i < intake->n; i++)
        profiles->profile[profiles->n++] = intake->reading[i].profile;
    if (!intake->status)
        read_bodies(intake);
    for (size_t i = 0; i < intake->n; i++)
        good = good && !intake->reading[i].no_memory;
    return good;
}

enum quern_status quern_profiles_open(struct quern_profiles **out, const struct quern_profiles_params *params,
                                      struct quern_error *err)
{
    const struct quern_profiles_params defaults = *quern_profiles_params();
    *out = NULL;
    if (!params)
        params = &defaults;
    struct quern_callbacks cb = qn_callbacks_resolve(params->callbacks);
    struct quern_profiles *profiles = qn_zalloc(&cb, 1, sizeof *profiles);
    if (!profiles)
        return qn_fail_memory(err, "device profiles");
    profiles->cb = cb;
    profiles->emulate = params->emulate;
    qn_arena_init(&profiles->arena, &profiles->cb, ARENA_BYTES);
    qn_registry_tunables(&profiles->cb, params->drivers, params->n_drivers, &profiles->tunables);
    struct intake intake = {.profiles = profiles};
    bool good = take_in(&intake, params, err);
    for (size_t i = 0; i < intake.n; i++)
        qn_reading_finish(&intake.reading[i]);
    enum quern_status status = good ? intake.status : qn_fail_memory(err, "device profiles");
    if (!status && intake.n_faults == 1)
        status = qn_fail(err, QUERN_ERR_FILE, "%s", intake.first);
    else if (!status && intake.n_faults > 1)
        status = qn_fail(err, QUERN_ERR_FILE, "%.400s (and %u more: see quern device check)", intake.first,
                         intake.n_faults - 1);
    if (status)
        quern_profiles_close(&profiles);
    *out = profiles;
    return status;
}

void quern_profiles_close(struct quern_profiles **out)
{
    struct quern_profiles *profiles = *out;
    if (!profiles)
        return;
    struct quern_callbacks cb = profiles->cb;
    qn_arena_finish(&profiles->arena);
    qn_free(&cb, profiles);
    *out = NULL;
}

size_t quern_profiles_count(const struct quern_profiles *profiles)
{
    return profiles->n;
}

bool quern_profiles_at(const struct quern_profiles *profiles, size_t index, struct quern_profile_desc *desc)
{
    if (index >= profiles->n)
        return false;
    const struct qn_profile *p = profiles->profile[index];
    *desc = (struct quern_profile_desc){.name = p->name ? p->name : "",
                                        .about = p->about ? p->about : "",
                                        .origin = p->path,
                                        .extends = p->extends ? p->extends : "",
                                        .unmeasured = p->unmeasured ? p->unmeasured : ""};
    return true;
}

void quern_profiles_each_setting(const struct quern_profiles *profiles, quern_profile_setting_fn each,
                                 void *user)
{
    const struct qn_tunable_set *set = &profiles->tunables;
    for (uint32_t d = 0; d < set->n; d++)
        for (uint32_t i = 0; i < set->of[d].table.n; i++)
            each(user, set->of[d].driver ? set->of[d].driver->name : NULL,
                 quern_tunable_at(&set->of[d].table, i));
}

const struct qn_profile *qn_profiles_file(const struct quern_profiles *profiles)
{
    return profiles->file;
}

/* ---- checking a file ---- */

enum quern_status qn_profile_check_text(const struct quern_profiles *profiles, const char *path,
                                        const char *text, size_t n, quern_profile_fault_fn fault, void *user,
                                        struct quern_error *err)
{
    struct qn_arena arena;
    enum quern_status status = QUERN_OK;
    qn_arena_init(&arena, &profiles->cb, ARENA_BYTES);
    struct qn_reading r = {
        .arena = &arena, .path = path, .tunables = &profiles->tunables, .fault = fault, .user = user};
    qn_reading_head(&r, text, n);
    if (r.profile) {
        r.profile->rank = RANK_FILE;
        set_base(&r, profiles->profile, profiles->n);
        set_depth(&r);
        if (r.profile->base && !r.profile->base->good)
            qn_reading_fault(&r, r.profile->name_line, r.profile->name_column,
                             "extends: \"%.64s\" has faults of its own", r.profile->extends);
        qn_reading_body(&r);
    }
    if (r.no_memory)
        status = qn_fail_memory(err, "a device profile");
    else if (r.n_faults > 0)
        status =
            qn_fail(err, QUERN_ERR_FILE, "%.400s: %u fault%s", path, r.n_faults, r.n_faults > 1 ? "s" : "");
    qn_reading_finish(&r);
    qn_arena_finish(&arena);
    return status;
}

enum quern_status quern_profile_check(const struct quern_profiles *profiles, const char *path,
                                      quern_profile_fault_fn fault, void *user, struct quern_error *err)
{
    struct qn_view view;
    enum quern_status status = qn_view_path(&profiles->cb, &view, path, false, err);
    if (status)
        return status;
    status =
        qn_profile_check_text(profiles, path, (const char *)view.data, (size_t)view.size, fault, user, err);
    qn_view_finish(&profiles->cb, &view);
    return status;
}

/* ---- what holds for a device ---- */

/* Whether a better source has one of the same name. */
static bool is_replaced(const struct quern_profiles *profiles, const struct qn_profile *profile)
{
    bool replaced = false;
    for (size_t i = 0; i < profiles->n; i++) {
        const struct qn_profile *other = profiles->profile[i];
        replaced |= other->good && other->rank > profile->rank && strcmp(other->name, profile->name) == 0;
    }
    return replaced;
}

static uint32_t conditions(const struct qn_profile *profile)
{
    uint32_t n = 0;
    for (; profile; profile = profile->base)
        n += profile->match.n;
    return n;
}

/* Whether `a` says more of a device than `b`, both of which are for it. */
static bool is_closer(const struct qn_profile *a, const struct qn_profile *b)
{
    if (!b || a->rank != b->rank)
        return !b || a->rank > b->rank;
    return a->depth != b->depth ? a->depth > b->depth : conditions(a) > conditions(b);
}

/* Values on their way together, and what there is room for. */
struct gathering {
    const struct quern_callbacks *cb;
    const struct quern_device_info *info;
    struct qn_profile_values *values;
    size_t cap, cap_unused;
};

static bool put_value(struct gathering *g, const struct qn_profile_item *item)
{
    struct qn_profile_values *values = g->values;
    bool used = qn_version_in_range(g->info->driver_version, &item->driver_version);
    if (used && qn_grow(g->cb, &values->value, &g->cap, values->n + 1, sizeof *values->value))
        values->value[values->n++] = &item->value;
    else if (!used &&
             qn_grow(g->cb, &values->unused, &g->cap_unused, values->n_unused + 1, sizeof *values->unused))
        values->unused[values->n_unused++] = &item->value;
    else
        return false;
    return true;
}

static bool put_values(struct gathering *g, const struct qn_profile *profile)
{
    const struct qn_profile *chain[QN_PROFILE_DEPTH + 2];
    size_t n = 0;
    for (; profile && n < QN_LEN(chain); profile = profile->base)
        chain[n++] = profile;
    bool good = true;
    while (n-- > 0)
        for (uint32_t i = 0; i < chain[n]->n_items && good; i++)
            good = put_value(g, &chain[n]->items[i]);
    return good;
}

static bool is_for_driver(const struct qn_profile *profile, const char *driver)
{
    const char *api = qn_profile_api(profile);
    return !api || strcmp(api, driver) == 0;
}

enum quern_status qn_profiles_resolve(const struct quern_profiles *profiles, const struct quern_callbacks *cb,
                                      const char *driver, const struct quern_device_info *info,
                                      struct qn_profile_values *values, struct quern_error *err)
{
    const struct qn_profile *file = profiles->file;
    bool for_driver = file && is_for_driver(file, driver);
    struct gathering g = {.cb = cb, .info = info, .values = values};
    *values = (struct qn_profile_values){0};
    if (profiles->emulate && for_driver)
        values->profile = file;
    for (size_t i = 0; i < profiles->n && !(profiles->emulate && for_driver); i++) {
        const struct qn_profile *p = profiles->profile[i];
        if (p->good && !p->overlay && !is_replaced(profiles, p) &&
            qn_profile_match(p, driver, info, NULL, 0) && is_closer(p, values->profile))
            values->profile = p;
    }
    bool good = put_values(&g, values->profile);
    for (size_t i = 0; i < profiles->n && good && !(file && values->profile == file); i++) {
        const struct qn_profile *p = profiles->profile[i];
        if (p->good && p->overlay && !is_replaced(profiles, p) && qn_profile_match(p, driver, info, NULL, 0))
            good = put_values(&g, p);
    }
    if (good)
        return QUERN_OK;
    qn_profile_values_finish(cb, values);
    return qn_fail_memory(err, "device profiles");
}

void qn_profile_values_finish(const struct quern_callbacks *cb, struct qn_profile_values *values)
{
    qn_free(cb, (void *)values->value);
    qn_free(cb, (void *)values->unused);
    *values = (struct qn_profile_values){0};
}

void qn_profiles_tell_unused(const struct quern_profiles *profiles, const struct quern_callbacks *cb,
                             const char *driver, const struct quern_device_info *info)
{
    const struct qn_profile *file = profiles ? profiles->file : NULL;
    char why[512];
    if (file && !profiles->emulate && is_for_driver(file, driver) &&
        !qn_profile_match(file, driver, info, why, sizeof why))
        qn_log(cb, QUERN_LOG_WARNING, "%s is not for %s (%s %s): %s", file->path, info->name,
               info->driver_name, info->driver_version, why);
    for (size_t i = 0; profiles && i < profiles->n; i++) {
        const struct qn_profile *p = profiles->profile[i];
        struct qn_profile any = *p;
        any.match.driver_version.n = 0;
        if (p->good && p->overlay && !qn_profile_match(p, driver, info, NULL, 0) &&
            qn_profile_match(&any, driver, info, NULL, 0))
            qn_log(cb, QUERN_LOG_WARNING, "%s is for another version of the driver than %s of %s: ignored",
                   p->path, info->driver_version, info->name);
    }
}
