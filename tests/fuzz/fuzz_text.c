/* Tokenizers on any text, and vocabularies of any content.
 * Input: a byte for the mode (SPM, BPE, WPM, hostile vocabulary), one for the splitting rule or variant, one
 * for the flags (bits 0 to 2) and how long the parts of the text are of which each second one is input (bits
 * 3 to 7, 0: none is), then the text; in the last mode first the tokens, parted by 0xFF, then 0xFE and the
 * text. */
#include "text/pre.h"
#include "text/text.h"
#include "../text_made.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum mode {
    MODE_SPM,
    MODE_BPE,
    MODE_WPM,
    MODE_HOSTILE,
    N_MODES,
};

enum { MAX_RULES = 128 };

static struct quern_callbacks cb;
static struct quern_error err;

#define CHECK(x) ((x) ? (void)0 : (fprintf(stderr, "failed: %s (line %d)\n", #x, __LINE__), abort()))

static const char *const words[] = {"a",  "b", "ab", "abc", "the", "th",      "he",
                                    "in", "1", "12", "'",   "s",   "\xC3\xA9"};

static struct qn_vocab *build_spm(bool user)
{
    static struct made made;
    made.n = made.used = 0;
    made_text(&made, "<unk>", 2);
    made_text(&made, "<s>", 3);
    made_text(&made, "</s>", 3);
    made_bytes(&made);
    for (size_t i = 0; i < QN_LEN(words); i++) {
        char text[16];
        made_text(&made, words[i], 1);
        snprintf(text, sizeof text, "\xE2\x96\x81%s", words[i]);
        made_text(&made, text, 1);
    }
    made_text(&made, "\xE2\x96\x81", 1);
    made_text(&made, "\xE2\x96\x81\xE2\x96\x81", 1);
    if (user) {
        made_text(&made, "[user]", 4);
        made_text(&made,
                  "a\xE2\x96\x81"
                  "b",
                  1);
    }
    return made_vocab(&cb, &made, "llama", NULL, &err);
}

static struct qn_vocab *build_bpe(const char *pre)
{
    static struct made made;
    made.n = made.used = 0;
    made_letters(&made);
    static const char *const merges[] = {"t h",
                                         "th e",
                                         "a b",
                                         "ab c",
                                         "\xC4\xA0 th",
                                         "1 2",
                                         "\xC4\xA0 \xC4\xA0",
                                         "i n",
                                         "\xC3\x83 \xC2\xA9",
                                         "no merge ",
                                         "x"};
    static const char *const merged[] = {"th", "the", "ab", "abc", "\xC4\xA0th", "12", "\xC4\xA0\xC4\xA0",
                                         "in"};
    for (size_t i = 0; i < QN_LEN(merged); i++)
        made_text(&made, merged[i], 1);
    made.n_merges = QN_LEN(merges);
    for (size_t i = 0; i < QN_LEN(merges); i++)
        made.merge[i] = (struct qn_str){merges[i], strlen(merges[i])};
    made_text(&made, "<|im_end|>", 3);
    made_text(&made, "<|im", 3);
    made_text(&made, "   ", 4);
    return made_vocab(&cb, &made, "gpt2", pre, &err);
}

static struct qn_vocab *build_wpm(void)
{
    static struct made made;
    made.n = made.used = 0;
    static const char *const special[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    for (size_t i = 0; i < QN_LEN(special); i++)
        made_text(&made, special[i], 3);
    for (int c = 33; c < 127; c++) {
        char word[8];
        snprintf(word, sizeof word, "\xE2\x96\x81%c", c);
        made_text(&made, word, 1);
        if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
            made_add(&made, &word[3], 1, 1);
    }
    for (size_t i = 0; i < QN_LEN(words); i++)
        made_text(&made, words[i], 1);
    return made_vocab(&cb, &made, "bert", NULL, &err);
}

/* Kept over all runs. */
static struct qn_vocab *vocab_of(enum mode mode, unsigned which)
{
    static struct qn_vocab *kept[N_MODES][MAX_RULES];
    size_t rules = 0;
    while (qn_pre_name(rules))
        rules++;
    CHECK(rules <= MAX_RULES);
    which %= mode == MODE_SPM ? 2 : mode == MODE_BPE ? (unsigned)rules : 1;
    if (!kept[mode][which]) {
        kept[mode][which] = mode == MODE_SPM   ? build_spm(which != 0)
                            : mode == MODE_BPE ? build_bpe(qn_pre_name(which))
                                               : build_wpm();
        CHECK(kept[mode][which]);
    }
    return kept[mode][which];
}

/* The vocabulary that the bytes describe: tokens up to 0xFE, each with a type byte in front. */
static struct qn_vocab *build_hostile(const uint8_t **data, size_t *size, unsigned which)
{
    static struct made made;
    made.n = made.used = made.n_merges = 0;
    const uint8_t *at = *data, *end = at + *size;
    while (at < end && *at != 0xFE && made.n < MADE_TOKENS) {
        const uint8_t *stop = at;
        while (stop < end && *stop < 0xFE)
            stop++;
        int32_t type = stop > at ? (int32_t)(*at++ % 9) : 0;
        if (memchr(at, ' ', (size_t)(stop - at)) && made.n_merges < MADE_TOKENS)
            made.merge[made.n_merges++] = (struct qn_str){(const char *)at, (size_t)(stop - at)};
        made_add(&made, (const char *)at, (size_t)(stop - at), type);
        at = stop + (stop < end && *stop == 0xFF);
    }
    at += at < end;
    if (which & 16)
        made.n_scores = made.n / 2;
    if (which & 32)
        made.n_types = made.n / 2;
    *size = (size_t)(end - at);
    *data = at;
    static const char *const models[] = {"llama", "gpt2", "bert", "gemma4", "nonsense"};
    const char *model = models[which % 5];
    return made_vocab(&cb, &made, model, strcmp(model, "gpt2") == 0 ? qn_pre_name(which % 97) : NULL, &err);
}

struct text {
    char *data;
    size_t n;
};

/* With room for one byte at first, so that both ways through qn_decode() are taken. */
static struct text decode(const struct qn_vocab *vocab, const struct qn_ids *ids, bool specials)
{
    struct text text = {malloc(64), 0};
    size_t cap = 64;
    struct qn_decoder decoder;
    qn_decoder_init(&decoder, vocab, specials);
    for (size_t i = 0; i <= ids->n; i++) {
        size_t need = i < ids->n ? qn_decode(&decoder, ids->id[i], text.data + text.n, 1)
                                 : qn_decode_flush(&decoder, text.data + text.n, 1);
        while (text.n + need + 4 > cap)
            text.data = realloc(text.data, cap *= 2);
        if (need > 1) {
            size_t again = i < ids->n ? qn_decode(&decoder, ids->id[i], text.data + text.n, need)
                                      : qn_decode_flush(&decoder, text.data + text.n, need);
            CHECK(again == need);
        }
        text.n += need;
    }
    return text;
}

/* Every second part of `step` bytes is input; 0: none is. */
static struct qn_ids encode(const struct qn_vocab *vocab, const void *text, size_t len, unsigned flags,
                            size_t step)
{
    enum { MAX_SPANS = 64 };
    struct quern_range input[MAX_SPANS];
    size_t n = 0;
    for (size_t at = 0; step > 0 && at < len && n < MAX_SPANS; at += 2 * step)
        input[n++] = (struct quern_range){at, at + step < len ? at + step : len};
    struct qn_ids ids = {0};
    enum quern_status status = qn_encode_input(&cb, vocab, text, len, flags, input, n, &ids, &err);
    if (status != QUERN_OK) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    for (size_t i = 0; i < ids.n; i++)
        CHECK(ids.id[i] >= 0 && (uint32_t)ids.id[i] < qn_vocab_size(vocab));
    return ids;
}

static bool same(const struct qn_ids *a, const struct qn_ids *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->id, b->id, a->n * sizeof *a->id) == 0);
}

/* Where the whole text is input, control tokens are as little seen as where nobody looks for them. */
static void check_all_input(const struct qn_vocab *vocab, const void *text, size_t len)
{
    const struct quern_range whole = {0, len};
    struct qn_ids input = {0}, plain = encode(vocab, text, len, 0, 0);
    CHECK(qn_encode_input(&cb, vocab, text, len, QN_ENCODE_PARSE_SPECIAL, &whole, 1, &input, &err) ==
          QUERN_OK);
    CHECK(same(&input, &plain));
    qn_ids_finish(&cb, &input);
    qn_ids_finish(&cb, &plain);
}

static bool has(const uint8_t *data, size_t size, const char *what)
{
    size_t n = strlen(what);
    for (size_t i = 0; i + n <= size; i++)
        if (memcmp(data + i, what, n) == 0)
            return true;
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    cb = qn_callbacks_resolve(NULL);
    enum mode mode = data[0] % N_MODES;
    unsigned which = data[1], flags = data[2] & 7;
    size_t step = data[2] >> 3;
    data += 3;
    size -= 3;
    struct qn_vocab *vocab =
        mode == MODE_HOSTILE ? build_hostile(&data, &size, which) : vocab_of(mode, which);
    if (!vocab)
        return 0;
    struct qn_ids ids = encode(vocab, data, size, flags, step);
    check_all_input(vocab, data, size);
    struct text text = decode(vocab, &ids, true);
    bool raw = strcmp(qn_vocab_pre(vocab), "gemma4") == 0;
    if (mode == MODE_BPE && !raw && !(flags & (QN_ENCODE_ADD_SPECIAL | QN_ENCODE_ADD_BEGIN)))
        CHECK(text.n == size && memcmp(text.data, data, size) == 0);
    if (mode == MODE_SPM && flags == 0 && !has(data, size, "\xE2\x96\x81") && !has(data, size, "[user]"))
        CHECK(text.n == size && memcmp(text.data, data, size) == 0);
    if (mode == MODE_WPM && flags == 0) {
        struct text plain = decode(vocab, &ids, false);
        struct qn_ids ids2 = encode(vocab, plain.data, plain.n, 0, 0);
        struct text again = decode(vocab, &ids2, false);
        CHECK(again.n == plain.n && memcmp(again.data, plain.data, plain.n) == 0);
        free(plain.data);
        free(again.data);
        qn_ids_finish(&cb, &ids2);
    }
    free(text.data);
    qn_ids_finish(&cb, &ids);
    if (mode == MODE_HOSTILE)
        qn_vocab_destroy(&cb, &vocab);
    return 0;
}
