#include "device/bringup.h"

#include "base/process.h"
#include "device/marks.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#define KIND_LIST    "device-list"
#define KIND_BAD     "device-parts"
#define KIND_VERDICT "device-verdict"
#define KIND_RATING  "device-rating"

enum {
    LIST_MS = 15000,
    TRIAL_MS = 120000,
    ANSWER_BYTES = 128 << 10,
    ENVIRONMENT_BYTES = 40 << 10,
    STRIKES = 2, /* processes that may die with a device in use before it is given up */
};

/* ---- settings ---- */

enum quern_status qn_bringup_settings(const struct qn_bringup *bringup, uint32_t index,
                                      struct qn_settings *settings, struct quern_error *err)
{
    const struct qn_drivers *drivers = bringup->drivers;
    struct qn_profile_values values = {0};
    *settings = (struct qn_settings){0};
    enum quern_status status = QUERN_OK;
    if (drivers->profiles)
        status = qn_profiles_resolve(drivers->profiles, bringup->cb, bringup->driver->name,
                                     &bringup->listing.infos[index], &values, err);
    size_t n = values.n + drivers->n_settings;
    settings->item = qn_alloc(bringup->cb, n + QN_MORE, sizeof *settings->item);
    settings->origin = qn_alloc(bringup->cb, values.n + 1, sizeof *settings->origin);
    if (!status && (!settings->item || !settings->origin))
        status = qn_fail_memory(err, "settings of a device");
    for (size_t i = 0; i < values.n && !status; i++)
        settings->origin[settings->n_origins++] = values.value[i]->origin;
    for (size_t i = 0; i < n && !status; i++)
        settings->item[settings->n++] =
            i < values.n ? (struct quern_setting){values.value[i]->setting, values.value[i]->value}
                         : drivers->settings[i - values.n];
    qn_profile_values_finish(bringup->cb, &values);
    if (status)
        qn_settings_finish(bringup->cb, settings);
    return status;
}

void qn_settings_finish(const struct quern_callbacks *cb, struct qn_settings *settings)
{
    qn_free(cb, settings->item);
    qn_free(cb, (void *)settings->origin);
    *settings = (struct qn_settings){0};
}

/* ---- keys: all that a finding depends on ---- */

static void put_driver(struct qn_text *key, const struct qn_bringup *b, uint32_t parts)
{
    const struct quern_driver_identity *identity = b->identity;
    qn_text_put(key, "%s\n%s %s\n%s\n", QN_VERSION, b->driver->name, identity->build, identity->machine);
    for (uint32_t p = 0; p < identity->n_parts; p++)
        if (parts >> p & 1)
            qn_text_put(key, "%s %s\n", identity->part[p].path, identity->part[p].version);
}

static const char *const processor_settings[] = {"threads", "isa"};

/* Of a device; the processor's settings matter to rates only. */
static void put_device(struct qn_text *key, const struct qn_bringup *b, uint32_t index, bool with_processor)
{
    struct qn_settings settings;
    struct quern_error err;
    put_driver(key, b, b->parts);
    qn_text_put(key, "device %s %s\n", b->listing.infos[index].name, b->listing.infos[index].identity);
    key->failed |= qn_bringup_settings(b, index, &settings, &err) != QUERN_OK;
    for (uint32_t i = 0; i < settings.n; i++) {
        const struct quern_setting *setting = &settings.item[i];
        bool of_processor = false;
        for (size_t k = 0; k < QN_LEN(processor_settings); k++)
            of_processor |= strcmp(setting->name, processor_settings[k]) == 0;
        if (with_processor || !of_processor)
            qn_text_put(key, "%s=%s\n", setting->name, setting->value);
    }
    qn_settings_finish(b->cb, &settings);
}

static uint64_t subject_of(const struct qn_text *key)
{
    return XXH3_64bits(key->data, key->n);
}

static void keep(const struct qn_bringup *b, const char *kind, const struct qn_text *key,
                 const struct qn_text *data)
{
    if (!key->failed && !data->failed)
        qn_cache_put(b->drivers->cache, kind, key->data, key->n, data->data, data->n);
}

static bool recall(const struct qn_bringup *b, const char *kind, const struct qn_text *key,
                   struct qn_blob *blob)
{
    *blob = (struct qn_blob){0};
    return !key->failed && qn_cache_get(b->drivers->cache, kind, key->data, key->n, blob);
}

/* Ends the use of what was recalled; an entry that is no record is thrown away. */
static bool recalled(const struct qn_bringup *b, const char *kind, const struct qn_text *key,
                     struct qn_blob *blob, enum quern_status status, const struct quern_error *err)
{
    if (status) {
        qn_log(b->cb, QUERN_LOG_INFO, "%s: thrown away", err->text);
        qn_cache_drop(b->drivers->cache, kind, key->data, key->n);
    }
    qn_blob_finish(b->drivers->cache, blob);
    return !status;
}

/* ---- asking the helper ---- */

struct answer {
    char *data;
    size_t n;
    struct qn_process_end end;
    char how[96]; /* "crashed (signal 6)" */
};

static bool has_helper(const struct qn_bringup *b)
{
    return b->drivers->helper && b->drivers->helper[0] &&
           qn_driver_builtin(b->cb, b->driver->name) == b->driver;
}

struct request {
    const char *task; /* "list", "try" or "rate" */
    uint32_t index;
    uint32_t parts;
    uint32_t timeout_ms;
    const char *without; /* a feature that is off; NULL, "": none */
};

static enum quern_status run_helper(const struct qn_bringup *b, const struct request *request,
                                    const char *arguments[], struct answer *answer, struct quern_error *err)
{
    char *environment = qn_zalloc(b->cb, ENVIRONMENT_BYTES, 1);
    answer->data = qn_zalloc(b->cb, ANSWER_BYTES, 1);
    const char *assignments[8];
    struct quern_host host = qn_device_host(b->cb, NULL);
    enum quern_status status =
        environment && answer->data ? QUERN_OK : qn_fail_memory(err, "an answer of the helper");
    if (!status)
        status = (enum quern_status)b->driver->confine(&host, b->identity, request->parts, environment,
                                                       ENVIRONMENT_BYTES, err);
    uint32_t n = 0;
    for (const char *at = environment; !status && *at && n + 1 < QN_LEN(assignments); at += strlen(at) + 1)
        assignments[n++] = at;
    assignments[n] = NULL;
    uint32_t ms = b->drivers->helper_ms > 0 ? b->drivers->helper_ms : request->timeout_ms;
    const struct qn_process_params params = {.path = b->drivers->helper,
                                             .arguments = arguments,
                                             .environment = assignments,
                                             .timeout_ns = (uint64_t)ms * 1000000};
    if (!status)
        status = qn_process_run(b->cb, &params, answer->data, ANSWER_BYTES, &answer->n, &answer->end, err);
    if (!status && answer->end.how == QN_PROCESS_CANCELLED)
        status = qn_fail(err, QUERN_ERR_CANCELLED, "cancelled while the helper was at work");
    if (!status)
        qn_process_describe(&answer->end, params.timeout_ns, answer->how, sizeof answer->how);
    qn_free(b->cb, environment);
    return status;
}

/* Has the helper do something. It may crash or hang: `end` tells. */
static enum quern_status ask(const struct qn_bringup *b, const struct request *request, struct answer *answer,
                             struct quern_error *err)
{
    char index[16];
    struct qn_settings settings = {0};
    struct qn_text text = {.cb = b->cb};
    *answer = (struct answer){0};
    snprintf(index, sizeof index, "%u", request->index);
    const char *cache = qn_cache_dir(b->drivers->cache);
    const char *const first[] = {"device-helper", request->task, b->driver->name, index, cache ? cache : ""};
    enum quern_status status = QUERN_OK;
    if (b->listing.n > 0) /* of which it is one */
        status = qn_bringup_settings(b, request->index, &settings, err);
    if (!status && request->without && request->without[0])
        settings.item[settings.n++] = (struct quern_setting){request->without, "0"};
    const char **arguments = qn_alloc(b->cb, QN_LEN(first) + settings.n + 1, sizeof *arguments);
    for (uint32_t i = 0; i < settings.n; i++)
        qn_text_put(&text, "%s=%s%c", settings.item[i].name, settings.item[i].value, '\0');
    if (!status && (!arguments || text.failed))
        status = qn_fail_memory(err, "the arguments of the helper");
    if (!status) {
        size_t n = 0;
        for (; n < QN_LEN(first); n++)
            arguments[n] = first[n];
        for (size_t at = 0; at < text.n; at += strlen(text.data + at) + 1)
            arguments[n++] = text.data + at;
        arguments[n] = NULL;
        status = run_helper(b, request, arguments, answer, err);
    }
    qn_settings_finish(b->cb, &settings);
    qn_text_finish(&text);
    qn_free(b->cb, (void *)arguments);
    return status;
}

static void answer_finish(const struct qn_bringup *b, struct answer *answer)
{
    qn_free(b->cb, answer->data);
}

/* Whether the helper survived what it was asked for. */
static bool came_to_an_end(const struct answer *answer)
{
    static const char last[] = "\nend\n";
    size_t n = sizeof last - 1;
    bool whole = answer->n > n && memcmp(answer->data + answer->n - n, last, n) == 0;
    return (answer->end.how == QN_PROCESS_EXITED && answer->end.code == 0) ||
           (answer->end.how == QN_PROCESS_ENDED && whole);
}

/* ---- what is known against something ---- */

/* What is kept of a verdict, and what processes that died add to it. True: it needs no trial. */
static bool recall_verdict(const struct qn_bringup *b, const struct qn_text *key, bool collect,
                           struct qn_verdict *verdict)
{
    struct qn_blob blob;
    struct quern_error err;
    char last[256] = "";
    bool known =
        recall(b, KIND_VERDICT, key, &blob) &&
        recalled(b, KIND_VERDICT, key, &blob,
                 qn_verdict_read(blob.data, blob.bytes, "a verdict in the cache", verdict, &err), &err);
    if (!known) /* also where what was kept is no verdict */
        *verdict = (struct qn_verdict){.good = true};
    uint32_t dead = collect && !key->failed
                        ? qn_marks_collect(b->cb, b->drivers->cache, subject_of(key), last, sizeof last)
                        : 0;
    if (dead == 0)
        return known;
    uint32_t strikes = verdict->strikes + dead;
    *verdict = (struct qn_verdict){.good = strikes < STRIKES, .strikes = strikes};
    qn_log(b->cb, QUERN_LOG_WARNING, "driver %s: %s died at this; %s", b->driver->name, last,
           verdict->good ? "it is tried anew" : "it is given up");
    verdict->status = verdict->good ? QUERN_OK : QUERN_ERR_DEVICE;
    if (!verdict->good)
        snprintf(verdict->reason, sizeof verdict->reason,
                 "%u processes in a row died with it in use, the last one %s", strikes, last);
    return !verdict->good;
}

static void keep_verdict(const struct qn_bringup *b, const struct qn_text *key,
                         const struct qn_verdict *verdict)
{
    struct qn_text text = {.cb = b->cb};
    qn_verdict_write(&text, verdict);
    keep(b, KIND_VERDICT, key, &text);
    qn_text_finish(&text);
}

/* ---- listing ---- */

static bool recall_list(struct qn_bringup *b, const struct qn_text *key)
{
    struct qn_blob blob;
    struct quern_error err;
    return recall(b, KIND_LIST, key, &blob) &&
           recalled(b, KIND_LIST, key, &blob,
                    qn_listing_read(b->cb, blob.data, blob.bytes, "a list of devices in the cache",
                                    &b->listing, &err),
                    &err);
}

/* Takes the bad parts out of those that may be loaded, and adds them to the driver's. */
static enum quern_status exclude(struct qn_bringup *b, const struct qn_bad_parts *found,
                                 struct quern_error *err)
{
    if (!b->bad)
        b->bad = qn_zalloc(b->cb, 1, sizeof *b->bad);
    if (!b->bad)
        return qn_fail_memory(err, "a list of drivers");
    for (uint32_t i = 0; i < found->n; i++)
        for (uint32_t p = 0; p < b->identity->n_parts; p++)
            if ((b->parts >> p & 1) && strcmp(b->identity->part[p].path, found->part[i].path) == 0) {
                b->parts &= ~(1u << p);
                b->bad->part[b->bad->n++] = found->part[i];
            }
    return QUERN_OK;
}

static enum quern_status recall_bad(struct qn_bringup *b, const struct qn_text *key, bool *changed,
                                    struct quern_error *err)
{
    struct qn_blob blob;
    struct quern_error detail;
    struct qn_bad_parts *found = qn_zalloc(b->cb, 1, sizeof *found);
    if (!found)
        return qn_fail_memory(err, "a list of drivers");
    enum quern_status status = QUERN_OK;
    uint32_t before = b->parts;
    if (recall(b, KIND_BAD, key, &blob) &&
        recalled(b, KIND_BAD, key, &blob,
                 qn_bad_parts_read(blob.data, blob.bytes, "a list of drivers in the cache", found, &detail),
                 &detail))
        status = exclude(b, found, err);
    *changed = b->parts != before;
    qn_free(b->cb, found);
    return status;
}

static void add_bad(const struct qn_bringup *b, struct qn_bad_parts *bad, uint32_t part, const char *reason)
{
    struct qn_bad_part *slot = &bad->part[bad->n++];
    memcpy(slot->path, b->identity->part[part].path, sizeof slot->path);
    snprintf(slot->reason, sizeof slot->reason, "%s", reason);
}

/* Finds out which of the parts it is that the helper did not survive, and leaves it out from now on. */
static enum quern_status isolate(struct qn_bringup *b, const struct qn_text *key, const char *how,
                                 struct quern_error *err)
{
    struct qn_bad_parts *found = qn_zalloc(b->cb, 1, sizeof *found);
    if (!found)
        return qn_fail_memory(err, "a list of drivers");
    enum quern_status status = QUERN_OK;
    char reason[192];
    bool several = (b->parts & (b->parts - 1)) != 0;
    for (uint32_t p = 0; p < b->identity->n_parts && !status && several; p++) {
        const struct request request = {"list", 0, 1u << p, LIST_MS};
        struct answer answer;
        if (!(b->parts >> p & 1))
            continue;
        status = ask(b, &request, &answer, err);
        if (!status && !came_to_an_end(&answer)) {
            snprintf(reason, sizeof reason, "the helper %s when it was loaded", answer.how);
            add_bad(b, found, p, reason);
        }
        answer_finish(b, &answer);
    }
    snprintf(reason, sizeof reason, "the helper %s when it was loaded%s", how,
             several ? " with the others" : "");
    for (uint32_t p = 0; p < b->identity->n_parts && !status && found->n == 0 && b->parts; p++)
        if (b->parts >> p & 1)
            add_bad(b, found, p, reason);
    for (uint32_t i = 0; i < found->n && !status; i++)
        qn_log(b->cb, QUERN_LOG_WARNING, "driver %s: %s is left out: %s", b->driver->name,
               found->part[i].path, found->part[i].reason);
    if (!status) {
        struct qn_text text = {.cb = b->cb};
        qn_bad_parts_write(&text, found);
        keep(b, KIND_BAD, key, &text);
        qn_text_finish(&text);
        status = exclude(b, found, err);
    }
    qn_free(b->cb, found);
    return status;
}

/* One attempt with the parts that are left. *again: some of them are bad. */
static enum quern_status list_parts(struct qn_bringup *b, bool *again, struct quern_error *err)
{
    struct qn_text key = {.cb = b->cb};
    struct answer answer = {0};
    put_driver(&key, b, b->parts);
    enum quern_status status = recall_bad(b, &key, again, err);
    if (!status && !*again && (b->fresh || !recall_list(b, &key))) {
        const struct request request = {"list", 0, b->parts, LIST_MS};
        qn_log(b->cb, QUERN_LOG_INFO, "driver %s: the helper lists its devices", b->driver->name);
        status = ask(b, &request, &answer, err);
        if (!status && came_to_an_end(&answer)) {
            const struct qn_text text = {.data = answer.data, .n = answer.n};
            status = qn_listing_read(b->cb, answer.data, answer.n, "the helper's answer", &b->listing, err);
            if (!status)
                keep(b, KIND_LIST, &key, &text);
        } else if (!status && answer.end.how == QN_PROCESS_EXITED) {
            status = qn_fail(err, QUERN_ERR_FILE, "%s is no helper: it %s", b->drivers->helper, answer.how);
        } else if (!status) {
            *again = true;
            status = isolate(b, &key, answer.how, err);
        }
    }
    answer_finish(b, &answer);
    qn_text_finish(&key);
    return status;
}

/* Lists in this process. */
static enum quern_status probe(struct qn_bringup *b, struct quern_error *err)
{
    struct quern_host host = qn_device_host(b->cb, b->drivers->cache);
    struct quern_error detail = {0};
    b->in_process = true;
    b->listing.infos = qn_zalloc(b->cb, QN_MAX_LISTED, sizeof *b->listing.infos);
    if (!b->listing.infos)
        return qn_fail_memory(err, "a list of devices");
    for (uint32_t i = 0; i < QN_MAX_LISTED; i++)
        b->listing.infos[i].struct_size = sizeof *b->listing.infos;
    int32_t status = b->driver->probe(&host, b->listing.infos, QN_MAX_LISTED, &b->listing.n, &detail);
    if (status) {
        qn_log(b->cb, status == QUERN_ERR_UNSUPPORTED ? QUERN_LOG_INFO : QUERN_LOG_WARNING,
               "driver %s cannot list its devices: %s", b->driver->name, detail.text);
        b->listing.n = 0;
        b->listing.status = (uint32_t)status;
        snprintf(b->listing.reason, sizeof b->listing.reason, "%.380s", detail.text);
    }
    if (b->listing.n > QN_MAX_LISTED)
        b->listing.n = QN_MAX_LISTED;
    return QUERN_OK;
}

/* The same with a mark, by which the next process knows where this one ended. */
static enum quern_status probe_marked(struct qn_bringup *b, struct quern_error *err)
{
    struct qn_text key = {.cb = b->cb};
    struct qn_verdict verdict;
    enum quern_status status = QUERN_OK;
    put_driver(&key, b, b->parts);
    bool known = recall_verdict(b, &key, true, &verdict);
    if (verdict.good) {
        struct qn_claim claim = {0};
        if (verdict.strikes > 0 && !known)
            keep_verdict(b, &key, &verdict);
        if (!key.failed)
            qn_marks_take(b->cb, b->drivers->cache, subject_of(&key), "listing the devices", &claim);
        status = probe(b, err);
        qn_claim_drop(b->cb, &claim);
        if (verdict.strikes > 0 && !key.failed)
            qn_cache_drop(b->drivers->cache, KIND_VERDICT, key.data, key.n);
    } else {
        if (!known || verdict.strikes >= STRIKES)
            keep_verdict(b, &key, &verdict);
        snprintf(b->listing.reason, sizeof b->listing.reason, "%s", verdict.reason);
    }
    qn_text_finish(&key);
    return status;
}

static enum quern_status list(struct qn_bringup *b, struct quern_error *err)
{
    struct quern_host host = qn_device_host(b->cb, NULL);
    if (!b->driver->identify || !b->driver->confine)
        return probe(b, err);
    b->identity = qn_zalloc(b->cb, 1, sizeof *b->identity);
    if (!b->identity)
        return qn_fail_memory(err, "the identity of a driver");
    b->identity->struct_size = sizeof *b->identity;
    enum quern_status status = (enum quern_status)b->driver->identify(&host, b->identity, err);
    if (status)
        return status;
    if (b->identity->n_parts == 0) {
        snprintf(b->listing.reason, sizeof b->listing.reason, "nothing is installed for it to drive");
        return QUERN_OK;
    }
    b->parts = b->identity->n_parts < 32 ? (1u << b->identity->n_parts) - 1 : UINT32_MAX;
    if (!has_helper(b))
        return probe_marked(b, err);
    bool again = true;
    while (again && b->parts && !status)
        status = list_parts(b, &again, err);
    if (status == QUERN_ERR_FILE) { /* of the helper */
        qn_log(b->cb, QUERN_LOG_WARNING, "%s", err->text);
        return probe_marked(b, err);
    }
    if (!status && !b->parts && b->bad && b->bad->n > 0)
        snprintf(b->listing.reason, sizeof b->listing.reason, "%.200s: %.150s", b->bad->part[0].path,
                 b->bad->part[0].reason);
    return status;
}

enum quern_status qn_bringup_init(struct qn_bringup *bringup, const struct quern_callbacks *cb,
                                  const struct qn_drivers *drivers, const struct quern_driver *driver,
                                  bool fresh, struct quern_error *err)
{
    *bringup = (struct qn_bringup){.cb = cb, .drivers = drivers, .driver = driver, .fresh = fresh};
    enum quern_status status = list(bringup, err);
    if (status)
        qn_bringup_finish(bringup);
    return status;
}

void qn_bringup_finish(struct qn_bringup *bringup)
{
    qn_listing_finish(bringup->cb, &bringup->listing);
    qn_free(bringup->cb, bringup->identity);
    qn_free(bringup->cb, bringup->bad);
    bringup->identity = NULL;
    bringup->bad = NULL;
}

bool qn_bringup_confined(const struct qn_bringup *bringup)
{
    return !bringup->bad || bringup->bad->n == 0;
}

enum quern_status qn_bringup_environment(const struct qn_bringup *bringup, char *text, size_t size,
                                         struct quern_error *err)
{
    struct quern_host host = qn_device_host(bringup->cb, NULL);
    text[0] = '\0';
    if (qn_bringup_confined(bringup) || !bringup->parts)
        return QUERN_OK;
    return (enum quern_status)bringup->driver->confine(&host, bringup->identity, bringup->parts, text, size,
                                                       err);
}

/* ---- verdicts ---- */

static enum quern_status try(const struct qn_bringup *b, uint32_t index, struct qn_verdict *verdict,
                             struct quern_error *err)
{
    const struct request request = {"try", index, b->parts, TRIAL_MS};
    struct answer answer;
    uint32_t strikes = verdict->strikes;
    qn_log(b->cb, QUERN_LOG_INFO, "driver %s: the helper tries %s", b->driver->name,
           b->listing.infos[index].name);
    qn_progress(b->cb, "try device", 0, 1);
    enum quern_status status = ask(b, &request, &answer, err);
    qn_progress(b->cb, "try device", 1, 1);
    if (!status && came_to_an_end(&answer)) {
        status = qn_verdict_read(answer.data, answer.n, "the helper's answer", verdict, err);
    } else if (!status && answer.end.how == QN_PROCESS_EXITED) {
        status = qn_fail(err, QUERN_ERR_FILE, "%s is no helper: it %s", b->drivers->helper, answer.how);
    } else if (!status) {
        *verdict = (struct qn_verdict){.status = QUERN_ERR_DEVICE};
        snprintf(verdict->reason, sizeof verdict->reason, "the helper %s in the trial", answer.how);
    }
    verdict->strikes = strikes;
    answer_finish(b, &answer);
    return status;
}

enum quern_status qn_bringup_verdict(struct qn_bringup *bringup, uint32_t index, bool ask_helper,
                                     struct qn_verdict *verdict, bool *known, struct quern_error *err)
{
    *verdict = (struct qn_verdict){.good = true};
    *known = true;
    if (!bringup->identity)
        return QUERN_OK;
    struct qn_text key = {.cb = bringup->cb};
    enum quern_status status = QUERN_OK;
    put_device(&key, bringup, index, false);
    *known = recall_verdict(bringup, &key, ask_helper, verdict);
    bool changed = verdict->strikes > 0; /* by marks, which are gone now */
    if (!*known && ask_helper && has_helper(bringup)) {
        status = try(bringup, index, verdict, err);
        *known = changed = !status;
        if (status == QUERN_ERR_FILE) { /* of the helper */
            qn_log(bringup->cb, QUERN_LOG_WARNING, "%s", err->text);
            status = QUERN_OK;
        }
    }
    /* memory may be there the next time, and settings be right */
    bool lasting = verdict->status != QUERN_ERR_MEMORY && verdict->status != QUERN_ERR_PARAM;
    if (!status && changed && ask_helper && lasting)
        keep_verdict(bringup, &key, verdict);
    qn_text_finish(&key);
    return status;
}

enum quern_status qn_bringup_rating(struct qn_bringup *bringup, uint32_t index, struct qn_rating *rating,
                                    struct quern_error *err)
{
    if (!bringup->identity || !has_helper(bringup))
        return qn_fail(err, QUERN_ERR_UNSUPPORTED, "there is no helper to measure %s",
                       bringup->listing.infos[index].name);
    struct qn_text key = {.cb = bringup->cb};
    struct qn_blob blob;
    struct quern_error detail;
    struct qn_verdict verdict;
    bool tried;
    enum quern_status status = qn_bringup_verdict(bringup, index, true, &verdict, &tried, err);
    if (status)
        return status;
    put_device(&key, bringup, index, true);
    bool known =
        recall(bringup, KIND_RATING, &key, &blob) &&
        recalled(bringup, KIND_RATING, &key, &blob,
                 qn_rating_read(blob.data, blob.bytes, "rates in the cache", rating, &detail), &detail);
    if (!known) {
        const struct request request = {"rate", index, bringup->parts, TRIAL_MS, verdict.without};
        struct answer answer;
        qn_log(bringup->cb, QUERN_LOG_INFO, "driver %s: the helper measures %s", bringup->driver->name,
               bringup->listing.infos[index].name);
        qn_progress(bringup->cb, "measure device", 0, 1);
        status = ask(bringup, &request, &answer, err);
        qn_progress(bringup->cb, "measure device", 1, 1);
        if (!status && !came_to_an_end(&answer))
            status = qn_fail(err, QUERN_ERR_DEVICE, "the helper %s when it measured", answer.how);
        if (!status)
            status = qn_rating_read(answer.data, answer.n, "the helper's answer", rating, err);
        const struct qn_text text = {.data = answer.data, .n = answer.n};
        if (!status)
            keep(bringup, KIND_RATING, &key, &text);
        answer_finish(bringup, &answer);
    }
    qn_text_finish(&key);
    return status;
}

enum quern_status qn_bringup_forget(const struct quern_callbacks *cb, struct quern_cache *cache,
                                    struct quern_error *err)
{
    static const char *const kinds[] = {KIND_LIST, KIND_BAD, KIND_VERDICT, KIND_RATING};
    enum quern_status status = QUERN_OK;
    for (size_t i = 0; i < QN_LEN(kinds) && !status; i++)
        status = quern_cache_clear(cache, kinds[i], NULL, err);
    qn_marks_clear(cb, cache);
    return status;
}

/* ---- marks of an open device ---- */

struct qn_mark {
    const struct quern_callbacks *cb;
    struct quern_cache *cache;
    struct qn_text key; /* of its verdict */
    uint64_t subject;
    bool struck; /* its verdict counts strikes */
    bool held;
    char name[128];
    struct qn_claim claim;
};

struct qn_mark *qn_mark_create(const struct qn_bringup *bringup, uint32_t index)
{
    if (!bringup->identity || !bringup->drivers->cache)
        return NULL;
    struct qn_mark *mark = qn_zalloc(bringup->cb, 1, sizeof *mark);
    if (!mark)
        return NULL;
    mark->cb = bringup->cb;
    mark->cache = bringup->drivers->cache;
    mark->key.cb = bringup->cb;
    put_device(&mark->key, bringup, index, false);
    if (mark->key.failed) {
        qn_mark_destroy(&mark);
        return NULL;
    }
    struct qn_verdict verdict;
    mark->subject = subject_of(&mark->key);
    mark->struck = recall_verdict(bringup, &mark->key, false, &verdict) && verdict.strikes > 0;
    snprintf(mark->name, sizeof mark->name, "%s", bringup->listing.infos[index].name);
    return mark;
}

void qn_mark_destroy(struct qn_mark **out)
{
    struct qn_mark *mark = *out;
    if (!mark)
        return;
    const struct quern_callbacks *cb = mark->cb;
    qn_claim_drop(cb, &mark->claim);
    qn_text_finish(&mark->key);
    qn_free(cb, mark);
    *out = NULL;
}

void qn_mark_begin(struct qn_mark *mark, const char *what)
{
    if (!mark || mark->held)
        return;
    char text[200];
    snprintf(text, sizeof text, "%s %s", what, mark->name);
    mark->held = true;
    qn_marks_take(mark->cb, mark->cache, mark->subject, text, &mark->claim);
}

void qn_mark_end(struct qn_mark *mark, bool passed)
{
    if (!mark || !mark->held)
        return;
    mark->held = false;
    qn_claim_drop(mark->cb, &mark->claim);
    if (!passed || !mark->struck)
        return;
    struct qn_text text = {.cb = mark->cb};
    qn_verdict_write(&text, &(struct qn_verdict){.good = true});
    if (!text.failed)
        qn_cache_put(mark->cache, KIND_VERDICT, mark->key.data, mark->key.n, text.data, text.n);
    qn_text_finish(&text);
    mark->struck = false;
}
