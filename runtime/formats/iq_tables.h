/* Lookup tables of the formats whose blocks hold indices instead of numbers. Generated from iq-grids.json by
 * gen_grids.py when building; the shaders' tables come from the same file. All are aligned to 64 bytes, so
 * that a grid point can be loaded as one word. */
#ifndef QN_FORMATS_IQ_TABLES_H
#define QN_FORMATS_IQ_TABLES_H

#include <stdint.h>

/* Magnitudes (IQ2, IQ3) or values -1, 0, 1 (IQ1) of the weights of each grid point. */
extern const uint8_t qn_iq2xxs_grid[256][8];
extern const uint8_t qn_iq2xs_grid[512][8];
extern const uint8_t qn_iq2s_grid[1024][8];
extern const uint8_t qn_iq3xxs_grid[256][4];
extern const uint8_t qn_iq3s_grid[512][4];
extern const int8_t qn_iq1s_grid[2048][8]; /* IQ1_S and IQ1_M */

extern const int8_t qn_iq4nl_values[16];
extern const int8_t qn_mxfp4_values[16]; /* E2M1, times 2 */

/* The signs of 8 weights, bit i set: weight i is negative. Bit 7 makes the number of set bits even. */
extern const uint8_t qn_iq_signs[128];

#endif
