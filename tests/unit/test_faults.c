/* Devices that come late, that share the work, that fail: the joints between planner, sessions and drivers,
 * and memory that runs out at any point. */
#include "test.h"

#include "drivers/null/null.h"
#include "heap.h"
#include "support/joints.h"
#include "support/proxy_driver.h"

static const uint64_t DELAY_NS = 50 * 1000;

/* What the text gives on the plain CPU. */
static struct qn_rows expected_rows(const char *name, uint32_t salt)
{
    struct quern_model *model = qn_proxy_open(name, "cpu", NULL);
    struct qn_rows rows;
    struct quern_error err = {0};
    if (qn_text_alone(model, NULL, salt, &rows, &err))
        fail_msg("%s", err.text);
    quern_model_destroy(&model);
    return rows;
}

/* ---- nothing per token ---- */

static void decode_allocates_nothing(const char *name, const char *device)
{
    enum { STEPS = 100 };
    qn_proxy_reset();
    struct qn_test_heap heap;
    qn_test_heap_init(&heap);
    struct quern_model *model = qn_proxy_open(name, device, &heap.cb);
    struct quern_session *s;
    struct quern_error err = {0};
    assert_int_equal(quern_session_create(&s, model, NULL, &err), QUERN_OK);
    int32_t ids[40 + STEPS];
    qn_text(ids, 40 + STEPS, 1);
    assert_int_equal(quern_session_feed(s, 0, ids, 40, &err), QUERN_OK);
    assert_int_equal(quern_session_feed(s, 0, ids, 1, &err), QUERN_OK); /* the plan for one token */
    bool null = strcmp(device, "null") == 0;
    uint64_t prepares = null ? qn_null_counts(model->devices[0].handle).prepares
                             : qn_proxy(0)->calls[QN_PROXY_PREPARE] + qn_proxy(1)->calls[QN_PROXY_PREPARE];
    assert_true(prepares >= 2);
    size_t calls = heap.n_calls;
    for (int i = 0; i < STEPS; i++)
        assert_int_equal(quern_session_feed(s, 0, &ids[40 + i], 1, &err), QUERN_OK);
    assert_int_equal(heap.n_calls, calls);
    if (null) {
        struct qn_null_counts counts = qn_null_counts(model->devices[0].handle);
        assert_int_equal(counts.prepares, prepares);
        assert_int_equal(counts.runs, STEPS + 2);
        assert_int_equal(counts.nodes, (uint64_t)(STEPS + 2) * model->graph.view.n_nodes);
    } else {
        assert_int_equal(qn_proxy(0)->calls[QN_PROXY_PREPARE] + qn_proxy(1)->calls[QN_PROXY_PREPARE],
                         prepares);
        assert_int_equal(qn_proxy(0)->calls[QN_PROXY_RUN] + qn_proxy(1)->calls[QN_PROXY_RUN], STEPS + 2);
    }
    quern_session_destroy(&s);
    quern_model_destroy(&model);
    assert_int_equal(heap.n_live, 0);
}

static void test_nothing_per_token(void **state)
{
    decode_allocates_nothing("llama", "null");
    decode_allocates_nothing("qwen3moe", "null");
    decode_allocates_nothing("gemma2", "null");
    decode_allocates_nothing("llama", "proxyA");
    decode_allocates_nothing("qwen3moe", "proxyA,proxyB");
    decode_allocates_nothing("qllama.Q4_K_M", "proxyA");
    decode_allocates_nothing("gemma2", "prefill=proxyA,decode=proxyB");
}

/* ---- split graphs ---- */

static bool touches_kv(const struct quern_node *node)
{
    return node->op == QUERN_OP_ATTENTION;
}

/* Fills place[] for one of several ways to split a graph over two devices; false: there are no more. */
static bool next_split(const struct quern_graph *g, uint32_t number, uint8_t *place)
{
    uint32_t cuts = g->n_nodes + 1;
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const struct quern_node *node = quern_graph_node(g, i);
        bool b;
        if (number < cuts)
            b = i >= number;
        else if (number == cuts)
            b = i % 2 == 0;
        else if (number == cuts + 1)
            b = i % 2 == 1;
        else if (number == cuts + 2) /* a layer's keys are stored on one device and read on the other */
            b = touches_kv(node);
        else if (number == cuts + 3)
            b = node->op == QUERN_OP_KV_STORE;
        else /* layers in turn: a group of KV layers has a home on each device */
            b = node->layer != QUERN_NONE && node->layer % 2 == 1;
        place[i] = b;
    }
    return number <= cuts + 4;
}

static void split_everywhere(const char *name)
{
    qn_proxy_reset();
    struct qn_rows want = expected_rows(name, 3);
    qn_proxy(0)->delay_ns = qn_proxy(1)->delay_ns = DELAY_NS;
    struct quern_model *model = qn_proxy_open(name, "proxyA,proxyB", NULL);
    uint8_t *place = malloc(model->graph.view.n_nodes);
    for (uint32_t number = 0; next_split(&model->graph.view, number, place); number++) {
        uint32_t runs[2] = {qn_proxy(0)->calls[QN_PROXY_RUN], qn_proxy(1)->calls[QN_PROXY_RUN]};
        qn_place_both(model, place);
        struct qn_rows rows;
        struct quern_error err = {0};
        enum quern_status status = qn_text_alone(model, NULL, 3, &rows, &err);
        if (status || !qn_rows_same(&rows, &want))
            fail_msg("%s: split %u: %s", name, number, err.text);
        qn_rows_free(&rows);
        bool a = memchr(place, 0, model->graph.view.n_nodes), b = memchr(place, 1, model->graph.view.n_nodes);
        assert_int_equal(qn_proxy(0)->calls[QN_PROXY_RUN] > runs[0], a);
        assert_int_equal(qn_proxy(1)->calls[QN_PROXY_RUN] > runs[1], b);
    }
    assert_true(qn_proxy(0)->late > 0 && qn_proxy(1)->late > 0); /* it really came late */
    free(place);
    quern_model_destroy(&model);
    qn_rows_free(&want);
}

static void test_split_llama(void **state)
{
    split_everywhere("llama");
}

static void test_split_gemma2(void **state)
{
    split_everywhere("gemma2");
}

static void test_split_qwen3moe(void **state)
{
    split_everywhere("qwen3moe");
}

/* ---- a device for each phase ---- */

/* Prompts and answers by turns: what the other phase has written comes over, and no more runs than needed. */
static void phases_by_turns(const char *name)
{
    static const uint32_t feeds[] = {20, 1, 1, 18, 1, 3, 1}; /* more than 16: prefill */
    qn_proxy_reset();
    struct qn_rows want = expected_rows(name, 14);
    struct quern_model *model = qn_proxy_open(name, "prefill=proxyA,decode=proxyB", NULL);
    struct quern_session *s;
    struct quern_error err = {0};
    assert_int_equal(quern_session_create(&s, model, quern_session_params(.n_seqs = 2), &err), QUERN_OK);
    int32_t ids[QN_TEXT_ROWS];
    qn_text(ids, QN_TEXT_ROWS, 14);
    uint32_t at = 0;
    for (size_t i = 0; i < QN_LEN(feeds); i++) {
        const uint32_t runs[2] = {qn_proxy(0)->calls[QN_PROXY_RUN], qn_proxy(1)->calls[QN_PROXY_RUN]};
        assert_int_equal(quern_session_feed(s, 0, ids + at, feeds[i], &err), QUERN_OK);
        at += feeds[i];
        assert_true(qn_last_row_is(s, &want, at - 1));
        assert_int_equal(qn_proxy(0)->calls[QN_PROXY_RUN], runs[0] + (feeds[i] > 16));
        assert_int_equal(qn_proxy(1)->calls[QN_PROXY_RUN], runs[1] + (feeds[i] <= 16));
    }
    assert_int_equal(quern_model_device_work(model, 0), QUERN_WORK_PREFILL);
    assert_int_equal(quern_model_device_work(model, 1), QUERN_WORK_DECODE);
    assert_int_equal(quern_model_device_work(model, 2), 0);
    /* a fork shares pages that only one phase has, and both go on */
    assert_int_equal(quern_session_truncate(s, 0, 41, &err), QUERN_OK);
    assert_int_equal(quern_session_fork(s, 1, 0, &err), QUERN_OK);
    for (uint32_t seq = 2; seq-- > 0;) {
        assert_int_equal(quern_session_feed(s, seq, ids + 41, 1, &err), QUERN_OK);
        assert_true(qn_last_row_is(s, &want, 41));
    }
    assert_int_equal(quern_session_truncate(s, 0, 10, &err), QUERN_OK);
    assert_int_equal(quern_session_feed(s, 0, ids + 10, 17, &err), QUERN_OK);
    assert_true(qn_last_row_is(s, &want, 26));
    assert_int_equal(quern_session_feed(s, 1, ids + 42, 1, &err), QUERN_OK);
    assert_true(qn_last_row_is(s, &want, 42));
    quern_session_destroy(&s);
    quern_model_destroy(&model);
    qn_rows_free(&want);
}

static void test_phases(void **state)
{
    phases_by_turns("llama");
    phases_by_turns("gemma2");
    phases_by_turns("qwen3moe");
}

/* Either of them fails, and the other one does both. */
static void test_phases_take_over(void **state)
{
    static const enum qn_proxy_fault faults[] = {QN_PROXY_OPEN, QN_PROXY_CREATE, QN_PROXY_PREPARE,
                                                 QN_PROXY_RUN, QN_PROXY_WAIT};
    struct qn_rows want = expected_rows("gemma2", 15);
    for (unsigned bad = 0; bad < 2; bad++)
        for (size_t f = 0; f < QN_LEN(faults); f++)
            for (uint32_t n = 1; n <= 3; n += 2) {
                qn_proxy_reset();
                qn_proxy(bad)->fault_at[faults[f]] = n;
                qn_proxy(bad)->fault_status = QUERN_ERR_LOST;
                qn_proxy(0)->max_pool_bytes = qn_proxy(1)->max_pool_bytes = 1;
                struct qn_test_heap heap;
                qn_test_heap_init(&heap);
                struct quern_model *model = qn_proxy_open("gemma2", "prefill=proxyA,decode=proxyB", &heap.cb);
                struct quern_error err = {0};
                struct qn_rows rows;
                if (qn_text_alone(model, quern_session_params(.n_batch = 20), 15, &rows, &err) ||
                    !qn_rows_same(&rows, &want))
                    fail_msg("device %u, fault %zu, call %u: %s", bad, f, n, err.text);
                bool failed = qn_proxy(bad)->calls[faults[f]] >= n;
                assert_int_equal(quern_model_device_count(model), failed ? 1 : 2);
                if (failed)
                    assert_int_equal(quern_model_device_work(model, 0),
                                     QUERN_WORK_PREFILL | QUERN_WORK_DECODE);
                assert_true(failed || n > 1);
                quern_model_destroy(&model);
                assert_int_equal(heap.n_live, 0);
                qn_rows_free(&rows);
            }
    qn_rows_free(&want);
}

/* A session follows its model to another placement in the middle of a text. */
static void test_place_changes(void **state)
{
    qn_proxy_reset();
    struct qn_rows want = expected_rows("gemma2", 4);
    struct quern_model *model = qn_proxy_open("gemma2", "proxyA,proxyB", NULL);
    uint8_t *place = malloc(model->graph.view.n_nodes);
    struct quern_session *s;
    struct quern_error err = {0};
    assert_int_equal(quern_session_create(&s, model, quern_session_params(.n_batch = 16), &err), QUERN_OK);
    int32_t ids[QN_TEXT_ROWS];
    qn_text(ids, QN_TEXT_ROWS, 4);
    for (uint32_t i = 0; i < QN_TEXT_ROWS; i++) {
        if (i % 4 == 0) {
            next_split(&model->graph.view, i % 8 == 0 ? i : model->graph.view.n_nodes + 1 + i % 5, place);
            qn_place_both(model, place);
        }
        assert_int_equal(quern_session_feed(s, 0, &ids[i], 1, &err), QUERN_OK);
        assert_true(qn_last_row_is(s, &want, i));
    }
    free(place);
    quern_session_destroy(&s);
    quern_model_destroy(&model);
    qn_rows_free(&want);
}

/* Pools of one page each, weights that must be copied: the same bits. */
static void test_small_buffers(void **state)
{
    qn_proxy_reset();
    struct qn_rows want = expected_rows("llama", 5);
    qn_proxy(0)->max_pool_bytes = 1;
    qn_proxy(0)->no_import = true;
    struct qn_test_heap heap;
    qn_test_heap_init(&heap);
    struct quern_model *model = qn_proxy_open("llama", "proxyA", &heap.cb);
    assert_int_equal(qn_proxy(0)->calls[QN_PROXY_IMPORT], 0);
    struct quern_session *s;
    struct quern_error err = {0};
    assert_int_equal(quern_session_create(&s, model, NULL, &err), QUERN_OK);
    struct qn_rows rows;
    assert_int_equal(qn_text_run(s, 0, 5, &rows, &err), QUERN_OK);
    assert_true(qn_rows_same(&rows, &want));
    assert_int_equal(s->kv.group[0].n_pools, 2);
    assert_int_equal(qn_pages_in_use(s), 2);
    quern_session_destroy(&s);
    quern_model_destroy(&model);
    assert_int_equal(heap.n_live, 0);
    qn_rows_free(&rows);
    qn_rows_free(&want);
}

/* ---- several sessions ---- */

static void test_sessions_share_plans(void **state)
{
    qn_proxy_reset();
    struct qn_rows want[2] = {expected_rows("qwen3moe", 6), expected_rows("qwen3moe", 7)};
    struct quern_model *model = qn_proxy_open("qwen3moe", "proxyA", NULL);
    struct quern_error err = {0};
    for (int i = 0; i < 2; i++) { /* the largest arena is there after the first time */
        struct qn_rows rows;
        assert_int_equal(qn_text_alone(model, NULL, 6, &rows, &err), QUERN_OK);
        qn_rows_free(&rows);
    }
    uint32_t prepares = qn_proxy(0)->calls[QN_PROXY_PREPARE];
    struct quern_session *s[2];
    int32_t ids[2][QN_TEXT_ROWS];
    for (int i = 0; i < 2; i++) {
        qn_text(ids[i], QN_TEXT_ROWS, 6u + (uint32_t)i);
        assert_int_equal(quern_session_create(&s[i], model, NULL, &err), QUERN_OK);
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(quern_session_feed(s[i], 0, ids[i], QN_TEXT_PROMPT, &err), QUERN_OK);
    for (int t = QN_TEXT_PROMPT; t < QN_TEXT_ROWS; t++)
        for (int i = 0; i < 2; i++) {
            assert_int_equal(quern_session_feed(s[i], 0, &ids[i][t], 1, &err), QUERN_OK);
            assert_true(qn_last_row_is(s[i], &want[i], (size_t)t));
        }
    assert_int_equal(qn_proxy(0)->calls[QN_PROXY_PREPARE], prepares + 1); /* 48 tokens with one row */
    for (int i = 0; i < 2; i++) {
        quern_session_destroy(&s[i]);
        qn_rows_free(&want[i]);
    }
    quern_model_destroy(&model);
}

struct party {
    struct quern_model *model;
    uint32_t salt;
    enum quern_status status;
    struct qn_rows rows;
    struct quern_error err;
};

static void be_party(void *arg)
{
    struct party *party = arg;
    for (int i = 0; i < 3 && !party->status; i++) {
        qn_rows_free(&party->rows);
        party->status = qn_text_alone(party->model, NULL, party->salt, &party->rows, &party->err);
        (void)quern_model_device_count(party->model);
    }
}

static void two_threads(const char *name, const char *device, uint32_t fail_run, uint32_t devices_left)
{
    qn_proxy_reset();
    qn_proxy(0)->fault_at[QN_PROXY_RUN] = fail_run;
    qn_proxy(0)->fault_status = QUERN_ERR_LOST;
    struct quern_model *model = qn_proxy_open(name, device, NULL);
    struct party party[2] = {{.model = model, .salt = 8}, {.model = model, .salt = 9}};
    struct qn_thread thread[2];
    for (int i = 0; i < 2; i++)
        assert_true(qn_thread_start(&thread[i], be_party, &party[i]));
    for (int i = 0; i < 2; i++)
        qn_thread_join(&thread[i]);
    assert_int_equal(quern_model_device_count(model), devices_left);
    quern_model_destroy(&model);
    for (int i = 0; i < 2; i++) {
        struct qn_rows want = expected_rows(name, party[i].salt);
        assert_int_equal(party[i].status, QUERN_OK);
        assert_true(qn_rows_same(&party[i].rows, &want));
        qn_rows_free(&want);
        qn_rows_free(&party[i].rows);
    }
}

static void test_two_threads(void **state)
{
    two_threads("llama", "cpu", 0, 1);
    two_threads("qwen3moe", "proxyA", 0, 1);
    for (uint32_t n = 1; n < 40; n += 6) /* one of them finds that a device is gone */
        two_threads("llama", "proxyA,proxyB", n, 1);
}

/* ---- devices that fail ---- */

static const enum quern_status statuses[] = {QUERN_ERR_DEVICE, QUERN_ERR_LOST, QUERN_ERR_TIMEOUT,
                                             QUERN_ERR_MEMORY, QUERN_ERR_UNSUPPORTED};

/* The text on two devices of which the first fails, its layers split over both where `split`: the other one
 * takes over. */
static void other_takes_over(enum qn_proxy_fault what, uint32_t n, enum quern_status status, bool split,
                             const struct qn_rows *want)
{
    qn_proxy_reset();
    qn_proxy(0)->fault_at[what] = n;
    qn_proxy(0)->fault_status = status;
    qn_proxy(0)->max_pool_bytes = qn_proxy(1)->max_pool_bytes = 1; /* many buffers */
    qn_proxy(0)->no_import = what == QN_PROXY_CREATE;
    qn_proxy(0)->delay_ns = 20 * 1000;
    struct qn_test_heap heap;
    qn_test_heap_init(&heap);
    struct quern_model *model = qn_proxy_open("llama", "proxyA,proxyB", &heap.cb);
    struct quern_error err = {0};
    struct qn_rows rows;
    uint8_t place[64];
    if (split && quern_model_device_count(model) == 2) {
        next_split(&model->graph.view, model->graph.view.n_nodes + 5, place);
        qn_place_both(model, place);
    }
    enum quern_status result = qn_text_alone(model, quern_session_params(.n_batch = 16), 10, &rows, &err);
    if (result || !qn_rows_same(&rows, want))
        fail_msg("fault of kind %d, call %u, %s: %s", (int)what, n, quern_status_name(status), err.text);
    if (qn_proxy(0)->calls[what] < n)
        fail_msg("fault of kind %d, call %u was not reached: %u calls", (int)what, n,
                 qn_proxy(0)->calls[what]);
    assert_int_equal(heap.n_warnings, 1);
    assert_non_null(strstr(heap.warning, "proxyA"));
    assert_non_null(strstr(heap.warning, what == QN_PROXY_CAPS ? "alignment" : "injected fault"));
    assert_int_equal(quern_model_device_count(model), 1);
    assert_string_equal(quern_model_device(model, 0)->id, "proxyB");
    assert_null(quern_model_device(model, 1));
    quern_model_destroy(&model);
    assert_int_equal(heap.n_live, 0);
    qn_rows_free(&rows);
}

static void test_other_takes_over(void **state)
{
    struct qn_rows want = expected_rows("llama", 10);
    for (size_t i = 0; i < QN_LEN(statuses); i++) {
        if (statuses[i] != QUERN_ERR_UNSUPPORTED)
            other_takes_over(QN_PROXY_OPEN, 1, statuses[i], false, &want);
        for (uint32_t n = 1; n <= 2; n++) /* 16 tokens, one token */
            other_takes_over(QN_PROXY_PREPARE, n, statuses[i], false, &want);
        if (statuses[i] != QUERN_ERR_UNSUPPORTED) /* the weights are copied then */
            other_takes_over(QN_PROXY_IMPORT, 1, statuses[i], false, &want);
        for (uint32_t n = 1; n <= 4; n++) /* weights, arena, pools */
            other_takes_over(QN_PROXY_CREATE, n, statuses[i], false, &want);
    }
    other_takes_over(QN_PROXY_CAPS, 1, QUERN_ERR_DEVICE, false, &want);
    for (uint32_t n = 1; n <= 11; n++) {
        other_takes_over(QN_PROXY_RUN, n, statuses[n % QN_LEN(statuses)], false, &want);
        other_takes_over(QN_PROXY_WAIT, n, statuses[n % QN_LEN(statuses)], false, &want);
    }
    for (uint32_t n = 1; n <= 20; n++) {
        other_takes_over(QN_PROXY_RUN, n, QUERN_ERR_LOST, true, &want);
        other_takes_over(QN_PROXY_WAIT, n, QUERN_ERR_TIMEOUT, true, &want);
    }
    for (uint32_t n = 1; n <= 4; n++)
        other_takes_over(QN_PROXY_PREPARE, n, QUERN_ERR_DEVICE, true, &want);
    qn_rows_free(&want);
}

/* The only device fails: the status comes back, the sequence is as before, and when the device has recovered
 * the text goes on. */
static void only_device(enum qn_proxy_fault what, uint32_t n, enum quern_status status,
                        const struct qn_rows *want)
{
    qn_proxy_reset();
    struct qn_test_heap heap;
    qn_test_heap_init(&heap);
    qn_proxy(0)->fault_status = status;
    qn_proxy(0)->max_pool_bytes = 1;
    struct quern_model *model = qn_proxy_open("llama", "proxyA", &heap.cb);
    struct quern_session *s;
    struct quern_error err = {0};
    assert_int_equal(quern_session_create(&s, model, quern_session_params(.n_batch = 16), &err), QUERN_OK);
    qn_proxy(0)->fault_at[what] = qn_proxy(0)->calls[what] + n;
    int32_t ids[QN_TEXT_ROWS];
    qn_text(ids, QN_TEXT_ROWS, 10);
    size_t at = 0;
    for (int failures = 0; at < QN_TEXT_ROWS;) {
        size_t more = at == 0 ? QN_TEXT_PROMPT : 1;
        enum quern_status result = quern_session_feed(s, 0, ids + at, more, &err);
        if (result) {
            assert_int_equal(result, status);
            assert_int_equal(err.status, status);
            assert_non_null(strstr(err.text, "injected fault"));
            assert_int_equal(quern_session_length(s, 0), at);
            assert_true(++failures <= 2);
            if (failures == 2) /* still down the second time, then well again */
                qn_proxy(0)->fault_at[what] = 0;
            continue;
        }
        at += more;
        assert_true(qn_last_row_is(s, want, at - 1));
    }
    assert_int_equal(qn_proxy(0)->fault_at[what], 0); /* it did fail */
    assert_int_equal(heap.n_warnings, 0);
    quern_session_destroy(&s);
    quern_model_destroy(&model);
    assert_int_equal(heap.n_live, 0);
}

static void test_only_device(void **state)
{
    struct qn_rows want = expected_rows("llama", 10);
    for (size_t i = 0; i < QN_LEN(statuses); i++)
        for (uint32_t n = 1; n <= 3; n++) {
            if (n <= 2)
                only_device(QN_PROXY_PREPARE, n, statuses[i], &want);
            only_device(QN_PROXY_CREATE, n, statuses[i], &want);
        }
    for (uint32_t n = 1; n <= 11; n++) {
        only_device(QN_PROXY_RUN, n, statuses[n % QN_LEN(statuses)], &want);
        only_device(QN_PROXY_WAIT, n, statuses[n % QN_LEN(statuses)], &want);
    }
    qn_rows_free(&want);
}

/* Nothing can be opened: the status of the last fault, and nothing is left behind. */
static void test_no_device(void **state)
{
    static const enum qn_proxy_fault faults[] = {QN_PROXY_OPEN, QN_PROXY_CAPS, QN_PROXY_IMPORT,
                                                 QN_PROXY_CREATE};
    char path[1200];
    const char *root = getenv("QUERN_SOURCE");
    snprintf(path, sizeof path, "%s/tests/golden/models/llama.gguf", root ? root : ".");
    for (size_t i = 0; i < QN_LEN(faults); i++) {
        qn_proxy_reset();
        struct qn_test_heap heap;
        qn_test_heap_init(&heap);
        for (unsigned p = 0; p < QN_N_PROXIES; p++) {
            qn_proxy(p)->fault_at[faults[i]] = 1;
            qn_proxy(p)->fault_status = QUERN_ERR_DEVICE;
            qn_proxy(p)->no_import = faults[i] == QN_PROXY_CREATE;
        }
        struct quern_model *model;
        struct quern_error err = {0};
        assert_int_equal(
            quern_model_open(&model, quern_source_path(path),
                             quern_model_params(.callbacks = &heap.cb, .device = "proxyA,proxyB",
                                                .drivers = qn_proxy_drivers, .n_drivers = QN_N_PROXIES),
                             &err),
            QUERN_ERR_DEVICE);
        assert_null(model);
        assert_int_equal(err.status, QUERN_ERR_DEVICE);
        assert_non_null(strstr(err.text, "proxyB"));
        assert_int_equal(heap.n_live, 0);
    }
}

/* One device after the other fails, the second while it catches up with what the first one had computed. */
static void test_failure_in_catch_up(void **state)
{
    struct qn_rows want = expected_rows("gemma2", 11);
    for (uint32_t n = 1; n <= 8; n++) {
        qn_proxy_reset();
        struct qn_test_heap heap;
        qn_test_heap_init(&heap);
        struct quern_model *model = qn_proxy_open("gemma2", "proxyA,proxyB,cpu", &heap.cb);
        struct quern_session *s;
        struct quern_error err = {0};
        assert_int_equal(quern_session_create(&s, model, quern_session_params(.n_batch = 8), &err), QUERN_OK);
        for (unsigned p = 0; p < QN_N_PROXIES; p++)
            qn_proxy(p)->fault_status = QUERN_ERR_LOST;
        qn_proxy(0)->fault_at[QN_PROXY_WAIT] = 8; /* 6 for the prompt, then decoding */
        qn_proxy(1)->fault_at[QN_PROXY_WAIT] = n; /* the first 6 are the prompt again */
        struct qn_rows rows;
        assert_int_equal(qn_text_run(s, 0, 11, &rows, &err), QUERN_OK);
        assert_true(qn_rows_same(&rows, &want));
        assert_int_equal(heap.n_warnings, 2);
        assert_int_equal(quern_model_device_count(model), 1);
        assert_string_equal(quern_model_device(model, 0)->id, "cpu");
        qn_rows_free(&rows);
        quern_session_destroy(&s);
        quern_model_destroy(&model);
        assert_int_equal(heap.n_live, 0);
    }
    qn_rows_free(&want);
}

/* The last device cannot take the weights when its turn comes, and later it can. */
static void test_failure_of_late_weights(void **state)
{
    struct qn_rows want = expected_rows("llama", 15);
    int32_t ids[QN_TEXT_PROMPT];
    qn_text(ids, QN_TEXT_PROMPT, 15);
    for (int copied = 0; copied < 2; copied++) {
        enum qn_proxy_fault what = copied ? QN_PROXY_CREATE : QN_PROXY_IMPORT;
        qn_proxy_reset();
        qn_proxy(0)->fault_at[QN_PROXY_RUN] = qn_proxy(1)->fault_at[what] = 1;
        qn_proxy(0)->fault_status = QUERN_ERR_LOST;
        qn_proxy(1)->fault_status = QUERN_ERR_MEMORY;
        qn_proxy(1)->no_import = copied;
        struct qn_test_heap heap;
        qn_test_heap_init(&heap);
        struct quern_model *model = qn_proxy_open("llama", "proxyA,proxyB", &heap.cb);
        struct quern_session *s;
        struct quern_error err = {0};
        assert_int_equal(quern_session_create(&s, model, NULL, &err), QUERN_OK);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(quern_session_feed(s, 0, ids, QN_TEXT_PROMPT, &err), QUERN_ERR_MEMORY);
            assert_non_null(strstr(err.text, "proxyB"));
            assert_int_equal(quern_session_length(s, 0), 0);
        }
        qn_proxy(1)->fault_at[what] = 0;
        assert_int_equal(quern_session_feed(s, 0, ids, QN_TEXT_PROMPT, &err), QUERN_OK);
        assert_true(qn_last_row_is(s, &want, QN_TEXT_PROMPT - 1));
        quern_session_destroy(&s);
        quern_model_destroy(&model);
        assert_int_equal(heap.n_live, 0);
    }
    qn_rows_free(&want);
}

/* A session finds out later that its model has lost a device; until then its keys and values lie where no
 * device reads them, and it may still fork and cut its sequences. */
static void test_drop_by_another_session(void **state)
{
    qn_proxy_reset();
    struct qn_rows want = expected_rows("gemma2", 12);
    struct qn_test_heap heap;
    qn_test_heap_init(&heap);
    struct quern_model *model = qn_proxy_open("gemma2", "proxyA,proxyB", &heap.cb);
    struct quern_session *s[2];
    struct quern_error err = {0};
    int32_t ids[QN_TEXT_ROWS];
    qn_text(ids, QN_TEXT_ROWS, 12);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(quern_session_create(&s[i], model, quern_session_params(.n_seqs = 2), &err),
                         QUERN_OK);
        assert_int_equal(quern_session_feed(s[i], 0, ids, QN_TEXT_PROMPT, &err), QUERN_OK);
    }
    qn_proxy(0)->fault_status = QUERN_ERR_LOST;
    qn_proxy(0)->fault_at[QN_PROXY_RUN] = 1;
    assert_int_equal(quern_session_feed(s[0], 0, &ids[QN_TEXT_PROMPT], 1, &err), QUERN_OK);
    assert_true(qn_last_row_is(s[0], &want, QN_TEXT_PROMPT));
    assert_int_equal(quern_model_device_count(model), 1);
    assert_int_equal(quern_session_fork(s[1], 1, 0, &err), QUERN_OK);
    assert_int_equal(quern_session_truncate(s[1], 0, 20, &err), QUERN_OK);
    assert_int_equal(quern_session_feed(s[1], 1, &ids[QN_TEXT_PROMPT], 1, &err), QUERN_OK);
    assert_true(qn_last_row_is(s[1], &want, QN_TEXT_PROMPT));
    assert_int_equal(quern_session_feed(s[1], 0, &ids[20], 4, &err), QUERN_OK);
    assert_true(qn_last_row_is(s[1], &want, 23));
    for (int i = 0; i < 2; i++)
        quern_session_destroy(&s[i]);
    assert_int_equal(heap.n_warnings, 1);
    quern_model_destroy(&model);
    assert_int_equal(heap.n_live, 0);
    qn_rows_free(&want);
}

/* The device fails while a shared page is copied for a sequence that writes to it. */
static void test_failure_of_page_copy(void **state)
{
    struct qn_rows want = expected_rows("llama", 13);
    int32_t ids[QN_TEXT_ROWS];
    qn_text(ids, QN_TEXT_ROWS, 13);
    for (int two = 0; two < 2; two++) {
        qn_proxy_reset();
        struct quern_model *model = qn_proxy_open("llama", two ? "proxyA,proxyB" : "proxyA", NULL);
        struct quern_session *s;
        struct quern_error err = {0};
        assert_int_equal(quern_session_create(&s, model, quern_session_params(.n_seqs = 2), &err), QUERN_OK);
        assert_int_equal(quern_session_feed(s, 0, ids, QN_TEXT_PROMPT, &err), QUERN_OK);
        assert_int_equal(quern_session_fork(s, 1, 0, &err), QUERN_OK);
        uint32_t pages = qn_pages_in_use(s);
        qn_proxy(0)->fault_at[QN_PROXY_COPY] = 1;
        qn_proxy(0)->fault_status = QUERN_ERR_DEVICE;
        if (!two) {
            assert_int_equal(quern_session_feed(s, 1, &ids[QN_TEXT_PROMPT], 1, &err), QUERN_ERR_DEVICE);
            assert_int_equal(qn_pages_in_use(s), pages);
            qn_proxy(0)->fault_at[QN_PROXY_COPY] = 0;
        }
        for (uint32_t q = 2; q-- > 0;) {
            assert_int_equal(quern_session_feed(s, q, &ids[QN_TEXT_PROMPT], 1, &err), QUERN_OK);
            assert_true(qn_last_row_is(s, &want, QN_TEXT_PROMPT));
        }
        assert_int_equal(qn_proxy(0)->calls[QN_PROXY_COPY], two ? 1 : 2);
        quern_session_destroy(&s);
        quern_model_destroy(&model);
    }
    qn_rows_free(&want);
}

/* ---- memory that runs out ---- */

/* All that a session can be asked for; each call is tried again when it fails. Counts the failures. */
struct life {
    struct qn_test_heap heap;
    int failures;
    char last[256]; /* the last sentence */
    bool wrong;     /* a failure that was no QUERN_ERR_MEMORY */
};

static bool again(struct life *life, enum quern_status status, const struct quern_error *err)
{
    if (status == QUERN_OK)
        return false;
    life->wrong |= status != QUERN_ERR_MEMORY || err->status != status || err->text[0] == '\0';
    memcpy(life->last, err->text, sizeof life->last);
    return ++life->failures <= 1 && !life->wrong;
}

static void live(struct life *life, const char *name, const char *device, const struct qn_rows *want)
{
    char path[1200];
    const char *root = getenv("QUERN_SOURCE");
    snprintf(path, sizeof path, "%s/tests/golden/models/%s.gguf", root ? root : ".", name);
    struct quern_model *model;
    struct quern_session *s = NULL;
    struct quern_error err = {0};
    int32_t ids[QN_TEXT_ROWS];
    qn_text(ids, QN_TEXT_ROWS, 14);
    size_t reused = 0;
    do {
        size_t before = life->heap.n_live;
        if (quern_model_open(&model, quern_source_path(path),
                             quern_model_params(.callbacks = &life->heap.cb, .device = device, .n_threads = 1,
                                                .drivers = qn_proxy_drivers, .n_drivers = QN_N_PROXIES),
                             &err))
            assert_int_equal(life->heap.n_live, before); /* a failed open leaves nothing */
    } while (again(life, model ? QUERN_OK : err.status, &err));
    assert_non_null(model);
    do {
        size_t before = life->heap.n_live;
        if (quern_session_create(&s, model, quern_session_params(.n_seqs = 3, .n_batch = 16), &err))
            assert_true(life->heap.n_live <= before + 2); /* the model may keep a layout */
    } while (again(life, s ? QUERN_OK : err.status, &err));
    assert_non_null(s);
#define AGAIN(call, seq, length)                                \
    while (again(life, call, &err))                             \
        assert_int_equal(quern_session_length(s, seq), length); \
    assert_false(life->wrong || life->failures > 1)
    AGAIN(quern_session_prompt(s, 0, ids, 40, &reused, &err), 0, 0);
    assert_true(qn_last_row_is(s, want, 39));
    AGAIN(quern_session_feed(s, 0, &ids[40], 1, &err), 0, 40);
    assert_true(qn_last_row_is(s, want, 40));
    AGAIN(quern_session_fork(s, 1, 0, &err), 1, 0);
    struct quern_item items[16];
    for (int i = 0; i < 16; i++)
        items[i] = (struct quern_item){.token = ids[41 + i / 2], .seq = (uint32_t)(i % 2), .logits = true};
    AGAIN(quern_session_eval(s, items, 14, &err), 1, 41);
    assert_int_equal(quern_session_length(s, 0), 48);
    assert_true(qn_last_row_is(s, want, 47));
    AGAIN(quern_session_truncate(s, 1, 20, &err), 1, 48);
    AGAIN(quern_session_feed(s, 1, &ids[20], 3, &err), 1, 20);
    assert_true(qn_last_row_is(s, want, 22));
    while (again(life, quern_session_prompt(s, 2, ids, 48, &reused, &err), &err)) {}
    assert_false(life->wrong || life->failures > 1);
    assert_true(qn_last_row_is(s, want, 47));
#undef AGAIN
    quern_session_destroy(&s);
    quern_model_destroy(&model);
}

static void out_of_memory(const char *name, const char *device)
{
    qn_proxy_reset();
    struct qn_rows want = expected_rows(name, 14);
    size_t n = 1, survived = 0;
    for (;; n++) {
        struct life *life = calloc(1, sizeof *life);
        qn_test_heap_init(&life->heap);
        life->heap.fail_at = n;
        live(life, name, device, &want);
        bool reached = life->heap.n_calls >= n;
        survived += reached && life->failures == 0;
        if (life->heap.n_live != 0)
            fail_msg("%s: allocation %zu failed, %zu are left: %s", name, n, life->heap.n_live, life->last);
        free(life);
        if (!reached)
            break;
    }
    fprintf(stderr, "%s on %s: %zu allocations, %zu without a failing call\n", name, device, n - 1, survived);
    assert_true(n > 60);
    qn_rows_free(&want);
}

static void test_out_of_memory(void **state)
{
    out_of_memory("llama", "cpu");
    out_of_memory("gemma2", "cpu");
    out_of_memory("qwen3moe", "cpu");
    out_of_memory("qllama.Q4_K_M", "cpu");
    out_of_memory("llama", "proxyA,proxyB");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_per_token),
        cmocka_unit_test(test_split_llama),
        cmocka_unit_test(test_split_gemma2),
        cmocka_unit_test(test_split_qwen3moe),
        cmocka_unit_test(test_phases),
        cmocka_unit_test(test_phases_take_over),
        cmocka_unit_test(test_place_changes),
        cmocka_unit_test(test_small_buffers),
        cmocka_unit_test(test_sessions_share_plans),
        cmocka_unit_test(test_two_threads),
        cmocka_unit_test(test_other_takes_over),
        cmocka_unit_test(test_only_device),
        cmocka_unit_test(test_no_device),
        cmocka_unit_test(test_failure_in_catch_up),
        cmocka_unit_test(test_failure_of_late_weights),
        cmocka_unit_test(test_drop_by_another_session),
        cmocka_unit_test(test_failure_of_page_copy),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
