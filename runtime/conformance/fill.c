#include "conformance/fill.h"

#include "formats/blocks.h"
#include "formats/formats.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* ---------------------------------------------------------------- random numbers */

uint64_t qn_fill_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* -1 to 1 */
static float random_unit(uint64_t *state)
{
    return (float)(int32_t)(uint32_t)qn_fill_random(state) * 0x1p-31f;
}

/* ---------------------------------------------------------------- weights */

/* Where a block keeps its half floats; -1: nowhere. */
struct scales {
    enum quern_format format;
    int at[2];
};
#define AT(lower, member) (int)offsetof(struct qn_block_##lower, member)
static const struct scales scales[] = {
    {QUERN_Q4_0, {AT(q4_0, d), -1}},
    {QUERN_Q4_1, {AT(q4_1, d), AT(q4_1, m)}},
    {QUERN_Q5_0, {AT(q5_0, d), -1}},
    {QUERN_Q5_1, {AT(q5_1, d), AT(q5_1, m)}},
    {QUERN_Q8_0, {AT(q8_0, d), -1}},
    {QUERN_Q8_1, {AT(q8_1, d), AT(q8_1, s)}},
    {QUERN_Q1_0, {AT(q1_0, d), -1}},
    {QUERN_Q2_0, {AT(q2_0, d), -1}},
    {QUERN_Q2_K, {AT(q2_k, d), AT(q2_k, dmin)}},
    {QUERN_Q3_K, {AT(q3_k, d), -1}},
    {QUERN_Q4_K, {AT(q4_k, d), AT(q4_k, dmin)}},
    {QUERN_Q5_K, {AT(q5_k, d), AT(q5_k, dmin)}},
    {QUERN_Q6_K, {AT(q6_k, d), -1}},
    {QUERN_IQ2_XXS, {AT(iq2_xxs, d), -1}},
    {QUERN_IQ2_XS, {AT(iq2_xs, d), -1}},
    {QUERN_IQ2_S, {AT(iq2_s, d), -1}},
    {QUERN_IQ3_XXS, {AT(iq3_xxs, d), -1}},
    {QUERN_IQ3_S, {AT(iq3_s, d), -1}},
    {QUERN_IQ1_S, {AT(iq1_s, d), -1}},
    {QUERN_IQ4_NL, {AT(iq4_nl, d), -1}},
    {QUERN_IQ4_XS, {AT(iq4_xs, d), -1}},
    {QUERN_TQ1_0, {AT(tq1_0, d), -1}},
    {QUERN_TQ2_0, {AT(tq2_0, d), -1}},
};

static uint16_t random_scale(enum qn_fill fill, uint64_t *state)
{
    float unit = random_unit(state);
    switch (fill) {
    case QN_FILL_ZERO:
        return 0;
    case QN_FILL_TINY:
        return (uint16_t)(1 + qn_fill_random(state) % 1023);
    case QN_FILL_HUGE:
        return qn_f32_to_f16(unit * 1000);
    default:
        return qn_f32_to_f16(unit * 0.1f + (unit < 0 ? -0.01f : 0.01f));
    }
}

static bool all_finite(const struct qn_format *format, const uint8_t *block)
{
    float out[256];
    format->dequantise(block, out, format->block_len);
    for (int i = 0; i < format->block_len; i++)
        if (!(fabsf(out[i]) < 1e6f))
            return false;
    return true;
}

static void fill_block(const struct qn_format *format, enum quern_format number, enum qn_fill fill,
                       uint64_t *state, uint8_t *block)
{
    do {
        for (int i = 0; i < format->block_bytes; i++)
            block[i] = fill == QN_FILL_EXTREME   ? 255
                       : fill == QN_FILL_OUTLIER ? 0
                                                 : (uint8_t)qn_fill_random(state);
        for (size_t i = 0; i < sizeof scales / sizeof scales[0]; i++) {
            for (int j = 0; scales[i].format == number && j < 2; j++) {
                if (scales[i].at[j] < 0)
                    continue;
                uint16_t half = random_scale(fill, state);
                memcpy(block + scales[i].at[j], &half, 2);
            }
        }
        if (number == QUERN_MXFP4)
            block[0] = fill == QN_FILL_TINY ? qn_fill_random(state) % 4 : 110 + qn_fill_random(state) % 20;
        if (number == QUERN_IQ1_M) /* d: four nibbles; its exponent is kept low */
            block[AT(iq1_m, scales) + 7] = (uint8_t)(block[AT(iq1_m, scales) + 7] & 0x0f) | 0x20;
        if (number == QUERN_Q8_K) {
            float d = qn_f16_to_f32(random_scale(fill, state));
            memcpy(block, &d, sizeof d);
        }
    } while (!all_finite(format, block));
}

void qn_fill_weights(enum quern_format number, enum qn_fill fill, uint64_t seed, void *blocks, size_t n)
{
    const struct qn_format *format = qn_format_get(number);
    uint8_t *block = blocks;
    uint64_t state = seed;
    for (size_t i = 0; i < n; i += format->block_len, block += format->block_bytes) {
        if (format->block_len == 1) {
            float x;
            qn_fill_activations(fill == QN_FILL_HUGE ? QN_FILL_RANDOM : fill, qn_fill_random(&state), &x, 1);
            format->quantise(&x, block, 1);
        } else {
            fill_block(format, number, fill, &state, block);
        }
    }
}

static void scale_half(uint8_t *at, float factor)
{
    uint16_t half;
    memcpy(&half, at, 2);
    half = qn_f32_to_f16(qn_f16_to_f32(half) * factor);
    memcpy(at, &half, 2);
}

/* Multiplies a block's scale. */
static void scale_block(enum quern_format number, uint8_t *block, float factor)
{
    for (size_t i = 0; i < sizeof scales / sizeof scales[0]; i++)
        for (int j = 0; scales[i].format == number && j < 2; j++)
            if (scales[i].at[j] >= 0)
                scale_half(block + scales[i].at[j], factor);
    if (number == QUERN_MXFP4)
        block[0] = (uint8_t)(block[0] + lrintf(log2f(factor)));
    for (int i = 0; number == QUERN_NVFP4 && i < 4; i++) /* three bits of mantissa below the exponent */
        block[AT(nvfp4, d) + i] =
            (uint8_t)fmaxf(1, (float)(block[AT(nvfp4, d) + i] & 0x7f) + 8 * log2f(factor));
    if (number == QUERN_IQ1_M) { /* a nibble of the half float in each of four words */
        uint8_t half[2], *words = block + AT(iq1_m, scales);
        half[0] = (uint8_t)(words[1] >> 4 | (words[3] & 0xf0));
        half[1] = (uint8_t)(words[5] >> 4 | (words[7] & 0xf0));
        scale_half(half, factor);
        for (int i = 0; i < 4; i++) {
            int nibble = half[i / 2] >> i % 2 * 4 & 15;
            words[2 * i + 1] = (uint8_t)((words[2 * i + 1] & 0x0f) | nibble << 4);
        }
    }
    if (number == QUERN_Q8_K) {
        float d;
        memcpy(&d, block, sizeof d);
        d *= factor;
        memcpy(block, &d, sizeof d);
    }
}

void qn_fill_weights_of(enum quern_format number, float rms, uint64_t seed, void *blocks, size_t n)
{
    const struct qn_format *format = qn_format_get(number);
    uint8_t *block = blocks;
    uint64_t state = seed;
    for (size_t i = 0; i < n; i += format->block_len, block += format->block_bytes) {
        float values[256];
        double squares = 0;
        if (format->block_len == 1) { /* uniform: its deviation is the half width by the root of 3 */
            values[0] = random_unit(&state) * rms * 1.7320508f;
            format->quantise(values, block, 1);
            continue;
        }
        fill_block(format, number, QN_FILL_RANDOM, &state, block);
        for (int k = 0; number == QUERN_NVFP4 && k < 4; k++) /* four scales that are alike */
            block[AT(nvfp4, d) + k] = (uint8_t)(56 + qn_fill_random(&state) % 8);
        format->dequantise(block, values, format->block_len);
        for (int k = 0; k < format->block_len; k++)
            squares += (double)values[k] * values[k];
        if (squares > 0)
            scale_block(number, block, rms / (float)sqrt(squares / format->block_len));
    }
}

/* ---------------------------------------------------------------- activations */

void qn_fill_activations(enum qn_fill fill, uint64_t seed, float *x, size_t n)
{
    uint64_t state = seed;
    for (size_t i = 0; i < n; i++) {
        float unit = random_unit(&state);
        switch (fill) {
        case QN_FILL_ZERO:
            x[i] = 0;
            break;
        case QN_FILL_TINY:
            x[i] = unit * 1e-30f;
            break;
        case QN_FILL_HUGE:
            x[i] = unit * 1e20f;
            break;
        case QN_FILL_EXTREME:
            x[i] = i % 2 ? -3.0f : 3.0f;
            break;
        case QN_FILL_OUTLIER:
            x[i] = i % 97 == 13 ? 1000.0f : unit * 0.01f;
            break;
        default:
            x[i] = unit;
        }
    }
}
