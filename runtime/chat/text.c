/* Texts: code points, parts, and which bytes are input. */
#include "chat/value.h"
#include "text/unicode.h"

#include <string.h>

size_t qn_count_chars(const char *data, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += ((uint8_t)data[i] & 0xC0) != 0x80;
    return n;
}

bool qn_is_space(uint32_t cp)
{
    return (cp >= 9 && cp <= 13) || (cp >= 0x1C && cp <= 0x20) || cp == 0x85 || cp == 0xA0 || cp == 0x1680 ||
           (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F ||
           cp == 0x3000;
}

struct qn_char qn_char_at(const struct qn_text *text, size_t byte)
{
    struct qn_char c;
    c.cp = qn_utf8_decode(text->data + byte, text->len - byte, &c.len);
    return c;
}

struct qn_char qn_char_before(const struct qn_text *text, size_t byte)
{
    size_t at = byte - 1;
    while (((uint8_t)text->data[at] & 0xC0) == 0x80)
        at--;
    return qn_char_at(text, at);
}

static struct qn_text *make(struct qn_run *run, const char *data, size_t len, size_t chars,
                            enum qn_taint taint)
{
    struct qn_text *text = qn_run_alloc(run, 1, sizeof *text);
    if (text)
        *text =
            (struct qn_text){.data = data, .len = len, .chars = chars, .taint = len > 0 ? taint : QN_CLEAN};
    return text;
}

const struct qn_text *qn_text_new(struct qn_run *run, const char *data, size_t len, enum qn_taint taint)
{
    char *copy = qn_run_alloc(run, len, 1);
    if (!copy)
        return NULL;
    if (len > 0)
        memcpy(copy, data, len);
    return make(run, copy, len, qn_count_chars(data, len), taint);
}

const struct qn_text *qn_text_part(struct qn_run *run, const struct qn_text *text, size_t from, size_t to)
{
    if (from == 0 && to == text->len)
        return text;
    size_t len = to - from;
    if (!qn_spend(run, 1 + len / 64))
        return NULL;
    size_t chars = text->chars == text->len ? len : qn_count_chars(text->data + from, len);
    struct qn_text *part = make(run, text->data + from, len, chars, text->taint);
    if (part && part->taint == QN_MIXED)
        part->marks = text->marks + from;
    if (part)
        part->markup = text->markup;
    return part;
}

bool qn_text_offset(struct qn_run *run, const struct qn_text *text, size_t index, size_t *offset)
{
    *offset = index;
    if (text->chars == text->len)
        return true;
    size_t at = 0;
    for (; at < text->len; at++) {
        if (((uint8_t)text->data[at] & 0xC0) != 0x80 && index-- == 0)
            break;
    }
    *offset = at;
    return qn_spend(run, at / 16);
}

bool qn_text_find(struct qn_run *run, const struct qn_text *text, const struct qn_text *needle, size_t from,
                  size_t *at)
{
    *at = SIZE_MAX;
    if (needle->len == 0) {
        *at = from;
        return true;
    }
    size_t start = from;
    while (text->len - from >= needle->len) {
        const char *hit = memchr(text->data + from, needle->data[0], text->len - from - needle->len + 1);
        if (!hit)
            break;
        from = (size_t)(hit - text->data);
        if (!qn_spend(run, 1 + needle->len / 64))
            return false;
        if (memcmp(hit, needle->data, needle->len) == 0) {
            *at = from;
            break;
        }
        from++;
    }
    return qn_spend(run, ((*at == SIZE_MAX ? text->len : *at) - start) / 64);
}

bool qn_text_is(const struct qn_text *text, const char *word)
{
    return text->len == strlen(word) && memcmp(text->data, word, text->len) == 0;
}

/* The order of bytes is the order of code points. */
int qn_text_order(const struct qn_text *a, const struct qn_text *b)
{
    size_t n = a->len < b->len ? a->len : b->len;
    int order = n > 0 ? memcmp(a->data, b->data, n) : 0;
    return order != 0 ? order : (a->len > b->len) - (a->len < b->len);
}

/* ---- builders ---- */

static bool grow(struct qn_builder *b, size_t need)
{
    size_t cap = b->cap < 64 ? 64 : b->cap;
    while (cap < need)
        cap *= 2;
    char *data = qn_arena_extend(&b->run->arena, b->data, b->len, cap);
    if (!data)
        return qn_raise_memory(b->run);
    b->data = data;
    b->cap = cap;
    return true;
}

/* Makes marks for all of cap; those that are there are kept, those of one kind written out. */
static bool grow_marks(struct qn_builder *b)
{
    size_t old = b->marks ? b->len : 0;
    uint8_t *marks = qn_arena_extend(&b->run->arena, b->marks, old, b->cap);
    if (!marks)
        return qn_raise_memory(b->run);
    if (!b->marks)
        memset(marks, b->taint == QN_INPUT, b->len);
    b->marks = marks;
    b->cap_marks = b->cap;
    b->taint = QN_MIXED;
    return true;
}

/* Room for len more bytes, which are input or not, or (QN_MIXED) both. */
static bool prepare(struct qn_builder *b, size_t len, enum qn_taint taint)
{
    if (len > QN_CHAT_TEXT_MAX - b->len)
        return qn_raise_limit(b->run, "32 MiB of text");
    if (!qn_spend(b->run, 1 + len / 64) || (b->len + len > b->cap && !grow(b, b->len + len)))
        return false;
    if (b->len == 0 && taint != QN_MIXED)
        b->taint = taint;
    if ((b->taint != taint || taint == QN_MIXED) && b->cap_marks < b->cap)
        return grow_marks(b);
    return true;
}

bool qn_put(struct qn_builder *b, const char *data, size_t len, bool input)
{
    if (len == 0)
        return true;
    if (!prepare(b, len, input ? QN_INPUT : QN_CLEAN))
        return false;
    memcpy(b->data + b->len, data, len);
    if (b->taint == QN_MIXED)
        memset(b->marks + b->len, input, len);
    b->len += len;
    return true;
}

bool qn_put_word(struct qn_builder *b, const char *word)
{
    return qn_put(b, word, strlen(word), false);
}

bool qn_put_char(struct qn_builder *b, uint32_t cp, bool input)
{
    char bytes[4];
    return qn_put(b, bytes, qn_utf8_encode(cp, bytes), input);
}

bool qn_put_part(struct qn_builder *b, const struct qn_text *text, size_t from, size_t to)
{
    if (text->taint != QN_MIXED)
        return qn_put(b, text->data + from, to - from, text->taint == QN_INPUT);
    if (to == from)
        return true;
    if (!prepare(b, to - from, QN_MIXED))
        return false;
    memcpy(b->data + b->len, text->data + from, to - from);
    memcpy(b->marks + b->len, text->marks + from, to - from);
    b->len += to - from;
    return true;
}

bool qn_put_text(struct qn_builder *b, const struct qn_text *text)
{
    return qn_put_part(b, text, 0, text->len);
}

bool qn_put_fill(struct qn_builder *b, const struct qn_text *text, int64_t times)
{
    if (times <= 0 || text->len == 0)
        return true;
    if ((uint64_t)times > QN_CHAT_TEXT_MAX / text->len)
        return qn_raise_limit(b->run, "32 MiB of text");
    for (int64_t i = 0; i < times; i++)
        if (!qn_put_text(b, text))
            return false;
    return true;
}

const struct qn_text *qn_builder_text(struct qn_builder *b)
{
    if (!qn_spend(b->run, b->len / 64))
        return NULL;
    struct qn_text *text = make(b->run, b->data ? b->data : "", b->len,
                                b->len > 0 ? qn_count_chars(b->data, b->len) : 0, b->taint);
    if (!text)
        return NULL;
    text->marks = text->taint == QN_MIXED ? b->marks : NULL;
    text->markup = b->markup;
    return text;
}
