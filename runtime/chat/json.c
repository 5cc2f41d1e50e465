/* Reads JSON (RFC 8259, strictly) into values. */
#include "chat/value.h"
#include "text/unicode.h"

#include <math.h>
#include <string.h>

struct reader {
    struct qn_run *run;
    const char *text, *at, *end;
    bool messages;
    unsigned level; /* brackets that are open */
};

/* Fails at the place of reading. */
static bool wrong(struct reader *r, const char *sentence)
{
    const char *line = r->text;
    r->run->line = 1;
    for (const char *c = r->text; c < r->at; c++) {
        if (*c == '\n') {
            r->run->line++;
            line = c + 1;
        }
    }
    r->run->column = (uint32_t)qn_count_chars(line, (size_t)(r->at - line)) + 1;
    return qn_raise_status(r->run, QUERN_ERR_PARAM, "%s", sentence);
}

static void skip_space(struct reader *r)
{
    while (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r')
        r->at++;
}

/* ---- strings ---- */

static int hex4(const char *at)
{
    int value = 0;
    for (int i = 0; i < 4; i++) {
        int c = (uint8_t)at[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return -1; /* the NUL at the end among them */
        value = 16 * value + digit;
    }
    return value;
}

/* After "\u". */
static bool read_unicode(struct reader *r, uint32_t *cp)
{
    int high = hex4(r->at);
    *cp = 0;
    if (high < 0)
        return wrong(r, "\\u needs four hexadecimal digits");
    r->at += 4;
    *cp = (uint32_t)high;
    if (high < 0xD800 || high > 0xDFFF)
        return true;
    int low = high < 0xDC00 && r->at[0] == '\\' && r->at[1] == 'u' ? hex4(r->at + 2) : -1;
    if (low < 0xDC00 || low > 0xDFFF)
        return wrong(r, "a surrogate without its other half");
    r->at += 6;
    *cp = 0x10000 + (((uint32_t)high - 0xD800) << 10) + ((uint32_t)low - 0xDC00);
    return true;
}

static bool read_escape(struct reader *r, struct qn_builder *b, bool input)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c = *++r->at;
    uint32_t cp;
    const char *known = c ? strchr(from, c) : NULL;
    if (c == 'u') {
        r->at++;
        return read_unicode(r, &cp) && qn_put_char(b, cp, input);
    }
    if (!known)
        return wrong(r, "an escape that JSON does not have");
    r->at++;
    return qn_put(b, &to[known - from], 1, input);
}

static bool read_string(struct reader *r, bool input, struct qn_val *out)
{
    struct qn_builder b = {.run = r->run};
    for (r->at++; *r->at != '"';) {
        const char *start = r->at;
        while (*r->at != '"' && *r->at != '\\' && (uint8_t)*r->at >= 0x20) {
            unsigned n;
            if (qn_utf8_decode(r->at, (size_t)(r->end - r->at), &n) == QN_UTF8_BAD)
                return wrong(r, "bytes that are not UTF-8");
            r->at += n;
        }
        if (!qn_put(&b, start, (size_t)(r->at - start), input))
            return false;
        if (r->at == r->end)
            return wrong(r, "the text ends inside a string");
        if ((uint8_t)*r->at < 0x20)
            return wrong(r, "a control character inside a string");
        if (*r->at == '\\' && !read_escape(r, &b, input))
            return false;
    }
    r->at++;
    const struct qn_text *text = qn_builder_text(&b);
    *out = qn_str(text);
    return text != NULL;
}

/* ---- the rest ---- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool read_number(struct reader *r, struct qn_val *out)
{
    bool negative = *r->at == '-', whole = true;
    r->at += negative;
    const char *start = r->at;
    if (!is_digit(*r->at))
        return wrong(r, "a number without digits");
    if (r->at[0] == '0' && is_digit(r->at[1]))
        return wrong(r, "a number that begins with 0");
    while (is_digit(*r->at))
        r->at++;
    if (*r->at == '.') {
        whole = false;
        if (!is_digit(*++r->at))
            return wrong(r, "a point without digits behind it");
        while (is_digit(*r->at))
            r->at++;
    }
    if (*r->at == 'e' || *r->at == 'E') {
        whole = false;
        r->at++;
        r->at += *r->at == '+' || *r->at == '-';
        if (!is_digit(*r->at))
            return wrong(r, "an exponent without digits");
        while (is_digit(*r->at))
            r->at++;
    }
    size_t len = (size_t)(r->at - start);
    int64_t i;
    double f;
    if (whole) {
        if (!qn_int_parse(start, len, 10, &i))
            return wrong(r, "an integer beyond 64 bits");
        *out = qn_int(negative ? -i : i);
    } else {
        qn_float_parse(start, len, &f);
        if (!isfinite(f))
            return wrong(r, "a number that is too large");
        *out = qn_float(negative ? -f : f);
    }
    return true;
}

static bool read_value(struct reader *r, bool input, struct qn_val *out);

static bool read_array(struct reader *r, struct qn_val *out)
{
    struct qn_seq *seq = qn_seq_new(r->run, 0);
    if (!seq)
        return false;
    *out = qn_seq(QN_LIST, seq);
    r->at++;
    skip_space(r);
    while (*r->at != ']') {
        struct qn_val v;
        if (!read_value(r, true, &v) || !qn_seq_add(r->run, seq, v))
            return false;
        skip_space(r);
        if (*r->at == ',') {
            r->at++;
            skip_space(r);
            if (*r->at == ']')
                return wrong(r, "a comma before ]");
        } else if (*r->at != ']') {
            return wrong(r, "expected , or ] here");
        }
    }
    r->at++;
    return true;
}

static bool read_object(struct reader *r, struct qn_val *out)
{
    struct qn_dict *dict = qn_dict_new(r->run);
    if (!dict)
        return false;
    *out = qn_dict(dict);
    /* of a message: [ { this level } ] */
    bool message = r->messages && r->level == 2;
    r->at++;
    skip_space(r);
    while (*r->at != '}') {
        struct qn_val key, value;
        if (*r->at != '"')
            return wrong(r, "expected a key in quotes here");
        if (!read_string(r, !message, &key))
            return false;
        skip_space(r);
        if (*r->at != ':')
            return wrong(r, "expected : after a key");
        r->at++;
        if (!read_value(r, !(message && qn_text_is(key.s, "role")), &value) ||
            !qn_dict_put(r->run, dict, key, value))
            return false;
        skip_space(r);
        if (*r->at == ',') {
            r->at++;
            skip_space(r);
            if (*r->at == '}')
                return wrong(r, "a comma before }");
        } else if (*r->at != '}') {
            return wrong(r, "expected , or } here");
        }
    }
    r->at++;
    return true;
}

static bool read_word(struct reader *r, struct qn_val *out)
{
    static const struct {
        const char *word;
        struct qn_val value;
    } words[] = {
        {"null", {.kind = QN_NONE}},
        {"true", {.kind = QN_BOOL, .b = true}},
        {"false", {.kind = QN_BOOL, .b = false}},
    };
    for (size_t i = 0; i < QN_LEN(words); i++) {
        size_t n = strlen(words[i].word);
        if (strncmp(r->at, words[i].word, n) == 0) {
            r->at += n;
            *out = words[i].value;
            return true;
        }
    }
    return r->at == r->end ? wrong(r, "the text ends where a value was expected")
                           : wrong(r, "expected a value here");
}

static bool read_value(struct reader *r, bool input, struct qn_val *out)
{
    skip_space(r);
    if (!qn_spend(r->run, 1))
        return false;
    if (*r->at == '"')
        return read_string(r, input, out);
    if (*r->at == '-' || is_digit(*r->at))
        return read_number(r, out);
    if (*r->at != '[' && *r->at != '{')
        return read_word(r, out);
    if (r->level >= QN_CHAT_NESTING_MAX)
        return wrong(r, "more than 100 brackets within each other");
    r->level++;
    bool ok = *r->at == '[' ? read_array(r, out) : read_object(r, out);
    r->level--;
    return ok;
}

bool qn_json_read(struct qn_run *run, const char *what, const char *text, bool messages, struct qn_val *out)
{
    const char *before = run->what;
    struct reader r = {.run = run, .text = text, .at = text, .messages = messages};
    r.end = text + strlen(text);
    run->what = what;
    run->line = run->column = 0;
    if (!read_value(&r, true, out))
        return false;
    skip_space(&r);
    if (r.at != r.end)
        return wrong(&r, "text after the end of the value");
    run->what = before;
    return true;
}
