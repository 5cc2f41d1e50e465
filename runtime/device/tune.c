/* Tuning a device: which values of its settings its kernels are fastest with. */
#include "base/thread.h"
#include "base/words.h"
#include "conformance/verify.h"
#include "device/trial.h"
#include "device/workbench.h"
#include <quern/verify.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_TUNABLES = 12, /* of a kernel */
    MOST_VALUES = 16,   /* of a tunable */
    MOST_LINES = 256,   /* of the overlay */
    MOST_CASES = 2,     /* that a kernel is timed by */
    MANY = 0,           /* tokens: as many as suit the device */
    FEW = 16,           /* tokens: fewest of the product with many */
    NARROW = 1024,      /* rows that leave a large device idle */
    PICKED = 6,         /* cases by which settings are verified */
    ROUNDS = 3,         /* of measurements side by side */
    LEAST_BYTES = 1024, /* tried after none */
};

/* A candidate must take less than this part of the time to count as faster; what takes more than the other
 * part of the best one's does not pay. */
static const double FASTER = 0.97, SURELY = 0.985, NOT_PAYING = 1.1;

/* Kernels by the beginnings and ends of their settings' names, and what they are timed by; a setting is of
 * the last that has both. One that is named like a feature of devices is for those that have it. */
static const struct kernel {
    const char *name, *prefix;
    enum quern_op op;
    uint32_t tokens[MOST_CASES]; /* of each case */
    uint32_t n_cases;
    const char *last; /* word of the names; NULL: any */
    uint32_t rows;    /* of matrices; 0: as many as suit the device */
} kernels[] = {
    {"weights", "weights.", QUERN_OP_MATMUL, {1, MANY}, 2}, /* before what depends on the layout */
    {"matvec", "kernels.matvec.", QUERN_OP_MATMUL, {1, 8}, 2},
    {"matmul", "kernels.matmul.", QUERN_OP_MATMUL, {MANY}, 1},
    {"coopmat", "kernels.coopmat.", QUERN_OP_MATMUL, {MANY}, 1},
    {"coopmat2", "kernels.coopmat2.", QUERN_OP_MATMUL, {MANY}, 1},
    {"attention", "kernels.attention.", QUERN_OP_ATTENTION, {1, MANY}, 2},
    {"matvec-split-k", "kernels.matvec.", QUERN_OP_MATMUL, {1}, 1, "split-k", NARROW},
    {"matmul-split-k", "kernels.matmul.", QUERN_OP_MATMUL, {FEW}, 1, "split-k", NARROW},
    {"threads", "threads.", QUERN_OP_MATMUL, {1, MANY}, 2},
    {"costs", "costs.", QUERN_OP_MATMUL, {0}, 0}, /* what the device reaches with all that, to be placed by */
};
enum { COSTS = QN_LEN(kernels) - 1 };

/* What most models have. */
static const enum quern_format usual[] = {QUERN_F16, QUERN_Q4_0, QUERN_Q8_0, QUERN_Q4_K, QUERN_Q6_K};

struct chosen {
    const struct quern_tunable *tunable;
    char value[QN_SETTING_VALUE]; /* "": what holds without it */
};

struct work {
    struct qn_workbench bench;
    const struct quern_tune_params *params;
    struct quern_tune_result *result;
    struct qn_op_choice choice; /* of formats */
    bool kernel[QN_LEN(kernels)];
    bool any_kernel;
    struct qn_op_sizes sizes;
    uint64_t formats;
    uint32_t n_cpus;
    enum quern_status status;
    struct quern_error *err;
    uint32_t done, total;

    /* the row at hand */
    const struct kernel *at;
    bool needs_feature;
    enum quern_format format; /* QUERN_FORMAT_END: none of its own */
    struct qn_case cases[MOST_CASES];
    uint32_t n_cases;
    struct chosen best[MOST_TUNABLES];
    char name[MOST_TUNABLES][QN_SETTING_NAME]; /* of their settings, while a choice is tried */
    uint32_t n_tunables, n_tried;

    /* the overlay */
    struct qn_overlay_line lines[MOST_LINES];
    char setting[MOST_LINES][QN_SETTING_NAME], value[MOST_LINES][QN_SETTING_VALUE];
    size_t n_lines;
    char source[MOST_LINES][256];
    size_t n_sources;
    char path[QN_PATH];
};

/* ---- settings ---- */

/* The name of a tunable for the row's format. */
static void name_setting(const struct work *w, const struct quern_tunable *tunable,
                         char name[QN_SETTING_NAME])
{
    const char *last = strrchr(tunable->name, '.');
    if (w->format < QUERN_FORMAT_END && tunable->flags & QUERN_TUNABLE_FORMATS)
        snprintf(name, QN_SETTING_NAME, "%.*s.%s%s", (int)(last - tunable->name), tunable->name,
                 quern_format_name(w->format), last);
    else
        snprintf(name, QN_SETTING_NAME, "%s", tunable->name);
}

/* The choice as settings, behind what rows before have found; how many. */
static uint32_t make_settings(struct work *w, const struct chosen *chosen, struct quern_setting *settings)
{
    uint32_t n = 0;
    for (size_t i = 0; i < w->n_lines; i++)
        settings[n++] = (struct quern_setting){w->lines[i].setting, w->lines[i].value};
    for (uint32_t i = 0; i < w->n_tunables; i++)
        if (chosen[i].value[0]) {
            name_setting(w, chosen[i].tunable, w->name[i]);
            settings[n++] = (struct quern_setting){w->name[i], chosen[i].value};
        }
    return n;
}

static void on_rule(void *user, const char *setting, const char *why)
{
    *(bool *)user = false;
}

/* Whether the driver's rules allow it, on top of what the device has already. */
static bool fits(struct work *w, const struct quern_setting *settings, uint32_t n)
{
    const struct qn_settings *own = &w->bench.settings;
    bool good = true;
    if (!QUERN_DRIVER_HAS(w->bench.driver, check))
        return true;
    struct quern_setting *all = qn_alloc(&w->bench.cb, own->n + n + 1, sizeof *all);
    if (!all)
        return false;
    memcpy(all, own->item, own->n * sizeof *all);
    memcpy(all + own->n, settings, n * sizeof *all);
    const struct quern_profile_view view = {
        .struct_size = sizeof view, .n_settings = own->n + n, .settings = all};
    w->bench.driver->check(&view, on_rule, &good);
    qn_free(&w->bench.cb, all);
    return good;
}

/* ---- measuring ---- */

static bool stopped(struct work *w)
{
    if (!w->status && qn_cancelled(&w->bench.cb))
        w->status = qn_fail(w->err, QUERN_ERR_CANCELLED, "cancelled while the device was tuned");
    return w->status != QUERN_OK;
}

/* Opens the device with the choice; false: it cannot be used. */
static bool open_with(struct work *w, const struct chosen *chosen, struct qn_device *device)
{
    struct quern_setting settings[MOST_LINES + MOST_TUNABLES];
    struct quern_error err;
    uint32_t n = make_settings(w, chosen, settings);
    return fits(w, settings, n) && !qn_workbench_open(&w->bench, settings, n, device, &err);
}

/* Geometric mean of the cases' seconds with the choice; INFINITY: it cannot be used. */
static double measure(struct work *w, const struct chosen *chosen)
{
    struct qn_device device;
    struct quern_error err;
    if (stopped(w) || !open_with(w, chosen, &device))
        return INFINITY;
    double sum = 0, best;
    for (uint32_t i = 0; i < w->n_cases; i++) {
        w->cases[i].device = device.handle;
        double seconds = w->params->seconds > 0 ? w->params->seconds : 0.1;
        sum += qn_case_time(&w->cases[i], seconds, &best, &err) ? INFINITY : log(best);
        w->cases[i].device = NULL;
    }
    qn_device_close(&device);
    w->n_tried++;
    return exp(sum / w->n_cases);
}

/* Least seconds of both, measured by turns. */
static void compare(struct work *w, const struct chosen *a, const struct chosen *b, double *of_a,
                    double *of_b)
{
    *of_a = *of_b = INFINITY;
    for (int i = 0; i < ROUNDS; i++) {
        *of_a = fmin(*of_a, measure(w, a));
        *of_b = fmin(*of_b, measure(w, b));
    }
}

struct picked {
    struct work *w;
    struct qn_verifier verifier;
    uint32_t n;
    bool good;
};

static void verify_case(const struct qn_op_case *listed, void *user)
{
    struct picked *picked = user;
    struct qn_op_case at = *listed;
    struct qn_finding finding;
    struct quern_error err;
    enum quern_format format = picked->w->format;
    if (at.large || picked->n >= PICKED || !picked->good || (qn_op_reads_weights(at.op) && !at.any_format))
        return;
    if (at.any_format)
        at.format = format < QUERN_FORMAT_END ? format : QUERN_Q4_0;
    picked->n++;
    picked->good = !qn_verify_case(&picked->verifier, &at, 1, &finding, &err) && finding.good;
}

/* Whether the device computes what it should with the choice. */
static bool is_right(struct work *w, const struct chosen *chosen)
{
    struct qn_device device;
    if (!open_with(w, chosen, &device))
        return false;
    struct picked picked = {.w = w,
                            .verifier = {.cb = &w->bench.cb,
                                         .driver = w->bench.driver,
                                         .reference = w->bench.cpu,
                                         .device = device.handle,
                                         .measured = true},
                            .good = true};
    qn_op_cases(w->at->op, verify_case, &picked);
    qn_device_close(&device);
    return picked.good;
}

/* ---- searching ---- */

/* Values worth trying, in order; how many. */
static uint32_t list_values(const struct work *w, const struct quern_tunable *tunable,
                            char values[MOST_VALUES][QN_SETTING_VALUE])
{
    uint32_t n = 0;
    if (tunable->type == QUERN_TUNABLE_FLAG) {
        for (; n < 2; n++)
            snprintf(values[n], QN_SETTING_VALUE, "%u", n);
    } else if (tunable->choices) {
        for (const char *at = tunable->choices; *at && n < MOST_VALUES; at += strspn(at, " ")) {
            size_t length = strcspn(at, " ");
            snprintf(values[n++], QN_SETTING_VALUE, "%.*s", (int)length, at);
            at += length;
        }
    } else if (tunable->type == QUERN_TUNABLE_COUNT || tunable->type == QUERN_TUNABLE_BYTES) {
        const uint64_t second = tunable->type == QUERN_TUNABLE_BYTES ? LEAST_BYTES : 1;
        bool threads = strncmp(tunable->name, "threads.", 8) == 0;
        uint64_t max = threads && w->n_cpus < tunable->max ? w->n_cpus : tunable->max;
        uint64_t value = tunable->min;
        for (; value <= max && n<MOST_VALUES; value = value> 0 ? value * 2 : second)
            snprintf(values[n++], QN_SETTING_VALUE, "%llu", (unsigned long long)value);
        if (n < MOST_VALUES && value / 2 < max)
            snprintf(values[n++], QN_SETTING_VALUE, "%llu", (unsigned long long)max);
    }
    return n;
}

/* Seconds with each value of tunable number t, the others being as they are; INFINITY: it was not tried, or
 * cannot be used. */
static void time_values(struct work *w, uint32_t t, char values[MOST_VALUES][QN_SETTING_VALUE], uint32_t n,
                        double took[MOST_VALUES])
{
    struct chosen candidate[MOST_TUNABLES];
    bool ordered =
        w->best[t].tunable->type == QUERN_TUNABLE_COUNT || w->best[t].tunable->type == QUERN_TUNABLE_BYTES;
    double least = INFINITY;
    uint32_t worse = 0;
    memcpy(candidate, w->best, sizeof candidate);
    for (uint32_t v = 0; v < n; v++) {
        took[v] = INFINITY;
        if (w->status || (ordered && worse >= 2))
            continue;
        memcpy(candidate[t].value, values[v], QN_SETTING_VALUE);
        took[v] = measure(w, candidate);
        worse = isfinite(took[v]) && took[v] > least * NOT_PAYING ? worse + 1 : 0;
        least = fmin(least, took[v]);
    }
}

/* Takes the best value of tunable number t that computes what it should; true: it is better than what held.
 */
static bool search_one(struct work *w, uint32_t t, double *seconds)
{
    char values[MOST_VALUES][QN_SETTING_VALUE];
    double took[MOST_VALUES];
    struct chosen candidate[MOST_TUNABLES];
    uint32_t n = list_values(w, w->best[t].tunable, values);
    time_values(w, t, values, n, took);
    while (!w->status) {
        uint32_t v = 0;
        for (uint32_t i = 1; i < n; i++)
            v = took[i] < took[v] ? i : v;
        if (n == 0 || !(took[v] < *seconds * FASTER))
            return false;
        memcpy(candidate, w->best, sizeof candidate);
        memcpy(candidate[t].value, values[v], QN_SETTING_VALUE);
        took[v] = INFINITY;
        double before, after;
        compare(w, w->best, candidate, &before, &after);
        if (!w->status && after < before * SURELY && is_right(w, candidate)) {
            memcpy(w->best, candidate, sizeof candidate);
            *seconds = after;
            return true;
        }
    }
    return false;
}

/* The row's gain; 1, with nothing chosen, where nothing is faster. */
static double search(struct work *w)
{
    struct chosen plain[MOST_TUNABLES];
    memcpy(plain, w->best, sizeof plain);
    double seconds = measure(w, w->best);
    bool better = isfinite(seconds);
    for (int round = 0; round < 2 && better && !w->status; round++) {
        better = false;
        for (uint32_t t = 0; t < w->n_tunables && !w->status; t++)
            better |= search_one(w, t, &seconds);
    }
    if (memcmp(plain, w->best, sizeof plain) == 0)
        return 1;
    double before, after;
    compare(w, plain, w->best, &before, &after);
    if (after < before * SURELY)
        return before / after;
    memcpy(w->best, plain, sizeof plain);
    return 1;
}

/* ---- the overlay ---- */

static void row_name(const struct work *w, char *name, size_t size)
{
    bool has = w->format < QUERN_FORMAT_END;
    snprintf(name, size, "%s%s%s", w->at->name, has ? " " : "", has ? quern_format_name(w->format) : "");
}

/* The source that says what came out for the row: "tuned matvec Q4_K: 1.25 times as fast". NULL: there is
 * none. */
static const char *find_source(const struct work *w)
{
    char name[64], begin[80];
    row_name(w, name, sizeof name);
    int n = snprintf(begin, sizeof begin, "tuned %s: ", name);
    for (size_t i = 0; i < w->n_sources; i++)
        if (strncmp(w->source[i], begin, (size_t)n) == 0)
            return w->source[i] + n;
    return NULL;
}

static void add_line(struct work *w, const char *setting, const char *value)
{
    size_t i = 0;
    while (i < w->n_lines && strcmp(w->setting[i], setting) != 0)
        i++;
    if (i == MOST_LINES)
        return;
    snprintf(w->setting[i], QN_SETTING_NAME, "%s", setting);
    snprintf(w->value[i], QN_SETTING_VALUE, "%s", value);
    w->lines[i] = (struct qn_overlay_line){w->setting[i], w->value[i], NULL};
    w->n_lines += i == w->n_lines;
}

/* What an earlier run has found out about the device with this driver, or, where it is to be measured again,
 * no more of it among the device's settings. */
static void load_overlay(struct work *w)
{
    struct quern_profiles *old;
    qn_overlay_path(&w->bench, w->params->save_to, "tuned", w->path);
    if (quern_profiles_open(&old,
                            quern_profiles_params(.callbacks = &w->bench.cb,
                                                  .drivers = w->bench.drivers.extra,
                                                  .n_drivers = w->bench.drivers.n_extra, .file = w->path),
                            NULL))
        return; /* there is none, or it is not one of ours */
    const struct qn_profile *profile = qn_profiles_file(old);
    struct qn_settings *own = &w->bench.settings;
    bool ours = qn_profile_match(profile, w->bench.driver->name, w->bench.info, NULL, 0);
    for (uint32_t i = 0; i < profile->n_items && ours; i++) {
        const struct quern_profile_value *value = &profile->items[i].value;
        for (uint32_t k = own->n; k-- > 0 && w->params->again;)
            if (strcmp(own->item[k].name, value->setting) == 0 &&
                strcmp(own->item[k].value, value->value) == 0) {
                memmove(&own->item[k], &own->item[k + 1], (own->n - k - 1) * sizeof *own->item);
                own->n--;
                break;
            }
        if (!w->params->again)
            add_line(w, value->setting, value->value);
    }
    for (uint32_t i = 0; i < profile->n_sources && ours && !w->params->again && w->n_sources < MOST_LINES;
         i++)
        snprintf(w->source[w->n_sources++], sizeof w->source[0], "%.250s", profile->sources[i]);
    quern_profiles_close(&old);
}

static void save(struct work *w)
{
    const char *sources[MOST_LINES];
    if (w->status || !w->params->save_to || !w->params->save_to[0])
        return;
    for (size_t i = 0; i < w->n_sources; i++)
        sources[i] = w->source[i];
    w->status = qn_overlay_write(&w->bench, w->params->save_to, "tuned", w->lines, w->n_lines, sources,
                                 w->n_sources, w->path, w->err);
    if (!w->status)
        snprintf(w->result->saved, sizeof w->result->saved, "%.1000s", w->path);
}

/* ---- rows ---- */

static void add_case(const struct qn_op_case *at, void *user)
{
    struct work *w = user;
    if (w->n_cases == MOST_CASES || (at->op == QUERN_OP_ATTENTION && at->format != QUERN_F16))
        return;
    struct qn_case *c = &w->cases[w->n_cases++];
    qn_op_build(at, &w->bench.cb, w->bench.driver, 1, c);
    c->measured = c->laid_out = true;
    if (c->failed && !w->status)
        w->status = qn_fail_memory(w->err, "a case");
}

static const struct kernel *kernel_of(const struct quern_tunable *tunable)
{
    size_t k = QN_LEN(kernels);
    while (k-- > 0)
        if (strncmp(tunable->name, kernels[k].prefix, strlen(kernels[k].prefix)) == 0 &&
            (!kernels[k].last || strcmp(strrchr(tunable->name, '.') + 1, kernels[k].last) == 0))
            return &kernels[k];
    return NULL;
}

static void add_tunable(void *user, const struct quern_tunable *tunable)
{
    struct work *w = user;
    bool of_format = tunable->flags & QUERN_TUNABLE_FORMATS;
    if (kernel_of(tunable) == w->at && w->n_tunables < MOST_TUNABLES &&
        tunable->flags & QUERN_TUNABLE_SPEED && of_format == (w->format < QUERN_FORMAT_END))
        w->best[w->n_tunables++] = (struct chosen){.tunable = tunable};
}

static void match_feature(void *user, const struct quern_tunable *tunable)
{
    struct work *w = user;
    w->needs_feature |=
        strncmp(tunable->name, "features.", 9) == 0 && strcmp(tunable->name + 9, w->at->name) == 0;
}

/* Whether the device has what the kernel is named for. */
static bool has_feature(struct work *w, const struct kernel *kernel)
{
    w->at = kernel;
    w->needs_feature = false;
    qn_tunables_each(&w->bench.tunables, w->bench.driver->name, match_feature, w);
    return !w->needs_feature ||
           qn_word_place(w->bench.info->features, kernel->name, strlen(kernel->name)) != SIZE_MAX;
}

/* The tunables of the kernel for the format; how many. */
static uint32_t begin_row(struct work *w, const struct kernel *kernel, enum quern_format format)
{
    w->at = kernel;
    w->format = format;
    w->n_tunables = w->n_tried = w->n_cases = 0;
    memset(w->best, 0, sizeof w->best);
    qn_tunables_each(&w->bench.tunables, w->bench.driver->name, add_tunable, w);
    return w->n_tunables;
}

static void tell(struct work *w, double gain, const char *settings, bool kept)
{
    const struct quern_tune_row row = {.kernel = w->at->name,
                                       .format =
                                           w->format < QUERN_FORMAT_END ? quern_format_name(w->format) : "",
                                       .gain = gain,
                                       .settings = settings,
                                       .n_tried = w->n_tried,
                                       .kept = kept};
    w->result->n_rows++;
    w->result->n_faster += gain > 1;
    if (w->params->row)
        w->params->row(w->params->user, &row);
}

static void finish_row(struct work *w, double gain, const char *settings)
{
    char name[64];
    if (w->n_sources < MOST_LINES) {
        row_name(w, name, sizeof name);
        snprintf(w->source[w->n_sources++], sizeof w->source[0], "tuned %.60s: %.2f times as fast%s%.100s",
                 name, gain, settings[0] ? " with " : "", settings);
    }
    tell(w, gain, settings, false);
    save(w);
}

static void end_row(struct work *w, double gain)
{
    char settings[256] = "", name[QN_SETTING_NAME];
    size_t n = 0;
    for (uint32_t t = 0; t < w->n_tunables; t++) {
        if (!w->best[t].value[0])
            continue;
        name_setting(w, w->best[t].tunable, name);
        add_line(w, name, w->best[t].value);
        if (n < sizeof settings)
            n += (size_t)snprintf(settings + n, sizeof settings - n, "%s%s %s", n ? ", " : "",
                                  strrchr(name, '.') + 1, w->best[t].value);
    }
    finish_row(w, gain, settings);
}

/* To three digits, since more of them would change from run to run, and in whole millions, as it is written.
 */
static void add_cost(struct work *w, const char *setting, double rate, char *text, size_t size)
{
    const struct quern_tunable *tunable = qn_tunable_find(&w->bench.tunables, NULL, setting);
    double digit = fmax(pow(10, floor(log10(fmax(rate, 1))) - 2), 1e6);
    char value[QN_SETTING_VALUE], shown[QN_SETTING_VALUE];
    snprintf(value, sizeof value, "%.0f", fmax(floor(rate / digit), 1) * digit);
    add_line(w, setting, value);
    qn_tunable_print(tunable, value, shown, sizeof shown);
    size_t n = strlen(text);
    snprintf(text + n, size - n, "%s%s %s", n > 0 ? ", " : "", strrchr(setting, '.') + 1, shown);
}

static void measure_costs(struct work *w)
{
    struct qn_device device;
    struct qn_rates rates;
    struct quern_error err;
    char text[128] = "";
    if (stopped(w) || !open_with(w, w->best, &device))
        return;
    if (!qn_trial_measure(&w->bench.cb, &device, &rates, &err) && rates.decode > 0 && rates.prefill > 0) {
        add_cost(w, QN_COSTS_DECODE, rates.decode * QN_RATE_BYTES, text, sizeof text);
        add_cost(w, QN_COSTS_PREFILL, rates.prefill * QN_RATE_OPS, text, sizeof text);
        w->n_tried = 1;
        finish_row(w, 1, text);
    }
    qn_device_close(&device);
}

static void do_row(struct work *w)
{
    const char *source = find_source(w);
    if (source) {
        const char *with = strstr(source, " with ");
        tell(w, strtod(source, NULL), with ? with + 6 : "", true);
        return;
    }
    if (w->at == &kernels[COSTS]) {
        measure_costs(w);
        return;
    }
    for (uint32_t i = 0; i < w->at->n_cases && !w->status; i++) {
        struct qn_op_sizes sizes = w->sizes;
        enum quern_format format = w->format < QUERN_FORMAT_END ? w->format : QUERN_Q4_0;
        sizes.tokens = w->at->tokens[i] == MANY ? sizes.many : w->at->tokens[i];
        if (w->at->rows > 0) {
            sizes.rows = w->at->rows;
            sizes.pool = qn_format_row_bytes(format, sizes.k) * (w->at->rows - 1);
        }
        qn_op_bench(w->at->op, format, &sizes, add_case, w);
    }
    double gain = w->status ? 1 : search(w);
    if (!w->status)
        end_row(w, gain);
    for (uint32_t i = 0; i < w->n_cases; i++)
        qn_case_finish(&w->cases[i]);
}

/* Calls `each` for the rows that are chosen: each kernel in each format that its settings know, and once for
 * settings that know none. */
static void each_row(struct work *w, void (*each)(struct work *w))
{
    for (size_t k = 0; k < COSTS; k++) {
        if ((w->any_kernel && !w->kernel[k]) || !has_feature(w, &kernels[k]))
            continue;
        if (begin_row(w, &kernels[k], QUERN_FORMAT_END) > 0 && !w->status)
            each(w);
        for (uint32_t f = 0; f < QUERN_FORMAT_END && !w->status; f++) {
            bool wanted = w->choice.formats >> f & 1;
            for (size_t u = 0; u < QN_LEN(usual) && w->choice.formats == 0; u++)
                wanted |= usual[u] == f;
            if (wanted && w->formats >> f & 1 && begin_row(w, &kernels[k], (enum quern_format)f) > 0)
                each(w);
        }
    }
    begin_row(w, &kernels[COSTS], QUERN_FORMAT_END);
    if (!w->status && (w->any_kernel ? w->kernel[COSTS] : w->choice.formats == 0))
        each(w);
}

static void count_row(struct work *w)
{
    w->total++;
}

static void progress_row(struct work *w)
{
    qn_progress(&w->bench.cb, "tune", w->done++, w->total);
    do_row(w);
}

/* ---- the device ---- */

static enum quern_status choose(struct work *w, const char *only, struct quern_error *err)
{
    char word[64];
    while (only && qn_word_take(&only, word, sizeof word)) {
        size_t k = 0;
        while (k < QN_LEN(kernels) && strcmp(kernels[k].name, word) != 0)
            k++;
        if (k < QN_LEN(kernels))
            w->any_kernel = w->kernel[k] = true;
        else if (!qn_op_choose(&w->choice, word) || w->choice.any_op)
            return qn_fail(err, QUERN_ERR_PARAM,
                           "\"%s\" is no kernel that is tuned, and no number format, as in matvec, matmul, "
                           "attention, Q4_K",
                           word);
    }
    return QUERN_OK;
}

/* Sizes that keep the device busy without taking long. */
static void choose_sizes(struct work *w)
{
    uint32_t type = w->bench.info->type;
    bool small = type == QUERN_DEVICE_SOFTWARE || type == QUERN_DEVICE_CPU || type == QUERN_DEVICE_NULL;
    w->sizes = (struct qn_op_sizes){.k = type == QUERN_DEVICE_SOFTWARE ? 2048 : 4096,
                                    .rows = small ? 1024 : 8192,
                                    .held = small ? 512 : 4096,
                                    .pool = type == QUERN_DEVICE_SOFTWARE ? 4 << 20
                                            : small                       ? 256 << 20
                                                                          : 512 << 20,
                                    .many = type == QUERN_DEVICE_SOFTWARE ? 64 : QN_CASE_TOKENS};
    if (w->params->bytes > 0)
        w->sizes.pool = w->params->bytes;
}

enum quern_status quern_device_tune(const struct quern_device_params *devices,
                                    const struct quern_tune_params *params, struct quern_tune_result *result,
                                    struct quern_error *err)
{
    struct quern_callbacks cb = qn_callbacks_resolve(devices->callbacks);
    struct work *w = qn_zalloc(&cb, 1, sizeof *w);
    struct qn_device device;
    *result = (struct quern_tune_result){0};
    if (!w)
        return qn_fail_memory(err, "tuning a device");
    w->params = params;
    w->result = result;
    w->err = err;
    w->n_cpus = (uint32_t)qn_cpu_count();
    enum quern_status status = choose(w, params->only, err);
    if (!status)
        status = qn_workbench_init(&w->bench, devices, params->device, err);
    if (status) {
        qn_free(&cb, w);
        return status;
    }
    result->info = *w->bench.info;
    choose_sizes(w);
    if (params->save_to && params->save_to[0])
        load_overlay(w);
    w->status = qn_workbench_open(&w->bench, NULL, 0, &device, err);
    if (!w->status) {
        w->formats = device.caps.weight_formats;
        qn_device_close(&device);
        each_row(w, count_row);
        each_row(w, progress_row);
        qn_progress(&w->bench.cb, "tune", w->total, w->total);
    }
    status = w->status;
    qn_workbench_finish(&w->bench);
    qn_free(&cb, w);
    return status;
}
