/* quern device: what could run a model here, and what is known of it. */
#include "common.h"
#include "term.h"
#include "verbs.h"

#include <string.h>

static const char *type_name(uint32_t type)
{
    static const char *const name[] = {"cpu", "integrated-gpu", "discrete-gpu", "npu", "software", "null"};
    return type < ARG_N(name) ? name[type] : "other";
}

static const char *state_name(uint32_t state)
{
    static const char *const name[] = {"ready", "untried", "refused"};
    return state < ARG_N(name) ? name[state] : "other";
}

struct device_options {
    bool json, verbose;
};

/* ---- one device ---- */

/* Calls `each` for the lines "name: value" of the facts. */
static void each_fact(const char *facts, void (*each)(void *user, const char *name, const char *value),
                      void *user)
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

static cJSON *device_as_json(const struct quern_device_desc *d)
{
    cJSON *item = json_object(), *facts = json_object();
    json_put_text(item, "id", d->id);
    json_put_text(item, "type", type_name(d->info.type));
    json_put_text(item, "name", d->info.name);
    json_put_text(item, "driver", d->driver);
    json_put_text(item, "driver_version", d->info.driver);
    json_put_text(item, "features", d->info.features);
    json_put_int(item, "memory", (int64_t)d->info.memory);
    json_put_text(item, "state", state_name(d->state));
    json_put_text(item, "reason", d->reason);
    json_put_text(item, "identity", d->info.identity);
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
    print_fact(&table, "type", type_name(d->info.type));
    print_fact(&table, "driver", d->info.driver);
    print_fact(&table, "features", d->info.features);
    print_fact(&table, "memory", d->info.memory ? human_bytes(d->info.memory, memory) : "-");
    print_fact(&table, "state", state_name(d->state));
    if (d->reason[0])
        print_fact(&table, "reason", d->reason);
    each_fact(d->info.facts, print_fact, &table);
    table_end(&table, stdout);
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
        table_cell(&table, "%s", type_name(d->info.type));
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

/* The list, made anew. On failure the line is written. */
static int make_list(bool verbose, struct quern_device_list **list)
{
    struct device_setup setup;
    struct quern_error err = {0};
    device_setup(&setup, verbose);
    struct quern_device_params params = device_params(&setup, true);
    return quern_device_list_create(list, &params, &err) == QUERN_OK ? EXIT_DONE : fault(NULL, &err);
}

static int run_device_list(const void *options, const struct arg_list *rest)
{
    const struct device_options *o = options;
    struct quern_device_list *list;
    int code = make_list(o->verbose, &list);
    if (code != EXIT_DONE)
        return code;
    (o->json ? list_as_json : print_list)(list);
    quern_device_list_destroy(&list);
    return EXIT_DONE;
}

static const struct arg_option device_args[] = {
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

/* The device of that id, or of "driver:number" also where the driver has but one; NULL: there is none. */
static const struct quern_device_desc *find_device(const struct quern_device_list *list, const char *wanted)
{
    for (size_t i = 0; i < quern_device_list_count(list); i++) {
        const struct quern_device_desc *d = quern_device_list_at(list, i);
        char first[80];
        snprintf(first, sizeof first, "%s:0", d->id);
        if (strcmp(d->id, wanted) == 0 || (strcmp(d->id, d->driver) == 0 && strcmp(first, wanted) == 0))
            return d;
    }
    return NULL;
}

static int run_device_show(const void *options, const struct arg_list *rest)
{
    const struct device_options *o = options;
    struct quern_device_list *list;
    if (rest->n == 0)
        return verb_usage(&verb_device_show, "expected the ID of a device");
    int code = make_list(o->verbose, &list);
    if (code != EXIT_DONE)
        return code;
    const struct quern_device_desc *found = find_device(list, rest->items[0]);
    if (!found)
        code = fault_text(NULL, "there is no device \"%s\"; see quern device list", rest->items[0]);
    else if (o->json)
        json_end(device_as_json(found), true, stdout);
    else
        print_device(found);
    quern_device_list_destroy(&list);
    return code;
}

const struct verb verb_device_show = {
    .name = "device show",
    .summary = "Shows all that is known of a device.",
    .synopsis = "ID [--json]",
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
    device_setup(&setup, o->verbose);
    struct quern_device_params params = device_params(&setup, false);
    return quern_device_forget(&params, &err) == QUERN_OK ? EXIT_DONE : fault(NULL, &err);
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
