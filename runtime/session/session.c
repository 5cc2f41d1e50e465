/* The life of sequences: feeding, chunks, prefix reuse, forks, a full context, and starting over after a
 * fault. */
#include "session/session.h"

#include "session/ahead.h"
#include "session/lay_out.h"
#include "session/step.h"

#include "base/clock.h"

#include <string.h>

/* ---- making and ending ---- */

static enum quern_status check_params(const struct quern_model *model,
                                      const struct quern_session_params *params, struct quern_error *err)
{
    if (params->n_seqs < 1 || params->n_seqs > 256)
        return qn_fail(err, QUERN_ERR_PARAM, "n_seqs is %u, expected 1 to 256", params->n_seqs);
    if (params->n_batch < 1 || params->n_batch > QN_MAX_BUCKET)
        return qn_fail(err, QUERN_ERR_PARAM, "n_batch is %u, expected 1 to %d", params->n_batch,
                       QN_MAX_BUCKET);
    if (params->n_ctx > model->facts.n_ctx)
        return qn_fail(err, QUERN_ERR_PARAM, "n_ctx is %u, the model was opened for at most %u",
                       params->n_ctx, model->facts.n_ctx);
    if (params->n_keep >= (params->n_ctx ? params->n_ctx : model->facts.n_ctx))
        return qn_fail(err, QUERN_ERR_PARAM, "n_keep is %u, expected less than the context", params->n_keep);
    return QUERN_OK;
}

static enum quern_status alloc_sequences(struct quern_session *s, struct quern_error *err)
{
    s->seqs = qn_zalloc(&s->cb, s->n_seqs, sizeof *s->seqs);
    if (!s->seqs)
        return qn_fail_memory(err, "a session");
    for (size_t i = 0; i < QN_LEN(s->flights); i++) {
        s->flights[i].seqs = qn_zalloc(&s->cb, s->n_seqs, sizeof *s->flights[i].seqs);
        s->flights[i].step = qn_zalloc(&s->cb, qn_step_bytes(s->n_batch, s->n_seqs, s->max_pages), 1);
        if (!s->flights[i].seqs || !s->flights[i].step)
            return qn_fail_memory(err, "a session");
    }
    for (uint32_t i = 0; i < s->n_seqs; i++) {
        struct qn_sequence *seq = &s->seqs[i];
        seq->tokens = qn_alloc(&s->cb, s->n_ctx, sizeof *seq->tokens);
        if (!seq->tokens)
            return qn_fail_memory(err, "a session");
        for (uint32_t g = 0; g < QUERN_MAX_KV_GROUPS; g++) {
            seq->pages[g] = qn_alloc(&s->cb, s->max_pages, sizeof *seq->pages[g]);
            if (!seq->pages[g])
                return qn_fail_memory(err, "a session");
            memset(seq->pages[g], 0xff, s->max_pages * sizeof *seq->pages[g]);
        }
    }
    return QUERN_OK;
}

static enum quern_status grow_logits(struct quern_session *s, size_t n, struct quern_error *err)
{
    if (n <= s->cap_logits)
        return QUERN_OK;
    float *logits = n > SIZE_MAX / s->model->facts.n_vocab
                        ? NULL
                        : qn_alloc(&s->cb, n * s->model->facts.n_vocab, sizeof *logits);
    if (!logits)
        return qn_fail_memory(err, "logits");
    qn_free(&s->cb, s->logits);
    s->logits = logits;
    s->cap_logits = n;
    return QUERN_OK;
}

/* With the model's lock held: follows the model to its present devices and placement. Keys and values that
 * were made for another one are given up; the sequences keep their tokens. */
static enum quern_status follow_model(struct quern_session *s, struct quern_error *err)
{
    if (s->variant && s->generation == s->model->generation)
        return QUERN_OK;
    struct qn_variant *variant;
    enum quern_status status = qn_model_variant(s->model, s->k_format, s->v_format,
                                                (struct qn_kv_size){s->n_seqs, s->n_ctx}, &variant, err);
    if (status)
        return status;
    qn_ahead_drop(s);
    if (s->variant)
        qn_kv_finish(&s->kv);
    qn_kv_init(&s->kv, &s->cb, &variant->kv, s->model->plan_devices, s->model->n_devices);
    s->variant = variant;
    s->generation = s->model->generation;
    for (uint32_t i = 0; i < s->n_seqs; i++) {
        s->seqs[i].kv_len = 0;
        memset(s->seqs[i].held, 0, sizeof s->seqs[i].held);
        for (uint32_t g = 0; g < QUERN_MAX_KV_GROUPS; g++)
            memset(s->seqs[i].pages[g], 0xff, s->max_pages * sizeof *s->seqs[i].pages[g]);
    }
    return QUERN_OK;
}

enum quern_status quern_session_create(struct quern_session **out, struct quern_model *model,
                                       const struct quern_session_params *params, struct quern_error *err)
{
    *out = NULL;
    const struct quern_session_params defaults = *quern_session_params();
    if (!params)
        params = &defaults;
    enum quern_status status = check_params(model, params, err);
    if (status)
        return status;
    struct quern_session *s = qn_zalloc(&model->cb, 1, sizeof *s);
    if (!s)
        return qn_fail_memory(err, "a session");
    s->model = model;
    s->cb = model->cb;
    s->n_ctx = params->n_ctx ? params->n_ctx : model->facts.n_ctx;
    s->n_seqs = params->n_seqs;
    s->n_batch = params->n_batch;
    s->max_pages = (s->n_ctx + QN_PAGE_TOKENS - 1) / QN_PAGE_TOKENS;
    s->k_format = params->kv_k;
    s->v_format = params->kv_v;
    s->overflow = params->overflow;
    s->n_keep = params->n_keep;
    s->trace = params->trace;
    status = alloc_sequences(s, err);
    if (!status)
        status = grow_logits(s, s->n_seqs, err);
    if (!status && s->trace) {
        s->times = qn_alloc(&s->cb, model->graph.view.n_nodes, sizeof *s->times);
        if (!s->times)
            status = qn_fail_memory(err, "a session");
    }
    if (!status) {
        qn_mutex_lock(&model->lock);
        status = follow_model(s, err);
        qn_mutex_unlock(&model->lock);
    }
    if (status)
        quern_session_destroy(&s);
    *out = s;
    return status;
}

void quern_session_destroy(struct quern_session **out)
{
    struct quern_session *s = *out;
    if (!s)
        return;
    struct quern_callbacks cb = s->cb;
    if (s->variant) {
        qn_mutex_lock(&s->model->lock);
        qn_ahead_finish(s);
        qn_kv_finish(&s->kv);
        qn_mutex_unlock(&s->model->lock);
    }
    for (uint32_t i = 0; s->seqs && i < s->n_seqs; i++) {
        qn_free(&cb, s->seqs[i].tokens);
        for (uint32_t g = 0; g < QUERN_MAX_KV_GROUPS; g++)
            qn_free(&cb, s->seqs[i].pages[g]);
    }
    qn_free(&cb, s->seqs);
    for (size_t i = 0; i < QN_LEN(s->flights); i++) {
        qn_free(&cb, s->flights[i].seqs);
        qn_free(&cb, s->flights[i].step);
    }
    qn_free(&cb, s->logits);
    qn_free(&cb, s->times);
    qn_free(&cb, s);
    *out = NULL;
}

/* ---- evaluating ---- */

_Static_assert(QUERN_MAX_BEST == QUERN_MAX_SELECT, "a session takes as many as a device selects");

/* Tokens to append: items, or the tokens of one sequence of which the last one's logits are wanted. */
struct feed {
    const struct quern_item *items; /* NULL: tokens */
    const int32_t *tokens;
    uint32_t seq;
    size_t n;
    uint32_t n_best; /* candidates of the last one that are wanted in place of its logits; 0: the logits */
    bool ahead;      /* the best is likely to be fed next */
};

static struct quern_item item_at(const struct feed *feed, size_t i)
{
    if (feed->items)
        return feed->items[i];
    return (struct quern_item){.token = feed->tokens[i], .seq = feed->seq, .logits = i + 1 == feed->n};
}

/* Most tokens of a step. */
static uint32_t step_tokens(const struct quern_session *s)
{
    return s->n_batch < s->variant->max_tokens ? s->n_batch : s->variant->max_tokens;
}

/* With the lock held: evaluates what a sequence misses in the KV cache, without logits. */
static enum quern_status catch_up(struct quern_session *s, uint32_t seq_index, uint32_t *failed,
                                  struct quern_error *err)
{
    struct qn_sequence *seq = &s->seqs[seq_index];
    while (seq->kv_len < seq->len) {
        uint32_t most = step_tokens(s), left = seq->len - seq->kv_len, n = left < most ? left : most;
        struct qn_flight *flight = qn_step_begin(s, 0);
        for (uint32_t i = 0; i < n; i++)
            qn_step_push(s, flight, seq_index, seq->tokens[seq->kv_len + i], false);
        enum quern_status status = qn_step_start(s, flight, failed, err);
        if (!status)
            status = qn_step_finish(s, flight, failed, err);
        if (status)
            return status;
        if (qn_cancelled(&s->cb))
            return qn_fail(err, QUERN_ERR_CANCELLED, "cancelled");
    }
    return QUERN_OK;
}

/* How many of the items from `at` make one step. */
static size_t chunk_size(const struct quern_session *s, const struct feed *feed, size_t at)
{
    size_t n = 0, n_outputs = 0;
    while (at + n < feed->n && n < step_tokens(s)) {
        n_outputs += item_at(feed, at + n).logits;
        if (n_outputs > s->model->max_outputs)
            break;
        n++;
    }
    return n;
}

/* Starts the step of the items at .. at + n. */
static enum quern_status start_items(struct quern_session *s, const struct feed *feed, size_t at, size_t n,
                                     struct qn_flight **flight, uint32_t *failed, struct quern_error *err)
{
    bool last = at + n == feed->n;
    for (size_t i = at; i < at + n; i++) {
        enum quern_status status = catch_up(s, item_at(feed, i).seq, failed, err);
        if (status)
            return status;
    }
    *flight = qn_step_begin(s, last ? feed->n_best : 0);
    for (size_t i = at; i < at + n; i++) {
        struct quern_item item = item_at(feed, i);
        struct qn_sequence *seq = &s->seqs[item.seq];
        seq->tokens[seq->len + seq->pending] = item.token;
        qn_step_push(s, *flight, item.seq, item.token, item.logits);
    }
    if (last && n == 1 && feed->ahead)
        qn_ahead_prepare(s, *flight);
    return qn_step_start(s, *flight, failed, err);
}

/* One attempt at a chunk of the items from `at`, whose tokens are the next of their sequences. *done: how
 * many. */
static enum quern_status try_chunk(struct quern_session *s, const struct feed *feed, size_t at, size_t *done,
                                   uint32_t *failed, struct quern_error *err)
{
    *failed = QUERN_NONE;
    enum quern_status status = follow_model(s, err);
    if (status)
        return status;
    const size_t n = chunk_size(s, feed, at);
    qn_lay_out_before_step(s->model, (uint32_t)n);
    const uint64_t begin = qn_now_ns();
    struct qn_flight *flight = NULL;
    if (feed->n == 1 && feed->n_best == 1)
        flight = qn_ahead_take(s, feed->seq, feed->tokens[0]);
    else
        qn_ahead_drop(s);
    if (flight)
        s->seqs[feed->seq].tokens[s->seqs[feed->seq].len] = feed->tokens[0];
    else
        status = start_items(s, feed, at, n, &flight, failed, err);
    if (!status && feed->ahead && at + n == feed->n)
        qn_ahead_start(s, feed->seq, flight);
    if (!status)
        status = qn_step_finish(s, flight, failed, err);
    if (status) {
        qn_ahead_drop(s);
        return status;
    }
    for (size_t i = at; i < at + n; i++)
        s->seqs[item_at(feed, i).seq].len++;
    qn_lay_out_after_step(s->model, (uint32_t)n, qn_now_ns() - begin);
    *done = n;
    return QUERN_OK;
}

/* A chunk, on other devices if one fails. */
static enum quern_status run_chunk(struct quern_session *s, const struct feed *feed, size_t at, size_t *done,
                                   struct quern_error *err)
{
    atomic_fetch_add(&s->model->n_waiting, 1);
    qn_mutex_lock(&s->model->lock);
    atomic_fetch_sub(&s->model->n_waiting, 1);
    enum quern_status status;
    struct quern_error detail = {0};
    do {
        uint32_t failed;
        status = try_chunk(s, feed, at, done, &failed, &detail);
        if (!status || failed == QUERN_NONE || !qn_model_drop_device(s->model, failed, status, detail.text))
            break;
    } while (true);
    qn_mutex_unlock(&s->model->lock);
    if (status && err)
        *err = detail;
    return status;
}

/* ---- a full context ---- */

static uint32_t kept_by_shift(const struct quern_session *s, const struct qn_sequence *seq)
{
    return s->n_keep < seq->len ? s->n_keep : seq->len;
}

/* Whether a sequence has room for its pending tokens, or will have after a shift. */
static enum quern_status check_room(const struct quern_session *s, const struct qn_sequence *seq,
                                    struct quern_error *err)
{
    if (seq->len + (size_t)seq->pending <= s->n_ctx)
        return QUERN_OK;
    if (s->overflow == QUERN_OVERFLOW_ERROR)
        return qn_fail(err, QUERN_ERR_CONTEXT,
                       "the context is full: %u tokens are in it, %u more do not fit into %u", seq->len,
                       seq->pending, s->n_ctx);
    uint32_t keep = kept_by_shift(s, seq);
    if (seq->pending > s->n_ctx - keep)
        return qn_fail(err, QUERN_ERR_CONTEXT,
                       "%u tokens do not fit into a context of %u of which %u are kept", seq->pending,
                       s->n_ctx, keep);
    return QUERN_OK;
}

/* Forgets the older half of what follows the first n_keep tokens, or as much as the pending ones need. */
static void shift(struct quern_session *s, struct qn_sequence *seq)
{
    uint32_t keep = kept_by_shift(s, seq);
    uint32_t drop = (seq->len - keep) / 2;
    uint32_t least = (uint32_t)(seq->len + (size_t)seq->pending - s->n_ctx);
    if (drop < least)
        drop = least;
    memmove(seq->tokens + keep, seq->tokens + keep + drop, (seq->len - keep - drop) * sizeof *seq->tokens);
    seq->len -= drop;
    seq->kv_len = 0; /* positions changed; evaluated again when used */
    qn_sequence_cut(s, seq, 0);
}

static enum quern_status check_token(const struct quern_session *s, int32_t token, struct quern_error *err)
{
    if (token >= 0 && (uint32_t)token < s->model->facts.n_vocab)
        return QUERN_OK;
    return qn_fail(err, QUERN_ERR_PARAM, "token %d, expected 0 to %u", token, s->model->facts.n_vocab - 1);
}

/* Checks tokens and room before anything is touched. */
static enum quern_status check_feed(struct quern_session *s, const struct feed *feed, size_t *n_rows,
                                    struct quern_error *err)
{
    *n_rows = 0;
    for (uint32_t i = 0; i < s->n_seqs; i++)
        s->seqs[i].pending = 0;
    for (size_t i = 0; i < feed->n; i++) {
        struct quern_item item = item_at(feed, i);
        if (item.seq >= s->n_seqs)
            return qn_fail(err, QUERN_ERR_PARAM, "sequence %u, expected below %u", item.seq, s->n_seqs);
        enum quern_status status = check_token(s, item.token, err);
        if (status)
            return status;
        s->seqs[item.seq].pending++;
        *n_rows += item.logits && feed->n_best == 0;
    }
    enum quern_status status = QUERN_OK;
    for (uint32_t i = 0; i < s->n_seqs && !status; i++)
        status = check_room(s, &s->seqs[i], err);
    return status;
}

static void shift_full(struct quern_session *s)
{
    for (uint32_t i = 0; i < s->n_seqs; i++)
        if (s->seqs[i].len + (size_t)s->seqs[i].pending > s->n_ctx)
            shift(s, &s->seqs[i]);
}

/* Back to n tokens. What a sliding window has lost by then is evaluated again when used. */
static void cut_tokens(struct quern_session *s, struct qn_sequence *seq, uint32_t n)
{
    seq->len = n;
    if (seq->kv_len > n)
        seq->kv_len = n;
    for (uint32_t g = 0; g < s->variant->kv.n_groups; g++) {
        uint32_t window = s->variant->kv.window[g];
        uint32_t first =
            window > 0 && seq->kv_len + 1 > window ? (seq->kv_len + 1 - window) / QN_PAGE_TOKENS : 0;
        if (seq->kv_len > 0 && seq->pages[g][first] == QUERN_NONE)
            seq->kv_len = 0;
    }
    qn_sequence_cut(s, seq, seq->kv_len);
}

static enum quern_status eval(struct quern_session *s, const struct feed *feed, struct quern_error *err)
{
    size_t n_rows;
    enum quern_status status = check_feed(s, feed, &n_rows, err);
    if (!status)
        status = grow_logits(s, n_rows, err);
    if (status)
        return status;
    shift_full(s);
    s->n_logits = s->n_best = 0;
    size_t done = 0;
    while (done < feed->n && !status) {
        size_t n = 0;
        status = run_chunk(s, feed, done, &n, err);
        done += n;
        if (!status && done < feed->n) {
            qn_progress(&s->cb, "evaluate", done, feed->n);
            if (qn_cancelled(&s->cb))
                status = qn_fail(err, QUERN_ERR_CANCELLED, "cancelled");
        }
    }
    if (status) { /* nothing of this call remains */
        s->n_logits = s->n_best = 0;
        while (done-- > 0) {
            struct qn_sequence *seq = &s->seqs[item_at(feed, done).seq];
            cut_tokens(s, seq, seq->len - 1);
        }
    }
    return status;
}

enum quern_status quern_session_eval(struct quern_session *s, const struct quern_item *items, size_t n,
                                     struct quern_error *err)
{
    return eval(s, &(struct feed){.items = items, .n = n}, err);
}

enum quern_status quern_session_feed(struct quern_session *s, uint32_t seq, const int32_t *tokens, size_t n,
                                     struct quern_error *err)
{
    return eval(s, &(struct feed){.tokens = tokens, .seq = seq, .n = n}, err);
}

enum quern_status quern_session_feed_best(struct quern_session *s, uint32_t seq, const int32_t *tokens,
                                          size_t n, uint32_t n_best, struct quern_error *err)
{
    if (n_best == 0 || n_best > QUERN_MAX_BEST || n_best > s->model->facts.n_vocab)
        return qn_fail(err, QUERN_ERR_PARAM, "the best %u logits, expected 1 to %u of a vocabulary of %u",
                       n_best, QUERN_MAX_BEST, s->model->facts.n_vocab);
    return eval(s, &(struct feed){.tokens = tokens, .seq = seq, .n = n, .n_best = n_best}, err);
}

enum quern_status quern_session_feed_greedy(struct quern_session *s, uint32_t seq, const int32_t *tokens,
                                            size_t n, struct quern_error *err)
{
    return eval(s, &(struct feed){.tokens = tokens, .seq = seq, .n = n, .n_best = 1, .ahead = true}, err);
}

/* ---- sequences ---- */

static enum quern_status check_seq(const struct quern_session *s, uint32_t seq, struct quern_error *err)
{
    return seq < s->n_seqs ? QUERN_OK
                           : qn_fail(err, QUERN_ERR_PARAM, "sequence %u, expected below %u", seq, s->n_seqs);
}

enum quern_status quern_session_truncate(struct quern_session *s, uint32_t seq, size_t n,
                                         struct quern_error *err)
{
    enum quern_status status = check_seq(s, seq, err);
    if (!status && n < s->seqs[seq].len)
        cut_tokens(s, &s->seqs[seq], (uint32_t)n);
    return status;
}

enum quern_status quern_session_fork(struct quern_session *s, uint32_t dst, uint32_t src,
                                     struct quern_error *err)
{
    enum quern_status status = check_seq(s, dst, err);
    if (!status)
        status = check_seq(s, src, err);
    if (status || dst == src)
        return status;
    struct qn_sequence *to = &s->seqs[dst];
    const struct qn_sequence *from = &s->seqs[src];
    qn_sequence_cut(s, to, 0);
    memcpy(to->tokens, from->tokens, from->len * sizeof *to->tokens);
    to->len = from->len;
    to->kv_len = from->kv_len;
    memcpy(to->held, from->held, sizeof to->held);
    uint32_t n_pages = (from->kv_len + QN_PAGE_TOKENS - 1) / QN_PAGE_TOKENS;
    for (uint32_t g = 0; g < s->variant->kv.n_groups; g++)
        for (uint32_t p = 0; p < n_pages; p++) {
            to->pages[g][p] = from->pages[g][p];
            if (to->pages[g][p] != QUERN_NONE)
                qn_kv_share(&s->kv, g, to->pages[g][p]);
        }
    return QUERN_OK;
}

static size_t common_prefix(const struct qn_sequence *seq, const int32_t *tokens, size_t n)
{
    size_t i = 0;
    while (i < n && i < seq->kv_len && seq->tokens[i] == tokens[i])
        i++;
    return i;
}

enum quern_status quern_session_prompt(struct quern_session *s, uint32_t seq_index, const int32_t *tokens,
                                       size_t n, size_t *n_reused, struct quern_error *err)
{
    enum quern_status status = check_seq(s, seq_index, err);
    if (!status && n == 0)
        status = qn_fail(err, QUERN_ERR_PARAM, "a prompt of no tokens");
    if (!status && n > s->n_ctx)
        status = qn_fail(err, QUERN_ERR_CONTEXT, "a prompt of %zu tokens does not fit into a context of %u",
                         n, s->n_ctx);
    for (size_t i = 0; i < n && !status; i++)
        status = check_token(s, tokens[i], err);
    if (status)
        return status;
    struct qn_sequence *seq = &s->seqs[seq_index];
    uint32_t best = seq_index;
    size_t longest = common_prefix(seq, tokens, n);
    for (uint32_t i = 0; i < s->n_seqs; i++)
        if (common_prefix(&s->seqs[i], tokens, n) > longest) {
            longest = common_prefix(&s->seqs[i], tokens, n);
            best = i;
        }
    if (longest == n) /* the last token's logits are not kept: evaluate it again */
        longest--;
    if (best != seq_index)
        status = quern_session_fork(s, seq_index, best, err);
    if (status)
        return status;
    cut_tokens(s, seq, (uint32_t)longest);
    if (n_reused)
        *n_reused = seq->kv_len;
    return quern_session_feed(s, seq_index, tokens + longest, n - longest, err);
}

/* ---- reading ---- */

size_t quern_session_n_logits(const struct quern_session *s)
{
    return s->n_logits;
}

const float *quern_session_logits(const struct quern_session *s, size_t row)
{
    return row < s->n_logits ? s->logits + row * s->model->facts.n_vocab : NULL;
}

const struct quern_candidate *quern_session_best(const struct quern_session *s, size_t *n)
{
    *n = s->n_best;
    return s->n_best > 0 ? s->best : NULL;
}

size_t quern_session_length(const struct quern_session *s, uint32_t seq)
{
    return seq < s->n_seqs ? s->seqs[seq].len : 0;
}

uint32_t quern_session_n_ctx(const struct quern_session *s)
{
    return s->n_ctx;
}

const int32_t *quern_session_tokens(const struct quern_session *s, uint32_t seq)
{
    return seq < s->n_seqs ? s->seqs[seq].tokens : NULL;
}

struct quern_model *qn_session_model(const struct quern_session *s)
{
    return s->model;
}

const struct quern_callbacks *qn_session_callbacks(const struct quern_session *s)
{
    return &s->cb;
}
