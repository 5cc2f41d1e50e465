#include "text/pre.h"

#include "text/unicode.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum stage_kind {
    STAGE_END = 0,
    STAGE_REGEX,       /* matches are pieces, and so is what lies between */
    STAGE_GPT2,        /* '(s|t|re|ve|m|ll|d) | ?\p{L}+ | ?\p{N}+ | ?[^\s\p{L}\p{N}]+ |\s+(?!\S)|\s+ */
    STAGE_WORDS1,      /* contractions | [^\r\n\p{L}\p{N}]?\p{L}+ | \p{N} | ?[^\s\p{L}\p{N}]+[\r\n]* |
                          \s*[\r\n]+ | \s+(?!\S) | \s+ */
    STAGE_WORDS3,      /* the same with \p{N}{1,3} */
    STAGE_NUMBERS1,    /* \p{N} */
    STAGE_GROUPS,      /* \p{Nd} in groups of three from the right */
    STAGE_GROUPS_WORD, /* \d{1,3}(?=(?:\d{3})*\b) */
};

struct qn_pre_stage {
    enum stage_kind kind;
    const char *regex;
};

#define RULE(id, ...) \
    static const struct qn_pre_stage rule_##id[QN_PRE_STAGES + 1] = {__VA_ARGS__, {STAGE_END, NULL}};
#define NAME(name, rule, flags)
#include "text/pre.inc"
#undef RULE
#undef NAME

static const struct {
    const char *name;
    const struct qn_pre_stage *stages;
    unsigned flags;
} names[] = {
#define RULE(id, ...)
#define NAME(name, rule, flags) {name, rule_##rule, flags},
#include "text/pre.inc"
#undef RULE
#undef NAME
};

static void *pcre_alloc(size_t size, void *data)
{
    return qn_alloc(data, size, 1);
}

static void pcre_free(void *ptr, void *data)
{
    qn_free(data, ptr);
}

/* PCRE2 hands the callbacks on to us; they are never changed through this pointer. */
static void *pcre_data(const struct quern_callbacks *cb)
{
    void *data;
    memcpy(&data, &cb, sizeof data);
    return data;
}

/* Names the rule and lists the first name of each that there is. */
static enum quern_status fail_unknown(struct quern_error *err, const char *name, size_t len)
{
    char shown[41], list[400];
    size_t n = 0, n_shown = len < sizeof shown - 1 ? len : sizeof shown - 1;
    for (size_t i = 0; i < n_shown; i++)
        shown[i] = name[i] >= ' ' && name[i] <= '~' ? name[i] : '?';
    shown[n_shown] = '\0';
    for (size_t i = 0; i < QN_LEN(names) && n < sizeof list; i++)
        if (i == 0 || names[i].stages != names[i - 1].stages)
            n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", names[i].name);
    return qn_fail(err, QUERN_ERR_UNSUPPORTED,
                   "tokenizer.ggml.pre: unknown splitting rule '%s'; override it with one of: %s", shown,
                   list);
}

/* One expression. JIT is optional: where the system refuses it, the interpreter does the work. */
static enum quern_status compile(const struct quern_callbacks *cb, const char *regex, const char *name,
                                 void **code, struct quern_error *err)
{
    pcre2_general_context *general = pcre2_general_context_create(pcre_alloc, pcre_free, pcre_data(cb));
    pcre2_compile_context *context = general ? pcre2_compile_context_create(general) : NULL;
    int error = PCRE2_ERROR_NOMEMORY;
    PCRE2_SIZE at = 0;
    if (context)
        *code = pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &error, &at,
                              context);
    pcre2_compile_context_free(context);
    pcre2_general_context_free(general);
    if (!*code) {
        if (error == PCRE2_ERROR_NOMEMORY || error == 121 /* PCRE2_ERROR_HEAP_FAILED of compiling */)
            return qn_fail_memory(err, "a splitting rule");
        return qn_fail(err, QUERN_ERR_UNSUPPORTED,
                       "splitting rule %s: this PCRE2 does not take it (error %d at %zu)", name, error,
                       (size_t)at);
    }
    pcre2_jit_compile(*code, PCRE2_JIT_COMPLETE);
    return QUERN_OK;
}

enum quern_status qn_pre_create(const struct quern_callbacks *cb, struct qn_pre *pre, const char *name,
                                size_t len, struct quern_error *err)
{
    *pre = (struct qn_pre){0};
    for (size_t i = 0; i < QN_LEN(names); i++)
        if (strlen(names[i].name) == len && memcmp(names[i].name, name, len) == 0)
            *pre = (struct qn_pre){.name = names[i].name, .flags = names[i].flags, .stages = names[i].stages};
    if (!pre->name)
        return fail_unknown(err, name, len);
    for (size_t i = 0; pre->stages[i].kind != STAGE_END; i++) {
        enum quern_status status = QUERN_OK;
        if (pre->stages[i].kind == STAGE_REGEX)
            status = compile(cb, pre->stages[i].regex, pre->name, &pre->code[i], err);
        if (status != QUERN_OK) {
            qn_pre_finish(pre);
            return status;
        }
    }
    return QUERN_OK;
}

const char *qn_pre_name(size_t index)
{
    return index < QN_LEN(names) ? names[index].name : NULL;
}

void qn_pre_finish(struct qn_pre *pre)
{
    for (size_t i = 0; i < QN_PRE_STAGES; i++)
        pcre2_code_free(pre->code[i]);
    *pre = (struct qn_pre){0};
}

/* ---- scanners ---- */

struct scan {
    const char *text;
    size_t end;
};

/* Class of the character at pos and where the next one begins; 0 at the end. */
static inline unsigned class_at(const struct scan *scan, size_t pos, size_t *next)
{
    if (pos >= scan->end) {
        *next = pos;
        return 0;
    }
    unsigned n;
    uint32_t cp = qn_utf8_decode(scan->text + pos, scan->end - pos, &n);
    *next = pos + n;
    return qn_char_class(cp);
}

enum { WORD = QN_CH_LETTER, NUMBER = QN_CH_NUMBER, SPACE = QN_CH_SPACE };

/* Letter, number, space, or 0 for everything else. */
static inline unsigned kind_at(const struct scan *scan, size_t pos, size_t *next)
{
    return class_at(scan, pos, next) & (WORD | NUMBER | SPACE);
}

/* End of the characters of one kind from pos on, at most `most` of them. */
static size_t run_end(const struct scan *scan, size_t pos, unsigned kind, size_t most)
{
    size_t next;
    for (; most > 0 && pos < scan->end && kind_at(scan, pos, &next) == kind; most--)
        pos = next;
    return pos;
}

/* Bytes of an English contraction ('s 't 're 've 'm 'll 'd) at pos, or 0. */
static size_t contraction(const struct scan *scan, size_t pos, bool any_case)
{
    const char *t = scan->text + pos;
    size_t left = scan->end - pos;
    if (left < 2 || t[0] != '\'')
        return 0;
    char a = t[1], b = left > 2 ? t[2] : '\0';
    if (any_case) {
        a = a >= 'A' && a <= 'Z' ? (char)(a + 32) : a;
        b = b >= 'A' && b <= 'Z' ? (char)(b + 32) : b;
    }
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return 2;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* White space at pos: all but the last character when something follows, \s+(?!\S)|\s+. With `lines`, up to
 * the last line break if there is one, \s*[\r\n]+. */
static size_t space_end(const struct scan *scan, size_t pos, bool lines)
{
    size_t last = pos, at = pos, next, after_line = 0;
    while (at < scan->end && kind_at(scan, at, &next) == SPACE) {
        if (scan->text[at] == '\n' || scan->text[at] == '\r')
            after_line = next;
        last = at;
        at = next;
    }
    if (lines && after_line)
        return after_line;
    return at == scan->end || last == pos ? at : last;
}

static size_t next_gpt2(const struct scan *scan, size_t pos)
{
    size_t n = contraction(scan, pos, false), next;
    if (n)
        return pos + n;
    size_t start = scan->text[pos] == ' ' && pos + 1 < scan->end ? pos + 1 : pos;
    unsigned kind = kind_at(scan, start, &next);
    return kind == SPACE ? space_end(scan, pos, false) : run_end(scan, next, kind, SIZE_MAX);
}

static size_t next_words(const struct scan *scan, size_t pos, size_t most_digits)
{
    size_t n = contraction(scan, pos, true), next, after;
    if (n)
        return pos + n;
    unsigned kind = kind_at(scan, pos, &next);
    if (kind == WORD)
        return run_end(scan, next, WORD, SIZE_MAX);
    if (kind == NUMBER)
        return run_end(scan, next, NUMBER, most_digits - 1);
    char c = scan->text[pos];
    unsigned kind2 = kind_at(scan, next, &after);
    if (kind2 == WORD && c != '\r' && c != '\n')
        return run_end(scan, after, WORD, SIZE_MAX);
    if (kind == 0 || (c == ' ' && kind2 == 0 && next < scan->end)) {
        size_t end = run_end(scan, next, 0, SIZE_MAX);
        while (end < scan->end && (scan->text[end] == '\r' || scan->text[end] == '\n'))
            end++;
        return end;
    }
    return space_end(scan, pos, true);
}

/* One number, or everything up to the next. */
static size_t next_number(const struct scan *scan, size_t pos)
{
    size_t next;
    if (class_at(scan, pos, &next) & NUMBER)
        return next;
    for (pos = next; pos < scan->end && !(class_at(scan, pos, &next) & NUMBER); pos = next)
        ;
    return pos;
}

static bool add_end(const struct quern_callbacks *cb, struct qn_splitter *splitter, size_t end)
{
    size_t last = splitter->n > 0 ? splitter->end[splitter->n - 1] : 0;
    if (end == last)
        return true;
    if (!qn_grow(cb, &splitter->end, &splitter->cap, splitter->n + 1, sizeof *splitter->end))
        return false;
    splitter->end[splitter->n++] = end;
    return true;
}

static bool cut_scanned(const struct quern_callbacks *cb, struct qn_splitter *splitter, enum stage_kind kind,
                        const struct scan *scan, size_t start)
{
    for (size_t pos = start; pos < scan->end;) {
        if (kind == STAGE_GPT2)
            pos = next_gpt2(scan, pos);
        else if (kind == STAGE_NUMBERS1)
            pos = next_number(scan, pos);
        else
            pos = next_words(scan, pos, kind == STAGE_WORDS3 ? 3 : 1);
        if (!add_end(cb, splitter, pos))
            return false;
    }
    return true;
}

static bool is_ascii_word(char c)
{
    return c == '_' || ((uint8_t)c < 0x80 && (qn_char_class((uint8_t)c) & (QN_CH_LETTER | QN_CH_NUMBER)));
}

/* Runs of digits in groups of three, counted from the end of the run; with `word` only where the run ends a
 * word. */
static bool cut_groups(const struct quern_callbacks *cb, struct qn_splitter *splitter,
                       const struct scan *scan, size_t start, bool word)
{
    for (size_t pos = start, next; pos < scan->end; pos = next) {
        if (!(class_at(scan, pos, &next) & QN_CH_DIGIT))
            continue;
        size_t n = 0, end = pos, after;
        while (class_at(scan, end, &after) & QN_CH_DIGIT) {
            end = after;
            n++;
        }
        next = end;
        if (word && end < scan->end && is_ascii_word(scan->text[end]))
            continue;
        for (size_t at = pos; n > 0; n--, at = after) {
            if ((n % 3 == 0 || at == pos) && !add_end(cb, splitter, at))
                return false;
            class_at(scan, at, &after);
        }
        if (!add_end(cb, splitter, end))
            return false;
    }
    return add_end(cb, splitter, scan->end);
}

/* ---- expressions ---- */

struct matcher {
    pcre2_match_data *data;
    pcre2_match_context *context;
};

static bool matcher_create(const struct quern_callbacks *cb, struct matcher *matcher, size_t len)
{
    *matcher = (struct matcher){NULL, NULL};
    pcre2_general_context *general = pcre2_general_context_create(pcre_alloc, pcre_free, pcre_data(cb));
    if (!general)
        return false;
    matcher->data = pcre2_match_data_create(1, general);
    matcher->context = pcre2_match_context_create(general);
    pcre2_general_context_free(general);
    if (!matcher->data || !matcher->context)
        return false;
    /* Enough for any text that is read a bounded number of times, and an end for all others. */
    pcre2_set_match_limit(matcher->context, 10000000u + (uint32_t)(len < 50000000 ? len * 64 : 3200000000u));
    pcre2_set_heap_limit(matcher->context, 256 * 1024);
    return true;
}

static void matcher_finish(struct matcher *matcher)
{
    pcre2_match_data_free(matcher->data);
    pcre2_match_context_free(matcher->context);
}

static enum quern_status cut_matched(const struct quern_callbacks *cb, const struct qn_pre *pre, size_t stage,
                                     struct qn_splitter *splitter, struct matcher *matcher, const char *text,
                                     size_t start, size_t end, struct quern_error *err)
{
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(matcher->data);
    PCRE2_SPTR subject = (PCRE2_SPTR)text + start;
    size_t len = end - start;
    for (size_t pos = 0; pos < len;) {
        uint32_t options = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
        int rc = pcre2_match(pre->code[stage], subject, len, pos, options, matcher->data, matcher->context);
        if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
            rc = pcre2_match(pre->code[stage], subject, len, pos, options | PCRE2_NO_JIT, matcher->data,
                             matcher->context);
        if (rc == PCRE2_ERROR_NOMATCH)
            break;
        if (rc == PCRE2_ERROR_NOMEMORY)
            return qn_fail_memory(err, "splitting a text");
        if (rc < 0)
            return qn_fail(err, QUERN_ERR_PARAM,
                           "the text is too intricate for splitting rule %s (PCRE2 error %d at byte %zu)",
                           pre->name, rc, start + pos);
        if (!add_end(cb, splitter, start + at[0]) || !add_end(cb, splitter, start + at[1]))
            return qn_fail_memory(err, "splitting a text");
        pos = at[1];
    }
    return add_end(cb, splitter, end) ? QUERN_OK : qn_fail_memory(err, "splitting a text");
}

static enum quern_status run_stage(const struct quern_callbacks *cb, const struct qn_pre *pre, size_t stage,
                                   struct qn_splitter *splitter, struct matcher *matcher, const char *text,
                                   struct quern_error *err)
{
    /* the pieces so far become the input */
    size_t *input = splitter->end, n_input = splitter->n, cap = splitter->cap;
    splitter->end = splitter->other;
    splitter->cap = splitter->cap_other;
    splitter->other = input;
    splitter->cap_other = cap;
    splitter->n = 0;
    enum stage_kind kind = pre->stages[stage].kind;
    size_t start = 0;
    for (size_t i = 0; i < n_input; start = input[i++]) {
        struct scan scan = {text, input[i]};
        enum quern_status status = QUERN_OK;
        if (kind == STAGE_REGEX)
            status = cut_matched(cb, pre, stage, splitter, matcher, text, start, input[i], err);
        else if (kind == STAGE_GROUPS || kind == STAGE_GROUPS_WORD) {
            if (!cut_groups(cb, splitter, &scan, start, kind == STAGE_GROUPS_WORD))
                status = qn_fail_memory(err, "splitting a text");
        } else if (!cut_scanned(cb, splitter, kind, &scan, start))
            status = qn_fail_memory(err, "splitting a text");
        if (status != QUERN_OK)
            return status;
    }
    return QUERN_OK;
}

/* Copies the text with U+FFFD for each byte that is not UTF-8, where there is one; *clean stays NULL
 * otherwise. */
static bool clean_text(const struct quern_callbacks *cb, struct qn_splitter *splitter, const char *text,
                       size_t len, const char **clean, size_t *clean_len)
{
    size_t bad = 0;
    unsigned n;
    for (size_t i = 0; i < len; i += n)
        bad += qn_utf8_decode(text + i, len - i, &n) == QN_UTF8_BAD;
    *clean_len = len + 2 * bad;
    if (bad == 0)
        return true;
    if (!qn_grow(cb, &splitter->clean, &splitter->cap_clean, *clean_len, 1))
        return false;
    size_t out = 0;
    for (size_t i = 0; i < len; i += n) {
        if (qn_utf8_decode(text + i, len - i, &n) == QN_UTF8_BAD)
            memcpy(splitter->clean + out, "\xEF\xBF\xBD", 3);
        else
            memcpy(splitter->clean + out, text + i, n);
        out += qn_utf8_decode(text + i, len - i, &n) == QN_UTF8_BAD ? 3 : n;
    }
    *clean = splitter->clean;
    return true;
}

/* Ends in the cleaned text become ends in the text. */
static void unclean_ends(struct qn_splitter *splitter, const char *text, size_t len)
{
    size_t clean_pos = 0, pos = 0;
    for (size_t i = 0; i < splitter->n; i++) {
        while (pos < len && clean_pos < splitter->end[i]) {
            unsigned n;
            clean_pos += qn_utf8_decode(text + pos, len - pos, &n) == QN_UTF8_BAD ? 3 : n;
            pos += n;
        }
        splitter->end[i] = pos;
    }
}

enum quern_status qn_pre_split(const struct quern_callbacks *cb, const struct qn_pre *pre,
                               struct qn_splitter *splitter, const char *text, size_t len,
                               struct quern_error *err)
{
    splitter->n = 0;
    if (len == 0)
        return QUERN_OK;
    bool regex = false;
    for (size_t i = 0; i < QN_PRE_STAGES; i++)
        regex = regex || pre->code[i];
    const char *clean = NULL;
    size_t clean_len = len;
    struct matcher matcher = {NULL, NULL};
    enum quern_status status = QUERN_OK;
    if (regex && (!clean_text(cb, splitter, text, len, &clean, &clean_len) ||
                  !matcher_create(cb, &matcher, clean_len)))
        status = qn_fail_memory(err, "splitting a text");
    if (status == QUERN_OK && !add_end(cb, splitter, clean_len))
        status = qn_fail_memory(err, "splitting a text");
    for (size_t i = 0; status == QUERN_OK && pre->stages[i].kind != STAGE_END; i++)
        status = run_stage(cb, pre, i, splitter, &matcher, clean ? clean : text, err);
    matcher_finish(&matcher);
    if (status == QUERN_OK && clean)
        unclean_ends(splitter, text, len);
    return status;
}

void qn_splitter_finish(const struct quern_callbacks *cb, struct qn_splitter *splitter)
{
    qn_free(cb, splitter->end);
    qn_free(cb, splitter->other);
    qn_free(cb, splitter->clean);
    *splitter = (struct qn_splitter){0};
}
