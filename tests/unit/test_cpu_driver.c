/* The CPU driver's operations against the formulas of driver.h in double precision, and its device, buffers
 * and worker pool. The cases run with all instruction sets and in plain C. */
#include "drivers/cpu/cpu.h"
#include "drivers/cpu/kernels.h"
#include "drivers/cpu/pool.h"
#include "base/clock.h"
#include "base/host.h"
#include "formats/rows16.h"
#include "support/one_node.h"
#include "test.h"

#include <math.h>
#include <stdatomic.h>

static const char *const isas[] = {"none", "all"};

static uint64_t rng_state;

static uint32_t rng(void)
{
    rng_state = rng_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(rng_state >> 33);
}

static float uniform(float low, float high)
{
    return low + (high - low) * (float)(rng() & 0xffffff) / 16777215.0f;
}

/* n floats between -1 and 1; the caller frees. */
static float *random_floats(size_t n)
{
    float *x = malloc((n + 1) * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = uniform(-1, 1);
    return x;
}

/* Largest difference allowed: tolerance times the scale of the sums behind a number. */
static void assert_near(double got, double want, double scale, double tolerance, const char *what, size_t at)
{
    if (!(fabs(got - want) <= tolerance * (scale + 1e-6)))
        fail_msg("%s: element %zu is %.9g, not %.9g", what, at, got, want);
}

static const struct quern_callbacks *plain_callbacks(void)
{
    static struct quern_callbacks callbacks;
    callbacks = qn_callbacks_resolve(NULL);
    return &callbacks;
}

/* Formats that a device with these instruction sets would rather read laid out. */
static uint64_t wanted_formats(const char *isa)
{
    const struct quern_driver *driver = quern_cpu_driver_get(QUERN_DRIVER_ABI);
    struct quern_host host = {sizeof host, plain_callbacks()};
    const struct quern_setting setting = {"isa", isa};
    struct quern_profile_view profile = {sizeof profile, 1, &setting};
    struct quern_caps caps = {.struct_size = sizeof caps};
    struct quern_device *device = NULL;
    struct quern_error err;
    assert_int_equal(driver->open(&host, 0, &profile, &device, &err), QUERN_OK);
    driver->caps(device, &caps);
    driver->close(device);
    return caps.rows16_formats;
}

static void init(struct qn_case *c, enum quern_op op, uint32_t n_tokens, const char *isa)
{
    qn_case_init(c, quern_cpu_driver_get(QUERN_DRIVER_ABI), op, n_tokens);
    c->isa = isa;
}

/* A weight with random contents: floats are encoded where the format can be, else scales are made sane. */
static uint32_t random_weight(struct qn_case *c, enum quern_format format, int64_t d0, int64_t d1, int64_t d2,
                              double *decoded)
{
    size_t n = (size_t)(d0 * d1 * d2);
    float *x = random_floats(n);
    const struct qn_format *row = qn_format_get(format);
    uint32_t id = qn_case_weight(c, format, d0, d1, d2, NULL);
    row->quantise(x, qn_case_data(c, id), n);
    row->dequantise(qn_case_data(c, id), x, n);
    for (size_t i = 0; i < n && decoded; i++)
        decoded[i] = x[i];
    free(x);
    return id;
}

static uint32_t random_rows(struct qn_case *c, int64_t d0, int64_t d1)
{
    float *x = random_floats((size_t)(d0 * d1) * c->n_tokens);
    uint32_t id = qn_case_rows(c, QUERN_F32, d0, d1, x);
    free(x);
    return id;
}

static uint32_t random_vector(struct qn_case *c, int64_t n)
{
    return random_weight(c, QUERN_F32, n, 1, 1, NULL);
}

static double activate(uint32_t act, double x)
{
    switch (act) {
    case QUERN_ACT_SILU:
        return x / (1 + exp(-x));
    case QUERN_ACT_GELU_TANH:
        return x / 2 * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    case QUERN_ACT_GELU_ERF:
        return x / 2 * (1 + erf(x / sqrt(2)));
    case QUERN_ACT_GELU_QUICK:
        return x / (1 + exp(-1.702 * x));
    case QUERN_ACT_RELU:
        return fmax(x, 0);
    case QUERN_ACT_RELU2:
        return fmax(x, 0) * fmax(x, 0);
    default:
        return x;
    }
}

/* Lays out all weights that are there in blocks; *formats: bit for each of theirs. */
static void lay_out(struct qn_case *c, uint64_t *formats)
{
    *formats = 0;
    for (int i = 0; i < QUERN_MAX_IN; i++) {
        struct qn_case_value *value = c->node.in[i] == QUERN_NONE ? NULL : &c->values[c->node.in[i]];
        if (!value || value->value.kind != QUERN_VALUE_WEIGHT || !qn_rows16_has(value->value.format))
            continue;
        const size_t k = (size_t)value->value.dim[0], n_rows = (size_t)value->value.dim[1];
        const size_t matrix = n_rows * qn_format_row_bytes(value->value.format, k);
        char *rows = malloc(value->bytes);
        assert_non_null(rows);
        memcpy(rows, value->data, value->bytes);
        for (size_t at = 0; at < value->bytes; at += matrix)
            qn_rows16_pack(value->value.format, k, n_rows, rows + at, (char *)value->data + at);
        free(rows);
        value->layout = QUERN_LAYOUT_ROWS16;
        *formats |= (uint64_t)1 << value->value.format;
    }
}

/* A case that has run gives the same bits with weights in another layout; where the device has no kernel for
 * it, it says so. */
static void check_layouts(struct qn_case *c)
{
    struct quern_error err;
    char *before[QUERN_MAX_OUT] = {NULL};
    uint64_t formats;
    for (int i = 0; i < QUERN_MAX_OUT; i++)
        if (c->node.out[i] != QUERN_NONE) {
            before[i] = malloc(c->values[c->node.out[i]].bytes);
            assert_non_null(before[i]);
            memcpy(before[i], qn_case_data(c, c->node.out[i]), c->values[c->node.out[i]].bytes);
        }
    lay_out(c, &formats);
    if (c->exact ? formats != 0 : (formats & ~wanted_formats(c->isa)) != 0)
        assert_int_equal(qn_case_run_once(c, "2", &err), QUERN_ERR_UNSUPPORTED);
    else
        qn_case_run(c);
    for (int i = 0; i < QUERN_MAX_OUT; i++) {
        if (before[i])
            assert_memory_equal(before[i], qn_case_data(c, c->node.out[i]), c->values[c->node.out[i]].bytes);
        free(before[i]);
    }
}

/* ---------------------------------------------------------------- rows and elements */

static void test_embed_rows(void **state)
{
    (void)state;
    static const enum quern_format formats[] = {QUERN_F32, QUERN_F16, QUERN_BF16, QUERN_Q8_0, QUERN_Q4_0};
    for (size_t f = 0; f < QN_LEN(formats); f++) {
        struct qn_case c;
        init(&c, QUERN_OP_EMBED, 7, isas[f % 2]);
        double table[96 * 43];
        c.node.attr.embed.scale = f % 2 ? 1.0f : 9.5f;
        c.node.in[0] = random_weight(&c, formats[f], 96, 43, 1, table);
        c.node.out[0] = qn_case_rows(&c, QUERN_F32, 96, 1, NULL);
        for (uint32_t t = 0; t < 7; t++)
            c.token[t] = t == 6 ? 42 : (int32_t)(rng() % 43);
        qn_case_run(&c);
        for (uint32_t t = 0; t < 7; t++)
            for (int i = 0; i < 96; i++)
                assert_near(qn_case_data(&c, c.node.out[0])[t * 96 + (uint32_t)i],
                            (double)c.node.attr.embed.scale * table[c.token[t] * 96 + i], 10, 1e-6, "embed",
                            (size_t)i);
        struct quern_error err;
        const int32_t token = c.token[3];
        c.token[3] = 43;
        assert_int_equal(qn_case_run_once(&c, "2", &err), QUERN_ERR_PARAM);
        c.token[3] = -1;
        assert_int_equal(qn_case_run_once(&c, "2", &err), QUERN_ERR_PARAM);
        c.token[3] = token;
        check_layouts(&c);
        qn_case_finish(&c);
    }
    struct qn_case c;
    init(&c, QUERN_OP_ROWS, 9, "all");
    c.n_outputs = 3;
    c.output[0] = 1, c.output[1] = 4, c.output[2] = 8;
    c.node.in[0] = random_rows(&c, 33, 1);
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
    init(&c, QUERN_OP_NORM, n->tokens, isa);
    c.in_place = n->in_place;
    c.node.attr.norm = (struct quern_norm_attr){n->kind, n->group, 1e-5f};
    c.node.in[0] = random_rows(&c, n->d, 1);
    if (n->weight)
        c.node.in[1] = random_vector(&c, n->group);
    if (n->bias)
        c.node.in[2] = random_vector(&c, n->group);
    c.node.out[0] = qn_case_rows(&c, QUERN_F32, n->d, 1, NULL);
    if (n->addend) {
        c.node.in[3] = random_rows(&c, n->d, 1);
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
            assert_near(y[g + i], want, 3, 2e-6, "norm", g + i);
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
        for (size_t isa = 0; isa < QN_LEN(isas); isa++)
            check_norm(&cases[i], isas[isa]);
}

static void test_activation(void **state)
{
    (void)state;
    for (uint32_t act = QUERN_ACT_NONE; act <= QUERN_ACT_RELU2; act++) {
        for (int way = 0; way < 6; way++) {
            bool split = way % 3 == 2, up = way % 3 == 1;
            uint32_t n = 100 + act, tokens = way < 3 ? 11 : 1;
            struct qn_case c;
            init(&c, QUERN_OP_ACTIVATION, tokens, isas[way & 1]);
            c.in_place = !split;
            c.node.attr.activation = (struct quern_activation_attr){act, split};
            c.node.in[0] = random_rows(&c, split ? 2 * n : n, 1);
            float *gate = qn_case_data(&c, c.node.in[0]);
            for (uint32_t i = 0; i < n * tokens; i++)
                gate[i] *= i % 5 == 0 ? 100 : 6; /* far out, too */
            if (up)
                c.node.in[1] = random_rows(&c, n, 1);
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
                assert_near(qn_case_data(&c, c.node.out[0])[i], activate(act, x) * other,
                            fabs(x * other) * (act == QUERN_ACT_RELU2 ? fabs(x) : 1), 2e-6, "activation", i);
            }
            qn_case_finish(&c);
        }
    }
}

static void test_add(void **state)
{
    (void)state;
    struct qn_case c;
    init(&c, QUERN_OP_ADD, 13, "all");
    c.in_place = true;
    c.node.attr.add.scale = 0.375f;
    c.node.in[0] = random_rows(&c, 515, 1);
    c.node.in[1] = random_rows(&c, 515, 1);
    c.node.out[0] = qn_case_rows(&c, QUERN_F32, 515, 1, NULL);
    qn_case_run(&c);
    for (size_t i = 0; i < 515 * 13; i++)
        assert_near(qn_case_data(&c, c.node.out[0])[i],
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
        float *x = random_floats((size_t)m->k * c->n_tokens);
        c->node.in[0] = qn_case_output_rows(c, QUERN_F32, m->k, x);
        free(x);
    } else {
        c->node.in[0] = random_rows(c, m->k, 1);
    }
    for (uint32_t i = 0; i < m->n_weights; i++) {
        decoded[i] = malloc(m->k * m->n[i] * sizeof(double));
        c->node.in[1 + i] = random_weight(c, m->format[i], m->k, m->n[i], 1, decoded[i]);
        if (m->bias)
            c->node.in[4 + i] = random_vector(c, m->n[i]);
    }
    for (uint32_t i = 0; i < n_out; i++)
        c->node.out[i] = m->outputs ? qn_case_output_rows(c, QUERN_F32, m->n[i], NULL)
                                    : qn_case_rows(c, QUERN_F32, m->n[i], 1, NULL);
    if (m->residual)
        c->node.in[7] = random_rows(c, m->n[0], 1);
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
    init(&c, QUERN_OP_MATMUL, m->tokens, isa);
    build_matmul(m, &c, decoded);
    qn_case_run(&c);
    for (uint32_t i = 0; i < (m->glu ? 1 : m->n_weights); i++) {
        for (uint32_t at = 0; at < m->n[i] * m->tokens; at++) {
            uint32_t t = at / m->n[i], r = at % m->n[i];
            double off, off_up;
            double want = matmul_value(m, &c, decoded, i, r, t, &off);
            if (m->glu) {
                double up = matmul_value(m, &c, decoded, 1, r, t, &off_up), gate = activate(m->act, want);
                off = 1.2 * (off * (fabs(up) + off_up) + off_up * fabs(gate));
                want = gate * up;
            } else {
                want *= m->scale;
                off *= 1.2 * m->scale;
                if (m->softcap > 0)
                    want = m->softcap * tanh(want / m->softcap);
                off *= m->act == QUERN_ACT_RELU2 ? 2 * fabs(want) + off : 1;
                want = activate(m->act, want);
            }
            if (m->residual)
                want = qn_case_data(&c, c.node.in[7])[at] + 0.5 * want;
            assert_near(qn_case_data(&c, c.node.out[i])[at], want, 1, off + 1e-6,
                        qn_format_get(m->format[i])->name, at);
        }
    }
    for (int i = 0; i < 3; i++)
        free(decoded[i]);
    check_layouts(&c);
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
        {{QUERN_Q4_0}, 1, 64, {40}, 6, .exact = true, .act = QUERN_ACT_RELU2, .bias = true, .scale = 1},
    };
    for (size_t i = 0; i < QN_LEN(cases); i++) {
        for (size_t isa = 0; isa < QN_LEN(isas); isa++) {
            struct matmul_case m = cases[i];
            check_matmul(&m, isas[isa]);
            m.exact = !m.exact;
            check_matmul(&m, isas[isa]);
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
        init(&c, QUERN_OP_ROPE, cases[i].tokens, isas[i % 2]);
        c.in_place = cases[i].in_place;
        c.node.attr.rope = *attr;
        c.node.in[0] = random_rows(&c, attr->head_dim * cases[i].n_head, 1);
        if (cases[i].factors) {
            c.node.in[1] = random_vector(&c, attr->n_dims / 2);
            for (uint32_t p = 0; p < attr->n_dims / 2; p++)
                qn_case_data(&c, c.node.in[1])[p] = uniform(1, 8);
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
                assert_near(qn_case_data(&c, c.node.out[0])[h * attr->head_dim + e], want[e], 1, 1e-6, "rope",
                            h * attr->head_dim + e);
        }
        qn_case_finish(&c);
    }
}

/* ---------------------------------------------------------------- KV and attention */

static const enum quern_format kv_formats[] = {QUERN_F32, QUERN_F16, QUERN_Q8_0};

static void test_kv_store(void **state)
{
    (void)state;
    for (size_t f = 0; f < QN_LEN(kv_formats); f++) {
        struct qn_case c;
        init(&c, QUERN_OP_KV_STORE, 29, isas[f % 2]);
        struct quern_kv_layer layer = {3, 64, 32, 0};
        enum quern_format format[2] = {kv_formats[f], kv_formats[(f + 1) % 3]};
        qn_case_kv(&c, layer, format[0], format[1], 8, 12, 5);
        qn_case_place(&c, 3, (const uint32_t[]){0, 13, 7}, (const uint32_t[]){17, 1, 11}, 12);
        c.node.in[0] = random_rows(&c, 3 * 64, 1);
        c.node.in[1] = random_rows(&c, 3 * 32, 1);
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
        kv[part] = random_floats((size_t)n * c->kv.n_head_kv * d);
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
    double score[600], max = sink ? *sink : -INFINITY, sum = 0;
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
    init(&c, QUERN_OP_ATTENTION, tokens, isa);
    c.node.attr.attention = (struct quern_attention_attr){0, a->n_head, a->scale, a->softcap};
    qn_case_kv(&c, a->layer, k_format, v_format, a->page_tokens, 60, 8);
    qn_case_place(&c, a->n_seqs, a->held, a->fed, 60);
    if (a->drop_old_pages)
        for (uint32_t p = 0; p < (a->held[0] - a->layer.window + 1) / a->page_tokens; p++)
            c.pages[0][p] = QUERN_NONE;
    float *kv[3][2] = {{NULL}};
    for (uint32_t s = 0; s < a->n_seqs; s++)
        fill_kv(&c, s, a->held[s] + a->fed[s], kv[s]);
    c.node.in[0] = random_rows(&c, a->layer.head_dim_k * a->n_head, 1);
    if (a->sinks)
        c.node.in[1] = random_vector(&c, a->n_head);
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
            assert_near(qn_case_data(&c, c.node.out[0])[(size_t)at * a->layer.head_dim_v + i], want[i], 1,
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
    static const struct attention_case cases[] = {
        {{1, 32, 32, 0}, 1, 16, 1, {0}, {1}, 0.2f, 0, false, false},
        {{2, 64, 64, 0}, 8, 16, 1, {0}, {33}, 0.125f, 0, false, false},
        {{2, 64, 32, 0}, 6, 8, 3, {15, 0, 16}, {1, 9, 17}, 0.3f, 0, true, false},
        {{3, 96, 64, 10}, 3, 8, 2, {40, 3}, {5, 20}, 0.1f, 0, false, true},
        {{1, 128, 128, 16}, 4, 16, 1, {100}, {16}, 0.5f, 5.0f, true, true},
        {{4, 32, 64, 1}, 4, 4, 2, {7, 8}, {3, 1}, 1.0f, 0, false, false},
        {{2, 256, 256, 0}, 4, 64, 1, {500}, {2}, 4.0f, 30.0f, false, false}, /* scores far apart */
    };
    for (size_t i = 0; i < QN_LEN(cases); i++)
        for (size_t f = 0; f < QN_LEN(kv_formats); f++)
            check_attention(&cases[i], kv_formats[f], kv_formats[(f + i) % 3], isas[(i + f) % 2]);

    struct qn_case c; /* a page that the window still needs has been freed */
    init(&c, QUERN_OP_ATTENTION, 1, "all");
    c.node.attr.attention = (struct quern_attention_attr){0, 2, 1, 0};
    qn_case_kv(&c, (struct quern_kv_layer){2, 32, 32, 0}, QUERN_F32, QUERN_F32, 4, 4, 4);
    qn_case_place(&c, 1, (const uint32_t[]){9}, (const uint32_t[]){1}, 4);
    c.pages[0][1] = QUERN_NONE;
    c.node.in[0] = random_rows(&c, 64, 1);
    c.node.out[0] = qn_case_rows(&c, QUERN_F32, 64, 1, NULL);
    struct quern_error err;
    assert_int_equal(qn_case_run_once(&c, "2", &err), QUERN_ERR_PARAM);
    assert_non_null(strstr(err.text, "page"));
    qn_case_finish(&c);
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
        init(&c, QUERN_OP_MOE_ROUTE, 23, isas[i % 2]);
        c.node.attr.moe_route = *attr;
        c.node.in[0] = random_rows(&c, attr->n_expert, 1);
        float *logits = qn_case_data(&c, c.node.in[0]);
        for (uint32_t e = 0; e < attr->n_expert; e++)
            logits[e] = 0; /* the first token: all equal, the lower ids win */
        if (cases[i].bias)
            c.node.in[1] = random_vector(&c, attr->n_expert);
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
                assert_near(qn_case_data(&c, c.node.out[1])[t * attr->n_used + j], want[j], 1, 2e-6, "route",
                            t * attr->n_used + j);
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
                (int32_t)(((m->all_one_expert ? 2 : rng()) + j * (1 + t % 2)) % m->n_expert);
    return id;
}

static void check_moe_matmul(const struct moe_case *m, const char *isa)
{
    struct qn_case c;
    init(&c, QUERN_OP_MOE_MATMUL, m->tokens, isa);
    c.exact = m->exact;
    uint32_t sides = m->glu ? 2 : 1, stored = m->slots ? m->n_expert / 2 : m->n_expert;
    size_t per_expert = (size_t)m->k * m->n;
    c.node.attr.moe_matmul =
        (struct quern_moe_matmul_attr){sides, m->glu ? QUERN_ACT_SILU : QUERN_ACT_NONE, m->glu, m->per_slot};
    c.node.in[0] = random_rows(&c, m->k, m->per_slot ? m->n_used : 1);
    double *decoded[2] = {NULL, NULL};
    for (uint32_t i = 0; i < sides; i++) {
        decoded[i] = malloc(per_expert * stored * sizeof(double));
        c.node.in[1 + i] = random_weight(&c, m->format, m->k, m->n, stored, decoded[i]);
        if (m->bias)
            c.node.in[3 + i] = random_weight(&c, QUERN_F32, m->n, stored, 1, NULL);
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
            double gate = activate(c.node.attr.moe_matmul.act, value[0]);
            double tolerance = 1.2 * (off[0] * (fabs(value[1]) + off[1]) + off[1] * fabs(gate));
            assert_near(qn_case_data(&c, c.node.out[0])[(size_t)pair * m->n + r], gate * value[1], 1,
                        tolerance, "moe_matmul", (size_t)pair * m->n + r);
        }
    }
    free(decoded[0]);
    free(decoded[1]);
    check_layouts(&c);
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
        for (size_t isa = 0; isa < QN_LEN(isas); isa++)
            check_moe_matmul(&cases[i], isas[isa]);
}

static void test_moe_combine(void **state)
{
    (void)state;
    for (int way = 0; way < 4; way++) {
        struct qn_case c;
        uint32_t n = 70, n_used = 3, tokens = 6;
        init(&c, QUERN_OP_MOE_COMBINE, tokens, isas[way & 1]);
        c.node.in[0] = random_rows(&c, n, n_used);
        c.node.in[1] = random_rows(&c, n_used, 1);
        if (way >= 1)
            c.node.in[2] = random_rows(&c, n, 1);
        if (way >= 2)
            c.node.in[3] = random_rows(&c, 1, 1);
        if (way >= 3)
            c.node.in[4] = random_rows(&c, n, 1);
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
            assert_near(qn_case_data(&c, c.node.out[0])[at], want, 2, 1e-6, "combine", at);
        }
        qn_case_finish(&c);
    }
}

/* ---------------------------------------------------------------- device */

static int32_t open_with(const char *name, const char *value, struct quern_error *err)
{
    const struct quern_driver *driver = quern_cpu_driver_get(QUERN_DRIVER_ABI);
    struct quern_host host = {sizeof host, plain_callbacks()};
    struct quern_setting setting = {name, value};
    struct quern_profile_view profile = {sizeof profile, 1, &setting};
    struct quern_device *device = NULL;
    int32_t status = driver->open(&host, 0, &profile, &device, err);
    assert_true((status == QUERN_OK) == (device != NULL));
    if (device)
        driver->close(device);
    return status;
}

static void test_device(void **state)
{
    (void)state;
    assert_null(quern_cpu_driver_get(QUERN_DRIVER_ABI + 1));
    const struct quern_driver *driver = quern_cpu_driver_get(QUERN_DRIVER_ABI);
    struct quern_host host = {sizeof host, plain_callbacks()};
    struct quern_device_info info = {.struct_size = sizeof info};
    struct quern_error err;
    uint32_t n = 0;
    assert_int_equal(driver->probe(&host, &info, 1, &n, &err), QUERN_OK);
    assert_int_equal(n, 1);
    assert_true(info.type == QUERN_DEVICE_CPU && info.name[0] != '\0' && info.memory > 0);
    assert_int_equal(open_with("threads", "3", &err), QUERN_OK);
    assert_int_equal(open_with("threads", "0", &err), QUERN_ERR_PARAM);
    assert_int_equal(open_with("threads", "513", &err), QUERN_ERR_PARAM);
    assert_int_equal(open_with("threads", "2x", &err), QUERN_ERR_PARAM);
    assert_int_equal(open_with("isa", "avx2, neon", &err), QUERN_OK);
    assert_int_equal(open_with("isa", "avx9", &err), QUERN_ERR_PARAM);
    assert_non_null(strstr(err.text, "avx9"));
    assert_int_equal(open_with("colour", "blue", &err), QUERN_OK);

    struct quern_device *a = NULL, *b = NULL; /* one index, two devices */
    assert_int_equal(driver->open(&host, 0, NULL, &a, &err), QUERN_OK);
    assert_int_equal(driver->open(&host, 0, NULL, &b, &err), QUERN_OK);
    struct quern_caps caps = {.struct_size = sizeof caps};
    driver->caps(a, &caps);
    assert_true(caps.weight_formats >> QUERN_IQ1_M & 1 && caps.weight_formats >> QUERN_Q4_K & 1);
    assert_false(caps.weight_formats >> QUERN_I32 & 1);
    struct quern_buffer *x = NULL, *y = NULL;
    char memory[16] = "0123456789abcde";
    uint64_t point = 0;
    assert_int_equal(driver->buffer_create(a, 0, 16, &x, &err), QUERN_OK);
    assert_int_equal(driver->buffer_import(a, memory, 16, &y, &err), QUERN_OK);
    assert_ptr_equal(driver->buffer_map(a, y), memory);
    assert_int_equal(driver->copy(a, x, 0, y, 4, 12, &point, &err), QUERN_OK);
    assert_int_equal(driver->wait(a, point, 0, &err), QUERN_OK);
    assert_memory_equal(driver->buffer_map(a, x), "456789abcde", 12);
    assert_int_equal(driver->copy(a, x, 5, y, 4, 12, &point, &err), QUERN_ERR_PARAM);
    assert_int_equal(driver->wait(a, point + 1, 0, &err), QUERN_ERR_PARAM);
    driver->buffer_destroy(a, x);
    driver->buffer_destroy(a, y);
    driver->close(a);
    driver->close(b);
}

/* The driver lays out as the runtime does, and refuses what it cannot. */
static void test_weights_prepare(void **state)
{
    (void)state;
    enum { K = 64, ROWS = 53, BYTES = ROWS * K / 32 * 34 };
    static uint8_t rows[BYTES], want[BYTES];
    const struct quern_driver *driver = quern_cpu_driver_get(QUERN_DRIVER_ABI);
    struct quern_host host = {sizeof host, plain_callbacks()};
    struct quern_device *device = NULL;
    struct quern_buffer *buffer = NULL;
    struct quern_error err;
    assert_int_equal(driver->open(&host, 0, NULL, &device, &err), QUERN_OK);
    assert_int_equal(driver->buffer_create(device, 0, BYTES + 64, &buffer, &err), QUERN_OK);
    for (size_t i = 0; i < BYTES; i++)
        rows[i] = (uint8_t)rng();
    qn_rows16_pack(QUERN_Q8_0, K, ROWS, rows, want);
    const struct quern_weight_rows all = {.struct_size = sizeof all,
                                          .layout = QUERN_LAYOUT_ROWS16,
                                          .format = QUERN_Q8_0,
                                          .n = K,
                                          .n_rows = ROWS,
                                          .rows = rows,
                                          .buffer = buffer,
                                          .offset = 64};
    struct quern_weight_rows part = all;
    assert_int_equal(driver->weights_prepare(device, &part, &err), QUERN_OK);
    assert_memory_equal((char *)driver->buffer_map(device, buffer) + 64, want, BYTES);
    part.offset = 65;
    assert_int_equal(driver->weights_prepare(device, &part, &err), QUERN_ERR_PARAM);
    part.offset = UINT64_MAX;
    assert_int_equal(driver->weights_prepare(device, &part, &err), QUERN_ERR_PARAM);
    part = all, part.n = 48;
    assert_int_equal(driver->weights_prepare(device, &part, &err), QUERN_ERR_PARAM);
    part = all, part.format = QUERN_F16;
    assert_int_equal(driver->weights_prepare(device, &part, &err), QUERN_ERR_UNSUPPORTED);
    part = all, part.layout = QUERN_LAYOUT_FILE;
    assert_int_equal(driver->weights_prepare(device, &part, &err), QUERN_ERR_UNSUPPORTED);
    driver->buffer_destroy(device, buffer);
    driver->close(device);
}

/* What is wrong with a node is said, not stumbled over. */
static void test_refusals(void **state)
{
    (void)state;
    struct quern_error err;
    struct qn_case c;
    init(&c, QUERN_OP_MATMUL, 2, "all");
    c.node.attr.matmul = (struct quern_matmul_attr){.n_weights = 1, .scale = 1};
    c.node.in[0] = random_rows(&c, 64, 1);
    c.node.in[1] = random_weight(&c, QUERN_Q8_0, 64, 8, 1, NULL);
    c.node.out[0] = qn_case_rows(&c, QUERN_F32, 8, 1, NULL);
    assert_int_equal(qn_case_run_once(&c, "1", &err), QUERN_OK);
    size_t bytes = c.values[c.node.in[1]].bytes;
    c.values[c.node.in[1]].bytes -= 65; /* the buffer ends before the weight does */
    assert_int_equal(qn_case_run_once(&c, "1", &err), QUERN_ERR_PARAM);
    c.values[c.node.in[1]].bytes = bytes;
    c.values[c.node.in[1]].value.dim[0] = 96;
    assert_int_equal(qn_case_run_once(&c, "1", &err), QUERN_ERR_UNSUPPORTED);
    c.values[c.node.in[1]].value.dim[0] = 64;
    c.values[c.node.in[1]].value.format = QUERN_I8;
    assert_int_equal(qn_case_run_once(&c, "1", &err), QUERN_ERR_UNSUPPORTED);
    c.values[c.node.in[1]].value.format = QUERN_Q8_0;
    c.node.attr.matmul.glu = 1;
    assert_int_equal(qn_case_run_once(&c, "1", &err), QUERN_ERR_UNSUPPORTED);
    c.node.attr.matmul.glu = 0;
    c.node.in[1] = QUERN_NONE;
    assert_int_equal(qn_case_run_once(&c, "1", &err), QUERN_ERR_UNSUPPORTED);
    c.node.in[1] = 77;
    assert_int_equal(qn_case_run_once(&c, "1", &err), QUERN_ERR_UNSUPPORTED);
    c.node.op = QUERN_OP_END;
    assert_int_equal(qn_case_run_once(&c, "1", &err), QUERN_ERR_UNSUPPORTED);
    qn_case_finish(&c);
}

/* ---------------------------------------------------------------- pool */

struct marks {
    _Atomic uint32_t count[1000];
    uint32_t n_threads;
    _Atomic bool bad_worker;
};

static void mark(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    struct marks *marks = arg;
    if (worker >= marks->n_threads)
        atomic_store(&marks->bad_worker, true);
    for (uint32_t i = begin; i < end; i++)
        atomic_fetch_add(&marks->count[i], 1);
}

static void test_pool(void **state)
{
    (void)state;
    struct quern_error err;
    for (uint32_t threads = 1; threads <= 4; threads++) {
        struct qn_pool *pool = NULL;
        assert_int_equal(qn_pool_create(plain_callbacks(), &pool, threads, &err), QUERN_OK);
        assert_int_equal(qn_pool_threads(pool), threads);
        static struct marks marks;
        marks.n_threads = threads;
        for (uint32_t round = 0; round < 3000; round++) {
            uint32_t n = rng() % 1000, grain = 1 + rng() % 40;
            for (uint32_t i = 0; i < 1000; i++)
                atomic_store_explicit(&marks.count[i], 0, memory_order_relaxed);
            if (round % 500 == 0)
                qn_sleep_ns(2000000); /* the workers fall asleep */
            qn_pool_run(pool, n, grain, mark, &marks);
            for (uint32_t i = 0; i < 1000; i++)
                assert_int_equal(atomic_load(&marks.count[i]), i < n ? 1 : 0);
        }
        assert_false(atomic_load(&marks.bad_worker));
        qn_pool_destroy(plain_callbacks(), &pool);
        assert_null(pool);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embed_rows),
        cmocka_unit_test(test_norm),
        cmocka_unit_test(test_activation),
        cmocka_unit_test(test_add),
        cmocka_unit_test(test_matmul),
        cmocka_unit_test(test_rope),
        cmocka_unit_test(test_kv_store),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_moe_route),
        cmocka_unit_test(test_moe_matmul),
        cmocka_unit_test(test_moe_combine),
        cmocka_unit_test(test_device),
        cmocka_unit_test(test_weights_prepare),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_pool),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
