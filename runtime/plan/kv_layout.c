/* Layout of the KV cache: groups of layers, their homes, and the place of each layer in a page. */
#include "plan/plan.h"

#include "formats/formats.h"

#include <string.h>

static const uint64_t POOL_BYTES = 32u << 20; /* most that a pool is made to take, about */
static const uint64_t SLICE_ALIGN = 256;      /* of a layer's K and V in a page */

/* Group of layers with this window; QUERN_MAX_KV_GROUPS when there are too many. */
static uint32_t group_of(struct qn_kv_layout *layout, uint32_t window)
{
    for (uint32_t g = 0; g < layout->n_groups; g++)
        if (layout->window[g] == window)
            return g;
    if (layout->n_groups < QUERN_MAX_KV_GROUPS)
        layout->window[layout->n_groups++] = window;
    else
        return QUERN_MAX_KV_GROUPS;
    return layout->n_groups - 1;
}

static uint32_t home_of(struct qn_kv_layout *layout, uint32_t group, uint32_t owner)
{
    for (uint32_t h = 0; h < layout->n_homes; h++)
        if (layout->home[h].group == group && layout->home[h].owner == owner)
            return h;
    layout->home[layout->n_homes] = (struct qn_kv_home){.group = group, .owner = owner};
    return layout->n_homes++;
}

static uint64_t slice_bytes(enum quern_format format, uint64_t n_head, uint64_t head_dim)
{
    uint64_t bytes = qn_format_row_bytes(format, head_dim) * n_head * QN_PAGE_TOKENS;
    return (bytes + SLICE_ALIGN - 1) / SLICE_ALIGN * SLICE_ALIGN;
}

static enum quern_status check_format(enum quern_format format, const char *what, uint32_t head_dim,
                                      const struct quern_caps *caps, struct quern_error *err)
{
    const struct qn_format *row = qn_format_get(format);
    if (!row || !(caps->kv_formats >> format & 1))
        return qn_fail(err, QUERN_ERR_UNSUPPORTED, "the device cannot keep %s in format %s", what,
                       row ? row->name : "of an unknown number");
    if (head_dim % row->block_len != 0)
        return qn_fail(err, QUERN_ERR_UNSUPPORTED,
                       "%s cannot be kept as %s: heads have %u values, expected a multiple of %u", what,
                       row->name, head_dim, row->block_len);
    return QUERN_OK;
}

/* Most pages that one sequence holds: of its context, or of a window and the step that moves it. */
static uint32_t pages_of_sequence(uint32_t window, uint32_t n_ctx)
{
    uint64_t tokens = n_ctx;
    if (window > 0 && tokens > (uint64_t)window + QN_MAX_BUCKET)
        tokens = (uint64_t)window + QN_MAX_BUCKET;
    return (uint32_t)(tokens / QN_PAGE_TOKENS) + 2;
}

/* Bytes of a layer in a page: its K, then its V. */
static uint64_t layer_bytes(const struct qn_kv_layout_params *p, const struct quern_kv_layer *kv,
                            uint64_t *k_bytes)
{
    *k_bytes = slice_bytes(p->k_format, kv->n_head_kv, kv->head_dim_k);
    return *k_bytes + slice_bytes(p->v_format, kv->n_head_kv, kv->head_dim_v);
}

static enum quern_status add_layer(struct qn_kv_layout *layout, const struct qn_kv_layout_params *p,
                                   uint32_t l, uint32_t owner, struct quern_kv_binding *at,
                                   struct quern_error *err)
{
    const struct quern_kv_layer *kv = quern_graph_kv(p->graph, l);
    uint32_t group = group_of(layout, kv->window);
    if (group == QUERN_MAX_KV_GROUPS)
        return qn_fail(err, QUERN_ERR_UNSUPPORTED, "layers have more than %d different attention windows",
                       QUERN_MAX_KV_GROUPS);
    uint32_t h = home_of(layout, group, owner);
    struct qn_kv_home *home = &layout->home[h];
    *at = (struct quern_kv_binding){.home = h,
                                    .group = group,
                                    .k_format = p->k_format,
                                    .v_format = p->v_format,
                                    .page_tokens = QN_PAGE_TOKENS};
    uint64_t k_bytes, bytes = layer_bytes(p, kv, &k_bytes);
    at->k_offset = home->page_bytes;
    at->v_offset = at->k_offset + k_bytes;
    home->page_bytes += bytes;
    return QUERN_OK;
}

/* Gives a layer its place in both phases; that is one place where one device computes its attention. */
static enum quern_status add_attention(struct qn_kv_layout *layout, const struct qn_kv_layout_params *p,
                                       uint32_t n, struct quern_error *err)
{
    uint32_t l = quern_graph_node(p->graph, n)->attr.attention.kv_layer;
    enum quern_status status = add_layer(layout, p, l, p->place[0][n], &layout->layer[0][l], err);
    for (int phase = 1; phase < QN_PHASES && !status; phase++)
        if (p->place[phase][n] == p->place[0][n])
            layout->layer[phase][l] = layout->layer[0][l];
        else
            status = add_layer(layout, p, l, p->place[phase][n], &layout->layer[phase][l], err);
    return status;
}

/* Who touches the keys and values of a node's layer, in each phase: it must be able to. */
static enum quern_status add_access(struct qn_kv_layout *layout, const struct qn_kv_layout_params *p,
                                    uint32_t n, struct quern_error *err)
{
    uint32_t l = qn_node_kv_layer(quern_graph_node(p->graph, n));
    enum quern_status status = QUERN_OK;
    for (int phase = 0; phase < QN_PHASES && l != QUERN_NONE && !status; phase++) {
        const struct quern_kv_layer *kv = quern_graph_kv(p->graph, l);
        const uint32_t d = p->place[phase][n];
        const struct quern_caps *caps = &p->devices[d].caps;
        status = check_format(p->k_format, "keys", kv->head_dim_k, caps, err);
        if (!status)
            status = check_format(p->v_format, "values", kv->head_dim_v, caps, err);
        layout->home[layout->layer[phase][l].home].access |= 1u << d;
    }
    return status;
}

/* Lists what lies elsewhere in the other phase, in as few pieces as the order of the layers allows. */
static enum quern_status list_moves(const struct quern_callbacks *cb, struct qn_kv_layout *layout,
                                    const struct qn_kv_layout_params *p, struct quern_error *err)
{
    const struct quern_kv_binding *decode = layout->layer[QN_PHASE_DECODE];
    const struct quern_kv_binding *prefill = layout->layer[QN_PHASE_PREFILL];
    layout->moves = qn_zalloc(cb, p->graph->n_kv + 1, sizeof *layout->moves);
    if (!layout->moves)
        return qn_fail_memory(err, "the layout of the KV cache");
    for (uint32_t l = 0; l < p->graph->n_kv; l++) {
        if (decode[l].home == prefill[l].home)
            continue;
        uint64_t k_bytes;
        const struct qn_kv_move move = {
            .group = decode[l].group,
            .home = {[QN_PHASE_DECODE] = decode[l].home, [QN_PHASE_PREFILL] = prefill[l].home},
            .offset = {[QN_PHASE_DECODE] = decode[l].k_offset, [QN_PHASE_PREFILL] = prefill[l].k_offset},
            .bytes = layer_bytes(p, quern_graph_kv(p->graph, l), &k_bytes)};
        struct qn_kv_move *last = layout->n_moves > 0 ? &layout->moves[layout->n_moves - 1] : NULL;
        bool continues = last && memcmp(last->home, move.home, sizeof move.home) == 0;
        for (int phase = 0; phase < QN_PHASES && continues; phase++)
            continues = last->offset[phase] + last->bytes == move.offset[phase];
        if (continues)
            last->bytes += move.bytes;
        else
            layout->moves[layout->n_moves++] = move;
    }
    return QUERN_OK;
}

static uint64_t pool_limit(const struct quern_caps *caps)
{
    return caps->max_pool_bytes > 0 && caps->max_pool_bytes < caps->max_buffer_bytes ? caps->max_pool_bytes
                                                                                     : caps->max_buffer_bytes;
}

/* Pools that one group of sequences fills, at most. */
static uint64_t pools_of(const struct qn_kv_layout *layout, uint32_t g, struct qn_kv_size size)
{
    uint64_t pages = (uint64_t)size.n_seqs * pages_of_sequence(layout->window[g], size.n_ctx);
    return (pages + layout->pages_per_pool[g] - 1) / layout->pages_per_pool[g];
}

bool qn_kv_layout_holds(const struct qn_kv_layout *layout, struct qn_kv_size size)
{
    for (uint32_t g = 0; g < layout->n_groups; g++)
        if (layout->max_pools > 0 && pools_of(layout, g, size) > layout->max_pools)
            return false;
    return true;
}

/* Pages of a pool: about POOL_BYTES, or more where kernels reach few pools. A page takes the same number of
 * pools in each home of its group: the widest page sets it. */
static enum quern_status size_pools(struct qn_kv_layout *layout, const struct qn_kv_layout_params *p,
                                    uint32_t g, struct quern_error *err)
{
    const struct qn_kv_size size = p->size;
    uint64_t widest = 1, limit = UINT64_MAX;
    for (uint32_t h = 0; h < layout->n_homes; h++)
        if (layout->home[h].group == g && layout->home[h].page_bytes > widest)
            widest = layout->home[h].page_bytes;
    layout->max_pools = 0;
    for (uint32_t d = 0; d < p->n_devices; d++) {
        const struct quern_caps *caps = &p->devices[d].caps;
        if (!p->devices[d].handle)
            continue;
        limit = pool_limit(caps) < limit ? pool_limit(caps) : limit;
        if (caps->max_pools > 0 && (layout->max_pools == 0 || caps->max_pools < layout->max_pools))
            layout->max_pools = caps->max_pools;
    }
    uint64_t most = widest < limit ? limit / widest : 1, fit = POOL_BYTES / widest;
    uint32_t pages = pages_of_sequence(layout->window[g], size.n_ctx);
    fit = fit < 1 ? 1 : fit > pages ? pages : fit;
    fit = fit > most ? most : fit;
    layout->pages_per_pool[g] = (uint32_t)fit;
    if (layout->max_pools > 0 && pools_of(layout, g, size) > layout->max_pools)
        layout->pages_per_pool[g] =
            (uint32_t)(((uint64_t)size.n_seqs * pages + layout->max_pools - 1) / layout->max_pools);
    if (layout->pages_per_pool[g] <= most)
        return QUERN_OK;
    return qn_fail(err, QUERN_ERR_UNSUPPORTED,
                   "a KV cache of %u sequences of %u tokens is more than the %u pools of %llu MiB that the "
                   "device reaches: use fewer or shorter sequences, or keys and values in fewer bits",
                   size.n_seqs, size.n_ctx, layout->max_pools, (unsigned long long)(most * widest >> 20));
}

enum quern_status qn_kv_layout_make(const struct quern_callbacks *cb, struct qn_kv_layout *layout,
                                    const struct qn_kv_layout_params *p, struct quern_error *err)
{
    const struct quern_graph *graph = p->graph;
    enum quern_status status = QUERN_OK;
    *layout = (struct qn_kv_layout){0};
    for (int phase = 0; phase < QN_PHASES && !status; phase++) {
        layout->layer[phase] = qn_zalloc(cb, graph->n_kv + 1, sizeof *layout->layer[phase]);
        if (!layout->layer[phase])
            status = qn_fail_memory(err, "the layout of the KV cache");
    }
    for (uint32_t n = 0; n < graph->n_nodes && !status; n++)
        if (quern_graph_node(graph, n)->op == QUERN_OP_ATTENTION)
            status = add_attention(layout, p, n, err);
    for (uint32_t n = 0; n < graph->n_nodes && !status; n++)
        status = add_access(layout, p, n, err);
    for (uint32_t g = 0; g < layout->n_groups && !status; g++)
        status = size_pools(layout, p, g, err);
    for (int phase = 0; phase < QN_PHASES && !status; phase++)
        for (uint32_t l = 0; l < graph->n_kv; l++) {
            struct quern_kv_binding *at = &layout->layer[phase][l];
            at->page_bytes = layout->home[at->home].page_bytes;
            at->pages_per_pool = layout->pages_per_pool[at->group];
        }
    if (!status)
        status = list_moves(cb, layout, p, err);
    if (status)
        qn_kv_layout_finish(cb, layout);
    return status;
}

void qn_kv_layout_finish(const struct quern_callbacks *cb, struct qn_kv_layout *layout)
{
    for (int phase = 0; phase < QN_PHASES; phase++)
        qn_free(cb, layout->layer[phase]);
    qn_free(cb, layout->moves);
    *layout = (struct qn_kv_layout){0};
}
