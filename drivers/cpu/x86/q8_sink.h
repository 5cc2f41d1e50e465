/* Where decoded weights of LANES rows go: to vector v of a tile, or at once into the product with one token.
 */
#ifndef QN_CPU_X86_Q8_SINK_H
#define QN_CPU_X86_Q8_SINK_H

#include "drivers/cpu/x86/q8_tile.h"

/* `traits` and `direct` are constants, and the numbers of blocks and groups that decoders name within a call
 * are too, so that sums stay in registers. */
struct qn_q8_sink {
    const struct qn_q8_traits *traits;
    struct qn_q8_tile *tile;
    int v;
    bool direct;
    /* direct: the token's bytes, scales and sums for the weights at hand; its results so far */
    const char *q, *d, *total;
    const uint8_t *next; /* weights to ask for meanwhile, as many as are decoded */
    vi sum[8], pairs[8];
    vf acc;
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
    if (to->direct)
        qn_q8_step(to->traits, group % groups, q, vi_spread(to->q + (first_block * groups + group) * 4),
                   &to->pairs[i], &to->sum[i]);
    else
        vi_store(to->tile->q[first_block * groups + group][to->v], q);
}

/* The n blocks from the first one on are complete. */
QN_INLINE void qn_end_blocks(struct qn_q8_sink *to, int first_block, int n)
{
    if (!to->direct)
        return;
    const struct qn_q8_traits *traits = to->traits;
    const size_t each = LANES * 4 * (size_t)traits->groups * traits->block_bytes / traits->block_len;
    QN_UNROLL for (int i = 0; i < n; i++)
    {
        const int block = first_block + i;
        for (size_t at = 0; at < each; at += 64)
            _mm_prefetch((const char *)to->next + (size_t)block * each + at, _MM_HINT_T1);
        vf d = vf_set(*(const float *)(const void *)(to->d + qn_q8_scale_at(to->traits, (size_t)block) *
                                                                 sizeof(float)));
        vi total = vi_zero();
        if (to->traits->zero || to->traits->minimum)
            total = vi_spread(to->total + block * 4);
        to->acc = qn_q8_fold(to->traits, to->sum[i], total, vf_load(to->tile->scale[block][to->v]),
                             to->tile->min[block][to->v], d, to->acc);
        to->sum[i] = vi_zero();
    }
}

#endif
