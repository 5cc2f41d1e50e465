/* Reading a vocabulary from a model file. */
#include "text/vocab.h"

#include "text/unicode.h"

#include <stdio.h>
#include <string.h>

/* Texts into one block, and the map from text to id. */
static enum quern_status load_texts(const struct quern_callbacks *cb, struct qn_vocab *vocab,
                                    const struct qn_gguf *gguf, struct quern_error *err)
{
    const struct qn_gguf_kv *tokens;
    enum quern_status status =
        qn_gguf_array(gguf, "tokenizer.ggml.tokens", QN_GGUF_STRING, &tokens, true, err);
    if (status != QUERN_OK)
        return status;
    if (tokens->n == 0 || tokens->n > INT32_MAX / 4)
        return qn_fail(err, QUERN_ERR_FILE, "%s: tokenizer.ggml.tokens has %llu entries, expected 1 to %d",
                       qn_gguf_name(gguf), (unsigned long long)tokens->n, INT32_MAX / 4);
    vocab->n = (uint32_t)tokens->n;
    vocab->blob = qn_alloc(cb, (size_t)tokens->bytes + 1, 1);
    vocab->offset = qn_alloc(cb, (size_t)vocab->n + 1, sizeof *vocab->offset);
    vocab->type = qn_alloc(cb, vocab->n, 1);
    vocab->flags = qn_zalloc(cb, vocab->n, 1);
    if (!vocab->blob || !vocab->offset || !vocab->type || !vocab->flags ||
        !qn_strmap_init(cb, &vocab->map, vocab->n))
        return qn_fail_memory(err, "the vocabulary");
    uint64_t cursor = 0;
    size_t used = 0;
    struct qn_str text;
    for (uint32_t id = 0; id < vocab->n && qn_gguf_next_str(tokens, &cursor, &text); id++) {
        vocab->offset[id] = used;
        if (text.len > 0)
            memcpy(vocab->blob + used, text.data, text.len);
        /* An empty text is nobody's; of equal ones the last counts. */
        if (text.len > 0 && !qn_strmap_put(cb, &vocab->map, vocab->blob + used, text.len, (int32_t)id))
            return qn_fail_memory(err, "the vocabulary");
        used += text.len;
        vocab->longest = text.len > vocab->longest ? text.len : vocab->longest;
    }
    vocab->offset[vocab->n] = used;
    return QUERN_OK;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

int qn_byte_of_text(struct qn_str text)
{
    if (text.len != 6 || memcmp(text.data, "<0x", 3) != 0 || text.data[5] != '>')
        return -1;
    int high = hex_digit(text.data[3]), low = hex_digit(text.data[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

static enum quern_status load_types(struct qn_vocab *vocab, const struct qn_gguf *gguf,
                                    struct quern_error *err)
{
    const struct qn_gguf_kv *types;
    enum quern_status status =
        qn_gguf_array(gguf, "tokenizer.ggml.token_type", QN_GGUF_I32, &types, false, err);
    if (status != QUERN_OK)
        return status;
    if (types && types->n != vocab->n)
        return qn_fail(
            err, QUERN_ERR_FILE,
            "%s: tokenizer.ggml.token_type has %llu entries, expected %u as in tokenizer.ggml.tokens",
            qn_gguf_name(gguf), (unsigned long long)types->n, vocab->n);
    for (uint32_t id = 0; id < vocab->n; id++) {
        int64_t type = types                                            ? qn_gguf_int_at(types, id)
                       : qn_byte_of_text(qn_token_text(vocab, id)) >= 0 ? QN_TOKEN_BYTE
                                                                        : QN_TOKEN_NORMAL;
        /* 0 is "undefined", which nobody gives a meaning to */
        vocab->type[id] = type >= QN_TOKEN_NORMAL && type <= QN_TOKEN_BYTE ? (uint8_t)type : QN_TOKEN_NORMAL;
    }
    return QUERN_OK;
}

/* The tokens <0x00> to <0xFF>. */
static void find_byte_tokens(const struct quern_callbacks *cb, struct qn_vocab *vocab,
                             const struct qn_gguf *gguf)
{
    unsigned missing = 0;
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", byte);
        char raw = (char)byte;
        vocab->byte_token[byte] = qn_strmap_get(&vocab->map, text, 6);
        if (vocab->byte_token[byte] < 0)
            vocab->byte_token[byte] = qn_strmap_get(&vocab->map, &raw, 1);
        missing += vocab->byte_token[byte] < 0;
    }
    if (missing > 0 && vocab->kind == QN_VOCAB_SPM)
        qn_log(
            cb, QUERN_LOG_WARNING,
            "%s: %u of the 256 byte tokens are missing; characters without a token become the unknown token",
            qn_gguf_name(gguf), missing);
}

static enum quern_status read_kind(struct qn_vocab *vocab, const struct qn_gguf *gguf, struct qn_str *model,
                                   struct quern_error *err)
{
    static const struct {
        const char *name;
        enum qn_vocab_kind kind;
    } models[] = {
        {"llama", QN_VOCAB_SPM},
        {"gpt2", QN_VOCAB_BPE},
        {"gemma4", QN_VOCAB_BPE},
        {"bert", QN_VOCAB_WPM},
    };
    enum quern_status status = qn_gguf_str(gguf, "tokenizer.ggml.model", model, true, err);
    if (status != QUERN_OK)
        return status;
    for (size_t i = 0; i < QN_LEN(models); i++)
        if (strlen(models[i].name) == model->len && memcmp(models[i].name, model->data, model->len) == 0) {
            vocab->kind = models[i].kind;
            return QUERN_OK;
        }
    return qn_fail(
        err, QUERN_ERR_UNSUPPORTED,
        "%s: tokenizer.ggml.model: unknown tokenizer '%.*s'; there are llama (SPM), gpt2 (BPE), gemma4 "
        "(BPE) and bert (WPM)",
        qn_gguf_name(gguf), (int)(model->len < 40 ? model->len : 40), model->data);
}

/* The name of the splitting rule: the caller's, the file's, or the one that goes with the tokenizer. */
static enum quern_status read_pre(const struct quern_callbacks *cb, const struct qn_gguf *gguf,
                                  struct qn_str model, const char *override, struct qn_str *pre,
                                  struct quern_error *err)
{
    *pre = (struct qn_str){NULL, 0};
    if (override) {
        *pre = (struct qn_str){override, strlen(override)};
        return QUERN_OK;
    }
    enum quern_status status = qn_gguf_str(gguf, "tokenizer.ggml.pre", pre, false, err);
    if (status != QUERN_OK || pre->data)
        return status;
    if (model.len == 6 && memcmp(model.data, "gemma4", 6) == 0) {
        *pre = model;
        return QUERN_OK;
    }
    /* Files from before the key existed were split by this rule. */
    *pre = (struct qn_str){"default", 7};
    qn_log(
        cb, QUERN_LOG_WARNING,
        "%s: tokenizer.ggml.pre is missing: text is split by the rule \"default\", which may not be what the "
        "model was trained with",
        qn_gguf_name(gguf));
    return QUERN_OK;
}

static enum quern_status load(const struct quern_callbacks *cb, struct qn_vocab *vocab,
                              const struct qn_gguf *gguf, const struct qn_vocab_params *params,
                              struct quern_error *err)
{
    struct qn_str model, pre;
    enum quern_status status = read_kind(vocab, gguf, &model, err);
    if (status == QUERN_OK && vocab->kind == QN_VOCAB_BPE)
        status = read_pre(cb, gguf, model, params ? params->pre : NULL, &pre, err);
    if (status == QUERN_OK)
        status = load_texts(cb, vocab, gguf, err);
    if (status == QUERN_OK)
        status = load_types(vocab, gguf, err);
    if (status != QUERN_OK)
        return status;
    find_byte_tokens(cb, vocab, gguf);
    if (vocab->kind == QN_VOCAB_SPM)
        status = qn_spm_load(cb, vocab, gguf, err);
    else if (vocab->kind == QN_VOCAB_BPE)
        status = qn_bpe_load(cb, vocab, gguf, pre.data, pre.len, err);
    if (status == QUERN_OK)
        status = qn_specials_load(cb, vocab, gguf, err);
    if (status == QUERN_OK)
        status = qn_templates_load(cb, &vocab->templates, gguf, err);
    return status;
}

enum quern_status qn_vocab_create(const struct quern_callbacks *cb, struct qn_vocab **out,
                                  const struct qn_gguf *gguf, const struct qn_vocab_params *params,
                                  struct quern_error *err)
{
    *out = NULL;
    struct qn_vocab *vocab = qn_zalloc(cb, 1, sizeof *vocab);
    if (!vocab)
        return qn_fail_memory(err, "the vocabulary");
    vocab->cb = *cb;
    enum quern_status status = load(cb, vocab, gguf, params, err);
    if (status != QUERN_OK)
        qn_vocab_destroy(cb, &vocab);
    *out = vocab;
    return status;
}

void qn_vocab_destroy(const struct quern_callbacks *cb, struct qn_vocab **out)
{
    struct qn_vocab *vocab = *out;
    if (!vocab)
        return;
    qn_templates_finish(cb, &vocab->templates);
    qn_pre_finish(&vocab->pre);
    qn_specials_finish(cb, &vocab->specials);
    qn_pairmap_finish(cb, &vocab->merges);
    qn_strmap_finish(cb, &vocab->map);
    qn_free(cb, vocab->extra_blob);
    qn_free(cb, vocab->score);
    qn_free(cb, vocab->flags);
    qn_free(cb, vocab->type);
    qn_free(cb, vocab->offset);
    qn_free(cb, vocab->blob);
    qn_free(cb, vocab);
    *out = NULL;
}

uint32_t qn_vocab_size(const struct qn_vocab *vocab)
{
    return vocab->n;
}

const char *qn_vocab_model(const struct qn_vocab *vocab)
{
    static const char *const names[] = {
        [QN_VOCAB_SPM] = "spm", [QN_VOCAB_BPE] = "bpe", [QN_VOCAB_WPM] = "wpm"};
    return names[vocab->kind];
}

const char *qn_vocab_pre(const struct qn_vocab *vocab)
{
    return vocab->pre.name ? vocab->pre.name : "";
}

const struct qn_vocab_special *qn_vocab_special(const struct qn_vocab *vocab)
{
    return &vocab->special;
}

bool qn_vocab_is_end(const struct qn_vocab *vocab, int32_t id)
{
    return id >= 0 && (uint32_t)id < vocab->n && (vocab->flags[id] & QN_TOKEN_END);
}

bool qn_vocab_is_control(const struct qn_vocab *vocab, int32_t id)
{
    return id >= 0 && (uint32_t)id < vocab->n &&
           (vocab->type[id] == QN_TOKEN_CONTROL || vocab->type[id] == QN_TOKEN_UNKNOWN);
}

struct qn_str qn_vocab_text(const struct qn_vocab *vocab, int32_t id)
{
    return qn_token_text(vocab, (uint32_t)id);
}

struct qn_str qn_vocab_template(const struct qn_vocab *vocab, const char *name)
{
    return qn_templates_find(&vocab->templates, name);
}

int32_t qn_vocab_find(const struct qn_vocab *vocab, const char *text, size_t len)
{
    int32_t id = qn_strmap_get(&vocab->map, text, len);
    return id < (int32_t)vocab->n ? id : -1;
}
