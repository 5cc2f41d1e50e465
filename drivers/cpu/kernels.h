/* The kernel table of the CPU driver. Plain C fills it first (ref/), then each instruction set that the
 * machine has and the mask allows overwrites its entries, weakest first (x86/, arm/). The driver calls
 * through it and never asks what machine it is on. Names: qn_<operation>_<format>__<isa>.
 *
 * Matrix work is split by output rows between threads; a kernel call computes some rows for all tokens. For
 * each output element the order of additions depends on k alone, never on the number of tokens, rows or
 * threads: one token at a time or 512 at once give the same bits. */
#ifndef QN_CPU_KERNELS_H
#define QN_CPU_KERNELS_H

#include <quern/driver.h>

#include "formats/formats.h"

/* Instruction sets, weakest first; bits of a mask. */
enum qn_isa {
    QN_ISA_AVX2 = 1,        /* with FMA and F16C */
    QN_ISA_AVX512 = 2,      /* F, BW, DQ, VL */
    QN_ISA_AVX512_VNNI = 4, /* VNNI */
    QN_ISA_AVX512_BF16 = 8,
    QN_ISA_AMX_INT8 = 128, /* matrix products of bytes in tile registers, which the system lets us use */
    QN_ISA_NEON = 16,
    QN_ISA_DOTPROD = 32,
    QN_ISA_I8MM = 64,
};

/* How activations are handed to a matmul kernel. */
enum qn_pack {
    QN_PACK_F32 = 0, /* the row itself */
    QN_PACK_Q8 = 1,  /* struct qn_q8_row blocks, see below */
    QN_PACK_END = 2,
};

/* Activations in 8 bits, blocks of 32: x_i = d * q_i, d = max|x| / 127, round to nearest even. One row of k
 * values is four arrays, one after another, each padded to 64 bytes, so that every format finds what it
 * needs: int8_t q[k]; float d[k / 32]; int32_t sum[k / 32] (sum of the block's q, for formats with a
 * minimum or an offset); int32_t sum16[k / 16] (the same for each 16 values). */
struct qn_q8_row {
    const int8_t *q;
    const float *d;
    const int32_t *sum;
    const int32_t *sum16;
};

static inline size_t qn_q8_pad(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}
static inline size_t qn_q8_row_bytes(size_t k)
{
    return qn_q8_pad(k) + 2 * qn_q8_pad(k / 32 * 4) + qn_q8_pad(k / 16 * 4);
}
static inline struct qn_q8_row qn_q8_row_at(const void *row, size_t k)
{
    const char *base = (const char *)row, *d = base + qn_q8_pad(k), *sum = d + qn_q8_pad(k / 32 * 4);
    struct qn_q8_row at = {(const int8_t *)base, (const float *)(const void *)d,
                           (const int32_t *)(const void *)sum,
                           (const int32_t *)(const void *)(sum + qn_q8_pad(k / 32 * 4))};
    return at;
}

/* How weights are read: what suits most machines, or what settings say. It changes no result. */
struct qn_reading {
    uint64_t cache_bytes; /* that a thread has to itself, for what is read again and again */
    uint32_t columns;     /* most tokens for which a weight is decoded once; 0: as many as the cache holds */
    uint32_t streams;     /* places of a weight that a thread reads by turns: 1 to QN_MAX_STREAMS */
    uint32_t ahead_bytes; /* how far before it computes with them it asks for weights in a layout of ours */
};

enum { QN_MAX_STREAMS = 4 };

/* y[t * y_stride + i] = (row i of w) . (token t), for i < n_rows, t < n_tokens. */
struct qn_matmul_call {
    /* The first of the rows, each row_bytes long: blocks of the kernel's format, k weights, any alignment
     * that the format guarantees. QUERN_LAYOUT_ROWS16: it is the first of 16, and n_rows is a multiple of 16
     * or reaches to the end of the matrix. */
    const void *w;
    size_t row_bytes, k;
    uint32_t n_rows;
    uint32_t n_tokens;
    const void *x; /* packed rows, token t's at x + t * x_stride */
    size_t x_stride;
    float *y;
    size_t y_stride;
    void *scratch; /* QN_MATMUL_SCRATCH bytes for this thread alone */
    struct qn_reading reading;
};

typedef void (*qn_matmul_fn)(const struct qn_matmul_call *call);

struct qn_matmul_kernel {
    qn_matmul_fn run; /* NULL: the format cannot be computed this way */
    enum qn_pack pack;
    const char *name; /* "qn_matmul_q4_k__avx512_vnni" */
    struct qn_reading reading;
};

enum { QN_ATTEND_ROWS = 32 };

/* What becomes of a query's scores x in a block: w_j = e^(s_j - m) for begin <= j < end, else 0, where s_j is
 * scale x_j, or cap tanh(scale x_j / cap) where cap > 0, and m is the largest of these and of the one before,
 * which it replaces. Exponentials within 2 units in the last place, about 1e-38 at least. */
struct qn_attend_rule {
    float scale, cap;
    uint32_t begin, end; /* rows of the block that it sees, begin < end */
};

enum { QN_MATMUL_SCRATCH = 256 * 1024 }; /* bytes per thread */

struct qn_kernels {
    /* fast[]: activations in 8 bits where the format is quantised, for each layout of the weights; all
     * layouts give the same bits. exact[]: float32 arithmetic on decoded weights, which are
     * QUERN_LAYOUT_FILE. */
    struct qn_matmul_kernel fast[QUERN_LAYOUT_END][QUERN_FORMAT_END];
    struct qn_matmul_kernel exact[QUERN_FORMAT_END];
    /* Packs one row of k floats; k is a multiple of 32. */
    void (*pack_q8)(const float *restrict x, size_t k, void *restrict row);
    /* Decodes n weights; as formats.h, or faster with the same bits. */
    void (*dequantise[QUERN_FORMAT_END])(const void *restrict blocks, float *restrict out, size_t n);
    /* y_i += a x_i */
    void (*axpy_f32)(float a, const float *restrict x, float *restrict y, size_t n);
    /* sum x_i^2 */
    float (*sum_squares)(const float *x, size_t n);
    /* Attention over a block of QN_ATTEND_ROWS positions, for n queries. keys: [d][QN_ATTEND_ROWS], values:
     * [QN_ATTEND_ROWS][d], d a multiple of 16 in attend_values. Sums run in the order of i, and of j.
     * transpose: keys[i][j] = rows[j][i], d a multiple of 16; transpose_f16 the same of half floats
     * scores:  score[t][j] = sum_i q_t[i] keys[i][j]
     * weigh:   scores to weights, see struct qn_attend_rule; their sum
     * values:  out[t][i] += sum_j weight[t][j] values[j][i] */
    void (*attend_transpose)(const float *rows, size_t d, float *keys);
    void (*attend_transpose_f16)(const uint16_t *rows, size_t d, float *keys);
    void (*attend_scores)(const float *const *q, size_t n, size_t d, const float *keys, float *score);
    float (*attend_weigh)(float *x, const struct qn_attend_rule *rule, float *max);
    void (*attend_values)(const float *weight, size_t n, size_t d, const float *values, float *const *out);
    /* y = act(gate) * up; up may be NULL; act is an enum quern_activation */
    void (*gate)(uint32_t act, const float *gate, const float *up, float *y, size_t n);
    uint32_t isa; /* what went in */
};

/* What this machine has. */
uint32_t qn_isa_detect(void);
/* Names of the sets in a mask, "avx2 avx512 ...", into `text`. */
void qn_isa_names(uint32_t isa, char *text, size_t size);
/* Fills the table with all entries for the sets in `isa`. */
void qn_kernels_init(struct qn_kernels *kernels, uint32_t isa);

/* One function an instruction set, called in this order; each is in a file compiled for that set and
 * overwrites what it does better. */
void qn_kernels_ref(struct qn_kernels *kernels);
void qn_kernels_avx2(struct qn_kernels *kernels);
void qn_kernels_avx512(struct qn_kernels *kernels);
void qn_kernels_avx512_vnni(struct qn_kernels *kernels);
void qn_kernels_avx512_bf16(struct qn_kernels *kernels);
void qn_kernels_amx_int8(struct qn_kernels *kernels);
/* Formats with few bits a weight; called by those without _low. */
void qn_kernels_avx2_low(struct qn_kernels *kernels);
void qn_kernels_avx512_low(struct qn_kernels *kernels);
void qn_kernels_avx512_vnni_low(struct qn_kernels *kernels);
void qn_kernels_amx_int8_low(struct qn_kernels *kernels);
void qn_kernels_neon_low(struct qn_kernels *kernels);
void qn_kernels_dotprod_low(struct qn_kernels *kernels);
void qn_kernels_i8mm_low(struct qn_kernels *kernels);
void qn_kernels_neon(struct qn_kernels *kernels);
void qn_kernels_dotprod(struct qn_kernels *kernels);
void qn_kernels_i8mm(struct qn_kernels *kernels);

#endif
