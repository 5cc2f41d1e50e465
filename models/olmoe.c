/* OLMoE: experts whose weights stay as the softmax over all gave them; the norms of Q and K run over whole
 * rows, all heads at once. feed_forward_length is the width of one expert. */
#include "models/arch.h"

void qn_arch_build_olmoe(struct qn_build *b);

void qn_arch_build_olmoe(struct qn_build *b)
{
    struct qn_transformer spec = qn_hp_transformer(b, QUERN_ROPE_HALVES);
    spec.attention.qk_norm = QN_QK_NORM_FULL;
    spec.moe = qn_hp_moe(b, spec.ffn.n_ff);
    qn_transformer_graph(b, &spec);
}
