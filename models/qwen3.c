/* Qwen 3: norms on each head of Q and K in place of Qwen 2's biases. */
#include "models/arch.h"

void qn_arch_build_qwen3(struct qn_build *b);

void qn_arch_build_qwen3(struct qn_build *b)
{
    struct qn_transformer spec = qn_hp_transformer(b, QUERN_ROPE_HALVES);
    spec.attention.qk_norm = QN_QK_NORM_HEAD;
    qn_transformer_graph(b, &spec);
}
