/* A session: sequences of tokens, and the keys and values that stand for them.
 *
 * A sequence has `len` tokens, of which the first `kv_len` are in the KV cache. Normally both are equal.
 * Where they are not (a device was dropped, pages of a sliding window are gone, the context was shifted), the
 * missing part is evaluated again before the sequence is used: tokens are what a session is sure of, keys and
 * values can always be made anew. */
#ifndef QN_SESSION_H
#define QN_SESSION_H

#include "session/kv.h"
#include "session/model.h"
#include "trace/trace.h"

struct qn_sequence {
    int32_t *tokens; /* [n_ctx] */
    uint32_t len;
    uint32_t kv_len;
    uint32_t held[QN_PHASES]; /* of those, how many lie where the phase has them; kv_len in one or in both */
    uint32_t flying;          /* tokens of steps under way, after kv_len */
    uint32_t pending;         /* tokens of the step in the making, after those */
    uint32_t row;             /* of the step's tables */
    bool in_step;
    uint32_t *pages[QUERN_MAX_KV_GROUPS]; /* [max_pages]; QUERN_NONE: none, or freed */
};

/* A step, and the run that it became. */
struct qn_flight {
    struct quern_step *step;            /* the step block */
    uint32_t *seqs;                     /* sequences in the step, by row */
    struct qn_plan_place token, result; /* see struct qn_plan_run */
    struct qn_plan *plan;               /* valid while the lock is held that was when it started */
    struct qn_plan_ticket ticket;
};

/* A step that was started before its token was known, see ahead.c. */
struct qn_ahead {
    struct qn_flight *flight; /* NULL: there is none */
    uint32_t seq;
    bool stale;                   /* the sequence is another one by now */
    struct qn_plan_device device; /* of the slots, as it was */
    struct quern_buffer *slots;   /* results, one for each flight */
    uint64_t bytes;               /* of the slots */
};

struct quern_session {
    struct quern_model *model;
    struct quern_callbacks cb;
    uint32_t n_ctx, n_seqs, n_batch, max_pages;
    enum quern_format k_format, v_format;
    enum quern_overflow overflow;
    uint32_t n_keep;

    struct qn_sequence *seqs; /* [n_seqs] */
    struct qn_kv kv;
    struct qn_variant *variant; /* valid while generation is the model's */
    uint32_t generation;

    struct qn_flight flights[2]; /* used by turns */
    uint32_t next_flight;
    struct qn_ahead ahead;

    float *logits; /* [cap_logits][n_vocab] */
    size_t n_logits, cap_logits;
    struct quern_candidate best[QUERN_MAX_BEST]; /* in place of logits */
    size_t n_best;

    struct quern_trace *trace;
    struct quern_node_time *times; /* [nodes], with a trace */
};

#endif
