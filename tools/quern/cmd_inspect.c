/* quern inspect: what a model file contains. Works for every architecture. */
#include "common.h"
#include "verbs.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct inspect_options {
    const char *model;
    bool json, tensors, meta, verbose;
};

enum { KEY_SIZE = 512, VALUE_SIZE = 1 << 20, TYPE_SIZE = 32, SHOWN = 100 };

struct meta {
    char key[KEY_SIZE], type[TYPE_SIZE];
    char *value; /* [VALUE_SIZE] */
    uint64_t n;
};

static bool next_meta(const struct quern_file *file, size_t i, struct meta *meta)
{
    return quern_file_meta(file, i, meta->key, sizeof meta->key, meta->value, VALUE_SIZE, meta->type,
                           sizeof meta->type, &meta->n);
}

/* ---- JSON ---- */

/* Scalars as JSON's own kind where it has one. */
static cJSON *meta_value(const struct meta *meta)
{
    bool array = strchr(meta->type, '[') != NULL;
    if (!array && strcmp(meta->type, "string") != 0) {
        cJSON *value = cJSON_Parse(meta->value);
        if (value && (cJSON_IsNumber(value) || cJSON_IsBool(value))) {
            bool whole = strspn(meta->value, "-0123456789") == strlen(meta->value);
            bool is_number = cJSON_IsNumber(value);
            if (is_number && whole) {
                cJSON_Delete(value);
                return meta->value[0] == '-' ? json_int(strtoll(meta->value, NULL, 10))
                                             : cJSON_CreateRaw(meta->value);
            }
            return value;
        }
        cJSON_Delete(value);
    }
    return json_text(meta->value, strlen(meta->value));
}

static cJSON *tensor_json(const struct quern_tensor_info *t)
{
    cJSON *item = json_object();
    json_put_text(item, "name", t->name);
    json_put_text(item, "format", quern_format_name(t->format));
    cJSON *dims = json_array();
    for (uint32_t d = 0; d < t->n_dims; d++)
        json_add(dims, json_int((int64_t)t->dim[d]));
    json_put(item, "shape", dims);
    json_put_int(item, "bytes", (int64_t)t->bytes);
    json_put_int(item, "offset", (int64_t)t->offset);
    return item;
}

static void print_json(const struct inspect_options *o, const struct quern_file *file,
                       const struct quern_file_info *info, struct meta *meta)
{
    cJSON *root = json_object();
    json_put_text(root, "file", o->model);
    json_put_text(root, "architecture", info->architecture);
    json_put_text(root, "name", info->name);
    json_put_text(root, "type", info->type);
    json_put_int(root, "version", info->version);
    json_put_int(root, "alignment", info->alignment);
    json_put_int(root, "n_parts", info->n_parts);
    json_put_int(root, "bytes", (int64_t)info->bytes);
    json_put_int(root, "n_weights", (int64_t)info->n_weights);
    json_put_int(root, "n_tensors", (int64_t)quern_file_tensor_count(file));
    if (o->meta) {
        cJSON *list = json_array();
        for (size_t i = 0; next_meta(file, i, meta); i++) {
            cJSON *item = json_object();
            json_put_text(item, "key", meta->key);
            json_put_text(item, "type", meta->type);
            json_put_int(item, "n", (int64_t)meta->n);
            json_put(item, "value", meta_value(meta));
            json_add(list, item);
        }
        json_put(root, "metadata", list);
    }
    if (o->tensors) {
        cJSON *list = json_array();
        struct quern_tensor_info t;
        for (size_t i = 0; quern_file_tensor(file, i, &t); i++)
            json_add(list, tensor_json(&t));
        json_put(root, "tensors", list);
    }
    json_end(root, true, stdout);
}

/* ---- text ---- */

static void print_summary(const struct inspect_options *o, const struct quern_file *file,
                          const struct quern_file_info *info)
{
    char bytes[32], count[32];
    printf("file          %s\n", o->model);
    printf("architecture  %s\n", info->architecture[0] ? info->architecture : "(not named)");
    bool runs = false;
    for (size_t i = 0; i < quern_architecture_count(); i++)
        runs = runs || strcmp(quern_architecture_name(i), info->architecture) == 0;
    printf("can be run    %s\n", runs ? "yes" : "no, this version does not know the architecture");
    if (info->name[0])
        printf("name          %s\n", info->name);
    if (info->type[0])
        printf("type          %s\n", info->type);
    printf("size          %s%s\n", human_bytes(info->bytes, bytes),
           info->n_parts > 1 ? " in several parts" : "");
    printf("weights       %s (%.2f bits each)\n", human_count(info->n_weights, count),
           info->n_weights > 0 ? 8.0 * (double)info->bytes / (double)info->n_weights : 0.0);
    printf("tensors       %zu\n", quern_file_tensor_count(file));
    printf("GGUF version  %" PRIu32 ", alignment %" PRIu32 ", %" PRIu32 " part%s\n", info->version,
           info->alignment, info->n_parts, info->n_parts == 1 ? "" : "s");
}

static void print_formats(const struct quern_file *file)
{
    struct {
        size_t tensors;
        uint64_t bytes;
    } sum[QUERN_FORMAT_END] = {0};
    struct quern_tensor_info t;
    for (size_t i = 0; quern_file_tensor(file, i, &t); i++) {
        sum[t.format].tensors++;
        sum[t.format].bytes += t.bytes;
    }
    struct table table;
    table_start(&table, "lrr", (const char *const[]){"FORMAT", "TENSORS", "SIZE"});
    for (size_t f = 0; f < QUERN_FORMAT_END; f++)
        if (sum[f].tensors > 0) {
            char bytes[32];
            table_cell(&table, "%s", quern_format_name((enum quern_format)f));
            table_cell(&table, "%zu", sum[f].tensors);
            table_cell(&table, "%s", human_bytes(sum[f].bytes, bytes));
        }
    putchar('\n');
    table_end(&table, stdout);
}

static void print_meta(const struct quern_file *file, struct meta *meta)
{
    struct table table;
    table_start(&table, "llrl", (const char *const[]){"KEY", "TYPE", "N", "VALUE"});
    for (size_t i = 0; next_meta(file, i, meta); i++) {
        size_t n = strlen(meta->value), cut = n;
        if (n > SHOWN) {
            cut = SHOWN - 3;
            while (cut > 0 && ((unsigned char)meta->value[cut] & 0xC0) == 0x80)
                cut--;
        }
        table_cell(&table, "%s", meta->key);
        table_cell(&table, "%s", meta->type);
        table_cell(&table, "%" PRIu64, meta->n);
        table_cell(&table, "%.*s%s", (int)cut, meta->value, cut < n ? "..." : "");
    }
    putchar('\n');
    table_end(&table, stdout);
}

static void print_tensors(const struct quern_file *file)
{
    struct table table;
    table_start(&table, "llrrr", (const char *const[]){"TENSOR", "FORMAT", "SHAPE", "BYTES", "OFFSET"});
    struct quern_tensor_info t;
    for (size_t i = 0; quern_file_tensor(file, i, &t); i++) {
        char shape[96] = "";
        for (uint32_t d = 0; d < t.n_dims; d++) {
            size_t n = strlen(shape);
            snprintf(shape + n, sizeof shape - n, "%s%" PRIu64, d > 0 ? " x " : "", t.dim[d]);
        }
        table_cell(&table, "%s", t.name);
        table_cell(&table, "%s", quern_format_name(t.format));
        table_cell(&table, "%s", shape);
        table_cell(&table, "%" PRIu64, t.bytes);
        table_cell(&table, "%" PRIu64, t.offset);
    }
    putchar('\n');
    table_end(&table, stdout);
}

static int run_inspect(const void *options, const struct arg_list *rest)
{
    struct inspect_options o = *(const struct inspect_options *)options;
    if (rest->n > 0 && o.model)
        return verb_usage(&verb_inspect, "two models: %s and %s", o.model, rest->items[0]);
    if (rest->n > 0)
        o.model = rest->items[0];
    if (!o.model)
        return verb_usage(&verb_inspect, "which model?");
    if (!o.meta && !o.tensors)
        o.meta = o.tensors = true;
    struct quern_callbacks callbacks = tool_callbacks(o.verbose);
    struct quern_file *file;
    struct quern_error err = {0};
    if (quern_file_open(&file, quern_source_path(o.model), &callbacks, &err) != QUERN_OK)
        return fault(o.model, &err);
    struct quern_file_info info;
    quern_file_info(file, &info);
    struct meta meta = {.value = need_memory(NULL, VALUE_SIZE, 1)};
    if (o.json) {
        print_json(&o, file, &info, &meta);
    } else {
        print_summary(&o, file, &info);
        if (quern_file_tensor_count(file) > 0)
            print_formats(file);
        if (o.meta)
            print_meta(file, &meta);
        if (o.tensors)
            print_tensors(file);
    }
    free(meta.value);
    quern_file_destroy(&file);
    return EXIT_DONE;
}

#define AT(member) offsetof(struct inspect_options, member)
static const struct arg_option inspect_args[] = {
    {"-m, --model", ARG_FILE, AT(model), "FILE", "the model, where it is not given as an argument"},
    {"--meta", ARG_FLAG, AT(meta), NULL, "of the two lists only the metadata"},
    {"--tensors", ARG_FLAG, AT(tensors), NULL, "of the two lists only the tensors"},
    {"--json", ARG_FLAG, AT(json), NULL, "as JSON"},
    {"-v, --verbose", ARG_FLAG, AT(verbose), NULL, "tell what happens"},
};

const struct verb verb_inspect = {
    .name = "inspect",
    .summary = "Shows what a model file contains: summary, metadata, tensors.",
    .synopsis = "MODEL [--meta] [--tensors] [--json]",
    .tables = {{"Options", inspect_args, ARG_N(inspect_args), 0}},
    .max_rest = 1,
    .rest = "FILE",
    .defaults = &(const struct inspect_options){0},
    .size = sizeof(struct inspect_options),
    .run = run_inspect,
};
