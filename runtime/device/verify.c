/* Verifying a device: every operation and format against the reference, and which feature is to blame. */
#include "base/words.h"
#include "conformance/verify.h"
#include "device/workbench.h"
#include <quern/verify.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_REMEDIES = 16 };

/* A row under way. */
struct work {
    struct qn_workbench bench;
    const struct quern_verify_params *params;
    struct quern_verify_result *result;
    struct qn_op_choice choice;
    struct qn_device device; /* as it is without a remedy */
    struct qn_device other;  /* with one; closed between two */
    struct qn_verifier verifier;
    uint32_t done, total; /* rows */

    enum quern_op op;
    enum quern_format format;
    struct quern_verify_row row;
    char fault[700], remedy[QN_SETTING_NAME + 8];
    struct qn_op_case failed; /* the first case that did */
    uint64_t seed, failed_seed;
    bool searching; /* for a remedy: stop at the first failure */
    enum quern_status status;
    struct quern_error *err;

    struct qn_overlay_line lines[MOST_REMEDIES];
    char setting[MOST_REMEDIES][QN_SETTING_NAME], reason[MOST_REMEDIES][256];
    size_t n_lines;
};

/* ---- one row ---- */

static void run_case(struct work *w, const struct qn_op_case *at)
{
    struct qn_finding finding;
    char name[256];
    if (w->status || (w->searching && w->row.n_failed > 0))
        return;
    if (qn_cancelled(&w->bench.cb)) {
        w->status = qn_fail(w->err, QUERN_ERR_CANCELLED, "cancelled while the device was verified");
        return;
    }
    w->status = qn_verify_case(&w->verifier, at, w->seed, &finding, w->err);
    if (w->status)
        return;
    w->row.n_cases++;
    w->row.n_refused += finding.refused;
    double *error = at->exact ? &w->row.error_exact : &w->row.error_fast;
    *error = fmax(*error, finding.error);
    if (finding.good)
        return;
    w->row.unsteady |= finding.unsteady;
    if (w->row.n_failed++ > 0)
        return;
    qn_op_print(at, name, sizeof name);
    snprintf(w->fault, sizeof w->fault, "%s: %s (seed %llu)", name, finding.text,
             (unsigned long long)w->seed);
    w->failed = *at;
    w->failed_seed = w->seed;
}

/* A case exactly and, where a device may round, fast. */
static void run_modes(struct work *w, const struct qn_op_case *listed)
{
    struct qn_op_case at = *listed;
    bool beyond_halves = at.fill == QN_FILL_HUGE && qn_op_reads_weights(at.op);
    at.exact = true;
    run_case(w, &at);
    at.exact = false;
    if (qn_op_may_round(at.op) && !beyond_halves)
        run_case(w, &at);
    w->seed++;
}

static void visit(const struct qn_op_case *listed, void *user)
{
    struct work *w = user;
    struct qn_op_case at = *listed;
    if (at.large && !w->params->large)
        return;
    if (qn_op_reads_weights(w->op) && !at.any_format && at.format != w->format)
        return;
    if (at.any_format)
        at.format = w->format;
    run_modes(w, &at);
}

static void run_row(struct work *w)
{
    w->row =
        (struct quern_verify_row){.operation = qn_op_name(w->op),
                                  .format = qn_op_reads_weights(w->op) ? quern_format_name(w->format) : "",
                                  .fault = w->fault,
                                  .remedy = w->remedy};
    w->fault[0] = w->remedy[0] = '\0';
    w->seed = 1;
    qn_op_cases(w->op, visit, w);
    w->seed = (w->params->seed > 0 ? w->params->seed : 1) << 20;
    for (uint32_t i = 0; i < w->params->n_random && !w->status; i++) {
        uint64_t state = w->seed;
        struct qn_op_case at = qn_op_random(w->op, w->format, &state);
        run_modes(w, &at);
    }
}

/* ---- remedies ---- */

/* Whether the case that failed passes on a device with the setting. */
static bool helps(struct work *w, const struct quern_setting *setting)
{
    struct quern_error err;
    struct qn_finding finding = {.good = false};
    if (qn_workbench_open(&w->bench, setting, 1, &w->other, &err))
        return false;
    struct qn_verifier verifier = w->verifier;
    verifier.device = w->other.handle;
    bool good = !qn_verify_case(&verifier, &w->failed, w->failed_seed, &finding, &err) && finding.good;
    qn_device_close(&w->other);
    return good;
}

/* Whether no case of the row fails with it. */
static bool cures(struct work *w, const struct quern_setting *setting)
{
    struct quern_verify_row row = w->row;
    char fault[sizeof w->fault], remedy[sizeof w->remedy];
    struct quern_error err;
    memcpy(fault, w->fault, sizeof fault);
    memcpy(remedy, w->remedy, sizeof remedy);
    if (qn_workbench_open(&w->bench, setting, 1, &w->other, &err))
        return false;
    w->verifier.device = w->other.handle;
    w->searching = true;
    run_row(w);
    bool good = w->row.n_failed == 0 && !w->status;
    w->searching = false;
    w->verifier.device = w->device.handle;
    qn_device_close(&w->other);
    w->row = row;
    memcpy(w->fault, fault, sizeof fault);
    memcpy(w->remedy, remedy, sizeof remedy);
    return good;
}

struct features {
    const char *name[64];
    size_t n;
};

static void add_feature(void *user, const struct quern_tunable *tunable)
{
    struct features *features = user;
    if (strncmp(tunable->name, "features.", 9) == 0 && features->n < QN_LEN(features->name))
        features->name[features->n++] = tunable->name;
}

static void note_remedy(struct work *w, const char *setting)
{
    size_t i = 0;
    while (i < w->n_lines && strcmp(w->setting[i], setting) != 0)
        i++;
    snprintf(w->remedy, sizeof w->remedy, "%s=0", setting);
    if (i < w->n_lines || i == MOST_REMEDIES)
        return;
    snprintf(w->setting[i], sizeof w->setting[i], "%s", setting);
    snprintf(w->reason[i], sizeof w->reason[i], "quern device verify: %.200s", w->fault);
    w->lines[w->n_lines++] = (struct qn_overlay_line){w->setting[i], "0", w->reason[i]};
}

/* The first feature without which the row passes; the last of the list first, which build on others. */
static void find_remedy(struct work *w)
{
    struct features features = {.n = 0};
    qn_tunables_each(&w->bench.tunables, w->bench.driver->name, add_feature, &features);
    for (size_t i = features.n; i-- > 0 && !w->status;) {
        const struct quern_setting off = {features.name[i], "0"};
        if (helps(w, &off) && cures(w, &off)) {
            note_remedy(w, features.name[i]);
            return;
        }
    }
}

/* ---- all rows ---- */

static void do_row(struct work *w)
{
    run_row(w);
    if (!w->status && w->row.n_failed > 0)
        find_remedy(w);
    if (w->status || w->row.n_cases == 0)
        return;
    w->result->n_cases += w->row.n_cases;
    w->result->n_failed += w->row.n_failed;
    w->result->n_rows++;
    w->result->n_rows_failed += w->row.n_failed > 0;
    if (w->params->row)
        w->params->row(w->params->user, &w->row);
}

/* Calls `each` for the rows that are chosen. */
static void each_row(struct work *w, void (*each)(struct work *w))
{
    uint64_t formats = w->device.caps.weight_formats;
    for (int op = 0; op < QUERN_OP_END && !w->status; op++)
        for (int f = 0; f < QUERN_FORMAT_END && !w->status; f++) {
            w->op = (enum quern_op)op;
            w->format = (enum quern_format)f;
            bool there = qn_op_reads_weights(w->op) ? formats >> f & 1 : f == 0;
            if (there && qn_op_is_chosen(&w->choice, w->op, w->format))
                each(w);
        }
}

static void count_row(struct work *w)
{
    w->total++;
}

static void progress_row(struct work *w)
{
    qn_progress(&w->bench.cb, "verify", w->done++, w->total);
    do_row(w);
}

static enum quern_status choose(struct work *w, const char *only, struct quern_error *err)
{
    char word[64];
    while (only && qn_word_take(&only, word, sizeof word))
        if (!qn_op_choose(&w->choice, word))
            return qn_fail(err, QUERN_ERR_PARAM,
                           "\"%s\" is no operation or number format, as in matmul, attention, norm, Q4_K",
                           word);
    return QUERN_OK;
}

/* Without one, or memory to find it out, the name stays empty. */
static void name_profile(struct work *w)
{
    const struct qn_drivers *drivers = &w->bench.drivers;
    struct qn_profile_values values;
    struct quern_error err;
    if (!drivers->profiles || qn_profiles_resolve(drivers->profiles, &w->bench.cb, w->bench.driver->name,
                                                  w->bench.info, &values, &err))
        return;
    if (values.profile)
        snprintf(w->result->profile, sizeof w->result->profile, "%s", values.profile->name);
    qn_profile_values_finish(&w->bench.cb, &values);
}

enum quern_status quern_device_verify(const struct quern_device_params *devices,
                                      const struct quern_verify_params *params,
                                      struct quern_verify_result *result, struct quern_error *err)
{
    struct quern_callbacks cb = qn_callbacks_resolve(devices->callbacks);
    struct work *w = qn_zalloc(&cb, 1, sizeof *w);
    *result = (struct quern_verify_result){0};
    if (!w)
        return qn_fail_memory(err, "verifying a device");
    w->params = params;
    w->result = result;
    w->err = err;
    enum quern_status status = choose(w, params->only, err);
    if (!status)
        status = qn_workbench_init(&w->bench, devices, params->device, err);
    if (status) {
        qn_free(&cb, w);
        return status;
    }
    result->info = *w->bench.info;
    name_profile(w);
    w->status = qn_workbench_open(&w->bench, NULL, 0, &w->device, err);
    w->verifier = (struct qn_verifier){.cb = &w->bench.cb,
                                       .driver = w->bench.driver,
                                       .reference = w->bench.cpu,
                                       .device = w->device.handle,
                                       .repeats = params->repeats > 0 ? params->repeats : 2,
                                       .measured = true};
    if (!w->status) {
        each_row(w, count_row);
        each_row(w, progress_row);
        qn_progress(&w->bench.cb, "verify", w->total, w->total);
    }
    if (!w->status && w->n_lines > 0 && params->save_to && params->save_to[0]) {
        char path[QN_PATH];
        static const char *const sources[] = {"quern device verify on this machine"};
        w->status = qn_overlay_write(&w->bench, params->save_to, "quirks", w->lines, w->n_lines, sources, 1,
                                     path, err);
        snprintf(result->saved, sizeof result->saved, "%.1000s", w->status ? "" : path);
    }
    status = w->status;
    qn_device_close(&w->device);
    qn_workbench_finish(&w->bench);
    qn_free(&cb, w);
    return status;
}
