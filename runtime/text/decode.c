/* Tokens to text, as they come. */
#include "text/unicode.h"
#include "text/vocab.h"

#include <string.h>

/* Where the bytes of a token go: counted always, written where there is room. */
struct sink {
    char *out;
    size_t cap, n;
    uint8_t tail[3]; /* the last bytes, newest last */
};

static void put(struct sink *sink, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++, sink->n++) {
        if (sink->n < sink->cap)
            sink->out[sink->n] = bytes[i];
        memmove(sink->tail, sink->tail + 1, 2);
        sink->tail[2] = (uint8_t)bytes[i];
    }
}

static bool starts_with_mark(struct qn_str text)
{
    return text.len >= QN_SPACE_MARK_LEN && memcmp(text.data, QN_SPACE_MARK, QN_SPACE_MARK_LEN) == 0;
}

/* Space marks become spaces; the first of all is the prefix that encoding added. */
static void put_marked(const struct qn_decoder *decoder, struct qn_str text, struct sink *sink)
{
    bool drop = !decoder->started && decoder->vocab->add_space_prefix;
    for (size_t i = 0; i < text.len;) {
        if (starts_with_mark((struct qn_str){text.data + i, text.len - i})) {
            if (!(drop && i == 0))
                put(sink, " ", 1);
            i += QN_SPACE_MARK_LEN;
        } else
            put(sink, text.data + i++, 1);
    }
}

static void put_letters(struct qn_str text, struct sink *sink)
{
    unsigned n;
    for (size_t i = 0; i < text.len; i += n) {
        uint32_t cp = qn_utf8_decode(text.data + i, text.len - i, &n);
        int byte = qn_alphabet_to_byte(cp);
        char c = (char)byte;
        put(sink, byte >= 0 ? &c : text.data + i, byte >= 0 ? 1 : n);
    }
}

/* Words are parted by spaces, except before . , ! ? and around an apostrophe between two words; the
 * apostrophe is held back until it is known what follows. */
static void put_word(const struct qn_decoder *decoder, struct qn_str text, struct sink *sink)
{
    static const char quote[] = " '";
    bool quoted = decoder->n_held == 2 && memcmp(decoder->held, quote, 2) == 0;
    bool word = starts_with_mark(text);
    if (word) {
        text.data += QN_SPACE_MARK_LEN;
        text.len -= QN_SPACE_MARK_LEN;
    }
    bool stop = word && text.len == 1 && strchr(".,!?", text.data[0]);
    if (quoted) {
        sink->n = 0;
        put(sink, word && !stop ? "'" : quote, word && !stop ? 1 : 2);
    } else if (word && !stop && decoder->started)
        put(sink, " ", 1);
    put(sink, text.data, text.len);
}

/* The others are only written where special tokens are asked for. */
static bool is_text(const struct qn_vocab *vocab, int32_t id)
{
    uint8_t type = vocab->type[id];
    return type != QN_TOKEN_CONTROL && type != QN_TOKEN_UNKNOWN && type != QN_TOKEN_UNUSED;
}

static void put_token(const struct qn_decoder *decoder, int32_t id, struct sink *sink)
{
    const struct qn_vocab *vocab = decoder->vocab;
    struct qn_str text = qn_token_text(vocab, (uint32_t)id);
    bool spelt = vocab->kind == QN_VOCAB_BPE && !(vocab->pre.flags & QN_PRE_RAW);
    int byte = vocab->type[id] == QN_TOKEN_BYTE && !spelt ? qn_byte_of_text(text) : -1;
    if (byte >= 0)
        put(sink, &(char){(char)byte}, 1);
    else if (vocab->type[id] == QN_TOKEN_USER || !is_text(vocab, id))
        put(sink, text.data, text.len);
    else if (spelt)
        put_letters(text, sink);
    else if (vocab->kind == QN_VOCAB_WPM)
        put_word(decoder, text, sink);
    else
        put_marked(decoder, text, sink);
}

void qn_decoder_init(struct qn_decoder *decoder, const struct qn_vocab *vocab, bool specials)
{
    *decoder = (struct qn_decoder){.vocab = vocab, .specials = specials};
}

/* How many of the last bytes wait: an unfinished character, or a WPM apostrophe that begins a word. */
static size_t to_hold(const struct qn_decoder *decoder, const struct sink *sink)
{
    if (decoder->vocab->kind == QN_VOCAB_WPM && decoder->started && sink->n == 2 && sink->tail[1] == ' ' &&
        sink->tail[2] == '\'')
        return 2;
    for (size_t k = sink->n < 3 ? sink->n : 3; k > 0; k--)
        if (qn_utf8_is_prefix(sink->tail + 3 - k, k))
            return k;
    return 0;
}

size_t qn_decode(struct qn_decoder *decoder, int32_t id, char *out, size_t cap)
{
    if (id < 0 || (uint32_t)id >= decoder->vocab->n || (!decoder->specials && !is_text(decoder->vocab, id)))
        return 0;
    struct sink sink = {.out = out, .cap = cap};
    put(&sink, (const char *)decoder->held, decoder->n_held);
    put_token(decoder, id, &sink);
    size_t hold = to_hold(decoder, &sink), n = sink.n - hold;
    if (n > cap)
        return n;
    decoder->started = true;
    decoder->n_held = (uint8_t)hold;
    memcpy(decoder->held, sink.tail + 3 - hold, hold);
    return n;
}

size_t qn_decode_flush(struct qn_decoder *decoder, char *out, size_t cap)
{
    size_t n = decoder->n_held;
    if (n > cap)
        return n;
    memcpy(out, decoder->held, n);
    decoder->n_held = 0;
    return n;
}
