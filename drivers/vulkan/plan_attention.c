/* Attention and what stands around it: rope, storing keys and values. */
#include "drivers/vulkan/plan.h"

#include "drivers/common/rope.h"

#include <math.h>
#include <string.h>

enum {
    MAX_HEAD = 512, /* of attention.comp */
    MAX_PAGE_TOKENS = 64,
};

/* Turns a position of each pair modulo 1, in 64 bits: the high and the low word. */
static void add_rates(struct qn_vk_plan *p, const struct quern_rope_attr *attr, uint32_t factors)
{
    struct quern_prepared *prepared = p->prepared;
    size_t n = attr->n_dims;
    if (!p->status && !qn_grow(p->device->cb, &prepared->constants, &prepared->cap_constants,
                               prepared->n_constants + n, sizeof *prepared->constants))
        p->status = qn_fail_memory(p->err, "a prepared segment");
    if (p->status)
        return;
    float *rate = prepared->constants + prepared->n_constants;
    float *factor = rate + n / 2; /* lies where rates are put that come after it */
    if (factors != QUERN_NONE) {
        const struct quern_binding *at = &p->segment->bindings[factors];
        p->status = qn_vk_read(p->device, at->buffer, at->offset, factor, n / 2 * sizeof *factor, p->err);
    }
    for (uint32_t i = 0; i < n / 2 && !p->status; i++) {
        float by = factors != QUERN_NONE ? factor[i] : 1;
        double turns = qn_rope_step(attr, i) / by / 6.283185307179586;
        if (!isfinite(turns)) {
            p->status = qn_fail(p->err, QUERN_ERR_PARAM, "rope factor %u is %g", i, (double)by);
            return;
        }
        double high = (turns - floor(turns)) * 0x1p32;
        const uint32_t words[2] = {(uint32_t)high, (uint32_t)((high - floor(high)) * 0x1p32)};
        memcpy(&rate[2 * (size_t)i], words, sizeof words);
    }
    prepared->n_constants += n;
}

void qn_vk_plan_rope(struct qn_vk_plan *p)
{
    const struct quern_rope_attr *attr = &p->node->attr.rope;
    uint64_t align = p->device->facts.properties.limits.minStorageBufferOffsetAlignment;
    uint32_t n_head = (uint32_t)(qn_vk_row(qn_vk_value(p, p->node->in[0])) / attr->head_dim);
    while (!p->status && p->prepared->n_constants * 4 % align != 0)
        if (qn_grow(p->device->cb, &p->prepared->constants, &p->prepared->cap_constants,
                    p->prepared->n_constants + 1, sizeof *p->prepared->constants))
            p->prepared->constants[p->prepared->n_constants++] = 0;
        else
            p->status = qn_fail_memory(p->err, "a prepared segment");
    struct qn_vk_dispatch *d =
        qn_vk_add(p, QN_VK_ROPE, qn_vk_ceil_div((uint64_t)n_head * ((attr->head_dim + 1) / 2), QN_VK_GROUP),
                  p->segment->max_tokens);
    qn_vk_bind_rows(p, d, 1, p->node->in[0], false);
    d->bound[2] = (struct qn_vk_bound){.kind = QN_VK_BOUND_CONSTANTS,
                                       .offset = p->prepared->n_constants * 4,
                                       .bytes = (uint64_t)attr->n_dims * 4};
    qn_vk_bind_rows(p, d, 3, p->node->out[0], true);
    const struct quern_binding *from = &p->segment->bindings[p->node->in[0]];
    const struct quern_binding *to = &p->segment->bindings[p->node->out[0]];
    const uint32_t words[] = {attr->head_dim,
                              attr->n_dims,
                              n_head,
                              attr->kind == QUERN_ROPE_HALVES,
                              from->buffer != to->buffer || from->offset != to->offset,
                              qn_vk_word(attr->mscale)};
    memcpy(d->words, words, sizeof words);
    add_rates(p, attr, p->node->in[1]);
}

/* The pools of the KV layer, as the kernel's buffer `slot`. */
static const struct quern_kv_binding *bind_pools(struct qn_vk_plan *p, struct qn_vk_dispatch *d,
                                                 uint32_t slot, uint32_t kv_layer, bool written)
{
    const struct quern_kv_binding *at = &p->segment->kv[kv_layer];
    d->bound[slot] = (struct qn_vk_bound){.kind = QN_VK_BOUND_POOLS, .written = written, .home = at->home};
    if (!p->status &&
        (at->page_tokens > MAX_PAGE_TOKENS || at->home >= QN_LEN(p->prepared->pools) || at->page_bytes % 4 ||
         at->k_offset % 4 || at->v_offset % 4 ||
         at->page_bytes * at->pages_per_pool > p->device->facts.properties.limits.maxStorageBufferRange))
        p->status =
            qn_fail(p->err, QUERN_ERR_UNSUPPORTED, "KV layer %u: pools of %llu bytes in pages of %u tokens",
                    kv_layer, (unsigned long long)(at->page_bytes * at->pages_per_pool), at->page_tokens);
    return at;
}

void qn_vk_plan_kv_store(struct qn_vk_plan *p)
{
    uint32_t layer = p->node->attr.kv_store.kv_layer;
    const struct quern_kv_layer *kv = quern_graph_kv(p->segment->graph, layer);
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t head_dim = i == 0 ? kv->head_dim_k : kv->head_dim_v;
        struct qn_vk_dispatch *d =
            qn_vk_add(p, QN_VK_KV_STORE,
                      qn_vk_ceil_div((uint64_t)kv->n_head_kv * qn_vk_ceil_div(head_dim, 32), QN_VK_GROUP),
                      p->segment->max_tokens);
        qn_vk_bind_rows(p, d, 1, p->node->in[i], false);
        const struct quern_kv_binding *at = bind_pools(p, d, 2, layer, true);
        const uint32_t words[] = {head_dim,
                                  kv->n_head_kv,
                                  i == 0 ? at->k_format : at->v_format,
                                  at->group,
                                  at->pages_per_pool,
                                  (uint32_t)at->page_bytes,
                                  (uint32_t)(i == 0 ? at->k_offset : at->v_offset)};
        memcpy(d->words, words, sizeof words);
    }
}

void qn_vk_plan_attention(struct qn_vk_plan *p)
{
    const struct quern_attention_attr *attr = &p->node->attr.attention;
    const struct quern_kv_layer *kv = quern_graph_kv(p->segment->graph, attr->kv_layer);
    struct qn_vk_dispatch *d = qn_vk_add(p, QN_VK_ATTENTION, attr->n_head, p->segment->max_tokens);
    qn_vk_bind_rows(p, d, 1, p->node->in[0], false);
    uint32_t sinks = qn_vk_bind_vector(p, d, 2, p->node->in[1]);
    qn_vk_bind_rows(p, d, 3, p->node->out[0], true);
    const struct quern_kv_binding *at = bind_pools(p, d, 4, attr->kv_layer, false);
    const uint32_t words[] = {kv->head_dim_k,
                              kv->head_dim_v,
                              attr->n_head,
                              kv->n_head_kv,
                              at->k_format,
                              at->v_format,
                              at->group,
                              kv->window,
                              at->pages_per_pool,
                              (uint32_t)at->page_bytes,
                              (uint32_t)at->k_offset,
                              (uint32_t)at->v_offset,
                              sinks,
                              qn_vk_word(attr->scale),
                              qn_vk_word(attr->softcap)};
    memcpy(d->words, words, sizeof words);
}

bool qn_vk_attention_supported(const struct quern_graph *graph, const struct quern_node *node)
{
    const struct quern_kv_layer *kv = quern_graph_kv(graph, node->attr.attention.kv_layer);
    return kv->head_dim_k <= MAX_HEAD && kv->head_dim_v <= MAX_HEAD && qn_vk_is_float(graph, node->in[1]);
}
