/* What methods and filters do with strings. Parts keep their marks of input. */
#include "chat/eval.h"
#include "text/unicode.h"

#include <string.h>
#include <utf8proc.h>

/* ---- case ---- */

static bool is_upper(uint32_t cp)
{
    return utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_LU ||
           (cp >= 0x80 && utf8proc_isupper((utf8proc_int32_t)cp));
}

static bool is_lower(uint32_t cp)
{
    return utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_LL ||
           (cp >= 0x80 && utf8proc_islower((utf8proc_int32_t)cp));
}

static bool is_cased(uint32_t cp)
{
    return is_upper(cp) || is_lower(cp) || utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_LT;
}

static bool put_case(struct qn_builder *b, uint32_t cp, enum qn_case how, bool input)
{
    enum { SHARP_S = 0xDF };
    utf8proc_int32_t c = (utf8proc_int32_t)cp;
    if (cp == SHARP_S && how != QN_LOWER)
        return qn_put(b, how == QN_UPPER ? "SS" : how == QN_FOLD ? "ss" : "Ss", 2, input);
    c = how == QN_UPPER ? utf8proc_toupper(c) : how == QN_TITLE ? utf8proc_totitle(c) : utf8proc_tolower(c);
    return qn_put_char(b, (uint32_t)c, input);
}

bool qn_text_case(struct qn_run *run, const struct qn_text *text, enum qn_case how, struct qn_val *out)
{
    struct qn_builder b = {.run = run, .markup = text->markup};
    bool inside = false; /* a letter came before */
    for (size_t at = 0; at < text->len;) {
        struct qn_char c = qn_char_at(text, at);
        enum qn_case one = how;
        if (how == QN_SWAP)
            one = is_upper(c.cp) ? QN_LOWER : is_lower(c.cp) ? QN_UPPER : QN_SWAP;
        else if (how == QN_CAPITALIZE)
            one = at == 0 ? QN_TITLE : QN_LOWER;
        else if (how == QN_TITLE)
            one = inside ? QN_LOWER : QN_TITLE;
        bool input = qn_text_input_at(text, at);
        if (!(one == QN_SWAP ? qn_put_part(&b, text, at, at + c.len) : put_case(&b, c.cp, one, input)))
            return false;
        inside = how == QN_TITLE && is_cased(c.cp);
        at += c.len;
    }
    return qn_finish(&b, out);
}

bool qn_text_is_case(const struct qn_text *text, bool upper)
{
    bool any = false;
    for (size_t at = 0; at < text->len;) {
        struct qn_char c = qn_char_at(text, at);
        if (is_cased(c.cp)) {
            if (!(upper ? is_upper(c.cp) : is_lower(c.cp)))
                return false;
            any = true;
        }
        at += c.len;
    }
    return any;
}

/* ---- ends ---- */

static bool is_among(uint32_t cp, const struct qn_text *chars)
{
    if (!chars)
        return qn_is_space(cp);
    for (size_t at = 0; at < chars->len;) {
        struct qn_char c = qn_char_at(chars, at);
        if (c.cp == cp)
            return true;
        at += c.len;
    }
    return false;
}

bool qn_text_strip(struct qn_run *run, const struct qn_text *text, const struct qn_text *chars,
                   unsigned sides, struct qn_val *out)
{
    size_t from = 0, to = text->len, cost = 1 + (chars ? chars->len / 16 : 0);
    while ((sides & QN_LEFT) && from < to && is_among(qn_char_at(text, from).cp, chars)) {
        from += qn_char_at(text, from).len;
        if (!qn_spend(run, cost))
            return false;
    }
    while ((sides & QN_RIGHT) && to > from && is_among(qn_char_before(text, to).cp, chars)) {
        to -= qn_char_before(text, to).len;
        if (!qn_spend(run, cost))
            return false;
    }
    *out = qn_str(qn_text_part(run, text, from, to));
    return out->s != NULL;
}

bool qn_text_fill(struct qn_run *run, const struct qn_text *text, int64_t width, const struct qn_text *fill,
                  unsigned sides, struct qn_val *out)
{
    struct qn_builder b = {.run = run};
    int64_t pad = width > (int64_t)text->chars ? width - (int64_t)text->chars : 0;
    int64_t left = sides == (QN_LEFT | QN_RIGHT) ? pad / 2 + (pad & width & 1) : sides == QN_LEFT ? pad : 0;
    return qn_put_fill(&b, fill, left) && qn_put_text(&b, text) && qn_put_fill(&b, fill, pad - left) &&
           qn_finish(&b, out);
}

/* ---- replacing ---- */

bool qn_text_replace(struct qn_run *run, const struct qn_text *text, const struct qn_text *from,
                     const struct qn_text *to, int64_t count, struct qn_val *out)
{
    struct qn_builder b = {.run = run, .markup = text->markup};
    size_t at = 0, hit = 0;
    for (; count != 0 && at <= text->len; count -= count > 0) {
        if (!qn_text_find(run, text, from, at, &hit))
            return false;
        if (hit == SIZE_MAX)
            break;
        if (!qn_put_part(&b, text, at, hit) || !qn_put_text(&b, to) || !qn_spend(run, 1))
            return false;
        at = hit + from->len;
        if (from->len > 0)
            continue;
        if (at == text->len) /* an empty one stands before each character and at the end */
            return qn_finish(&b, out);
        unsigned n = qn_char_at(text, at).len;
        if (!qn_put_part(&b, text, at, at + n))
            return false;
        at += n;
    }
    return qn_put_part(&b, text, at, text->len) && qn_finish(&b, out);
}

bool qn_text_escape(struct qn_run *run, const struct qn_text *text, struct qn_val *out)
{
    static const char *const names[128] = {
        ['&'] = "&amp;", ['<'] = "&lt;", ['>'] = "&gt;", ['\''] = "&#39;", ['"'] = "&#34;"};
    struct qn_builder b = {.run = run, .markup = true};
    for (size_t at = 0; at < text->len;) {
        size_t end = at;
        while (end < text->len && ((text->data[end] & 0x80) || !names[(uint8_t)text->data[end]]))
            end++;
        if (!qn_put_part(&b, text, at, end))
            return false;
        if (end < text->len) {
            const char *name = names[(uint8_t)text->data[end]];
            if (!qn_put(&b, name, strlen(name), qn_text_input_at(text, end)))
                return false;
            end++;
        }
        at = end;
    }
    return qn_finish(&b, out);
}

/* ---- splitting and joining ---- */

static bool add_part(struct qn_run *run, struct qn_seq *seq, const struct qn_text *text, size_t from,
                     size_t to)
{
    const struct qn_text *part = qn_text_part(run, text, from, to);
    return part && qn_seq_add(run, seq, qn_str(part));
}

static bool split_spaces(struct qn_run *run, const struct qn_text *text, int64_t most, struct qn_seq *seq)
{
    size_t at = 0;
    for (;; most -= most > 0) {
        while (at < text->len && qn_is_space(qn_char_at(text, at).cp))
            at += qn_char_at(text, at).len;
        if (at == text->len)
            return true;
        size_t end = at;
        while (end < text->len && !qn_is_space(qn_char_at(text, end).cp))
            end += qn_char_at(text, end).len;
        if (most == 0)
            return add_part(run, seq, text, at, text->len);
        if (!qn_spend(run, (end - at) / 16) || !add_part(run, seq, text, at, end))
            return false;
        at = end;
    }
}

static bool split_spaces_right(struct qn_run *run, const struct qn_text *text, int64_t most,
                               struct qn_seq *seq)
{
    size_t end = text->len;
    for (;; most -= most > 0) {
        while (end > 0 && qn_is_space(qn_char_before(text, end).cp))
            end -= qn_char_before(text, end).len;
        if (end == 0)
            return true;
        if (most == 0)
            return add_part(run, seq, text, 0, end);
        size_t at = end;
        while (at > 0 && !qn_is_space(qn_char_before(text, at).cp))
            at -= qn_char_before(text, at).len;
        if (!qn_spend(run, (end - at) / 16) || !add_part(run, seq, text, at, end))
            return false;
        end = at;
    }
}

static bool split_at(struct qn_run *run, const struct qn_text *text, const struct qn_text *separator,
                     int64_t most, struct qn_seq *seq)
{
    size_t at = 0, hit;
    for (; most != 0; most -= most > 0) {
        if (!qn_text_find(run, text, separator, at, &hit))
            return false;
        if (hit == SIZE_MAX)
            break;
        if (!add_part(run, seq, text, at, hit))
            return false;
        at = hit + separator->len;
    }
    return add_part(run, seq, text, at, text->len);
}

static bool split_at_right(struct qn_run *run, const struct qn_text *text, const struct qn_text *separator,
                           int64_t most, struct qn_seq *seq)
{
    size_t end = text->len, n = separator->len;
    for (; most != 0 && end >= n; most -= most > 0) {
        size_t at = end - n + 1;
        while (at-- > 0) {
            if (text->data[at] == separator->data[0] && memcmp(text->data + at, separator->data, n) == 0)
                break;
            if (!qn_spend(run, at % 16 == 0))
                return false;
        }
        if (at == SIZE_MAX)
            break;
        if (!qn_spend(run, 1 + n / 64) || !add_part(run, seq, text, at + n, end))
            return false;
        end = at;
    }
    return add_part(run, seq, text, 0, end);
}

bool qn_text_split(struct qn_run *run, const struct qn_text *text, const struct qn_text *separator,
                   int64_t most, bool from_right, struct qn_val *out)
{
    struct qn_seq *seq = qn_seq_new(run, 0);
    if (!seq)
        return false;
    if (separator && separator->len == 0)
        return qn_raise(run, "empty separator");
    bool ok = separator ? (from_right ? split_at_right : split_at)(run, text, separator, most, seq)
                        : (from_right ? split_spaces_right : split_spaces)(run, text, most, seq);
    if (!ok)
        return false;
    for (size_t i = 0; from_right && i < seq->n / 2; i++) {
        struct qn_val swap = seq->at[i];
        seq->at[i] = seq->at[seq->n - 1 - i];
        seq->at[seq->n - 1 - i] = swap;
    }
    *out = qn_seq(QN_LIST, seq);
    return true;
}

static bool ends_line(uint32_t cp)
{
    return (cp >= 0x0A && cp <= 0x0D) || (cp >= 0x1C && cp <= 0x1E) || cp == 0x85 || cp == 0x2028 ||
           cp == 0x2029;
}

bool qn_text_lines(struct qn_run *run, const struct qn_text *text, bool keep_ends, struct qn_seq **out)
{
    struct qn_seq *seq = qn_seq_new(run, 0);
    for (size_t at = 0; seq && at < text->len;) {
        size_t end = at, next;
        while (end < text->len && !ends_line(qn_char_at(text, end).cp))
            end += qn_char_at(text, end).len;
        next = end;
        if (end < text->len) {
            next += qn_char_at(text, end).len;
            next += text->data[end] == '\r' && next < text->len && text->data[next] == '\n';
        }
        if (!qn_spend(run, (end - at) / 16) || !add_part(run, seq, text, at, keep_ends ? next : end))
            return false;
        at = next;
    }
    *out = seq;
    return seq != NULL;
}

bool qn_text_join(struct qn_run *run, const struct qn_text *glue, const struct qn_seq *parts,
                  struct qn_val *out)
{
    struct qn_builder b = {.run = run, .markup = glue->markup};
    for (size_t i = 0; i < parts->n; i++) {
        struct qn_val part = parts->at[i];
        if (glue->markup && !(part.kind == QN_STR && part.s->markup)) {
            const struct qn_text *text = qn_to_text(run, part);
            if (!text || !qn_text_escape(run, text, &part))
                return false;
        }
        if (part.kind != QN_STR)
            return qn_raise(run, "join() of a '%s', not of strings", qn_type_name(part));
        if ((i > 0 && !qn_put_text(&b, glue)) || !qn_put_text(&b, part.s))
            return false;
    }
    return qn_finish(&b, out);
}
