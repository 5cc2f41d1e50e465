/* LLaMA and everything that is shaped like it (Mistral, SmolLM, Mixtral with experts). A sliding window in
 * the file is not applied: of the models that are stored under this name only Mistral's first had one. */
#include "models/arch.h"

void qn_arch_build_llama(struct qn_build *b);

void qn_arch_build_llama(struct qn_build *b)
{
    struct qn_transformer spec = qn_hp_transformer(b, QUERN_ROPE_ADJACENT);
    if (qn_hp_u32_or(b, "expert_count", 0, 0, UINT32_MAX) > 0) {
        spec.moe = qn_hp_moe(b, spec.ffn.n_ff);
        spec.moe.normalise = true;
    }
    spec.attention.rope_factors = qn_vector_opt(b, spec.attention.rope.n_dims / 2, "rope_freqs.weight");
    qn_transformer_graph(b, &spec);
}
