/* Several tokens in flight: steps that were started before their token was known give what they would have
 * given one after the other, whatever the caller does instead of going on. */
#include "test.h"

#include "heap.h"
#include "support/joints.h"
#include "support/proxy_driver.h"
#include "support/walk.h"

static const uint64_t DELAY_NS = 50 * 1000;

/* ---- random walks ---- */

enum { STEPS = 300 };

static const char *const names[] = {"llama", "gemma2", "mistral_swa", "qwen3moe"};

/* Both sessions on one model with the proxies, against each on a model of its own on the plain CPU. */
static void walk_on(const char *name, const char *device, uint32_t seed, uint32_t n)
{
    struct qn_walk_step got[STEPS], expected[STEPS];
    struct quern_model *apart[] = {qn_proxy_open(name, "cpu", NULL), qn_proxy_open(name, "cpu", NULL)};
    struct quern_model *model = qn_proxy_open(name, device, NULL);
    struct qn_walk_params params = {.model = {apart[0], apart[1]}, .seed = seed, .n_ctx = {70, 200}, .n = n};
    qn_walk(&params, expected);
    params.model[0] = params.model[1] = model;
    params.greedy = true;
    qn_walk(&params, got);
    assert_true(qn_walks_same(got, expected, n));
    quern_model_destroy(&model);
    quern_model_destroy(&apart[0]);
    quern_model_destroy(&apart[1]);
}

static void test_walks(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < QN_LEN(names); i++) {
        qn_proxy_reset();
        qn_proxy(0)->delay_ns = i % 2 ? DELAY_NS : 0;
        walk_on(names[i], "proxyA", 100 + i, STEPS);
        assert_true(qn_proxy(0)->tokens > STEPS / 4); /* and it went ahead */
        assert_true(qn_proxy(0)->late > 0);
        assert_int_equal(qn_proxy(0)->closes, 1);
    }
}

/* A device for each phase: the one that decodes goes ahead, and prompts come between. */
static void test_phases(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < QN_LEN(names); i++) {
        qn_proxy_reset();
        qn_proxy(1)->delay_ns = i % 2 ? DELAY_NS : 0;
        walk_on(names[i], "prefill=proxyA,decode=proxyB", 300 + i, STEPS);
        assert_true(qn_proxy(1)->tokens > STEPS / 8);
        assert_int_equal(qn_proxy(0)->tokens, 0);
        assert_true(qn_proxy(0)->calls[QN_PROXY_RUN] > STEPS / 100);
    }
}

/* Devices that cannot, and plans over several devices, go one after another. */
static void test_without(void **state)
{
    (void)state;
    qn_proxy_reset();
    qn_proxy(0)->no_ahead = true;
    walk_on("llama", "proxyA", 5, STEPS);
    assert_int_equal(qn_proxy(0)->tokens, 0);
}

/* Calls fail on the way, of steps ahead and of others: the second device goes on. */
static void test_faults(void **state)
{
    (void)state;
    static const enum qn_proxy_fault faults[] = {QN_PROXY_RUN, QN_PROXY_WAIT, QN_PROXY_COPY};
    enum { FEW = 60 };
    for (uint32_t at = 2; at < 60; at += 3)
        for (size_t f = 0; f < QN_LEN(faults); f++) {
            qn_proxy_reset();
            qn_proxy(0)->fault_at[faults[f]] = at;
            qn_proxy(0)->fault_status = at % 2 ? QUERN_ERR_DEVICE : QUERN_ERR_LOST;
            walk_on("llama", at % 4 < 2 ? "proxyA,proxyB" : "decode=proxyA,prefill=proxyB", at, FEW);
            assert_true(qn_proxy(0)->calls[faults[f]] < at || qn_proxy(1)->calls[QN_PROXY_RUN] > 0);
            assert_true(qn_proxy(0)->tokens + qn_proxy(1)->tokens > 0);
        }
}

/* ---- what a generation costs ---- */

static void test_generation(void **state)
{
    (void)state;
    enum { N = 40 };
    qn_proxy_reset();
    struct quern_model *model = qn_proxy_open("llama", "proxyA", NULL);
    struct quern_session *s;
    struct quern_sampler *sampler;
    struct quern_error err = {0};
    int32_t ids[9];
    qn_text(ids, 9, 3);
    assert_int_equal(quern_session_create(&s, model, NULL, &err), QUERN_OK);
    assert_int_equal(quern_session_feed(s, 0, ids, 9, &err), QUERN_OK);
    assert_int_equal(quern_session_feed(s, 0, ids, 1, &err), QUERN_OK); /* the plan for one token */
    assert_int_equal(quern_sampler_create(&sampler, quern_vocab_size(quern_model_vocab(model)),
                                          quern_sampler_params(.temperature = 0), NULL, &err),
                     QUERN_OK);
    uint32_t runs = qn_proxy(0)->calls[QN_PROXY_RUN];
    assert_int_equal(
        quern_generate(s, quern_generate_params(.sampler = sampler, .max_tokens = N, .ignore_end = true),
                       NULL, &err),
        QUERN_OK);
    assert_int_equal(qn_proxy(0)->calls[QN_PROXY_RUN] - runs, N); /* none for nothing */
    assert_int_equal(qn_proxy(0)->tokens, N - 1);
    quern_sampler_destroy(&sampler);
    quern_session_destroy(&s);
    quern_model_destroy(&model);
}

static void test_nothing_per_token(void **state)
{
    (void)state;
    enum { N = 50 };
    qn_proxy_reset();
    struct qn_test_heap heap;
    qn_test_heap_init(&heap);
    struct quern_model *model = qn_proxy_open("llama", "proxyA", &heap.cb);
    struct quern_session *s;
    struct quern_error err = {0};
    int32_t token = 5;
    size_t calls = 0, n_best;
    assert_int_equal(quern_session_create(&s, model, NULL, &err), QUERN_OK);
    for (int i = 0; i < N + 2; i++) {
        assert_int_equal(quern_session_feed_greedy(s, 0, &token, 1, &err), QUERN_OK);
        token = quern_session_best(s, &n_best)[0].token;
        if (i == 1)
            calls = heap.n_calls;
    }
    assert_int_equal(heap.n_calls, calls);
    assert_int_equal(qn_proxy(0)->tokens, N + 1);
    quern_session_destroy(&s); /* with a step under way */
    quern_model_destroy(&model);
    assert_int_equal(heap.n_live, 0);
}

/* A step ahead that cannot be had for want of memory does no harm. */
static void test_no_memory(void **state)
{
    (void)state;
    qn_proxy_reset();
    qn_proxy(0)->fault_status = QUERN_ERR_MEMORY;
    struct quern_model *model = qn_proxy_open("llama", "proxyA", NULL);
    struct quern_session *s;
    struct quern_error err = {0};
    int32_t token = 5;
    assert_int_equal(quern_session_create(&s, model, NULL, &err), QUERN_OK);
    assert_int_equal(quern_session_feed(s, 0, &token, 1, &err), QUERN_OK);
    qn_proxy(0)->fault_at[QN_PROXY_CREATE] = 1; /* the room for results, and pools */
    for (int i = 0; i < 8; i++)
        assert_int_equal(quern_session_feed_greedy(s, 0, &token, 1, &err), QUERN_OK);
    assert_int_equal(qn_proxy(0)->tokens, 0);
    quern_session_destroy(&s);
    quern_model_destroy(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_walks),
        cmocka_unit_test(test_phases),
        cmocka_unit_test(test_without),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_generation),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_nothing_per_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
