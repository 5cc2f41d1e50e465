/* BPE: pieces of the text, each merged by rank; over GPT-2's byte letters, or over UTF-8 with byte fallback.
 */
#include "text/unicode.h"
#include "text/vocab.h"

#include <string.h>

static bool bpe_rule(const struct qn_vocab *vocab, const char *text, const struct qn_symbol *left,
                     const struct qn_symbol *right, uint32_t *rank, uint32_t *merged)
{
    const struct qn_pair_slot *pair = left->id == UINT32_MAX || right->id == UINT32_MAX
                                          ? NULL
                                          : qn_pairmap_get(&vocab->merges, left->id, right->id);
    if (!pair)
        return false;
    *rank = pair->value[0];
    *merged = pair->value[1];
    return true;
}

/* Pushes a piece that is a token as a whole; *done tells whether it was one. */
static bool push_whole(struct qn_encoder *encoder, const char *text, size_t len, bool *done)
{
    const struct qn_vocab *vocab = encoder->vocab;
    char spelt[512];
    size_t n = 0;
    *done = false;
    if (vocab->pre.flags & QN_PRE_RAW) {
        if (len > vocab->longest)
            return true;
    } else {
        if (len > vocab->longest || len > sizeof spelt / 2)
            return true;
        for (size_t i = 0; i < len; i++)
            n += qn_utf8_encode(qn_byte_to_alphabet((uint8_t)text[i]), spelt + n);
        text = spelt;
        len = n;
    }
    int32_t id = qn_strmap_get(&vocab->map, text, len);
    if (id < 0 || id >= (int32_t)vocab->n ||
        (vocab->type[id] != QN_TOKEN_NORMAL && vocab->type[id] != QN_TOKEN_USER))
        return true;
    *done = true;
    return qn_encoder_push(encoder, id);
}

/* One symbol a byte, or a character where the vocabulary is raw. */
static bool spell(struct qn_encoder *encoder, const char *text, size_t len)
{
    const struct qn_vocab *vocab = encoder->vocab;
    encoder->n_symbols = 0;
    unsigned n = 1;
    for (size_t i = 0; i < len; i += n) {
        uint32_t id;
        if (vocab->pre.flags & QN_PRE_RAW) {
            qn_utf8_decode(text + i, len - i, &n);
            id = (uint32_t)qn_strmap_get(&vocab->map, text + i, n);
        } else
            id = vocab->byte_symbol[(uint8_t)text[i]];
        if (!qn_encoder_symbol(encoder, (uint32_t)i, n, id))
            return false;
    }
    return true;
}

static bool encode_piece(struct qn_encoder *encoder, const char *text, size_t len)
{
    const struct qn_vocab *vocab = encoder->vocab;
    if (vocab->pre.flags & QN_PRE_WHOLE) {
        bool done;
        if (!push_whole(encoder, text, len, &done))
            return false;
        if (done)
            return true;
    }
    if (!spell(encoder, text, len) || !qn_merge(encoder, text, bpe_rule, QN_MERGE_SHORT))
        return false;
    for (int32_t i = 0; i >= 0; i = encoder->symbols[i].next) {
        const struct qn_symbol *symbol = &encoder->symbols[i];
        bool ok = symbol->id < vocab->n ? qn_encoder_push(encoder, (int32_t)symbol->id)
                                        : qn_encoder_bytes(encoder, text + symbol->start, symbol->len);
        if (!ok)
            return false;
    }
    return true;
}

enum quern_status qn_bpe_encode(struct qn_encoder *encoder, const char *text, size_t len)
{
    if (encoder->vocab->pre.flags & QN_PRE_RAW) {
        encoder->n_buf = 0;
        for (size_t i = 0; i < len; i++) {
            bool space = text[i] == ' ';
            if (!qn_encoder_put(encoder, space ? QN_SPACE_MARK : text + i, space ? QN_SPACE_MARK_LEN : 1))
                return qn_fail_memory(encoder->err, "tokens");
        }
        text = encoder->buf;
        len = encoder->n_buf;
    }
    struct qn_splitter *splitter = &encoder->splitter;
    enum quern_status status =
        qn_pre_split(encoder->cb, &encoder->vocab->pre, splitter, text, len, encoder->err);
    size_t start = 0;
    for (size_t i = 0; status == QUERN_OK && i < splitter->n; start = splitter->end[i++])
        if (!encode_piece(encoder, text + start, splitter->end[i] - start))
            status = qn_fail_memory(encoder->err, "tokens");
    return status;
}

/* ---- loading ---- */

/* Id of a symbol, made on first sight where it is not a token. `text` must live as long as the vocabulary. */
static bool intern(const struct quern_callbacks *cb, struct qn_vocab *vocab, const char *text, size_t len,
                   uint32_t *id)
{
    int32_t found = qn_strmap_get(&vocab->map, text, len);
    *id = found >= 0 ? (uint32_t)found : vocab->n_symbols;
    return found >= 0 || qn_strmap_put(cb, &vocab->map, text, len, (int32_t)vocab->n_symbols++);
}

/* Adds merge `rank`, "left right". `room` is where texts of symbols without a token go; the merged text is
 * tried there. */
static bool add_merge(const struct quern_callbacks *cb, struct qn_vocab *vocab, struct qn_str merge,
                      uint32_t rank, char **room, bool *parsed)
{
    const char *space = merge.len > 1 ? memchr(merge.data + 1, ' ', merge.len - 1) : NULL;
    *parsed = space && space + 1 < merge.data + merge.len;
    if (!*parsed)
        return true;
    size_t left_len = (size_t)(space - merge.data), right_len = merge.len - left_len - 1;
    char *text = *room; /* left, right: as one it is the merged text */
    memcpy(text, merge.data, left_len);
    memcpy(text + left_len, space + 1, right_len);
    uint32_t left, right, merged, before = vocab->n_symbols;
    if (!intern(cb, vocab, text, left_len, &left) || !intern(cb, vocab, text + left_len, right_len, &right) ||
        !intern(cb, vocab, text, left_len + right_len, &merged))
        return false;
    if (vocab->n_symbols != before)
        *room += left_len + right_len;
    return qn_pairmap_get(&vocab->merges, left, right) ||
           qn_pairmap_add(cb, &vocab->merges, left, right, rank, merged);
}

static enum quern_status load_merges(const struct quern_callbacks *cb, struct qn_vocab *vocab,
                                     const struct qn_gguf *gguf, struct quern_error *err)
{
    const struct qn_gguf_kv *merges;
    enum quern_status status =
        qn_gguf_array(gguf, "tokenizer.ggml.merges", QN_GGUF_STRING, &merges, true, err);
    if (status != QUERN_OK)
        return status;
    if (merges->n > UINT32_MAX / 8)
        return qn_fail(err, QUERN_ERR_FILE, "%s: tokenizer.ggml.merges has %llu entries, too many",
                       qn_gguf_name(gguf), (unsigned long long)merges->n);
    vocab->extra_blob = qn_alloc(cb, (size_t)merges->bytes + 1024, 1);
    if (!vocab->extra_blob || !qn_pairmap_init(cb, &vocab->merges, (size_t)merges->n))
        return qn_fail_memory(err, "the merges of the vocabulary");
    char *room = vocab->extra_blob;
    for (unsigned byte = 0; byte < 256; byte++) {
        unsigned len = qn_utf8_encode(qn_byte_to_alphabet((uint8_t)byte), room);
        if (!intern(cb, vocab, room, len, &vocab->byte_symbol[byte]))
            return qn_fail_memory(err, "the merges of the vocabulary");
        room += len;
    }
    uint64_t cursor = 0;
    struct qn_str merge;
    uint32_t rank = 0, broken = 0, first_broken = 0;
    for (; qn_gguf_next_str(merges, &cursor, &merge); rank++) {
        bool parsed;
        if (!add_merge(cb, vocab, merge, rank, &room, &parsed))
            return qn_fail_memory(err, "the merges of the vocabulary");
        if (!parsed && broken++ == 0)
            first_broken = rank;
    }
    if (broken > 0)
        qn_log(cb, QUERN_LOG_WARNING,
               "%s: tokenizer.ggml.merges: %u entries (first: %u) are not two symbols with a space between; "
               "ignored",
               qn_gguf_name(gguf), broken, first_broken);
    return QUERN_OK;
}

enum quern_status qn_bpe_load(const struct quern_callbacks *cb, struct qn_vocab *vocab,
                              const struct qn_gguf *gguf, const char *pre, size_t pre_len,
                              struct quern_error *err)
{
    enum quern_status status = qn_pre_create(&vocab->cb, &vocab->pre, pre, pre_len, err);
    if (status != QUERN_OK)
        return status;
    vocab->n_symbols = vocab->n;
    status = load_merges(cb, vocab, gguf, err);
    if (status != QUERN_OK)
        return status;
    unsigned missing = 0;
    for (unsigned byte = 0; byte < 256; byte++) {
        if (!(vocab->pre.flags & QN_PRE_RAW))
            vocab->byte_token[byte] =
                vocab->byte_symbol[byte] < vocab->n ? (int32_t)vocab->byte_symbol[byte] : -1;
        missing += vocab->byte_token[byte] < 0;
    }
    if (missing > 0)
        qn_log(cb, QUERN_LOG_INFO,
               "%s: %u of the 256 bytes have no token; where a text has them, the unknown token (if any) "
               "stands in",
               qn_gguf_name(gguf), missing);
    return status;
}
