/* Number formats: exact decoding against reference data, encoding against the definition. */
#include "base/host.h"
#include "formats/blocks.h"
#include "formats/formats.h"
#include "formats/iq_tables.h"
#include "formats/rows16.h"
#include "support/dequant.h"
#include "test.h"

#include <math.h>

static uint32_t bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static void test_dequantise_goldens(void **state)
{
    (void)state;
    static uint8_t blocks[8192];
    static float want[1024], got[1024];
    int n_checked = 0;
    for (int id = 0; id < QUERN_FORMAT_END; id++) {
        const struct qn_format *format = qn_format_get((enum quern_format)id);
        if (!format || !format->dequantise)
            continue;
        size_t bytes = qn_dequant_read(format->name, ".bin", blocks + 1, sizeof blocks - 1);
        if (bytes == 0)
            continue;
        assert_int_equal(bytes, qn_format_row_bytes((enum quern_format)id, 1024));
        assert_int_equal(qn_dequant_read(format->name, ".f32", want, sizeof want), sizeof want);
        format->dequantise(blocks + 1, got, 1024); /* at an odd address, as in a file */
        for (int i = 0; i < 1024; i++)
            if (bits_of(got[i]) != bits_of(want[i]))
                fail_msg("%s: weight %d is %.9g, expected %.9g", format->name, i, got[i], want[i]);
        n_checked++;
    }
    assert_int_equal(n_checked, 26);
}

static void test_rows(void **state)
{
    (void)state;
    assert_string_equal(quern_format_name(QUERN_Q4_K), "Q4_K");
    assert_string_equal(quern_format_name(QUERN_MXFP4), "MXFP4");
    assert_null(quern_format_name((enum quern_format)4));
    assert_null(quern_format_name(QUERN_FORMAT_END));
    assert_null(quern_format_name((enum quern_format) - 1));
    assert_null(qn_format_get((enum quern_format)31));
    assert_int_equal(qn_format_row_bytes(QUERN_Q6_K, 4096), 16 * 210);
    assert_int_equal(qn_format_row_bytes(QUERN_I64, 3), 24);
    assert_null(qn_format_get(QUERN_I32)->dequantise);
    /* a row has all or nothing of a size */
    for (int id = 0; id < QUERN_FORMAT_END; id++) {
        const struct qn_format *format = qn_format_get((enum quern_format)id);
        if (format)
            assert_true(format->block_len > 0 && format->block_bytes > 0);
    }
}

static void test_half(void **state)
{
    (void)state;
    /* every half float goes there and back */
    for (uint32_t h = 0; h < 65536; h++) {
        float f = qn_f16_to_f32((uint16_t)h);
        uint32_t back = qn_f32_to_f16(f);
        if ((h & 0x7fff) > 0x7c00)
            assert_true(isnan(f) && back == (h | 0x200));
        else
            assert_int_equal(back, h);
        uint32_t bf = qn_f32_to_bf16(qn_bf16_to_f32((uint16_t)h));
        assert_int_equal(bf, (h & 0x7fff) > 0x7f80 ? (h | 0x40) : h);
    }
    /* between two neighbours: to the nearest, halfway to the even one */
    for (uint32_t h = 0; h < 0x7bff; h++) {
        float low = qn_f16_to_f32((uint16_t)h), high = qn_f16_to_f32((uint16_t)(h + 1)),
              middle = (low + high) / 2;
        assert_int_equal(qn_f32_to_f16(middle), h + (h & 1));
        assert_int_equal(qn_f32_to_f16(nextafterf(middle, 0)), h);
        assert_int_equal(qn_f32_to_f16(nextafterf(-middle, -INFINITY)), 0x8000 | (h + 1));
    }
    assert_int_equal(qn_f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(qn_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(qn_f32_to_f16(1e30f), 0x7c00);
    assert_int_equal(qn_f32_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(qn_f32_to_f16(1e-30f), 0);
    assert_int_equal(qn_f32_to_bf16(float_of(0x3f808000)), 0x3f80); /* halfway, even below */
    assert_int_equal(qn_f32_to_bf16(float_of(0x3f818000)), 0x3f82); /* halfway, even above */
    assert_int_equal(qn_f32_to_bf16(float_of(0x3f808001)), 0x3f81);
    assert_int_equal(qn_f32_to_bf16(float_of(0x7f7fffff)), 0x7f80);
}

static uint32_t random_state;

static float random_float(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (float)(int32_t)random_state * 0x1p-31f;
}

/* Error of a weight in steps of its block, for the formats that Quern writes. */
static void test_quantise(void **state)
{
    (void)state;
    static const struct {
        enum quern_format format;
        double
            steps; /* between the extremes of a block: the error is half a step, and the scale's rounding */
        double limit; /* of the error, in parts of the block's largest magnitude */
    } cases[] = {
        /* largest magnitude on the lowest step: the opposite extreme is clipped by up to one step */
        {QUERN_Q4_0, 16, 1.01 / 8},     {QUERN_Q5_0, 32, 1.01 / 16},   {QUERN_Q4_1, 16, 1.02 / 15},
        {QUERN_Q5_1, 32, 1.03 / 31},    {QUERN_Q8_0, 256, 0.57 / 127}, {QUERN_Q8_1, 256, 0.57 / 127},
        {QUERN_Q8_K, 256, 0.501 / 127},
    };
    static float in[2048], out[2048];
    static uint8_t blocks[8192];
    random_state = 1;
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        const struct qn_format *format = qn_format_get(cases[c].format);
        for (int i = 0; i < 2048; i++)
            in[i] = random_float() * (float)(1 + i / 256);
        memset(in + 512, 0, 256 * sizeof *in);
        format->quantise(in, blocks, 2048);
        format->dequantise(blocks, out, 2048);
        int n_off = 0;
        for (int i = 0; i < 2048; i += format->block_len) {
            double largest = 0;
            for (int j = i; j < i + format->block_len; j++)
                largest = fmax(largest, fabs(in[j]));
            for (int j = i; j < i + format->block_len; j++) {
                double error = fabs((double)out[j] - in[j]);
                if (error > cases[c].limit * largest)
                    fail_msg("%s: %g became %g", format->name, in[j], out[j]);
                n_off += error > 0.52 * 2 * largest / cases[c].steps;
            }
        }
        /* off by more than half a step: only what is clipped at the end of the range */
        assert_true(n_off < 2048 / 16);
        /* decoded weights are fixed points */
        format->quantise(out, blocks, 2048);
        static float again[2048];
        format->dequantise(blocks, again, 2048);
        for (int i = 0; i < 2048; i++)
            assert_true(fabsf(again[i] - out[i]) <= 2e-3f * fabsf(out[i]) + 1e-3f * (float)(1 + i / 256));
    }
}

/* The plain floats: what they hold comes back, at any address. */
static void test_plain(void **state)
{
    (void)state;
    static const enum quern_format formats[] = {QUERN_F32, QUERN_F16, QUERN_BF16};
    const float in[7] = {0, -0.0f, 1, -2.5f, 96, 0.0078125f, INFINITY};
    for (size_t f = 0; f < sizeof formats / sizeof formats[0]; f++) {
        uint8_t bytes[32];
        float out[7];
        qn_format_get(formats[f])->quantise(in, bytes + 1, 7);
        qn_format_get(formats[f])->dequantise(bytes + 1, out, 7);
        for (int i = 0; i < 7; i++)
            assert_int_equal(bits_of(out[i]), bits_of(in[i]));
    }
}

static void test_quantise_by_hand(void **state)
{
    (void)state;
    float in[32] = {0};
    in[0] = -8, in[1] = 7, in[2] = 3.4f, in[17] = -1.6f;
    struct qn_block_q4_0 q4_0;
    qn_format_get(QUERN_Q4_0)->quantise(in, &q4_0, 32);
    assert_int_equal(q4_0.d, 0x3c00);
    assert_int_equal(q4_0.qs[0], 0x80);
    assert_int_equal(q4_0.qs[1], 0x6f); /* 7 and -1.6, rounded to -2 */
    assert_int_equal(q4_0.qs[2], 0x8b);
    struct qn_block_q4_1 q4_1;
    qn_format_get(QUERN_Q4_1)->quantise(in, &q4_1, 32);
    assert_int_equal(q4_1.d, 0x3c00);
    assert_int_equal(q4_1.m, 0xc800);
    assert_int_equal(q4_1.qs[1], 0x6f);
    in[0] = -16, in[1] = 15, in[17] = 0;
    struct qn_block_q5_0 q5_0;
    qn_format_get(QUERN_Q5_0)->quantise(in, &q5_0, 32);
    assert_int_equal(q5_0.d, 0x3c00);
    assert_memory_equal(q5_0.qh, "\xfe\xff\xff\xff", 4);
    assert_int_equal(q5_0.qs[1], 0x0f);
    in[0] = -127;
    struct qn_block_q8_1 q8_1;
    qn_format_get(QUERN_Q8_1)->quantise(in, &q8_1, 32);
    assert_int_equal(q8_1.d, 0x3c00);
    assert_true(q8_1.qs[0] == -127 && q8_1.qs[1] == 15 && q8_1.qs[2] == 3);
    assert_true(qn_f16_to_f32(q8_1.s) == -109.0f);
    /* what is no number does not spread, and nothing overflows */
    in[0] = NAN, in[2] = INFINITY;
    static const enum quern_format all[] = {QUERN_Q4_0, QUERN_Q4_1, QUERN_Q5_0,
                                            QUERN_Q5_1, QUERN_Q8_0, QUERN_Q8_1};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        uint8_t block[64];
        qn_format_get(all[i])->quantise(in, block, 32);
    }
    static float wide[256], back[256];
    wide[3] = -1, wide[255] = 0.5f;
    struct qn_block_q8_k q8_k;
    qn_format_get(QUERN_Q8_K)->quantise(wide, &q8_k, 256);
    assert_true(q8_k.qs[3] == -127 && q8_k.sums[0] == -127 && q8_k.sums[15] == 64);
    qn_format_get(QUERN_Q8_K)->dequantise(&q8_k, back, 256);
    assert_true(fabsf(back[3] + 1) < 1e-6f);
}

static void test_nvfp4(void **state)
{
    (void)state;
    /* scales 1, 448 (the largest), 2^-9 (the smallest), and the NaN pattern */
    struct qn_block_nvfp4 block = {.d = {0x38, 0x7e, 0x01, 0x7f}};
    for (int i = 0; i < 32; i++)
        block.qs[i] = (uint8_t)(i % 8 * 0x11 + 0x80); /* low nibbles 0 to 7, high ones the same, negative */
    static const float values[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    static const float scales[4] = {1, 448, 0x1p-9f, 0};
    float out[64];
    qn_format_get(QUERN_NVFP4)->dequantise(&block, out, 64);
    for (int group = 0; group < 4; group++) {
        for (int j = 0; j < 8; j++) {
            assert_true(out[16 * group + j] == values[j] * scales[group]);
            assert_true(out[16 * group + 8 + j] == -values[j] * scales[group]);
        }
    }
}

static void test_tables(void **state)
{
    (void)state;
    for (int i = 0; i < 128; i++) {
        int ones = 0;
        for (int b = 0; b < 8; b++)
            ones += qn_iq_signs[i] >> b & 1;
        assert_int_equal(ones % 2, 0);
        assert_int_equal(qn_iq_signs[i] & 127, i);
    }
    for (int i = 0; i < 2048; i++)
        for (int j = 0; j < 8; j++)
            assert_true(qn_iq1s_grid[i][j] >= -1 && qn_iq1s_grid[i][j] <= 1);
    for (int i = 1; i < 16; i++)
        assert_true(qn_iq4nl_values[i] > qn_iq4nl_values[i - 1]);
    assert_int_equal((uintptr_t)qn_iq2xxs_grid % 8, 0);
    assert_int_equal((uintptr_t)qn_iq3s_grid % 4, 0);
}

/* Every row comes back from the layout, and a group is what the header says. */
static void test_rows16(void **state)
{
    (void)state;
    enum { K = 512, MOST = 37 };
    static uint8_t rows[MOST * K * 4], matrix[MOST * K * 4 + 1], row[K * 4];
    static const size_t some_rows[] = {1, 15, 16, 17, 32, 37};
    int n_checked = 0;
    for (size_t i = 0; i < sizeof rows; i++)
        rows[i] = (uint8_t)(i * 2654435761u >> 13);
    for (int id = 0; id < QUERN_FORMAT_END; id++) {
        const enum quern_format format = (enum quern_format)id;
        if (!qn_rows16_has(format))
            continue;
        const bool plain = qn_format_get(format)->block_len == 1; /* see below */
        const size_t bytes = qn_format_row_bytes(format, K), block = qn_format_get(format)->block_bytes;
        for (size_t i = 0; i < QN_LEN(some_rows); i++) {
            const size_t n = some_rows[i], whole = n / 16 * 16;
            memset(matrix, 0, sizeof matrix);
            qn_rows16_pack(format, K, n, rows, matrix);
            for (size_t r = 0; r < n; r++) {
                qn_rows16_row(format, K, n, matrix, r, row);
                assert_memory_equal(row, rows + r * bytes, bytes);
            }
            assert_memory_equal(matrix + whole * bytes, rows + whole * bytes, (n - whole) * bytes);
            assert_int_equal(matrix[n * bytes], 0);
        }
        /* the last word of row 5 in the second block, or what is left of one at the block's end */
        const size_t odd = format == QUERN_Q3_K || format == QUERN_Q6_K ? block % 4 : 0;
        const size_t size = odd > 0 ? odd : 4, at = block - size;
        if (!plain)
            assert_memory_equal(matrix + 16 * (block + at) + 5 * size, rows + 5 * bytes + block + at, size);
        n_checked++;
    }
    assert_true(n_checked >= 27);
    assert_true(qn_rows16_has(QUERN_F32) && qn_rows16_has(QUERN_F16) && qn_rows16_has(QUERN_BF16));
    assert_false(qn_rows16_has(QUERN_I32) || qn_rows16_has((enum quern_format)4));
}

/* A row of plain floats is one block: words of 4 bytes, and a half float where their number is odd. */
static void test_rows16_floats(void **state)
{
    (void)state;
    enum { K = 7, ROWS = 18 };
    static const enum quern_format formats[] = {QUERN_F32, QUERN_F16, QUERN_BF16};
    uint8_t rows[ROWS * K * 4], matrix[ROWS * K * 4], row[K * 4];
    for (size_t i = 0; i < sizeof rows; i++)
        rows[i] = (uint8_t)(i * 2654435761u >> 13);
    for (size_t f = 0; f < QN_LEN(formats); f++) {
        const size_t bytes = qn_format_row_bytes(formats[f], K), words = bytes / 4, odd = bytes % 4;
        qn_rows16_pack(formats[f], K, ROWS, rows, matrix);
        for (size_t r = 0; r < 16; r++) {
            for (size_t w = 0; w < words; w++)
                assert_memory_equal(matrix + 64 * w + 4 * r, rows + r * bytes + 4 * w, 4);
            assert_memory_equal(matrix + 64 * words + odd * r, rows + r * bytes + 4 * words, odd);
        }
        for (size_t r = 0; r < ROWS; r++) {
            qn_rows16_row(formats[f], K, ROWS, matrix, r, row);
            assert_memory_equal(row, rows + r * bytes, bytes);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dequantise_goldens),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_half),
        cmocka_unit_test(test_quantise),
        cmocka_unit_test(test_quantise_by_hand),
        cmocka_unit_test(test_nvfp4),
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_rows16),
        cmocka_unit_test(test_rows16_floats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
