/* The loop of a generation: draw, pass the text on, feed. Text that could still become a stop string is held
 * back.
 *
 * Every token whose text was passed on has been fed, also the last one of max_tokens, so that a further call
 * goes on where this one ended. The token that ends a text (end token, stop string, caller) is not fed. */
#include "base/clock.h"
#include "session/handles.h"

#include <string.h>

struct generation {
    const struct quern_callbacks *cb;
    const struct quern_generate_params *params;
    struct quern_decoder *decoder;
    char *held; /* text not yet passed on */
    size_t n_held, cap;
};

/* ---- text ---- */

/* Passes the first n held bytes on, for a token also when there are none. False: the caller wants to stop. */
static bool pass_on(struct generation *g, size_t n, int32_t token)
{
    bool more = true;
    if ((n > 0 || token >= 0) && g->params->on_text)
        more = g->params->on_text(g->params->user, g->held, n, token);
    memmove(g->held, g->held + n, g->n_held - n);
    g->n_held -= n;
    return more;
}

/* First place where a stop string stands, or n_held. */
static size_t find_stop(const struct generation *g)
{
    for (size_t at = 0; at < g->n_held; at++)
        for (size_t i = 0; i < g->params->n_stop; i++) {
            size_t length = strlen(g->params->stop[i]);
            if (length <= g->n_held - at && memcmp(g->held + at, g->params->stop[i], length) == 0)
                return at;
        }
    return g->n_held;
}

/* Length of the longest end of the held text with which a stop string begins. */
static size_t open_suffix(const struct generation *g)
{
    size_t longest = 0;
    for (size_t i = 0; i < g->params->n_stop; i++) {
        size_t length = strlen(g->params->stop[i]) - 1;
        if (length > g->n_held)
            length = g->n_held;
        while (length > longest && memcmp(g->held + g->n_held - length, g->params->stop[i], length) != 0)
            length--;
        longest = length > longest ? length : longest;
    }
    return longest;
}

/* Takes the text of a token. *stopped says that the generation ends and why. */
static enum quern_status take_text(struct generation *g, const char *text, size_t n, int32_t token,
                                   bool *stopped, enum quern_stop_reason *reason, struct quern_error *err)
{
    *stopped = false;
    if (!qn_grow(g->cb, &g->held, &g->cap, g->n_held + n, 1))
        return qn_fail_memory(err, "the text of a generation");
    if (n > 0)
        memcpy(g->held + g->n_held, text, n);
    g->n_held += n;
    size_t stop = find_stop(g);
    if (stop < g->n_held) {
        g->n_held = stop;
        *stopped = true;
        *reason = QUERN_STOP_STRING;
        pass_on(g, stop, token);
        return QUERN_OK;
    }
    if (!pass_on(g, g->n_held - open_suffix(g), token)) {
        *stopped = true;
        *reason = QUERN_STOP_CALLER;
    }
    return QUERN_OK;
}

/* At the end: what the decoder and we still hold is text after all, unless it completes a stop string. */
static void flush_text(struct generation *g, enum quern_stop_reason *reason)
{
    const char *text;
    size_t n;
    bool stopped;
    quern_decoder_flush(g->decoder, &text, &n);
    if (take_text(g, text, n, -1, &stopped, reason, NULL) == QUERN_OK && !stopped)
        pass_on(g, g->n_held, -1);
}

/* ---- the loop ---- */

static enum quern_status check(struct quern_session *session, const struct quern_generate_params *params,
                               struct quern_error *err)
{
    if (!params || !params->sampler)
        return qn_fail(err, QUERN_ERR_PARAM, "generate: there is no sampler");
    for (size_t i = 0; i < params->n_stop; i++)
        if (!params->stop[i] || params->stop[i][0] == '\0')
            return qn_fail(err, QUERN_ERR_PARAM, "generate: stop string %zu is empty", i);
    size_t n_best;
    quern_session_best(session, &n_best);
    if (quern_session_n_logits(session) == 0 && n_best == 0)
        return qn_fail(err, QUERN_ERR_PARAM, "generate: no token of the sequence has been evaluated");
    return QUERN_OK;
}

/* Evaluates the last token once more where the candidates that there are do not serve this sampler. */
static enum quern_status have_enough(struct quern_session *session,
                                     const struct quern_generate_params *params, struct quern_error *err)
{
    size_t n_best, length = quern_session_length(session, params->seq);
    quern_session_best(session, &n_best);
    uint32_t need = quern_sampler_n_best(params->sampler);
    if (quern_session_n_logits(session) > 0 || (need > 0 && need <= n_best) || length == 0)
        return QUERN_OK;
    int32_t token = quern_session_tokens(session, params->seq)[length - 1];
    enum quern_status status = quern_session_truncate(session, params->seq, length - 1, err);
    return status ? status : quern_session_feed(session, params->seq, &token, 1, err);
}

static enum quern_status draw(struct quern_session *session, struct quern_sampler *sampler, int32_t *token,
                              struct quern_error *err)
{
    size_t n_best, n_rows = quern_session_n_logits(session);
    const struct quern_candidate *best = quern_session_best(session, &n_best);
    if (best)
        return quern_sampler_draw_best(sampler, best, n_best, token, err);
    return quern_sampler_draw(sampler, quern_session_logits(session, n_rows - 1), token, err);
}

/* more: it is not the last token. */
static enum quern_status feed(struct quern_session *session, const struct quern_generate_params *params,
                              int32_t token, bool more, struct quern_error *err)
{
    uint32_t n_best = quern_sampler_n_best(params->sampler);
    if (n_best == 1 && more)
        return quern_session_feed_greedy(session, params->seq, &token, 1, err);
    return n_best > 0 ? quern_session_feed_best(session, params->seq, &token, 1, n_best, err)
                      : quern_session_feed(session, params->seq, &token, 1, err);
}

static enum quern_status generation_init(struct generation *g, struct quern_session *session,
                                         const struct quern_generate_params *params, struct quern_error *err)
{
    enum { TOKEN_ROOM = 1024 };
    const struct quern_vocab *vocab = quern_model_vocab(qn_session_model(session));
    *g = (struct generation){.cb = qn_session_callbacks(session), .params = params};
    size_t longest = 0;
    for (size_t i = 0; i < params->n_stop; i++)
        longest = strlen(params->stop[i]) > longest ? strlen(params->stop[i]) : longest;
    if (!qn_grow(g->cb, &g->held, &g->cap, longest + TOKEN_ROOM, 1))
        return qn_fail_memory(err, "the text of a generation");
    enum quern_status status = quern_decoder_create(&g->decoder, vocab, params->show_control, err);
    if (status != QUERN_OK)
        return status;
    qn_decoder_continue(g->decoder, quern_session_tokens(session, params->seq),
                        quern_session_length(session, params->seq));
    return QUERN_OK;
}

static void generation_finish(struct generation *g)
{
    quern_decoder_destroy(&g->decoder);
    qn_free(g->cb, g->held);
}

/* One round. *done: the generation ends with result->reason. */
static enum quern_status round_of(struct generation *g, struct quern_session *session,
                                  struct quern_generate_result *result, bool *done, struct quern_error *err)
{
    const struct quern_generate_params *params = g->params;
    const struct quern_vocab *vocab = quern_model_vocab(qn_session_model(session));
    *done = true;
    int32_t token;
    uint64_t begin = qn_now_ns();
    enum quern_status status = draw(session, params->sampler, &token, err);
    result->sample_ns += qn_now_ns() - begin;
    if (status != QUERN_OK)
        return status;
    quern_sampler_accept(params->sampler, token);
    if (!params->ignore_end && quern_vocab_is_end(vocab, token)) {
        result->reason = QUERN_STOP_END;
        return QUERN_OK;
    }
    result->n_tokens++;

    const char *text;
    size_t n;
    bool stopped;
    status = quern_decoder_put(g->decoder, token, &text, &n, err);
    if (status == QUERN_OK)
        status = take_text(g, text, n, token, &stopped, &result->reason, err);
    if (status != QUERN_OK || stopped)
        return status;

    bool enough = params->max_tokens >= 0 && result->n_tokens >= (uint64_t)params->max_tokens;
    begin = qn_now_ns();
    status = feed(session, params, token, !enough, err);
    result->decode_ns += qn_now_ns() - begin;
    if (status == QUERN_ERR_CONTEXT) {
        result->reason = enough ? QUERN_STOP_LENGTH : QUERN_STOP_CONTEXT;
        return QUERN_OK;
    }
    *done = status != QUERN_OK || enough;
    return status;
}

enum quern_status quern_generate(struct quern_session *session, const struct quern_generate_params *params,
                                 struct quern_generate_result *result, struct quern_error *err)
{
    struct quern_generate_result own;
    if (!result)
        result = &own;
    *result = (struct quern_generate_result){.reason = QUERN_STOP_LENGTH};
    enum quern_status status = check(session, params, err);
    if (status != QUERN_OK)
        return status;
    struct generation g;
    status = have_enough(session, params, err);
    if (status != QUERN_OK)
        return status;
    status = generation_init(&g, session, params, err);
    bool done = params->max_tokens == 0;
    while (status == QUERN_OK && !done)
        status = qn_cancelled(g.cb) ? qn_fail(err, QUERN_ERR_CANCELLED, "cancelled")
                                    : round_of(&g, session, result, &done, err);
    /* Text so far is text, also where the generation failed or was cancelled. */
    if (g.decoder && result->reason != QUERN_STOP_STRING && result->reason != QUERN_STOP_CALLER)
        flush_text(&g, &result->reason);
    generation_finish(&g);
    return status;
}
