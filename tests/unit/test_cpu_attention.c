/* KV_STORE and ATTENTION on the CPU driver against the formulas of driver.h in double precision, with all
 * instruction sets and in plain C. */
#include "formats/formats.h"
#include "support/cpu_case.h"
#include "test.h"

#include <math.h>

/* ---------------------------------------------------------------- KV and attention */

static const enum quern_format kv_formats[] = {QUERN_F32, QUERN_F16, QUERN_Q8_0, QUERN_Q4_0, QUERN_BF16};
enum { N_FORMATS = QN_LEN(kv_formats) };

static void test_kv_store(void **state)
{
    (void)state;
    for (size_t f = 0; f < QN_LEN(kv_formats); f++) {
        struct qn_case c;
        qn_cpu_case_init(&c, QUERN_OP_KV_STORE, 29, qn_cpu_isas[f % 2]);
        struct quern_kv_layer layer = {3, 64, 32, 0};
        enum quern_format format[2] = {kv_formats[f], kv_formats[(f + 1) % N_FORMATS]};
        qn_case_kv(&c, layer, format[0], format[1], 8, 12, 5);
        qn_case_place(&c, 3, (const uint32_t[]){0, 13, 7}, (const uint32_t[]){17, 1, 11}, 12);
        c.node.in[0] = qn_random_rows(&c, 3 * 64, 1);
        c.node.in[1] = qn_random_rows(&c, 3 * 32, 1);
        qn_case_run(&c);
        uint64_t written = 0;
        for (uint32_t t = 0; t < c.n_tokens; t++) {
            for (int part = 0; part < 2; part++) {
                uint32_t d = part ? 32 : 64;
                for (uint32_t h = 0; h < 3; h++) {
                    char want[64 * 4];
                    size_t bytes = (size_t)qn_format_row_bytes(format[part], d);
                    qn_format_get(format[part])
                        ->quantise(qn_case_data(&c, c.node.in[part]) + (t * 3 + h) * d, want, d);
                    assert_memory_equal(qn_case_kv_row(&c, part, c.sequence[t], c.position[t], h), want,
                                        bytes);
                    written += bytes;
                }
            }
        }
        uint64_t untouched = 0, total = 3 * 5 * c.kv_at.page_bytes; /* 0xff is rare in what was written */
        for (uint32_t p = 0; p < c.n_pools; p++)
            for (uint64_t i = 0; i < 5 * c.kv_at.page_bytes; i++)
                untouched += (uint8_t)c.pool[p][i] == 0xff;
        assert_true(untouched >= total - written);
        struct quern_error err;
        c.pages[0][1] = QUERN_NONE / 8;
        assert_int_equal(qn_case_run_once(&c, "2", &err), QUERN_ERR_PARAM);
        qn_case_finish(&c);
    }
}

/* Fills K and V of all positions of a sequence; decoded values in kv[part][position][head][d]. */
static void fill_kv(struct qn_case *c, uint32_t sequence, uint32_t n, float *kv[2])
{
    for (int part = 0; part < 2; part++) {
        uint32_t d = part ? c->kv.head_dim_v : c->kv.head_dim_k;
        const struct qn_format *format =
            qn_format_get((enum quern_format)(part ? c->kv_at.v_format : c->kv_at.k_format));
        kv[part] = qn_random_floats((size_t)n * c->kv.n_head_kv * d);
        for (uint32_t at = 0; at < n * c->kv.n_head_kv; at++) {
            float *row = kv[part] + (size_t)at * d;
            if (c->pages[sequence][at / c->kv.n_head_kv / c->kv_at.page_tokens] == QUERN_NONE)
                continue;
            char *stored = qn_case_kv_row(c, part, sequence, at / c->kv.n_head_kv, at % c->kv.n_head_kv);
            format->quantise(row, stored, d);
            format->dequantise(stored, row, d);
        }
    }
}

/* One head of one token, by the formula. out: [head_dim_v] */
static void attention_expected(struct qn_case *c, const float *q, float *const kv[2], uint32_t kv_head,
                               uint32_t position, const float *sink, double *out)
{
    const struct quern_attention_attr *attr = &c->node.attr.attention;
    uint32_t dk = c->kv.head_dim_k, dv = c->kv.head_dim_v, n_kv = c->kv.n_head_kv;
    assert_true(position < 2600);
    double score[2600], max = sink ? *sink : -INFINITY, sum = 0;
    uint32_t first = c->kv.window > 0 && position >= c->kv.window ? position - c->kv.window + 1 : 0;
    for (uint32_t j = first; j <= position; j++) {
        double dot = 0;
        for (uint32_t i = 0; i < dk; i++)
            dot += (double)q[i] * kv[0][((size_t)j * n_kv + kv_head) * dk + i];
        score[j] = attr->scale * dot;
        if (attr->softcap > 0)
            score[j] = attr->softcap * tanh(score[j] / attr->softcap);
        max = fmax(max, score[j]);
    }
    sum = sink ? exp(*sink - max) : 0;
    for (uint32_t i = 0; i < dv; i++)
        out[i] = 0;
    for (uint32_t j = first; j <= position; j++) {
        double p = exp(score[j] - max);
        sum += p;
        for (uint32_t i = 0; i < dv; i++)
            out[i] += p * kv[1][((size_t)j * n_kv + kv_head) * dv + i];
    }
    for (uint32_t i = 0; i < dv; i++)
        out[i] /= sum;
}

struct attention_case {
    struct quern_kv_layer layer;
    uint32_t n_head, page_tokens, n_seqs;
    uint32_t held[3], fed[3];
    float scale, softcap;
    bool sinks, drop_old_pages;
};

static void check_attention(const struct attention_case *a, enum quern_format k_format,
                            enum quern_format v_format, const char *isa)
{
    struct qn_case c;
    uint32_t tokens = a->fed[0] + a->fed[1] + a->fed[2];
    qn_cpu_case_init(&c, QUERN_OP_ATTENTION, tokens, isa);
    c.node.attr.attention = (struct quern_attention_attr){0, a->n_head, a->scale, a->softcap};
    qn_case_kv(&c, a->layer, k_format, v_format, a->page_tokens, 60, 8);
    qn_case_place(&c, a->n_seqs, a->held, a->fed, 60);
    if (a->drop_old_pages)
        for (uint32_t p = 0; p < (a->held[0] - a->layer.window + 1) / a->page_tokens; p++)
            c.pages[0][p] = QUERN_NONE;
    float *kv[3][2] = {{NULL}};
    for (uint32_t s = 0; s < a->n_seqs; s++)
        fill_kv(&c, s, a->held[s] + a->fed[s], kv[s]);
    c.node.in[0] = qn_random_rows(&c, a->layer.head_dim_k * a->n_head, 1);
    if (a->sinks)
        c.node.in[1] = qn_random_vector(&c, a->n_head);
    c.node.out[0] = qn_case_rows(&c, QUERN_F32, a->layer.head_dim_v * a->n_head, 1, NULL);
    qn_case_run(&c);
    for (uint32_t at = 0; at < tokens * a->n_head; at++) {
        uint32_t t = at / a->n_head, h = at % a->n_head;
        const float *sink = a->sinks ? qn_case_data(&c, c.node.in[1]) + h : NULL;
        double want[256];
        attention_expected(&c, qn_case_data(&c, c.node.in[0]) + (size_t)at * a->layer.head_dim_k,
                           kv[c.sequence[t]], h / (a->n_head / a->layer.n_head_kv), c.position[t], sink,
                           want);
        for (uint32_t i = 0; i < a->layer.head_dim_v; i++)
            qn_assert_near(qn_case_data(&c, c.node.out[0])[(size_t)at * a->layer.head_dim_v + i], want[i], 1,
                           4e-6, "attention", (size_t)at * a->layer.head_dim_v + i);
    }
    for (uint32_t s = 0; s < 3; s++)
        for (int part = 0; part < 2; part++)
            free(kv[s][part]);
    qn_case_finish(&c);
}

static void test_attention(void **state)
{
    (void)state;
    enum { LONG = 1000 }; /* contexts that are tried in one format alone */
    static const struct attention_case cases[] = {
        {{1, 32, 32, 0}, 1, 16, 1, {0}, {1}, 0.2f, 0, false, false},
        {{2, 64, 64, 0}, 8, 16, 1, {0}, {33}, 0.125f, 0, false, false},
        {{2, 64, 32, 0}, 6, 8, 3, {15, 0, 16}, {1, 9, 17}, 0.3f, 0, true, false},
        {{3, 96, 64, 10}, 3, 8, 2, {40, 3}, {5, 20}, 0.1f, 0, false, true},
        {{1, 128, 128, 16}, 4, 16, 1, {100}, {16}, 0.5f, 5.0f, true, true},
        {{4, 32, 64, 1}, 4, 4, 2, {7, 8}, {3, 1}, 1.0f, 0, false, false},
        {{2, 256, 256, 0}, 4, 64, 1, {500}, {2}, 4.0f, 30.0f, false, false}, /* scores far apart */
        /* contexts of several parts: as items for few tokens, one after another for more */
        {{1, 64, 64, 0}, 8, 64, 1, {2100}, {1}, 0.125f, 0, false, false},
        {{1, 32, 64, 0}, 6, 64, 2, {1500, 1023}, {2, 1}, 0.3f, 0, true, false},
        {{1, 32, 32, 1100}, 2, 64, 1, {2500}, {3}, 0.3f, 0, true, true},
        {{1, 32, 32, 0}, 4, 64, 1, {1000}, {60}, 1.0f, 20.0f, false, false},
        {{2, 32, 32, 40}, 4, 64, 1, {2030}, {60}, 0.3f, 0, true, true},
    };
    for (size_t i = 0; i < QN_LEN(cases); i++)
        for (size_t f = 0; f < QN_LEN(kv_formats); f++)
            if (cases[i].held[0] < LONG || f == i % N_FORMATS)
                check_attention(&cases[i], kv_formats[f], kv_formats[(f + i) % N_FORMATS],
                                qn_cpu_isas[(i + f) % 2]);

    struct qn_case c; /* a page that the window still needs has been freed */
    qn_cpu_case_init(&c, QUERN_OP_ATTENTION, 1, "all");
    c.node.attr.attention = (struct quern_attention_attr){0, 2, 1, 0};
    qn_case_kv(&c, (struct quern_kv_layer){2, 32, 32, 0}, QUERN_F32, QUERN_F32, 4, 4, 4);
    qn_case_place(&c, 1, (const uint32_t[]){9}, (const uint32_t[]){1}, 4);
    c.pages[0][1] = QUERN_NONE;
    c.node.in[0] = qn_random_rows(&c, 64, 1);
    c.node.out[0] = qn_case_rows(&c, QUERN_F32, 64, 1, NULL);
    struct quern_error err;
    assert_int_equal(qn_case_run_once(&c, "2", &err), QUERN_ERR_PARAM);
    assert_non_null(strstr(err.text, "page"));
    qn_case_finish(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kv_store),
        cmocka_unit_test(test_attention),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
