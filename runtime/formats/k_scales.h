/* How the K formats pack the scales of their sub-blocks; decoders and kernels share it. */
#ifndef QN_FORMATS_K_SCALES_H
#define QN_FORMATS_K_SCALES_H

#include <stdint.h>

/* Q3_K: 16 scales of 6 bits in 12 bytes, offset by 32. The first 8 bytes hold the low nibbles (scale j and j
 * + 8), the last 4 the high bits (scales j, j + 4, j + 8, j + 12). */
static inline int qn_q3_k_scale(const uint8_t packed[12], int sub)
{
    int low = sub < 8 ? packed[sub] & 15 : packed[sub - 8] >> 4;
    int high = packed[8 + sub % 4] >> sub / 4 * 2 & 3;
    return low | high << 4;
}

/* Q4_K and Q5_K: 8 scales and 8 minima of 6 bits in 12 bytes. The first four of each have the low six bits of
 * a byte for themselves; the last four have a nibble in bytes 8 to 11 and their high bits on top of the first
 * ones. */
static inline int qn_q4_k_scale(const uint8_t packed[12], int sub)
{
    return sub < 4 ? packed[sub] & 63 : (packed[sub + 4] & 15) | packed[sub - 4] >> 6 << 4;
}

static inline int qn_q4_k_min(const uint8_t packed[12], int sub)
{
    return sub < 4 ? packed[sub + 4] & 63 : packed[sub + 4] >> 4 | packed[sub] >> 6 << 4;
}

#endif
