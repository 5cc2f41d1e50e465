/* Cases as graphs of one node, with their contents. */
#include "conformance/cases.h"

#include "formats/formats.h"

#include <math.h>
#include <string.h>

enum { FILLED_BLOCKS = 1021, KV_PAGES = 1000, PAGES_PER_POOL = 130 };

struct builder {
    const struct qn_op_case *at;
    struct qn_case *c;
    uint64_t state;
};

/* NULL: memory is out, and the case knows. */
static float *take(struct builder *b, size_t n)
{
    float *x = qn_alloc(b->c->cb, n + 1, sizeof *x);
    b->c->failed |= !x;
    return x;
}

/* Rows of floats that the token or, of_outputs, the output has. */
static uint32_t add_rows(struct builder *b, int64_t d0, int64_t d1, bool of_outputs)
{
    size_t n = (size_t)(d0 * d1) * (of_outputs ? b->c->n_outputs : b->c->n_tokens);
    float *x = take(b, n);
    if (x)
        qn_fill_activations(b->at->fill, qn_fill_random(&b->state), x, n);
    uint32_t id =
        of_outputs ? qn_case_output_rows(b->c, QUERN_F32, d0, x) : qn_case_rows(b->c, QUERN_F32, d0, d1, x);
    qn_free(b->c->cb, x);
    return id;
}

static uint32_t add_result(struct builder *b, int64_t d0, int64_t d1, bool of_outputs)
{
    return of_outputs ? qn_case_output_rows(b->c, QUERN_F32, d0, NULL)
                      : qn_case_rows(b->c, QUERN_F32, d0, d1, NULL);
}

/* The blocks repeat after a number that is prime, so that rows differ. */
static uint32_t add_weight(struct builder *b, enum quern_format number, int64_t d0, int64_t d1, int64_t d2)
{
    const struct qn_format *format = qn_format_get(number);
    uint32_t id = qn_case_weight(b->c, number, d0, d1, d2, NULL);
    char *bytes = b->c->values[id].data;
    size_t n = bytes ? b->c->values[id].bytes / format->block_bytes : 0;
    size_t period = format->block_len == 1 ? FILLED_BLOCKS * 64 - 1 : FILLED_BLOCKS;
    if (bytes)
        qn_fill_weights(number, b->at->fill, qn_fill_random(&b->state), bytes,
                        (n < period ? n : period) * format->block_len);
    for (size_t at = period; at < n; at += period)
        memcpy(bytes + at * format->block_bytes, bytes,
               (n - at < period ? n - at : period) * format->block_bytes);
    return id;
}

static uint32_t add_vector(struct builder *b, int64_t n)
{
    float *x = take(b, (size_t)n);
    if (x)
        qn_fill_activations(QN_FILL_RANDOM, qn_fill_random(&b->state), x, (size_t)n);
    uint32_t id = qn_case_weight(b->c, QUERN_F32, n, 1, 1, x);
    qn_free(b->c->cb, x);
    return id;
}

static int64_t whole_blocks(uint32_t k, enum quern_format format)
{
    uint32_t block = qn_format_get(format)->block_len;
    return (int64_t)(k + block - 1) / block * block;
}

static void build_embed(struct builder *b)
{
    int64_t d = whole_blocks(b->at->embed.d, b->at->format);
    b->c->node.attr.embed.scale = b->at->embed.scale;
    b->c->node.in[0] = add_weight(b, b->at->format, d, b->at->embed.n_vocab, 1);
    b->c->node.out[0] = add_result(b, d, 1, false);
    for (uint32_t t = 0; t < b->c->n_tokens; t++)
        b->c->token[t] =
            (int32_t)(t == 0 ? b->at->embed.n_vocab - 1 : qn_fill_below(&b->state, b->at->embed.n_vocab));
}

static void build_norm(struct builder *b)
{
    struct quern_node *node = &b->c->node;
    bool outputs = b->at->outputs;
    node->attr.norm = (struct quern_norm_attr){b->at->norm.kind, b->at->norm.group, 1e-5f};
    node->in[0] = add_rows(b, b->at->norm.d, 1, outputs);
    if (b->at->norm.weight)
        node->in[1] = add_vector(b, b->at->norm.group);
    if (b->at->norm.bias)
        node->in[2] = add_vector(b, b->at->norm.group);
    if (b->at->norm.addend)
        node->in[3] = add_rows(b, b->at->norm.d, 1, outputs);
    node->out[0] = add_result(b, b->at->norm.d, 1, outputs);
    if (b->at->norm.addend)
        node->out[1] = add_result(b, b->at->norm.d, 1, outputs);
}

static void build_matmul(struct builder *b)
{
    struct quern_node *node = &b->c->node;
    const uint32_t *n = b->at->matmul.n;
    int64_t k = whole_blocks(b->at->matmul.k, b->at->format);
    uint32_t n_weights = n[1] == 0 ? 1 : n[2] == 0 ? 2 : 3;
    node->attr.matmul =
        (struct quern_matmul_attr){.n_weights = n_weights,
                                   .act = b->at->matmul.act,
                                   .glu = b->at->matmul.glu,
                                   .scale = b->at->matmul.scale != 0 ? b->at->matmul.scale : 1,
                                   .softcap = b->at->matmul.softcap,
                                   .residual_scale = 0.5f};
    node->in[0] = add_rows(b, k, 1, b->at->outputs);
    for (uint32_t i = 0; i < n_weights; i++) {
        node->in[1 + i] = add_weight(b, b->at->format, k, n[i], 1);
        if (b->at->matmul.bias)
            node->in[4 + i] = add_vector(b, n[i]);
    }
    if (b->at->matmul.residual)
        node->in[7] = add_rows(b, n[0], 1, false);
    for (uint32_t i = 0; i < (b->at->matmul.glu ? 1 : n_weights); i++)
        node->out[i] = add_result(b, n[i], 1, b->at->outputs);
}

static void build_rope(struct builder *b)
{
    const struct quern_rope_attr *attr = &b->at->rope.attr;
    int64_t n = (int64_t)attr->head_dim * b->at->rope.n_head;
    b->c->node.attr.rope = *attr;
    b->c->node.in[0] = add_rows(b, n, 1, false);
    if (b->at->rope.factors) {
        b->c->node.in[1] = add_vector(b, attr->n_dims / 2);
        for (uint32_t i = 0; i < attr->n_dims / 2 && !b->c->failed; i++)
            qn_case_data(b->c, b->c->node.in[1])[i] += 2.5f;
    }
    b->c->node.out[0] = add_result(b, n, 1, false);
    for (uint32_t t = 0; t < b->c->n_tokens; t++)
        b->c->position[t] = b->at->rope.first + t * b->at->rope.stride;
    b->c->kv_at.page_tokens = 1u << 16; /* so that the positions have pages */
}

static void fill_kv(struct builder *b, int part, uint32_t sequence, uint32_t n)
{
    struct qn_case *c = b->c;
    uint32_t d = part ? c->kv.head_dim_v : c->kv.head_dim_k;
    const struct qn_format *format =
        qn_format_get((enum quern_format)(part ? c->kv_at.v_format : c->kv_at.k_format));
    float *row = take(b, d);
    for (uint32_t p = 0; p < n && !c->failed; p++)
        for (uint32_t h = 0;
             h < c->kv.n_head_kv && c->pages[sequence][p / c->kv_at.page_tokens] != QUERN_NONE; h++) {
            bool some = b->at->fill == QN_FILL_OUTLIER || b->at->fill == QN_FILL_HUGE;
            qn_fill_activations(some ? QN_FILL_RANDOM : b->at->fill, qn_fill_random(&b->state), row, d);
            for (uint32_t i = 0; b->at->fill == QN_FILL_HUGE && p % 3 == (uint32_t)part && i < d; i++)
                row[i] *= 1e6f; /* beyond half floats; the queries are huger */
            for (uint32_t i = 0; b->at->fill == QN_FILL_OUTLIER && p == 5 && part == 0 && i < d; i++)
                row[i] *= 50; /* softmax is all but a choice of this key */
            format->quantise(row, qn_case_kv_row(c, part, sequence, p, h), d);
        }
    qn_free(c->cb, row);
}

static void build_kv(struct builder *b)
{
    struct qn_case *c = b->c;
    const struct quern_kv_layer *layer = &b->at->kv.layer;
    bool store = b->at->op == QUERN_OP_KV_STORE;
    qn_case_kv(c, *layer, b->at->format, b->at->v_format, b->at->kv.page_tokens, KV_PAGES, PAGES_PER_POOL);
    qn_case_place(c, b->at->kv.n_seqs, b->at->kv.held, b->at->kv.fed, KV_PAGES);
    for (uint32_t s = 0; s < c->n_seqs; s++) {
        uint32_t window = b->at->kv.freed ? layer->window : 0, held = b->at->kv.held[s];
        for (uint32_t p = 0;
             window > 0 && held + 1 > window && p < (held + 1 - window) / c->kv_at.page_tokens; p++)
            c->pages[s][p] = QUERN_NONE;
        for (int part = 0; part < 2 && !store; part++)
            fill_kv(b, part, s, held + b->at->kv.fed[s]);
    }
    if (store) {
        c->node.attr.kv_store.kv_layer = 0;
        c->node.in[0] = add_rows(b, (int64_t)layer->head_dim_k * layer->n_head_kv, 1, false);
        c->node.in[1] = add_rows(b, (int64_t)layer->head_dim_v * layer->n_head_kv, 1, false);
        return;
    }
    c->node.attr.attention =
        (struct quern_attention_attr){0, b->at->kv.n_head, b->at->kv.scale, b->at->kv.softcap};
    c->node.in[0] = add_rows(b, (int64_t)layer->head_dim_k * b->at->kv.n_head, 1, false);
    if (b->at->kv.sinks)
        c->node.in[1] = add_vector(b, b->at->kv.n_head);
    c->node.out[0] = add_result(b, (int64_t)layer->head_dim_v * b->at->kv.n_head, 1, false);
}

static void build_elementwise(struct builder *b)
{
    struct quern_node *node = &b->c->node;
    uint32_t n = b->at->activation.n;
    if (b->at->op == QUERN_OP_ACTIVATION) {
        node->attr.activation =
            (struct quern_activation_attr){b->at->activation.act, b->at->activation.split};
        node->in[0] = add_rows(b, b->at->activation.split ? 2 * n : n, 1, false);
        for (size_t i = 0; i < b->c->values[node->in[0]].bytes / 4 && !b->c->failed; i++)
            qn_case_data(b->c, node->in[0])[i] *= i % 5 == 0 ? 100 : 6; /* far out, too */
        if (b->at->activation.up)
            node->in[1] = add_rows(b, n, 1, false);
    } else {
        node->in[0] = add_rows(b, n, 1, false);
        if (b->at->op == QUERN_OP_ADD) {
            node->attr.add.scale = b->at->add.scale;
            node->in[1] = add_rows(b, n, 1, false);
        }
    }
    node->out[0] = add_result(b, n, 1, b->at->outputs);
}

/* Logits are multiples of 1/16, some of them equal, so that the choice does not hang on rounding. */
static void build_route(struct builder *b)
{
    struct quern_node *node = &b->c->node;
    const struct quern_moe_route_attr *attr = &b->at->route.attr;
    node->attr.moe_route = *attr;
    node->in[0] = add_rows(b, attr->n_expert, 1, false);
    float *logits = qn_case_data(b->c, node->in[0]);
    for (uint32_t i = 0; i < attr->n_expert * b->c->n_tokens && !b->c->failed; i++)
        logits[i] = i < attr->n_expert ? 0 : (float)(int)(logits[i] * 80) / 16;
    if (b->at->route.bias) {
        node->in[1] = add_vector(b, attr->n_expert);
        float *bias = qn_case_data(b->c, node->in[1]);
        for (uint32_t e = 0; e < attr->n_expert && !b->c->failed; e++)
            bias[e] = (float)(int)(bias[e] * 8) / 4;
    }
    node->out[0] = qn_case_rows(b->c, QUERN_I32, attr->n_used, 1, NULL);
    node->out[1] = add_result(b, attr->n_used, 1, false);
}

static void build_select(struct builder *b)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    struct quern_node *node = &b->c->node;
    uint32_t n = b->at->select.n, k = b->at->select.k;
    node->attr.select.k = k;
    b->c->select = b->at->select.wanted;
    node->in[0] = add_rows(b, n, 1, true);
    float *x = qn_case_data(b->c, node->in[0]);
    for (uint32_t i = 0; i < n * b->c->n_outputs && !b->c->failed; i++) {
        if (b->at->select.ties) /* -0 and 0 among them */
            x[i] = (float)(int)(x[i] * 4) / (x[i] < 0 ? -4 : 4) * (i % 3 ? 1 : -1);
        if (b->at->select.bad && i % 997 == 5)
            x[i] = bad[i / 997 % 3];
    }
    node->out[0] = qn_case_output_rows(b->c, QUERN_I32, 2 * k, NULL);
}

static uint32_t add_ids(struct builder *b)
{
    uint32_t n_used = b->at->moe.n_used, id = qn_case_rows(b->c, QUERN_I32, n_used, 1, NULL);
    int32_t *ids = b->c->values[id].data;
    uint32_t one = qn_fill_below(&b->state, b->at->moe.n_expert), step = 1;
    for (uint32_t t = 0; t < b->c->n_tokens && !b->c->failed; t++) {
        uint32_t first = b->at->moe.spread == QN_SPREAD_ONE ? one
                         : b->at->moe.spread == QN_SPREAD_ROUNDS
                             ? t * n_used
                             : qn_fill_below(&b->state, b->at->moe.n_expert);
        for (uint32_t j = 0; j < n_used; j++)
            ids[t * n_used + j] = (int32_t)((first + j * step) % b->at->moe.n_expert);
    }
    return id;
}

static void build_moe(struct builder *b)
{
    struct quern_node *node = &b->c->node;
    uint32_t sides = b->at->moe.glu ? 2 : 1, n = b->at->moe.n, n_expert = b->at->moe.n_expert;
    int64_t k = whole_blocks(b->at->moe.k, b->at->format);
    node->attr.moe_matmul =
        (struct quern_moe_matmul_attr){sides, b->at->moe.act, b->at->moe.glu, b->at->moe.per_slot};
    node->in[0] = add_rows(b, k, b->at->moe.per_slot ? b->at->moe.n_used : 1, false);
    for (uint32_t i = 0; i < sides; i++) {
        node->in[1 + i] = add_weight(b, b->at->format, k, n, n_expert);
        if (b->at->moe.bias)
            node->in[3 + i] = add_weight(b, QUERN_F32, n, n_expert, 1);
    }
    node->in[5] = add_ids(b);
    node->out[0] = add_result(b, n, b->at->moe.n_used, false);
}

static void build_combine(struct builder *b)
{
    struct quern_node *node = &b->c->node;
    uint32_t n = b->at->combine.n;
    node->in[0] = add_rows(b, n, b->at->combine.n_used, false);
    node->in[1] = add_rows(b, b->at->combine.n_used, 1, false);
    if (b->at->combine.shared)
        node->in[2] = add_rows(b, n, 1, false);
    if (b->at->combine.gate)
        node->in[3] = add_rows(b, 1, 1, false);
    if (b->at->combine.residual)
        node->in[4] = add_rows(b, n, 1, false);
    node->out[0] = add_result(b, n, 1, false);
}

void qn_op_build(const struct qn_op_case *at, const struct quern_callbacks *cb,
                 const struct quern_driver *driver, uint64_t seed, struct qn_case *c)
{
    static void (*const builds[QUERN_OP_END])(struct builder * b) = {
        [QUERN_OP_EMBED] = build_embed,
        [QUERN_OP_NORM] = build_norm,
        [QUERN_OP_MATMUL] = build_matmul,
        [QUERN_OP_ROPE] = build_rope,
        [QUERN_OP_KV_STORE] = build_kv,
        [QUERN_OP_ATTENTION] = build_kv,
        [QUERN_OP_ACTIVATION] = build_elementwise,
        [QUERN_OP_ADD] = build_elementwise,
        [QUERN_OP_ROWS] = build_elementwise,
        [QUERN_OP_MOE_ROUTE] = build_route,
        [QUERN_OP_MOE_MATMUL] = build_moe,
        [QUERN_OP_MOE_COMBINE] = build_combine,
        [QUERN_OP_SELECT] = build_select,
    };
    struct builder b = {at, c, seed};
    qn_case_init(c, cb, driver, at->op, at->tokens);
    c->exact = at->exact;
    c->in_place = at->in_place;
    for (uint32_t t = 0; at->outputs && t < at->tokens; t += 3)
        c->output[c->n_outputs++] = t;
    builds[at->op](&b);
}
