/* quern device: what could run a model here, and what is known of it. */
#include "device_json.h"
#include "replay.h"
#include "term.h"
#include "verbs.h"

#include <string.h>

static const char *state_name(uint32_t state)
{
    static const char *const name[] = {"ready", "untried", "refused"};
    return state < ARG_N(name) ? name[state] : "other";
}

/* ---- one device ---- */

void each_fact(const char *facts, void (*each)(void *user, const char *name, const char *value), void *user)
{
    char line[1024];
    while (*facts) {
        size_t n = strcspn(facts, "\n");
        snprintf(line, sizeof line, "%.*s", (int)n, facts);
        char *colon = strstr(line, ": ");
        if (colon) {
            *colon = '\0';
            each(user, line, colon + 2);
        }
        facts += n + (facts[n] == '\n');
    }
}

static void put_fact(void *user, const char *name, const char *value)
{
    json_put_text(user, name, value);
}

cJSON *device_as_json(const struct quern_device_desc *d)
{
    cJSON *item = json_object(), *facts = json_object(), *match = json_object();
    char number[2][16];
    snprintf(number[0], sizeof number[0], "0x%04x", d->info.vendor_id);
    snprintf(number[1], sizeof number[1], "0x%04x", d->info.device_id);
    json_put_text(match, "vendor", number[0]);
    json_put_text(match, "device_id", number[1]);
    json_put_text(match, "driver", d->info.driver_name);
    json_put_text(match, "driver_version", d->info.driver_version);
    json_put_text(item, "id", d->id);
    json_put_text(item, "type", device_type_name(d->info.type));
    json_put_text(item, "name", d->info.name);
    json_put_text(item, "driver", d->driver);
    json_put_text(item, "driver_version", d->info.driver);
    json_put_text(item, "features", d->info.features);
    json_put_int(item, "memory", (int64_t)d->info.memory);
    json_put_text(item, "state", state_name(d->state));
    json_put_text(item, "reason", d->reason);
    json_put_text(item, "identity", d->info.identity);
    json_put(item, "match", match);
    each_fact(d->info.facts, put_fact, facts);
    json_put(item, "facts", facts);
    return item;
}

static void print_fact(void *user, const char *name, const char *value)
{
    table_cell(user, "%s", name);
    table_cell(user, "%s", value);
}

static void print_device(const struct quern_device_desc *d)
{
    struct table table;
    char memory[32];
    table_start(&table, "ll", (const char *const[]){"id", d->id});
    print_fact(&table, "name", d->info.name);
    print_fact(&table, "type", device_type_name(d->info.type));
    print_fact(&table, "driver", d->info.driver);
    print_fact(&table, "features", d->info.features);
    print_fact(&table, "memory", d->info.memory ? human_bytes(d->info.memory, memory) : "-");
    print_fact(&table, "state", state_name(d->state));
    if (d->info.identity[0])
        print_fact(&table, "identity", d->info.identity);
    if (d->reason[0])
        print_fact(&table, "reason", d->reason);
    each_fact(d->info.facts, print_fact, &table);
    table_end(&table, stdout);
}

int device_do(const struct verb *verb, const char *profile, bool verbose, const struct arg_list *rest,
              int (*work)(const void *options, const struct device_work *work), const void *options)
{
    struct device_setup setup;
    struct buffer only = {0};
    if (rest->n == 0)
        return verb_usage(verb, "expected the ID of a device");
    for (size_t i = 1; i < rest->n; i++) {
        buffer_put(&only, rest->items[i], strlen(rest->items[i]));
        buffer_put(&only, " ", 1);
    }
    buffer_put(&only, "", 1);
    int code = device_setup(&setup, profile, verbose);
    if (code == EXIT_DONE)
        code = work(options, &(struct device_work){rest->items[0], only.data, &setup});
    device_setup_finish(&setup);
    buffer_finish(&only);
    return code;
}

/* ---- reports ---- */

void device_report_start(struct device_report *report, bool json, const char *columns,
                         const char *const *heads)
{
    report->rows = json ? json_array() : NULL;
    if (!json)
        table_start(&report->table, columns, heads);
}

int device_report_end(struct device_report *report, enum quern_status status, const struct quern_error *err,
                      uint32_t n_rows, void (*put)(void *user, cJSON *root), void (*print)(void *user),
                      void *user)
{
    bool nothing = status != QUERN_OK && n_rows == 0;
    term_status_end();
    int code = status != QUERN_OK ? fault(NULL, err) : EXIT_DONE;
    if (nothing && report->rows) {
        cJSON_Delete(report->rows);
    } else if (nothing) {
        table_end(&report->table, NULL);
    } else if (report->rows) {
        cJSON *root = json_object();
        put(user, root);
        json_put(root, "rows", report->rows);
        json_end(root, true, stdout);
    } else {
        print(user);
    }
    return code;
}

/* ---- list ---- */

static void list_as_json(const struct quern_device_list *list)
{
    cJSON *root = json_array();
    for (size_t i = 0; i < quern_device_list_count(list); i++)
        json_add(root, device_as_json(quern_device_list_at(list, i)));
    const struct quern_device_fault *fault;
    for (size_t i = 0; (fault = quern_device_list_fault(list, i)) != NULL; i++) {
        cJSON *item = json_object();
        json_put_text(item, "id", "");
        json_put_text(item, "type", "");
        json_put_text(item, "name", fault->part);
        json_put_text(item, "driver", fault->driver);
        json_put_text(item, "state", "left-out");
        json_put_text(item, "reason", fault->reason);
        json_add(root, item);
    }
    json_end(root, true, stdout);
}

static void print_list(const struct quern_device_list *list)
{
    struct table table;
    bool refused = false;
    table_start(&table, "lllrlll",
                (const char *const[]){"ID", "TYPE", "NAME", "MEMORY", "DRIVER", "STATE", "FEATURES"});
    for (size_t i = 0; i < quern_device_list_count(list); i++) {
        const struct quern_device_desc *d = quern_device_list_at(list, i);
        char memory[32];
        table_cell(&table, "%s", d->id);
        table_cell(&table, "%s", device_type_name(d->info.type));
        table_cell(&table, "%s", d->info.name);
        table_cell(&table, "%s", d->info.memory ? human_bytes(d->info.memory, memory) : "-");
        table_cell(&table, "%s", d->info.driver);
        table_cell(&table, "%s", state_name(d->state));
        table_cell(&table, "%s", d->info.features);
    }
    table_end(&table, stdout);
    for (size_t i = 0; i < quern_device_list_count(list); i++) {
        const struct quern_device_desc *d = quern_device_list_at(list, i);
        if (d->state == QUERN_DEVICE_REFUSED)
            printf("refused: %s: %s\n", d->id, d->reason);
        refused |= d->state == QUERN_DEVICE_REFUSED;
    }
    const struct quern_device_fault *left_out;
    for (size_t i = 0; (left_out = quern_device_list_fault(list, i)) != NULL; i++) {
        printf("left out: %s%s%s: %s\n", left_out->driver, left_out->part[0] ? " " : "", left_out->part,
               left_out->reason);
        refused |= left_out->part[0] != '\0';
    }
    if (refused)
        printf("quern device forget gives them another chance.\n");
}

int device_list_make(const struct device_options *options, struct device_setup *setup,
                     struct quern_device_list **list)
{
    struct quern_error err = {0};
    const struct quern_driver *replayed = NULL;
    *list = NULL;
    int code = device_setup(setup, options->profile, options->verbose);
    struct quern_device_params params = device_params(setup, true);
    if (code == EXIT_DONE && options->replay) {
        code = replay_open(options->replay, &replayed);
        params.drivers = &replayed;
        params.n_drivers = 1;
    }
    if (code == EXIT_DONE && quern_device_list_create(list, &params, &err) != QUERN_OK)
        code = fault(NULL, &err);
    return code;
}

static int run_device_list(const void *options, const struct arg_list *rest)
{
    const struct device_options *o = options;
    struct device_setup setup;
    struct quern_device_list *list;
    int code = device_list_make(o, &setup, &list);
    if (code == EXIT_DONE)
        (o->json ? list_as_json : print_list)(list);
    quern_device_list_destroy(&list);
    device_setup_finish(&setup);
    return code;
}

static const struct arg_option device_args[] = {
    {"--profile", ARG_FILE, offsetof(struct device_options, profile), "FILE",
     "a device profile that counts more than all others"},
    {"--replay", ARG_FILE, offsetof(struct device_options, replay), "FILE",
     "devices that quern device dump wrote down"},
    {"--json", ARG_FLAG, offsetof(struct device_options, json), NULL, "as JSON"},
    {"-v, --verbose", ARG_FLAG, offsetof(struct device_options, verbose), NULL, "tell what happens"},
};

const struct verb verb_device_list = {
    .name = "device list",
    .summary = "Lists the devices that could run a model here.",
    .synopsis = "[--json]",
    .details = "The ID is what --device takes; a part of the name after the driver's will do too, as in "
               "vulkan:radeon. "
               "Drivers of GPUs are loaded by a process of their own; what crashes it is left out. A device "
               "is tried "
               "before its first use, and refused where it fails.",
    .tables = {{"Options", device_args, ARG_N(device_args), 0}},
    .defaults = &(const struct device_options){0},
    .size = sizeof(struct device_options),
    .run = run_device_list,
};

/* ---- show ---- */

size_t device_find(const struct quern_device_list *list, const char *wanted, int *code)
{
    size_t i = 0;
    for (; i < quern_device_list_count(list); i++) {
        const struct quern_device_desc *d = quern_device_list_at(list, i);
        char first[80];
        snprintf(first, sizeof first, "%s:0", d->id);
        if (strcmp(d->id, wanted) == 0 || (strcmp(d->id, d->driver) == 0 && strcmp(first, wanted) == 0))
            return i;
    }
    *code = fault_text(NULL, "there is no device \"%s\"; see quern device list", wanted);
    return i;
}

/* Whether a later value has the same setting. */
static bool is_overruled(const struct quern_profile_value *const *values, size_t n, size_t i)
{
    bool later = false;
    for (size_t k = i + 1; k < n; k++)
        later |= strcmp(values[k]->setting, values[i]->setting) == 0;
    return later;
}

static void print_quirk(const char *what, const struct quern_profile_value *value, const char *end)
{
    printf("%s: %s %s: %s%s%s%s%s", what, value->setting, value->text, value->reason,
           value->link[0] ? " (" : "", value->link, value->link[0] ? ")" : "", end);
}

static void print_settings(const struct quern_device_list *list, size_t index, bool all)
{
    const char *profile;
    const struct quern_profile_value *const *values;
    size_t n = quern_device_list_values(list, index, &profile, &values);
    struct table table;
    printf("\nprofile: %s\n", profile ? profile : "none");
    if (n == 0)
        return;
    table_start(&table, "llll", (const char *const[]){"SETTING", "VALUE", "PROFILE", "FROM"});
    for (size_t i = 0; i < n; i++) {
        bool overruled = is_overruled(values, n, i);
        if (overruled && !all)
            continue;
        table_cell(&table, "%s", values[i]->setting);
        table_cell(&table, "%s%s", values[i]->text, overruled ? " (overruled)" : "");
        table_cell(&table, "%s", values[i]->profile);
        table_cell(&table, "%s", values[i]->origin);
    }
    table_end(&table, stdout);
    for (size_t i = 0; i < n; i++)
        if (values[i]->reason[0] && (all || !is_overruled(values, n, i)))
            print_quirk("quirk", values[i], "\n");
}

static void print_unused_quirks(const struct quern_device_list *list, size_t index)
{
    const struct quern_profile_value *const *values;
    const char *version = quern_device_list_at(list, index)->info.driver_version;
    size_t n = quern_device_list_unused_quirks(list, index, &values);
    for (size_t i = 0; i < n; i++) {
        print_quirk("quirk, not applied", values[i], ": ");
        printf("it is for version %s of the driver, which is %s\n", values[i]->driver_version,
               version[0] ? version : "of an unknown one");
    }
}

static cJSON *value_as_json(const struct quern_profile_value *value)
{
    cJSON *item = json_object();
    json_put_text(item, "setting", value->setting);
    json_put_text(item, "value", value->value);
    json_put_text(item, "text", value->text);
    json_put_text(item, "profile", value->profile);
    json_put_text(item, "origin", value->origin);
    json_put_text(item, "reason", value->reason);
    json_put_text(item, "link", value->link);
    json_put_text(item, "driver_version", value->driver_version);
    return item;
}

static void put_settings(cJSON *item, const struct quern_device_list *list, size_t index)
{
    const char *profile;
    const struct quern_profile_value *const *values;
    size_t n = quern_device_list_values(list, index, &profile, &values);
    cJSON *settings = json_array(), *unused = json_array();
    json_put_text(item, "profile", profile ? profile : "");
    for (size_t i = 0; i < n; i++) {
        cJSON *setting = value_as_json(values[i]);
        json_put_bool(setting, "overruled", is_overruled(values, n, i));
        json_add(settings, setting);
    }
    n = quern_device_list_unused_quirks(list, index, &values);
    for (size_t i = 0; i < n; i++)
        json_add(unused, value_as_json(values[i]));
    json_put(item, "settings", settings);
    json_put(item, "quirks_not_applied", unused);
}

static int run_device_show(const void *options, const struct arg_list *rest)
{
    const struct device_options *o = options;
    struct device_setup setup;
    struct quern_device_list *list;
    if (rest->n == 0)
        return verb_usage(&verb_device_show, "expected the ID of a device");
    int code = device_list_make(o, &setup, &list);
    size_t found = code == EXIT_DONE ? device_find(list, rest->items[0], &code) : 0;
    if (code == EXIT_DONE && o->json) {
        cJSON *item = device_as_json(quern_device_list_at(list, found));
        put_settings(item, list, found);
        json_end(item, true, stdout);
    } else if (code == EXIT_DONE) {
        print_device(quern_device_list_at(list, found));
        print_settings(list, found, o->verbose);
        print_unused_quirks(list, found);
    }
    quern_device_list_destroy(&list);
    device_setup_finish(&setup);
    return code;
}

const struct verb verb_device_show = {
    .name = "device show",
    .summary = "Shows all that is known of a device.",
    .synopsis = "ID [--profile FILE] [--json]",
    .details =
        "Behind what the device says of itself stands what its profile says, and where: file, line and "
        "column. With -v also what a profile says that another one overrules.",
    .tables = {{"Options", device_args, ARG_N(device_args), 0}},
    .max_rest = 1,
    .defaults = &(const struct device_options){0},
    .size = sizeof(struct device_options),
    .run = run_device_show,
};

/* ---- forget ---- */

static int run_device_forget(const void *options, const struct arg_list *rest)
{
    const struct device_options *o = options;
    struct device_setup setup;
    struct quern_error err = {0};
    int code = device_setup(&setup, NULL, o->verbose);
    struct quern_device_params params = device_params(&setup, false);
    if (code == EXIT_DONE && quern_device_forget(&params, &err) != QUERN_OK)
        code = fault(NULL, &err);
    device_setup_finish(&setup);
    return code;
}

static const struct arg_option forget_args[] = {
    {"-v, --verbose", ARG_FLAG, offsetof(struct device_options, verbose), NULL, "tell what happens"},
};

const struct verb verb_device_forget = {
    .name = "device forget",
    .summary = "Forgets what was found out about devices.",
    .synopsis = "",
    .details = "What was left out or refused because it crashed, hung or computed wrong results gets another "
               "chance.",
    .tables = {{"Options", forget_args, ARG_N(forget_args), 0}},
    .defaults = &(const struct device_options){0},
    .size = sizeof(struct device_options),
    .run = run_device_forget,
};

/* ---- the helper ---- */

static void write_answer(void *user, const char *text, size_t length)
{
    fwrite(text, 1, length, user);
}

int device_helper(int argc, char **argv)
{
    struct quern_error err = {0};
    term_alarm(HELPER_SECONDS); /* should whoever started it be gone */
    if (quern_device_helper(argc, (const char *const *)argv, write_answer, stdout, &err) != QUERN_OK)
        return fault(NULL, &err);
    return EXIT_DONE;
}
