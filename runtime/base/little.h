/* Numbers in files: little-endian, of 1 to 8 bytes. */
#ifndef QN_BASE_LITTLE_H
#define QN_BASE_LITTLE_H

#include <stdint.h>

static inline void qn_put_little(uint8_t *at, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}

static inline uint64_t qn_get_little(const uint8_t *at, int bytes)
{
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; i--)
        value = value << 8 | at[i];
    return value;
}

#endif
