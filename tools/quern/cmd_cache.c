/* quern cache: what is kept on disk between runs. */
#include "common.h"
#include "verbs.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct cache_options {
    bool json;
};

static int show_dir(const char *dir, bool json)
{
    if (!json) {
        printf("%s\n", dir);
        return EXIT_DONE;
    }
    cJSON *root = json_object();
    json_put_text(root, "dir", dir);
    json_end(root, true, stdout);
    return EXIT_DONE;
}

static void print_kinds(const char *dir, const struct quern_cache_kind *kinds, size_t n)
{
    struct quern_cache_kind all = {.name = "all"};
    struct table table;
    char bytes[32];
    table_start(&table, "lrr", (const char *const[]){"KIND", "ENTRIES", "BYTES"});
    for (size_t i = 0; i <= n; i++) {
        const struct quern_cache_kind *kind = i < n ? &kinds[i] : &all;
        table_cell(&table, "%s", kind->name);
        table_cell(&table, "%" PRIu64, kind->n_entries);
        table_cell(&table, "%s", human_bytes(kind->bytes, bytes));
        all.n_entries += i < n ? kind->n_entries : 0;
        all.bytes += i < n ? kind->bytes : 0;
    }
    printf("%s\n", dir);
    table_end(&table, stdout);
}

static void put_kind(cJSON *item, const struct quern_cache_kind *kind)
{
    json_put_int(item, "entries", (int64_t)kind->n_entries);
    json_put_int(item, "bytes", (int64_t)kind->bytes);
}

static void kinds_as_json(const char *dir, const struct quern_cache_kind *kinds, size_t n)
{
    cJSON *root = json_object(), *list = json_array();
    json_put_text(root, "dir", dir);
    for (size_t i = 0; i < n; i++) {
        cJSON *item = json_object();
        json_put_text(item, "kind", kinds[i].name);
        put_kind(item, &kinds[i]);
        json_add(list, item);
    }
    json_put(root, "kinds", list);
    json_end(root, true, stdout);
}

static int show(const struct quern_cache *cache, const char *dir, bool json)
{
    struct quern_error err = {0};
    size_t cap = 0, n;
    struct quern_cache_kind *kinds = NULL;
    enum quern_status status;
    while ((status = quern_cache_kinds(cache, kinds, cap, &n, &err)) == QUERN_OK && n > cap) {
        cap = n;
        kinds = need_memory(kinds, cap, sizeof *kinds);
    }
    if (status == QUERN_OK)
        (json ? kinds_as_json : print_kinds)(dir, kinds, n);
    free(kinds);
    return status == QUERN_OK ? EXIT_DONE : fault(NULL, &err);
}

static int clear(struct quern_cache *cache, const char *kind, bool json)
{
    struct quern_error err = {0};
    struct quern_cache_kind removed;
    if (quern_cache_clear(cache, kind, &removed, &err) != QUERN_OK)
        return fault(NULL, &err);
    if (json) {
        cJSON *root = json_object();
        put_kind(root, &removed);
        json_end(root, true, stdout);
        return EXIT_DONE;
    }
    char bytes[32];
    printf("%" PRIu64 " entries removed, %s\n", removed.n_entries, human_bytes(removed.bytes, bytes));
    return EXIT_DONE;
}

static int run_cache(const void *options, const struct arg_list *rest)
{
    const struct cache_options *o = options;
    const char *what = rest->n > 0 ? rest->items[0] : "show";
    bool clears = strcmp(what, "clear") == 0;
    if (rest->n > 0 && !clears && strcmp(what, "dir") != 0)
        return verb_usage(&verb_cache, "expected clear, dir or nothing, not \"%s\"", what);
    if (rest->n > 1 && !clears)
        return verb_usage(&verb_cache, "\"%s\" is one argument too many", rest->items[1]);
    char dir[PATH_ROOM];
    cache_dir(dir);
    if (dir[0] == '\0')
        return fault_text(NULL,
                          "there is no cache: QUERN_CACHE_DIR is \"off\", or the user has no folder for it");
    if (rest->n > 0 && !clears)
        return show_dir(dir, o->json);
    struct quern_callbacks callbacks = tool_callbacks(false);
    struct quern_cache *cache;
    struct quern_error err = {0};
    if (quern_cache_open(&cache, dir, 0, &callbacks, &err) != QUERN_OK)
        return fault(NULL, &err);
    int code =
        clears ? clear(cache, rest->n > 1 ? rest->items[1] : NULL, o->json) : show(cache, dir, o->json);
    quern_cache_close(&cache);
    return code;
}

static const struct arg_option cache_args[] = {
    {"--json", ARG_FLAG, offsetof(struct cache_options, json), NULL, "as JSON"},
};

const struct verb verb_cache = {
    .name = "cache",
    .summary = "Shows or clears what is kept on disk between runs.",
    .synopsis = "[clear [KIND] | dir] [--json]",
    .details =
        "Compiled kernels, pipelines and what was found out about drivers are kept in a folder, so that the "
        "next start need not work them out again; so are laid out weights (--keep-layouts) of models in "
        "whose "
        "folders nothing can be written. Nothing of prompts is in it, and it may be cleared at any time. dir "
        "prints the folder: that of QUERN_CACHE_DIR (\"off\": none), or the user's.",
    .tables = {{"Options", cache_args, ARG_N(cache_args), 0}},
    .max_rest = 2,
    .rest = "clear|dir",
    .defaults = &(const struct cache_options){0},
    .size = sizeof(struct cache_options),
    .run = run_cache,
};
