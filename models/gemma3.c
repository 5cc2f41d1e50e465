/* Gemma 3 (text): Gemma 2 with norms on each head of Q and K in place of the scores' soft cap; five layers
 * with a sliding window and a short rope, then one that sees everything with the long, scaled rope. */
#include "models/arch.h"

#include <math.h>

void qn_arch_build_gemma3(struct qn_build *b);

void qn_arch_build_gemma3(struct qn_build *b)
{
    struct qn_transformer spec = qn_hp_transformer(b, QUERN_ROPE_HALVES);
    const struct qn_heads *heads = &spec.attention.heads;
    uint32_t window = qn_hp_u32_or(b, "attention.sliding_window", 0, 0, INT32_MAX);
    uint32_t period = qn_hp_u32_or(b, "attention.sliding_window_pattern", 6, 1, 1024);
    struct quern_rope_attr global_rope = spec.attention.rope, local_rope = global_rope;
    local_rope.base = qn_hp_f32_or(b, "rope.freq_base_swa", 10000.0f, 1.0f, 1e15f);
    local_rope.freq_scale = local_rope.mscale = 1.0f;
    local_rope.ext_factor = 0.0f;
    spec.logit_softcap = qn_hp_f32_or(b, "final_logit_softcapping", 0.0f, 0.0f, 1e6f);
    spec.attention.qk_norm = QN_QK_NORM_HEAD;
    bool is_27b = b->facts.n_layer == 62; /* the one size whose scores are not scaled by its head size */
    float scaled_by = is_27b ? (float)b->facts.n_embd / (float)heads->n_head : (float)heads->dim_k;
    spec.attention.scale = 1.0f / sqrtf(scaled_by);
    spec.embedding_scale = sqrtf((float)b->facts.n_embd);
    spec.ffn.act = QUERN_ACT_GELU_TANH;
    spec.post_norms = true;

    uint32_t x = qn_transformer_input(b, &spec);
    for (uint32_t l = 0; l < b->facts.n_layer && !b->g.status; l++) {
        bool is_local = window > 0 && (l + 1) % period != 0;
        spec.attention.window = is_local ? window : 0;
        spec.attention.rope = is_local ? local_rope : global_rope;
        x = qn_transformer_layer(b, x, l, &spec);
    }
    qn_transformer_output(b, x, &spec);
}
