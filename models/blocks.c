/* Blocks that families share: attention, feed-forward, mixture of experts, input and output. */
#include "models/arch.h"

#include <math.h>

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

uint32_t qn_block_ffn(struct qn_build *b, uint32_t x, uint32_t layer, uint32_t n_ff,
                      enum quern_activation act, bool joint)
{
    int64_t d = b->facts.n_embd;
    uint32_t gate, up;
    if (joint) {
        gate = project_rows(b, x, layer, "ffn_up", d, 2 * (int64_t)n_ff, 0, n_ff);
        up = project_rows(b, x, layer, "ffn_up", d, 2 * (int64_t)n_ff, n_ff, n_ff);
    } else {
        gate = project(b, x, layer, "ffn_gate", d, n_ff);
        up = project(b, x, layer, "ffn_up", d, n_ff);
    }
    uint32_t hidden = qn_activation(&b->g, act, gate, up, false); /* [n_ff, T] */
    return project(b, hidden, layer, "ffn_down", n_ff, d);
}

struct qn_moe_spec qn_hp_moe(struct qn_build *b, uint32_t n_ff)
{
    struct qn_moe_spec moe = {
        .n_ff = n_ff, .scale = 1.0f, .act = QUERN_ACT_SILU, .gating = QUERN_GATING_SOFTMAX};
    moe.n_expert = qn_hp_u32(b, "expert_count", 1, 4096);
    moe.n_used = qn_hp_u32(b, "expert_used_count", 1, moe.n_expert ? moe.n_expert : 1);
    b->facts.n_expert = moe.n_expert;
    return moe;
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
    if (spec->n_ff_shared > 0) {
        int64_t n_sh = spec->n_ff_shared;
        uint32_t g =
            qn_matmul(&b->g, x, qn_matrix(b, d, n_sh, "blk.%u.ffn_gate_shexp.weight", layer), QUERN_NONE);
        uint32_t u =
            qn_matmul(&b->g, x, qn_matrix(b, d, n_sh, "blk.%u.ffn_up_shexp.weight", layer), QUERN_NONE);
        uint32_t h = qn_activation(&b->g, spec->act, g, u, false);
        shared =
            qn_matmul(&b->g, h, qn_matrix(b, n_sh, d, "blk.%u.ffn_down_shexp.weight", layer), QUERN_NONE);
        uint32_t w = qn_matrix(b, d, 1, "blk.%u.ffn_gate_inp_shexp.weight", layer);
        shared_gate = qn_matmul(&b->g, x, w, QUERN_NONE); /* [1, T] */
    }
    return qn_moe_combine(&b->g, y, weights, shared, shared_gate);
}

uint32_t qn_model_input(struct qn_build *b, float scale)
{
    b->g.layer = QUERN_NONE;
    return qn_embed(&b->g, qn_matrix(b, b->facts.n_embd, b->facts.n_vocab, "token_embd.weight"), scale);
}

void qn_model_output(struct qn_build *b, uint32_t x, float norm_eps, float scale, float softcap)
{
    b->g.layer = QUERN_NONE;
    x = qn_rows(&b->g, x);
    uint32_t weight = qn_vector(b, b->facts.n_embd, "output_norm.weight");
    x = qn_norm(&b->g, x, weight, QUERN_NONE, QUERN_NORM_RMS, norm_eps, b->facts.n_embd);
    uint32_t head = qn_matrix_opt(b, b->facts.n_embd, b->facts.n_vocab, "output.weight");
    if (head == QUERN_NONE && !b->g.status)
        head = qn_matrix(b, b->facts.n_embd, b->facts.n_vocab, "token_embd.weight");
    uint32_t bias = qn_vector_opt(b, b->facts.n_vocab, "output.bias");
    qn_output(&b->g, qn_matmul_attr(&b->g, x, head, bias, scale, softcap));
}
