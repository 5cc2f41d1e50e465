/* WPM: BERT's word pieces. Words are normalised (first code point of the canonical decomposition, marks and
 * control characters dropped, lower case), then cut into the longest tokens from the left. */
#include "text/unicode.h"
#include "text/vocab.h"

#include <string.h>

/* BERT gives up on words of more than 100 characters, so no piece of one is longer. Keeps hostile
 * vocabularies from taking quadratic time. */
enum { MAX_PIECE = 400 + QN_SPACE_MARK_LEN };

/* Tokens of the word in buf (which begins with the space mark), or the unknown token for the whole of it. */
static bool encode_word(struct qn_encoder *encoder)
{
    const struct qn_vocab *vocab = encoder->vocab;
    size_t first = encoder->ids->n, n = encoder->n_buf;
    size_t longest = vocab->longest < MAX_PIECE ? vocab->longest : MAX_PIECE;
    if (n == QN_SPACE_MARK_LEN)
        return true;
    for (size_t pos = 0; pos < n;) {
        size_t len = n - pos < longest ? n - pos : longest;
        int32_t id = -1;
        for (; len > 0; len--) {
            id = qn_strmap_get(&vocab->map, encoder->buf + pos, len);
            if (id >= 0)
                break;
        }
        if (id < 0) {
            encoder->ids->n = first;
            return vocab->special.unk < 0 || qn_encoder_push(encoder, vocab->special.unk);
        }
        if (!qn_encoder_push(encoder, id))
            return false;
        pos += len;
    }
    return true;
}

static bool end_word(struct qn_encoder *encoder)
{
    bool ok = encode_word(encoder);
    encoder->n_buf = QN_SPACE_MARK_LEN;
    return ok;
}

enum quern_status qn_wpm_encode(struct qn_encoder *encoder, const char *text, size_t len)
{
    encoder->n_buf = 0;
    bool ok = qn_encoder_put(encoder, QN_SPACE_MARK, QN_SPACE_MARK_LEN);
    unsigned n;
    for (size_t i = 0; ok && i < len; i += n) {
        uint32_t cp = qn_utf8_decode(text + i, len - i, &n);
        if (cp == QN_UTF8_BAD || cp == 0xFFFD)
            continue;
        cp = qn_char_nfd_first(cp);
        unsigned kind = qn_char_class(cp);
        if (kind & QN_CH_SPACE) {
            ok = end_word(encoder);
            continue;
        }
        if (kind & (QN_CH_CONTROL | QN_CH_MARK))
            continue;
        bool alone = (kind & QN_CH_PUNCT) || (cp < 0x7F && (kind & QN_CH_SYMBOL)) || qn_char_is_cjk(cp);
        char out[4];
        unsigned out_len = qn_utf8_encode(qn_char_lower(cp), out);
        if (alone)
            ok = end_word(encoder);
        ok = ok && qn_encoder_put(encoder, out, out_len);
        if (alone)
            ok = ok && end_word(encoder);
    }
    ok = ok && end_word(encoder);
    return ok ? QUERN_OK : qn_fail_memory(encoder->err, "tokens");
}
