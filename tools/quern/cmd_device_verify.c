/* quern device verify: proof that a device computes what it should, as a report. */
#include "device_json.h"
#include "verbs.h"

#include <string.h>

struct verify_options {
    const char *profile;
    int64_t repeats, n_random, seed;
    bool large, save, json, verbose;
};

struct report {
    struct device_report of;
    struct buffer faults; /* below the table */
    struct quern_verify_result result;
};

static void add_fault(struct report *report, const struct quern_verify_row *row)
{
    char line[1024];
    int n = snprintf(line, sizeof line, "FAILED %s\n", row->fault);
    buffer_put(&report->faults, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
    if (row->remedy[0])
        n = snprintf(line, sizeof line, "       no case fails with %s\n", row->remedy);
    else
        n = snprintf(line, sizeof line, "       no single feature is to blame\n");
    buffer_put(&report->faults, line, (size_t)n);
}

static void on_row(void *user, const struct quern_verify_row *row)
{
    struct report *report = user;
    if (report->of.rows) {
        cJSON *item = json_object();
        json_put_text(item, "operation", row->operation);
        json_put_text(item, "format", row->format);
        json_put_int(item, "cases", row->n_cases);
        json_put_int(item, "failed", row->n_failed);
        json_put_int(item, "refused", row->n_refused);
        json_put_real(item, "error_exact", row->error_exact);
        json_put_real(item, "error_fast", row->error_fast);
        json_put_bool(item, "steady", !row->unsteady);
        json_put_text(item, "fault", row->fault);
        json_put_text(item, "remedy", row->remedy);
        json_add(report->of.rows, item);
        return;
    }
    table_cell(&report->of.table, "%s", row->operation);
    table_cell(&report->of.table, "%s", row->format[0] ? row->format : "-");
    table_cell(&report->of.table, "%u", row->n_cases);
    table_cell(&report->of.table, "%u", row->n_failed);
    table_cell(&report->of.table, "%.2g", row->error_exact);
    table_cell(&report->of.table, row->error_fast > 0 ? "%.2g" : "-", row->error_fast);
    table_cell(&report->of.table, "%s", row->n_failed == 0 ? "ok" : row->unsteady ? "UNSTEADY" : "FAILED");
    if (row->n_failed > 0)
        add_fault(report, row);
}

static void print_report(void *user)
{
    struct report *report = user;
    const struct quern_verify_result *result = &report->result;
    printf("quern %s\ndevice: %s\ndriver: %s\nfeatures: %s\nprofile: %s\n\n", quern_version(),
           result->info.name, result->info.driver, result->info.features,
           result->profile[0] ? result->profile : "none");
    table_end(&report->of.table, stdout);
    if (report->faults.n > 0)
        printf("\n%.*s", (int)report->faults.n, report->faults.data);
    printf("\n%u cases in %u rows, %u failed in %u rows\n", result->n_cases, result->n_rows, result->n_failed,
           result->n_rows_failed);
    if (result->saved[0])
        printf("what helps is written to %s\n", result->saved);
}

static void put_report(void *user, cJSON *root)
{
    const struct quern_verify_result *result = &((struct report *)user)->result;
    json_put_text(root, "quern", quern_version());
    json_put_text(root, "device", result->info.name);
    json_put_text(root, "driver", result->info.driver);
    json_put_text(root, "features", result->info.features);
    json_put_text(root, "identity", result->info.identity);
    json_put_text(root, "profile", result->profile);
    json_put_int(root, "cases", result->n_cases);
    json_put_int(root, "failed", result->n_failed);
    json_put_text(root, "saved", result->saved);
}

static int verify(const void *options, const struct device_work *work)
{
    const struct verify_options *o = options;
    struct report report = {0};
    device_report_start(
        &report.of, o->json, "llrrrrl",
        (const char *const[]){"OPERATION", "FORMAT", "CASES", "FAILED", "ERROR", "FAST", "VERDICT"});
    struct quern_device_params devices = device_params(work->setup, false);
    struct quern_error err = {0};
    enum quern_status status = quern_device_verify(
        &devices,
        quern_verify_params(.device = work->id, .only = work->only, .repeats = (uint32_t)o->repeats,
                            .n_random = (uint32_t)o->n_random, .seed = (uint64_t)o->seed, .large = o->large,
                            .save_to = o->save ? work->setup->profile_dir : NULL, .row = on_row,
                            .user = &report),
        &report.result, &err);
    int code =
        device_report_end(&report.of, status, &err, report.result.n_rows, put_report, print_report, &report);
    buffer_finish(&report.faults);
    return code == EXIT_DONE && report.result.n_failed > 0 ? EXIT_FAULT : code;
}

static int run_device_verify(const void *options, const struct arg_list *rest)
{
    const struct verify_options *o = options;
    return device_do(&verb_device_verify, o->profile, o->verbose, rest, verify, o);
}

#define AT(member) offsetof(struct verify_options, member)
static const struct arg_option verify_args[] = {
    {"--repeats", ARG_INT, AT(repeats), "N",
     "runs of each case that must give the same bits, besides the first", 1, 1000},
    {"--random", ARG_INT, AT(n_random), "N", "random cases for each row, beside the picked ones", 0, 1e6},
    {"--seed", ARG_INT, AT(seed), "N", "of the random cases", 1, 1e9},
    {"--large", ARG_FLAG, AT(large), NULL, "the cases that take much time or memory, too"},
    {"--save", ARG_FLAG, AT(save), NULL, "write what helps as quirks into the user's folder of profiles"},
    {"--profile", ARG_FILE, AT(profile), "FILE", "a device profile that counts more than all others"},
    {"--json", ARG_FLAG, AT(json), NULL, "as JSON"},
    {"-v, --verbose", ARG_FLAG, AT(verbose), NULL, "tell what happens"},
};

const struct verb verb_device_verify = {
    .name = "device verify",
    .summary = "Proves that a device computes what it should.",
    .synopsis = "ID [OPERATION|FORMAT]... [OPTION]...",
    .details =
        "Runs every operation and number format (or those that are named) against the CPU's exact reference, "
        "each several times for the same bits, and prints a report. Where a case fails, it is tried again "
        "without each optional feature of the device. Exit code 1 where a case failed.",
    .tables = {{"Options", verify_args, ARG_N(verify_args), 0}},
    .max_rest = 64,
    .defaults = &(const struct verify_options){.repeats = 2, .seed = 1},
    .size = sizeof(struct verify_options),
    .run = run_device_verify,
};
