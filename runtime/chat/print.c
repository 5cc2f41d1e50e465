/* Values as text: Python's str() and repr(), and JSON. Bytes that come from input stay marked. */
#include "chat/value.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

/* ---- repr ---- */

static bool is_printable(uint32_t cp)
{
    if (cp < 0x7F)
        return cp >= 0x20;
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
        return false;
    default:
        return true;
    }
}

static bool put_text_repr(struct qn_builder *b, const struct qn_text *text)
{
    bool single = text->len > 0 && memchr(text->data, '\'', text->len);
    bool twice = text->len > 0 && memchr(text->data, '"', text->len);
    char quote = single && !twice ? '"' : '\'';
    if (!qn_put(b, &quote, 1, false))
        return false;
    for (size_t at = 0; at < text->len;) {
        struct qn_char c = qn_char_at(text, at);
        bool input = qn_text_input_at(text, at), ok;
        char escaped[16] = {'\\', (char)c.cp};
        if (c.cp == (uint8_t)quote || c.cp == '\\') {
            ok = qn_put(b, escaped, 2, input);
        } else if (c.cp == '\n' || c.cp == '\r' || c.cp == '\t') {
            escaped[1] = c.cp == '\n' ? 'n' : c.cp == '\r' ? 'r' : 't';
            ok = qn_put(b, escaped, 2, input);
        } else if (is_printable(c.cp)) {
            ok = qn_put_part(b, text, at, at + c.len);
        } else {
            const char *form = c.cp < 0x100 ? "\\x%02x" : c.cp < 0x10000 ? "\\u%04x" : "\\U%08x";
            int n = snprintf(escaped, sizeof escaped, form, (unsigned)c.cp);
            ok = qn_put(b, escaped, (size_t)n, input);
        }
        if (!ok)
            return false;
        at += c.len;
    }
    return qn_put(b, &quote, 1, false);
}

static bool put_elements(struct qn_builder *b, const struct qn_seq *seq)
{
    for (size_t i = 0; i < seq->n; i++)
        if ((i > 0 && !qn_put_word(b, ", ")) || !qn_put_repr(b, seq->at[i]))
            return false;
    return true;
}

static bool put_pairs(struct qn_builder *b, const struct qn_dict *dict)
{
    for (size_t i = 0; i < dict->n; i++)
        if ((i > 0 && !qn_put_word(b, ", ")) || !qn_put_repr(b, dict->at[i].key) || !qn_put_word(b, ": ") ||
            !qn_put_repr(b, dict->at[i].value))
            return false;
    return true;
}

static bool put_range(struct qn_builder *b, const struct qn_seq *range)
{
    char text[96];
    int n = snprintf(text, sizeof text, range->step == 1 ? "range(%lld, %lld)" : "range(%lld, %lld, %lld)",
                     (long long)range->start, (long long)range->stop, (long long)range->step);
    return qn_put(b, text, (size_t)n, false);
}

static bool put_container(struct qn_builder *b, struct qn_val v)
{
    switch (v.kind) {
    case QN_LIST:
        return qn_put_word(b, "[") && put_elements(b, v.seq) && qn_put_word(b, "]");
    case QN_TUPLE:
    case QN_GROUP:
        return qn_put_word(b, "(") && put_elements(b, v.seq) && qn_put_word(b, v.seq->n == 1 ? ",)" : ")");
    case QN_VIEW:
        return qn_put_word(b, v.seq->type) && qn_put_word(b, "([") && put_elements(b, v.seq) &&
               qn_put_word(b, "])");
    case QN_NAMESPACE:
        return qn_put_word(b, "<Namespace {") && put_pairs(b, v.dict) && qn_put_word(b, "}>");
    default:
        return qn_put_word(b, "{") && put_pairs(b, v.dict) && qn_put_word(b, "}");
    }
}

static bool put_number(struct qn_builder *b, struct qn_val v)
{
    char text[QN_NUMBER_ROOM];
    size_t n = v.kind == QN_INT ? qn_int_repr(v.i, text) : qn_float_repr(v.f, text);
    return qn_put(b, text, n, false);
}

bool qn_put_repr(struct qn_builder *b, struct qn_val v)
{
    switch (v.kind) {
    case QN_MISSING:
    case QN_UNDEFINED:
        return qn_put_word(b, "Undefined");
    case QN_NONE:
        return qn_put_word(b, "None");
    case QN_BOOL:
        return qn_put_word(b, v.b ? "True" : "False");
    case QN_INT:
    case QN_FLOAT:
        return put_number(b, v);
    case QN_STR:
        if (v.s->markup)
            return qn_put_word(b, "Markup(") && put_text_repr(b, v.s) && qn_put_word(b, ")");
        return put_text_repr(b, v.s);
    case QN_RANGE:
        return put_range(b, v.seq);
    case QN_LIST:
    case QN_TUPLE:
    case QN_GROUP:
    case QN_VIEW:
    case QN_DICT:
    case QN_NAMESPACE:
        if (!qn_enter(b->run) || !put_container(b, v))
            return false;
        qn_leave(b->run);
        return true;
    default:
        return qn_put_word(b, "<") && qn_put_word(b, qn_type_name(v)) && qn_put_word(b, ">");
    }
}

bool qn_put_str(struct qn_builder *b, struct qn_val v)
{
    if (v.kind == QN_STR)
        return qn_put_text(b, v.s);
    return v.kind == QN_UNDEFINED || v.kind == QN_MISSING || qn_put_repr(b, v);
}

const struct qn_text *qn_to_text(struct qn_run *run, struct qn_val v)
{
    if (v.kind == QN_STR)
        return v.s;
    struct qn_builder b = {.run = run};
    return qn_put_str(&b, v) ? qn_builder_text(&b) : NULL;
}

/* ---- JSON ---- */

static bool put_json_unit(struct qn_builder *b, unsigned unit, bool input)
{
    char text[8];
    int n = snprintf(text, sizeof text, "\\u%04x", unit);
    return qn_put(b, text, (size_t)n, input);
}

static bool put_json_text(struct qn_builder *b, const struct qn_text *text, bool ascii)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    if (!qn_put_word(b, "\""))
        return false;
    for (size_t at = 0; at < text->len;) {
        struct qn_char c = qn_char_at(text, at);
        bool input = qn_text_input_at(text, at), ok;
        const char *known = c.cp > 0 && c.cp < 0x80 ? strchr(from, (char)c.cp) : NULL;
        if (known) {
            char escaped[2] = {'\\', to[known - from]};
            ok = qn_put(b, escaped, 2, input);
        } else if (c.cp < 0x20 || (ascii && c.cp >= 0x7F && c.cp < 0x10000)) {
            ok = put_json_unit(b, c.cp, input);
        } else if (ascii && c.cp >= 0x10000) {
            ok = put_json_unit(b, 0xD800 + ((c.cp - 0x10000) >> 10), input) &&
                 put_json_unit(b, 0xDC00 + ((c.cp - 0x10000) & 0x3FF), input);
        } else {
            ok = qn_put_part(b, text, at, at + c.len);
        }
        if (!ok)
            return false;
        at += c.len;
    }
    return qn_put_word(b, "\"");
}

static bool put_json_number(struct qn_builder *b, struct qn_val v)
{
    if (v.kind == QN_FLOAT && !isfinite(v.f))
        return qn_put_word(b, isnan(v.f) ? "NaN" : v.f < 0 ? "-Infinity" : "Infinity");
    return put_number(b, v);
}

static bool put_json_key(struct qn_builder *b, struct qn_val key, const struct qn_json_style *style)
{
    if (key.kind == QN_STR)
        return put_json_text(b, key.s, style->ascii);
    if (!qn_is_number(key) && key.kind != QN_NONE)
        return qn_raise(b->run, "keys must be str, int, float, bool or None, not %s", qn_type_name(key));
    return qn_put_word(b, "\"") && qn_put_json(b, key, style) && qn_put_word(b, "\"");
}

/* What parts elements: a new line where there is indentation. */
static bool put_json_gap(struct qn_builder *b, const struct qn_json_style *style, bool comma, unsigned level)
{
    if (comma) {
        bool ok = style->comma ? qn_put_text(b, style->comma) : qn_put_word(b, style->indent ? "," : ", ");
        if (!ok)
            return false;
    }
    return !style->indent || (qn_put_word(b, "\n") && qn_put_fill(b, style->indent, level));
}

static bool put_json_at(struct qn_builder *b, struct qn_val v, const struct qn_json_style *style,
                        unsigned level);

static bool put_json_dict(struct qn_builder *b, const struct qn_dict *dict, const struct qn_json_style *style,
                          unsigned level)
{
    struct qn_seq *entries = NULL;
    if (style->sort_keys) {
        entries = qn_seq_new(b->run, dict->n);
        struct qn_val *keys = qn_run_alloc(b->run, dict->n, sizeof *keys);
        if (!entries || !keys)
            return false;
        for (size_t i = 0; i < dict->n; i++) {
            keys[i] = dict->at[i].key;
            if (!qn_seq_add(b->run, entries, qn_int((int64_t)i)))
                return false;
        }
        if (!qn_seq_sort(b->run, entries, keys, false))
            return false;
    }
    for (size_t i = 0; i < dict->n; i++) {
        const struct qn_entry *entry = &dict->at[entries ? (size_t)entries->at[i].i : i];
        if (!put_json_gap(b, style, i > 0, level + 1) || !put_json_key(b, entry->key, style) ||
            !(style->colon ? qn_put_text(b, style->colon) : qn_put_word(b, ": ")) ||
            !put_json_at(b, entry->value, style, level + 1))
            return false;
    }
    return dict->n == 0 || put_json_gap(b, style, false, level);
}

static bool put_json_at(struct qn_builder *b, struct qn_val v, const struct qn_json_style *style,
                        unsigned level)
{
    if (!qn_spend(b->run, 1))
        return false;
    switch (v.kind) {
    case QN_NONE:
        return qn_put_word(b, "null");
    case QN_BOOL:
        return qn_put_word(b, v.b ? "true" : "false");
    case QN_INT:
    case QN_FLOAT:
        return put_json_number(b, v);
    case QN_STR:
        return put_json_text(b, v.s, style->ascii);
    case QN_LIST:
    case QN_TUPLE:
    case QN_GROUP:
    case QN_DICT:
        break;
    default:
        return qn_raise(b->run, "Object of type %s is not JSON serializable", qn_type_name(v));
    }
    if (!qn_enter(b->run) || !qn_put_word(b, v.kind == QN_DICT ? "{" : "["))
        return false;
    if (v.kind == QN_DICT) {
        if (!put_json_dict(b, v.dict, style, level))
            return false;
    } else {
        for (size_t i = 0; i < v.seq->n; i++)
            if (!put_json_gap(b, style, i > 0, level + 1) || !put_json_at(b, v.seq->at[i], style, level + 1))
                return false;
        if (v.seq->n > 0 && !put_json_gap(b, style, false, level))
            return false;
    }
    qn_leave(b->run);
    return qn_put_word(b, v.kind == QN_DICT ? "}" : "]");
}

bool qn_put_json(struct qn_builder *b, struct qn_val v, const struct qn_json_style *style)
{
    return put_json_at(b, v, style, 0);
}
