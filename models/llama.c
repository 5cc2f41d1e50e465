/* LLaMA and everything that is shaped like it (Mistral, SmolLM, Mixtral with experts). */
#include "models/arch.h"

void qn_arch_build_llama(struct qn_build *b);

void qn_arch_build_llama(struct qn_build *b)
{
    qn_hp_common(b);
    uint32_t n_ff = qn_hp_u32(b, "feed_forward_length", 1, 1u << 22);
    float eps = qn_hp_f32(b, "attention.layer_norm_rms_epsilon", 0.0f, 1.0f);
    struct qn_attention_spec attention = {.heads = qn_hp_heads(b), .norm_eps = eps};
    attention.rope = qn_hp_rope(b, QUERN_ROPE_ADJACENT, attention.heads.dim_k);
    bool has_experts = qn_hp_u32_or(b, "expert_count", 0, 0, 4096) > 0;
    struct qn_moe_spec moe = {0};
    if (has_experts) {
        moe = qn_hp_moe(b, n_ff);
        moe.normalise = true;
    }

    uint32_t x = qn_model_input(b, 1.0f); /* [n_embd, T] */
    attention.rope_factors = qn_vector_opt(b, attention.rope.n_dims / 2, "rope_freqs.weight");
    for (uint32_t l = 0; l < b->facts.n_layer && !b->g.status; l++) {
        b->g.layer = l;
        uint32_t weight = qn_vector(b, b->facts.n_embd, "blk.%u.attn_norm.weight", l);
        uint32_t h = qn_norm(&b->g, x, weight, QUERN_NONE, QUERN_NORM_RMS, eps, b->facts.n_embd);
        x = qn_add(&b->g, x, qn_block_attention(b, h, l, &attention), 1.0f);

        weight = qn_vector(b, b->facts.n_embd, "blk.%u.ffn_norm.weight", l);
        h = qn_norm(&b->g, x, weight, QUERN_NONE, QUERN_NORM_RMS, eps, b->facts.n_embd);
        h = has_experts ? qn_block_moe(b, h, l, &moe) : qn_block_ffn(b, h, l, n_ff, QUERN_ACT_SILU, false);
        x = qn_add(&b->g, x, h, 1.0f);
    }
    qn_model_output(b, x, eps, 1.0f, 0.0f);
}
