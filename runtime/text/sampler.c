/* Chooses the next token from a row of logits: biases, penalties, then top-k, top-p, min-p, temperature, and
 * a draw. All buffers are made at creation. Nothing here depends on the C library's arithmetic: the same seed
 * gives the same tokens on every platform. */
#include "base/host.h"
#include <quern/session.h>

#include <float.h>
#include <math.h>
#include <string.h>

#define MAX_PENALTY 1e9f

struct quern_sampler {
    struct quern_callbacks cb;
    struct quern_sampler_params params; /* bias points to our copy */
    uint32_t n_vocab;

    uint64_t start, draws; /* random numbers: a hash of a counter */

    float *work;                        /* [n_vocab] logits with biases and penalties */
    struct quern_candidate *candidates; /* [n_vocab] */
    double *weights;                    /* [n_vocab] */
    struct quern_logit_bias *bias;

    int32_t *history; /* [penalty_last_n], a ring; NULL without penalties */
    uint32_t n_history, next;
    uint32_t *counts; /* [n_vocab] in the history */
    uint32_t *newest; /* [n_vocab] place in the ring of the token's last occurrence */

    struct quern_candidate *best; /* [n_probs] */
    struct quern_prob *probs;
    uint32_t n_probs;
};

/* ---- numbers ---- */

/* A bijection on 64 bits that spreads every bit (the finaliser of SplitMix64, doi 10.1145/2660193.2660195).
 */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

/* In [0, 1). */
static double next_random(struct quern_sampler *s)
{
    uint64_t bits = mix(s->start + ++s->draws * 0x9E3779B97F4A7C15u);
    return (double)(bits >> 11) * 0x1p-53;
}

/* e^x for x <= 0 from additions and multiplications alone: x = k ln 2 + r, and the series for r. 0 where all
 * logits are -inf and x, their distance, is no number. */
static double exp_negative(double x)
{
    if (!(x >= -700.0))
        return 0.0;
    int k = (int)(x * 1.4426950408889634 - 0.5);
    double r = (x - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10;
    double sum = 1.0;
    for (int i = 13; i > 0; i--)
        sum = 1.0 + r * sum / i;
    return ldexp(sum, k);
}

/* ---- order: higher logits first, equal ones by id ---- */

static bool before(struct quern_candidate a, struct quern_candidate b)
{
    return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

/* Restores a heap of n candidates below place i. The root comes first when `best_first`, else last. */
static void sift(struct quern_candidate *heap, size_t n, size_t i, bool best_first)
{
    struct quern_candidate moved = heap[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= n)
            break;
        if (child + 1 < n && before(heap[child + 1], heap[child]) == best_first)
            child++;
        if (before(heap[child], moved) != best_first)
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = moved;
}

static void make_heap(struct quern_candidate *heap, size_t n, bool best_first)
{
    for (size_t i = n / 2; i-- > 0;)
        sift(heap, n, i, best_first);
}

/* Takes the root away and puts it behind the heap, which has n - 1 candidates then. */
static struct quern_candidate pop(struct quern_candidate *heap, size_t n, bool best_first)
{
    struct quern_candidate root = heap[0];
    heap[0] = heap[n - 1];
    heap[n - 1] = root;
    if (n > 1)
        sift(heap, n - 1, 0, best_first);
    return root;
}

/* The k best of n logits that are above -inf, best first; returns how many there are. */
static size_t select_best(const float *logits, uint32_t n, struct quern_candidate *out, size_t k)
{
    size_t kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct quern_candidate c = {(int32_t)i, logits[i]};
        if (c.logit == -INFINITY)
            continue;
        if (kept < k) {
            out[kept++] = c;
            if (kept == k)
                make_heap(out, k, false);
        } else if (before(c, out[0])) {
            out[0] = c;
            sift(out, k, 0, false);
        }
    }
    if (kept < k)
        make_heap(out, kept, false);
    for (size_t left = kept; left > 1; left--)
        pop(out, left, false);
    return kept;
}

/* ---- life ---- */

static enum quern_status check_params(const struct quern_sampler_params *p, uint32_t n_vocab,
                                      struct quern_error *err)
{
    if (n_vocab == 0 || n_vocab > INT32_MAX)
        return qn_fail(err, QUERN_ERR_PARAM, "sampler: a vocabulary of %u tokens", n_vocab);
    if (!(p->temperature >= 0 && p->temperature < INFINITY))
        return qn_fail(err, QUERN_ERR_PARAM, "sampler: temperature %g is not 0 or more", p->temperature);
    if (!(p->top_p >= 0 && p->top_p <= 1))
        return qn_fail(err, QUERN_ERR_PARAM, "sampler: top-p %g is not within 0 and 1", p->top_p);
    if (!(p->min_p >= 0 && p->min_p <= 1))
        return qn_fail(err, QUERN_ERR_PARAM, "sampler: min-p %g is not within 0 and 1", p->min_p);
    if (!(p->repeat_penalty > 0 && p->repeat_penalty < INFINITY))
        return qn_fail(err, QUERN_ERR_PARAM, "sampler: repeat penalty %g is not above 0", p->repeat_penalty);
    if (!(fabsf(p->presence_penalty) <= MAX_PENALTY && fabsf(p->frequency_penalty) <= MAX_PENALTY))
        return qn_fail(err, QUERN_ERR_PARAM, "sampler: presence penalty %g or frequency penalty %g is no use",
                       p->presence_penalty, p->frequency_penalty);
    for (size_t i = 0; i < p->n_bias; i++) {
        if (p->bias[i].token < 0 || (uint32_t)p->bias[i].token >= n_vocab)
            return qn_fail(err, QUERN_ERR_PARAM, "sampler: a bias for token %d, the vocabulary has %u",
                           p->bias[i].token, n_vocab);
        if (!(p->bias[i].bias < INFINITY))
            return qn_fail(err, QUERN_ERR_PARAM, "sampler: the bias of token %d is %g", p->bias[i].token,
                           p->bias[i].bias);
    }
    return QUERN_OK;
}

static bool has_penalties(const struct quern_sampler_params *p)
{
    return p->penalty_last_n > 0 &&
           (p->repeat_penalty != 1 || p->presence_penalty != 0 || p->frequency_penalty != 0);
}

static bool make_buffers(struct quern_sampler *s)
{
    const struct quern_callbacks *cb = &s->cb;
    s->work = qn_alloc(cb, s->n_vocab, sizeof *s->work);
    if (!s->work)
        return false;
    if (s->params.temperature > 0) {
        s->candidates = qn_alloc(cb, s->n_vocab, sizeof *s->candidates);
        s->weights = qn_alloc(cb, s->n_vocab, sizeof *s->weights);
        if (!s->candidates || !s->weights)
            return false;
    }
    if (s->params.n_bias > 0) {
        s->bias = qn_alloc(cb, s->params.n_bias, sizeof *s->bias);
        if (!s->bias)
            return false;
        memcpy(s->bias, s->params.bias, s->params.n_bias * sizeof *s->bias);
    }
    s->params.bias = s->bias;
    if (has_penalties(&s->params)) {
        s->history = qn_alloc(cb, s->params.penalty_last_n, sizeof *s->history);
        s->counts = qn_zalloc(cb, s->n_vocab, sizeof *s->counts);
        s->newest = qn_zalloc(cb, s->n_vocab, sizeof *s->newest);
        if (!s->history || !s->counts || !s->newest)
            return false;
    }
    if (s->params.n_probs > 0) {
        s->best = qn_alloc(cb, s->params.n_probs, sizeof *s->best);
        s->probs = qn_alloc(cb, s->params.n_probs, sizeof *s->probs);
        if (!s->best || !s->probs)
            return false;
    }
    return true;
}

enum quern_status quern_sampler_create(struct quern_sampler **sampler, uint32_t n_vocab,
                                       const struct quern_sampler_params *params,
                                       const struct quern_callbacks *callbacks, struct quern_error *err)
{
    *sampler = NULL;
    const struct quern_sampler_params defaults = *quern_sampler_params();
    if (!params)
        params = &defaults;
    enum quern_status status = check_params(params, n_vocab, err);
    if (status != QUERN_OK)
        return status;
    struct quern_callbacks cb = qn_callbacks_resolve(callbacks);
    struct quern_sampler *s = qn_zalloc(&cb, 1, sizeof *s);
    if (!s)
        return qn_fail_memory(err, "a sampler");
    s->cb = cb;
    s->params = *params;
    s->n_vocab = n_vocab;
    if (s->params.n_probs > n_vocab)
        s->params.n_probs = n_vocab;
    if (!make_buffers(s)) {
        quern_sampler_destroy(&s);
        return qn_fail_memory(err, "a sampler");
    }
    quern_sampler_reset(s);
    *sampler = s;
    return QUERN_OK;
}

void quern_sampler_destroy(struct quern_sampler **sampler)
{
    if (!sampler || !*sampler)
        return;
    struct quern_sampler *s = *sampler;
    struct quern_callbacks cb = s->cb;
    void *const owned[] = {s->work,   s->candidates, s->weights, s->bias, s->history,
                           s->counts, s->newest,     s->best,    s->probs};
    for (size_t i = 0; i < QN_LEN(owned); i++)
        qn_free(&cb, owned[i]);
    qn_free(&cb, s);
    *sampler = NULL;
}

void quern_sampler_reset(struct quern_sampler *s)
{
    s->start = mix(s->params.seed ^ 0x71756572u);
    s->draws = 0;
    s->n_history = s->next = s->n_probs = 0;
    if (s->counts)
        memset(s->counts, 0, s->n_vocab * sizeof *s->counts);
}

void quern_sampler_accept(struct quern_sampler *s, int32_t token)
{
    if (!s->history || token < 0 || (uint32_t)token >= s->n_vocab)
        return;
    if (s->n_history == s->params.penalty_last_n)
        s->counts[s->history[s->next]]--;
    else
        s->n_history++;
    s->history[s->next] = token;
    s->newest[token] = s->next;
    s->counts[token]++;
    s->next = (s->next + 1) % s->params.penalty_last_n;
}

/* ---- drawing ---- */

/* Copies the logits and adds what the parameters say. */
static enum quern_status prepare_logits(struct quern_sampler *s, const float *logits, struct quern_error *err)
{
    const struct quern_sampler_params *p = &s->params;
    float check = 0;
    for (uint32_t i = 0; i < s->n_vocab; i++) {
        check += logits[i] * 0.0f; /* NaN as soon as one is NaN or infinite */
        s->work[i] = logits[i];
    }
    if (check != 0) {
        uint32_t i = 0;
        while (isfinite(logits[i]))
            i++;
        return qn_fail(err, QUERN_ERR_NUMERIC, "the logit of token %u is %g, not a finite number", i,
                       (double)logits[i]);
    }
    for (size_t i = 0; i < p->n_bias; i++)
        s->work[s->bias[i].token] = fminf(s->work[s->bias[i].token] + s->bias[i].bias, FLT_MAX);
    for (uint32_t i = 0; i < s->n_history; i++) {
        int32_t token = s->history[i];
        if (s->newest[token] != i)
            continue; /* each token once */
        float *logit = &s->work[token];
        *logit = *logit > 0 ? *logit / p->repeat_penalty : *logit * p->repeat_penalty;
        *logit -= p->presence_penalty + (float)s->counts[token] * p->frequency_penalty;
        *logit = fminf(*logit, FLT_MAX);
    }
    return QUERN_OK;
}

static void keep_probs(struct quern_sampler *s, const float *logits)
{
    s->n_probs = (uint32_t)select_best(logits, s->n_vocab, s->best, s->params.n_probs);
    double sum = 0, max = s->best[0].logit;
    for (uint32_t i = 0; i < s->n_vocab; i++)
        sum += exp_negative(logits[i] - max);
    for (uint32_t i = 0; i < s->n_probs; i++)
        s->probs[i] = (struct quern_prob){.token = s->best[i].token,
                                          .logit = s->best[i].logit,
                                          .prob = (float)(exp_negative(s->best[i].logit - max) / sum)};
}

const struct quern_prob *quern_sampler_probs(const struct quern_sampler *s, size_t *n)
{
    *n = s->n_probs;
    return s->n_probs > 0 ? s->probs : NULL;
}

/* Best first, without the tokens outside of top-k, top-p and min-p. */
static size_t cut_sorted(struct quern_sampler *s, size_t n)
{
    const struct quern_candidate *c = s->candidates;
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        s->weights[i] = exp_negative((double)c[i].logit - c[0].logit);
        sum += s->weights[i];
    }
    double mass = 0;
    size_t kept = 0;
    while (kept < n && (kept == 0 || (mass < s->params.top_p * sum && s->weights[kept] >= s->params.min_p)))
        mass += s->weights[kept++];
    return kept;
}

/* The same from all tokens, sorting no more of them than are kept. */
static size_t cut_all(struct quern_sampler *s)
{
    struct quern_candidate *c = s->candidates;
    float max = -INFINITY;
    for (uint32_t i = 0; i < s->n_vocab; i++)
        max = s->work[i] > max ? s->work[i] : max;
    size_t n = 0;
    double sum = 0;
    for (uint32_t i = 0; i < s->n_vocab; i++) {
        double weight = exp_negative((double)s->work[i] - max);
        sum += weight;
        if (s->work[i] > -INFINITY && (weight >= s->params.min_p || s->work[i] == max))
            c[n++] = (struct quern_candidate){(int32_t)i, s->work[i]};
    }
    if (s->params.top_p >= 1)
        return n;
    make_heap(c, n, true);
    double mass = 0;
    size_t kept = 0;
    while (kept < n && (kept == 0 || mass < s->params.top_p * sum)) {
        mass += exp_negative((double)pop(c, n - kept, true).logit - max);
        kept++;
    }
    /* the kept ones stand at the end, best last */
    for (size_t i = 0; i < kept && i < n - 1 - i; i++) {
        struct quern_candidate moved = c[i];
        c[i] = c[n - 1 - i];
        c[n - 1 - i] = moved;
    }
    return kept;
}

static int32_t draw_from(struct quern_sampler *s, size_t n)
{
    const struct quern_candidate *c = s->candidates;
    float max = c[0].logit;
    for (size_t i = 1; i < n; i++)
        max = c[i].logit > max ? c[i].logit : max;
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        s->weights[i] = exp_negative(((double)c[i].logit - max) / s->params.temperature);
        sum += s->weights[i];
    }
    double point = next_random(s) * sum;
    size_t chosen = 0;
    for (size_t i = 0; i < n; i++) {
        if (s->weights[i] <= 0)
            continue;
        chosen = i;
        point -= s->weights[i];
        if (point < 0)
            break;
    }
    return c[chosen].token;
}

enum quern_status quern_sampler_draw(struct quern_sampler *s, const float *logits, int32_t *token,
                                     struct quern_error *err)
{
    s->n_probs = 0;
    enum quern_status status = prepare_logits(s, logits, err);
    if (status != QUERN_OK)
        return status;
    if (s->params.n_probs > 0)
        keep_probs(s, logits);
    if (s->params.temperature == 0) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < s->n_vocab; i++)
            best = s->work[i] > s->work[best] ? i : best;
        if (s->work[best] == -INFINITY)
            return qn_fail(err, QUERN_ERR_PARAM, "sampler: the biases forbid every token");
        *token = (int32_t)best;
        return QUERN_OK;
    }
    size_t n;
    if (s->params.top_k > 0 && s->params.top_k < s->n_vocab) {
        n = select_best(s->work, s->n_vocab, s->candidates, s->params.top_k);
        n = n > 0 ? cut_sorted(s, n) : 0;
    } else {
        n = cut_all(s);
    }
    if (n == 0)
        return qn_fail(err, QUERN_ERR_PARAM, "sampler: the biases forbid every token");
    *token = draw_from(s, n);
    return QUERN_OK;
}

uint32_t quern_sampler_n_best(const struct quern_sampler *s)
{
    const struct quern_sampler_params *p = &s->params;
    if (p->n_bias > 0 || s->history || p->n_probs > 0)
        return 0;
    if (p->temperature == 0)
        return 1;
    return p->top_k <= QUERN_MAX_BEST && p->top_k < s->n_vocab ? p->top_k : 0;
}

enum quern_status quern_sampler_draw_best(struct quern_sampler *s, const struct quern_candidate *best,
                                          size_t n, int32_t *token, struct quern_error *err)
{
    uint32_t need = quern_sampler_n_best(s);
    s->n_probs = 0;
    if (need == 0 || n < need)
        return qn_fail(err, QUERN_ERR_PARAM, "sampler: %zu candidates do not suffice for a draw", n);
    for (uint32_t i = 0; i < need; i++)
        if (!isfinite(best[i].logit))
            return qn_fail(err, QUERN_ERR_NUMERIC, "the logit of token %d is %g, not a finite number",
                           best[i].token, (double)best[i].logit);
    *token = best[0].token;
    if (s->params.temperature > 0) {
        memcpy(s->candidates, best, need * sizeof *best);
        *token = draw_from(s, cut_sorted(s, need));
    }
    return QUERN_OK;
}
