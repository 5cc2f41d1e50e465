/* quern logits: evaluates token ids and writes the logits of each, for comparison. */
#include "common.h"
#include "score.h"
#include "term.h"
#include "verbs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct logits_options {
    struct model_options model;
    const char *tokens, *out;
};

/* float32, little-endian */
static bool write_row(FILE *file, const float *row, size_t n)
{
    const uint16_t one = 1;
    if (*(const uint8_t *)&one == 1)
        return fwrite(row, sizeof *row, n, file) == n;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &row[i], sizeof bits);
        const uint8_t bytes[4] = {(uint8_t)bits, (uint8_t)(bits >> 8), (uint8_t)(bits >> 16),
                                  (uint8_t)(bits >> 24)};
        if (fwrite(bytes, 1, sizeof bytes, file) != sizeof bytes)
            return false;
    }
    return true;
}

struct logits_file {
    FILE *file;
    size_t n_vocab;
};

static bool on_row(void *user, size_t position, const float *row)
{
    const struct logits_file *out = user;
    return write_row(out->file, row, out->n_vocab);
}

static int evaluate(const struct logits_options *o, struct loaded *loaded, const struct id_list *ids)
{
    bool standard = strcmp(o->out, "-") == 0;
    struct logits_file out = {.n_vocab = loaded->info.n_vocab};
    out.file = standard ? stdout : fopen(o->out, "wb");
    if (!out.file)
        return fault_text(o->out, "%s", strerror(errno));
    int code = score_tokens(loaded->session, o->model.model, ids, 0, (size_t)o->model.batch, out.n_vocab,
                            on_row, &out);
    bool failed = ferror(out.file) != 0;
    if (!standard && fclose(out.file) != 0)
        failed = true;
    if (failed)
        code = fault_text(o->out, "%s", strerror(errno));
    if (code != EXIT_DONE && !standard)
        remove(o->out);
    return code;
}

static int run_logits(const void *options, const struct arg_list *rest)
{
    const struct logits_options *o = options;
    if (!o->model.model || !o->tokens || !o->out)
        return verb_usage(&verb_logits, "-m MODEL, --tokens FILE and -o OUT are all needed");
    struct buffer text = {0};
    struct id_list ids = {0};
    struct loaded loaded = {0};
    int code = read_input(o->tokens, &text);
    if (code == EXIT_DONE)
        code = parse_ids(o->tokens, &text, &ids);
    if (code == EXIT_DONE && ids.n == 0)
        code = fault_text(o->tokens, "there are no token ids in it");
    if (code == EXIT_DONE)
        code = open_model(&loaded, &o->model, (uint32_t)o->model.ctx);
    if (code == EXIT_DONE)
        code = open_session(&loaded, &o->model, quern_session_params());
    if (code == EXIT_DONE)
        code = evaluate(o, &loaded, &ids);
    close_model(&loaded);
    ids_finish(&ids);
    buffer_finish(&text);
    return code;
}

#define AT(member) offsetof(struct logits_options, member)
static const struct arg_option logits_args[] = {
    {"--tokens", ARG_FILE, AT(tokens), "FILE", "token ids separated by white space; -: standard input"},
    {"-o, --output", ARG_FILE, AT(out), "FILE", "where the logits go; -: standard output"},
};

const struct verb verb_logits = {
    .name = "logits",
    .summary = "Evaluates token ids and writes their logits.",
    .synopsis = "-m MODEL --tokens FILE -o OUT [options]",
    .details = "OUT is float32, little-endian, [number of tokens, size of the vocabulary].\n"
               "Keys and values are kept in float32 unless told otherwise.",
    .tables = {{"Model", model_arg, ARG_N(model_arg), AT(model)},
               {"Options", logits_args, ARG_N(logits_args), 0},
               {"Context", context_args, ARG_N(context_args), AT(model)},
               {"Running", load_args, ARG_N(load_args), AT(model)}},
    .defaults = &(const struct logits_options){.model = MODEL_DEFAULTS_KV(0)}, /* f32 */
    .size = sizeof(struct logits_options),
    .run = run_logits,
};
