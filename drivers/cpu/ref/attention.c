/* KV_STORE and ATTENTION: keys and values in pages. A page holds, for each KV head, page_tokens rows of K and
 * as many of V. */
#include "drivers/cpu/ops.h"

#include <math.h>

/* Row of a token in a page that qn_kv_page() gave. */
static char *page_row(const struct qn_op *op, char *page, uint64_t offset, size_t row_bytes, uint32_t head,
                      uint32_t row)
{
    return page + offset + ((size_t)head * op->kv.at.page_tokens + row) * row_bytes;
}

/* ---------------------------------------------------------------- KV_STORE */

static int32_t kv_store_check(const struct qn_op *op, const struct qn_kernels *kernels,
                              struct quern_error *err)
{
    const struct quern_kv_layer *layer = &op->kv.layer;
    if (!qn_is_rows(op, &op->in[0], (size_t)layer->n_head_kv * layer->head_dim_k) ||
        !qn_is_rows(op, &op->in[1], (size_t)layer->n_head_kv * layer->head_dim_v) || op->in[0].per_output)
        return qn_op_fail(op, err, "keys or values do not match the KV layer");
    return QUERN_OK;
}

static struct qn_work kv_store_size(const struct qn_op *op, const struct qn_run *run)
{
    return (struct qn_work){run->step->n_tokens, (uint32_t)(op->in[0].row + op->in[1].row)};
}

static void kv_store_run(const struct qn_op *op, const struct qn_run *run, uint32_t begin, uint32_t end,
                         struct qn_worker *worker)
{
    const struct quern_kv_layer *layer = &op->kv.layer;
    const struct quern_kv_binding *at = &op->kv.at;
    const struct qn_format *k_format = qn_format_get((enum quern_format)at->k_format);
    const struct qn_format *v_format = qn_format_get((enum quern_format)at->v_format);
    const uint32_t *slot = quern_step_slots(run->step, at->group);
    for (uint32_t t = begin; t < end; t++) {
        char *page = qn_kv_page(op, run, slot[t] / at->page_tokens);
        if (!page)
            return;
        uint32_t row = slot[t] % at->page_tokens;
        for (uint32_t h = 0; h < layer->n_head_kv; h++) {
            k_format->quantise(qn_row(&op->in[0], t) + (size_t)h * layer->head_dim_k,
                               page_row(op, page, at->k_offset, op->kv.k_row_bytes, h, row),
                               layer->head_dim_k);
            v_format->quantise(qn_row(&op->in[1], t) + (size_t)h * layer->head_dim_v,
                               page_row(op, page, at->v_offset, op->kv.v_row_bytes, h, row),
                               layer->head_dim_v);
        }
    }
}

static bool kv_store_plan(struct qn_planner *planner, struct qn_op *op)
{
    qn_plan_stage(planner, op, kv_store_size, kv_store_run);
    return true;
}

const struct qn_op_kind qn_op_kv_store = {.name = "kv_store", .check = kv_store_check, .plan = kv_store_plan};

/* ---------------------------------------------------------------- ATTENTION */

/* The heads of an item: they share a KV head, and each row of K and V is read once for all of them. */
struct heads {
    uint32_t kv_head, first, n;
    const float *q; /* [n][head_dim_k] */
    float *out;     /* [n][head_dim_v]: weighted sum of the values so far */
    float *score;   /* [n][page_tokens], of one page */
    float *max;     /* [n]: largest score so far, what the sums are relative to */
    float *sum;     /* [n] */
    float *row;     /* [head_dim]: a row that had to be decoded */
};

/* score[h][j] = softcap(scale q_h . k_j) for the rows j of a page */
static void score_page(const struct qn_op *op, const struct qn_run *run, const struct heads *heads,
                       char *page, uint32_t begin, uint32_t end)
{
    const struct quern_attention_attr *attr = &op->node.attr.attention;
    const struct quern_kv_binding *at = &op->kv.at;
    uint32_t d = op->kv.layer.head_dim_k;
    float cap = attr->softcap;
    for (uint32_t j = begin; j < end; j++) {
        const void *k = page_row(op, page, at->k_offset, op->kv.k_row_bytes, heads->kv_head, j);
        if (at->k_format == QUERN_Q8_0) {
            run->kernels->dequantise[QUERN_Q8_0](k, heads->row, d);
            k = heads->row;
        }
        for (uint32_t h = 0; h < heads->n; h++) {
            const float *q = heads->q + (size_t)h * d;
            float dot =
                at->k_format == QUERN_F16 ? run->kernels->dot_f16(k, q, d) : run->kernels->dot_f32(k, q, d);
            float score = dot * attr->scale;
            heads->score[h * at->page_tokens + j] = cap > 0 ? cap * tanhf(score / cap) : score;
        }
    }
}

/* Takes the page's scores into the softmax: what was summed before becomes relative to the new maximum. */
static void weigh_page(const struct qn_op *op, const struct heads *heads, uint32_t begin, uint32_t end)
{
    uint32_t d = op->kv.layer.head_dim_v;
    for (uint32_t h = 0; h < heads->n; h++) {
        float *score = heads->score + (size_t)h * op->kv.at.page_tokens;
        float *out = heads->out + (size_t)h * d;
        float max = heads->max[h];
        for (uint32_t j = begin; j < end; j++)
            max = fmaxf(max, score[j]);
        if (max > heads->max[h]) {
            float shrink = expf(heads->max[h] - max);
            heads->sum[h] *= shrink;
            for (uint32_t i = 0; i < d; i++)
                out[i] *= shrink;
            heads->max[h] = max;
        }
        for (uint32_t j = begin; j < end; j++) {
            score[j] = expf(score[j] - max);
            heads->sum[h] += score[j];
        }
    }
}

/* out_h += score[h][j] v_j */
static void sum_page(const struct qn_op *op, const struct qn_run *run, const struct heads *heads, char *page,
                     uint32_t begin, uint32_t end)
{
    const struct quern_kv_binding *at = &op->kv.at;
    uint32_t d = op->kv.layer.head_dim_v;
    for (uint32_t j = begin; j < end; j++) {
        const void *v = page_row(op, page, at->v_offset, op->kv.v_row_bytes, heads->kv_head, j);
        if (at->v_format == QUERN_Q8_0) {
            run->kernels->dequantise[QUERN_Q8_0](v, heads->row, d);
            v = heads->row;
        }
        for (uint32_t h = 0; h < heads->n; h++) {
            float weight = heads->score[h * at->page_tokens + j];
            float *out = heads->out + (size_t)h * d;
            if (at->v_format == QUERN_F16)
                run->kernels->axpy_f16(weight, v, out, d);
            else
                run->kernels->axpy_f32(weight, v, out, d);
        }
    }
}

/* Pages are taken in the order of positions and cut at fixed positions, so that the sums do not depend on the
 * batch. */
static void attend(const struct qn_op *op, const struct qn_run *run, struct heads *heads, uint32_t token)
{
    const struct quern_kv_binding *at = &op->kv.at;
    const float *sinks = op->in[1].data;
    uint32_t position = quern_step_u32(run->step, run->step->position)[token];
    uint32_t sequence = quern_step_u32(run->step, run->step->sequence)[token];
    const uint32_t *pages = quern_step_pages(run->step, at->group, sequence);
    uint32_t window = op->kv.layer.window, n = position + 1;
    uint32_t first = window > 0 && n > window ? n - window : 0;
    uint32_t d = op->kv.layer.head_dim_v;

    for (uint32_t h = 0; h < heads->n; h++) {
        heads->max[h] = sinks ? sinks[heads->first + h] : -INFINITY;
        heads->sum[h] = sinks ? 1.0f : 0.0f;
        for (uint32_t i = 0; i < d; i++)
            heads->out[(size_t)h * d + i] = 0.0f;
    }
    for (uint32_t p = first / at->page_tokens; p <= position / at->page_tokens; p++) {
        char *page = qn_kv_page(op, run, pages[p]);
        if (!page)
            return;
        uint32_t start = p * at->page_tokens;
        uint32_t begin = first > start ? first - start : 0;
        uint32_t end = n - start < at->page_tokens ? n - start : at->page_tokens;
        score_page(op, run, heads, page, begin, end);
        weigh_page(op, heads, begin, end);
        sum_page(op, run, heads, page, begin, end);
    }
    for (uint32_t h = 0; h < heads->n; h++)
        for (uint32_t i = 0; i < d; i++)
            heads->out[(size_t)h * d + i] /= heads->sum[h];
}

static int32_t attention_check(const struct qn_op *op, const struct qn_kernels *kernels,
                               struct quern_error *err)
{
    const struct quern_attention_attr *attr = &op->node.attr.attention;
    const struct quern_kv_layer *layer = &op->kv.layer;
    if (attr->n_head < 1 || attr->n_head % layer->n_head_kv != 0)
        return qn_op_fail(op, err, "%u heads over %u KV heads", attr->n_head, layer->n_head_kv);
    if (!qn_is_rows(op, &op->in[0], (size_t)attr->n_head * layer->head_dim_k) || op->in[0].per_output ||
        !qn_is_rows(op, &op->out[0], (size_t)attr->n_head * layer->head_dim_v))
        return qn_op_fail(op, err, "queries or output do not match the KV layer");
    if (attr->softcap < 0 || !qn_is_vector_or_none(&op->in[1], attr->n_head))
        return qn_op_fail(op, err, "soft cap %g, or sinks that are not F32 of %u elements",
                          (double)attr->softcap, attr->n_head);
    return QUERN_OK;
}

/* Items of a token: groups of heads. */
static uint32_t items_per_token(const struct qn_op *op)
{
    return op->node.attr.attention.n_head / op->kv.heads_per_item;
}

static struct qn_work attention_size(const struct qn_op *op, const struct qn_run *run)
{
    const struct quern_step *step = run->step;
    const uint32_t *position = quern_step_u32(step, step->position);
    uint32_t longest = 0, window = op->kv.layer.window;
    for (uint32_t t = 0; t < step->n_tokens; t++)
        if (position[t] >= longest)
            longest = position[t] + 1;
    if (window > 0 && longest > window)
        longest = window;
    uint64_t cost =
        (uint64_t)longest * (op->kv.layer.head_dim_k + op->kv.layer.head_dim_v) / 8 * op->kv.heads_per_item;
    return (struct qn_work){step->n_tokens * items_per_token(op),
                            cost < UINT32_MAX ? (uint32_t)cost : UINT32_MAX};
}

static void attention_run(const struct qn_op *op, const struct qn_run *run, uint32_t begin, uint32_t end,
                          struct qn_worker *worker)
{
    const struct quern_kv_layer *layer = &op->kv.layer;
    uint32_t per_kv_head = op->node.attr.attention.n_head / layer->n_head_kv;
    uint32_t n = op->kv.heads_per_item, items = items_per_token(op);
    struct heads heads = {.n = n, .score = worker->scratch};
    heads.max = heads.score + (size_t)n * op->kv.at.page_tokens;
    heads.sum = heads.max + n;
    heads.row = heads.sum + n;
    for (uint32_t i = begin; i < end; i++) {
        uint32_t token = i / items;
        heads.first = i % items * n;
        heads.kv_head = heads.first / per_kv_head;
        heads.q = qn_row(&op->in[0], token) + (size_t)heads.first * layer->head_dim_k;
        heads.out = qn_row(&op->out[0], token) + (size_t)heads.first * layer->head_dim_v;
        attend(op, run, &heads, token);
    }
}

static bool attention_plan(struct qn_planner *planner, struct qn_op *op)
{
    const struct quern_kv_layer *layer = &op->kv.layer;
    uint32_t n_head = op->node.attr.attention.n_head;
    uint32_t threads = qn_pool_threads(planner->device->pool);
    uint32_t n = n_head / layer->n_head_kv;
    while (n % 2 == 0 && n_head / n < threads)
        n /= 2; /* a token alone should occupy all threads */
    op->kv.heads_per_item = n;
    size_t d = layer->head_dim_k > layer->head_dim_v ? layer->head_dim_k : layer->head_dim_v;
    qn_plan_scratch(planner, ((size_t)n * op->kv.at.page_tokens + 2 * (size_t)n + d) * sizeof(float));
    qn_plan_stage(planner, op, attention_size, attention_run);
    return true;
}

const struct qn_op_kind qn_op_attention = {
    .name = "attention", .check = attention_check, .plan = attention_plan};
