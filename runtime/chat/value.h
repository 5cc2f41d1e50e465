/* Values as templates see them, with the semantics of Python, and the state of one compilation or rendering.
 *
 * Values live in an arena and are immutable once they can be seen (namespaces and iterators apart). Every
 * function that can fail returns false after it has filled run->err; nothing needs to be given back. */
#ifndef QN_CHAT_VALUE_H
#define QN_CHAT_VALUE_H

#include "base/arena.h"

enum {
    QN_CHAT_SOURCE_MAX = 1 << 20,   /* bytes of a template */
    QN_CHAT_TOKENS_MAX = 200000,    /* of a template */
    QN_CHAT_NESTING_MAX = 100,      /* brackets, blocks and operators within each other; also of JSON */
    QN_CHAT_DEPTH_MAX = 600,        /* nodes under evaluation; values within values */
    QN_CHAT_TEXT_MAX = 32 << 20,    /* bytes of one string, and of the output */
    QN_CHAT_MEMORY_MAX = 192 << 20, /* bytes of a rendering */
    QN_CHAT_RANGE_MAX = 100000,     /* elements of a range */
    QN_CHAT_STEPS_MAX = 10000000,   /* nodes evaluated, elements visited, 64 bytes copied, ... */
};

/* Which bytes of a text are input, that is, come from the messages, tools or variables. */
enum qn_taint {
    QN_CLEAN,
    QN_INPUT,
    QN_MIXED, /* `marks` says it of each byte */
};

/* UTF-8, valid, not NUL-terminated. */
struct qn_text {
    const char *data;
    const uint8_t *marks; /* [len], 1: input; NULL unless mixed */
    size_t len;
    size_t chars; /* code points */
    enum qn_taint taint;
    bool markup; /* escaped HTML: what is added to it with + is escaped */
};

enum qn_kind {
    QN_MISSING, /* no value at all: an argument that was not given */
    QN_UNDEFINED,
    QN_NONE,
    QN_BOOL,
    QN_INT,
    QN_FLOAT,
    QN_STR,
    QN_LIST, /* the next six are `seq` */
    QN_TUPLE,
    QN_GROUP, /* a tuple (grouper, list) of the filter groupby */
    QN_RANGE,
    QN_VIEW, /* of a dict: keys, values or items */
    QN_ITER, /* what a generator would yield; used up by whoever iterates */
    QN_DICT,
    QN_NAMESPACE,
    QN_FUNCTION, /* built in */
    QN_METHOD,   /* of a value */
    QN_MACRO,
    QN_LOOP,
};

struct qn_val {
    enum qn_kind kind;
    union {
        bool b;
        int64_t i;
        double f;
        const struct qn_text *s; /* QN_UNDEFINED: what is not defined, or NULL */
        struct qn_seq *seq;
        struct qn_dict *dict;
        const struct qn_function *function;
        struct qn_method_of *method;
        struct qn_macro *macro;
        struct qn_loop *loop;
    };
};

struct qn_seq {
    struct qn_val *at;
    size_t n, cap;
    size_t next;         /* QN_ITER: the first that is not used up */
    int64_t start, step; /* QN_RANGE */
    int64_t stop;
    const char *type; /* QN_VIEW, QN_ITER: "dict_keys", "generator", ... */
};

struct qn_entry {
    struct qn_val key, value;
    uint64_t hash;
};

/* Keeps the order of insertion. */
struct qn_dict {
    struct qn_entry *at;
    size_t n, cap;
    uint32_t *index; /* open addressing: entry + 1, 0 free; NULL while there are few */
    size_t n_index;
};

struct qn_scope;
struct qn_builder;
struct quern_chat_template;

/* One compilation or one rendering. */
struct qn_run {
    struct qn_arena arena;
    struct quern_error *err;  /* may be NULL */
    enum quern_status status; /* of the first failure */
    enum quern_status blame;  /* whose fault an error is: the template file's or the caller's */
    const char *what;         /* what the position is in: "chat template", or an argument's name */
    uint32_t line, column;    /* from 1; 0: no position */
    uint64_t steps;           /* left */
    unsigned depth;
    /* rendering only */
    const struct quern_chat_template *chat;
    struct qn_dict *context; /* the caller's variables */
    struct qn_scope *scope;
    struct qn_builder *out;
    int64_t now;
    int flow; /* enum qn_flow */
};

/* ---- failing; all return false ---- */

bool qn_raise(struct qn_run *run, const char *fmt, ...) QUERN_PRINTF(2, 3);
bool qn_raise_status(struct qn_run *run, enum quern_status status, const char *fmt, ...) QUERN_PRINTF(3, 4);
/* A bound was exceeded: "more than " what. */
bool qn_raise_limit(struct qn_run *run, const char *what);
/* An allocation failed. */
bool qn_raise_memory(struct qn_run *run);

/* Pays for work. */
static inline bool qn_spend(struct qn_run *run, uint64_t steps)
{
    if (steps > run->steps)
        return qn_raise_limit(run, "the steps that a template may take");
    run->steps -= steps;
    return true;
}

/* A level of recursion; qn_leave on every way out after success. */
static inline bool qn_enter(struct qn_run *run)
{
    if (run->depth >= QN_CHAT_DEPTH_MAX)
        return qn_raise_limit(run, "the levels that values and calls may nest");
    run->depth++;
    return true;
}

static inline void qn_leave(struct qn_run *run)
{
    run->depth--;
}

void *qn_run_alloc(struct qn_run *run, size_t n, size_t size); /* NULL: has failed */

/* ---- small values ---- */

#define QN_VAL_NONE ((struct qn_val){.kind = QN_NONE})

static inline struct qn_val qn_bool(bool b)
{
    return (struct qn_val){.kind = QN_BOOL, .b = b};
}
static inline struct qn_val qn_int(int64_t i)
{
    return (struct qn_val){.kind = QN_INT, .i = i};
}
static inline struct qn_val qn_float(double f)
{
    return (struct qn_val){.kind = QN_FLOAT, .f = f};
}
static inline struct qn_val qn_str(const struct qn_text *s)
{
    return (struct qn_val){.kind = QN_STR, .s = s};
}
static inline struct qn_val qn_undefined(const struct qn_text *name)
{
    return (struct qn_val){.kind = QN_UNDEFINED, .s = name};
}
static inline struct qn_val qn_seq(enum qn_kind kind, struct qn_seq *seq)
{
    return (struct qn_val){.kind = kind, .seq = seq};
}
static inline struct qn_val qn_dict(struct qn_dict *dict)
{
    return (struct qn_val){.kind = QN_DICT, .dict = dict};
}

static inline bool qn_is_seq(struct qn_val v)
{
    return v.kind >= QN_LIST && v.kind <= QN_ITER;
}
/* Tuples of either kind. */
static inline bool qn_is_tuple(struct qn_val v)
{
    return v.kind == QN_TUPLE || v.kind == QN_GROUP;
}
/* Python counts bool among the integers. */
static inline bool qn_is_int(struct qn_val v)
{
    return v.kind == QN_INT || v.kind == QN_BOOL;
}
static inline int64_t qn_as_int(struct qn_val v)
{
    return v.kind == QN_BOOL ? v.b : v.i;
}
static inline bool qn_is_number(struct qn_val v)
{
    return qn_is_int(v) || v.kind == QN_FLOAT;
}
static inline double qn_as_float(struct qn_val v)
{
    return v.kind == QN_FLOAT ? v.f : (double)qn_as_int(v);
}

/* "int", "str", "NoneType", ... */
const char *qn_type_name(struct qn_val v);
bool qn_truth(struct qn_val v);
bool qn_hashable(struct qn_val v);
bool qn_equal(struct qn_run *run, struct qn_val a, struct qn_val b, bool *equal);
/* -1, 0, 1, or 2 where one is NaN; fails on what has no order. */
bool qn_order(struct qn_run *run, struct qn_val a, struct qn_val b, int *order);
/* `a in b` */
bool qn_contains(struct qn_run *run, struct qn_val b, struct qn_val a, bool *found);
/* The elements that iterating over v gives; uses an iterator up. Fails on what is not iterable. */
bool qn_iterate(struct qn_run *run, struct qn_val v, struct qn_seq **out);
/* len(v) */
bool qn_length(struct qn_run *run, struct qn_val v, size_t *n);

/* ---- sequences and dicts ---- */

struct qn_seq *qn_seq_new(struct qn_run *run, size_t cap); /* NULL: has failed */
bool qn_seq_add(struct qn_run *run, struct qn_seq *seq, struct qn_val v);
/* Sorts by `keys` (one for each element), stable. */
bool qn_seq_sort(struct qn_run *run, struct qn_seq *seq, struct qn_val *keys, bool reverse);

struct qn_dict *qn_dict_new(struct qn_run *run); /* NULL: has failed */
/* Sets or replaces; fails on keys that cannot be hashed. */
bool qn_dict_put(struct qn_run *run, struct qn_dict *dict, struct qn_val key, struct qn_val value);
/* *value is MISSING where there is none. */
bool qn_dict_get(struct qn_run *run, const struct qn_dict *dict, struct qn_val key, struct qn_val *value);

/* ---- texts ---- */

/* Copies. NULL: has failed. */
const struct qn_text *qn_text_new(struct qn_run *run, const char *data, size_t len, enum qn_taint taint);
/* Shares the bytes [from, to) of a text. */
const struct qn_text *qn_text_part(struct qn_run *run, const struct qn_text *text, size_t from, size_t to);
/* The place of code point `index` (at most text->chars) in bytes. */
bool qn_text_offset(struct qn_run *run, const struct qn_text *text, size_t index, size_t *offset);
/* Code points in `len` bytes. */
size_t qn_count_chars(const char *data, size_t len);
/* First place of `needle` at or after byte `from`, SIZE_MAX: none. */
bool qn_text_find(struct qn_run *run, const struct qn_text *text, const struct qn_text *needle, size_t from,
                  size_t *at);
bool qn_text_is(const struct qn_text *text, const char *word);
int qn_text_order(const struct qn_text *a, const struct qn_text *b);
/* White space as Python's str.isspace has it. */
bool qn_is_space(uint32_t cp);

/* A text in the making; start from {.run = run}. */
struct qn_builder {
    struct qn_run *run;
    char *data;
    uint8_t *marks;
    size_t len, cap, cap_marks;
    enum qn_taint taint;
    bool markup; /* of the text */
};
bool qn_put(struct qn_builder *b, const char *data, size_t len, bool input);
bool qn_put_word(struct qn_builder *b, const char *word);
bool qn_put_char(struct qn_builder *b, uint32_t cp, bool input);
bool qn_put_part(struct qn_builder *b, const struct qn_text *text, size_t from, size_t to);
bool qn_put_text(struct qn_builder *b, const struct qn_text *text);
bool qn_put_fill(struct qn_builder *b, const struct qn_text *text, int64_t times);
/* NULL: has failed. */
const struct qn_text *qn_builder_text(struct qn_builder *b);
static inline bool qn_text_input_at(const struct qn_text *text, size_t byte)
{
    return text->taint == QN_INPUT || (text->taint == QN_MIXED && text->marks[byte]);
}

/* Walks over code points. */
struct qn_char {
    uint32_t cp;
    unsigned len;
};
struct qn_char qn_char_at(const struct qn_text *text, size_t byte);
/* The one that ends before `byte`, which is above 0. */
struct qn_char qn_char_before(const struct qn_text *text, size_t byte);

/* ---- text of values (print.c) ---- */

bool qn_put_str(struct qn_builder *b, struct qn_val v);  /* str(v) */
bool qn_put_repr(struct qn_builder *b, struct qn_val v); /* repr(v) */
/* str(v) as a text. NULL: has failed. */
const struct qn_text *qn_to_text(struct qn_run *run, struct qn_val v);

struct qn_json_style {
    bool ascii, sort_keys;
    const struct qn_text *indent;        /* NULL: all on one line */
    const struct qn_text *comma, *colon; /* NULL: the usual ones */
};
bool qn_put_json(struct qn_builder *b, struct qn_val v, const struct qn_json_style *style);

/* ---- numbers, whatever the locale (number.c) ---- */

enum { QN_NUMBER_ROOM = 512 };
/* repr() of a float. Returns the length. */
size_t qn_float_repr(double f, char out[QN_NUMBER_ROOM]);
/* Like printf's %.*f, %.*e and %.*g (`format` is the letter); precision at most 100. */
size_t qn_float_format(double f, char format, int precision, bool alternate, char out[QN_NUMBER_ROOM]);
size_t qn_int_repr(int64_t i, char out[QN_NUMBER_ROOM]);
/* Digits, point and exponent as JSON and Python write them, without sign, checked by the caller. False: the
 * text is too long to be one. */
bool qn_float_parse(const char *text, size_t len, double *f);
/* Digits of a base, underscores left out. False: beyond 64 bits. */
bool qn_int_parse(const char *text, size_t len, unsigned base, int64_t *i);
/* round(f, digits) */
double qn_float_round(double f, int digits);

/* ---- JSON (json.c) ---- */

/* Reads a whole document; `what` names it in errors. Its strings and keys are input; `messages`: but for the
 * keys of the objects in the outermost list, and the strings under their "role". */
bool qn_json_read(struct qn_run *run, const char *what, const char *text, bool messages, struct qn_val *out);

/* strftime in the C locale (strftime.c). */
bool qn_put_time(struct qn_builder *b, const struct qn_text *format, int64_t now);

#endif
