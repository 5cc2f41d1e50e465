#include "support/cpu_case.h"

#include "base/host.h"
#include "drivers/cpu/cpu.h"
#include "formats/rows16.h"
#include "test.h"

#include <math.h>

const char *const qn_cpu_isas[QN_CPU_ISAS] = {"none", "all"};

static uint64_t rng_state;

uint32_t qn_rng(void)
{
    rng_state = rng_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(rng_state >> 33);
}

float qn_uniform(float low, float high)
{
    return low + (high - low) * (float)(qn_rng() & 0xffffff) / 16777215.0f;
}

float *qn_random_floats(size_t n)
{
    float *x = malloc((n + 1) * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = qn_uniform(-1, 1);
    return x;
}

void qn_assert_near(double got, double want, double scale, double tolerance, const char *what, size_t at)
{
    if (!(fabs(got - want) <= tolerance * (scale + 1e-6)))
        fail_msg("%s: element %zu is %.9g, not %.9g", what, at, got, want);
}

const struct quern_callbacks *qn_plain_callbacks(void)
{
    static struct quern_callbacks callbacks;
    callbacks = qn_callbacks_resolve(NULL);
    return &callbacks;
}

/* Formats that a device with these instruction sets would rather read laid out. */
static uint64_t wanted_formats(const char *isa)
{
    const struct quern_driver *driver = quern_cpu_driver_get(QUERN_DRIVER_ABI);
    struct quern_host host = {sizeof host, qn_plain_callbacks()};
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

void qn_cpu_case_init(struct qn_case *c, enum quern_op op, uint32_t n_tokens, const char *isa)
{
    qn_case_start(c, quern_cpu_driver_get(QUERN_DRIVER_ABI), op, n_tokens);
    c->isa = isa;
}

uint32_t qn_random_weight(struct qn_case *c, enum quern_format format, int64_t d0, int64_t d1, int64_t d2,
                          double *decoded)
{
    size_t n = (size_t)(d0 * d1 * d2);
    float *x = qn_random_floats(n);
    const struct qn_format *row = qn_format_get(format);
    uint32_t id = qn_case_weight(c, format, d0, d1, d2, NULL);
    row->quantise(x, qn_case_data(c, id), n);
    row->dequantise(qn_case_data(c, id), x, n);
    for (size_t i = 0; i < n && decoded; i++)
        decoded[i] = x[i];
    free(x);
    return id;
}

uint32_t qn_random_rows(struct qn_case *c, int64_t d0, int64_t d1)
{
    float *x = qn_random_floats((size_t)(d0 * d1) * c->n_tokens);
    uint32_t id = qn_case_rows(c, QUERN_F32, d0, d1, x);
    free(x);
    return id;
}

uint32_t qn_random_vector(struct qn_case *c, int64_t n)
{
    return qn_random_weight(c, QUERN_F32, n, 1, 1, NULL);
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
        char *rows = qn_alloc(c->cb, value->bytes, 1);
        assert_non_null(rows);
        memcpy(rows, value->data, value->bytes);
        for (size_t at = 0; at < value->bytes; at += matrix)
            qn_rows16_pack(value->value.format, k, n_rows, rows + at, (char *)value->data + at);
        value->origin = rows;
        value->layout = QUERN_LAYOUT_ROWS16;
        *formats |= (uint64_t)1 << value->value.format;
    }
}

static void assert_same_results(struct qn_case *c, char *const before[QUERN_MAX_OUT])
{
    for (int i = 0; i < QUERN_MAX_OUT; i++)
        if (before[i])
            assert_memory_equal(before[i], qn_case_data(c, c->node.out[i]), c->values[c->node.out[i]].bytes);
}

void qn_check_layouts(struct qn_case *c)
{
    struct quern_error err;
    char *before[QUERN_MAX_OUT] = {NULL};
    uint64_t formats;
    bool laid_out = false;
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
        laid_out = true;
    if (laid_out) {
        qn_case_run(c);
        assert_same_results(c, before);
    }
    for (c->laying_out = true; laid_out && c->n_laid < 200; c->n_laid += 32) {
        assert_int_equal(qn_case_run_once(c, "2", &err), QUERN_OK);
        assert_same_results(c, before);
    }
    for (int i = 0; i < QUERN_MAX_OUT; i++)
        free(before[i]);
}
