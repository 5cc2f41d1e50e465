/* What the files that turn operations into dispatches share. A node's plan function adds dispatches and binds
 * their buffers; the first failure stays in `status`, after which all of this does nothing. */
#ifndef QN_VK_PLAN_H
#define QN_VK_PLAN_H

#include "drivers/vulkan/segment.h"

#include "formats/formats.h"

enum {
    QN_VK_GROUP = 64,            /* invocations of most kernels' workgroups */
    QN_VK_COOPMAT_SUBGROUPS = 4, /* of a workgroup in cooperative matrices */
};

/* How products read an activation (shaders/lib/rounded.glsl). */
enum qn_vk_form {
    QN_VK_FLOATS,
    QN_VK_8_BITS, /* as of quantise.comp */
    QN_VK_HALVES, /* as of halve.comp */
};

/* Words of a column of k elements. */
static inline uint64_t qn_vk_form_words(enum qn_vk_form form, uint64_t k)
{
    return form == QN_VK_8_BITS ? k / 8 * 3 : form == QN_VK_HALVES ? (k + 3) / 4 * 2 + 1 : k;
}

/* An activation that has been rounded for products. */
struct qn_vk_rounded {
    uint32_t id; /* QUERN_NONE: there is none */
    enum qn_vk_form form;
    struct qn_vk_bound at;
};

struct qn_vk_plan {
    struct quern_device *device;
    const struct quern_segment *segment;
    struct quern_prepared *prepared;
    const struct quern_node *node;
    uint32_t id;               /* of the node */
    uint32_t number;           /* of the node in the segment */
    uint64_t scratch;          /* bytes of the scratch buffer that this node has taken */
    struct qn_vk_rounded own;  /* made in this node, for it alone */
    struct qn_vk_rounded kept; /* made by a norm, for the nodes up to number `kept_until` of the segment */
    uint32_t kept_until;
    struct quern_error *err;
    enum quern_status status;
    struct qn_vk_dispatch nowhere; /* what is written to after a failure */
};

/* ---- ops.c: values ---- */

const struct quern_value *qn_vk_value(const struct qn_vk_plan *plan, uint32_t id);
/* Elements of an activation for each token. */
uint64_t qn_vk_row(const struct quern_value *value);
/* Whether it has rows for the outputs of a step only. */
bool qn_vk_per_output(const struct quern_value *value);
/* Most rows of a step. */
uint32_t qn_vk_rows(const struct qn_vk_plan *plan, const struct quern_value *value);
static inline uint32_t qn_vk_ceil_div(uint64_t n, uint64_t by)
{
    return (uint32_t)((n + by - 1) / by);
}

uint32_t qn_vk_word(float x);

/* Inputs of the graph's nodes that are this value, and one if the host reads it. */
uint32_t qn_vk_n_readers(const struct qn_vk_plan *plan, uint32_t id);

/* ---- ops.c: dispatches ---- */

/* A new dispatch of x * y workgroups; x may go on in the third dimension (group_x in shaders/lib/step.glsl).
 * The step block is bound as its first buffer, and wherever nothing else is. */
struct qn_vk_dispatch *qn_vk_add(struct qn_vk_plan *plan, enum qn_vk_kernel kernel, uint64_t x, uint64_t y);
/* Binds an activation, all of it. False where there is none. */
bool qn_vk_bind_rows(struct qn_vk_plan *plan, struct qn_vk_dispatch *d, uint32_t slot, uint32_t id,
                     bool written);
/* Binds part of a weight; where it begins in what is bound, in bytes: bindings begin at aligned places only.
 */
uint32_t qn_vk_bind_weight(struct qn_vk_plan *plan, struct qn_vk_dispatch *d, uint32_t slot, uint32_t id,
                           uint64_t first, uint64_t bytes);
/* A weight of n units (rows, or experts) is taken in parts: how many units from the first one on a kernel can
 * reach at once, and of the `other` weight (QUERN_NONE: there is none) as well. At least one; fails where
 * that is more than a kernel can reach. */
uint64_t qn_vk_take_units(struct qn_vk_plan *plan, uint32_t id, uint32_t other, uint64_t unit, uint64_t first,
                          uint64_t n);
/* Binds a vector of floats; the number of its first element, QUERN_NONE where there is none. */
uint32_t qn_vk_bind_vector(struct qn_vk_plan *plan, struct qn_vk_dispatch *d, uint32_t slot, uint32_t id);
/* Whether one binding reaches all of the n values, weights or vectors; QUERN_NONE is passed over. */
bool qn_vk_lie_together(const struct qn_vk_plan *plan, const uint32_t *ids, uint32_t n);
/* Binds them so; where each begins, in elements of `unit` bytes, QUERN_NONE where there is none. */
void qn_vk_bind_together(struct qn_vk_plan *plan, struct qn_vk_dispatch *d, uint32_t slot,
                         const uint32_t *ids, uint32_t n, uint32_t unit, uint32_t *at);
/* Whether the device lets the loops of an invocation go round so often. */
bool qn_vk_rounds_fit(const struct qn_vk_plan *plan, uint64_t rounds);
/* Fails where it does not: the result would be wrong. */
void qn_vk_need_rounds(struct qn_vk_plan *plan, uint64_t rounds);
/* Bytes of the scratch buffer, for this node alone (or up to `kept_until`). */
struct qn_vk_bound qn_vk_scratch(struct qn_vk_plan *plan, uint64_t bytes, bool written);

/* Whether matrices of half floats may be used where the device has them. */
bool qn_vk_want_coopmat(const struct qn_vk_plan *plan);
/* Whether kernels in cooperative matrices may serve: workgroups of QN_VK_COOPMAT_SUBGROUPS subgroups of one
 * size, in 32 KiB of shared memory. */
bool qn_vk_use_coopmat(const struct qn_vk_plan *plan);

/* ---- plan_attention.c, plan_matmul.c ---- */

void qn_vk_plan_rope(struct qn_vk_plan *plan);
void qn_vk_plan_kv_store(struct qn_vk_plan *plan);
/* Plans the nodes from number `first` of the segment on up to a KV_STORE as one dispatch, where they are
 * norms and ropes of its keys and of the queries beside them. How many nodes that were; 0: they are none
 * such. */
uint32_t qn_vk_plan_store_with(struct qn_vk_plan *plan, uint32_t first);
bool qn_vk_kv_store_supported(const struct quern_graph *graph, const struct quern_node *node);
void qn_vk_plan_attention(struct qn_vk_plan *plan);
bool qn_vk_attention_supported(const struct quern_graph *graph, const struct quern_node *node);

void qn_vk_plan_matmul(struct qn_vk_plan *plan);
void qn_vk_plan_moe_matmul(struct qn_vk_plan *plan);
/* How all products of a later node of the segment take the activation, if its rows are theirs; QN_VK_FLOATS
 * where they differ, and for other operations. */
enum qn_vk_form qn_vk_reads(const struct qn_vk_plan *plan, const struct quern_node *node, uint32_t id);
bool qn_vk_matmul_supported(const struct quern_graph *graph, const struct quern_node *node);
bool qn_vk_moe_matmul_supported(const struct quern_graph *graph, const struct quern_node *node);

/* ---- ops.c: what there is ---- */

/* Whether value `id` is absent or made of floats. */
bool qn_vk_is_float(const struct quern_graph *graph, uint32_t id);
/* Whether the kernel was built for the number format of value `id`. */
bool qn_vk_has_kernel(const struct quern_graph *graph, uint32_t id, enum qn_vk_kernel first);

#endif
