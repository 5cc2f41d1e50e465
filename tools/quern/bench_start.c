/* quern bench --start: how long it takes until the first token, and where that time goes, with an empty cache
 * and with what is in it then. */
#include "bench_start.h"
#include "term.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PARTS = 16, N_PROMPT = 6 };

/* One start. */
struct start {
    struct quern_phase parts[MAX_PARTS];
    uint32_t n_parts;
    char devices[128];
};

static void add_part(struct start *start, const char *name, uint32_t n, uint64_t ns)
{
    if (start->n_parts == MAX_PARTS)
        return;
    struct quern_phase *part = &start->parts[start->n_parts++];
    *part = (struct quern_phase){.n = n, .ns = ns};
    snprintf(part->name, sizeof part->name, "%.23s", name);
}

static void add_devices(struct start *start, const struct quern_model *model)
{
    for (uint32_t d = 0; d < quern_model_device_count(model); d++) {
        struct quern_phase parts[MAX_PARTS];
        uint32_t n = quern_model_phases(model, d, parts, MAX_PARTS);
        for (uint32_t i = 0; i < n && i < MAX_PARTS; i++)
            add_part(start, parts[i].name, parts[i].n, parts[i].ns);
        size_t at = strlen(start->devices);
        snprintf(start->devices + at, sizeof start->devices - at, "%s%s", at > 0 ? "," : "",
                 quern_model_device(model, d)->id);
    }
}

static int start_once(const struct model_options *options, struct start *start)
{
    struct loaded loaded;
    struct quern_error err = {0};
    uint64_t begin = term_now_ns();
    int code = open_model(&loaded, options, N_PROMPT + 1);
    if (code != EXIT_DONE)
        return code;
    struct model_options session = MODEL_DEFAULTS;
    session.model = options->model;
    code = open_session(&loaded, &session, quern_session_params(.n_ctx = N_PROMPT + 1));
    uint64_t opened = term_now_ns();
    if (code == EXIT_DONE) {
        struct id_list ids;
        random_ids(loaded.vocab, N_PROMPT, &ids);
        if (quern_session_feed(loaded.session, 0, ids.id, ids.n, &err) != QUERN_OK)
            code = fault(options->model, &err);
        ids_finish(&ids);
        term_status_end();
    }
    uint64_t end = term_now_ns();
    if (code == EXIT_DONE) {
        add_devices(start, loaded.model);
        add_part(start, "open model", 1, opened - begin);
        add_part(start, "first token", 1, end - opened);
        add_part(start, "all", 1, end - begin);
    }
    close_model(&loaded);
    return code;
}

/* Name of a folder that is not there yet, in the cache's, or in that for temporary files. */
static void empty_folder(char path[PATH_ROOM])
{
    static const char *const names[] = {"TMPDIR", "TEMP"};
    char base[PATH_ROOM];
    cache_dir(base);
    for (size_t i = 0; i < ARG_N(names) && !base[0]; i++)
        snprintf(base, sizeof base, "%s", getenv(names[i]) ? getenv(names[i]) : "");
    if (!base[0] || strlen(base) > PATH_ROOM - 32)
        snprintf(base, sizeof base, "/tmp");
    snprintf(path, PATH_ROOM, "%.*s/bench-%08" PRIx32, PATH_ROOM - 32, base, term_random());
}

static void put_rows(const char *model, const struct start *cold, const struct start *warm, cJSON *rows)
{
    for (uint32_t i = 0; i < cold->n_parts && i < warm->n_parts; i++) {
        cJSON *row = json_object();
        json_put_text(row, "model_filename", model);
        json_put_text(row, "devices", cold->devices);
        json_put_text(row, "part", cold->parts[i].name);
        json_put_int(row, "cold_n", cold->parts[i].n);
        json_put_int(row, "cold_ns", (int64_t)cold->parts[i].ns);
        json_put_int(row, "warm_n", warm->parts[i].n);
        json_put_int(row, "warm_ns", (int64_t)warm->parts[i].ns);
        json_add(rows, row);
    }
}

int bench_start(const struct model_options *options, cJSON *rows)
{
    char folder[PATH_ROOM];
    empty_folder(folder);
    struct model_options from = *options;
    from.cache = folder;
    struct start cold = {0}, warm = {0};
    int code = start_once(&from, &cold);
    if (code == EXIT_DONE)
        code = start_once(&from, &warm);
    if (code == EXIT_DONE)
        put_rows(options->model, &cold, &warm, rows);
    struct quern_cache *cache;
    if (quern_cache_open(&cache, folder, 0, NULL, NULL) == QUERN_OK)
        (void)quern_cache_clear(cache, NULL, NULL, NULL);
    quern_cache_close(&cache);
    remove(folder);
    return code;
}

/* An integer that json_put_int() has put. */
static double integer(const cJSON *row, const char *key)
{
    return strtod(cJSON_GetObjectItem(row, key)->valuestring, NULL);
}

void bench_start_print(const cJSON *rows)
{
    struct table table;
    table_start(&table, "lllrrrr",
                (const char *const[]){"MODEL", "DEVICES", "PART", "COLD", "ms", "WARM", "ms"});
    for (const cJSON *row = rows->child; row; row = row->next) {
        static const char *const texts[] = {"model_filename", "devices", "part"};
        for (size_t i = 0; i < ARG_N(texts); i++)
            table_cell(&table, "%s", cJSON_GetStringValue(cJSON_GetObjectItem(row, texts[i])));
        table_cell(&table, "%.0f", integer(row, "cold_n"));
        table_cell(&table, "%.2f", integer(row, "cold_ns") / 1e6);
        table_cell(&table, "%.0f", integer(row, "warm_n"));
        table_cell(&table, "%.2f", integer(row, "warm_ns") / 1e6);
    }
    table_end(&table, stdout);
}
