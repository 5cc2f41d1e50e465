/* Every reference model through the public API: logits in one batch, token by token and in chunks, greedy
 * continuations, and what becomes of damaged files.
 *
 *     test_golden [DEVICE [MODEL...]]
 *
 * With a device: the models on it, "vulkan" with the validation layer on; all, or those that are named
 * ("olmoe"), whose names begin like this ("qmoe."), and those with float32 weights ("float"). */
#include <quern/quern.h>

#include "base/host.h"
#include "models/arch.h"
#include "support/eval.h"
#include "support/golden.h"
#include "test.h"

#include <math.h>

enum { N = QN_GOLDEN_TOKENS, MAX_MODELS = 256 };

/* of a router's logits, which span several units; 8-bit activations move them by up to a few hundredths */
#define UNSURE_MARGIN 0.1

static struct quern_error err;
static const char *device = "cpu";
static char **only; /* names of models; no names: all */
static int n_only;
static int n_complaints; /* of the validation layer */

static void on_log(void *user, enum quern_log_level level, const char *text)
{
    if (strstr(text, "Vulkan validation") && n_complaints++ < 10)
        fprintf(stderr, "%s\n", text);
}

static void check(enum quern_status status, const char *what)
{
    if (status)
        fail_msg("%s: %s", what, err.text);
}

/* ---- running ---- */

struct run {
    const struct qn_golden *golden;
    struct quern_model *model;
    struct quern_session *session;
    float *logits;  /* [48, n_vocab] */
    bool unsure[N]; /* rows that are not compared */
};

/* How a model is opened. */
struct way {
    bool exact, no_repack;
    bool plain;      /* a Vulkan device that is software does not use what is only faster on others */
    const char *isa; /* NULL: all of the machine's */
    enum quern_format kv;
};

static void run_open(struct run *run, const struct qn_golden *golden, struct way way)
{
    static const struct quern_callbacks callbacks = {.log = on_log};
    const char *more = way.plain ? "0" : "1";
    const struct quern_setting settings[] = {{"vk-validate", "1"},
                                             {"kernels.coopmat-on-software", more},
                                             {"vk-dot8", more},
                                             {"isa", way.isa ? way.isa : "all"}};
    *run = (struct run){.golden = golden};
    check(
        quern_model_open(&run->model, quern_source_path(golden->model),
                         quern_model_params(.callbacks = &callbacks, .device = device, .n_ctx = QN_GOLDEN_CTX,
                                            .n_threads = 2, .exact = way.exact, .no_repack = way.no_repack,
                                            .settings = settings, .n_settings = QN_LEN(settings)),
                         &err),
        golden->name);
    check(quern_session_create(&run->session, run->model,
                               quern_session_params(.kv_k = way.kv, .kv_v = way.kv), &err),
          golden->name);
    run->logits = malloc((size_t)N * golden->n_vocab * sizeof *run->logits);
    assert_non_null(run->logits);
}

static void run_close(struct run *run)
{
    free(run->logits);
    quern_session_destroy(&run->session);
    quern_model_destroy(&run->model);
}

/* Evaluates the reference's tokens from the start, `chunk` at a time, and keeps all rows. */
static const float *run_tokens(struct run *run, size_t chunk)
{
    const struct qn_golden *golden = run->golden;
    check(quern_session_truncate(run->session, 0, 0, &err), golden->name);
    for (size_t at = 0; at < N; at += chunk) {
        struct quern_item items[N];
        size_t n = chunk < N - at ? chunk : N - at;
        for (size_t i = 0; i < n; i++)
            items[i] = (struct quern_item){.token = golden->tokens[at + i], .logits = true};
        check(quern_session_eval(run->session, items, n, &err), golden->name);
        assert_int_equal(quern_session_n_logits(run->session), n);
        for (size_t i = 0; i < n; i++)
            memcpy(run->logits + (at + i) * golden->n_vocab, quern_session_logits(run->session, i),
                   golden->n_vocab * sizeof *run->logits);
    }
    assert_int_equal(quern_session_length(run->session, 0), N);
    return run->logits;
}

/* ---- comparing ---- */

struct limits {
    double max, rms, kl;
};

/* The bits are the same when weights stay as the file has them. */
static void check_no_repack(const struct run *run, struct way way)
{
    const size_t n = (size_t)N * run->golden->n_vocab;
    struct run other;
    way.no_repack = true;
    run_open(&other, run->golden, way);
    for (size_t chunk = 1; chunk <= N; chunk += N - 1)
        assert_memory_equal(run_tokens(&other, chunk), run->logits, n * sizeof(float));
    run_close(&other);
}

/* The rows that are compared, together. */
static struct qn_golden_diff compare(const struct run *run)
{
    struct qn_golden_diff all = {.finite = true};
    uint32_t n = 0;
    for (uint32_t row = 0; row < N; row++) {
        if (run->unsure[row])
            continue;
        struct qn_golden_diff diff =
            qn_golden_compare(run->golden, run->logits + (size_t)row * run->golden->n_vocab, row, 1);
        if (diff.max > all.max)
            all.worst_row = row;
        all.max = fmax(all.max, diff.max);
        all.rms += diff.rms * diff.rms;
        all.kl += diff.kl;
        all.finite = all.finite && diff.finite;
        n++;
    }
    assert_true(n >= N * 3 / 4);
    all.rms = sqrt(all.rms / n);
    all.kl /= n;
    return all;
}

static void check_logits(const struct run *run, const struct limits *limits, const char *what)
{
    struct qn_golden_diff diff = compare(run);
    if (!diff.finite || !(diff.max < limits->max && diff.rms < limits->rms && diff.kl < limits->kl))
        fail_msg("%s, %s: max %g, rms %g, KL %g, worst in row %u; allowed max %g, rms %g, KL %g",
                 run->golden->name, what, diff.max, diff.rms, diff.kl, diff.worst_row, limits->max,
                 limits->rms, limits->kl);
}

/* Distance of the router's logits, at the border between chosen and other experts. */
static double router_margin(const float *logits, uint32_t n_expert, uint32_t n_used)
{
    double last_chosen = INFINITY, first_other = -INFINITY;
    for (uint32_t i = 0; i < n_expert; i++) {
        uint32_t better = 0;
        for (uint32_t j = 0; j < n_expert; j++)
            better += logits[j] > logits[i];
        if (better < n_used)
            last_chosen = fmin(last_chosen, logits[i]);
        else
            first_other = fmax(first_other, logits[i]);
    }
    return last_chosen - first_other;
}

/* With activations in 8 bits a router that is all but undecided may choose another expert, which moves that
 * row by several units: the rows where this may happen, from an evaluation in double precision. */
static void find_unsure_rows(struct run *run)
{
    const struct quern_callbacks cb = qn_callbacks_resolve(NULL);
    struct qn_gguf *gguf;
    struct qn_graph graph;
    struct qn_model_facts facts;
    check(qn_gguf_open(&cb, &gguf, run->golden->model, NULL, &err), run->golden->name);
    check(qn_arch_build(&cb, gguf, QN_GOLDEN_CTX, true, &graph, &facts, &err), run->golden->name);
    struct qn_eval *eval = qn_eval_create(gguf, &graph, N);
    assert_non_null(qn_eval_run(eval, run->golden->tokens, N));
    for (uint32_t i = 0; i < graph.view.n_nodes; i++) {
        const struct quern_moe_route_attr *attr = &graph.nodes[i].attr.moe_route;
        for (uint32_t row = 0; graph.nodes[i].op == QUERN_OP_MOE_ROUTE && row < N; row++) {
            const float *logits = qn_eval_value(eval, graph.nodes[i].in[0]) + (size_t)row * attr->n_expert;
            run->unsure[row] |= router_margin(logits, attr->n_expert, attr->n_used) < UNSURE_MARGIN;
        }
    }
    qn_eval_destroy(eval);
    qn_graph_finish(&cb, &graph);
    qn_gguf_close(&cb, &gguf);
}

/* One batch, token by token, odd chunks: each within the limits. On the processor the bits are the same;
 * another device may have kernels for few tokens and kernels for many, and the bits are the same where the
 * same ones serve: in whole batches and chunks of 31, and token by token and in chunks of 7. */
static void check_chunks(struct run *run, const struct limits *limits)
{
    static const size_t chunks[] = {N, 31, 1, 7};
    size_t row_size = run->golden->n_vocab;
    float *first = malloc(N * row_size * sizeof *first);
    assert_non_null(first);
    bool cpu = strcmp(device, "cpu") == 0;
    bool all = !run->golden->quantised || cpu; /* formats know nothing of chunks */
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i += all ? 1 : 2) {
        char what[32];
        snprintf(what, sizeof what, "%zu at a time", chunks[i]);
        run_tokens(run, chunks[i]);
        check_logits(run, limits, what);
        if (i == 0 || (i == 2 && !cpu))
            memcpy(first, run->logits, N * row_size * sizeof *first);
        for (size_t at = 0; at < N * row_size; at++)
            if (run->logits[at] != first[at])
                fail_msg("%s, %s: logit %zu of row %zu is %g, before %g", run->golden->name, what,
                         at % row_size, at / row_size, run->logits[at], first[at]);
    }
    free(first);
}

/* What follows the reference's tokens, up to the first small margin. */
static void check_greedy(struct run *run)
{
    const struct qn_golden *golden = run->golden;
    check(quern_session_prompt(run->session, 0, golden->tokens, N, NULL, &err), golden->name);
    for (uint32_t i = 0; i < golden->n_greedy; i++) {
        int32_t token = qn_golden_argmax(quern_session_logits(run->session, 0), golden->n_vocab);
        if (token != golden->greedy[i])
            fail_msg("%s: greedy token %u is %d, expected %d", golden->name, i, token, golden->greedy[i]);
        check(quern_session_feed(run->session, 0, &token, 1, &err), golden->name);
    }
}

static void check_model(const char *name, struct way way)
{
    const bool exact = way.exact;
    struct qn_golden golden;
    if (!qn_golden_load(&golden, name))
        fail_msg("no reference data for %s", name);
    struct limits limits = {golden.tolerance, golden.tolerance, golden.tolerance};
    if (golden.quantised && !exact)
        limits = (struct limits){strstr(name, ".BF16") ? 0.4 : strstr(name, ".F16") ? 0.05 : 1.0, 0.15, 0.01};
    struct run run;
    run_open(&run, &golden, way);
    if (golden.quantised && !exact)
        find_unsure_rows(&run);
    check_chunks(&run, &limits);
    if (golden.quantised && !exact && strcmp(device, "cpu") == 0)
        check_no_repack(&run, way);
    if (!way.isa)
        check_greedy(&run);
    run_close(&run);
    qn_golden_finish(&golden);
}

/* A whole name, a beginning that ends with a dot, or "float". */
static bool is_named(const char *argument, const char *name)
{
    size_t length = strlen(argument);
    return strcmp(argument, name) == 0 || (strcmp(argument, "float") == 0 && !strchr(name, '.')) ||
           (length > 0 && argument[length - 1] == '.' && strncmp(argument, name, length) == 0);
}

static bool is_wanted(const char *name)
{
    bool wanted = n_only == 0;
    for (int i = 0; i < n_only; i++)
        wanted = wanted || is_named(only[i], name);
    return wanted;
}

/* Runs all float32 models, or all quantised ones, that are wanted. */
static void check_models(bool quantised, struct way way)
{
    static char names[MAX_MODELS][64];
    size_t n = qn_golden_list(names, MAX_MODELS), n_run = 0;
    assert_true(n < MAX_MODELS);
    for (size_t i = 0; i < n; i++)
        if ((strchr(names[i], '.') != NULL) == quantised && is_wanted(names[i])) {
            check_model(names[i], way);
            n_run++;
        }
    assert_true(n_run >= (n_only == 0 ? 15 : 0));
}

static void test_float(void **state)
{
    check_models(false, (struct way){.exact = false, .kv = QUERN_F32});
}

static void test_float_exact(void **state)
{
    check_models(false, (struct way){.exact = true, .kv = QUERN_F32});
}

static void test_quantised(void **state)
{
    check_models(true, (struct way){.exact = false, .kv = QUERN_F32});
}

/* Fewer instruction sets than the machine has; none where all in the list are another machine's. */
static void test_quantised_masked(void **state)
{
    (void)state;
    static const char *const isas[] = {"avx2", "avx2,avx512", "neon"};
    for (size_t i = 0; i < QN_LEN(isas); i++)
        check_models(true, (struct way){.isa = isas[i], .kv = QUERN_F32});
}

static void test_quantised_exact(void **state)
{
    check_models(true, (struct way){.exact = true, .kv = QUERN_F32});
}

/* Many tokens in tiles of floats, as software devices have them, beside few in 8 bits. */
static void test_quantised_plain(void **state)
{
    static const char *const names[] = {"qllama.Q4_K_M", "qllama.Q5_1", "qllama.Q8_0",
                                        "qllama.IQ4_XS", "qmoe.Q4_K_M", "qmoe.Q4_0"};
    for (size_t i = 0; i < QN_LEN(names); i++)
        if (is_wanted(names[i]))
            check_model(names[i], (struct way){.plain = true, .kv = QUERN_F32});
}

/* Keys and values in half floats and in fewer bits: near the reference, which has them in float32. */
static void test_kv_formats(void **state)
{
    static const struct {
        enum quern_format format;
        struct limits limits;
        bool processor_only;
    } cases[] = {{QUERN_F16, {0.02, 0.005, 1e-4}, false},
                 {QUERN_Q8_0, {0.5, 0.1, 0.01}, false},
                 {QUERN_BF16, {0.2, 0.03, 2e-4}, true},
                 {QUERN_Q4_0, {6, 0.9, 0.25}, true}};
    struct qn_golden golden;
    if (!is_wanted("qwen3"))
        return;
    assert_true(qn_golden_load(&golden, "qwen3")); /* heads of 32: a block of Q8_0 */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct run run;
        if (cases[i].processor_only && strcmp(device, "cpu") != 0)
            continue;
        run_open(&run, &golden, (struct way){.kv = cases[i].format});
        check_chunks(&run, &cases[i].limits);
        run_close(&run);
    }
    qn_golden_finish(&golden);
}

/* ---- a small trained model ---- */

/* Reads up to cap ids of the line of the file that starts with `label`. */
static size_t read_ids(const char *path, const char *label, int32_t *ids, size_t cap)
{
    char line[4096];
    size_t n = 0, length = strlen(label);
    FILE *f = fopen(path, "r");
    while (f && n == 0 && fgets(line, sizeof line, f)) {
        if (strncmp(line, label, length) != 0)
            continue;
        char *at = line + length, *end;
        for (long id = strtol(at, &end, 10); end != at && n < cap; id = strtol(at, &end, 10)) {
            ids[n++] = (int32_t)id;
            at = end;
        }
    }
    if (f)
        fclose(f);
    return n;
}

static void check_story(const char *path, const int32_t *want_prompt, size_t n_prompt, const int32_t *want,
                        size_t n_want)
{
    static const char text[] = "Once upon a time";
    struct quern_model *model;
    struct quern_session *session;
    struct quern_sampler *sampler;
    check(quern_model_open(&model, quern_source_path(path), quern_model_params(.device = "cpu"), &err), path);
    check(quern_session_create(&session, model, quern_session_params(.n_ctx = 256), &err), path);
    const struct quern_vocab *vocab = quern_model_vocab(model);
    int32_t prompt[32];
    size_t n;
    check(quern_tokenize(vocab, text, strlen(text), QUERN_ADD_SPECIAL, prompt, 32, &n, &err), path);
    assert_int_equal(n, n_prompt);
    assert_memory_equal(prompt, want_prompt, n * sizeof *prompt);

    check(quern_sampler_create(&sampler, quern_vocab_size(vocab), quern_sampler_params(.temperature = 0),
                               NULL, &err),
          path);
    check(quern_session_feed(session, 0, prompt, n, &err), path);
    struct quern_generate_result result;
    check(quern_generate(session, quern_generate_params(.sampler = sampler, .max_tokens = (int64_t)n_want),
                         &result, &err),
          path);
    assert_int_equal(result.n_tokens, n_want);
    assert_memory_equal(quern_session_tokens(session, 0) + n_prompt, want, (n_want - 1) * sizeof *want);
    quern_sampler_destroy(&sampler);
    quern_session_destroy(&session);
    quern_model_destroy(&model);
}

static void test_story(void **state)
{
    int32_t prompt[16], want[64];
    const char *ids = qn_test_shared("goldens/golden/stories260K.once.ids.txt");
    size_t n_prompt = read_ids(ids, "prompt:", prompt, 16), n_want = read_ids(ids, "greedy64:", want, 64);
    assert_int_equal(n_prompt, 5);
    assert_int_equal(n_want, 64);
    check_story(qn_test_shared("goldens/models/stories260K.gguf"), prompt, n_prompt, want, n_want);
}

/* ---- damaged files ---- */

static bool must_load(const char *file, const char *defect)
{
    /* besides the valid ones: faults that do no harm, or show only in the numbers */
    static const char *const harmless[] = {"57-", "67-", "68-", "75-", "76-", "88-", "89-", "91-"};
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
        if (strncmp(file, harmless[i], strlen(harmless[i])) == 0)
            return true;
    return strncmp(defect, "VALID", 5) == 0 || strstr(file, "-valid-");
}

static void check_file(const char *file, const char *defect)
{
    char path[1024];
    qn_golden_path(path, sizeof path, "malformed", file);
    struct quern_model *model;
    memset(&err, 0, sizeof err);
    enum quern_status status =
        quern_model_open(&model, quern_source_path(path), quern_model_params(.device = "cpu"), &err);
    if ((status == QUERN_OK) != must_load(file, defect))
        fail_msg("%s (%s): status %d, '%s'", file, defect, (int)status, err.text);
    if (status) {
        assert_null(model);
        if (!strstr(err.text, file))
            fail_msg("%s: the message does not name it: '%s'", file, err.text);
        return;
    }
    struct quern_session *session;
    check(quern_session_create(&session, model, quern_session_params(.n_ctx = 64), &err), file);
    bool not_finite = strstr(file, "nan-weights") || strstr(file, "inf-weights");
    status = quern_session_feed(session, 0, (int32_t[]){1, 2, 3, 4}, 4, &err);
    if (status != (not_finite ? QUERN_ERR_NUMERIC : QUERN_OK))
        fail_msg("%s: status %d, '%s'", file, (int)status, err.text);
    quern_session_destroy(&session);
    quern_model_destroy(&model);
}

static void test_malformed(void **state)
{
    char path[1024], line[1024];
    int n = 0;
    qn_golden_path(path, sizeof path, "malformed", "INDEX.tsv");
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        char *defect = strchr(line, '\t');
        if (!defect)
            continue;
        *defect++ = '\0';
        defect[strcspn(defect, "\t\n")] = '\0';
        if (strstr(line, ".gguf")) {
            check_file(line, defect);
            n++;
        }
    }
    fclose(f);
    assert_true(n > 50);
}

/* ---- other devices ---- */

static void test_no_complaints(void **state)
{
    assert_int_equal(n_complaints, 0);
}

/* Whether a device of this name is there, and the layer that checks how it is used. */
static bool device_is_there(const char *name)
{
    struct qn_golden golden;
    struct quern_model *model = NULL;
    assert_true(qn_golden_load(&golden, "llama"));
    static const struct quern_setting validate[] = {
        {"vk-validate", "1"}, {"kernels.coopmat-on-software", "1"}, {"vk-dot8", "1"}};
    enum quern_status status =
        quern_model_open(&model, quern_source_path(golden.model),
                         quern_model_params(.device = name, .settings = validate, .n_settings = 3), &err);
    quern_model_destroy(&model);
    qn_golden_finish(&golden);
    return status == QUERN_OK;
}

/* An argument that names no model, or NULL. */
static const char *unknown_name(void)
{
    static char names[MAX_MODELS][64];
    size_t n = qn_golden_list(names, MAX_MODELS);
    for (int i = 0; i < n_only; i++) {
        bool found = false;
        for (size_t k = 0; k < n; k++)
            found = found || is_named(only[i], names[k]);
        if (!found)
            return only[i];
    }
    return NULL;
}

static int run_on_device(const char *name)
{
    if (unknown_name()) {
        fprintf(stderr, "test_golden: there is no model %s\n", unknown_name());
        return 2;
    }
    if (!device_is_there(name)) {
        fprintf(stderr, "SKIPPED: the reference models on device %s: %s\n", name, err.text);
        return 77;
    }
    device = name;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_float_exact),     cmocka_unit_test(test_quantised),
        cmocka_unit_test(test_quantised_exact), cmocka_unit_test(test_quantised_plain),
        cmocka_unit_test(test_kv_formats),      cmocka_unit_test(test_no_complaints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    only = argv + 2;
    n_only = argc > 2 ? argc - 2 : 0;
    if (argc > 1)
        return run_on_device(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_float),      cmocka_unit_test(test_float_exact),
        cmocka_unit_test(test_quantised),  cmocka_unit_test(test_quantised_exact),
        cmocka_unit_test(test_kv_formats), cmocka_unit_test(test_story),
        cmocka_unit_test(test_malformed),  cmocka_unit_test(test_quantised_masked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
