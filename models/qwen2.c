/* Qwen 2 and 2.5: LLaMA with biases on Q, K and V, which are added wherever a file has them. */
#include "models/arch.h"

void qn_arch_build_qwen2(struct qn_build *b);

void qn_arch_build_qwen2(struct qn_build *b)
{
    struct qn_transformer spec = qn_hp_transformer(b, QUERN_ROPE_HALVES);
    qn_transformer_graph(b, &spec);
}
