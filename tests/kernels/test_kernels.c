/* Every matmul kernel of the table against sums in double precision, for each instruction set of this
 * machine; the same bits for any number of tokens and rows; and the vector functions of each table. With
 * QUERN_TEST_STRONGEST in the environment, of the matmul kernels only those of the strongest set; arguments
 * are parts of their names, such as "q4_k" "__neon", which must all match. */
#include "test.h"

#include "cases.h"
#include "support/activation.h"
#include "conformance/fill.h"

#include "base/host.h"
#include "formats/rows16.h"

#include <quern/driver.h>

#include <float.h>
#include <math.h>

/* MANY: of so long rows only sums are compared, since beyond three tiles each is as the one before. */
enum { ROWS = 81, TOKENS = 67, MAX_K = 2432, MANY = 2051 };

static const uint32_t some_rows[] = {1, 3, 7, 15, 16, 17, 31, 32, 33, 48, 49, 80};
static const uint32_t some_tokens[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 31, 33, 60};

#define LEN(array) (sizeof(array) / sizeof((array)[0]))

/* What one comparison works on; one of these serves all cases. */
struct bench {
    _Alignas(64) uint8_t w[ROWS * MAX_K * 4];
    _Alignas(64) uint8_t laid_out[ROWS * MAX_K * 4]; /* the same in the kernel's layout */
    _Alignas(64) float x[TOKENS * MAX_K];
    _Alignas(64) uint8_t packed[TOKENS * MAX_K * 3];
    float weight[MAX_K];
    double have[TOKENS][MAX_K];
    double want[TOKENS][ROWS], magnitude[TOKENS][ROWS];
    float y[TOKENS * ROWS], again[TOKENS * ROWS];
    int kernels;
    char *const *filters; /* parts of the names of kernels that are tested; NULL: the end */
    bool strongest;       /* only kernels of the strongest set are tested */
    uint32_t most;        /* sets that have kernels on this machine */
};

/* Zeroed memory at a cache line, as the driver's. */
static void *take(size_t bytes)
{
    const struct quern_callbacks cb = qn_callbacks_resolve(NULL);
    void *memory = qn_zalloc(&cb, 1, bytes);
    assert_non_null(memory);
    return memory;
}

static void give_back(void *memory)
{
    const struct quern_callbacks cb = qn_callbacks_resolve(NULL);
    qn_free(&cb, memory);
}

/* The activations as the kernel sees them. */
static void activations(const struct bench *bench, const struct qn_kernel_case *at, size_t k, size_t stride,
                        uint32_t token, double *out)
{
    if (at->kernel->pack == QN_PACK_F32) {
        for (size_t i = 0; i < k; i++)
            out[i] = bench->x[token * k + i];
        return;
    }
    struct qn_q8_row row = qn_q8_row_at(bench->packed + token * stride, k);
    for (size_t i = 0; i < k; i++)
        out[i] = (double)row.q[i] * row.d[i / 32];
}

/* Every row with the first tokens; a fifth of them with the others, which meets every lane and remainder. */
static bool is_compared(uint32_t t, uint32_t r)
{
    return t <= 8 || r % 5 == t % 5;
}

static void reference(struct bench *bench, const struct qn_kernel_case *at, size_t k, size_t row_bytes,
                      size_t stride)
{
    const struct qn_format *format = qn_format_get(at->format);
    for (uint32_t t = 0; t < TOKENS; t++)
        activations(bench, at, k, stride, t, bench->have[t]);
    for (uint32_t r = 0; r < ROWS; r++) {
        format->dequantise(bench->w + r * row_bytes, bench->weight, k);
        for (uint32_t t = 0; t < TOKENS; t++) {
            double sum = 0, magnitude = 0;
            for (size_t i = 0; is_compared(t, r) && i < k; i++) {
                double product = bench->weight[i] * bench->have[t][i];
                sum += product;
                magnitude += fabs(product);
            }
            bench->want[t][r] = sum;
            bench->magnitude[t][r] = magnitude;
        }
    }
}

/* Rounding: each of the k / 32 block sums, and the products in it, by a few units in the last place. Formats
 * with a minimum subtract two large sums; the bound counts both through the largest weight. */
static double allowed(const struct bench *bench, uint32_t t, uint32_t r, size_t k)
{
    double scale = bench->magnitude[t][r];
    return scale * (1e-6 + (double)k * 1e-9) + (double)k * 1e-36;
}

static void compare(struct bench *bench, const struct qn_kernel_case *at, size_t k, enum qn_fill fill)
{
    for (uint32_t t = 0; t < TOKENS; t++) {
        for (uint32_t r = 0; r < ROWS; r++) {
            if (!is_compared(t, r))
                continue;
            double got = bench->y[t * ROWS + r], want = bench->want[t][r];
            double bound = allowed(bench, t, r, k);
            if (!(fabs(got - want) <= bound))
                fail_msg("%s, k %zu, fill %d, row %u, token %u: %.9g, expected %.9g within %.3g\n",
                         at->kernel->name, k, (int)fill, r, t, got, want, bound);
        }
    }
}

/* Where n of the rows begin that a kernel is given; ROWS: it cannot be given so many. */
static uint32_t first_of(enum quern_layout layout, uint32_t n_rows)
{
    if (layout == QUERN_LAYOUT_FILE)
        return (ROWS - n_rows) / 2;
    if (n_rows % QN_ROWS16 == 0)
        return (ROWS - n_rows) / 2 / QN_ROWS16 * QN_ROWS16;
    return (ROWS - n_rows) % QN_ROWS16 == 0 ? ROWS - n_rows : ROWS;
}

/* Fewer rows or tokens, read otherwise, give the bits of all of them, and nothing else is written. */
static void check_bits(struct bench *bench, const struct qn_kernel_case *at, struct qn_matmul_call call)
{
    static const struct qn_reading readings[] = {{.streams = 1},
                                                 {.streams = 2, .ahead_bytes = 64},
                                                 {.streams = 4, .ahead_bytes = 4096},
                                                 {.streams = QN_MAX_STREAMS, .ahead_bytes = 1 << 20}};
    const size_t k = call.k, row_bytes = call.row_bytes, stride = call.x_stride;
    const void *x = call.x;
    for (size_t i = 0; i < LEN(some_rows); i++) {
        for (size_t j = 0; j < LEN(some_tokens); j++) {
            const uint32_t n_rows = some_rows[i], n_tokens = some_tokens[j];
            const uint32_t row = first_of(at->layout, n_rows), token = (TOKENS - n_tokens) / 2;
            const size_t y_stride = n_rows + 3;
            if (row == ROWS || (n_rows > 17 && n_tokens > 9 && n_tokens < 60))
                continue;
            for (size_t e = 0; e < LEN(bench->again); e++)
                bench->again[e] = -7.5f;
            call.w = bench->laid_out + row * row_bytes;
            call.n_rows = n_rows;
            call.n_tokens = n_tokens;
            call.x = (const char *)x + token * stride;
            call.y = bench->again;
            call.y_stride = y_stride;
            call.reading = readings[(i + j) % LEN(readings)];
            at->kernel->run(&call);
            for (uint32_t t = 0; t < n_tokens; t++) {
                for (uint32_t r = 0; r < y_stride; r++) {
                    float got = bench->again[t * y_stride + r];
                    float want = r < n_rows ? bench->y[(token + t) * ROWS + row + r] : -7.5f;
                    if (memcmp(&got, &want, sizeof got) != 0)
                        fail_msg("%s, k %zu, %u rows, %u tokens: row %u of token %u is %.9g, expected the "
                                 "bits of %.9g\n",
                                 at->kernel->name, k, n_rows, n_tokens, r, t, (double)got, (double)want);
                }
            }
        }
    }
}

static void run_case(const struct qn_kernels *kernels, const struct qn_kernel_case *at, struct bench *bench,
                     size_t k, enum qn_fill fill, bool bits)
{
    const size_t row_bytes = qn_format_row_bytes(at->format, k);
    const uint64_t seed = (uint64_t)at->format * 1000 + k * 10 + fill;
    size_t stride = at->kernel->pack == QN_PACK_Q8 ? qn_q8_row_bytes(k) : k * sizeof(float);
    const void *x = at->kernel->pack == QN_PACK_Q8 ? (const void *)bench->packed : (const void *)bench->x;
    void *scratch = take(QN_MATMUL_SCRATCH);
    memset(scratch, 0xff, QN_MATMUL_SCRATCH); /* NaN: nothing may depend on it */
    qn_fill_weights(at->format, fill, seed, bench->w, ROWS * k);
    qn_fill_activations(fill, seed + 1, bench->x, TOKENS * k);
    if (at->kernel->pack == QN_PACK_Q8)
        for (uint32_t t = 0; t < TOKENS; t++)
            kernels->pack_q8(bench->x + t * k, k, bench->packed + t * stride);
    if (at->layout == QUERN_LAYOUT_ROWS16)
        qn_rows16_pack(at->format, k, ROWS, bench->w, bench->laid_out);
    else
        memcpy(bench->laid_out, bench->w, ROWS * row_bytes);
    struct qn_matmul_call call = {.w = bench->laid_out,
                                  .row_bytes = row_bytes,
                                  .k = k,
                                  .n_rows = ROWS,
                                  .n_tokens = TOKENS,
                                  .x = x,
                                  .x_stride = stride,
                                  .y = bench->y,
                                  .y_stride = ROWS,
                                  .scratch = scratch,
                                  .reading = at->kernel->reading};
    at->kernel->run(&call);
    if (at->layout != QUERN_LAYOUT_FILE) {
        struct qn_matmul_call of_file = call;
        of_file.w = bench->w;
        of_file.y = bench->again;
        kernels->fast[QUERN_LAYOUT_FILE][at->format].run(&of_file);
        if (memcmp(bench->again, bench->y, sizeof bench->y) != 0)
            fail_msg("%s, k %zu, fill %d: other bits than from rows of a file\n", at->kernel->name, k,
                     (int)fill);
    }
    reference(bench, at, k, row_bytes, stride);
    compare(bench, at, k, fill);
    if (bits)
        check_bits(bench, at, call);
    give_back(scratch);
}

static void run_format(const struct qn_kernels *kernels, const struct qn_kernel_case *at, void *user)
{
    struct bench *bench = user;
    if (bench->strongest && kernels->isa != bench->most)
        return;
    for (char *const *filter = bench->filters; *filter; filter++)
        if (!strstr(at->kernel->name, *filter))
            return;
    const size_t block = qn_format_get(at->format)->block_len;
    static const size_t floats[] = {1, 5, 16, 33, 771, 2051}, blocks[] = {32, 96, 256, 320, 768, 2304};
    bench->kernels++;
    for (size_t i = 0; block == 1 && i < LEN(floats); i++)
        run_case(kernels, at, bench, floats[i], QN_FILL_RANDOM, floats[i] < MANY);
    for (size_t i = 0; block > 1 && i < LEN(blocks); i++)
        if (blocks[i] % block == 0)
            run_case(kernels, at, bench, blocks[i], QN_FILL_RANDOM, blocks[i] < MANY);
    for (enum qn_fill fill = QN_FILL_RANDOM + 1; fill < QN_FILL_END; fill++)
        run_case(kernels, at, bench, block == 1 ? 77 : 256, fill, false);
}

static void test_matmul(void **state)
{
    struct bench *bench = take(sizeof *bench);
    struct qn_kernels all;
    qn_kernels_init(&all, qn_isa_detect());
    bench->strongest = getenv("QUERN_TEST_STRONGEST") != NULL;
    bench->most = all.isa;
    bench->filters = *state;
    qn_kernel_cases(run_format, bench);
    printf("%d kernels\n", bench->kernels);
    assert_true(bench->kernels >= (bench->strongest || *bench->filters ? 1 : 50));
    give_back(bench);
}

/* ---------------------------------------------------------------- numbers that are none */

enum { SPECIAL_K = 301, SPECIAL_ROWS = 19, SPECIAL_TOKENS = 13 };

/* Bits of a float of that format. */
static void set_weight(enum quern_format format, void *w, size_t i, float value)
{
    if (format == QUERN_F32)
        ((float *)w)[i] = value;
    else
        ((uint16_t *)w)[i] = format == QUERN_F16 ? qn_f32_to_f16(value) : qn_f32_to_bf16(value);
}

/* The smallest number above 0. */
static float smallest(enum quern_format format)
{
    return format == QUERN_F32 ? 0x1p-149f : format == QUERN_F16 ? 0x1p-24f : 0x1p-133f;
}

/* What row r, most of whose weights are 1, and token t, whose activations are, come to. Row 3 has a NaN, 4 an
 * infinity, 5 both infinities, 6 the smallest number alone; 17 is as 4, and left over from the groups of 16.
 * Token 2 has a NaN, 5 an infinity. */
static float special_result(enum quern_format format, uint32_t r, uint32_t t)
{
    const bool infinite = r == 4 || r == 17;
    if (r == 3 || r == 5 || t == 2)
        return NAN;
    if (infinite || t == 5)
        return INFINITY;
    return (float)SPECIAL_K * (r == 6 ? smallest(format) : 1.0f);
}

static void run_special(const struct qn_kernels *kernels, const struct qn_kernel_case *at, void *user)
{
    static _Alignas(64) uint8_t rows[SPECIAL_ROWS * SPECIAL_K * 4], laid_out[SPECIAL_ROWS * SPECIAL_K * 4];
    static float x[SPECIAL_TOKENS * SPECIAL_K], y[SPECIAL_TOKENS * SPECIAL_ROWS];
    static const uint32_t n_tokens[] = {1, 3, 4, SPECIAL_TOKENS};
    static const size_t places[] = {0, 1, 255, 256, SPECIAL_K - 1};
    int *n_kernels = user;
    if (qn_format_get(at->format)->block_len > 1)
        return;
    void *scratch = take(QN_MATMUL_SCRATCH);
    const size_t row_bytes = qn_format_row_bytes(at->format, SPECIAL_K);
    for (size_t p = 0; p < LEN(places); p++) {
        for (size_t i = 0; i < SPECIAL_ROWS * SPECIAL_K; i++)
            set_weight(at->format, rows, i, i / SPECIAL_K == 6 ? smallest(at->format) : 1.0f);
        set_weight(at->format, rows, 3 * SPECIAL_K + places[p], NAN);
        set_weight(at->format, rows, 4 * SPECIAL_K + places[p], INFINITY);
        set_weight(at->format, rows, 5 * SPECIAL_K + places[p], INFINITY);
        set_weight(at->format, rows, 5 * SPECIAL_K + 17, -INFINITY);
        set_weight(at->format, rows, 17 * SPECIAL_K + places[p], INFINITY);
        for (size_t i = 0; i < LEN(x); i++)
            x[i] = 1;
        x[2 * SPECIAL_K + places[p]] = NAN;
        x[5 * SPECIAL_K + places[p]] = INFINITY;
        if (at->layout == QUERN_LAYOUT_ROWS16)
            qn_rows16_pack(at->format, SPECIAL_K, SPECIAL_ROWS, rows, laid_out);
        else
            memcpy(laid_out, rows, sizeof rows);
        for (size_t n = 0; n < LEN(n_tokens); n++) {
            const struct qn_matmul_call call = {.w = laid_out,
                                                .row_bytes = row_bytes,
                                                .k = SPECIAL_K,
                                                .n_rows = SPECIAL_ROWS,
                                                .n_tokens = n_tokens[n],
                                                .x = x,
                                                .x_stride = SPECIAL_K * sizeof *x,
                                                .y = y,
                                                .y_stride = SPECIAL_ROWS,
                                                .scratch = scratch,
                                                .reading = at->kernel->reading};
            at->kernel->run(&call);
            for (uint32_t i = 0; i < n_tokens[n] * SPECIAL_ROWS; i++) {
                const float want = special_result(at->format, i % SPECIAL_ROWS, i / SPECIAL_ROWS);
                if (!(isnan(want) ? isnan(y[i]) : y[i] == want))
                    fail_msg("%s, %u tokens, place %zu, row %u, token %u: %g, expected %g\n",
                             at->kernel->name, n_tokens[n], places[p], i % SPECIAL_ROWS, i / SPECIAL_ROWS,
                             (double)y[i], (double)want);
            }
        }
    }
    ++*n_kernels;
    give_back(scratch);
}

/* What is not finite, and what is below the normal numbers, reaches the results and no others. */
static void test_special(void **state)
{
    (void)state;
    int n_kernels = 0;
    qn_kernel_cases(run_special, &n_kernels);
    assert_true(n_kernels >= 3);
}

/* ---------------------------------------------------------------- the table's other functions */

static const uint32_t masks[] = {0,
                                 QN_ISA_AVX2,
                                 QN_ISA_AVX2 | QN_ISA_AVX512,
                                 QN_ISA_AVX2 | QN_ISA_AVX512 | QN_ISA_AVX512_VNNI,
                                 QN_ISA_AVX2 | QN_ISA_AVX512 | QN_ISA_AVX512_VNNI | QN_ISA_AMX_INT8,
                                 QN_ISA_NEON,
                                 QN_ISA_NEON | QN_ISA_DOTPROD,
                                 QN_ISA_NEON | QN_ISA_DOTPROD | QN_ISA_I8MM};

/* Calls `check` with the table of each set that the machine has. */
static void each_table(void (*check)(const struct qn_kernels *kernels))
{
    for (size_t i = 0; i < LEN(masks); i++) {
        struct qn_kernels kernels;
        if ((masks[i] & qn_isa_detect()) != masks[i])
            continue;
        qn_kernels_init(&kernels, masks[i]);
        assert_int_equal(kernels.isa & ~masks[i], 0);
        check(&kernels);
    }
}

static void check_pack(const struct qn_kernels *kernels)
{
    enum { K = 480 };
    static float x[K];
    _Alignas(64) static uint8_t packed[K * 3];
    for (enum qn_fill fill = QN_FILL_RANDOM; fill < QN_FILL_END; fill++) {
        qn_fill_activations(fill, 5 + fill, x, K);
        kernels->pack_q8(x, K, packed);
        struct qn_q8_row row = qn_q8_row_at(packed, K);
        for (size_t b = 0; b < K / 32; b++) {
            float max = 0;
            int32_t sum[2] = {0, 0};
            for (size_t i = b * 32; i < b * 32 + 32; i++) {
                max = fmaxf(max, fabsf(x[i]));
                sum[i / 16 % 2] += row.q[i];
                double error = fabs((double)row.q[i] * row.d[b] - x[i]);
                assert_true(error <= 0.5001 * row.d[b] + 1e-36);
                assert_true(row.q[i] >= -127);
            }
            assert_true(row.d[b] == max / 127.0f);
            assert_int_equal(row.sum16[2 * b], sum[0]);
            assert_int_equal(row.sum16[2 * b + 1], sum[1]);
            assert_int_equal(row.sum[b], sum[0] + sum[1]);
        }
    }
    /* What is not finite must reach the results. */
    for (int bad = 0; bad < 2; bad++) {
        qn_fill_activations(QN_FILL_RANDOM, 9, x, K);
        x[40] = bad ? INFINITY : NAN;
        kernels->pack_q8(x, K, packed);
        assert_false(isfinite(qn_q8_row_at(packed, K).d[1]));
        assert_true(isfinite(qn_q8_row_at(packed, K).d[0]));
    }
}

static void test_pack(void **state)
{
    (void)state;
    each_table(check_pack);
}

static void check_vectors(const struct qn_kernels *kernels)
{
    enum { N = 261 };
    static float a[N], b[N], y[N + 1], before[N + 1];
    qn_fill_activations(QN_FILL_RANDOM, 21, a, N);
    qn_fill_activations(QN_FILL_RANDOM, 22, b, N);
    for (size_t n = 0; n <= N; n += n < 40 ? 1 : 13) {
        double squares = 0;
        for (size_t i = 0; i < n; i++)
            squares += (double)a[i] * a[i];
        assert_true(fabs(kernels->sum_squares(a, n) - squares) < 1e-4);
        memcpy(y, b, sizeof b);
        y[n < N ? n : N] = 7;
        memcpy(before, y, sizeof y);
        kernels->axpy_f32(0.75f, a, y, n);
        for (size_t i = 0; i < n; i++)
            assert_true(fabsf(y[i] - (before[i] + 0.75f * a[i])) < 1e-6f);
        assert_memory_equal(y + n, before + n, (N + 1 - n) * sizeof *y);
    }
}

/* Halves, as the KV cache holds them: the same bits as the format's own decoder. */
static void check_halves(const struct qn_kernels *kernels)
{
    enum { N = 69 };
    static float a[N], y[N + 1], want[N];
    static uint16_t half[N];
    qn_fill_activations(QN_FILL_RANDOM, 23, a, N);
    for (size_t i = 0; i < N; i++)
        half[i] = qn_f32_to_f16(a[i]);
    for (size_t n = 1; n <= N; n++) {
        y[n] = 7;
        kernels->dequantise[QUERN_F16](half, y, n);
        qn_format_get(QUERN_F16)->dequantise(half, want, n);
        assert_memory_equal(y, want, n * sizeof *y);
        assert_true(y[n] == 7);
    }
}

/* The pieces of attention, for numbers of queries around the register blocks. */
static void check_attend(const struct qn_kernels *kernels)
{
    enum { BLOCK = QN_ATTEND_ROWS, D = 80, MAX_N = 15 };
    static float rows[BLOCK * D], keys[D * BLOCK], q[MAX_N * D], score[(MAX_N + 1) * BLOCK];
    static float out[(MAX_N + 1) * D], before[(MAX_N + 1) * D];
    static uint16_t halves[BLOCK * D];
    qn_fill_activations(QN_FILL_RANDOM, 31, rows, BLOCK * D);
    qn_fill_activations(QN_FILL_RANDOM, 32, q, MAX_N * D);
    for (size_t d = 16; d <= D; d += 16) {
        kernels->attend_transpose(rows, d, keys);
        for (size_t i = 0; i < d; i++)
            for (size_t j = 0; j < BLOCK; j++)
                assert_true(keys[i * BLOCK + j] == rows[j * d + i]);
        for (size_t i = 0; i < BLOCK * d; i++)
            halves[i] = qn_f32_to_f16(rows[i]);
        kernels->attend_transpose_f16(halves, d, keys);
        for (size_t i = 0; i < d; i++)
            for (size_t j = 0; j < BLOCK; j++)
                assert_true(keys[i * BLOCK + j] == qn_f16_to_f32(halves[j * d + i]));
        kernels->attend_transpose(rows, d, keys);
        for (size_t n = 1; n <= MAX_N; n++) {
            const float *queries[MAX_N];
            float *outs[MAX_N];
            for (size_t t = 0; t < n; t++) {
                queries[t] = q + t * D;
                outs[t] = out + t * d;
            }
            score[n * BLOCK] = 7;
            kernels->attend_scores(queries, n, d, keys, score);
            assert_true(score[n * BLOCK] == 7);
            qn_fill_activations(QN_FILL_RANDOM, 33, out, (MAX_N + 1) * D);
            memcpy(before, out, sizeof out);
            kernels->attend_values(score, n, d, rows, outs);
            assert_memory_equal(out + n * d, before + n * d, sizeof out - n * d * sizeof *out);
            for (size_t t = 0; t < n; t++) {
                for (size_t j = 0; j < BLOCK; j++) {
                    double want = 0;
                    for (size_t i = 0; i < d; i++)
                        want += (double)q[t * D + i] * rows[j * d + i];
                    assert_true(fabs(score[t * BLOCK + j] - want) < 1e-4);
                }
                for (size_t i = 0; i < d; i++) {
                    double want = before[t * d + i], most = fabs(want);
                    for (size_t j = 0; j < BLOCK; j++) {
                        want += (double)score[t * BLOCK + j] * rows[j * d + i];
                        most += fabs((double)score[t * BLOCK + j] * rows[j * d + i]);
                    }
                    assert_true(fabs(out[t * d + i] - want) < 1e-5 * most);
                }
            }
        }
    }
}

/* Weights of scores that are capped or not, of all rows and of some, with a maximum so far that is among
 * them, below, above, and none. What is outside is looked at by nobody. */
static void check_weigh_case(const struct qn_kernels *kernels, const struct qn_attend_rule *rule,
                             float before, const float *scores)
{
    enum { BLOCK = QN_ATTEND_ROWS };
    float x[BLOCK + 1], max = before;
    double want[BLOCK] = {0}, most = before, sum = 0;
    memcpy(x, scores, BLOCK * sizeof *x);
    x[BLOCK] = 7;
    for (uint32_t j = 0; j < BLOCK; j++)
        if (j < rule->begin || j >= rule->end)
            x[j] = j % 2 ? NAN : INFINITY;
    for (uint32_t j = rule->begin; j < rule->end; j++) {
        want[j] = (double)rule->scale * scores[j];
        want[j] = rule->cap > 0 ? rule->cap * tanh(want[j] / rule->cap) : want[j];
        most = fmax(most, want[j]);
    }
    float total = kernels->attend_weigh(x, rule, &max);
    assert_true(x[BLOCK] == 7);
    assert_true(fabs(max - most) <= 1e-5 * (1 + fabs(most)));
    for (uint32_t j = 0; j < BLOCK; j++) {
        bool inside = j >= rule->begin && j < rule->end;
        double weight = inside ? exp(want[j] - most) : 0;
        sum += weight;
        assert_true(inside ? fabs(x[j] - weight) < 2e-5 * weight + 2e-38 : x[j] == 0);
    }
    assert_true(fabs(total - sum) <= 2e-5 * sum + 1e-36);
}

static void check_weigh(const struct qn_kernels *kernels)
{
    enum { BLOCK = QN_ATTEND_ROWS };
    static const float maxima[] = {-INFINITY, -200, 0.25f, 60};
    static const float caps[] = {0, 30};
    float scores[BLOCK];
    for (size_t j = 0; j < BLOCK; j++)
        scores[j] = j == 5 ? 0.0f : (float)(j * 7 % BLOCK) * 9.5f - 150;
    for (uint32_t begin = 0; begin < BLOCK; begin++)
        for (uint32_t end = begin + 1; end <= BLOCK; end++)
            for (size_t m = 0; m < QN_LEN(maxima); m++)
                for (size_t c = 0; c < QN_LEN(caps); c++) {
                    const struct qn_attend_rule rule = {0.125f, caps[c], begin, end};
                    check_weigh_case(kernels, &rule, maxima[m], scores);
                }
    /* what is no number is not lost */
    const struct qn_attend_rule all = {1, 0, 0, BLOCK};
    float max = -INFINITY;
    scores[17] = NAN;
    assert_true(isnan(kernels->attend_weigh(scores, &all, &max)));
}

static void test_attend(void **state)
{
    (void)state;
    each_table(check_halves);
    each_table(check_attend);
    each_table(check_weigh);
}

static void test_vectors(void **state)
{
    (void)state;
    each_table(check_vectors);
}

static void check_gate(const struct qn_kernels *kernels)
{
    enum { N = 4003 };
    static float g[N], up[N], y[N];
    for (size_t i = 0; i < N; i++)
        g[i] = ((float)i - N / 2) * (i % 7 == 0 ? 0.1f : 0.005f);
    qn_fill_activations(QN_FILL_RANDOM, 31, up, N);
    for (uint32_t act = QUERN_ACT_NONE; act <= QUERN_ACT_RELU2; act++) {
        for (int with_up = 0; with_up < 2; with_up++) {
            kernels->gate(act, g, with_up ? up : NULL, y, N);
            for (size_t i = 0; i < N; i++) {
                double want = qn_exact_activation(act, g[i]) * (with_up ? up[i] : 1);
                if (!(fabs(y[i] - want) <= 1e-6 * fabs(want) + 5e-7))
                    fail_msg("activation %u of %g: %.9g, expected %.9g\n", act, (double)g[i], (double)y[i],
                             want);
            }
            memcpy(y, g, sizeof g); /* in place */
            kernels->gate(act, y, with_up ? up : NULL, y, N);
            assert_true(isfinite(y[0]) && isfinite(y[N - 1]));
        }
        float bad = NAN, out = 0;
        kernels->gate(act, &bad, NULL, &out, 1);
        assert_true(act == QUERN_ACT_RELU || act == QUERN_ACT_RELU2 || isnan(out));
    }
}

static void test_gate(void **state)
{
    (void)state;
    each_table(check_gate);
}

static void check_dequantise(const struct qn_kernels *kernels)
{
    enum { N = 2304 };
    static uint8_t blocks[N * 4];
    static float want[N], got[N];
    for (int number = 0; number < QUERN_FORMAT_END; number++) {
        const struct qn_format *format = qn_format_get(number);
        if (!kernels->dequantise[number])
            continue;
        for (enum qn_fill fill = QN_FILL_RANDOM; fill < QN_FILL_END; fill++) {
            qn_fill_weights(number, fill, 3, blocks, N);
            format->dequantise(blocks, want, N);
            kernels->dequantise[number](blocks, got, N);
            if (memcmp(want, got, sizeof want) != 0)
                fail_msg("%s decodes to other bits (fill %d)\n", format->name, (int)fill);
        }
    }
}

static void test_dequantise(void **state)
{
    (void)state;
    each_table(check_dequantise);
}

static void test_names(void **state)
{
    (void)state;
    char text[128], small[6];
    qn_isa_names(0, text, sizeof text);
    assert_string_equal(text, "");
    qn_isa_names(qn_isa_detect(), text, sizeof text);
    printf("this machine: %s\n", *text ? text : "plain C only");
    for (size_t i = 0; i < LEN(masks); i++) { /* other architectures' have no names here */
        char lacking[128];
        qn_isa_names(masks[i] & ~qn_isa_detect(), lacking, sizeof lacking);
        if (*lacking)
            printf("NOT TESTED, since this machine or its system lacks it: %s\n", lacking);
    }
    qn_isa_names(qn_isa_detect(), small, sizeof small);
    assert_true(strlen(small) < sizeof small);
}

int main(int argc, char **argv)
{
    (void)argc;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_pack),
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_attend),
        cmocka_unit_test(test_gate),
        cmocka_unit_test(test_dequantise),
        cmocka_unit_test_prestate(test_matmul, argv + 1),
        cmocka_unit_test(test_special),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
