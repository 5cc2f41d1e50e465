/* The product that MATMUL and MOE_MATMUL share: rows of one or two weights with some tokens, and what follows
 * each result. */
#ifndef QN_CPU_PRODUCT_H
#define QN_CPU_PRODUCT_H

#include "drivers/cpu/device.h"

/* One of the weights of a product. */
struct qn_product_side {
    const struct qn_matmul_kernel *kernel;
    const char *w; /* row 0 */
    size_t row_bytes;
    size_t n_laid; /* rows that are there; the others: */
    const struct qn_matmul_kernel *origin_kernel;
    const char *origin; /* row 0 */
    const float *bias;  /* NULL: none */
    const void *x;      /* token 0, packed as the kernel wants it */
    size_t x_stride;
};

/* value = act(softcap((W_0 x + bias_0) * scale)), or, with two weights, act(W_0 x + bias_0) * (W_1 x +
 * bias_1); y = value, or residual + residual_scale * value. */
struct qn_product {
    uint32_t n_weights; /* 1, or 2 for a gated product */
    uint32_t act;
    float scale, softcap;
    size_t k;
    uint32_t n_tokens;
    struct qn_product_side side[2];
    float *y;
    size_t y_stride;
    const uint32_t *row_of; /* row of y for each token; NULL: in order */
    const float *residual;  /* rows as of y; NULL: none; may be y */
    float residual_scale;
};

/* Computes the rows first to first + n_rows of the weights for all tokens. */
void qn_product_rows(const struct qn_product *product, const struct qn_run *run, size_t first, size_t n_rows,
                     struct qn_worker *worker);

/* Scratch that it needs. */
size_t qn_product_scratch(void);

/* The kernel of a weight, or NULL. */
const struct qn_matmul_kernel *qn_product_kernel(const struct qn_kernels *kernels, uint32_t format,
                                                 uint32_t layout, bool exact);

/* Chooses the kernels of the op's weights, of which the first is the input number `first`, and cuts them into
 * units: of rows of each, or, for a gated product, of both at once. */
void qn_product_plan(const struct qn_planner *planner, struct qn_op *op, uint32_t first, uint32_t n_weights,
                     bool gated);
/* What a unit costs with that many tokens, see struct qn_work. */
uint32_t qn_product_cost(const struct qn_matmul_plan *plan, size_t k, uint32_t n_tokens);
/* Sets what a side reads: the plan's weight i from that row on. */
void qn_product_set_weight(struct qn_product_side *side, const struct qn_matmul_plan *plan, uint32_t i,
                           const struct qn_arg *w, size_t row);

/* Writes one row in the kind that a kernel wants. */
void qn_pack_row(const struct qn_kernels *kernels, enum qn_pack pack, const float *x, size_t k, void *row);

#endif
