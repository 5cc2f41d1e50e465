/* Tokenizers: vectors of real vocabularies (when the reference data is here), round trips, hostile input. */
#include "base/clock.h"
#include "test.h"
#include "text/text.h"
#include "text/unicode.h"
#include "text/vocab.h"
#include "text_made.h"

#include <dirent.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

static struct quern_callbacks cb;

/* ---- reference vectors ---- */

static char *read_stream(FILE *f, size_t *size)
{
    size_t cap = 1 << 16, n = 0;
    char *data = malloc(cap + 1);
    for (size_t got = 1; data && got > 0; n += got) {
        if (n == cap) {
            char *more = realloc(data, 2 * cap + 1);
            if (!more)
                break;
            data = more;
            cap *= 2;
        }
        got = fread(data + n, 1, cap - n, f);
    }
    assert_non_null(data);
    data[n] = '\0';
    *size = n;
    return data;
}

static char *read_file(const char *folder, const char *name, size_t *size)
{
    char path[2048];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    char *data = read_stream(f, size);
    fclose(f);
    return data;
}

/* A vocabulary of the reference data, unpacked into memory. */
struct packed {
    char *bytes;
    struct qn_gguf *gguf;
};

static void packed_open(struct packed *packed, const char *folder, const char *name)
{
    char command[1300];
    size_t size;
    snprintf(command, sizeof command, "xz -dc '%s/ggml-vocab-%s.gguf.xz'", folder, name);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    packed->bytes = read_stream(pipe, &size);
    if (pclose(pipe) != 0 || size == 0) {
        free(packed->bytes);
        fprintf(stderr, "SKIPPED: cannot unpack with xz: %s\n", command);
        skip();
    }
    struct quern_error err;
    const struct qn_gguf_params params = {.no_tensors = true};
    if (qn_gguf_open_memory(&cb, &packed->gguf, packed->bytes, size, &params, &err) != QUERN_OK)
        fail_msg("%s: %s", name, err.text);
}

static void packed_close(struct packed *packed)
{
    qn_gguf_close(&cb, &packed->gguf);
    free(packed->bytes);
}

static struct qn_vocab *vocab_make(const struct qn_gguf *gguf, const char *pre)
{
    struct quern_error err;
    struct qn_vocab *vocab;
    const struct qn_vocab_params params = {.pre = pre};
    if (qn_vocab_create(&cb, &vocab, gguf, &params, &err) != QUERN_OK)
        fail_msg("%s", err.text);
    return vocab;
}

/* All of the text that the ids stand for. The caller frees it. */
static char *decode_all(const struct qn_vocab *vocab, const struct qn_ids *ids, size_t *len)
{
    size_t cap = 16, n = 0;
    char *text = malloc(cap);
    struct qn_decoder decoder;
    qn_decoder_init(&decoder, vocab, false);
    for (size_t i = 0; i <= ids->n; i++) {
        size_t need;
        while ((need = i < ids->n ? qn_decode(&decoder, ids->id[i], text + n, cap - n)
                                  : qn_decode_flush(&decoder, text + n, cap - n)) > cap - n) {
            cap = 2 * cap + need;
            text = realloc(text, cap);
            assert_non_null(text);
        }
        n += need;
    }
    *len = n;
    return text;
}

static const char separator[] = "\n__ggml_vocab_test__\n";

static int count_wrong(const struct qn_ids *ids, const char *expected, const char *expected_end)
{
    size_t i = 0;
    for (;;) {
        while (expected < expected_end && *expected == ' ')
            expected++;
        if (expected >= expected_end)
            return i != ids->n;
        char *next;
        long id = strtol(expected, &next, 10);
        if (next == expected || i >= ids->n || ids->id[i++] != id)
            return 1;
        expected = next;
    }
}

/* Whether decoding gives the text back: no literal space mark in SPM, no byte that the vocabulary lacks, or
 * has only as a user-defined token that stands for the character of that name. */
static bool can_express(const struct qn_vocab *vocab, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        int32_t id = vocab->byte_token[(uint8_t)text[i]];
        if (id < 0 || vocab->type[id] == QN_TOKEN_USER ||
            (vocab->kind == QN_VOCAB_SPM && len - i >= 3 && memcmp(text + i, QN_SPACE_MARK, 3) == 0))
            return false;
    }
    return true;
}

/* Runs each case of `inputs` and compares with its line of `outputs` (NULL: with nothing); counts what fails.
 */
static int run_cases(const struct qn_vocab *vocab, const char *what, const char *inputs, const char *outputs,
                     unsigned flags, bool round_trip)
{
    int wrong = 0, index = 0;
    for (const char *at = inputs, *line = outputs; at && *at;
         index++) { /* the last separator ends the file */
        const char *end = strstr(at, separator), *line_end = line ? strchr(line, '\n') : NULL;
        size_t len = end ? (size_t)(end - at) : strlen(at);
        if (line && !line_end)
            line_end = line + strlen(line);
        struct qn_ids ids = {0};
        struct quern_error err;
        if (qn_encode(&cb, vocab, at, len, flags, &ids, &err) != QUERN_OK)
            fail_msg("%s case %d: %s", what, index, err.text);
        if (line && count_wrong(&ids, line, line_end)) {
            fprintf(stderr, "%s case %d: '%.*s'\n  expected%.*s\n  got     ", what, index,
                    (int)(len < 200 ? len : 200), at, (int)(line_end - line), line);
            for (size_t i = 0; i < ids.n; i++)
                fprintf(stderr, " %d", ids.id[i]);
            fprintf(stderr, "\n");
            wrong++;
        }
        if (round_trip && can_express(vocab, at, len)) {
            size_t n;
            char *text = decode_all(vocab, &ids, &n);
            if (n != len || memcmp(text, at, n) != 0) {
                fprintf(stderr, "%s case %d: decoding gives '%.*s'\n", what, index, (int)n, text);
                wrong++;
            }
            free(text);
        }
        qn_ids_finish(&cb, &ids);
        line = line && *line_end ? line_end + 1 : line_end;
        at = end ? end + strlen(separator) : NULL;
    }
    return wrong;
}

static int run_files(const struct qn_vocab *vocab, const char *inputs_in, const char *inputs,
                     const char *outputs_in, const char *outputs, unsigned flags, bool round_trip)
{
    size_t n;
    char *in = read_file(inputs_in, inputs, &n), *out = read_file(outputs_in, outputs, &n);
    if (!in || !out)
        fail_msg("%s or %s is missing", inputs, outputs);
    int wrong = run_cases(vocab, outputs, in, out, flags, round_trip);
    free(in);
    free(out);
    return wrong;
}

static void folder_of(const char *what, char *folder, size_t size)
{
    char file[64];
    snprintf(file, sizeof file, "goldens/%s", what);
    snprintf(folder, size, "%s", qn_test_shared(file));
    *strrchr(folder, '/') = '\0';
}

static void test_reference_vocabularies(void **state)
{
    (void)state;
    static const struct {
        const char *name, *pre;
        bool round_trip;
    } vocabs[] = {
        {"llama-spm", NULL, true}, {"baichuan", NULL, true},       {"phi-3", NULL, true},
        {"bert-bge", NULL, false}, {"deepseek-coder", NULL, true}, {"deepseek-llm", NULL, true},
        {"falcon", NULL, true},    {"gpt-2", NULL, true},          {"gpt-neox", NULL, true},
        {"mpt", NULL, true},       {"refact", NULL, true},         {"starcoder", NULL, true},
    };
    char folder[1024];
    folder_of("vocab/extra.inp", folder, sizeof folder);
    int wrong = 0;
    for (size_t i = 0; i < QN_LEN(vocabs); i++) {
        struct packed packed;
        packed_open(&packed, folder, vocabs[i].name);
        struct qn_vocab *vocab = vocab_make(packed.gguf, vocabs[i].pre);
        char in[128], out[128];
        snprintf(in, sizeof in, "ggml-vocab-%s.gguf.inp", vocabs[i].name);
        snprintf(out, sizeof out, "ggml-vocab-%s.gguf.out", vocabs[i].name);
        wrong += run_files(vocab, folder, in, folder, out, 0, vocabs[i].round_trip);
        snprintf(out, sizeof out, "ggml-vocab-%s.gguf.extra.out", vocabs[i].name);
        wrong += run_files(vocab, folder, "extra.inp", folder, out, 0, vocabs[i].round_trip);
        snprintf(out, sizeof out, "ggml-vocab-%s.gguf.extra.special.out", vocabs[i].name);
        wrong += run_files(vocab, folder, "extra.inp", folder, out,
                           QN_ENCODE_ADD_SPECIAL | QN_ENCODE_PARSE_SPECIAL, false);
        /* invalid UTF-8 comes back byte by byte */
        size_t size;
        char *invalid = read_file(folder, "extra-invalid.inp", &size);
        assert_non_null(invalid);
        wrong += run_cases(vocab, "extra-invalid", invalid, NULL, 0, vocabs[i].round_trip);
        free(invalid);
        qn_vocab_destroy(&cb, &vocab);
        packed_close(&packed);
    }
    assert_int_equal(wrong, 0);
}

static void test_reference_rules(void **state)
{
    (void)state;
    char vocab_folder[1024], pre_folder[1024];
    folder_of("vocab/extra.inp", vocab_folder, sizeof vocab_folder);
    folder_of("pre/gpt-2.out", pre_folder, sizeof pre_folder);
    struct packed packed;
    packed_open(&packed, vocab_folder, "gpt-2");
    DIR *dir = opendir(pre_folder);
    assert_non_null(dir);
    int wrong = 0, rules = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char name[128], out[256];
        snprintf(name, sizeof name, "%.100s", entry->d_name);
        char *tail = strstr(name, ".extra.out");
        if (!tail)
            continue;
        *tail = '\0';
        struct qn_vocab *vocab = vocab_make(packed.gguf, name);
        assert_string_equal(qn_vocab_pre(vocab), name);
        bool round_trip = strcmp(name, "gemma4") != 0; /* this vocabulary has no bytes in its sense */
        snprintf(out, sizeof out, "%s.out", name);
        wrong += run_files(vocab, vocab_folder, "ggml-vocab-gpt-2.gguf.inp", pre_folder, out, 0, round_trip);
        snprintf(out, sizeof out, "%s.extra.out", name);
        wrong += run_files(vocab, vocab_folder, "extra.inp", pre_folder, out, 0, round_trip);
        qn_vocab_destroy(&cb, &vocab);
        rules++;
    }
    closedir(dir);
    packed_close(&packed);
    assert_true(rules >= 30);
    assert_int_equal(wrong, 0);
}

/* ---- made vocabularies ---- */

static struct qn_vocab *make(const struct made *made, const char *model, const char *pre)
{
    struct quern_error err;
    struct qn_vocab *vocab = made_vocab(&cb, made, model, pre, &err);
    if (!vocab)
        fail_msg("%s", err.text);
    return vocab;
}

static void make_bpe(struct made *made)
{
    *made = (struct made){0};
    made_letters(made);
    static const char *const merges[] = {"t h", "th e", "a b", "ab a", "\xC4\xA0 th"};
    static const char *const tokens[] = {"th", "the", "ab", "aba", "\xC4\xA0th"};
    for (size_t i = 0; i < QN_LEN(merges); i++) {
        made_merge(made, merges[i]);
        made_text(made, tokens[i], 1);
    }
    made_text(made, "<|im_start|>", 3);
    made_text(made, "<|im_end|>", 3);
    made_text(made, "   ", 4);
}

static void make_spm(struct made *made)
{
    *made = (struct made){0};
    made_text(made, "<unk>", 2);
    made_text(made, "<s>", 3);
    made_text(made, "</s>", 3);
    made_bytes(made);
    static const char *const tokens[] = {QN_SPACE_MARK,      "h",  "e", "l", "o", "ll", "he",
                                         QN_SPACE_MARK "he", "llo"};
    for (size_t i = 0; i < QN_LEN(tokens); i++)
        made_text(made, tokens[i], 1);
}

static void make_wpm(struct made *made)
{
    *made = (struct made){0};
    static const char *const tokens[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    static const char *const words[] = {QN_SPACE_MARK "don",         QN_SPACE_MARK "t",    QN_SPACE_MARK "'",
                                        QN_SPACE_MARK ".",           QN_SPACE_MARK "cafe", "s",
                                        QN_SPACE_MARK "\xE4\xB8\xAD"};
    for (size_t i = 0; i < QN_LEN(tokens); i++)
        made_text(made, tokens[i], 3);
    for (size_t i = 0; i < QN_LEN(words); i++)
        made_text(made, words[i], 1);
}

static struct qn_ids encode(const struct qn_vocab *vocab, const char *text, unsigned flags)
{
    struct qn_ids ids = {0};
    struct quern_error err;
    if (qn_encode(&cb, vocab, text, strlen(text), flags, &ids, &err) != QUERN_OK)
        fail_msg("%s", err.text);
    return ids;
}

/* The tokens' texts with a bar between them are `expected`. */
static void check_ids(const struct qn_vocab *vocab, const struct qn_ids *ids, const char *expected)
{
    char got[1024] = "";
    size_t n = 0;
    for (size_t i = 0; i < ids->n; i++) {
        struct qn_str token = qn_vocab_text(vocab, ids->id[i]);
        n += (size_t)snprintf(got + n, sizeof got - n, "%s%.*s", i ? "|" : "", (int)token.len, token.data);
    }
    assert_string_equal(got, expected);
}

static void check_tokens(const struct qn_vocab *vocab, const char *text, unsigned flags, const char *expected)
{
    struct qn_ids ids = encode(vocab, text, flags);
    check_ids(vocab, &ids, expected);
    qn_ids_finish(&cb, &ids);
}

static void check_decoded(const struct qn_vocab *vocab, const char *text, unsigned flags,
                          const char *expected)
{
    struct qn_ids ids = encode(vocab, text, flags);
    size_t n;
    char *got = decode_all(vocab, &ids, &n);
    assert_int_equal(n, strlen(expected));
    assert_memory_equal(got, expected, n);
    free(got);
    qn_ids_finish(&cb, &ids);
}

static void test_special_tokens(void **state)
{
    (void)state;
    static struct made made;
    make_bpe(&made);
    struct qn_vocab *vocab = make(&made, "gpt2", "gpt-2");
    check_tokens(vocab, "the<|im_end|>", QN_ENCODE_PARSE_SPECIAL, "the|<|im_end|>");
    check_tokens(vocab, "ab<|", QN_ENCODE_PARSE_SPECIAL, "ab|<||");
    check_tokens(vocab, "a    b", 0, "a|   |\xC4\xA0|b"); /* user-defined tokens are always seen */
    struct qn_ids ids = encode(vocab, "<|im_end|>", 0);
    assert_int_equal(ids.n, 10);
    qn_ids_finish(&cb, &ids);
    int32_t end = qn_vocab_find(vocab, "<|im_end|>", 10);
    assert_true(qn_vocab_is_end(vocab, end));
    assert_true(qn_vocab_is_control(vocab, end));
    assert_int_equal(qn_vocab_special(vocab)->eot, end);
    assert_int_equal(qn_vocab_special(vocab)->bos, -1);
    assert_false(qn_vocab_is_end(vocab, 5));
    assert_int_equal(qn_vocab_find(vocab, "nothing", 7), -1);
    check_decoded(vocab, "the<|im_end|> ab", QN_ENCODE_PARSE_SPECIAL, "the ab");
    qn_vocab_destroy(&cb, &vocab);
    assert_null(vocab);

    make_spm(&made);
    vocab = make(&made, "llama", NULL);
    check_tokens(vocab, "hello", QN_ENCODE_ADD_SPECIAL, "<s>|" QN_SPACE_MARK "he|llo");
    check_tokens(vocab, "hello</s>he", QN_ENCODE_PARSE_SPECIAL,
                 QN_SPACE_MARK "he|llo|</s>|" QN_SPACE_MARK "he");
    check_tokens(vocab, "h\xC3\xA9", 0, QN_SPACE_MARK "|h|<0xC3>|<0xA9>");
    check_tokens(vocab, "h\xFF", 0, QN_SPACE_MARK "|h|<0xFF>");
    assert_int_equal(qn_vocab_special(vocab)->eos, 2);
    assert_true(qn_vocab_is_end(vocab, 2));
    assert_string_equal(qn_vocab_model(vocab), "spm");
    qn_vocab_destroy(&cb, &vocab);

    make_wpm(&made);
    vocab = make(&made, "bert", NULL);
    check_tokens(vocab, "Caf\xC3\xA9s \xE4\xB8\xAD\xE4\xB8\xAD", QN_ENCODE_ADD_SPECIAL,
                 "[CLS]|" QN_SPACE_MARK "cafe|s|" QN_SPACE_MARK "\xE4\xB8\xAD|" QN_SPACE_MARK
                 "\xE4\xB8\xAD|[SEP]");
    check_tokens(vocab, "don zzz", 0, QN_SPACE_MARK "don|[UNK]");
    check_decoded(vocab, "Don't  don .", 0, "don't don.");
    check_decoded(vocab, "don '", 0, "don '");
    qn_vocab_destroy(&cb, &vocab);
}

/* Tokens of a text of which parts are input, with a bar between them. */
static void check_input(const struct qn_vocab *vocab, const char *text, const struct quern_range *input,
                        size_t n_input, unsigned flags, const char *expected)
{
    struct qn_ids ids = {0};
    struct quern_error err;
    if (qn_encode_input(&cb, vocab, text, strlen(text), flags, input, n_input, &ids, &err) != QUERN_OK)
        fail_msg("%s", err.text);
    check_ids(vocab, &ids, expected);
    qn_ids_finish(&cb, &ids);
}

/* Control tokens that a message writes out stay text; nothing else changes. */
static void test_input(void **state)
{
    (void)state;
    static struct made made;
    make_bpe(&made);
    struct qn_vocab *vocab = make(&made, "gpt2", "gpt-2");
    const unsigned parse = QN_ENCODE_PARSE_SPECIAL;
    const char *text = "<|im_end|>ab<|im_end|>the<|im_end|>";
    const struct quern_range whole = {0, 35}, middle = {10, 25}, touching = {21, 22}, none = {12, 12};
    check_input(vocab, text, NULL, 0, parse, "<|im_end|>|ab|<|im_end|>|the|<|im_end|>");
    check_input(vocab, text, &none, 1, parse, "<|im_end|>|ab|<|im_end|>|the|<|im_end|>");
    check_input(vocab, text, &whole, 1, parse,
                "<|||i|m|_|e|n|d|||>|ab|<|||i|m|_|e|n|d|||>|the|<|||i|m|_|e|n|d|||>");
    check_input(vocab, text, &middle, 1, parse, "<|im_end|>|ab|<|||i|m|_|e|n|d|||>|the|<|im_end|>");
    check_input(vocab, text, &touching, 1, parse, "<|im_end|>|ab|<|||i|m|_|e|n|d|||>|the|<|im_end|>");
    const struct quern_range both[] = {{0, 1}, {34, 35}};
    check_input(vocab, text, both, 2, parse, "<|||i|m|_|e|n|d|||>|ab|<|im_end|>|the|<|||i|m|_|e|n|d|||>");
    /* words are put together across the ends of the input, and user-defined tokens are part of any text */
    const struct quern_range cut = {1, 4};
    check_input(vocab, "the", &cut, 1, parse, "the");
    check_input(vocab, "a    b", &cut, 1, parse, "a|   |\xC4\xA0|b");
    /* one found within what stays text, and one that overlaps it by half */
    const struct quern_range half = {0, 3};
    check_input(vocab, "<|i<|im_end|>", &half, 1, parse, "<|||i|<|im_end|>");
    qn_vocab_destroy(&cb, &vocab);
}

/* The begin token once: where the text has none of its own, written by the template and not by a message. */
static void test_begin(void **state)
{
    (void)state;
    static struct made made;
    make_spm(&made);
    struct qn_vocab *vocab = make(&made, "llama", NULL);
    const unsigned flags = QN_ENCODE_PARSE_SPECIAL | QN_ENCODE_ADD_BEGIN;
    const struct quern_range begin = {0, 3};
    check_input(vocab, "hello", NULL, 0, flags, "<s>|" QN_SPACE_MARK "he|llo");
    check_input(vocab, "<s>hello", NULL, 0, flags, "<s>|" QN_SPACE_MARK "he|llo");
    check_input(vocab, "<s><s>", NULL, 0, flags, "<s>|<s>");
    check_input(vocab, "</s>", NULL, 0, flags, "<s>|</s>");
    check_input(vocab, "", NULL, 0, flags, "<s>");
    check_input(vocab, "<s>", &begin, 1, flags, "<s>|" QN_SPACE_MARK "|<0x3C>|<0x73>|<0x3E>");
    qn_vocab_destroy(&cb, &vocab);
    make_bpe(&made);
    vocab = make(&made, "gpt2", "gpt-2"); /* expects none */
    check_input(vocab, "ab", NULL, 0, flags, "ab");
    qn_vocab_destroy(&cb, &vocab);
}

static void test_streaming(void **state)
{
    (void)state;
    static struct made made;
    make_spm(&made);
    struct qn_vocab *vocab = make(&made, "llama", NULL);
    struct qn_decoder decoder;
    qn_decoder_init(&decoder, vocab, false);
    char out[16];
    const uint8_t face[] = {0xF0, 0x9F, 0x98, 0x80};
    for (int i = 0; i < 4; i++) {
        size_t n = qn_decode(&decoder, vocab->byte_token[face[i]], out, 3);
        assert_int_equal(n, i < 3 ? 0 : 4);
    }
    assert_int_equal(qn_decode(&decoder, vocab->byte_token[face[3]], out, 4), 4); /* nothing was consumed */
    assert_memory_equal(out, face, 4);
    /* broken bytes are passed on as soon as they cannot become a character */
    assert_int_equal(qn_decode(&decoder, vocab->byte_token[0xE2], out, 16), 0);
    assert_int_equal(qn_decode(&decoder, vocab->byte_token['x'], out, 16), 2);
    assert_memory_equal(out, "\xE2x", 2);
    assert_int_equal(qn_decode(&decoder, vocab->byte_token[0xC3], out, 16), 0);
    assert_int_equal(qn_decode(&decoder, 1, out, 16), 0); /* control tokens are not text */
    assert_int_equal(qn_decode_flush(&decoder, out, 16), 1);
    assert_int_equal(out[0], (char)0xC3);
    assert_int_equal(qn_decode_flush(&decoder, out, 16), 0);
    assert_int_equal(qn_decode(&decoder, 1000000, out, 16), 0);
    assert_int_equal(qn_decode(&decoder, -1, out, 16), 0);
    check_decoded(vocab, "  he llo", 0, "  he llo");
    qn_decoder_init(&decoder, vocab, true);
    assert_int_equal(qn_decode(&decoder, 1, out, 16), 3);
    assert_memory_equal(out, "<s>", 3);
    qn_vocab_destroy(&cb, &vocab);
}

static void expect_error(const struct made *made, const char *model, const char *pre,
                         enum quern_status status, const char *says)
{
    struct quern_error err = {.text = ""};
    struct qn_vocab *vocab = made_vocab(&cb, made, model, pre, &err);
    assert_null(vocab);
    assert_int_equal(err.status, status);
    if (!strstr(err.text, says))
        fail_msg("'%s' does not mention '%s'\n", err.text, says);
}

static int warnings;

static void count_warnings(void *user, enum quern_log_level level, const char *text)
{
    (void)user;
    warnings += level == QUERN_LOG_WARNING && text[0] != '\0';
}

static void test_refusals(void **state)
{
    (void)state;
    static struct made made;
    make_bpe(&made);
    expect_error(&made, "gpt2", "no-such-rule", QUERN_ERR_UNSUPPORTED, "no-such-rule");
    expect_error(&made, "gpt2", "no-such-rule", QUERN_ERR_UNSUPPORTED, "llama3");
    expect_error(&made, "gpt2", "no-such-rule", QUERN_ERR_UNSUPPORTED, "gemma4");
    expect_error(&made, "t5", NULL, QUERN_ERR_UNSUPPORTED, "t5");
    make_spm(&made);
    made.n_scores = 10;
    expect_error(&made, "llama", NULL, QUERN_ERR_FILE, "tokenizer.ggml.scores has 10 entries, expected 268");
    made.n_scores = made.n;
    made.n_types = 3;
    expect_error(&made, "llama", NULL, QUERN_ERR_FILE, "tokenizer.ggml.token_type has 3 entries");
    made = (struct made){0};
    expect_error(&made, "llama", NULL, QUERN_ERR_FILE, "tokenizer.ggml.tokens");

    /* harmless: no byte tokens, broken merges */
    cb.log = count_warnings;
    warnings = 0;
    made_text(&made, "<unk>", 2);
    made_text(&made, "a", 1);
    struct qn_vocab *vocab = make(&made, "llama", NULL);
    assert_int_equal(warnings, 1);
    check_tokens(vocab, "ax", 0, "<unk>|<unk>|<unk>|a|<unk>"); /* the space mark has three bytes */
    qn_vocab_destroy(&cb, &vocab);
    make_bpe(&made);
    made_merge(&made, "nospace");
    made_merge(&made, "x ");
    vocab = make(&made, "gpt2", "gpt-2");
    assert_int_equal(warnings, 2);
    qn_vocab_destroy(&cb, &vocab);
    /* a file from before the splitting rule was named: said, not silent */
    warnings = 0;
    make_bpe(&made);
    vocab = make(&made, "gpt2", NULL);
    assert_int_equal(warnings, 1);
    assert_string_equal(qn_vocab_pre(vocab), "default");
    qn_vocab_destroy(&cb, &vocab);
    cb.log = NULL;
}

static void test_malformed_files(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        enum quern_status status;
        int warnings;
    } files[] = {
        {"62-scores-short", QUERN_ERR_FILE, 0}, {"63-types-short", QUERN_ERR_FILE, 0},
        {"67-bos-out-of-range", QUERN_OK, 1},   {"68-no-byte-tokens", QUERN_OK, 1},
        {"00-valid-dense", QUERN_OK, 0},
    };
    for (size_t i = 0; i < QN_LEN(files); i++) {
        char name[64];
        snprintf(name, sizeof name, "goldens/malformed/%s.gguf", files[i].file);
        struct quern_error err;
        struct qn_gguf *gguf;
        struct qn_vocab *vocab;
        const struct qn_gguf_params params = {.use_mmap = true};
        assert_int_equal(qn_gguf_open(&cb, &gguf, qn_test_shared(name), &params, &err), QUERN_OK);
        warnings = 0;
        cb.log = count_warnings;
        enum quern_status status = qn_vocab_create(&cb, &vocab, gguf, NULL, &err);
        cb.log = NULL;
        if (status != files[i].status || warnings != files[i].warnings)
            fail_msg("%s: status %d, %d warnings\n", files[i].file, status, warnings);
        if (status == QUERN_OK && i == 2)
            assert_int_equal(qn_vocab_special(vocab)->bos, -1);
        qn_vocab_destroy(&cb, &vocab);
        qn_gguf_close(&cb, &gguf);
    }
}

/* ---- splitting ---- */

static uint32_t random_next(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static size_t random_text(uint32_t *seed, char *text, size_t cap)
{
    static const char *const parts[] = {" ",
                                        " ",
                                        "  ",
                                        "\n",
                                        "\r\n",
                                        "\t",
                                        "a",
                                        "Ab",
                                        "'s",
                                        "'LL",
                                        "'",
                                        "1",
                                        "22",
                                        "345",
                                        ".",
                                        "!?",
                                        "_",
                                        "\xC3\xA9",
                                        "\xCE\xA9",
                                        "\xCC\x81",
                                        "\xE4\xB8\xAD",
                                        "\xC2\xA0",
                                        "\xE2\x80\x83",
                                        "\xF0\x9F\x98\x80",
                                        "\xD9\xA1",
                                        "\xC2\xBD",
                                        "\xE0\xA4\xBF",
                                        "$",
                                        "\xE2\x80\x8B",
                                        "\xC2\x85",
                                        "z",
                                        "-",
                                        "/"};
    size_t n = 0;
    for (unsigned k = random_next(seed) % 24; k > 0; k--) {
        const char *part = parts[random_next(seed) % QN_LEN(parts)];
        if (n + strlen(part) < cap) {
            memcpy(text + n, part, strlen(part));
            n += strlen(part);
        }
    }
    return n;
}

/* The hand-written scanners cut as the expressions that they stand for. */
static void test_scanners(void **state)
{
    (void)state;
    static const struct {
        const char *pre, *regex;
    } rules[] = {
        {"gpt-2", "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"},
        {"llama-bpe", "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
                      " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
        {"qwen2", "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|"
                  " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    };
    for (size_t r = 0; r < QN_LEN(rules); r++) {
        int error;
        PCRE2_SIZE at;
        pcre2_code *code = pcre2_compile((PCRE2_SPTR)rules[r].regex, PCRE2_ZERO_TERMINATED,
                                         PCRE2_UTF | PCRE2_UCP, &error, &at, NULL);
        pcre2_match_data *data = pcre2_match_data_create(1, NULL);
        struct qn_pre pre;
        assert_int_equal(qn_pre_create(&cb, &pre, rules[r].pre, strlen(rules[r].pre), NULL), QUERN_OK);
        struct qn_splitter splitter = {0};
        uint32_t seed = 7;
        for (int i = 0; i < 20000; i++) {
            char text[256];
            size_t n = random_text(&seed, text, sizeof text), k = 0;
            assert_int_equal(qn_pre_split(&cb, &pre, &splitter, text, n, NULL), QUERN_OK);
            for (size_t pos = 0; pos < n; pos = pcre2_get_ovector_pointer(data)[1]) {
                assert_int_equal(pcre2_match(code, (PCRE2_SPTR)text, n, pos, 0, data, NULL), 1);
                if (k >= splitter.n || splitter.end[k++] != pcre2_get_ovector_pointer(data)[1])
                    fail_msg("%s: '%.*s' is cut otherwise at byte %zu\n", rules[r].pre, (int)n, text, pos);
            }
            assert_int_equal(k, splitter.n);
        }
        qn_splitter_finish(&cb, &splitter);
        qn_pre_finish(&pre);
        pcre2_match_data_free(data);
        pcre2_code_free(code);
    }
}

static void check_pieces(const char *name, const char *text, const char *expected)
{
    struct qn_pre pre;
    struct qn_splitter splitter = {0};
    char got[512] = "";
    size_t n = 0, start = 0;
    assert_int_equal(qn_pre_create(&cb, &pre, name, strlen(name), NULL), QUERN_OK);
    assert_int_equal(qn_pre_split(&cb, &pre, &splitter, text, strlen(text), NULL), QUERN_OK);
    for (size_t i = 0; i < splitter.n; start = splitter.end[i++])
        n += (size_t)snprintf(got + n, sizeof got - n, "%s%.*s", i ? "|" : "", (int)(splitter.end[i] - start),
                              text + start);
    if (strcmp(got, expected) != 0)
        fail_msg("%s: got %s, expected %s\n", name, got, expected);
    qn_splitter_finish(&cb, &splitter);
    qn_pre_finish(&pre);
}

static void test_rules(void **state)
{
    (void)state;
    check_pieces("gpt-2", "I'm  HERE'S 2024!\n", "I|'m| | HERE|'|S| 2024|!|\n");
    check_pieces("llama3", "I'M  here 12345 !\n\n x", "I|'M| | here| |123|45| !\n\n| x");
    check_pieces("qwen2", "x=12\n\n  y", "x|=|1|2|\n\n| | y");
    check_pieces("starcoder", "a12 b", "a|1|2| b");
    check_pieces("default", "a+1234", "a|+|123|4");
    check_pieces("falcon", "`a` 1234", "`|a|`| |123|4");
    check_pieces("deepseek-coder", "a b\nc1", "a| b|\n|c|1");
    check_pieces("deepseek-llm", "a b  ", "a| b|  ");
    check_pieces("deepseek-v3", "12345 a.b (x", "123|45| a|.b| (|x");
    check_pieces("gpt-4o", "HelloWorld isn't a/\n", "Hello|World| isn't| a|/\n");
    check_pieces("tekken", "HelloWorld isn't 12", "Hello|World| isn|'t| |1|2");
    check_pieces("kimi-k2",
                 "ab\xE4\xB8\xAD\xE6\x96\x87"
                 "Cd",
                 "ab|\xE4\xB8\xAD\xE6\x96\x87|Cd");
    check_pieces("superbpe", "a b 1234567", "a b |1|234|567");
    check_pieces("tiny_aya", "1234 1234x", "1|234| |123|4|x");
    check_pieces("afmoe", "x 1234567", "x| |1|234|567");
    check_pieces("bloom", "a b, c", "a| b|,| c");
    check_pieces("viking", "a1 b", "a|1| b");
    check_pieces("chameleon", "IMGIMGABZ x", "IMGIMGABZ| x");
    check_pieces("exaone-moe", "a b. c", "a b|.| c");
    check_pieces("qwen35", "e\xCC\x81x", "e\xCC\x81x");
    check_pieces("seed-coder", "a!\n", "a|!|\n");
    check_pieces("gemma4", "a b\n\nc", "a b|\n\n|c");
    /* what is not UTF-8 keeps its bytes, in scanners and in expressions */
    check_pieces("gpt-2",
                 "a\xFF\xFE"
                 "b \xE2\x82",
                 "a|\xFF\xFE|b| \xE2\x82");
    check_pieces("gpt-4o", "a\xFF\xFE b \xE2\x82", "a|\xFF\xFE| b| \xE2\x82");
    check_pieces("bloom", "a\xFF, \xE2\x82 b", "a\xFF|,| \xE2\x82| b");
}

/* Whatever the rule, the pieces are the text, and the time is not quadratic. */
static void test_hostile_texts(void **state)
{
    (void)state;
    static const char *const units[] = {"a",    "A",  " ",  "\n",           " \n",
                                        "1",    "'",  "x ", "\xCC\x81",     "\xE4\xB8\xAD",
                                        "\xFF", "aA", "1a", "\xE3\x80\x80", "\xE2\x96\x81"};
    static struct made made;
    make_bpe(&made);
    size_t size = 100000;
    char *text = malloc(size + 8);
    uint64_t worst = 0;
    const struct qn_pre_stage *stages = NULL;
    for (size_t r = 0; qn_pre_name(r); r++) {
        struct qn_vocab *vocab = make(&made, "gpt2", qn_pre_name(r));
        bool alias = vocab->pre.stages == stages;
        stages = vocab->pre.stages;
        for (size_t u = 0; u < QN_LEN(units) && !alias; u++) {
            size_t n = 0;
            for (; n < size; n += strlen(units[u]))
                memcpy(text + n, units[u], strlen(units[u]));
            text[n++] = '!';
            struct qn_splitter splitter = {0};
            uint64_t start = qn_now_ns();
            assert_int_equal(qn_pre_split(&cb, &vocab->pre, &splitter, text, n, NULL), QUERN_OK);
            uint64_t took = qn_now_ns() - start;
            worst = took > worst ? took : worst;
            assert_int_equal(splitter.end[splitter.n - 1], n);
            for (size_t i = 1; i < splitter.n; i++)
                assert_true(splitter.end[i] > splitter.end[i - 1]);
            qn_splitter_finish(&cb, &splitter);
        }
        qn_vocab_destroy(&cb, &vocab);
    }
    free(text);
    assert_true(worst < 5000000000u); /* quadratic time would be minutes */
}

/* The heap and the plain search merge alike. */
static void test_merge(void **state)
{
    (void)state;
    static struct made made;
    make_bpe(&made);
    struct qn_vocab *vocab = make(&made, "gpt2", "superbpe");
    uint32_t seed = 3;
    for (int round = 0; round < 2000; round++) {
        char text[64];
        size_t n = 2 + random_next(&seed) % 60;
        for (size_t i = 0; i < n; i++)
            text[i] = "abthe"[random_next(&seed) % 5];
        text[n] = '\0';
        /* short enough for the plain search, and padded by characters that never merge so that the heap is
         * used */
        char padded[128];
        size_t keep = n < 20 ? n : 20;
        memcpy(padded, text, keep);
        memset(padded + keep, '~', 60);
        padded[keep + 60] = '\0';
        text[keep] = '\0';
        struct qn_ids a = encode(vocab, text, 0), b = encode(vocab, padded, 0);
        assert_int_equal(b.n, a.n + 60);
        assert_memory_equal(a.id, b.id, a.n * sizeof *a.id);
        qn_ids_finish(&cb, &a);
        qn_ids_finish(&cb, &b);
    }
    qn_vocab_destroy(&cb, &vocab);
}

/* ---- memory ---- */

struct failing {
    long left; /* allocations until one fails; negative: none */
    long alive;
    bool failed;
};

static void *failing_alloc(void *user, size_t size, size_t align)
{
    struct failing *failing = user;
    if (failing->left == 0) {
        failing->failed = true;
        return NULL;
    }
    failing->left -= failing->left > 0;
    failing->alive++;
    (void)align;
    return aligned_alloc(QN_ALIGN, (size + QN_ALIGN - 1) / QN_ALIGN * QN_ALIGN);
}

static void failing_free(void *user, void *ptr)
{
    ((struct failing *)user)->alive--;
    free(ptr);
}

/* Each allocation fails once: a status, and nothing leaks. */
static void test_memory(void **state)
{
    (void)state;
    static struct made made;
    static const char *const models[] = {"llama", "gpt2", "bert"}, *const rules[] = {NULL, "deepseek-v3",
                                                                                     NULL};
    for (int m = 0; m < 3; m++) {
        struct failing failing = {0};
        struct quern_callbacks mine = {.user = &failing, .alloc = failing_alloc, .free = failing_free};
        (m == 0 ? make_spm : m == 1 ? make_bpe : make_wpm)(&made);
        bool done = false;
        int refused = 0;
        for (long nth = 0; !done; nth++) {
            struct quern_error err = {.status = QUERN_OK};
            failing = (struct failing){.left = nth};
            struct qn_vocab *vocab = made_vocab(&mine, &made, models[m], rules[m], &err);
            done = !failing.failed;
            refused += !vocab;
            if (!vocab)
                assert_int_equal(err.status, QUERN_ERR_MEMORY);
            qn_vocab_destroy(&mine, &vocab);
            assert_int_equal(failing.alive, 0);
        }
        assert_true(refused >= 6); /* the compiler of expressions does without some */
        failing.left = -1;
        struct quern_error err;
        struct qn_vocab *vocab = made_vocab(&mine, &made, models[m], rules[m], &err);
        assert_non_null(vocab);
        long before = failing.alive;
        done = false;
        refused = 0;
        static const char text[] =
            "hello <|im_end|> the\xFF ababababababababababababababababababababa don't </s> 1";
        for (long nth = 0; !done; nth++) {
            struct qn_ids ids = {0};
            failing.left = nth;
            failing.failed = false;
            enum quern_status status = qn_encode(&mine, vocab, text, strlen(text),
                                                 QN_ENCODE_ADD_SPECIAL | QN_ENCODE_PARSE_SPECIAL, &ids, &err);
            done = !failing.failed;
            assert_int_equal(status, done ? QUERN_OK : QUERN_ERR_MEMORY);
            refused += !done;
            assert_true(done ? ids.n > 3 : ids.n == 0);
            qn_ids_finish(&mine, &ids);
            assert_int_equal(failing.alive, before);
        }
        assert_true(refused >= 5);
        qn_vocab_destroy(&mine, &vocab);
        assert_int_equal(failing.alive, 0);
    }
}

int main(void)
{
    cb = qn_callbacks_resolve(NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_special_tokens),  cmocka_unit_test(test_input),
        cmocka_unit_test(test_begin),           cmocka_unit_test(test_streaming),
        cmocka_unit_test(test_refusals),        cmocka_unit_test(test_scanners),
        cmocka_unit_test(test_rules),           cmocka_unit_test(test_hostile_texts),
        cmocka_unit_test(test_merge),           cmocka_unit_test(test_memory),
        cmocka_unit_test(test_malformed_files), cmocka_unit_test(test_reference_vocabularies),
        cmocka_unit_test(test_reference_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
