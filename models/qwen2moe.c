/* Qwen 1.5 and 2 with experts: the chosen experts' weights stay as the softmax over all gave them, and beside
 * them stands one shared expert with a gate of its own. */
#include "models/arch.h"

void qn_arch_build_qwen2moe(struct qn_build *b);

void qn_arch_build_qwen2moe(struct qn_build *b)
{
    struct qn_transformer spec = qn_hp_transformer(b, QUERN_ROPE_HALVES);
    spec.moe = qn_hp_moe(b, 0);
    spec.moe.n_ff_shared = qn_hp_u32_or(b, "expert_shared_feed_forward_length", spec.ffn.n_ff, 1, INT32_MAX);
    qn_transformer_graph(b, &spec);
}
