/* Qwen 3 with experts: no shared expert, and the chosen experts' weights sum to 1. */
#include "models/arch.h"

void qn_arch_build_qwen3moe(struct qn_build *b);

void qn_arch_build_qwen3moe(struct qn_build *b)
{
    struct qn_transformer spec = qn_hp_transformer(b, QUERN_ROPE_HALVES);
    spec.attention.qk_norm = QN_QK_NORM_HEAD;
    spec.moe = qn_hp_moe(b, 0);
    spec.moe.normalise = true;
    qn_transformer_graph(b, &spec);
}
