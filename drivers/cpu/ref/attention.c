/* KV_STORE and ATTENTION: keys and values in pages. A page holds, for each KV head, page_tokens rows of K and
 * as many of V. */
#include "drivers/cpu/ops.h"

#include <math.h>
#include <string.h>

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

/* Queries of one item: some heads of a KV head, for some tokens of one sequence. Keys and values of a block
 * of QN_ATTEND_ROWS positions are decoded once for all of them. Blocks are cut at fixed positions, so that
 * the sums of a query depend neither on its neighbours nor on the batch.
 *
 * So are the parts of a long context: each is attended to by itself, and what came out is added up in their
 * order. Where few tokens and heads would leave threads idle, the parts are items of their own. */
enum {
    MAX_QUERIES = 64,
    PART = 1024, /* positions of a part; more where there would be more than: */
    MAX_PARTS = 32,
    SPLIT_TOKENS = 4, /* of a step whose parts are items */
};

/* Positions of a part of what a token at that position sees. */
static uint32_t part_length(uint32_t position)
{
    uint32_t n = PART;
    while (position / n >= MAX_PARTS)
        n *= 2;
    return n;
}

struct queries {
    uint32_t n;                   /* in the block at hand */
    const float *q[MAX_QUERIES];  /* [head_dim_k] */
    float *out[MAX_QUERIES];      /* [dim_v] */
    uint32_t number[MAX_QUERIES]; /* of the query in the item */
    uint32_t begin[MAX_QUERIES];  /* rows of the block that it sees */
    uint32_t end[MAX_QUERIES];
};

/* What has been summed for some queries. */
struct sums {
    float *out;   /* [queries][dim_v]: weighted values */
    float *max;   /* [queries]: largest score, what the sums are relative to */
    float *total; /* [queries]: weights; 0: nothing yet */
};

/* Memory of an item, in the worker's scratch. */
struct attend {
    uint32_t kv_head, first_head, n_heads;
    uint32_t dim_v;        /* head_dim_v, rounded up to 16 */
    float *keys;           /* [head_dim_k][QN_ATTEND_ROWS] */
    float *values;         /* [QN_ATTEND_ROWS][dim_v] */
    float *rows;           /* [QN_ATTEND_ROWS][head_dim_k]: keys as they come */
    float *score;          /* [MAX_QUERIES][QN_ATTEND_ROWS] */
    struct sums part, all; /* by number of the query: of the part at hand, and of those before */
};

static uint32_t round_up_16(uint32_t n)
{
    return (n + 15) & ~15u;
}

/* Floats that an item needs. */
static size_t attend_floats(const struct quern_kv_layer *layer)
{
    size_t dim_k = round_up_16(layer->head_dim_k), dim_v = round_up_16(layer->head_dim_v);
    return (2 * dim_k + dim_v) * QN_ATTEND_ROWS + MAX_QUERIES * (QN_ATTEND_ROWS + 2 * (dim_v + 2));
}

/* Sums of n queries in memory of n * (dim_v + 2) floats. */
static struct sums sums_at(float *memory, size_t n, size_t dim_v)
{
    return (struct sums){.out = memory, .max = memory + n * dim_v, .total = memory + n * (dim_v + 1)};
}

/* Divides memory of that size. */
static void carve(struct attend *a, const struct quern_kv_layer *layer, float *memory)
{
    size_t dim_k = round_up_16(layer->head_dim_k);
    a->dim_v = round_up_16(layer->head_dim_v);
    a->keys = memory;
    a->values = a->keys + dim_k * QN_ATTEND_ROWS;
    a->rows = a->values + (size_t)a->dim_v * QN_ATTEND_ROWS;
    a->score = a->rows + dim_k * QN_ATTEND_ROWS;
    float *sums = a->score + (size_t)MAX_QUERIES * QN_ATTEND_ROWS;
    a->part = sums_at(sums, MAX_QUERIES, a->dim_v);
    a->all = sums_at(sums + (size_t)MAX_QUERIES * (a->dim_v + 2), MAX_QUERIES, a->dim_v);
}

/* n rows, one after another, to rows of `stride` floats; what is beyond dim is zero. */
static void decode_rows(const struct qn_kernels *kernels, uint32_t format, const char *rows, size_t row_bytes,
                        size_t dim, size_t stride, uint32_t n, float *out)
{
    if (dim == stride) {
        kernels->dequantise[format](rows, out, n * dim);
        return;
    }
    for (uint32_t j = 0; j < n; j++) {
        kernels->dequantise[format](rows + j * row_bytes, out + j * stride, dim);
        memset(out + j * stride + dim, 0, (stride - dim) * sizeof *out);
    }
}

/* Rows `begin` to `end` of the block of positions from `start`, of one page: values to a->values, and keys to
 * a->rows, or `transposed` to a->keys: a whole block of half floats. False when the page is not there. */
static bool load_rows(const struct qn_op *op, const struct qn_run *run, struct attend *a,
                      const uint32_t *pages, uint32_t start, uint32_t begin, uint32_t end, bool transposed)
{
    const struct quern_kv_binding *at = &op->kv.at;
    const struct quern_kv_layer *layer = &op->kv.layer;
    size_t stride_k = round_up_16(layer->head_dim_k), stride_v = a->dim_v;
    uint32_t row = (start + begin) % at->page_tokens, n = end - begin;
    char *page = qn_kv_page(op, run, pages[(start + begin) / at->page_tokens]);
    if (!page)
        return false;
    const char *keys = page_row(op, page, at->k_offset, op->kv.k_row_bytes, a->kv_head, row);
    const char *values = page_row(op, page, at->v_offset, op->kv.v_row_bytes, a->kv_head, row);
    if (transposed)
        run->kernels->attend_transpose_f16((const uint16_t *)(const void *)keys, stride_k, a->keys);
    else
        decode_rows(run->kernels, at->k_format, keys, op->kv.k_row_bytes, layer->head_dim_k, stride_k, n,
                    a->rows + begin * stride_k);
    decode_rows(run->kernels, at->v_format, values, op->kv.v_row_bytes, layer->head_dim_v, stride_v, n,
                a->values + begin * stride_v);
    return true;
}

/* Decodes the positions from first to last of the block that begins at `start`; its other rows are zeros.
 * False when a page is not there. */
static bool load_block(const struct qn_op *op, const struct qn_run *run, struct attend *a,
                       const uint32_t *pages, uint32_t start, uint32_t first, uint32_t last)
{
    uint32_t page_tokens = op->kv.at.page_tokens;
    size_t stride_k = round_up_16(op->kv.layer.head_dim_k), stride_v = a->dim_v;
    uint32_t begin = first > start ? first - start : 0;
    uint32_t end = last - start < QN_ATTEND_ROWS ? last - start + 1 : QN_ATTEND_ROWS;
    memset(a->rows, 0, begin * stride_k * sizeof(float));
    memset(a->values, 0, begin * stride_v * sizeof(float));
    memset(a->rows + end * stride_k, 0, (QN_ATTEND_ROWS - end) * stride_k * sizeof(float));
    memset(a->values + end * stride_v, 0, (QN_ATTEND_ROWS - end) * stride_v * sizeof(float));
    bool transposed = end - begin == QN_ATTEND_ROWS && page_tokens % QN_ATTEND_ROWS == 0 &&
                      op->kv.at.k_format == QUERN_F16 && op->kv.layer.head_dim_k == stride_k;
    for (uint32_t j = begin, n; j < end; j += n) {
        uint32_t left = page_tokens - (start + j) % page_tokens;
        n = left < end - j ? left : end - j;
        if (!load_rows(op, run, a, pages, start, j, j + n, transposed))
            return false;
    }
    if (!transposed)
        run->kernels->attend_transpose(a->rows, stride_k, a->keys);
    return true;
}

/* Scores of query i of the block to weights: softmax so far. What was summed before becomes relative to the
 * new maximum. */
static void weigh(const struct qn_op *op, const struct qn_run *run, struct attend *a,
                  const struct queries *qs, uint32_t i)
{
    const struct quern_attention_attr *attr = &op->node.attr.attention;
    const struct qn_attend_rule rule = {attr->scale, attr->softcap, qs->begin[i], qs->end[i]};
    uint32_t number = qs->number[i];
    float before = a->part.max[number];
    float total =
        run->kernels->attend_weigh(a->score + (size_t)i * QN_ATTEND_ROWS, &rule, &a->part.max[number]);
    if (a->part.max[number] > before) {
        float shrink = expf(before - a->part.max[number]), *out = qs->out[i];
        a->part.total[number] *= shrink;
        for (uint32_t c = 0; c < a->dim_v; c++)
            out[c] *= shrink;
    }
    a->part.total[number] += total;
}

/* Rows of the block of positions from `start`; NULL where there is none, or not in one page. */
static const char *block_rows(const struct qn_op *op, const struct qn_run *run, const struct attend *a,
                              const uint32_t *pages, uint32_t start, uint64_t offset, size_t row_bytes)
{
    uint32_t page_tokens = op->kv.at.page_tokens;
    char *page = page_tokens % QN_ATTEND_ROWS == 0 ? qn_kv_page(op, run, pages[start / page_tokens]) : NULL;
    return page ? page_row(op, page, offset, row_bytes, a->kv_head, start % page_tokens) : NULL;
}

/* A block begins where another page of memory may, and the processor does not look beyond: what comes next is
 * asked for while there is something to compute, piece by piece, since all at once would stop the computing.
 */
static void ask_for(const char *rows, size_t bytes, size_t piece, size_t pieces)
{
    enum { LINE = 64 };
    size_t lines = bytes / LINE;
    for (size_t i = lines * piece / pieces; rows && i < lines * (piece + 1) / pieces; i++)
        __builtin_prefetch(rows + i * LINE, 0, 2);
}

/* One block of positions for the queries that see some of it. next: where the next block begins, QUERN_NONE:
 * there is none. */
static void attend_block(const struct qn_op *op, const struct qn_run *run, struct attend *a,
                         const struct queries *qs, const uint32_t *pages, uint32_t next)
{
    const struct quern_kv_binding *at = &op->kv.at;
    size_t k_bytes = op->kv.k_row_bytes, v_bytes = op->kv.v_row_bytes;
    const char *keys = NULL, *values = NULL;
    if (next != QUERN_NONE) {
        keys = block_rows(op, run, a, pages, next, at->k_offset, k_bytes);
        values = block_rows(op, run, a, pages, next, at->v_offset, v_bytes);
    }
    run->kernels->attend_scores(qs->q, qs->n, op->kv.layer.head_dim_k, a->keys, a->score);
    for (uint32_t i = 0; i < qs->n; i++) {
        ask_for(keys, QN_ATTEND_ROWS * k_bytes, i, qs->n);
        ask_for(values, QN_ATTEND_ROWS * v_bytes, i, qs->n);
        weigh(op, run, a, qs, i);
    }
    run->kernels->attend_values(a->score, qs->n, a->dim_v, a->values, qs->out);
}

/* First position that a token sees. */
static uint32_t first_seen(const struct qn_op *op, uint32_t position)
{
    uint32_t window = op->kv.layer.window;
    return window > 0 && position + 1 > window ? position + 1 - window : 0;
}

/* The queries of tokens begin to end that see the block of positions from `start`. */
static void choose_queries(const struct qn_op *op, const struct qn_run *run, const struct attend *a,
                           uint32_t begin, uint32_t end, uint32_t start, struct queries *qs)
{
    const uint32_t *position = quern_step_u32(run->step, run->step->position);
    uint32_t dim_k = op->kv.layer.head_dim_k;
    qs->n = 0;
    for (uint32_t t = begin; t < end; t++) {
        uint32_t first = first_seen(op, position[t]), last = position[t];
        if (first >= start + QN_ATTEND_ROWS || last < start)
            continue;
        for (uint32_t h = 0; h < a->n_heads; h++) {
            qs->q[qs->n] = qn_row(&op->in[0], t) + (size_t)(a->first_head + h) * dim_k;
            qs->number[qs->n] = (t - begin) * a->n_heads + h;
            qs->out[qs->n] = a->part.out + (size_t)qs->number[qs->n] * a->dim_v;
            qs->begin[qs->n] = first > start ? first - start : 0;
            qs->end[qs->n] = last - start < QN_ATTEND_ROWS ? last - start + 1 : QN_ATTEND_ROWS;
            qs->n++;
        }
    }
}

/* ---- parts ---- */

/* Tokens begin to end, of one sequence with ascending positions and one length of parts: part number p of
 * what they see, into a->part. False when a page is not there. */
static bool attend_part(const struct qn_op *op, const struct qn_run *run, struct attend *a, uint32_t begin,
                        uint32_t end, uint32_t p)
{
    const struct quern_kv_binding *at = &op->kv.at;
    const float *sinks = op->in[1].data;
    const uint32_t *position = quern_step_u32(run->step, run->step->position);
    uint32_t sequence = quern_step_u32(run->step, run->step->sequence)[begin];
    const uint32_t *pages = quern_step_pages(run->step, at->group, sequence);
    uint32_t n = (end - begin) * a->n_heads, last = position[end - 1], length = part_length(last);
    for (uint32_t i = 0; i < n; i++) {
        bool sink = sinks && first_seen(op, position[begin + i / a->n_heads]) / length == p;
        a->part.max[i] = sink ? sinks[a->first_head + i % a->n_heads] : -INFINITY;
        a->part.total[i] = sink ? 1.0f : 0.0f;
    }
    memset(a->part.out, 0, (size_t)n * a->dim_v * sizeof *a->part.out);
    uint32_t first = first_seen(op, position[begin]);
    uint32_t start = first / QN_ATTEND_ROWS * QN_ATTEND_ROWS;
    start = start < p * length ? p * length : start;
    for (; start <= last && start / length == p; start += QN_ATTEND_ROWS) {
        struct queries qs;
        if (!load_block(op, run, a, pages, start, first, last))
            return false;
        choose_queries(op, run, a, begin, end, start, &qs);
        uint32_t next = start + QN_ATTEND_ROWS;
        attend_block(op, run, a, &qs, pages, next <= last && next / length == p ? next : QUERN_NONE);
    }
    return true;
}

/* Adds what part number i of `from` is to sums number j. */
static void add_part(const struct sums *from, uint32_t i, const struct sums *to, uint32_t j, uint32_t dim_v)
{
    const float *part = from->out + (size_t)i * dim_v;
    float *out = to->out + (size_t)j * dim_v;
    if (from->total[i] == 0)
        return;
    if (to->total[j] == 0) {
        memcpy(out, part, dim_v * sizeof *out);
        to->max[j] = from->max[i];
        to->total[j] = from->total[i];
        return;
    }
    float max = fmaxf(to->max[j], from->max[i]);
    float shrink = expf(to->max[j] - max), scale = expf(from->max[i] - max);
    for (uint32_t c = 0; c < dim_v; c++)
        out[c] = shrink * out[c] + scale * part[c];
    to->total[j] = shrink * to->total[j] + scale * from->total[i];
    to->max[j] = max;
}

/* The result of a query: sums number i. */
static void store_result(const struct qn_op *op, const struct sums *sums, uint32_t i, uint32_t stride,
                         uint32_t token, uint32_t head)
{
    uint32_t dim_v = op->kv.layer.head_dim_v;
    float *out = qn_row(&op->out[0], token) + (size_t)head * dim_v;
    for (uint32_t c = 0; c < dim_v; c++)
        out[c] = sums->out[(size_t)i * stride + c] / sums->total[i];
}

/* Tokens begin to end, as in attend_part(), from the first part to the last. */
static void attend_tokens(const struct qn_op *op, const struct qn_run *run, struct attend *a, uint32_t begin,
                          uint32_t end)
{
    const uint32_t *position = quern_step_u32(run->step, run->step->position);
    uint32_t n = (end - begin) * a->n_heads, length = part_length(position[end - 1]);
    uint32_t first = first_seen(op, position[begin]) / length, last = position[end - 1] / length;
    memset(a->all.total, 0, n * sizeof *a->all.total);
    for (uint32_t p = first; p <= last; p++) {
        if (!attend_part(op, run, a, begin, end, p))
            return;
        for (uint32_t i = 0; i < n && first < last; i++)
            add_part(&a->part, i, &a->all, i, a->dim_v);
    }
    for (uint32_t i = 0; i < n; i++)
        store_result(op, first < last ? &a->all : &a->part, i, a->dim_v, begin + i / a->n_heads,
                     a->first_head + i % a->n_heads);
}

/* ---- the operation ---- */

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

/* How a step's attention is cut into items. */
struct cut {
    uint32_t heads;   /* of one KV head in an item */
    uint32_t tokens;  /* in an item, at most */
    uint32_t parts;   /* items for each of these; 1: they are not split */
    uint32_t longest; /* context of a token */
};

static uint32_t heads_per_kv_head(const struct qn_op *op)
{
    return op->node.attr.attention.n_head / op->kv.layer.n_head_kv;
}

/* As many heads of a KV head as keep some items for each thread, where there are `each` for a head. */
static uint32_t heads_per_item(const struct qn_op *op, uint32_t each, uint32_t threads)
{
    uint32_t n = heads_per_kv_head(op), n_head = op->node.attr.attention.n_head;
    while (n % 2 == 0 && (n_head / n * each < threads || n > MAX_QUERIES))
        n /= 2;
    return n > MAX_QUERIES ? 1 : n;
}

static uint32_t longest_context(const struct quern_step *step)
{
    const uint32_t *position = quern_step_u32(step, step->position);
    uint32_t longest = 0;
    for (uint32_t t = 0; t < step->n_tokens; t++)
        longest = position[t] >= longest ? position[t] + 1 : longest;
    return longest;
}

/* Tokens share what is decoded, heads of a KV head too, but so that all threads find some items. */
static struct cut cut_step(const struct qn_op *op, const struct qn_run *run)
{
    enum { ITEMS_PER_THREAD = 4 };
    uint32_t threads = qn_pool_threads(run->device->pool), tokens = run->step->n_tokens;
    uint32_t n_head = op->node.attr.attention.n_head, window = op->kv.layer.window;
    struct cut cut = {.parts = 1, .longest = longest_context(run->step)};
    uint32_t parts = cut.longest > 0 ? (cut.longest - 1) / part_length(cut.longest - 1) + 1 : 1;
    cut.heads = heads_per_item(op, 1, threads);
    cut.tokens = MAX_QUERIES / cut.heads;
    if (parts > 1 && tokens <= SPLIT_TOKENS && tokens * op->kv.layer.n_head_kv < 2 * threads) {
        cut.parts = parts;
        cut.heads = heads_per_item(op, tokens * parts, threads);
        cut.tokens = 1;
    }
    while (cut.tokens > 1 &&
           (tokens + cut.tokens - 1) / cut.tokens * (n_head / cut.heads) < threads * ITEMS_PER_THREAD)
        cut.tokens /= 2;
    if (window > 0 && cut.longest > window)
        cut.longest = window;
    return cut;
}

static struct qn_work attention_size(const struct qn_op *op, const struct qn_run *run)
{
    const struct cut cut = cut_step(op, run);
    uint32_t n_tokens = run->step->n_tokens, tokens = n_tokens < cut.tokens ? n_tokens : cut.tokens;
    uint64_t per_row = (op->kv.layer.head_dim_k + op->kv.layer.head_dim_v) / 4; /* decoding it */
    per_row += per_row * cut.heads * tokens / 8;
    uint64_t cost = cut.longest / cut.parts * per_row;
    return (struct qn_work){(n_tokens + cut.tokens - 1) / cut.tokens *
                                (op->node.attr.attention.n_head / cut.heads) * cut.parts,
                            cost < UINT32_MAX ? (uint32_t)cost : UINT32_MAX};
}

/* Where the parts of a token's head are kept. */
static struct sums parts_of(const struct qn_op *op, const struct qn_run *run, uint32_t token, uint32_t head)
{
    size_t dim_v = round_up_16(op->kv.layer.head_dim_v);
    float *memory = run->device->area[QN_AREA_PARTS].data;
    size_t at = (size_t)token * op->node.attr.attention.n_head + head;
    return sums_at(memory + at * MAX_PARTS * (dim_v + 2), MAX_PARTS, dim_v);
}

/* Part p of what a token sees, for the heads of the item. */
static void attend_one_part(const struct qn_op *op, const struct qn_run *run, struct attend *a,
                            uint32_t token, uint32_t p)
{
    if (!attend_part(op, run, a, token, token + 1, p))
        return;
    for (uint32_t h = 0; h < a->n_heads; h++) {
        struct sums parts = parts_of(op, run, token, a->first_head + h);
        parts.total[p] = 0;
        add_part(&a->part, h, &parts, p, a->dim_v);
    }
}

/* Tokens of one sequence whose parts have one length, at a time. */
static void attend_item(const struct qn_op *op, const struct qn_run *run, struct attend *a, uint32_t begin,
                        uint32_t end)
{
    const uint32_t *sequence = quern_step_u32(run->step, run->step->sequence);
    const uint32_t *position = quern_step_u32(run->step, run->step->position);
    for (uint32_t t = begin; t < end;) {
        uint32_t from = t++;
        while (t < end && sequence[t] == sequence[from] &&
               part_length(position[t]) == part_length(position[from]))
            t++;
        attend_tokens(op, run, a, from, t);
    }
}

static void attention_run(const struct qn_op *op, const struct qn_run *run, uint32_t begin, uint32_t end,
                          struct qn_worker *worker)
{
    const struct cut cut = cut_step(op, run);
    uint32_t items = op->node.attr.attention.n_head / cut.heads * cut.parts;
    struct attend a = {.n_heads = cut.heads};
    carve(&a, &op->kv.layer, worker->scratch);
    for (uint32_t i = begin; i < end; i++) {
        uint32_t t = i / items * cut.tokens, left = run->step->n_tokens - t;
        a.first_head = i % items / cut.parts * a.n_heads;
        a.kv_head = a.first_head / heads_per_kv_head(op);
        if (cut.parts > 1)
            attend_one_part(op, run, &a, t, i % cut.parts);
        else
            attend_item(op, run, &a, t, t + (left < cut.tokens ? left : cut.tokens));
    }
}

/* Where parts were items: a head of a token each. */
static struct qn_work join_size(const struct qn_op *op, const struct qn_run *run)
{
    const struct cut cut = cut_step(op, run);
    return (struct qn_work){cut.parts > 1 ? run->step->n_tokens * op->node.attr.attention.n_head : 0,
                            cut.parts * op->kv.layer.head_dim_v / 8};
}

static void join_run(const struct qn_op *op, const struct qn_run *run, uint32_t begin, uint32_t end,
                     struct qn_worker *worker)
{
    const uint32_t *position = quern_step_u32(run->step, run->step->position);
    uint32_t n_head = op->node.attr.attention.n_head, dim_v = round_up_16(op->kv.layer.head_dim_v);
    const struct sums all = sums_at(worker->scratch, 1, dim_v);
    for (uint32_t i = begin; i < end; i++) {
        uint32_t token = i / n_head, head = i % n_head, at = position[token], length = part_length(at);
        const struct sums parts = parts_of(op, run, token, head);
        all.total[0] = 0;
        for (uint32_t p = first_seen(op, at) / length; p <= at / length; p++)
            add_part(&parts, p, &all, 0, dim_v);
        store_result(op, &all, 0, dim_v, token, head);
    }
}

static bool attention_plan(struct qn_planner *planner, struct qn_op *op)
{
    const struct quern_kv_layer *layer = &op->kv.layer;
    uint32_t tokens = qn_plan_max_rows(planner, &op->in[0]);
    size_t parts = (size_t)(tokens < SPLIT_TOKENS ? tokens : SPLIT_TOKENS) * op->node.attr.attention.n_head;
    qn_plan_area(planner, QN_AREA_PARTS,
                 parts * MAX_PARTS * (round_up_16(layer->head_dim_v) + 2) * sizeof(float));
    qn_plan_scratch(planner, attend_floats(layer) * sizeof(float));
    qn_plan_stage(planner, op, attention_size, attention_run);
    qn_plan_stage(planner, op, join_size, join_run);
    return true;
}

const struct qn_op_kind qn_op_attention = {
    .name = "attention", .check = attention_check, .plan = attention_plan};
