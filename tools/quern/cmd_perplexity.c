/* quern perplexity: how well a model predicts a text. The text is cut into windows of the context's length;
 * each is evaluated from an empty context, and its second half is scored, so that every scored token has at
 * least half a window before it. */
#include "common.h"
#include "score.h"
#include "term.h"
#include "verbs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct perplexity_options {
    struct model_options model;
    const char *file, *prompt;
    int64_t chunks;
    bool json;
};

/* Sums over all scored tokens: of -ln p and of its square. */
struct score {
    const struct id_list *window;
    size_t n_vocab, n;
    double sum, sum_squares;
};

static bool on_row(void *user, size_t position, const float *row)
{
    struct score *score = user;
    if (position + 1 >= score->window->n)
        return false; /* what comes after the window is not known */
    float max = row[0];
    for (size_t i = 1; i < score->n_vocab; i++)
        max = row[i] > max ? row[i] : max;
    double sum = 0;
    for (size_t i = 0; i < score->n_vocab; i++)
        sum += exp((double)row[i] - max);
    double nll = log(sum) - ((double)row[score->window->id[position + 1]] - max);
    score->sum += nll;
    score->sum_squares += nll * nll;
    score->n++;
    return true;
}

struct estimate {
    double perplexity, error; /* error: standard error of the mean of -ln p, times the perplexity */
};

static struct estimate estimate_of(const struct score *score)
{
    double n = (double)score->n, mean = score->sum / n;
    struct estimate e = {.perplexity = exp(mean)};
    double variance = score->sum_squares / n - mean * mean;
    if (score->n > 1 && variance > 0)
        e.error = sqrt(variance / (n - 1)) * e.perplexity;
    return e;
}

/* The token that texts of this model begin with, -1 where it wants none. */
static int32_t begin_token(const struct quern_vocab *vocab)
{
    int32_t first[4] = {-1};
    size_t n = 0;
    if (quern_tokenize(vocab, "", 0, QUERN_ADD_SPECIAL, first, ARG_N(first), &n, NULL) != QUERN_OK || n == 0)
        return -1;
    return first[0] == quern_vocab_bos(vocab) ? first[0] : -1;
}

static int score_windows(const struct perplexity_options *o, struct loaded *loaded, struct id_list *ids,
                         size_t n_ctx, size_t n_chunks, struct score *score)
{
    int32_t begin = begin_token(loaded->vocab);
    struct quern_error err = {0};
    for (size_t c = 0; c < n_chunks; c++) {
        struct id_list window = {.id = ids->id + c * n_ctx, .n = n_ctx};
        if (begin >= 0)
            window.id[0] = begin;
        score->window = &window;
        if (quern_session_truncate(loaded->session, 0, 0, &err) != QUERN_OK)
            return fault(o->model.model, &err);
        int code = score_tokens(loaded->session, o->model.model, &window, n_ctx / 2, (size_t)o->model.batch,
                                score->n_vocab, on_row, score);
        if (code != EXIT_DONE)
            return code;
        struct estimate e = estimate_of(score);
        term_status("window %zu of %zu: %.4f +/- %.4f", c + 1, n_chunks, e.perplexity, e.error);
    }
    term_status_end();
    return EXIT_DONE;
}

static int measure(const struct perplexity_options *o, struct loaded *loaded, const struct buffer *text)
{
    struct id_list ids;
    int code = tokenize_text(loaded->vocab, o->model.model, text->data, text->n, QUERN_ADD_SPECIAL, &ids);
    if (code != EXIT_DONE)
        return code;
    size_t n_ctx = quern_session_n_ctx(loaded->session);
    size_t n_chunks = ids.n / n_ctx;
    if (n_chunks == 0) {
        code = fault_text(o->file ? o->file : "the text",
                          "it has %zu tokens, a window of %zu needs more (see -c)", ids.n, n_ctx);
        ids_finish(&ids);
        return code;
    }
    if (o->chunks > 0 && (size_t)o->chunks < n_chunks)
        n_chunks = (size_t)o->chunks;
    struct score score = {.n_vocab = loaded->info.n_vocab};
    code = score_windows(o, loaded, &ids, n_ctx, n_chunks, &score);
    if (code == EXIT_DONE) {
        struct estimate e = estimate_of(&score);
        if (o->json) {
            cJSON *root = json_object();
            json_put_text(root, "model", o->model.model);
            json_put_real(root, "perplexity", e.perplexity);
            json_put_real(root, "error", e.error);
            json_put_int(root, "n_ctx", (int64_t)n_ctx);
            json_put_int(root, "n_chunks", (int64_t)n_chunks);
            json_put_int(root, "n_tokens", (int64_t)ids.n);
            json_put_int(root, "n_scored", (int64_t)score.n);
            json_put_real(root, "nll", score.sum / (double)score.n);
            json_end(root, true, stdout);
        } else {
            printf("Final estimate: PPL = %.4f +/- %.5f (%zu windows of %zu tokens, %zu scored)\n",
                   e.perplexity, e.error, n_chunks, n_ctx, score.n);
        }
    }
    ids_finish(&ids);
    return code;
}

static int run_perplexity(const void *options, const struct arg_list *rest)
{
    struct perplexity_options o = *(const struct perplexity_options *)options;
    if (!o.model.model)
        return verb_usage(&verb_perplexity, "which model? -m FILE");
    if (o.prompt && o.file)
        return verb_usage(&verb_perplexity, "-p and -f exclude each other");
    if (o.model.ctx > 0 && o.model.ctx < 4)
        return verb_usage(&verb_perplexity, "-c: a window has at least 4 tokens");
    struct buffer text = {0};
    struct loaded loaded = {0};
    int code = EXIT_DONE;
    if (o.prompt)
        buffer_put(&text, o.prompt, strlen(o.prompt));
    else
        code = read_input(o.file, &text);
    if (code == EXIT_DONE)
        code = open_model(&loaded, &o.model, (uint32_t)o.model.ctx);
    if (code == EXIT_DONE)
        code = open_session(&loaded, &o.model, quern_session_params());
    if (code == EXIT_DONE)
        code = measure(&o, &loaded, &text);
    close_model(&loaded);
    buffer_finish(&text);
    return code;
}

#define AT(member) offsetof(struct perplexity_options, member)
static const struct arg_option perplexity_args[] = {
    {"-f, --file", ARG_FILE, AT(file), "FILE", "the text; - or nothing: standard input"},
    {"-p, --prompt", ARG_TEXT, AT(prompt), "TEXT", "the text itself"},
    {"--chunks", ARG_INT, AT(chunks), "N", "windows to evaluate; -1: all", -1, 1e9},
    {"--json", ARG_FLAG, AT(json), NULL, "as JSON"},
};

static const struct perplexity_options perplexity_defaults = {
    .model = {.batch = 512, .kv = -1, .kv_k = -1, .kv_v = -1, .ctx = 512},
    .chunks = -1,
};

const struct verb verb_perplexity = {
    .name = "perplexity",
    .summary = "Measures how well a model predicts a text.",
    .synopsis = "-m MODEL -f FILE [options]",
    .details = "The text is cut into windows of -c tokens; the second half of each is scored.",
    .tables = {{"Model", model_arg, ARG_N(model_arg), AT(model)},
               {"Options", perplexity_args, ARG_N(perplexity_args), 0},
               {"Context", context_args, ARG_N(context_args), AT(model)},
               {"Running", load_args, ARG_N(load_args), AT(model)}},
    .defaults = &perplexity_defaults,
    .size = sizeof(struct perplexity_options),
    .run = run_perplexity,
};
