/* quern profile: where the time of a prefill and of decode steps goes, by operation, layer or node. */
#include "common.h"
#include "term.h"
#include "verbs.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct profile_options {
    struct model_options model;
    int64_t n_prompt, n_gen, by;
    bool json;
};

enum { BY_OP, BY_LAYER, BY_NODE, BY_END };
#define BY_WORDS "op|layer|node"

/* Spans with one key summed up. */
struct group {
    uint32_t op, layer, node, format;
    uint64_t calls, ns, bytes, ops;
};

struct groups {
    struct group *items;
    size_t n;
};

struct phase {
    const char *name;
    size_t n_tokens;
    uint64_t wall_ns;
};

/* ---- summing up ---- */

static struct group key_of(const struct quern_span *span, int by)
{
    struct group key = {
        .op = QUERN_NONE, .layer = QUERN_NONE, .node = QUERN_NONE, .format = QUERN_FORMAT_END};
    if (by != BY_LAYER) {
        key.op = span->op;
        key.format = span->format;
    }
    if (by != BY_OP)
        key.layer = span->layer;
    if (by == BY_NODE)
        key.node = span->node;
    return key;
}

static bool same_key(const struct group *a, const struct group *b)
{
    return a->op == b->op && a->layer == b->layer && a->node == b->node && a->format == b->format;
}

static int by_time(const void *a, const void *b)
{
    const struct group *x = a, *y = b;
    return x->ns != y->ns ? (x->ns < y->ns ? 1 : -1) : 0;
}

static int by_place(const void *a, const void *b)
{
    const struct group *x = a, *y = b;
    if (x->node != y->node)
        return x->node < y->node ? -1 : 1;
    return x->layer != y->layer ? (x->layer < y->layer ? -1 : 1) : 0;
}

static struct groups sum_up(const struct quern_trace *trace, int by)
{
    struct groups groups = {0};
    size_t cap = 0;
    for (size_t i = 0; i < quern_trace_count(trace); i++) {
        const struct quern_span *span = quern_trace_at(trace, i);
        struct group key = key_of(span, by);
        size_t g = 0;
        while (g < groups.n && !same_key(&groups.items[g], &key))
            g++;
        if (g == cap) {
            cap = cap > 0 ? cap * 2 : 64;
            groups.items = need_memory(groups.items, cap, sizeof *groups.items);
        }
        if (g == groups.n)
            groups.items[groups.n++] = key;
        struct group *group = &groups.items[g];
        group->calls++;
        group->ns += span->end_ns - span->begin_ns;
        group->bytes += span->bytes;
        group->ops += span->ops;
    }
    if (groups.n > 0)
        qsort(groups.items, groups.n, sizeof *groups.items, by == BY_OP ? by_time : by_place);
    return groups;
}

static const char *format_name(uint32_t format)
{
    const char *name = format < QUERN_FORMAT_END ? quern_format_name((enum quern_format)format) : NULL;
    return name ? name : "";
}

static const char *op_name(uint32_t op)
{
    const char *name = quern_op_name(op);
    return name ? name : "?";
}

/* ---- output ---- */

static uint64_t total_ns(const struct groups *groups)
{
    uint64_t ns = 0;
    for (size_t i = 0; i < groups->n; i++)
        ns += groups->items[i].ns;
    return ns;
}

static double rate(uint64_t amount, uint64_t ns)
{
    return ns > 0 ? (double)amount / (double)ns : 0; /* per ns = G per s */
}

static void print_groups(const struct groups *groups, int by)
{
    static const char *const heads[BY_END][10] = {
        {"OPERATION", "FORMAT", "CALLS", "MS", "SHARE", "US/CALL", "GB/S", "GFLOP/S"},
        {"LAYER", "CALLS", "MS", "SHARE", "US/CALL", "GB/S", "GFLOP/S"},
        {"NODE", "LAYER", "OPERATION", "FORMAT", "CALLS", "MS", "SHARE", "US/CALL", "GB/S", "GFLOP/S"},
    };
    static const char *const align[BY_END] = {"llrrrrrr", "rrrrrrr", "rrllrrrrrr"};
    struct table table;
    uint64_t all = total_ns(groups);
    table_start(&table, align[by], heads[by]);
    for (size_t i = 0; i < groups->n; i++) {
        const struct group *g = &groups->items[i];
        if (by == BY_NODE)
            table_cell(&table, "%" PRIu32, g->node);
        if (by != BY_OP) {
            if (g->layer == QUERN_NONE)
                table_cell(&table, "-");
            else
                table_cell(&table, "%" PRIu32, g->layer);
        }
        if (by != BY_LAYER) {
            table_cell(&table, "%s", op_name(g->op));
            table_cell(&table, "%s", format_name(g->format));
        }
        table_cell(&table, "%" PRIu64, g->calls);
        table_cell(&table, "%.3f", (double)g->ns / 1e6);
        table_cell(&table, "%.1f %%", all > 0 ? 100.0 * (double)g->ns / (double)all : 0.0);
        table_cell(&table, "%.2f", (double)g->ns / 1e3 / (double)g->calls);
        table_cell(&table, "%.2f", rate(g->bytes, g->ns));
        table_cell(&table, "%.2f", rate(g->ops, g->ns));
    }
    table_end(&table, stdout);
}

static cJSON *groups_json(const struct groups *groups, int by)
{
    cJSON *list = json_array();
    uint64_t all = total_ns(groups);
    for (size_t i = 0; i < groups->n; i++) {
        const struct group *g = &groups->items[i];
        cJSON *item = json_object();
        if (by == BY_NODE)
            json_put_int(item, "node", g->node);
        if (by != BY_OP)
            json_put_int(item, "layer", g->layer == QUERN_NONE ? -1 : (int64_t)g->layer);
        if (by != BY_LAYER) {
            json_put_text(item, "op", op_name(g->op));
            json_put_text(item, "format", format_name(g->format));
        }
        json_put_int(item, "calls", (int64_t)g->calls);
        json_put_int(item, "ns", (int64_t)g->ns);
        json_put_real(item, "share", all > 0 ? (double)g->ns / (double)all : 0);
        json_put_int(item, "bytes", (int64_t)g->bytes);
        json_put_int(item, "ops", (int64_t)g->ops);
        json_put_real(item, "gb_per_s", rate(g->bytes, g->ns));
        json_put_real(item, "gflop_per_s", rate(g->ops, g->ns));
        json_add(list, item);
    }
    return list;
}

static void report(const struct profile_options *o, const struct phase *phase,
                   const struct quern_trace *trace, cJSON *phases)
{
    static const char *const keys[BY_END] = {"by_op", "by_layer", "by_node"};
    cJSON *item = json_object();
    uint64_t inside = 0;
    for (size_t i = 0; i < quern_trace_count(trace); i++)
        inside += quern_trace_at(trace, i)->end_ns - quern_trace_at(trace, i)->begin_ns;
    json_put_text(item, "phase", phase->name);
    json_put_int(item, "n_tokens", (int64_t)phase->n_tokens);
    json_put_int(item, "wall_ns", (int64_t)phase->wall_ns);
    json_put_int(item, "node_ns", (int64_t)inside);
    json_put_int(item, "lost_spans", (int64_t)quern_trace_lost(trace));
    if (!phases)
        printf("%s: %zu token%s in %.3f ms, %.2f t/s; %.3f ms in nodes (%.1f %%)\n", phase->name,
               phase->n_tokens, phase->n_tokens == 1 ? "" : "s", (double)phase->wall_ns / 1e6,
               (double)phase->n_tokens * 1e9 / (double)phase->wall_ns, (double)inside / 1e6,
               100.0 * (double)inside / (double)phase->wall_ns);
    for (int by = 0; by < BY_END; by++) {
        if (o->by >= 0 ? o->by != by : by == BY_NODE)
            continue;
        struct groups groups = sum_up(trace, by);
        if (phases) {
            json_put(item, keys[by], groups_json(&groups, by));
        } else {
            putchar('\n');
            print_groups(&groups, by);
        }
        free(groups.items);
    }
    if (phases) {
        json_add(phases, item);
    } else {
        putchar('\n');
        cJSON_Delete(item);
    }
}

/* ---- memory ---- */

static uint32_t list_memory(const struct loaded *loaded, struct quern_memory_use **uses)
{
    uint32_t n = quern_session_memory(loaded->session, NULL, 0);
    *uses = need_memory(NULL, n + 1, sizeof **uses);
    return quern_session_memory(loaded->session, *uses, n);
}

static void bytes_cell(struct table *table, uint64_t bytes, uint64_t unknown)
{
    char text[32];
    table_cell(table, "%s", bytes == unknown ? "-" : human_bytes(bytes, text));
}

static void print_memory(const struct loaded *loaded)
{
    static const char *const head[] = {"DEVICE",  "HEAP",    "MAPPED", "WEIGHTS", "KV",  "ACTIVATIONS",
                                       "STAGING", "PLANNED", "OTHER",  "TAKEN",   "LEFT"};
    struct table table;
    struct quern_memory_use *uses;
    uint32_t n = list_memory(loaded, &uses);
    table_start(&table, "lrrrrrrrrrr", head);
    for (uint32_t i = 0; i < n; i++) {
        const struct quern_memory_use *u = &uses[i];
        const uint64_t bytes[] = {u->mapped, u->weights, u->kv, u->activations, u->staging, u->planned};
        table_cell(&table, "%s", quern_model_device(loaded->model, u->device)->id);
        table_cell(&table, "%" PRIu32, u->heap);
        for (size_t k = 0; k < ARG_N(bytes); k++)
            bytes_cell(&table, bytes[k], UINT64_MAX);
        bytes_cell(&table, u->taken > 0 ? u->other : UINT64_MAX, UINT64_MAX);
        bytes_cell(&table, u->taken, 0);
        bytes_cell(&table, u->left, UINT64_MAX);
    }
    table_end(&table, stdout);
    free(uses);
}

static cJSON *memory_json(const struct loaded *loaded)
{
    struct quern_memory_use *uses;
    uint32_t n = list_memory(loaded, &uses);
    cJSON *list = json_array();
    for (uint32_t i = 0; i < n; i++) {
        const struct quern_memory_use *u = &uses[i];
        cJSON *item = json_object();
        json_put_text(item, "device", quern_model_device(loaded->model, u->device)->id);
        json_put_int(item, "heap", u->heap);
        json_put_int(item, "mapped", (int64_t)u->mapped);
        json_put_int(item, "weights", (int64_t)u->weights);
        json_put_int(item, "kv", (int64_t)u->kv);
        json_put_int(item, "activations", (int64_t)u->activations);
        json_put_int(item, "staging", (int64_t)u->staging);
        json_put_int(item, "planned", (int64_t)u->planned);
        if (u->taken > 0) {
            json_put_int(item, "other", (int64_t)u->other);
            json_put_int(item, "taken", (int64_t)u->taken);
        }
        if (u->left != UINT64_MAX)
            json_put_int(item, "left", (int64_t)u->left);
        json_add(list, item);
    }
    free(uses);
    return list;
}

/* ---- measuring ---- */

static int run_phases(const struct profile_options *o, struct loaded *loaded, struct quern_trace *trace,
                      cJSON *phases)
{
    struct id_list ids;
    struct quern_error err = {0};
    size_t n_prompt = (size_t)o->n_prompt, n_gen = (size_t)o->n_gen;
    random_ids(loaded->vocab, n_prompt + n_gen, &ids);
    enum quern_status status = QUERN_OK;
    /* Round 0 warms up. */
    for (int round = 0; round < 2 && status == QUERN_OK; round++) {
        status = quern_session_truncate(loaded->session, 0, 0, &err);
        quern_trace_clear(trace);
        uint64_t begin = term_now_ns();
        if (status == QUERN_OK && n_prompt > 0)
            status = quern_session_feed(loaded->session, 0, ids.id, n_prompt, &err);
        struct phase prefill = {.name = "prefill", .n_tokens = n_prompt, .wall_ns = term_now_ns() - begin};
        if (status == QUERN_OK && n_prompt > 0 && round == 1)
            report(o, &prefill, trace, phases);
        quern_trace_clear(trace);
        begin = term_now_ns();
        for (size_t i = 0; i < n_gen && status == QUERN_OK; i++)
            status = quern_session_feed(loaded->session, 0, &ids.id[n_prompt + i], 1, &err);
        struct phase decode = {.name = "decode", .n_tokens = n_gen, .wall_ns = term_now_ns() - begin};
        if (status == QUERN_OK && n_gen > 0 && round == 1)
            report(o, &decode, trace, phases);
    }
    ids_finish(&ids);
    return status == QUERN_OK ? EXIT_DONE : fault(o->model.model, &err);
}

static int profile(const struct profile_options *o, struct loaded *loaded)
{
    struct quern_trace *trace;
    struct quern_error err = {0};
    struct quern_callbacks callbacks = tool_callbacks(o->model.verbose);
    if (quern_trace_create(&trace, &callbacks, &err) != QUERN_OK)
        return fault(o->model.model, &err);
    uint32_t n_ctx = (uint32_t)(o->n_prompt + o->n_gen);
    int code = open_session(loaded, &o->model, quern_session_params(.n_ctx = n_ctx, .trace = trace));
    cJSON *phases = o->json ? json_array() : NULL;
    if (code == EXIT_DONE)
        code = run_phases(o, loaded, trace, phases);
    if (code == EXIT_DONE && o->json) {
        cJSON *root = json_object();
        json_put_text(root, "model", o->model.model);
        cJSON *devices = json_array();
        for (uint32_t i = 0; i < quern_model_device_count(loaded->model); i++) {
            const char *id = quern_model_device(loaded->model, i)->id;
            json_add(devices, json_text(id, strlen(id)));
        }
        json_put(root, "devices", devices);
        json_put(root, "phases", phases);
        phases = NULL;
        json_put(root, "memory", memory_json(loaded));
        json_end(root, true, stdout);
    } else if (code == EXIT_DONE) {
        print_memory(loaded);
    }
    cJSON_Delete(phases);
    quern_session_destroy(&loaded->session);
    quern_trace_destroy(&trace);
    return code;
}

static int run_profile(const void *options, const struct arg_list *rest)
{
    struct profile_options o = *(const struct profile_options *)options;
    if (rest->n > 0 && o.model.model)
        return verb_usage(&verb_profile, "two models: %s and %s", o.model.model, rest->items[0]);
    if (rest->n > 0)
        o.model.model = rest->items[0];
    if (!o.model.model)
        return verb_usage(&verb_profile, "which model?");
    if (o.n_prompt + o.n_gen == 0)
        return verb_usage(&verb_profile, "-p and -n are both 0");
    struct loaded loaded;
    o.model.repack_first = true;
    int code = open_model(&loaded, &o.model, (uint32_t)(o.n_prompt + o.n_gen));
    if (code == EXIT_DONE)
        code = profile(&o, &loaded);
    close_model(&loaded);
    return code;
}

#define AT(member) offsetof(struct profile_options, member)
static const struct arg_option profile_args[] = {
    {"-p, --n-prompt", ARG_INT, AT(n_prompt), "N", "tokens of the prefill; 0: none", 0, 1e6},
    {"-n, --n-gen", ARG_INT, AT(n_gen), "N", "steps of decode; 0: none", 0, 1e6},
    {"--by", ARG_CHOICE, AT(by), BY_WORDS, "one table instead of those by operation and layer"},
    {"--json", ARG_FLAG, AT(json), NULL, "as JSON"},
};

static const struct profile_options profile_defaults = {
    .model = MODEL_DEFAULTS,
    .n_prompt = 128,
    .n_gen = 16,
    .by = -1,
};

const struct verb verb_profile = {
    .name = "profile",
    .summary = "Shows where the time of prefill and decode goes, and what memory the model holds.",
    .synopsis = "MODEL [options]",
    .details =
        "GB/s counts the bytes that a node must at least read and write, GFLOP/s its arithmetic.\n"
        "PLANNED is what was asked of a device's heap: weights (those that it reads where the file is "
        "mapped\n"
        "are apart), keys and values, activations, staging. OTHER is what its driver has for itself, TAKEN\n"
        "what all of that takes after rounding.",
    .tables = {{"Model", model_arg, ARG_N(model_arg), AT(model)},
               {"Options", profile_args, ARG_N(profile_args), 0},
               {"Context", context_args, ARG_N(context_args), AT(model)},
               {"Running", load_args, ARG_N(load_args), AT(model)}},
    .max_rest = 1,
    .rest = "FILE",
    .defaults = &profile_defaults,
    .size = sizeof(struct profile_options),
    .run = run_profile,
};
