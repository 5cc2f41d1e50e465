/* The sampler against distributions computed the obvious way. */
#include "test.h"
#include "base/host.h"
#include <quern/session.h>

#include <math.h>

enum { N_VOCAB = 200, N_DRAWS = 20000 };

static uint32_t noise_state = 1;

static float noise(void)
{
    noise_state = noise_state * 1664525u + 1013904223u;
    return (float)(noise_state >> 8) / 16777216.0f;
}

static void fill(float *logits, size_t n, float spread)
{
    for (size_t i = 0; i < n; i++)
        logits[i] = (noise() - 0.5f) * spread;
}

static struct quern_sampler *make(const struct quern_sampler_params *params, uint32_t n_vocab)
{
    struct quern_sampler *s = NULL;
    struct quern_error err;
    if (quern_sampler_create(&s, n_vocab, params, NULL, &err) != QUERN_OK)
        fail_msg("%s", err.text);
    return s;
}

/* ---- the obvious way: sort everything, cut, normalise ---- */

static const float *sort_logits;

static int by_logit(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    if (sort_logits[x] != sort_logits[y])
        return sort_logits[x] > sort_logits[y] ? -1 : 1;
    return x - y;
}

static void expect(const struct quern_sampler_params *p, const float *raw, int n, const int *history,
                   int n_history, double *prob)
{
    float *logits = malloc((size_t)n * sizeof *logits);
    int *order = malloc((size_t)n * sizeof *order);
    memcpy(logits, raw, (size_t)n * sizeof *logits);
    for (size_t i = 0; i < p->n_bias; i++)
        logits[p->bias[i].token] += p->bias[i].bias;
    int first = n_history > (int)p->penalty_last_n ? n_history - (int)p->penalty_last_n : 0;
    for (int t = 0; t < n; t++) {
        int count = 0;
        for (int i = first; i < n_history; i++)
            count += history[i] == t;
        if (count == 0)
            continue;
        logits[t] = logits[t] > 0 ? logits[t] / p->repeat_penalty : logits[t] * p->repeat_penalty;
        logits[t] -= p->presence_penalty + (float)count * p->frequency_penalty;
    }
    int kept = 0;
    for (int i = 0; i < n; i++)
        if (logits[i] > -INFINITY)
            order[kept++] = i;
    sort_logits = logits;
    qsort(order, (size_t)kept, sizeof *order, by_logit);
    if (p->top_k > 0 && (int)p->top_k < kept)
        kept = (int)p->top_k;
    double sum = 0, mass = 0;
    for (int i = 0; i < kept; i++)
        sum += exp((double)logits[order[i]] - logits[order[0]]);
    int k = 0;
    while (k < kept && (k == 0 || mass < p->top_p * sum))
        mass += exp((double)logits[order[k++]] - logits[order[0]]);
    kept = k;
    while (kept > 1 && exp((double)logits[order[kept - 1]] - logits[order[0]]) < p->min_p)
        kept--;
    double total = 0;
    memset(prob, 0, (size_t)n * sizeof *prob);
    for (int i = 0; i < kept; i++)
        total += prob[order[i]] = exp(((double)logits[order[i]] - logits[order[0]]) / p->temperature);
    for (int i = 0; i < n; i++)
        prob[i] /= total;
    free(order);
    free(logits);
}

/* Draws often and compares the frequencies with the distribution. */
static void compare(const struct quern_sampler_params *p, const int *history, int n_history)
{
    float logits[N_VOCAB];
    double prob[N_VOCAB];
    int seen[N_VOCAB] = {0};
    fill(logits, N_VOCAB, 6.0f);
    expect(p, logits, N_VOCAB, history, n_history, prob);
    struct quern_sampler *s = make(p, N_VOCAB);
    for (int i = 0; i < n_history; i++)
        quern_sampler_accept(s, history[i]);
    for (int i = 0; i < N_DRAWS; i++) {
        int32_t token = -1;
        assert_int_equal(quern_sampler_draw(s, logits, &token, NULL), QUERN_OK);
        assert_true(token >= 0 && token < N_VOCAB);
        seen[token]++;
    }
    for (int t = 0; t < N_VOCAB; t++) {
        if (prob[t] == 0 && seen[t] > 0)
            fail_msg("token %d cannot be drawn and was drawn %d times", t, seen[t]);
        double sigma = sqrt(prob[t] * (1 - prob[t]) * N_DRAWS);
        if (fabs(seen[t] - prob[t] * N_DRAWS) > 6 * sigma + 5)
            fail_msg("token %d: expected %.1f, drawn %d", t, prob[t] * N_DRAWS, seen[t]);
    }
    quern_sampler_destroy(&s);
    assert_null(s);
}

#define PLAIN .temperature = 1, .top_k = 0, .top_p = 1, .min_p = 0

static void test_distributions(void **state)
{
    (void)state;
    compare(quern_sampler_params(.seed = 1), NULL, 0);
    compare(quern_sampler_params(PLAIN, .seed = 2), NULL, 0);
    compare(quern_sampler_params(PLAIN, .seed = 3, .temperature = 0.5f), NULL, 0);
    compare(quern_sampler_params(PLAIN, .seed = 4, .top_k = 7), NULL, 0);
    compare(quern_sampler_params(PLAIN, .seed = 5, .top_p = 0.6f), NULL, 0);
    compare(quern_sampler_params(PLAIN, .seed = 6, .min_p = 0.2f), NULL, 0);
    compare(quern_sampler_params(PLAIN, .seed = 7, .top_p = 0.9f, .min_p = 0.1f, .temperature = 1.5f), NULL,
            0);
    compare(quern_sampler_params(PLAIN, .seed = 8, .top_p = 0.9f, .top_k = 20, .min_p = 0.3f), NULL, 0);
    compare(quern_sampler_params(PLAIN, .seed = 9, .top_p = 0), NULL, 0);
    compare(quern_sampler_params(PLAIN, .seed = 10, .top_k = 5000, .top_p = 0.99f), NULL, 0);
}

static void test_penalties(void **state)
{
    (void)state;
    int history[300];
    for (int i = 0; i < 300; i++)
        history[i] = (int)(noise() * 30);
    compare(quern_sampler_params(PLAIN, .seed = 1, .repeat_penalty = 1.7f), history, 300);
    compare(quern_sampler_params(PLAIN, .seed = 2, .presence_penalty = 0.8f), history, 300);
    compare(quern_sampler_params(PLAIN, .seed = 3, .frequency_penalty = 0.4f), history, 300);
    compare(quern_sampler_params(PLAIN, .seed = 4, .repeat_penalty = 0.8f, .frequency_penalty = -0.1f,
                                 .presence_penalty = 0.3f, .penalty_last_n = 7, .top_k = 50),
            history, 300);
    compare(quern_sampler_params(PLAIN, .seed = 5, .repeat_penalty = 2, .penalty_last_n = 0), history, 300);
    compare(quern_sampler_params(PLAIN, .seed = 6, .repeat_penalty = 2, .penalty_last_n = 1000), history,
            300);
}

static void test_bias(void **state)
{
    (void)state;
    struct quern_logit_bias bias[] = {{3, 4.0f}, {5, -INFINITY}, {7, -2.0f}, {3, 1.0f}};
    compare(quern_sampler_params(PLAIN, .seed = 1, .bias = bias, .n_bias = 4), NULL, 0);
    compare(quern_sampler_params(.seed = 2, .bias = bias, .n_bias = 4), NULL, 0);

    float logits[4] = {1, 5, 2, 3};
    struct quern_logit_bias all[] = {{0, -INFINITY}, {1, -INFINITY}, {2, -INFINITY}, {3, -INFINITY}};
    int32_t token = -1;
    struct quern_error err;
    for (int t = 0; t < 3; t++) {
        struct quern_sampler *s =
            make(quern_sampler_params(.temperature = t == 0 ? 0 : 1, .top_k = t == 1 ? 2 : 0, .bias = all,
                                      .n_bias = 3),
                 4);
        assert_int_equal(quern_sampler_draw(s, logits, &token, &err), QUERN_OK);
        assert_int_equal(token, 3);
        quern_sampler_destroy(&s);
        s = make(quern_sampler_params(.temperature = t == 0 ? 0 : 1, .top_k = t == 1 ? 2 : 0, .bias = all,
                                      .n_bias = 4),
                 4);
        assert_int_equal(quern_sampler_draw(s, logits, &token, &err), QUERN_ERR_PARAM);
        quern_sampler_destroy(&s);
    }
}

static void test_greedy(void **state)
{
    (void)state;
    float logits[6] = {1, 3, 2, 3, -1, 3};
    int32_t token = -1;
    struct quern_sampler *s = make(quern_sampler_params(.temperature = 0, .repeat_penalty = 4), 6);
    assert_int_equal(quern_sampler_draw(s, logits, &token, NULL), QUERN_OK);
    assert_int_equal(token, 1); /* of equals the lowest id */
    quern_sampler_accept(s, 1);
    assert_int_equal(quern_sampler_draw(s, logits, &token, NULL), QUERN_OK);
    assert_int_equal(token, 3);
    quern_sampler_reset(s);
    assert_int_equal(quern_sampler_draw(s, logits, &token, NULL), QUERN_OK);
    assert_int_equal(token, 1);
    quern_sampler_destroy(&s);
}

/* Fixed numbers: the same on every platform, and for ever. */
static void test_seed(void **state)
{
    (void)state;
    enum { N = 64, BIG = 5000 };
    static float logits[BIG];
    fill(logits, BIG, 8.0f);
    int32_t first[N], other[N];
    int differ = 0;
    struct quern_sampler *s = make(quern_sampler_params(.seed = 42, .top_k = 0), BIG);
    for (int i = 0; i < N; i++)
        assert_int_equal(quern_sampler_draw(s, logits, &first[i], NULL), QUERN_OK);
    quern_sampler_reset(s);
    for (int i = 0; i < N; i++) {
        assert_int_equal(quern_sampler_draw(s, logits, &other[i], NULL), QUERN_OK);
        assert_int_equal(first[i], other[i]);
    }
    quern_sampler_destroy(&s);
    s = make(quern_sampler_params(.seed = 43, .top_k = 0), BIG);
    for (int i = 0; i < N; i++) {
        assert_int_equal(quern_sampler_draw(s, logits, &other[i], NULL), QUERN_OK);
        differ += first[i] != other[i];
    }
    assert_true(differ > N / 2);
    quern_sampler_destroy(&s);

    float flat[1000] = {0};
    static const int32_t known[] = {954, 159, 271, 699, 514, 214, 643, 472, 974, 548, 405, 769};
    s = make(quern_sampler_params(PLAIN, .seed = 1234), 1000);
    for (size_t i = 0; i < QN_LEN(known); i++) {
        int32_t token;
        assert_int_equal(quern_sampler_draw(s, flat, &token, NULL), QUERN_OK);
        assert_int_equal(token, known[i]);
    }
    quern_sampler_destroy(&s);
}

static void test_probs(void **state)
{
    (void)state;
    float logits[N_VOCAB];
    fill(logits, N_VOCAB, 6.0f);
    logits[17] = logits[90] = 9.0f;
    struct quern_logit_bias bias = {17, -INFINITY};
    struct quern_sampler *s =
        make(quern_sampler_params(.temperature = 0, .n_probs = 500, .bias = &bias, .n_bias = 1), N_VOCAB);
    size_t n;
    assert_null(quern_sampler_probs(s, &n));
    assert_int_equal(n, 0);
    int32_t token;
    assert_int_equal(quern_sampler_draw(s, logits, &token, NULL), QUERN_OK);
    assert_int_equal(token, 90);
    const struct quern_prob *probs = quern_sampler_probs(s, &n);
    assert_int_equal(n, N_VOCAB);
    assert_int_equal(probs[0].token, 17); /* before biases */
    assert_int_equal(probs[1].token, 90);
    double sum = 0, total = 0;
    for (size_t i = 0; i < N_VOCAB; i++)
        total += exp((double)logits[i]);
    for (size_t i = 0; i < n; i++) {
        sum += probs[i].prob;
        assert_true(probs[i].logit == logits[probs[i].token]);
        assert_true(fabs(probs[i].prob - exp((double)probs[i].logit) / total) < 1e-6);
        assert_true(i == 0 || probs[i].logit <= probs[i - 1].logit);
    }
    assert_true(fabs(sum - 1) < 1e-4);
    quern_sampler_destroy(&s);

    s = make(quern_sampler_params(.n_probs = 3), N_VOCAB);
    assert_int_equal(quern_sampler_draw(s, logits, &token, NULL), QUERN_OK);
    probs = quern_sampler_probs(s, &n);
    assert_int_equal(n, 3);
    assert_int_equal(probs[1].token, 90);
    quern_sampler_destroy(&s);
}

static void test_not_finite(void **state)
{
    (void)state;
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int b = 0; b < 3; b++)
        for (int greedy = 0; greedy < 2; greedy++) {
            float logits[8] = {0};
            logits[5] = bad[b];
            struct quern_sampler *s = make(quern_sampler_params(.temperature = greedy ? 0 : 1), 8);
            int32_t token;
            struct quern_error err;
            assert_int_equal(quern_sampler_draw(s, logits, &token, &err), QUERN_ERR_NUMERIC);
            assert_non_null(strstr(err.text, "token 5"));
            quern_sampler_destroy(&s);
        }
}

static void test_params(void **state)
{
    (void)state;
    struct quern_logit_bias outside = {8, 1.0f}, infinite = {1, INFINITY};
    const struct quern_sampler_params bad[] = {
        {.temperature = -1, .repeat_penalty = 1, .top_p = 1},
        {.temperature = NAN, .repeat_penalty = 1, .top_p = 1},
        {.repeat_penalty = 0, .top_p = 1},
        {.repeat_penalty = 1, .top_p = 1.5f},
        {.repeat_penalty = 1, .top_p = 1, .min_p = -0.5f},
        {.repeat_penalty = 1, .top_p = 1, .presence_penalty = INFINITY},
        {.repeat_penalty = 1, .top_p = 1, .bias = &outside, .n_bias = 1},
        {.repeat_penalty = 1, .top_p = 1, .bias = &infinite, .n_bias = 1},
    };
    struct quern_sampler *s;
    for (size_t i = 0; i < QN_LEN(bad); i++) {
        struct quern_error err = {0};
        assert_int_equal(quern_sampler_create(&s, 8, &bad[i], NULL, &err), QUERN_ERR_PARAM);
        assert_null(s);
        assert_true(err.text[0] != '\0');
    }
    assert_int_equal(quern_sampler_create(&s, 0, quern_sampler_params(), NULL, NULL), QUERN_ERR_PARAM);
}

/* ---- memory ---- */

struct counted {
    int left; /* allocations that succeed */
    int total, live;
};

static void *counted_alloc(void *user, size_t size, size_t align)
{
    struct counted *c = user;
    void *ptr = NULL;
    if (c->left == 0)
        return NULL;
    c->left--;
    c->total++;
    c->live++;
    size = (size + align - 1) / align * align;
    ptr = aligned_alloc(align, size);
    return ptr;
}

static void counted_free(void *user, void *ptr)
{
    struct counted *c = user;
    c->live--;
    free(ptr);
}

static void test_memory(void **state)
{
    (void)state;
    struct quern_logit_bias bias = {1, 1.0f};
    const struct quern_sampler_params *p =
        quern_sampler_params(.n_probs = 4, .repeat_penalty = 1.1f, .bias = &bias, .n_bias = 1, .top_k = 0);
    float logits[N_VOCAB];
    fill(logits, N_VOCAB, 4.0f);
    for (int allowed = 0;; allowed++) {
        struct counted c = {.left = allowed};
        struct quern_callbacks cb = {.user = &c, .alloc = counted_alloc, .free = counted_free};
        struct quern_sampler *s;
        enum quern_status status = quern_sampler_create(&s, N_VOCAB, p, &cb, NULL);
        if (status == QUERN_OK) {
            int made = c.total;
            c.left = 0;
            for (int i = 0; i < 100; i++) {
                int32_t token;
                assert_int_equal(quern_sampler_draw(s, logits, &token, NULL), QUERN_OK);
                quern_sampler_accept(s, token);
            }
            assert_int_equal(c.total, made);
            quern_sampler_destroy(&s);
            assert_int_equal(c.live, 0);
            assert_true(allowed > 5);
            break;
        }
        assert_int_equal(status, QUERN_ERR_MEMORY);
        assert_null(s);
        assert_int_equal(c.live, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distributions), cmocka_unit_test(test_penalties), cmocka_unit_test(test_bias),
        cmocka_unit_test(test_greedy),        cmocka_unit_test(test_seed),      cmocka_unit_test(test_probs),
        cmocka_unit_test(test_not_finite),    cmocka_unit_test(test_params),    cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
