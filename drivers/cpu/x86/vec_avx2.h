/* The vocabulary of the x86 kernels in 256-bit vectors (AVX2, FMA, F16C); vec_avx512.h tells what the words
 * mean. */
#ifndef QN_CPU_X86_VEC_AVX2_H
#define QN_CPU_X86_VEC_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { LANES = 8, REGISTERS = 16 };
typedef __m256i vi;
typedef __m256 vf;
typedef vi vx;
typedef vi vp;

/* ---- integers ---- */

#define vi_and(a, b)      _mm256_and_si256(a, b)
#define vi_or(a, b)       _mm256_or_si256(a, b)
#define vi_xor(a, b)      _mm256_xor_si256(a, b)
#define vi_add(a, b)      _mm256_add_epi32(a, b)
#define vi_sub(a, b)      _mm256_sub_epi32(a, b)
#define vi_mul(a, b)      _mm256_mullo_epi32(a, b)
#define vi_srl(a, n)      _mm256_srli_epi32(a, n)
#define vi_sll(a, n)      _mm256_slli_epi32(a, n)
#define vi_sra(a, n)      _mm256_srai_epi32(a, n)
#define vi_max(a, b)      _mm256_max_epi32(a, b)
#define vi_max_u32(a, b)  _mm256_max_epu32(a, b)
#define vi_set(x)         _mm256_set1_epi32(x)
#define vi_set_bytes(x)   _mm256_set1_epi8(x)
#define vi_zero()         _mm256_setzero_si256()
#define vi_look_up(t, i)  _mm256_shuffle_epi8(t, i)
#define vi_load(p)        _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define vi_store(p, a)    _mm256_storeu_si256((__m256i *)(void *)(p), a)
#define vi_fetch(p, i, n) _mm256_i32gather_epi32((const int *)(const void *)(p), i, n)
#define vi_table(p)       _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#define vx_load(p, g)     vi_spread((p) + 4 * (g))
#define V_HAS_DOT         0
#define V_HAS_MATRIX      0
#define V_DOT_UNSIGNED    0
#define VP_PRODUCTS       2
#define vp_zero()         vi_zero()
#define vp_unsigned(w, x) _mm256_maddubs_epi16(w, x)
#define vp_signed(w, x)   _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
#define vp_add(a, b)      _mm256_add_epi16(a, b)
#define vp_join(a)        _mm256_madd_epi16(a, _mm256_set1_epi16(1))
#define v_ask_for(p)      _mm_prefetch((const char *)(p), _MM_HINT_T1)

/* Byte by byte. */
#define vi_add_bytes(a, b)         _mm256_add_epi8(a, b)
#define vi_sub_bytes(a, b)         _mm256_sub_epi8(a, b)
#define vi_more_bytes(a, b)        _mm256_cmpgt_epi8(a, b)
#define vi_test_bytes(a, b)        _mm256_cmpeq_epi8(_mm256_and_si256(a, b), b)
#define vi_fetch_two(p, i, n, out) ((out)[0] = vi_fetch(p, i, n), (out)[1] = vi_fetch((p) + 4, i, n))

static inline vi vi_spread(const void *p)
{
    return _mm256_set1_epi32(*(const int *)p);
}

static inline void vi_piece(const uint8_t *p, size_t stride, vi out[4])
{
    vi a[4];
    for (size_t r = 0; r < 4; r++) {
        const uint8_t *row = p + r * stride;
        a[r] = _mm256_inserti128_si256(
            _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)row)),
            _mm_loadu_si128((const __m128i *)(const void *)(row + 4 * stride)), 1);
    }
    vi low01 = _mm256_unpacklo_epi32(a[0], a[1]), high01 = _mm256_unpackhi_epi32(a[0], a[1]);
    vi low23 = _mm256_unpacklo_epi32(a[2], a[3]), high23 = _mm256_unpackhi_epi32(a[2], a[3]);
    out[0] = _mm256_unpacklo_epi64(low01, low23);
    out[1] = _mm256_unpackhi_epi64(low01, low23);
    out[2] = _mm256_unpacklo_epi64(high01, high23);
    out[3] = _mm256_unpackhi_epi64(high01, high23);
}

static inline vi vi_gather(const uint8_t *p, size_t stride)
{
    __m128i half[2];
    for (size_t h = 0; h < 2; h++) {
        const uint8_t *row = p + 4 * h * stride;
        __m128i a = _mm_unpacklo_epi32(_mm_loadu_si32(row), _mm_loadu_si32(row + stride));
        __m128i b = _mm_unpacklo_epi32(_mm_loadu_si32(row + 2 * stride), _mm_loadu_si32(row + 3 * stride));
        half[h] = _mm_unpacklo_epi64(a, b);
    }
    return _mm256_inserti128_si256(_mm256_castsi128_si256(half[0]), half[1], 1);
}

static inline vi vi_load_bytes(const uint8_t *p)
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
}

/* ---- floats ---- */

#define vf_zero()        _mm256_setzero_ps()
#define vf_set(x)        _mm256_set1_ps(x)
#define vf_add(a, b)     _mm256_add_ps(a, b)
#define vf_sub(a, b)     _mm256_sub_ps(a, b)
#define vf_mul(a, b)     _mm256_mul_ps(a, b)
#define vf_div(a, b)     _mm256_div_ps(a, b)
#define vf_min(a, b)     _mm256_min_ps(a, b)
#define vf_max(a, b)     _mm256_max_ps(a, b)
#define vf_fma(a, b, c)  _mm256_fmadd_ps(a, b, c)
#define vf_fnma(a, b, c) _mm256_fnmadd_ps(a, b, c)
#define vf_round(a)      _mm256_round_ps(a, 8)
#define vf_load(p)       _mm256_loadu_ps(p)
#define vf_store(p, a)   _mm256_storeu_ps(p, a)
#define vf_from_int(a)   _mm256_cvtepi32_ps(a)
#define vf_to_int(a)     _mm256_cvtps_epi32(a)
#define vf_bits(a)       _mm256_castps_si256(a)
#define vf_of_bits(a)    _mm256_castsi256_ps(a)
#define vf_load_half(p)  _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#define vf_load_bhalf(p) \
    _mm256_castsi256_ps( \
        _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p))), 16))

static inline vf vf_of_halves(vi a)
{
    __m256i words = _mm256_packus_epi32(_mm256_and_si256(a, _mm256_set1_epi32(0xffff)), a);
    return _mm256_cvtph_ps(_mm256_castsi256_si128(_mm256_permute4x64_epi64(words, 0x08)));
}

static inline vf vf_load_n(const float *p, size_t n)
{
    float whole[8] = {0};
    memcpy(whole, p, n * sizeof *p);
    return _mm256_loadu_ps(whole);
}
static inline void vf_store_n(float *p, vf a, size_t n)
{
    float whole[8];
    _mm256_storeu_ps(whole, a);
    memcpy(p, whole, n * sizeof *p);
}
static inline vf vf_load_half_n(const uint16_t *p, size_t n)
{
    uint16_t whole[8] = {0};
    memcpy(whole, p, n * sizeof *p);
    return vf_load_half(whole);
}
static inline vf vf_load_bhalf_n(const uint16_t *p, size_t n)
{
    uint16_t whole[8] = {0};
    memcpy(whole, p, n * sizeof *p);
    return vf_load_bhalf(whole);
}

static inline float vf_sum(vf a)
{
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

static inline float vf_highest(vf a)
{
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}

/* ---- packing ---- */

static inline void vi_store_bytes(int8_t *p, const vi q[32 / LANES])
{
    __m256i a = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
    a = _mm256_permutevar8x32_epi32(a, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256((__m256i *)(void *)p, a);
}

static inline uint32_t vi_highest_u32(vi a)
{
    __m128i b = _mm_max_epu32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    b = _mm_max_epu32(b, _mm_shuffle_epi32(b, 0x4e));
    b = _mm_max_epu32(b, _mm_shuffle_epi32(b, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(b);
}
static inline int32_t vi_sum(vi a)
{
    __m128i b = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    b = _mm_add_epi32(b, _mm_shuffle_epi32(b, 0x4e));
    b = _mm_add_epi32(b, _mm_shuffle_epi32(b, 0xb1));
    return _mm_cvtsi128_si32(b);
}

#endif
