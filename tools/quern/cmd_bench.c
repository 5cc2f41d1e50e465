/* quern bench: tokens per second of prefill (ppN), decode (tgN) and both (ppN+tgM), for every combination of
 * the lists given. Rows, columns and JSON keys are those that users of llama-bench know. */
#include "bench_start.h"
#include "default_model.h"
#include "term.h"
#include "verbs.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct bench_options {
    const char *models, *prompts, *gens, *pairs, *threads, *batches, *depths, *kv_k, *kv_v, *device, *profile;
    int64_t repeat, output;
    bool no_warmup, no_mmap, no_repack, keep_layouts, exact, verbose, start;
};

enum { OUT_MD, OUT_JSON, OUT_JSONL, OUT_CSV };
#define OUT_WORDS "md|json|jsonl|csv"

struct number_list {
    int64_t *items;
    size_t n;
};

/* One row. */
struct test {
    const char *model;
    struct quern_model_info info;
    char device[128], backends[128], cpu[128], time[32];
    uint32_t threads;
    int64_t n_batch, n_prompt, n_gen, n_depth;
    int64_t kv_k, kv_v;
    uint64_t *samples_ns; /* [repeat] */
    size_t n_samples;
};

struct bench {
    const struct bench_options *options;
    struct number_list prompts, gens, pairs, threads, batches, depths, kv_k, kv_v;
    size_t n_rows;
    cJSON *rows; /* with -o json, and with --start */
};

/* ---- lists ---- */

static bool next_word(const char **at, const char **word, size_t *length)
{
    if (!*at)
        return false;
    *word = *at;
    *length = strcspn(*at, ",");
    *at = (*at)[*length] ? *at + *length + 1 : NULL;
    return true;
}

/* "128,512"; every number at least `min`. */
static int parse_numbers(const char *name, const char *text, int64_t min, struct number_list *list)
{
    const char *at = text, *word;
    size_t length;
    while (next_word(&at, &word, &length)) {
        char *end;
        long long number = strtoll(word, &end, 10);
        if (end != word + length || length == 0 || number < min || number > 1 << 30)
            return verb_usage(&verb_bench, "%s: expected numbers of at least %lld with commas, not \"%s\"",
                              name, (long long)min, text);
        list->items = need_memory(list->items, list->n + 1, sizeof *list->items);
        list->items[list->n++] = number;
    }
    return EXIT_DONE;
}

static int parse_formats(const char *name, const char *text, struct number_list *list)
{
    const char *at = text, *word;
    size_t length;
    while (next_word(&at, &word, &length)) {
        int64_t found = -1;
        for (int64_t i = 0; kv_format_word(i); i++)
            if (strlen(kv_format_word(i)) == length && memcmp(kv_format_word(i), word, length) == 0)
                found = i;
        if (found < 0)
            return verb_usage(&verb_bench, "%s: expected " KV_FORMATS " with commas, not \"%s\"", name, text);
        list->items = need_memory(list->items, list->n + 1, sizeof *list->items);
        list->items[list->n++] = found;
    }
    return EXIT_DONE;
}

static int parse_lists(struct bench *bench)
{
    const struct bench_options *o = bench->options;
    int code = parse_numbers("-p", o->prompts, 0, &bench->prompts);
    if (code == EXIT_DONE)
        code = parse_numbers("-n", o->gens, 0, &bench->gens);
    if (code == EXIT_DONE && o->pairs)
        code = parse_numbers("-pg", o->pairs, 0, &bench->pairs);
    if (code == EXIT_DONE && bench->pairs.n != 0 && bench->pairs.n != 2)
        code = verb_usage(&verb_bench, "-pg: expected two numbers with a comma, not \"%s\"", o->pairs);
    if (code == EXIT_DONE)
        code = parse_numbers("-t", o->threads, 0, &bench->threads);
    if (code == EXIT_DONE)
        code = parse_numbers("-b", o->batches, 1, &bench->batches);
    if (code == EXIT_DONE)
        code = parse_numbers("-d", o->depths, 0, &bench->depths);
    if (code == EXIT_DONE)
        code = parse_formats("-ctk", o->kv_k, &bench->kv_k);
    if (code == EXIT_DONE)
        code = parse_formats("-ctv", o->kv_v, &bench->kv_v);
    return code;
}

/* ---- statistics ---- */

struct spread {
    double mean, deviation;
};

/* Of the times, or (per_token) of the rates in tokens per second. */
static struct spread spread_of(const struct test *test, bool rates)
{
    double n = (double)test->n_samples, sum = 0, squares = 0;
    double tokens = (double)(test->n_prompt + test->n_gen);
    for (size_t i = 0; i < test->n_samples; i++) {
        double ns = (double)test->samples_ns[i];
        double value = rates ? tokens * 1e9 / ns : ns;
        sum += value;
        squares += value * value;
    }
    struct spread s = {.mean = sum / n};
    if (n > 1)
        s.deviation = sqrt(fmax(0, (squares - n * s.mean * s.mean) / (n - 1)));
    return s;
}

/* ---- rows ---- */

static void test_name(const struct test *test, char text[64])
{
    int n = 0;
    if (test->n_prompt > 0)
        n += snprintf(text + n, 64 - (size_t)n, "pp%" PRId64, test->n_prompt);
    if (test->n_gen > 0)
        n += snprintf(text + n, 64 - (size_t)n, "%stg%" PRId64, test->n_prompt > 0 ? "+" : "", test->n_gen);
    if (test->n_depth > 0)
        snprintf(text + n, 64 - (size_t)n, " @ d%" PRId64, test->n_depth);
}

static void model_name(const struct test *test, char text[160])
{
    char count[32];
    snprintf(text, 160, "%s %s %s", test->info.architecture, human_count(test->info.n_weights, count),
             test->info.type);
}

static cJSON *row_json(const struct test *test)
{
    char name[160];
    cJSON *row = json_object();
    struct spread ns = spread_of(test, false), rate = spread_of(test, true);
    model_name(test, name);
    json_put_text(row, "build_commit", quern_version());
    json_put_int(row, "build_number", 0);
    json_put_text(row, "cpu_info", test->cpu);
    json_put_text(row, "gpu_info", "");
    json_put_text(row, "backends", test->backends);
    json_put_text(row, "model_filename", test->model);
    json_put_text(row, "model_type", name);
    json_put_int(row, "model_size", (int64_t)test->info.file_bytes);
    json_put_int(row, "model_n_params", (int64_t)test->info.n_weights);
    json_put_int(row, "n_batch", test->n_batch);
    json_put_int(row, "n_ubatch", test->n_batch);
    json_put_int(row, "n_threads", test->threads);
    json_put_text(row, "type_k", kv_format_word(test->kv_k));
    json_put_text(row, "type_v", kv_format_word(test->kv_v));
    json_put_text(row, "devices", test->device);
    json_put_int(row, "n_prompt", test->n_prompt);
    json_put_int(row, "n_gen", test->n_gen);
    json_put_int(row, "n_depth", test->n_depth);
    json_put_text(row, "test_time", test->time);
    json_put_int(row, "avg_ns", (int64_t)ns.mean);
    json_put_int(row, "stddev_ns", (int64_t)ns.deviation);
    json_put_real(row, "avg_ts", rate.mean);
    json_put_real(row, "stddev_ts", rate.deviation);
    cJSON *samples_ns = json_array(), *samples_ts = json_array();
    for (size_t i = 0; i < test->n_samples; i++) {
        json_add(samples_ns, json_int((int64_t)test->samples_ns[i]));
        json_add(samples_ts,
                 json_real((double)(test->n_prompt + test->n_gen) * 1e9 / (double)test->samples_ns[i]));
    }
    json_put(row, "samples_ns", samples_ns);
    json_put(row, "samples_ts", samples_ts);
    return row;
}

static void print_csv(cJSON *row, bool heads)
{
    for (int pass = heads ? 0 : 1; pass < 2; pass++) {
        bool first = true;
        for (const cJSON *item = row->child; item; item = item->next) {
            if (cJSON_IsArray(item))
                continue;
            if (!first)
                putchar(',');
            first = false;
            if (pass == 0) {
                fputs(item->string, stdout);
            } else if (cJSON_IsString(item)) {
                putchar('"');
                for (const char *c = item->valuestring; *c; c++)
                    printf(*c == '"' ? "\"\"" : "%c", *c);
                putchar('"');
            } else {
                char *text = cJSON_PrintUnformatted(item);
                fputs(text ? text : "", stdout);
                cJSON_free(text);
            }
        }
        putchar('\n');
    }
}

static void print_md(const struct bench *bench, const struct test *test)
{
    bool batch = bench->batches.n > 1 || test->n_batch != 512;
    bool kv = bench->kv_k.n > 1 || bench->kv_v.n > 1 || test->kv_k != 1 || test->kv_v != 1;
    if (bench->n_rows == 0) {
        printf("| %-30s | %10s | %10s | %-10s | %7s |", "model", "size", "params", "backend", "threads");
        printf("%s%s %15s | %20s |\n", batch ? " n_batch |" : "", kv ? " type_k | type_v |" : "", "test",
               "t/s");
        printf("| %.30s | %.9s: | %.9s: | %.10s | %.6s: |", "------------------------------", "---------",
               "---------", "----------", "------");
        printf("%s%s %.14s: | %.19s: |\n", batch ? " ------: |" : "", kv ? " -----: | -----: |" : "",
               "--------------", "-------------------");
    }
    char name[160], size[32], count[32], what[64], rate[64];
    struct spread s = spread_of(test, true);
    model_name(test, name);
    test_name(test, what);
    snprintf(rate, sizeof rate, "%.2f \xC2\xB1 %.2f", s.mean, s.deviation);
    printf("| %-30s | %10s | %10s | %-10s | %7" PRIu32 " |", name, human_bytes(test->info.file_bytes, size),
           human_count(test->info.n_weights, count), test->backends, test->threads);
    if (batch)
        printf(" %7" PRId64 " |", test->n_batch);
    if (kv)
        printf(" %6s | %6s |", kv_format_word(test->kv_k), kv_format_word(test->kv_v));
    printf(" %15s | %21s |\n", what, rate);
}

static void put_row(struct bench *bench, const struct test *test)
{
    term_status_end();
    switch (bench->options->output) {
    case OUT_MD:
        print_md(bench, test);
        break;
    case OUT_JSON:
        json_add(bench->rows, row_json(test));
        break;
    case OUT_JSONL:
        json_end(row_json(test), false, stdout);
        break;
    default: {
        cJSON *row = row_json(test);
        print_csv(row, bench->n_rows == 0);
        cJSON_Delete(row);
    }
    }
    fflush(stdout);
    bench->n_rows++;
}

/* ---- measuring ---- */

static enum quern_status feed_one_by_one(struct quern_session *session, const struct id_list *ids,
                                         size_t from, size_t n, struct quern_error *err)
{
    enum quern_status status = QUERN_OK;
    for (size_t i = 0; i < n && status == QUERN_OK; i++)
        status = quern_session_feed(session, 0, &ids->id[(from + i) % ids->n], 1, err);
    return status;
}

static int measure(const struct bench *bench, struct loaded *loaded, struct test *test)
{
    struct id_list ids;
    struct quern_error err = {0};
    enum quern_status status = QUERN_OK;
    size_t depth = (size_t)test->n_depth, n_prompt = (size_t)test->n_prompt, n_gen = (size_t)test->n_gen;
    random_ids(loaded->vocab, depth + n_prompt + n_gen, &ids);
    if (depth > 0)
        status = quern_session_feed(loaded->session, 0, ids.id, depth, &err);
    /* Run -1 warms up: all of the prompt, one step of the generation. */
    for (int64_t r = bench->options->no_warmup ? 0 : -1; r < bench->options->repeat && status == QUERN_OK;
         r++) {
        char name[64];
        test_name(test, name);
        term_status("%s: run %" PRId64 " of %" PRId64, name, r + 1, bench->options->repeat);
        status = quern_session_truncate(loaded->session, 0, depth, &err);
        uint64_t begin = term_now_ns();
        if (status == QUERN_OK && n_prompt > 0)
            status = quern_session_feed(loaded->session, 0, ids.id + depth, n_prompt, &err);
        if (status == QUERN_OK)
            status = feed_one_by_one(loaded->session, &ids, depth + n_prompt, r < 0 && n_gen > 0 ? 1 : n_gen,
                                     &err);
        uint64_t ns = term_now_ns() - begin;
        if (r >= 0 && status == QUERN_OK)
            test->samples_ns[test->n_samples++] = ns > 0 ? ns : 1;
    }
    ids_finish(&ids);
    term_status_end();
    return status == QUERN_OK ? EXIT_DONE : fault(test->model, &err);
}

static int run_test(struct bench *bench, struct loaded *loaded, struct test test, int64_t n_prompt,
                    int64_t n_gen)
{
    if (n_prompt + n_gen == 0)
        return EXIT_DONE;
    test.n_prompt = n_prompt;
    test.n_gen = n_gen;
    const struct model_options session = {
        .model = test.model, .batch = test.n_batch, .kv_k = test.kv_k, .kv_v = test.kv_v};
    int code = open_session(loaded, &session,
                            quern_session_params(.n_ctx = (uint32_t)(n_prompt + n_gen + test.n_depth)));
    if (code != EXIT_DONE)
        return code;
    time_t now = time(NULL);
    const struct tm *utc = gmtime(&now);
    if (utc)
        strftime(test.time, sizeof test.time, "%Y-%m-%dT%H:%M:%SZ", utc);
    test.samples_ns = need_memory(NULL, (size_t)bench->options->repeat, sizeof *test.samples_ns);
    code = measure(bench, loaded, &test);
    if (code == EXIT_DONE)
        put_row(bench, &test);
    free(test.samples_ns);
    quern_session_destroy(&loaded->session);
    return code;
}

/* All tests of one model with one number of threads. */
static int run_tests(struct bench *bench, struct loaded *loaded, struct test test)
{
    int code = EXIT_DONE;
    const struct bench *b = bench;
    size_t n = b->batches.n * b->kv_k.n * b->kv_v.n * b->depths.n;
    for (size_t i = 0; i < n && code == EXIT_DONE; i++) {
        size_t at = i;
        test.n_depth = b->depths.items[at % b->depths.n];
        at /= b->depths.n;
        test.kv_v = b->kv_v.items[at % b->kv_v.n];
        at /= b->kv_v.n;
        test.kv_k = b->kv_k.items[at % b->kv_k.n];
        test.n_batch = b->batches.items[at / b->kv_k.n];
        for (size_t p = 0; p < b->prompts.n && code == EXIT_DONE; p++)
            code = run_test(bench, loaded, test, b->prompts.items[p], 0);
        for (size_t g = 0; g < b->gens.n && code == EXIT_DONE; g++)
            code = run_test(bench, loaded, test, 0, b->gens.items[g]);
        if (b->pairs.n == 2 && code == EXIT_DONE)
            code = run_test(bench, loaded, test, b->pairs.items[0], b->pairs.items[1]);
    }
    return code;
}

static int64_t largest(const struct number_list *list)
{
    int64_t max = 0;
    for (size_t i = 0; i < list->n; i++)
        max = list->items[i] > max ? list->items[i] : max;
    return max;
}

static int run_model(struct bench *bench, const char *model, int64_t threads)
{
    const struct bench_options *o = bench->options;
    struct loaded loaded;
    struct model_options load = {.model = model,
                                 .device = o->device,
                                 .profile = o->profile,
                                 .threads = threads,
                                 .exact = o->exact,
                                 .no_mmap = o->no_mmap,
                                 .no_repack = o->no_repack,
                                 .repack_first = true,
                                 .keep_layouts = o->keep_layouts,
                                 .verbose = o->verbose};
    if (o->start)
        return bench_start(&load, bench->rows);
    int64_t n_ctx =
        largest(&bench->prompts) > largest(&bench->gens) ? largest(&bench->prompts) : largest(&bench->gens);
    if (bench->pairs.n == 2 && bench->pairs.items[0] + bench->pairs.items[1] > n_ctx)
        n_ctx = bench->pairs.items[0] + bench->pairs.items[1];
    int code = open_model(&loaded, &load, (uint32_t)(n_ctx + largest(&bench->depths)));
    if (code != EXIT_DONE)
        return code;
    struct test test = {.model = model, .info = loaded.info};
    test.threads = threads_wanted(threads) > 0 ? threads_wanted(threads) : term_processors();
    term_processor_name(test.cpu, sizeof test.cpu);
    for (uint32_t i = 0; i < quern_model_device_count(loaded.model); i++) {
        const struct quern_device_desc *d = quern_model_device(loaded.model, i);
        const uint32_t work = quern_model_device_work(loaded.model, i);
        const char *phase = work == QUERN_WORK_PREFILL  ? "prefill="
                            : work == QUERN_WORK_DECODE ? "decode="
                                                        : "";
        size_t n = strlen(test.device), m = strlen(test.backends);
        snprintf(test.device + n, sizeof test.device - n, "%s%s%s", n > 0 ? "," : "", phase, d->id);
        if (!strstr(test.backends, d->driver))
            snprintf(test.backends + m, sizeof test.backends - m, "%s%s%s", m > 0 ? "," : "", phase,
                     d->driver);
    }
    code = run_tests(bench, &loaded, test);
    close_model(&loaded);
    return code;
}

static int run_all(struct bench *bench)
{
    const char *at = bench->options->models, *word;
    size_t length;
    int code = EXIT_DONE;
    while (code == EXIT_DONE && next_word(&at, &word, &length)) {
        char *model = need_memory(NULL, length + 1, 1);
        memcpy(model, word, length);
        model[length] = '\0';
        for (size_t t = 0; t < bench->threads.n && code == EXIT_DONE; t++)
            code = run_model(bench, model, bench->threads.items[t]);
        free(model);
    }
    return code;
}

static void print_starts(struct bench *bench)
{
    if (bench->options->output == OUT_MD)
        bench_start_print(bench->rows);
    for (cJSON *row = bench->rows->child; row; row = row->next) {
        if (bench->options->output == OUT_JSONL)
            json_end(cJSON_Duplicate(row, true), false, stdout);
        else if (bench->options->output == OUT_CSV)
            print_csv(row, row == bench->rows->child);
    }
}

static int run_bench(const void *options, const struct arg_list *rest)
{
    struct bench_options chosen = *(const struct bench_options *)options;
    const struct bench_options *o = &chosen;
    struct bench bench = {.options = o};
    struct model_options model = {.model = chosen.models};
    char room[DEFAULT_MODEL_PATH];
    int code = default_model(&verb_bench, &model, room);
    chosen.models = model.model;
    if (code == EXIT_DONE)
        code = parse_lists(&bench);
    if (code == EXIT_DONE) {
        bench.rows = json_array();
        code = run_all(&bench);
        if (code == EXIT_DONE && o->start)
            print_starts(&bench);
        if (code == EXIT_DONE && o->output == OUT_JSON) {
            json_end(bench.rows, true, stdout);
            bench.rows = NULL;
        }
        cJSON_Delete(bench.rows);
    }
    int64_t *const lists[] = {bench.prompts.items, bench.gens.items,   bench.pairs.items, bench.threads.items,
                              bench.batches.items, bench.depths.items, bench.kv_k.items,  bench.kv_v.items};
    for (size_t i = 0; i < ARG_N(lists); i++)
        free(lists[i]);
    return code;
}

#define AT(member) offsetof(struct bench_options, member)
static const struct arg_option bench_args[] = {
    {"-m, --model", ARG_FILE, AT(models), "FILE",
     "the model, or several with commas (default: that which comes with the program)"},
    {"-p, --n-prompt", ARG_TEXT, AT(prompts), "N,...", "tokens of prefill tests; 0: none"},
    {"-n, --n-gen", ARG_TEXT, AT(gens), "N,...", "tokens of decode tests; 0: none"},
    {"-pg", ARG_TEXT, AT(pairs), "N,M", "a test of N prefill and then M decode tokens"},
    {"-d, --n-depth", ARG_TEXT, AT(depths), "N,...", "tokens in the context before a test"},
    {"-r, --repetitions", ARG_INT, AT(repeat), "N", "runs of each test", 1, 1e6},
    {"-t, --threads", ARG_TEXT, AT(threads), "N,...", "processor threads; 0: one for each fast core"},
    {"-b, --batch-size", ARG_TEXT, AT(batches), "N,...", "most tokens evaluated at once"},
    {"-ctk, --cache-type-k", ARG_TEXT, AT(kv_k), "TYPE,...", "format of keys: " KV_FORMATS},
    {"-ctv, --cache-type-v", ARG_TEXT, AT(kv_v), "TYPE,...", "format of values"},
    {"-o, --output", ARG_CHOICE, AT(output), OUT_WORDS, "form of the result"},
    {"--device, -dev", ARG_TEXT, AT(device), "LIST", "devices to use; see quern device list"},
    {"--profile", ARG_FILE, AT(profile), "FILE", "a device profile that counts more than all others"},
    {"--start", ARG_FLAG, AT(start), NULL,
     "time until the first token instead, by parts: with an empty cache (cold), and again (warm)"},
    {"--no-warmup", ARG_FLAG, AT(no_warmup), NULL, "no run before the first that counts"},
    {"--exact", ARG_FLAG, AT(exact), NULL, "float32 arithmetic on exactly decoded weights: slow"},
    {"--no-mmap", ARG_FLAG, AT(no_mmap), NULL, "read the file into memory instead of mapping it"},
    {"--no-repack", ARG_FLAG, AT(no_repack), NULL,
     "read weights as the file has them, without copies for speed"},
    {"--keep-layouts", ARG_FLAG, AT(keep_layouts), NULL,
     "keep those copies in MODEL.layouts, or in the cache, for the next start with this option"},
    {"-v, --verbose", ARG_FLAG, AT(verbose), NULL, "tell what happens"},
};

static const struct bench_options bench_defaults = {
    .prompts = "512",
    .gens = "128",
    .threads = "0",
    .batches = "512",
    .depths = "0",
    .kv_k = "f16",
    .kv_v = "f16",
    .repeat = 5,
};

const struct verb verb_bench = {
    .name = "bench",
    .summary = "Measures tokens per second.",
    .synopsis = "-m MODEL [options]",
    .details = "Every combination of the lists is a test; its tokens are the same in every run.",
    .tables = {{"Options", bench_args, ARG_N(bench_args), 0}},
    .defaults = &bench_defaults,
    .size = sizeof(struct bench_options),
    .run = run_bench,
};
