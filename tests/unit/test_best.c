/* The best logits in place of all: what a device selects, what is drawn from them, and generations that look
 * at no others. */
#include <quern/quern.h>

#include "drivers/cpu/cpu.h"
#include "support/golden.h"
#include "support/ways.h"
#include "test.h"

#include <math.h>

static struct quern_error err;

static void check(enum quern_status status)
{
    if (status != QUERN_OK)
        fail_msg("%s", err.text);
}

static uint32_t noise(void)
{
    static uint32_t x = 1;
    x = x * 1664525 + 1013904223;
    return x >> 8;
}

/* ---- the operation ---- */

/* Whether candidate a comes before b. */
static bool before(const float *x, uint32_t a, uint32_t b)
{
    if (isfinite(x[a]) != isfinite(x[b]))
        return !isfinite(x[a]);
    return isfinite(x[a]) && x[a] != x[b] ? x[a] > x[b] : a < b;
}

static void check_row(const float *x, uint32_t n, const int32_t *pairs, uint32_t k, uint32_t wanted)
{
    uint32_t last = QUERN_NONE;
    for (uint32_t i = 0; i < wanted; i++) {
        uint32_t best = QUERN_NONE;
        for (uint32_t j = 0; j < n; j++)
            if ((last == QUERN_NONE || before(x, last, j)) && (best == QUERN_NONE || before(x, j, best)))
                best = j;
        assert_int_equal(pairs[2 * i + 1], best);
        assert_memory_equal(&pairs[2 * i], &x[best], 4);
        last = best;
    }
    for (uint32_t i = 2 * wanted; i < 2 * k; i++)
        assert_int_equal(pairs[i], -1); /* as it was */
}

static void test_select(void **state)
{
    (void)state;
    static const struct {
        uint32_t n, k, wanted, values;
        bool bad;
    } cases[] = {{1, 1, 1, 9, false},    {1000, 64, 64, 1000000, false}, {1000, 64, 5, 3, false},
                 {64, 64, 64, 7, false}, {3001, 40, 0, 100, false},      {3001, 40, 40, 100, true},
                 {500, 1, 1, 1, false},  {130, 3, 2, 1000000, true}};
    for (size_t i = 0; i < QN_LEN(cases); i++) {
        struct qn_case c;
        uint32_t n = cases[i].n, k = cases[i].k;
        qn_case_start(&c, quern_cpu_driver_get(QUERN_DRIVER_ABI), QUERN_OP_SELECT, 9);
        for (uint32_t t = 0; t < 9; t += 4)
            c.output[c.n_outputs++] = t;
        float *x = malloc(3 * n * sizeof *x);
        assert_non_null(x);
        for (uint32_t j = 0; j < 3 * n; j++) {
            x[j] = ((float)(noise() % cases[i].values) - (float)cases[i].values / 2) *
                   (noise() % 2 ? 0.5f : -0.5f);
            if (cases[i].bad && j % 61 == 3)
                x[j] = j % 3 ? (j % 2 ? NAN : -INFINITY) : INFINITY;
        }
        c.select = cases[i].wanted;
        c.node.attr.select.k = k;
        c.node.in[0] = qn_case_output_rows(&c, QUERN_F32, n, x);
        c.node.out[0] = qn_case_output_rows(&c, QUERN_I32, 2 * k, NULL);
        qn_case_run(&c);
        for (uint32_t o = 0; o < 3; o++)
            check_row(x + (size_t)o * n, n,
                      (int32_t *)(void *)qn_case_data(&c, c.node.out[0]) + (size_t)o * 2 * k, k,
                      cases[i].wanted);
        free(x);
        qn_case_finish(&c);
    }
}

/* ---- drawing ---- */

enum { N_VOCAB = 900 };

static struct quern_sampler *make(const struct quern_sampler_params *params)
{
    struct quern_sampler *s;
    check(quern_sampler_create(&s, N_VOCAB, params, NULL, &err));
    return s;
}

/* The best k by the order that the sampler has. */
static void sort_best(const float *logits, struct quern_candidate *best, uint32_t k)
{
    for (uint32_t i = 0, last = QUERN_NONE; i < k; i++) {
        uint32_t found = QUERN_NONE;
        for (uint32_t j = 0; j < N_VOCAB; j++)
            if ((last == QUERN_NONE || before(logits, last, j)) &&
                (found == QUERN_NONE || before(logits, j, found)))
                found = j;
        best[i] = (struct quern_candidate){(int32_t)found, logits[found]};
        last = found;
    }
}

static void test_draw(void **state)
{
    (void)state;
    const struct quern_sampler_params *const params[] = {
        quern_sampler_params(.temperature = 0), quern_sampler_params(.seed = 3),
        quern_sampler_params(.seed = 4, .top_k = 64, .top_p = 1, .min_p = 0, .temperature = 3),
        quern_sampler_params(.seed = 5, .top_k = 7, .top_p = 0.5f),
        quern_sampler_params(.seed = 6, .top_k = 1)};
    static const uint32_t needs[] = {1, 40, 64, 7, 1};
    for (size_t i = 0; i < QN_LEN(params); i++) {
        struct quern_sampler *all = make(params[i]), *few = make(params[i]);
        assert_int_equal(quern_sampler_n_best(few), needs[i]);
        for (int draw = 0; draw < 200; draw++) {
            float logits[N_VOCAB];
            struct quern_candidate best[QUERN_MAX_BEST];
            for (int t = 0; t < N_VOCAB; t++)
                logits[t] = (float)(noise() % 64) / (draw % 2 ? 16 : 4); /* with ties */
            sort_best(logits, best, QUERN_MAX_BEST);
            int32_t a, b;
            check(quern_sampler_draw(all, logits, &a, &err));
            check(quern_sampler_draw_best(few, best, draw % 3 ? needs[i] : QUERN_MAX_BEST, &b, &err));
            assert_int_equal(a, b);
        }
        quern_sampler_destroy(&all);
        quern_sampler_destroy(&few);
    }
}

static void test_needs_all(void **state)
{
    (void)state;
    const struct quern_logit_bias bias = {5, 1};
    const struct quern_sampler_params *const params[] = {
        quern_sampler_params(.top_k = 0),
        quern_sampler_params(.top_k = 65),
        quern_sampler_params(.top_k = N_VOCAB),
        quern_sampler_params(.repeat_penalty = 1.1f),
        quern_sampler_params(.bias = &bias, .n_bias = 1),
        quern_sampler_params(.temperature = 0, .n_probs = 1)};
    struct quern_candidate best[QUERN_MAX_BEST] = {{0, 0}};
    int32_t token;
    for (size_t i = 0; i < QN_LEN(params); i++) {
        struct quern_sampler *s = make(params[i]);
        assert_int_equal(quern_sampler_n_best(s), 0);
        assert_int_equal(quern_sampler_draw_best(s, best, QUERN_MAX_BEST, &token, &err), QUERN_ERR_PARAM);
        quern_sampler_destroy(&s);
    }
    struct quern_sampler *s = make(quern_sampler_params(.top_k = 9));
    assert_int_equal(quern_sampler_draw_best(s, best, 8, &token, &err), QUERN_ERR_PARAM);
    best[3].logit = NAN;
    assert_int_equal(quern_sampler_draw_best(s, best, 9, &token, &err), QUERN_ERR_NUMERIC);
    quern_sampler_destroy(&s);
}

/* ---- sessions and generations ---- */

static struct quern_model *open_model(void)
{
    static char path[1024];
    struct quern_model *model;
    qn_golden_path(path, sizeof path, "models", "llama.gguf");
    check(quern_model_open(&model, quern_source_path(path), NULL, &err));
    return model;
}

static struct quern_session *open_session(struct quern_model *model)
{
    struct quern_session *session;
    check(quern_session_create(&session, model, quern_session_params(.n_ctx = 128), &err));
    return session;
}

static void test_feed_best(void **state)
{
    (void)state;
    const int32_t tokens[] = {1, 17, 42, 5, 60};
    struct quern_model *model = open_model();
    struct quern_session *session = open_session(model);
    uint32_t n_vocab = quern_vocab_size(quern_model_vocab(model));
    check(quern_session_feed(session, 0, tokens, 5, &err));
    float *logits = malloc(n_vocab * sizeof *logits);
    assert_non_null(logits);
    memcpy(logits, quern_session_logits(session, 0), n_vocab * sizeof *logits);
    size_t n;
    assert_null(quern_session_best(session, &n));
    assert_int_equal(n, 0);
    check(quern_session_truncate(session, 0, 0, &err));
    check(quern_session_feed_best(session, 0, tokens, 5, 20, &err));
    const struct quern_candidate *best = quern_session_best(session, &n);
    assert_int_equal(n, 20);
    assert_int_equal(quern_session_n_logits(session), 0);
    assert_null(quern_session_logits(session, 0));
    for (uint32_t i = 0; i < n; i++) {
        assert_true(best[i].logit == logits[best[i].token]);
        uint32_t ahead = 0;
        for (uint32_t t = 0; t < n_vocab; t++)
            ahead += before(logits, t, (uint32_t)best[i].token);
        assert_int_equal(ahead, i);
    }
    assert_int_equal(quern_session_feed_best(session, 0, tokens, 1, 0, &err), QUERN_ERR_PARAM);
    assert_int_equal(quern_session_feed_best(session, 0, tokens, 1, QUERN_MAX_BEST + 1, &err),
                     QUERN_ERR_PARAM);
    free(logits);
    quern_session_destroy(&session);
    quern_model_destroy(&model);
}

/* One generation after another by samplers that need few, all and few logits, against a loop that draws from
 * all. */
static void test_generate(void **state)
{
    (void)state;
    enum { EACH = 12 };
    const int32_t prompt[] = {1, 17, 42};
    const struct quern_sampler_params *const params[] = {
        quern_sampler_params(.seed = 1, .top_k = 20), quern_sampler_params(.seed = 2, .top_k = 0),
        quern_sampler_params(.temperature = 0), quern_sampler_params(.seed = 3, .top_k = 33)};
    struct quern_model *model = open_model();
    struct quern_session *few = open_session(model), *all = open_session(model);
    uint32_t n_vocab = quern_vocab_size(quern_model_vocab(model));
    check(quern_session_prompt(few, 0, prompt, 3, NULL, &err));
    check(quern_session_prompt(all, 0, prompt, 3, NULL, &err));
    for (size_t i = 0; i < QN_LEN(params); i++) {
        struct quern_sampler *s;
        check(quern_sampler_create(&s, n_vocab, params[i], NULL, &err));
        check(quern_generate(few, quern_generate_params(.sampler = s, .max_tokens = EACH, .ignore_end = true),
                             NULL, &err));
        assert_int_equal(quern_session_n_logits(few), quern_sampler_n_best(s) == 0);
        quern_sampler_reset(s);
        for (int t = 0; t < EACH; t++) {
            int32_t token;
            check(quern_sampler_draw(s, quern_session_logits(all, 0), &token, &err));
            check(quern_session_feed(all, 0, &token, 1, &err));
        }
        quern_sampler_destroy(&s);
        size_t length = quern_session_length(all, 0);
        assert_int_equal(quern_session_length(few, 0), length);
        assert_memory_equal(quern_session_tokens(few, 0), quern_session_tokens(all, 0),
                            length * sizeof(int32_t));
    }
    quern_session_destroy(&few);
    quern_session_destroy(&all);
    quern_model_destroy(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_select),    cmocka_unit_test(test_draw),     cmocka_unit_test(test_needs_all),
        cmocka_unit_test(test_feed_best), cmocka_unit_test(test_generate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
