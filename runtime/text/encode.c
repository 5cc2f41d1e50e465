/* Text to tokens: cut at special tokens, then the vocabulary's algorithm on what lies between. */
#include "text/vocab.h"

void qn_ids_finish(const struct quern_callbacks *cb, struct qn_ids *ids)
{
    qn_free(cb, ids->id);
    *ids = (struct qn_ids){0};
}

static enum quern_status encode_fragments(struct qn_encoder *encoder, const char *text,
                                          const struct qn_fragments *fragments)
{
    bool after_special = true;
    for (size_t i = 0; i < fragments->n; i++) {
        struct qn_fragment fragment = fragments->at[i];
        enum quern_status status = QUERN_OK;
        if (fragment.token >= 0) {
            if (!qn_encoder_push(encoder, fragment.token))
                status = qn_fail_memory(encoder->err, "tokens");
        } else if (encoder->vocab->kind == QN_VOCAB_SPM)
            status = qn_spm_encode(encoder, text + fragment.start, fragment.len, after_special);
        else if (encoder->vocab->kind == QN_VOCAB_BPE)
            status = qn_bpe_encode(encoder, text + fragment.start, fragment.len);
        else
            status = qn_wpm_encode(encoder, text + fragment.start, fragment.len);
        if (status != QUERN_OK)
            return status;
        after_special = fragment.token >= 0;
    }
    return QUERN_OK;
}

static bool begins_with(const struct qn_fragments *fragments, int32_t token)
{
    return fragments->n > 0 && fragments->at[0].token == token;
}

enum quern_status qn_encode(const struct quern_callbacks *cb, const struct qn_vocab *vocab, const char *text,
                            size_t len, unsigned flags, struct qn_ids *ids, struct quern_error *err)
{
    return qn_encode_input(cb, vocab, text, len, flags, NULL, 0, ids, err);
}

enum quern_status qn_encode_input(const struct quern_callbacks *cb, const struct qn_vocab *vocab,
                                  const char *text, size_t len, unsigned flags,
                                  const struct quern_range *input, size_t n_input, struct qn_ids *ids,
                                  struct quern_error *err)
{
    if (len > INT32_MAX / 4) /* symbols count bytes in 32 bits, and a space may become three */
        return qn_fail(err, QUERN_ERR_PARAM,
                       "a text of %zu bytes is too long to tokenise at once (limit: %d)", len, INT32_MAX / 4);
    size_t before = ids->n;
    bool wpm = vocab->kind == QN_VOCAB_WPM;
    int32_t first = -1, last = -1;
    if ((flags & (QN_ENCODE_ADD_SPECIAL | QN_ENCODE_ADD_BEGIN)) && vocab->special.add_bos)
        first = wpm ? vocab->special.cls : vocab->special.bos;
    if ((flags & QN_ENCODE_ADD_SPECIAL) && vocab->special.add_eos)
        last = wpm ? vocab->special.sep : vocab->special.eos;
    struct qn_encoder encoder = {.cb = cb, .vocab = vocab, .ids = ids, .err = err};
    struct qn_fragments fragments;
    enum quern_status status = QUERN_OK;
    const struct qn_cut cut = {text, len, (flags & QN_ENCODE_PARSE_SPECIAL) != 0, input, n_input};
    bool ok = qn_specials_cut(cb, vocab, &cut, &fragments);
    if ((flags & QN_ENCODE_ADD_BEGIN) && begins_with(&fragments, first))
        first = -1;
    if (!ok || (first >= 0 && !qn_encoder_push(&encoder, first)))
        status = qn_fail_memory(err, "tokens");
    if (status == QUERN_OK)
        status = encode_fragments(&encoder, text, &fragments);
    if (status == QUERN_OK && last >= 0 && !qn_encoder_push(&encoder, last))
        status = qn_fail_memory(err, "tokens");
    qn_free(cb, fragments.at);
    qn_free(cb, encoder.symbols);
    qn_free(cb, encoder.heap);
    qn_free(cb, encoder.buf);
    qn_splitter_finish(cb, &encoder.splitter);
    if (status != QUERN_OK)
        ids->n = before;
    return status;
}
