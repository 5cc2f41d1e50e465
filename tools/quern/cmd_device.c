/* quern device list. */
#include "common.h"
#include "verbs.h"

static const char *type_name(uint32_t type)
{
    static const char *const name[] = {"cpu", "integrated-gpu", "discrete-gpu", "npu", "software", "null"};
    return type < ARG_N(name) ? name[type] : "other";
}

struct device_options {
    bool json, verbose;
};

static void list_as_json(const struct quern_device_list *list)
{
    cJSON *root = json_array();
    for (size_t i = 0; i < quern_device_list_count(list); i++) {
        const struct quern_device_desc *d = quern_device_list_at(list, i);
        cJSON *item = json_object();
        json_put_text(item, "id", d->id);
        json_put_text(item, "type", type_name(d->info.type));
        json_put_text(item, "name", d->info.name);
        json_put_text(item, "driver", d->driver);
        json_put_text(item, "driver_version", d->info.driver);
        json_put_text(item, "features", d->info.features);
        json_put_int(item, "memory", (int64_t)d->info.memory);
        json_add(root, item);
    }
    json_end(root, true, stdout);
}

static int run_device_list(const void *options, const struct arg_list *rest)
{
    const struct device_options *o = options;
    struct quern_callbacks callbacks = tool_callbacks(o->verbose);
    struct quern_device_list *list;
    struct quern_error err = {0};
    if (quern_device_list_create(&list, &callbacks, NULL, 0, &err) != QUERN_OK)
        return fault(NULL, &err);
    if (o->json) {
        list_as_json(list);
    } else {
        struct table table;
        table_start(&table, "lllrll",
                    (const char *const[]){"ID", "TYPE", "NAME", "MEMORY", "DRIVER", "FEATURES"});
        for (size_t i = 0; i < quern_device_list_count(list); i++) {
            const struct quern_device_desc *d = quern_device_list_at(list, i);
            char memory[32];
            table_cell(&table, "%s", d->id);
            table_cell(&table, "%s", type_name(d->info.type));
            table_cell(&table, "%s", d->info.name);
            table_cell(&table, "%s", d->info.memory ? human_bytes(d->info.memory, memory) : "-");
            table_cell(&table, "%s", d->info.driver);
            table_cell(&table, "%s", d->info.features);
        }
        table_end(&table, stdout);
    }
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
    .details = "The ID is what --device takes.",
    .tables = {{"Options", device_args, ARG_N(device_args), 0}},
    .defaults = &(const struct device_options){0},
    .size = sizeof(struct device_options),
    .run = run_device_list,
};
