/* quern tokenize: text to token ids and back. */
#include "common.h"
#include "verbs.h"

#include <string.h>

struct tokenize_options {
    const char *model, *pre, *prompt, *file;
    bool special, add_special, detokenize, json, verbose;
};

static int print_ids(const struct tokenize_options *o, const struct quern_vocab *vocab,
                     const struct buffer *input)
{
    struct id_list ids;
    unsigned flags = (o->add_special ? QUERN_ADD_SPECIAL : 0u) | (o->special ? QUERN_PARSE_SPECIAL : 0u);
    int code = tokenize_text(vocab, o->model, input->data, input->n, flags, &ids);
    if (code != EXIT_DONE)
        return code;
    if (o->json) {
        cJSON *root = json_object(), *list = json_array();
        for (size_t i = 0; i < ids.n; i++)
            json_add(list, json_int(ids.id[i]));
        json_put_text(root, "vocabulary", quern_vocab_model(vocab));
        json_put_text(root, "pre", quern_vocab_pre(vocab));
        json_put_int(root, "n", (int64_t)ids.n);
        json_put(root, "ids", list);
        json_end(root, false, stdout);
    } else {
        for (size_t i = 0; i < ids.n; i++)
            printf("%s%d", i > 0 ? " " : "", (int)ids.id[i]);
        putchar('\n');
    }
    ids_finish(&ids);
    return EXIT_DONE;
}

static int print_text(const struct tokenize_options *o, const struct quern_vocab *vocab,
                      const struct buffer *input)
{
    struct id_list ids;
    int code = parse_ids(o->file ? o->file : "standard input", input, &ids);
    if (code != EXIT_DONE)
        return code;
    struct quern_error err = {0};
    struct quern_decoder *decoder = NULL;
    struct buffer text = {0};
    buffer_put(&text, "", 0);
    enum quern_status status = quern_decoder_create(&decoder, vocab, o->special, &err);
    const char *piece;
    size_t n;
    for (size_t i = 0; i < ids.n && status == QUERN_OK; i++) {
        status = quern_decoder_put(decoder, ids.id[i], &piece, &n, &err);
        if (status == QUERN_OK)
            buffer_put(&text, piece, n);
    }
    if (status == QUERN_OK) {
        quern_decoder_flush(decoder, &piece, &n);
        buffer_put(&text, piece, n);
        if (o->json) {
            cJSON *root = json_object();
            json_put_int(root, "n", (int64_t)ids.n);
            json_put_bytes(root, "text", text.data, text.n);
            json_end(root, false, stdout);
        } else {
            fwrite(text.data, 1, text.n, stdout);
        }
    } else {
        code = fault(o->model, &err);
    }
    quern_decoder_destroy(&decoder);
    buffer_finish(&text);
    ids_finish(&ids);
    return code;
}

static int run_tokenize(const void *options, const struct arg_list *rest)
{
    const struct tokenize_options *o = options;
    if (!o->model)
        return verb_usage(&verb_tokenize, "which model? -m FILE");
    if (o->prompt && o->file)
        return verb_usage(&verb_tokenize, "-p and -f exclude each other");
    struct quern_callbacks callbacks = tool_callbacks(o->verbose);
    struct quern_vocab *vocab;
    struct quern_error err = {0};
    if (quern_vocab_open(&vocab, quern_source_path(o->model),
                         quern_vocab_params(.callbacks = &callbacks, .pre = o->pre), &err) != QUERN_OK)
        return fault(o->model, &err);
    struct buffer input = {0};
    int code = EXIT_DONE;
    if (o->prompt)
        buffer_put(&input, o->prompt, strlen(o->prompt));
    else
        code = read_input(o->file, &input);
    if (code == EXIT_DONE)
        code = o->detokenize ? print_text(o, vocab, &input) : print_ids(o, vocab, &input);
    buffer_finish(&input);
    quern_vocab_destroy(&vocab);
    return code;
}

#define AT(member) offsetof(struct tokenize_options, member)
static const struct arg_option tokenize_args[] = {
    {"-m, --model", ARG_FILE, AT(model), "FILE", "the model, or a file with a vocabulary only"},
    {"-p, --prompt", ARG_TEXT, AT(prompt), "TEXT", "the text (or ids) in place of standard input"},
    {"-f, --file", ARG_FILE, AT(file), "FILE", "read it from a file"},
    {"--special", ARG_FLAG, AT(special), NULL,
     "control tokens written out become those tokens; the other way: show them"},
    {"--add-bos", ARG_FLAG, AT(add_special), NULL, "add begin (and end) tokens as the model expects them"},
    {"--detokenize", ARG_FLAG, AT(detokenize), NULL, "ids, separated by white space, to text"},
    {"--pre", ARG_TEXT, AT(pre), "NAME", "splitting rule in place of the file's"},
    {"--json", ARG_FLAG, AT(json), NULL, "as JSON"},
    {"-v, --verbose", ARG_FLAG, AT(verbose), NULL, "tell what happens"},
};

const struct verb verb_tokenize = {
    .name = "tokenize",
    .summary = "Turns text into token ids, or back.",
    .synopsis = "-m MODEL [--special] [--add-bos] [--detokenize] < text",
    .tables = {{"Options", tokenize_args, ARG_N(tokenize_args), 0}},
    .defaults = &(const struct tokenize_options){0},
    .size = sizeof(struct tokenize_options),
    .run = run_tokenize,
};
