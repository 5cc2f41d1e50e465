/* Cuts a template into tokens. White space around tags follows Jinja with trim_blocks and lstrip_blocks: a
 * new line after a block or comment is dropped, and so is the indentation before one; "-" at a tag's edge
 * drops all white space there, "+" none. One new line at the very end is dropped as well. */
#include "chat/ast.h"
#include "text/unicode.h"

#include <string.h>

enum { MAX_OPEN = QN_CHAT_NESTING_MAX };

struct lexer {
    struct qn_run *run;
    const char *text; /* new lines are \n */
    size_t len, at;
    size_t located; /* run->line and run->column are those of this place */
    struct qn_tokens *tokens;
    char open[MAX_OPEN]; /* the closing brackets that are due */
    unsigned n_open;
    bool line_start; /* the text before `at` ended with a new line that a tag took */
};

/* Moves the position for messages; back only for a failure. */
static void locate(struct lexer *x, size_t at)
{
    struct qn_run *run = x->run;
    if (at < x->located) {
        x->located = 0;
        run->line = run->column = 1;
    }
    for (; x->located < at; x->located++) {
        if (x->text[x->located] == '\n') {
            run->line++;
            run->column = 1;
        } else {
            run->column += ((uint8_t)x->text[x->located] & 0xC0) != 0x80;
        }
    }
}

static bool add(struct lexer *x, size_t at, struct qn_token token)
{
    struct qn_tokens *tokens = x->tokens;
    locate(x, at);
    token.line = x->run->line;
    token.column = x->run->column;
    if (tokens->n == QN_CHAT_TOKENS_MAX)
        return qn_raise_limit(x->run, "200000 tokens");
    if (!qn_grow(x->run->arena.cb, &tokens->at, &tokens->cap, tokens->n + 1, sizeof token))
        return qn_raise_memory(x->run);
    tokens->at[tokens->n++] = token;
    return true;
}

static bool starts(const struct lexer *x, size_t at, const char *word)
{
    size_t n = strlen(word);
    return x->len - at >= n && memcmp(x->text + at, word, n) == 0;
}

static size_t after_space(const struct lexer *x, size_t at)
{
    while (at < x->len) {
        unsigned n;
        if (!qn_is_space(qn_utf8_decode(x->text + at, x->len - at, &n)))
            break;
        at += n;
    }
    return at;
}

/* The end of text[from, to) without white space at its end. */
static size_t before_space(const struct lexer *x, size_t from, size_t to)
{
    const struct qn_text text = {.data = x->text, .len = x->len};
    while (to > from) {
        struct qn_char c = qn_char_before(&text, to);
        if (!qn_is_space(c.cp))
            break;
        to -= c.len;
    }
    return to;
}

static bool add_data(struct lexer *x, size_t from, size_t to)
{
    if (from == to)
        return true;
    const struct qn_text whole = {.data = x->text, .len = x->len, .chars = SIZE_MAX};
    const struct qn_text *part = qn_text_part(x->run, &whole, from, to);
    if (part == &whole)
        part = qn_text_new(x->run, x->text, x->len, QN_CLEAN);
    return part && add(x, from, (struct qn_token){.kind = QN_T_DATA, .s = part});
}

/* The text before a tag at `tag`, which is cut as the tag says. */
static bool data_before(struct lexer *x, size_t tag, bool output)
{
    size_t from = x->at, to = tag;
    char sign = tag + 2 < x->len ? x->text[tag + 2] : '\0';
    if (sign == '-') {
        to = before_space(x, from, tag);
    } else if (sign != '+' && !output) {
        size_t line = tag;
        while (line > from && x->text[line - 1] != '\n')
            line--;
        bool begins = line > from || x->line_start;
        if (begins && before_space(x, line, tag) == line)
            to = line;
    }
    return add_data(x, from, to);
}

/* Behind a tag's end at `at`, whose sign is before it: what else it takes. */
static void end_tag(struct lexer *x, size_t at, char sign, bool trim)
{
    size_t end = at + 2;
    if (sign == '-')
        end = after_space(x, end);
    else if (trim && sign != '+' && end < x->len && x->text[end] == '\n')
        end++;
    x->at = end;
    x->line_start = x->text[end - 1] == '\n';
}

static char sign_before(const struct lexer *x, size_t at, size_t start)
{
    return at > start && (x->text[at - 1] == '-' || x->text[at - 1] == '+') ? x->text[at - 1] : '\0';
}

static size_t after_sign(const struct lexer *x, size_t tag)
{
    size_t at = tag + 2;
    return at + (at < x->len && (x->text[at] == '-' || x->text[at] == '+'));
}

static bool skip_comment(struct lexer *x, size_t tag)
{
    size_t start = after_sign(x, tag), at = start;
    while (at < x->len && !starts(x, at, "#}"))
        at++;
    if (at >= x->len) {
        locate(x, tag);
        return qn_raise(x->run, "this comment has no end");
    }
    end_tag(x, at, sign_before(x, at, start), true);
    return true;
}

/* Whether a block at `tag` is {% word %}: the place of its %}, or 0. */
static size_t is_block_of(const struct lexer *x, size_t tag, const char *word, char *sign)
{
    size_t at = after_space(x, after_sign(x, tag));
    if (!starts(x, at, word))
        return 0;
    size_t end = after_space(x, at + strlen(word));
    *sign = end < x->len && (x->text[end] == '-' || x->text[end] == '+') ? x->text[end] : '\0';
    end += *sign != '\0';
    return starts(x, end, "%}") ? end : 0;
}

/* {% raw %} ... {% endraw %}; *is_raw false: the block is another one. */
static bool lex_raw(struct lexer *x, size_t tag, bool *is_raw)
{
    char sign;
    size_t end = is_block_of(x, tag, "raw", &sign);
    *is_raw = end > 0 && sign != '+';
    if (!*is_raw)
        return true;
    end_tag(x, end, sign, false);
    x->line_start = false;
    for (size_t at = x->at; at < x->len; at++) {
        if (!starts(x, at, "{%"))
            continue;
        end = is_block_of(x, at, "endraw", &sign);
        if (end > 0) {
            if (!data_before(x, at, false))
                return false;
            end_tag(x, end, sign, true);
            return true;
        }
    }
    locate(x, tag);
    return qn_raise(x->run, "this raw block has no endraw");
}

/* ---- inside of tags ---- */

static bool is_digit(const struct lexer *x, size_t at, unsigned base)
{
    if (at >= x->len)
        return false;
    unsigned c = (uint8_t)x->text[at];
    unsigned digit = c >= '0' && c <= '9'                 ? c - '0'
                     : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                          : 99;
    return digit < base;
}

/* Digits with single underscores among them. */
static size_t after_digits(const struct lexer *x, size_t at, unsigned base)
{
    while (is_digit(x, at, base) || (at < x->len && x->text[at] == '_' && is_digit(x, at + 1, base)))
        at++;
    return at;
}

static bool lex_number(struct lexer *x)
{
    size_t start = x->at, end = after_digits(x, start, 10);
    bool fraction = end < x->len && x->text[end] == '.' && is_digit(x, end + 1, 10);
    size_t stop = fraction ? after_digits(x, end + 1, 10) : end;
    size_t power = stop + 1;
    if (stop < x->len && (x->text[stop] | 32) == 'e')
        power += power < x->len && (x->text[power] == '+' || x->text[power] == '-');
    bool exponent = power > stop && stop < x->len && (x->text[stop] | 32) == 'e' && is_digit(x, power, 10);
    struct qn_token token = {.kind = QN_T_INT};
    if ((fraction || exponent) && !(start > 0 && x->text[start - 1] == '.')) {
        double f;
        stop = exponent ? after_digits(x, power, 10) : stop;
        qn_float_parse(x->text + start, stop - start, &f);
        token.kind = QN_T_FLOAT;
        token.number = qn_float(f);
        x->at = stop;
        return add(x, start, token);
    }
    unsigned base = 10;
    size_t digits = start;
    if (x->text[start] == '0') {
        char mark = start + 1 < x->len ? x->text[start + 1] | 32 : '\0';
        unsigned other = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
        size_t first = start + 2 + (start + 2 < x->len && x->text[start + 2] == '_');
        if (other > 0 && is_digit(x, first, other)) {
            base = other;
            digits = first;
            end = after_digits(x, first, other);
        } else {
            end = start + 1;
            while (end < x->len && (x->text[end] == '0' || (x->text[end] == '_' && starts(x, end + 1, "0"))))
                end++;
        }
    }
    int64_t i;
    if (!qn_int_parse(x->text + digits, end - digits, base, &i)) {
        locate(x, start);
        return qn_raise_status(x->run, QUERN_ERR_UNSUPPORTED, "an integer beyond 64 bits");
    }
    token.number = qn_int(i);
    x->at = end;
    return add(x, start, token);
}

/* \x41, é, \U0001F600 and octal; `at` is behind the backslash. Returns where it ends, 0: it is wrong. */
static size_t numeric_escape(const struct lexer *x, size_t at, uint32_t *cp)
{
    unsigned base = 16;
    size_t need = x->text[at] == 'x' ? 2 : x->text[at] == 'u' ? 4 : x->text[at] == 'U' ? 8 : 0;
    size_t first = at + 1, n = 0;
    if (need == 0) {
        base = 8;
        first = at;
        while (n < 3 && is_digit(x, first + n, 8))
            n++;
        need = n;
    }
    *cp = 0;
    for (n = 0; n < need; n++) {
        if (!is_digit(x, first + n, base) || *cp > 0x110000)
            return 0;
        unsigned c = (uint8_t)x->text[first + n];
        *cp = *cp * base + (c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    return *cp > 0x10FFFF || (*cp >= 0xD800 && *cp <= 0xDFFF) ? 0 : first + need;
}

static bool lex_escape(struct lexer *x, struct qn_builder *b, size_t *at)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    char c = x->text[*at];
    const char *known = c ? strchr(from, c) : NULL;
    if (known) {
        ++*at;
        return qn_put(b, &to[known - from], 1, false);
    }
    if (c == '\n') {
        ++*at;
        return true;
    }
    if (c == 'x' || c == 'u' || c == 'U' || (c >= '0' && c <= '7')) {
        uint32_t cp;
        size_t end = numeric_escape(x, *at, &cp);
        if (end == 0) {
            locate(x, *at - 1);
            return qn_raise(x->run, "an escape that stands for no character");
        }
        *at = end;
        return qn_put_char(b, cp, false);
    }
    if (c == 'N') {
        locate(x, *at - 1);
        return qn_raise_status(x->run, QUERN_ERR_UNSUPPORTED, "the escape \\N is not supported");
    }
    return qn_put(b, "\\", 1, false);
}

static bool lex_string(struct lexer *x)
{
    size_t start = x->at, end = start + 1;
    char quote = x->text[start];
    while (end < x->len && x->text[end] != quote)
        end += x->text[end] == '\\' ? 2 : 1;
    if (end >= x->len) {
        locate(x, start);
        return qn_raise(x->run, "this string has no end");
    }
    struct qn_builder b = {.run = x->run};
    for (size_t at = start + 1; at < end;) {
        size_t run = at;
        while (run < end && x->text[run] != '\\')
            run++;
        if (!qn_put(&b, x->text + at, run - at, false))
            return false;
        at = run + 1;
        if (run < end && !lex_escape(x, &b, &at))
            return false;
    }
    const struct qn_text *text = qn_builder_text(&b);
    x->at = end + 1;
    return text && add(x, start, (struct qn_token){.kind = QN_T_STRING, .s = text});
}

static bool is_name(const struct lexer *x, size_t at)
{
    if (at >= x->len)
        return false;
    uint8_t c = (uint8_t)x->text[at];
    return c == '_' || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           c >= 0x80;
}

static bool lex_name(struct lexer *x)
{
    size_t start = x->at, end = start;
    while (is_name(x, end))
        end++;
    const struct qn_text *text = qn_text_new(x->run, x->text + start, end - start, QN_CLEAN);
    x->at = end;
    return text && add(x, start, (struct qn_token){.kind = QN_T_NAME, .s = text});
}

static bool lex_operator(struct lexer *x)
{
    static const char *const twice[] = {"//", "**", "==", "!=", ">=", "<="};
    struct qn_token token = {.kind = QN_T_OPERATOR};
    size_t start = x->at, n = 1;
    char c = x->text[start];
    for (size_t i = 0; i < QN_LEN(twice); i++)
        n = starts(x, start, twice[i]) ? 2 : n;
    locate(x, start);
    if (n == 1 && (!c || !strchr("+-/*%~[](){}><=.:|,;", c)))
        return qn_raise(x->run, "this character has no meaning here");
    memcpy(token.op, x->text + start, n);
    if (c == '(' || c == '[' || c == '{') {
        if (x->n_open == MAX_OPEN)
            return qn_raise_limit(x->run, "100 brackets within each other");
        x->open[x->n_open++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
        if (x->n_open == 0 || x->open[--x->n_open] != c)
            return qn_raise(x->run, "'%c' closes nothing", c);
    }
    x->at = start + n;
    return add(x, start, token);
}

/* Whether the tag ends at `at`; then *mark is the place of "%}" or "}}". */
static bool is_tag_end(const struct lexer *x, bool output, size_t *mark, char *sign)
{
    size_t at = x->at;
    if (x->n_open > 0)
        return false;
    *sign = '\0';
    if (x->text[at] == '-' || (x->text[at] == '+' && !output))
        *sign = x->text[at++];
    *mark = at;
    return starts(x, at, output ? "}}" : "%}");
}

static bool lex_tag(struct lexer *x, size_t tag, bool output)
{
    if (!add(x, tag, (struct qn_token){.kind = output ? QN_T_OUTPUT : QN_T_BLOCK}))
        return false;
    x->at = after_sign(x, tag);
    for (;;) {
        size_t mark;
        char sign;
        x->at = after_space(x, x->at);
        if (x->at == x->len) {
            locate(x, tag);
            return qn_raise(x->run, "this tag has no end");
        }
        if (is_tag_end(x, output, &mark, &sign)) {
            if (!add(x, x->at, (struct qn_token){.kind = output ? QN_T_OUTPUT_END : QN_T_BLOCK_END}))
                return false;
            end_tag(x, mark, sign, !output);
            return true;
        }
        char c = x->text[x->at];
        bool ok = c == '"' || c == '\''  ? lex_string(x)
                  : c >= '0' && c <= '9' ? lex_number(x)
                  : is_name(x, x->at)    ? lex_name(x)
                                         : lex_operator(x);
        if (!ok)
            return false;
    }
}

/* ---- the whole ---- */

/* A copy with \n for every kind of line end, without one at the end of all. */
static bool normalise(struct lexer *x, const char *source, size_t len)
{
    char *copy = qn_run_alloc(x->run, len, 1);
    if (!copy)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = source[i];
        if (c == '\r' && i + 1 < len && source[i + 1] == '\n')
            continue;
        copy[x->len++] = c == '\r' ? '\n' : c;
    }
    x->text = copy;
    if (x->len > 0 && copy[x->len - 1] == '\n')
        x->len--;
    for (size_t at = 0; at < x->len;) {
        unsigned n;
        if (qn_utf8_decode(copy + at, x->len - at, &n) == QN_UTF8_BAD) {
            locate(x, at);
            return qn_raise(x->run, "bytes that are not UTF-8");
        }
        at += n;
    }
    return true;
}

bool qn_lex(struct qn_run *run, const char *source, size_t len, struct qn_tokens *tokens)
{
    struct lexer x = {.run = run, .tokens = tokens, .line_start = true};
    run->line = run->column = 1;
    if (!normalise(&x, source, len))
        return false;
    while (x.at < x.len) {
        size_t tag = x.at;
        while (tag < x.len && !starts(&x, tag, "{{") && !starts(&x, tag, "{%") && !starts(&x, tag, "{#"))
            tag++;
        if (tag == x.len) {
            if (!add_data(&x, x.at, tag))
                return false;
            x.at = tag;
            break;
        }
        char what = x.text[tag + 1];
        bool raw = false;
        if (!data_before(&x, tag, what == '{') || (what == '%' && !lex_raw(&x, tag, &raw)))
            return false;
        if (!raw && !(what == '#' ? skip_comment(&x, tag) : lex_tag(&x, tag, what == '{')))
            return false;
    }
    return add(&x, x.len, (struct qn_token){.kind = QN_T_END});
}
