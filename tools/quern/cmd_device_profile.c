/* quern device check, profiles, emulate: device profiles. */
#include "common.h"
#include "term.h"
#include "verbs.h"

#include <string.h>

struct profile_options {
    bool json, verbose;
};

static const struct arg_option profile_args[] = {
    {"--json", ARG_FLAG, offsetof(struct profile_options, json), NULL, "as JSON"},
    {"-v, --verbose", ARG_FLAG, offsetof(struct profile_options, verbose), NULL, "tell what happens"},
};

/* ---- check ---- */

struct faults {
    cJSON *list; /* NULL: they are printed */
};

static void on_fault(void *user, const char *text)
{
    const struct faults *faults = user;
    if (faults->list)
        json_add(faults->list, json_text(text, strlen(text)));
    else
        printf("%s\n", text);
}

static int run_device_check(const void *options, const struct arg_list *rest)
{
    const struct profile_options *o = options;
    struct device_setup setup;
    if (rest->n == 0)
        return verb_usage(&verb_device_check, "expected a file");
    int code = device_setup(&setup, "", o->verbose);
    cJSON *files = json_array();
    for (size_t i = 0; i < rest->n && code != EXIT_INTERRUPTED && setup.profiles; i++) {
        struct quern_error err = {0};
        struct faults faults = {.list = o->json ? json_array() : NULL};
        enum quern_status status =
            quern_profile_check(setup.profiles, rest->items[i], on_fault, &faults, &err);
        if (status != QUERN_OK)
            code = fault(NULL, &err);
        else if (!o->json)
            printf("%s: ok\n", rest->items[i]);
        if (!o->json)
            continue;
        cJSON *item = json_object();
        json_put_text(item, "file", rest->items[i]);
        json_put_bool(item, "good", status == QUERN_OK);
        json_put(item, "faults", faults.list);
        json_add(files, item);
    }
    if (o->json && setup.profiles)
        json_end(files, true, stdout);
    else
        cJSON_Delete(files);
    device_setup_finish(&setup);
    return code;
}

const struct verb verb_device_check = {
    .name = "device check",
    .summary = "Checks device profiles.",
    .synopsis = "FILE... [--json]",
    .details =
        "Prints all that is wrong in them, each with its place in the file and what was expected there. A "
        "profile may extend the built-in ones and those of the user; see quern device profiles.",
    .tables = {{"Options", profile_args, ARG_N(profile_args), 0}},
    .max_rest = 10000,
    .rest = "FILE",
    .defaults = &(const struct profile_options){0},
    .size = sizeof(struct profile_options),
    .run = run_device_check,
};

/* ---- profiles ---- */

static int run_device_profiles(const void *options, const struct arg_list *rest)
{
    const struct profile_options *o = options;
    struct device_setup setup;
    int code = device_setup(&setup, NULL, o->verbose);
    struct quern_profile_desc desc;
    struct table table;
    cJSON *list = json_array();
    if (!o->json)
        table_start(&table, "llll", (const char *const[]){"NAME", "EXTENDS", "FROM", "ABOUT"});
    for (size_t i = 0; setup.profiles && quern_profiles_at(setup.profiles, i, &desc); i++) {
        if (o->json) {
            cJSON *item = json_object();
            json_put_text(item, "name", desc.name);
            json_put_text(item, "extends", desc.extends);
            json_put_text(item, "origin", desc.origin);
            json_put_text(item, "about", desc.about);
            json_put_text(item, "unmeasured", desc.unmeasured);
            json_add(list, item);
            continue;
        }
        table_cell(&table, "%s", desc.name);
        table_cell(&table, "%s", desc.extends[0] ? desc.extends : "-");
        table_cell(&table, "%s", desc.origin);
        table_cell(&table, "%s", desc.about);
    }
    if (o->json)
        json_end(list, true, stdout);
    else {
        table_end(&table, stdout);
        cJSON_Delete(list);
    }
    device_setup_finish(&setup);
    return code;
}

const struct verb verb_device_profiles = {
    .name = "device profiles",
    .summary = "Lists the device profiles that there are.",
    .synopsis = "[--json]",
    .details = "Built-in ones, those in the user's folder (QUERN_PROFILE_DIR, else quern/profiles where the "
               "system keeps "
               "settings), and the one that QUERN_PROFILE names.",
    .tables = {{"Options", profile_args, ARG_N(profile_args), 0}},
    .defaults = &(const struct profile_options){0},
    .size = sizeof(struct profile_options),
    .run = run_device_profiles,
};

/* ---- emulate ---- */

bool emulate_device(const char *profile)
{
    char assignment[PATH_ROOM + 16];
    int n = snprintf(assignment, sizeof assignment, "QUERN_EMULATE=%s", profile);
    if (n < (int)sizeof assignment && term_set_environment(assignment))
        return true;
    fault_text(NULL, "the environment cannot be changed to %.200s", assignment);
    return false;
}

static int run_device_emulate(const void *options, const struct arg_list *rest)
{
    return verb_usage(&verb_device_emulate, "expected a profile, then a verb and its options");
}

const struct verb verb_device_emulate = {
    .name = "device emulate",
    .summary = "Runs a verb with the limits and features of another device.",
    .synopsis = "FILE VERB [OPTION]...",
    .details =
        "Devices of the driver that the profile is for are used as if they had its limits and lacked the "
        "features that are off in it, whatever the profile matches: quern device emulate phone.yaml run -m "
        "MODEL --device vulkan.",
    .max_rest = 1,
    .rest = "FILE",
    .defaults = &(const struct profile_options){0},
    .size = sizeof(struct profile_options),
    .run = run_device_emulate,
};
