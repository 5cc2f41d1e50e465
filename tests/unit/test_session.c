/* Sessions on the CPU: sequences and their pages, chunks, KV formats, contexts that fill up, cancelling, bad
 * requests, and spans. Whatever the way a text got into a sequence, its logits are the same bits. */
#include "test.h"

#include "formats/formats.h"

#include "heap.h"
#include "support/golden.h"
#include "support/joints.h"

#include <math.h>

static const char *const models[] = {"llama", "gemma2", "gemma3", "qwen3moe", "qllama.Q4_K_M"};

static struct quern_model *open_model(const char *name, uint32_t n_threads)
{
    struct quern_model *model =
        qn_open_golden("models", name, quern_model_params(.device = "cpu", .n_threads = n_threads));
    assert_non_null(model);
    return model;
}

static struct quern_session *create(struct quern_model *model, const struct quern_session_params *params)
{
    struct quern_session *s;
    struct quern_error err = {0};
    if (quern_session_create(&s, model, params, &err))
        fail_msg("%s", err.text);
    return s;
}
#define CREATE(model, ...) create(model, quern_session_params(__VA_ARGS__))

static struct qn_rows rows_alone(struct quern_model *model, uint32_t salt,
                                 const struct quern_session_params *params)
{
    struct qn_rows rows;
    struct quern_error err = {0};
    if (qn_text_alone(model, params, salt, &rows, &err))
        fail_msg("%s", err.text);
    return rows;
}

static void feed(struct quern_session *s, uint32_t seq, const int32_t *ids, size_t n)
{
    struct quern_error err = {0};
    size_t before = quern_session_length(s, seq);
    if (quern_session_feed(s, seq, ids, n, &err))
        fail_msg("%s", err.text);
    assert_int_equal(quern_session_length(s, seq), before + n);
    assert_int_equal(quern_session_n_logits(s), 1);
}

/* The last logits of a session that was fed all these tokens at once, on its own. */
static struct qn_rows last_row_of(struct quern_model *model, const int32_t *ids, size_t n)
{
    struct quern_session *s = CREATE(model);
    feed(s, 0, ids, n);
    struct qn_rows rows = {.n = 1, .width = model->facts.n_vocab};
    rows.data = malloc(rows.width * sizeof(float));
    assert_non_null(rows.data);
    memcpy(rows.data, quern_session_logits(s, 0), rows.width * sizeof(float));
    quern_session_destroy(&s);
    return rows;
}

static void check_last(struct quern_model *model, const struct quern_session *s, const int32_t *ids, size_t n)
{
    struct qn_rows want = last_row_of(model, ids, n);
    assert_true(qn_last_row_is(s, &want, 0));
    qn_rows_free(&want);
}

/* ---- chunks, threads, KV formats ---- */

static const enum quern_format kv_formats[] = {QUERN_F32, QUERN_F16, QUERN_BF16, QUERN_Q8_0, QUERN_Q4_0};

static bool keeps(const struct quern_model *model, enum quern_format format)
{
    return model->graph.kv[0].head_dim_k % qn_format_get(format)->block_len == 0;
}

/* One batch, odd chunks and single tokens; rows asked for one by one or all at once; 1 and 2 threads. */
static void test_chunks(void **state)
{
    static const uint32_t batches[] = {1, 7, 32, 33, 512};
    for (size_t m = 0; m < QN_LEN(models); m++)
        for (size_t f = 0; f < QN_LEN(kv_formats); f++) {
            struct qn_rows want = {0};
            for (uint32_t threads = 1; threads <= 2; threads++) {
                struct quern_model *model = open_model(models[m], threads);
                if (!keeps(model, kv_formats[f])) {
                    quern_model_destroy(&model);
                    continue;
                }
                for (size_t b = 0; b < QN_LEN(batches); b++) {
                    struct qn_rows rows =
                        rows_alone(model, 1,
                                   quern_session_params(.n_batch = batches[b], .kv_k = kv_formats[f],
                                                        .kv_v = kv_formats[f]));
                    if (!want.data) {
                        want = rows;
                        continue;
                    }
                    if (!qn_rows_same(&rows, &want))
                        fail_msg("%s, KV format %d, chunks of %u, %u threads", models[m], (int)kv_formats[f],
                                 batches[b], threads);
                    qn_rows_free(&rows);
                }
                quern_model_destroy(&model);
            }
            qn_rows_free(&want);
        }
}

/* Only the last row is asked for: its bits do not depend on what else is. */
static void test_one_row(void **state)
{
    for (size_t m = 0; m < QN_LEN(models); m++) {
        struct quern_model *model = open_model(models[m], 1);
        struct qn_rows want = rows_alone(model, 2, NULL);
        int32_t ids[QN_TEXT_ROWS];
        qn_text(ids, QN_TEXT_ROWS, 2);
        for (uint32_t n = 1; n <= QN_TEXT_PROMPT; n += 5) {
            struct quern_session *s = CREATE(model, .n_batch = 20);
            feed(s, 0, ids, n);
            assert_true(qn_last_row_is(s, &want, n - 1));
            quern_session_destroy(&s);
        }
        qn_rows_free(&want);
        quern_model_destroy(&model);
    }
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Root mean square of a row's differences, of the row in the middle: a token that goes to another expert may
 * differ by much. */
static double difference(const struct qn_rows *a, const struct qn_rows *b)
{
    double row[QN_TEXT_ROWS];
    for (size_t r = 0; r < a->n; r++) {
        double sum = 0;
        for (size_t i = r * a->width; i < (r + 1) * a->width; i++)
            sum += ((double)a->data[i] - (double)b->data[i]) * ((double)a->data[i] - (double)b->data[i]);
        row[r] = sqrt(sum / (double)a->width);
    }
    qsort(row, a->n, sizeof *row, by_size);
    return row[a->n / 2];
}

static void test_kv_formats(void **state)
{
    for (size_t m = 0; m < QN_LEN(models); m++) {
        struct quern_model *model = /* no rounding of activations beside that of keys and values */
            qn_open_golden("models", models[m],
                           quern_model_params(.device = "cpu", .n_threads = 1, .exact = true));
        assert_non_null(model);
        struct qn_rows f32 = rows_alone(model, 3, quern_session_params(.kv_k = QUERN_F32, .kv_v = QUERN_F32));
        struct qn_rows f16 = rows_alone(model, 3, NULL);
        struct qn_rows bf16 =
            rows_alone(model, 3, quern_session_params(.kv_k = QUERN_BF16, .kv_v = QUERN_BF16));
        double half = difference(&f16, &f32), brain = difference(&bf16, &f32), eight = 0, mixed = 0, four = 0;
        if (keeps(model, QUERN_Q8_0)) {
            struct qn_rows q8 =
                rows_alone(model, 3, quern_session_params(.kv_k = QUERN_Q8_0, .kv_v = QUERN_Q8_0));
            struct qn_rows k8 = rows_alone(model, 3, quern_session_params(.kv_k = QUERN_Q8_0));
            eight = difference(&q8, &f32);
            mixed = difference(&k8, &f32);
            struct qn_rows q4 =
                rows_alone(model, 3, quern_session_params(.kv_k = QUERN_Q4_0, .kv_v = QUERN_Q4_0));
            four = difference(&q4, &f32);
            qn_rows_free(&q4);
            qn_rows_free(&q8);
            qn_rows_free(&k8);
        } else {
            struct quern_session *s;
            struct quern_error err = {0};
            assert_int_equal(quern_session_create(&s, model, quern_session_params(.kv_v = QUERN_Q8_0), &err),
                             QUERN_ERR_UNSUPPORTED);
            assert_null(s);
            assert_non_null(strstr(err.text, "multiple of 32"));
        }
        fprintf(stderr,
                "%s: difference from F32: F16 %.2g, BF16 %.2g, Q8_0 %.2g, Q8_0 with F16 %.2g, Q4_0 %.2g\n",
                models[m], half, brain, eight, mixed, four);
        assert_true(half > 0 && half < 0.005);
        assert_true(brain > half && brain < 0.04);
        if (keeps(model, QUERN_Q8_0)) {
            assert_true(mixed > half && eight > half && eight < 0.15);
            assert_true(four > eight && four < 2.5);
        }
        qn_rows_free(&bf16);
        qn_rows_free(&f32);
        qn_rows_free(&f16);
        quern_model_destroy(&model);
    }
}

/* ---- sequences ---- */

static void test_fork(void **state)
{
    for (size_t m = 0; m < QN_LEN(models); m++) {
        struct quern_model *model = open_model(models[m], 1);
        struct quern_session *s = CREATE(model, .n_seqs = 3);
        int32_t a[80], b[80];
        qn_text(a, 80, 4);
        qn_text(b, 80, 5);
        memcpy(b, a, 40 * sizeof *a); /* b branches off after 40 tokens, in the middle of a page */
        feed(s, 0, a, 40);
        uint32_t pages = qn_pages_in_use(s);
        struct quern_error err = {0};
        assert_int_equal(quern_session_fork(s, 1, 0, &err), QUERN_OK);
        assert_int_equal(quern_session_fork(s, 2, 1, &err), QUERN_OK);
        assert_int_equal(quern_session_fork(s, 2, 2, &err), QUERN_OK);
        assert_int_equal(qn_pages_in_use(s), pages); /* shared */
        assert_memory_equal(quern_session_tokens(s, 1), a, 40 * sizeof *a);
        for (int i = 40; i < 80; i++) { /* by turns */
            feed(s, 0, &a[i], 1);
            if (i == 40)
                assert_int_equal(qn_pages_in_use(s), pages + s->variant->kv.n_groups); /* copied on writing */
            if (i == 79)
                check_last(model, s, a, 80);
            feed(s, 1, &b[i], 1);
        }
        check_last(model, s, b, 80);
        feed(s, 2, &a[40], 1); /* what the others wrote is not seen */
        check_last(model, s, a, 41);
        assert_int_equal(quern_session_fork(s, 2, 0, &err), QUERN_OK); /* over what was there */
        assert_int_equal(quern_session_length(s, 2), 80);
        for (uint32_t i = 0; i < 3; i++)
            assert_int_equal(quern_session_truncate(s, i, 0, &err), QUERN_OK);
        assert_int_equal(qn_pages_in_use(s), 0);
        quern_session_destroy(&s);
        quern_model_destroy(&model);
    }
}

static void test_truncate(void **state)
{
    for (size_t m = 0; m < QN_LEN(models); m++) {
        struct quern_model *model = open_model(models[m], 1);
        struct quern_session *s = CREATE(model, .n_batch = 64);
        int32_t ids[200];
        qn_text(ids, 200, 6);
        struct quern_error err = {0};
        static const uint32_t back_to[] = {199, 180, 160, 129, 128, 65, 64, 33, 20, 1, 0, 500};
        for (size_t i = 0; i < QN_LEN(back_to); i++) {
            feed(s, 0, ids + quern_session_length(s, 0), 200 - quern_session_length(s, 0));
            check_last(model, s, ids, 200);
            assert_int_equal(quern_session_truncate(s, 0, back_to[i], &err), QUERN_OK);
            size_t left = back_to[i] < 200 ? back_to[i] : 200;
            assert_int_equal(quern_session_length(s, 0), left);
            feed(s, 0, &ids[100], 3); /* another way to go on */
            int32_t other[203];
            memcpy(other, ids, left * sizeof *ids);
            memcpy(other + left, ids + 100, 3 * sizeof *ids);
            check_last(model, s, other, left + 3);
            assert_int_equal(quern_session_truncate(s, 0, left < 200 ? left : 199, &err), QUERN_OK);
        }
        quern_session_destroy(&s);
        quern_model_destroy(&model);
    }
}

static void test_prompt_reuse(void **state)
{
    for (size_t m = 0; m < QN_LEN(models); m++) {
        struct quern_model *model = open_model(models[m], 1);
        bool windows = false;
        for (uint32_t l = 0; l < model->graph.view.n_kv; l++)
            windows |= model->graph.kv[l].window > 0;
        struct quern_session *s = CREATE(model, .n_seqs = 2, .n_batch = 64);
        struct quern_error err = {0};
        int32_t ids[120], other[120];
        qn_text(ids, 120, 7);
        qn_text(other, 120, 8);
        memcpy(other, ids, 70 * sizeof *ids);
        other[70] = (ids[70] + 1) % 280;
        size_t reused = 99;
        assert_int_equal(quern_session_prompt(s, 0, ids, 100, &reused, &err), QUERN_OK);
        assert_int_equal(reused, 0);
        check_last(model, s, ids, 100);
        assert_int_equal(quern_session_prompt(s, 0, ids, 120, &reused, &err), QUERN_OK); /* it grew */
        assert_int_equal(reused, 100);
        check_last(model, s, ids, 120);
        assert_int_equal(quern_session_prompt(s, 0, ids, 120, &reused, &err), QUERN_OK); /* once more */
        assert_int_equal(reused, 119);
        check_last(model, s, ids, 120);
        /* another sequence takes the common part over; pages that a window has left are evaluated again */
        assert_int_equal(quern_session_prompt(s, 1, other, 120, &reused, &err), QUERN_OK);
        assert_int_equal(reused, windows ? 0 : 70);
        check_last(model, s, other, 120);
        assert_int_equal(quern_session_length(s, 1), 120);
        assert_memory_equal(quern_session_tokens(s, 1), other, sizeof other);
        assert_int_equal(quern_session_length(s, 0), 120);
        assert_int_equal(quern_session_prompt(s, 0, other, 30, &reused, &err), QUERN_OK); /* shorter */
        check_last(model, s, other, 30);
        assert_int_equal(quern_session_length(s, 0), 30);
        quern_session_destroy(&s);
        quern_model_destroy(&model);
    }
}

static void test_sliding_windows(void **state)
{
    struct quern_model *model = open_model("gemma2", 1);
    struct quern_session *s = CREATE(model, .n_seqs = 2);
    int32_t ids[400];
    qn_text(ids, 400, 9);
    const struct qn_kv_layout *kv = &s->variant->kv;
    assert_int_equal(kv->n_groups, 2);
    uint32_t sliding = kv->window[0] > 0 ? 0 : 1, window = kv->window[sliding];
    assert_int_equal(window, 16);
    assert_int_equal(kv->window[1 - sliding], 0);
    feed(s, 0, ids, 200); /* 7 pages in one go */
    assert_int_equal(qn_group_pages_in_use(s, 1 - sliding), 7);
    assert_int_equal(qn_group_pages_in_use(s, sliding),
                     2); /* tokens 185 to 199 and the next: pages 5 and 6 */
    struct quern_error err = {0};
    assert_int_equal(quern_session_fork(s, 1, 0, &err), QUERN_OK);
    for (int i = 200; i < 400; i++) {
        feed(s, 0, &ids[i], 1);
        /* its own, and those that the fork still holds */
        assert_true(qn_group_pages_in_use(s, sliding) <= 2 + 2);
    }
    check_last(model, s, ids, 400);
    assert_int_equal(qn_group_pages_in_use(s, 1 - sliding), 13 + 1);
    feed(s, 1, &ids[200], 1);
    check_last(model, s, ids, 201);
    uint32_t pools = s->kv.group[sliding].n_pages;
    assert_int_equal(quern_session_truncate(s, 0, 50, &err), QUERN_OK);
    feed(s, 0, &ids[50], 30);
    check_last(model, s, ids, 80);
    assert_int_equal(s->kv.group[sliding].n_pages, pools); /* what was given back is used again */
    quern_session_destroy(&s);
    quern_model_destroy(&model);
}

static void test_several_at_once(void **state)
{
    enum { SEQS = 5, LONGEST = 60 };
    for (size_t m = 0; m < QN_LEN(models); m++) {
        struct quern_model *model = open_model(models[m], 1);
        for (uint32_t batch = 13; batch <= 512; batch += 499) {
            struct quern_session *s = CREATE(model, .n_seqs = SEQS, .n_batch = batch);
            int32_t ids[SEQS][LONGEST];
            struct quern_item items[SEQS * LONGEST];
            size_t n = 0, want_row[SEQS], n_rows = 0;
            for (uint32_t q = 0; q < SEQS; q++)
                qn_text(ids[q], LONGEST, 20 + q);
            for (uint32_t t = 0; t < LONGEST; t++) /* of different lengths, starting at different times */
                for (uint32_t q = 0; q < SEQS; q++)
                    if (t >= 3 * q && t < LONGEST - q) {
                        bool last = t + 1 == LONGEST - q;
                        items[n++] =
                            (struct quern_item){.token = ids[q][t - 3 * q], .seq = q, .logits = last};
                        if (last)
                            want_row[q] = n_rows++;
                    }
            struct quern_error err = {0};
            assert_int_equal(quern_session_eval(s, items, n, &err), QUERN_OK);
            assert_int_equal(quern_session_n_logits(s), SEQS);
            assert_null(quern_session_logits(s, SEQS));
            for (uint32_t q = 0; q < SEQS; q++) {
                size_t length = LONGEST - 4 * q;
                assert_int_equal(quern_session_length(s, q), length);
                struct qn_rows want = last_row_of(model, ids[q], length);
                assert_memory_equal(quern_session_logits(s, want_row[q]), want.data,
                                    want.width * sizeof(float));
                qn_rows_free(&want);
            }
            quern_session_destroy(&s);
        }
        quern_model_destroy(&model);
    }
}

/* ---- the end of the context ---- */

static void test_full_context(void **state)
{
    struct quern_model *model = open_model("llama", 1);
    struct quern_session *s = CREATE(model, .n_ctx = 50, .n_seqs = 2);
    assert_int_equal(quern_session_n_ctx(s), 50);
    int32_t ids[80];
    qn_text(ids, 80, 10);
    struct quern_error err = {0};
    feed(s, 0, ids, 45);
    assert_int_equal(quern_session_feed(s, 0, &ids[45], 6, &err), QUERN_ERR_CONTEXT);
    assert_int_equal(err.status, QUERN_ERR_CONTEXT);
    assert_int_equal(quern_session_length(s, 0), 45);
    assert_int_equal(quern_session_prompt(s, 0, ids, 51, NULL, &err), QUERN_ERR_CONTEXT);
    assert_int_equal(quern_session_length(s, 0), 45);
    const struct quern_item items[] = {{.token = 1, .seq = 1},
                                       {.token = 1, .seq = 0},
                                       {.token = 2, .seq = 0},
                                       {.token = 3, .seq = 0},
                                       {.token = 4, .seq = 0},
                                       {.token = 5, .seq = 0},
                                       {.token = 6, .seq = 0, .logits = true}};
    assert_int_equal(quern_session_eval(s, items, QN_LEN(items), &err), QUERN_ERR_CONTEXT);
    assert_int_equal(quern_session_length(s, 0), 45);
    assert_int_equal(quern_session_length(s, 1), 0);
    feed(s, 0, &ids[45], 5); /* to the brim */
    check_last(model, s, ids, 50);
    assert_int_equal(quern_session_feed(s, 0, &ids[50], 1, &err), QUERN_ERR_CONTEXT);
    assert_int_equal(quern_session_truncate(s, 0, 49, &err), QUERN_OK);
    feed(s, 0, &ids[49], 1);
    check_last(model, s, ids, 50);
    quern_session_destroy(&s);
    quern_model_destroy(&model);
}

static void test_shift(void **state)
{
    for (size_t m = 0; m < QN_LEN(models); m++) {
        struct quern_model *model = open_model(models[m], 1);
        struct quern_session *s =
            CREATE(model, .n_ctx = 50, .n_seqs = 2, .overflow = QUERN_OVERFLOW_SHIFT, .n_keep = 6);
        int32_t ids[120], expect[50];
        qn_text(ids, 120, 11);
        struct quern_error err = {0};
        feed(s, 0, ids, 50);
        assert_int_equal(quern_session_feed(s, 0, &ids[50], 1, &err), QUERN_OK);
        /* 22 of the 44 that are not kept are gone */
        memcpy(expect, ids, 6 * sizeof *ids);
        memcpy(expect + 6, ids + 28, 23 * sizeof *ids);
        assert_int_equal(quern_session_length(s, 0), 29);
        assert_memory_equal(quern_session_tokens(s, 0), expect, 29 * sizeof *ids);
        check_last(model, s, expect, 29);
        /* 40 more: all but 10 must go */
        assert_int_equal(quern_session_feed(s, 0, &ids[51], 40, &err), QUERN_OK);
        memcpy(expect + 6, expect + 25, 4 * sizeof *ids);
        memcpy(expect + 10, &ids[51], 40 * sizeof *ids);
        assert_int_equal(quern_session_length(s, 0), 50);
        assert_memory_equal(quern_session_tokens(s, 0), expect, 50 * sizeof *ids);
        check_last(model, s, expect, 50);
        /* 45 never fit beside the 6; another sequence in the same call keeps what it has */
        feed(s, 1, ids, 50);
        struct quern_item items[46];
        items[0] = (struct quern_item){.token = 1, .seq = 0, .logits = true};
        for (int i = 0; i < 45; i++)
            items[i + 1] = (struct quern_item){.token = 1, .seq = 1, .logits = true};
        assert_int_equal(quern_session_eval(s, items, 46, &err), QUERN_ERR_CONTEXT);
        assert_int_equal(quern_session_length(s, 0), 50);
        assert_int_equal(quern_session_length(s, 1), 50);
        quern_session_destroy(&s);
        quern_model_destroy(&model);
    }
}

/* ---- stopped and refused ---- */

struct canceller {
    int asked;
    int at; /* says yes from this question on; 0: never */
};

static bool cancel(void *user)
{
    struct canceller *c = user;
    return ++c->asked >= c->at && c->at > 0;
}

static void test_cancel(void **state)
{
    struct canceller c = {0};
    struct quern_callbacks cb = {.user = &c, .cancel = cancel};
    struct quern_model *model = qn_open_golden(
        "models", "gemma2", quern_model_params(.callbacks = &cb, .device = "cpu", .n_threads = 1));
    assert_non_null(model);
    int32_t ids[160];
    qn_text(ids, 160, 12);
    for (int at = 1; at <= 9; at++) {
        struct quern_session *s = CREATE(model, .n_batch = 10, .n_seqs = 2);
        struct quern_error err = {0};
        c = (struct canceller){0};
        feed(s, 0, ids, 60);
        uint32_t pages = qn_pages_in_use(s);
        c = (struct canceller){.at = at};
        assert_int_equal(quern_session_feed(s, 0, &ids[60], 100, &err), QUERN_ERR_CANCELLED);
        assert_int_equal(err.status, QUERN_ERR_CANCELLED);
        assert_int_equal(c.asked, at);
        assert_int_equal(quern_session_length(s, 0), 60);
        assert_int_equal(quern_session_n_logits(s), 0);
        assert_true(qn_pages_in_use(s) <= pages);
        assert_int_equal(quern_session_prompt(s, 1, ids, 160, NULL, &err), QUERN_ERR_CANCELLED);
        assert_int_equal(quern_session_length(s, 0), 60);
        c = (struct canceller){0};
        feed(s, 0, &ids[60], 1);
        check_last(model, s, ids, 61);
        size_t reused;
        assert_int_equal(quern_session_prompt(s, 1, ids, 160, &reused, &err), QUERN_OK);
        check_last(model, s, ids, 160);
        quern_session_destroy(&s);
    }
    quern_model_destroy(&model);
}

static void test_not_finite(void **state)
{
    static const char *const names[] = {"75-nan-weights", "76-inf-weights"};
    for (size_t i = 0; i < QN_LEN(names); i++) {
        struct quern_model *model =
            qn_open_golden("malformed", names[i], quern_model_params(.device = "cpu", .n_threads = 1));
        assert_non_null(model);
        struct quern_session *s = CREATE(model);
        struct quern_error err = {0};
        int32_t ids[8];
        qn_text(ids, 8, 13);
        assert_int_equal(quern_session_feed(s, 0, ids, 8, &err), QUERN_ERR_NUMERIC);
        assert_int_equal(err.status, QUERN_ERR_NUMERIC);
        assert_non_null(strstr(err.text, "position 7"));
        assert_int_equal(quern_session_length(s, 0), 0);
        assert_int_equal(quern_session_n_logits(s), 0);
        assert_null(quern_session_logits(s, 0));
        quern_session_destroy(&s);
        quern_model_destroy(&model);
    }
}

static void test_bad_requests(void **state)
{
    struct quern_model *model = open_model("llama", 1);
    struct quern_session *s;
    struct quern_error err = {0};
    const struct quern_session_params *const bad[] = {
        quern_session_params(.n_seqs = 0),   quern_session_params(.n_seqs = 257),
        quern_session_params(.n_batch = 0),  quern_session_params(.n_batch = 513),
        quern_session_params(.n_ctx = 513),  quern_session_params(.n_ctx = 8, .n_keep = 8),
        quern_session_params(.n_keep = 512),
    };
    for (size_t i = 0; i < QN_LEN(bad); i++) {
        assert_int_equal(quern_session_create(&s, model, bad[i], &err), QUERN_ERR_PARAM);
        assert_null(s);
    }
    assert_int_equal(quern_session_create(&s, model, quern_session_params(.kv_k = QUERN_Q4_K), &err),
                     QUERN_ERR_UNSUPPORTED);
    assert_int_equal(
        quern_session_create(&s, model, quern_session_params(.kv_v = (enum quern_format)999), &err),
        QUERN_ERR_UNSUPPORTED);
    s = CREATE(model, .n_seqs = 2);
    int32_t ids[10];
    qn_text(ids, 10, 14);
    feed(s, 0, ids, 10);
    struct qn_rows kept = last_row_of(model, ids, 10);
    const int32_t tokens[] = {-1, 320, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < QN_LEN(tokens); i++) {
        const int32_t pair[] = {5, tokens[i]};
        const struct quern_item items[] = {{.token = 5, .seq = 1, .logits = true},
                                           {.token = tokens[i], .seq = 0, .logits = true}};
        assert_int_equal(quern_session_feed(s, 0, pair, 2, &err), QUERN_ERR_PARAM);
        assert_int_equal(quern_session_prompt(s, 0, pair, 2, NULL, &err), QUERN_ERR_PARAM);
        assert_int_equal(quern_session_eval(s, items, 2, &err), QUERN_ERR_PARAM);
    }
    const struct quern_item stray = {.token = 1, .seq = 2};
    assert_int_equal(quern_session_eval(s, &stray, 1, &err), QUERN_ERR_PARAM);
    assert_int_equal(quern_session_feed(s, 2, ids, 1, &err), QUERN_ERR_PARAM);
    assert_int_equal(quern_session_prompt(s, 2, ids, 1, NULL, &err), QUERN_ERR_PARAM);
    assert_int_equal(quern_session_prompt(s, 0, ids, 0, NULL, &err), QUERN_ERR_PARAM);
    assert_int_equal(quern_session_truncate(s, 2, 0, &err), QUERN_ERR_PARAM);
    assert_int_equal(quern_session_fork(s, 2, 0, &err), QUERN_ERR_PARAM);
    assert_int_equal(quern_session_fork(s, 0, 2, &err), QUERN_ERR_PARAM);
    assert_int_equal(quern_session_length(s, 2), 0);
    assert_null(quern_session_tokens(s, 2));
    /* none of it has touched anything */
    assert_int_equal(quern_session_length(s, 0), 10);
    assert_int_equal(quern_session_length(s, 1), 0);
    assert_true(qn_last_row_is(s, &kept, 0));
    assert_int_equal(quern_session_eval(s, NULL, 0, &err), QUERN_OK);
    assert_int_equal(quern_session_n_logits(s), 0);
    /* nobody needs to ask for the reason */
    assert_int_equal(quern_session_feed(s, 0, tokens, 1, NULL), QUERN_ERR_PARAM);
    quern_session_destroy(&s);
    quern_session_destroy(&s);
    quern_model_destroy(&model);
    quern_model_destroy(&model);
    qn_rows_free(&kept);
}

/* ---- spans ---- */

static void test_spans(void **state)
{
    static const char *const devices[] = {"cpu", "cpu:0,cpu:1", "null"};
    for (size_t m = 0; m < QN_LEN(models); m++)
        for (size_t d = 0; d < QN_LEN(devices); d++) {
            struct quern_model *model =
                qn_open_golden("models", models[m], quern_model_params(.device = devices[d], .n_threads = 1));
            assert_non_null(model);
            uint32_t n_nodes = model->graph.view.n_nodes, last_span = 0;
            uint8_t place[256] = {0};
            assert_true(n_nodes <= 256);
            for (uint32_t i = 0; i < n_nodes && d == 1; i++)
                place[i] = i / 5 % 2;
            if (d == 1)
                qn_place_both(model, place);
            struct quern_trace *trace;
            struct quern_error err = {0};
            assert_int_equal(quern_trace_create(&trace, NULL, &err), QUERN_OK);
            struct quern_session *s = CREATE(model, .n_batch = 16, .trace = trace);
            int32_t ids[43];
            qn_text(ids, 43, 15);
            feed(s, 0, ids, 40);
            for (int i = 40; i < 43; i++)
                feed(s, 0, &ids[i], 1);
            enum { STEPS = 3 + 3 };
            const uint32_t n_tokens[STEPS] = {16, 16, 8, 1, 1, 1};
            assert_int_equal(quern_trace_count(trace), (size_t)STEPS * n_nodes);
            assert_int_equal(quern_trace_lost(trace), 0);
            uint64_t clock = 0;
            for (size_t i = 0; i < (size_t)STEPS * n_nodes; i++) {
                const struct quern_span *span = quern_trace_at(trace, i);
                const struct quern_node *node = quern_graph_node(&model->graph.view, span->node);
                assert_int_equal(span->step, i / n_nodes);
                assert_int_equal(span->node, i % n_nodes); /* each node once, in order */
                assert_int_equal(span->device, place[span->node]);
                assert_int_equal(span->op, node->op);
                assert_int_equal(span->layer, node->layer);
                assert_int_equal(span->n_tokens, n_tokens[span->step]);
                assert_true(span->begin_ns >= clock && span->end_ns >= span->begin_ns);
                assert_true(span->bytes > 0 || node->op == QUERN_OP_ROWS || node->op == QUERN_OP_MATMUL ||
                            node->op == QUERN_OP_NORM || node->op == QUERN_OP_SELECT);
                clock = span->end_ns;
                last_span++;
            }
            assert_true(clock > 0);
            assert_null(quern_trace_at(trace, last_span));
            /* another session, without a trace, adds nothing */
            struct quern_session *quiet = CREATE(model);
            feed(quiet, 0, ids, 43);
            assert_int_equal(quern_trace_count(trace), last_span);
            quern_session_destroy(&quiet);
            quern_trace_clear(trace);
            assert_int_equal(quern_trace_count(trace), 0);
            feed(s, 0, ids, 1);
            assert_int_equal(quern_trace_count(trace), n_nodes);
            assert_int_equal(quern_trace_at(trace, 0)->step, 0);
            quern_session_destroy(&s);
            quern_trace_destroy(&trace);
            quern_model_destroy(&model);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks),          cmocka_unit_test(test_one_row),
        cmocka_unit_test(test_kv_formats),      cmocka_unit_test(test_fork),
        cmocka_unit_test(test_truncate),        cmocka_unit_test(test_prompt_reuse),
        cmocka_unit_test(test_sliding_windows), cmocka_unit_test(test_several_at_once),
        cmocka_unit_test(test_full_context),    cmocka_unit_test(test_shift),
        cmocka_unit_test(test_cancel),          cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_bad_requests),    cmocka_unit_test(test_spans),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
