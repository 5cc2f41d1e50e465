/* quern device tune: what a device's kernels are fastest with, measured and kept. */
#include "device_json.h"
#include "verbs.h"

#include <string.h>

struct tune_options {
    const char *profile;
    double seconds;
    int64_t bytes;
    bool again, dry_run, json, verbose;
};

struct report {
    struct device_report of;
    struct quern_tune_result result;
};

static void on_row(void *user, const struct quern_tune_row *row)
{
    struct device_report *report = user;
    if (report->rows) {
        cJSON *item = json_object();
        json_put_text(item, "kernel", row->kernel);
        json_put_text(item, "format", row->format);
        json_put_real(item, "gain", row->gain);
        json_put_text(item, "settings", row->settings);
        json_put_int(item, "tried", row->n_tried);
        json_put_bool(item, "kept", row->kept);
        json_add(report->rows, item);
        return;
    }
    table_cell(&report->table, "%s", row->kernel);
    table_cell(&report->table, "%s", row->format[0] ? row->format : "-");
    if (row->kept)
        table_cell(&report->table, "kept");
    else
        table_cell(&report->table, "%u", row->n_tried);
    table_cell(&report->table, "%.2f", row->gain);
    table_cell(&report->table, "%s", row->settings[0] ? row->settings : "as before");
}

static void print_report(void *user)
{
    struct report *report = user;
    const struct quern_tune_result *result = &report->result;
    printf("device: %s\ndriver: %s\n\n", result->info.name, result->info.driver);
    table_end(&report->of.table, stdout);
    printf("\n%u of %u rows are faster\n", result->n_faster, result->n_rows);
    if (result->saved[0])
        printf("the next run uses %s\n", result->saved);
}

static void put_report(void *user, cJSON *root)
{
    const struct quern_tune_result *result = &((struct report *)user)->result;
    json_put_text(root, "device", result->info.name);
    json_put_text(root, "driver", result->info.driver);
    json_put_int(root, "faster", result->n_faster);
    json_put_text(root, "saved", result->saved);
}

static int tune(const void *options, const struct device_work *work)
{
    const struct tune_options *o = options;
    if (!o->dry_run && !work->setup->profile_dir[0])
        return fault_text(NULL,
                          "there is no folder for the overlay: QUERN_PROFILE_DIR is \"off\", or the user has "
                          "none; --dry-run measures without it");
    struct report report = {0};
    device_report_start(&report.of, o->json, "llrrl",
                        (const char *const[]){"KERNEL", "FORMAT", "TRIED", "GAIN", "SETTINGS"});
    struct quern_device_params devices = device_params(work->setup, false);
    struct quern_error err = {0};
    enum quern_status status =
        quern_device_tune(&devices,
                          quern_tune_params(.device = work->id, .only = work->only, .seconds = o->seconds,
                                            .bytes = (uint64_t)o->bytes,
                                            .save_to = o->dry_run ? NULL : work->setup->profile_dir,
                                            .again = o->again, .row = on_row, .user = &report.of),
                          &report.result, &err);
    return device_report_end(&report.of, status, &err, report.result.n_rows, put_report, print_report,
                             &report);
}

static int run_device_tune(const void *options, const struct arg_list *rest)
{
    const struct tune_options *o = options;
    return device_do(&verb_device_tune, o->profile, o->verbose, rest, tune, o);
}

#define AT(member) offsetof(struct tune_options, member)
static const struct arg_option tune_args[] = {
    {"--seconds", ARG_REAL, AT(seconds), "S", "of each measurement", 0.001, 60},
    {"--bytes", ARG_INT, AT(bytes), "N", "of the weights that a token reads in it; 0: more than caches hold",
     0, 1e12},
    {"--again", ARG_FLAG, AT(again), NULL, "measure anew what an earlier run has measured"},
    {"--dry-run", ARG_FLAG, AT(dry_run), NULL, "write nothing"},
    {"--profile", ARG_FILE, AT(profile), "FILE", "a device profile that counts more than all others"},
    {"--json", ARG_FLAG, AT(json), NULL, "as JSON"},
    {"-v, --verbose", ARG_FLAG, AT(verbose), NULL, "tell what happens"},
};

const struct verb verb_device_tune = {
    .name = "device tune",
    .summary = "Measures what a device's kernels are fastest with.",
    .synopsis = "ID [KERNEL|FORMAT]... [OPTION]...",
    .details =
        "Tries values of the settings that change speed alone, one after another, as long as that pays, and "
        "keeps what is faster when measured again beside what held before. Kernels: weights, matvec, matmul, "
        "coopmat, coopmat2, matvec-split-k, matmul-split-k, attention, threads; costs is what the device "
        "then reaches, by which it is placed. What was found is written after each row, as a profile for "
        "this device with this version of its driver, into the user's folder of profiles; a run that is "
        "interrupted goes on from there.",
    .tables = {{"Options", tune_args, ARG_N(tune_args), 0}},
    .max_rest = 64,
    .defaults = &(const struct tune_options){.seconds = 0.1},
    .size = sizeof(struct tune_options),
    .run = run_device_tune,
};
