/* Qwen 2 and 2.5: LLaMA with biases on Q, K and V, which are added wherever a file has them. */
#include "models/arch.h"

void qn_arch_build_qwen2(struct qn_build *b);

void qn_arch_build_qwen2(struct qn_build *b)
{
    struct qn_decoder spec = qn_hp_decoder(b, QUERN_ROPE_HALVES);
    qn_decoder_graph(b, &spec);
}
