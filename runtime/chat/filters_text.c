/* Filters that make strings. What is no string is printed first. */
#include "chat/eval.h"
#include "text/unicode.h"

#include <string.h>

static bool change_case(struct qn_run *run, struct qn_val self, enum qn_case how, struct qn_val *out)
{
    const struct qn_text *text = qn_to_text(run, self);
    return text && qn_text_case(run, text, how, out);
}

QN_BUILT_IN(filter_lower)
{
    return change_case(run, self, QN_LOWER, out);
}

QN_BUILT_IN(filter_upper)
{
    return change_case(run, self, QN_UPPER, out);
}

QN_BUILT_IN(filter_capitalize)
{
    return change_case(run, self, QN_CAPITALIZE, out);
}

/* Words begin after white space, hyphens and opening brackets. */
QN_BUILT_IN(filter_title)
{
    const struct qn_text *text = qn_to_text(run, self);
    struct qn_builder b = {.run = run};
    bool inside = false;
    for (size_t at = 0; text && at < text->len;) {
        struct qn_char c = qn_char_at(text, at);
        bool apart = qn_is_space(c.cp) || (c.cp > 0 && c.cp < 0x80 && strchr("-({[<", (char)c.cp));
        const struct qn_text *part = qn_text_part(run, text, at, at + c.len);
        struct qn_val changed;
        if (!part || !qn_text_case(run, part, apart || inside ? QN_LOWER : QN_UPPER, &changed) ||
            !qn_put_text(&b, changed.s))
            return false;
        inside = !apart;
        at += c.len;
    }
    return text && qn_finish(&b, out);
}

QN_BUILT_IN(filter_string)
{
    *out = qn_str(qn_to_text(run, self));
    return out->s != NULL;
}

QN_BUILT_IN(filter_trim)
{
    const struct qn_text *text = qn_to_text(run, self), *chars = NULL;
    if (!text || (arg[0].kind != QN_MISSING && arg[0].kind != QN_NONE && !qn_arg_text(run, arg[0], &chars)))
        return false;
    return qn_text_strip(run, text, chars, QN_LEFT | QN_RIGHT, out);
}

QN_BUILT_IN(filter_replace)
{
    const struct qn_text *text = qn_to_text(run, self), *from = qn_to_text(run, arg[0]);
    const struct qn_text *to = qn_to_text(run, arg[1]);
    int64_t count = -1;
    return text && from && to && (arg[2].kind == QN_NONE || qn_arg_int(run, arg[2], -1, &count)) &&
           qn_text_replace(run, text, from, to, count, out);
}

QN_BUILT_IN(filter_center)
{
    const struct qn_text space = {.data = " ", .len = 1, .chars = 1}, *text = qn_to_text(run, self);
    int64_t width;
    return text && qn_arg_int(run, arg[0], 80, &width) &&
           qn_text_fill(run, text, width, &space, QN_LEFT | QN_RIGHT, out);
}

QN_BUILT_IN(filter_indent)
{
    const struct qn_text space = {.data = " ", .len = 1, .chars = 1}, *text, *by = NULL;
    bool first = arg[1].kind != QN_MISSING && qn_truth(arg[1]);
    bool blank = arg[2].kind != QN_MISSING && qn_truth(arg[2]);
    int64_t width = 4;
    struct qn_builder indent = {.run = run}, b = {.run = run};
    struct qn_seq *lines;
    if (!qn_arg_text(run, self, &text))
        return false;
    if (arg[0].kind == QN_STR)
        by = arg[0].s;
    else if (!qn_arg_int(run, arg[0], 4, &width) || !qn_put_fill(&indent, &space, width) ||
             !(by = qn_builder_text(&indent)))
        return false;
    if (!qn_text_lines(run, text, false, &lines))
        return false;
    size_t n = lines->n;
    if (text->len == 0 || memchr("\n\r\v\f\x1c\x1d\x1e", text->data[text->len - 1], 7))
        n++; /* the empty line at the end counts */
    if (n > lines->n && !qn_seq_add(run, lines, qn_str(qn_text_new(run, "", 0, QN_CLEAN))))
        return false;
    for (size_t i = 0; i < lines->n; i++) {
        const struct qn_text *line = lines->at[i].s;
        bool indented = i == 0 ? first : blank || line->len > 0;
        if (!line || (i > 0 && !qn_put_word(&b, "\n")) || (indented && !qn_put_text(&b, by)) ||
            !qn_put_text(&b, line))
            return false;
    }
    return qn_finish(&b, out);
}

QN_BUILT_IN(filter_truncate)
{
    static const struct qn_text dots = {.data = "...", .len = 3, .chars = 3};
    const struct qn_text *end = &dots, *kept;
    bool whole_words = arg[1].kind == QN_MISSING || !qn_truth(arg[1]);
    int64_t length, leeway = 5;
    size_t n, at;
    if (!qn_arg_int(run, arg[0], 255, &length) ||
        (arg[2].kind != QN_MISSING && !qn_arg_text(run, arg[2], &end)) ||
        (arg[3].kind != QN_NONE && !qn_arg_int(run, arg[3], 5, &leeway)) || !qn_length(run, self, &n))
        return false;
    if (length < (int64_t)end->chars || leeway < 0)
        return qn_raise(run, "truncate to %lld characters is too short", (long long)length);
    *out = self;
    if (leeway > INT64_MAX - length || (int64_t)n <= length + leeway)
        return true;
    if (self.kind != QN_STR)
        return qn_raise(run, "truncate of '%s'", qn_type_name(self));
    if (!qn_text_offset(run, self.s, (size_t)(length - (int64_t)end->chars), &at))
        return false;
    size_t space = at;
    while (whole_words && space > 0 && self.s->data[space - 1] != ' ')
        space--;
    kept = qn_text_part(run, self.s, 0, whole_words && space > 0 ? space - 1 : at);
    struct qn_builder b = {.run = run};
    return kept && qn_put_text(&b, kept) && qn_put_text(&b, end) && qn_finish(&b, out);
}

QN_BUILT_IN(filter_wordcount)
{
    const struct qn_text *text = qn_to_text(run, self);
    int64_t n = 0;
    bool inside = false;
    for (size_t at = 0; text && at < text->len;) {
        struct qn_char c = qn_char_at(text, at);
        bool word = c.cp == '_' || (qn_char_class(c.cp) & (QN_CH_LETTER | QN_CH_NUMBER));
        n += word && !inside;
        inside = word;
        at += c.len;
    }
    *out = qn_int(n);
    return text && qn_spend(run, text->len / 16);
}

static bool put_url(struct qn_builder *b, const struct qn_text *text, bool query)
{
    static const char safe[] = "_.-~/", hex[] = "0123456789ABCDEF";
    for (size_t at = 0; at < text->len; at++) {
        uint8_t c = (uint8_t)text->data[at];
        bool input = qn_text_input_at(text, at);
        bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                     (c > 0 && strchr(safe, c) && !(query && c == '/'));
        char escaped[3] = {'%', hex[c >> 4], hex[c & 15]};
        bool ok = plain               ? qn_put(b, &text->data[at], 1, input)
                  : query && c == ' ' ? qn_put(b, "+", 1, input)
                                      : qn_put(b, escaped, 3, input);
        if (!ok)
            return false;
    }
    return true;
}

QN_BUILT_IN(filter_urlencode)
{
    struct qn_builder b = {.run = run};
    struct qn_seq *pairs, *pair;
    struct qn_val items = self;
    bool iterable = self.kind == QN_DICT || self.kind == QN_UNDEFINED || qn_is_seq(self);
    const struct qn_text *text = iterable ? NULL : qn_to_text(run, self);
    if (!iterable)
        return text && put_url(&b, text, false) && qn_finish(&b, out);
    if (self.kind == QN_DICT) {
        const struct qn_text name = {.data = "items", .len = 5, .chars = 5};
        const struct qn_args none = {.n = 0};
        if (!qn_apply(run, qn_method_find(self, &name), self, &none, &items))
            return false;
    }
    if (!qn_iterate(run, items, &pairs))
        return false;
    for (size_t i = 0; i < pairs->n; i++) {
        if (!qn_iterate(run, pairs->at[i], &pair))
            return false;
        if (pair->n != 2)
            return qn_raise(run, "urlencode needs pairs");
        const struct qn_text *key = qn_to_text(run, pair->at[0]);
        const struct qn_text *value = key ? qn_to_text(run, pair->at[1]) : NULL;
        if (!value || (i > 0 && !qn_put_word(&b, "&")) || !put_url(&b, key, true) || !qn_put_word(&b, "=") ||
            !put_url(&b, value, true))
            return false;
    }
    return qn_finish(&b, out);
}

QN_BUILT_IN(filter_format)
{
    const struct qn_text *text = qn_to_text(run, self);
    if (!text)
        return false;
    if (args->n > 0 && args->n_named > 0)
        return qn_raise(run, "format takes arguments by place or by name, not both");
    struct qn_seq places = {.at = args->at, .n = args->n};
    struct qn_val values = qn_seq(QN_TUPLE, &places);
    if (args->n_named > 0) {
        values = qn_dict(qn_dict_new(run));
        for (size_t i = 0; i < args->n_named; i++)
            if (!values.dict || !qn_dict_put(run, values.dict, args->named[i].key, args->named[i].value))
                return false;
    }
    return qn_format_percent(run, text, values, out);
}

QN_BUILT_IN(filter_escape)
{
    *out = self;
    if (self.kind == QN_STR && self.s->markup)
        return true;
    const struct qn_text *text = qn_to_text(run, self);
    return text && qn_text_escape(run, text, out);
}

QN_BUILT_IN(filter_forceescape)
{
    const struct qn_text *text = qn_to_text(run, self);
    return text && qn_text_escape(run, text, out);
}

QN_BUILT_IN(filter_safe)
{
    const struct qn_text *text = qn_to_text(run, self);
    struct qn_builder b = {.run = run, .markup = true};
    return text && qn_put_text(&b, text) && qn_finish(&b, out);
}

static const struct qn_function filters[] = {
    {"capitalize", filter_capitalize, "", 0, false},
    {"center", filter_center, "width", 0, false},
    {"e", filter_escape, "", 0, false},
    {"escape", filter_escape, "", 0, false},
    {"forceescape", filter_forceescape, "", 0, false},
    {"format", filter_format, NULL, 0, false},
    {"indent", filter_indent, "width first blank", 0, false},
    {"lower", filter_lower, "", 0, false},
    {"replace", filter_replace, "old new count", 2, false},
    {"safe", filter_safe, "", 0, false},
    {"string", filter_string, "", 0, false},
    {"title", filter_title, "", 0, false},
    {"trim", filter_trim, "chars", 0, false},
    {"truncate", filter_truncate, "length killwords end leeway", 0, false},
    {"upper", filter_upper, "", 0, false},
    {"urlencode", filter_urlencode, "", 0, false},
    {"wordcount", filter_wordcount, "", 0, false},
};
const struct qn_table qn_text_filters = {filters, QN_LEN(filters)};
