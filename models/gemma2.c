/* Gemma 2: norms before and after each block, GELU, soft caps on attention scores and logits, and sliding
 * windows in every other layer. The norms' weights hold the 1 that is added in the published formula. */
#include "models/arch.h"

#include <math.h>

void qn_arch_build_gemma2(struct qn_build *b);

void qn_arch_build_gemma2(struct qn_build *b)
{
    struct qn_transformer spec = qn_hp_transformer(b, QUERN_ROPE_HALVES);
    const struct qn_heads *heads = &spec.attention.heads;
    uint32_t window = qn_hp_u32_or(b, "attention.sliding_window", 4096, 1, INT32_MAX);
    spec.attention.softcap = qn_hp_f32_or(b, "attn_logit_softcapping", 50.0f, 0.0f, 1e6f);
    spec.logit_softcap = qn_hp_f32_or(b, "final_logit_softcapping", 30.0f, 0.0f, 1e6f);
    bool is_27b = b->facts.n_layer == 46; /* the one size whose scores are not scaled by its head size */
    float scaled_by = is_27b ? (float)b->facts.n_embd / (float)heads->n_head : (float)heads->dim_k;
    spec.attention.scale = 1.0f / sqrtf(scaled_by);
    spec.embedding_scale = sqrtf((float)b->facts.n_embd);
    spec.ffn.act = QUERN_ACT_GELU_TANH;
    spec.post_norms = true;

    uint32_t x = qn_transformer_input(b, &spec);
    for (uint32_t l = 0; l < b->facts.n_layer && !b->g.status; l++) {
        spec.attention.window = l % 2 == 0 ? window : 0;
        x = qn_transformer_layer(b, x, l, &spec);
    }
    qn_transformer_output(b, x, &spec);
}
