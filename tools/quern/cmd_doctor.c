/* quern doctor: what Quern finds on this machine, what is wrong with it, and what to do. */
#include "common.h"
#include "verbs.h"

#include <stdlib.h>
#include <string.h>

struct doctor_options {
    bool json, verbose;
};

static const char *const states[] = {"good", "hint", "problem"};

struct report {
    struct table *table; /* NULL: as JSON */
    cJSON *list;
    struct buffer advice; /* what is wrong, after the table */
    uint32_t n_problems, n_hints;
};

static void print_advice(struct report *report, const struct quern_finding *f)
{
    char line[2048];
    int n = snprintf(line, sizeof line, "%s: %s, %s: %s\n  fix: %s\n", states[f->state], f->topic, f->what,
                     f->wrong, f->fix);
    buffer_put(&report->advice, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
}

static void on_finding(void *user, const struct quern_finding *f)
{
    struct report *report = user;
    uint32_t state = f->state <= QUERN_FINDING_PROBLEM ? f->state : QUERN_FINDING_PROBLEM;
    report->n_problems += state == QUERN_FINDING_PROBLEM;
    report->n_hints += state == QUERN_FINDING_HINT;
    if (report->table) {
        table_cell(report->table, "%s", f->topic);
        table_cell(report->table, "%s", f->what);
        table_cell(report->table, "%s", state ? states[state] : "");
        table_cell(report->table, "%s", f->found);
        if (state)
            print_advice(report, f);
        return;
    }
    cJSON *item = json_object();
    json_put_text(item, "topic", f->topic);
    json_put_text(item, "what", f->what);
    json_put_text(item, "state", states[state]);
    json_put_text(item, "found", f->found);
    json_put_text(item, "wrong", f->wrong);
    json_put_text(item, "fix", f->fix);
    json_add(report->list, item);
}

static int run_doctor(const void *options, const struct arg_list *rest)
{
    const struct doctor_options *o = options;
    struct device_setup setup;
    struct table table;
    struct quern_error err = {0};
    struct report report = {.table = o->json ? NULL : &table, .list = o->json ? json_array() : NULL};
    int code = device_setup(&setup, NULL, o->verbose);
    if (code != EXIT_DONE) {
        cJSON_Delete(report.list);
        device_setup_finish(&setup);
        return code;
    }
    struct quern_device_params devices = device_params(&setup, true);
    if (report.table)
        table_start(&table, "llll", (const char *const[]){"TOPIC", "WHAT", "", "FOUND"});
    const struct quern_examine_params params = {
        .devices = &devices, .profile_dir = setup.profile_dir, .root = getenv("QUERN_DOCTOR_ROOT")};
    enum quern_status status = quern_examine(&params, on_finding, &report, &err);
    if (report.table) {
        table_end(&table, stdout);
        printf("\n%.*s%s\n", (int)report.advice.n, report.advice.data ? report.advice.data : "",
               report.n_problems ? "Not all is well." : "All is well.");
    } else {
        cJSON *root = json_object();
        json_put_bool(root, "good", report.n_problems == 0 && status == QUERN_OK);
        json_put(root, "findings", report.list);
        json_end(root, true, stdout);
    }
    buffer_finish(&report.advice);
    device_setup_finish(&setup);
    if (status != QUERN_OK)
        return fault(NULL, &err);
    return report.n_problems ? EXIT_FAULT : EXIT_DONE;
}

static const struct arg_option doctor_args[] = {
    {"--json", ARG_FLAG, offsetof(struct doctor_options, json), NULL, "as JSON"},
    {"-v, --verbose", ARG_FLAG, offsetof(struct doctor_options, verbose), NULL, "tell what happens"},
};

const struct verb verb_doctor = {
    .name = "doctor",
    .summary = "Says what is wrong with this machine, and what to do.",
    .synopsis = "[--json]",
    .details =
        "Looks at memory and its limits, the folders of the cache and of profiles, the Vulkan loader, its "
        "drivers and the GPUs of the system, and lists the devices anew. Exit code 1 where something that "
        "is there does not work; a hint is something that works and could do more.",
    .tables = {{"Options", doctor_args, ARG_N(doctor_args), 0}},
    .defaults = &(const struct doctor_options){0},
    .size = sizeof(struct doctor_options),
    .run = run_doctor,
};
