#include "support/eval.h"

#include "formats/formats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct qn_eval {
    const struct quern_graph *graph;
    uint32_t max_tokens;
    uint32_t n_past; /* tokens evaluated before this step */
    uint32_t n;      /* tokens of this step */
    const int32_t *tokens;
    float **values; /* per value: rows as in the graph; expert ids are held as floats */
    float **k, **v; /* per KV layer: [head_dim * n_head_kv, max_tokens] */
    float *memory;  /* of all of these */
};

/* Elements of a value along dimension i in this step. */
static uint32_t dim(const struct qn_eval *e, uint32_t id, unsigned i)
{
    return (uint32_t)qn_value_dim(quern_graph_value(e->graph, id), i, e->n, e->n);
}

/* Elements of a value in this step. */
static size_t n_elements(const struct qn_eval *e, uint32_t id)
{
    return (size_t)dim(e, id, 0) * dim(e, id, 1) * dim(e, id, 2);
}

/* The elements, or NULL for an absent optional input. */
static float *data(const struct qn_eval *e, uint32_t id)
{
    return id == QUERN_NONE ? NULL : e->values[id];
}

/* Gives every value and KV layer its place from `memory` on, which is NULL when only the sum is wanted.
 * Returns the number of floats. */
static size_t place(struct qn_eval *e, float *memory)
{
    size_t at = 0;
    for (uint32_t i = 0; i < e->graph->n_values; i++) {
        e->values[i] = memory ? memory + at : NULL;
        at += n_elements(e, i);
    }
    for (uint32_t i = 0; i < e->graph->n_kv; i++) {
        const struct quern_kv_layer *kv = quern_graph_kv(e->graph, i);
        e->k[i] = memory ? memory + at : NULL;
        at += (size_t)kv->n_head_kv * kv->head_dim_k * e->max_tokens;
        e->v[i] = memory ? memory + at : NULL;
        at += (size_t)kv->n_head_kv * kv->head_dim_v * e->max_tokens;
    }
    return at;
}

void qn_eval_destroy(struct qn_eval *e)
{
    if (!e)
        return;
    free(e->values);
    free(e->memory);
    free(e);
}

struct qn_eval *qn_eval_create(const struct qn_gguf *gguf, const struct qn_graph *graph, uint32_t max_tokens)
{
    struct qn_eval *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->graph = &graph->view;
    e->n = e->max_tokens = max_tokens;
    e->values = calloc(e->graph->n_values + 2 * e->graph->n_kv + 1, sizeof *e->values);
    if (e->values) {
        e->k = e->values + e->graph->n_values;
        e->v = e->k + e->graph->n_kv;
        e->memory = calloc(place(e, NULL), sizeof *e->memory);
    }
    if (!e->memory) {
        qn_eval_destroy(e);
        return NULL;
    }
    place(e, e->memory);
    for (uint32_t i = 0; i < e->graph->n_values; i++) {
        const struct quern_value *value = quern_graph_value(e->graph, i);
        if (value->kind == QUERN_VALUE_WEIGHT)
            qn_format_get(value->format)
                ->dequantise(qn_gguf_tensor_at(gguf, value->weight)->data + value->weight_offset,
                             e->values[i], n_elements(e, i));
    }
    return e;
}

const float *qn_eval_value(const struct qn_eval *e, uint32_t value)
{
    return data(e, value);
}

void qn_eval_reset(struct qn_eval *e)
{
    e->n_past = 0;
}

/* ---- arithmetic ---- */

static double dot(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

static double activate(uint32_t act, double x)
{
    const double pi = acos(-1.0);
    return act == QUERN_ACT_SILU         ? x / (1 + exp(-x))
           : act == QUERN_ACT_GELU_TANH  ? x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x * x * x)))
           : act == QUERN_ACT_GELU_ERF   ? x / 2 * (1 + erf(x / sqrt(2.0)))
           : act == QUERN_ACT_GELU_QUICK ? x / (1 + exp(-1.702 * x))
           : act == QUERN_ACT_RELU       ? fmax(x, 0)
           : act == QUERN_ACT_RELU2      ? fmax(x, 0) * fmax(x, 0)
                                         : x;
}

static double soft_cap(double x, double cap)
{
    return cap > 0 ? cap * tanh(x / cap) : x;
}

/* In place. */
static void softmax(double *x, size_t n, double extra)
{
    double max = extra, sum = 0;
    for (size_t i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    for (size_t i = 0; i < n; i++)
        sum += x[i] = exp(x[i] - max);
    sum += exp(extra - max);
    for (size_t i = 0; i < n; i++)
        x[i] /= sum;
}

/* ---- operations ---- */

static void run_embed(struct qn_eval *e, const struct quern_node *node)
{
    const float *table = data(e, node->in[0]);
    float *out = data(e, node->out[0]);
    uint32_t d = dim(e, node->in[0], 0);
    for (uint32_t t = 0; t < e->n; t++)
        for (uint32_t i = 0; i < d; i++)
            out[(size_t)t * d + i] = node->attr.embed.scale * table[(size_t)e->tokens[t] * d + i];
}

static void run_norm(struct qn_eval *e, const struct quern_node *node)
{
    const struct quern_norm_attr *attr = &node->attr.norm;
    const float *x = data(e, node->in[0]), *weight = data(e, node->in[1]), *bias = data(e, node->in[2]);
    const float *addend = data(e, node->in[3]);
    float *out = data(e, node->out[0]);
    size_t n = n_elements(e, node->in[0]);
    if (addend) {
        float *sum = data(e, node->out[1]);
        for (size_t i = 0; i < n; i++)
            sum[i] = x[i] + addend[i];
        x = sum;
    }
    for (size_t at = 0; at < n; at += attr->group) {
        double mean = 0, square = 0;
        for (uint32_t i = 0; attr->kind == QUERN_NORM_LAYER && i < attr->group; i++)
            mean += (double)x[at + i] / attr->group;
        for (uint32_t i = 0; i < attr->group; i++)
            square += (x[at + i] - mean) * (x[at + i] - mean) / attr->group;
        for (uint32_t i = 0; i < attr->group; i++)
            out[at + i] = (float)((x[at + i] - mean) / sqrt(square + attr->eps) * (weight ? weight[i] : 1) +
                                  (bias ? bias[i] : 0));
    }
}

/* Row `row` of in[0] times row r of weight w, with what the attributes add before the activation. */
static double matmul_one(const struct qn_eval *e, const struct quern_node *node, unsigned w, uint32_t row,
                         uint32_t r)
{
    uint32_t k = dim(e, node->in[0], 0);
    const float *bias = data(e, node->in[4 + w]);
    double sum = dot(data(e, node->in[0]) + (size_t)row * k, data(e, node->in[1 + w]) + (size_t)r * k, k);
    return soft_cap((sum + (bias ? bias[r] : 0)) * node->attr.matmul.scale, node->attr.matmul.softcap);
}

static void run_matmul(struct qn_eval *e, const struct quern_node *node)
{
    const struct quern_matmul_attr *attr = &node->attr.matmul;
    const float *residual = data(e, node->in[7]);
    for (unsigned w = 0; w < (attr->glu ? 1 : attr->n_weights); w++) {
        float *out = data(e, node->out[w]);
        uint32_t n = dim(e, node->out[w], 0), rows = dim(e, node->out[w], 1);
        for (uint32_t row = 0; row < rows; row++)
            for (uint32_t r = 0; r < n; r++) {
                double y = activate(attr->act, matmul_one(e, node, w, row, r));
                if (attr->glu)
                    y *= matmul_one(e, node, 1, row, r);
                size_t at = (size_t)row * n + r;
                out[at] = (float)(residual ? residual[at] + attr->residual_scale * y : y);
            }
    }
}

/* Index of the pair that turns once per `beta` times the original context. */
static double yarn_index(const struct quern_rope_attr *a, double beta)
{
    return a->n_dims * log(a->n_ctx_orig / (beta * 2 * acos(-1.0))) / (2 * log(a->base));
}

static double rope_angle(const struct quern_rope_attr *a, uint32_t i, const float *factors, uint32_t position)
{
    double extrapolated = position * pow(a->base, -2.0 * i / a->n_dims) / (factors ? factors[i] : 1);
    double interpolated = a->freq_scale * extrapolated;
    if (a->ext_factor == 0)
        return interpolated;
    double low = fmax(0, floor(yarn_index(a, a->beta_fast)));
    double high = fmin(a->n_dims - 1, ceil(yarn_index(a, a->beta_slow)));
    double r = a->ext_factor * (1 - fmin(1, fmax(0, (i - low) / fmax(0.001, high - low))));
    return interpolated * (1 - r) + extrapolated * r;
}

static void run_rope(struct qn_eval *e, const struct quern_node *node)
{
    const struct quern_rope_attr *attr = &node->attr.rope;
    const float *x = data(e, node->in[0]), *factors = data(e, node->in[1]);
    float *out = data(e, node->out[0]);
    uint32_t d = dim(e, node->in[0], 0);
    bool halves = attr->kind == QUERN_ROPE_HALVES;
    memcpy(out, x, (size_t)d * e->n * sizeof *out);
    for (uint32_t t = 0; t < e->n; t++)
        for (uint32_t head = 0; head < d / attr->head_dim; head++)
            for (uint32_t i = 0; i < attr->n_dims / 2; i++) {
                double angle = rope_angle(attr, i, factors, e->n_past + t);
                double c = cos(angle) * attr->mscale, s = sin(angle) * attr->mscale;
                size_t at = (size_t)t * d + (size_t)head * attr->head_dim;
                size_t a = at + (halves ? i : 2 * i), b = halves ? a + attr->n_dims / 2 : a + 1;
                out[a] = (float)(x[a] * c - x[b] * s);
                out[b] = (float)(x[a] * s + x[b] * c);
            }
}

static void run_kv_store(struct qn_eval *e, const struct quern_node *node)
{
    uint32_t layer = node->attr.kv_store.kv_layer, d_k = dim(e, node->in[0], 0), d_v = dim(e, node->in[1], 0);
    memcpy(e->k[layer] + (size_t)e->n_past * d_k, data(e, node->in[0]), (size_t)e->n * d_k * sizeof(float));
    memcpy(e->v[layer] + (size_t)e->n_past * d_v, data(e, node->in[1]), (size_t)e->n * d_v * sizeof(float));
}

static void run_attention(struct qn_eval *e, const struct quern_node *node)
{
    const struct quern_attention_attr *attr = &node->attr.attention;
    const struct quern_kv_layer *kv = quern_graph_kv(e->graph, attr->kv_layer);
    uint32_t dk = kv->head_dim_k, dv = kv->head_dim_v, shared_by = attr->n_head / kv->n_head_kv;
    const float *q = data(e, node->in[0]), *sinks = data(e, node->in[1]);
    double *p = malloc(e->max_tokens * sizeof *p);
    for (uint32_t row = 0; p && row < e->n * attr->n_head; row++) {
        uint32_t position = e->n_past + row / attr->n_head, head = row % attr->n_head;
        uint32_t first = kv->window > 0 && position >= kv->window ? position - kv->window + 1 : 0;
        uint32_t n = position + 1 - first;
        const float *k = e->k[attr->kv_layer] + ((size_t)first * kv->n_head_kv + head / shared_by) * dk;
        const float *v = e->v[attr->kv_layer] + ((size_t)first * kv->n_head_kv + head / shared_by) * dv;
        for (uint32_t j = 0; j < n; j++)
            p[j] = soft_cap(attr->scale * dot(q + (size_t)row * dk, k + (size_t)j * kv->n_head_kv * dk, dk),
                            attr->softcap);
        softmax(p, n, sinks ? sinks[head] : -INFINITY);
        for (uint32_t i = 0; i < dv; i++) {
            double sum = 0;
            for (uint32_t j = 0; j < n; j++)
                sum += p[j] * v[(size_t)j * kv->n_head_kv * dv + i];
            data(e, node->out[0])[(size_t)row * dv + i] = (float)sum;
        }
    }
    free(p);
}

static void run_activation(struct qn_eval *e, const struct quern_node *node)
{
    const float *gate = data(e, node->in[0]), *up = data(e, node->in[1]);
    uint32_t n = dim(e, node->out[0], 0);
    uint32_t rows = dim(e, node->out[0], 1) * dim(e, node->out[0], 2);
    uint32_t stride = node->attr.activation.split ? 2 * n : n;
    for (uint32_t row = 0; row < rows; row++)
        for (uint32_t i = 0; i < n; i++) {
            size_t at = (size_t)row * stride + i;
            double factor = node->attr.activation.split ? gate[at + n] : up ? up[at] : 1;
            data(e, node->out[0])[(size_t)row * n + i] =
                (float)(activate(node->attr.activation.act, gate[at]) * factor);
        }
}

static void run_add(struct qn_eval *e, const struct quern_node *node)
{
    const float *a = data(e, node->in[0]), *b = data(e, node->in[1]);
    size_t n = n_elements(e, node->in[0]);
    for (size_t i = 0; i < n; i++)
        data(e, node->out[0])[i] = a[i] + node->attr.add.scale * b[i];
}

/* Every token is an output row here. */
static void run_rows(struct qn_eval *e, const struct quern_node *node)
{
    memcpy(data(e, node->out[0]), data(e, node->in[0]), n_elements(e, node->in[0]) * sizeof(float));
}

static void run_moe_route(struct qn_eval *e, const struct quern_node *node)
{
    const struct quern_moe_route_attr *attr = &node->attr.moe_route;
    const float *bias = data(e, node->in[1]);
    double *p = malloc(attr->n_expert * sizeof *p), *wish = malloc(attr->n_expert * sizeof *wish);
    for (uint32_t t = 0; p && wish && t < e->n; t++) {
        const float *logits = data(e, node->in[0]) + (size_t)t * attr->n_expert;
        float *ids = data(e, node->out[0]) + (size_t)t * attr->n_used;
        float *weights = data(e, node->out[1]) + (size_t)t * attr->n_used;
        double chosen[256], sum = 0;
        for (uint32_t i = 0; i < attr->n_expert; i++)
            p[i] = attr->gating == QUERN_GATING_SIGMOID ? 1 / (1 + exp(-logits[i])) : logits[i];
        if (attr->gating == QUERN_GATING_SOFTMAX)
            softmax(p, attr->n_expert, -INFINITY);
        for (uint32_t i = 0; i < attr->n_expert; i++)
            wish[i] = p[i] + (bias ? bias[i] : 0);
        for (uint32_t u = 0; u < attr->n_used && u < QN_LEN(chosen); u++) {
            uint32_t best = 0;
            for (uint32_t i = 1; i < attr->n_expert; i++)
                best = wish[i] > wish[best] ? i : best;
            ids[u] = (float)best;
            chosen[u] = p[best];
            wish[best] = -INFINITY;
        }
        if (attr->gating == QUERN_GATING_SOFTMAX_SELECTED)
            softmax(chosen, attr->n_used, -INFINITY);
        for (uint32_t u = 0; u < attr->n_used; u++)
            sum += chosen[u];
        for (uint32_t u = 0; u < attr->n_used; u++)
            weights[u] = (float)(chosen[u] / (attr->normalise ? sum : 1) * attr->scale);
    }
    free(p);
    free(wish);
}

/* Row r of expert `expert` of weight w, times x. */
static double moe_one(const struct qn_eval *e, const struct quern_node *node, unsigned w, uint32_t expert,
                      uint32_t r, const float *x)
{
    uint32_t k = dim(e, node->in[1 + w], 0), n = dim(e, node->in[1 + w], 1);
    const float *bias = data(e, node->in[3 + w]);
    size_t row = (size_t)expert * n + r;
    return dot(x, data(e, node->in[1 + w]) + row * k, k) + (bias ? bias[row] : 0);
}

static void run_moe_matmul(struct qn_eval *e, const struct quern_node *node)
{
    const struct quern_moe_matmul_attr *attr = &node->attr.moe_matmul;
    uint32_t k = dim(e, node->in[0], 0), n = dim(e, node->out[0], 0), n_used = dim(e, node->in[5], 0);
    const float *slots = data(e, node->in[6]);
    for (uint32_t row = 0; row < e->n * n_used; row++) {
        const float *x = data(e, node->in[0]) + (size_t)(attr->per_slot ? row : row / n_used) * k;
        float *out = data(e, node->out[0]) + (size_t)row * n;
        int expert = (int)data(e, node->in[5])[row];
        expert = slots ? (int)slots[expert] : expert;
        for (uint32_t r = 0; r < n; r++) {
            out[r] = 0;
            if (expert < 0)
                continue;
            double y = activate(attr->act, moe_one(e, node, 0, (uint32_t)expert, r, x));
            out[r] = (float)(attr->glu ? y * moe_one(e, node, 1, (uint32_t)expert, r, x) : y);
        }
    }
}

static void run_moe_combine(struct qn_eval *e, const struct quern_node *node)
{
    const float *y = data(e, node->in[0]), *weights = data(e, node->in[1]), *shared = data(e, node->in[2]);
    const float *gate = data(e, node->in[3]), *residual = data(e, node->in[4]);
    uint32_t n = dim(e, node->in[0], 0), n_used = dim(e, node->in[0], 1);
    for (size_t at = 0; at < (size_t)n * e->n; at++) {
        size_t t = at / n, i = at % n;
        double sum = residual ? residual[at] : 0;
        for (uint32_t u = 0; u < n_used; u++)
            sum += (double)weights[t * n_used + u] * y[(t * n_used + u) * n + i];
        if (shared)
            sum += shared[at] * (gate ? 1 / (1 + exp(-gate[t])) : 1);
        data(e, node->out[0])[at] = (float)sum;
    }
}

/* The best logits are for those who look at no others. */
static void run_select(struct qn_eval *e, const struct quern_node *node)
{
}

#define OP(ID, NAME, REQUIRED, ALIAS) [QUERN_OP_##ID] = run_##NAME,
static void (*const run_op[QUERN_OP_END])(struct qn_eval *e, const struct quern_node *node) = {
#include "graph/ops.inc"
};
#undef OP

const float *qn_eval_run(struct qn_eval *e, const int32_t *tokens, uint32_t n)
{
    if (n > e->max_tokens - e->n_past)
        return NULL;
    e->n = n;
    e->tokens = tokens;
    const float *result = NULL;
    for (uint32_t i = 0; i < e->graph->n_nodes; i++) {
        const struct quern_node *node = quern_graph_node(e->graph, i);
        for (uint32_t t = 0; node->op == QUERN_OP_EMBED && t < n; t++)
            if (tokens[t] < 0 || (uint32_t)tokens[t] >= dim(e, node->in[0], 1))
                return NULL;
        run_op[node->op](e, node);
        if (node->op != QUERN_OP_SELECT && node->out[0] != QUERN_NONE &&
            quern_graph_value(e->graph, node->out[0])->kind == QUERN_VALUE_OUTPUT)
            result = data(e, node->out[0]);
    }
    e->n_past += n;
    return result;
}
