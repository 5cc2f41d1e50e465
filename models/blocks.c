/* Blocks that families share: attention, feed-forward, mixture of experts, input and output. */
#include "models/arch.h"

#include <math.h>

enum { QN_MAX_FF = 1 << 22 };

static uint32_t qk_norm(struct qn_build *b, uint32_t x, char which, uint32_t layer, uint32_t n_head,
                        const struct qn_attention_spec *spec)
{
    if (spec->qk_norm == QN_QK_NORM_NONE)
        return x;
    uint32_t group = spec->qk_norm == QN_QK_NORM_HEAD ? spec->heads.dim_k : spec->heads.dim_k * n_head;
    uint32_t weight = qn_vector(b, group, "blk.%u.attn_%c_norm.weight", layer, which);
    return qn_norm(&b->g, x, weight, QUERN_NONE, QUERN_NORM_RMS, spec->norm_eps, group);
}

/* x times one of the projections, with its bias where the file has one. */
static uint32_t project(struct qn_build *b, uint32_t x, uint32_t layer, const char *name, int64_t k,
                        int64_t n)
{
    uint32_t w = qn_matrix(b, k, n, "blk.%u.%s.weight", layer, name);
    uint32_t bias = qn_vector_opt(b, n, "blk.%u.%s.bias", layer, name);
    return qn_matmul(&b->g, x, w, bias);
}

/* x times some rows of a joint projection, which has no bias. */
static uint32_t project_rows(struct qn_build *b, uint32_t x, uint32_t layer, const char *name, int64_t k,
                             int64_t n, int64_t first, int64_t n_rows)
{
    uint32_t w = qn_matrix_rows(b, k, n, first, n_rows, "blk.%u.%s.weight", layer, name);
    return qn_matmul(&b->g, x, w, QUERN_NONE);
}

uint32_t qn_block_attention(struct qn_build *b, uint32_t x, uint32_t layer,
                            const struct qn_attention_spec *spec)
{
    const struct qn_heads *h = &spec->heads;
    int64_t n_embd = b->facts.n_embd;
    int64_t n_q = (int64_t)h->n_head * h->dim_k, n_k = (int64_t)h->n_head_kv * h->dim_k,
            n_v = (int64_t)h->n_head_kv * h->dim_v;
    uint32_t q, k, v; /* [n_q, T], [n_k, T], [n_v, T] */
    if (spec->joint_qkv) {
        q = project_rows(b, x, layer, "attn_qkv", n_embd, n_q + n_k + n_v, 0, n_q);
        k = project_rows(b, x, layer, "attn_qkv", n_embd, n_q + n_k + n_v, n_q, n_k);
        v = project_rows(b, x, layer, "attn_qkv", n_embd, n_q + n_k + n_v, n_q + n_k, n_v);
    } else {
        q = project(b, x, layer, "attn_q", n_embd, n_q);
        k = project(b, x, layer, "attn_k", n_embd, n_k);
        v = project(b, x, layer, "attn_v", n_embd, n_v);
    }
    q = qk_norm(b, q, 'q', layer, h->n_head, spec);
    k = qk_norm(b, k, 'k', layer, h->n_head_kv, spec);
    if (!spec->no_rope) {
        q = qn_rope(&b->g, q, spec->rope_factors, &spec->rope);
        k = qn_rope(&b->g, k, spec->rope_factors, &spec->rope);
    }
    uint32_t kv = qn_add_kv(&b->g, &(struct quern_kv_layer){.n_head_kv = h->n_head_kv,
                                                            .head_dim_k = h->dim_k,
                                                            .head_dim_v = h->dim_v,
                                                            .window = spec->window});
    qn_kv_store(&b->g, k, v, kv);
    struct quern_attention_attr attr = {.kv_layer = kv,
                                        .n_head = h->n_head,
                                        .scale =
                                            spec->scale != 0.0f ? spec->scale : 1.0f / sqrtf((float)h->dim_k),
                                        .softcap = spec->softcap};
    uint32_t y = qn_attention(&b->g, q, QUERN_NONE, &attr);
    return project(b, y, layer, "attn_output", (int64_t)h->n_head * h->dim_v, n_embd);
}

uint32_t qn_block_ffn(struct qn_build *b, uint32_t x, uint32_t layer, const struct qn_ffn_spec *spec)
{
    int64_t d = b->facts.n_embd, n_ff = spec->n_ff;
    uint32_t gate, up;
    if (spec->joint) {
        gate = project_rows(b, x, layer, "ffn_up", d, 2 * n_ff, 0, n_ff);
        up = project_rows(b, x, layer, "ffn_up", d, 2 * n_ff, n_ff, n_ff);
    } else {
        gate = project(b, x, layer, "ffn_gate", d, n_ff);
        up = project(b, x, layer, "ffn_up", d, n_ff);
    }
    uint32_t hidden = qn_activation(&b->g, spec->act, gate, up, false); /* [n_ff, T] */
    return project(b, hidden, layer, "ffn_down", n_ff, d);
}

struct qn_moe_spec qn_hp_moe(struct qn_build *b, uint32_t n_ff)
{
    struct qn_moe_spec moe = {.scale = 1.0f, .act = QUERN_ACT_SILU, .gating = QUERN_GATING_SOFTMAX};
    moe.n_expert = qn_hp_u32(b, "expert_count", 1, 4096);
    moe.n_used = qn_hp_u32(b, "expert_used_count", 1, moe.n_expert);
    moe.n_ff = n_ff > 0 ? qn_hp_u32_or(b, "expert_feed_forward_length", n_ff, 1, QN_MAX_FF)
                        : qn_hp_u32(b, "expert_feed_forward_length", 1, QN_MAX_FF);
    b->facts.n_expert = moe.n_expert;
    return moe;
}

/* The expert that every token has, and the logit of its weight. */
static uint32_t shared_expert(struct qn_build *b, uint32_t x, uint32_t layer, const struct qn_moe_spec *spec,
                              uint32_t *weight_logit)
{
    int64_t d = b->facts.n_embd, n_ff = spec->n_ff_shared;
    uint32_t gate = project(b, x, layer, "ffn_gate_shexp", d, n_ff);
    uint32_t up = project(b, x, layer, "ffn_up_shexp", d, n_ff);
    uint32_t hidden = qn_activation(&b->g, spec->act, gate, up, false); /* [n_ff, T] */
    *weight_logit = project(b, x, layer, "ffn_gate_inp_shexp", d, 1);   /* [1, T] */
    return project(b, hidden, layer, "ffn_down_shexp", n_ff, d);
}

uint32_t qn_block_moe(struct qn_build *b, uint32_t x, uint32_t layer, const struct qn_moe_spec *spec)
{
    int64_t d = b->facts.n_embd, n_ff = spec->n_ff, n_expert = spec->n_expert;
    uint32_t router = qn_matrix(b, d, n_expert, "blk.%u.ffn_gate_inp.weight", layer);
    struct quern_moe_route_attr route = {.n_expert = spec->n_expert,
                                         .n_used = spec->n_used,
                                         .gating = spec->gating,
                                         .normalise = spec->normalise,
                                         .scale = spec->scale};
    uint32_t weights;
    uint32_t ids = qn_moe_route(&b->g, qn_matmul(&b->g, x, router, QUERN_NONE), QUERN_NONE, &route, &weights);

    uint32_t w_gate = qn_experts(b, d, n_ff, n_expert, "blk.%u.ffn_gate_exps.weight", layer);
    uint32_t w_up = qn_experts(b, d, n_ff, n_expert, "blk.%u.ffn_up_exps.weight", layer);
    uint32_t w_down = qn_experts(b, n_ff, d, n_expert, "blk.%u.ffn_down_exps.weight", layer);
    uint32_t gate = qn_moe_matmul(&b->g, x, w_gate, QUERN_NONE, ids, false);
    uint32_t up = qn_moe_matmul(&b->g, x, w_up, QUERN_NONE, ids, false);
    uint32_t hidden = qn_activation(&b->g, spec->act, gate, up, false); /* [n_ff, n_used, T] */
    uint32_t y = qn_moe_matmul(&b->g, hidden, w_down, QUERN_NONE, ids, true);

    uint32_t shared = QUERN_NONE, shared_gate = QUERN_NONE;
    if (spec->n_ff_shared > 0)
        shared = shared_expert(b, x, layer, spec, &shared_gate);
    return qn_moe_combine(&b->g, y, weights, shared, shared_gate);
}

/* ---- the transformer ---- */

static uint32_t rms_norm(struct qn_build *b, uint32_t x, uint32_t layer, const char *name, float eps)
{
    uint32_t weight = qn_vector(b, b->facts.n_embd, "blk.%u.%s.weight", layer, name);
    return qn_norm(&b->g, x, weight, QUERN_NONE, QUERN_NORM_RMS, eps, b->facts.n_embd);
}

struct qn_transformer qn_hp_transformer(struct qn_build *b, enum quern_rope_kind rope)
{
    qn_hp_common(b);
    struct qn_transformer spec = {
        .ffn = {.n_ff = qn_hp_uniform(b, "feed_forward_length", NULL, 1, QN_MAX_FF), .act = QUERN_ACT_SILU},
        .norm_eps = qn_hp_f32(b, "attention.layer_norm_rms_epsilon", 0.0f, 1.0f),
        .embedding_scale = 1.0f,
        .residual_scale = 1.0f,
        .logit_scale = 1.0f,
    };
    spec.attention.heads = qn_hp_heads(b);
    spec.attention.rope = qn_hp_rope(b, rope, spec.attention.heads.dim_k);
    spec.attention.rope_factors = QUERN_NONE;
    spec.attention.norm_eps = spec.norm_eps;
    return spec;
}

uint32_t qn_transformer_input(struct qn_build *b, const struct qn_transformer *spec)
{
    b->g.layer = QUERN_NONE;
    uint32_t table = qn_matrix(b, b->facts.n_embd, b->facts.n_vocab, "token_embd.weight");
    return qn_embed(&b->g, table, spec->embedding_scale); /* [n_embd, T] */
}

uint32_t qn_transformer_layer(struct qn_build *b, uint32_t x, uint32_t layer,
                              const struct qn_transformer *spec)
{
    b->g.layer = layer;
    uint32_t h = rms_norm(b, x, layer, "attn_norm", spec->norm_eps); /* [n_embd, T] */
    h = qn_block_attention(b, h, layer, &spec->attention);
    if (spec->post_norms)
        h = rms_norm(b, h, layer, "post_attention_norm", spec->norm_eps);
    x = qn_add(&b->g, x, h, spec->residual_scale);

    h = rms_norm(b, x, layer, "ffn_norm", spec->norm_eps);
    h = spec->moe.n_expert > 0 ? qn_block_moe(b, h, layer, &spec->moe)
                               : qn_block_ffn(b, h, layer, &spec->ffn);
    if (spec->post_norms)
        h = rms_norm(b, h, layer, "post_ffw_norm", spec->norm_eps);
    return qn_add(&b->g, x, h, spec->residual_scale);
}

void qn_transformer_output(struct qn_build *b, uint32_t x, const struct qn_transformer *spec)
{
    b->g.layer = QUERN_NONE;
    x = qn_rows(&b->g, x); /* [n_embd, O] */
    uint32_t weight = qn_vector(b, b->facts.n_embd, "output_norm.weight");
    x = qn_norm(&b->g, x, weight, QUERN_NONE, QUERN_NORM_RMS, spec->norm_eps, b->facts.n_embd);
    uint32_t head = qn_matrix_opt(b, b->facts.n_embd, b->facts.n_vocab, "output.weight");
    if (head == QUERN_NONE)
        head = qn_matrix(b, b->facts.n_embd, b->facts.n_vocab, "token_embd.weight");
    uint32_t bias = qn_vector_opt(b, b->facts.n_vocab, "output.bias");
    qn_output(&b->g, qn_matmul_attr(&b->g, x, head, bias, spec->logit_scale, spec->logit_softcap));
}

void qn_transformer_graph(struct qn_build *b, const struct qn_transformer *spec)
{
    uint32_t x = qn_transformer_input(b, spec);
    for (uint32_t l = 0; l < b->facts.n_layer && !b->g.status; l++)
        x = qn_transformer_layer(b, x, l, spec);
    qn_transformer_output(b, x, spec);
}
