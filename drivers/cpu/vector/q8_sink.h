/* Where decoded weights of LANES rows go: to vector v of a tile, or at once into the product with few tokens.
 */
#ifndef QN_CPU_VECTOR_Q8_SINK_H
#define QN_CPU_VECTOR_Q8_SINK_H

#include "drivers/cpu/vector/q8_tile.h"

enum { FEW_TOKENS = REGISTERS == 32 ? 4 : 2 };

/* Few tokens, at the weights at hand. The numbers of blocks and groups that decoders name within a call are
 * constants, so that sums stay in registers. */
struct qn_q8_few {
    const char *q[FEW_TOKENS], *d[FEW_TOKENS], *total[FEW_TOKENS]; /* their bytes, scales and sums */
    const uint8_t *next; /* weights to ask for meanwhile, as many as are decoded */
    vi sum[8][FEW_TOKENS];
    vp part[8][FEW_TOKENS];
    vf acc[FEW_TOKENS]; /* their results so far */
};

/* `traits` and `tokens` are constants. What has arrays is not in here: a compiler that has not yet unrolled
 * the loops over them keeps a structure in memory, and no longer knows what in it is constant. */
struct qn_q8_sink {
    const struct qn_q8_traits *traits;
    struct qn_q8_tile *tile;
    int v;
    int tokens; /* 0: to the tile */
    struct qn_q8_few *few;
};

/* The scale of a block. It, and the minimum, come before the block's bytes. */
QN_INLINE void qn_put_scale(struct qn_q8_sink *to, int block, vf scale)
{
    vf_store(to->tile->scale[block][to->v], scale);
}

QN_INLINE void qn_put_min(struct qn_q8_sink *to, int block, vf min)
{
    vf_store(to->tile->min[block][to->v], min);
}

/* 4 weights of each row: number `group` of those that start with a block. The groups of a block come in
 * order. */
QN_INLINE void qn_put(struct qn_q8_sink *to, int first_block, int group, vi q)
{
    const int groups = to->traits->groups, i = group / groups;
    QN_UNROLL for (int t = 0; t < FEW_TOKENS; t++) if (t < to->tokens)
        qn_q8_step(to->traits, group % groups, q, vx_load(to->few->q[t] + first_block * groups * 4, group),
                   &to->few->part[i][t], &to->few->sum[i][t]);
    if (to->tokens == 0)
        qn_q8_store(to->tile, to->v, first_block * groups, group, q);
}

/* The n blocks from the first one on are complete. */
QN_INLINE void qn_end_blocks(struct qn_q8_sink *to, int first_block, int n)
{
    if (to->tokens == 0)
        return;
    const struct qn_q8_traits *traits = to->traits;
    const size_t each = LANES * 4 * (size_t)traits->groups * traits->block_bytes / traits->block_len;
    QN_UNROLL for (int i = 0; i < n; i++)
    {
        const int block = first_block + i;
        for (size_t at = 0; at < each; at += 64)
            v_ask_for(to->few->next + (size_t)block * each + at);
        QN_UNROLL for (int t = 0; t < FEW_TOKENS; t++)
        {
            if (t >= to->tokens)
                continue;
            const size_t at_scale = qn_q8_scale_at(traits, (size_t)block) * sizeof(float);
            vf d = vf_set(*(const float *)(const void *)(to->few->d[t] + at_scale));
            vi total = vi_zero();
            if (traits->zero || traits->minimum)
                total = vi_spread(to->few->total[t] + block * 4);
            to->few->acc[t] =
                qn_q8_fold(traits, to->few->sum[i][t], total, vf_load(to->tile->scale[block][to->v]),
                           to->tile->min[block][to->v], d, to->few->acc[t]);
            to->few->sum[i][t] = vi_zero();
        }
    }
}

#endif
