/* Formatting strings: Python's % and str.format, as far as templates go. */
#include "chat/eval.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* One conversion: %-5.2f, or what stands behind the colon in {:>5.2f}. */
struct spec {
    char kind;      /* 's', 'd', 'f', ...; 0: as str() */
    char align;     /* '<', '>', '^', '='; 0: as the type has it */
    uint32_t fill;  /* ' ' */
    char sign;      /* '+', ' ' or 0 */
    bool alternate; /* # */
    bool group;     /* a comma every three digits */
    int64_t width;
    int64_t precision; /* -1: none */
};

enum { WIDTH_MAX = 1 << 20, PRECISION_MAX = 100 };

static bool put_padded(struct qn_builder *b, const struct qn_text *text, const struct spec *spec,
                       size_t prefix, char usual)
{
    char align = spec->align ? spec->align : usual;
    int64_t pad = spec->width > (int64_t)text->chars ? spec->width - (int64_t)text->chars : 0;
    int64_t before = align == '>' || align == '=' ? pad : align == '^' ? pad / 2 : 0;
    if (align == '=' && !qn_put_part(b, text, 0, prefix))
        return false;
    for (int64_t i = 0; i < before; i++)
        if (!qn_put_char(b, spec->fill, false))
            return false;
    if (!qn_put_part(b, text, align == '=' ? prefix : 0, text->len))
        return false;
    for (int64_t i = before; i < pad; i++)
        if (!qn_put_char(b, spec->fill, false))
            return false;
    return true;
}

/* Digits with commas, in place; returns the new length. */
static size_t group_digits(char *digits, size_t n, size_t room)
{
    size_t whole = 0;
    while (whole < n && digits[whole] >= '0' && digits[whole] <= '9')
        whole++;
    for (size_t at = whole; at > 3 && n + 1 < room;) {
        at -= 3;
        memmove(digits + at + 1, digits + at, n - at);
        digits[at] = ',';
        n++;
    }
    return n;
}

static size_t write_base(uint64_t value, unsigned base, bool upper, char *out)
{
    char reversed[72];
    size_t n = 0;
    do {
        reversed[n++] = (upper ? "0123456789ABCDEF" : "0123456789abcdef")[value % base];
        value /= base;
    } while (value > 0);
    for (size_t i = 0; i < n; i++)
        out[i] = reversed[n - 1 - i];
    return n;
}

static bool put_number(struct qn_builder *b, const char *prefix, const char *digits, size_t n,
                       const struct spec *spec)
{
    char text[QN_NUMBER_ROOM + 200];
    size_t len = strlen(prefix);
    memcpy(text, prefix, len);
    memcpy(text + len, digits, n);
    if (spec->group)
        n = group_digits(text + len, n, sizeof text - len);
    const struct qn_text whole = {.data = text, .len = len + n, .chars = len + n};
    return put_padded(b, &whole, spec, len, '>');
}

static bool put_int(struct qn_builder *b, int64_t i, const struct spec *spec)
{
    char digits[200], prefix[4] = {0};
    uint64_t magnitude = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    size_t n = 0;
    unsigned base = (spec->kind | 32) == 'x' ? 16 : spec->kind == 'o' ? 8 : spec->kind == 'b' ? 2 : 10;
    if (i < 0)
        prefix[n++] = '-';
    else if (spec->sign)
        prefix[n++] = spec->sign;
    if (spec->alternate && base != 10) {
        prefix[n++] = '0';
        prefix[n++] = spec->kind;
    }
    n = write_base(magnitude, base, spec->kind == 'X', digits);
    if (spec->precision > (int64_t)n) { /* printf's least number of digits */
        size_t zeros = (size_t)spec->precision - n;
        memmove(digits + zeros, digits, n);
        memset(digits, '0', zeros);
        n += zeros;
    }
    return put_number(b, prefix, digits, n, spec);
}

static bool put_float(struct qn_builder *b, double f, const struct spec *spec)
{
    char digits[QN_NUMBER_ROOM + 100], prefix[2] = {0};
    char kind = spec->kind == '%' ? 'f' : spec->kind == 'F' ? 'f' : spec->kind;
    int precision = spec->precision < 0 ? 6 : (int)spec->precision;
    if (spec->kind == '%')
        f *= 100;
    if (signbit(f) && !isnan(f))
        prefix[0] = '-';
    else if (spec->sign)
        prefix[0] = spec->sign;
    size_t n = qn_float_format(fabs(f), kind, precision, spec->alternate, digits);
    if (spec->kind == '%')
        digits[n++] = '%';
    struct spec plain = *spec;
    if (!isfinite(f) && spec->fill == '0')
        plain.fill = ' ';
    return put_number(b, prefix, digits, n, isfinite(f) ? spec : &plain);
}

/* ---- % ---- */

struct percent {
    struct qn_run *run;
    const struct qn_text *format;
    size_t at; /* in the format */
    struct qn_val values;
    size_t used; /* of a tuple */
    bool single; /* values is the only one */
};

static bool bad_format(struct qn_run *run)
{
    return qn_raise(run, "a conversion that is cut off or not known");
}

static bool next_value(struct percent *p, struct qn_val *out)
{
    if (p->single ? p->used > 0 : p->used >= p->values.seq->n)
        return qn_raise(p->run, "not enough arguments for format string");
    *out = p->single ? p->values : p->values.seq->at[p->used];
    p->used++;
    return true;
}

static char peek(const struct percent *p)
{
    return p->at < p->format->len ? p->format->data[p->at] : '\0';
}

/* Digits or a star. */
static bool read_size(struct percent *p, int64_t *size, int64_t most)
{
    *size = 0;
    if (peek(p) == '*') {
        struct qn_val v;
        p->at++;
        if (!next_value(p, &v))
            return false;
        if (!qn_is_int(v))
            return qn_raise(p->run, "* wants int");
        *size = qn_as_int(v);
    }
    for (; peek(p) >= '0' && peek(p) <= '9'; p->at++)
        if (*size <= most)
            *size = 10 * *size + (peek(p) - '0');
    if (*size > most || *size < -most)
        return qn_raise_limit(p->run, "the width that a conversion may have");
    return true;
}

/* %(name) takes the value from a dict. */
static bool read_key(struct percent *p, struct qn_val *value, bool *keyed)
{
    *keyed = peek(p) == '(';
    if (!*keyed)
        return true;
    size_t from = ++p->at, level = 1;
    for (; p->at < p->format->len; p->at++) {
        level += peek(p) == '(';
        level -= peek(p) == ')';
        if (level == 0)
            break;
    }
    if (p->at == p->format->len)
        return bad_format(p->run);
    const struct qn_text *name = qn_text_part(p->run, p->format, from, p->at++);
    if (!name)
        return false;
    if (p->values.kind != QN_DICT)
        return qn_raise(p->run, "format requires a mapping");
    if (!qn_dict_get(p->run, p->values.dict, qn_str(name), value))
        return false;
    p->used = 1;
    return value->kind != QN_MISSING || qn_raise(p->run, "the format names a key that is not there");
}

static bool read_percent_spec(struct percent *p, struct spec *spec)
{
    *spec = (struct spec){.fill = ' ', .align = '>', .precision = -1};
    bool left = false, zero = false;
    for (;; p->at++) {
        char c = peek(p);
        if (c == '-')
            left = true;
        else if (c == '0')
            zero = true;
        else if (c == '+')
            spec->sign = '+';
        else if (c == ' ')
            spec->sign = spec->sign ? spec->sign : ' ';
        else if (c == '#')
            spec->alternate = true;
        else
            break;
    }
    if (!read_size(p, &spec->width, WIDTH_MAX))
        return false;
    if (spec->width < 0) {
        left = true;
        spec->width = -spec->width;
    }
    if (peek(p) == '.') {
        p->at++;
        if (!read_size(p, &spec->precision, PRECISION_MAX))
            return false;
        spec->precision = spec->precision < 0 ? 0 : spec->precision;
    }
    while (peek(p) == 'h' || peek(p) == 'l' || peek(p) == 'L')
        p->at++;
    spec->kind = peek(p);
    p->at += spec->kind != '\0';
    spec->align = left ? '<' : '>';
    if (zero && !left && spec->kind && strchr("diuxXofFeEgG", spec->kind)) {
        spec->align = '=';
        spec->fill = '0';
    }
    return true;
}

static bool put_percent_text(struct qn_builder *b, struct qn_val v, const struct spec *spec)
{
    struct qn_builder repr = {.run = b->run};
    const struct qn_text *text;
    if (spec->kind == 'c') {
        int64_t cp = qn_is_int(v) ? qn_as_int(v) : -1;
        if (v.kind == QN_STR && v.s->chars == 1)
            return put_padded(b, v.s, spec, 0, '>');
        if (cp < 0 || cp > 0x10FFFF || (cp >= 0xD800 && cp <= 0xDFFF))
            return qn_raise(b->run, "%%c requires int or char");
        if (!qn_put_char(&repr, (uint32_t)cp, false))
            return false;
        text = qn_builder_text(&repr);
    } else if (spec->kind == 's') {
        text = qn_to_text(b->run, v);
    } else {
        text = qn_put_repr(&repr, v) ? qn_builder_text(&repr) : NULL;
    }
    if (text && spec->precision >= 0 && spec->precision < (int64_t)text->chars) {
        size_t end;
        if (!qn_text_offset(b->run, text, (size_t)spec->precision, &end))
            return false;
        text = qn_text_part(b->run, text, 0, end);
    }
    return text && put_padded(b, text, spec, 0, '>');
}

static bool put_percent(struct qn_builder *b, struct percent *p)
{
    struct qn_val v = QN_VAL_NONE;
    struct spec spec;
    bool keyed;
    if (!read_key(p, &v, &keyed) || !read_percent_spec(p, &spec))
        return false;
    if (spec.kind == '%')
        return qn_put_word(b, "%");
    if (!spec.kind || !strchr("srcdiuxXofFeEgG", spec.kind))
        return bad_format(p->run);
    if (!keyed && !next_value(p, &v))
        return false;
    if (strchr("src", spec.kind))
        return put_percent_text(b, v, &spec);
    if (!qn_need_defined(p->run, v))
        return false;
    if (!qn_is_number(v))
        return qn_raise(p->run, "%%%c format: a real number is required, not %s", spec.kind, qn_type_name(v));
    if (strchr("fFeEgG", spec.kind))
        return put_float(b, qn_as_float(v), &spec);
    if (v.kind == QN_FLOAT) {
        if ((spec.kind | 32) == 'x' || spec.kind == 'o')
            return qn_raise(p->run, "%%%c format: an integer is required, not float", spec.kind);
        if (!(v.f > -0x1p63 && v.f < 0x1p63))
            return qn_raise(p->run, "an integer beyond 64 bits");
        v = qn_int((int64_t)v.f);
    }
    return put_int(b, qn_as_int(v), &spec);
}

bool qn_format_percent(struct qn_run *run, const struct qn_text *format, struct qn_val values,
                       struct qn_val *out)
{
    struct percent p = {.run = run, .format = format, .values = values, .single = !qn_is_tuple(values)};
    struct qn_builder b = {.run = run};
    while (p.at < format->len) {
        size_t end = p.at;
        while (end < format->len && format->data[end] != '%')
            end++;
        if (!qn_put_part(&b, format, p.at, end))
            return false;
        p.at = end + 1;
        if (end < format->len && !put_percent(&b, &p))
            return false;
    }
    bool all = p.single ? p.used > 0 || values.kind == QN_DICT || values.kind == QN_LIST ||
                              values.kind == QN_RANGE || values.kind == QN_UNDEFINED
                        : p.used >= values.seq->n;
    if (!all)
        return qn_raise(run, "not all arguments converted during string formatting");
    return qn_finish(&b, out);
}

/* ---- braces ---- */

struct braces {
    struct qn_run *run;
    const struct qn_text *format;
    const struct qn_args *args;
    size_t next; /* argument without a number */
    bool counted, numbered;
};

static bool find_field(struct braces *f, const struct qn_text *name, struct qn_val *out)
{
    int64_t index = 0;
    bool digits = true;
    for (size_t i = 0; i < name->len; i++)
        digits &= name->data[i] >= '0' && name->data[i] <= '9';
    if (digits) {
        *(name->len > 0 ? &f->numbered : &f->counted) = true;
        if (f->counted && f->numbered)
            return qn_raise(f->run, "fields with and without numbers");
        if (name->len > 0 && !qn_int_parse(name->data, name->len, 10, &index))
            return qn_raise(f->run, "an integer beyond 64 bits");
        if (name->len == 0)
            index = (int64_t)f->next++;
        if ((uint64_t)index >= f->args->n)
            return qn_raise(f->run, "replacement index %lld out of range", (long long)index);
        *out = f->args->at[index];
        return true;
    }
    for (size_t i = 0; i < name->len; i++)
        if (strchr(".[]!{", name->data[i]))
            return qn_raise_status(f->run, QUERN_ERR_UNSUPPORTED,
                                   "format() with attributes is not supported");
    for (size_t i = 0; i < f->args->n_named; i++) {
        if (qn_text_order(f->args->named[i].key.s, name) == 0) {
            *out = f->args->named[i].value;
            return true;
        }
    }
    return qn_raise(f->run, "the format names a key that is not there");
}

/* [[fill]align][sign][#][0][width][,][.precision][type] */
static bool read_brace_spec(struct braces *f, const struct qn_text *text, struct spec *spec)
{
    size_t at = 0;
    *spec = (struct spec){.fill = ' ', .precision = -1};
    struct qn_char first = text->len > 0 ? qn_char_at(text, 0) : (struct qn_char){0, 0};
    if (first.len > 0 && first.len < text->len && strchr("<>^=", text->data[first.len])) {
        spec->fill = first.cp;
        spec->align = text->data[first.len];
        at = first.len + 1;
    } else if (text->len > 0 && strchr("<>^=", text->data[0]) && text->data[0]) {
        spec->align = text->data[at++];
    }
    if (at < text->len && (text->data[at] == '+' || text->data[at] == '-' || text->data[at] == ' ')) {
        spec->sign = text->data[at] == '-' ? '\0' : text->data[at];
        at++;
    }
    if (at < text->len && text->data[at] == '#')
        spec->alternate = text->data[at++] == '#';
    if (at < text->len && text->data[at] == '0') {
        spec->fill = spec->align ? spec->fill : '0';
        spec->align = spec->align ? spec->align : '=';
        at++;
    }
    struct percent size = {.run = f->run, .format = text, .at = at};
    if (peek(&size) != '*' && !read_size(&size, &spec->width, WIDTH_MAX))
        return false;
    if (peek(&size) == ',')
        spec->group = text->data[size.at++] == ',';
    if (peek(&size) == '.') {
        size.at++;
        if (peek(&size) < '0' || peek(&size) > '9')
            return qn_raise(f->run, "format specifier missing precision");
        if (!read_size(&size, &spec->precision, PRECISION_MAX))
            return false;
    }
    spec->kind = peek(&size);
    size.at += spec->kind != '\0';
    return size.at == text->len || qn_raise(f->run, "invalid format specifier");
}

static bool put_field(struct qn_builder *b, struct braces *f, struct qn_val v, const struct qn_text *text)
{
    struct spec spec;
    if (text->len == 0)
        return qn_put_str(b, v);
    if (!read_brace_spec(f, text, &spec))
        return false;
    char kind = spec.kind ? spec.kind : v.kind == QN_INT ? 'd' : v.kind == QN_STR ? 's' : '\0';
    bool is_text =
        v.kind == QN_STR && kind == 's' && !spec.sign && !spec.group && spec.align != '=' && !spec.alternate;
    if (is_text) {
        size_t end = v.s->len;
        if (spec.precision >= 0 && spec.precision < (int64_t)v.s->chars &&
            !qn_text_offset(f->run, v.s, (size_t)spec.precision, &end))
            return false;
        const struct qn_text *part = qn_text_part(f->run, v.s, 0, end);
        return part && put_padded(b, part, &spec, 0, '<');
    }
    spec.kind = kind;
    if (qn_is_int(v) && kind && strchr("dxXob", kind) && spec.precision < 0)
        return put_int(b, qn_as_int(v), &spec);
    if (qn_is_number(v) && kind && strchr("fFeEgG%", kind))
        return put_float(b, qn_as_float(v), &spec);
    return qn_raise_status(f->run, QUERN_ERR_UNSUPPORTED, "this format of '%s' is not supported",
                           qn_type_name(v));
}

bool qn_format_braces(struct qn_run *run, const struct qn_text *format, const struct qn_args *args,
                      struct qn_val *out)
{
    struct braces f = {.run = run, .format = format, .args = args};
    struct qn_builder b = {.run = run};
    for (size_t at = 0; at < format->len;) {
        char c = format->data[at];
        if (c != '{' && c != '}') {
            struct qn_char one = qn_char_at(format, at);
            if (!qn_put_part(&b, format, at, at + one.len))
                return false;
            at += one.len;
            continue;
        }
        if (at + 1 < format->len && format->data[at + 1] == c) {
            if (!qn_put_part(&b, format, at, at + 1))
                return false;
            at += 2;
            continue;
        }
        size_t end = at + 1, colon = 0;
        for (; end < format->len && format->data[end] != '}'; end++)
            colon = colon == 0 && format->data[end] == ':' ? end : colon;
        if (c == '}' || end == format->len)
            return qn_raise(run, "a single brace in the format");
        size_t stop = colon > 0 ? colon : end;
        const struct qn_text *name = qn_text_part(run, format, at + 1, stop);
        const struct qn_text *spec = qn_text_part(run, format, colon > 0 ? colon + 1 : end, end);
        struct qn_val v;
        if (!name || !spec || !find_field(&f, name, &v) || !put_field(&b, &f, v, spec))
            return false;
        at = end + 1;
    }
    return qn_finish(&b, out);
}
