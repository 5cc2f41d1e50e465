#include "support/walk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum op {
    OP_GO_ON, /* the best token */
    OP_GO_ON_PLAIN,
    OP_TURN, /* another token */
    OP_LOGITS,
    OP_TRUNCATE,
    OP_FORK,
    OP_PROMPT,
    OP_BOTH, /* a token for each sequence */
};
/* How often, of 32. */
static const uint8_t often[] = {[OP_GO_ON] = 22,   [OP_GO_ON_PLAIN] = 1, [OP_TURN] = 2,   [OP_LOGITS] = 1,
                                [OP_TRUNCATE] = 2, [OP_FORK] = 1,        [OP_PROMPT] = 1, [OP_BOTH] = 2};

struct walker {
    const struct qn_walk_params *params;
    uint32_t state;
    struct quern_session *sessions[QN_WALK_SESSIONS];
    int32_t best[QN_WALK_SESSIONS]; /* of the last operation that had one */
};

static uint32_t draw(struct walker *w, uint32_t below)
{
    w->state = w->state * 1664525u + 1013904223u;
    return (w->state >> 8) % below;
}

static int32_t draw_token(struct walker *w)
{
    return (int32_t)draw(w, 280);
}

static enum op draw_op(struct walker *w)
{
    uint32_t at = draw(w, 32);
    enum op op = OP_GO_ON;
    for (; at >= often[op]; op++)
        at -= often[op];
    return op;
}

static enum quern_status prompt(struct walker *w, struct quern_session *s, uint32_t seq, uint32_t n_ctx,
                                struct quern_error *err)
{
    uint32_t n = 1 + draw(w, n_ctx - 1);
    int32_t *ids = calloc(n, sizeof *ids);
    if (!ids)
        abort(); /* the test's own memory */
    for (uint32_t i = 0; i < n; i++)
        ids[i] = draw_token(w);
    enum quern_status status = quern_session_prompt(s, seq, ids, n, NULL, err);
    free(ids);
    return status;
}

static enum quern_status apply(struct walker *w, enum op op, uint32_t number, struct quern_error *err)
{
    struct quern_session *s = w->sessions[number];
    uint32_t seq = draw(w, 4) == 0;
    int32_t token = op == OP_TURN || op == OP_LOGITS ? draw_token(w) : w->best[number];
    const struct quern_item both[] = {{.token = draw_token(w), .seq = 0, .logits = true},
                                      {.token = draw_token(w), .seq = 1, .logits = true}};
    switch (op) {
    case OP_GO_ON:
    case OP_TURN:
        return w->params->greedy ? quern_session_feed_greedy(s, seq, &token, 1, err)
                                 : quern_session_feed_best(s, seq, &token, 1, 1, err);
    case OP_GO_ON_PLAIN:
        return quern_session_feed_best(s, seq, &token, 1, 1, err);
    case OP_LOGITS:
        return quern_session_feed(s, seq, &token, 1, err);
    case OP_TRUNCATE:
        return quern_session_truncate(s, seq, draw(w, (uint32_t)quern_session_length(s, seq) + 1), err);
    case OP_FORK:
        return quern_session_fork(s, seq, !seq, err);
    case OP_PROMPT:
        return prompt(w, s, seq, w->params->n_ctx[number], err);
    case OP_BOTH:
    default:
        return quern_session_eval(s, both, 2, err);
    }
}

static void note(struct walker *w, uint32_t number, struct qn_walk_step *step)
{
    struct quern_session *s = w->sessions[number];
    size_t n_best;
    const struct quern_candidate *best = quern_session_best(s, &n_best);
    const float *logits = quern_session_logits(s, 0);
    if (best) {
        w->best[number] = step->token = best[0].token;
        memcpy(&step->logit, &best[0].logit, 4);
    } else if (logits) {
        memcpy(&step->logit, &logits[7], 4);
    }
    step->length = (uint32_t)(quern_session_length(s, 0) << 16 | quern_session_length(s, 1));
}

void qn_walk(const struct qn_walk_params *params, struct qn_walk_step *steps)
{
    struct quern_error err = {0};
    struct walker w = {.params = params, .state = params->seed};
    for (int i = 0; i < QN_WALK_SESSIONS; i++)
        if (quern_session_create(
                &w.sessions[i], params->model[i],
                quern_session_params(.n_ctx = params->n_ctx[i], .n_seqs = 2,
                                     .overflow = i == 0 ? QUERN_OVERFLOW_ERROR : QUERN_OVERFLOW_SHIFT),
                &err)) {
            fprintf(stderr, "a walk: %s\n", err.text);
            abort();
        }
    for (uint32_t i = 0, number = 0; i < params->n; i++) {
        if (draw(&w, 8) == 0)
            number = !number;
        steps[i] = (struct qn_walk_step){.op = draw_op(&w), .session = number};
        steps[i].status = apply(&w, steps[i].op, number, &err);
        if (steps[i].status == QUERN_ERR_CONTEXT)
            (void)quern_session_truncate(w.sessions[number], draw(&w, 2), 9, &err);
        note(&w, number, &steps[i]);
    }
    for (int i = 0; i < QN_WALK_SESSIONS; i++)
        quern_session_destroy(&w.sessions[i]);
}

bool qn_walks_same(const struct qn_walk_step *a, const struct qn_walk_step *b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], sizeof a[i]) != 0) {
            fprintf(stderr,
                    "step %u (operation %u, session %u): status %d and %d, token %d and %d, logit %08x and "
                    "%08x, lengths %x and %x\n",
                    i, a[i].op, a[i].session, a[i].status, b[i].status, a[i].token, b[i].token, a[i].logit,
                    b[i].logit, a[i].length, b[i].length);
            return false;
        }
    return true;
}
