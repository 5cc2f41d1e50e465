/* The vocabulary of the x86 kernels in 512-bit vectors; vec_avx2.h has the same words in 256 bits. A vector
 * of integers holds LANES 32-bit lanes; in tiles, one lane is one row of the weights. */
#ifndef QN_CPU_X86_VEC_AVX512_H
#define QN_CPU_X86_VEC_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

enum { LANES = 16, REGISTERS = 32 };
typedef __m512i vi;
typedef __m512 vf;

/* ---- integers ---- */

#define vi_and(a, b)     _mm512_and_si512(a, b)
#define vi_or(a, b)      _mm512_or_si512(a, b)
#define vi_xor(a, b)     _mm512_xor_si512(a, b)
#define vi_add(a, b)     _mm512_add_epi32(a, b)
#define vi_sub(a, b)     _mm512_sub_epi32(a, b)
#define vi_mul(a, b)     _mm512_mullo_epi32(a, b)
#define vi_srl(a, n)     _mm512_srli_epi32(a, n)
#define vi_sll(a, n)     _mm512_slli_epi32(a, n)
#define vi_sra(a, n)     _mm512_srai_epi32(a, n)
#define vi_max(a, b)     _mm512_max_epi32(a, b)
#define vi_max_u32(a, b) _mm512_max_epu32(a, b)
#define vi_set(x)        _mm512_set1_epi32(x)
#define vi_set_bytes(x)  _mm512_set1_epi8(x)
#define vi_zero()        _mm512_setzero_si512()
#define vi_look_up(t, i) _mm512_shuffle_epi8(t, i)
#define vi_load(p)       _mm512_loadu_si512(p)
#define vi_store(p, a)   _mm512_storeu_si512(p, a)
/* The word at p + n * i. */
#define vi_fetch(p, i, n) _mm512_i32gather_epi32(i, (const int *)(const void *)(p), n)
#define vi_table(p)       _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)(p)))

/* The same and the word after it. */
#define vi_fetch_two(p, i, n, out) ((out)[0] = vi_fetch(p, i, n), (out)[1] = vi_fetch((p) + 4, i, n))

/* Byte by byte; -1 where a > b, or where b, which has a single bit, has it in common with a, else 0. */
#define vi_add_bytes(a, b)  _mm512_add_epi8(a, b)
#define vi_sub_bytes(a, b)  _mm512_sub_epi8(a, b)
#define vi_more_bytes(a, b) _mm512_movm_epi8(_mm512_cmpgt_epi8_mask(a, b))
#define vi_test_bytes(a, b) _mm512_movm_epi8(_mm512_test_epi8_mask(a, b))

/* The 4 bytes at p in every lane. */
static inline vi vi_spread(const void *p)
{
    return _mm512_set1_epi32(*(const int *)p);
}

/* Brings the bytes at p closer, to the second cache. */
#define v_ask_for(p) _mm_prefetch((const char *)(p), _MM_HINT_T1)

/* Products of the 4 bytes of weights in each lane with the 4 of activations that are number g, a constant, of
 * those from p on. vi_dot() adds the sum of each 4 to a. Where V_HAS_DOT is 0, vp holds sums of VP_PRODUCTS
 * products in 16 bits, and vp_join() has the sum of each lane. */
typedef vi vx;
typedef vi vp;
#define vx_load(p, g) vi_spread((p) + 4 * (g))
#define vp_zero()     vi_zero()
#define V_HAS_MATRIX  0
#ifdef __AVX512VNNI__
#define V_HAS_DOT       1
#define V_DOT_UNSIGNED  1 /* weights are unsigned bytes */
#define vi_dot(a, w, x) _mm512_dpbusd_epi32(a, w, x)
#else
#define V_HAS_DOT         0
#define V_DOT_UNSIGNED    0
#define VP_PRODUCTS       2
#define vp_unsigned(w, x) _mm512_maddubs_epi16(w, x)
#define vp_add(a, b)      _mm512_add_epi16(a, b)
#define vp_join(a)        _mm512_madd_epi16(a, _mm512_set1_epi16(1))
static inline vp vp_signed(vi w, vx x)
{
    vi with_sign = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(w), _mm512_setzero_si512(), x);
    return _mm512_maddubs_epi16(_mm512_abs_epi8(w), with_sign);
}
#endif

/* 16 bytes of each of LANES rows: lane r of out[j] has bytes 4j to 4j + 3 of row r. */
static inline void vi_piece(const uint8_t *p, size_t stride, vi out[4])
{
    vi a[4];
    for (size_t r = 0; r < 4; r++) {
        const uint8_t *row = p + r * stride;
        __m256i low = _mm256_inserti128_si256(
            _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)row)),
            _mm_loadu_si128((const __m128i *)(const void *)(row + 4 * stride)), 1);
        __m256i high = _mm256_inserti128_si256(
            _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(row + 8 * stride))),
            _mm_loadu_si128((const __m128i *)(const void *)(row + 12 * stride)), 1);
        a[r] = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    }
    vi low01 = _mm512_unpacklo_epi32(a[0], a[1]), high01 = _mm512_unpackhi_epi32(a[0], a[1]);
    vi low23 = _mm512_unpacklo_epi32(a[2], a[3]), high23 = _mm512_unpackhi_epi32(a[2], a[3]);
    out[0] = _mm512_unpacklo_epi64(low01, low23);
    out[1] = _mm512_unpackhi_epi64(low01, low23);
    out[2] = _mm512_unpacklo_epi64(high01, high23);
    out[3] = _mm512_unpackhi_epi64(high01, high23);
}

/* 4 bytes of each of LANES rows. */
static inline vi vi_gather(const uint8_t *p, size_t stride)
{
#define QN_WORD(r) _mm_loadu_si32(p + (r)*stride)
    __m512i a = _mm512_castsi128_si512(QN_WORD(0)), b = _mm512_setzero_si512();
    __m512i c = _mm512_setzero_si512(), d = _mm512_setzero_si512();
#define QN_PUT(v, r) v = _mm512_mask_broadcastd_epi32(v, (__mmask16)(1u << (r)), QN_WORD(r))
    QN_PUT(a, 1), QN_PUT(a, 2), QN_PUT(a, 3);
    QN_PUT(b, 4), QN_PUT(b, 5), QN_PUT(b, 6), QN_PUT(b, 7);
    QN_PUT(c, 8), QN_PUT(c, 9), QN_PUT(c, 10), QN_PUT(c, 11);
    QN_PUT(d, 12), QN_PUT(d, 13), QN_PUT(d, 14), QN_PUT(d, 15);
#undef QN_PUT
#undef QN_WORD
    return _mm512_or_si512(_mm512_mask_blend_epi32(0xf0, a, b), _mm512_or_si512(c, d));
}

/* LANES unsigned bytes, one in each lane. */
static inline vi vi_load_bytes(const uint8_t *p)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
}

/* ---- floats ---- */

#define vf_zero()        _mm512_setzero_ps()
#define vf_set(x)        _mm512_set1_ps(x)
#define vf_add(a, b)     _mm512_add_ps(a, b)
#define vf_sub(a, b)     _mm512_sub_ps(a, b)
#define vf_mul(a, b)     _mm512_mul_ps(a, b)
#define vf_div(a, b)     _mm512_div_ps(a, b)
#define vf_min(a, b)     _mm512_min_ps(a, b)
#define vf_max(a, b)     _mm512_max_ps(a, b)
#define vf_fma(a, b, c)  _mm512_fmadd_ps(a, b, c)
#define vf_fnma(a, b, c) _mm512_fnmadd_ps(a, b, c)
#define vf_round(a)      _mm512_roundscale_ps(a, 8)
#define vf_load(p)       _mm512_loadu_ps(p)
#define vf_store(p, a)   _mm512_storeu_ps(p, a)
#define vf_from_int(a)   _mm512_cvtepi32_ps(a)
#define vf_to_int(a)     _mm512_cvtps_epi32(a)
#define vf_bits(a)       _mm512_castps_si512(a)
#define vf_of_bits(a)    _mm512_castsi512_ps(a)
#define vf_load_half(p)  _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(p)))
#define vf_load_bhalf(p)                   \
    _mm512_castsi512_ps(_mm512_slli_epi32( \
        _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(p))), 16))
/* The low 16 bits of every lane, a half float each. */
#define vf_of_halves(a) _mm512_cvtph_ps(_mm512_cvtepi32_epi16(a))

/* The first n < LANES elements, zeros after them. */
static inline vf vf_load_n(const float *p, size_t n)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
static inline void vf_store_n(float *p, vf a, size_t n)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), a);
}
static inline __m256i vf_words_n(const uint16_t *p, size_t n)
{
    return _mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p);
}
static inline vf vf_load_half_n(const uint16_t *p, size_t n)
{
    return _mm512_cvtph_ps(vf_words_n(p, n));
}
static inline vf vf_load_bhalf_n(const uint16_t *p, size_t n)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(vf_words_n(p, n)), 16));
}

/* The sum of all lanes, halving. */
static inline float vf_sum(vf a)
{
    __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

/* The largest lane; none is NaN. */
static inline float vf_highest(vf a)
{
    return _mm512_reduce_max_ps(a);
}

/* ---- packing ---- */

/* 32 integers, clamped to bytes. */
static inline void vi_store_bytes(int8_t *p, const vi q[32 / LANES])
{
    for (size_t i = 0; i < 32 / LANES; i++)
        _mm_storeu_si128((__m128i *)(void *)(p + i * LANES), _mm512_cvtsepi32_epi8(q[i]));
}

static inline uint32_t vi_highest_u32(vi a)
{
    return _mm512_reduce_max_epu32(a);
}
/* Wraps. */
static inline int32_t vi_sum(vi a)
{
    __m256i b = _mm256_add_epi32(_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64(a, 1));
    __m128i c = _mm_add_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
    c = _mm_add_epi32(c, _mm_shuffle_epi32(c, 0x4e));
    c = _mm_add_epi32(c, _mm_shuffle_epi32(c, 0xb1));
    return _mm_cvtsi128_si32(c);
}

#endif
