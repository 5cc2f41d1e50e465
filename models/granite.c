/* Granite: LLaMA with four scales of its own: on embeddings, residual branches, attention scores and (as a
 * divisor) logits. */
#include "models/arch.h"

void qn_arch_build_granite(struct qn_build *b);

/* A scale that the file may leave out, or set to 0, for none. */
static float scale_or(struct qn_build *b, const char *key, float none)
{
    float value = qn_hp_f32_or(b, key, 0.0f, 0.0f, 1e6f);
    return value > 0.0f ? value : none;
}

void qn_arch_build_granite(struct qn_build *b)
{
    struct qn_transformer spec = qn_hp_transformer(b, QUERN_ROPE_ADJACENT);
    spec.embedding_scale = scale_or(b, "embedding_scale", 1.0f);
    spec.residual_scale = scale_or(b, "residual_scale", 1.0f);
    spec.attention.scale = scale_or(b, "attention.scale", 0.0f);
    spec.logit_scale = 1.0f / scale_or(b, "logit_scale", 1.0f);
    spec.attention.no_rope = !qn_hp_bool_or(b, "rope.scaling.finetuned", true);
    spec.attention.rope_factors = qn_vector_opt(b, spec.attention.rope.n_dims / 2, "rope_freqs.weight");
    qn_transformer_graph(b, &spec);
}
