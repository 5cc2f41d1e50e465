/* Phi 3, 3.5 and 4: LLaMA with joint tensors for Q, K, V and for gate and up, and rope frequencies divided by
 * one of two sets of factors (LongRoPE, arXiv 2402.13753): the short ones where the context in use is within
 * that of the original training, the long ones beyond. rope.scaling.attn_factor multiplies sine and cosine.
 */
#include "models/arch.h"

void qn_arch_build_phi3(struct qn_build *b);

void qn_arch_build_phi3(struct qn_build *b)
{
    struct qn_transformer spec = qn_hp_transformer(b, QUERN_ROPE_HALVES);
    spec.attention.joint_qkv = true;
    spec.attention.window = qn_hp_u32_or(b, "attention.sliding_window", 0, 0, INT32_MAX);
    spec.ffn.joint = true;

    uint32_t n_pairs = spec.attention.rope.n_dims / 2;
    uint32_t factors_short = qn_vector_opt(b, n_pairs, "rope_factors_short.weight");
    uint32_t factors_long = qn_vector_opt(b, n_pairs, "rope_factors_long.weight");
    bool is_long = b->facts.n_ctx > spec.attention.rope.n_ctx_orig;
    spec.attention.rope_factors = is_long ? factors_long : factors_short;
    qn_transformer_graph(b, &spec);
}
