/* The public view of a vocabulary: text to tokens and back. */
#include "session/handles.h"

#include <quern/chat.h>
#include <string.h>

/* Tokens looked at to know whether text precedes what a decoder writes. */
enum { QN_CONTINUE_TOKENS = 8 };

enum quern_status qn_vocab_handle_init(struct quern_vocab *vocab, const struct quern_callbacks *cb,
                                       const struct qn_gguf *gguf, const char *pre, struct quern_error *err)
{
    *vocab = (struct quern_vocab){.cb = *cb};
    enum quern_status status =
        qn_vocab_create(&vocab->cb, &vocab->vocab, gguf, &(struct qn_vocab_params){.pre = pre}, err);
    if (status != QUERN_OK)
        memset(vocab, 0, sizeof *vocab);
    return status;
}

void qn_vocab_handle_finish(struct quern_vocab *vocab)
{
    if (vocab->vocab)
        qn_vocab_destroy(&vocab->cb, &vocab->vocab);
    if (vocab->gguf)
        qn_gguf_close(&vocab->cb, &vocab->gguf);
    memset(vocab, 0, sizeof *vocab);
}

enum quern_status quern_vocab_open(struct quern_vocab **vocab, struct quern_source source,
                                   const struct quern_vocab_params *params, struct quern_error *err)
{
    *vocab = NULL;
    struct quern_callbacks cb = qn_callbacks_resolve(params ? params->callbacks : NULL);
    struct quern_vocab *made = qn_zalloc(&cb, 1, sizeof *made);
    if (!made)
        return qn_fail_memory(err, "a vocabulary handle");
    struct qn_gguf *gguf = NULL;
    enum quern_status status = qn_source_open(
        &cb, &gguf, source, &(struct qn_gguf_params){.use_mmap = true, .no_tensors = true}, err);
    if (status == QUERN_OK)
        status = qn_vocab_handle_init(made, &cb, gguf, params ? params->pre : NULL, err);
    if (status != QUERN_OK) {
        if (gguf)
            qn_gguf_close(&cb, &gguf);
        qn_free(&cb, made);
        return status;
    }
    made->gguf = gguf;
    *vocab = made;
    return QUERN_OK;
}

void quern_vocab_destroy(struct quern_vocab **vocab)
{
    if (!vocab || !*vocab)
        return;
    struct quern_callbacks cb = (*vocab)->cb;
    qn_vocab_handle_finish(*vocab);
    qn_free(&cb, *vocab);
    *vocab = NULL;
}

/* Copies what fits; returns how many there are. */
static size_t copy_ids(const struct qn_ids *list, int32_t *ids, size_t cap)
{
    size_t count = list->n < cap ? list->n : cap;
    if (count > 0)
        memcpy(ids, list->id, count * sizeof *ids);
    return list->n;
}

enum quern_status quern_tokenize(const struct quern_vocab *vocab, const char *text, size_t length,
                                 unsigned flags, int32_t *ids, size_t cap, size_t *n, struct quern_error *err)
{
    *n = 0;
    if (flags & ~(unsigned)(QUERN_ADD_SPECIAL | QUERN_PARSE_SPECIAL))
        return qn_fail(err, QUERN_ERR_PARAM, "tokenize: flags 0x%x are unknown", flags);
    unsigned encode = 0;
    if (flags & QUERN_ADD_SPECIAL)
        encode |= QN_ENCODE_ADD_SPECIAL;
    if (flags & QUERN_PARSE_SPECIAL)
        encode |= QN_ENCODE_PARSE_SPECIAL;
    struct qn_ids list = {0};
    enum quern_status status = qn_encode(&vocab->cb, vocab->vocab, text, length, encode, &list, err);
    if (status == QUERN_OK)
        *n = copy_ids(&list, ids, cap);
    qn_ids_finish(&vocab->cb, &list);
    return status;
}

enum quern_status quern_chat_tokenize(const struct quern_vocab *vocab, const struct quern_chat_text *text,
                                      int32_t *ids, size_t cap, size_t *n, struct quern_error *err)
{
    *n = 0;
    for (size_t i = 0, end = 0; i < text->n_input; end = text->input[i++].end)
        if (text->input[i].begin < end || text->input[i].end < text->input[i].begin ||
            text->input[i].end > text->length)
            return qn_fail(err, QUERN_ERR_PARAM,
                           "chat: span %zu is %zu to %zu, expected from %zu on and within %zu bytes", i,
                           text->input[i].begin, text->input[i].end, end, text->length);
    struct qn_ids list = {0};
    enum quern_status status = qn_encode_input(&vocab->cb, vocab->vocab, text->data, text->length,
                                               QN_ENCODE_PARSE_SPECIAL | QN_ENCODE_ADD_BEGIN, text->input,
                                               text->n_input, &list, err);
    if (status == QUERN_OK)
        *n = copy_ids(&list, ids, cap);
    qn_ids_finish(&vocab->cb, &list);
    return status;
}

void quern_vocab_chat_template(const struct quern_vocab *vocab, const char *name, const char **text,
                               size_t *length)
{
    struct qn_str found = qn_vocab_template(vocab->vocab, name ? name : "");
    *text = found.data;
    *length = found.len;
}

uint32_t quern_vocab_size(const struct quern_vocab *vocab)
{
    return qn_vocab_size(vocab->vocab);
}

const char *quern_vocab_model(const struct quern_vocab *vocab)
{
    return qn_vocab_model(vocab->vocab);
}

const char *quern_vocab_pre(const struct quern_vocab *vocab)
{
    return qn_vocab_pre(vocab->vocab);
}

int32_t quern_vocab_bos(const struct quern_vocab *vocab)
{
    return qn_vocab_special(vocab->vocab)->bos;
}

int32_t quern_vocab_eos(const struct quern_vocab *vocab)
{
    return qn_vocab_special(vocab->vocab)->eos;
}

const char *quern_vocab_token(const struct quern_vocab *vocab, int32_t id, size_t *length)
{
    *length = 0;
    if (id < 0 || (uint32_t)id >= qn_vocab_size(vocab->vocab))
        return NULL;
    struct qn_str text = qn_vocab_text(vocab->vocab, id);
    *length = text.len;
    return text.data;
}

bool quern_vocab_is_control(const struct quern_vocab *vocab, int32_t id)
{
    return id >= 0 && (uint32_t)id < qn_vocab_size(vocab->vocab) && qn_vocab_is_control(vocab->vocab, id);
}

bool quern_vocab_is_end(const struct quern_vocab *vocab, int32_t id)
{
    return id >= 0 && (uint32_t)id < qn_vocab_size(vocab->vocab) && qn_vocab_is_end(vocab->vocab, id);
}

enum quern_status quern_decoder_create(struct quern_decoder **decoder, const struct quern_vocab *vocab,
                                       bool show_control, struct quern_error *err)
{
    enum { FIRST_CAP = 256 };
    *decoder = NULL;
    struct quern_decoder *made = qn_zalloc(&vocab->cb, 1, sizeof *made);
    if (!made)
        return qn_fail_memory(err, "a decoder");
    made->cb = vocab->cb;
    made->specials = show_control;
    if (!qn_grow(&made->cb, &made->text, &made->cap, FIRST_CAP, 1)) {
        qn_free(&made->cb, made);
        return qn_fail_memory(err, "a decoder");
    }
    qn_decoder_init(&made->state, vocab->vocab, show_control);
    *decoder = made;
    return QUERN_OK;
}

enum quern_status quern_decoder_put(struct quern_decoder *decoder, int32_t id, const char **text,
                                    size_t *length, struct quern_error *err)
{
    *text = decoder->text;
    *length = 0;
    uint32_t n_vocab = qn_vocab_size(decoder->state.vocab);
    if (id < 0 || (uint32_t)id >= n_vocab)
        return qn_fail(err, QUERN_ERR_PARAM, "token %d is not in the vocabulary of %u tokens", id, n_vocab);
    size_t n = qn_decode(&decoder->state, id, decoder->text, decoder->cap);
    if (n > decoder->cap) {
        if (!qn_grow(&decoder->cb, &decoder->text, &decoder->cap, n, 1))
            return qn_fail_memory(err, "the text of a token");
        n = qn_decode(&decoder->state, id, decoder->text, decoder->cap);
    }
    *text = decoder->text;
    *length = n;
    return QUERN_OK;
}

void quern_decoder_flush(struct quern_decoder *decoder, const char **text, size_t *length)
{
    *length = qn_decode_flush(&decoder->state, decoder->text, decoder->cap);
    *text = decoder->text;
}

void quern_decoder_reset(struct quern_decoder *decoder)
{
    qn_decoder_init(&decoder->state, decoder->state.vocab, decoder->specials);
}

void qn_decoder_continue(struct quern_decoder *decoder, const int32_t *tokens, size_t n)
{
    quern_decoder_reset(decoder);
    size_t first = n > QN_CONTINUE_TOKENS ? n - QN_CONTINUE_TOKENS : 0;
    const char *text;
    size_t length;
    for (size_t i = first; i < n; i++)
        (void)quern_decoder_put(decoder, tokens[i], &text, &length, NULL);
    quern_decoder_flush(decoder, &text, &length);
}

void quern_decoder_destroy(struct quern_decoder **decoder)
{
    if (!decoder || !*decoder)
        return;
    struct quern_callbacks cb = (*decoder)->cb;
    qn_free(&cb, (*decoder)->text);
    qn_free(&cb, *decoder);
    *decoder = NULL;
}
