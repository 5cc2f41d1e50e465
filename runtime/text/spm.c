/* SPM: sentencepiece's BPE, merging by score, with byte fallback. */
#include "text/unicode.h"
#include "text/vocab.h"

#include <stdio.h>
#include <string.h>

/* Whether a token may come out of merging: the others are written out only, or stand for bytes. */
static bool is_text(const struct qn_vocab *vocab, int32_t id)
{
    uint8_t type = vocab->type[id];
    return type != QN_TOKEN_CONTROL && type != QN_TOKEN_UNKNOWN && type != QN_TOKEN_BYTE;
}

/* Order-preserving map of the score, reversed: the best score is the lowest rank. */
static uint32_t score_rank(float score)
{
    uint32_t bits;
    score = score == 0 ? 0.0f : score; /* -0 and 0 are one rank */
    memcpy(&bits, &score, sizeof bits);
    return bits & 0x80000000u ? bits : ~bits & 0x7FFFFFFFu;
}

static bool spm_rule(const struct qn_vocab *vocab, const char *text, const struct qn_symbol *left,
                     const struct qn_symbol *right, uint32_t *rank, uint32_t *merged)
{
    size_t len = (size_t)left->len + right->len;
    if (len > vocab->longest)
        return false;
    int32_t id = qn_strmap_get(&vocab->map, text + left->start, len);
    if (id < 0 || !is_text(vocab, id))
        return false;
    *merged = (uint32_t)id;
    *rank = score_rank(vocab->score[id]);
    return true;
}

/* Merges the text between two bytes of buf and pushes the tokens. */
static bool encode_part(struct qn_encoder *encoder, size_t start, size_t end)
{
    const struct qn_vocab *vocab = encoder->vocab;
    const char *text = encoder->buf;
    encoder->n_symbols = 0;
    unsigned n;
    for (size_t i = start; i < end; i += n) {
        qn_utf8_decode(text + i, end - i, &n);
        int32_t id = qn_strmap_get(&vocab->map, text + i, n);
        if (id >= 0 && !is_text(vocab, id))
            id = -1;
        if (!qn_encoder_symbol(encoder, (uint32_t)i, n, (uint32_t)id))
            return false;
    }
    if (encoder->n_symbols == 0)
        return true;
    if (!qn_merge(encoder, text, spm_rule, QN_MERGE_SHORT))
        return false;
    for (int32_t i = 0; i >= 0; i = encoder->symbols[i].next) {
        const struct qn_symbol *symbol = &encoder->symbols[i];
        bool ok = symbol->id != UINT32_MAX ? qn_encoder_push(encoder, (int32_t)symbol->id)
                                           : qn_encoder_bytes(encoder, text + symbol->start, symbol->len);
        if (!ok)
            return false;
    }
    return true;
}

/* The text with spaces as U+2581 into buf. */
static bool mark_spaces(struct qn_encoder *encoder, const char *text, size_t len)
{
    bool squeeze = encoder->vocab->remove_extra_whitespaces;
    for (size_t i = 0; i < len;) {
        size_t end = i;
        while (end < len && text[end] != ' ')
            end++;
        if (!qn_encoder_put(encoder, text + i, end - i))
            return false;
        i = end;
        if (i == len)
            break;
        size_t spaces = 0;
        while (i < len && text[i] == ' ') {
            spaces++;
            i++;
        }
        if (squeeze)
            spaces = end > 0 && i < len;
        for (; spaces > 0; spaces--)
            if (!qn_encoder_put(encoder, QN_SPACE_MARK, QN_SPACE_MARK_LEN))
                return false;
    }
    return true;
}

static bool is_mark(const char *text, size_t left)
{
    return left >= QN_SPACE_MARK_LEN && memcmp(text, QN_SPACE_MARK, QN_SPACE_MARK_LEN) == 0;
}

enum quern_status qn_spm_encode(struct qn_encoder *encoder, const char *text, size_t len, bool after_special)
{
    encoder->n_buf = 0;
    bool ok = true;
    if (encoder->vocab->add_space_prefix && after_special)
        ok = qn_encoder_put(encoder, QN_SPACE_MARK, QN_SPACE_MARK_LEN);
    ok = ok && mark_spaces(encoder, text, len);
    /* Where no token crosses from a word into the space after it, words are merged one by one. */
    size_t start = 0, n = encoder->n_buf;
    for (size_t i = 1; ok && i < n && encoder->vocab->words_apart; i++)
        if (is_mark(encoder->buf + i, n - i) &&
            !(i >= QN_SPACE_MARK_LEN && is_mark(encoder->buf + i - QN_SPACE_MARK_LEN, n))) {
            ok = encode_part(encoder, start, i);
            start = i;
        }
    ok = ok && encode_part(encoder, start, n);
    return ok ? QUERN_OK : qn_fail_memory(encoder->err, "tokens");
}

/* A space mark that follows something else inside one token. */
static bool crosses_words(struct qn_str text)
{
    for (size_t i = 1; i < text.len; i++)
        if (is_mark(text.data + i, text.len - i) &&
            !(i >= QN_SPACE_MARK_LEN && is_mark(text.data + i - QN_SPACE_MARK_LEN, text.len)))
            return true;
    return false;
}

enum quern_status qn_spm_load(const struct quern_callbacks *cb, struct qn_vocab *vocab,
                              const struct qn_gguf *gguf, struct quern_error *err)
{
    const struct qn_gguf_kv *scores;
    enum quern_status status = qn_gguf_array(gguf, "tokenizer.ggml.scores", QN_GGUF_F32, &scores, true, err);
    if (status != QUERN_OK)
        return status;
    if (scores->n != vocab->n)
        return qn_fail(err, QUERN_ERR_FILE,
                       "%s: tokenizer.ggml.scores has %llu entries, expected %u as in tokenizer.ggml.tokens",
                       qn_gguf_name(gguf), (unsigned long long)scores->n, vocab->n);
    vocab->score = qn_alloc(cb, vocab->n, sizeof *vocab->score);
    if (!vocab->score)
        return qn_fail_memory(err, "the vocabulary");
    for (uint32_t i = 0; i < vocab->n; i++)
        vocab->score[i] = (float)qn_gguf_real_at(scores, i);
    vocab->add_space_prefix = true;
    status = qn_gguf_bool(gguf, "tokenizer.ggml.add_space_prefix", &vocab->add_space_prefix, false, err);
    if (status == QUERN_OK)
        status = qn_gguf_bool(gguf, "tokenizer.ggml.remove_extra_whitespaces",
                              &vocab->remove_extra_whitespaces, false, err);
    if (status != QUERN_OK)
        return status;
    vocab->words_apart = true;
    for (uint32_t i = 0; i < vocab->n && vocab->words_apart; i++)
        vocab->words_apart = !is_text(vocab, (int32_t)i) || !crosses_words(qn_token_text(vocab, i));
    return QUERN_OK;
}
