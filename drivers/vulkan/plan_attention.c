/* Attention and what stands around it: rope, storing keys and values. */
#include "drivers/vulkan/plan.h"

#include "drivers/common/rope.h"

#include <math.h>
#include <string.h>

enum {
    MAX_HEAD = 512,
    MAX_PAGE_TOKENS = 64,
    MAX_SPLIT_TOKENS = 8, /* of a segment whose attention takes every block of keys by itself */
    MAX_QUERY = 32,       /* vectors of the queries that an invocation of attention_split.comp keeps */
    MAX_PRODUCTS = 256,   /* heads * tokens of a page: 8 KiB of its shared memory */
    COOPMAT_BLOCK = QN_VK_KEY_BLOCK / 2, /* of attention.comp in cooperative matrices */
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

static void bind_rates(struct qn_vk_plan *p, struct qn_vk_dispatch *d, uint32_t slot,
                       const struct quern_rope_attr *attr, uint32_t factors)
{
    uint64_t align = p->device->facts.properties.limits.minStorageBufferOffsetAlignment;
    struct quern_prepared *prepared = p->prepared;
    while (!p->status && prepared->n_constants * 4 % align != 0)
        if (qn_grow(p->device->cb, &prepared->constants, &prepared->cap_constants, prepared->n_constants + 1,
                    sizeof *prepared->constants))
            prepared->constants[prepared->n_constants++] = 0;
        else
            p->status = qn_fail_memory(p->err, "a prepared segment");
    d->bound[slot] = (struct qn_vk_bound){.kind = QN_VK_BOUND_CONSTANTS,
                                          .offset = prepared->n_constants * 4,
                                          .bytes = (uint64_t)attr->n_dims * 4};
    add_rates(p, attr, factors);
}

void qn_vk_plan_rope(struct qn_vk_plan *p)
{
    const struct quern_rope_attr *attr = &p->node->attr.rope;
    uint32_t n_head = (uint32_t)(qn_vk_row(qn_vk_value(p, p->node->in[0])) / attr->head_dim);
    struct qn_vk_dispatch *d =
        qn_vk_add(p, QN_VK_ROPE, qn_vk_ceil_div((uint64_t)n_head * ((attr->head_dim + 1) / 2), QN_VK_GROUP),
                  p->segment->max_tokens);
    qn_vk_bind_rows(p, d, 1, p->node->in[0], false);
    bind_rates(p, d, 2, attr, p->node->in[1]);
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

/* ---------------------------------------------------------------- keys and values, and what comes before */

/* Nodes that one dispatch of KV_STORE does. NULL: there is none. */
struct store {
    const struct quern_node *store, *k_rope, *k_norm, *q_rope, *q_norm;
};

/* The node of the list that makes the value for no other reader than the one at hand; it leaves the list. */
static const struct quern_node *take_maker(struct qn_vk_plan *p, const struct quern_node **list, uint32_t n,
                                           uint32_t op, uint32_t value)
{
    for (uint32_t i = 0; i < n; i++)
        if (list[i] && list[i]->op == op && list[i]->out[0] == value && qn_vk_n_readers(p, value) == 1) {
            const struct quern_node *node = list[i];
            list[i] = NULL;
            return node;
        }
    return NULL;
}

static bool is_head_norm(const struct quern_graph *graph, const struct quern_node *norm, uint32_t head_dim)
{
    return !norm || (norm->attr.norm.kind == QUERN_NORM_RMS && norm->attr.norm.group == head_dim &&
                     norm->in[2] == QUERN_NONE && norm->in[3] == QUERN_NONE && norm->in[1] != QUERN_NONE &&
                     qn_vk_is_float(graph, norm->in[1]));
}

static bool is_same_rope(const struct quern_node *a, const struct quern_node *b)
{
    return a && b && memcmp(&a->attr.rope, &b->attr.rope, sizeof a->attr.rope) == 0 && a->in[1] == b->in[1];
}

static bool overlap(const struct qn_vk_plan *p, uint32_t a, uint32_t b)
{
    const struct quern_binding *at = &p->segment->bindings[a], *bt = &p->segment->bindings[b];
    uint64_t a_bytes = qn_vk_row(qn_vk_value(p, a)) * 4 * p->segment->max_tokens;
    uint64_t b_bytes = qn_vk_row(qn_vk_value(p, b)) * 4 * p->segment->max_tokens;
    return at->buffer == bt->buffer && at->offset < bt->offset + b_bytes && bt->offset < at->offset + a_bytes;
}

static uint32_t query_in(const struct store *s)
{
    return s->q_norm ? s->q_norm->in[0] : s->q_rope->in[0];
}

static uint32_t query_out(const struct store *s)
{
    return s->q_rope ? s->q_rope->out[0] : s->q_norm->out[0];
}

static uint32_t key_in(const struct store *s)
{
    return s->k_norm ? s->k_norm->in[0] : s->k_rope ? s->k_rope->in[0] : s->store->in[0];
}

/* Whether one kernel does all, while the nodes' memory is laid out as if one came after the other. */
static bool is_store(const struct qn_vk_plan *p, const struct store *s)
{
    const struct quern_graph *graph = p->segment->graph;
    uint32_t head_dim = quern_graph_kv(graph, s->store->attr.kv_store.kv_layer)->head_dim_k;
    if (!is_head_norm(graph, s->q_norm, head_dim) || !is_head_norm(graph, s->k_norm, head_dim) ||
        (s->k_rope &&
         (s->k_rope->attr.rope.head_dim != head_dim || !qn_vk_is_float(graph, s->k_rope->in[1]))))
        return false;
    if (!s->q_rope && !s->q_norm)
        return true;
    const struct quern_binding *in = &p->segment->bindings[query_in(s)];
    const struct quern_binding *out = &p->segment->bindings[query_out(s)];
    bool in_place = in->buffer == out->buffer && in->offset == out->offset;
    return (s->q_rope ? is_same_rope(s->q_rope, s->k_rope) : !s->k_rope) &&
           (in_place || !overlap(p, query_in(s), query_out(s))) && !overlap(p, query_out(s), key_in(s)) &&
           !overlap(p, query_out(s), s->store->in[1]);
}

/* The nodes from number `first` of the segment on to the next KV_STORE, where that takes them along; how many
 * they are, or 0. */
static uint32_t find_store(struct qn_vk_plan *p, uint32_t first, struct store *s)
{
    const struct quern_node *list[4];
    uint32_t n = 0;
    *s = (struct store){NULL};
    for (uint32_t i = first; i < p->segment->n_nodes && !s->store; i++) {
        const struct quern_node *node = quern_graph_node(p->segment->graph, p->segment->nodes[i]);
        if (node->op == QUERN_OP_KV_STORE)
            s->store = node;
        else if (n < QN_LEN(list) && (node->op == QUERN_OP_NORM || node->op == QUERN_OP_ROPE))
            list[n++] = node;
        else
            return 0;
    }
    if (!s->store)
        return 0;
    s->k_rope = take_maker(p, list, n, QUERN_OP_ROPE, s->store->in[0]);
    s->k_norm = take_maker(p, list, n, QUERN_OP_NORM, s->k_rope ? s->k_rope->in[0] : s->store->in[0]);
    for (uint32_t i = 0; i < n && !s->q_rope; i++)
        if (list[i] && list[i]->op == QUERN_OP_ROPE) {
            s->q_rope = list[i];
            list[i] = NULL;
        }
    if (s->q_rope)
        s->q_norm = take_maker(p, list, n, QUERN_OP_NORM, s->q_rope->in[0]);
    for (uint32_t i = 0; i < n && !s->q_rope && !s->q_norm; i++)
        if (list[i]) {
            s->q_norm = list[i];
            list[i] = NULL;
        }
    for (uint32_t i = 0; i < n; i++)
        if (list[i])
            return 0;
    return is_store(p, s) ? n + 1 : 0;
}

static void plan_store(struct qn_vk_plan *p, const struct store *s)
{
    uint32_t layer = s->store->attr.kv_store.kv_layer;
    const struct quern_kv_layer *kv = quern_graph_kv(p->segment->graph, layer);
    bool has_q = s->q_rope || s->q_norm;
    uint32_t n_head = has_q ? (uint32_t)(qn_vk_row(qn_vk_value(p, query_in(s))) / kv->head_dim_k) : 0;
    struct qn_vk_dispatch *d =
        qn_vk_add(p, QN_VK_KV_STORE, n_head + 2 * (uint64_t)kv->n_head_kv, p->segment->max_tokens);
    if (has_q) {
        qn_vk_bind_rows(p, d, 1, query_in(s), false);
        qn_vk_bind_rows(p, d, 2, query_out(s), true);
    }
    qn_vk_bind_rows(p, d, 3, key_in(s), false);
    qn_vk_bind_rows(p, d, 4, s->store->in[1], false);
    if (s->k_rope)
        bind_rates(p, d, 5, &s->k_rope->attr.rope, s->k_rope->in[1]);
    uint32_t q_weight = qn_vk_bind_vector(p, d, 6, s->q_norm ? s->q_norm->in[1] : QUERN_NONE);
    uint32_t k_weight = qn_vk_bind_vector(p, d, 7, s->k_norm ? s->k_norm->in[1] : QUERN_NONE);
    const struct quern_kv_binding *at = bind_pools(p, d, 8, layer, true);
    const uint32_t constants[] = {kv->head_dim_k, kv->head_dim_v, at->k_format, at->v_format};
    const uint32_t words[] = {n_head,
                              kv->n_head_kv,
                              q_weight,
                              k_weight,
                              s->k_rope ? s->k_rope->attr.rope.n_dims : 0,
                              s->k_rope && s->k_rope->attr.rope.kind == QUERN_ROPE_HALVES,
                              at->group,
                              at->pages_per_pool,
                              (uint32_t)at->page_bytes,
                              (uint32_t)at->k_offset,
                              (uint32_t)at->v_offset,
                              qn_vk_word(s->q_norm ? s->q_norm->attr.norm.eps : 0),
                              qn_vk_word(s->k_norm ? s->k_norm->attr.norm.eps : 0),
                              qn_vk_word(s->k_rope ? s->k_rope->attr.rope.mscale : 1)};
    memcpy(d->constants, constants, sizeof constants);
    memcpy(d->words, words, sizeof words);
}

void qn_vk_plan_kv_store(struct qn_vk_plan *p)
{
    plan_store(p, &(struct store){.store = p->node});
}

uint32_t qn_vk_plan_store_with(struct qn_vk_plan *p, uint32_t first)
{
    struct store s;
    uint32_t n = p->node->op == QUERN_OP_NORM || p->node->op == QUERN_OP_ROPE ? find_store(p, first, &s) : 0;
    if (n > 0)
        plan_store(p, &s);
    return n;
}

bool qn_vk_kv_store_supported(const struct quern_graph *graph, const struct quern_node *node)
{
    const struct quern_kv_layer *kv = quern_graph_kv(graph, node->attr.kv_store.kv_layer);
    return kv->head_dim_k <= MAX_HEAD && kv->head_dim_v <= MAX_HEAD;
}

/* ---------------------------------------------------------------- attention */

/* What the kernels of attention are made for. */
struct attention {
    const struct quern_attention_attr *attr;
    const struct quern_kv_layer *kv;
    const struct quern_kv_binding *at;
    uint32_t n_share; /* query heads that share a KV head */
};

static bool begin_at_vectors(const struct quern_kv_binding *at, uint32_t format, uint64_t offset, uint32_t n)
{
    uint64_t vector = format == QUERN_F32 ? 16 : 8;
    return format == QUERN_Q8_0 || (n % 4 == 0 && offset % vector == 0 && at->page_bytes % vector == 0);
}

/* Heads of a workgroup, at most `most`: all workgroups have about as many. */
static uint32_t heads_at_once(const struct attention *a, uint32_t most)
{
    return qn_vk_ceil_div(a->n_share, qn_vk_ceil_div(a->n_share, most));
}

/* A dispatch of one of the kernels; its pools are to be bound. */
static void set_attention(struct qn_vk_plan *p, struct qn_vk_dispatch *d, const struct attention *a,
                          uint32_t heads, uint32_t rows, uint32_t sinks)
{
    const struct quern_kv_binding *at = a->at;
    const struct quern_kv_layer *kv = a->kv;
    bool wide = begin_at_vectors(at, at->k_format, at->k_offset, kv->head_dim_k) &&
                begin_at_vectors(at, at->v_format, at->v_offset, kv->head_dim_v);
    const uint32_t constants[] = {kv->head_dim_k,  kv->head_dim_v, at->k_format, at->v_format,
                                  at->page_tokens, heads,          wide,         rows};
    const uint32_t words[] = {a->attr->n_head,
                              kv->n_head_kv,
                              at->group,
                              kv->window,
                              at->pages_per_pool,
                              (uint32_t)at->page_bytes,
                              (uint32_t)at->k_offset,
                              (uint32_t)at->v_offset,
                              sinks,
                              p->segment->max_tokens,
                              qn_vk_word(a->attr->scale),
                              qn_vk_word(a->attr->softcap)};
    memcpy(d->constants, constants, sizeof constants);
    memcpy(d->words, words, sizeof words);
}

static void add_sizes(struct qn_vk_plan *p, struct qn_vk_sizes sizes)
{
    struct quern_prepared *prepared = p->prepared;
    if (!p->status && !qn_grow(p->device->cb, &prepared->sizes, &prepared->cap_sizes, prepared->n_sizes + 1,
                               sizeof *prepared->sizes))
        p->status = qn_fail_memory(p->err, "a prepared segment");
    if (!p->status)
        prepared->sizes[prepared->n_sizes++] = sizes;
}

/* The groups of the dispatch become x * blocks of keys * tokens, which each run says; in slices the blocks
 * are as many as there is room for. */
static void set_indirect(struct qn_vk_plan *p, struct qn_vk_dispatch *d, uint32_t x, uint32_t window)
{
    d->indirect = QN_VK_MAX_BUFFERS - 1;
    d->bound[d->indirect] = (struct qn_vk_bound){.kind = QN_VK_BOUND_SIZES,
                                                 .offset = QN_VK_SIZE_BYTES * (uint64_t)p->prepared->n_sizes,
                                                 .bytes = QN_VK_SIZE_BYTES};
    d->groups[0] = x;
    d->groups[2] = p->segment->max_tokens;
    d->by = d->groups[2] > x ? 2 : 0;
    add_sizes(p, (struct qn_vk_sizes){x, window, 0});
}

/* For few tokens: each block of keys in a workgroup of its own, then they are merged. */
static void plan_split(struct qn_vk_plan *p, const struct attention *a)
{
    uint32_t slice = qn_vk_ceil_div(a->kv->head_dim_k, 32); /* SLICE of attention.glsl */
    uint32_t most = MAX_QUERY / slice, fit = MAX_PRODUCTS / a->at->page_tokens;
    uint32_t heads = heads_at_once(a, most < fit ? most : fit);
    uint64_t part =
        16 * (1 + (uint64_t)qn_vk_ceil_div(a->kv->head_dim_v, 4)) * a->attr->n_head * p->segment->max_tokens;
    if (part > p->prepared->part_bytes)
        p->prepared->part_bytes = part;

    struct qn_vk_dispatch *d = qn_vk_add(p, QN_VK_ATTENTION_SPLIT, 1, 1);
    set_attention(p, d, a, heads, 0, QUERN_NONE);
    set_indirect(p, d, a->kv->n_head_kv * qn_vk_ceil_div(a->n_share, heads), a->kv->window);
    qn_vk_bind_rows(p, d, 1, p->node->in[0], false);
    d->bound[2] = (struct qn_vk_bound){.kind = QN_VK_BOUND_PARTS, .written = true};
    bind_pools(p, d, 3, a->attr->kv_layer, false);

    uint64_t vectors = (uint64_t)a->attr->n_head * qn_vk_ceil_div(a->kv->head_dim_v, 4);
    d = qn_vk_add(p, QN_VK_ATTENTION_COMBINE, qn_vk_ceil_div(vectors, QN_VK_GROUP), p->segment->max_tokens);
    uint32_t sinks = qn_vk_bind_vector(p, d, 2, p->node->in[1]);
    set_attention(p, d, a, heads, 0, sinks);
    d->bound[1] = (struct qn_vk_bound){.kind = QN_VK_BOUND_PARTS};
    qn_vk_bind_rows(p, d, 3, p->node->out[0], true);
}

/* Rounds of the loops of attention.comp for a block of keys, at most; see the names there. */
static uint64_t block_rounds(const struct attention *a, uint32_t rows)
{
    uint64_t pages = QN_VK_KEY_BLOCK / a->at->page_tokens, chunk = rows / 4;
    uint64_t k4 = qn_vk_ceil_div(a->kv->head_dim_k, 4), v4 = qn_vk_ceil_div(a->kv->head_dim_v, 4);
    uint64_t load_queries = qn_vk_ceil_div(rows * chunk, QN_VK_GROUP) + 1;
    uint64_t load_page = qn_vk_ceil_div(a->at->page_tokens * chunk, QN_VK_GROUP) + 2;
    uint64_t score = qn_vk_ceil_div(k4, chunk) * (load_queries + pages * load_page + 2 * (chunk + 1) + 2);
    uint64_t add = qn_vk_ceil_div(v4, QN_VK_GROUP) * (pages * (a->at->page_tokens / 4 + 2) + 2);
    return score + add + QN_VK_KEY_BLOCK / 4; /* and what weighs the scores */
}

/* The same in cooperative matrices, whose blocks are half as long. */
static uint64_t coopmat_rounds(const struct attention *a, uint32_t rows, uint32_t workgroup)
{
    uint64_t pages = COOPMAT_BLOCK / a->at->page_tokens, chunk = COOPMAT_BLOCK / 4;
    uint64_t k4 = qn_vk_ceil_div(a->kv->head_dim_k, 4), v4 = qn_vk_ceil_div(a->kv->head_dim_v, 4);
    uint64_t measure = pages * (qn_vk_ceil_div(a->at->page_tokens * k4, workgroup) +
                                qn_vk_ceil_div(a->at->page_tokens * v4, workgroup) + 3) +
                       qn_vk_ceil_div(rows * k4, workgroup) + COOPMAT_BLOCK / workgroup + 3;
    uint64_t load_queries = qn_vk_ceil_div(rows * chunk, workgroup) + 1;
    uint64_t load_tile = pages * (qn_vk_ceil_div(a->at->page_tokens * chunk, workgroup) + 2) + 1;
    uint64_t score = qn_vk_ceil_div(k4, chunk) * (load_queries + load_tile + chunk + 2) + load_queries;
    uint64_t weigh = qn_vk_ceil_div(rows * 8, workgroup) * (2 * (chunk / 8 + 1) + 2 * (8 + 1) + 1) + 1;
    uint64_t add = qn_vk_ceil_div(v4, chunk) * (load_tile + chunk + 2 + load_queries);
    return 2 * (measure + score + weigh + add);
}

/* Whether cooperative matrices serve, and with how many rows. */
static bool choose_coopmat(const struct qn_vk_plan *p, const struct attention *a, uint32_t *rows)
{
    uint32_t m = p->device->facts.coopmat & 255, most = a->kv->head_dim_v <= 256 ? 32 : 16;
    if (p->segment->max_tokens * a->n_share <= 16)
        most = 16;
    if (!qn_vk_use_coopmat(p) || !qn_vk_can_have(&p->device->shaders, QN_VK_ATTENTION_COOPMAT, NULL) ||
        COOPMAT_BLOCK % a->at->page_tokens != 0 ||
        QN_VK_COOPMAT_SUBGROUPS * p->device->facts.full_subgroup < (m > most ? m : most))
        return false;
    *rows = m > most ? m : most;
    return true;
}

/* For many: queries share the keys that go through shared memory. */
static void plan_tiles(struct qn_vk_plan *p, const struct attention *a)
{
    uint64_t most = qn_vk_set(&p->device->settings, QN_VK_SET_ATTENTION_ROWS);
    uint32_t rows = a->kv->head_dim_v <= 128 ? 16 : a->kv->head_dim_v <= 256 ? 8 : 4;
    rows = rows < most ? rows : (uint32_t)most;
    uint32_t workgroup = QN_VK_COOPMAT_SUBGROUPS * p->device->facts.full_subgroup;
    bool coopmat = choose_coopmat(p, a, &rows);
    uint32_t heads = heads_at_once(a, rows);
    struct qn_vk_dispatch *d = qn_vk_add(p, coopmat ? QN_VK_ATTENTION_COOPMAT : QN_VK_ATTENTION,
                                         a->kv->n_head_kv * (uint64_t)qn_vk_ceil_div(a->n_share, heads),
                                         qn_vk_ceil_div(p->segment->max_tokens, rows / heads));
    uint32_t sinks = qn_vk_bind_vector(p, d, 2, p->node->in[1]);
    set_attention(p, d, a, heads, rows, sinks);
    if (coopmat) {
        d->constants[8] = workgroup;
        d->constants[9] = p->device->facts.coopmat;
        d->full_subgroups = true;
    }
    qn_vk_bind_rows(p, d, 1, p->node->in[0], false);
    qn_vk_bind_rows(p, d, 3, p->node->out[0], true);
    bind_pools(p, d, 4, a->attr->kv_layer, false);
    if (p->device->facts.max_rounds == 0)
        return;
    uint64_t rounds = coopmat ? coopmat_rounds(a, rows, workgroup) : block_rounds(a, rows);
    add_sizes(p, (struct qn_vk_sizes){0, a->kv->window, rounds});
}

static uint64_t split_tokens(const struct qn_vk_plan *p)
{
    uint64_t said = qn_vk_set(&p->device->settings, QN_VK_SET_SPLIT_TOKENS);
    return said < MAX_SPLIT_TOKENS ? said : MAX_SPLIT_TOKENS;
}

void qn_vk_plan_attention(struct qn_vk_plan *p)
{
    const struct quern_attention_attr *attr = &p->node->attr.attention;
    const struct quern_kv_layer *kv = quern_graph_kv(p->segment->graph, attr->kv_layer);
    const struct attention a = {attr, kv, &p->segment->kv[attr->kv_layer], attr->n_head / kv->n_head_kv};
    if (a.at->page_tokens % 4 != 0 || QN_VK_KEY_BLOCK % a.at->page_tokens != 0)
        p->status = qn_fail(p->err, QUERN_ERR_UNSUPPORTED, "KV layer %u: pages of %u tokens", attr->kv_layer,
                            a.at->page_tokens);
    else if (p->segment->max_tokens <= split_tokens(p))
        plan_split(p, &a);
    else
        plan_tiles(p, &a);
}

bool qn_vk_attention_supported(const struct quern_graph *graph, const struct quern_node *node)
{
    const struct quern_kv_layer *kv = quern_graph_kv(graph, node->attr.attention.kv_layer);
    return kv->head_dim_k <= MAX_HEAD && kv->head_dim_v <= MAX_HEAD && qn_vk_is_float(graph, node->in[1]);
}
