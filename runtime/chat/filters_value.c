/* Filters of single values, and the search for a filter by its name. */
#include "chat/eval.h"

#include <math.h>
#include <string.h>

/* ---- numbers ---- */

QN_BUILT_IN(filter_abs)
{
    if (!qn_need_defined(run, self))
        return false;
    if (!qn_is_number(self))
        return qn_raise(run, "abs of '%s'", qn_type_name(self));
    if (self.kind == QN_FLOAT) {
        *out = qn_float(fabs(self.f));
        return true;
    }
    int64_t i = qn_as_int(self);
    if (i == INT64_MIN)
        return qn_raise(run, "an integer beyond 64 bits");
    *out = qn_int(i < 0 ? -i : i);
    return true;
}

static bool is_word(const char *at, size_t len, const char *word)
{
    size_t i = 0;
    for (; i < len && word[i]; i++)
        if ((at[i] | 32) != word[i])
            return false;
    return i == len && !word[i];
}

/* A text without the white space around it and without sign. */
static void trim_number(const struct qn_text *text, const char **at, size_t *len, bool *negative)
{
    size_t from = 0, to = text->len;
    while (from < to && qn_is_space(qn_char_at(text, from).cp))
        from += qn_char_at(text, from).len;
    while (to > from && qn_is_space(qn_char_before(text, to).cp))
        to -= qn_char_before(text, to).len;
    *negative = from < to && text->data[from] == '-';
    from += from < to && (text->data[from] == '-' || text->data[from] == '+');
    *at = text->data + from;
    *len = to - from;
}

/* Digits of a base with single underscores between them; 0: there are none at `at`. */
static size_t count_digits(const char *at, size_t len, unsigned base)
{
    size_t n = 0;
    for (; n < len; n++) {
        unsigned c = (uint8_t)at[n];
        unsigned digit = c >= '0' && c <= '9'                 ? c - '0'
                         : (c | 32) >= 'a' && (c | 32) <= 'z' ? (c | 32) - 'a' + 10
                                                              : 99;
        if (digit < base)
            continue;
        if (c != '_' || n == 0 || at[n - 1] == '_')
            break;
    }
    return n > 0 && at[n - 1] == '_' ? 0 : n;
}

/* float(text) of Python; false: it is none. */
static bool read_float(const struct qn_text *text, double *f)
{
    const char *at;
    size_t len;
    bool negative;
    trim_number(text, &at, &len, &negative);
    if (is_word(at, len, "inf") || is_word(at, len, "infinity")) {
        *f = negative ? -INFINITY : INFINITY;
        return true;
    }
    if (is_word(at, len, "nan")) {
        *f = NAN;
        return true;
    }
    size_t whole = count_digits(at, len, 10), end = whole, fraction = 0;
    if (end < len && at[end] == '.') {
        fraction = count_digits(at + end + 1, len - end - 1, 10);
        end += 1 + fraction;
    }
    if (whole + fraction == 0)
        return false;
    if (end < len && (at[end] | 32) == 'e') {
        size_t sign = end + 1 < len && (at[end + 1] == '-' || at[end + 1] == '+');
        size_t digits = count_digits(at + end + 1 + sign, len - end - 1 - sign, 10);
        if (digits == 0)
            return false;
        end += 1 + sign + digits;
    }
    if (end != len || !qn_float_parse(at, len, f))
        return false;
    *f = negative ? -*f : *f;
    return true;
}

/* int(text, base) of Python. *ok false: it is none. */
static bool read_int(struct qn_run *run, const struct qn_text *text, int64_t base, int64_t *i, bool *ok)
{
    const char *at;
    size_t len;
    bool negative;
    *ok = false;
    if (base != 0 && (base < 2 || base > 36))
        return true;
    trim_number(text, &at, &len, &negative);
    if (len > 2 && at[0] == '0') {
        char mark = at[1] | 32;
        int64_t other = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
        if (other > 0 && (base == 0 || base == other)) {
            base = other;
            at += 2;
            len -= 2;
            at += len > 1 && *at == '_' ? (len--, 1) : 0;
        }
    }
    base = base == 0 ? 10 : base;
    if (len == 0 || count_digits(at, len, (unsigned)base) != len)
        return true;
    if (!qn_int_parse(at, len, (unsigned)base, i))
        return qn_raise(run, "an integer beyond 64 bits");
    *i = negative ? -*i : *i;
    *ok = true;
    return true;
}

static bool whole_of(struct qn_run *run, double f, struct qn_val *out)
{
    if (!(f > -0x1p63 && f < 0x1p63))
        return qn_raise(run, "an integer beyond 64 bits");
    *out = qn_int((int64_t)f);
    return true;
}

QN_BUILT_IN(filter_int)
{
    int64_t base, i;
    double f;
    bool ok;
    struct qn_val missing = arg[0].kind == QN_MISSING ? qn_int(0) : arg[0];
    if (!qn_need_defined(run, self))
        return false;
    if (qn_is_int(self)) {
        *out = qn_int(qn_as_int(self));
        return true;
    }
    if (self.kind == QN_FLOAT && !isnan(self.f))
        return whole_of(run, self.f, out);
    *out = missing;
    if (self.kind != QN_STR)
        return true;
    if (!qn_arg_int(run, arg[1], 10, &base) || !read_int(run, self.s, base, &i, &ok))
        return false;
    if (ok)
        *out = qn_int(i);
    else if (read_float(self.s, &f) && isfinite(f))
        return whole_of(run, f, out);
    return true;
}

QN_BUILT_IN(filter_float)
{
    double f;
    if (!qn_need_defined(run, self))
        return false;
    *out = arg[0].kind == QN_MISSING ? qn_float(0) : arg[0];
    if (qn_is_number(self))
        *out = qn_float(qn_as_float(self));
    else if (self.kind == QN_STR && read_float(self.s, &f))
        *out = qn_float(f);
    return true;
}

/* An integer rounded to a power of ten, half to even. */
static bool round_int(struct qn_run *run, int64_t i, int64_t digits, struct qn_val *out)
{
    int64_t scale = 1;
    *out = qn_int(digits < -18 ? 0 : i);
    if (digits >= 0 || digits < -18)
        return true;
    for (; digits < 0; digits++)
        scale *= 10;
    int64_t rest = i % scale, whole = i - rest;
    bool up = rest > scale - rest || (rest == scale - rest && whole / scale % 2 != 0);
    bool down = -rest > scale + rest || (-rest == scale + rest && whole / scale % 2 != 0);
    if (__builtin_add_overflow(whole, up ? scale : down ? -scale : 0, &whole))
        return qn_raise(run, "an integer beyond 64 bits");
    *out = qn_int(whole);
    return true;
}

QN_BUILT_IN(filter_round)
{
    int64_t digits;
    const struct qn_text *method = NULL;
    if (!qn_need_defined(run, self) || !qn_arg_int(run, arg[0], 0, &digits) ||
        (arg[1].kind != QN_MISSING && !qn_arg_text(run, arg[1], &method)))
        return false;
    bool common = !method || qn_text_is(method, "common");
    if (!common && !qn_text_is(method, "ceil") && !qn_text_is(method, "floor"))
        return qn_raise(run, "method must be common, ceil or floor");
    if (!qn_is_number(self))
        return qn_raise(run, "round of '%s'", qn_type_name(self));
    if (common && qn_is_int(self))
        return round_int(run, qn_as_int(self), digits, out);
    digits = digits > 400 ? 400 : digits < -400 ? -400 : digits;
    if (common) {
        *out = qn_float(qn_float_round(self.f, (int)digits));
        return true;
    }
    double scale = pow(10, (double)digits), scaled = qn_as_float(self) * scale;
    if (!isfinite(scaled) || scale == 0)
        return qn_raise(run, "cannot round this number so");
    double whole = method->data[0] == 'c' ? ceil(scaled) : floor(scaled);
    *out = qn_float((whole + 0.0) / scale); /* no negative zero */
    return true;
}

/* ---- any values ---- */

QN_BUILT_IN(filter_default)
{
    bool boolean = arg[1].kind != QN_MISSING && qn_truth(arg[1]);
    *out = self;
    if (self.kind == QN_UNDEFINED || (boolean && !qn_truth(self)))
        *out = arg[0].kind == QN_MISSING ? qn_str(qn_text_new(run, "", 0, QN_CLEAN)) : arg[0];
    return out->kind != QN_STR || out->s;
}

QN_BUILT_IN(filter_attr)
{
    const struct qn_text *name = qn_to_text(run, arg[0]);
    if (!name || !qn_need_defined(run, self) || !qn_get_only_attr(run, self, name, out))
        return false;
    if (out->kind == QN_MISSING)
        *out = qn_undefined(name);
    return true;
}

QN_BUILT_IN(filter_length)
{
    size_t n;
    if (!qn_length(run, self, &n))
        return false;
    *out = qn_int((int64_t)n);
    return true;
}

QN_BUILT_IN(filter_tojson)
{
    const struct qn_text space = {.data = " ", .len = 1, .chars = 1};
    struct qn_builder b = {.run = run}, indent = {.run = run};
    struct qn_json_style style = {.ascii = arg[0].kind != QN_MISSING && qn_truth(arg[0]),
                                  .sort_keys = arg[3].kind != QN_MISSING && qn_truth(arg[3])};
    if (arg[1].kind == QN_STR) {
        style.indent = arg[1].s;
    } else if (arg[1].kind != QN_MISSING && arg[1].kind != QN_NONE) {
        int64_t width;
        if (!qn_arg_int(run, arg[1], 0, &width) || !qn_put_fill(&indent, &space, width) ||
            !(style.indent = qn_builder_text(&indent)))
            return false;
    }
    if (arg[2].kind != QN_MISSING && arg[2].kind != QN_NONE) {
        struct qn_seq *pair;
        if (!qn_iterate(run, arg[2], &pair))
            return false;
        if (pair->n != 2 || pair->at[0].kind != QN_STR || pair->at[1].kind != QN_STR)
            return qn_raise(run, "separators must be two strings");
        style.comma = pair->at[0].s;
        style.colon = pair->at[1].s;
    }
    return qn_put_json(&b, self, &style) && qn_finish(&b, out);
}

static const struct qn_function filters[] = {
    {"abs", filter_abs, "", 0, false},
    {"attr", filter_attr, "name", 1, false},
    {"count", filter_length, "", 0, false},
    {"d", filter_default, "default_value boolean", 0, false},
    {"default", filter_default, "default_value boolean", 0, false},
    {"float", filter_float, "default", 0, false},
    {"int", filter_int, "default base", 0, false},
    {"length", filter_length, "", 0, false},
    {"round", filter_round, "precision method", 0, false},
    {"tojson", filter_tojson, "ensure_ascii indent separators sort_keys", 0, false},
};
const struct qn_table qn_value_filters = {filters, QN_LEN(filters)};

const struct qn_function *qn_filter_find(const struct qn_text *name, bool *beyond)
{
    static const char *const unsupported[] = {"filesizeformat", "pprint",   "random", "striptags",
                                              "urlize",         "wordwrap", "xmlattr"};
    const struct qn_table *const tables[] = {&qn_text_filters, &qn_list_filters, &qn_value_filters};
    *beyond = false;
    for (size_t i = 0; i < QN_LEN(tables); i++) {
        const struct qn_function *function = qn_function_find(tables[i]->at, tables[i]->n, name);
        if (function)
            return function;
    }
    for (size_t i = 0; i < QN_LEN(unsupported); i++)
        *beyond |= qn_text_is(name, unsupported[i]);
    return NULL;
}
