/* The CPU driver's operations against the formulas of driver.h in double precision, with all instruction sets
 * and in plain C. Attention is in test_cpu_attention.c. */
#include "formats/formats.h"
#include "support/activation.h"
#include "support/cpu_case.h"
#include "test.h"

#include <math.h>

/* ---------------------------------------------------------------- rows and elements */

static void test_embed_rows(void **state)
{
    (void)state;
    static const enum quern_format formats[] = {QUERN_F32, QUERN_F16, QUERN_BF16, QUERN_Q8_0, QUERN_Q4_0};
    for (size_t f = 0; f < QN_LEN(formats); f++) {
        struct qn_case c;
        qn_cpu_case_init(&c, QUERN_OP_EMBED, 7, qn_cpu_isas[f % 2]);
        double table[96 * 43];
        c.node.attr.embed.scale = f % 2 ? 1.0f : 9.5f;
        c.node.in[0] = qn_random_weight(&c, formats[f], 96, 43, 1, table);
        c.node.out[0] = qn_case_rows(&c, QUERN_F32, 96, 1, NULL);
        for (uint32_t t = 0; t < 7; t++)
            c.token[t] = t == 6 ? 42 : (int32_t)(qn_rng() % 43);
        qn_case_run(&c);
        for (uint32_t t = 0; t < 7; t++)
            for (int i = 0; i < 96; i++)
                qn_assert_near(qn_case_data(&c, c.node.out[0])[t * 96 + (uint32_t)i],
                               (double)c.node.attr.embed.scale * table[c.token[t] * 96 + i], 10, 1e-6,
                               "embed", (size_t)i);
        struct quern_error err;
        const int32_t token = c.token[3];
        c.token[3] = 43;
        assert_int_equal(qn_case_run_once(&c, "2", &err), QUERN_ERR_PARAM);
        c.token[3] = -1;
        assert_int_equal(qn_case_run_once(&c, "2", &err), QUERN_ERR_PARAM);
        c.token[3] = token;
        qn_check_layouts(&c);
        qn_case_finish(&c);
    }
    struct qn_case c;
    qn_cpu_case_init(&c, QUERN_OP_ROWS, 9, "all");
    c.n_outputs = 3;
    c.output[0] = 1, c.output[1] = 4, c.output[2] = 8;
    c.node.in[0] = qn_random_rows(&c, 33, 1);
    c.node.out[0] = qn_case_output_rows(&c, QUERN_F32, 33, NULL);
    qn_case_run(&c);
    for (uint32_t o = 0; o < 3; o++)
        assert_memory_equal(qn_case_data(&c, c.node.out[0]) + o * 33,
                            qn_case_data(&c, c.node.in[0]) + c.output[o] * 33, 33 * sizeof(float));
    struct quern_error err;
    c.output[2] = 9;
    assert_int_equal(qn_case_run_once(&c, "1", &err), QUERN_ERR_PARAM);
    qn_case_finish(&c);
}

struct norm_case {
    enum quern_norm_kind kind;
    uint32_t d, group, tokens;
    bool weight, bias, addend, in_place;
};

static void check_norm(const struct norm_case *n, const char *isa)
{
    struct qn_case c;
    qn_cpu_case_init(&c, QUERN_OP_NORM, n->tokens, isa);
    c.in_place = n->in_place;
    c.node.attr.norm = (struct quern_norm_attr){n->kind, n->group, 1e-5f};
    c.node.in[0] = qn_random_rows(&c, n->d, 1);
    if (n->weight)
        c.node.in[1] = qn_random_vector(&c, n->group);
    if (n->bias)
        c.node.in[2] = qn_random_vector(&c, n->group);
    c.node.out[0] = qn_case_rows(&c, QUERN_F32, n->d, 1, NULL);
    if (n->addend) {
        c.node.in[3] = qn_random_rows(&c, n->d, 1);
        c.node.out[1] = qn_case_rows(&c, QUERN_F32, n->d, 1, NULL);
    }
    qn_case_run(&c);
    const float *x = qn_case_data(&c, c.node.in[0]), *y = qn_case_data(&c, c.node.out[0]);
    for (size_t g = 0; g < (size_t)n->d * n->tokens; g += n->group) {
        double value[4096], sum = 0, squares = 0;
        for (size_t i = 0; i < n->group; i++) {
            value[i] = x[g + i];
            if (n->addend) {
                value[i] = (float)value[i] + qn_case_data(&c, c.node.in[3])[g + i];
                assert_true(qn_case_data(&c, c.node.out[1])[g + i] == (float)value[i]);
            }
            sum += value[i];
        }
        double mean = n->kind == QUERN_NORM_LAYER ? sum / n->group : 0;
        for (size_t i = 0; i < n->group; i++)
            squares += (value[i] - mean) * (value[i] - mean);
        double scale = 1 / sqrt(squares / n->group + (double)1e-5f);
        for (size_t i = 0; i < n->group; i++) {
            double want = (value[i] - mean) * scale;
            if (n->weight)
                want *= qn_case_data(&c, c.node.in[1])[i];
            if (n->bias)
                want += qn_case_data(&c, c.node.in[2])[i];
            qn_assert_near(y[g + i], want, 3, 2e-6, "norm", g + i);
        }
    }
    qn_case_finish(&c);
}

static void test_norm(void **state)
{
    (void)state;
    static const struct norm_case cases[] = {
        {QUERN_NORM_RMS, 64, 64, 1, true, false, false, false},
        {QUERN_NORM_RMS, 4096, 4096, 5, true, false, true, true},
        {QUERN_NORM_RMS, 320, 80, 17, true, false, false, true},
        {QUERN_NORM_RMS, 7, 7, 3, false, false, false, false},
        {QUERN_NORM_RMS, 1, 1, 2, true, false, true, false},
        {QUERN_NORM_LAYER, 768, 768, 9, true, true, false, true},
        {QUERN_NORM_LAYER, 99, 33, 4, false, true, true, false},
    };
    for (size_t i = 0; i < QN_LEN(cases); i++)
        for (size_t isa = 0; isa < QN_CPU_ISAS; isa++)
            check_norm(&cases[i], qn_cpu_isas[isa]);
}

static void test_activation(void **state)
{
    (void)state;
    for (uint32_t act = QUERN_ACT_NONE; act <= QUERN_ACT_RELU2; act++) {
        for (int way = 0; way < 6; way++) {
            bool split = way % 3 == 2, up = way % 3 == 1;
            uint32_t n = 100 + act, tokens = way < 3 ? 11 : 1;
            struct qn_case c;
            qn_cpu_case_init(&c, QUERN_OP_ACTIVATION, tokens, qn_cpu_isas[way & 1]);
            c.in_place = !split;
            c.node.attr.activation = (struct quern_activation_attr){act, split};
            c.node.in[0] = qn_random_rows(&c, split ? 2 * n : n, 1);
            float *gate = qn_case_data(&c, c.node.in[0]);
            for (uint32_t i = 0; i < n * tokens; i++)
                gate[i] *= i % 5 == 0 ? 100 : 6; /* far out, too */
            if (up)
                c.node.in[1] = qn_random_rows(&c, n, 1);
            c.node.out[0] = qn_case_rows(&c, QUERN_F32, n, 1, NULL);
            qn_case_run(&c);
            gate = qn_case_data(&c, c.node.in[0]);
            for (uint32_t i = 0; i < n * tokens; i++) {
                float *row = gate + i / n * n * (split ? 2 : 1);
                double x = row[i % n], other = 1;
                if (split)
                    other = row[n + i % n];
                if (up)
                    other = qn_case_data(&c, c.node.in[1])[i];
                qn_assert_near(qn_case_data(&c, c.node.out[0])[i], qn_exact_activation(act, x) * other,
                               fabs(x * other) * (act == QUERN_ACT_RELU2 ? fabs(x) : 1), 2e-6, "activation",
                               i);
            }
            qn_case_finish(&c);
        }
    }
}

static void test_add(void **state)
{
    (void)state;
    struct qn_case c;
    qn_cpu_case_init(&c, QUERN_OP_ADD, 13, "all");
    c.in_place = true;
    c.node.attr.add.scale = 0.375f;
    c.node.in[0] = qn_random_rows(&c, 515, 1);
    c.node.in[1] = qn_random_rows(&c, 515, 1);
    c.node.out[0] = qn_case_rows(&c, QUERN_F32, 515, 1, NULL);
    qn_case_run(&c);
    for (size_t i = 0; i < 515 * 13; i++)
        qn_assert_near(qn_case_data(&c, c.node.out[0])[i],
                       qn_case_data(&c, c.node.in[0])[i] + 0.375 * qn_case_data(&c, c.node.in[1])[i], 1, 1e-6,
                       "add", i);
    qn_case_finish(&c);
}

/* ---------------------------------------------------------------- matmul */

struct matmul_case {
    enum quern_format format[3];
    uint32_t n_weights, k, n[3], tokens;
    uint32_t act;
    bool glu, bias, residual, exact, outputs;
    float scale, softcap;
};

/* What 8-bit activations lose: half a step of the block's largest element, against the weights. */
static double product(const double *w, const float *x, uint32_t k, bool exact, double *scale, double *slack)
{
    double sum = 0, size = 0, loss = 0;
    for (uint32_t b = 0; b < k; b += 32) {
        double largest = 0, weights = 0;
        for (uint32_t i = b; i < b + 32 && i < k; i++) {
            sum += w[i] * x[i];
            size += fabs(w[i] * x[i]);
            largest = fmax(largest, fabs((double)x[i]));
            weights += fabs(w[i]);
        }
        loss += largest / 127 * 0.5 * weights;
    }
    *scale = size;
    *slack = exact ? 0 : loss;
    return sum;
}

static bool is_plain(enum quern_format format)
{
    return format == QUERN_F32 || format == QUERN_F16 || format == QUERN_BF16;
}

static void build_matmul(const struct matmul_case *m, struct qn_case *c, double *decoded[3])
{
    uint32_t n_out = m->glu ? 1 : m->n_weights;
    c->exact = m->exact;
    c->node.attr.matmul = (struct quern_matmul_attr){.n_weights = m->n_weights,
                                                     .act = m->act,
                                                     .glu = m->glu,
                                                     .scale = m->scale,
                                                     .softcap = m->softcap,
                                                     .residual_scale = 0.5f};
    if (m->outputs) {
        c->n_outputs = c->n_tokens;
        for (uint32_t t = 0; t < c->n_tokens; t++)
            c->output[t] = t;
        float *x = qn_random_floats((size_t)m->k * c->n_tokens);
        c->node.in[0] = qn_case_output_rows(c, QUERN_F32, m->k, x);
        free(x);
    } else {
        c->node.in[0] = qn_random_rows(c, m->k, 1);
    }
    for (uint32_t i = 0; i < m->n_weights; i++) {
        decoded[i] = malloc(m->k * m->n[i] * sizeof(double));
        c->node.in[1 + i] = qn_random_weight(c, m->format[i], m->k, m->n[i], 1, decoded[i]);
        if (m->bias)
            c->node.in[4 + i] = qn_random_vector(c, m->n[i]);
    }
    for (uint32_t i = 0; i < n_out; i++)
        c->node.out[i] = m->outputs ? qn_case_output_rows(c, QUERN_F32, m->n[i], NULL)
                                    : qn_case_rows(c, QUERN_F32, m->n[i], 1, NULL);
    if (m->residual)
        c->node.in[7] = qn_random_rows(c, m->n[0], 1);
}

/* Value of weight `i`, row `r`, token `t` with its bias; *tolerance: what it may be off. */
static double matmul_value(const struct matmul_case *m, struct qn_case *c, double *const decoded[3],
                           uint32_t i, uint32_t r, uint32_t t, double *tolerance)
{
    double scale, slack;
    double value = product(decoded[i] + (size_t)r * m->k, qn_case_data(c, c->node.in[0]) + (size_t)t * m->k,
                           m->k, m->exact || is_plain(m->format[i]), &scale, &slack);
    if (m->bias)
        value += qn_case_data(c, c->node.in[4 + i])[r];
    *tolerance = 3e-6 * (scale + 1) + slack;
    return value;
}

static void check_matmul(const struct matmul_case *m, const char *isa)
{
    struct qn_case c;
    double *decoded[3] = {NULL, NULL, NULL};
    qn_cpu_case_init(&c, QUERN_OP_MATMUL, m->tokens, isa);
    build_matmul(m, &c, decoded);
    qn_case_run(&c);
    for (uint32_t i = 0; i < (m->glu ? 1 : m->n_weights); i++) {
        for (uint32_t at = 0; at < m->n[i] * m->tokens; at++) {
            uint32_t t = at / m->n[i], r = at % m->n[i];
            double off, off_up;
            double want = matmul_value(m, &c, decoded, i, r, t, &off);
            if (m->glu) {
                double up = matmul_value(m, &c, decoded, 1, r, t, &off_up),
                       gate = qn_exact_activation(m->act, want);
                off = 1.2 * (off * (fabs(up) + off_up) + off_up * fabs(gate));
                want = gate * up;
            } else {
                want *= m->scale;
                off *= 1.2 * m->scale;
                if (m->softcap > 0)
                    want = m->softcap * tanh(want / m->softcap);
                off *= m->act == QUERN_ACT_RELU2 ? 2 * fabs(want) + off : 1;
                want = qn_exact_activation(m->act, want);
            }
            if (m->residual)
                want = qn_case_data(&c, c.node.in[7])[at] + 0.5 * want;
            qn_assert_near(qn_case_data(&c, c.node.out[i])[at], want, 1, off + 1e-6,
                           qn_format_get(m->format[i])->name, at);
        }
    }
    for (int i = 0; i < 3; i++)
        free(decoded[i]);
    qn_check_layouts(&c);
    qn_case_finish(&c);
}

static void test_matmul(void **state)
{
    (void)state;
    static const struct matmul_case cases[] = {
        {{QUERN_F32}, 1, 64, {1}, 1, .scale = 1},
        {{QUERN_F32}, 1, 7, {5}, 3, .scale = 1, .exact = true},
        {{QUERN_F16}, 1, 96, {33}, 2, .scale = 1},
        {{QUERN_BF16}, 1, 288, {70}, 5, .scale = 1, .bias = true},
        {{QUERN_Q8_0}, 1, 32, {1}, 1, .scale = 1},
        {{QUERN_Q8_0}, 1, 9216, {18}, 3, .scale = 1}, /* longer than a piece of the plain C kernel */
        {{QUERN_Q4_0, QUERN_Q8_0, QUERN_F16}, 3, 256, {128, 33, 17}, 19, .scale = 1, .bias = true},
        {{QUERN_Q4_1, QUERN_Q5_0, QUERN_Q5_1}, 3, 128, {16, 48, 1}, 4, .scale = 1},
        {{QUERN_Q4_0, QUERN_Q4_0}, 2, 320, {100, 100}, 37, .act = QUERN_ACT_SILU, .glu = true, .scale = 1},
        {{QUERN_Q8_0, QUERN_F32},
         2,
         64,
         {50, 50},
         2,
         .act = QUERN_ACT_GELU_TANH,
         .glu = true,
         .bias = true,
         .residual = true,
         .scale = 1},
        {{QUERN_Q8_0}, 1, 160, {64}, 1, .residual = true, .scale = 1},
        {{QUERN_Q8_0}, 1, 160, {31}, 200, .residual = true, .bias = true, .scale = 0.25f},
        {{QUERN_F32}, 1, 64, {300}, 3, .outputs = true, .scale = 1, .softcap = 2.0f},
        /* shared by threads in units of few rows */
        {{QUERN_F32}, 1, 1024, {75}, 1, .scale = 1, .bias = true},
        {{QUERN_F16, QUERN_F16}, 2, 768, {130, 130}, 2, .act = QUERN_ACT_SILU, .glu = true, .scale = 1},
        {{QUERN_BF16, QUERN_Q4_0, QUERN_F32}, 3, 512, {70, 90, 41}, 2, .scale = 1},
        {{QUERN_Q4_0}, 1, 64, {40}, 6, .exact = true, .act = QUERN_ACT_RELU2, .bias = true, .scale = 1},
    };
    for (size_t i = 0; i < QN_LEN(cases); i++) {
        for (size_t isa = 0; isa < QN_CPU_ISAS; isa++) {
            struct matmul_case m = cases[i];
            check_matmul(&m, qn_cpu_isas[isa]);
            m.exact = !m.exact;
            check_matmul(&m, qn_cpu_isas[isa]);
        }
    }
}

/* ---------------------------------------------------------------- rope */

static void rope_expected(const struct quern_rope_attr *a, const float *factors, uint32_t position,
                          const float *x, double *y)
{
    const double two_pi = 6.283185307179586;
    for (uint32_t i = 0; i < a->head_dim; i++)
        y[i] = x[i];
    double low = floor(a->n_dims * log(a->n_ctx_orig / (a->beta_fast * two_pi)) / (2 * log(a->base)));
    double high = ceil(a->n_dims * log(a->n_ctx_orig / (a->beta_slow * two_pi)) / (2 * log(a->base)));
    low = fmin(fmax(low, 0), a->n_dims - 1.0);
    high = fmin(fmax(high, 0), a->n_dims - 1.0);
    for (uint32_t i = 0; i < a->n_dims / 2; i++) {
        double e = position * pow(a->base, -2.0 * i / a->n_dims) / (factors ? factors[i] : 1);
        double s = a->freq_scale * e, angle = s;
        if (a->ext_factor != 0) {
            double part = fmin(fmax((i - low) / fmax(0.001, high - low), 0), 1);
            double r = a->ext_factor * (1 - part);
            angle = s * (1 - r) + e * r;
        }
        uint32_t p = a->kind == QUERN_ROPE_HALVES ? i : 2 * i;
        uint32_t q = a->kind == QUERN_ROPE_HALVES ? i + a->n_dims / 2 : 2 * i + 1;
        y[p] = (x[p] * cos(angle) - x[q] * sin(angle)) * a->mscale;
        y[q] = (x[p] * sin(angle) + x[q] * cos(angle)) * a->mscale;
    }
}

static void test_rope(void **state)
{
    (void)state;
    static const struct {
        struct quern_rope_attr attr;
        uint32_t n_head, tokens, first;
        bool factors, in_place;
    } cases[] = {
        {{QUERN_ROPE_ADJACENT, 64, 64, 10000, 1, 0, 0, 0, 1, 0}, 4, 5, 0, false, true},
        {{QUERN_ROPE_HALVES, 128, 128, 500000, 1, 0, 0, 0, 1, 0}, 3, 1, 131071, true, false},
        {{QUERN_ROPE_HALVES, 96, 48, 10000, 0.25f, 0, 0, 0, 1, 0}, 2, 9, 4000, false, false},
        {{QUERN_ROPE_ADJACENT, 80, 32, 10000, 0.125f, 1, 32, 1, 1.2f, 4096}, 2, 33, 20000, false, true},
        {{QUERN_ROPE_HALVES, 64, 64, 1000000, 0.25f, 1, 32, 1, 1.1f, 32768}, 5, 3, 100000, true, true},
        {{QUERN_ROPE_ADJACENT, 2, 2, 10000, 1, 0, 0, 0, 1, 0}, 1, 2, 7, false, false},
    };
    for (size_t i = 0; i < QN_LEN(cases); i++) {
        struct qn_case c;
        const struct quern_rope_attr *attr = &cases[i].attr;
        qn_cpu_case_init(&c, QUERN_OP_ROPE, cases[i].tokens, qn_cpu_isas[i % 2]);
        c.in_place = cases[i].in_place;
        c.node.attr.rope = *attr;
        c.node.in[0] = qn_random_rows(&c, attr->head_dim * cases[i].n_head, 1);
        if (cases[i].factors) {
            c.node.in[1] = qn_random_vector(&c, attr->n_dims / 2);
            for (uint32_t p = 0; p < attr->n_dims / 2; p++)
                qn_case_data(&c, c.node.in[1])[p] = qn_uniform(1, 8);
        }
        c.node.out[0] = qn_case_rows(&c, QUERN_F32, attr->head_dim * cases[i].n_head, 1, NULL);
        for (uint32_t t = 0; t < c.n_tokens; t++)
            c.position[t] = cases[i].first + 3 * t;
        c.kv_at.page_tokens = 1u << 16; /* so that the positions have pages */
        qn_case_run(&c);
        for (uint32_t h = 0; h < cases[i].n_head * c.n_tokens; h++) {
            double want[128];
            const float *factors = cases[i].factors ? qn_case_data(&c, c.node.in[1]) : NULL;
            rope_expected(attr, factors, c.position[h / cases[i].n_head],
                          qn_case_data(&c, c.node.in[0]) + h * attr->head_dim, want);
            for (uint32_t e = 0; e < attr->head_dim; e++)
                qn_assert_near(qn_case_data(&c, c.node.out[0])[h * attr->head_dim + e], want[e], 1, 1e-6,
                               "rope", h * attr->head_dim + e);
        }
        qn_case_finish(&c);
    }
}

/* ---------------------------------------------------------------- mixture of experts */

static void route_expected(const struct quern_moe_route_attr *a, const float *logits, const float *bias,
                           int32_t *ids, double *weights)
{
    double score[300], sum = 0;
    uint8_t taken[300] = {0};
    for (uint32_t e = 0; e < a->n_expert; e++)
        sum += exp(logits[e]);
    for (uint32_t e = 0; e < a->n_expert; e++)
        score[e] = a->gating == QUERN_GATING_SOFTMAX   ? exp(logits[e]) / sum
                   : a->gating == QUERN_GATING_SIGMOID ? 1 / (1 + exp(-(double)logits[e]))
                                                       : (double)logits[e];
    sum = 0;
    for (uint32_t j = 0; j < a->n_used; j++) {
        uint32_t best = a->n_expert;
        for (uint32_t e = 0; e < a->n_expert; e++)
            if (!taken[e] && (best == a->n_expert ||
                              score[e] + (bias ? bias[e] : 0) > score[best] + (bias ? bias[best] : 0)))
                best = e;
        taken[best] = 1;
        ids[j] = (int32_t)best;
        weights[j] = a->gating == QUERN_GATING_SOFTMAX_SELECTED ? exp(score[best]) : score[best];
        sum += weights[j];
    }
    for (uint32_t j = 0; j < a->n_used; j++) {
        if (a->normalise || a->gating == QUERN_GATING_SOFTMAX_SELECTED)
            weights[j] /= sum;
        weights[j] *= a->scale;
    }
}

static void test_moe_route(void **state)
{
    (void)state;
    static const struct {
        struct quern_moe_route_attr attr;
        bool bias;
    } cases[] = {
        {{8, 2, QUERN_GATING_SOFTMAX, 1, 1}, false},
        {{60, 4, QUERN_GATING_SOFTMAX, 0, 1}, false},
        {{256, 8, QUERN_GATING_SIGMOID, 1, 2.5f}, true},
        {{32, 4, QUERN_GATING_SOFTMAX_SELECTED, 0, 1}, false},
        {{5, 5, QUERN_GATING_SOFTMAX_SELECTED, 1, 0.5f}, true},
        {{1, 1, QUERN_GATING_SOFTMAX, 1, 1}, false},
    };
    for (size_t i = 0; i < QN_LEN(cases); i++) {
        const struct quern_moe_route_attr *attr = &cases[i].attr;
        struct qn_case c;
        qn_cpu_case_init(&c, QUERN_OP_MOE_ROUTE, 23, qn_cpu_isas[i % 2]);
        c.node.attr.moe_route = *attr;
        c.node.in[0] = qn_random_rows(&c, attr->n_expert, 1);
        float *logits = qn_case_data(&c, c.node.in[0]);
        for (uint32_t e = 0; e < attr->n_expert; e++)
            logits[e] = 0; /* the first token: all equal, the lower ids win */
        if (cases[i].bias)
            c.node.in[1] = qn_random_vector(&c, attr->n_expert);
        c.node.out[0] = qn_case_rows(&c, QUERN_I32, attr->n_used, 1, NULL);
        c.node.out[1] = qn_case_rows(&c, QUERN_F32, attr->n_used, 1, NULL);
        qn_case_run(&c);
        logits = qn_case_data(&c, c.node.in[0]);
        const int32_t *ids = (const int32_t *)(const void *)qn_case_data(&c, c.node.out[0]);
        for (uint32_t t = 0; t < c.n_tokens; t++) {
            int32_t want_ids[8];
            double want[8];
            route_expected(attr, logits + t * attr->n_expert,
                           cases[i].bias ? qn_case_data(&c, c.node.in[1]) : NULL, want_ids, want);
            for (uint32_t j = 0; j < attr->n_used; j++) {
                assert_int_equal(ids[t * attr->n_used + j], want_ids[j]);
                qn_assert_near(qn_case_data(&c, c.node.out[1])[t * attr->n_used + j], want[j], 1, 2e-6,
                               "route", t * attr->n_used + j);
            }
        }
        qn_case_finish(&c);
    }
}

struct moe_case {
    enum quern_format format;
    uint32_t k, n, n_expert, n_used, tokens;
    bool glu, bias, per_slot, slots, all_one_expert, exact;
};

static uint32_t add_ids(const struct moe_case *m, struct qn_case *c)
{
    uint32_t id = qn_case_rows(c, QUERN_I32, m->n_used, 1, NULL);
    int32_t *ids = (int32_t *)(void *)qn_case_data(c, id);
    for (uint32_t t = 0; t < m->tokens; t++)
        for (uint32_t j = 0; j < m->n_used; j++)
            ids[t * m->n_used + j] =
                (int32_t)(((m->all_one_expert ? 2 : qn_rng()) + j * (1 + t % 2)) % m->n_expert);
    return id;
}

static void check_moe_matmul(const struct moe_case *m, const char *isa)
{
    struct qn_case c;
    qn_cpu_case_init(&c, QUERN_OP_MOE_MATMUL, m->tokens, isa);
    c.exact = m->exact;
    uint32_t sides = m->glu ? 2 : 1, stored = m->slots ? m->n_expert / 2 : m->n_expert;
    size_t per_expert = (size_t)m->k * m->n;
    c.node.attr.moe_matmul =
        (struct quern_moe_matmul_attr){sides, m->glu ? QUERN_ACT_SILU : QUERN_ACT_NONE, m->glu, m->per_slot};
    c.node.in[0] = qn_random_rows(&c, m->k, m->per_slot ? m->n_used : 1);
    double *decoded[2] = {NULL, NULL};
    for (uint32_t i = 0; i < sides; i++) {
        decoded[i] = malloc(per_expert * stored * sizeof(double));
        c.node.in[1 + i] = qn_random_weight(&c, m->format, m->k, m->n, stored, decoded[i]);
        if (m->bias)
            c.node.in[3 + i] = qn_random_weight(&c, QUERN_F32, m->n, stored, 1, NULL);
    }
    c.node.in[5] = add_ids(m, &c);
    int32_t slots[64];
    for (uint32_t e = 0; e < m->n_expert; e++) /* odd experts are absent, the others lie in reverse */
        slots[e] = !m->slots ? (int32_t)e : e % 2 ? -1 : (int32_t)(stored - 1 - e / 2);
    if (m->slots)
        c.node.in[6] = qn_case_weight(&c, QUERN_I32, m->n_expert, 1, 1, slots);
    c.node.out[0] = qn_case_rows(&c, QUERN_F32, m->n, m->n_used, NULL);
    qn_case_run(&c);
    const int32_t *ids = (const int32_t *)(const void *)qn_case_data(&c, c.node.in[5]);
    for (uint32_t pair = 0; pair < m->tokens * m->n_used; pair++) {
        int32_t place = slots[ids[pair]];
        const float *x =
            qn_case_data(&c, c.node.in[0]) + (size_t)(m->per_slot ? pair : pair / m->n_used) * m->k;
        for (uint32_t r = 0; r < m->n; r++) {
            double value[2] = {0, 1}, off[2] = {0, 0}, scale, slack;
            for (uint32_t i = 0; i < sides && place >= 0; i++) {
                value[i] = product(decoded[i] + (size_t)place * per_expert + (size_t)r * m->k, x, m->k,
                                   m->exact || is_plain(m->format), &scale, &slack);
                if (m->bias)
                    value[i] += qn_case_data(&c, c.node.in[3 + i])[(size_t)place * m->n + r];
                off[i] = 3e-6 * (scale + 1) + slack;
            }
            double gate = qn_exact_activation(c.node.attr.moe_matmul.act, value[0]);
            double tolerance = 1.2 * (off[0] * (fabs(value[1]) + off[1]) + off[1] * fabs(gate));
            qn_assert_near(qn_case_data(&c, c.node.out[0])[(size_t)pair * m->n + r], gate * value[1], 1,
                           tolerance, "moe_matmul", (size_t)pair * m->n + r);
        }
    }
    free(decoded[0]);
    free(decoded[1]);
    qn_check_layouts(&c);
    qn_case_finish(&c);
}

static void test_moe_matmul(void **state)
{
    (void)state;
    static const struct moe_case cases[] = {
        {QUERN_F32, 32, 17, 4, 2, 1, false, false, false, false, false, false},
        {QUERN_Q8_0, 64, 48, 8, 2, 21, true, false, false, false, false, false},
        {QUERN_Q4_0, 96, 33, 8, 4, 5, true, true, false, false, false, true},
        {QUERN_Q8_0, 64, 40, 8, 2, 33, false, true, true, false, true, false},
        {QUERN_Q8_0, 64, 40, 6, 3, 1, false, false, true, false, false, false},
        {QUERN_F16, 40, 20, 16, 2, 9, true, true, false, true, false, false},
        {QUERN_Q4_0, 64, 64, 64, 2, 3, false, false, true, true, false, false}, /* most experts idle */
    };
    for (size_t i = 0; i < QN_LEN(cases); i++)
        for (size_t isa = 0; isa < QN_CPU_ISAS; isa++)
            check_moe_matmul(&cases[i], qn_cpu_isas[isa]);
}

static void test_moe_combine(void **state)
{
    (void)state;
    for (int way = 0; way < 4; way++) {
        struct qn_case c;
        uint32_t n = 70, n_used = 3, tokens = 6;
        qn_cpu_case_init(&c, QUERN_OP_MOE_COMBINE, tokens, qn_cpu_isas[way & 1]);
        c.node.in[0] = qn_random_rows(&c, n, n_used);
        c.node.in[1] = qn_random_rows(&c, n_used, 1);
        if (way >= 1)
            c.node.in[2] = qn_random_rows(&c, n, 1);
        if (way >= 2)
            c.node.in[3] = qn_random_rows(&c, 1, 1);
        if (way >= 3)
            c.node.in[4] = qn_random_rows(&c, n, 1);
        c.node.out[0] = qn_case_rows(&c, QUERN_F32, n, 1, NULL);
        qn_case_run(&c);
        for (uint32_t at = 0; at < n * tokens; at++) {
            uint32_t t = at / n, i = at % n;
            double want = way >= 3 ? qn_case_data(&c, c.node.in[4])[at] : 0;
            for (uint32_t j = 0; j < n_used; j++)
                want += (double)qn_case_data(&c, c.node.in[1])[t * n_used + j] *
                        qn_case_data(&c, c.node.in[0])[(t * n_used + j) * n + i];
            double gate = way >= 2 ? 1 / (1 + exp(-(double)qn_case_data(&c, c.node.in[3])[t])) : 1;
            if (way >= 1)
                want += gate * qn_case_data(&c, c.node.in[2])[at];
            qn_assert_near(qn_case_data(&c, c.node.out[0])[at], want, 2, 1e-6, "combine", at);
        }
        qn_case_finish(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embed_rows),  cmocka_unit_test(test_norm),
        cmocka_unit_test(test_activation),  cmocka_unit_test(test_add),
        cmocka_unit_test(test_matmul),      cmocka_unit_test(test_rope),
        cmocka_unit_test(test_moe_route),   cmocka_unit_test(test_moe_matmul),
        cmocka_unit_test(test_moe_combine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
