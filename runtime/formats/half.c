/* Half floats, bfloat16 and plain floats. Bit arithmetic: the same result on every machine. */
#include "formats/codecs.h"
#include "formats/formats.h"

#include <string.h>

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

float qn_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    uint32_t exponent = h >> 10 & 31;
    uint32_t mantissa = h & 0x3ff;
    if (exponent == 31) /* infinity, NaN */
        return float_of(sign | 0x7f800000u | mantissa << 13);
    if (exponent == 0) { /* zero, or subnormal: mantissa * 2^-24, which a float holds exactly */
        float f = (float)mantissa * 0x1p-24f;
        return float_of(bits_of(f) | sign);
    }
    return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
}

uint16_t qn_f32_to_f16(float f)
{
    uint32_t bits = bits_of(f);
    uint32_t sign = bits >> 16 & 0x8000;
    uint32_t rest = bits & 0x7fffffffu;
    if (rest > 0x7f800000u) /* NaN stays NaN, quiet */
        return (uint16_t)(sign | 0x7e00 | (rest >> 13 & 0x1ff));
    if (rest >= 0x477ff000u) /* rounds to 65536 or more */
        return (uint16_t)(sign | 0x7c00);
    if (rest < 0x38800000u) { /* below 2^-14: subnormal or zero; adding 0.5 leaves multiples of 2^-24 */
        float shifted = float_of(rest) + 0.5f;
        return (uint16_t)(sign | (bits_of(shifted) - bits_of(0.5f)));
    }
    uint32_t odd = rest >> 13 & 1;
    return (uint16_t)(sign | ((rest - 0x38000000u + 0xfff + odd) >> 13));
}

float qn_bf16_to_f32(uint16_t b)
{
    return float_of((uint32_t)b << 16);
}

uint16_t qn_f32_to_bf16(float f)
{
    uint32_t bits = bits_of(f);
    if ((bits & 0x7fffffffu) > 0x7f800000u) /* NaN stays NaN, quiet */
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

void qn_dequantise_f32(const void *restrict blocks, float *restrict out, size_t n)
{
    memcpy(out, blocks, n * sizeof *out);
}

void qn_quantise_f32(const float *restrict in, void *restrict blocks, size_t n)
{
    memcpy(blocks, in, n * sizeof *in);
}

/* Arrays in a file lie at any address: each element is moved as bytes. */
void qn_dequantise_f16(const void *restrict blocks, float *restrict out, size_t n)
{
    const uint8_t *bytes = blocks;
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, bytes + 2 * i, sizeof h);
        out[i] = qn_f16_to_f32(h);
    }
}

void qn_quantise_f16(const float *restrict in, void *restrict blocks, size_t n)
{
    uint8_t *bytes = blocks;
    for (size_t i = 0; i < n; i++) {
        uint16_t h = qn_f32_to_f16(in[i]);
        memcpy(bytes + 2 * i, &h, sizeof h);
    }
}

void qn_dequantise_bf16(const void *restrict blocks, float *restrict out, size_t n)
{
    const uint8_t *bytes = blocks;
    for (size_t i = 0; i < n; i++) {
        uint16_t b;
        memcpy(&b, bytes + 2 * i, sizeof b);
        out[i] = qn_bf16_to_f32(b);
    }
}

void qn_quantise_bf16(const float *restrict in, void *restrict blocks, size_t n)
{
    uint8_t *bytes = blocks;
    for (size_t i = 0; i < n; i++) {
        uint16_t b = qn_f32_to_bf16(in[i]);
        memcpy(bytes + 2 * i, &b, sizeof b);
    }
}
