/* Methods of strings, lists and dicts. Those that would change their object are not there. */
#include "chat/eval.h"
#include "text/unicode.h"

#include <string.h>

/* ---- strings: places ---- */

/* The bytes that start and stop (counted in characters, as in a slice) leave of a text; *in: there is such a
 * place at all. */
static bool text_range(struct qn_run *run, const struct qn_text *text, const struct qn_val bounds[2],
                       size_t *from, size_t *to, bool *in)
{
    int64_t n = (int64_t)text->chars, at[2] = {0, n};
    for (int i = 0; i < 2; i++) {
        if (bounds[i].kind == QN_NONE || bounds[i].kind == QN_MISSING)
            continue;
        if (!qn_arg_int(run, bounds[i], 0, &at[i]))
            return false;
        if (at[i] < 0)
            at[i] = at[i] < -n ? 0 : at[i] + n;
    }
    at[1] = at[1] > n ? n : at[1];
    *in = at[0] <= at[1];
    return !*in ||
           (qn_text_offset(run, text, (size_t)at[0], from) && qn_text_offset(run, text, (size_t)at[1], to));
}

/* The first place, or the last one, in bytes; SIZE_MAX: none. */
static bool find_place(struct qn_run *run, struct qn_val self, const struct qn_val *arg, bool last,
                       size_t *place)
{
    const struct qn_text *needle;
    size_t from, to;
    bool in;
    *place = SIZE_MAX;
    if (!qn_arg_text(run, arg[0], &needle) || !text_range(run, self.s, &arg[1], &from, &to, &in))
        return false;
    if (!in || to - from < needle->len)
        return true;
    struct qn_text window = *self.s;
    window.len = to;
    if (!last)
        return qn_text_find(run, &window, needle, from, place);
    for (size_t at = to - needle->len + 1; at-- > from;) {
        if (needle->len == 0 || memcmp(window.data + at, needle->data, needle->len) == 0) {
            *place = at;
            return true;
        }
        if (!qn_spend(run, 1))
            return false;
    }
    return true;
}

static bool find_any(struct qn_run *run, struct qn_val self, const struct qn_val *arg, bool last, bool needed,
                     struct qn_val *out)
{
    size_t place;
    if (!find_place(run, self, arg, last, &place))
        return false;
    if (place == SIZE_MAX && needed)
        return qn_raise(run, "substring not found");
    *out = qn_int(place == SIZE_MAX ? -1 : (int64_t)qn_count_chars(self.s->data, place));
    return qn_spend(run, place == SIZE_MAX ? 0 : place / 64);
}

QN_BUILT_IN(text_find)
{
    return find_any(run, self, arg, false, false, out);
}

QN_BUILT_IN(text_rfind)
{
    return find_any(run, self, arg, true, false, out);
}

QN_BUILT_IN(text_index)
{
    return find_any(run, self, arg, false, true, out);
}

QN_BUILT_IN(text_rindex)
{
    return find_any(run, self, arg, true, true, out);
}

QN_BUILT_IN(text_count)
{
    const struct qn_text *needle;
    size_t at, to, hit;
    bool in;
    int64_t n = 0;
    if (!qn_arg_text(run, arg[0], &needle) || !text_range(run, self.s, &arg[1], &at, &to, &in))
        return false;
    struct qn_text window = *self.s;
    if (in && needle->len == 0) {
        n = (int64_t)qn_count_chars(window.data + at, to - at) + 1;
        in = false;
    }
    for (window.len = in ? to : 0; in && at <= to; at = hit + needle->len, n++) {
        if (!qn_text_find(run, &window, needle, at, &hit))
            return false;
        if (hit == SIZE_MAX)
            break;
    }
    *out = qn_int(n);
    return true;
}

static bool has_affix(const struct qn_text *text, size_t from, size_t to, const struct qn_text *affix,
                      bool end)
{
    return to - from >= affix->len &&
           memcmp(text->data + (end ? to - affix->len : from), affix->data, affix->len) == 0;
}

static bool any_affix(struct qn_run *run, struct qn_val self, const struct qn_val *arg, bool end,
                      struct qn_val *out)
{
    size_t from, to;
    bool in, found = false;
    if (!qn_need_defined(run, arg[0]) || !text_range(run, self.s, &arg[1], &from, &to, &in))
        return false;
    struct qn_seq one = {.at = (struct qn_val *)&arg[0], .n = 1};
    const struct qn_seq *affixes = qn_is_tuple(arg[0]) ? arg[0].seq : &one;
    for (size_t i = 0; i < affixes->n && !found; i++) {
        const struct qn_text *affix;
        if (!qn_arg_text(run, affixes->at[i], &affix) || !qn_spend(run, 1 + affix->len / 64))
            return false;
        found = in && has_affix(self.s, from, to, affix, end);
    }
    *out = qn_bool(found);
    return true;
}

QN_BUILT_IN(text_startswith)
{
    return any_affix(run, self, arg, false, out);
}

QN_BUILT_IN(text_endswith)
{
    return any_affix(run, self, arg, true, out);
}

static bool remove_affix(struct qn_run *run, struct qn_val self, const struct qn_val *arg, bool end,
                         struct qn_val *out)
{
    const struct qn_text *affix, *text = self.s;
    if (!qn_arg_text(run, arg[0], &affix))
        return false;
    size_t n = has_affix(text, 0, text->len, affix, end) ? affix->len : 0;
    *out = qn_str(qn_text_part(run, text, end ? 0 : n, end ? text->len - n : text->len));
    return out->s != NULL;
}

QN_BUILT_IN(text_removeprefix)
{
    return remove_affix(run, self, arg, false, out);
}

QN_BUILT_IN(text_removesuffix)
{
    return remove_affix(run, self, arg, true, out);
}

/* ---- strings: ends and parts ---- */

static bool strip_sides(struct qn_run *run, struct qn_val self, struct qn_val chars, unsigned sides,
                        struct qn_val *out)
{
    const struct qn_text *among = NULL;
    if (chars.kind != QN_MISSING && chars.kind != QN_NONE && !qn_arg_text(run, chars, &among))
        return false;
    return qn_text_strip(run, self.s, among, sides, out);
}

QN_BUILT_IN(text_strip)
{
    return strip_sides(run, self, arg[0], QN_LEFT | QN_RIGHT, out);
}

QN_BUILT_IN(text_lstrip)
{
    return strip_sides(run, self, arg[0], QN_LEFT, out);
}

QN_BUILT_IN(text_rstrip)
{
    return strip_sides(run, self, arg[0], QN_RIGHT, out);
}

static bool split_any(struct qn_run *run, struct qn_val self, const struct qn_val *arg, bool from_right,
                      struct qn_val *out)
{
    const struct qn_text *separator = NULL;
    int64_t most;
    if ((arg[0].kind != QN_MISSING && arg[0].kind != QN_NONE && !qn_arg_text(run, arg[0], &separator)) ||
        !qn_arg_int(run, arg[1], -1, &most))
        return false;
    return qn_text_split(run, self.s, separator, most, from_right, out);
}

QN_BUILT_IN(text_split)
{
    return split_any(run, self, arg, false, out);
}

QN_BUILT_IN(text_rsplit)
{
    return split_any(run, self, arg, true, out);
}

QN_BUILT_IN(text_splitlines)
{
    *out = qn_seq(QN_LIST, NULL);
    return qn_text_lines(run, self.s, arg[0].kind != QN_MISSING && qn_truth(arg[0]), &out->seq);
}

static bool partition_any(struct qn_run *run, struct qn_val self, const struct qn_val *arg, bool last,
                          struct qn_val *out)
{
    size_t place;
    const struct qn_val where[3] = {arg[0], QN_VAL_NONE, QN_VAL_NONE};
    if (!find_place(run, self, where, last, &place))
        return false;
    if (arg[0].s->len == 0)
        return qn_raise(run, "empty separator");
    bool found = place != SIZE_MAX;
    size_t len = self.s->len, from = found ? place : last ? 0 : len;
    size_t to = found ? place + arg[0].s->len : from;
    const struct qn_text *parts[3] = {qn_text_part(run, self.s, 0, from), qn_text_part(run, self.s, from, to),
                                      qn_text_part(run, self.s, to, len)};
    struct qn_seq *seq = qn_seq_new(run, 3);
    for (int i = 0; i < 3; i++)
        if (!seq || !parts[i] || !qn_seq_add(run, seq, qn_str(parts[i])))
            return false;
    *out = qn_seq(QN_TUPLE, seq);
    return true;
}

QN_BUILT_IN(text_partition)
{
    return partition_any(run, self, arg, false, out);
}

QN_BUILT_IN(text_rpartition)
{
    return partition_any(run, self, arg, true, out);
}

QN_BUILT_IN(text_join)
{
    struct qn_seq *parts;
    return qn_iterate(run, arg[0], &parts) && qn_text_join(run, self.s, parts, out);
}

QN_BUILT_IN(text_replace)
{
    const struct qn_text *from, *to;
    int64_t count;
    return qn_arg_text(run, arg[0], &from) && qn_arg_text(run, arg[1], &to) &&
           qn_arg_int(run, arg[2], -1, &count) && qn_text_replace(run, self.s, from, to, count, out);
}

QN_BUILT_IN(text_format)
{
    return qn_format_braces(run, self.s, args, out);
}

/* ---- strings: width ---- */

static bool fill_any(struct qn_run *run, struct qn_val self, const struct qn_val *arg, unsigned sides,
                     struct qn_val *out)
{
    const struct qn_text space = {.data = " ", .len = 1, .chars = 1}, *fill = &space;
    int64_t width;
    if (!qn_arg_int(run, arg[0], 0, &width) ||
        (arg[1].kind != QN_MISSING && !qn_arg_text(run, arg[1], &fill)))
        return false;
    if (fill->chars != 1)
        return qn_raise(run, "the fill character must be exactly one character long");
    return qn_text_fill(run, self.s, width, fill, sides, out);
}

QN_BUILT_IN(text_ljust)
{
    return fill_any(run, self, arg, QN_RIGHT, out);
}

QN_BUILT_IN(text_rjust)
{
    return fill_any(run, self, arg, QN_LEFT, out);
}

QN_BUILT_IN(text_center)
{
    return fill_any(run, self, arg, QN_LEFT | QN_RIGHT, out);
}

QN_BUILT_IN(text_zfill)
{
    const struct qn_text zero = {.data = "0", .len = 1, .chars = 1}, *text = self.s;
    int64_t width;
    if (!qn_arg_int(run, arg[0], 0, &width))
        return false;
    struct qn_builder b = {.run = run};
    size_t sign = text->len > 0 && (text->data[0] == '-' || text->data[0] == '+');
    int64_t pad = width > (int64_t)text->chars ? width - (int64_t)text->chars : 0;
    return qn_put_part(&b, text, 0, sign) && qn_put_fill(&b, &zero, pad) &&
           qn_put_part(&b, text, sign, text->len) && qn_finish(&b, out);
}

/* ---- strings: case and kind ---- */

QN_BUILT_IN(text_lower)
{
    return qn_text_case(run, self.s, QN_LOWER, out);
}

QN_BUILT_IN(text_casefold)
{
    return qn_text_case(run, self.s, QN_FOLD, out);
}

QN_BUILT_IN(text_upper)
{
    return qn_text_case(run, self.s, QN_UPPER, out);
}

QN_BUILT_IN(text_capitalize)
{
    return qn_text_case(run, self.s, QN_CAPITALIZE, out);
}

QN_BUILT_IN(text_title)
{
    return qn_text_case(run, self.s, QN_TITLE, out);
}

QN_BUILT_IN(text_swapcase)
{
    return qn_text_case(run, self.s, QN_SWAP, out);
}

static bool all_of(struct qn_run *run, const struct qn_text *text, unsigned classes, struct qn_val *out)
{
    bool all = text->len > 0;
    for (size_t at = 0; all && at < text->len;) {
        struct qn_char c = qn_char_at(text, at);
        all = classes == QN_CH_SPACE ? qn_is_space(c.cp) : (qn_char_class(c.cp) & classes) != 0;
        at += c.len;
    }
    *out = qn_bool(all);
    return qn_spend(run, text->len / 16);
}

QN_BUILT_IN(text_isalpha)
{
    return all_of(run, self.s, QN_CH_LETTER, out);
}

QN_BUILT_IN(text_isdecimal)
{
    return all_of(run, self.s, QN_CH_DIGIT, out);
}

QN_BUILT_IN(text_isnumeric)
{
    return all_of(run, self.s, QN_CH_NUMBER, out);
}

QN_BUILT_IN(text_isalnum)
{
    return all_of(run, self.s, QN_CH_LETTER | QN_CH_NUMBER, out);
}

QN_BUILT_IN(text_isspace)
{
    return all_of(run, self.s, QN_CH_SPACE, out);
}

QN_BUILT_IN(text_islower)
{
    *out = qn_bool(qn_text_is_case(self.s, false));
    return qn_spend(run, self.s->len / 16);
}

QN_BUILT_IN(text_isupper)
{
    *out = qn_bool(qn_text_is_case(self.s, true));
    return qn_spend(run, self.s->len / 16);
}

QN_BUILT_IN(text_isascii)
{
    *out = qn_bool(self.s->chars == self.s->len);
    return true;
}

static const struct qn_function text_methods[] = {
    {"capitalize", text_capitalize, "", 0, true},
    {"casefold", text_casefold, "", 0, true},
    {"center", text_center, "width fillchar", 1, true},
    {"count", text_count, "sub start end", 1, true},
    {"endswith", text_endswith, "suffix start end", 1, true},
    {"find", text_find, "sub start end", 1, true},
    {"format", text_format, NULL, 0, false},
    {"index", text_index, "sub start end", 1, true},
    {"isalnum", text_isalnum, "", 0, true},
    {"isalpha", text_isalpha, "", 0, true},
    {"isascii", text_isascii, "", 0, true},
    {"isdecimal", text_isdecimal, "", 0, true},
    {"isdigit", text_isdecimal, "", 0, true},
    {"islower", text_islower, "", 0, true},
    {"isnumeric", text_isnumeric, "", 0, true},
    {"isspace", text_isspace, "", 0, true},
    {"isupper", text_isupper, "", 0, true},
    {"join", text_join, "iterable", 1, true},
    {"ljust", text_ljust, "width fillchar", 1, true},
    {"lower", text_lower, "", 0, true},
    {"lstrip", text_lstrip, "chars", 0, true},
    {"partition", text_partition, "sep", 1, true},
    {"removeprefix", text_removeprefix, "prefix", 1, true},
    {"removesuffix", text_removesuffix, "suffix", 1, true},
    {"replace", text_replace, "old new count", 2, true},
    {"rfind", text_rfind, "sub start end", 1, true},
    {"rindex", text_rindex, "sub start end", 1, true},
    {"rjust", text_rjust, "width fillchar", 1, true},
    {"rpartition", text_rpartition, "sep", 1, true},
    {"rsplit", text_rsplit, "sep maxsplit", 0, false},
    {"rstrip", text_rstrip, "chars", 0, true},
    {"split", text_split, "sep maxsplit", 0, false},
    {"splitlines", text_splitlines, "keepends", 0, false},
    {"startswith", text_startswith, "prefix start end", 1, true},
    {"strip", text_strip, "chars", 0, true},
    {"swapcase", text_swapcase, "", 0, true},
    {"title", text_title, "", 0, true},
    {"upper", text_upper, "", 0, true},
    {"zfill", text_zfill, "width", 1, true},
};

/* ---- lists and dicts ---- */

QN_BUILT_IN(seq_count)
{
    int64_t n = 0;
    for (size_t i = 0; i < self.seq->n; i++) {
        bool equal;
        if (!qn_equal(run, self.seq->at[i], arg[0], &equal))
            return false;
        n += equal;
    }
    *out = qn_int(n);
    return true;
}

QN_BUILT_IN(seq_index)
{
    int64_t n = (int64_t)self.seq->n, from, to;
    if (!qn_arg_int(run, arg[1], 0, &from) || !qn_arg_int(run, arg[2], n, &to))
        return false;
    from = from < -n ? 0 : from < 0 ? from + n : from;
    to = to < 0 ? to + n : to > n ? n : to;
    for (int64_t i = from; i < to; i++) {
        bool equal;
        if (!qn_equal(run, self.seq->at[i], arg[0], &equal))
            return false;
        if (equal) {
            *out = qn_int(i);
            return true;
        }
    }
    return qn_raise(run, "the value is not in the sequence");
}

/* Values cannot be changed: the copy may be the original. */
QN_BUILT_IN(copy_self)
{
    *out = self;
    return true;
}

QN_BUILT_IN(dict_get)
{
    if (!qn_dict_get(run, self.dict, arg[0], out))
        return false;
    if (out->kind == QN_MISSING)
        *out = arg[1].kind == QN_MISSING ? QN_VAL_NONE : arg[1];
    return true;
}

/* A view of the keys, of the values, or of both in pairs. */
static bool view(struct qn_run *run, const struct qn_dict *dict, bool keys, bool values, struct qn_val *out)
{
    struct qn_seq *seq = qn_seq_new(run, dict->n);
    for (size_t i = 0; seq && i < dict->n; i++) {
        struct qn_val v = keys ? dict->at[i].key : dict->at[i].value;
        if (keys && values) {
            v = qn_seq(QN_TUPLE, qn_seq_new(run, 2));
            if (!v.seq || !qn_seq_add(run, v.seq, dict->at[i].key) ||
                !qn_seq_add(run, v.seq, dict->at[i].value))
                return false;
        }
        if (!qn_seq_add(run, seq, v))
            return false;
    }
    if (!seq)
        return false;
    seq->type = keys && values ? "dict_items" : keys ? "dict_keys" : "dict_values";
    *out = qn_seq(QN_VIEW, seq);
    return true;
}

QN_BUILT_IN(dict_items)
{
    return view(run, self.dict, true, true, out);
}

QN_BUILT_IN(dict_keys)
{
    return view(run, self.dict, true, false, out);
}

QN_BUILT_IN(dict_values)
{
    return view(run, self.dict, false, true, out);
}

const struct qn_function *qn_method_find(struct qn_val self, const struct qn_text *name)
{
    static const struct qn_function of_seq[] = {
        {"count", seq_count, "value", 1, true},
        {"index", seq_index, "value start stop", 1, true},
        {"copy", copy_self, "", 0, true},
    };
    static const struct qn_function of_dict[] = {
        {"copy", copy_self, "", 0, true},     {"get", dict_get, "key default", 1, true},
        {"items", dict_items, "", 0, true},   {"keys", dict_keys, "", 0, true},
        {"values", dict_values, "", 0, true},
    };
    if (self.kind == QN_STR)
        return qn_function_find(text_methods, QN_LEN(text_methods), name);
    if (self.kind == QN_LIST)
        return qn_function_find(of_seq, QN_LEN(of_seq), name);
    if (qn_is_tuple(self) || self.kind == QN_RANGE)
        return qn_function_find(of_seq, QN_LEN(of_seq) - 1, name);
    return self.kind == QN_DICT ? qn_function_find(of_dict, QN_LEN(of_dict), name) : NULL;
}
