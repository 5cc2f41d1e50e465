/* Layout of the KV cache: groups of layers, their homes, and the place of each layer in a page. */
#include "plan/plan.h"

#include "formats/formats.h"

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

static enum quern_status add_layer(struct qn_kv_layout *layout, const struct quern_graph *graph, uint32_t l,
                                   uint32_t owner, enum quern_format k_format, enum quern_format v_format,
                                   struct quern_error *err)
{
    const struct quern_kv_layer *kv = quern_graph_kv(graph, l);
    uint32_t group = group_of(layout, kv->window);
    if (group == QUERN_MAX_KV_GROUPS)
        return qn_fail(err, QUERN_ERR_UNSUPPORTED, "layers have more than %d different attention windows",
                       QUERN_MAX_KV_GROUPS);
    uint32_t h = home_of(layout, group, owner);
    struct qn_kv_home *home = &layout->home[h];
    struct quern_kv_binding *at = &layout->layer[l];
    *at = (struct quern_kv_binding){
        .home = h, .group = group, .k_format = k_format, .v_format = v_format, .page_tokens = QN_PAGE_TOKENS};
    at->k_offset = home->page_bytes;
    at->v_offset = at->k_offset + slice_bytes(k_format, kv->n_head_kv, kv->head_dim_k);
    home->page_bytes = at->v_offset + slice_bytes(v_format, kv->n_head_kv, kv->head_dim_v);
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
static enum quern_status size_pools(struct qn_kv_layout *layout, uint32_t g,
                                    const struct qn_plan_device *devices, uint32_t n_devices,
                                    struct qn_kv_size size, struct quern_error *err)
{
    uint64_t widest = 1, limit = UINT64_MAX;
    for (uint32_t h = 0; h < layout->n_homes; h++)
        if (layout->home[h].group == g && layout->home[h].page_bytes > widest)
            widest = layout->home[h].page_bytes;
    layout->max_pools = 0;
    for (uint32_t d = 0; d < n_devices; d++) {
        const struct quern_caps *caps = &devices[d].caps;
        if (!devices[d].handle)
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

enum quern_status qn_kv_layout_make(const struct quern_callbacks *cb, const struct quern_graph *graph,
                                    const uint8_t *place, const struct qn_plan_device *devices,
                                    uint32_t n_devices, enum quern_format k_format,
                                    enum quern_format v_format, struct qn_kv_size size,
                                    struct qn_kv_layout *layout, struct quern_error *err)
{
    *layout = (struct qn_kv_layout){0};
    layout->layer = qn_zalloc(cb, graph->n_kv ? graph->n_kv : 1, sizeof *layout->layer);
    if (!layout->layer)
        return qn_fail_memory(err, "the layout of the KV cache");
    enum quern_status status = QUERN_OK;
    for (uint32_t n = 0; n < graph->n_nodes && !status; n++) {
        const struct quern_node *node = quern_graph_node(graph, n);
        if (node->op == QUERN_OP_ATTENTION)
            status =
                add_layer(layout, graph, node->attr.attention.kv_layer, place[n], k_format, v_format, err);
    }
    for (uint32_t n = 0; n < graph->n_nodes && !status; n++) {
        uint32_t l = qn_node_kv_layer(quern_graph_node(graph, n));
        if (l == QUERN_NONE)
            continue;
        const struct quern_caps *caps = &devices[place[n]].caps; /* of whoever stores, too */
        status = check_format(k_format, "keys", quern_graph_kv(graph, l)->head_dim_k, caps, err);
        if (!status)
            status = check_format(v_format, "values", quern_graph_kv(graph, l)->head_dim_v, caps, err);
        layout->home[layout->layer[l].home].access |= 1u << place[n];
    }
    for (uint32_t g = 0; g < layout->n_groups && !status; g++)
        status = size_pools(layout, g, devices, n_devices, size, err);
    for (uint32_t l = 0; l < graph->n_kv && !status; l++) {
        layout->layer[l].page_bytes = layout->home[layout->layer[l].home].page_bytes;
        layout->layer[l].pages_per_pool = layout->pages_per_pool[layout->layer[l].group];
    }
    if (status)
        qn_kv_layout_finish(cb, layout);
    return status;
}

void qn_kv_layout_finish(const struct quern_callbacks *cb, struct qn_kv_layout *layout)
{
    qn_free(cb, layout->layer);
    *layout = (struct qn_kv_layout){0};
}
