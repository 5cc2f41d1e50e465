/* Sessions: sequences of tokens with their keys and values, evaluated on a model. A session belongs to one
 * thread at a time; several sessions may share a model. */
#ifndef QUERN_SESSION_H
#define QUERN_SESSION_H

#include <quern/model.h>

#ifdef __cplusplus
extern "C" {
#endif

struct quern_session;
struct quern_trace;

enum quern_overflow {
    QUERN_OVERFLOW_ERROR = 0, /* a full context is QUERN_ERR_CONTEXT */
    QUERN_OVERFLOW_SHIFT =
        1, /* drops the older half of what follows the first n_keep tokens and evaluates the rest */
};

struct quern_session_params {
    uint32_t n_ctx;               /* tokens per sequence; 0: the model's n_ctx */
    uint32_t n_seqs;              /* sequences */
    uint32_t n_batch;             /* most tokens evaluated at once, at most 512 */
    enum quern_format kv_k, kv_v; /* F32, F16 or Q8_0 */
    enum quern_overflow overflow;
    uint32_t n_keep;           /* see QUERN_OVERFLOW_SHIFT */
    struct quern_trace *trace; /* collects spans; NULL: none. Outlives the session */
};
#define quern_session_params(...)    \
    (&(struct quern_session_params){ \
        .n_seqs = 1, .n_batch = 512, .kv_k = QUERN_F16, .kv_v = QUERN_F16, __VA_ARGS__})

QUERN_API enum quern_status quern_session_create(struct quern_session **session, struct quern_model *model,
                                                 const struct quern_session_params *params,
                                                 struct quern_error *err);
QUERN_API void quern_session_destroy(struct quern_session **session);

/* Memory that a heap of a device holds for a model and a session, in bytes. */
struct quern_memory_use {
    uint32_t device, heap; /* index among the model's devices in use; of the device */
    uint64_t mapped; /* weights that it reads where the file is mapped or was read to: not in the sums */
    uint64_t weights, kv, activations, staging; /* what they asked the driver for: */
    uint64_t planned;                           /* all of these */
    uint64_t other; /* asked for besides: by the driver for itself, and by other sessions of the model */
    uint64_t taken; /* from the device for all that, as the driver rounds it; 0: it does not tell */
    uint64_t left;  /* can be taken besides; UINT64_MAX: unknown */
};
/* One for each heap of the devices in use, at most cap; how many there are. What a driver holds changes with
 * the steps that it has seen: buffers are made at first use. */
QUERN_API uint32_t quern_session_memory(const struct quern_session *session, struct quern_memory_use *uses,
                                        uint32_t cap);

/* Appends n tokens to a sequence and evaluates them, in chunks. Afterwards the logits of the last one can be
 * read. On failure the sequence is as before, except for what QUERN_OVERFLOW_SHIFT dropped to make room.
 * Non-finite logits are QUERN_ERR_NUMERIC. */
QUERN_API enum quern_status quern_session_feed(struct quern_session *session, uint32_t seq,
                                               const int32_t *tokens, size_t n, struct quern_error *err);

/* The same, but of the last token's logits only the best are brought from the device: `n_best`, at most
 * QUERN_MAX_BEST and the vocabulary. There are no logits to read then. */
QUERN_API enum quern_status quern_session_feed_best(struct quern_session *session, uint32_t seq,
                                                    const int32_t *tokens, size_t n, uint32_t n_best,
                                                    struct quern_error *err);

/* As quern_session_feed_best of one candidate, for callers that will most likely feed that one next, alone
 * and by this function or quern_session_feed_best: a device that can begins with it at once, before it is
 * known here. What is fed instead is as right, the device has then worked for nothing. */
QUERN_API enum quern_status quern_session_feed_greedy(struct quern_session *session, uint32_t seq,
                                                      const int32_t *tokens, size_t n,
                                                      struct quern_error *err);

/* Makes the sequence consist of exactly these tokens. Keys and values of the longest common prefix with what
 * any sequence of this session holds are reused, the rest is evaluated (at least the last token). *n_reused
 * may be NULL. A prompt that cannot be taken (bad tokens, longer than the context) leaves the sequence as it
 * was; one that fails on the way leaves the reused prefix. */
QUERN_API enum quern_status quern_session_prompt(struct quern_session *session, uint32_t seq,
                                                 const int32_t *tokens, size_t n, size_t *n_reused,
                                                 struct quern_error *err);

/* One token for one sequence; `logits` asks for its row. Tokens of one sequence stand in order. */
struct quern_item {
    int32_t token;
    uint32_t seq;
    bool logits;
};
/* Appends and evaluates tokens of several sequences. Row i of the logits is that of the i-th item that asked.
 */
QUERN_API enum quern_status quern_session_eval(struct quern_session *session, const struct quern_item *items,
                                               size_t n, struct quern_error *err);

/* Rows of logits of the last call, float32 [n_vocab] each, valid until the next one; NULL out of range. */
QUERN_API size_t quern_session_n_logits(const struct quern_session *session);
QUERN_API const float *quern_session_logits(const struct quern_session *session, size_t row);

/* A token and its logit. */
struct quern_candidate {
    int32_t token;
    float logit;
};
#define QUERN_MAX_BEST 64
/* The candidates of the last call if that was quern_session_feed_best, valid until the next one: best first,
 * equal ones by their ids; otherwise NULL and 0. */
QUERN_API const struct quern_candidate *quern_session_best(const struct quern_session *session, size_t *n);

QUERN_API size_t quern_session_length(const struct quern_session *session, uint32_t seq);
QUERN_API uint32_t quern_session_n_ctx(const struct quern_session *session);
/* The sequence's tokens, valid until it changes. */
QUERN_API const int32_t *quern_session_tokens(const struct quern_session *session, uint32_t seq);
/* Drops all but the first n tokens. */
QUERN_API enum quern_status quern_session_truncate(struct quern_session *session, uint32_t seq, size_t n,
                                                   struct quern_error *err);
/* Makes `dst` a copy of `src`; the pages are shared until one of them writes. */
QUERN_API enum quern_status quern_session_fork(struct quern_session *session, uint32_t dst, uint32_t src,
                                               struct quern_error *err);

/* ---- sampling ---- */

struct quern_sampler;

struct quern_logit_bias {
    int32_t token;
    float bias; /* added to the logit; -INFINITY forbids */
};

struct quern_sampler_params {
    uint64_t seed;
    float temperature;       /* 0: greedy */
    uint32_t top_k;          /* 0: all */
    float top_p;             /* 1: all */
    float min_p;             /* 0: all */
    float repeat_penalty;    /* 1: none */
    float presence_penalty;  /* 0: none */
    float frequency_penalty; /* 0: none */
    uint32_t penalty_last_n; /* tokens looked back at */
    const struct quern_logit_bias *bias;
    size_t n_bias;
    uint32_t n_probs; /* keep the n most probable tokens of each draw */
};
#define quern_sampler_params(...)                           \
    (&(struct quern_sampler_params){.temperature = 0.8f,    \
                                    .top_k = 40,            \
                                    .top_p = 0.95f,         \
                                    .min_p = 0.05f,         \
                                    .repeat_penalty = 1.0f, \
                                    .penalty_last_n = 64,   \
                                    __VA_ARGS__})

QUERN_API enum quern_status quern_sampler_create(struct quern_sampler **sampler, uint32_t n_vocab,
                                                 const struct quern_sampler_params *params,
                                                 const struct quern_callbacks *callbacks,
                                                 struct quern_error *err);
QUERN_API void quern_sampler_destroy(struct quern_sampler **sampler);
/* Draws a token from logits [n_vocab]. The same seed, parameters, history and logits give the same token. */
QUERN_API enum quern_status quern_sampler_draw(struct quern_sampler *sampler, const float *logits,
                                               int32_t *token, struct quern_error *err);
/* How many of the best logits are all that a draw needs: 1 to QUERN_MAX_BEST; 0: it needs all logits
 * (penalties, biases, probabilities, or no top-k of that size). */
QUERN_API uint32_t quern_sampler_n_best(const struct quern_sampler *sampler);
/* Draws the token that quern_sampler_draw would draw from all logits, of which these n are the best in order;
 * n is at least quern_sampler_n_best. */
QUERN_API enum quern_status quern_sampler_draw_best(struct quern_sampler *sampler,
                                                    const struct quern_candidate *best, size_t n,
                                                    int32_t *token, struct quern_error *err);
/* Tells the sampler that a token is now part of the text (for the penalties); prompts too. */
QUERN_API void quern_sampler_accept(struct quern_sampler *sampler, int32_t token);
/* Forgets the history and starts again from the seed. */
QUERN_API void quern_sampler_reset(struct quern_sampler *sampler);

struct quern_prob {
    int32_t token;
    float logit; /* before penalties and temperature */
    float prob;  /* softmax of all logits before penalties and temperature */
};
/* The n_probs most probable tokens of the last draw, best first. */
QUERN_API const struct quern_prob *quern_sampler_probs(const struct quern_sampler *sampler, size_t *n);

/* ---- generating text ---- */

enum quern_stop_reason {
    QUERN_STOP_LENGTH = 0,  /* max_tokens */
    QUERN_STOP_END = 1,     /* an end token */
    QUERN_STOP_STRING = 2,  /* a stop string */
    QUERN_STOP_CALLER = 3,  /* on_text said so */
    QUERN_STOP_CONTEXT = 4, /* the context is full */
};

struct quern_generate_params {
    uint32_t seq;
    struct quern_sampler *sampler;
    int64_t max_tokens; /* -1: until the context is full */
    bool ignore_end;
    bool show_control;
    const char *const *stop; /* stop strings; their text is not passed on */
    size_t n_stop;
    void *user;
    /* Text as it becomes certain (never part of a stop string or of a character); `token` is the one that
     * completed it, -1 at the end. Called for every token (end tokens excepted), with a length of 0 while its
     * text is uncertain. False stops. */
    bool (*on_text)(void *user, const char *text, size_t length, int32_t token);
};
#define quern_generate_params(...) (&(struct quern_generate_params){.max_tokens = -1, __VA_ARGS__})

struct quern_generate_result {
    enum quern_stop_reason reason;
    size_t n_tokens;
    uint64_t decode_ns;
    uint64_t sample_ns;
};

/* Draws from the logits, or the candidates, of the last evaluation of the sequence, feeds, and so on until a
 * reason to stop. Afterwards there are logits only if the sampler needs them all. `result` may be NULL. */
QUERN_API enum quern_status quern_generate(struct quern_session *session,
                                           const struct quern_generate_params *params,
                                           struct quern_generate_result *result, struct quern_error *err);

#ifdef __cplusplus
}
#endif

#endif
